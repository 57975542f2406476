use attain_attainment::Ambition;
use attain_vocabulary::{DAY_MS, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::Beta;

/// Days after which evidence counts half: two quarters, the time in which a team's plans and people change.
pub const HALF_LIFE_DAYS: f64 = 180.0;

/// What is believed of each ambition before anybody decided: that balanced is taken two times in three and the others every
/// second time, each with the weight of about four decisions. Balanced was what everybody was pointed at before.
pub const PRIOR: [Beta; 3] =
    [Beta { alpha: 2.0, beta: 2.0 }, Beta { alpha: 3.0, beta: 1.5 }, Beta { alpha: 2.0, beta: 2.0 }];

/// Evidence on one ambition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// For it, decayed.
    pub success: f64,
    /// Against it, decayed.
    pub failure: f64,
    /// Decisions where it was suggested, not decayed.
    pub suggested_count: u32,
    /// Those that accepted it as it was.
    pub accepted_count: u32,
}

/// Evidence on each ambition in the order of [`Ambition::ALL`], as of an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Arms {
    /// The evidence.
    pub arms: [Arm; 3],
    /// The instant.
    pub time_ms: UnixMillis,
}

impl Arms {
    /// The same later on: evidence of age t counts 2^(-t / half-life). An instant before changes nothing.
    #[must_use]
    pub fn at(mut self, time_ms: UnixMillis) -> Self {
        if time_ms <= self.time_ms {
            return self;
        }
        let age_days = (time_ms - self.time_ms) as f64 / DAY_MS as f64;
        let left = libm::exp2(-age_days / HALF_LIFE_DAYS);
        for arm in &mut self.arms {
            arm.success *= left;
            arm.failure *= left;
        }
        self.time_ms = time_ms;
        self
    }

    /// What is believed of an ambition.
    #[must_use]
    pub fn belief(&self, ambition: Ambition) -> Beta {
        let (prior, arm) = (PRIOR[place(ambition)], self.arms[place(ambition)]);
        Beta { alpha: prior.alpha + arm.success, beta: prior.beta + arm.failure }
    }

    /// The evidence on an ambition.
    #[must_use]
    pub fn arm(&self, ambition: Ambition) -> &Arm {
        &self.arms[place(ambition)]
    }

    pub(crate) fn arm_mut(&mut self, ambition: Ambition) -> &mut Arm {
        &mut self.arms[place(ambition)]
    }
}

/// Position in [`Ambition::ALL`].
pub(crate) fn place(ambition: Ambition) -> usize {
    match ambition {
        Ambition::Conservative => 0,
        Ambition::Balanced => 1,
        Ambition::Ambitious => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_counts_half_after_the_half_life_and_the_prior_stays() {
        let mut arms = Arms::default();
        arms.arm_mut(Ambition::Balanced).success = 4.0;
        let later = arms.at(DAY_MS * 180);
        assert!((later.arm(Ambition::Balanced).success - 2.0).abs() < 1e-12);
        assert!((later.belief(Ambition::Balanced).alpha - 5.0).abs() < 1e-12);
        assert_eq!(later.at(0), later, "time does not go back");
        // In one step or in two, to rounding.
        let stepped = arms.at(DAY_MS * 60).at(DAY_MS * 180);
        assert!((stepped.arm(Ambition::Balanced).success - 2.0).abs() < 1e-12);
    }

    #[test]
    fn places_are_those_of_all() {
        for (i, ambition) in Ambition::ALL.into_iter().enumerate() {
            assert_eq!(place(ambition), i);
        }
    }
}
