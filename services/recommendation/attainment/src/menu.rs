use attain_vocabulary::Tier;
use serde::{Deserialize, Serialize};

use crate::Ambition;

/// Targets that may be offered, loosest first.
///
/// Source: the availability table of *Site Reliability Engineering* (Beyer et al., 2016), appendix A: 90, 95, 99, 99.5,
/// 99.9, 99.95, 99.99 %. The steps between (budgets of 7, 3 and 2 beside 10 and 5) and those below 90 % are the house's, so
/// that neighbouring budgets differ by a factor of at most about two and offers of different risk are seldom the same.
pub const TARGET_MENU: [f64; 21] = [
    0.5, 0.7, 0.8, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9993, 0.9995, 0.9997,
    0.9998, 0.9999, 0.99995, 0.99999,
];

/// Latency thresholds that may be offered, in milliseconds, tightest first.
///
/// Source: the default bucket bounds of OpenTelemetry's explicit histograms (10, 25, 50, 75, 100, 250, 500, 750, 1000, 5000,
/// 10000 ms), with the house's round values between them, so that neighbours differ by at most a factor of two.
pub const LATENCY_MENU_MS: [u32; 19] =
    [10, 20, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000];

/// What a tier allows and what it falls back to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TierPolicy {
    /// The strictest availability target that may be offered.
    pub target_ratio_max: f64,
    /// Availability target of the template, for when the data carries no estimate.
    pub template_target_ratio: f64,
    /// Share of requests that a latency target speaks of, in (0, 1).
    pub latency_quantile: f64,
    /// Latency threshold of the template.
    pub template_latency_threshold_ms: u32,
    /// Most probability of a miss of each ambition, in the order of [`Ambition::ALL`], each in (0, 1); `None` for the house's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miss_probabilities: Option<[f64; 3]>,
}

impl TierPolicy {
    /// The house's policy for a tier.
    ///
    /// The strictest target falls by about one step of the menu a tier, because each nine costs about ten times the one
    /// before (*Site Reliability Engineering*, chapter 3) and is wasted on what nobody waits for. Latency speaks of the 95th
    /// percentile in each tier: the 99th needs five times the traffic before it can be told at all (10 / (1 - q)
    /// effective requests), and most published latency SLOs are at the 95th. A team that wants another hands in its own policy.
    #[must_use]
    pub fn for_tier(tier: Tier) -> Self {
        let (target_ratio_max, template_target_ratio, template_latency_threshold_ms) = match tier {
            Tier::One => (0.99995, 0.9995, 300),
            Tier::Two => (0.9999, 0.999, 500),
            Tier::Three => (0.9995, 0.995, 1000),
            Tier::Four => (0.999, 0.99, 2000),
        };
        Self {
            target_ratio_max,
            template_target_ratio,
            latency_quantile: 0.95,
            template_latency_threshold_ms,
            miss_probabilities: None,
        }
    }

    /// The share of requests that a latency target speaks of, kept where a history can tell it.
    pub(crate) fn latency_quantile(&self) -> f64 {
        self.latency_quantile.clamp(0.5, 0.9999)
    }

    /// The most probability of a miss that an offer of an ambition may have.
    #[must_use]
    pub fn miss_probability_max(&self, ambition: Ambition) -> f64 {
        match (self.miss_probabilities, ambition) {
            (None, ambition) => ambition.miss_probability_max(),
            (Some([conservative, ..]), Ambition::Conservative) => conservative,
            (Some([_, balanced, _]), Ambition::Balanced) => balanced,
            (Some([.., ambitious]), Ambition::Ambitious) => ambitious,
        }
    }
}

/// Targets of the menu up to the policy's strictest, strictest first.
pub(crate) fn targets_allowed(policy: &TierPolicy) -> impl Iterator<Item = f64> + '_ {
    TARGET_MENU.iter().rev().copied().filter(|target| *target <= policy.target_ratio_max + 1e-12)
}

/// Position of a target on the menu; that of the next looser one when it is not on it.
pub(crate) fn menu_position(target: f64) -> usize {
    TARGET_MENU.iter().rposition(|step| *step <= target + 1e-12).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn menus_ascend_and_every_template_is_on_them() {
        assert!(TARGET_MENU.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(LATENCY_MENU_MS.windows(2).all(|pair| pair[0] < pair[1] && pair[1] <= 2 * pair[0]));
        for tier in [Tier::One, Tier::Two, Tier::Three, Tier::Four] {
            let policy = TierPolicy::for_tier(tier);
            assert!(TARGET_MENU.contains(&policy.target_ratio_max), "{tier:?}");
            assert!(TARGET_MENU.contains(&policy.template_target_ratio), "{tier:?}");
            assert!(policy.template_target_ratio < policy.target_ratio_max, "{tier:?}");
            assert!(LATENCY_MENU_MS.contains(&policy.template_latency_threshold_ms), "{tier:?}");
        }
    }

    #[test]
    fn a_stricter_tier_allows_no_less() {
        let strictest: Vec<f64> = [Tier::One, Tier::Two, Tier::Three, Tier::Four]
            .map(|tier| TierPolicy::for_tier(tier).target_ratio_max)
            .to_vec();
        assert!(strictest.windows(2).all(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn a_policy_may_take_other_risks_and_one_that_does_not_is_written_as_before() {
        let house = TierPolicy::for_tier(Tier::Two);
        assert_eq!(Ambition::ALL.map(|ambition| house.miss_probability_max(ambition)), [0.02, 0.10, 0.25]);
        let careful = TierPolicy { miss_probabilities: Some([0.01, 0.05, 0.2]), ..house };
        assert_eq!(Ambition::ALL.map(|ambition| careful.miss_probability_max(ambition)), [0.01, 0.05, 0.2]);
        let written = serde_json::to_string(&house).expect("JSON");
        assert!(!written.contains("miss_probabilities"), "{written}");
        assert_eq!(serde_json::from_str::<TierPolicy>(&written).expect("read"), house);
    }

    #[test]
    fn allowed_targets_start_with_the_strictest() {
        let policy = TierPolicy::for_tier(Tier::Three);
        let allowed: Vec<f64> = targets_allowed(&policy).collect();
        assert_eq!(allowed.first(), Some(&0.9995));
        assert_eq!(allowed.last(), Some(&0.5));
        assert_eq!(menu_position(0.9991), menu_position(0.999));
    }
}
