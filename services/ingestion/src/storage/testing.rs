//! Stores to test on: SQLite always, PostgreSQL where `ATTAIN_TEST_POSTGRES_URL` names a server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, LatencyHistogram, SliBucket, TenantId};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

use super::Capacity;
use crate::domain::DependencyKey;

pub(crate) const POSTGRES_URL: &str = "ATTAIN_TEST_POSTGRES_URL";
pub(crate) const CAPACITY: Capacity = Capacity {
    entities_max: 2_000,
    dependencies_max: 2_000,
    operations_per_service_max: 3,
    call_rate_days: 28,
    request_samples_per_hour: 3,
};

/// Runs each promise of a suite on both databases.
macro_rules! on_both_databases {
    ($($promise:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let folder = tempfile::tempdir().expect("a folder");
                let url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
                let store = crate::storage::Store::open(&url, crate::storage::testing::CAPACITY).await.expect("opened");
                super::$promise(&store).await;
                store.close().await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let Some(fresh) = crate::storage::testing::FreshDatabase::create().await else { return };
                let store = crate::storage::Store::open(&fresh.url, crate::storage::testing::CAPACITY).await.expect("opened");
                super::$promise(&store).await;
                store.close().await;
                fresh.remove().await;
            })+
        }
    };
}
pub(crate) use on_both_databases;

/// A PostgreSQL database of a test's own.
pub(crate) struct FreshDatabase {
    pub(crate) url: String,
    server: String,
    name: String,
}

impl FreshDatabase {
    /// `None`, and a line that says so, where no server is named.
    pub(crate) async fn create() -> Option<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var(POSTGRES_URL) else {
            eprintln!("SKIPPED: {POSTGRES_URL} is not set");
            return None;
        };
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
        let name = format!("test_{}_{nanos}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        execute(&server, &format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').expect("postgres://host:port/database");
        Some(Self { url: format!("{base}/{name}"), server, name })
    }

    pub(crate) async fn remove(self) {
        execute(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn execute(server: &str, sql: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(server).await.expect("PostgreSQL answers");
    connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("executed");
    connection.close().await.expect("closed");
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new("tenant", name).expect("valid")
}

pub(crate) fn id(name: &str) -> EntityId {
    EntityId::new("id", name).expect("valid")
}

pub(crate) fn edge(caller: &str, callee: &str) -> DependencyKey {
    DependencyKey::new(id(caller), id(callee)).expect("two nodes")
}

/// The `n`-th bucket of history, with latency.
pub(crate) fn bucket(n: i64, valid: u64, bad: u64, inherited: Option<u64>) -> SliBucket {
    let counts = BucketCounts::new(valid, bad, inherited).expect("nested");
    let latency = LatencyHistogram::from_explicit(&[10.0, 100.0], &[valid, 0, 0]).expect("valid");
    SliBucket::new(n * BUCKET_MS, counts, Default::default(), Some(latency)).expect("valid")
}
