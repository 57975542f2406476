use std::time::Duration;

use super::*;
use crate::domain::audit::{Anchor, Record, Verifier};
use crate::domain::reads::{DROPPED, WRITE_ABANDONED};
use crate::storage::Sought;

async fn opened(folder: &tempfile::TempDir) -> Store {
    Store::open(&format!("sqlite:{}", folder.path().join("reads.db").display())).await.expect("opened")
}

fn context(tenant: &str) -> CallContext {
    CallContext::new(TenantId::new("tenant", tenant).expect("valid"), "ada", Duration::from_secs(9))
        .with_role(Role::Reader)
}

async fn records(store: &Store, tenant: &str) -> Vec<Record> {
    let tenant = TenantId::new("tenant", tenant).expect("valid");
    let records = store.audit_records(&tenant, Sought::default(), 1000).await.expect("read");
    let mut verifier = Verifier::new(Anchor::genesis(), Vec::new()).expect("agree");
    records.iter().try_for_each(|record| verifier.check(record)).expect("one chain");
    records
}

fn counted(record: &Record) -> (String, u64, String) {
    let detail: serde_json::Value = serde_json::from_str(&record.entry.detail_json).expect("JSON");
    let outcome = detail["outcome"].as_str().unwrap_or_default().to_owned();
    (record.entry.action.clone(), detail["count"].as_u64().expect("a count"), outcome)
}

#[tokio::test]
async fn every_read_is_counted_once_whoever_asked_and_however_it_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = opened(&folder).await;
    let config = Config { reads_flush_ms: 60_000, audit_anchor_interval_seconds: 0, ..Config::default() };
    let (reads, writing) = begin(&config, store.clone(), Clock::held(7));
    for _ in 0..5 {
        let asking = reads.begin("ListSlos", &context("acme"), &String::from("checkout")).of_service("checkout");
        asking.answered(Ok(String::from("none"))).expect("answered");
    }
    let asking = reads.begin("GetRecommendation", &context("acme"), &String::from("x")).of_recommendation("x");
    asking.answered::<String>(Err(Error::UnknownRecommendation("x".into()))).expect_err("refused");
    drop(reads.begin("AnalyzeImpact", &context("other"), &String::new()));
    reads.begin("DecideSlo", &context("acme"), &String::new()).written(&Ok(()));
    reads.begin("DecideSlo", &context("acme"), &String::new()).written::<()>(&Err(Error::Deadline));
    drop(reads.begin("DecideSlo", &context("acme"), &String::new()));
    writing.finish().await;
    let told: Vec<_> = records(&store, "acme").await.iter().map(counted).collect();
    let expected = |action: &str, count, outcome: &str| (action.to_owned(), count, outcome.to_owned());
    assert_eq!(told.len(), 4);
    for record in [
        expected(WRITE_ABANDONED, 1, "ABANDONED"),
        expected("read.slos", 5, "OK"),
        expected("read.recommendation", 1, "UNKNOWN_RECOMMENDATION"),
        expected("slo.refused", 1, "DEADLINE_EXCEEDED"),
    ] {
        assert!(told.contains(&record), "{record:?} in {told:?}");
    }
    let other: Vec<_> = records(&store, "other").await.iter().map(counted).collect();
    assert_eq!(other, [expected("read.impact", 1, "ABANDONED")]);
    store.close().await;
}

#[tokio::test]
async fn what_finds_no_room_is_counted_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = opened(&folder).await;
    let config = Config { reads_queued_max: 3, audit_anchor_interval_seconds: 0, ..Config::default() };
    // On this one thread the writer comes to its turn only when the test awaits.
    let (reads, writing) = begin(&config, store.clone(), Clock::held(7));
    for n in 0..10 {
        drop(reads.begin("ListSlos", &context("acme"), &format!("{n}")));
    }
    writing.finish().await;
    let told: Vec<_> = records(&store, "acme").await.iter().map(counted).collect();
    assert_eq!(told[0], (DROPPED.to_owned(), 7, String::new()));
    assert_eq!(told.len(), 4);
    drop(reads.begin("ListSlos", &context("acme"), &String::new()));
    store.close().await;
}

#[tokio::test]
async fn a_batch_waits_for_more_but_not_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = opened(&folder).await;
    let config = Config { reads_flush_ms: 10, audit_anchor_interval_seconds: 0, ..Config::default() };
    let (reads, writing) = begin(&config, store.clone(), Clock::held(7));
    drop(reads.begin("ListSlos", &context("acme"), &String::new()));
    let written = async {
        while records(&store, "acme").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.expect("written while the process runs");
    writing.finish().await;
    store.close().await;
}

#[tokio::test]
async fn a_record_that_the_database_refuses_holds_up_nothing_and_is_counted() {
    sqlx::any::install_default_drivers();
    let folder = tempfile::tempdir().expect("a folder");
    let store = opened(&folder).await;
    let url = format!("sqlite:{}", folder.path().join("reads.db").display());
    let pool = sqlx::AnyPool::connect(&url).await.expect("opened");
    let trigger = "CREATE TRIGGER refuses BEFORE INSERT ON audit WHEN NEW.service_id = 'cursed' \
                   BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    sqlx::query(trigger).execute(&pool).await.expect("made");
    pool.close().await;
    let config = Config { reads_flush_ms: 10, audit_anchor_interval_seconds: 0, ..Config::default() };
    let (reads, writing) = begin(&config, store.clone(), Clock::held(7));
    for service in ["checkout", "cursed", "cursed"] {
        drop(reads.begin("ListSlos", &context("acme"), &String::new()).of_service(service));
    }
    drop(reads.begin("ListSlos", &context("other"), &String::new()));
    let written = async {
        while records(&store, "other").await.is_empty() || records(&store, "acme").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.expect("the next tenant has its turn");
    writing.finish().await;
    let told: Vec<_> = records(&store, "acme").await.iter().map(counted).collect();
    let (lost, kept) = ((DROPPED.to_owned(), 2, String::new()), ("read.slos".to_owned(), 1, "ABANDONED".to_owned()));
    assert_eq!(told, [kept, lost]);
    store.close().await;
}
