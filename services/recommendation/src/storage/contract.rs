//! What the store promises, run on SQLite and on PostgreSQL.

pub(super) mod calibration;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use attain_attainment::Ambition;
use attain_vocabulary::{EntityId, Objective, SliKind, TenantId, Tier, TimeWindow};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyPoolOptions;

use super::*;
use crate::domain::audit::{Anchor, BrokenChain, Entry, GENESIS_SHA256, Record, Verifier};
use crate::domain::feedback::{Dispute, FeedbackKind, NewFeedback, said};
use crate::domain::learning::Learnable;
use crate::domain::slo::{Action, NewTarget, Verdict};

macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[tokio::test]
            async fn sqlite() {
                let folder = tempfile::tempdir().expect("a folder");
                let url = format!("sqlite:{}", folder.path().join("recommendation.db").display());
                let store = super::Store::open(&url).await.expect("opened");
                super::promises::$name(&store).await;
                store.close().await;
            }

            #[tokio::test]
            async fn postgres() {
                let Some(fresh) = super::Fresh::create().await else { return };
                let store = super::Store::open(&fresh.url).await.expect("opened");
                super::promises::$name(&store).await;
                store.close().await;
                fresh.drop().await;
            }
        })+
    };
}

pub(super) use contract;

contract!(
    what_is_stored_is_what_is_read,
    versions_follow_one_another,
    a_confirmation_moves_only_its_own_recommendation,
    old_inputs_are_given_up_unless_decided_upon,
    a_target_survives_to_the_last_bit,
    what_others_promise_is_read_at_once,
    versions_are_matched_under_contention,
    a_reject_changes_nothing_and_is_kept,
    the_audit_log_is_one_chain,
    many_records_are_appended_as_one_chain,
    feedback_is_kept_counted_and_disputes_are_told,
    first_decisions_and_first_words_are_learnable,
    pages_follow_one_another,
    tenants_see_only_their_own,
    the_newest_back_test_of_each_service_counts,
    offers_are_kept_once_a_week_and_judged_once,
    classes_are_told_apart_and_filtered,
    a_drift_is_noted_once_and_shows_at_the_newest_recommendation,
    drift_is_listed_by_page_and_state,
    models_are_kept_as_they_were_and_one_is_live,
    forecasts_are_kept_once_a_week_and_closed_once,
    a_tenant_is_fitted_by_turns_and_sooner_after_a_drift,
    one_experiment_runs_until_it_is_stopped_or_over,
    what_became_of_units_is_added_up_by_arm,
);

/// A PostgreSQL database of one test's own.
pub(super) struct Fresh {
    server: String,
    name: String,
    pub(super) url: String,
}

impl Fresh {
    pub(super) async fn create() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var("ATTAIN_TEST_POSTGRES_URL") else {
            eprintln!("SKIPPED: ATTAIN_TEST_POSTGRES_URL is not set");
            return None;
        };
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let name = format!("test_{}_{nanos}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        execute(&server, format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').expect("an address with a database");
        Some(Self { url: format!("{base}/{name}"), server, name })
    }

    pub(super) async fn drop(self) {
        execute(&self.server, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn execute(url: &str, statement: String) {
    sqlx::any::install_default_drivers();
    let pool = AnyPoolOptions::new().max_connections(1).connect(url).await.expect("connected");
    sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.expect("executed");
    pool.close().await;
}

pub(super) fn tenant() -> TenantId {
    TenantId::default()
}

pub(super) fn service(name: &str) -> EntityId {
    EntityId::new("service_id", name).expect("valid")
}

pub(super) fn new(service_id: &str, version: u32) -> NewRecommendation {
    NewRecommendation {
        recommendation: StoredRecommendation {
            id: format!("rec-{service_id}-{version}"),
            service_id: service_id.to_owned(),
            window_days: 28,
            version,
            input_sha256: format!("in{version}"),
            result_sha256: format!("out{version}"),
            message: vec![0, 255, version as u8],
        },
        create_ms: 1_000 * i64::from(version),
        inputs: vec![1, 2, version as u8],
        basis: format!("basis {version}"),
        audit: Entry {
            time_ms: 1_000 * i64::from(version),
            caller: "tester".into(),
            action: "recommendation.created".into(),
            service_id: service_id.to_owned(),
            detail_json: format!("{{\"version\":{version}}}"),
        },
        inputs_kept_max: 2,
        standing: NewStanding {
            expire_ms: 1_000_000,
            confidence: 3,
            fallback: false,
            facts: ServiceFacts { tier: Tier::Two, owner: "team-a".into() },
        },
        evidence: calibration::nothing(),
        regional: ["asia", "eu"].map(|region| regional(region, version)).into(),
        exposure: None,
    }
}

fn regional(region: &str, version: u32) -> NewRegional {
    NewRegional {
        region: region.to_owned(),
        result_sha256: format!("{region}{version}"),
        message: vec![7, version as u8, region.len() as u8],
    }
}

pub(super) fn verdict(action: Action, target: Option<f64>, version_match: Option<u32>) -> Verdict {
    let target = target.map(|ratio| NewTarget {
        target: Objective::new("target_ratio", ratio).expect("valid"),
        latency_threshold_ms: None,
        window: TimeWindow::default(),
        as_recommended: action == Action::Accept,
    });
    Verdict {
        action,
        service: service("checkout"),
        recommendation_id: "rec-checkout-1".into(),
        kind: SliKind::Availability,
        ambition: (action == Action::Accept).then_some(Ambition::Balanced),
        target,
        reason: "because".into(),
        decided_by: "ada".into(),
        time_ms: 5,
        version_match,
        contradiction: None,
    }
}

pub(super) fn verify(records: &[Record]) -> Result<(), BrokenChain> {
    let mut verifier = Verifier::new(Anchor::genesis(), Vec::new())?;
    records.iter().try_for_each(|record| verifier.check(record))
}

mod promises {
    use super::*;
    pub(super) use crate::storage::contract_experiments::*;
    pub(super) use crate::storage::contract_models::*;

    pub(super) use super::calibration::{
        classes_are_told_apart_and_filtered, offers_are_kept_once_a_week_and_judged_once,
        the_newest_back_test_of_each_service_counts,
    };

    pub(super) async fn what_is_stored_is_what_is_read(store: &Store) {
        let made = new("checkout", 1);
        let expected = made.recommendation.clone();
        assert_eq!(store.latest(&tenant(), &service("checkout"), TimeWindow::default()).await.expect("read"), None);
        assert_eq!(store.insert(&tenant(), made).await.expect("stored"), Inserted::Stored);
        assert_eq!(store.recommendation(&tenant(), &expected.id).await.expect("read"), Some(expected.clone()));
        assert_eq!(store.recommendation(&tenant(), "rec-none").await.expect("read"), None);
        assert_eq!(
            store.recommendation_version(&tenant(), "checkout", 28, 1).await.expect("read"),
            Some(expected.clone())
        );
        assert_eq!(store.inputs(&tenant(), &expected.id).await.expect("read"), Some(vec![1, 2, 1]));
        let latest = store.latest(&tenant(), &service("checkout"), TimeWindow::default()).await.expect("read");
        let regional = store.regional(&tenant(), &expected, "eu").await.expect("read").expect("stored with it");
        let of_region = StoredRecommendation {
            id: "rec-checkout-1@eu".into(),
            result_sha256: "eu1".into(),
            message: vec![7, 1, 2],
            ..expected.clone()
        };
        assert_eq!(regional, of_region);
        assert_eq!(store.regional(&tenant(), &expected, "us").await.expect("read"), None);
        let basis = "basis 1".into();
        assert_eq!(
            latest,
            Some(Latest {
                recommendation: expected,
                checked_ms: 1_000,
                basis,
                drift_ms: None,
                live_model: None,
                experiment: None
            })
        );
        let other = TimeWindow::from_days("window_days", 7).expect("offered");
        assert_eq!(store.latest(&tenant(), &service("checkout"), other).await.expect("read"), None);
        store.ping().await.expect("answers");
    }

    pub(super) async fn versions_follow_one_another(store: &Store) {
        assert_eq!(store.insert(&tenant(), new("checkout", 2)).await.expect("answered"), Inserted::Overtaken);
        assert_eq!(store.insert(&tenant(), new("checkout", 1)).await.expect("answered"), Inserted::Stored);
        let again = NewRecommendation {
            recommendation: StoredRecommendation { id: "rec-late".into(), ..new("checkout", 1).recommendation },
            ..new("checkout", 1)
        };
        assert_eq!(store.insert(&tenant(), again).await.expect("answered"), Inserted::Overtaken);
        assert_eq!(store.insert(&tenant(), new("checkout", 2)).await.expect("answered"), Inserted::Stored);
        let latest =
            store.latest(&tenant(), &service("checkout"), TimeWindow::default()).await.expect("read").expect("there");
        assert_eq!((latest.recommendation.version, latest.basis.as_str()), (2, "basis 2"));
        // What was overtaken left nothing behind, in the log neither.
        assert_eq!(store.audit_records(&tenant(), Sought::default(), 10).await.expect("read").len(), 2);
        assert_eq!(store.recommendation(&tenant(), "rec-late").await.expect("read"), None);
    }

    pub(super) async fn a_confirmation_moves_only_its_own_recommendation(store: &Store) {
        let first = new("checkout", 1).recommendation;
        store.insert(&tenant(), new("checkout", 1)).await.expect("stored");
        store.confirm(&tenant(), &first, 9_000, "again", 2_000_000).await.expect("confirmed");
        let latest =
            store.latest(&tenant(), &service("checkout"), TimeWindow::default()).await.expect("read").expect("there");
        assert_eq!((latest.checked_ms, latest.basis.as_str()), (9_000, "again"));
        store.insert(&tenant(), new("checkout", 2)).await.expect("stored");
        store.confirm(&tenant(), &first, 99_000, "late", 2_000_000).await.expect("confirmed");
        let latest =
            store.latest(&tenant(), &service("checkout"), TimeWindow::default()).await.expect("read").expect("there");
        assert_eq!((latest.recommendation.version, latest.basis.as_str()), (2, "basis 2"));
    }

    pub(super) async fn old_inputs_are_given_up_unless_decided_upon(store: &Store) {
        store.insert(&tenant(), new("checkout", 1)).await.expect("stored");
        store.decide(&tenant(), verdict(Action::Accept, Some(0.99), None), &Terms::default()).await.expect("decided");
        for version in 2..=5 {
            store.insert(&tenant(), new("checkout", version)).await.expect("stored");
        }
        let mut kept = Vec::new();
        for version in 1..=5u32 {
            let id = format!("rec-checkout-{version}");
            assert!(store.recommendation(&tenant(), &id).await.expect("read").is_some());
            if store.inputs(&tenant(), &id).await.expect("read").is_some() {
                kept.push(version);
            }
        }
        assert_eq!(kept, [1, 4, 5]);
    }

    pub(super) async fn a_target_survives_to_the_last_bit(store: &Store) {
        let awkward = [0.1 + 0.2, 0.999_499_999_999_999_9, 1.0 - f64::EPSILON / 2.0, f64::MIN_POSITIVE, 1.0 / 3.0];
        for (i, ratio) in awkward.into_iter().enumerate() {
            let decided = store
                .decide(&tenant(), verdict(Action::Accept, Some(ratio), Some(i as u32)), &Terms::default())
                .await
                .expect("decided");
            let slo = decided.slo.expect("in force");
            assert_eq!((slo.version, slo.target.target_ratio().to_bits()), (i as u32 + 1, ratio.to_bits()));
            let read = store.slos(&tenant(), &service("checkout")).await.expect("read");
            assert_eq!(read, std::slice::from_ref(&slo));
            let in_force = store.slos_of_kind(&tenant(), SliKind::Availability).await.expect("read");
            assert_eq!(in_force.get(&service("checkout")), Some(&slo));
            assert!(store.slos_of_kind(&tenant(), SliKind::Latency).await.expect("read").is_empty());
            let decisions = store.decisions(&tenant(), &service("checkout"), u64::MAX, 1).await.expect("read");
            assert_eq!(decisions[0].1, decided.decision);
            assert_eq!(decisions[0].1.target_ratio.map(f64::to_bits), Some(ratio.to_bits()));
        }
    }

    pub(super) async fn what_others_promise_is_read_at_once(store: &Store) {
        for version in 1..=2 {
            store.insert(&tenant(), new("checkout", version)).await.expect("stored");
        }
        store.insert(&tenant(), new("payment", 1)).await.expect("stored");
        store.decide(&tenant(), verdict(Action::Accept, Some(0.999), None), &Terms::default()).await.expect("decided");
        // More names than one statement takes.
        let names: Vec<EntityId> = (0..450).map(|i| service(&format!("unknown-{i}"))).collect();
        let asked: Vec<EntityId> = [service("checkout")].into_iter().chain(names).chain([service("payment")]).collect();
        let asked: Vec<&EntityId> = asked.iter().collect();
        let targets = store.targets_of(&tenant(), SliKind::Availability, &asked).await.expect("read");
        assert_eq!(targets, [(service("checkout"), 0.999)]);
        assert_eq!(store.targets_of(&tenant(), SliKind::Latency, &asked).await.expect("read"), []);
        let messages = store.newest_messages(&tenant(), &asked, TimeWindow::default()).await.expect("read");
        assert_eq!(messages, [(service("checkout"), vec![0, 255, 2]), (service("payment"), vec![0, 255, 1])]);
        let week = TimeWindow::from_days("window_days", 7).expect("offered");
        assert_eq!(store.newest_messages(&tenant(), &asked, week).await.expect("read"), []);
        let other = TenantId::new("tenant_id", "other").expect("valid");
        assert_eq!(store.newest_messages(&other, &asked, TimeWindow::default()).await.expect("read"), []);
        assert_eq!(store.targets_of(&tenant(), SliKind::Availability, &[]).await.expect("read"), []);
    }

    pub(super) async fn versions_are_matched_under_contention(store: &Store) {
        store.decide(&tenant(), verdict(Action::Declare, Some(0.9), Some(0)), &Terms::default()).await.expect("first");
        let tries = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                store.decide(&tenant(), verdict(Action::Modify, Some(0.95), Some(1)), &Terms::default()).await
            })
        });
        let mut won = 0;
        for answer in futures::future::join_all(tries).await {
            match answer.expect("no panic") {
                Ok(decided) => {
                    won += 1;
                    assert_eq!(decided.slo.expect("in force").version, 2);
                }
                Err(Error::VersionMismatch { expected: 1, found: 2 }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won, 1);
        assert_eq!(store.decisions(&tenant(), &service("checkout"), u64::MAX, 100).await.expect("read").len(), 2);
        let records = store.audit_records(&tenant(), Sought::default(), 100).await.expect("read");
        assert_eq!((records.len(), verify(&records)), (2, Ok(())));
    }

    pub(super) async fn a_reject_changes_nothing_and_is_kept(store: &Store) {
        let decided =
            store.decide(&tenant(), verdict(Action::Reject, None, None), &Terms::default()).await.expect("decided");
        assert_eq!(decided.slo, None);
        let before = store
            .decide(&tenant(), verdict(Action::Declare, Some(0.99), None), &Terms::default())
            .await
            .expect("decided")
            .slo;
        let decided =
            store.decide(&tenant(), verdict(Action::Reject, None, Some(1)), &Terms::default()).await.expect("decided");
        assert_eq!(decided.slo, before);
        assert_eq!(decided.decision.target_ratio, None);
        let actions: Vec<Action> = store
            .decisions(&tenant(), &service("checkout"), u64::MAX, 10)
            .await
            .expect("read")
            .into_iter()
            .map(|(_, d)| d.action)
            .collect();
        assert_eq!(actions, [Action::Reject, Action::Declare, Action::Reject]);
    }

    pub(super) async fn the_audit_log_is_one_chain(store: &Store) {
        let writes = (0..12).map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                if i % 2 == 0 {
                    store.insert(&tenant(), new(&format!("s{i}"), 1)).await.map(|_| ())
                } else {
                    store
                        .decide(&tenant(), verdict(Action::Declare, Some(0.9), None), &Terms::default())
                        .await
                        .map(|_| ())
                }
            })
        });
        for answer in futures::future::join_all(writes).await {
            answer.expect("no panic").expect("written");
        }
        let records = store.audit_records(&tenant(), Sought::default(), 100).await.expect("read");
        assert_eq!((records.len(), verify(&records)), (12, Ok(())));
        sqlx::query("UPDATE audit SET caller = 'mallory' WHERE sequence = 7")
            .execute(store.database.pool())
            .await
            .expect("changed");
        let records = store.audit_records(&tenant(), Sought::default(), 100).await.expect("read");
        assert_eq!(verify(&records).map_err(|broken| broken.sequence), Err(7));
    }

    fn noted(n: i64) -> Entry {
        Entry {
            time_ms: n,
            caller: "ada".into(),
            action: if n % 2 == 0 { "read.slos".into() } else { "reads.dropped".into() },
            service_id: "checkout".into(),
            detail_json: format!("{{\"n\":{n}}}"),
        }
    }

    pub(super) async fn many_records_are_appended_as_one_chain(store: &Store) {
        assert_eq!(store.audit_end(&tenant()).await.expect("read").sequence, 0);
        store.append_records(&tenant(), Vec::new()).await.expect("nothing to do");
        store.decide(&tenant(), verdict(Action::Declare, Some(0.9), None), &Terms::default()).await.expect("decided");
        // More than one statement holds, while others write.
        let writes = (0..4).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                store.append_records(&tenant(), (0..301).map(noted).collect()).await?;
                store.decide(&tenant(), verdict(Action::Declare, Some(0.9), None), &Terms::default()).await.map(|_| ())
            })
        });
        for answer in futures::future::join_all(writes).await {
            answer.expect("no panic").expect("written");
        }
        let records = store.audit_records(&tenant(), Sought::default(), 5_000).await.expect("read");
        assert_eq!((records.len(), verify(&records)), (4 * 302 + 1, Ok(())));
        let end = store.audit_end(&tenant()).await.expect("read");
        let last = records.last().expect("there");
        assert_eq!((end.sequence, &end.sha256, end.time_ms), (last.sequence, &last.sha256, Some(last.entry.time_ms)));
        let ends = store.audit_ends().await.expect("read");
        assert_eq!(ends, [(tenant().to_string(), last.sequence, last.sha256.clone())]);
        let without = Sought { without_reads: true, ..Sought::default() };
        let without = store.audit_records(&tenant(), without, 5_000).await.expect("read");
        assert_eq!(without.len(), 4 * 150 + 5);
        assert!(without.iter().all(|record| !record.entry.action.starts_with("read.")));
    }

    fn feedback(kind: FeedbackKind, by: &str, time_ms: i64) -> NewFeedback {
        let dependency_id = if kind == FeedbackKind::WrongDependency { "db" } else { "" };
        NewFeedback {
            recommendation_id: "rec-checkout-1".into(),
            service: service("checkout"),
            said: said(kind, None, dependency_id, "größer").expect("valid"),
            edges_sha256: if dependency_id.is_empty() { String::new() } else { "aa".into() },
            submitted_by: by.into(),
            time_ms,
        }
    }

    pub(super) async fn feedback_is_kept_counted_and_disputes_are_told(store: &Store) {
        let first = store.submit(&tenant(), feedback(FeedbackKind::WrongDependency, "ada", 5)).await.expect("kept");
        for (kind, by, time_ms) in [
            (FeedbackKind::WrongDependency, "bob", 7),
            (FeedbackKind::WrongDependency, "bob", 9),
            (FeedbackKind::Other, "bob", 9),
        ] {
            store.submit(&tenant(), feedback(kind, by, time_ms)).await.expect("kept");
        }
        let newest = store.feedback(&tenant(), &service("checkout"), u64::MAX, 3).await.expect("read");
        assert_eq!(newest.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [4, 3, 2]);
        assert_eq!(store.feedback(&tenant(), &service("checkout"), 2, 3).await.expect("read"), [(1, first)]);
        let counts = store.feedback_counts(&tenant()).await.expect("read");
        assert_eq!(counts, [(FeedbackKind::Other, 1), (FeedbackKind::WrongDependency, 3)]);
        let dispute = |by: &str, time_ms| Dispute {
            dependency: service("db"),
            edges_sha256: "aa".into(),
            submitted_by: by.into(),
            time_ms,
        };
        let disputes = async |since_ms| store.disputes(&tenant(), &service("checkout"), since_ms).await.expect("read");
        assert_eq!(disputes(0).await, [dispute("ada", 5), dispute("bob", 9)]);
        assert_eq!(disputes(6).await, [dispute("bob", 9)]);
        assert_eq!(disputes(10).await, []);
        let records = store.audit_records(&tenant(), Sought::default(), 10).await.expect("read");
        assert!(records.iter().all(|record| record.entry.action == "feedback.submitted"));
        assert_eq!((records.len(), verify(&records)), (4, Ok(())));
        let other = TenantId::new("tenant", "other").expect("valid");
        assert_eq!(store.feedback(&other, &service("checkout"), u64::MAX, 3).await.expect("read"), []);
        assert_eq!(store.feedback_counts(&other).await.expect("read"), []);
        assert_eq!(store.disputes(&other, &service("checkout"), 0).await.expect("read"), []);
    }

    pub(super) async fn first_decisions_and_first_words_are_learnable(store: &Store) {
        store.insert(&tenant(), new("checkout", 1)).await.expect("stored");
        store.submit(&tenant(), feedback(FeedbackKind::TooStrict, "ada", 1)).await.expect("kept");
        store.decide(&tenant(), verdict(Action::Reject, None, None), &Terms::default()).await.expect("decided");
        store.submit(&tenant(), feedback(FeedbackKind::WrongSplit, "ada", 1)).await.expect("kept");
        store.submit(&tenant(), feedback(FeedbackKind::TooLoose, "ada", 1)).await.expect("kept");
        store.decide(&tenant(), verdict(Action::Accept, Some(0.9), None), &Terms::default()).await.expect("decided");
        store.submit(&tenant(), feedback(FeedbackKind::TooLoose, "bob", 1)).await.expect("kept");
        let learnable = store.learnable(&tenant(), 0, u64::MAX).await.expect("read");
        assert!(learnable.iter().all(|entry| entry.recommendation == new("checkout", 1).recommendation.message));
        let told: Vec<_> = learnable.into_iter().map(|entry| (entry.sequence, entry.learnable)).collect();
        let rejected =
            Learnable::Decision { action: Action::Reject, ambition: None, target_ratio: 0.0, threshold_ms: 0 };
        let expected = [
            (2, Learnable::Feedback(FeedbackKind::TooStrict)),
            (3, rejected.clone()),
            (7, Learnable::Feedback(FeedbackKind::TooLoose)),
        ];
        assert_eq!(told, expected);
        let part = store.learnable(&tenant(), 2, 6).await.expect("read");
        assert_eq!(part.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [3]);
        let other = TenantId::new("tenant", "other").expect("valid");
        assert_eq!(store.learnable(&other, 0, u64::MAX).await.expect("read"), []);
        // What a policy accepted is nobody's taste; the first word of a person counts, though it comes later.
        store.insert(&tenant(), new("cart", 1)).await.expect("stored");
        let of_cart = |action, target| crate::domain::slo::Verdict {
            service: service("cart"),
            recommendation_id: "rec-cart-1".into(),
            ..verdict(action, target, None)
        };
        let by_policy = Terms { policy_version: 3, ..Terms::default() };
        store.decide(&tenant(), of_cart(Action::Accept, Some(0.9)), &by_policy).await.expect("decided");
        store.decide(&tenant(), of_cart(Action::Reject, None), &Terms::default()).await.expect("decided");
        let later = store.learnable(&tenant(), 7, u64::MAX).await.expect("read");
        assert_eq!(
            later.into_iter().map(|entry| (entry.sequence, entry.learnable)).collect::<Vec<_>>(),
            [(10, rejected)]
        );
    }

    pub(super) async fn pages_follow_one_another(store: &Store) {
        for version in 1..=3 {
            store.insert(&tenant(), new("cart", version)).await.expect("stored");
            store
                .decide(&tenant(), verdict(Action::Declare, Some(0.9), None), &Terms::default())
                .await
                .expect("decided");
        }
        let of_cart = |after_sequence| Sought { service_id: Some("cart"), without_reads: false, after_sequence };
        let first = store.audit_records(&tenant(), of_cart(0), 2).await.expect("read");
        assert_eq!(first.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 3]);
        let rest = store.audit_records(&tenant(), of_cart(3), 2).await.expect("read");
        assert_eq!(rest.iter().map(|record| record.sequence).collect::<Vec<_>>(), [5]);
        let newest = store.decisions(&tenant(), &service("checkout"), u64::MAX, 2).await.expect("read");
        assert_eq!(newest.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [6, 4]);
        let older = store.decisions(&tenant(), &service("checkout"), 4, 2).await.expect("read");
        assert_eq!(older.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [2]);
    }

    pub(super) async fn tenants_see_only_their_own(store: &Store) {
        let other = TenantId::new("tenant", "other").expect("valid");
        store.insert(&tenant(), new("checkout", 1)).await.expect("stored");
        store.decide(&tenant(), verdict(Action::Declare, Some(0.9), None), &Terms::default()).await.expect("decided");
        assert_eq!(store.recommendation(&other, "rec-checkout-1").await.expect("read"), None);
        let whole = new("checkout", 1).recommendation;
        assert_eq!(store.regional(&other, &whole, "eu").await.expect("read"), None);
        assert_eq!(store.inputs(&other, "rec-checkout-1").await.expect("read"), None);
        assert_eq!(store.slos(&other, &service("checkout")).await.expect("read"), []);
        assert_eq!(store.decisions(&other, &service("checkout"), u64::MAX, 10).await.expect("read"), []);
        assert_eq!(store.audit_records(&other, Sought::default(), 10).await.expect("read"), []);
        // Each tenant's log and versions begin at 1.
        assert_eq!(store.insert(&other, new("checkout", 1)).await.expect("answered"), Inserted::Stored);
        let records = store.audit_records(&other, Sought::default(), 10).await.expect("read");
        assert_eq!((records[0].sequence, records[0].previous_sha256.as_str()), (1, GENESIS_SHA256));
    }
}
