//! How well models have predicted, on windows that are over.

use attain_attainment::{Ambition, Forecast};
use serde::{Deserialize, Serialize};

/// Budgets at which stated probabilities are scored: the ladder of common targets.
const BUDGETS: [f64; 7] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.02, 0.05];
/// Added to a bad fraction before its logarithm is taken, so that none has one: a second in twelve days.
const LOG_FLOOR: f64 = 1e-6;
/// Sign flips of the paired test, beside the order that happened.
const FLIPS: u32 = 4_095;
/// Greatest p-value at which a model counts as better.
const P_VALUE_MAX: f64 = 0.05;
/// How much worse the Brier score may be, as a share, and the calibration, as a probability: what a few windows' noise makes.
const BRIER_SHARE_MAX: f64 = 0.01;
const CALIBRATION_MAX: f64 = 0.01;

/// What a model said of a window, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stated {
    /// Bad fraction that is exceeded with the probability of each offer, conservative first.
    pub(crate) quantiles: [f64; 3],
    /// Probability to exceed each of the budgets 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.02, 0.05.
    pub(crate) exceed: [f64; 7],
}

/// A window that is over, as two models saw it coming.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Closed {
    pub(crate) service_id: String,
    pub(crate) candidate: Stated,
    pub(crate) live: Stated,
    /// Bad fraction that it had.
    pub(crate) bad_ratio: f64,
}

/// Scores of one model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Scores {
    pub(crate) log_pinball: f64,
    pub(crate) brier: f64,
    pub(crate) calibration_error: f64,
    pub(crate) missed: [f64; 3],
}

/// A model against the live one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) window_count: usize,
    pub(crate) service_count: usize,
    pub(crate) candidate: Scores,
    pub(crate) live: Scores,
    pub(crate) log_pinball_difference: f64,
    pub(crate) p_value: f64,
    /// What is lacking before it may be promoted.
    pub(crate) lacking: Vec<String>,
}

/// What has to be there before a model may be promoted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demands {
    pub(crate) windows_min: usize,
    pub(crate) services_min: usize,
}

impl Stated {
    pub(crate) fn of(forecast: &Forecast) -> Self {
        Self {
            quantiles: Ambition::ALL.map(|ambition| forecast.quantile(1.0 - ambition.miss_probability_max())),
            exceed: BUDGETS.map(|budget| forecast.miss_probability(budget)),
        }
    }

    /// Mean pinball loss of the logarithm of the bad fraction, over the offers' quantiles.
    pub(crate) fn log_pinball(&self, bad_ratio: f64) -> f64 {
        let log = |ratio: f64| libm::log(ratio + LOG_FLOOR);
        let loss = |(ambition, quantile): (Ambition, &f64)| {
            let (distance, p) = (log(bad_ratio) - log(*quantile), 1.0 - ambition.miss_probability_max());
            if distance > 0.0 { p * distance } else { (p - 1.0) * distance }
        };
        Ambition::ALL.into_iter().zip(&self.quantiles).map(loss).sum::<f64>() / 3.0
    }

    fn brier(&self, bad_ratio: f64) -> f64 {
        let error = |(stated, budget): (&f64, f64)| {
            let error = stated - f64::from(u8::from(bad_ratio > budget));
            error * error
        };
        self.exceed.iter().zip(BUDGETS).map(error).sum::<f64>() / BUDGETS.len() as f64
    }
}

/// Compares on the same windows. The p-value is of a one-sided paired test that flips the sign of each service's mean difference:
/// windows of one service resemble one another and count as one.
pub(crate) fn compare(closed: &[Closed], demands: Demands) -> Comparison {
    let mut services: Vec<&str> = closed.iter().map(|window| window.service_id.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    let differences: Vec<f64> = services.iter().map(|service| difference(closed, service)).collect();
    let mut comparison = Comparison {
        window_count: closed.len(),
        service_count: services.len(),
        candidate: scores(closed, |window| &window.candidate),
        live: scores(closed, |window| &window.live),
        log_pinball_difference: mean(differences.iter().copied()),
        p_value: p_value(&differences),
        lacking: Vec::new(),
    };
    comparison.lacking = lacking(&comparison, demands);
    comparison
}

fn difference(closed: &[Closed], service: &str) -> f64 {
    let of_service = closed.iter().filter(|window| window.service_id == service);
    mean(of_service.map(|w| w.candidate.log_pinball(w.bad_ratio) - w.live.log_pinball(w.bad_ratio)))
}

fn scores(closed: &[Closed], of: impl Fn(&Closed) -> &Stated) -> Scores {
    let missed = |offer: usize| {
        mean(closed.iter().map(|window| f64::from(u8::from(window.bad_ratio > of(window).quantiles[offer]))))
    };
    let missed = [missed(0), missed(1), missed(2)];
    let distance = |(ambition, missed): (Ambition, &f64)| (missed - ambition.miss_probability_max()).abs();
    Scores {
        log_pinball: mean(closed.iter().map(|window| of(window).log_pinball(window.bad_ratio))),
        brier: mean(closed.iter().map(|window| of(window).brier(window.bad_ratio))),
        calibration_error: Ambition::ALL.into_iter().zip(&missed).map(distance).sum::<f64>() / 3.0,
        missed,
    }
}

fn lacking(comparison: &Comparison, demands: Demands) -> Vec<String> {
    let Comparison { window_count, service_count, candidate, live, p_value, .. } = comparison;
    let Demands { windows_min, services_min } = demands;
    let mut lacking = Vec::new();
    if *window_count < windows_min {
        lacking.push(format!(
            "{window_count} closed windows; {windows_min} are needed, {} more",
            windows_min - window_count
        ));
    }
    if *service_count < services_min {
        lacking.push(format!(
            "windows of {service_count} services; {services_min} are needed, {} more",
            services_min - service_count
        ));
    }
    if *p_value > P_VALUE_MAX {
        lacking.push(format!(
            "log-pinball {:.4} against {:.4} of the live model: p = {p_value:.3}, at most {P_VALUE_MAX} is needed",
            candidate.log_pinball, live.log_pinball
        ));
    }
    if candidate.brier > live.brier * (1.0 + BRIER_SHARE_MAX) {
        lacking.push(format!("Brier score {:.5}, worse than the live model's {:.5}", candidate.brier, live.brier));
    }
    if candidate.calibration_error > live.calibration_error + CALIBRATION_MAX {
        lacking.push(format!(
            "offers are missed {:.3} from what they say, the live model's {:.3}",
            candidate.calibration_error, live.calibration_error
        ));
    }
    lacking
}

/// Share of sign flips under which the sum is no greater than the one that happened.
fn p_value(differences: &[f64]) -> f64 {
    let happened: f64 = differences.iter().sum();
    if differences.is_empty() {
        return 1.0;
    }
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut as_low = 1u32;
    for _ in 0..FLIPS {
        let flipped: f64 =
            differences.iter().map(|difference| if coin(&mut state) { *difference } else { -difference }).sum();
        // A hair of tolerance: the same values summed with the same signs must count.
        as_low += u32::from(flipped <= happened + happened.abs() * 1e-12);
    }
    f64::from(as_low) / f64::from(FLIPS + 1)
}

/// The next bit of a fixed sequence (SplitMix64: G. L. Steele and others, OOPSLA 2014).
fn coin(state: &mut u64) -> bool {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) & 1 == 1
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMANDS: Demands = Demands { windows_min: 40, services_min: 10 };

    /// A model that states the given quantile throughout, and exceedance of whatever lies below it.
    fn stated(quantile: f64) -> Stated {
        Stated { quantiles: [quantile; 3], exceed: BUDGETS.map(|budget| f64::from(u8::from(quantile > budget))) }
    }

    fn windows(services: usize, candidate: f64, live: f64) -> Vec<Closed> {
        let window = |i: usize| Closed {
            service_id: format!("s{}", i / 5),
            candidate: stated(candidate),
            live: stated(live),
            bad_ratio: 0.001 * (1.0 + 0.01 * (i % 5) as f64),
        };
        (0..services * 5).map(window).collect()
    }

    #[test]
    fn losses_agree_with_a_worked_example() {
        // ln(0.01) - ln(0.001) = 2.3026 but for the floor: missed by so much at 0.98, 0.9 and 0.75.
        let missed = stated(0.001).log_pinball(0.01);
        let expected = (0.98 + 0.9 + 0.75) / 3.0 * libm::log((0.01f64 + 1e-6) / (0.001 + 1e-6));
        assert!((missed - expected).abs() < 1e-12);
        let kept = stated(0.01).log_pinball(0.001);
        assert!((kept / missed - (0.02 + 0.1 + 0.25) / (0.98 + 0.9 + 0.75)).abs() < 1e-12);
        // Certain of exceeding 0.0001 and 0.0005 alone, while 0.001, 0.005 were exceeded too.
        assert!((stated(0.001).brier(0.01) - 2.0 / 7.0).abs() < 1e-12);
    }

    #[test]
    fn a_better_model_may_be_promoted_and_a_worse_one_may_not() {
        let better = compare(&windows(12, 0.0011, 0.01), DEMANDS);
        assert_eq!((better.window_count, better.service_count, better.lacking.len()), (60, 12, 0), "{better:?}");
        assert!(better.p_value < 0.01 && better.log_pinball_difference < 0.0);
        let worse = compare(&windows(12, 0.01, 0.0011), DEMANDS);
        assert!(worse.p_value > 0.99 && worse.lacking.iter().any(|lack| lack.starts_with("log-pinball")), "{worse:?}");
        let alike = compare(&windows(12, 0.01, 0.01), DEMANDS);
        assert!(alike.p_value > 0.99 && !alike.lacking.is_empty());
    }

    #[test]
    fn what_is_lacking_is_said_with_its_numbers() {
        let few = compare(&windows(3, 0.0011, 0.01), DEMANDS);
        assert_eq!(
            few.lacking[..2],
            ["15 closed windows; 40 are needed, 25 more", "windows of 3 services; 10 are needed, 7 more"]
        );
        let none = compare(&[], DEMANDS);
        assert_eq!((none.p_value, none.window_count), (1.0, 0));
    }

    #[test]
    fn many_windows_of_one_service_prove_no_more_than_one() {
        let one: Vec<Closed> =
            (0..50).map(|i| Closed { service_id: "s".into(), ..windows(10, 0.0011, 0.01)[i].clone() }).collect();
        assert!(compare(&one, DEMANDS).p_value > 0.4);
    }
}
