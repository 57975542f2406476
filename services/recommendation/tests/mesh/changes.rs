//! How a change at ingestion reaches a stored recommendation: by the stream of changes or by asking, and through a graph
//! that follows at a distance.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use attain_proto::convert::duration_millis;
use attain_proto::recommendation::v1::GetSloRecommendationsResponse;
use attain_recommendation::Config;

use crate::harness::{Mesh, PATIENCE};
use crate::world::{INCIDENT, NOW_MS, SLI, TOPOLOGY, World};

fn version(answer: &GetSloRecommendationsResponse) -> u32 {
    answer.recommendation.as_ref().unwrap().version
}

fn stale(answer: &GetSloRecommendationsResponse) -> (bool, &str) {
    (answer.stale, answer.stale_reason.as_str())
}

impl World {
    fn questions_of_heads(&self) -> usize {
        self.heads_asked.lock().unwrap().len()
    }

    fn computed(&self) -> u64 {
        self.evaluations.load(Ordering::SeqCst)
    }

    /// A new edge out of d, which a needs by way of b.
    fn grow(&self) {
        self.depend("d", "inventory");
        self.touch_topology("d");
    }
}

/// Waits until a stream after the first so many began with the first change, and is followed.
async fn begun_anew(mesh: &Mesh, streams: usize) {
    let begun = async {
        while mesh.world.streams.lock().unwrap()[streams..].last() != Some(&0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("the log is read from its beginning");
    mesh.until_following(true).await;
}

#[tokio::test]
async fn a_graph_that_follows_at_a_distance_is_waited_for() {
    let mesh = Mesh::start().await;
    mesh.world.freeze_graph();
    mesh.world.grow();
    mesh.world.thaws.store(true, Ordering::SeqCst);
    let answer = mesh.ask("a").await.unwrap();
    assert_eq!((version(&answer), stale(&answer)), (1, (false, "")));
    assert_eq!(*mesh.world.waits.lock().unwrap(), [mesh.world.topology_version()]);
    // The new member's changes were read, so that they count from now on.
    assert_eq!(mesh.world.heads_asked.lock().unwrap().concat().iter().filter(|id| *id == "d").count(), 1);
    let computed = mesh.world.computed();
    mesh.world.touch_topology("inventory");
    mesh.ask("a").await.unwrap();
    assert_eq!(mesh.world.computed(), computed + 1);
}

#[tokio::test]
async fn what_changes_between_the_walk_and_the_reading_of_heads_is_not_lost() {
    let mesh = Mesh::start().await;
    *mesh.world.before_heads.lock().unwrap() = Some(Box::new(|world| world.grow()));
    let answer = mesh.ask("a").await.unwrap();
    assert!(!answer.stale);
    // The closure was walked again: it holds what was not there at the first walk.
    let computed = mesh.world.computed();
    mesh.world.touch_topology("inventory");
    mesh.ask("a").await.unwrap();
    assert_eq!(mesh.world.computed(), computed + 1);
}

#[tokio::test]
async fn on_a_graph_that_does_not_catch_up_nothing_is_fresh() {
    let mesh = Mesh::start().await;
    mesh.world.freeze_graph();
    mesh.world.grow();
    let first = mesh.ask("a").await.unwrap();
    assert_eq!((version(&first), stale(&first)), (1, (true, "graph_behind")));
    // Too young to be computed again; the graph is not asked at every read.
    let second = mesh.ask("a").await.unwrap();
    assert_eq!((stale(&second), mesh.world.computed()), ((true, "graph_behind"), 1));
    mesh.clock.set(NOW_MS + 10_000);
    assert_eq!(stale(&mesh.ask("a").await.unwrap()), (true, "graph_behind"));
    assert_eq!(mesh.world.computed(), 2);
    // It catches up: nothing changes at ingestion any more, and the answer becomes right all the same.
    mesh.world.thaw_graph();
    mesh.clock.set(NOW_MS + 20_000);
    let right = mesh.ask("a").await.unwrap();
    assert_eq!((stale(&right), mesh.world.computed()), ((false, ""), 3));
    assert!(!mesh.ask("a").await.unwrap().stale);
    assert_eq!(mesh.world.computed(), 3);
}

#[tokio::test]
async fn reads_are_judged_by_the_stream_and_ingestion_is_not_asked() {
    let mesh = Mesh::following(Config::default()).await;
    let first = mesh.until("a", |answer| !answer.stale).await;
    let (asked, computed) = (mesh.world.questions_of_heads(), mesh.world.computed());
    for _ in 0..50 {
        let answer = mesh.ask("a").await.unwrap();
        assert_eq!((&answer.recommendation, answer.stale), (&first.recommendation, false));
        // Five turns of a second at most.
        assert!(duration_millis(answer.knowledge_age.as_ref().unwrap()) <= 5_000, "{:?}", answer.knowledge_age);
    }
    assert_eq!((mesh.world.questions_of_heads(), mesh.world.computed()), (asked, computed));

    // Measurements of a dependency make it stale as soon as the stream has told …
    mesh.world.touch_measurements("d");
    let answer = mesh.until("a", |answer| answer.stale).await;
    assert_eq!((stale(&answer), mesh.world.computed()), ((true, "measurements_changed"), computed));
    assert_eq!(mesh.world.questions_of_heads(), asked);
    // … and topology has it computed again.
    mesh.world.grow();
    mesh.until("a", |answer| !answer.stale).await;
    assert_eq!(mesh.world.computed(), computed + 1);
}

#[tokio::test]
async fn a_dependencys_incident_and_another_tenants_changes_touch_nothing() {
    let mesh = Mesh::following(Config::default()).await;
    mesh.ask("a").await.unwrap();
    let computed = mesh.world.computed();
    mesh.world.touch("default", "d", INCIDENT);
    for part in [TOPOLOGY, SLI, INCIDENT] {
        mesh.world.touch("acme", "a", part);
    }
    // Told after those: when it is known, so are they.
    mesh.world.touch("default", "checkout", SLI);
    mesh.recommend("checkout").await;
    mesh.world.touch("default", "checkout", TOPOLOGY);
    let before = mesh.world.computed();
    mesh.until("checkout", |_| mesh.world.computed() > before).await;
    let after = mesh.world.computed();
    assert!(!mesh.ask("a").await.unwrap().stale);
    assert_eq!((mesh.world.computed(), after - before, computed), (after, 1, 1));
}

#[tokio::test]
async fn without_the_stream_ingestion_is_asked_and_without_both_it_is_said() {
    let mesh = Mesh::following(Config::default()).await;
    mesh.ask("a").await.unwrap();
    mesh.world.streaming.store(false, Ordering::SeqCst);
    mesh.world.cut_streams();
    mesh.until_following(false).await;
    let asked = mesh.world.questions_of_heads();
    let answer = mesh.ask("a").await.unwrap();
    assert_eq!((answer.stale, duration_millis(answer.knowledge_age.as_ref().unwrap())), (false, 0));
    assert_eq!(mesh.world.questions_of_heads(), asked + 1);

    mesh.world.ingestion_down.store(true, Ordering::SeqCst);
    mesh.clock.set(NOW_MS + 7_000);
    let answer = mesh.ask("a").await.unwrap();
    assert_eq!(stale(&answer), (true, "ingestion_unreachable"));
    assert_eq!(duration_millis(answer.knowledge_age.as_ref().unwrap()), 7_000);

    // Ingestion starts again, with a change that nobody heard of; the stream goes on where it ended.
    let seen = mesh.world.streams.lock().unwrap().len();
    mesh.world.grow();
    mesh.world.ingestion_down.store(false, Ordering::SeqCst);
    mesh.world.streaming.store(true, Ordering::SeqCst);
    mesh.until_following(true).await;
    assert!(mesh.world.streams.lock().unwrap()[seen..].iter().all(|after| *after > 0), "resumed");
    let computed = mesh.world.computed();
    assert!(!mesh.ask("a").await.unwrap().stale);
    assert_eq!(mesh.world.computed(), computed + 1);
}

#[tokio::test]
async fn a_restart_of_this_service_reads_the_log_again_and_misses_nothing() {
    let mut mesh = Mesh::following(Config::default()).await;
    mesh.ask("a").await.unwrap();
    let computed = mesh.world.computed();
    mesh.restart().await;
    mesh.until_following(true).await;
    assert_eq!(mesh.world.streams.lock().unwrap().last(), Some(&0));
    let asked = mesh.world.questions_of_heads();
    assert!(!mesh.ask("a").await.unwrap().stale);
    assert_eq!((mesh.world.computed(), mesh.world.questions_of_heads()), (computed, asked));

    // Changed while it was away: the stored basis is compared with a log read from its beginning.
    mesh.world.streaming.store(false, Ordering::SeqCst);
    mesh.world.cut_streams();
    mesh.until_following(false).await;
    mesh.world.grow();
    mesh.world.streaming.store(true, Ordering::SeqCst);
    mesh.restart().await;
    mesh.until_following(true).await;
    assert!(!mesh.ask("a").await.unwrap().stale);
    assert_eq!(mesh.world.computed(), computed + 1);
}

#[tokio::test]
async fn another_database_is_followed_from_its_beginning() {
    let mesh = Mesh::following(Config::default()).await;
    for _ in 0..50 {
        mesh.world.touch_measurements("checkout");
    }
    mesh.world.touch_topology("d");
    mesh.ask("a").await.unwrap();
    let (computed, streams) = (mesh.world.computed(), mesh.world.streams.lock().unwrap().len());
    mesh.world.replace_database(0);
    // Every number that was read is one of the other database.
    mesh.until("a", |answer| !answer.stale && mesh.world.computed() > computed).await;
    begun_anew(&mesh, streams).await;
    // Its changes are followed.
    let (computed, asked) = (mesh.world.computed(), mesh.world.questions_of_heads());
    mesh.ask("a").await.unwrap();
    assert_eq!((mesh.world.computed(), mesh.world.questions_of_heads()), (computed, asked));
    mesh.world.grow();
    mesh.until("a", |_| mesh.world.computed() > computed).await;
}

#[tokio::test]
async fn another_database_is_noticed_though_its_log_is_longer() {
    let mesh = Mesh::following(Config { change_confirm_interval_ms: 20, ..Config::default() }).await;
    mesh.ask("a").await.unwrap();
    mesh.world.touch_topology("d");
    mesh.until("a", |_| mesh.world.computed() == 2).await;
    mesh.world.streaming.store(false, Ordering::SeqCst);
    mesh.world.cut_streams();
    mesh.until_following(false).await;
    let streams = mesh.world.streams.lock().unwrap().len();
    // It holds none of the changes that were seen, and is far ahead.
    mesh.world.replace_database(1_000);
    mesh.world.touch("acme", "a", TOPOLOGY);
    mesh.world.streaming.store(true, Ordering::SeqCst);
    begun_anew(&mesh, streams).await;
    mesh.until("a", |answer| !answer.stale && mesh.world.computed() == 3).await;
}

#[tokio::test]
async fn a_tenant_that_does_not_fit_is_asked_for_and_the_others_are_not() {
    // The shop has eleven services in each tenant.
    let mesh = Mesh::following(Config { mirrored_services_max: 12, ..Config::default() }).await;
    for id in ["a", "b", "d"] {
        mesh.world.touch("acme", id, TOPOLOGY);
        mesh.world.touch("acme", id, SLI);
    }
    mesh.ask("a").await.unwrap();
    mesh.ask_as("acme", "a").await;
    for _ in 0..5 {
        let asked = mesh.world.questions_of_heads();
        assert!(!mesh.ask_as("acme", "a").await.stale);
        assert_eq!(mesh.world.questions_of_heads(), asked + 1);
    }
    // Once the stream has told of the changes up to which that was computed.
    let asked = Cell::new(0);
    let by_the_stream = |_: &GetSloRecommendationsResponse| {
        let before = asked.replace(mesh.world.questions_of_heads());
        before == asked.get()
    };
    assert!(!mesh.until("a", by_the_stream).await.stale);
    // Nothing is lost of it: what changed is seen at the next read.
    mesh.world.touch("acme", "d", SLI);
    assert_eq!(stale(&mesh.ask_as("acme", "a").await), (true, "measurements_changed"));
}
