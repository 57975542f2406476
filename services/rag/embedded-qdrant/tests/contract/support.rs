//! An embedded server for a test, and the data that tests put into one.

use std::path::Path;

use attain_embedded_qdrant::{EmbeddedQdrant, Error, Options, random_api_key};
use qdrant_client::qdrant::{
    CreateCollectionBuilder, Distance, Modifier, PointId, PointStruct, ScoredPoint, SparseVectorParamsBuilder,
    SparseVectorsConfigBuilder, Vector, VectorParamsBuilder, VectorsConfigBuilder, point_id::PointIdOptions,
};
use qdrant_client::{Payload, Qdrant};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Name of the dense vectors.
pub(crate) const DENSE: &str = "dense";
/// Name of the sparse vectors.
pub(crate) const SPARSE: &str = "bm25";

/// An embedded server on a port of its own.
pub(crate) struct Embedded {
    pub(crate) client: Qdrant,
    pub(crate) url: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

impl Embedded {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(Options::new(folder, random_api_key()).unwrap()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = client(&url, Some(options.api_key()));
        let server = EmbeddedQdrant::open(options).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(listener, async {
            // A dropped sender stops the server as well.
            let _ = stopped.await;
        }));
        Self { client, url, stop, served }
    }

    /// Drains the server and closes its folder.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
    }
}

/// The ordinary client.
pub(crate) fn client(url: &str, api_key: Option<&str>) -> Qdrant {
    let builder = Qdrant::from_url(url).skip_compatibility_check();
    match api_key {
        Some(api_key) => builder.api_key(api_key),
        None => builder,
    }
    .build()
    .unwrap()
}

/// A collection with both kinds of vectors, as the knowledge index has.
pub(crate) fn hybrid(name: &str) -> CreateCollectionBuilder {
    let mut dense = VectorsConfigBuilder::default();
    dense.add_named_vector_params(DENSE, VectorParamsBuilder::new(4, Distance::Cosine));
    let mut sparse = SparseVectorsConfigBuilder::default();
    sparse.add_named_vector_params(SPARSE, SparseVectorParamsBuilder::default().modifier(Modifier::Idf));
    CreateCollectionBuilder::new(name).vectors_config(dense).sparse_vectors_config(sparse)
}

/// A point of tenant `tenant`.
pub(crate) fn point(id: u64, tenant: &str, dense: [f32; 4], sparse: &[(u32, f32)]) -> PointStruct {
    let payload = json!({
        "tenant": tenant,
        "ordinal": id,
        "passage": { "start": id * 10, "text": format!("passage {id}, naïve café") },
        "tags": ["runbook", tenant],
        "score": 0.25,
        "retired": null,
    });
    PointStruct::new(
        id,
        [(DENSE.to_owned(), Vector::from(dense.to_vec())), (SPARSE.to_owned(), Vector::from(sparse.to_vec()))]
            .into_iter()
            .collect::<std::collections::HashMap<_, _>>(),
        Payload::try_from(payload).unwrap(),
    )
}

/// Six points of tenant `north` and two of `south`; term 1 is everywhere, term 2 rare.
pub(crate) fn corpus() -> Vec<PointStruct> {
    vec![
        point(1, "north", [1.0, 0.0, 0.0, 0.0], &[(1, 1.0)]),
        point(2, "north", [0.9, 0.1, 0.0, 0.0], &[(1, 1.0), (3, 1.0)]),
        point(3, "north", [0.0, 1.0, 0.0, 0.0], &[(1, 1.0), (2, 1.0)]),
        point(4, "north", [0.0, 0.9, 0.1, 0.0], &[(1, 2.0)]),
        point(5, "north", [0.0, 0.0, 1.0, 0.0], &[(1, 1.0), (4, 1.0)]),
        point(6, "north", [0.0, 0.0, 0.0, 1.0], &[(5, 1.0)]),
        point(7, "south", [1.0, 0.0, 0.0, 0.0], &[(1, 1.0), (2, 3.0)]),
        point(8, "south", [0.0, 1.0, 0.0, 0.0], &[(1, 1.0)]),
    ]
}

/// Ids of found points in their order.
pub(crate) fn ids(points: &[ScoredPoint]) -> Vec<u64> {
    points.iter().map(|point| number(point.id.as_ref())).collect()
}

/// The number of a numeric id.
pub(crate) fn number(id: Option<&PointId>) -> u64 {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Num(number)) => *number,
        other => panic!("not a numeric id: {other:?}"),
    }
}
