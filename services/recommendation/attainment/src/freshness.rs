//! Freshness: how often what waits to be processed is no older than a threshold.
//!
//! A slice of five minutes is good when the oldest message in it never was older (OpenSLO's timeslices: the oldest of all decides,
//! so a slice is never better than its messages). Slices take the place of requests, and the ratio of bad ones is predicted as
//! every other is. A slice without a measurement is a gap and does not count.

use std::borrow::Cow;

use attain_vocabulary::{BUCKET_MS, DAY_MS, DependencyMode, SliKind, TimeRange, UnixMillis};

use crate::backtest::backtest_from;
use crate::binding::data;
use crate::explain::{self, duration};
use crate::latency::{AtThreshold, LatencyOffers};
use crate::offers::strictest_target;
use crate::sanity::{excluded, possible, union};
use crate::sli::{Gathered, LATENCY_HISTORY_MIN, assess, balanced, blank, current};
use crate::timeline::Timeline;
use crate::{
    AgeBucket, Ambition, AsynchronousEdge, BindingConstraint, Constants, ConstraintKind, CountPoint, CountSeries,
    Counterfactual, Exclusion, Measurement, MissingInput, Outcome, RecommendationInput, SliResult, TierPolicy,
};

/// Ages that may be offered, in milliseconds, shortest first: the round values of a clock, so that neighbours differ by at most a
/// factor of three. The house's own: no standard names ages.
pub const AGE_MENU_MS: [u32; 18] = [
    1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000,
    7_200_000, 14_400_000, 28_800_000, 43_200_000, 86_400_000,
];

/// Key of the counterfactual in which what waits is worked off twice as fast.
pub const AGES_HALVED: &str = "ages_halved";

/// Least days with ages before a threshold is estimated, as of the first origin of a back-test: two weekends.
const DAYS_MIN: f64 = 14.0;

/// The ages of a history.
struct Ages<'a> {
    /// By ascending start; none excluded.
    buckets: Cow<'a, [AgeBucket]>,
    /// The same ages in order of size.
    sorted: Vec<u64>,
    constants: Constants,
}

impl<'a> Ages<'a> {
    /// `None` when none is left.
    fn of(ages: &'a [AgeBucket], exclusions: &[Exclusion], as_of_ms: UnixMillis, constants: Constants) -> Option<Self> {
        let buckets = usable(ages, exclusions, as_of_ms);
        let mut sorted: Vec<u64> = buckets.iter().map(|bucket| bucket.oldest_ms).collect();
        sorted.sort_unstable();
        (!buckets.is_empty()).then_some(Self { buckets, sorted, constants })
    }

    /// Days with an age in them.
    fn days(&self) -> f64 {
        let mut days: Vec<i64> = self.buckets.iter().map(|bucket| bucket.start_ms.div_euclid(DAY_MS)).collect();
        days.dedup();
        days.len() as f64
    }

    /// The age that a share of slices stays within; nearest rank.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.clamp(1, self.sorted.len()) - 1).map_or(0.0, |age| *age as f64)
    }

    fn older_count(&self, threshold_ms: u32) -> usize {
        self.sorted.len() - self.sorted.partition_point(|age| *age <= u64::from(threshold_ms))
    }

    fn at(&self, threshold_ms: u32, window_days: f64, now_ms: UnixMillis) -> Option<AtThreshold> {
        let older = self.older_than(threshold_ms);
        AtThreshold::of(&self.constants, threshold_ms, &self.timeline(now_ms), &older, window_days)
    }

    /// For each ambition the shortest age on the menu that holds in a share `target` of the next window's slices, but for the risk
    /// allowed. Ages that more than the budget exceeded over the whole history are passed over, as thresholds of latency are.
    fn offers(&self, policy: &TierPolicy, target: f64, window_days: f64, now_ms: UnixMillis) -> LatencyOffers {
        let older_max = (1.0 - target) * self.sorted.len() as f64;
        let possible = AGE_MENU_MS.into_iter().filter(|threshold| self.older_count(*threshold) as f64 <= older_max);
        let timeline = self.timeline(now_ms);
        let columns = possible.map(|threshold| (threshold, &timeline, Cow::Owned(self.older_than(threshold))));
        LatencyOffers::among(&self.constants, policy, columns, target, window_days)
    }

    /// The slices.
    fn timeline(&self, now_ms: UnixMillis) -> Timeline {
        let starts = self.buckets.iter().map(|bucket| bucket.start_ms).collect();
        Timeline::new(starts, vec![1.0; self.buckets.len()], now_ms)
    }

    /// Whether something in each slice was older.
    fn older_than(&self, threshold_ms: u32) -> Vec<f64> {
        let older = |bucket: &AgeBucket| if bucket.oldest_ms > u64::from(threshold_ms) { 1.0 } else { 0.0 };
        self.buckets.iter().map(older).collect()
    }

    /// The same history worked off twice as fast. Of a backlog that is the least gained: while it drains faster, less builds up.
    fn halved(&self) -> Vec<AgeBucket> {
        let half = |bucket: &AgeBucket| AgeBucket { oldest_ms: bucket.oldest_ms / 2, ..*bucket };
        self.buckets.iter().map(half).collect()
    }

    fn measured(&self, at: Option<&AtThreshold>) -> Measurement {
        let bad = at.map(|at| at.sums.bad);
        Measurement {
            attained_ratio: at.and_then(|at| at.sums.attained_ratio()),
            valid_count: self.sorted.len() as u64,
            bad_count: bad.map_or(0, |bad| bad as u64),
            latency_ms_p50: Some(self.quantile(0.5)),
            latency_ms_p95: Some(self.quantile(0.95)),
            latency_ms_p99: Some(self.quantile(0.99)),
        }
    }
}

/// Slices in which something was older than a threshold, each slice counted once.
pub(crate) fn older_than(ages: &[AgeBucket], threshold_ms: u32) -> CountSeries {
    let point = |bucket: &AgeBucket| {
        let bad = if bucket.oldest_ms > u64::from(threshold_ms) { 1.0 } else { 0.0 };
        CountPoint { start_ms: bucket.start_ms, valid: 1.0, bad }
    };
    CountSeries::new(ages.iter().map(point).collect())
}

/// The ages that count: whole slices before an instant, none excluded, in order.
pub(crate) fn usable<'a>(
    ages: &'a [AgeBucket],
    exclusions: &[Exclusion],
    as_of_ms: UnixMillis,
) -> Cow<'a, [AgeBucket]> {
    let spans = union(exclusions);
    let counts = |bucket: &AgeBucket| {
        bucket.start_ms.saturating_add(BUCKET_MS) <= as_of_ms && !excluded(&spans, bucket.start_ms)
    };
    let in_order = ages.windows(2).all(|pair| pair[0].start_ms < pair[1].start_ms);
    if in_order && ages.iter().all(counts) {
        return Cow::Borrowed(ages);
    }
    let mut kept: Vec<AgeBucket> = ages.iter().copied().filter(counts).collect();
    kept.sort_by_key(|bucket| bucket.start_ms);
    kept.dedup_by_key(|bucket| bucket.start_ms);
    Cow::Owned(kept)
}

/// What a window's freshness turned out to be: slices in the place of requests. `None` where no age was measured in it.
#[must_use]
pub fn freshness_outcome(
    ages: &[AgeBucket],
    exclusions: &[Exclusion],
    window: TimeRange,
    age_threshold_ms: u32,
) -> Option<Outcome> {
    let (start, end) = (window.start_ms(), window.end_ms());
    let counted = usable(ages, exclusions, end);
    let series = older_than(&counted, age_threshold_ms).between(start, end);
    let valid = series.valid();
    let possible = possible(start, end, &union(exclusions)).max(1) as f64;
    (valid > 0.0).then(|| Outcome {
        valid,
        bad_ratio: (series.bad() / valid).clamp(0.0, 1.0),
        covered_share: f64::min(valid / possible, 1.0),
    })
}

impl Gathered<'_> {
    /// Offers of freshness where ages are measured, or an SLO in force asks for them. There is no template: what is fresh enough
    /// depends on what the data are for.
    pub(crate) fn freshness(&self) -> Option<SliResult> {
        let input = self.input;
        let ages = Ages::of(&input.utilisation.ages, &input.exclusions, input.as_of_ms, input.constants());
        let slo = current(input, SliKind::Freshness);
        if ages.is_none() && slo.is_none() {
            return None;
        }
        let current_slo = slo.map(|slo| {
            let threshold = slo.latency_threshold_ms.zip(ages.as_ref());
            let series = threshold.map(|(threshold, ages)| older_than(&ages.buckets, threshold));
            assess(input, slo, &series.unwrap_or_default(), None)
        });
        let window = input.window_ahead().days();
        let sli = match &ages {
            Some(ages) if ages.days() >= DAYS_MIN.max(LATENCY_HISTORY_MIN * window) => {
                self.estimated_freshness(ages, window)
            }
            Some(ages) => unestimated(ages, "Ages are known of too few days for an estimate."),
            None => SliResult { offer_note: "No age was measured.".to_owned(), ..blank(SliKind::Freshness) },
        };
        Some(SliResult { current_slo, ..sli })
    }

    fn estimated_freshness(&self, ages: &Ages<'_>, window: f64) -> SliResult {
        let now_ms = self.input.as_of_ms;
        let target = self.input.policy.latency_quantile();
        let LatencyOffers { offers, mut looked_at, refused } = ages.offers(&self.input.policy, target, window, now_ms);
        if refused {
            return unestimated(
                ages,
                "Too few slices of five minutes are expected in a window to tell the share of fresh ones.",
            );
        }
        let threshold = balanced(&offers).or(offers.first()).and_then(|offer| offer.latency_threshold_ms);
        let chosen = looked_at.iter().position(|at| Some(at.threshold_ms) == threshold);
        let longest = AGE_MENU_MS[AGE_MENU_MS.len() - 1];
        let at = match chosen {
            Some(chosen) => Some(looked_at.swap_remove(chosen)),
            None => ages.at(longest, window, now_ms),
        };
        let offer_note = match offers.len() {
            3 => "",
            _ => "What waits is too old too often for an age on the menu at every ambition.",
        };
        let has_balanced = balanced(&offers).is_some();
        SliResult {
            latency_threshold_ms: threshold,
            measured: ages.measured(at.as_ref()),
            binding_constraint: at.as_ref().map_or_else(|| data(NO_AGE), |at| self.binding_age(at, ages)),
            counterfactuals: at
                .as_ref()
                .and_then(|at| self.worked_off_faster(ages, at, has_balanced))
                .into_iter()
                .collect(),
            offer_note: offer_note.to_owned(),
            backtest: at
                .as_ref()
                .filter(|_| threshold.is_some())
                .and_then(|at| backtest_from(&at.prediction.constants, &at.cells, window, now_ms, &self.input.policy)),
            forecast: at.map(|at| at.prediction.forecast),
            offers,
            ..blank(SliKind::Freshness)
        }
    }

    /// What waits too long is listed as the consumer's own: whether it was slow or too much came is not told.
    fn binding_age(&self, at: &AtThreshold, ages: &Ages<'_>) -> BindingConstraint {
        let older = 1.0 - at.sums.attained_ratio().unwrap_or(1.0);
        BindingConstraint {
            kind: ConstraintKind::Own,
            entity_id: Some(self.input.service.clone()),
            contribution_ratio: older,
            ..data(&format!(
                "In {} of slices something waited longer than {}, and in one of a hundred longer than {}.",
                explain::percent(older),
                duration(f64::from(at.threshold_ms)),
                duration(ages.quantile(0.99))
            ))
        }
    }

    fn worked_off_faster(&self, ages: &Ages<'_>, at: &AtThreshold, has_balanced: bool) -> Option<Counterfactual> {
        let halved = ages.halved();
        let faster = Ages::of(&halved, &[], UnixMillis::MAX, ages.constants)?;
        let after = faster.at(at.threshold_ms, at.prediction.window_days, self.input.as_of_ms)?;
        let policy = &self.input.policy;
        let today = policy.latency_quantile();
        let missed = |at: &AtThreshold| at.prediction.forecast.miss_probability(1.0 - today);
        let target = strictest_target(&after.prediction, policy, policy.miss_probability_max(Ambition::Balanced));
        // Fewer slices too old cannot make a target worse.
        let balanced_target_ratio = [target, has_balanced.then_some(today)].into_iter().flatten().reduce(f64::max);
        Some(Counterfactual {
            key: AGES_HALVED.to_owned(),
            description: format!("what waits at {} worked off twice as fast", self.input.service),
            ceiling_ratio: None,
            balanced_target_ratio,
            miss_probability: missed(&after).min(missed(at)),
            attained_ratio: after.sums.attained_ratio().unwrap_or(0.0),
        })
    }
}

const NO_AGE: &str = "Too little is known of the age of what waits for an estimate.";

fn unestimated(ages: &Ages<'_>, note: &str) -> SliResult {
    SliResult {
        measured: ages.measured(None),
        binding_constraint: data(NO_AGE),
        offer_note: note.to_owned(),
        ..blank(SliKind::Freshness)
    }
}

/// What is called asynchronously is outside the request path: its SLO is one of freshness, and it rests on the age of what waits at
/// the callee. No offer of the caller rests on it, so the confidence does not fall.
pub(crate) fn unmeasured(input: &RecommendationInput) -> Option<MissingInput> {
    let known = |edge: &&AsynchronousEdge| edge.age_measured;
    let measured: Vec<&str> =
        input.utilisation.asynchronous.iter().filter(known).map(|edge| edge.callee.as_str()).collect();
    let names: Vec<&str> = input
        .dependencies
        .iter()
        .filter(|dependency| dependency.mode == DependencyMode::Async)
        .map(|dependency| dependency.id.as_str())
        .filter(|id| !measured.contains(id))
        .collect();
    (!names.is_empty()).then(|| MissingInput {
        name: "freshness".to_owned(),
        detail: format!(
            "{} is called asynchronously, and the age of what waits there is not measured: no freshness SLO is offered",
            names.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: i64, to: i64) -> TimeRange {
        TimeRange::new("range", from * BUCKET_MS, to * BUCKET_MS).expect("ascending")
    }

    fn age(n: i64, seconds: u64) -> AgeBucket {
        AgeBucket { start_ms: n * BUCKET_MS, oldest_ms: seconds * 1000 }
    }

    #[test]
    fn the_menu_ascends_in_steps_of_a_clock() {
        assert!(AGE_MENU_MS.windows(2).all(|pair| pair[0] < pair[1] && pair[1] <= 3 * pair[0]));
    }

    #[test]
    fn a_slice_at_the_threshold_is_fresh_and_one_above_is_not() {
        let ages = [age(0, 59), age(1, 60), age(2, 61)];
        let series = older_than(&ages, 60_000);
        assert_eq!((series.valid(), series.bad()), (3.0, 1.0));
        let known = Ages::of(&ages, &[], i64::MAX, Constants::DEFAULT).expect("some");
        assert_eq!((known.older_count(60_000), known.older_count(59_000), known.older_count(61_000)), (1, 2, 0));
        assert_eq!((known.quantile(0.5), known.quantile(0.99)), (60_000.0, 61_000.0));
    }

    #[test]
    fn only_whole_slices_that_are_not_left_out_count() {
        let ages = [age(3, 9), age(0, 1), age(1, 2), age(1, 5), age(2, 3)];
        let out = [Exclusion { range: range(2, 3), reason: "maintenance".into() }];
        let starts = |as_of: i64, out: &[Exclusion]| -> Vec<i64> {
            usable(&ages, out, as_of * BUCKET_MS).iter().map(|bucket| bucket.start_ms / BUCKET_MS).collect()
        };
        assert_eq!(starts(4, &out), [0, 1, 3]);
        assert_eq!(starts(3, &[]), [0, 1, 2]);
        let sorted = [age(0, 1), age(1, 2)];
        assert!(matches!(usable(&sorted, &[], i64::MAX), Cow::Borrowed(_)));
    }

    #[test]
    fn a_window_is_judged_by_its_slices() {
        let ages: Vec<AgeBucket> = (0..8).map(|n| age(n, if n < 2 { 100 } else { 1 })).collect();
        let out = [Exclusion { range: range(0, 1), reason: "maintenance".into() }];
        let seen = freshness_outcome(&ages, &out, range(0, 10), 60_000).expect("measured");
        assert_eq!((seen.valid, seen.covered_share), (7.0, 7.0 / 9.0));
        assert!((seen.bad_ratio - 1.0 / 7.0).abs() < 1e-12);
        assert_eq!(freshness_outcome(&ages, &[], range(8, 10), 60_000), None);
    }
}
