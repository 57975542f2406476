//! Points and spans of time as text.

use jiff::Timestamp;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

const SECONDS_FIELD: u32 = 1;
const NANOS_FIELD: u32 = 2;
const NANOS_PER_SECOND: u32 = 1_000_000_000;
/// Ten thousand years, as Protocol Buffers bound a span.
const SPAN_SECONDS_MAX: u64 = 315_576_000_000;

/// RFC 3339 in UTC; `None` outside the years that it can write.
pub(super) fn timestamp_text(message: &DynamicMessage) -> Option<String> {
    let (seconds, nanos) = parts(message);
    Timestamp::new(seconds, nanos).ok().map(|timestamp| timestamp.to_string())
}

/// Reads RFC 3339 with any offset.
pub(super) fn read_timestamp(descriptor: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let timestamp: Timestamp = text
        .parse()
        .map_err(|_| format!("`{}` is no time like 2026-11-01T00:00:00Z", crate::json::echo::shorten(text)))?;
    if timestamp.as_second() < -62_135_596_800 {
        return Err("the time lies before the year 1".into());
    }
    // A time before 1970 counts its fraction forwards, as Protocol Buffers want it.
    let (seconds, nanos) = (timestamp.as_second(), timestamp.subsec_nanosecond());
    let borrowed = if nanos < 0 { (seconds - 1, nanos + NANOS_PER_SECOND as i32) } else { (seconds, nanos) };
    Ok(message(descriptor, borrowed))
}

/// Seconds with an `s`, for example `3.5s`; as many decimals as there are.
pub(super) fn duration_text(message: &DynamicMessage) -> String {
    let (seconds, nanos) = parts(message);
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = format!("{:09}", nanos.unsigned_abs());
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{}s", seconds.unsigned_abs()),
        digits => format!("{sign}{}.{digits}s", seconds.unsigned_abs()),
    }
}

/// Reads seconds with an `s`.
pub(super) fn read_duration(descriptor: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let (negative, seconds, nanos) =
        split(text).ok_or_else(|| format!("`{}` is no span of time like 3.5s", crate::json::echo::shorten(text)))?;
    let sign = if negative { -1 } else { 1 };
    Ok(message(descriptor, (sign * seconds as i64, sign as i32 * nanos as i32)))
}

fn split(text: &str) -> Option<(bool, u64, u32)> {
    let unsigned = text.strip_prefix('-');
    let (whole, fraction) =
        unsigned.unwrap_or(text).strip_suffix('s').map(|rest| rest.split_once('.').unwrap_or((rest, "0")))?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: u64 = whole.parse().ok().filter(|seconds| *seconds <= SPAN_SECONDS_MAX)?;
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some((unsigned.is_some(), seconds, nanos))
}

fn parts(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message.get_field_by_number(SECONDS_FIELD).and_then(|value| value.as_i64()).unwrap_or_default();
    let nanos = message.get_field_by_number(NANOS_FIELD).and_then(|value| value.as_i32()).unwrap_or_default();
    (seconds, nanos)
}

fn message(descriptor: &MessageDescriptor, (seconds, nanos): (i64, i32)) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_number(SECONDS_FIELD, Value::I64(seconds));
    message.set_field_by_number(NANOS_FIELD, Value::I32(nanos));
    message
}
