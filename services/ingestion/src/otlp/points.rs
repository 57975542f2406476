//! Data points that count requests, picked out of an export of metrics and read by the conventions.

use std::collections::BTreeSet;

use attain_vocabulary::EntityId;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1 as wire;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::conventions::Facts;
use super::reduce::{Rejected, service_name, within};
use super::series::{Point, Shape};
use crate::domain::BucketLimits;

/// Metrics that count the requests that a server answered, with the unit where the metric does not say it, in
/// milliseconds. Of each line only the first that a resource reports is read: SDKs in transition send both the old and the
/// new name of the same thing.
///
/// Source: OpenTelemetry semantic conventions for HTTP and RPC metrics, stable and old; gRPC proposal A66.
const SERVER_METRICS: [&[(&str, f64)]; 2] = [
    &[("http.server.request.duration", 1_000.0), ("http.server.duration", 1.0), ("http.server.request.count", 1.0)],
    &[
        ("rpc.server.call.duration", 1_000.0),
        ("rpc.server.duration", 1.0),
        ("grpc.server.call.duration", 1_000.0),
        ("rpc.server.call.count", 1.0),
    ],
];

/// The flag of a point that only says that there is no value.
const NO_RECORDED_VALUE: u32 = 1;
const TEMPORALITY_DELTA: i32 = 1;
const TEMPORALITY_CUMULATIVE: i32 = 2;

/// A point that counts requests.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub(super) service: EntityId,
    /// Names the series within the tenant.
    pub(super) series: String,
    pub(super) point: Point,
    /// Whether the requests that it counts failed.
    pub(super) failed: bool,
    /// The unit of the metric.
    pub(super) unit_ms: f64,
}

/// What an export holds.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Points {
    pub(super) readings: Vec<Reading>,
    pub(super) rejected: Rejected,
    /// Points of metrics that say nothing about requests.
    pub(super) ignored_count: usize,
}

/// Picks the points that count requests.
pub(super) fn read_points(request: &ExportMetricsServiceRequest, limits: BucketLimits) -> Points {
    let mut points = Points::default();
    for of_resource in &request.resource_metrics {
        let service = service_name(of_resource.resource.as_ref());
        let mut identity = Sha256::new();
        hash_attributes(&mut identity, of_resource.resource.as_ref().map_or(&[], |resource| &resource.attributes));
        let read = names_to_read(of_resource);
        for scope in &of_resource.scope_metrics {
            let mut identity = identity.clone();
            hash_part(&mut identity, scope.scope.as_ref().map_or("", |scope| scope.name.as_str()).as_bytes());
            for metric in &scope.metrics {
                match read.iter().find(|(name, _)| *name == metric.name) {
                    Some((_, default_ms)) => {
                        let of = Series {
                            service: &service,
                            identity: &identity,
                            unit_ms: unit_ms(&metric.unit, *default_ms),
                        };
                        points.read(metric, &of, limits);
                    }
                    None => points.ignored_count += point_count(metric),
                }
            }
        }
    }
    points
}

/// Of each line of the table the first metric that this resource reports.
fn names_to_read(of_resource: &wire::ResourceMetrics) -> Vec<(&'static str, f64)> {
    let metrics = of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics);
    let reported: BTreeSet<&str> = metrics.map(|metric| metric.name.as_str()).collect();
    SERVER_METRICS.iter().filter_map(|line| line.iter().find(|(name, _)| reported.contains(name)).copied()).collect()
}

struct Series<'a> {
    service: &'a EntityId,
    identity: &'a Sha256,
    unit_ms: f64,
}

impl Points {
    fn read(&mut self, metric: &wire::Metric, of: &Series<'_>, limits: BucketLimits) {
        let mut identity = of.identity.clone();
        hash_part(&mut identity, metric.name.as_bytes());
        let of = Series { identity: &identity, ..*of };
        match &metric.data {
            Some(Data::Histogram(histogram)) => {
                for point in &histogram.data_points {
                    let read = (point.flags & NO_RECORDED_VALUE == 0)
                        .then(|| explicit(point, histogram.aggregation_temporality));
                    self.note(read, &point.attributes, &of, limits);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &histogram.data_points {
                    let read = (point.flags & NO_RECORDED_VALUE == 0)
                        .then(|| exponential(point, histogram.aggregation_temporality));
                    self.note(read, &point.attributes, &of, limits);
                }
            }
            Some(Data::Sum(sum)) if sum.is_monotonic => {
                for point in &sum.data_points {
                    let read =
                        (point.flags & NO_RECORDED_VALUE == 0).then(|| number(point, sum.aggregation_temporality));
                    self.note(read, &point.attributes, &of, limits);
                }
            }
            _ => self.ignored_count += point_count(metric),
        }
    }

    fn note(
        &mut self,
        read: Option<Result<Point, &'static str>>,
        attributes: &[KeyValue],
        of: &Series<'_>,
        limits: BucketLimits,
    ) {
        let Some(read) = read else {
            self.ignored_count += 1;
            return;
        };
        match read.and_then(|point| within(limits, point.time_ns).map(|()| point)) {
            Ok(point) => {
                let mut identity = of.identity.clone();
                hash_attributes(&mut identity, attributes);
                let series = format!("{:x}", identity.finalize())[..32].to_owned();
                let failed = Facts::read(attributes).failed(false);
                self.readings.push(Reading { service: of.service.clone(), series, point, failed, unit_ms: of.unit_ms });
            }
            Err(reason) => self.rejected.note(reason),
        }
    }
}

fn explicit(point: &wire::HistogramDataPoint, temporality: i32) -> Result<Point, &'static str> {
    let counted = point.bucket_counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
    let shape = match (point.explicit_bounds.is_empty(), point.bucket_counts.len() == point.explicit_bounds.len() + 1) {
        (true, _) => Shape::Unknown,
        (false, false) => return Err("bucket_counts are not one more than explicit_bounds"),
        (false, true) if counted != Some(point.count) => return Err("bucket_counts do not sum to count"),
        (false, true) => Shape::Explicit { bounds: point.explicit_bounds.clone(), counts: point.bucket_counts.clone() },
    };
    timed(temporality, (point.start_time_unix_nano, point.time_unix_nano), point.count, shape)
}

fn exponential(point: &wire::ExponentialHistogramDataPoint, temporality: i32) -> Result<Point, &'static str> {
    let counts = point.positive.as_ref().map(|buckets| buckets.bucket_counts.clone()).unwrap_or_default();
    let counted = counts.iter().try_fold(point.zero_count, |sum, count| sum.checked_add(*count));
    if counted.is_none_or(|counted| counted > point.count) {
        return Err("the buckets hold more than count");
    }
    let offset = point.positive.as_ref().map_or(0, |buckets| buckets.offset);
    let shape = Shape::Exponential { scale: point.scale, zero_count: point.zero_count, offset, counts };
    timed(temporality, (point.start_time_unix_nano, point.time_unix_nano), point.count, shape)
}

fn number(point: &wire::NumberDataPoint, temporality: i32) -> Result<Point, &'static str> {
    let count = match point.value {
        Some(Value::AsInt(value)) => u64::try_from(value).ok(),
        // Up to 2^53 a double holds every whole number.
        Some(Value::AsDouble(value)) => (0.0..=9_007_199_254_740_992.0).contains(&value).then(|| value.round() as u64),
        None => None,
    };
    let count = count.ok_or("the value is no count")?;
    timed(temporality, (point.start_time_unix_nano, point.time_unix_nano), count, Shape::Unknown)
}

fn timed(temporality: i32, (start_ns, time_ns): (u64, u64), count: u64, shape: Shape) -> Result<Point, &'static str> {
    let cumulative = match temporality {
        TEMPORALITY_DELTA => false,
        TEMPORALITY_CUMULATIVE => true,
        _ => return Err("aggregation_temporality is neither delta nor cumulative"),
    };
    if time_ns == 0 {
        return Err("time_unix_nano is missing");
    }
    if start_ns > time_ns {
        return Err("the point ends before it starts");
    }
    Ok(Point { cumulative, start_ns, time_ns, count, shape })
}

fn unit_ms(unit: &str, default_ms: f64) -> f64 {
    match unit {
        "s" => 1_000.0,
        "ms" => 1.0,
        "us" => 1e-3,
        "ns" => 1e-6,
        _ => default_ms,
    }
}

fn point_count(metric: &wire::Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 0,
    }
}

/// The order of attributes does not matter.
fn hash_attributes(identity: &mut Sha256, attributes: &[KeyValue]) {
    let mut written: Vec<(&str, Vec<u8>)> = attributes
        .iter()
        .map(|attribute| {
            (attribute.key.as_str(), attribute.value.as_ref().map(|value| value.encode_to_vec()).unwrap_or_default())
        })
        .collect();
    written.sort();
    hash_part(identity, &(written.len() as u64).to_be_bytes());
    for (key, value) in written {
        hash_part(identity, key.as_bytes());
        hash_part(identity, &value);
    }
}

/// With its length, so that no two lists of parts look alike.
fn hash_part(identity: &mut Sha256, part: &[u8]) {
    identity.update((part.len() as u64).to_be_bytes());
    identity.update(part);
}
