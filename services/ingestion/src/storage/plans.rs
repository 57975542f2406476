//! The hot queries use the index that they are meant to, on both databases, and read no table whole.

use attain_runtime::database::Dialect;
use attain_vocabulary::DAY_MS;
use sqlx::{AssertSqlSafe, Row as _};

use super::testing::{bucket, edge, id, on_both_databases, tenant};
use super::{
    DeclaredEdge, PackCursor, Store, blocks, buckets, changes, entities, exemplars, forgetting, history, incidents,
    observations, operations, packing, partitions, retention, spans,
};
use crate::domain::DependencyTerms;

on_both_databases!(hot_queries_use_their_indexes);

/// A query with values for its parameters, and the columns that the index is searched by.
struct Hot {
    sql: String,
    searched_by: &'static [&'static str],
}

fn hot(sql: &str, values: &[&str], searched_by: &'static [&'static str]) -> Hot {
    let mut sql = sql.to_owned();
    for (i, value) in values.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}", i + 1), value);
    }
    assert!(!sql.contains('$'), "a parameter is left: {sql}");
    Hot { sql, searched_by }
}

fn hot_queries(dialect: Dialect) -> Vec<Hot> {
    let (acme, checkout) = ("'acme'", "'checkout'");
    let (from, to) = ("86400000", "7776000000");
    let of_series = &["tenant_id", "service_id"];
    let series_and_time = &["tenant_id", "service_id", "start_ms"];
    let series_and_day = &["tenant_id", "service_id", "day_ms"];
    let listed = |sql: &str| format!("{sql} ($4, $5)");
    let mut all = vec![
        hot(history::ROWS, &[acme, checkout, from, to, "2001"], series_and_time),
        hot(history::ROWS_WITHOUT_LATENCY, &[acme, checkout, from, to, "2001"], series_and_time),
        hot(history::BLOCKS, &[acme, checkout, from, to, "16"], series_and_day),
        hot(history::BLOCKS_WITHOUT_LATENCY, &[acme, checkout, from, to, "16"], series_and_day),
        hot(history::ROW_TIMES, &[acme, checkout], of_series),
        hot(history::BLOCK_TIMES, &[acme, checkout], of_series),
        // PostgreSQL may filter a short list instead of searching by it.
        hot(&listed(buckets::STORED), &[acme, checkout, "1", from, to], of_series),
        hot(buckets::OF_A_DAY, &[acme, checkout, "1", from, to], series_and_time),
        hot(buckets::FORGET_DAY, &[acme, checkout, "1", from, to], series_and_time),
        hot(buckets::OLDEST, &[acme, checkout, from, to], series_and_time),
        hot(&format!("{} ($3, $4)", blocks::OF_A_DAY), &[acme, from, checkout, "'payment'"], series_and_day),
        hot(&format!("{} ($3, $4)", blocks::OF_A_SERVICE), &[acme, checkout, from, to], of_series),
        hot(packing::ROWS, &[acme, checkout, from, to], series_and_time),
        hot(packing::NEXT_TENANT, &[acme], &["tenant_id"]),
        hot(packing::CANDIDATES, &[acme, checkout, to, "250"], &["tenant_id", "id"]),
        hot(changes::AFTER, &["7", "1000"], &["sequence"]),
        hot(&format!("{} ($2, $3)", changes::HEADS), &[acme, checkout, "'payment'"], of_series),
        hot(entities::PAGE, &[acme, checkout, "'%'", "100"], &["tenant_id", "id"]),
        hot(entities::CALLEES, &[acme, checkout], &["tenant_id", "caller_id"]),
        hot(entities::CALLERS, &[acme, checkout], &["tenant_id", "callee_id"]),
        hot(&exemplars::FORGOTTEN.sql(), &[from, "500"], &["hour_ms"]),
        hot(&operations::FORGOTTEN.sql(), &["20000", "500"], &["day"]),
        hot(&spans::RECEIPTS.sql(), &[from, "500"], &["received_ms"]),
        hot(&spans::SETTLEMENTS.sql(), &["7", "25"], &["settlement"]),
        hot(forgetting::KEYS, &[acme, "'otlp-host/'", "'otlp-host0'", "500"], &["tenant_id", "key"]),
        hot(observations::FORGET_STATES, &[acme, checkout, "'d'"], &["tenant_id", "key"]),
        hot(&format!("{} ($2, $3)", incidents::NAMED), &[acme, checkout, "'payment'"], &["tenant_id"]),
        hot(incidents::NAMED_ANYWHERE, &[checkout], &["name"]),
    ];
    // On PostgreSQL partitions go instead.
    if dialect == Dialect::Sqlite {
        all.extend(retention::statements().iter().map(|sql| hot(sql, &[from, "500"], &["day_ms"])));
    }
    all
}

async fn hot_queries_use_their_indexes(store: &Store) {
    let acme = tenant("acme");
    // Some of everything, over several partitions, and statistics of it.
    for service in ["checkout", "payment"] {
        let buckets = (0..70 * 288).step_by(5).map(|n| (id(service), bucket(n, 5, 1, None)));
        store.replace_buckets(&acme, buckets.collect()).await.expect("kept");
    }
    let listed = |i: u32| DeclaredEdge {
        key: edge(&format!("service-{}", i % 60), &format!("service-{}", i % 59 + 60)),
        said: DependencyTerms::default(),
        listed: true,
    };
    store.declare(&acme, Vec::new(), (0..1_500).map(listed).collect()).await.expect("declared");
    let mut cursor = Some(PackCursor::default());
    while let Some(from) = cursor {
        cursor = store.pack(from, 60 * DAY_MS).await.expect("packed").next;
    }
    let dialect = store.database.dialect();
    let mut connection = store.database.pool().acquire().await.expect("a connection");
    let (explain, before): (_, &[&'static str]) = match dialect {
        // A service never has it analysed: the plan without statistics is the one that counts.
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN", &[]),
        // The tables are small: without this it would rather read them whole, and rightly so.
        Dialect::Postgres => ("EXPLAIN", &["ANALYZE", "SET enable_seqscan = off", "SET enable_bitmapscan = off"]),
    };
    for statement in before.iter().copied() {
        sqlx::query(statement).execute(&mut *connection).await.expect("executed");
    }
    let mut wrong = Vec::new();
    for Hot { sql, searched_by } in hot_queries(dialect) {
        let rows = sqlx::query(AssertSqlSafe(format!("{explain} {sql}"))).fetch_all(&mut *connection).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let lines: Vec<String> = rows.iter().map(|row| line(row, dialect)).collect();
        let searches: Vec<&String> = lines.iter().filter(|line| is_search(line, dialect)).collect();
        let by_all = |line: &&&String| searched_by.iter().all(|column| line.contains(column));
        if lines.iter().any(|line| reads_all(line)) || searches.iter().find(by_all).is_none() {
            wrong.push(format!("{sql} should be searched by {searched_by:?}: {lines:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(partitions::TABLES, ["sli_blocks", "sli_buckets"], "a new partitioned table has hot queries too");
}

fn line(row: &sqlx::any::AnyRow, dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => row.get("detail"),
        Dialect::Postgres => row.get(0),
    }
}

fn is_search(line: &str, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Sqlite => line.contains("SEARCH"),
        Dialect::Postgres => line.contains("Index Cond"),
    }
}

/// Beginnings of the names of tables that grow.
const TABLES: &[&str] = &[
    "sli_",
    "changes",
    "entities",
    "dependencies",
    "tenants",
    "exemplars",
    "operations",
    "span_receipts",
    "settled_spans",
    "counter_states",
    "incident",
];

fn reads_all(line: &str) -> bool {
    // "SCAN CONSTANT ROW" and scans of subqueries are of no table.
    let sqlite = line.starts_with("SCAN ") && TABLES.iter().any(|table| line[5..].starts_with(table));
    sqlite || line.contains("Seq Scan")
}
