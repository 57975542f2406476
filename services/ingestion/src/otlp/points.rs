//! Data points that tell of requests and calls, picked out of an export of metrics and checked.

use std::sync::Arc;

use attain_vocabulary::{EntityId, UnixMillis};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1 as wire;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as Observed;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::meaning::{ReadMetric, Told, metric_to_read};
use super::reduce::{Rejected, region, service_name, within};
use super::sent::AttributeLimits;
use super::series::{Point, Shape};
use super::utilisation::is_read;
use crate::domain::{BucketLimits, Region};

/// The flag of a point that only says that there is no value.
const NO_RECORDED_VALUE: u32 = 1;
const TEMPORALITY_DELTA: i32 = 1;
const TEMPORALITY_CUMULATIVE: i32 = 2;
/// Resolutions beyond these no histogram of doubles has.
const SCALE_MAX: i32 = 40;
const TOO_MANY_BUCKETS: &str = "the point has more buckets than are read (ingestion.point_buckets_max)";

/// What a point may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PointLimits {
    /// When it may be.
    pub(crate) time: BucketLimits,
    /// Most attributes.
    pub(crate) attributes_max: usize,
    /// Longest value of an attribute, in bytes.
    pub(crate) attribute_bytes_max: usize,
    /// Most buckets of a histogram.
    pub(crate) buckets_max: usize,
    /// Most exemplars that are read.
    pub(crate) exemplars_max: usize,
    /// How much is read of its resource: as of that of spans, so that a service has one name.
    pub(crate) resource: AttributeLimits,
}

/// A point that tells of requests or calls.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// Names the resource within the tenant.
    pub(super) resource: Arc<str>,
    /// Names the series within the tenant.
    pub(super) series: String,
    pub(super) metric: ReadMetric,
    pub(super) point: Point,
    pub(super) told: Told,
    /// The unit of the metric.
    pub(super) unit_ms: f64,
    pub(super) exemplars: Vec<ExemplarRead>,
}

/// A measurement of one request, and the trace that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ExemplarRead {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) time_ms: UnixMillis,
    pub(super) latency_ms: f64,
}

/// What an export holds.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Points {
    pub(super) readings: Vec<Reading>,
    pub(super) rejected: Rejected,
    /// Points of metrics that say nothing about requests, and those that do not say who was called.
    pub(super) ignored_count: usize,
}

/// Picks the points that tell of requests and calls.
pub(super) fn read_points(request: &ExportMetricsServiceRequest, limits: PointLimits) -> Points {
    let mut points = Points::default();
    for of_resource in &request.resource_metrics {
        let service = service_name(of_resource.resource.as_ref(), limits.resource);
        let region = region(of_resource.resource.as_ref(), limits.resource);
        let mut identity = Sha256::new();
        hash_attributes(&mut identity, of_resource.resource.as_ref().map_or(&[], |resource| &resource.attributes));
        let resource: Arc<str> = name(identity.clone()).into();
        for scope in &of_resource.scope_metrics {
            let mut identity = identity.clone();
            hash_part(&mut identity, scope.scope.as_ref().map_or("", |scope| scope.name.as_str()).as_bytes());
            for metric in &scope.metrics {
                match metric_to_read(&metric.name) {
                    Some(read) => {
                        let mut identity = identity.clone();
                        hash_part(&mut identity, metric.name.as_bytes());
                        let unit_ms = unit_ms(&metric.unit, read.unit_ms);
                        let named = (&service, region.as_ref());
                        let of = Series { named, resource: &resource, identity, metric: read, unit_ms };
                        points.read(metric, &of, limits);
                    }
                    None if is_read(&metric.name) => {}
                    None => points.ignored_count += point_count(metric),
                }
            }
        }
    }
    points
}

/// Short enough to be stored, long enough to be no other's.
fn name(identity: Sha256) -> String {
    format!("{:x}", identity.finalize())[..32].to_owned()
}

struct Series<'a> {
    /// The service, and where it runs.
    named: (&'a EntityId, Option<&'a Region>),
    resource: &'a Arc<str>,
    identity: Sha256,
    metric: ReadMetric,
    unit_ms: f64,
}

impl Points {
    fn read(&mut self, metric: &wire::Metric, of: &Series<'_>, limits: PointLimits) {
        match &metric.data {
            Some(Data::Histogram(histogram)) => {
                for point in &histogram.data_points {
                    let read = (point.flags & NO_RECORDED_VALUE == 0)
                        .then(|| explicit(point, histogram.aggregation_temporality, limits));
                    self.note(read, (&point.attributes, &point.exemplars), of, limits);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &histogram.data_points {
                    let read = (point.flags & NO_RECORDED_VALUE == 0)
                        .then(|| exponential(point, histogram.aggregation_temporality, limits));
                    self.note(read, (&point.attributes, &point.exemplars), of, limits);
                }
            }
            Some(Data::Sum(sum)) if sum.is_monotonic => {
                for point in &sum.data_points {
                    let read =
                        (point.flags & NO_RECORDED_VALUE == 0).then(|| number(point, sum.aggregation_temporality));
                    // What a counter adds is no latency.
                    self.note(read, (&point.attributes, &[]), of, limits);
                }
            }
            _ => self.ignored_count += point_count(metric),
        }
    }

    fn note(
        &mut self,
        read: Option<Result<Point, &'static str>>,
        (attributes, exemplars): (&[KeyValue], &[wire::Exemplar]),
        of: &Series<'_>,
        limits: PointLimits,
    ) {
        let Some(read) = read else {
            self.ignored_count += 1;
            return;
        };
        let checked = read.and_then(|point| {
            within(limits.time, point.time_ns)?;
            bounded(attributes, limits)?;
            Ok(point)
        });
        let point = match checked {
            Ok(point) => point,
            Err(reason) => return self.rejected.note(reason),
        };
        let Some(told) = of.metric.meaning.of_point(of.named, attributes) else {
            self.ignored_count += 1;
            return;
        };
        let mut identity = of.identity.clone();
        hash_attributes(&mut identity, attributes);
        let series = name(identity);
        let exemplars = match &told {
            Told::Requests { .. } => exemplars
                .iter()
                .take(limits.exemplars_max)
                .filter_map(|read| exemplar(read, of.unit_ms))
                .filter(|read| within(limits.time, (read.time_ms as u64).saturating_mul(1_000_000)).is_ok())
                .collect(),
            Told::Edge(_) => Vec::new(),
        };
        let (resource, metric, unit_ms) = (Arc::clone(of.resource), of.metric, of.unit_ms);
        self.readings.push(Reading { resource, series, metric, point, told, unit_ms, exemplars });
    }
}

fn bounded(attributes: &[KeyValue], limits: PointLimits) -> Result<(), &'static str> {
    if attributes.len() > limits.attributes_max {
        return Err("the point has more attributes than are read (ingestion.point_attributes_max)");
    }
    let too_long = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.len() > limits.attribute_bytes_max,
        Some(Any::BytesValue(bytes)) => bytes.len() > limits.attribute_bytes_max,
        _ => false,
    };
    if attributes.iter().any(too_long) {
        return Err("an attribute of the point is longer than is read (ingestion.point_attribute_bytes_max)");
    }
    Ok(())
}

/// `None` where no trace is named, or the measurement is no latency.
fn exemplar(read: &wire::Exemplar, unit_ms: f64) -> Option<ExemplarRead> {
    let trace_id = <[u8; 16]>::try_from(read.trace_id.as_slice()).ok().filter(|id| *id != [0; 16])?;
    let span_id = <[u8; 8]>::try_from(read.span_id.as_slice()).unwrap_or_default();
    let value = match read.value? {
        Observed::AsDouble(value) => value,
        Observed::AsInt(value) => value as f64,
    };
    let latency_ms = value * unit_ms;
    let time_ms = i64::try_from(read.time_unix_nano / 1_000_000).ok()?;
    (latency_ms.is_finite() && latency_ms >= 0.0).then_some(ExemplarRead { trace_id, span_id, time_ms, latency_ms })
}

fn explicit(point: &wire::HistogramDataPoint, temporality: i32, limits: PointLimits) -> Result<Point, &'static str> {
    if point.explicit_bounds.len() >= limits.buckets_max {
        return Err(TOO_MANY_BUCKETS);
    }
    // Not `a >= b`: that is false for what is no number.
    if !point.explicit_bounds.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err("explicit_bounds do not ascend");
    }
    let counted = point.bucket_counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
    let shape = match (point.explicit_bounds.is_empty(), point.bucket_counts.len() == point.explicit_bounds.len() + 1) {
        (true, _) => Shape::Unknown,
        (false, false) => return Err("bucket_counts are not one more than explicit_bounds"),
        (false, true) if counted != Some(point.count) => return Err("bucket_counts do not sum to count"),
        (false, true) => Shape::Explicit { bounds: point.explicit_bounds.clone(), counts: point.bucket_counts.clone() },
    };
    timed(temporality, (point.start_time_unix_nano, point.time_unix_nano), point.count, shape)
}

fn exponential(
    point: &wire::ExponentialHistogramDataPoint,
    temporality: i32,
    limits: PointLimits,
) -> Result<Point, &'static str> {
    if !(-SCALE_MAX..=SCALE_MAX).contains(&point.scale) {
        return Err("the scale is outside -40 to 40");
    }
    let counts = point.positive.as_ref().map(|buckets| buckets.bucket_counts.clone()).unwrap_or_default();
    let below_zero = point.negative.as_ref().map_or(&[][..], |buckets| &buckets.bucket_counts);
    if counts.len().max(below_zero.len()) > limits.buckets_max {
        return Err(TOO_MANY_BUCKETS);
    }
    // No request takes less than no time: what says so is as good as none.
    let zero_count = below_zero.iter().try_fold(point.zero_count, |sum, count| sum.checked_add(*count));
    let counted = zero_count.and_then(|zeros| counts.iter().try_fold(zeros, |sum, count| sum.checked_add(*count)));
    if counted.is_none_or(|counted| counted > point.count) {
        return Err("the buckets hold more than count");
    }
    let shape = Shape::Exponential {
        scale: point.scale,
        zero_count: zero_count.unwrap_or_default(),
        zero_threshold: if point.zero_threshold.is_finite() { point.zero_threshold.max(0.0) } else { 0.0 },
        offset: point.positive.as_ref().map_or(0, |buckets| buckets.offset),
        counts,
    };
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
