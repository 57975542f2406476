//! A layer that came with the model: what it changes of a recommendation, and what it leaves.
#![allow(clippy::unwrap_used)]

mod simulated;

use attain_attainment::calibration::{Layer, Stated};
use attain_attainment::{Constants, MODEL_VERSION, Model, RecommendationInput, RecommendationResult, recommend};
use simulated::World;

/// Learned from ten services on which everything happens `factor` times as often as was stated.
fn layer(factor: f64) -> Layer {
    let service = || {
        let of = |p: f64| {
            (0..200)
                .map(move |i| Stated { probability: p, happened: f64::from(i % 100) < 100.0 * (p * factor).min(1.0) })
        };
        [0.02, 0.05, 0.1, 0.2, 0.3, 0.5].into_iter().flat_map(of).collect::<Vec<_>>()
    };
    Layer::learn(&(0..10).map(|_| service()).collect::<Vec<_>>())
}

fn input(layer: Option<Layer>) -> RecommendationInput {
    let version = "learned".to_owned();
    RecommendationInput {
        model: Some(Model { version, constants: Constants::DEFAULT, layer }),
        ..World::checkout(90).input()
    }
}

fn targets(result: &RecommendationResult) -> Vec<f64> {
    result.slis[0].offers.iter().map(|offer| offer.target_ratio).collect()
}

#[test]
fn a_layer_that_says_more_risk_loosens_offers_until_they_hold_what_they_say() {
    let plain = recommend(&input(None));
    let (more, less) = (layer(2.0), layer(0.5));
    assert!(more.applies() && less.applies());
    let (careful, bold) = (recommend(&input(Some(more.clone()))), recommend(&input(Some(less))));
    for ((plain, careful), bold) in targets(&plain).iter().zip(targets(&careful)).zip(targets(&bold)) {
        assert!(careful <= *plain && *plain <= bold, "{careful} {plain} {bold}");
    }
    assert!(targets(&careful) != targets(&plain) && targets(&bold) != targets(&plain));
    for (result, layered) in [(&careful, Some(&more)), (&plain, None)] {
        let sli = &result.slis[0];
        let forecast = sli.forecast.clone().unwrap();
        for offer in &sli.offers {
            let said = offer.miss_probability.unwrap();
            assert!(said <= offer.miss_probability_max, "{offer:?}");
            let stated = forecast.clone().with_layer(None).miss_probability(1.0 - offer.target_ratio);
            assert_eq!(said, layered.map_or(stated, |layer| layer.probability(stated)));
        }
    }
    // What it was learned on is availability; the back-test is of what lies beneath it.
    assert_eq!(plain.slis[1..], careful.slis[1..]);
    assert_eq!(plain.slis[0].backtest, careful.slis[0].backtest);
    assert_eq!(careful.model_version, "learned");
}

#[test]
fn a_stricter_target_is_missed_no_less_under_a_layer_and_quantiles_agree_with_it() {
    let forecast = recommend(&input(Some(layer(1.7)))).slis[0].forecast.clone().unwrap();
    let missed: Vec<f64> = (0..200).map(|i| forecast.miss_probability(1e-6 * libm::pow(1.08, f64::from(i)))).collect();
    assert!(missed.windows(2).all(|pair| pair[0] >= pair[1] - 1e-12), "{missed:?}");
    for p in [0.75, 0.9, 0.98] {
        let budget = forecast.quantile(p);
        assert!(forecast.miss_probability(budget * 1.000_01) <= 1.0 - p + 1e-9);
        assert!(forecast.miss_probability(budget * 0.99) >= 1.0 - p - 1e-9);
    }
    // Written and read back it says the same to the last bit.
    let read: attain_attainment::Forecast = serde_json::from_str(&serde_json::to_string(&forecast).unwrap()).unwrap();
    assert_eq!(read, forecast);
    assert_eq!(read.miss_probability(0.001).to_bits(), forecast.miss_probability(0.001).to_bits());
}

#[test]
fn models_without_a_layer_are_written_as_before() {
    let written = serde_json::to_value(input(None).model).unwrap();
    assert_eq!(written.as_object().unwrap().len(), 2, "{written}");
    let old = serde_json::json!({"version": MODEL_VERSION, "constants": Constants::DEFAULT});
    assert_eq!(serde_json::from_value::<Model>(old).unwrap().layer, None);
}
