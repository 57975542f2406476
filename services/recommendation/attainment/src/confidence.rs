use attain_vocabulary::{DAY_MS, EntityId};

use crate::explain::percent;
use crate::menu::{TARGET_MENU, menu_position};
use crate::offers::{strictest_target, strictest_target_with};
use crate::sanity::{Usable, days_between};
use crate::series::fraction;
use crate::split::Split;
use crate::{
    Ambition, Backtest, Confidence, ConfidenceLevel, ConfidencePart, DoubtfulEdge, Episode, Prediction,
    RecommendationInput, Record, SplitMethod, TierPolicy,
};

/// Scores from which an answer is good enough to act on, and to discuss.
const HIGH: f64 = 0.7;
const MEDIUM: f64 = 0.4;
/// A change of level by this factor, or its inverse, makes the history before it useless for the level of today.
const USELESS_FACTOR: f64 = 2.0;
/// Score lost for each step of the menu that the balanced target moves by when one incident more or less had happened.
const STEP_COST: f64 = 0.15;
/// Age at which a graph snapshot is worth half.
const SNAPSHOT_STALE_MS: f64 = DAY_MS as f64;
/// Edges or components that a remedy names.
const NAMED_MAX: usize = 3;

/// Windows, missed as often as stated, that a back-test is shrunk by: a single window of a service proves little, twenty of a
/// whole class prove more.
const OWN_PRIOR_WINDOWS: f64 = 2.0;
const CLASS_PRIOR_WINDOWS: f64 = 20.0;
/// Score lost for each point by which a class misses more than was stated: one that misses 30 % where 10 % was stated is just
/// no longer good enough to act on.
const CLASS_COST: f64 = 1.5;

/// What a confidence is computed from.
pub(crate) struct Found<'a> {
    pub(crate) usable: &'a Usable<'a>,
    pub(crate) policy: &'a TierPolicy,
    pub(crate) prediction: Option<&'a Prediction>,
    pub(crate) split: &'a Split,
    pub(crate) backtest: Option<&'a Backtest>,
}

/// How sure an answer is: the least of parts that are each computed.
pub(crate) fn confidence(input: &RecommendationInput, found: &Found<'_>) -> Confidence {
    let rated = rated(input, found);
    let score = least(&rated);
    let mut weak: Vec<&(ConfidencePart, String)> = rated.iter().filter(|(part, _)| part.score < HIGH).collect();
    weak.sort_by(|a, b| a.0.score.total_cmp(&b.0.score));
    let raise_with = weak.into_iter().map(|(_, remedy)| remedy.clone()).collect();
    Confidence { level: level(score), score, raise_with, parts: rated.into_iter().map(|(part, _)| part).collect() }
}

/// Whether the answer would be good enough to discuss. A back-test can only lower the confidence, so it is made only where the
/// rest is enough and where so many windows as it could be worth could speak against it.
pub(crate) fn carries(
    input: &RecommendationInput,
    found: &Found<'_>,
    windows_max: f64,
    backtest: impl FnOnce() -> Option<Backtest>,
) -> bool {
    let enough = |score: f64| level(score) != ConfidenceLevel::Low;
    enough(least(&rated(input, &Found { backtest: None, ..*found })))
        && (worst_of_own(windows_max) > MEDIUM + 1e-9
            || enough(backtested(backtest().as_ref(), input.class_record.as_ref()).0.score))
}

/// The least that a back-test of so many windows scores: all of them missed, none of them foreseen.
fn worst_of_own(windows: f64) -> f64 {
    1.0 - windows / (windows + OWN_PRIOR_WINDOWS)
}

fn rated(input: &RecommendationInput, found: &Found<'_>) -> [(ConfidencePart, String); 9] {
    let Found { usable, policy, prediction, split, backtest } = *found;
    let window = input.window_ahead().days();
    let risk = policy.miss_probability_max(Ambition::Balanced);
    let balanced = prediction.and_then(|prediction| strictest_target(prediction, policy, risk));
    [
        history_length(usable.series.covered_days(), window),
        effective_sample(prediction, balanced),
        coverage(usable.coverage_ratio),
        regime(prediction, window),
        graph(input, policy, balanced),
        split_quality(split),
        sensitivity(policy, prediction),
        backtested(backtest, input.class_record.as_ref()),
        inputs(input),
    ]
}

fn least(rated: &[(ConfidencePart, String)]) -> f64 {
    rated.iter().map(|(part, _)| part.score).fold(1.0, f64::min)
}

fn level(score: f64) -> ConfidenceLevel {
    if score >= HIGH {
        ConfidenceLevel::High
    } else if score >= MEDIUM {
        ConfidenceLevel::Medium
    } else {
        ConfidenceLevel::Low
    }
}

fn part(name: &str, score: f64, detail: String, remedy: &str) -> (ConfidencePart, String) {
    let score = if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) };
    (ConfidencePart { name: name.to_owned(), score, detail }, remedy.to_owned())
}

/// Two windows of history are enough to see one of them from the other.
fn history_length(days: f64, window: f64) -> (ConfidencePart, String) {
    let detail = format!("{days:.1} days of buckets for a window of {window:.0} days");
    let remedy = format!("more history: {:.0} days of five-minute buckets", 2.0 * window);
    part("history_length", days / (2.0 * window), detail, &remedy)
}

/// Six expected failures at the balanced target, twice the rule of three, are enough to have measured its budget.
fn effective_sample(prediction: Option<&Prediction>, balanced: Option<f64>) -> (ConfidencePart, String) {
    let count = prediction.map_or(0.0, |prediction| prediction.effective_sample_count);
    let needed = 6.0 / (1.0 - balanced.unwrap_or(TARGET_MENU[0]));
    let detail =
        format!("{count:.0} requests count as independent; {needed:.0} measure the budget of the balanced target");
    part("effective_sample", count / needed, detail, "more traffic, or probes that add to it")
}

/// Full marks from 95 % on, none below 25 %.
fn coverage(ratio: f64) -> (ConfidencePart, String) {
    let detail = format!("{:.1} % of the buckets that the span could hold are present", 100.0 * ratio);
    part("coverage", (ratio - 0.25) / 0.7, detail, "the missing buckets: telemetry without gaps")
}

/// A window since the last change of level is enough; a small change matters less.
fn regime(prediction: Option<&Prediction>, window: f64) -> (ConfidencePart, String) {
    let remedy = "time: a full window at the present level of failure";
    let Some(change) = prediction.and_then(last_change) else {
        return part("regime", 1.0, "the level of failure did not change".into(), remedy);
    };
    let weight = (change.log_factor.abs() / libm::log(USELESS_FACTOR)).min(1.0);
    let score = 1.0 - weight * (1.0 - (change.days / window).min(1.0));
    let detail = format!(
        "the level of failure changed by a factor of {:.2}, {:.0} days ago",
        libm::exp(change.log_factor),
        change.days
    );
    part("regime", score, detail, remedy)
}

/// The last change of level.
pub(crate) struct Change {
    pub(crate) start_ms: i64,
    pub(crate) days: f64,
    /// Log-odds after less log-odds before.
    pub(crate) log_factor: f64,
}

pub(crate) fn last_change(prediction: &Prediction) -> Option<Change> {
    let [.., before, now] = prediction.regimes.as_slice() else {
        return None;
    };
    Some(Change {
        start_ms: now.start_ms,
        days: days_between(now.start_ms, now.end_ms),
        log_factor: now.log_odds - before.log_odds,
    })
}

/// The least of three: how fresh the snapshot is; how many components have data; how far the ceiling moves if doubtful edges
/// are not there, or if components without data fail as others do. A move by the whole error budget of the balanced target
/// leaves 0.5: then the structure alone decides whether the target can be met.
fn graph(input: &RecommendationInput, policy: &TierPolicy, balanced: Option<f64>) -> (ConfidencePart, String) {
    let Some(structure) = &input.structure else {
        return part("graph", 0.5, "the dependency graph could not be asked".into(), "the dependency graph");
    };
    let assumed = structure.assumed_perfect_ids.len() as f64;
    let known = structure.importances.len() as f64;
    let known_share = if assumed + known > 0.0 { known / (assumed + known) } else { 1.0 };
    let freshness = 1.0 / (1.0 + structure.snapshot_age_ms.max(0) as f64 / SNAPSHOT_STALE_MS);
    let mut detail = format!(
        "{assumed:.0} of {:.0} components have no data and count as never failing; snapshot {:.1} hours old",
        assumed + known,
        structure.snapshot_age_ms.max(0) as f64 / 3_600_000.0
    );
    // Where nothing is balanced, the tier's template.
    let budget = (1.0 - balanced.unwrap_or(policy.template_target_ratio)).max(1e-9);
    let sureness = |alternative: Option<f64>| {
        let moved = alternative.and_then(fraction).map_or(0.0, |ratio| (ratio - structure.ceiling_ratio).abs());
        1.0 - 0.5 * (moved / budget).min(1.0)
    };
    let doubt = &structure.doubt;
    let without_edges = sureness(doubt.ceiling_without_edges_ratio);
    let with_unknown = sureness(doubt.ceiling_with_unknown_ratio);
    if let Some(ratio) = doubt.ceiling_without_edges_ratio.and_then(fraction) {
        let count = doubt.edges.len();
        detail += &format!("; without {count} doubtful dependencies the ceiling would be {}", percent(ratio));
    }
    if let (Some(ratio), Some(failing)) =
        (doubt.ceiling_with_unknown_ratio.and_then(fraction), doubt.unknown_failure_ratio)
    {
        let (ratio, failing) = (percent(ratio), percent(failing));
        detail += &format!("; if components without data failed {failing} of requests it would be {ratio}");
    }
    let data = (0.5 + 0.5 * known_share).min(with_unknown);
    let remedy = if without_edges < data.min(freshness) {
        let edges: Vec<String> = doubt.edges.iter().take(NAMED_MAX).map(called).collect();
        format!("traces of, or a declaration by the owner on, the doubtful dependencies: {}", edges.join(", "))
    } else if assumed > 0.0 && data <= freshness {
        let ids: Vec<&str> = structure.assumed_perfect_ids.iter().take(NAMED_MAX).map(EntityId::as_str).collect();
        format!("telemetry, or a published availability, of the components without data: {}", ids.join(", "))
    } else {
        "a fresh snapshot of the graph".to_owned()
    };
    part("graph", data.min(without_edges).min(freshness), detail, &remedy)
}

fn called(edge: &DoubtfulEdge) -> String {
    format!("{} to {}", edge.caller, edge.callee)
}

/// One missing input leaves 0.65, so that the answer is never called high; each further one costs a quarter. The graph has a
/// part of its own.
fn inputs(input: &RecommendationInput) -> (ConfidencePart, String) {
    let missing: Vec<&str> =
        input.missing_inputs.iter().map(|missing| missing.name.as_str()).filter(|name| *name != "graph").collect();
    let detail = if missing.is_empty() {
        "every input could be had".to_owned()
    } else {
        format!("missing: {}", missing.join(", "))
    };
    part(
        "inputs",
        if missing.is_empty() { 1.0 } else { 0.9 - 0.25 * missing.len() as f64 },
        detail,
        "the inputs that could not be had, once they can be had again",
    )
}

/// Missing more than was stated costs; meeting more does not, nor does having nothing to test: the history's length has a part of
/// its own. Balanced offers decide, of the service itself and of the others of its class.
fn backtested(backtest: Option<&Backtest>, class: Option<&Record>) -> (ConfidencePart, String) {
    let own = backtest.map(|backtest| backtest.of(Ambition::Balanced)).filter(|record| record.forecast_count > 0);
    let class = class.filter(|record| record.forecast_count > 0);
    let own_score = own.as_ref().map_or(1.0, |record| 1.0 - record.excess(OWN_PRIOR_WINDOWS));
    let class_score = class.map_or(1.0, |record| 1.0 - CLASS_COST * record.excess(CLASS_PRIOR_WINDOWS));
    let told = |whose: &str, record: &Record| {
        format!(
            "balanced offers of {whose} missed {} of {} windows, {:.1} as stated",
            record.missed_count, record.forecast_count, record.probability_sum
        )
    };
    let detail =
        match (own.as_ref().map(|record| told("the past", record)), class.map(|record| told("its class", record))) {
            (Some(own), Some(class)) => format!("{own}; {class}"),
            (Some(only), None) => only,
            (None, Some(class)) => format!("no window of its own to hold an offer against; {class}"),
            (None, None) => "no window of its own or of its class to hold an offer against yet".to_owned(),
        };
    part("backtest", own_score.min(class_score), detail, "time: windows that meet the offers as often as they say")
}

fn split_quality(split: &Split) -> (ConfidencePart, String) {
    let remedy = "traces: a failed child call tells inherited failure from own";
    let (score, detail) = match split.ratios.method {
        SplitMethod::Traces => (1.0, "failed child calls in traces tell own from inherited failure".to_owned()),
        SplitMethod::NoDependencies => (1.0, "nothing is depended on".to_owned()),
        SplitMethod::Unknown => (0.5, "own and inherited failure cannot be told apart".to_owned()),
        SplitMethod::Regression => {
            let worst = split.ratios.inherited.iter().map(|share| share.hardness_standard_error).fold(0.0, f64::max);
            (0.9 - worst, format!("regression over buckets; hardness known to {worst:.2} at worst"))
        }
    };
    part("split", score, detail, remedy)
}

/// How far the balanced target moves between a history without its greatest episode and one that had it twice; where there
/// was none, one of the prior's median size stands in.
fn sensitivity(policy: &TierPolicy, prediction: Option<&Prediction>) -> (ConfidencePart, String) {
    let remedy = "more history: one incident more or less would then matter less";
    let Some(prediction) = prediction else {
        return part("sensitivity", 0.0, "nothing was measured".into(), remedy);
    };
    let greatest = prediction.episodes.iter().copied().max_by(|a, b| a.amount_days.total_cmp(&b.amount_days));
    let twice = greatest.unwrap_or(Episode {
        start_ms: prediction.now_ms,
        end_ms: prediction.now_ms,
        excess_bad: 0.0,
        amount_days: prediction.constants.prior_median_size(),
    });
    let without: Vec<Episode> =
        prediction.episodes.iter().copied().filter(|episode| Some(*episode) != greatest).collect();
    let more: Vec<Episode> = prediction.episodes.iter().copied().chain([twice]).collect();
    let position = |episodes: &[Episode]| {
        let risk = policy.miss_probability_max(Ambition::Balanced);
        strictest_target_with(&prediction.with_episodes(episodes), prediction, policy, risk)
            .map_or(0, |target| menu_position(target) + 1)
    };
    let steps = position(&without).abs_diff(position(&more));
    let detail = format!("the balanced target moves by {steps} steps of the menu with one incident more or less");
    part("sensitivity", 1.0 - STEP_COST * steps as f64, detail, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::{backtest_from, windows_max};
    use crate::cells::Cells;
    use crate::{Constants, CountPoint};
    use attain_vocabulary::{BUCKET_MS, Tier};
    use proptest::prelude::*;

    /// Calm days, and from some day on a level of failure that nobody could foresee.
    fn history(days: i64, calm: i64, level: f64, gap: i64) -> Vec<CountPoint> {
        let point = |i: i64| {
            let bad = if i / 288 >= calm { 1000.0 * level } else { 1.0 };
            CountPoint { start_ms: i * BUCKET_MS, valid: 1000.0, bad }
        };
        (0..days * 288).filter(|i| i / 288 % 10 != gap).map(point).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// No back-test is worth more windows, or scores less, than is said without it.
        #[test]
        fn a_back_test_scores_no_less_than_its_windows_allow(
            days in 16i64..100, calm in 0.0f64..1.0, level in 0.0f64..0.9, gap in 0i64..20, at in 0i64..288,
            window in prop::sample::select(vec![7.0, 28.0, 30.0, 90.0]),
        ) {
            let now_ms = days * DAY_MS - at * BUCKET_MS;
            let points: Vec<CountPoint> = history(days, (calm * days as f64) as i64, level, gap)
                .into_iter().filter(|point| point.start_ms < now_ms).collect();
            let cells = Cells::of(&points, now_ms);
            let policy = TierPolicy::for_tier(Tier::Two);
            let most = windows_max(&cells, window, now_ms);
            let backtest = backtest_from(&Constants::DEFAULT, &cells, window, now_ms, &policy);
            let score = backtested(backtest.as_ref(), None).0.score;
            prop_assert!(score >= worst_of_own(most) - 1e-12, "{} windows, {}", most, score);
            if let Some(backtest) = backtest {
                prop_assert!(backtest.of(Ambition::Balanced).window_count <= most + 1e-12);
            }
        }
    }
}
