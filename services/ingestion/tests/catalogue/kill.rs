//! kill −9 between the last page and the end of its taking over: all of a sweep is there afterwards, or nothing of it.
//!
//! The test runs itself again as a process of its own, which it kills.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::process::{Child, Command};

use super::backstage::{Backstage, LATER, PARCELS, pages};
use super::{Served, catalogue, edges};

const CHILD: &str = "ATTAIN_TEST_CATALOGUE_CHILD";
const POSTGRES_URL: &str = "ATTAIN_TEST_POSTGRES_URL";

/// Follows the catalogue until it is killed; only in the process that a test started.
async fn follow_where_told() -> bool {
    let Ok(told) = std::env::var(CHILD) else { return false };
    let (database_url, backstage_url) = told.split_once(' ').unwrap();
    let settings = catalogue(backstage_url, json!({ "timeout_seconds": 60 }));
    let served = Served::start_on(database_url, tempfile::tempdir().unwrap(), settings).await;
    std::future::pending::<()>().await;
    drop(served);
    true
}

fn child(test: &str, database_url: &str, backstage: &Backstage) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("kill::{test}"), "--nocapture"])
        .env(CHILD, format!("{database_url} {}", backstage.url))
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("ingestion.db").display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_leaves_one_sweep_or_the_other() {
    if follow_where_told().await {
        return;
    }
    let backstage = Backstage::start(PARCELS).await;
    let settings = || catalogue(&backstage.url, json!({}));
    let mut whole = Vec::new();
    let mut folder = tempfile::tempdir().unwrap();
    for recorded in [PARCELS, LATER] {
        backstage.holds(pages(recorded));
        let served = Served::start(folder, settings()).await;
        served.wait_current().await;
        let topology = edges(&served.topology().await);
        folder = served.stop().await;
        whole.push((topology, stored_edges(&sqlite(folder.path())).await));
    }
    let (mut before, mut after) = (0, 0);
    for round in 0..10 {
        let (from, to) = if round % 2 == 0 { (1, 0) } else { (0, 1) };
        backstage.holds(pages([PARCELS, LATER][to]));
        let mut child = child("a_kill_at_any_moment_leaves_one_sweep_or_the_other", &sqlite(folder.path()), &backstage);
        backstage.answers(pages([PARCELS, LATER][to]).len()).await;
        // Not to wait for anything: each round kills at another moment of the taking over.
        tokio::time::sleep(Duration::from_millis((1 << round) - 1)).await;
        child.kill().await.unwrap();
        backstage.holds(pages([PARCELS, LATER][from]));
        let url = format!("{}?mode=ro", sqlite(folder.path()));
        let found = stored_edges(&url).await;
        assert!(found == whole[from].1 || found == whole[to].1, "{found:?}");
        if found == whole[from].1 {
            before += 1
        } else {
            after += 1
        }
        // On with a state that is known.
        backstage.holds(pages([PARCELS, LATER][to]));
        let served = Served::start(folder, settings()).await;
        served.wait_current().await;
        assert_eq!(edges(&served.topology().await), whole[to].0);
        folder = served.stop().await;
    }
    println!("of 10 kills {before} came before the commit and {after} after it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_the_sweep_and_its_taking_over_leaves_nothing_of_it() {
    if follow_where_told().await {
        return;
    }
    let Ok(server) = std::env::var(POSTGRES_URL) else {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "{POSTGRES_URL} is required and not set");
        println!("SKIPPED: {POSTGRES_URL} is not set");
        return;
    };
    sqlx::any::install_default_drivers();
    let mut server_connection = AnyConnection::connect(&server).await.unwrap();
    let name = format!("test_catalogue_kill_{}", std::process::id());
    server_connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let database_url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);

    let backstage = Backstage::start(PARCELS).await;
    let settings = || catalogue(&backstage.url, json!({}));
    let served = Served::start_on(&database_url, tempfile::tempdir().unwrap(), settings()).await;
    served.wait_current().await;
    let before = served.topology().await;
    served.stop().await;

    // Whoever holds the tenant's row keeps the sweep from being taken over.
    backstage.holds(pages(LATER));
    let mut holder = AnyConnection::connect(&database_url).await.unwrap();
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT topology_version FROM ingestion.tenants FOR UPDATE").await.unwrap();
    let mut child =
        child("a_kill_between_the_sweep_and_its_taking_over_leaves_nothing_of_it", &database_url, &backstage);
    wait_for_a_waiter(&mut server_connection, &name).await;
    child.kill().await.unwrap();
    holder.execute("ROLLBACK").await.unwrap();
    holder.close().await.unwrap();

    backstage.holds(pages(PARCELS));
    let served = Served::start_on(&database_url, tempfile::tempdir().unwrap(), settings()).await;
    served.wait_current().await;
    assert_eq!(served.topology().await, before, "not even the version moved");
    backstage.holds(pages(LATER));
    served.wait("later", |status| status.entity_count == 14).await;
    served.stop().await;
    server_connection.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
}

async fn wait_for_a_waiter(server: &mut AnyConnection, database: &str) {
    let waiters = "SELECT COUNT(*) AS waiters FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'";
    for _ in 0..1_500 {
        let row = sqlx::query(waiters).bind(database.to_owned()).fetch_one(&mut *server).await.unwrap();
        if row.get::<i64, _>("waiters") > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the sweep never came to its taking over");
}

/// Callers with what is stored of their edges.
async fn stored_edges(url: &str) -> std::collections::BTreeSet<(String, Vec<u8>)> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.unwrap();
    let rows = connection.fetch_all("SELECT caller_id, edges FROM said_edges").await.unwrap();
    connection.close().await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
