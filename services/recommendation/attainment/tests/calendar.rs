//! Calendar windows and asynchronous dependencies, through the whole recommendation.
#![allow(clippy::unwrap_used)]

mod simulated;

use attain_attainment::{CurrentSlo, DependencyHistory, recommend};
use attain_vocabulary::{DAY_MS, DependencyMode, Objective, SliKind, TimeWindow};
use simulated::{World, id};

#[test]
fn a_calendar_month_is_predicted_whole_and_as_far_as_it_has_come() {
    let mut input = World::checkout(90).input();
    let rolling = recommend(&input);
    assert_eq!((rolling.window_days, rolling.window_in_force), (28, None));
    assert!(rolling.slis[0].offers.iter().all(|offer| offer.in_force_miss_probability.is_none()));
    // Ninety days from the first of January 1970: the first of April, at the start of a month.
    input.window = TimeWindow::MONTH;
    let slo = |window| CurrentSlo {
        kind: SliKind::Availability,
        target: Objective::new("target", 0.99).unwrap(),
        latency_threshold_ms: None,
        window,
    };
    input.current_slos = vec![slo(TimeWindow::MONTH)];
    let whole = recommend(&input);
    assert_eq!(whole.window_days, 30);
    let in_force = whole.window_in_force.unwrap();
    assert_eq!((in_force.remaining_days, in_force.request_share, in_force.bad_ratio), (30.0, 0.0, None));
    for offer in &whole.slis[0].offers {
        assert_eq!(offer.in_force_miss_probability, offer.miss_probability, "nothing is spent yet");
    }
    // Ten days earlier March is in force, and April is offered for.
    input.as_of_ms -= 10 * DAY_MS;
    let within = recommend(&input);
    assert_eq!((within.window_days, within.window_in_force.unwrap().remaining_days), (30, 10.0));
    let assessed = within.slis[0].current_slo.clone().unwrap();
    assert_eq!(assessed.window, TimeWindow::MONTH);
    let ahead = within.slis[0].forecast.clone().unwrap().miss_probability(0.01);
    assert_ne!(assessed.miss_probability.unwrap(), ahead);
    assert!(within.explanation.contains("a whole calendar window of 30 days"), "{}", within.explanation);
    assert!(within.explanation.contains("the calendar month, as far as it has come, misses"), "{}", within.explanation);
    input.window = TimeWindow::QUARTER;
    assert_eq!(recommend(&input).window_days, 91, "April, May and June");
}

#[test]
fn what_is_called_asynchronously_is_named_and_costs_no_confidence() {
    let mut input = World::checkout(90).input();
    let before = recommend(&input);
    assert_eq!(before.missing_inputs, []);
    input.dependencies.push(DependencyHistory {
        id: id("mail-queue"),
        mode: DependencyMode::Async,
        call_fraction: None,
        fallback_success_ratio: None,
        buckets: Vec::new(),
    });
    let after = recommend(&input);
    assert_eq!(after.missing_inputs[0].name, "freshness");
    assert!(after.missing_inputs[0].detail.starts_with("mail-queue "), "{}", after.missing_inputs[0].detail);
    let inputs = |result: &attain_attainment::RecommendationResult| {
        result.confidence.parts.iter().find(|part| part.name == "inputs").unwrap().score
    };
    assert_eq!(inputs(&after), inputs(&before));
}
