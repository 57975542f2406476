//! Traces from the wire to storage: written as text, reduced, logged, assembled, joined, settled, read back.

use attain_vocabulary::{DependencyMode, EntityKind, TenantId};
use proptest::prelude::*;

use super::assembler::{Assembler, RowState, Workbench};
use super::hosts::Hosts;
use super::join::{Joined, Joiner, Surroundings};
use super::names::{Names, Symbol};
use super::recent::Producers;
use super::sampler::Sampler;
use super::settler::Settling;
use super::span::{Span, SpanKind, Spans};
use super::tally::Tally;
use super::testing::{Bench, HOSTS, LATER_MS, NOW_MS, PATIENCE, SAMPLES, SETTLING, received, reduced, spans};
use crate::domain::ObservationBatch;
use crate::storage::CounterStates;

/// Storefront has a fallback for cart; price fails and cart with it.
const SHOP: &str = "
    1 0 storefront server 0 100
    2 1 storefront client 10 60 ! server.address=cart.internal http.request.method=GET
    3 2 cart server 15 55 ! http.response.status_code=500
    4 3 cart internal 16 54
    5 4 cart client 20 50 ! rpc.system=grpc rpc.grpc.status_code=13
    6 5 price server 22 48 !
    7 6 price client 25 30 db.system=postgresql db.name=prices";

#[tokio::test]
async fn failures_are_own_inherited_or_rescued() {
    let seen = Bench::settled(SHOP).await;
    assert_eq!(seen.edge_names(), ["cart>price", "price>postgresql/prices", "storefront>cart"]);
    assert_eq!(seen.edge("storefront>cart"), (1, 1, 1, 1));
    assert_eq!(seen.edge("cart>price"), (1, 1, 1, 0));
    assert_eq!(seen.edge("price>postgresql/prices"), (1, 1, 0, 0));
    assert_eq!(seen.bucket("storefront"), (1, 0, Some(0), ""));
    assert_eq!(seen.bucket("cart"), (1, 1, Some(1), "price 1"));
    assert_eq!(seen.bucket("price"), (1, 1, Some(0), ""));
    assert_eq!(seen.bucket("postgresql/prices"), (1, 0, None, ""));
    assert_eq!(seen.kinds["postgresql/prices"], (EntityKind::Datastore, 0));
    assert_eq!(seen.kinds["cart"], (EntityKind::Service, 1));
    assert_eq!(seen.kinds.len(), 4, "cart.internal is where cart answers, no node of its own");
    let price = &seen.edges["cart>price"];
    assert_eq!((price.terms.protocol.as_deref(), price.terms.mode), (Some("grpc"), None));
    assert_eq!(price.sightings.first_seen_ms, Some(NOW_MS + 20));
    let waited_ms = price.sightings.latency.as_ref().and_then(|latency| latency.quantile(0.5)).expect("a latency");
    assert!((27.0..=33.0).contains(&waited_ms), "{waited_ms}");
    assert_eq!(seen.waiting, 0);
}

#[tokio::test]
async fn the_failure_that_ended_last_is_charged() {
    let seen = Bench::settled(
        "1 0 a server 0 100 !
         2 1 a client 10 90 ! server.address=slow.example.com
         3 1 a client 20 40 ! server.address=fast.example.com
         4 1 a client 50 60 server.address=slow.example.com",
    )
    .await;
    assert_eq!(seen.bucket("a"), (1, 1, Some(1), "slow.example.com 1"));
    assert_eq!(seen.edge("a>slow.example.com"), (2, 1, 1, 0));
    assert_eq!(seen.edge("a>fast.example.com"), (1, 1, 1, 0));
    assert_eq!(seen.kinds["slow.example.com"].0, EntityKind::External);
    assert_eq!(seen.bucket("slow.example.com"), (2, 1, None, ""));
}

#[tokio::test]
async fn who_asked_for_what_cannot_be_is_not_failed_by_anybody() {
    let seen = Bench::settled(
        "1 0 a server 0 100 ! http.response.status_code=404
         2 1 a client 10 90 ! http.response.status_code=404 server.address=b.example.com",
    )
    .await;
    assert_eq!(seen.bucket("a"), (1, 0, Some(0), ""));
    assert_eq!(seen.edge("a>b.example.com"), (1, 1, 0, 0));
}

#[tokio::test]
async fn calls_are_found_however_they_are_instrumented() {
    // A request below another service's request without a call span; layers of one request; a wrapped call answered at
    // the wire; a wrapped call to a database; a wrapped call answered above the wire; a call to itself; a root that is no
    // request.
    let seen = Bench::settled(
        "1 0 a server 0 100
         2 1 a server 1 99
         3 2 b server 5 20
         4 2 a client 20 30 rpc.system=grpc
         5 4 a client 21 29 server.address=c.internal
         6 5 c server 22 28
         7 2 a client 30 40 db.system=elasticsearch db.namespace=catalogue
         8 7 a client 31 39 server.address=10.0.0.3
         9 2 a client 40 50
         10 9 a client 41 49 server.address=d.internal
         11 9 d server 42 48
         12 2 a client 50 60 server.address=a.internal
         13 12 a server 51 59
         14 0 cron client 0 5 server.address=a.internal
         15 14 a server 1 4",
    )
    .await;
    assert_eq!(seen.edge_names(), ["a>b", "a>c", "a>d", "a>elasticsearch/catalogue", "cron>a"]);
    for edge in ["a>b", "a>c", "a>d", "a>elasticsearch/catalogue"] {
        assert_eq!(seen.edge(edge), (1, 1, 0, 0), "{edge}");
    }
    assert_eq!(seen.edge("cron>a"), (1, 0, 0, 0));
    assert_eq!(seen.kinds["a"], (EntityKind::Service, 3), "two layers are one request");
}

#[tokio::test]
async fn messages_leave_the_request_path() {
    let kafka = "messaging.system=kafka messaging.destination.name=orders";
    let seen = Bench::settled(&format!(
        "1 0 shop server 0 10
         2 1 shop producer 1 2 {kafka}
         3 2 mailer consumer 500 900 ! {kafka}
         4 2 ledger consumer 400 450 {kafka}
         5 1 shop producer 3 4 ! messaging.system=kafka messaging.destination.name=audit"
    ))
    .await;
    assert_eq!(seen.edge_names(), ["shop>kafka/audit", "shop>ledger", "shop>mailer"]);
    assert_eq!(seen.edge("shop>mailer"), (1, 1, 0, 0), "a consumer fails on its own time");
    let mailer = &seen.edges["shop>mailer"];
    assert_eq!((mailer.terms.mode, mailer.terms.protocol.as_deref()), (Some(DependencyMode::Async), Some("kafka")));
    assert_eq!(mailer.sightings.latency, None);
    assert_eq!(seen.bucket("mailer"), (1, 1, Some(0), ""));
    assert_eq!(seen.kinds["kafka/audit"].0, EntityKind::Queue);
    assert_eq!(seen.edges["shop>kafka/audit"].terms.mode, None, "the broker has to take the message");
    assert_eq!(seen.edge("shop>kafka/audit"), (1, 1, 1, 1));
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_still_known_by_its_host() {
    let mut bench = Bench::new().await;
    let answered = "1 0 a server 0 10
                    2 1 a client 1 9 server.address=b.internal
                    3 2 b server 2 8";
    bench.send(&spans(1, answered)).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    bench.restart().await;
    bench.send(&spans(2, "1 0 a server 0 10 !\n2 1 a client 1 9 ! server.address=b.internal")).await;
    bench.step(LATER_MS).await;
    bench.step(LATER_MS + 61_000).await;
    let seen = bench.seen().await;
    assert_eq!(seen.edge_names(), ["a>b"]);
    assert_eq!(seen.edge("a>b"), (2, 2, 1, 0));
    assert_eq!(seen.bucket("a"), (2, 1, Some(1), "b 1"));
    assert_eq!(seen.bucket("b"), (1, 0, Some(0), ""), "who did not answer did not count");
}

#[tokio::test]
async fn a_host_where_several_answer_names_none() {
    let mut bench = Bench::new().await;
    for (trace, service) in [(1, "b"), (2, "c")] {
        let text = format!("1 0 a server 0 10\n2 1 a client 1 9 server.address=proxy\n3 2 {service} server 2 8");
        bench.send(&spans(trace, &text)).await;
    }
    bench.send(&spans(3, "1 0 a server 0 10\n2 1 a client 1 9 ! server.address=proxy")).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    assert_eq!(bench.seen().await.edge_names(), ["a>b", "a>c", "a>proxy"]);
}

#[tokio::test]
async fn pieces_in_any_order_and_copies_give_the_same() {
    let whole = Bench::settled(SHOP).await;
    let mut bench = Bench::new().await;
    let mut pieces = spans(1, SHOP);
    pieces.reverse();
    for (n, piece) in pieces.iter().enumerate() {
        bench.send(std::slice::from_ref(piece)).await;
        bench.step(NOW_MS + n as i64 * 5_000).await;
    }
    bench.send(&pieces[..3]).await;
    bench.step(NOW_MS + 35_000).await;
    assert_eq!(bench.counts.spans_duplicate.value(), 3);
    assert_eq!(bench.seen().await.waiting, 8, "not at rest yet");
    bench.step(NOW_MS + 45_000).await;
    assert_eq!(bench.seen().await, whole);
}

#[tokio::test]
async fn a_trace_without_its_root_is_waited_for_longer_but_not_for_ever() {
    let mut bench = Bench::new().await;
    bench.send(&spans(1, "2 1 b server 2 8")).await;
    bench.step(NOW_MS).await;
    bench.step(NOW_MS + 29_999).await;
    assert_eq!(bench.seen().await.waiting, 1);
    bench.step(NOW_MS + 30_000).await;
    assert_eq!(bench.seen().await.waiting, 0);

    for second in 0..=60 {
        bench.send(&spans(2, &format!("{} 0 b server 2 8", second + 1))).await;
        bench.step(LATER_MS + second * 1_000).await;
    }
    assert_eq!(bench.seen().await.bucket("b").0, 62, "a trace that never rests is settled at its greatest age");
}

#[tokio::test]
async fn bounds_settle_early_and_say_so() {
    let mut bench = Bench::new().await;
    let text: String = (1..=1_000).map(|n| format!("{n} 0 a server 0 1\n")).collect();
    bench.send(&spans(1, &text)).await;
    bench.step(NOW_MS).await;
    assert_eq!((bench.seen().await.bucket("a").0, bench.counts.traces_cut.value()), (1_000, 1));

    (bench.settler, bench.backlog, bench.counts) = Bench::settler(&bench.store, Settling { spans_max: 5, ..SETTLING });
    for trace in 2..12 {
        bench.send(&spans(trace, "1 0 a server 0 1")).await;
    }
    bench.step(NOW_MS).await;
    let left = bench.seen().await;
    assert!(left.waiting <= 5 && left.bucket("a").0 >= 1_005, "{left:?}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_dropped_and_counted() {
    let mut bench = Bench::new().await;
    bench
        .store
        .append_spans(NOW_MS, &[received(&TenantId::default(), b"\xff\xff\xff".to_vec())])
        .await
        .expect("durable");
    bench.send(&spans(1, SHOP)).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    assert_eq!(bench.counts.rows_unreadable.value(), 1);
    assert_eq!(bench.seen().await, Bench::settled(SHOP).await);
}

#[tokio::test]
async fn two_settlers_of_one_log_count_once() {
    let mut bench = Bench::new().await;
    let (mut other, ..) = Bench::settler(&bench.store, SETTLING);
    bench.send(&spans(1, SHOP)).await;
    bench.step(NOW_MS).await;
    other.step(NOW_MS).await.expect("read");
    bench.step(LATER_MS).await;
    other.step(LATER_MS).await.expect("begins again");
    assert_eq!(bench.seen().await, Bench::settled(SHOP).await);
}

#[tokio::test]
async fn tenants_do_not_meet() {
    let mut bench = Bench::new().await;
    let other = TenantId::new("tenant", "other").expect("valid");
    let reduced = reduced(&spans(1, SHOP));
    bench.store.append_spans(NOW_MS, &[received(&other, reduced.payload)]).await.expect("durable");
    bench.send(&spans(1, "2 0 alone server 0 1")).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    assert_eq!(bench.seen().await.kinds.len(), 1);
    assert_eq!(bench.store.topology(&other).await.expect("read").entities.len(), 4);
}

/// The names that drawn spans use, always by the same numbers.
fn names() -> (Names, [Symbol; 5]) {
    let mut names = Names::default();
    let symbols = ["a", "b", "c", "x.example.com", "y.example.com"].map(|name| names.intern(name));
    (names, symbols)
}

/// Traces of any shape: parents that are missing, later, or in a circle.
fn any_spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (1u64..12, 0u64..14, 0usize..3, 1i64..6, 0u64..1_000, 0u64..500, any::<bool>(), 0usize..4, 0u32..3);
    prop::collection::vec(span, 1..24).prop_map(|drawn| {
        let (_, symbols) = names();
        let mut spans: Vec<Span> = Vec::new();
        for (trace_and_id, parent_id, service, kind, start_ms, duration_ms, failed, peer, weight) in drawn {
            let span = Span {
                trace_id: 1 + u128::from(trace_and_id % 2),
                span_id: trace_and_id,
                parent_id,
                start_ns: (NOW_MS as u64 + start_ms) * 1_000_000,
                duration_ns: duration_ms * 1_000_000,
                service: symbols[service],
                peer: [Symbol::NONE, symbols[1], symbols[3], symbols[4]][peer],
                operation: symbols[0],
                protocol: Symbol::NONE,
                region: Symbol::NONE,
                weight,
                kind: SpanKind::from_number(kind),
                peer_kind: EntityKind::External,
                failed,
                resent: false,
                sends: kind == 4,
            };
            // A copy with other contents is no trace of any sender.
            if !spans.iter().any(|known| (known.trace_id, known.span_id) == (span.trace_id, span.span_id)) {
                spans.push(span);
            }
        }
        spans
    })
}

fn joined(mut spans: Vec<Span>) -> Joined {
    let (names, _) = names();
    let mut joined = Joined::default();
    let surroundings = Surroundings { names: &names, producers: &Producers::new(10), is_part: false };
    Joiner::default().join(&mut spans, &mut [], surroundings, &mut joined);
    joined
}

fn tallied(joined: &Joined) -> ObservationBatch {
    let (mut names, _) = names();
    let mut hosts = Hosts::read(&CounterStates::default(), &mut names, HOSTS);
    hosts.learn(joined, &names);
    let mut tally = Tally::default();
    tally.add(joined, &hosts, &names);
    let chosen = Sampler::default().choose(7, joined, LATER_MS, SAMPLES);
    let request_samples = chosen.samples(joined, &hosts, &names);
    ObservationBatch { request_samples, ..tally.into_batch(&names) }
}

/// Gathers batches, each a row, and settles once everything is due.
fn assembled(batches: Vec<Vec<Span>>) -> (ObservationBatch, usize) {
    let mut bench = Workbench::new(&PATIENCE);
    bench.names = names().0;
    let mut assembler = Assembler::new(PATIENCE, 7);
    for (sequence, spans) in batches.into_iter().enumerate() {
        let row = RowState { sequence: sequence as i64, revision: 0, remaining: None };
        let spans = Spans { spans, links: Vec::new() };
        assembler.accept(row, &spans, NOW_MS, &mut bench).expect("fits");
    }
    let settlement = assembler.due(LATER_MS, false, &mut bench).expect("due");
    assembler.settled(&settlement, LATER_MS, &mut bench);
    assert!(assembler.is_empty() && assembler.due(LATER_MS, true, &mut bench).is_none());
    (tallied(&settlement.joined), settlement.rows.iter().filter(|row| row.remaining.is_none()).count())
}

proptest! {
    #[test]
    fn any_split_and_order_gives_the_same(
        (spans, order, cuts) in any_spans().prop_flat_map(|spans| {
            let places: Vec<usize> = (0..spans.len()).collect();
            (Just(spans), Just(places).prop_shuffle(), prop::collection::vec(any::<bool>(), 24))
        })
    ) {
        let (reference, _) = assembled(vec![spans.clone()]);
        let mut batches: Vec<Vec<Span>> = vec![Vec::new()];
        for place in order {
            if cuts[place] {
                batches.push(Vec::new());
            }
            batches.last_mut().expect("one").push(spans[place]);
        }
        batches.retain(|batch| !batch.is_empty());
        let row_count = batches.len();
        let (split, settled_row_count) = assembled(batches);
        prop_assert_eq!(split, reference);
        prop_assert_eq!(settled_row_count, row_count, "every row is accounted for");
    }

    #[test]
    fn counts_nest_whatever_the_spans_are(spans in any_spans()) {
        let joined = joined(spans);
        for call in &joined.calls {
            prop_assert!(!call.rescued || call.failed);
            prop_assert_ne!(call.caller, call.callee);
        }
        let request_count: u64 = joined.requests.iter().map(|request| u64::from(request.weight)).sum();
        let batch = tallied(&joined);
        let served = |observed: &&crate::domain::ObservedBucket| observed.bucket.counts.inherited_bad().is_some();
        let valid: u64 = batch.buckets.iter().filter(served).map(|observed| observed.bucket.counts.valid()).sum();
        prop_assert_eq!(valid, request_count);
        prop_assert_eq!(batch.requests.values().flat_map(|days| days.values()).sum::<u64>(), request_count);
        let of_operations = batch.operations.iter().filter(|operation| operation.key.callee.is_none());
        prop_assert_eq!(of_operations.map(|operation| operation.seen.request_count).sum::<u64>(), request_count);
        for edge in &batch.edges {
            let seen = &edge.sightings;
            let calls = Some(seen.call_count);
            prop_assert!(seen.rescued_count <= seen.failure_count && seen.failure_count <= calls);
            prop_assert!(seen.calling_request_count <= seen.call_count && seen.retry_count <= calls);
            prop_assert_eq!(seen.days.values().map(|day| day.call_count).sum::<u64>(), seen.call_count);
            let calling = seen.days.values().map(|day| day.calling_request_count).sum::<u64>();
            prop_assert_eq!(calling, seen.calling_request_count);
        }
    }
}

/// What may happen between two exports.
#[derive(Debug, Clone, Copy)]
enum Event {
    Settle,
    Restart,
    Rest,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn killed_at_any_time_each_span_counts_once(
        events in prop::collection::vec((0usize..7, prop::sample::select(vec![Event::Settle, Event::Restart, Event::Rest])), 3..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let traces: Vec<_> = (1..=4u128).map(|trace| spans(trace, "1 0 a server 0 9 !\n2 0 b server 0 9\n3 0 a server 3 4")).collect();
        let seen = runtime.block_on(async {
            let mut bench = Bench::new().await;
            let mut now_ms = NOW_MS;
            // Rows that share traces: the first spans of all, then the second ones, and so on.
            for place in 0..3 {
                let row: Vec<_> = traces.iter().map(|trace| trace[place].clone()).collect();
                bench.send(&row).await;
                for (_, event) in events.iter().filter(|(at, _)| at % 3 == place) {
                    match event {
                        Event::Settle => bench.step(now_ms).await,
                        Event::Restart => bench.restart().await,
                        Event::Rest => now_ms += 20_000,
                    }
                }
            }
            bench.step(now_ms).await;
            bench.step(now_ms + 61_000).await;
            bench.seen().await
        });
        prop_assert_eq!(seen.bucket("a"), (8, 4, Some(0), ""));
        prop_assert_eq!(seen.bucket("b"), (4, 0, Some(0), ""));
        prop_assert_eq!((seen.kinds["a"].1, seen.waiting), (8, 0));
    }
}
