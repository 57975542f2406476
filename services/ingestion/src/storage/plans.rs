//! Queries use the index that they are meant to, on both databases, and none reads a table whole that grows.
//!
//! On PostgreSQL the tables are filled and analysed, and the plan is the planner's own choice; SQLite is never analysed by a
//! service, so the plan without statistics is the one that counts.

use std::collections::BTreeSet;

use attain_runtime::database::Dialect;
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, LatencyHistogram, Source, UtilisationKind};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AssertSqlSafe, Executor as _, Row as _};

use super::contract_catalogue::{apply, three};
use super::recorded::recorded;
use super::testing::{bucket, edge, id, on_both_databases, tenant};
use super::{
    BucketSpan, DaySpan, DeclaredEdge, HeldVersion, PackCursor, ReceivedSpans, SpanMemory, Store, blocks, buckets,
    changes, entities, epochs, exemplars, forgetting, history, incidents, observations, operations, packing,
    partitions, regions, request_samples, retention, said, spans, tails, topology, utilisation,
};
use crate::domain::{
    BucketMode, DependencyKey, DependencyTerms, Exemplar, IncidentDraft, ObservationBatch, ObservedBucket,
    ObservedEdge, ObservedOperation, ObservedUtilisation, OperationCounts, OperationKey, Region, RegionalBucket,
    RequestSample, SettledFingerprints, SettledSpans, Sightings, UtilisationBucket,
};

on_both_databases!(queries_use_their_indexes_and_read_no_table_whole);

/// Tables that grow with services, traffic or time.
const LARGE: [&str; 19] = [
    "sli_buckets",
    "sli_blocks",
    "changes",
    "entities",
    "dependencies",
    "said_edges",
    "incidents",
    "incident_services",
    "counter_states",
    "span_log",
    "span_progress",
    "span_receipts",
    "settled_spans",
    "operations",
    "exemplars",
    "request_samples",
    "utilisation_days",
    "region_days",
    "service_regions",
];

/// What may read a table whole.
const WHOLE: [&str; 4] = [
    // Once at the start of the receiver.
    "SELECT COUNT(*) AS kept, CAST(COALESCE(SUM(LENGTH(payload)), 0) AS BIGINT) AS bytes FROM span_log",
    // A row a settlement of the last hour.
    "SELECT MIN(settlement) AS settlement FROM settled_spans",
    "SELECT settlement FROM (SELECT settlement, LENGTH(fingerprints) AS own",
    // So many of the index as receipts may stay.
    "SELECT received_ms FROM span_receipts ORDER BY received_ms DESC LIMIT 1 OFFSET",
];

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
        hot(&history::blocks_as_lines(dialect, true), &[acme, checkout, from, to, "16"], series_and_day),
        hot(&history::blocks_as_lines(dialect, false), &[acme, checkout, from, to, "16"], series_and_day),
        hot(history::ROW_TIMES, &[acme, checkout], of_series),
        hot(history::BLOCK_TIMES, &[acme, checkout], of_series),
        // PostgreSQL may filter a short list instead of searching by it.
        hot(&listed(buckets::STORED), &[acme, checkout, "1", from, to], of_series),
        hot(buckets::OF_A_DAY, &[acme, checkout, "1", from, "172800000"], series_and_time),
        hot(buckets::FORGET_DAY, &[acme, checkout, "1", from, "172800000"], series_and_time),
        hot(buckets::OLDEST, &[acme, checkout, from, to], series_and_time),
        hot(&format!("{} ($3, $4)", blocks::OF_A_DAY), &[acme, from, checkout, "'payment'"], &["tenant_id", "day_ms"]),
        hot(&format!("{} ($3, $4)", blocks::OF_A_SERVICE), &[acme, checkout, from, to], of_series),
        hot(packing::ROWS, &[acme, checkout, from, to], series_and_time),
        hot(packing::CANDIDATES, &[acme, checkout, to, "250"], &["tenant_id", "id"]),
        hot(&changes::after(dialect), &["7", "1000"], &["sequence"]),
        hot(&format!("{} ($2, $3)", changes::HEADS), &[acme, checkout, "'payment'"], of_series),
        hot(tails::OF_SERVICE, &[acme, checkout, "2"], &["tenant_id", "service_id", "kind"]),
        hot(&topology::changed_lines(dialect), &[acme, "7"], &["tenant_id", "sequence"]),
        hot(entities::PAGE, &[acme, checkout, "'%'", "100"], &["tenant_id", "id"]),
        hot(entities::CALLEES, &[acme, checkout], &["tenant_id", "caller_id"]),
        hot(entities::CALLERS, &[acme, checkout], &["tenant_id", "callee_id"]),
        hot(said::CALLEES, &[acme, checkout], &["tenant_id", "caller_id"]),
        hot(forgetting::KEYS, &[acme, "'otlp-host/'", "'otlp-host0'", "500"], &["tenant_id", "key"]),
        hot(observations::FORGET_STATES, &[acme, checkout, "'d'"], &["tenant_id", "key"]),
        hot(&entities::entity_lines(dialect), &[acme], &["tenant_id"]),
        hot(
            &request_samples::hours_as_lines(dialect),
            &[acme, checkout, from, to, "100"],
            &["tenant_id", "service_id", "hour_ms"],
        ),
        hot(
            &format!("{} ($3, $4)", request_samples::OF_AN_HOUR),
            &[acme, from, checkout, "'payment'"],
            &["tenant_id", "hour_ms"],
        ),
        hot(regions::IN_SPAN, &[acme, checkout, from, to], series_and_day),
        hot(regions::OF_REGION, &[acme, checkout, from, to, "'eu'"], series_and_day),
        hot(regions::NAMED, &[acme, checkout], of_series),
        hot(utilisation::PAGE, &[acme, checkout, from, to, "100"], series_and_day),
        hot(&listed(utilisation::OF_A_DAY), &[acme, from, "1", checkout, "'payment'"], series_and_day),
    ];
    all.extend(retention::statements(dialect).iter().map(|sql| hot(sql, &[from, "500"], &["day_ms"])));
    if dialect == Dialect::Sqlite {
        // Small tables, which PostgreSQL rightly reads whole.
        all.push(hot(packing::NEXT_TENANT, &[acme], &["tenant_id"]));
        all.push(hot(epochs::OF, &["7"], &["first_sequence"]));
        all.push(hot(changes::EPOCHS, &["7", "1000"], &["first_sequence"]));
    }
    all
}

/// Of tables that are small here, or of which most goes: that an index can be used is all that can be seen of them.
fn queries_of_few_rows() -> Vec<Hot> {
    let (acme, checkout, from) = ("'acme'", "'checkout'", "86400000");
    vec![
        hot(&exemplars::FORGOTTEN.sql(), &[from, "500"], &["hour_ms"]),
        hot(&request_samples::FORGOTTEN.sql(), &[from, "500"], &["hour_ms"]),
        hot(&operations::FORGOTTEN.sql(), &["20000", "500"], &["day"]),
        hot(&spans::RECEIPTS.sql(), &[from, "500"], &["received_ms"]),
        hot(&spans::SETTLEMENTS.sql(), &["7", "25"], &["settlement"]),
        hot(&format!("{} ($2, $3)", incidents::NAMED), &[acme, checkout, "'payment'"], &["tenant_id"]),
        hot(&format!("{} ($2, $3)", regions::KNOWN), &[acme, checkout, "'payment'"], &["tenant_id"]),
        hot(&format!("{} ($4, $5)", regions::OF_A_DAY), &[acme, from, "1", checkout, "'payment'"], &["tenant_id"]),
        hot(incidents::NAMED_ANYWHERE, &[checkout], &["name"]),
    ]
}

async fn queries_use_their_indexes_and_read_no_table_whole(store: &Store) {
    let dialect = store.database.dialect();
    let statements = recorded(everything(store)).await;
    assert!(statements.len() > 60, "{} statements: {statements:#?}", statements.len());
    let untouched: Vec<_> = LARGE.iter().filter(|table| !statements.iter().any(|sql| sql.contains(*table))).collect();
    assert!(untouched.is_empty(), "nothing is done to {untouched:?}");
    let mut connection = store.database.pool().acquire().await.expect("a connection");
    if dialect == Dialect::Postgres {
        for statement in [OTHER_TENANTS, "ANALYZE", "SET plan_cache_mode = force_custom_plan"] {
            connection.execute(statement).await.expect("executed");
        }
    }
    let mut wrong = searched_otherwise(&mut connection, dialect, hot_queries(dialect)).await;
    for sql in statements.iter().filter(|sql| has_a_plan(sql) && !WHOLE.iter().any(|whole| sql.starts_with(whole))) {
        let lines = match dialect {
            Dialect::Sqlite => explained(&mut connection, dialect, sql).await,
            Dialect::Postgres => explained_prepared(&mut connection, sql).await,
        };
        if lines.iter().any(|line| reads_all(line)) {
            wrong.push(format!("{sql} reads a table whole: {lines:#?}"));
        }
    }
    if dialect == Dialect::Postgres {
        for statement in ["SET enable_seqscan = off", "SET enable_bitmapscan = off"] {
            connection.execute(statement).await.expect("executed");
        }
    }
    wrong.extend(searched_otherwise(&mut connection, dialect, queries_of_few_rows()).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(partitions::TABLES, ["sli_blocks", "sli_buckets"], "a new partitioned table has hot queries too");
}

/// Those that are not searched by what they should be.
async fn searched_otherwise(connection: &mut PoolConnection<Any>, dialect: Dialect, queries: Vec<Hot>) -> Vec<String> {
    let mut wrong = Vec::new();
    for Hot { sql, searched_by } in queries {
        let lines = explained(connection, dialect, &sql).await;
        let by_all =
            |line: &&String| is_search(line, dialect) && searched_by.iter().all(|column| line.contains(column));
        if lines.iter().any(|line| reads_all(line)) || lines.iter().find(by_all).is_none() {
            wrong.push(format!("{sql} should be searched by {searched_by:?}: {lines:#?}"));
        }
    }
    wrong
}

/// The rows of the tenant for many others.
const OTHER_TENANTS: &str = "DO $$
    DECLARE of RECORD;
    BEGIN
        FOR of IN
            SELECT relname, string_agg(quote_ident(attname), ', ') FILTER (WHERE attname <> 'tenant_id') AS rest
            FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
            WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
            GROUP BY relname HAVING bool_or(attname = 'tenant_id')
        LOOP
            EXECUTE format('INSERT INTO %1$I (tenant_id, %2$s) SELECT ''other-'' || n, %2$s FROM %1$I, generate_series(1, 50) AS n
                WHERE tenant_id = ''acme''', of.relname, of.rest);
        END LOOP;
    END $$";

async fn explained(connection: &mut PoolConnection<Any>, dialect: Dialect, sql: &str) -> Vec<String> {
    let explain = if dialect == Dialect::Sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
    let rows = sqlx::query(AssertSqlSafe(format!("{explain} {sql}"))).fetch_all(&mut **connection).await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let line = |row: &sqlx::any::AnyRow| if dialect == Dialect::Sqlite { row.get("detail") } else { row.get(0) };
    rows.iter().map(line).collect()
}

/// With values of which there are few.
async fn explained_prepared(connection: &mut PoolConnection<Any>, sql: &str) -> Vec<String> {
    let prepared = connection.execute(AssertSqlSafe(format!("PREPARE explained AS {sql}"))).await;
    prepared.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let types =
        "SELECT array_to_string(parameter_types, ',') AS types FROM pg_prepared_statements WHERE name = 'explained'";
    let types: String = sqlx::query(types).fetch_one(&mut **connection).await.expect("read").get("types");
    let value = |of: &str| match of {
        "text" => "'acme'",
        "bytea" => "'\\x00'",
        _ => "1",
    };
    let values: Vec<&str> = types.split(',').filter(|of| !of.is_empty()).map(value).collect();
    let execute = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
    let lines = explained(connection, Dialect::Postgres, &format!("EXECUTE explained{execute}")).await;
    connection.execute("DEALLOCATE explained").await.expect("executed");
    lines
}

fn has_a_plan(sql: &str) -> bool {
    ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|word| sql.starts_with(word)) && !sql.contains("pg_")
}

fn is_search(line: &str, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Sqlite => line.contains("SEARCH"),
        Dialect::Postgres => line.contains("Index Cond"),
    }
}

/// "SCAN CONSTANT ROW" and scans of subqueries are of no table; partitions are named after theirs, and some are empty.
fn reads_all(line: &str) -> bool {
    if line.contains("(cost=0.00..0.00 ") {
        return false;
    }
    let scanned = line.strip_prefix("SCAN ").or_else(|| line.split_once("Seq Scan on ").map(|(_, table)| table));
    let table = scanned.and_then(|scanned| scanned.split([' ', '(']).next()).unwrap_or_default();
    let table = table.rsplit_once("_p").filter(|(_, n)| n.parse::<i64>().is_ok()).map_or(table, |(table, _)| table);
    LARGE.contains(&table)
}

/// The edges of a mesh of services.
fn between(i: u32) -> DependencyKey {
    edge(&format!("service-{}", i % 60), &format!("service-{}", i % 59 + 60))
}

/// Some of everything that a store does, over several partitions.
async fn everything(store: &Store) {
    let acme = tenant("acme");
    for service in ["checkout", "payment"] {
        let buckets = (0..70 * 288).step_by(5).map(|n| (id(service), bucket(n, 5, 1, None)));
        store.replace_buckets(&acme, buckets.collect()).await.expect("kept");
    }
    let listed = |i: u32| DeclaredEdge { key: between(i), said: DependencyTerms::default(), listed: true };
    store.declare(&acme, Vec::new(), (0..1_500).map(listed).collect()).await.expect("declared");
    apply(store, "acme", &three()).await;
    store.applied_sweep(&acme).await.expect("read");
    observe(store).await;
    tell_incidents(store).await;
    let mut cursor = Some(PackCursor::default());
    while let Some(from) = cursor {
        cursor = store.pack(from, 60 * DAY_MS).await.expect("packed").next;
    }
    // Late, and much of a day that is over.
    store.close_days_before(60 * DAY_MS);
    store.replace_buckets(&acme, vec![(id("checkout"), bucket(7, 5, 1, None))]).await.expect("kept");
    let day = (288..576).map(|n| (id("payment"), bucket(n, 9, 1, None)));
    store.replace_buckets(&acme, day.collect()).await.expect("kept");
    read(store).await;
    store.expire(DAY_MS, 500).await.expect("deleted");
}

async fn observe(store: &Store) {
    let acme = tenant("acme");
    let export = |n: u32| ReceivedSpans {
        tenant: acme.clone(),
        digest: u128::from(n).to_be_bytes(),
        payload: n.to_be_bytes().to_vec(),
    };
    let received = store.append_spans(5, &(0..400).map(export).collect::<Vec<_>>()).await.expect("kept");
    let row =
        |sequence: &Option<i64>, remaining| SettledSpans { sequence: sequence.expect("new"), revision: 0, remaining };
    let begun = received.iter().take(200).map(|sequence| row(sequence, Some(vec![1])));
    let done = received[200..210].iter().map(|sequence| row(sequence, None));
    let services = || (0..100_i64).map(|i| (i, id(&format!("service-{i}"))));
    let used = |i: i64| UtilisationBucket::new(i * DAY_MS, UtilisationKind::Cpu, 0.5, 0.5, 1).expect("valid");
    let latency = LatencyHistogram::from_explicit(&[10.0], &[1, 0]).expect("valid");
    let of_checkout = services().take(10).map(|(_, service)| edge("checkout", service.as_str()));
    let of_checkout_sampled = (0..500).map(|hour| sampled(id("checkout"), hour));
    let batch = ObservationBatch {
        edges: (0..1_500)
            .map(between)
            .chain(of_checkout)
            .map(|key| ObservedEdge {
                key,
                source: Source::Traces,
                asynchronous: None,
                protocol: None,
                sightings: Sightings { call_count: 1, ..Sightings::default() },
            })
            .collect(),
        buckets: (0..20)
            .map(|n| ObservedBucket {
                service: id("checkout"),
                source: Source::Traces,
                mode: BucketMode::Add,
                bucket: bucket(65 * 288 + n, 1, 0, None),
            })
            .collect(),
        regional: services()
            .chain((0..200).map(|i| (i, id("checkout"))))
            .map(|(i, service)| in_region(i, service))
            .collect(),
        utilisation: services()
            .map(|(i, service)| ObservedUtilisation {
                service,
                source: Source::Prometheus,
                mode: BucketMode::Add,
                bucket: used(i),
            })
            .collect(),
        exemplars: services()
            .map(|(i, service)| Exemplar {
                service,
                trace_id: i as u128 + 1,
                span_id: 1,
                time_ms: i * DAY_MS,
                latency_us: 1,
                failed: i % 2 == 0,
            })
            .collect(),
        request_samples: services().map(|(i, service)| sampled(service, i)).chain(of_checkout_sampled).collect(),
        operations: services()
            .map(|(day, service)| ObservedOperation {
                key: OperationKey { service, callee: None, name: "GET /".into(), day },
                seen: OperationCounts { request_count: 1, bad_count: 0, latency: latency.clone() },
            })
            .collect(),
        counter_states: services().map(|(_, service)| (service.to_string(), Some(vec![1]))).collect(),
        settled_spans: begun.chain(done).collect(),
        settled_fingerprints: Some(SettledFingerprints { settled_ms: 5, fingerprints: vec![1] }),
        ..ObservationBatch::default()
    };
    store.observe(&acme, &["service-1".to_owned()], |_| batch).await.expect("applied");
    let forgotten = ObservationBatch {
        counter_states: [("service-2".to_owned(), None)].into(),
        // More of an hour than are kept.
        exemplars: (0..9)
            .map(|i| Exemplar {
                service: id("service-1"),
                trace_id: 100 + i,
                span_id: 1,
                time_ms: DAY_MS + i as i64,
                latency_us: 9,
                failed: false,
            })
            .collect(),
        ..ObservationBatch::default()
    };
    store.observe(&acme, &[], |_| forgotten).await.expect("applied");
    for n in 0..20 {
        let fingerprints = (n * 50..(n + 1) * 50).collect();
        let settled_fingerprints = Some(SettledFingerprints { settled_ms: 5, fingerprints });
        let batch = ObservationBatch { settled_fingerprints, ..ObservationBatch::default() };
        store.observe(&acme, &[], |_| batch).await.expect("applied");
    }
    store.forget_counter_states("service-3", "service-30").await.expect("forgotten");
    store.counter_keys(&acme, ("service-1", "service-2"), 10).await.expect("read");
    store.forget_operations(2, 10).await.expect("forgotten");
    store.forget_exemplars(DAY_MS, 10).await.expect("forgotten");
    store.forget_request_samples(DAY_MS, 10).await.expect("forgotten");
    let memory = SpanMemory { before_ms: 1, receipts_max: 1_000, settled_max: 1_000_000 };
    let forgettable = store.forgettable_spans(memory).await.expect("read");
    store.forget_spans(forgettable, 10).await.expect("forgotten");
}

/// What one of three regions answered on a day.
fn in_region(day: i64, service: EntityId) -> RegionalBucket {
    let region = Region::new("region", ["eu", "us", "asia"][(day % 3) as usize]).expect("valid");
    let bucket = bucket(day * 288, 1, 0, None);
    RegionalBucket {
        region,
        observed: ObservedBucket { service, source: Source::Traces, mode: BucketMode::Add, bucket },
    }
}

/// A request of an hour, numbered.
fn sampled(service: EntityId, hour: i64) -> RequestSample {
    RequestSample {
        service,
        rank: 1,
        start_time_us: hour * 3_600_000_000,
        duration_us: 1,
        failed: false,
        calls: Vec::new(),
        truncated: false,
    }
}

async fn tell_incidents(store: &Store) {
    let acme = tenant("acme");
    let incident = |n: i64| {
        let draft = IncidentDraft {
            id: format!("INC-{n}"),
            title: "Down".into(),
            service_ids: vec![format!("service-{}", n % 100)],
            start_ms: n * BUCKET_MS,
            ..IncidentDraft::default()
        };
        draft.check(i64::MAX).expect("valid")
    };
    store.put_incidents(&acme, (0..300).map(incident).collect()).await.expect("kept");
    store
        .change_incident(&acme, "INC-1", |incident| {
            incident.title = "Up".into();
            Ok(())
        })
        .await
        .expect("changed");
    assert!(store.remove_incident(&acme, "INC-2", |_| true).await.expect("removed"));
    store.link_named("shop", &id("checkout")).await.expect("linked");
}

async fn read(store: &Store) {
    let (acme, checkout) = (tenant("acme"), id("checkout"));
    let all = BucketSpan { start_ms: 0, end_ms: i64::MAX };
    let names = BTreeSet::from([id("checkout"), id("payment")]);
    for with_latency in [true, false] {
        store.sli_page(&acme, &checkout, all, 2_000, with_latency).await.expect("read");
    }
    store.data_summary(&acme, &checkout).await.expect("read");
    store.topology(&acme).await.expect("read");
    let whole = store.visit_topology(&acme, None, |_| (), |_| ()).await.expect("read");
    for version in [1, whole.version - 1] {
        let held = Some(HeldVersion { version, epoch: &whole.epoch });
        store.visit_topology(&acme, held, |_| (), |_| ()).await.expect("read");
    }
    store.entity(&acme, &checkout).await.expect("read");
    store.entities(&acme, "check", None, 10).await.expect("read");
    store.known_services(&acme, &names).await.expect("read");
    store.change_heads(&acme, &names).await.expect("read");
    store.changes_after(3, 10).await.expect("read");
    store.newest_sequence().await.expect("read");
    store.change_epoch(3).await.expect("read");
    store.incidents(&acme, None, None, 10).await.expect("read");
    store.incidents(&acme, Some(&checkout), None, 10).await.expect("read");
    store.utilisation_page(&acme, &checkout, all, 10).await.expect("read");
    store.operations(&acme, &checkout, DaySpan { first_day: 0, end_day: 9 }, None, 10).await.expect("read");
    store.regions(&acme, &checkout).await.expect("read");
    let europe = Region::new("region", "eu").expect("valid");
    for only in [None, Some(&europe)] {
        store.regional_history(&acme, &checkout, all, only).await.expect("read");
    }
    store.exemplars(&acme, &checkout, all, None, 10).await.expect("read");
    store.request_samples(&acme, &checkout, all, 10).await.expect("read");
    store.pending_spans(0, 10).await.expect("read");
    store.newest_spans().await.expect("read");
    store.span_log_size().await.expect("read");
    store.settled_fingerprints(10).await.expect("read");
}
