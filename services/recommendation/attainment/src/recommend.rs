use attain_vocabulary::SliKind;

use crate::backtest::backtest_from;
use crate::cells::Cells;
use crate::conditions::Conditions;
use crate::confidence::{Found, confidence, last_change};
use crate::freshness::unmeasured;
use crate::in_force::InProgress;
use crate::latency::Latencies;
use crate::offers::held_against_fleet;
use crate::prediction::predict_all;
use crate::sanity::Usable;
use crate::sla::{MONTH_DAYS, Months};
use crate::sli::{Gathered, current};
use crate::split::{Split, ToldApart, split};
use crate::timeline::Timeline;
use crate::{DataUsed, Prediction, RecommendationInput, RecommendationResult, explain};

/// Version of the statistical model: changes whenever the same input may give another result.
pub const MODEL_VERSION: &str = "drifting-level-5";

/// Recommends. Deterministic: the same input gives the same result, to the last bit, at the same [`MODEL_VERSION`].
///
/// Never fails: too little data is a result of low confidence that offers the tier's template, flagged as such.
#[must_use]
pub fn recommend(input: &RecommendationInput) -> RecommendationResult {
    let (usable, traces) = Usable::seen_by(input);
    let split = split(input, &usable, traces);
    recommended(input, &usable, &split)
}

/// The same where own and inherited failures have been told apart already, of this input or of one that differs from it in
/// nothing that [`crate::failure_split`] reads but in whether the structure is known.
#[must_use]
pub fn recommend_told(input: &RecommendationInput, told: &ToldApart) -> RecommendationResult {
    recommended(input, &Usable::of(input), &told.seen_by(input))
}

fn recommended(input: &RecommendationInput, usable: &Usable<'_>, split: &Split) -> RecommendationResult {
    let window = input.window_ahead().days();
    let constants = input.constants();
    let timeline = Timeline::of(usable.series.points(), input.as_of_ms);
    let bad = usable.series.failures();
    let cells = Cells::along_whole(&timeline, &bad);
    // Months beside the window: only their forecasts differ.
    let windows: Vec<f64> = std::iter::once(window).chain(MONTH_DAYS).collect();
    let mut predictions = predict_all(&constants, cells.all(), &windows, input.as_of_ms).into_iter();
    let prediction = predictions.next().map(|prediction| prediction.with_layer(input.layer().cloned()));
    let backtest = backtest_from(&constants, &cells, window, input.as_of_ms, &input.policy);
    let found =
        Found { usable, policy: &input.policy, prediction: prediction.as_ref(), split, backtest: backtest.as_ref() };
    let confidence = confidence(input, &found);
    let gathered = Gathered {
        input,
        usable,
        timeline: &timeline,
        bad: &bad,
        cells: &cells,
        prediction: prediction.as_ref(),
        split,
        confidence: &confidence,
        latencies: latencies(input, usable),
        backtest,
        months: Months::of(predictions.collect()),
        in_progress: InProgress::of(&constants, &usable.series, input.window, input.as_of_ms),
    };
    let availability = gathered.availability();
    let fallback = availability.fallback;
    let latency = gathered.latency(fallback);
    let freshness = gathered.freshness();
    let data = data_used(input, usable, prediction.as_ref());
    let mut result = RecommendationResult {
        service: input.service.clone(),
        window_days: window as u32,
        window_in_force: gathered.in_progress.as_ref().map(|in_progress| in_progress.window),
        slis: std::iter::once(availability).chain(latency).chain(freshness).collect(),
        conditions: Conditions::of(input, usable),
        explanation: String::new(),
        confidence,
        data,
        missing_inputs: input.missing_inputs.iter().cloned().chain(unmeasured(input)).collect(),
        fallback,
        model_version: input.model.as_ref().map_or_else(|| MODEL_VERSION.to_owned(), |model| model.version.clone()),
        seed: input.seed,
    };
    result.explanation = explain::paragraph(&result, input.kind);
    result
}

/// The recommendation for an input that differs from the one that `draft` was made from in nothing but the targets that hold
/// beside others ([`crate::StructureFacts::consistent_targets`]): what [`recommend`] would say, without its computation.
#[must_use]
pub fn held_beside(draft: RecommendationResult, input: &RecommendationInput) -> RecommendationResult {
    let mut result = draft;
    for sli in result.slis.iter_mut().filter(|sli| sli.kind == SliKind::Availability) {
        sli.offers = held_against_fleet(std::mem::take(&mut sli.offers), input.structure.as_ref());
    }
    result.explanation = explain::paragraph(&result, input.kind);
    result
}

/// Latencies, asked at once about the thresholds that will most likely be asked about.
fn latencies<'a>(input: &RecommendationInput, usable: &Usable<'a>) -> Option<Latencies<'a>> {
    let mut expected = Latencies::likely_thresholds(usable, input.policy.latency_quantile());
    let in_force = current(input, SliKind::Latency).and_then(|slo| slo.latency_threshold_ms);
    expected.extend(in_force.filter(|threshold| !expected.contains(threshold)));
    Latencies::of(usable, input.constants(), &expected)
}

fn data_used(input: &RecommendationInput, usable: &Usable<'_>, prediction: Option<&Prediction>) -> DataUsed {
    let change = prediction.and_then(last_change);
    let of = |value: fn(&Prediction) -> f64| prediction.map_or(0.0, value);
    DataUsed {
        range: input.history.range,
        bucket_count: usable.buckets.len() as u64,
        coverage_ratio: usable.coverage_ratio,
        covered_days: usable.series.covered_days(),
        exclusions: usable.exclusions.clone(),
        regime_start_ms: change.as_ref().map(|change| change.start_ms),
        regime_days: change.as_ref().map_or(usable.series.covered_days(), |change| change.days),
        regime_level_factor: change.as_ref().map(|change| libm::exp(change.log_factor)),
        valid_count: usable.series.valid() as u64,
        effective_sample_count: of(|prediction| prediction.effective_sample_count),
        intra_bucket_correlation: of(|prediction| prediction.intra_bucket_correlation),
        expected_window_count: of(|prediction| prediction.expected_window_count),
        smallest_distinguishable_budget: prediction.map(|prediction| prediction.smallest_distinguishable_budget),
        incident_count: u32::try_from(input.incident_ids.len()).unwrap_or(u32::MAX),
        episode_count: prediction.map_or(0, |prediction| u32::try_from(prediction.episodes.len()).unwrap_or(u32::MAX)),
        data_age_ms: usable.newest_ms.map(|newest| input.as_of_ms.saturating_sub(newest)),
        snapshot_version: input.structure.as_ref().map(|structure| structure.snapshot_version),
        snapshot_age_ms: input.structure.as_ref().map(|structure| structure.snapshot_age_ms),
    }
}
