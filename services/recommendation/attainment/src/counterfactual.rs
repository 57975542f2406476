use std::borrow::Cow;

use attain_vocabulary::{EntityId, UnixMillis};

use crate::backtest::{backtest_from, windows_max};
use crate::cells::Cells;
use crate::confidence::{Found, carries};
use crate::menu::TARGET_MENU;
use crate::offers::strictest_target;
use crate::prediction::predict_from;
use crate::sanity::Usable;
use crate::series::fraction;
use crate::split::Split;
use crate::timeline::Timeline;
use crate::{
    Ambition, Counterfactual, CounterfactualStructure, Prediction, Reach, RecommendationInput, ShareSeries,
    SplitMethod, TierPolicy,
};

/// From here on every number is whole.
const MANTISSA: f64 = (1_u64 << 52) as f64;

/// A hair of tolerance: shares of whole failures do not add up exactly.
const TOLERANCE: f64 = 1e-6;

/// Changes that are passed over side by side.
const LANES: usize = 8;

/// Buckets of which what is left is put in columns at a time.
const BLOCK: usize = 256;

/// Failures of a bucket from which on they are too many to be passed over side by side: less is kept exactly in half the memory.
const FEW: f64 = 1e7;

/// Key of the counterfactual that needs no structure: half of the service's own failures gone.
pub const OWN_FAILURES_HALVED: &str = "own_failures_halved";

/// The history as it is, against which changes are held.
pub(crate) struct Today<'a> {
    pub(crate) input: &'a RecommendationInput,
    pub(crate) usable: &'a Usable<'a>,
    pub(crate) timeline: &'a Timeline,
    /// Failures of each row of the timeline.
    pub(crate) bad: &'a [f64],
    pub(crate) cells: &'a Cells,
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
    pub(crate) fn without(&self, ways: &[Arriving<'_>]) -> Solved {
        self.solved(fewer(ways, self.bad).as_deref())
    }

    /// The same with what is left of the failures; `None` where it is all of them.
    fn solved(&self, left: Option<&[f64]>) -> Solved {
        let reference = 1.0 - self.balanced.unwrap_or(TARGET_MENU[0]);
        let before = self.prediction.forecast.miss_probability(reference);
        let unchanged = || Solved {
            balanced: self.balanced,
            miss_probability: before,
            attained_ratio: self.usable.series.attained_ratio().unwrap_or(0.0),
        };
        let Some(left) = left else {
            return unchanged();
        };
        let Prediction { constants, window_days, now_ms, .. } = self.prediction;
        let cells = Cells::along_whole(self.timeline, left);
        let Some(after) = predict_from(constants, cells.all(), *window_days, *now_ms) else {
            return unchanged();
        };
        let after = after.with_layer(self.input.layer().cloned());
        let target = self.stricter(&cells, &after, &self.input.policy);
        Solved {
            balanced: [target, self.balanced].into_iter().flatten().reduce(f64::max),
            miss_probability: after.forecast.miss_probability(reference).min(before),
            attained_ratio: self.timeline.sums_of_whole(left).attained_ratio().unwrap_or(0.0),
        }
    }

    /// The balanced target by another policy; never looser than today's, which is kept where what is measured would not carry
    /// a stricter one.
    pub(crate) fn by_policy(&self, policy: &TierPolicy) -> Option<f64> {
        let target = self.stricter(self.cells, self.prediction, policy);
        [target, self.balanced].into_iter().flatten().reduce(f64::max)
    }

    /// The balanced target of a history, or by another policy, where it would be offered and is stricter than today's.
    fn stricter(&self, cells: &Cells, after: &Prediction, policy: &TierPolicy) -> Option<f64> {
        let Prediction { constants, window_days, now_ms, .. } = after;
        let sure = |_: &f64| {
            let (usable, split) = (self.usable, self.split);
            let found = Found { usable, policy, prediction: Some(after), split, backtest: None };
            let windows_max = windows_max(cells, *window_days, *now_ms);
            carries(self.input, &found, windows_max, || backtest_from(constants, cells, *window_days, *now_ms, policy))
        };
        // What is no stricter than today's changes nothing, sure or not.
        strictest_target(after, policy, policy.miss_probability_max(Ambition::Balanced))
            .filter(|target| self.balanced.is_none_or(|today| *target > today))
            .filter(sure)
    }

    /// Solves each change of structure again, and half of the own failures gone; the most useful first.
    pub(crate) fn counterfactuals(&self) -> Vec<Counterfactual> {
        if self.split.ratios.method == SplitMethod::Unknown {
            return Vec::new();
        }
        let own_halved = self.own_halved();
        let mut solved = vec![own_halved.described(self.without(&own_halved.saved))];
        let changes: Vec<Change<'_>> = self.changes().collect();
        let mut left = Vec::new();
        for changes in changes.chunks(LANES) {
            let Some(taken) = taken_by_each(changes, self.bad) else {
                solved.extend(changes.iter().map(|change| change.described(self.without(&change.saved))));
                continue;
            };
            for (change, taken) in changes.iter().zip(taken) {
                let any = without(&taken, self.bad, &mut left);
                solved.push(change.described(self.solved(any.then_some(&left))));
            }
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

    fn own_halved(&self) -> Change<'_> {
        let ceiling_ratio = self.input.structure.as_ref().and_then(|structure| {
            let own = structure.importances.iter().find(|importance| importance.entity_id == self.input.service)?;
            fraction(structure.ceiling_ratio + own.contribution_ratio / 2.0)
        });
        Change {
            key: OWN_FAILURES_HALVED,
            description: format!("half of the failures of {} itself avoided", self.input.service).into(),
            ceiling_ratio,
            saved: own_halved(self.split),
        }
    }

    fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.input.changes().map(|change| Change {
            key: &change.key,
            description: change.description.as_str().into(),
            ceiling_ratio: change.ceiling_after_ratio.and_then(fraction),
            saved: saved_by(self.input, &self.timeline.starts, self.split, change).unwrap_or_default(),
        })
    }
}

/// A change and the failures that it saves.
struct Change<'a> {
    key: &'a str,
    description: Cow<'a, str>,
    ceiling_ratio: Option<f64>,
    saved: Vec<Arriving<'a>>,
}

impl Change<'_> {
    fn described(&self, solved: Solved) -> Counterfactual {
        Counterfactual {
            key: self.key.to_owned(),
            description: self.description.clone().into_owned(),
            ceiling_ratio: self.ceiling_ratio,
            balanced_target_ratio: solved.balanced,
            miss_probability: solved.miss_probability,
            attained_ratio: solved.attained_ratio,
        }
    }
}

/// Failures that arrive at the service by one way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arriving<'a> {
    /// The direct dependency; `None` for own failures.
    pub(crate) by: Option<EntityId>,
    /// In each bucket; shares of whole failures where they are estimated.
    column: Cow<'a, [f64]>,
    /// Ratios of the column that arrive, one of the other.
    ratios: [f64; 2],
}

impl<'a> Arriving<'a> {
    /// All failures of a column.
    pub(crate) fn all(by: Option<EntityId>, column: Cow<'a, [f64]>) -> Self {
        Self { by, column, ratios: [1.0; 2] }
    }

    /// Failures in each bucket.
    pub(crate) fn failed(&self) -> impl Iterator<Item = f64> + '_ {
        let [first, second] = self.ratios;
        self.column.iter().map(move |failed| failed * first * second)
    }
}

/// Half of the own failures in each bucket.
pub(crate) fn own_halved(split: &Split) -> Vec<Arriving<'_>> {
    vec![Arriving { ratios: [0.5, 1.0], ..Arriving::all(None, Cow::Borrowed(&split.causes.own)) }]
}

/// Whole failures out of shares of them, way by way, the rest carried on to the next bucket that fails: what is solved again is
/// a history that could have been measured. All ways together take no more of a bucket than failed in it.
pub(crate) fn whole(ways: &[Arriving<'_>], bad: &[f64]) -> Vec<Vec<f64>> {
    let mut left = bad.to_vec();
    let taken = |way: &Arriving<'_>| {
        let before = left.clone();
        take(way, bad, &mut left);
        before.iter().zip(&left).map(|(before, left)| before - left).collect()
    };
    ways.iter().map(taken).collect()
}

/// What is left of the failures without those whole ones; `None` where there are none.
fn fewer(ways: &[Arriving<'_>], bad: &[f64]) -> Option<Vec<f64>> {
    let mut left = bad.to_vec();
    let mut any = false;
    for way in ways {
        any |= take(way, bad, &mut left);
    }
    any.then_some(left)
}

/// Whole failures that each of at most [`LANES`] changes takes, bucket by bucket. What is owed goes from bucket to bucket: changes of one
/// way, which most are, are passed over side by side, so that none waits for itself. `None` where they are not alike enough.
fn taken_by_each(changes: &[Change<'_>], bad: &[f64]) -> Option<Vec<Vec<f32>>> {
    let single: Vec<&Arriving<'_>> = changes.iter().filter_map(|change| change.saved.first()).collect();
    let alike = changes.iter().all(|change| change.saved.len() == 1)
        && single.iter().all(|way| way.column.len() == bad.len())
        && bad.iter().fold(true, |few, bad| few & (*bad < FEW))
        && all_finite(&single);
    let first = single.first().filter(|_| alike && single.len() > 1)?;
    let ways = std::array::from_fn(|lane| *single.get(lane).unwrap_or(first));
    Some(side_by_side(ways, bad, changes.len()))
}

/// Whether what arrives is a number in each bucket. Several ways often share a column.
fn all_finite(ways: &[&Arriving<'_>]) -> bool {
    let again = |at: &usize| *at > 0 && std::ptr::eq(ways[at - 1].column.as_ref(), ways[*at].column.as_ref());
    let finite = |way: &Arriving<'_>| way.column.iter().fold(true, |finite, failed| finite & (failed.abs() < FEW));
    let ratios = ways.iter().flat_map(|way| way.ratios).all(|ratio| ratio.abs() < FEW);
    ratios && (0..ways.len()).filter(|at| !again(at)).all(|at| finite(ways[at]))
}

/// What [`take`] takes for the first of several changes of one way each, of less than [`FEW`] failures a bucket.
fn side_by_side(ways: [&Arriving<'_>; LANES], bad: &[f64], count: usize) -> Vec<Vec<f32>> {
    let mut taken: Vec<Vec<f32>> = (0..count.min(LANES)).map(|_| Vec::with_capacity(bad.len())).collect();
    let mut owed = [0.0; LANES];
    let [first, second] = [0, 1].map(|of| ways.map(|way| way.ratios[of]));
    for (block, bad) in bad.chunks(BLOCK).enumerate() {
        let columns = ways.map(|way| &way.column[block * BLOCK..][..bad.len()]);
        let mut wholes = [[0.0f32; LANES]; BLOCK];
        for (at, (bad, wholes)) in bad.iter().zip(&mut wholes).enumerate() {
            let failed = each(|lane| {
                let failed = columns[lane][at] * first[lane] * second[lane];
                let failed = if failed > 0.0 { failed } else { 0.0 };
                if failed < *bad { failed } else { *bad }
            });
            let owing = each(|lane| owed[lane] + failed[lane]);
            let whole = each(|lane| {
                let whole = floor_of_few(owing[lane] + TOLERANCE);
                if whole < *bad { whole } else { *bad }
            });
            owed = each(|lane| owing[lane] - whole[lane]);
            *wholes = whole.map(|whole| whole as f32);
        }
        for (lane, taken) in taken.iter_mut().enumerate() {
            taken.extend(wholes[..bad.len()].iter().map(|wholes| wholes[lane]));
        }
    }
    taken
}

/// What is left of the failures, in `left`, and whether fewer are.
fn without(taken: &[f32], bad: &[f64], left: &mut Vec<f64>) -> bool {
    left.clear();
    left.extend(bad.iter().zip(taken).map(|(bad, taken)| bad - f64::from(*taken)));
    taken.iter().fold(false, |any, taken| any | (*taken > 0.0))
}

/// A value for each lane.
fn each(of: impl Fn(usize) -> f64) -> [f64; LANES] {
    std::array::from_fn(of)
}

/// Takes whole failures of one way out of what is left of each bucket; whether there were any.
fn take(way: &Arriving<'_>, bad: &[f64], left: &mut [f64]) -> bool {
    if let Some(any) = take_whole(way, bad, left).or_else(|| take_halves(way, bad, left)) {
        return any;
    }
    let (mut owed, mut any) = (0.0, false);
    let failed = way.failed().chain(std::iter::repeat(0.0));
    for ((bad, left), failed) in bad.iter().zip(left).zip(failed) {
        let failed = if failed.is_finite() { failed.clamp(0.0, *bad) } else { 0.0 };
        let whole = if owed == 0.0 && failed <= *left && floor(failed) == failed {
            // Nothing to carry on: as below, without waiting for what the last bucket left.
            failed
        } else {
            owed += failed;
            let due = owed + TOLERANCE;
            if (0.0..1.0).contains(&due) {
                continue;
            }
            let whole = floor(due).min(*left);
            owed -= whole;
            whole
        };
        *left -= whole;
        any |= whole > 0.0;
    }
    any
}

/// The same where every failure is whole and left: nothing is carried on. `None`, and nothing taken, where one is not.
fn take_whole(way: &Arriving<'_>, bad: &[f64], left: &mut [f64]) -> Option<bool> {
    if way.ratios != [1.0; 2] || !all_whole_and_left(&way.column, left) {
        return None;
    }
    let mut most = 0.0;
    for ((bad, left), failed) in bad.iter().zip(left).zip(way.column.iter()) {
        let taken = if failed < bad { *failed } else { *bad };
        *left -= taken;
        most = if taken > most { taken } else { most };
    }
    Some(most > 0.0)
}

/// The same where half of whole failures that are left is taken: every second one. `None`, and nothing taken, where it is not so.
fn take_halves(way: &Arriving<'_>, bad: &[f64], left: &mut [f64]) -> Option<bool> {
    if way.ratios != [0.5, 1.0] || left != bad || !all_whole_and_left(&way.column, left) {
        return None;
    }
    // A half of one is owed or not.
    let (mut owed, mut all) = (0, 0);
    for (left, failed) in left.iter_mut().zip(way.column.iter()) {
        let halves = *failed as i64 + owed;
        owed = halves & 1;
        all += halves >> 1;
        *left -= (halves >> 1) as f64;
    }
    Some(all > 0)
}

/// Whether failures are whole, few, and no more in any bucket than are left there.
fn all_whole_and_left(failed: &[f64], left: &[f64]) -> bool {
    let alike = |(failed, left): (&f64, &f64)| {
        (*failed >= 0.0) & (*failed < FEW) & (floor_of_few(*failed) == *failed) & (failed <= left)
    };
    let parts = failed.chunks(BLOCK).zip(left.chunks(BLOCK));
    let mut parts = parts.map(|(failed, left)| failed.iter().zip(left).map(alike).fold(true, |all, alike| all & alike));
    parts.all(|part| part)
}

/// [`floor`] of what lies between minus and plus [`FEW`]: no more than sums, so that several go at a time.
fn floor_of_few(value: f64) -> f64 {
    let nearest = (value + 1.5 * MANTISSA) - 1.5 * MANTISSA;
    if nearest > value { nearest - 1.0 } else { nearest }
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
pub(crate) fn saved_by<'a>(
    input: &RecommendationInput,
    starts: &[UnixMillis],
    split: &'a Split,
    change: &CounterfactualStructure,
) -> Option<Vec<Arriving<'a>>> {
    let saved_ratio = fraction(change.saved_ratio).unwrap_or(0.0);
    let way = |reach: &Reach| {
        let (by, share) = match reach {
            Reach::Direct if change.caller != input.service => return None,
            Reach::Direct => (&change.callee, None),
            Reach::Through { dependency, share } => (dependency, Some(share)),
        };
        let way = arriving(starts, split, by, share)?;
        Some(Arriving { ratios: [way.ratios[0], saved_ratio], ..way })
    };
    let ways: Vec<Arriving<'_>> = change.reaches().filter_map(way).collect();
    (!ways.is_empty()).then_some(ways)
}

/// Failures that arrive by a direct dependency in each bucket, or the share of them that came from further down; `None` where none
/// did.
pub(crate) fn arriving<'a>(
    starts: &[UnixMillis],
    split: &'a Split,
    dependency: &EntityId,
    share: Option<&ShareSeries>,
) -> Option<Arriving<'a>> {
    let column = split.causes.by_dependency.get(dependency)?;
    let all = |column| Arriving::all(Some(dependency.clone()), column);
    let Some(share) = share else {
        return Some(all(Cow::Borrowed(column)));
    };
    let otherwise = fraction(share.otherwise).unwrap_or(0.0);
    if share.by_bucket.is_empty() {
        return Some(Arriving { ratios: [otherwise, 1.0], ..all(Cow::Borrowed(column)) });
    }
    let mut listed = share.by_bucket.iter().peekable();
    let part = |start_ms: &UnixMillis| {
        // Both ascend.
        while listed.next_if(|(listed_ms, _)| *listed_ms < start_ms).is_some() {}
        let here = listed.next_if(|(listed_ms, _)| *listed_ms == start_ms);
        here.and_then(|(_, share)| fraction(*share)).unwrap_or(otherwise)
    };
    let parts = column.iter().zip(starts.iter().map(part));
    Some(all(Cow::Owned(parts.map(|(failed, part)| failed * part).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bucket by bucket, every way in each: as the rule is told.
    fn bucket_by_bucket(ways: &[Arriving<'_>], bad: &[f64]) -> Vec<Vec<f64>> {
        let mut owed = vec![0.0; ways.len()];
        let mut taken = vec![Vec::new(); ways.len()];
        for (at, bad) in bad.iter().enumerate() {
            let mut left = *bad;
            for (way, (owed, taken)) in ways.iter().zip(owed.iter_mut().zip(&mut taken)) {
                let failed = way.column.get(at).copied().filter(|failed| failed.is_finite()).unwrap_or(0.0);
                *owed += failed.clamp(0.0, *bad);
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
            let bad: Vec<f64> = bad.into_iter().map(f64::from).collect();
            let ways: Vec<Arriving<'_>> =
                failed.into_iter().map(|failed| Arriving::all(None, failed.into())).collect();
            let taken = bucket_by_bucket(&ways, &bad);
            prop_assert_eq!(&whole(&ways, &bad), &taken);
            let saved: Vec<f64> = (0..bad.len()).map(|at| taken.iter().map(|way| way[at]).sum()).collect();
            let left = bad.iter().zip(&saved).map(|(bad, saved)| bad - saved).collect();
            prop_assert_eq!(fewer(&ways, &bad), saved.iter().any(|saved| *saved > 0.0).then_some(left));
        }

        #[test]
        fn side_by_side_is_one_by_one(
            bad in prop::collection::vec(prop_oneof![(0u32..12).prop_map(f64::from), (0u32..7).prop_map(|exponent| libm::pow(10.0, f64::from(exponent)))], 1..60),
            seed in prop::collection::vec(failures().prop_filter("a number", |failed| failed.is_finite()), 60), ratios in prop::collection::vec(0.0f64..1.0, 2 * LANES),
        ) {
            let ways: Vec<Arriving<'_>> = (0..LANES).map(|lane| Arriving {
                ratios: [ratios[lane], ratios[LANES + lane]],
                ..Arriving::all(None, (0..bad.len()).map(|at| seed[(at * (lane + 1)) % seed.len()]).collect())
            }).collect();
            prop_assert!(ways.iter().all(|way| all_finite(&[way])));
            let each = side_by_side(std::array::from_fn(|lane| &ways[lane]), &bad, LANES);
            for (way, taken) in ways.iter().zip(&each) {
                let mut left = Vec::new();
                let any = without(taken, &bad, &mut left);
                prop_assert_eq!(any.then_some(left), fewer(std::slice::from_ref(way), &bad));
            }
        }

        #[test]
        fn every_second_failure_is_half_of_them(
            counts in prop::collection::vec((0u32..9, 0u32..5), 1..60), far in prop::option::of(0usize..60),
        ) {
            let bad: Vec<f64> = counts.iter().map(|(own, others)| f64::from(own + others)).collect();
            let mut own: Vec<f64> = counts.iter().map(|(own, _)| f64::from(*own)).collect();
            // One that is more than failed at all is taken one by one.
            if let Some(at) = far.filter(|at| *at < own.len()) {
                own[at] = bad[at] + 1.0;
            }
            let half = |ratios| vec![Arriving { ratios, ..Arriving::all(None, own.clone().into()) }];
            prop_assert_eq!(fewer(&half([0.5, 1.0]), &bad), fewer(&half([1.0, 0.5]), &bad));
        }

        #[test]
        fn the_floor_is_the_floor(value in prop_oneof![-1e3f64..1e3, -1e18f64..1e18, (-50i32..50).prop_map(f64::from)]) {
            prop_assert_eq!(floor(value), value.floor());
            if value.abs() < FEW {
                prop_assert_eq!(floor_of_few(value), value.floor());
            }
        }
    }
}
