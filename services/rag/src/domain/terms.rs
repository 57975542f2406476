//! Terms as numbers: BM25F weights of documents and passages as sparse vectors, and the weights of a question's terms.

use std::collections::BTreeMap;

use super::settings::{FieldWeight, FieldWeights};

/// A term's place in a sparse vector.
pub(crate) type TermId = u32;

/// A sparse vector by term.
pub(crate) type Weights = BTreeMap<TermId, f32>;

/// The terms of a document or passage, by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) title: Vec<String>,
    pub(crate) headings: Vec<String>,
    pub(crate) path: Vec<String>,
    /// What the names in the title stand for.
    pub(crate) gloss: Vec<String>,
    pub(crate) body: Vec<String>,
}

/// How many documents a tenant has, and how many of them hold a term.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Frequencies {
    pub(crate) document_count: u64,
    pub(crate) by_term: BTreeMap<TermId, u64>,
}

/// The number of a term: FNV-1a, 32 bits. Two terms in ten thousand documents share one about once in a hundred corpora,
/// and then only blur two rare words.
pub(crate) fn term_id(term: &str) -> TermId {
    term.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl Fields {
    /// Every term that occurs.
    pub(crate) fn term_ids(&self) -> impl Iterator<Item = TermId> {
        [&self.title, &self.headings, &self.path, &self.gloss, &self.body]
            .into_iter()
            .flatten()
            .map(|term| term_id(term))
    }

    /// Saturated field-weighted term frequencies: `a (k1 + 1) / (a + k1)` with
    /// `a = Σ weight · tf / (1 − b + b · length / reference)`. The IDF is left to the question.
    pub(crate) fn weights(&self, weights: &FieldWeights) -> Weights {
        let mut accumulated: BTreeMap<TermId, f64> = BTreeMap::new();
        let fields = [
            (&self.title, weights.title),
            (&self.headings, weights.headings),
            (&self.path, weights.path),
            (&self.gloss, weights.gloss),
            (&self.body, weights.body),
        ];
        for (terms, field) in fields {
            let per_term = contribution(terms.len(), field);
            for term in terms.iter().filter(|_| per_term > 0.0) {
                *accumulated.entry(term_id(term)).or_default() += per_term;
            }
        }
        let k1 = weights.saturation;
        accumulated.into_iter().map(|(term, a)| (term, (a * (k1 + 1.0) / (a + k1)) as f32)).collect()
    }
}

impl Frequencies {
    /// `ln(1 + (N − n + 1/2) / (n + 1/2))`: never negative, largest for a term that no document holds.
    pub(crate) fn idf(&self, term: TermId) -> f64 {
        let holding = self.by_term.get(&term).copied().unwrap_or(0).min(self.document_count) as f64;
        let total = self.document_count as f64;
        libm::log(1.0 + (total - holding + 0.5) / (holding + 0.5))
    }

    /// Whether any document holds the term.
    pub(crate) fn knows(&self, term: TermId) -> bool {
        self.by_term.get(&term).is_some_and(|holding| *holding > 0)
    }
}

fn contribution(length: usize, field: FieldWeight) -> f64 {
    field.weight / (1.0 - field.share + field.share * length as f64 / field.length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights() -> FieldWeights {
        let field = |weight| FieldWeight { weight, share: 0.5, length: 4.0 };
        FieldWeights {
            saturation: 3.0,
            title: field(5.0),
            headings: field(1.0),
            path: field(1.0),
            gloss: field(2.0),
            body: field(1.0),
        }
    }

    fn fields(title: &str, body: &str) -> Fields {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Fields { title: words(title), body: words(body), ..Fields::default() }
    }

    #[test]
    fn the_formula_by_hand() {
        // Title of 2 terms: 5 / (0.5 + 0.5 · 2/4) = 6.667; saturated 6.667 · 4 / 9.667 = 2.7586.
        let found = fields("retry storm", "").weights(&weights());
        assert!((f64::from(found[&term_id("retry")]) - 2.758_620_7).abs() < 1e-6);
        // Body of 4 terms, one of them twice: 2 / 1 = 2; 2 · 4 / 5 = 1.6.
        let found = fields("", "storm a storm b").weights(&weights());
        assert!((f64::from(found[&term_id("storm")]) - 1.6).abs() < 1e-6);
    }

    #[test]
    fn a_rarer_term_weighs_more() {
        let by_term = BTreeMap::from([(1, 1), (2, 9)]);
        let frequencies = Frequencies { document_count: 10, by_term };
        assert!((frequencies.idf(1) - libm::log(1.0_f64 + 9.5 / 1.5)).abs() < 1e-12);
        assert!(frequencies.idf(3) > frequencies.idf(1) && frequencies.idf(1) > frequencies.idf(2));
        assert!(frequencies.knows(1) && !frequencies.knows(3));
    }

    #[test]
    fn term_numbers_are_fnv_1a() {
        assert_eq!(term_id(""), 0x811c_9dc5);
        assert_eq!(term_id("a"), 0xe40c_292c);
        assert_eq!(term_id("foobar"), 0xbf9c_f968);
    }

    proptest! {
        #[test]
        fn more_of_a_term_never_weighs_less_and_stays_bounded(count in 1_usize..50) {
            let of = |n: usize| fields("", &"x ".repeat(n)).weights(&weights())[&term_id("x")];
            prop_assert!(of(count + 1) >= of(count));
            prop_assert!(f64::from(of(count)) < weights().saturation + 1.0);
        }
    }
}
