//! Constants fitted to a tenant's own closed windows: a bounded, deterministic search that is held to the live model's constants.

use std::collections::BTreeMap;

use attain_attainment::{Constants, CountSeries, RecommendationInput, predict_with, usable_counts};
use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};

use super::calibration::Class;
use super::model_classes::{Case, Past, learn, peer};
use super::models::{Content, altered, by_name};
use super::scores::Stated;

/// Constants that are searched, where the model has them; the others say more of the method than of a tenant.
const SEARCHED: [&str; 5] = ["drift", "transient", "prior_incidents", "prior_size", "prior_size_variation"];
/// Factors that constants are tried at, up and down, one after another.
const FACTORS: [f64; 3] = [2.0, std::f64::consts::SQRT_2, std::f64::consts::SQRT_2];
/// Standard deviation of the prior on the logarithm of a constant over the live one: a factor of two.
const PRIOR_DEVIATION: f64 = std::f64::consts::LN_2;
/// Least gain in the penalised loss that counts, so that noise of the last digits moves nothing.
const GAIN_MIN: f64 = 1e-4;
/// Fewest windows and services that anything is fitted to.
const WINDOWS_MIN: usize = 60;
const SERVICES_MIN: usize = 20;
/// Days of history before a window that is fitted to, at least.
const HISTORY_DAYS_MIN: i64 = 21;
/// Length of those windows, in days: histories are short, and the model states how windows of other lengths follow.
const WINDOW_DAYS: i64 = 14;
/// Least share of a window's buckets that must be there.
const COVERAGE_MIN: f64 = 0.5;

/// What a search came to.
#[derive(Debug, Clone, PartialEq)]
enum Fitted {
    /// These constants predict the windows better.
    Better {
        constants: Constants,
        /// Mean log-pinball loss before and after.
        loss: (f64, f64),
    },
    /// Nothing near the live constants predicts better.
    AsGood,
    /// Too few windows: what is lacking, with its numbers.
    TooLittle(String),
}

/// One service's past, from what a recommendation of it would be computed from.
pub(crate) fn past_of(input: &RecommendationInput, constants: &Constants, end_ms: UnixMillis) -> Past {
    let series = usable_counts(input);
    let prediction = predict_with(constants, &series, WINDOW_DAYS as f64, end_ms);
    Past {
        class: Class { tier: input.tier, kind: input.kind },
        cases: cases(&series, constants, end_ms),
        peer: prediction.as_ref().map(peer),
    }
}

/// What is fitted to pasts beside the live content, and where it comes from; or why there is nothing.
pub(crate) fn fitted(pasts: &[Past], live: &Content) -> Result<(Content, String), String> {
    let windows: usize = pasts.iter().map(|past| past.cases.len()).sum();
    let (constants, of_constants) = match fit(pasts, &live.constants) {
        Fitted::TooLittle(lacking) => return Err(format!("too little is known: {lacking}")),
        Fitted::AsGood => (live.constants, "constants as before".to_owned()),
        Fitted::Better { constants, loss: (before, after) } => {
            (constants, format!("log-pinball {after:.4}, before {before:.4}"))
        }
    };
    let classes = learn(pasts, &constants, WINDOW_DAYS as f64);
    let of_classes = match classes.len() {
        0 => "no class tells anything".to_owned(),
        1 => "one class has a prior or a layer".to_owned(),
        count => format!("{count} classes have a prior or a layer"),
    };
    let content = Content { constants, classes };
    if content == *live {
        return Err(format!("nothing near the live model predicts {windows} closed windows better"));
    }
    Ok((content, format!("Fitted to {windows} closed windows of the past: {of_constants}; {of_classes}.")))
}

/// Windows of one service's history that do not overlap, the newest one last; each is foreseen from what was before it alone.
pub(super) fn cases(series: &CountSeries, constants: &Constants, end_ms: UnixMillis) -> Vec<Case> {
    let Some(first_ms) = series.points().first().map(|point| point.start_ms) else { return Vec::new() };
    let window_ms = WINDOW_DAYS * DAY_MS;
    let mut cases = Vec::new();
    let mut origin = end_ms - window_ms;
    while origin - first_ms >= HISTORY_DAYS_MIN * DAY_MS {
        let between = |from: UnixMillis, to: UnixMillis| {
            let inside = series.points().iter().filter(|point| (from..to).contains(&point.start_ms));
            CountSeries::new(inside.copied().collect())
        };
        let (past, window) = (between(first_ms, origin), between(origin, origin + window_ms));
        let covered = window.points().len() as f64 * BUCKET_MS as f64 >= COVERAGE_MIN * window_ms as f64;
        let prediction = predict_with(constants, &past, WINDOW_DAYS as f64, origin);
        if let (true, Some(attained), Some(prediction)) = (covered, window.attained_ratio(), prediction) {
            cases.push(Case { prediction, bad_ratio: (1.0 - attained).clamp(0.0, 1.0) });
        }
        origin -= window_ms;
    }
    cases.reverse();
    cases
}

/// Searches. Every service counts alike.
fn fit(pasts: &[Past], live: &Constants) -> Fitted {
    let services: Vec<&Vec<Case>> = pasts.iter().map(|past| &past.cases).filter(|cases| !cases.is_empty()).collect();
    let windows: usize = services.iter().map(|cases| cases.len()).sum();
    let lacking = |what: &str, have: usize, need: usize| {
        (have < need).then(|| format!("{have} {what}; {need} are needed, {} more", need - have))
    };
    let lacking: Vec<String> =
        [lacking("closed windows", windows, WINDOWS_MIN), lacking("services with one", services.len(), SERVICES_MIN)]
            .into_iter()
            .flatten()
            .collect();
    if !lacking.is_empty() {
        return Fitted::TooLittle(lacking.join("; "));
    }
    let loss = |constants: &Constants| {
        let of = |cases: &&Vec<Case>| {
            let losses = cases
                .iter()
                .map(|case| Stated::of(&case.prediction.forecast_with(constants)).log_pinball(case.bad_ratio));
            losses.sum::<f64>() / cases.len() as f64
        };
        services.iter().map(of).sum::<f64>() / services.len() as f64
    };
    let before = loss(live);
    let mut best = (*live, before, before);
    for factor in FACTORS {
        for name in SEARCHED {
            for step in [factor, 1.0 / factor] {
                let Some(candidate) = scaled(&best.0, name, step) else { continue };
                let plain = loss(&candidate);
                let penalised = plain + penalty(&candidate, live) / windows as f64;
                if penalised < best.1 - GAIN_MIN {
                    best = (candidate, penalised, plain);
                    break;
                }
            }
        }
    }
    if best.0 == *live { Fitted::AsGood } else { Fitted::Better { constants: best.0, loss: (before, best.2) } }
}

/// The constants with one of them multiplied; `None` where there is none of that name or it leaves its bounds.
fn scaled(constants: &Constants, name: &str, factor: f64) -> Option<Constants> {
    let value = by_name(constants).get(name)? * factor;
    altered(constants, &BTreeMap::from([(name.to_owned(), value)])).ok()
}

/// Minus the logarithm of the prior: a normal law of each searched constant's logarithm around the live one's.
fn penalty(candidate: &Constants, live: &Constants) -> f64 {
    let (candidate, live) = (by_name(candidate), by_name(live));
    let of = |name: &&str| {
        let ratio = candidate.get(*name)? / live.get(*name)?;
        let deviations = libm::log(ratio) / PRIOR_DEVIATION;
        Some(deviations * deviations / 2.0)
    };
    SEARCHED.iter().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use attain_attainment::CountPoint;
    use attain_vocabulary::{EntityKind, Tier};

    use super::*;

    fn past(cases: Vec<Case>) -> Past {
        Past { class: Class { tier: Tier::Two, kind: EntityKind::Service }, cases, peer: None }
    }

    /// Ninety days that fail one request in ten thousand, evenly, but for nothing else.
    fn quiet(days: i64) -> CountSeries {
        let point =
            |i: i64| CountPoint { start_ms: i * BUCKET_MS, valid: 1_000.0, bad: f64::from(u8::from(i % 10 == 0)) };
        CountSeries::new((0..days * 288).map(point).collect())
    }

    #[test]
    fn windows_do_not_overlap_and_have_a_past() {
        let of = |days: i64| cases(&quiet(days), &Constants::DEFAULT, days * DAY_MS).len();
        assert_eq!([of(20), of(34), of(35), of(90)], [0, 0, 1, 4]);
        let found = cases(&quiet(90), &Constants::DEFAULT, 90 * DAY_MS);
        assert_eq!(found[3].prediction.now_ms, 76 * DAY_MS);
        assert!((found[3].bad_ratio - 1e-4).abs() < 2e-6, "{}", found[3].bad_ratio);
    }

    #[test]
    fn too_little_is_said_with_its_numbers() {
        let one = cases(&quiet(90), &Constants::DEFAULT, 90 * DAY_MS);
        let expected = "4 closed windows; 60 are needed, 56 more; 1 services with one; 20 are needed, 19 more";
        assert_eq!(fit(&[past(one), past(Vec::new())], &Constants::DEFAULT), Fitted::TooLittle(expected.to_owned()));
    }

    #[test]
    fn a_quiet_fleet_expects_less_of_what_it_never_saw() {
        let one = cases(&quiet(64), &Constants::DEFAULT, 64 * DAY_MS);
        let fleet = vec![past(one); 20];
        let Fitted::Better { constants, loss } = fit(&fleet, &Constants::DEFAULT) else {
            panic!("a better fit is near")
        };
        assert!(loss.1 < loss.0, "{loss:?}");
        assert!(
            constants.prior_size < Constants::DEFAULT.prior_size || constants.prior_incidents < 1.0,
            "{constants:?}"
        );
        assert_eq!(fit(&fleet, &Constants::DEFAULT), fit(&fleet, &Constants::DEFAULT), "deterministic");
        // Bounded: no constant moves further than the factors together.
        let most: f64 = FACTORS.iter().product();
        let moved = |name: &str| by_name(&constants)[name] / by_name(&Constants::DEFAULT)[name];
        assert!(SEARCHED.iter().all(|name| (1.0 / most - 1e-9..=most + 1e-9).contains(&moved(name))));
    }
}
