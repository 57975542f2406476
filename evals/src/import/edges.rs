//! Compares two sets of edges.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Caller and callee.
pub(super) type Edges = BTreeSet<(String, String)>;

/// How found edges compare with expected ones.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Comparison {
    pub(super) found_count: usize,
    pub(super) expected_count: usize,
    pub(super) missing: Vec<(String, String)>,
    pub(super) unexpected: Vec<(String, String)>,
}

impl Comparison {
    pub(super) fn of(found: &Edges, expected: &Edges) -> Self {
        Self {
            found_count: found.len(),
            expected_count: expected.len(),
            missing: expected.difference(found).cloned().collect(),
            unexpected: found.difference(expected).cloned().collect(),
        }
    }

    /// Share of the found edges that were expected; `None` where none was found.
    pub(super) fn precision(&self) -> Option<f64> {
        share(self.found_count - self.unexpected.len(), self.found_count)
    }

    /// Share of the expected edges that were found; `None` where none was expected.
    pub(super) fn recall(&self) -> Option<f64> {
        share(self.expected_count - self.missing.len(), self.expected_count)
    }

    pub(super) fn is_equal(&self) -> bool {
        self.expected_count > 0 && self.missing.is_empty() && self.unexpected.is_empty()
    }

    pub(super) fn report(&self) -> Value {
        json!({
            "found": self.found_count,
            "expected": self.expected_count,
            "precision": self.precision(),
            "recall": self.recall(),
            "missing": arrows(&self.missing),
            "unexpected": arrows(&self.unexpected),
        })
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn arrows(edges: &[(String, String)]) -> Vec<String> {
    edges.iter().map(|(caller, callee)| format!("{caller} -> {callee}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(written: &[&str]) -> Edges {
        written.iter().map(|edge| edge.split_once('>').expect("a>b")).map(|(a, b)| (a.into(), b.into())).collect()
    }

    #[test]
    fn precision_and_recall_are_shares_of_found_and_of_expected() {
        let comparison = Comparison::of(&edges(&["a>b", "a>c"]), &edges(&["a>b", "b>c", "b>d"]));
        assert_eq!(comparison.precision(), Some(0.5));
        assert_eq!(comparison.recall(), Some(1.0 / 3.0));
        assert_eq!(comparison.report()["missing"], json!(["b -> c", "b -> d"]));
        assert_eq!(comparison.report()["unexpected"], json!(["a -> c"]));
        assert!(!comparison.is_equal());
    }

    #[test]
    fn nothing_is_no_agreement() {
        let nothing = Comparison::of(&Edges::new(), &Edges::new());
        assert_eq!((nothing.precision(), nothing.recall(), nothing.is_equal()), (None, None, false));
        assert!(Comparison::of(&edges(&["a>b"]), &edges(&["a>b"])).is_equal());
    }
}
