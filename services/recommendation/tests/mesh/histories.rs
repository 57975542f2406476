//! Histories are shared between the callers of a service, and never longer than they hold.

use std::sync::atomic::Ordering;

use attain_proto::recommendation::v1::Recommendation;
use attain_recommendation::Config;

use crate::harness::Mesh;
use crate::world::World;

impl World {
    /// Whose histories were read without latencies since this was asked last: those of what is depended on.
    fn read_below(&self) -> Vec<String> {
        let mut read = std::mem::take(&mut *self.histories_read.lock().unwrap());
        read.sort();
        read
    }
}

/// Computes the recommendation of a service anew.
async fn again(mesh: &Mesh, service: &str) -> Recommendation {
    let before = mesh.world.computations.load(Ordering::SeqCst);
    mesh.world.touch_topology(service);
    let computed = |_: &_| mesh.world.computations.load(Ordering::SeqCst) > before;
    mesh.until(service, computed).await.recommendation.unwrap()
}

/// Confirmed seldom, so that a machine with much else to do is not taken for a stream that was lost.
fn holding() -> Config {
    Config { change_confirm_interval_ms: 20_000, ..Config::default() }
}

fn without_holding() -> Config {
    Config { histories_mib_max: 0, ..holding() }
}

#[tokio::test]
async fn what_one_caller_read_is_not_read_for_another() {
    let mesh = Mesh::following(holding()).await;
    mesh.recommend("gateway").await;
    assert_eq!(mesh.world.read_below(), ["auth", "checkout", "inventory", "payment", "provider", "user-db"]);
    let shared = mesh.recommend("checkout").await;
    assert_eq!(mesh.world.read_below(), [""; 0]);
    // The same to the last bit as where each reads for itself.
    let alone = Mesh::following(without_holding()).await;
    alone.recommend("gateway").await;
    alone.world.read_below();
    let expected = alone.recommend("checkout").await;
    assert_eq!(alone.world.read_below(), ["inventory", "payment", "provider"]);
    assert_eq!(shared, expected);
}

#[tokio::test]
async fn a_history_that_changed_is_read_again_and_no_other() {
    let (mesh, alone) = (Mesh::following(holding()).await, Mesh::following(without_holding()).await);
    for mesh in [&mesh, &alone] {
        mesh.recommend("checkout").await;
        mesh.world.read_below();
        mesh.world.rewrite_last_bucket("payment", 2_000);
    }
    let (after, expected) = (again(&mesh, "checkout").await, again(&alone, "checkout").await);
    assert_eq!(mesh.world.read_below(), ["payment"]);
    assert_eq!(alone.world.read_below(), ["inventory", "payment", "provider"]);
    assert_eq!(after, expected);
    assert_eq!(after.version, 2);
    // What one reads with its latencies serves its callers: checkout was measured again, and is computed before them.
    mesh.world.rewrite_last_bucket("checkout", 2_000);
    again(&mesh, "checkout").await;
    mesh.world.read_below();
    mesh.recommend("gateway").await;
    assert_eq!(mesh.world.read_below(), ["auth", "user-db"]);
}

#[tokio::test]
async fn nothing_is_shared_between_tenants() {
    let mesh = Mesh::following(holding()).await;
    mesh.recommend("checkout").await;
    mesh.world.read_below();
    mesh.ask_as("acme", "checkout").await;
    assert_eq!(mesh.world.read_below(), ["inventory", "payment", "provider"]);
}

#[tokio::test]
async fn while_nobody_tells_of_changes_every_history_is_read() {
    let mesh = Mesh::start().await;
    for _ in 0..2 {
        again(&mesh, "checkout").await;
        assert_eq!(mesh.world.read_below(), ["inventory", "payment", "provider"]);
    }
    // What was held before a stream broke off may be of another database.
    let mesh = Mesh::following(holding()).await;
    mesh.recommend("checkout").await;
    again(&mesh, "checkout").await;
    assert_eq!(mesh.world.read_below(), ["inventory", "payment", "provider"]);
    let streams = mesh.world.streams.lock().unwrap().len();
    mesh.world.cut_streams();
    while mesh.world.streams.lock().unwrap().len() == streams {
        tokio::task::yield_now().await;
    }
    mesh.until_following(true).await;
    again(&mesh, "checkout").await;
    assert_eq!(mesh.world.read_below(), ["inventory", "payment", "provider"]);
}
