//! kill −9 in the middle of writing: nothing that was acknowledged is lost.

use std::collections::BTreeSet;
use std::path::Path;

use crate::example::Example;
use crate::support::{DENSE, Embedded, SPARSE, client, hybrid, number, point};
use attain_embedded_qdrant::random_api_key;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    DeletePointsBuilder, PointStruct, PointsIdsList, ScrollPointsBuilder, UpsertPointsBuilder, vector_output,
};
use tokio::sync::watch;

/// Points of one upsert.
const BATCH: u64 = 10;

/// Acknowledged batches after which the server is killed, a different moment each time.
const KILLS: [u64; 3] = [7, 20, 41];

/// A server in a process of its own. Killed when dropped.
struct Victim {
    process: Example,
    client: Qdrant,
}

impl Victim {
    fn start(folder: &Path) -> Self {
        let api_key = random_api_key();
        let process = Example::start("serve", |command| {
            command.arg(folder).env("ATTAIN_EMBEDDED_QDRANT_API_KEY", &api_key);
        });
        let client = client(&process.url, Some(&api_key));
        Self { process, client }
    }
}

/// What the server has acknowledged.
#[derive(Default)]
struct Acknowledged {
    batches: u64,
    written: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    /// Points of the call under way at the end, which may have been carried out or not.
    unsure: BTreeSet<u64>,
}

/// Writes batch after batch, and deletes one point of each, until the server is gone.
async fn write_until_killed(client: Qdrant, mut next: u64, progress: watch::Sender<u64>) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    loop {
        let ids = next..next + BATCH;
        let points = ids.clone().map(nth_point).collect::<Vec<_>>();
        if client.upsert_points(UpsertPointsBuilder::new("c", points)).await.is_err() {
            acknowledged.unsure.extend(ids);
            return acknowledged;
        }
        acknowledged.written.extend(ids);
        let gone = PointsIdsList { ids: vec![next.into()] };
        if client.delete_points(DeletePointsBuilder::new("c").points(gone)).await.is_err() {
            acknowledged.unsure.insert(next);
            return acknowledged;
        }
        acknowledged.deleted.insert(next);
        acknowledged.batches += 1;
        next += BATCH;
        progress.send_replace(acknowledged.batches);
    }
}

/// A point that can be told from its id alone.
fn nth_point(id: u64) -> PointStruct {
    let dense = [1.0, id as f32, 0.5, 0.0];
    point(id, "north", dense, &[(term(id), 1.0)])
}

fn term(id: u64) -> u32 {
    id as u32 % 50
}

/// Ids of all stored points, each of which must be whole.
async fn stored(client: &Qdrant) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut offset: Option<qdrant_client::qdrant::PointId> = None;
    loop {
        let mut request = ScrollPointsBuilder::new("c").limit(1000).with_payload(true).with_vectors(true);
        if let Some(offset) = offset {
            request = request.offset(offset);
        }
        let page = client.scroll(request).await.unwrap();
        for stored in &page.result {
            let id = number(stored.id.as_ref());
            assert_eq!(stored.payload, nth_point(id).payload, "payload of {id}");
            let vectors = stored.vectors.as_ref().unwrap();
            let dense = vectors.get_vector_by_name(DENSE);
            assert!(dense.is_some(), "dense vector of {id}");
            let Some(vector_output::Vector::Sparse(sparse)) = vectors.get_vector_by_name(SPARSE) else {
                panic!("no sparse vector of {id}");
            };
            assert_eq!(sparse.indices, [term(id)], "sparse vector of {id}");
            found.insert(id);
        }
        offset = page.next_page_offset;
        if offset.is_none() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Acknowledged::default();
    for (kill, after_batches) in KILLS.into_iter().enumerate() {
        let mut victim = Victim::start(folder.path());
        if kill == 0 {
            victim.client.create_collection(hybrid("c")).await.unwrap();
        }
        let first = 1_000_000 * kill as u64;
        let (progress, mut seen) = watch::channel(0);
        let writing = tokio::spawn(write_until_killed(victim.client.clone(), first, progress));
        seen.wait_for(|batches| *batches >= after_batches).await.unwrap();
        victim.process.kill();
        let acknowledged = writing.await.unwrap();
        assert!(acknowledged.batches >= after_batches);
        all.batches += acknowledged.batches;
        all.written.extend(acknowledged.written);
        all.deleted.extend(acknowledged.deleted);
        all.unsure.extend(acknowledged.unsure);
    }

    let server = Embedded::start(folder.path()).await;
    let found = stored(&server.client).await;
    server.stop().await;
    let expected: BTreeSet<u64> = all.written.difference(&all.deleted).copied().collect();
    let lost: Vec<_> = expected.difference(&found).filter(|id| !all.unsure.contains(id)).collect();
    let back: Vec<_> = found.intersection(&all.deleted).collect();
    let invented: Vec<_> = found.difference(&all.written).filter(|id| !all.unsure.contains(id)).collect();
    eprintln!(
        "{} batches acknowledged over {} kills, {} points expected, {} found",
        all.batches,
        KILLS.len(),
        expected.len(),
        found.len()
    );
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(back.is_empty(), "deleted and back: {back:?}");
    assert!(invented.is_empty(), "never written: {invented:?}");
}
