//! Stands between the service and its Qdrant, counts calls, and holds one kind of them so that a test can stop the service there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attain_runtime::Shutdown;
use qdrant_client::qdrant::CountPointsBuilder;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

/// Which calls are held.
#[derive(Debug, Clone)]
pub enum Hold {
    /// Those with this path.
    Path(&'static str),
    /// Those with this path, once this collection has so many points.
    Filled(&'static str, String, u64),
}

pub struct Gate {
    pub url: String,
    inner: Arc<Inner>,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

struct Inner {
    channel: Channel,
    client: qdrant_client::Qdrant,
    counts: Mutex<BTreeMap<String, u64>>,
    hold: watch::Sender<Option<Hold>>,
    held_count: watch::Sender<u64>,
}

impl Gate {
    pub async fn to(url: &str, client: qdrant_client::Qdrant) -> Self {
        let inner = Arc::new(Inner {
            channel: Channel::from_shared(url.to_owned()).unwrap().connect_lazy(),
            client,
            counts: Mutex::default(),
            hold: watch::Sender::new(None),
            held_count: watch::Sender::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let (passing, stopped) = (Arc::clone(&inner), shutdown.clone());
        let layer = tower::layer::layer_fn(move |_nothing: Routes| {
            let passing = Arc::clone(&passing);
            tower::service_fn(move |request| {
                let passing = Arc::clone(&passing);
                async move { Ok::<_, std::convert::Infallible>(passing.pass(request).await) }
            })
        });
        let server = Server::builder().layer(layer).add_routes(Routes::default());
        let serving = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            // What is held at the end is never answered.
            tokio::select! {
                served = server.serve_with_incoming(incoming) => served.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        Self { url, inner, shutdown, serving }
    }

    pub fn hold(&self, hold: Hold) {
        self.inner.held_count.send_replace(0);
        self.inner.hold.send_replace(Some(hold));
    }

    /// Waits until a call is held.
    pub async fn until_held(&self, patience: Duration) {
        let mut held = self.inner.held_count.subscribe();
        tokio::time::timeout(patience, held.wait_for(|count| *count > 0)).await.expect("held in time").unwrap();
    }

    /// Lets pass what is held and what comes.
    pub fn open(&self) {
        self.inner.hold.send_replace(None);
    }

    /// Calls with this path since the last time that this was asked.
    pub fn taken(&self, path: &str) -> u64 {
        self.inner.counts.lock().unwrap().remove(path).unwrap_or(0)
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }
}

impl Inner {
    async fn pass(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        *self.counts.lock().unwrap().entry(path.clone()).or_default() += 1;
        if self.is_held(&path).await {
            self.held_count.send_modify(|count| *count += 1);
            self.hold.subscribe().wait_for(Option::is_none).await.unwrap();
        }
        let mut channel = self.channel.clone();
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        match channel.call(request).await {
            Ok(response) => response,
            Err(error) => tonic::Status::unavailable(error.to_string()).into_http(),
        }
    }

    async fn is_held(&self, path: &str) -> bool {
        let hold = self.hold.borrow().clone();
        match hold {
            Some(Hold::Path(held)) => held == path,
            Some(Hold::Filled(held, collection, points)) if held == path => {
                let counted = self.client.count(CountPointsBuilder::new(collection).exact(true)).await;
                counted.is_ok_and(|counted| counted.result.is_some_and(|result| result.count >= points))
            }
            _ => false,
        }
    }
}
