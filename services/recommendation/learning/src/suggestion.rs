use attain_attainment::Ambition;
use serde::{Deserialize, Serialize};

use crate::Arms;
use crate::beta::{Gridded, probabilities_best};

/// Share of suggestions that is spread evenly over the offers there are, whatever was learned: it bounds the weights of off-policy
/// estimates and lets a taste that changed be noticed.
pub const EXPLORATION: f64 = 0.05;

/// What is known of one ambition, and how likely it is suggested.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ArmView {
    /// Which.
    pub ambition: Ambition,
    /// Mean of the posterior, in (0, 1).
    pub mean: f64,
    /// Its 5 % quantile.
    pub low: f64,
    /// Its 95 % quantile.
    pub high: f64,
    /// Probability that it is suggested, in [0, 1].
    pub propensity: f64,
}

/// A suggested offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suggestion {
    /// Which.
    pub ambition: Ambition,
    /// Probability that it was suggested, in (0, 1].
    pub propensity: f64,
    /// What was known of each offer there is, the least risk first.
    pub views: Vec<ArmView>,
}

/// Draws one of the offers there are by Thompson sampling with the share [`EXPLORATION`] spread evenly. The probabilities are
/// integrated, not simulated, so the propensity is exact. `None` where nothing is offered.
///
/// Where it does not explore, balanced is suggested (else the least risk), with propensity 1.
#[must_use]
pub fn suggest(arms: &Arms, offered: &[Ambition], explores: bool, seed: u64) -> Option<Suggestion> {
    if !explores {
        return suggest_always(arms, offered, Ambition::Balanced);
    }
    let views = views(arms, offered);
    let drawn = uniform(seed);
    let mut below = 0.0;
    let chosen = views.iter().find(|view| {
        below += view.propensity;
        drawn < below
    });
    // Rounding may leave the sum a little below the draw.
    let chosen = *chosen.or(views.iter().rfind(|view| view.propensity > 0.0))?;
    Some(Suggestion { ambition: chosen.ambition, propensity: chosen.propensity, views })
}

/// Suggests one ambition whatever was learned, with propensity 1; where it is not offered, the least risk. `None` where nothing is.
#[must_use]
pub fn suggest_always(arms: &Arms, offered: &[Ambition], ambition: Ambition) -> Option<Suggestion> {
    let mut views = views(arms, offered);
    let chosen = views.iter().position(|view| view.ambition == ambition).unwrap_or(0);
    for (i, view) in views.iter_mut().enumerate() {
        view.propensity = f64::from(i == chosen);
    }
    let ambition = views.get(chosen)?.ambition;
    Some(Suggestion { ambition, propensity: 1.0, views })
}

/// What is known of each of the offers there are, the least risk first.
#[must_use]
pub fn views(arms: &Arms, offered: &[Ambition]) -> Vec<ArmView> {
    let offered: Vec<Ambition> = Ambition::ALL.into_iter().filter(|ambition| offered.contains(ambition)).collect();
    let beliefs: Vec<Gridded> = offered.iter().map(|ambition| arms.belief(*ambition).gridded()).collect();
    let even = 1.0 / offered.len().max(1) as f64;
    let chances = probabilities_best(&beliefs);
    offered
        .into_iter()
        .zip(beliefs)
        .zip(chances)
        .map(|((ambition, belief), chance)| ArmView {
            ambition,
            mean: arms.belief(ambition).mean(),
            low: belief.quantile(0.05),
            high: belief.quantile(0.95),
            propensity: (1.0 - EXPLORATION) * chance + EXPLORATION * even,
        })
        .collect()
}

/// A number in [0, 1) from a seed: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), so that neighbouring seeds
/// give unrelated draws, and its upper 53 bits.
fn uniform(seed: u64) -> f64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offers_are_suggested_as_often_as_their_propensity_says() {
        let mut arms = Arms::default();
        arms.arm_mut(Ambition::Ambitious).success = 3.0;
        let draws = 4_000_u64;
        let mut counts = [0_u32; 3];
        let mut propensities = [0.0; 3];
        for seed in 0..draws {
            let suggestion = suggest(&arms, &Ambition::ALL, true, seed).expect("offered");
            let i = suggestion.views.iter().position(|view| view.ambition == suggestion.ambition).expect("one of them");
            counts[i] += 1;
            propensities = [0, 1, 2].map(|i| suggestion.views[i].propensity);
            assert_eq!(suggestion.propensity, suggestion.views[i].propensity);
        }
        for (count, propensity) in counts.into_iter().zip(propensities) {
            let frequency = f64::from(count) / draws as f64;
            // Four standard errors.
            assert!((frequency - propensity).abs() < 4.0 * (0.25 / draws as f64).sqrt(), "{frequency} {propensity}");
        }
    }

    #[test]
    fn only_what_is_offered_is_suggested() {
        let arms = Arms::default();
        assert_eq!(suggest(&arms, &[], true, 1), None);
        let one = suggest(&arms, &[Ambition::Ambitious], true, 1).expect("offered");
        assert_eq!((one.ambition, one.views.len()), (Ambition::Ambitious, 1));
        assert!((one.propensity - 1.0).abs() < 1e-12);
        let still = suggest(&arms, &Ambition::ALL, false, 1).expect("offered");
        assert_eq!((still.ambition, still.propensity), (Ambition::Balanced, 1.0));
        let still = suggest(&arms, &[Ambition::Conservative, Ambition::Ambitious], false, 1).expect("offered");
        assert_eq!((still.ambition, still.propensity), (Ambition::Conservative, 1.0));
    }

    proptest! {
        #[test]
        fn the_same_seed_gives_the_same_and_no_propensity_falls_below_the_floor(
            evidence in prop::array::uniform6(0.0..200.0_f64),
            seed in any::<u64>(),
        ) {
            let mut arms = Arms::default();
            for (i, arm) in arms.arms.iter_mut().enumerate() {
                (arm.success, arm.failure) = (evidence[2 * i], evidence[2 * i + 1]);
            }
            let suggestion = suggest(&arms, &Ambition::ALL, true, seed).expect("offered");
            let again = suggest(&arms, &Ambition::ALL, true, seed).expect("offered");
            prop_assert_eq!(&again, &suggestion);
            prop_assert!(suggestion.views.iter().all(|view| view.propensity >= EXPLORATION / 3.0 - 1e-12));
            let sum: f64 = suggestion.views.iter().map(|view| view.propensity).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
        }
    }
}
