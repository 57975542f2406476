#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Reference values: the formulas of the drifting-level predictor evaluated in Python with SciPy 1.x's Student t,
/// window 30 days, with the constants that the method was first written down with. Columns: incidents (age, amount), days observed, then p0, half-life, P(> 0.1 %), P(> 1 %), 90 and 98 % quantile.
#[test]
fn reference_values_of_the_drifting_level() {
    let constants = Constants {
        recent_size_weight: 1.0,
        prior_size_weight: 0.5,
        prior_size_variation: 2.0,
        prior_size_variation_weight: 2.0,
        degrees_of_freedom: 12,
        drift: 0.2,
        lower_stretch: 1.0,
        ..Constants::DEFAULT
    };
    let many_ages: Vec<f64> = (0..60).map(|i| f64::from(i) * 4.0 + 1.0).collect();
    let many_amounts: Vec<f64> = (0..60).map(|i| 0.002 + 0.001 * f64::from(i % 7)).collect();
    type Case<'a> = (&'a [f64], &'a [f64], f64, [f64; 6]);
    let cases: [Case<'_>; 4] = [
        (
            &[],
            &[],
            180.0,
            [0.793_369_228_5, 128.528_949_8, 0.054_080_758_0, 0.005_957_217_3, 0.000_372_578_7, 0.003_165_725_7],
        ),
        (
            &[3.0, 40.0, 41.0, 100.0],
            &[0.01, 0.2, 0.005, 0.05],
            180.0,
            [0.321_592_764_8, 67.923_757_23, 0.460_611_532_5, 0.067_927_161_9, 0.007_224_290_5, 0.024_772_060_2],
        ),
        (
            &many_ages,
            &many_amounts,
            240.0,
            [0.002_289_383_0, 21.198_908_57, 0.514_238_342_1, 0.003_887_754_2, 0.002_709_145_4, 0.005_322_404_5],
        ),
        (
            &[0.5],
            &[1.5],
            20.0,
            [0.133_243_321_3, 43.695_363_23, 0.865_214_318_5, 0.822_279_004_5, 0.309_632_992_8, 0.599_022_466_5],
        ),
    ];
    for (ages, amounts, observed, expected) in cases {
        let fit = IncidentForecast::fit_with(&constants, ages, amounts, observed, 30.0);
        let got = [
            fit.no_incident_probability(),
            fit.half_life_days(),
            fit.exceed(0.001),
            fit.exceed(0.01),
            fit.quantile(0.9),
            fit.quantile(0.98),
        ];
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= 1e-6 * expected.abs(), "{got} is not {expected} ({observed} days)");
        }
    }
}

#[test]
fn a_few_small_incidents_do_not_rule_out_great_ones() {
    let of = |size: f64, count: u32| {
        let ages: Vec<f64> = (0..count).map(|i| 90.0 * (f64::from(i) + 0.5) / f64::from(count)).collect();
        IncidentForecast::fit(&ages, &vec![size; ages.len()], 90.0, 28.0)
    };
    // Three of 0.002 bad-days: with as many of that size in the window its bad share would be 0.0001.
    let few = of(0.002, 3);
    assert!((0.02..0.1).contains(&few.exceed(0.002)), "{}", few.exceed(0.002));
    // Sixty of them are believed.
    let many = of(0.002, 60);
    let proportional = 28.0 / 90.0 * 60.0 * 0.002 / 28.0;
    assert!(many.exceed(10.0 * proportional) < 0.01, "{}", many.exceed(10.0 * proportional));
    // Great ones are doubted as well: the mean of a hundred times the size is far from a hundred times as great.
    assert!(of(0.2, 3).mean() < 40.0 * few.mean(), "{} {}", of(0.2, 3).mean(), few.mean());
}

#[test]
fn constants_that_fail_on_an_empty_history_alone_are_refused() {
    assert_eq!(Constants::DEFAULT.check(), Ok(()));
    let nothing_expected = Constants { prior_incidents: 0.0, ..Constants::DEFAULT };
    let refused = nothing_expected.check().expect_err("no rate without an incident");
    assert!(refused.contains("with 0 incidents"), "{refused}");
}

#[test]
fn the_chronic_part_has_the_mean_and_spread_that_counts_give() {
    // 1,000 failures in a million, then a window of a million: counting noise alone is 3.2 %, estimation as much again.
    let level = Level { days: 28.0, valid: 1e6, bad: 1e3 };
    let evidence = ChronicEvidence {
        now: level,
        before: Level::default(),
        weeks: vec![],
        design_effect: 1.0,
        window_valid: 1e6,
        window_days: 28.0,
    };
    let chronic = ChronicForecast::fit(&evidence);
    assert!((chronic.mean() / 1e-3 - 1.0).abs() < 1e-2);
    let relative = chronic.standard_deviation() / chronic.mean();
    assert!((relative - (0.04f64 + 0.001 + 0.001).sqrt()).abs() < 2e-3, "{relative}");
    assert!(chronic.exceed(0.002) < 0.001 && chronic.exceed(0.0005) > 0.99);
}

#[test]
fn a_level_that_has_just_changed_is_believed_by_degrees() {
    let with_days = |days: f64| {
        ChronicForecast::fit(&ChronicEvidence {
            now: Level { days, valid: days * 1e5, bad: days * 100.0 },
            before: Level { days: 30.0, valid: 3e6, bad: 3e4 },
            weeks: vec![],
            design_effect: 1.0,
            window_valid: 2.8e6,
            window_days: 28.0,
        })
        .mean()
    };
    assert!(with_days(3.0) > with_days(10.0) && with_days(10.0) > with_days(30.0));
    assert!((with_days(30.0) / 1e-3 - 1.0).abs() < 0.2);
}

#[test]
fn a_worse_structure_misses_more_and_a_better_one_less() {
    let forecast = Forecast::new(None, IncidentForecast::fit(&[10.0, 20.0], &[0.02, 0.03], 90.0, 28.0));
    let today = forecast.miss_probability(0.005);
    assert_eq!(miss_probability_after_shift(&forecast, 0.005, 0.0), today);
    assert!(miss_probability_after_shift(&forecast, 0.005, 0.002) > today);
    assert!(miss_probability_after_shift(&forecast, 0.005, -0.002) < today);
    assert_eq!(miss_probability_after_shift(&forecast, 0.005, 0.1), 1.0);
}

fn arbitrary_incidents() -> impl Strategy<Value = (Vec<f64>, Vec<f64>, f64, f64)> {
    let incidents = prop::collection::vec((0.0f64..400.0, 1e-7f64..3.0), 0..40);
    (incidents, 0.1f64..400.0, prop::sample::select(vec![7.0, 28.0, 30.0, 90.0])).prop_map(
        |(incidents, observed, window)| {
            let (ages, amounts) = incidents.into_iter().unzip();
            (ages, amounts, observed, window)
        },
    )
}

fn arbitrary_chronic() -> impl Strategy<Value = Option<ChronicForecast>> {
    let evidence = (0.0f64..1e8, 0.0f64..=1.0, 0.0f64..60.0, 1.0f64..100.0, 0.0f64..1e8).prop_map(
        |(valid, share, days, design_effect, window_valid)| {
            let now = Level { days, valid, bad: valid * share * share * share };
            let before = Level { days, valid: valid / 2.0, bad: valid * share / 4.0 };
            let weeks = vec![now, before, now];
            ChronicForecast::fit(&ChronicEvidence {
                now,
                before,
                weeks,
                design_effect,
                window_valid,
                window_days: 28.0,
            })
        },
    );
    prop::option::of(evidence)
}

proptest! {
    #[test]
    fn quantile_and_exceed_are_inverse((ages, amounts, observed, window) in arbitrary_incidents(), p in 0.01f64..0.999) {
        let fit = IncidentForecast::fit(&ages, &amounts, observed, window);
        let value = fit.quantile(p);
        prop_assert!((0.0..=1.0).contains(&value));
        if p > fit.no_incident_probability() + 1e-6 && value < 0.999_999 && value > 1e-12 {
            prop_assert!((fit.exceed(value) - (1.0 - p)).abs() < 1e-5, "{} against {}", fit.exceed(value), 1.0 - p);
        }
    }

    #[test]
    fn more_amount_is_never_safer_in_the_mean((ages, amounts, observed, window) in arbitrary_incidents(), factor in 1.0f64..3.0) {
        let more: Vec<f64> = amounts.iter().map(|amount| amount * factor).collect();
        let (fit, worse) = (IncidentForecast::fit(&ages, &amounts, observed, window), IncidentForecast::fit(&ages, &more, observed, window));
        prop_assert!(worse.rate_per_day() > 0.0 && worse.mean().is_finite());
        prop_assert!(fit.half_life_days() != worse.half_life_days() || worse.mean() >= fit.mean() - 1e-12);
    }

    #[test]
    fn a_smaller_budget_is_missed_no_less((ages, amounts, observed, window) in arbitrary_incidents(), chronic in arbitrary_chronic(), a in -0.1f64..1.1, b in 1e-9f64..1.0) {
        let forecast = Forecast::new(chronic, IncidentForecast::fit(&ages, &amounts, observed, window));
        let (small, great) = (forecast.miss_probability(a.min(b)), forecast.miss_probability(a.max(b)));
        prop_assert!((0.0..=1.0).contains(&small) && (0.0..=1.0).contains(&great));
        prop_assert!(small >= great - 1e-12, "{small} below {great}");
    }

    #[test]
    fn the_sum_has_a_quantile_for_each_probability((ages, amounts, observed, window) in arbitrary_incidents(), chronic in arbitrary_chronic(), p in 0.02f64..0.98) {
        let forecast = Forecast::new(chronic, IncidentForecast::fit(&ages, &amounts, observed, window));
        let value = forecast.quantile(p);
        prop_assert!((0.0..=1.0).contains(&value));
        prop_assert!(forecast.miss_probability((value * (1.0 + 2e-6)).max(1e-14)) <= 1.0 - p + 1e-9);
        let text = serde_json::to_string(&forecast).unwrap();
        prop_assert_eq!(serde_json::from_str::<Forecast>(&text).unwrap(), forecast);
    }
}
