//! What senders choose, such as the shape and the size of a trace, bounds neither the time nor the memory that others need.

use attain_vocabulary::{DAY_MS, EntityKind, TenantId};

use super::assembler::{Assembler, Patience, RowState, Workbench};
use super::effort::steps_of;
use super::hosts::{HostLimits, Hosts, forget_hosts};
use super::join::{Joined, Joiner, Surroundings};
use super::names::{Names, Symbol};
use super::recent::Producers;
use super::settler::Settling;
use super::span::{Span, SpanKind, Spans};
use super::tally::Tally;
use super::testing::{Bench, HOSTS, LATER_MS, NOW_MS, PATIENCE, SETTLING, number, spans};
use crate::storage::CounterStates;

/// A trace of one shape and any size.
struct Shape {
    spans: Vec<Span>,
    links: Vec<(u64, u64)>,
    names: Names,
    producers: Producers,
}

impl Shape {
    fn new() -> Self {
        Self { spans: Vec::new(), links: Vec::new(), names: Names::default(), producers: Producers::new(1 << 20) }
    }

    /// Adds a span below another one, 0 for none; its id.
    fn push(&mut self, parent_id: u64, kind: SpanKind, service: &str, peer: &str) -> u64 {
        let span_id = self.spans.len() as u64 + 1;
        let (service, peer) = (self.names.intern(service), self.names.intern(peer));
        self.spans.push(Span {
            trace_id: 1,
            span_id,
            parent_id,
            start_ns: NOW_MS as u64 * 1_000_000 + span_id,
            duration_ns: 1_000,
            service,
            peer,
            operation: Symbol::NONE,
            protocol: Symbol::NONE,
            region: Symbol::NONE,
            weight: 1,
            kind,
            peer_kind: EntityKind::External,
            failed: true,
            resent: false,
            sends: false,
        });
        span_id
    }

    /// Joins and counts it; the steps that took, and the calls found.
    fn count(mut self) -> (u64, usize) {
        let mut joined = Joined::default();
        let steps = steps_of(|| {
            let surroundings = Surroundings { names: &self.names, producers: &self.producers, is_part: false };
            Joiner::default().join(&mut self.spans, &mut self.links, surroundings, &mut joined);
            let mut hosts = Hosts::read(&CounterStates::default(), &mut self.names, HOSTS);
            hosts.learn(&joined, &self.names);
            let mut tally = Tally::default();
            tally.add(&joined, &hosts, &self.names);
            drop(tally.into_batch(&self.names));
        });
        (steps, joined.calls.len())
    }
}

use SpanKind::{Client, Consumer, Server};

fn a_call_that_many_answer(size: u64) -> Shape {
    let mut shape = Shape::new();
    let call = shape.push(0, Client, "a", "host");
    for n in 0..size {
        shape.push(call, Server, &format!("s{n}"), "");
    }
    shape
}

fn a_call_that_one_service_answers_often(size: u64) -> Shape {
    let mut shape = Shape::new();
    let call = shape.push(0, Client, "a", "host");
    for _ in 0..size {
        shape.push(call, Server, "b", "");
    }
    shape
}

fn a_call_that_wraps_many(size: u64) -> Shape {
    let mut shape = Shape::new();
    let call = shape.push(0, Client, "a", "host");
    for _ in 0..size {
        shape.push(call, Client, "a", "host");
    }
    shape
}

fn a_request_with_many_callees(size: u64) -> Shape {
    let mut shape = Shape::new();
    let request = shape.push(0, Server, "a", "");
    for n in 0..size {
        shape.push(request, Client, "a", &format!("h{n}"));
    }
    shape
}

fn a_request_with_many_attempts(size: u64) -> Shape {
    let mut shape = Shape::new();
    let request = shape.push(0, Server, "a", "");
    for _ in 0..size {
        shape.push(request, Client, "a", "host");
    }
    shape
}

fn many_consumers_of_many_messages(size: u64) -> Shape {
    let mut shape = Shape::new();
    let sender = shape.names.intern("sender");
    for consumer in 0..size / 16 {
        let id = shape.push(0, Consumer, "a", "queue");
        for message in consumer * 16..(consumer + 1) * 16 {
            shape.links.push((id, message));
            shape.producers.insert(message, sender);
        }
    }
    shape
}

fn one_consumer_in_many_layers(size: u64) -> Shape {
    let mut shape = Shape::new();
    let sender = shape.names.intern("sender");
    let batch = shape.push(0, Consumer, "a", "queue");
    for message in 0..size {
        let layer = shape.push(batch, Consumer, "a", "queue");
        shape.links.push((layer, message));
        shape.producers.insert(message, sender);
    }
    shape
}

fn a_deep_chain(size: u64) -> Shape {
    let mut shape = Shape::new();
    let mut parent = 0;
    for n in 0..size {
        parent =
            shape.push(parent, if n % 3 == 0 { Server } else { Client }, if n % 7 == 0 { "a" } else { "b" }, "host");
    }
    shape
}

#[test]
fn the_effort_grows_with_a_trace_and_not_faster_whatever_its_shape() {
    const SIZE: u64 = 1_500;
    for (name, shape) in [
        ("a call that many answer", a_call_that_many_answer as fn(u64) -> Shape),
        ("a call that one service answers often", a_call_that_one_service_answers_often),
        ("a call that wraps many", a_call_that_wraps_many),
        ("a request with many callees", a_request_with_many_callees),
        ("a request with many attempts", a_request_with_many_attempts),
        ("many consumers of many messages", many_consumers_of_many_messages),
        ("one consumer in many layers", one_consumer_in_many_layers),
        ("a deep chain", a_deep_chain),
    ] {
        let (steps, call_count) = shape(SIZE).count();
        let (steps_of_four, call_count_of_four) = shape(4 * SIZE).count();
        assert!(steps <= 100 * SIZE, "{name}: {steps} steps");
        assert!(steps_of_four <= 5 * steps + 1_000, "{name}: {steps} steps, and {steps_of_four} of four times as many");
        assert!(call_count_of_four >= call_count && call_count > 0, "{name}: {call_count}");
    }
}

/// Servers of one service below a span that nobody sent.
fn many_of_one_trace(ids: std::ops::RangeInclusive<u64>) -> String {
    ids.map(|id| format!("{id} 0 a server 0 1\n")).collect()
}

#[test]
fn a_trace_that_is_too_long_is_joined_in_parts() {
    let patience = Patience { spans_per_trace_max: 100, spans_per_settlement_max: 250, ..PATIENCE };
    let mut bench = Workbench::new(&patience);
    let mut shape = Shape::new();
    for _ in 0..1_050 {
        shape.push(0, Server, "a", "");
    }
    bench.names = shape.names;
    let mut assembler = Assembler::new(patience, 7);
    let row = |sequence| RowState { sequence, revision: 0, remaining: None };
    let row_of_all = Spans { spans: shape.spans.clone(), links: Vec::new() };
    assembler.accept(row(1), &row_of_all, NOW_MS, &mut bench).expect("fits");
    // All of it again, of which a thousand are in parts that wait.
    let taken = assembler.accept(row(2), &row_of_all, NOW_MS, &mut bench).expect("fits");
    assert_eq!((taken.duplicate_count, assembler.held_count()), (1_050, 1_050));
    let mut parts = Vec::new();
    while let Some(settlement) = assembler.due(NOW_MS, false, &mut bench) {
        assert_eq!(settlement.joined.requests.len(), settlement.span_count);
        parts.push((settlement.span_count, settlement.early_count));
        assembler.settled(&settlement, NOW_MS, &mut bench);
    }
    assert_eq!(parts, [(300, 3), (300, 3), (300, 3), (100, 1)], "nothing waits that is as long as may be joined");
    assert_eq!(assembler.held_count(), 50);
    // Those of settled parts are known, also by what came of the trace in the meantime.
    let again = Spans { spans: shape.spans[..10].to_vec(), links: Vec::new() };
    let taken = assembler.accept(row(3), &again, NOW_MS, &mut bench).expect("fits");
    assert_eq!((taken.settled_count, assembler.held_count()), (10, 50));
    let last = assembler.due(LATER_MS, false, &mut bench).expect("the rest");
    assert_eq!((last.span_count, last.early_count), (50, 0));
    assert!(last.rows.iter().all(|row| row.remaining.is_none()), "every row is accounted for");
    assembler.settled(&last, LATER_MS, &mut bench);
    assert!(assembler.is_empty() && assembler.due(LATER_MS, true, &mut bench).is_none());
}

#[tokio::test]
async fn a_trace_in_parts_counts_once_whenever_the_process_dies() {
    for dies_after in 0..3 {
        let mut bench = Bench::new().await;
        // Two and a half parts, some of the first again in another row.
        bench.send(&spans(1, &many_of_one_trace(1..=2_500))).await;
        bench.send(&spans(1, &many_of_one_trace(900..=1_100))).await;
        for step in 0..3 {
            if step == dies_after {
                bench.restart().await;
            }
            bench.step(if step == 0 { NOW_MS } else { LATER_MS + 61_000 * step }).await;
        }
        let seen = bench.seen().await;
        assert_eq!((seen.bucket("a").0, seen.kinds["a"].1, seen.waiting), (2_500, 2_500, 0), "{dies_after}");
    }
}

#[tokio::test]
async fn links_take_room_in_memory_as_spans_do() {
    let mut bench = Bench::new().await;
    (bench.settler, bench.backlog, bench.counts) =
        Bench::settler(&bench.store, Settling { spans_max: 200, ..SETTLING });
    let links: String = (1..=60).map(|n| format!(" link=9.{n}")).collect();
    for trace in 1..=6 {
        let text = format!("1 0 mailer consumer 0 1 messaging.system=kafka messaging.destination.name=orders{links}");
        bench.send(&spans(trace, &text)).await;
    }
    bench.step(NOW_MS).await;
    let seen = bench.seen().await;
    assert!(seen.waiting <= 3 && seen.bucket("mailer").0 >= 3, "{seen:?}");
}

#[tokio::test]
async fn a_host_that_a_proxy_answered_at_once_names_its_service_again() {
    let mut bench = Bench::new().await;
    let answered_by = |service: &str| {
        format!("1 0 a server 0 9\n2 1 a client 1 8 server.address=b.internal\n3 2 {service} server 2 7")
    };
    // Every day b answers, on the second day a proxy does too, and one call is not answered.
    let mut now_ms = NOW_MS;
    let mut trace = 0;
    let mut edges = Vec::new();
    for n in 0..10 {
        let services: &[&str] = if n == 1 { &["b", "proxy"] } else { &["b"] };
        for service in services {
            trace += 1;
            let mut sent = spans(trace, &answered_by(service));
            shift(&mut sent, n - 10);
            bench.send(&sent).await;
        }
        trace += 1;
        let mut unanswered = spans(trace, "1 0 a server 0 9 !\n2 1 a client 1 8 ! server.address=b.internal");
        shift(&mut unanswered, n - 10);
        bench.send(&unanswered).await;
        bench.step(now_ms).await;
        now_ms += 61_000;
        bench.step(now_ms).await;
        let seen = bench.seen().await;
        edges.push(seen.edges.get("a>b.internal").map_or(0, |edge| edge.sightings.call_count));
    }
    assert_eq!(edges, [0, 1, 2, 3, 4, 5, 6, 7, 7, 7], "seven days after the proxy the host is b again");
}

/// Moves spans by days.
fn shift(sent: &mut [(String, opentelemetry_proto::tonic::trace::v1::Span)], days: i64) {
    let by = |ns: u64| ns.wrapping_add_signed(days * DAY_MS * 1_000_000);
    for (_, span) in sent {
        (span.start_time_unix_nano, span.end_time_unix_nano) =
            (by(span.start_time_unix_nano), by(span.end_time_unix_nano));
    }
}

#[tokio::test]
async fn hosts_are_bounded_and_forgotten() {
    let mut bench = Bench::new().await;
    let hosts = HostLimits { hosts_max: 3, ..HOSTS };
    (bench.settler, bench.backlog, bench.counts) = Bench::settler(&bench.store, Settling { hosts, ..SETTLING });
    let answered = |host: u64| {
        format!("1 0 a server 0 10\n2 1 a client 1 9 server.address=h{host}.internal\n3 2 s{host} server 2 8")
    };
    for host in 1..=2 {
        bench.send(&spans(u128::from(host), &answered(host))).await;
    }
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    for host in 1..=5 {
        bench.send(&spans(10 + u128::from(host), &answered(host))).await;
    }
    bench.step(LATER_MS).await;
    bench.step(LATER_MS + 61_000).await;
    assert_eq!(bench.counts.hosts_over_max.value(), 2);
    let kept = async |bench: &Bench| {
        let keys =
            bench.store.counter_keys(&TenantId::default(), ("otlp-host/", "otlp-host0"), 10).await.expect("read");
        keys.iter()
            .map(|key| number(key.trim_start_matches("otlp-host/h").trim_end_matches(".internal")))
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&bench).await.len(), 3);
    let today = NOW_MS / DAY_MS;
    assert_eq!(forget_hosts(&bench.store, today + 6, 7).await.expect("forgotten"), 0);
    assert_eq!(forget_hosts(&bench.store, today + 7, 7).await.expect("forgotten"), 3);
    assert_eq!(kept(&bench).await, [0; 0]);
    // There is room again.
    bench.send(&spans(20, &answered(4))).await;
    bench.step(LATER_MS + 61_000).await;
    bench.step(LATER_MS + 122_000).await;
    assert_eq!((kept(&bench).await, bench.counts.hosts_over_max.value()), (vec![4], 2));
}

#[tokio::test]
async fn a_sender_of_ever_new_hosts_does_not_grow_the_operations() {
    let mut bench = Bench::new().await;
    for trace in 1..=4u128 {
        let calls: String = (0..80)
            .map(|n| {
                format!("{} 1 webhooks client 1 9 server.address=h{}.example.com name=POST\n", n + 2, trace * 80 + n)
            })
            .collect();
        bench.send(&spans(trace, &format!("1 0 webhooks server 0 10 name=deliver\n{calls}"))).await;
        bench.step(NOW_MS).await;
        bench.step(LATER_MS + 61_000 * trace as i64).await;
    }
    let operations = bench.operations("webhooks").await;
    // The store of these tests keeps 50.
    assert!(operations.len() <= 2 * 50 + 2, "{}", operations.len());
    let call_count: u64 =
        operations.iter().filter(|(callee, ..)| !callee.is_empty()).map(|(_, _, count, _)| count).sum();
    assert_eq!(call_count, 320);
}
