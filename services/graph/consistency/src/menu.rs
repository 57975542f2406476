//! Targets that people are used to.

use attain_vocabulary::Objective;

/// Targets to choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct Menu {
    /// Error budgets, tightest first.
    budgets: Vec<f64>,
}

impl Menu {
    /// A menu of these targets, in any order.
    #[must_use]
    pub fn new(targets: &[Objective]) -> Self {
        let mut budgets: Vec<f64> = targets.iter().map(|target| target.error_budget()).collect();
        budgets.sort_by(f64::total_cmp);
        budgets.dedup();
        Self { budgets }
    }

    /// Tightest budget of the menu that is not below this one; the budget itself where the menu ends.
    pub(crate) fn at_least(&self, budget: f64) -> f64 {
        let enough = self.budgets.iter().find(|step| **step * (1.0 + crate::demands::SLACK) >= budget);
        enough.copied().unwrap_or(budget)
    }

    /// Loosest budget of the menu that is not above this one; the budget itself where the menu ends.
    pub(crate) fn at_most(&self, budget: f64) -> f64 {
        let enough = self.budgets.iter().rfind(|step| **step <= budget * (1.0 + crate::demands::SLACK));
        enough.copied().unwrap_or(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_up_and_down_and_keeps_what_lies_beyond() {
        let target = |ratio| Objective::new("target_ratio", ratio).expect("valid");
        let menu = Menu::new(&[target(0.75), target(0.5)]);
        assert_eq!(menu.at_least(0.3), 0.5);
        assert_eq!(menu.at_most(0.3), 0.25);
        assert_eq!((menu.at_least(0.25), menu.at_most(0.25)), (0.25, 0.25));
        assert_eq!((menu.at_least(0.6), menu.at_most(0.1)), (0.6, 0.1));
    }
}
