//! Error budgets on the wire.

use attain_attainment::budget::{DateQuantile, Exhaustion, PATHS, ProbabilityBy, Status};
use attain_attainment::percent;
use attain_proto::convert::{duration, timestamp};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;

use crate::domain::slo::Slo;
use crate::members::SEED;
use crate::message::window;

pub(crate) fn budget(slo: &Slo, status: &Status) -> wire::ErrorBudget {
    let burn_rate = |rate: &attain_attainment::budget::BurnRate| wire::BurnRate {
        window: Some(duration(rate.window_ms)),
        burn_rate: rate.burn_rate,
        valid_count: rate.valid as u64,
        coverage_ratio: rate.coverage_ratio,
    };
    wire::ErrorBudget {
        slo_id: slo.id(),
        slo_version: slo.version,
        kind: WireKind::from(slo.kind) as i32,
        target_ratio: slo.target.target_ratio(),
        latency_threshold_ms: slo.latency_threshold_ms.unwrap_or(0),
        window_days: slo.window.days(),
        budget_ratio: status.budget_ratio,
        window_start_time: Some(timestamp(status.window_start_ms)),
        valid_count: status.valid as u64,
        bad_count: status.bad,
        allowed_count: status.allowed,
        spent_ratio: status.spent_ratio,
        remaining_ratio: status.remaining_ratio,
        coverage_ratio: status.coverage_ratio,
        burn_rates: status.burn_rates.iter().map(burn_rate).collect(),
        exhausted: status.exhausted,
        restored_time: status.restored_ms.map(timestamp),
        straight_line_time: status.straight_line_ms.map(timestamp),
        forecast: status.forecast.as_ref().map(forecast),
        detail: detail(slo, status),
        calendar_window: window::calendar(slo.window),
    }
}

fn forecast(forecast: &Exhaustion) -> wire::ExhaustionForecast {
    let quantile = |date: &DateQuantile| wire::ProbabilityByTime {
        time: Some(timestamp(date.time_ms)),
        probability: date.probability,
    };
    let by =
        |by: &ProbabilityBy| wire::ProbabilityByTime { time: Some(timestamp(by.time_ms)), probability: by.probability };
    wire::ExhaustionForecast {
        horizon_time: Some(timestamp(forecast.horizon_end_ms)),
        exhaustion_probability: forecast.probability,
        standard_error: forecast.standard_error,
        dates: forecast.dates.iter().map(quantile).collect(),
        by_time: forecast.by_date.iter().map(by).collect(),
        remaining_ratio_mean: forecast.remaining_ratio_mean,
        remaining_ratio_low: forecast.remaining_ratio_low,
        remaining_ratio_high: forecast.remaining_ratio_high,
        burning_since_time: forecast.burning.map(|burning| timestamp(burning.start_ms)),
        observed_days: forecast.observed_days,
        valid_per_day: forecast.valid_per_day,
        path_count: PATHS as u32,
        seed: SEED,
    }
}

/// Every number in it is a field of the budget.
fn detail(slo: &Slo, status: &Status) -> String {
    let Some(spent) = status.spent_ratio else {
        return "No request was counted in the window: nothing is said of the budget.".to_owned();
    };
    let covered = percent(status.coverage_ratio);
    // A rolling window lets go of what is old; a calendar one keeps all that it has seen, and ends.
    let calendar = slo.window.is_calendar().then_some(slo.window);
    let counted = calendar.map_or_else(|| "the window".to_owned(), |window| format!("the {window} so far"));
    let spent = format!("{} of the error budget is spent, counted over {covered} of {counted}", percent(spent));
    match (&status.forecast, status.exhausted, calendar) {
        (Some(forecast), false, calendar) => {
            let ahead = match calendar {
                None => format!("Within the next {} days", slo.window.days()),
                Some(window) => format!("Before the {window} ends"),
            };
            let burning = if forecast.burning.is_some() { "; an incident is going on" } else { "" };
            let probability = percent(forecast.probability);
            format!("{spent}. {ahead} it is overspent with a probability of {probability}{burning}.")
        }
        (_, true, None) if status.restored_ms.is_some() => {
            format!("{spent}: it is overspent until enough of it is older than the window.")
        }
        (_, true, None) => format!("{spent}: it is overspent, and for a whole window to come."),
        (_, true, Some(window)) if status.restored_ms.is_some() => {
            format!(
                "{spent}: it is overspent until enough further requests have succeeded, which they may before the {window} ends."
            )
        }
        (_, true, Some(window)) => format!("{spent}: it is overspent until the {window} ends."),
        (None, false, _) => format!("{spent}."),
    }
}
