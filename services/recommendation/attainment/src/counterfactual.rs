use attain_vocabulary::EntityId;

use crate::backtest::{backtest_from, windows_max};
use crate::cells::Cells;
use crate::confidence::{Found, carries};
use crate::menu::TARGET_MENU;
use crate::offers::strictest_target;
use crate::prediction::predict_from;
use crate::sanity::Usable;
use crate::series::fraction;
use crate::split::Split;
use crate::{
    Ambition, CountPoint, CountSeries, Counterfactual, CounterfactualStructure, Prediction, Reach, RecommendationInput,
    ShareSeries, SplitMethod, TierPolicy,
};

/// From here on every number is whole.
const MANTISSA: f64 = (1_u64 << 52) as f64;

/// Key of the counterfactual that needs no structure: half of the service's own failures gone.
pub const OWN_FAILURES_HALVED: &str = "own_failures_halved";

/// The history as it is, against which changes are held.
pub(crate) struct Today<'a> {
    pub(crate) input: &'a RecommendationInput,
    pub(crate) usable: &'a Usable<'a>,
    pub(crate) series: &'a CountSeries,
    pub(crate) split: &'a Split,
    pub(crate) prediction: &'a Prediction,
    /// Balanced target; `None` when none can be offered.
    pub(crate) balanced: Option<f64>,
}

/// What a history with fewer failures would give.
pub(crate) struct Solved {
    pub(crate) balanced: Option<f64>,
    pub(crate) miss_probability: f64,
    pub(crate) attained_ratio: f64,
}

impl Today<'_> {
    /// Takes failures out of each bucket and solves again: episodes, forecast, target.
    ///
    /// Fewer failures cannot make a target worse; where the model says so (what was level before may now stand out as
    /// episodes), that is its noise, and today's value is kept. It is kept as well where what is left of the history would not
    /// carry an estimate (a single incident decides, or the level has just changed): nobody would be offered the target then.
    pub(crate) fn without(&self, ways: &[Arriving]) -> Solved {
        let reference = 1.0 - self.balanced.unwrap_or(TARGET_MENU[0]);
        let before = self.prediction.forecast.miss_probability(reference);
        let attained = |series: &CountSeries| series.attained_ratio().unwrap_or(0.0);
        let unchanged =
            || Solved { balanced: self.balanced, miss_probability: before, attained_ratio: attained(self.series) };
        let Some(series) = fewer(ways, self.series) else {
            return unchanged();
        };
        let Some((after, target)) = self.solved(&series, &self.input.policy) else {
            return unchanged();
        };
        Solved {
            balanced: [target, self.balanced].into_iter().flatten().reduce(f64::max),
            miss_probability: after.forecast.miss_probability(reference).min(before),
            attained_ratio: attained(&series),
        }
    }

    /// The balanced target by another policy; never looser than today's, which is kept where what is measured would not carry
    /// a stricter one.
    pub(crate) fn by_policy(&self, policy: &TierPolicy) -> Option<f64> {
        let target = self.solved(self.series, policy).and_then(|(_, target)| target);
        [target, self.balanced].into_iter().flatten().reduce(f64::max)
    }

    /// The forecast of another history or by another policy, and its balanced target where it would be offered.
    fn solved(&self, series: &CountSeries, policy: &TierPolicy) -> Option<(Prediction, Option<f64>)> {
        let Prediction { constants, window_days, now_ms, .. } = self.prediction;
        let cells = Cells::of(series.points(), *now_ms);
        let after =
            predict_from(constants, cells.all(), *window_days, *now_ms)?.with_layer(self.input.layer().cloned());
        let sure = |_: &f64| {
            let (usable, split) = (self.usable, self.split);
            let found = Found { usable, policy, prediction: Some(&after), split, backtest: None };
            let windows_max = windows_max(&cells, *window_days, *now_ms);
            carries(self.input, &found, windows_max, || backtest_from(constants, &cells, *window_days, *now_ms, policy))
        };
        // What is no stricter than today's changes nothing, sure or not.
        let target = strictest_target(&after, policy, policy.miss_probability_max(Ambition::Balanced))
            .filter(|target| self.balanced.is_none_or(|today| *target > today))
            .filter(sure);
        Some((after, target))
    }

    /// Solves each change of structure again, and half of the own failures gone; the most useful first.
    pub(crate) fn counterfactuals(&self) -> Vec<Counterfactual> {
        if self.split.ratios.method == SplitMethod::Unknown {
            return Vec::new();
        }
        let mut solved = vec![self.own_halved()];
        for change in self.input.changes() {
            let saved = saved_by(self.input, self.series, self.split, change).unwrap_or_default();
            solved.push(self.described(
                &change.key,
                &change.description,
                change.ceiling_after_ratio.and_then(fraction),
                &saved,
            ));
        }
        solved.sort_by(|a, b| {
            let target = |c: &Counterfactual| c.balanced_target_ratio.unwrap_or(0.0);
            target(b)
                .total_cmp(&target(a))
                .then_with(|| a.miss_probability.total_cmp(&b.miss_probability))
                .then_with(|| b.attained_ratio.total_cmp(&a.attained_ratio))
                .then_with(|| a.key.cmp(&b.key))
        });
        solved
    }

    fn own_halved(&self) -> Counterfactual {
        let saved = own_halved(self.split);
        let ceiling = self.input.structure.as_ref().and_then(|structure| {
            let own = structure.importances.iter().find(|importance| importance.entity_id == self.input.service)?;
            fraction(structure.ceiling_ratio + own.contribution_ratio / 2.0)
        });
        let description = format!("half of the failures of {} itself avoided", self.input.service);
        self.described(OWN_FAILURES_HALVED, &description, ceiling, &saved)
    }

    fn described(
        &self,
        key: &str,
        description: &str,
        ceiling_ratio: Option<f64>,
        saved: &[Arriving],
    ) -> Counterfactual {
        let Solved { balanced, miss_probability, attained_ratio } = self.without(saved);
        Counterfactual {
            key: key.to_owned(),
            description: description.to_owned(),
            ceiling_ratio,
            balanced_target_ratio: balanced,
            miss_probability,
            attained_ratio,
        }
    }
}

/// Failures that arrive at the service by one way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arriving {
    /// The direct dependency; `None` for own failures.
    pub(crate) by: Option<EntityId>,
    /// In each bucket; shares of whole failures where they are estimated.
    pub(crate) failed: Vec<f64>,
}

/// Half of the own failures in each bucket.
pub(crate) fn own_halved(split: &Split) -> Vec<Arriving> {
    vec![Arriving { by: None, failed: split.causes.own.iter().map(|own| own / 2.0).collect() }]
}

/// Whole failures out of shares of them, way by way, the rest carried on to the next bucket that fails: what is solved again is
/// a history that could have been measured. All ways together take no more of a bucket than failed in it.
pub(crate) fn whole(ways: &[Arriving], series: &CountSeries) -> Vec<Vec<f64>> {
    let mut left: Vec<f64> = series.points().iter().map(|point| point.bad).collect();
    let taken = |way: &Arriving| {
        let mut taken = Vec::with_capacity(left.len());
        take(way, series, &mut left, |_, whole| taken.push(whole));
        taken
    };
    ways.iter().map(taken).collect()
}

/// The history without those whole failures; `None` where there are none.
fn fewer(ways: &[Arriving], series: &CountSeries) -> Option<CountSeries> {
    let mut left: Vec<f64> = series.points().iter().map(|point| point.bad).collect();
    let mut any = false;
    for way in ways {
        take(way, series, &mut left, |_, whole| any |= whole > 0.0);
    }
    let relieved = |(point, left): (&CountPoint, f64)| CountPoint { bad: left, ..*point };
    any.then(|| CountSeries::of(series.points().iter().zip(left).map(relieved).collect()))
}

/// Takes whole failures of one way out of what is left of each bucket, and tells how many.
fn take(way: &Arriving, series: &CountSeries, left: &mut [f64], mut tell: impl FnMut(usize, f64)) {
    let mut owed = 0.0;
    let failed = way.failed.iter().copied().chain(std::iter::repeat(0.0));
    for (at, ((point, left), failed)) in series.points().iter().zip(left).zip(failed).enumerate() {
        let failed = if failed.is_finite() { failed.clamp(0.0, point.bad) } else { 0.0 };
        let whole = if owed == 0.0 && failed <= *left && floor(failed) == failed {
            // Nothing to carry on: as below, without waiting for what the last bucket left.
            failed
        } else {
            owed += failed;
            // A hair of tolerance: shares of whole failures do not add up exactly.
            let whole = floor(owed + 1e-6).min(*left);
            owed -= whole;
            whole
        };
        *left -= whole;
        tell(at, whole);
    }
}

/// What `f64::floor` says: without a call on processors that are not known to have the instruction.
fn floor(value: f64) -> f64 {
    if value.abs() >= MANTISSA {
        return value;
    }
    let cut = value as i64 as f64;
    if cut > value { cut - 1.0 } else { cut }
}

/// Failures that a change saves in each bucket, by each way that its edge reaches the service; `None` where none came by it.
pub(crate) fn saved_by(
    input: &RecommendationInput,
    series: &CountSeries,
    split: &Split,
    change: &CounterfactualStructure,
) -> Option<Vec<Arriving>> {
    let saved_ratio = fraction(change.saved_ratio).unwrap_or(0.0);
    let way = |reach: &Reach| {
        let (by, through) = match reach {
            Reach::Direct if change.caller != input.service => return None,
            Reach::Direct => (&change.callee, arriving(series, split, &change.callee, None)?),
            Reach::Through { dependency, share } => (dependency, arriving(series, split, dependency, Some(share))?),
        };
        let failed = through.into_iter().map(|failed| failed * saved_ratio).collect();
        Some(Arriving { by: Some(by.clone()), failed })
    };
    let ways: Vec<Arriving> = change.reaches().filter_map(way).collect();
    (!ways.is_empty()).then_some(ways)
}

/// Failures that arrive by a direct dependency in each bucket, or the share of them that came from further down.
pub(crate) fn arriving(
    series: &CountSeries,
    split: &Split,
    dependency: &EntityId,
    share: Option<&ShareSeries>,
) -> Option<Vec<f64>> {
    let column = split.causes.by_dependency.get(dependency)?;
    let Some(share) = share else {
        return Some(column.clone());
    };
    let otherwise = fraction(share.otherwise).unwrap_or(0.0);
    let part = |start| share.by_bucket.get(&start).copied().and_then(fraction).unwrap_or(otherwise);
    Some(column.iter().zip(series.points()).map(|(failed, point)| failed * part(point.start_ms)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bucket by bucket, every way in each: as the rule is told.
    fn bucket_by_bucket(ways: &[Arriving], series: &CountSeries) -> Vec<Vec<f64>> {
        let mut owed = vec![0.0; ways.len()];
        let mut taken = vec![Vec::new(); ways.len()];
        for (at, point) in series.points().iter().enumerate() {
            let mut left = point.bad;
            for (way, (owed, taken)) in ways.iter().zip(owed.iter_mut().zip(&mut taken)) {
                let failed = way.failed.get(at).copied().filter(|failed| failed.is_finite()).unwrap_or(0.0);
                *owed += failed.clamp(0.0, point.bad);
                let whole = (*owed + 1e-6).floor().min(left);
                *owed -= whole;
                left -= whole;
                taken.push(whole);
            }
        }
        taken
    }

    fn failures() -> impl Strategy<Value = f64> {
        prop_oneof![4 => (0u32..9).prop_map(f64::from), 3 => 0.0f64..9.0, 1 => Just(f64::NAN), 1 => -3.0f64..0.0]
    }

    proptest! {
        #[test]
        fn whole_failures_are_taken_as_the_rule_tells(
            bad in prop::collection::vec(0u32..12, 1..40),
            failed in prop::collection::vec(prop::collection::vec(failures(), 0..44), 1..4),
        ) {
            let point = |(i, bad): (usize, &u32)| CountPoint { start_ms: i as i64, valid: 20.0, bad: f64::from(*bad) };
            let series = CountSeries::new(bad.iter().enumerate().map(point).collect());
            let ways: Vec<Arriving> = failed.into_iter().map(|failed| Arriving { by: None, failed }).collect();
            let taken = bucket_by_bucket(&ways, &series);
            prop_assert_eq!(&whole(&ways, &series), &taken);
            let saved: Vec<f64> = (0..bad.len()).map(|at| taken.iter().map(|way| way[at]).sum()).collect();
            let expected = saved.iter().any(|saved| *saved > 0.0).then(|| series.relieved(&saved));
            prop_assert_eq!(fewer(&ways, &series), expected);
        }

        #[test]
        fn the_floor_is_the_floor(value in prop_oneof![-1e3f64..1e3, -1e18f64..1e18, (-50i32..50).prop_map(f64::from)]) {
            prop_assert_eq!(floor(value), value.floor());
        }
    }
}
