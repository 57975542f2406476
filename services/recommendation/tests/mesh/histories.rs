//! Histories are shared between the callers of a service, and never longer than they hold.

use std::sync::atomic::Ordering;

use attain_proto::convert::{timestamp, unix_millis};
use attain_proto::ingestion::v1::{Incident, IncidentKind};
use attain_proto::recommendation::v1::Recommendation;
use attain_proto::vocabulary::v1::SliBucket;
use attain_recommendation::Config;
use attain_vocabulary::BUCKET_MS;

use crate::harness::Mesh;
use crate::world::{NOW_MS, World};

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

impl World {
    /// Nobody has latencies, and ingestion says so and what stands of what is held.
    fn tell_tails(&self) {
        let mut histories = self.histories.lock().unwrap();
        histories.values_mut().flatten().for_each(|bucket| bucket.latency = None);
        self.tells_tails.store(true, Ordering::SeqCst);
    }

    /// Changes a history; `change` gives the start of the first bucket that it touched.
    fn change(&self, id: &str, change: impl FnOnce(&mut Vec<SliBucket>) -> i64) {
        let from_ms = change(self.histories.lock().unwrap().get_mut(id).unwrap());
        self.measure_from(id, from_ms);
    }

    fn tails(&self) -> Vec<(String, usize)> {
        let mut tails = std::mem::take(&mut *self.tails.lock().unwrap());
        tails.sort();
        tails
    }
}

fn start_ms(bucket: &SliBucket) -> i64 {
    unix_millis(bucket.start_time.as_ref().unwrap())
}

/// Computes the recommendation of checkout anew, of inputs that are other ones than before.
async fn next(mesh: &Mesh, before: &Recommendation) -> Recommendation {
    mesh.world.touch_topology("checkout");
    let newer = |answer: &Recommendation| answer.version > before.version;
    mesh.until("checkout", |answer| answer.recommendation.as_ref().is_some_and(newer)).await.recommendation.unwrap()
}

/// One that came late, a day that was replaced, buckets that went, a span that is left out, time that goes on: whatever happens,
/// the answer is the one of whoever reads everything each time, and what was not touched is not read.
#[tokio::test]
async fn what_stands_of_a_history_is_not_read_again_and_nothing_is_stale() {
    let (mesh, alone) = (Mesh::following(holding()).await, Mesh::following(without_holding()).await);
    let mut latest = Vec::new();
    for mesh in [&mesh, &alone] {
        mesh.world.tell_tails();
        latest.push(mesh.recommend("checkout").await);
    }
    assert_eq!(latest[0], latest[1]);
    let many = mesh.world.histories.lock().unwrap()["payment"].len();
    assert!(mesh.world.histories_read.lock().unwrap().contains(&"payment".to_owned()));
    type Deed = Box<dyn Fn(&Mesh)>;
    type Tails = Vec<(&'static str, usize)>;
    let spoil = |buckets: &mut [SliBucket]| {
        buckets.iter_mut().for_each(|bucket| bucket.bad_count = bucket.bad_count.max(bucket.inherited_bad_count()) + 5);
        start_ms(&buckets[0])
    };
    let newer = |buckets: &mut Vec<SliBucket>| {
        let mut next = buckets.last().unwrap().clone();
        next.start_time = Some(timestamp(start_ms(&next) + BUCKET_MS));
        buckets.push(next);
        start_ms(buckets.last().unwrap())
    };
    let of = |mut tails: Tails| {
        tails.sort();
        tails
    };
    let deeds: Vec<(&str, Deed, Tails)> = vec![
        (
            "the newest again",
            Box::new(|mesh| mesh.world.rewrite_last_bucket("payment", 2_000)),
            of(vec![("payment", 1)]),
        ),
        (
            "one late",
            Box::new(move |mesh| mesh.world.change("payment", |buckets| spoil(&mut buckets[100..101]))),
            of(vec![("payment", many - 100)]),
        ),
        (
            "another day",
            Box::new(move |mesh| mesh.world.change("inventory", |buckets| spoil(&mut buckets[2_880..3_168]))),
            of(vec![("inventory", many - 2_880)]),
        ),
        (
            "some that went",
            Box::new(|mesh| mesh.world.change("payment", |buckets| start_ms(&buckets.drain(500..600).next().unwrap()))),
            of(vec![("payment", many - 600)]),
        ),
        (
            "its own newest",
            Box::new(|mesh| mesh.world.rewrite_last_bucket("checkout", 1_500)),
            of(vec![("checkout", 1)]),
        ),
        (
            "a span left out",
            Box::new(|mesh| {
                let start_ms = start_ms(&mesh.world.histories.lock().unwrap()["checkout"][1_000]);
                mesh.world.incidents.lock().unwrap().push(Incident {
                    id: "works".into(),
                    kind: IncidentKind::Maintenance.into(),
                    service_ids: vec!["checkout".into()],
                    start_time: Some(timestamp(start_ms)),
                    end_time: Some(timestamp(start_ms + 9 * BUCKET_MS)),
                    ..Incident::default()
                });
                mesh.world.touch_incidents("checkout");
            }),
            of(vec![]),
        ),
        (
            "time that goes on",
            Box::new(move |mesh| {
                mesh.world.change("checkout", newer);
                mesh.world.change("payment", newer);
                mesh.clock.set(NOW_MS + BUCKET_MS);
            }),
            // Nobody measured the provider: there is nothing to stand.
            of(vec![("checkout", 1), ("inventory", 0), ("payment", 1)]),
        ),
    ];
    for (what, deed, expected) in deeds {
        for (mesh, latest) in [&mesh, &alone].into_iter().zip(&mut latest) {
            deed(mesh);
            *latest = next(mesh, latest).await;
        }
        assert_eq!(latest[0], latest[1], "{what}");
        let tails = mesh.world.tails();
        let tails: Vec<(&str, usize)> = tails.iter().map(|(id, many)| (id.as_str(), *many)).collect();
        assert_eq!(tails, expected, "{what}");
    }
    assert_eq!(alone.world.tails(), [], "who holds nothing asks for everything");

    // After a break numbers may be those of another log.
    let streams = mesh.world.streams.lock().unwrap().len();
    mesh.world.cut_streams();
    while mesh.world.streams.lock().unwrap().len() == streams {
        tokio::task::yield_now().await;
    }
    mesh.until_following(true).await;
    for (mesh, latest) in [&mesh, &alone].into_iter().zip(&mut latest) {
        mesh.world.rewrite_last_bucket("payment", 1_000);
        *latest = next(mesh, latest).await;
    }
    assert_eq!((mesh.world.tails(), &latest[0]), (Vec::new(), &latest[1]));
}
