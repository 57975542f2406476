//! What to promise outside: a service level agreement below the objective inside, and what missing it would cost.
//!
//! Entry point: [`suggest`].

use std::cell::OnceCell;

use attain_vocabulary::Tier;
use serde::{Deserialize, Serialize};

use crate::cells::Cells;
use crate::prediction::predict_all;
use crate::{Constants, Prediction, SliHistory, TARGET_MENU};

/// Lengths that a calendar month can have, in days: an agreement has to hold in each.
pub(crate) const MONTH_DAYS: [f64; 4] = [28.0, 29.0, 30.0, 31.0];

/// A step of a credit schedule: a month below the level gives back the share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CreditStep {
    /// Attained ratio below which the step applies.
    pub below_ratio: f64,
    /// Share of the month's fee that is given back, in (0, 1].
    pub credit_ratio: f64,
}

/// What is given back where nobody says otherwise, below the level agreed and at two levels further down.
///
/// The shape that public clouds publish for their compute services: a tenth for a miss, more below 99 %, all below 95 %.
pub const DEFAULT_CREDIT: CreditSchedule = CreditSchedule { missed: 0.10, below_two_nines: 0.25, below_95: 1.0 };

/// The default schedule, which depends on the level agreed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CreditSchedule {
    missed: f64,
    below_two_nines: f64,
    below_95: f64,
}

impl CreditSchedule {
    /// The steps for an agreed level; those at or above it fall away.
    #[must_use]
    pub fn steps(&self, agreed_ratio: f64) -> Vec<CreditStep> {
        let lower = [(0.99, self.below_two_nines), (0.95, self.below_95)];
        std::iter::once((agreed_ratio, self.missed))
            .chain(lower.into_iter().filter(|(below, _)| *below < agreed_ratio))
            .map(|(below_ratio, credit_ratio)| CreditStep { below_ratio, credit_ratio })
            .collect()
    }
}

/// Most probability of a missed month that a tier's agreement may carry. A choice of the house, about half of what a conservative
/// offer inside allows for the tier that matters: a miss outside costs money and trust.
#[must_use]
pub fn miss_probability_max(tier: Tier) -> f64 {
    match tier {
        Tier::One => 0.005,
        Tier::Two => 0.01,
        Tier::Three => 0.02,
        Tier::Four => 0.05,
    }
}

/// A level to promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suggestion {
    /// The strictest level on the menu that is safe enough and looser than the objective.
    pub target_ratio: f64,
    /// Probability that a calendar month misses it, the greatest of its possible lengths.
    pub miss_probability: f64,
    /// What it may be at most.
    pub miss_probability_max: f64,
    /// Objective less agreement; `None` without an objective.
    pub margin_ratio: Option<f64>,
    /// How many times the error budget inside fits into the one outside; `None` without an objective.
    pub budget_multiple: Option<f64>,
    /// Whether the objective, rather than the forecast, keeps it from being stricter.
    pub limited_by_objective: bool,
    /// Each step with its probability, loosest last.
    pub credits: Vec<ExpectedCredit>,
    /// Share of a month's fee that is given back on average.
    pub expected_credit_ratio: f64,
}

/// A step of the schedule and how likely a month ends there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExpectedCredit {
    /// The step.
    pub step: CreditStep,
    /// Probability that a month ends below it.
    pub probability: f64,
}

/// Why nothing is suggested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSuggestion {
    /// No request was measured.
    NothingMeasured,
    /// No level on the menu is looser than the objective, safe enough, and told by the traffic.
    NoneSafe,
}

/// The strictest level on the menu, looser than `objective_ratio`, that a calendar month misses with no more than
/// `miss_probability_max`, and what it costs by the schedule (the default one where `steps` is empty). The forecast is that of a
/// recommendation ([`crate::predict_with`] the constants of the model that is live) for months of 28 to 31 days, the worst of
/// which counts.
///
/// # Errors
/// [`NoSuggestion`] says why there is none.
pub fn suggest(
    constants: &Constants,
    history: &SliHistory,
    now_ms: i64,
    objective_ratio: Option<f64>,
    miss_probability_max: f64,
    steps: &[CreditStep],
) -> Result<Suggestion, NoSuggestion> {
    let cells = Cells::of(history.series().points(), now_ms);
    let months = predict_all(constants, cells.all(), &MONTH_DAYS, now_ms);
    let months = Months::of(months).ok_or(NoSuggestion::NothingMeasured)?;
    months.suggest(objective_ratio, miss_probability_max, steps)
}

/// What a calendar month of each length is forecast to be like; made once for several objectives.
pub(crate) struct Months {
    months: Vec<Prediction>,
    /// Probability that the worst of them misses each level of the menu, once it was asked for.
    missed: [OnceCell<f64>; TARGET_MENU.len()],
}

impl Months {
    /// Of a prediction for each of [`MONTH_DAYS`]; `None` when no request was counted.
    pub(crate) fn of(months: Vec<Prediction>) -> Option<Self> {
        (!months.is_empty()).then(|| Self { months, missed: Default::default() })
    }

    /// See [`suggest`].
    pub(crate) fn suggest(
        &self,
        objective_ratio: Option<f64>,
        miss_probability_max: f64,
        steps: &[CreditStep],
    ) -> Result<Suggestion, NoSuggestion> {
        // A stricter level is told by more traffic and missed no less: what is safe lies below what is not.
        let safe = TARGET_MENU.partition_point(|ratio| self.is_safe(*ratio, miss_probability_max));
        let looser = |ratio: &f64| objective_ratio.is_none_or(|objective| *ratio < objective - 1e-12);
        let usable = safe.min(TARGET_MENU.partition_point(looser));
        let target_ratio = *TARGET_MENU[..usable].last().ok_or(NoSuggestion::NoneSafe)?;
        let default;
        let steps = if steps.is_empty() {
            default = DEFAULT_CREDIT.steps(target_ratio);
            &default
        } else {
            steps
        };
        let mut credits: Vec<ExpectedCredit> = steps
            .iter()
            .map(|step| ExpectedCredit { step: *step, probability: self.missed(step.below_ratio) })
            .collect();
        credits.sort_by(|a, b| b.step.below_ratio.total_cmp(&a.step.below_ratio));
        Ok(Suggestion {
            target_ratio,
            miss_probability: self.missed(target_ratio),
            miss_probability_max,
            margin_ratio: objective_ratio.map(|objective| objective - target_ratio),
            budget_multiple: objective_ratio.map(|objective| (1.0 - target_ratio) / (1.0 - objective)),
            limited_by_objective: usable < safe,
            expected_credit_ratio: expected(&credits),
            credits,
        })
    }

    fn is_safe(&self, ratio: f64, miss_probability_max: f64) -> bool {
        self.months.iter().all(|month| month.distinguishes(1.0 - ratio)) && self.missed(ratio) <= miss_probability_max
    }

    /// Probability that the worst month misses a level.
    fn missed(&self, ratio: f64) -> f64 {
        let worst = || self.months.iter().map(|month| month.forecast.miss_probability(1.0 - ratio)).fold(0.0, f64::max);
        match TARGET_MENU.iter().position(|step| *step == ratio) {
            Some(step) => *self.missed[step].get_or_init(worst),
            None => worst(),
        }
    }
}

/// A month gives back what its lowest step says: each step adds what it gives beyond the one above.
fn expected(credits: &[ExpectedCredit]) -> f64 {
    let mut given = 0.0_f64;
    let mut sum = 0.0;
    for credit in credits {
        sum += credit.probability * (credit.step.credit_ratio - given).max(0.0);
        given = given.max(credit.step.credit_ratio);
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CountPoint, CountSeries};
    use attain_vocabulary::{BUCKET_MS, DAY_MS, TimeRange};
    use proptest::prelude::*;

    const DAYS: usize = 90;

    fn history(bad: impl Fn(usize) -> f64) -> SliHistory {
        let point = |i: usize| CountPoint { start_ms: i as i64 * BUCKET_MS, valid: 5000.0, bad: bad(i) };
        let range = TimeRange::new("range", 0, DAYS as i64 * DAY_MS).expect("ascending");
        SliHistory::of(CountSeries::new((0..DAYS * 288).map(point).collect()), range)
    }

    fn outages(i: usize) -> f64 {
        if i % 4000 < 4 { 2000.0 } else { 1.0 }
    }

    const NOW: i64 = DAYS as i64 * DAY_MS;

    #[test]
    fn it_is_looser_than_the_objective_and_says_why_no_stricter() {
        let history = history(outages);
        let free = suggest(&Constants::DEFAULT, &history, NOW, None, 0.01, &[]).expect("measured");
        assert!(free.miss_probability <= 0.01 && free.margin_ratio.is_none() && !free.limited_by_objective);
        let loose = suggest(&Constants::DEFAULT, &history, NOW, Some(0.95), 0.01, &[]).expect("there is room below");
        assert!(loose.target_ratio < 0.95 && loose.limited_by_objective, "{loose:?}");
        assert!((loose.margin_ratio.expect("an objective") - (0.95 - loose.target_ratio)).abs() < 1e-12);
        let strict = suggest(&Constants::DEFAULT, &history, NOW, Some(0.99999), 0.01, &[]).expect("measured");
        assert_eq!((strict.target_ratio, strict.limited_by_objective), (free.target_ratio, false));
        assert!(strict.budget_multiple.expect("an objective") > 1.0);
    }

    #[test]
    fn a_month_gives_back_what_its_lowest_step_says() {
        let credit = |below_ratio, credit_ratio, probability| ExpectedCredit {
            step: CreditStep { below_ratio, credit_ratio },
            probability,
        };
        let credits = [credit(0.999, 0.1, 0.01), credit(0.99, 0.25, 0.002), credit(0.95, 1.0, 0.0001)];
        let by_hand = 0.1 * (0.01 - 0.002) + 0.25 * (0.002 - 0.0001) + 1.0 * 0.0001;
        assert!((expected(&credits) - by_hand).abs() < 1e-15);
        assert_eq!(DEFAULT_CREDIT.steps(0.98).len(), 2);
        assert_eq!(DEFAULT_CREDIT.steps(0.999)[0], CreditStep { below_ratio: 0.999, credit_ratio: 0.1 });
    }

    #[test]
    fn nothing_measured_is_nothing_promised() {
        let nothing = SliHistory::of(CountSeries::default(), TimeRange::new("range", 0, NOW).expect("ascending"));
        assert_eq!(suggest(&Constants::DEFAULT, &nothing, NOW, None, 0.01, &[]), Err(NoSuggestion::NothingMeasured));
        let down = history(|_| 4000.0);
        assert_eq!(suggest(&Constants::DEFAULT, &down, NOW, None, 0.01, &[]), Err(NoSuggestion::NoneSafe));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// The level is the first that holds when each is asked, strictest first.
        #[test]
        fn the_menu_by_halves_is_the_menu_step_by_step(risk in 0.001f64..0.2, objective in prop::option::of(0.9f64..1.0), level in 0.1f64..20.0) {
            let history = history(|i| level * outages(i) / 2.0);
            let cells = Cells::of(history.series().points(), NOW);
            let months = predict_all(&Constants::DEFAULT, cells.all(), &MONTH_DAYS, NOW);
            let months = Months::of(months).expect("measured");
            let safe = |ratio: &&f64| {
                months.months.iter().all(|month| {
                    month.distinguishes(1.0 - **ratio) && month.forecast.miss_probability(1.0 - **ratio) <= risk
                })
            };
            let strictest = TARGET_MENU.iter().rev().find(safe);
            let looser = |ratio: &&f64| objective.is_none_or(|objective| **ratio < objective - 1e-12);
            let expected = TARGET_MENU.iter().rev().filter(looser).find(safe);
            let found = months.suggest(objective, risk, &[]).ok();
            prop_assert_eq!(found.as_ref().map(|found| found.target_ratio), expected.copied());
            prop_assert_eq!(found.is_some_and(|found| found.limited_by_objective), expected.is_some() && strictest > expected);
        }

        /// Less risk never promises more, and costs no more.
        #[test]
        fn less_risk_promises_less(risk in 0.001f64..0.2, share in 0.05f64..1.0, level in 0.1f64..20.0) {
            let history = history(|i| level * outages(i) / 2.0);
            let of = |risk| suggest(&Constants::DEFAULT, &history, NOW, None, risk, &[]);
            if let (Ok(bold), Ok(careful)) = (of(risk), of(risk * share)) {
                prop_assert!(careful.target_ratio <= bold.target_ratio);
                prop_assert!(careful.miss_probability <= bold.miss_probability);
                prop_assert!((0.0..=1.0).contains(&bold.expected_credit_ratio));
                prop_assert!(bold.expected_credit_ratio <= bold.miss_probability + 1e-12);
            }
        }
    }
}
