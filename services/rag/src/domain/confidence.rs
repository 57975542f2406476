//! How sure it is that something kept answers the question at all; below a calibrated threshold the service abstains.

use std::collections::BTreeSet;

use super::query::Word;
use super::settings::{ConfidenceWeights, Threshold};
use super::terms::{Frequencies, TermId};

/// What the confidence is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    /// The mean of the best cosines of the question with a title and with a beginning of a document; `None` without embeddings.
    pub(crate) nearest: Option<f64>,
    /// Whether the question names a document.
    pub(crate) named: bool,
    /// The words of the question, each with how specific it is in general language, 0 to 1.
    pub(crate) words: &'a [(Word, f64)],
    /// How frequent they are in the tenant's documents.
    pub(crate) frequencies: &'a Frequencies,
    /// Which of them the first documents hold, one set a document.
    pub(crate) covered: &'a [BTreeSet<TermId>],
}

/// How far what was found answers a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strength {
    /// Nothing kept answers.
    Abstained,
    /// It may answer: the confidence lies between the two cuts.
    Weak,
    /// It answers.
    Answered,
}

impl Threshold {
    /// What a confidence says, and whether nothing was found.
    pub(crate) fn strength(&self, confidence: f64, found_nothing: bool) -> Strength {
        if found_nothing || confidence < self.threshold {
            Strength::Abstained
        } else if confidence < self.strong_threshold {
            Strength::Weak
        } else {
            Strength::Answered
        }
    }
}

/// `nearest + coverage + capital_weight · capitals`, where coverage is the share of the question's IDF-weighted words that the
/// first documents hold on average, and capitals the same over its capitalised words (the root of the coverage when it
/// has none). A question that names a document has `named_confidence + coverage`.
///
/// How well it tells them apart is measured in docs/knowledge/retrieval.md. Rank-fused scores cannot serve: they are as high for the
/// best of nothing.
pub(crate) fn confidence(evidence: Evidence<'_>, weights: &ConfidenceWeights) -> f64 {
    let frequencies = evidence.frequencies;
    let floor = weights.specificity_floor;
    let coverage =
        covered_share(&evidence, |word, specificity| frequencies.idf(word.term) * (floor + specificity)).unwrap_or(1.0);
    if evidence.named {
        return weights.named_confidence + coverage;
    }
    let capitals = covered_share(&evidence, |word, _| frequencies.idf(word.term) * word.capital)
        .unwrap_or_else(|| coverage.sqrt());
    evidence.nearest.unwrap_or(0.0) + weights.coverage_weight * coverage + weights.capital_weight * capitals
}

/// The mean over the first documents of the weighted share of words that each holds; `None` when no word has weight.
fn covered_share(evidence: &Evidence<'_>, weight: impl Fn(&Word, f64) -> f64) -> Option<f64> {
    let weighted: Vec<(TermId, f64)> =
        evidence.words.iter().map(|(word, specificity)| (word.term, weight(word, *specificity))).collect();
    let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    if total <= 0.0 {
        return None;
    }
    let share = |held: &BTreeSet<TermId>| {
        weighted.iter().filter(|(term, _)| held.contains(term)).map(|(_, weight)| weight).sum::<f64>() / total
    };
    let count = evidence.covered.len().max(1) as f64;
    Some(evidence.covered.iter().map(share).sum::<f64>() / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::settings::Settings;
    use std::collections::BTreeMap;

    fn word(term: TermId, capital: f64) -> (Word, f64) {
        (Word { term, plain: String::new(), capital }, 1.0)
    }

    fn of(nearest: Option<f64>, named: bool, words: &[(Word, f64)], covered: &[BTreeSet<TermId>]) -> f64 {
        let frequencies = Frequencies { document_count: 10, by_term: BTreeMap::from([(1, 2), (2, 2)]) };
        let weights = Settings::shipped().expect("valid").confidence;
        confidence(Evidence { nearest, named, words, frequencies: &frequencies, covered }, &weights)
    }

    #[test]
    fn the_formula_by_hand() {
        let held = [BTreeSet::from([1]), BTreeSet::from([1, 2])];
        // Equal IDF: coverage (1/2 + 1) / 2 = 3/4; the only capital, term 2, is held by one of two.
        let words = [word(1, 0.0), word(2, 1.0)];
        assert!((of(Some(0.4), false, &words, &held) - (0.4 + 0.75 + 0.75 * 0.5)).abs() < 1e-12);
        // No capitals: the root of the coverage stands in.
        let words = [word(1, 0.0), word(2, 0.0)];
        assert!((of(None, false, &words, &held) - (0.75 + 0.75 * 0.75_f64.sqrt())).abs() < 1e-12);
        assert!((of(Some(0.4), true, &words, &held) - 3.75).abs() < 1e-12);
    }

    #[test]
    fn between_the_cuts_the_evidence_is_weak() {
        let cuts = Threshold {
            threshold: 0.5,
            answered_ratio: 0.95,
            rejected_ratio: 0.9,
            strong_threshold: 0.8,
            strong_answered_ratio: 0.7,
            strong_rejected_ratio: 1.0,
        };
        let of = |confidence| cuts.strength(confidence, false);
        assert_eq!(
            [of(0.49), of(0.5), of(0.79), of(0.8)],
            [Strength::Abstained, Strength::Weak, Strength::Weak, Strength::Answered]
        );
        assert_eq!(cuts.strength(3.0, true), Strength::Abstained);
    }

    #[test]
    fn unknown_words_lower_it() {
        let held = [BTreeSet::from([1])];
        let known = of(Some(0.3), false, &[word(1, 0.0)], &held);
        let unknown = of(Some(0.3), false, &[word(1, 0.0), word(9, 1.0)], &held);
        assert!(unknown < known);
        assert!(of(None, false, &[word(9, 0.0)], &[]) < 1e-12);
    }
}
