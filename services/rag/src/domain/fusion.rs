//! Puts what the signals say about each candidate document into one score.

use super::settings::Settings;

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
    /// Whether it is an SLO template and the question asks about objectives.
    pub(crate) answers_objective: bool,
    /// Whether something in it speaks to a machine.
    pub(crate) doubted: bool,
    /// What people said of citations of it, in [-1, 1]; 0 where nobody did.
    pub(crate) standing: f64,
}

/// One score a candidate, in their order: `w · z(lexical) + (1 − w) · z(dense)` plus boosts, where z standardises over the
/// candidates and `dense = passage + title_weight · title + lead_weight · lead`. Without `hybrid` only the lexical part.
///
/// A signal that a candidate lacks counts as the lowest seen; a candidate without vectors counts as average there, so that
/// it is neither lifted nor sunk for being new. Candidates that all score the same have z = 0.
pub(crate) fn scores(candidates: &[Candidate], hybrid: bool, settings: &Settings) -> Vec<f64> {
    let lexical = standardised(candidates.iter().map(|candidate| Some(candidate.lexical.unwrap_or(0.0))));
    let fused: Vec<f64> = if hybrid {
        let dense = standardised(dense(candidates, settings).into_iter());
        let weight = settings.lexical_weight;
        lexical.iter().zip(dense).map(|(lexical, dense)| weight * lexical + (1.0 - weight) * dense).collect()
    } else {
        lexical
    };
    fused.into_iter().zip(candidates).map(|(score, candidate)| score + boosts(candidate, settings)).collect()
}

fn boosts(candidate: &Candidate, settings: &Settings) -> f64 {
    let boosts = [
        // A doubted document is not found for the name that it gave itself.
        (candidate.named && !candidate.doubted, settings.exact_name_boost),
        (candidate.about_service, settings.service_boost),
        (candidate.answers_objective, settings.objective_boost),
    ];
    let boosts: f64 = boosts.iter().filter(|(holds, _)| *holds).map(|(_, boost)| boost).sum();
    let penalty = if candidate.doubted { settings.doubted_penalty } else { 0.0 };
    boosts + settings.standing_boost * candidate.standing.clamp(-1.0, 1.0) - penalty
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
fn standardised(values: impl Iterator<Item = Option<f64>>) -> Vec<f64> {
    let values: Vec<Option<f64>> = values.collect();
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    let count = known.len().max(1) as f64;
    let mean = known.iter().sum::<f64>() / count;
    let deviation = (known.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt();
    let z = |value: f64| if deviation > f64::EPSILON { (value - mean) / deviation } else { 0.0 };
    values.into_iter().map(|value| value.map_or(0.0, z)).collect()
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
        assert!((found[0] - (0.35 - 0.65)).abs() < 1e-12 && (found[1] - (0.65 - 0.35)).abs() < 1e-12, "{found:?}");
        let lexical = scores(&[candidate(10.0, 0.2), candidate(0.0, 0.6)], false, &settings());
        assert_eq!(lexical, [1.0, -1.0]);
    }

    #[test]
    fn a_name_beats_the_rest() {
        let named = Candidate { named: true, ..candidate(0.0, 0.1) };
        let found = scores(&[candidate(9.0, 0.9), candidate(8.0, 0.8), named], true, &settings());
        assert!(found[2] > found[0] && found[0] > found[1]);
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
