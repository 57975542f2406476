//! Numbers as a person reads them; fractions become percent only here.

/// A fraction as percent with as many digits as it takes to tell it from 0 and from 100 %.
pub(crate) fn percent(ratio: f64) -> String {
    let shown = ratio * 100.0;
    let distance = shown.abs().min((100.0 - shown).abs());
    let digits = if distance == 0.0 {
        0
    } else if distance >= 10.0 {
        1
    } else {
        // Two significant digits of the distance to the nearer end.
        (1 - distance.log10().floor() as i32).clamp(1, 8) as usize
    };
    let text = format!("{shown:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

/// Milliseconds without needless digits.
pub(crate) fn milliseconds(value: f64) -> String {
    match value {
        // Only ages are as long.
        _ if value > 10_000.0 => format!("{:.0} s", value / 1000.0),
        _ if value >= 10.0 => format!("{value:.0} ms"),
        _ => format!("{value:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_seconds() {
        for (value, expected) in [(4.2, "4.2 ms"), (250.0, "250 ms"), (10_000.0, "10000 ms"), (300_000.0, "300 s")] {
            assert_eq!(milliseconds(value), expected);
        }
    }

    #[test]
    fn percent_keeps_what_matters() {
        for (ratio, expected) in [
            (0.999, "99.9 %"),
            (0.9995, "99.95 %"),
            (0.99997, "99.997 %"),
            (0.5, "50 %"),
            (0.25, "25 %"),
            (0.0, "0 %"),
            (1.0, "100 %"),
            (0.00046, "0.046 %"),
            (0.995, "99.5 %"),
            (0.12, "12 %"),
        ] {
            assert_eq!(percent(ratio), expected, "{ratio}");
        }
    }
}
