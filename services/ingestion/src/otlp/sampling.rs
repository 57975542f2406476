//! How many spans one that was sampled stands for.
//!
//! Sources: W3C tracestate, list member `ot`; OpenTelemetry "Tracestate: probability sampling", `th` (a rejection threshold
//! of up to 14 hexadecimal digits: a span is kept with probability `1 - threshold / 2^56`); the older `p` (kept with
//! probability `2^-p`, 63 for one that stands for none).

const THRESHOLD_DIGITS: usize = 14;
const THRESHOLDS: f64 = (1u64 << 56) as f64;
const NONE_BY_P: u32 = 63;

/// What a trace state says of sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sampled {
    /// Nothing, or that every span is kept.
    All,
    /// One of so many is kept: a number of at least 1.
    OneOf(f64),
    /// The span is there for another reason and stands for none.
    NotCounted,
    /// What is said cannot be understood.
    Malformed,
}

/// Reads a trace state.
pub(super) fn sampled(trace_state: &str) -> Sampled {
    if trace_state.is_empty() {
        return Sampled::All;
    }
    let member = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot="));
    let Some(member) = member else { return Sampled::All };
    let field = |key: &str| member.split(';').find_map(|field| field.trim().strip_prefix(key));
    match (field("th:"), field("p:")) {
        (Some(threshold), _) => of_threshold(threshold),
        (None, Some(exponent)) => of_exponent(exponent),
        (None, None) => Sampled::All,
    }
}

fn of_threshold(digits: &str) -> Sampled {
    let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if digits.is_empty() || digits.len() > THRESHOLD_DIGITS || !digits.bytes().all(hexadecimal) {
        return Sampled::Malformed;
    }
    let Ok(value) = u64::from_str_radix(digits, 16) else { return Sampled::Malformed };
    let threshold = value << (4 * (THRESHOLD_DIGITS - digits.len()));
    if threshold == 0 { Sampled::All } else { Sampled::OneOf(THRESHOLDS / (THRESHOLDS - threshold as f64)) }
}

fn of_exponent(digits: &str) -> Sampled {
    match digits.parse::<u32>() {
        Ok(0) => Sampled::All,
        Ok(NONE_BY_P) => Sampled::NotCounted,
        Ok(exponent) if exponent < NONE_BY_P => Sampled::OneOf(libm::exp2(f64::from(exponent))),
        _ => Sampled::Malformed,
    }
}

/// A factor rounded to a whole number, so that counts stay whole: up with the probability of its fraction, hence right on
/// average, and by the trace's id alone, so that spans of one trace are rounded alike and counts nest. At most `max`: a
/// threshold that says more was made up or broken.
pub(super) fn whole_weight(factor: f64, trace_id: u128, max: u32) -> u32 {
    let factor = factor.clamp(1.0, f64::from(max));
    let uniform = (mix(trace_id as u64 ^ mix((trace_id >> 64) as u64)) >> 11) as f64 / (1u64 << 53) as f64;
    factor.floor() as u32 + u32::from(uniform < factor.fract())
}

/// Spreads the bits of a number over all of its bits. Source: the finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u32 = 1 << 20;

    #[test]
    fn what_a_trace_state_says() {
        for (state, expected) in [
            ("", Sampled::All),
            ("vendor=x", Sampled::All),
            ("ot=rv:abcdef01234567", Sampled::All),
            ("ot=th:0", Sampled::All),
            ("ot=th:8", Sampled::OneOf(2.0)),
            ("ot=th:c", Sampled::OneOf(4.0)),
            ("vendor=x, ot=rv:abcdef01234567;th:fd70a4", Sampled::OneOf(100.0)),
            ("ot=p:3;r:10", Sampled::OneOf(8.0)),
            ("ot=p:0", Sampled::All),
            ("ot=p:63", Sampled::NotCounted),
            ("ot=p:64", Sampled::Malformed),
            ("ot=th:", Sampled::Malformed),
            ("ot=th:G", Sampled::Malformed),
            ("ot=th:012345678901234", Sampled::Malformed),
        ] {
            match (sampled(state), expected) {
                (Sampled::OneOf(read), Sampled::OneOf(expected)) => {
                    assert!((read / expected - 1.0).abs() < 1e-4, "{state}: {read}");
                }
                (read, expected) => assert_eq!(read, expected, "{state}"),
            }
        }
    }

    #[test]
    fn rounding_is_right_on_average() {
        for factor in [1.0, 1.25, 3.7, 100.0, 1234.5] {
            let sum: f64 = (0..20_000u128).map(|trace| f64::from(whole_weight(factor, trace * 7 + 1, MAX))).sum();
            let mean = sum / 20_000.0;
            // The standard error of a share of 20,000 is at most 0.0036.
            assert!((mean - factor).abs() < 0.015, "{factor}: {mean}");
        }
        assert_eq!(whole_weight(f64::INFINITY, 1, MAX), MAX);
    }

    proptest! {
        #[test]
        fn weights_of_one_trace_are_in_the_order_of_their_factors(trace: u128, a in 1.0f64..1e6, b in 1.0f64..1e6) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(whole_weight(low, trace, MAX) <= whole_weight(high, trace, MAX));
        }

        #[test]
        fn any_text_is_read(state in "\\PC{0,60}") {
            let _ = sampled(&state);
        }
    }
}
