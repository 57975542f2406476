//! Budgets are spent about as often as the forecast says, over services that differ in rate, size and level.

mod simulated;

use attain_attainment::budget::{Period, status};
use attain_attainment::{CountSeries, SliHistory, TierPolicy, predict, strictest_target};
use attain_vocabulary::{BUCKET_MS, DAY_MS, Tier, TimeRange};
use simulated::{Dice, PER_DAY, counts, end_of, incidents, severities};

const SERVICES: u64 = 400;
const HISTORY_DAYS: usize = 90;
const WINDOW_DAYS: usize = 28;

/// A forecast and what came.
struct Outcome {
    probability: f64,
    /// What a straight line from the burn rate of the last six hours says.
    straight_line: bool,
    happened: bool,
}

/// Two-hour incidents of 30 % severity in the median at rates that differ tenfold, over levels that differ a hundredfold; each with
/// the target that a quarter of its windows miss. Services whose budget is spent at the start have nothing to forecast.
fn outcomes(seed: u64) -> Vec<Outcome> {
    let mut policy = TierPolicy::for_tier(Tier::One);
    policy.target_ratio_max = 0.99999;
    let mut outcomes = Vec::new();
    for service in 0..SERVICES {
        let mut dice = Dice(seed * 10_000 + service);
        let days = HISTORY_DAYS + WINDOW_DAYS;
        let rate = 0.12 * libm::exp(dice.normal());
        let all = incidents(&mut dice, days, rate, 16.0, 0.3);
        let chronic = 0.0002 * libm::exp(1.5 * dice.normal());
        let points = counts(&mut dice, 500.0, chronic, &severities(days * PER_DAY, &all));
        let now_ms = end_of(HISTORY_DAYS);
        let past = CountSeries::new(points[..HISTORY_DAYS * PER_DAY].to_vec());
        let prediction = predict(&past, WINDOW_DAYS as f64, now_ms).expect("requests were counted");
        let target = strictest_target(&prediction, &policy, 0.25).expect("half of the requests can be promised");
        let budget = 1.0 - target;
        let range = TimeRange::new("range", 0, now_ms).expect("ascending");
        let history = SliHistory::of(past, range);
        let now = status(&history, budget, Period::Rolling { days: WINDOW_DAYS as u32 }, now_ms, 7);
        let Some(forecast) = now.forecast else { continue };
        let end_ms = now_ms + WINDOW_DAYS as i64 * DAY_MS;
        let whole = SliHistory::of(CountSeries::new(points), TimeRange::new("range", 0, end_ms).expect("ascending"));
        let spent_by = |bucket: i64| {
            let at_ms = now_ms + bucket * BUCKET_MS;
            let counted = whole.tally(at_ms - WINDOW_DAYS as i64 * DAY_MS, at_ms);
            counted.bad > budget * counted.valid
        };
        let happened = (1..=(WINDOW_DAYS * PER_DAY) as i64).any(spent_by);
        let straight_line = now.straight_line_ms.is_some();
        outcomes.push(Outcome { probability: forecast.probability, straight_line, happened });
    }
    outcomes
}

fn brier(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    let error = |outcome: &Outcome| {
        let error = of(outcome) - f64::from(u8::from(outcome.happened));
        error * error
    };
    outcomes.iter().map(error).sum::<f64>() / outcomes.len() as f64
}

#[test]
fn budgets_are_spent_about_as_often_as_forecast() {
    let outcomes = outcomes(1);
    let count = outcomes.len() as f64;
    let happened = outcomes.iter().filter(|outcome| outcome.happened).count() as f64 / count;
    let forecast = outcomes.iter().map(|outcome| outcome.probability).sum::<f64>() / count;
    let ours = brier(&outcomes, |outcome| outcome.probability);
    let climatology = happened * (1.0 - happened);
    let line = brier(&outcomes, |outcome| f64::from(u8::from(outcome.straight_line)));
    eprintln!(
        "{count} budgets: spent {happened:.3}, forecast {forecast:.3}; Brier score {ours:.3}, climatology {climatology:.3}, straight line {line:.3}"
    );
    for (low, high) in [(0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 1.0)] {
        let within: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| (low..high).contains(&outcome.probability)).collect();
        let share =
            |of: &dyn Fn(&Outcome) -> f64| within.iter().map(|outcome| of(outcome)).sum::<f64>() / within.len() as f64;
        eprintln!(
            "  forecast {low} to {high}: {} budgets, forecast {:.3}, spent {:.3}",
            within.len(),
            share(&|outcome| outcome.probability),
            share(&|outcome| f64::from(u8::from(outcome.happened)))
        );
    }
    // Three standard errors.
    let error = 3.0 * (forecast * (1.0 - forecast) / count).sqrt();
    assert!((happened - forecast).abs() < error, "spent {happened}, forecast {forecast}");
    assert!(ours < climatology && ours < line, "{ours} against {climatology} and {line}");
}
