//! The PromQL that counts without losing or inventing a request.
//!
//! `increase` is neither: it extrapolates, it does not see what was counted between the last sample of one window and the
//! first of the next, and a series that appears with its first failure shows no increase at all. Here the value at the end
//! of five minutes less the value at their beginning counts, so that consecutive buckets add up to what the counter rose.
//! Three cases of a series, the first that fits:
//!
//! 1. It was there at both ends and was not reset: the difference.
//! 2. It was not there at the beginning, but its target was: all of it is new.
//! 3. Otherwise (a reset, a new target, a series that ended): `increase`, the best estimate that there is.

/// How far back a reset is looked for: the five minutes and the sample that stood at their beginning, which may be as old as
/// Prometheus looks back for one, five minutes.
const RESET_WINDOW: &str = "10m";

/// How far an estimate looks back: a count is always of five minutes.
const WINDOW: &str = "5m";
/// Tells the series of one selector from those of another in a sum of both: `or` does not see their metrics' names.
const SELECTOR_LABEL: &str = "attain_selector";

/// How a counter's rise is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting<'a> {
    /// Labels that stay, as `by (…)` has them.
    pub(super) by: &'a str,
    /// What tells that a target was there: a selector of the same targets.
    pub(super) witness: &'a str,
    /// Labels that name a target, as `on (…)` has them.
    pub(super) target: &'a str,
    /// Whether the histograms are native ones.
    pub(super) native: bool,
}

/// By how much counters rose in the five minutes before each instant; no series may fit two of the selectors.
pub(super) fn counted(selectors: &[String], counting: Counting<'_>) -> String {
    let by = counting.by;
    let native = |selector: &String| without_suffix(selector, "_count").filter(|_| counting.native);
    if let [selector] = selectors {
        return match native(selector) {
            Some(histogram) => format!("histogram_count(sum by ({by}) (increase({histogram}[{WINDOW}])))"),
            None => format!("sum by ({by}) ({})", rise(selector, counting)),
        };
    }
    let each = selectors.iter().enumerate().map(|(index, selector)| {
        let rise = match native(selector) {
            Some(histogram) => format!("histogram_count(increase({histogram}[{WINDOW}]))"),
            None => rise(selector, counting),
        };
        format!(r#"label_replace({rise}, "{SELECTOR_LABEL}", "{index}", "", "")"#)
    });
    format!("sum by ({by}) ({})", each.collect::<Vec<_>>().join(" or "))
}

/// A histogram's observations in the five minutes before each instant: classic by upper bound, or native.
pub(super) fn observed(selector: &str, counting: Counting<'_>) -> String {
    let Counting { by, native, .. } = counting;
    match without_suffix(selector, "_bucket") {
        Some(histogram) if native => format!("sum by ({by}) (increase({histogram}[{WINDOW}]))"),
        _ => format!("sum by ({by}, le) ({})", rise(selector, counting)),
    }
}

fn rise(x: &str, Counting { witness, target, .. }: Counting<'_>) -> String {
    format!(
        "((({x} - {x} offset {WINDOW}) and (resets({x}[{RESET_WINDOW}]) == 0)) \
         or (({x} unless {x} offset {WINDOW}) and on ({target}) ({witness} offset {WINDOW})) \
         or increase({x}[{WINDOW}]))"
    )
}

/// `name_bucket{…}` as `name{…}`.
fn without_suffix(selector: &str, suffix: &str) -> Option<String> {
    let (name, matchers) = selector.split_at(selector.find('{').unwrap_or(selector.len()));
    name.trim().strip_suffix(suffix).map(|name| format!("{name}{matchers}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTING: Counting<'_> = Counting { by: "job", witness: "x{}", target: "job, instance", native: false };

    #[test]
    fn a_rise_is_a_difference_a_birth_or_an_estimate() {
        let bad = [r#"x{code="500"}"#.to_owned(), r#"x{code="503"}"#.to_owned()];
        let query = counted(&bad, COUNTING);
        assert!(query.starts_with("sum by (job) ("), "{query}");
        for part in [
            r#"(x{code="500"} - x{code="500"} offset 5m)"#,
            r#"(resets(x{code="503"}[10m]) == 0)"#,
            r#"(x{code="503"} unless x{code="503"} offset 5m) and on (job, instance) (x{} offset 5m)"#,
            r#"or increase(x{code="500"}[5m])"#,
            r#"or label_replace(((("#,
            r#""attain_selector", "0", "", "")"#,
            r#""attain_selector", "1", "", "")"#,
        ] {
            assert!(query.contains(part), "{part}: {query}");
        }
        assert!(observed("h_bucket{}", COUNTING).starts_with("sum by (job, le) ((((h_bucket{} - "));
    }

    #[test]
    fn native_histograms_have_no_suffix() {
        let native = Counting { native: true, ..COUNTING };
        assert_eq!(
            counted(&[r#"h_count{a="1"}"#.into()], native),
            r#"histogram_count(sum by (job) (increase(h{a="1"}[5m])))"#
        );
        let both = counted(&["h_count".into(), "g_total".into()], native);
        assert!(both.starts_with("sum by (job) (label_replace(histogram_count(increase(h[5m])), "), "{both}");
        assert!(both.contains("or label_replace((((g_total - g_total offset 5m)"), "{both}");
        assert_eq!(observed("h_bucket{}", native), "sum by (job) (increase(h{}[5m]))");
        assert!(counted(&["requests_total".into()], native).contains("offset"), "a counter stays one");
    }
}
