use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;

use super::http::json::{metrics_from_json, traces_from_json};
use super::increments::{SeriesLimits, increments, state_keys};
use super::known::KnownNames;
use super::names::Names;
use super::points::{PointLimits, read_points};
use super::receipts::Receipt;
use super::reduce::{SpanLimits, reduce};
use super::sent::{AttributeLimits, SentSpans};
use super::span::decode;
use super::waiting::Waiting;
use crate::domain::BucketLimits;
use crate::storage::CounterStates;

const TIME: BucketLimits = BucketLimits { now_ms: 1_793_000_000_000, future_skew_ms: 300_000, age_days_max: 40_000 };
const POINTS: PointLimits = PointLimits {
    time: TIME,
    attributes_max: 64,
    attribute_bytes_max: 1_024,
    buckets_max: 4_096,
    exemplars_max: 64,
    resource: AttributeLimits { attributes_max: 64, value_bytes_max: 1_024 },
};
const SERIES: SeriesLimits =
    SeriesLimits { now_ms: TIME.now_ms, series_max: 100, streams_max: 4, receipt_ms: 3_600_000, receipts_max: 100 };

/// An OTLP export of spans in protobuf.
pub fn traces(bytes: &[u8]) {
    if let Ok(sent) = SentSpans::decode(bytes) {
        reduced(&sent);
    }
}

/// An OTLP export of spans in JSON.
pub fn traces_json(bytes: &[u8]) {
    if let Ok(export) = traces_from_json(bytes) {
        reduced(&SentSpans::from(&export));
    }
}

/// What was reduced is read back, every span of it.
fn reduced(sent: &SentSpans) {
    let limits =
        SpanLimits { time: TIME, attributes_max: 64, value_bytes_max: 1_024, links_max: 128, weight_max: 1 << 20 };
    let Ok(reduced) = reduce(sent, limits, &KnownNames::default()) else { return };
    let read = decode(&reduced.payload, &mut Names::default()).expect("a row of the span log");
    assert_eq!(read.spans.len(), reduced.kept_count);
}

/// An OTLP export of points in protobuf.
pub fn metrics(bytes: &[u8]) {
    if let Ok(request) = ExportMetricsServiceRequest::decode(bytes) {
        counted(&request);
    }
}

/// An OTLP export of points in JSON.
pub fn metrics_json(bytes: &[u8]) {
    if let Ok(request) = metrics_from_json(bytes) {
        counted(&request);
    }
}

fn counted(request: &ExportMetricsServiceRequest) {
    let points = read_points(request, POINTS);
    let receipt = Receipt::of(&points.readings, &[], SERIES);
    let _ = state_keys(&points.readings, receipt.as_ref(), SERIES);
    let _ = increments(&points.readings, receipt.as_ref(), &CounterStates::default(), SERIES);
}

/// A row of the span log, and what a settlement left of it.
pub fn span_row(bytes: &[u8]) {
    let length = decode(bytes, &mut Names::default()).map_or(0, |read| read.spans.len());
    if let Some(mut waiting) = Waiting::read(bytes, length) {
        (0..length).for_each(|index| waiting.remove(index));
        assert_eq!(waiting.stored(), None);
    }
}
