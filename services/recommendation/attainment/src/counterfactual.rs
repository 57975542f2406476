use attain_vocabulary::EntityId;

use crate::backtest::backtest_from;
use crate::cells::Cells;
use crate::confidence::{Found, carries};
use crate::menu::TARGET_MENU;
use crate::offers::strictest_target;
use crate::prediction::predict_from;
use crate::sanity::Usable;
use crate::series::fraction;
use crate::split::Split;
use crate::{
    Ambition, CountSeries, Counterfactual, CounterfactualStructure, Prediction, Reach, RecommendationInput,
    ShareSeries, SplitMethod, TierPolicy,
};

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
        let taken = whole(ways, self.series);
        let saved: Vec<f64> = (0..self.series.points().len()).map(|at| taken.iter().map(|way| way[at]).sum()).collect();
        if saved.iter().all(|saved| *saved <= 0.0) {
            return unchanged();
        }
        let series = self.series.relieved(&saved);
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
            carries(self.input, &found, || backtest_from(constants, &cells, *window_days, *now_ms, policy))
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
    let mut owed = vec![0.0; ways.len()];
    let mut taken = vec![Vec::with_capacity(series.points().len()); ways.len()];
    for (at, point) in series.points().iter().enumerate() {
        let mut left = point.bad;
        for ((way, owed), taken) in ways.iter().zip(&mut owed).zip(&mut taken) {
            let failed = way.failed.get(at).copied().filter(|failed| failed.is_finite()).unwrap_or(0.0);
            *owed += failed.clamp(0.0, point.bad);
            // A hair of tolerance: shares of whole failures do not add up exactly.
            let whole = (*owed + 1e-6).floor().min(left);
            *owed -= whole;
            left -= whole;
            taken.push(whole);
        }
    }
    taken
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
