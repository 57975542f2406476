//! Sampled requests from the wire to storage: which are kept, and with which calls.

use std::collections::BTreeMap;

use attain_vocabulary::{DAY_MS, EntityId, TenantId};
use opentelemetry_proto::tonic::trace::v1 as wire;
use proptest::prelude::*;

use super::recent::fingerprint;
use super::settler::Settling;
use super::testing::{Bench, LATER_MS, NOW_MS, PATIENCE, SAMPLES, SETTLING, reduced, span, spans};
use crate::domain::{RequestSample, hour_start};

/// Begins, takes, `!` for failed; then callee, begin, and end of each call, all in milliseconds of the trace.
fn told(sample: &RequestSample) -> String {
    let ms = |us: u64| us as f64 / 1_000.0;
    let failed = |failed| if failed { " !" } else { "" };
    let start_ms = ms((sample.start_time_us - NOW_MS * 1_000) as u64);
    let mut told = format!("{start_ms} {}{}", ms(sample.duration_us), failed(sample.failed));
    for call in &sample.calls {
        let end_us = call.offset_us + call.duration_us;
        told += &format!(", {} {} {}{}", call.callee, ms(call.offset_us), ms(end_us), failed(call.failed));
    }
    if sample.truncated { told + " …" } else { told }
}

/// Sends spans of one trace, settles them, and tells the one request of a service.
async fn sampled(text: &str, service: &str) -> String {
    let mut bench = Bench::new().await;
    bench.send(&spans(1, text)).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    let samples = bench.samples(service).await;
    let [sample] = &samples[..] else { panic!("{samples:?}") };
    told(sample)
}

#[tokio::test]
async fn a_request_is_kept_with_the_calls_that_it_waited_for() {
    let trace = "
        1 0 shop server 5 105 !
        2 1 shop internal 10 100
        3 2 shop client 15 45 server.address=cart.internal
        4 3 cart server 17 43
        5 2 shop client 15 35 server.address=c.example.com
        6 1 shop client 55 65 ! server.address=c.example.com
        7 1 shop client 66 75 server.address=c.example.com
        8 1 shop producer 85 86 messaging.system=kafka messaging.destination.name=orders
        9 8 mailer consumer 200 300
        10 2 price server 87 95
        11 4 cart client 20 40 db.system=postgresql db.name=carts";
    let of_shop = "5 100 !, c.example.com 10 30, cart 10 40, c.example.com 50 60 !, c.example.com 61 70, price 82 90";
    assert_eq!(
        sampled(trace, "shop").await,
        of_shop,
        "at once, one after another, tried again, without a client's span"
    );
    assert_eq!(sampled(trace, "cart").await, "17 26, postgresql/carts 3 23");
    assert_eq!(sampled(trace, "mailer").await, "200 100", "a consumer's work is a request too");
    assert_eq!(sampled(trace, "price").await, "87 8");
}

#[tokio::test]
async fn calls_are_moved_into_their_request_and_those_that_it_did_not_wait_for_are_left_out() {
    let by_callees = "
        1 0 shop server 100 200
        2 1 early server 50 110
        3 1 late server 190 240
        4 1 later server 500 510
        5 1 too-long server 120 300";
    let moved = "100 100, early 0 60, late 50 100, later 90 100";
    assert_eq!(sampled(by_callees, "shop").await, moved, "clocks of two machines differ");
    let by_caller = "
        1 0 shop server 100 200
        2 1 shop client 90 120 server.address=before.example.com
        3 1 shop client 150 201 server.address=ended.example.com
        4 1 shop client 150 203 server.address=goes-on.example.com
        5 1 shop client 205 210 server.address=after.example.com";
    assert_eq!(sampled(by_caller, "shop").await, "100 100, before.example.com 0 20, ended.example.com 50 100");
}

#[tokio::test]
async fn of_many_calls_the_longest_are_kept() {
    let call =
        |id: u64, start: u64, end: u64| format!("{id} 1 shop client {start} {end} server.address=h{id}.example.com\n");
    // A hundred one after another, the first of which are the shortest.
    let calls: String = (2..102).map(|id| call(id, id * 200, id * 200 + id)).collect();
    let told = sampled(&format!("1 0 shop server 0 30000\n{calls}"), "shop").await;
    let parts: Vec<&str> = told.split(", ").collect();
    assert_eq!((parts.len(), parts[0]), (1 + 64, "0 30000"));
    assert_eq!((parts[1], parts[64]), ("h38.example.com 7600 7638", "h101.example.com 20200 20301 …"));
}

#[tokio::test]
async fn callees_are_called_as_their_edges_are() {
    let mut bench = Bench::new().await;
    let answered = "1 0 shop server 0 9\n2 1 shop client 1 8 server.address=cart.internal\n3 2 cart server 2 7";
    bench.send(&spans(1, answered)).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    let unanswered = "
        1 0 shop server 20 40
        2 1 shop client 21 29 server.address=cart.internal
        3 0 cart server 20 40
        4 3 cart client 21 29 server.address=cart.internal";
    bench.send(&spans(2, unanswered)).await;
    bench.step(LATER_MS).await;
    bench.step(LATER_MS + 61_000).await;
    let mut of_shop: Vec<String> = bench.samples("shop").await.iter().map(told).collect();
    of_shop.sort();
    assert_eq!(of_shop, ["0 9, cart 1 8", "20 20, cart 1 9"], "who answers at the host was meant");
    let mut of_cart: Vec<String> = bench.samples("cart").await.iter().map(told).collect();
    of_cart.sort();
    assert_eq!(of_cart, ["2 5", "20 20"], "who calls itself waits for nobody else");
}

#[tokio::test]
async fn what_comes_late_changes_no_sample_and_is_none() {
    let mut bench = Bench::new().await;
    let first = "1 0 shop server 0 100\n2 1 shop client 10 90 server.address=cart.internal\n5 4 price client 31 39 server.address=x.example.com";
    bench.send(&spans(1, first)).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    // One more call of a request that is kept; a request whose call was counted before.
    let late = "3 1 shop client 92 99 server.address=y.example.com\n4 2 price server 30 40";
    for dies in [false, true] {
        if dies {
            bench.restart().await;
        }
        bench.send_at(&spans(1, late), LATER_MS).await;
        bench.step(LATER_MS).await;
        bench.step(LATER_MS + 61_000).await;
        let of_shop: Vec<String> = bench.samples("shop").await.iter().map(told).collect();
        assert_eq!((of_shop, bench.samples("price").await), (vec!["0 100, cart.internal 10 90".to_owned()], vec![]));
    }
    assert_eq!(bench.seen().await.bucket("price").0, 1, "it counts all the same");
}

#[tokio::test]
async fn a_trace_that_is_settled_in_parts_has_no_samples() {
    let mut bench = Bench::new().await;
    let long: String = (1..=2_500).map(|id| format!("{id} 0 shop server 0 1\n")).collect();
    bench.send(&spans(1, &long)).await;
    bench.send(&spans(2, "1 0 shop server 7 8")).await;
    // The rest is settled at another time than the parts, and after the process died.
    bench.step(NOW_MS).await;
    bench.restart().await;
    bench.step(LATER_MS).await;
    bench.step(LATER_MS + 61_000).await;
    let told: Vec<String> = bench.samples("shop").await.iter().map(told).collect();
    assert_eq!((told, bench.seen().await.bucket("shop").0), (vec!["7 1".to_owned()], 2_501));

    // Parts and rest at once.
    let bench = Bench::new().await;
    bench.send(&spans(1, &long)).await;
    let patient =
        Settling { patience: super::assembler::Patience { spans_per_settlement_max: 10_000, ..PATIENCE }, ..SETTLING };
    let (mut settler, ..) = Bench::settler(&bench.store, patient);
    settler.take(NOW_MS).await.expect("read");
    settler.settle(LATER_MS).await.expect("settled");
    assert_eq!((bench.samples("shop").await, bench.seen().await.bucket("shop").0), (vec![], 2_500));
}

#[tokio::test]
async fn what_stands_for_none_or_is_older_than_is_kept_is_no_sample() {
    let mut bench = Bench::new().await;
    bench.send(&spans(1, "1 0 shop server 0 1 ot=p=63")).await;
    let mut old = spans(2, "1 0 shop server 0 1\n2 0 cart server 3 4");
    for (back_ms, (_, span)) in [SAMPLES.kept_ms + 3_600_000, SAMPLES.kept_ms - 3_600_000].into_iter().zip(&mut old) {
        let by = |ns: u64| ns - back_ms as u64 * 1_000_000;
        (span.start_time_unix_nano, span.end_time_unix_nano) =
            (by(span.start_time_unix_nano), by(span.end_time_unix_nano));
    }
    bench.send(&old).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    assert_eq!((bench.samples("shop").await.len(), bench.samples("cart").await.len()), (0, 1));
}

#[tokio::test]
async fn samples_of_tenants_do_not_meet_and_none_are_kept_where_none_are_wanted() {
    let mut bench = Bench::new().await;
    bench.send(&spans(1, "1 0 shop server 0 1")).await;
    let none = Settling { samples: super::sampler::SampleLimits { per_hour: 0, ..SAMPLES }, ..SETTLING };
    (bench.settler, bench.backlog, bench.counts) = Bench::settler(&bench.store, none);
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    assert_eq!((bench.samples("shop").await, bench.seen().await.bucket("shop").0), (vec![], 1));

    let mut bench = Bench::new().await;
    let other = TenantId::new("tenant", "other").expect("valid");
    let reduced = reduced(&spans(1, "1 0 shop server 0 1"));
    let received = super::testing::received(&other, reduced.payload);
    bench.store.append_spans(NOW_MS, &[received]).await.expect("durable");
    bench.send(&spans(2, "1 0 shop server 2 3")).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    assert_eq!(bench.samples("shop").await.iter().map(told).collect::<Vec<_>>(), ["2 1"]);
    let (shop, all) =
        (EntityId::new("id", "shop").expect("valid"), crate::storage::BucketSpan { start_ms: 0, end_ms: i64::MAX });
    let of_other = store_samples(&bench, &other, &shop, all).await;
    assert_eq!(of_other.iter().map(told).collect::<Vec<_>>(), ["0 1"]);
}

async fn store_samples(
    bench: &Bench,
    tenant: &TenantId,
    service: &EntityId,
    span: crate::storage::BucketSpan,
) -> Vec<RequestSample> {
    let hours = bench.store.request_samples(tenant, service, span, 10).await.expect("read");
    hours.into_iter().flat_map(|hour| hour.samples).collect()
}

#[tokio::test]
async fn two_settlers_of_one_log_keep_the_same_samples_as_one() {
    let all: Vec<(String, wire::Span)> = (1..=30).map(|trace| span(trace, "1 0 shop server 0 9")).collect();
    let mut alone = Bench::new().await;
    alone.send(&all).await;
    alone.step(NOW_MS).await;
    alone.step(LATER_MS).await;

    let mut bench = Bench::new().await;
    let (mut other, ..) = Bench::settler(&bench.store, SETTLING);
    for (n, sent) in all.chunks(5).enumerate() {
        bench.send(sent).await;
        let now_ms = NOW_MS + n as i64 * 122_000;
        // Each takes what the other one did not settle.
        bench.step(now_ms).await;
        other.step(now_ms).await.expect("read");
        if n % 2 == 0 {
            bench.step(now_ms + 61_000).await;
        }
        other.step(now_ms + 61_000).await.expect("begins again");
    }
    assert_eq!(bench.samples("shop").await, alone.samples("shop").await);
    assert_eq!(bench.samples("shop").await.len(), SAMPLES.per_hour);
}

/// Requests of two services in two hours, some of which stand for several, by the number of their trace.
fn any_requests() -> impl Strategy<Value = Vec<(String, wire::Span)>> {
    let request =
        (any::<bool>(), any::<bool>(), 0u64..500, prop::sample::select(vec!["", " ot=th=8", " ot=th=c", " ot=p=63"]));
    let requests = prop::collection::btree_map(1u64..u64::MAX, request, 1..40);
    requests.prop_map(|requests| {
        let sent = |(trace, (of_shop, earlier, duration, sampling)): (u64, (bool, bool, u64, &str))| {
            let service = if of_shop { "shop" } else { "cart" };
            let line = format!("{} 0 {service} server 0 {duration}{sampling}", trace % 1_000 + 1);
            let (service, mut span) = span(u128::from(trace), &line);
            let back_ns = if earlier { DAY_MS as u64 * 1_000_000 } else { 0 };
            span.start_time_unix_nano -= back_ns;
            span.end_time_unix_nano -= back_ns;
            (service, span)
        };
        requests.into_iter().map(sent).collect()
    })
}

/// Of each service and hour the least ranks, from the ids alone.
fn least(all: &[(String, wire::Span)]) -> BTreeMap<(String, i64), Vec<u64>> {
    let mut least: BTreeMap<(String, i64), Vec<u64>> = BTreeMap::new();
    for (service, span) in all {
        let weight = match span.trace_state.as_str() {
            "" => 1,
            "ot=th:8" => 2,
            "ot=th:c" => 4,
            _ => continue,
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        let rank = fingerprint(number(&span.trace_id), number(&span.span_id) as u64) / weight;
        let hour_ms = hour_start((span.start_time_unix_nano / 1_000_000) as i64);
        least.entry((service.clone(), hour_ms)).or_default().push(rank);
    }
    for ranks in least.values_mut() {
        ranks.sort_unstable();
        ranks.truncate(SAMPLES.per_hour);
    }
    least
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_least_ranks_are_kept_in_whatever_order_and_batches_spans_come_and_whenever_the_process_dies(
        (all, order) in any_requests().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        batch in 4usize..20,
        settles in prop::collection::vec(any::<bool>(), 10),
        dies in prop::collection::vec(prop::bool::weighted(0.2), 10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let kept = runtime.block_on(async {
            let mut bench = Bench::new().await;
            let mut now_ms = NOW_MS;
            for ((sent, settles), dies) in order.chunks(batch).zip(&settles).zip(&dies) {
                bench.send_at(sent, NOW_MS).await;
                bench.step(now_ms).await;
                if *settles {
                    now_ms += 61_000;
                    bench.step(now_ms).await;
                }
                if *dies {
                    bench.restart().await;
                }
            }
            bench.step(now_ms).await;
            bench.step(now_ms + 61_000).await;
            let mut kept: BTreeMap<(String, i64), Vec<u64>> = BTreeMap::new();
            for service in ["shop", "cart"] {
                for sample in bench.samples(service).await {
                    kept.entry((service.to_owned(), sample.hour_ms())).or_default().push(sample.rank);
                }
            }
            kept
        });
        prop_assert_eq!(kept, least(&all));
    }
}
