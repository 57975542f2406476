//! What exports of metrics add up to, in whichever order and however often they come.

use attain_vocabulary::DAY_MS;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as wire;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::increments::{Verdicts, increments, state_keys};
use super::points::read_points;
use super::receipts::{Receipt, first_key_kept};
use crate::Config;
use crate::storage::CounterStates;

const NOW_MS: i64 = 1_793_000_000_000;
const NEW: &str = "http.server.request.duration";
const OLD: &str = "http.server.duration";
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

fn minute_ns(minute: i64) -> u64 {
    (NOW_MS + minute * 60_000) as u64 * 1_000_000
}

/// So many requests from one time until another.
fn point(start_ns: u64, time_ns: u64, count: u64) -> wire::HistogramDataPoint {
    wire::HistogramDataPoint { start_time_unix_nano: start_ns, time_unix_nano: time_ns, count, ..Default::default() }
}

fn metric(name: &str, temporality: i32, data_points: Vec<wire::HistogramDataPoint>) -> wire::ResourceMetrics {
    let histogram = wire::Histogram { data_points, aggregation_temporality: temporality };
    let metric = wire::Metric { name: name.into(), data: Some(Data::Histogram(histogram)), ..Default::default() };
    let value = Some(AnyValue { value: Some(Any::StringValue("shop".into())) });
    let attributes = vec![KeyValue { key: "service.name".into(), value, ..Default::default() }];
    wire::ResourceMetrics {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_metrics: vec![wire::ScopeMetrics { metrics: vec![metric], ..Default::default() }],
        ..Default::default()
    }
}

/// A process that began at minute 0 and answers ten requests a minute, under a name.
fn ten_a_minute(name: &str, minute: i64) -> wire::ResourceMetrics {
    metric(name, CUMULATIVE, vec![point(minute_ns(0), minute_ns(minute), 10 * minute as u64)])
}

struct Receiver {
    config: Config,
    states: CounterStates,
    now_ms: i64,
}

impl Receiver {
    fn new(config: Config) -> Self {
        Self { config, states: CounterStates::new(), now_ms: NOW_MS + 30 * 60_000 }
    }

    /// Takes an export; how many requests it added.
    fn take(&mut self, resource_metrics: Vec<wire::ResourceMetrics>) -> (u64, Verdicts) {
        let request = ExportMetricsServiceRequest { resource_metrics };
        let points = read_points(&request, self.config.point_limits(self.now_ms));
        assert_eq!(points.rejected.message(), "");
        let limits = self.config.series_limits(self.now_ms);
        let receipt = Receipt::of(&points.readings, &[], limits);
        let keys = state_keys(&points.readings, receipt.as_ref(), limits);
        let known = keys.iter().filter_map(|key| Some((key.clone(), self.states.get(key)?.clone()))).collect();
        let (batch, verdicts) = increments(&points.readings, receipt.as_ref(), &known, limits);
        for (key, state) in batch.counter_states {
            match state {
                Some(state) => self.states.insert(key, state),
                None => self.states.remove(&key),
            };
        }
        (batch.buckets.iter().map(|observed| observed.bucket.counts.valid()).sum(), verdicts)
    }

    fn added(&mut self, resource_metrics: Vec<wire::ResourceMetrics>) -> u64 {
        self.take(resource_metrics).0
    }
}

/// Twenty workers under one name, as a pre-forking server has: each has its own start and its own total.
#[test]
fn many_processes_under_one_name_count_once_however_many_are_told_apart() {
    for (streams_per_series_max, workers) in [(64, 20), (16, 16)] {
        let mut receiver = Receiver::new(Config { streams_per_series_max, ..Config::default() });
        for minute in 1..=10 {
            let worker = |n: u64| point(minute_ns(0) + n, minute_ns(minute) + n, 10 * minute as u64);
            let (added, verdicts) = receiver.take(vec![metric(NEW, CUMULATIVE, (0..20).map(worker).collect())]);
            assert_eq!((added, verdicts.streams_surplus), (10 * workers, 20 - workers as usize), "{minute}");
        }
    }
}

#[test]
fn an_export_of_delta_points_that_comes_again_adds_nothing() {
    let mut receiver = Receiver::new(Config::default());
    let many = || {
        let points = (0..100).map(|n| point(minute_ns(-100 + n), minute_ns(-99 + n), 1)).collect();
        vec![metric(NEW, DELTA, points)]
    };
    assert_eq!(receiver.added(many()), 100);
    assert_eq!(receiver.added(vec![metric(NEW, DELTA, vec![point(minute_ns(0), minute_ns(1), 7)])]), 7);
    let (added, verdicts) = receiver.take(many());
    assert_eq!((added, verdicts.repeated, verdicts.duplicate), (0, true, 100));
    // Remembered for an hour at least, whenever in it the export came.
    receiver.now_ms += 3_600_000;
    assert_eq!(receiver.added(many()), 0);
    let kept = |receiver: &Receiver, first: &str| {
        receiver.states.keys().filter(|key| key.starts_with("otlp-receipt/") && key.as_str() >= first).count()
    };
    assert_eq!(kept(&receiver, ""), 3, "two receipts, and how many there are");
    receiver.now_ms += 7_200_000;
    assert_eq!(kept(&receiver, &first_key_kept(receiver.config.series_limits(receiver.now_ms))), 0);
}

#[test]
fn receipts_have_a_bound_and_cumulative_points_need_none() {
    let mut receiver = Receiver::new(Config { metric_receipts_max: 1, ..Config::default() });
    let delta = |minute| vec![metric(NEW, DELTA, vec![point(minute_ns(minute), minute_ns(minute + 1), 1)])];
    assert!(!receiver.take(delta(0)).1.without_receipt);
    assert!(receiver.take(delta(1)).1.without_receipt);
    let mut receiver = Receiver::new(Config::default());
    receiver.added(vec![ten_a_minute(NEW, 1)]);
    assert!(receiver.states.keys().all(|key| !key.starts_with("otlp-receipt/")), "{:?}", receiver.states.keys());
}

/// A collector parts what an SDK in transition sends into exports of their own, in either order.
#[test]
fn old_and_new_names_that_come_apart_count_once() {
    for (first, second) in [(OLD, NEW), (NEW, OLD)] {
        let mut receiver = Receiver::new(Config::default());
        for minute in 1..=4 {
            assert_eq!(receiver.added(vec![ten_a_minute(first, minute)]), 10, "{first} {minute}");
            let (added, verdicts) = receiver.take(vec![ten_a_minute(second, minute)]);
            assert_eq!((added, verdicts.other_name), (0, 1), "{second} {minute}");
        }
        // The other way round for once: a retry.
        assert_eq!(receiver.added(vec![ten_a_minute(second, 5)]), 0);
        assert_eq!(receiver.added(vec![ten_a_minute(first, 5)]), 10);
    }
    let mut receiver = Receiver::new(Config::default());
    assert_eq!(receiver.added(vec![ten_a_minute(OLD, 1), ten_a_minute(NEW, 1)]), 10, "in one export the present name");
    assert_eq!(receiver.take(vec![ten_a_minute(OLD, 2)]).1.other_name, 1);
}

#[test]
fn a_service_that_moves_to_the_new_names_loses_nothing() {
    let mut receiver = Receiver::new(Config::default());
    assert_eq!(receiver.added(vec![ten_a_minute(OLD, 1)]), 10);
    let moved = |minute: i64| {
        vec![metric(NEW, CUMULATIVE, vec![point(minute_ns(2), minute_ns(minute), 10 * (minute - 2) as u64)])]
    };
    for minute in 3..=6 {
        assert_eq!(receiver.added(moved(minute)), 0, "the old name may come yet");
    }
    assert_eq!(receiver.added(moved(7)), 50, "it was silent for more than five minutes");
    assert_eq!(receiver.added(moved(8)), 10);
    assert_eq!(receiver.added(vec![ten_a_minute(OLD, 8)]), 0);
}

#[test]
fn the_name_that_is_read_is_known_the_next_day() {
    let mut receiver = Receiver::new(Config::default());
    receiver.added(vec![ten_a_minute(OLD, 1)]);
    receiver.now_ms += DAY_MS;
    assert_eq!(receiver.added(vec![ten_a_minute(NEW, 2)]), 0);
    assert_eq!(receiver.added(vec![ten_a_minute(OLD, 3)]), 20);
    let names: Vec<&String> = receiver.states.keys().filter(|key| key.contains("/names-")).collect();
    assert_eq!(names.len(), 1, "it moved on to today: {names:?}");
}

#[test]
fn a_service_name_without_end_is_not_read() {
    let mut of_resource = ten_a_minute(NEW, 1);
    let long = AnyValue { value: Some(Any::StringValue("x".repeat(1_025))) };
    of_resource.resource.as_mut().expect("a resource").attributes[0].value = Some(long);
    let request = ExportMetricsServiceRequest { resource_metrics: vec![of_resource] };
    let points = read_points(&request, Config::default().point_limits(NOW_MS + 60_000));
    let told = format!("{:?}", points.readings[0].told);
    assert!(told.contains("unknown_service"), "{told}");
}
