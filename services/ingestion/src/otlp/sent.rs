//! An export of spans read where it stands: of each span only what joining needs is looked at, and nothing is copied before
//! it is kept. A span has dozens of texts, and to own each took more time than everything else that was done with it.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use thiserror::Error;

use super::conventions::{Facts, Scalar};

/// The attribute of a resource that tells where it runs.
const REGION: &[u8] = super::reduce::REGION.as_bytes();

/// An export as it came: the message of the protocol with its parts left undecoded.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SentSpans {
    /// Each a `ResourceSpans`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) resource_spans: Vec<Bytes>,
}

impl From<&ExportTraceServiceRequest> for SentSpans {
    fn from(export: &ExportTraceServiceRequest) -> Self {
        let resource_spans = export.resource_spans.iter().map(|sent| sent.encode_to_vec().into());
        Self { resource_spans: resource_spans.collect() }
    }
}

/// Bytes that are no export of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an export of spans: {0}")]
pub(super) struct Malformed(&'static str);

/// How much of the attributes of a span or a resource is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttributeLimits {
    pub(crate) attributes_max: usize,
    pub(crate) value_bytes_max: usize,
}

/// The spans of one resource.
#[derive(Debug, Default)]
pub(super) struct SentResource<'a> {
    /// The last that stands there; `None` where it is no text.
    pub(super) service_name: Option<&'a str>,
    /// As the service's name: the last that stands there.
    pub(super) region: Option<&'a str>,
    pub(super) ignored_attribute_count: usize,
    /// Each a `ScopeSpans`.
    scopes: Vec<&'a [u8]>,
}

/// What is read of one span. Texts are as they came: whoever keeps one has to redact it.
#[derive(Debug, Default)]
pub(super) struct SentSpan<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) parent_span_id: &'a [u8],
    pub(super) trace_state: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) kind: i64,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) status_code: i64,
    pub(super) facts: Facts<'a>,
    /// Too many, or too long.
    pub(super) ignored_attribute_count: usize,
    pub(super) link_count: usize,
    whole: &'a [u8],
}

/// What a span links to.
#[derive(Debug, Default)]
pub(super) struct SentLink<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
}

impl<'a> SentResource<'a> {
    /// Reads a `ResourceSpans`.
    pub(super) fn read(whole: &'a [u8], limits: AttributeLimits) -> Result<Self, Malformed> {
        let mut sent = Self::default();
        let mut resource: &[u8] = &[];
        each_field(whole, |field| {
            match field {
                Field::Bytes(1, bytes) => resource = bytes,
                Field::Bytes(2, bytes) => sent.scopes.push(bytes),
                Field::Bytes(..) | Field::Number(..) => {}
            }
            Ok(())
        })?;
        let mut count = 0;
        each_field(resource, |field| {
            let Field::Bytes(1, bytes) = field else { return Ok(()) };
            count += 1;
            if count > limits.attributes_max {
                sent.ignored_attribute_count += 1;
                return Ok(());
            }
            let (key, value) = attribute(bytes)?;
            let said = || value.text().filter(|name| name.len() <= limits.value_bytes_max);
            match key {
                b"service.name" => sent.service_name = said(),
                REGION => sent.region = said(),
                _ => {}
            }
            Ok(())
        })?;
        Ok(sent)
    }

    /// Reads the spans in their order.
    pub(super) fn each_span(
        &self,
        limits: AttributeLimits,
        mut take: impl FnMut(SentSpan<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        for scope in &self.scopes {
            each_field(scope, |field| match field {
                Field::Bytes(2, whole) => take(SentSpan::read(whole, limits)?),
                Field::Bytes(..) | Field::Number(..) => Ok(()),
            })?;
        }
        Ok(())
    }
}

impl<'a> SentSpan<'a> {
    fn read(whole: &'a [u8], limits: AttributeLimits) -> Result<Self, Malformed> {
        let mut span = Self { whole, ..Self::default() };
        let mut attribute_count = 0;
        each_field(whole, |field| {
            match field {
                Field::Bytes(1, bytes) => span.trace_id = bytes,
                Field::Bytes(2, bytes) => span.span_id = bytes,
                Field::Bytes(3, bytes) => span.trace_state = bytes,
                Field::Bytes(4, bytes) => span.parent_span_id = bytes,
                Field::Bytes(5, bytes) => span.name = bytes,
                Field::Number(6, number) => span.kind = number as i64,
                Field::Number(7, number) => span.start_ns = number,
                Field::Number(8, number) => span.end_ns = number,
                Field::Bytes(9, bytes) => {
                    attribute_count += 1;
                    span.attribute(bytes, attribute_count, limits)?;
                }
                Field::Bytes(13, _) => span.link_count += 1,
                Field::Bytes(15, bytes) => span.status_code = status_code(bytes)?,
                Field::Bytes(..) | Field::Number(..) => {}
            }
            Ok(())
        })?;
        Ok(span)
    }

    fn attribute(&mut self, bytes: &'a [u8], count: usize, limits: AttributeLimits) -> Result<(), Malformed> {
        if count > limits.attributes_max {
            self.ignored_attribute_count += 1;
            return Ok(());
        }
        let (key, value) = attribute(bytes)?;
        if value.text().is_some_and(|text| text.len() > limits.value_bytes_max) {
            self.ignored_attribute_count += 1;
        } else if let Ok(key) = str::from_utf8(key) {
            self.facts.note(key, value);
        }
        Ok(())
    }

    /// Reads the first links, at most so many.
    pub(super) fn links(&self, links_max: usize) -> Result<Vec<SentLink<'a>>, Malformed> {
        let mut links = Vec::with_capacity(self.link_count.min(links_max));
        each_field(self.whole, |field| {
            if let Field::Bytes(13, bytes) = field
                && links.len() < links_max
            {
                links.push(SentLink::read(bytes)?);
            }
            Ok(())
        })?;
        Ok(links)
    }
}

impl<'a> SentLink<'a> {
    fn read(whole: &'a [u8]) -> Result<Self, Malformed> {
        let mut link = Self::default();
        each_field(whole, |field| {
            match field {
                Field::Bytes(1, bytes) => link.trace_id = bytes,
                Field::Bytes(2, bytes) => link.span_id = bytes,
                Field::Bytes(..) | Field::Number(..) => {}
            }
            Ok(())
        })?;
        Ok(link)
    }
}

fn status_code(status: &[u8]) -> Result<i64, Malformed> {
    let mut code = 0;
    each_field(status, |field| {
        if let Field::Number(3, number) = field {
            code = number as i64;
        }
        Ok(())
    })?;
    Ok(code)
}

/// Key and value of a `KeyValue`.
fn attribute(whole: &[u8]) -> Result<(&[u8], Scalar<'_>), Malformed> {
    let (mut key, mut value): (&[u8], _) = (&[], Scalar::Other);
    each_field(whole, |field| {
        match field {
            Field::Bytes(1, bytes) => key = bytes,
            Field::Bytes(2, bytes) => value = scalar(bytes)?,
            Field::Bytes(..) | Field::Number(..) => {}
        }
        Ok(())
    })?;
    Ok((key, value))
}

/// What an `AnyValue` holds; a text that is not UTF-8 tells nothing.
fn scalar(whole: &[u8]) -> Result<Scalar<'_>, Malformed> {
    let mut value = Scalar::Other;
    each_field(whole, |field| {
        value = match field {
            Field::Bytes(1, bytes) => str::from_utf8(bytes).map_or(Scalar::Other, Scalar::Text),
            Field::Number(2, number) => Scalar::Truth(number != 0),
            Field::Number(3, number) => Scalar::Whole(number as i64),
            Field::Bytes(..) | Field::Number(..) => Scalar::Other,
        };
        Ok(())
    })?;
    Ok(value)
}

/// One field of a message, by its number.
enum Field<'a> {
    Number(u32, u64),
    Bytes(u32, &'a [u8]),
}

/// Reads the fields of a message in their order.
fn each_field<'a>(
    mut message: &'a [u8],
    mut take: impl FnMut(Field<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    const CUT_OFF: Malformed = Malformed("it is cut off");
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).map_err(|_| Malformed("a field has no number"))?;
        take(match wire_type {
            WireType::Varint => {
                Field::Number(number, decode_varint(&mut message).map_err(|_| Malformed("a number has no end"))?)
            }
            WireType::SixtyFourBit => {
                let (bytes, rest) = message.split_first_chunk().ok_or(CUT_OFF)?;
                message = rest;
                Field::Number(number, u64::from_le_bytes(*bytes))
            }
            WireType::ThirtyTwoBit => {
                let (bytes, rest) = message.split_first_chunk().ok_or(CUT_OFF)?;
                message = rest;
                Field::Number(number, u64::from(u32::from_le_bytes(*bytes)))
            }
            WireType::LengthDelimited => {
                let length = decode_varint(&mut message).map_err(|_| Malformed("a length has no end"))?;
                let length = usize::try_from(length).map_err(|_| CUT_OFF)?;
                let (bytes, rest) = message.split_at_checked(length).ok_or(CUT_OFF)?;
                message = rest;
                Field::Bytes(number, bytes)
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Malformed("the protocol has no groups")),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1 as wire;
    use proptest::prelude::*;

    const LIMITS: AttributeLimits = AttributeLimits { attributes_max: 3, value_bytes_max: 10 };

    fn said(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..20)
    }

    prop_compose! {
        fn span()(
            ids in (bytes(), bytes(), bytes()),
            texts in (".{0,9}", ".{0,9}"),
            kind in any::<i32>(),
            times in any::<(u64, u64)>(),
            links in prop::collection::vec((bytes(), bytes()), 0..4),
            code in any::<i32>(),
            events in 0usize..3,
        ) -> wire::Span {
            let link = |(trace_id, span_id)| wire::span::Link { trace_id, span_id, ..Default::default() };
            wire::Span {
                trace_id: ids.0,
                span_id: ids.1,
                parent_span_id: ids.2,
                trace_state: texts.0,
                name: texts.1.clone(),
                kind,
                start_time_unix_nano: times.0,
                end_time_unix_nano: times.1,
                links: links.into_iter().map(link).collect(),
                status: Some(wire::Status { code, message: texts.1.clone() }),
                events: vec![wire::span::Event { name: texts.1, ..Default::default() }; events],
                flags: 257,
                dropped_events_count: 3,
                ..wire::Span::default()
            }
        }
    }

    proptest! {
        #[test]
        fn a_span_is_read_as_the_protocol_writes_it(span in span()) {
            let whole = span.encode_to_vec();
            let read = SentSpan::read(&whole, LIMITS).expect("a span");
            prop_assert_eq!((read.trace_id, read.span_id), (&span.trace_id[..], &span.span_id[..]));
            prop_assert_eq!((read.parent_span_id, read.name), (&span.parent_span_id[..], span.name.as_bytes()));
            prop_assert_eq!((read.trace_state, read.kind), (span.trace_state.as_bytes(), i64::from(span.kind)));
            prop_assert_eq!((read.start_ns, read.end_ns), (span.start_time_unix_nano, span.end_time_unix_nano));
            prop_assert_eq!(read.status_code, i64::from(span.status.expect("set").code));
            prop_assert_eq!(read.link_count, span.links.len());
            let links = read.links(2).expect("links");
            let read: Vec<_> = links.iter().map(|link| (link.trace_id, link.span_id)).collect();
            let sent: Vec<_> = span.links.iter().take(2).map(|link| (&link.trace_id[..], &link.span_id[..])).collect();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn a_span_that_is_cut_off_is_malformed_or_another_span(span in span(), kept in any::<prop::sample::Index>()) {
            let whole = span.encode_to_vec();
            if !whole.is_empty() {
                let _ = SentSpan::read(&whole[..kept.index(whole.len())], LIMITS);
            }
        }
    }

    #[test]
    fn attributes_are_read_within_their_limits() {
        let text = |text: &str| Value::StringValue(text.to_owned());
        let several = [
            said("http.request.method", text("GET")),
            said("http.response.status_code", Value::IntValue(503)),
            said("error.type", Value::ArrayValue(ArrayValue::default())),
        ];
        let with = |attributes: &[KeyValue]| {
            let whole = wire::Span { attributes: attributes.to_vec(), ..wire::Span::default() }.encode_to_vec();
            let read = SentSpan::read(&whole, LIMITS).expect("a span");
            (read.facts.protocol().map(str::to_owned), read.facts.failed(false), read.ignored_attribute_count)
        };
        assert_eq!(with(&several), (Some("http".to_owned()), true, 0));
        assert_eq!(with(&[said("db.system", text("postgresql!"))]), (None, false, 1), "too long");
        let too_many = [&several[1..], &several[1..]].concat();
        assert_eq!(with(&too_many), (Some("http".to_owned()), true, 1));
        assert_eq!(with(&[KeyValue { key: "db.system".into(), ..KeyValue::default() }]), (None, false, 0));
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        for bytes in [
            &b"\x0a"[..],
            b"\x0a\x05abc",
            b"\x38",
            b"\x39\x01\x02",
            b"\x3d\x01",
            b"\x0b\x0c",
            b"\x00\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(SentSpan::read(bytes, LIMITS).is_err(), "{bytes:?}");
        }
        let whole = wire::ResourceSpans {
            scope_spans: vec![wire::ScopeSpans { spans: vec![wire::Span::default()], ..Default::default() }],
            ..Default::default()
        };
        let mut whole = whole.encode_to_vec();
        assert!(SentResource::read(&whole, LIMITS).is_ok());
        whole.pop();
        whole[1] -= 1;
        let read = SentResource::read(&whole, LIMITS).and_then(|sent| sent.each_span(LIMITS, |_| Ok(())));
        assert!(read.is_err());
    }
}
