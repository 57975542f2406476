//! Puts what the signals say about each candidate document into one score.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::settings::{Copies, Freshness, Settings, Twins};
use super::sketch::resemblance;
use super::terms::TermId;

const DAY_MS: f64 = 86_400_000.0;
/// Keeps the first of reciprocal ranks from outweighing all others: the k of their authors.
const RANK_OFFSET: f64 = 60.0;

/// What is known of a candidate document. A signal is `None` where the document was not among its first candidates.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Candidate {
    /// BM25F score; `None` is 0: no term, or none that counts.
    pub(crate) lexical: Option<f64>,
    /// Cosines with its best passage, its title and its beginning.
    pub(crate) passage: Option<f64>,
    pub(crate) title: Option<f64>,
    pub(crate) lead: Option<f64>,
    /// Whether it has vectors; false while they are still being made.
    pub(crate) embedded: bool,
    /// Whether the question names it.
    pub(crate) named: bool,
    /// Whether it is about a service that the caller or the question names.
    pub(crate) about_service: bool,
    /// Whether it states objectives and the question asks about them.
    pub(crate) answers_objective: bool,
    /// Whether it says that it is for the tier of the service asked about.
    pub(crate) fits_tier: bool,
    /// Milliseconds since it was last reviewed; `None` where age does not count.
    pub(crate) age_ms: Option<i64>,
    /// The terms of its title, in their order.
    pub(crate) title_terms: Arc<[TermId]>,
    /// Whether something in it speaks to a machine.
    pub(crate) doubted: bool,
    /// What people said of citations of it, in [-1, 1]; 0 where nobody did.
    pub(crate) standing: f64,
}

/// A document with its score, as far as copies are kept apart by it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored<T> {
    pub(crate) document: T,
    pub(crate) score: f64,
    pub(crate) named: bool,
    pub(crate) sketch: Arc<BTreeSet<u32>>,
}

/// One score a candidate, in their order: `w · z(lexical) + (1 − w) · z(dense)` plus boosts, where z standardises over the
/// candidates and `dense = passage + title_weight · title + lead_weight · lead`. Without `hybrid` only the lexical part. Then
/// documents about the same thing lift one another, and those that the question names come first.
///
/// A signal that a candidate lacks counts as the lowest seen; a candidate without vectors counts as average there, so that
/// it is neither lifted nor sunk for being new. Candidates that all score the same have z = 0.
pub(crate) fn scores(candidates: &[Candidate], hybrid: bool, settings: &Settings) -> Vec<f64> {
    let comparable = if settings.reading.fuses_ranks { reciprocal_ranks } else { standardised };
    let lexical = comparable(candidates.iter().map(|candidate| Some(candidate.lexical.unwrap_or(0.0))).collect());
    let fused: Vec<f64> = if hybrid {
        let dense = comparable(dense(candidates, settings));
        let weight = settings.lexical_weight;
        lexical.iter().zip(dense).map(|(lexical, dense)| weight * lexical + (1.0 - weight) * dense).collect()
    } else {
        lexical
    };
    let boosted: Vec<f64> =
        fused.into_iter().zip(candidates).map(|(score, candidate)| score + boosts(candidate, settings)).collect();
    let lifted = lifted(candidates, &boosted, &settings.twins);
    // A doubted document is not found for the name that it gave itself.
    let is_named = |candidate: &Candidate| candidate.named && !candidate.doubted;
    let named = |candidate: &Candidate| if is_named(candidate) { settings.exact_name_boost } else { 0.0 };
    lifted.into_iter().zip(candidates).map(|(score, candidate)| score + named(candidate)).collect()
}

/// How many of these documents, best first, are no copies of a better one; at most as many as there are places.
pub(crate) fn originals<T>(documents: &[Scored<T>], copies: &Copies) -> usize {
    let mut first: Vec<&Scored<T>> = Vec::new();
    for next in documents {
        if first.len() < copies.first && !is_copy(next, first.iter().copied(), copies) {
            first.push(next);
        }
    }
    first.len()
}

/// Keeps copies of one text apart: among the first documents only the best of them stays, the others come right after those, at
/// no more than the score of the last. Takes documents best first and returns them so.
pub(crate) fn apart<T>(documents: Vec<Scored<T>>, copies: &Copies) -> Vec<Scored<T>> {
    let (mut first, mut later): (Vec<Scored<T>>, Vec<Scored<T>>) = (Vec::new(), Vec::new());
    let mut rest = documents.into_iter();
    while first.len() < copies.first
        && let Some(next) = rest.next()
    {
        if is_copy(&next, first.iter(), copies) { later.push(next) } else { first.push(next) }
    }
    let ceiling = first.last().map_or(f64::INFINITY, |last| last.score);
    for copy in &mut later {
        copy.score = copy.score.min(ceiling);
    }
    first.into_iter().chain(later).chain(rest).collect()
}

/// Whether a document is a copy of one of these; one that the question names never is.
fn is_copy<'a, T: 'a>(next: &Scored<T>, mut kept: impl Iterator<Item = &'a Scored<T>>, copies: &Copies) -> bool {
    let resembles = |kept: &Scored<T>| resemblance(&kept.sketch, &next.sketch) >= copies.resemblance_min;
    !next.named && kept.any(resembles)
}

/// Lifts documents towards better ones about the same thing, which the same question wants: the titles share their terms.
fn lifted(candidates: &[Candidate], scores: &[f64], twins: &Twins) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then_with(|| a.cmp(b)));
    let mut lifted = scores.to_vec();
    for better in order.into_iter().take(twins.first) {
        // A doubted one is lifted by nobody and lifts nobody.
        let believed = candidates.iter().enumerate().filter(|(_, candidate)| !candidate.doubted);
        for (at, candidate) in believed.filter(|(at, _)| *at != better && !candidates[better].doubted) {
            let (left, right) = (candidates[better].title_terms.len(), candidate.title_terms.len());
            // Titles of so different lengths cannot share enough, whatever their terms.
            if (left.min(right) as f64) < twins.similarity_min * left.max(right) as f64 {
                continue;
            }
            let similarity = similarity(&candidates[better].title_terms, &candidate.title_terms);
            if similarity >= twins.similarity_min {
                let share = twins.lift * similarity;
                lifted[at] = lifted[at].max(share * scores[better] + (1.0 - share) * scores[at]);
            }
        }
    }
    lifted
}

/// Jaccard: the share of the terms of both that either has; 0 where neither has any.
fn similarity(left: &[TermId], right: &[TermId]) -> f64 {
    let mut rest = right.iter().peekable();
    let is_shared = |term: &&TermId| {
        while rest.next_if(|other| other < term).is_some() {}
        rest.next_if_eq(term).is_some()
    };
    let both = left.iter().filter(is_shared).count();
    both as f64 / (left.len() + right.len() - both).max(1) as f64
}

/// What is left of the boost after so long; a date in the future counts as today.
fn freshness(age_ms: i64, freshness: &Freshness) -> f64 {
    freshness.boost * libm::exp2(-(age_ms.max(0) as f64) / (freshness.half_life_days * DAY_MS))
}

fn boosts(candidate: &Candidate, settings: &Settings) -> f64 {
    let boosts = [
        (candidate.about_service, settings.service_boost),
        (candidate.answers_objective, settings.objective_boost),
        (candidate.fits_tier, settings.tier_boost),
    ];
    let boosts: f64 = boosts.iter().filter(|(holds, _)| *holds).map(|(_, boost)| boost).sum();
    let new = candidate.age_ms.map_or(0.0, |age_ms| freshness(age_ms, &settings.freshness));
    let penalty = if candidate.doubted { settings.doubted_penalty } else { 0.0 };
    boosts + new + settings.standing_boost * candidate.standing.clamp(-1.0, 1.0) - penalty
}

fn dense(candidates: &[Candidate], settings: &Settings) -> Vec<Option<f64>> {
    let lowest = |signal: fn(&Candidate) -> Option<f64>| candidates.iter().filter_map(signal).fold(1.0, f64::min);
    let (passage, title, lead) = (lowest(|c| c.passage), lowest(|c| c.title), lowest(|c| c.lead));
    let of = |candidate: &Candidate| {
        candidate.embedded.then(|| {
            candidate.passage.unwrap_or(passage)
                + settings.title_weight * candidate.title.unwrap_or(title)
                + settings.lead_weight * candidate.lead.unwrap_or(lead)
        })
    };
    candidates.iter().map(of).collect()
}

/// Distance from the mean in standard deviations; 0 for what is missing and where nothing varies.
fn standardised(values: Vec<Option<f64>>) -> Vec<f64> {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    let count = known.len().max(1) as f64;
    let mean = known.iter().sum::<f64>() / count;
    let deviation = (known.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt();
    let z = |value: f64| if deviation > f64::EPSILON { (value - mean) / deviation } else { 0.0 };
    values.into_iter().map(|value| value.map_or(0.0, z)).collect()
}

/// `1 / (60 + rank)` (Cormack, Clarke, Büttcher: Reciprocal rank fusion outperforms Condorcet, SIGIR 2009), as distances from the mean so
/// that boosts mean what they mean elsewhere. What is missing ranks last; what is equal shares the best of its ranks.
fn reciprocal_ranks(values: Vec<Option<f64>>) -> Vec<f64> {
    let mut order: Vec<f64> = values.iter().map(|value| value.unwrap_or(f64::NEG_INFINITY)).collect();
    order.sort_by(|a, b| b.total_cmp(a));
    let rank = |value: Option<f64>| order.partition_point(|other| *other > value.unwrap_or(f64::NEG_INFINITY));
    standardised(values.iter().map(|value| Some(1.0 / (RANK_OFFSET + rank(*value) as f64 + 1.0))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings::shipped().expect("valid")
    }

    fn candidate(lexical: f64, passage: f64) -> Candidate {
        Candidate { lexical: Some(lexical), passage: Some(passage), embedded: true, ..Candidate::default() }
    }

    #[test]
    fn the_formula_by_hand() {
        // Two candidates: z is +1 and −1 in each signal.
        let found = scores(&[candidate(10.0, 0.2), candidate(0.0, 0.6)], true, &settings());
        assert!((found[0] - (0.55 - 0.45)).abs() < 1e-12 && (found[1] - (0.45 - 0.55)).abs() < 1e-12, "{found:?}");
        let lexical = scores(&[candidate(10.0, 0.2), candidate(0.0, 0.6)], false, &settings());
        assert_eq!(lexical, [1.0, -1.0]);
    }

    #[test]
    fn ranks_are_fused_by_their_reciprocals() {
        // Shares of 1/61, 1/62 (twice) and 1/64.
        let found = reciprocal_ranks(vec![Some(3.0), None, Some(7.0), Some(3.0)]);
        assert!(found[2] > found[0] && found[0] == found[3] && found[3] > found[1], "{found:?}");
        assert!(
            ((found[2] - found[0]) / (found[0] - found[1]) - (1.0 / 61.0 - 1.0 / 62.0) / (1.0 / 62.0 - 1.0 / 64.0))
                .abs()
                < 1e-9
        );
        let mut ranked = settings();
        ranked.reading.fuses_ranks = true;
        let order = scores(&[candidate(10.0, 0.2), candidate(0.0, 0.6), candidate(9.0, 0.5)], true, &ranked);
        assert!(order[0] > order[2] && order[2] > order[1], "{order:?}");
    }

    #[test]
    fn a_name_beats_the_rest() {
        let named = Candidate { named: true, ..candidate(0.0, 0.1) };
        let found = scores(&[candidate(9.0, 0.9), candidate(8.0, 0.8), named], true, &settings());
        assert!(found[2] > found[0] && found[0] > found[1]);
    }

    #[test]
    fn the_same_alert_elsewhere_is_lifted_and_no_other() {
        let titled = |lexical: f64, terms: &[TermId]| Candidate {
            title_terms: terms.iter().copied().collect(),
            ..candidate(lexical, 0.5)
        };
        let pool = |second: &[TermId]| [titled(9.0, &[1, 2, 3]), titled(1.0, second), titled(5.0, &[7, 8])];
        let alone = scores(&pool(&[4, 5]), false, &settings());
        let twin = scores(&pool(&[1, 2, 3]), false, &settings());
        let (best, low) = (alone[0], alone[1]);
        assert!((twin[1] - (0.7 * best + 0.3 * low)).abs() < 1e-12, "{twin:?} {alone:?}");
        assert_eq!((twin[0], twin[2]), (alone[0], alone[2]));
        // Two terms of four are half, one of five is not.
        assert!(scores(&pool(&[1, 2, 9]), false, &settings())[1] > low);
        assert_eq!(scores(&pool(&[1, 8, 9]), false, &settings())[1], low);
    }

    #[test]
    fn tier_and_freshness_tip_the_scales_and_no_more() {
        let base = candidate(5.0, 0.5);
        let year_ms = (365.0 * DAY_MS) as i64;
        let score = |candidate: Candidate| scores(&[candidate], true, &settings())[0];
        assert_eq!(score(base.clone()), 0.0);
        assert_eq!(score(Candidate { fits_tier: true, ..base.clone() }), 0.125);
        let aged = |age_ms| score(Candidate { age_ms: Some(age_ms), ..base.clone() });
        assert_eq!((aged(-5), aged(0)), (0.1, 0.1));
        assert!((aged(year_ms) - 0.05).abs() < 1e-12 && aged(20 * year_ms) < 1e-6);
        let better =
            scores(&[candidate(9.0, 0.9), Candidate { age_ms: Some(0), ..candidate(8.0, 0.8) }], true, &settings());
        assert!(better[0] > better[1]);
    }

    #[test]
    fn copies_come_after_the_first_unless_named() {
        let scored = |document: u32, score: f64, text: u32, named: bool| Scored {
            document,
            score,
            named,
            sketch: Arc::new((text..text + 24).collect()),
        };
        let copies = Copies { resemblance_min: 0.9, first: 3 };
        let order = |documents: Vec<Scored<u32>>| {
            let found = apart(documents, &copies);
            assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score), "{found:?}");
            found.into_iter().map(|scored| scored.document).collect::<Vec<_>>()
        };
        let list = |named| {
            vec![
                scored(1, 9.0, 100, false),
                scored(2, 8.0, 100, named),
                scored(3, 7.0, 200, false),
                scored(4, 6.0, 300, false),
                scored(5, 5.0, 100, false),
            ]
        };
        assert_eq!(order(list(false)), [1, 3, 4, 2, 5]);
        let places = |count: usize, named| originals(&list(named)[..count], &copies);
        assert_eq!([places(2, false), places(4, false), places(5, false), places(2, true)], [1, 3, 3, 2]);
        assert_eq!(order(list(true)), [1, 2, 3, 4, 5]);
        assert_eq!(order(vec![scored(1, 9.0, 100, false), scored(2, 8.0, 100, false)]), [1, 2]);
        assert!(order(Vec::new()).is_empty());
    }

    #[test]
    fn a_new_document_is_average_where_it_has_no_vectors() {
        let new = Candidate { lexical: Some(5.0), ..Candidate::default() };
        let found = scores(&[candidate(5.0, 0.9), candidate(5.0, 0.1), new], true, &settings());
        assert!(found[0] > found[2] && found[2] > found[1]);
        assert_eq!(scores(&[candidate(3.0, 0.5)], true, &settings()), [0.0]);
        assert!(scores(&[], true, &settings()).is_empty());
    }

    proptest! {
        #[test]
        fn better_in_every_signal_is_never_worse(
            pool in proptest::collection::vec((0.0..30.0_f64, -1.0..1.0_f64), 2..20), hybrid: bool
        ) {
            let candidates: Vec<Candidate> = pool.iter().map(|(l, p)| candidate(*l, *p)).collect();
            let found = scores(&candidates, hybrid, &settings());
            for (a, left) in candidates.iter().zip(&found) {
                for (b, right) in candidates.iter().zip(&found) {
                    if a.lexical >= b.lexical && a.passage >= b.passage {
                        prop_assert!(left >= &(right - 1e-9));
                    }
                }
            }
        }
    }
}
