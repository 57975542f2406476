//! JSON and protobuf of the same export are the same, whichever liberties ProtoJSON allows its writer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use super::json::{metrics_from_json, traces_from_json};

/// The liberties of a writer: 64-bit integers as numbers, upper-case ids, fields that nobody knows.
#[derive(Debug, Clone, Copy)]
struct Writer {
    numbers: bool,
    upper: bool,
    extra: bool,
}

impl Writer {
    fn long(self, value: impl Into<i128>) -> Value {
        let value = value.into();
        match (self.numbers, u64::try_from(value), i64::try_from(value)) {
            (true, Ok(value), _) => json!(value),
            (true, _, Ok(value)) => json!(value),
            _ => json!(value.to_string()),
        }
    }

    fn id(self, bytes: &[u8]) -> Value {
        json!(if self.upper { hex::encode_upper(bytes) } else { hex::encode(bytes) })
    }

    fn object(self, mut value: Value) -> Value {
        if self.extra {
            value["fromTheFuture"] = json!({"a": [1, null]});
            value["alsoNull"] = Value::Null;
        }
        value
    }

    fn double(value: f64) -> Value {
        match value {
            value if value.is_nan() => json!("NaN"),
            f64::INFINITY => json!("Infinity"),
            f64::NEG_INFINITY => json!("-Infinity"),
            value => json!(value),
        }
    }

    fn any(self, value: &common::AnyValue) -> Value {
        let list = |values: &[common::AnyValue]| values.iter().map(|value| self.any(value)).collect::<Vec<_>>();
        self.object(match &value.value {
            None | Some(Any::StringValueStrindex(_)) => json!({}),
            Some(Any::StringValue(text)) => json!({"stringValue": text}),
            Some(Any::BoolValue(truth)) => json!({"boolValue": truth}),
            Some(Any::IntValue(number)) => json!({"intValue": self.long(*number)}),
            Some(Any::DoubleValue(number)) => json!({"doubleValue": Self::double(*number)}),
            Some(Any::BytesValue(bytes)) => json!({"bytesValue": STANDARD.encode(bytes)}),
            Some(Any::ArrayValue(array)) => json!({"arrayValue": {"values": list(&array.values)}}),
            Some(Any::KvlistValue(list)) => json!({"kvlistValue": {"values": self.attributes(&list.values)}}),
        })
    }

    fn attributes(self, attributes: &[common::KeyValue]) -> Value {
        let written = attributes.iter().map(|attribute| {
            let mut written = json!({"key": attribute.key});
            if let Some(value) = &attribute.value {
                written["value"] = self.any(value);
            }
            written
        });
        written.collect()
    }

    fn span(self, span: &trace::Span) -> Value {
        let status = span.status.as_ref().map(|status| json!({"message": status.message, "code": status.code}));
        self.object(json!({
            "traceId": self.id(&span.trace_id), "spanId": self.id(&span.span_id),
            "parentSpanId": self.id(&span.parent_span_id), "traceState": span.trace_state, "flags": span.flags,
            "name": span.name, "kind": span.kind, "startTimeUnixNano": self.long(span.start_time_unix_nano),
            "endTimeUnixNano": self.long(span.end_time_unix_nano), "attributes": self.attributes(&span.attributes),
            "droppedAttributesCount": span.dropped_attributes_count, "status": status,
            "events": span.events.iter().map(|event| json!({
                "timeUnixNano": self.long(event.time_unix_nano), "name": event.name,
                "attributes": self.attributes(&event.attributes),
            })).collect::<Vec<_>>(),
            "links": span.links.iter().map(|link| json!({
                "traceId": self.id(&link.trace_id), "spanId": self.id(&link.span_id), "flags": link.flags,
            })).collect::<Vec<_>>(),
        }))
    }

    fn exemplars(self, exemplars: &[metrics::Exemplar]) -> Value {
        let written = exemplars.iter().map(|exemplar| {
            let mut written = json!({
                "timeUnixNano": self.long(exemplar.time_unix_nano), "traceId": self.id(&exemplar.trace_id),
                "spanId": self.id(&exemplar.span_id),
            });
            match exemplar.value {
                Some(metrics::exemplar::Value::AsInt(value)) => written["asInt"] = self.long(value),
                Some(metrics::exemplar::Value::AsDouble(value)) => written["asDouble"] = Self::double(value),
                None => {}
            }
            written
        });
        written.collect()
    }

    fn number(self, point: &metrics::NumberDataPoint) -> Value {
        let mut written = json!({
            "attributes": self.attributes(&point.attributes), "flags": point.flags,
            "startTimeUnixNano": self.long(point.start_time_unix_nano), "timeUnixNano": self.long(point.time_unix_nano),
            "exemplars": self.exemplars(&point.exemplars),
        });
        match point.value {
            Some(Number::AsInt(value)) => written["asInt"] = self.long(value),
            Some(Number::AsDouble(value)) => written["asDouble"] = Self::double(value),
            None => {}
        }
        self.object(written)
    }

    fn longs(self, values: &[u64]) -> Value {
        values.iter().map(|value| self.long(*value)).collect()
    }

    fn data(self, data: &Data) -> (&'static str, Value) {
        let numbers =
            |points: &[metrics::NumberDataPoint]| points.iter().map(|point| self.number(point)).collect::<Value>();
        match data {
            Data::Gauge(gauge) => ("gauge", json!({"dataPoints": numbers(&gauge.data_points)})),
            Data::Sum(sum) => (
                "sum",
                json!({
                    "dataPoints": numbers(&sum.data_points), "isMonotonic": sum.is_monotonic,
                    "aggregationTemporality": sum.aggregation_temporality,
                }),
            ),
            Data::Histogram(histogram) => {
                let points = histogram.data_points.iter().map(|point| {
                    self.object(json!({
                        "startTimeUnixNano": self.long(point.start_time_unix_nano),
                        "timeUnixNano": self.long(point.time_unix_nano), "count": self.long(point.count),
                        "sum": point.sum.map(Self::double), "bucketCounts": self.longs(&point.bucket_counts),
                        "explicitBounds": point.explicit_bounds.iter().map(|bound| Self::double(*bound)).collect::<Vec<_>>(),
                        "attributes": self.attributes(&point.attributes), "exemplars": self.exemplars(&point.exemplars),
                        "min": point.min.map(Self::double),
                    }))
                });
                let points: Vec<Value> = points.collect();
                (
                    "histogram",
                    json!({"dataPoints": points, "aggregationTemporality": histogram.aggregation_temporality}),
                )
            }
            Data::ExponentialHistogram(histogram) => {
                let buckets = |of: &metrics::exponential_histogram_data_point::Buckets| json!({"offset": of.offset, "bucketCounts": self.longs(&of.bucket_counts)});
                let points = histogram.data_points.iter().map(|point| {
                    json!({
                        "timeUnixNano": self.long(point.time_unix_nano), "count": self.long(point.count),
                        "scale": point.scale, "zeroCount": self.long(point.zero_count),
                        "positive": point.positive.as_ref().map(buckets), "negative": point.negative.as_ref().map(buckets),
                        "zeroThreshold": Self::double(point.zero_threshold),
                    })
                });
                let points: Vec<Value> = points.collect();
                let temporality = histogram.aggregation_temporality;
                ("exponentialHistogram", json!({"dataPoints": points, "aggregationTemporality": temporality}))
            }
            Data::Summary(summary) => {
                let points = summary.data_points.iter().map(|point| {
                    let quantiles = point.quantile_values.iter();
                    let quantiles = quantiles.map(|at| json!({"quantile": at.quantile, "value": at.value}));
                    json!({
                        "timeUnixNano": self.long(point.time_unix_nano), "count": self.long(point.count),
                        "sum": Self::double(point.sum), "quantileValues": quantiles.collect::<Vec<_>>(),
                    })
                });
                ("summary", json!({"dataPoints": points.collect::<Vec<_>>()}))
            }
        }
    }
}

fn writers() -> impl Strategy<Value = Writer> {
    any::<(bool, bool, bool)>().prop_map(|(numbers, upper, extra)| Writer { numbers, upper, extra })
}

fn doubles() -> impl Strategy<Value = f64> {
    // NaN is no value that equals itself: it is looked at by itself below.
    any::<f64>().prop_filter("a number", |value| !value.is_nan())
}

fn any_values() -> impl Strategy<Value = common::AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        "\\PC{0,12}".prop_map(|text| Some(Any::StringValue(text))),
        any::<bool>().prop_map(|truth| Some(Any::BoolValue(truth))),
        any::<i64>().prop_map(|number| Some(Any::IntValue(number))),
        doubles().prop_map(|number| Some(Any::DoubleValue(number))),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Some(Any::BytesValue(bytes))),
    ]
    .prop_map(|value| common::AnyValue { value });
    leaf.prop_recursive(3, 12, 3, |inner| {
        let array = prop::collection::vec(inner.clone(), 0..3)
            .prop_map(|values| Any::ArrayValue(common::ArrayValue { values }));
        let pair = ("[a-z]{1,4}", prop::option::of(inner)).prop_map(|(key, value)| common::KeyValue {
            key,
            value,
            ..Default::default()
        });
        let list =
            prop::collection::vec(pair, 0..3).prop_map(|values| Any::KvlistValue(common::KeyValueList { values }));
        prop_oneof![array, list].prop_map(|value| common::AnyValue { value: Some(value) })
    })
}

fn attribute_lists() -> impl Strategy<Value = Vec<common::KeyValue>> {
    let pair = ("[a-z.]{0,8}", prop::option::of(any_values())).prop_map(|(key, value)| common::KeyValue {
        key,
        value,
        ..Default::default()
    });
    prop::collection::vec(pair, 0..4)
}

fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), length)]
}

fn spans() -> impl Strategy<Value = trace::Span> {
    let ids = (bytes(16), bytes(8), bytes(8));
    let said = ("\\PC{0,12}", "[a-z=]{0,8}", -3i32..9, any::<u32>(), any::<u64>(), any::<u64>());
    let events = prop::collection::vec((any::<u64>(), "\\PC{0,6}", attribute_lists()), 0..3);
    let links = prop::collection::vec((bytes(16), bytes(8), any::<u32>()), 0..3);
    let status = prop::option::of(("\\PC{0,6}", 0i32..3));
    (ids, said, attribute_lists(), events, links, status).prop_map(|(ids, said, attributes, events, links, status)| {
        trace::Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id: ids.2,
            name: said.0,
            trace_state: said.1,
            kind: said.2,
            flags: said.3,
            start_time_unix_nano: said.4,
            end_time_unix_nano: said.5,
            attributes,
            events: events
                .into_iter()
                .map(|(time_unix_nano, name, attributes)| trace::span::Event {
                    time_unix_nano,
                    name,
                    attributes,
                    ..Default::default()
                })
                .collect(),
            links: links
                .into_iter()
                .map(|(trace_id, span_id, flags)| trace::span::Link { trace_id, span_id, flags, ..Default::default() })
                .collect(),
            status: status.map(|(message, code)| trace::Status { message, code }),
            ..Default::default()
        }
    })
}

fn exemplar_lists() -> impl Strategy<Value = Vec<metrics::Exemplar>> {
    let value = prop::option::of(prop_oneof![
        any::<i64>().prop_map(metrics::exemplar::Value::AsInt),
        doubles().prop_map(metrics::exemplar::Value::AsDouble),
    ]);
    let exemplar = (any::<u64>(), bytes(16), bytes(8), value).prop_map(|(time_unix_nano, trace_id, span_id, value)| {
        metrics::Exemplar { time_unix_nano, trace_id, span_id, value, ..Default::default() }
    });
    prop::collection::vec(exemplar, 0..3)
}

fn number_points() -> impl Strategy<Value = Vec<metrics::NumberDataPoint>> {
    let value =
        prop::option::of(prop_oneof![any::<i64>().prop_map(Number::AsInt), doubles().prop_map(Number::AsDouble)]);
    let point = (attribute_lists(), any::<u64>(), any::<u64>(), exemplar_lists(), any::<u32>(), value).prop_map(
        |(attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value)| metrics::NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            exemplars,
            flags,
            value,
        },
    );
    prop::collection::vec(point, 0..3)
}

fn metric_data() -> impl Strategy<Value = Data> {
    let longs = || prop::collection::vec(any::<u64>(), 0..4);
    let histogram = (
        (any::<u64>(), any::<u64>(), any::<u64>(), prop::option::of(doubles()), longs()),
        prop::collection::vec(doubles(), 0..4),
        (attribute_lists(), exemplar_lists(), prop::option::of(doubles())),
    )
        .prop_map(|((start_time_unix_nano, time_unix_nano, count, sum, bucket_counts), explicit_bounds, rest)| {
            let (attributes, exemplars, min) = rest;
            let point = metrics::HistogramDataPoint {
                start_time_unix_nano,
                time_unix_nano,
                count,
                sum,
                bucket_counts,
                explicit_bounds,
                attributes,
                exemplars,
                min,
                ..Default::default()
            };
            Data::Histogram(metrics::Histogram { data_points: vec![point], aggregation_temporality: 2 })
        });
    let buckets = || {
        prop::option::of((any::<i32>(), longs()).prop_map(|(offset, bucket_counts)| {
            metrics::exponential_histogram_data_point::Buckets { offset, bucket_counts }
        }))
    };
    let exponential = (any::<(u64, u64, i32, u64)>(), buckets(), buckets(), doubles()).prop_map(
        |((time_unix_nano, count, scale, zero_count), positive, negative, zero_threshold)| {
            let point = metrics::ExponentialHistogramDataPoint {
                time_unix_nano,
                count,
                scale,
                zero_count,
                positive,
                negative,
                zero_threshold,
                ..Default::default()
            };
            let data_points = vec![point];
            Data::ExponentialHistogram(metrics::ExponentialHistogram { data_points, aggregation_temporality: 1 })
        },
    );
    let summary = (any::<u64>(), any::<u64>(), doubles(), prop::collection::vec((0.0f64..1.0, -1e9f64..1e9), 0..3))
        .prop_map(|(time_unix_nano, count, sum, quantiles)| {
            let at = |(quantile, value)| metrics::summary_data_point::ValueAtQuantile { quantile, value };
            let quantile_values = quantiles.into_iter().map(at).collect();
            let point = metrics::SummaryDataPoint { time_unix_nano, count, sum, quantile_values, ..Default::default() };
            Data::Summary(metrics::Summary { data_points: vec![point] })
        });
    prop_oneof![
        number_points().prop_map(|data_points| Data::Gauge(metrics::Gauge { data_points })),
        (number_points(), any::<bool>(), 0i32..3).prop_map(|(data_points, is_monotonic, aggregation_temporality)| {
            Data::Sum(metrics::Sum { data_points, is_monotonic, aggregation_temporality })
        }),
        histogram,
        exponential,
        summary,
    ]
}

fn resource(attributes: Vec<common::KeyValue>) -> Option<Resource> {
    Some(Resource { attributes, ..Default::default() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn spans_in_json_are_those_in_protobuf(writer in writers(), spans in prop::collection::vec(spans(), 0..4), attributes in attribute_lists()) {
        let written: Vec<Value> = spans.iter().map(|span| writer.span(span)).collect();
        let body = writer.object(json!({"resourceSpans": [writer.object(json!({
            "resource": {"attributes": writer.attributes(&attributes)}, "schemaUrl": "https://x.example",
            "scopeSpans": [{"scope": {"name": "lib", "version": "1"}, "spans": written}],
        }))]}));
        let scope = Some(common::InstrumentationScope { name: "lib".into(), version: "1".into(), ..Default::default() });
        let scope_spans = vec![trace::ScopeSpans { scope, spans, ..Default::default() }];
        let resource = resource(attributes);
        let schema_url = "https://x.example".to_owned();
        let export = ExportTraceServiceRequest { resource_spans: vec![trace::ResourceSpans { resource, scope_spans, schema_url }] };
        let protobuf = ExportTraceServiceRequest::decode(export.encode_to_vec().as_slice()).expect("its own bytes");
        let read = traces_from_json(body.to_string().as_bytes());
        prop_assert_eq!(read, Ok(protobuf));
    }

    #[test]
    fn points_in_json_are_those_in_protobuf(writer in writers(), data in metric_data(), attributes in attribute_lists()) {
        let (kind, written) = writer.data(&data);
        let body = json!({"resourceMetrics": [{
            "resource": {"attributes": writer.attributes(&attributes)},
            "scopeMetrics": [{"metrics": [writer.object(json!({"name": "m", "unit": "s", kind: written}))]}],
        }]});
        let metric = metrics::Metric { name: "m".into(), unit: "s".into(), data: Some(data), ..Default::default() };
        let scope_metrics = vec![metrics::ScopeMetrics { metrics: vec![metric], ..Default::default() }];
        let of_resource = metrics::ResourceMetrics { resource: resource(attributes), scope_metrics, ..Default::default() };
        let export = ExportMetricsServiceRequest { resource_metrics: vec![of_resource] };
        let protobuf = ExportMetricsServiceRequest::decode(export.encode_to_vec().as_slice()).expect("its own bytes");
        prop_assert_eq!(metrics_from_json(body.to_string().as_bytes()), Ok(protobuf));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}:,\"a-z0-9]{0,80}") {
        let _ = (traces_from_json(&bytes), metrics_from_json(&bytes));
        let _ = (traces_from_json(text.as_bytes()), metrics_from_json(text.as_bytes()));
    }
}

#[test]
fn what_is_wrong_is_named_by_its_place() {
    let spans = |span: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
    let place = "/resourceSpans/0/scopeSpans/0/spans/0";
    for (body, expected) in [
        (spans(r#"{"traceId":"xyz"}"#), format!("{place}/traceId is not hexadecimal")),
        (spans(r#"{"kind":"SPAN_KIND_SERVER"}"#), format!("{place}/kind is no number: enums are numbers here")),
        (spans(r#"{"startTimeUnixNano":"-1"}"#), format!("{place}/startTimeUnixNano is no whole number in range")),
        (spans(r#"{"startTimeUnixNano":1.5}"#), format!("{place}/startTimeUnixNano is no whole number in range")),
        (spans(r#"{"name":7}"#), format!("{place}/name is no string")),
        (spans("7"), format!("{place} is no object")),
        (r#"{"resourceSpans":{}}"#.to_owned(), "/resourceSpans is no list".to_owned()),
        ("7".to_owned(), "is no JSON object".to_owned()),
    ] {
        assert_eq!(traces_from_json(body.as_bytes()).expect_err(&body).to_string(), expected);
    }
    // Deeper than anybody means.
    let deep = format!("{}1{}", r#"{"a":["#.repeat(200), "]}".repeat(200));
    assert!(traces_from_json(deep.as_bytes()).is_err());
}

#[test]
fn what_proto_json_leaves_open_is_taken() {
    let body = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[
        {"asDouble":"NaN"},{"asDouble":"1.5"},{"asInt":"7"},{"asInt":7.0},{"timeUnixNano":"1e3"},{"asDouble":null}
    ]}}]}]}]}"#;
    let read = metrics_from_json(body.as_bytes()).expect("an export");
    let Some(Data::Gauge(gauge)) = &read.resource_metrics[0].scope_metrics[0].metrics[0].data else {
        panic!("no gauge: {read:?}")
    };
    let values: Vec<String> = gauge.data_points.iter().map(|point| format!("{:?}", point.value)).collect();
    let expected = ["Some(AsDouble(NaN))", "Some(AsDouble(1.5))", "Some(AsInt(7))", "Some(AsInt(7))", "None", "None"];
    assert_eq!(values, expected);
    assert_eq!(gauge.data_points[4].time_unix_nano, 1_000);
    // A snake-case key is nobody's.
    assert_eq!(traces_from_json(br#"{"resource_spans":[{}]}"#), Ok(ExportTraceServiceRequest::default()));
}
