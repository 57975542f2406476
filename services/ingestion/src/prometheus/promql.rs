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

/// How a counter's rise is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting<'a> {
    /// Labels that stay, as `by (…)` has them.
    pub(super) by: &'a str,
    /// What tells that a target was there: a selector of the same targets.
    pub(super) witness: &'a str,
    /// Labels that name a target, as `on (…)` has them.
    pub(super) target: &'a str,
    /// Window of the estimate.
    pub(super) window: &'a str,
    /// Whether the histograms are native ones.
    pub(super) native: bool,
}

/// By how much counters rose in the five minutes before each instant; no series may fit two of the selectors.
pub(super) fn counted(selectors: &[String], counting: Counting<'_>) -> String {
    let Counting { by, window, native, .. } = counting;
    if native
        && let [selector] = selectors
        && let Some(histogram) = without_suffix(selector, "_count")
    {
        return format!("histogram_count(sum by ({by}) (increase({histogram}[{window}])))");
    }
    let each: Vec<String> = selectors.iter().map(|selector| rise(selector, counting)).collect();
    format!("sum by ({by}) ({})", each.join(" or "))
}

/// A histogram's observations in the five minutes before each instant: classic by upper bound, or native.
pub(super) fn observed(selector: &str, counting: Counting<'_>) -> String {
    let Counting { by, window, native, .. } = counting;
    match without_suffix(selector, "_bucket") {
        Some(histogram) if native => format!("sum by ({by}) (increase({histogram}[{window}]))"),
        _ => format!("sum by ({by}, le) ({})", rise(selector, counting)),
    }
}

fn rise(x: &str, Counting { witness, target, window, .. }: Counting<'_>) -> String {
    format!(
        "((({x} - {x} offset 5m) and (resets({x}[{RESET_WINDOW}]) == 0)) \
         or (({x} unless {x} offset 5m) and on ({target}) ({witness} offset 5m)) \
         or increase({x}[{window}]))"
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

    const COUNTING: Counting<'_> =
        Counting { by: "job", witness: "x{}", target: "job, instance", window: "5m", native: false };

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
        assert_eq!(observed("h_bucket{}", native), "sum by (job) (increase(h{}[5m]))");
        assert!(counted(&["requests_total".into()], native).contains("offset"), "a counter stays one");
    }
}
