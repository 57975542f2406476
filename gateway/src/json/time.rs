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
    let timestamp: Timestamp =
        text.parse().map_err(|_| format!("`{}` is no time like 2026-11-01T00:00:00Z", super::echo::shorten(text)))?;
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
        split(text).ok_or_else(|| format!("`{}` is no span of time like 3.5s", super::echo::shorten(text)))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;

    fn descriptor(name: &str) -> MessageDescriptor {
        let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("valid");
        pool.get_message_by_name(name).expect(name)
    }

    #[test]
    fn times_are_rfc_3339() {
        let descriptor = descriptor(super::super::TIMESTAMP);
        for (text, expected) in [
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-11-01T02:00:00+02:00", "2026-11-01T00:00:00Z"),
            ("2026-11-01T00:00:00.123456789Z", "2026-11-01T00:00:00.123456789Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            let message = read_timestamp(&descriptor, text).expect(text);
            assert_eq!(timestamp_text(&message).as_deref(), Some(expected));
            assert!(parts(&message).1 >= 0, "{text}");
        }
        for text in
            ["", "yesterday", "2026-11-01", "2026-11-01T00:00:00", "2026-13-01T00:00:00Z", "-000001-01-01T00:00:00Z"]
        {
            read_timestamp(&descriptor, text).expect_err(text);
        }
    }

    #[test]
    fn spans_are_seconds() {
        let descriptor = descriptor(super::super::DURATION);
        for (text, expected) in
            [("3.5s", (3, 500_000_000)), ("-0.25s", (0, -250_000_000)), ("0s", (0, 0)), ("7s", (7, 0))]
        {
            let message = read_duration(&descriptor, text).expect(text);
            assert_eq!(parts(&message), expected, "{text}");
            assert_eq!(duration_text(&message), text);
        }
        for text in
            ["", "s", "3", ".5s", "3.s", "1e3s", "--1s", "0.1234567890s", "999999999999s", "99999999999999999999s"]
        {
            read_duration(&descriptor, text).expect_err(text);
        }
    }
}
