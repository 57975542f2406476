//! Sampled, repeated, late and linked spans, and operations, from the wire to storage.

use attain_vocabulary::{DependencyMode, EntityKind};
use proptest::prelude::*;

use super::testing::{Bench, LATER_MS, NOW_MS, spans};
use crate::storage::SpanMemory;

const ONE: &str = "1 0 a server 0 100\n2 1 a client 10 90 ! server.address=x.example.com";

/// Sends and settles spans of one trace.
async fn settle(bench: &mut Bench, trace: u128, text: &str) {
    bench.send(&spans(trace, text)).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
}

#[tokio::test]
async fn a_retried_export_counts_once_also_after_the_process_died() {
    let mut bench = Bench::new().await;
    let sent = spans(1, ONE);
    bench.send(&sent).await;
    assert!(!bench.send_at(&sent, NOW_MS).await, "while it waits");
    bench.restart().await;
    assert!(!bench.send_at(&sent, NOW_MS).await, "after the process died");
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    assert!(!bench.send_at(&sent, LATER_MS).await, "after it was settled");
    bench.restart().await;
    bench.step(LATER_MS).await;
    bench.step(LATER_MS + 61_000).await;
    let seen = bench.seen().await;
    assert_eq!((seen.bucket("a").0, seen.edge("a>x.example.com"), seen.waiting), (1, (1, 1, 1, 1), 0));
}

#[tokio::test]
async fn a_span_that_was_settled_counts_no_second_time_also_after_its_receipt_went() {
    for dies in [false, true] {
        let mut bench = Bench::new().await;
        settle(&mut bench, 1, ONE).await;
        let memory = SpanMemory { before_ms: NOW_MS + 1, receipts_max: 1, settled_max: 100 };
        let forgettable = bench.store.forgettable_spans(memory).await.expect("read");
        bench.store.forget_spans(forgettable, 500).await.expect("forgotten");
        if dies {
            bench.restart().await;
        }
        // The same export, a part of it, and the part with a span that is new.
        let part = "1 0 a server 0 100";
        for text in [ONE, part, &format!("{part}\n3 1 a client 20 80 server.address=y.example.com")] {
            assert!(bench.send_at(&spans(1, text), LATER_MS).await, "the receipt is gone");
        }
        bench.step(LATER_MS).await;
        bench.step(LATER_MS + 61_000).await;
        let seen = bench.seen().await;
        assert_eq!((seen.bucket("a").0, seen.edge("a>x.example.com")), (1, (1, 1, 1, 1)));
        assert_eq!(seen.edge("a>y.example.com"), (1, 0, 0, 0), "what is late and new counts");
        assert_eq!((bench.counts.spans_duplicate.value(), bench.counts.spans_late.value()), (4, 1));
        assert_eq!(seen.waiting, 0, "rows that hold nothing new go");
    }
}

#[tokio::test]
async fn the_other_side_of_a_settled_call_counts_as_a_request_of_its_own() {
    let mut bench = Bench::new().await;
    settle(&mut bench, 1, "1 0 a server 0 100\n2 1 a client 10 90 server.address=b.internal").await;
    settle(&mut bench, 1, "3 2 b server 20 80").await;
    bench.step(LATER_MS + 61_000).await;
    let seen = bench.seen().await;
    assert_eq!((seen.bucket("a").0, seen.bucket("b").0), (1, 1));
    assert_eq!(seen.edge_names(), ["a>b.internal"], "the call is not counted again");
    assert_eq!(bench.counts.spans_late.value(), 1);
}

#[tokio::test]
async fn rows_that_were_not_handed_over_are_read_from_the_log() {
    let mut bench = Bench::new().await;
    bench.send(&spans(1, "1 0 a server 0 1")).await;
    // Another process appended this one: nobody handed it over.
    while bench.backlog.take().is_some() {}
    bench.send(&spans(2, "1 0 a server 0 1")).await;
    bench.step(NOW_MS).await;
    bench.send(&spans(3, "1 0 a server 0 1")).await;
    while bench.backlog.take().is_some() {}
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    let seen = bench.seen().await;
    assert_eq!((seen.bucket("a").0, seen.waiting), (3, 0));
}

#[tokio::test]
async fn sampled_traces_stand_for_several_and_their_counts_nest() {
    let seen = Bench::settled(
        "1 0 a server 0 100 ! ot=th=c
         2 1 a client 10 90 ! ot=th=c server.address=b.internal
         3 2 b server 20 80 ! ot=th=8
         4 3 b client 30 40 ! db.system=postgresql db.name=orders",
    )
    .await;
    assert_eq!(seen.bucket("a"), (4, 4, Some(4), "b 4"));
    assert_eq!(seen.bucket("b"), (2, 2, Some(2), "postgresql/orders 2"));
    assert_eq!(seen.edge("a>b"), (4, 4, 4, 0));
    assert_eq!(seen.edge("b>postgresql/orders"), (2, 2, 2, 0), "a call counts as often as the request that made it");
    assert_eq!((seen.kinds["a"].1, seen.buckets["a"].4), (4, 4));
}

#[tokio::test]
async fn repeated_calls_after_a_failure_are_retries_and_save_it() {
    let seen = Bench::settled(
        "1 0 a server 0 100 !
         2 1 a client 10 20 ! server.address=x.example.com
         3 1 a client 21 30 ! server.address=x.example.com
         4 1 a client 31 40 server.address=x.example.com
         5 1 a client 50 60 server.address=x.example.com name=other
         6 0 cron internal 0 90
         7 6 cron client 10 20 ! server.address=x.example.com
         8 6 cron client 30 40 server.address=x.example.com
         9 6 cron client 30 40 server.address=y.example.com http.request.resend_count=1",
    )
    .await;
    let retries = |edge: &str| seen.edges[edge].sightings.retry_count.expect("traces know");
    assert_eq!(seen.edge("a>x.example.com"), (4, 1, 2, 2));
    assert_eq!(retries("a>x.example.com"), 2, "a call of another operation is none");
    assert_eq!(seen.bucket("a"), (1, 1, Some(0), ""), "what a retry saved did not fail the request");
    assert_eq!((seen.edge("cron>x.example.com"), retries("cron>x.example.com")), ((2, 0, 1, 1), 1));
    assert_eq!(retries("cron>y.example.com"), 1, "its sender says so");
}

#[tokio::test]
async fn attempts_at_the_same_time_are_no_retries() {
    let seen = Bench::settled(
        "1 0 a server 0 100 !
         2 1 a client 10 50 ! server.address=x.example.com
         3 1 a client 20 40 server.address=x.example.com",
    )
    .await;
    assert_eq!(seen.edges["a>x.example.com"].sightings.retry_count, Some(0));
    assert_eq!(seen.bucket("a"), (1, 1, Some(1), "x.example.com 1"));
}

const ORDERS: &str = "messaging.system=kafka messaging.destination.name=orders";

#[tokio::test]
async fn consumers_of_other_traces_are_called_by_those_they_link_to() {
    let mut bench = Bench::new().await;
    // The consumer comes before one of the senders; a batch of three messages of two services.
    let consumer =
        format!("9 0 mailer consumer 50 90 {ORDERS} messaging.operation.type=receive link=1.2 link=2.2 link=3.2");
    bench.send(&spans(4, &format!("{consumer}\n10 9 mailer consumer 60 80 {ORDERS} link=1.2"))).await;
    for (trace, service) in [(1, "shop"), (2, "shop"), (3, "till")] {
        bench.send(&spans(trace, &format!("1 0 {service} server 0 9\n2 1 {service} producer 1 2 {ORDERS}"))).await;
    }
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    let seen = bench.seen().await;
    assert_eq!(seen.edge_names(), ["shop>kafka/orders", "shop>mailer", "till>kafka/orders", "till>mailer"]);
    assert_eq!((seen.edge("shop>mailer").0, seen.edge("till>mailer").0), (2, 1));
    assert_eq!(seen.edges["shop>mailer"].terms.mode, Some(DependencyMode::Async));
    assert_eq!(seen.bucket("mailer").0, 1, "the batch is one request");
}

#[tokio::test]
async fn a_consumer_of_an_unknown_sender_is_called_by_its_queue() {
    let mut bench = Bench::new().await;
    settle(&mut bench, 1, &format!("1 0 mailer consumer 50 90 ! {ORDERS} link=77.2\n2 0 other consumer 0 1")).await;
    let seen = bench.seen().await;
    assert_eq!(seen.edge_names(), ["kafka/orders>mailer"]);
    assert_eq!(seen.edge("kafka/orders>mailer"), (1, 0, 0, 0), "a consumer fails on its own time");
    assert_eq!(seen.edges["kafka/orders>mailer"].terms.mode, Some(DependencyMode::Async));
    assert_eq!(seen.kinds["kafka/orders"].0, EntityKind::Queue);
    assert_eq!(seen.bucket("mailer"), (1, 1, Some(0), ""));
}

#[tokio::test]
async fn operations_are_counted_by_their_templates() {
    let mut bench = Bench::new().await;
    let trace = "1 0 a server 0 100 http.request.method=GET http.route=/users/{id}
         2 1 a client 10 90 ! db.system.name=postgresql db.operation.name=SELECT db.collection.name=users
         3 1 a client 91 95 rpc.system=grpc rpc.service=shop.Cart rpc.method=Get server.address=b.internal
         4 3 b server 92 94 rpc.system=grpc rpc.service=shop.Cart rpc.method=Get
         5 0 a server 0 9 ! name=job-4711";
    settle(&mut bench, 1, trace).await;
    settle(&mut bench, 2, "1 0 a server 0 9 name=job-4712").await;
    bench.step(LATER_MS + 61_000).await;
    let operation = |callee: &str, name: &str, requests, bad| (callee.to_owned(), name.to_owned(), requests, bad);
    let of_a = bench.operations("a").await;
    let expected = [
        operation("", "GET /users/{id}", 1, 0),
        operation("", "{id}", 2, 1),
        operation("b", "shop.Cart/Get", 1, 0),
        operation("postgresql", "SELECT users", 1, 1),
    ];
    assert_eq!(of_a, expected);
    assert_eq!(bench.operations("b").await, [operation("", "shop.Cart/Get", 1, 0)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Exports are sent again at any time, whole or cut in other pieces, and the process dies at any time.
    #[test]
    fn whatever_is_sent_again_counts_once(
        events in prop::collection::vec((0usize..3, 0usize..4, 0u8..4), 1..14),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let traces: Vec<_> = (1..=3u128).map(|trace| spans(trace, "1 0 a server 0 9 !\n2 1 a client 1 8 ! server.address=x.example.com\n3 0 b server 3 4")).collect();
        let seen = runtime.block_on(async {
            let mut bench = Bench::new().await;
            let mut now_ms = NOW_MS;
            for trace in &traces {
                bench.send(trace).await;
            }
            for (trace, piece, event) in events {
                let again = &traces[trace];
                bench.send_at(if piece == 3 { again } else { &again[piece..=piece] }, now_ms).await;
                match event {
                    0 => bench.restart().await,
                    1 => bench.step(now_ms).await,
                    2 => now_ms += 20_000,
                    _ => {}
                }
            }
            bench.step(now_ms).await;
            bench.step(now_ms + 61_000).await;
            bench.seen().await
        });
        prop_assert_eq!(seen.bucket("a"), (3, 3, Some(3), "x.example.com 3"));
        prop_assert_eq!((seen.bucket("b").0, seen.edge("a>x.example.com"), seen.waiting), (3, (3, 3, 3, 0), 0));
    }
}
