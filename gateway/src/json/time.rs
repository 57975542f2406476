//! Points and spans of time as text.

use jiff::Timestamp;

pub(super) const SECONDS_FIELD: u32 = 1;
pub(super) const NANOS_FIELD: u32 = 2;
const NANOS_PER_SECOND: i32 = 1_000_000_000;
/// The first second of the year 1.
const SECONDS_MIN: i64 = -62_135_596_800;
/// Ten thousand years, as Protocol Buffers bound a span.
const SPAN_SECONDS_MAX: u64 = 315_576_000_000;

/// A point in time since 1970, or a span, as Protocol Buffers write both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seconds {
    pub(super) seconds: i64,
    pub(super) nanos: i32,
}

/// RFC 3339 in UTC; `None` outside the years that it can write.
pub(super) fn timestamp_text(time: Seconds) -> Option<String> {
    Timestamp::new(time.seconds, time.nanos).ok().map(|timestamp| timestamp.to_string())
}

/// Reads RFC 3339 with any offset.
pub(super) fn read_timestamp(text: &str) -> Result<Seconds, String> {
    let timestamp: Timestamp =
        text.parse().map_err(|_| format!("`{}` is no time like 2026-11-01T00:00:00Z", super::echo::shorten(text)))?;
    if timestamp.as_second() < SECONDS_MIN {
        return Err("the time lies before the year 1".into());
    }
    // A time before 1970 counts its fraction forwards, as Protocol Buffers want it.
    let (seconds, nanos) = (timestamp.as_second(), timestamp.subsec_nanosecond());
    let borrowed = if nanos < 0 { (seconds - 1, nanos + NANOS_PER_SECOND) } else { (seconds, nanos) };
    Ok(Seconds { seconds: borrowed.0, nanos: borrowed.1 })
}

/// Seconds with an `s`, for example `3.5s`; as many decimals as there are.
pub(super) fn duration_text(Seconds { seconds, nanos }: Seconds) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = format!("{:09}", nanos.unsigned_abs());
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{}s", seconds.unsigned_abs()),
        digits => format!("{sign}{}.{digits}s", seconds.unsigned_abs()),
    }
}

/// Reads seconds with an `s`.
pub(super) fn read_duration(text: &str) -> Result<Seconds, String> {
    let (negative, seconds, nanos) =
        split(text).ok_or_else(|| format!("`{}` is no span of time like 3.5s", super::echo::shorten(text)))?;
    let sign = if negative { -1 } else { 1 };
    Ok(Seconds { seconds: sign * seconds as i64, nanos: sign as i32 * nanos as i32 })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (text, expected) in [
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-11-01T02:00:00+02:00", "2026-11-01T00:00:00Z"),
            ("2026-11-01T00:00:00.123456789Z", "2026-11-01T00:00:00.123456789Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            let time = read_timestamp(text).expect(text);
            assert_eq!(timestamp_text(time).as_deref(), Some(expected));
            assert!(time.nanos >= 0, "{text}");
        }
        for text in
            ["", "yesterday", "2026-11-01", "2026-11-01T00:00:00", "2026-13-01T00:00:00Z", "-000001-01-01T00:00:00Z"]
        {
            read_timestamp(text).expect_err(text);
        }
    }

    #[test]
    fn spans_are_seconds() {
        for (text, expected) in
            [("3.5s", (3, 500_000_000)), ("-0.25s", (0, -250_000_000)), ("0s", (0, 0)), ("7s", (7, 0))]
        {
            let span = read_duration(text).expect(text);
            assert_eq!((span.seconds, span.nanos), expected, "{text}");
            assert_eq!(duration_text(span), text);
        }
        for text in
            ["", "s", "3", ".5s", "3.s", "1e3s", "--1s", "0.1234567890s", "999999999999s", "99999999999999999999s"]
        {
            read_duration(text).expect_err(text);
        }
    }
}
