//! OTLP/JSON: proto3's JSON mapping with the exceptions that the protocol makes: ids are hexadecimal, enums are numbers,
//! keys are lowerCamelCase only, and what nobody knows is ignored.
//!
//! Source: OpenTelemetry protocol 1.9, JSON Protobuf Encoding; protobuf's ProtoJSON format for what it leaves open
//! (64-bit integers as strings or numbers, `NaN` and `Infinity` as strings, null as absent).

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use serde_json::{Map, Value};

/// Either padding, as ProtoJSON asks of readers.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
/// Above this a double does not hold every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What makes a body no export, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pointer: String,
    reason: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(formatter, "{}", self.reason),
            pointer => write!(formatter, "{pointer} {}", self.reason),
        }
    }
}

impl Wrong {
    fn new(reason: &str) -> Self {
        Self { pointer: String::new(), reason: reason.to_owned() }
    }

    fn below(mut self, step: &str) -> Self {
        self.pointer = format!("/{step}{}", self.pointer);
        self
    }
}

type Read<T> = Result<T, Wrong>;

/// Spans.
pub(crate) fn traces_from_json(body: &[u8]) -> Read<ExportTraceServiceRequest> {
    let mut export = Object::parse(body)?;
    Ok(ExportTraceServiceRequest { resource_spans: export.each("resourceSpans", resource_spans)? })
}

/// Data points.
pub(crate) fn metrics_from_json(body: &[u8]) -> Read<ExportMetricsServiceRequest> {
    let mut export = Object::parse(body)?;
    Ok(ExportMetricsServiceRequest { resource_metrics: export.each("resourceMetrics", resource_metrics)? })
}

fn resource_spans(mut from: Object) -> Read<trace::ResourceSpans> {
    Ok(trace::ResourceSpans {
        resource: from.one("resource", resource)?,
        scope_spans: from.each("scopeSpans", scope_spans)?,
        schema_url: from.text("schemaUrl")?,
    })
}

fn scope_spans(mut from: Object) -> Read<trace::ScopeSpans> {
    Ok(trace::ScopeSpans {
        scope: from.one("scope", scope)?,
        spans: from.each("spans", span)?,
        schema_url: from.text("schemaUrl")?,
    })
}

fn span(mut from: Object) -> Read<trace::Span> {
    Ok(trace::Span {
        trace_id: from.hex("traceId")?,
        span_id: from.hex("spanId")?,
        trace_state: from.text("traceState")?,
        parent_span_id: from.hex("parentSpanId")?,
        flags: from.whole("flags")?,
        name: from.text("name")?,
        kind: from.enumeration("kind")?,
        start_time_unix_nano: from.whole("startTimeUnixNano")?,
        end_time_unix_nano: from.whole("endTimeUnixNano")?,
        attributes: from.each("attributes", key_value)?,
        dropped_attributes_count: from.whole("droppedAttributesCount")?,
        events: from.each("events", event)?,
        dropped_events_count: from.whole("droppedEventsCount")?,
        links: from.each("links", link)?,
        dropped_links_count: from.whole("droppedLinksCount")?,
        status: from.one("status", |mut from| {
            Ok(trace::Status { message: from.text("message")?, code: from.enumeration("code")? })
        })?,
    })
}

fn event(mut from: Object) -> Read<trace::span::Event> {
    Ok(trace::span::Event {
        time_unix_nano: from.whole("timeUnixNano")?,
        name: from.text("name")?,
        attributes: from.each("attributes", key_value)?,
        dropped_attributes_count: from.whole("droppedAttributesCount")?,
    })
}

fn link(mut from: Object) -> Read<trace::span::Link> {
    Ok(trace::span::Link {
        trace_id: from.hex("traceId")?,
        span_id: from.hex("spanId")?,
        trace_state: from.text("traceState")?,
        attributes: from.each("attributes", key_value)?,
        dropped_attributes_count: from.whole("droppedAttributesCount")?,
        flags: from.whole("flags")?,
    })
}

fn resource_metrics(mut from: Object) -> Read<metrics::ResourceMetrics> {
    Ok(metrics::ResourceMetrics {
        resource: from.one("resource", resource)?,
        scope_metrics: from.each("scopeMetrics", scope_metrics)?,
        schema_url: from.text("schemaUrl")?,
    })
}

fn scope_metrics(mut from: Object) -> Read<metrics::ScopeMetrics> {
    Ok(metrics::ScopeMetrics {
        scope: from.one("scope", scope)?,
        metrics: from.each("metrics", metric)?,
        schema_url: from.text("schemaUrl")?,
    })
}

fn metric(mut from: Object) -> Read<metrics::Metric> {
    use metrics::metric::Data;
    let data = [
        from.one("gauge", |mut from| {
            Ok(Data::Gauge(metrics::Gauge { data_points: from.each("dataPoints", number_point)? }))
        })?,
        from.one("sum", |mut from| {
            Ok(Data::Sum(metrics::Sum {
                data_points: from.each("dataPoints", number_point)?,
                aggregation_temporality: from.enumeration("aggregationTemporality")?,
                is_monotonic: from.truth("isMonotonic")?,
            }))
        })?,
        from.one("histogram", |mut from| {
            Ok(Data::Histogram(metrics::Histogram {
                data_points: from.each("dataPoints", histogram_point)?,
                aggregation_temporality: from.enumeration("aggregationTemporality")?,
            }))
        })?,
        from.one("exponentialHistogram", |mut from| {
            Ok(Data::ExponentialHistogram(metrics::ExponentialHistogram {
                data_points: from.each("dataPoints", exponential_point)?,
                aggregation_temporality: from.enumeration("aggregationTemporality")?,
            }))
        })?,
        from.one("summary", |mut from| {
            Ok(Data::Summary(metrics::Summary { data_points: from.each("dataPoints", summary_point)? }))
        })?,
    ];
    Ok(metrics::Metric {
        name: from.text("name")?,
        description: from.text("description")?,
        unit: from.text("unit")?,
        metadata: from.each("metadata", key_value)?,
        data: data.into_iter().flatten().next(),
    })
}

fn number_point(mut from: Object) -> Read<metrics::NumberDataPoint> {
    use metrics::number_data_point::Value as Number;
    let double = from.optional_double("asDouble")?.map(Number::AsDouble);
    let int = from.optional_whole("asInt")?.map(Number::AsInt);
    Ok(metrics::NumberDataPoint {
        attributes: from.each("attributes", key_value)?,
        start_time_unix_nano: from.whole("startTimeUnixNano")?,
        time_unix_nano: from.whole("timeUnixNano")?,
        exemplars: from.each("exemplars", exemplar)?,
        flags: from.whole("flags")?,
        value: double.or(int),
    })
}

fn histogram_point(mut from: Object) -> Read<metrics::HistogramDataPoint> {
    Ok(metrics::HistogramDataPoint {
        attributes: from.each("attributes", key_value)?,
        start_time_unix_nano: from.whole("startTimeUnixNano")?,
        time_unix_nano: from.whole("timeUnixNano")?,
        count: from.whole("count")?,
        sum: from.optional_double("sum")?,
        bucket_counts: from.list("bucketCounts", whole)?,
        explicit_bounds: from.list("explicitBounds", double)?,
        exemplars: from.each("exemplars", exemplar)?,
        flags: from.whole("flags")?,
        min: from.optional_double("min")?,
        max: from.optional_double("max")?,
    })
}

fn exponential_point(mut from: Object) -> Read<metrics::ExponentialHistogramDataPoint> {
    let buckets = |mut from: Object| {
        Ok(metrics::exponential_histogram_data_point::Buckets {
            offset: from.whole("offset")?,
            bucket_counts: from.list("bucketCounts", whole)?,
        })
    };
    Ok(metrics::ExponentialHistogramDataPoint {
        attributes: from.each("attributes", key_value)?,
        start_time_unix_nano: from.whole("startTimeUnixNano")?,
        time_unix_nano: from.whole("timeUnixNano")?,
        count: from.whole("count")?,
        sum: from.optional_double("sum")?,
        scale: from.whole("scale")?,
        zero_count: from.whole("zeroCount")?,
        positive: from.one("positive", buckets)?,
        negative: from.one("negative", buckets)?,
        flags: from.whole("flags")?,
        exemplars: from.each("exemplars", exemplar)?,
        min: from.optional_double("min")?,
        max: from.optional_double("max")?,
        zero_threshold: from.optional_double("zeroThreshold")?.unwrap_or_default(),
    })
}

fn summary_point(mut from: Object) -> Read<metrics::SummaryDataPoint> {
    Ok(metrics::SummaryDataPoint {
        attributes: from.each("attributes", key_value)?,
        start_time_unix_nano: from.whole("startTimeUnixNano")?,
        time_unix_nano: from.whole("timeUnixNano")?,
        count: from.whole("count")?,
        sum: from.optional_double("sum")?.unwrap_or_default(),
        quantile_values: from.each("quantileValues", |mut from| {
            Ok(metrics::summary_data_point::ValueAtQuantile {
                quantile: from.optional_double("quantile")?.unwrap_or_default(),
                value: from.optional_double("value")?.unwrap_or_default(),
            })
        })?,
        flags: from.whole("flags")?,
    })
}

fn exemplar(mut from: Object) -> Read<metrics::Exemplar> {
    use metrics::exemplar::Value as Number;
    let double = from.optional_double("asDouble")?.map(Number::AsDouble);
    let int = from.optional_whole("asInt")?.map(Number::AsInt);
    Ok(metrics::Exemplar {
        filtered_attributes: from.each("filteredAttributes", key_value)?,
        time_unix_nano: from.whole("timeUnixNano")?,
        span_id: from.hex("spanId")?,
        trace_id: from.hex("traceId")?,
        value: double.or(int),
    })
}

fn resource(mut from: Object) -> Read<Resource> {
    Ok(Resource {
        attributes: from.each("attributes", key_value)?,
        dropped_attributes_count: from.whole("droppedAttributesCount")?,
        entity_refs: from.each("entityRefs", |mut from| {
            Ok(common::EntityRef {
                schema_url: from.text("schemaUrl")?,
                r#type: from.text("type")?,
                id_keys: from.list("idKeys", text)?,
                description_keys: from.list("descriptionKeys", text)?,
            })
        })?,
    })
}

fn scope(mut from: Object) -> Read<common::InstrumentationScope> {
    Ok(common::InstrumentationScope {
        name: from.text("name")?,
        version: from.text("version")?,
        attributes: from.each("attributes", key_value)?,
        dropped_attributes_count: from.whole("droppedAttributesCount")?,
    })
}

fn key_value(mut from: Object) -> Read<common::KeyValue> {
    Ok(common::KeyValue {
        key: from.text("key")?,
        value: from.one("value", any_value)?,
        key_strindex: from.whole("keyStrindex")?,
    })
}

fn any_value(mut from: Object) -> Read<common::AnyValue> {
    let value = if let Some(said) = from.optional("stringValue", text)? {
        Some(Any::StringValue(said))
    } else if let Some(said) = from.optional("boolValue", truth)? {
        Some(Any::BoolValue(said))
    } else if let Some(said) = from.optional_whole("intValue")? {
        Some(Any::IntValue(said))
    } else if let Some(said) = from.optional_double("doubleValue")? {
        Some(Any::DoubleValue(said))
    } else if let Some(said) = from.optional("bytesValue", bytes)? {
        Some(Any::BytesValue(said))
    } else if let Some(values) = from.one("arrayValue", |mut from| from.each("values", any_value))? {
        Some(Any::ArrayValue(common::ArrayValue { values }))
    } else {
        let listed = from.one("kvlistValue", |mut from| from.each("values", key_value))?;
        listed.map(|values| Any::KvlistValue(common::KeyValueList { values }))
    };
    Ok(common::AnyValue { value })
}

/// A message's fields, each taken once.
struct Object(Map<String, Value>);

impl Object {
    fn parse(body: &[u8]) -> Read<Self> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Wrong::new("is no JSON object")),
            Err(error) => Err(Wrong::new(&format!("is no JSON: {error}"))),
        }
    }

    fn of(value: Value) -> Read<Self> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(Wrong::new("is no object")),
        }
    }

    /// A field; `None` where it is absent or null.
    fn optional<T>(&mut self, name: &str, read: impl Fn(Value) -> Read<T>) -> Read<Option<T>> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).map_err(|wrong| wrong.below(name)),
        }
    }

    fn one<T>(&mut self, name: &str, read: impl Fn(Object) -> Read<T>) -> Read<Option<T>> {
        self.optional(name, |value| read(Object::of(value)?))
    }

    fn list<T>(&mut self, name: &str, read: impl Fn(Value) -> Read<T>) -> Read<Vec<T>> {
        let listed = self.optional(name, |value| match value {
            Value::Array(values) => values
                .into_iter()
                .enumerate()
                .map(|(place, value)| read(value).map_err(|wrong| wrong.below(&place.to_string())))
                .collect(),
            _ => Err(Wrong::new("is no list")),
        });
        Ok(listed?.unwrap_or_default())
    }

    fn each<T>(&mut self, name: &str, read: impl Fn(Object) -> Read<T>) -> Read<Vec<T>> {
        self.list(name, |value| read(Object::of(value)?))
    }

    fn text(&mut self, name: &str) -> Read<String> {
        Ok(self.optional(name, text)?.unwrap_or_default())
    }

    fn truth(&mut self, name: &str) -> Read<bool> {
        Ok(self.optional(name, truth)?.unwrap_or_default())
    }

    fn hex(&mut self, name: &str) -> Read<Vec<u8>> {
        let read = |value| hex::decode(text(value)?).map_err(|_| Wrong::new("is not hexadecimal"));
        Ok(self.optional(name, read)?.unwrap_or_default())
    }

    fn whole<T: TryFrom<i128> + Default>(&mut self, name: &str) -> Read<T> {
        Ok(self.optional_whole(name)?.unwrap_or_default())
    }

    fn optional_whole<T: TryFrom<i128>>(&mut self, name: &str) -> Read<Option<T>> {
        self.optional(name, whole)
    }

    fn optional_double(&mut self, name: &str) -> Read<Option<f64>> {
        self.optional(name, double)
    }

    /// Names of values are not allowed by the protocol.
    fn enumeration(&mut self, name: &str) -> Read<i32> {
        let number = |value: Value| match value {
            Value::Number(_) => whole(value),
            _ => Err(Wrong::new("is no number: enums are numbers here")),
        };
        Ok(self.optional(name, number)?.unwrap_or_default())
    }
}

fn text(value: Value) -> Read<String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Wrong::new("is no string")),
    }
}

fn truth(value: Value) -> Read<bool> {
    value.as_bool().ok_or_else(|| Wrong::new("is neither true nor false"))
}

fn bytes(value: Value) -> Read<Vec<u8>> {
    let text = text(value)?;
    BASE64.decode(&text).or_else(|_| BASE64_URL.decode(&text)).map_err(|_| Wrong::new("is not base64"))
}

fn whole<T: TryFrom<i128>>(value: Value) -> Read<T> {
    let number: Option<i128> = match &value {
        Value::String(text) => text.parse().ok().or_else(|| text.parse().ok().and_then(whole_of)),
        Value::Number(number) => {
            let exact = number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from));
            exact.or_else(|| number.as_f64().and_then(whole_of))
        }
        _ => None,
    };
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| Wrong::new("is no whole number in range"))
}

fn whole_of(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() <= WHOLE_MAX).then_some(number as i128)
}

fn double(value: Value) -> Read<f64> {
    let number = match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse::<f64>().ok().filter(|number| number.is_finite()),
        },
        _ => None,
    };
    number.ok_or_else(|| Wrong::new("is no number"))
}
