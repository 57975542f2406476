use serde::{Deserialize, Serialize};

use crate::student;

/// The frozen constants of [`IncidentForecast`].
///
/// Source: shaped on 14 public incident series (cloud operators, games, users' reports; 180 and more days before each forecast of
/// 30 days), and held against constants chosen on one half of them and scored on the other: `evals calibration --choose`,
/// docs/recommendation/prediction.md. The weights of what is remembered and believed of sizes were chosen on short histories of seven of
/// those series and on simulated fleets other than those that are reported: docs/decisions/0040-sizes-from-few-incidents.md. Drift and
/// the stretch below the median: docs/decisions/0060-good-windows-go-further.md.
/// Rates and amounts are per day; "relative variance" is variance over squared mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Constants {
    /// Length of window that the variances below are stated for, in days.
    pub reference_window_days: f64,
    /// Half-life of the first look at the incident rate, in days; only chooses the forgetting.
    pub rate_half_life_days: f64,
    /// Half-life of what is remembered of incident sizes, in days.
    pub size_half_life_days: f64,
    /// Shortest forgetting, in days.
    pub half_life_days_min: f64,
    /// Longest forgetting, in days.
    pub half_life_days_max: f64,
    /// Relative variance of the persistent change of level from one reference window to the next.
    pub drift: f64,
    /// Power of the window's length, in reference windows, that the drift grows with: 1 is a random walk, less a level that is
    /// drawn back.
    pub drift_growth: f64,
    /// Relative variance of the passing excess of one reference window.
    pub transient: f64,
    /// Incidents that the prior counts for in the rate.
    pub prior_incidents: f64,
    /// Days of history that the prior counts for in the rate; 0 where nothing is known of a class.
    pub prior_exposure_days: f64,
    /// Incidents that the long remembered mean size counts for in the recent one: sizes vary far more than they drift, and the
    /// greatest ones are seldom among the recent.
    pub recent_size_weight: f64,
    /// Size of an incident before any is seen, in bad-days (days of full failure).
    pub prior_size: f64,
    /// Incidents that `prior_size` counts for in the remembered mean size.
    pub prior_size_weight: f64,
    /// Squared coefficient of variation of incident sizes before any is seen.
    pub prior_size_variation: f64,
    /// Incidents that `prior_size_variation` counts for.
    pub prior_size_variation_weight: f64,
    /// Least squared coefficient of variation of a window with incidents.
    pub variation_min: f64,
    /// Greatest mean bad fraction of a window with incidents.
    pub mean_max: f64,
    /// Degrees of freedom of the t distribution; an even number is fast.
    pub degrees_of_freedom: u32,
    /// How many times as wide the law is below its median as above: windows that go well go further down than those that go badly
    /// go up.
    pub lower_stretch: f64,
    /// Least history that the rate is divided by, in days.
    pub observed_days_min: f64,
}

impl Constants {
    /// The values in use.
    pub const DEFAULT: Self = Self {
        reference_window_days: 30.0,
        rate_half_life_days: 60.0,
        size_half_life_days: 360.0,
        half_life_days_min: 15.0,
        half_life_days_max: 240.0,
        drift: 0.15,
        drift_growth: 0.5,
        transient: 0.05,
        prior_incidents: 1.0,
        prior_exposure_days: 0.0,
        recent_size_weight: 4.0,
        prior_size: 0.03,
        prior_size_weight: 4.0,
        prior_size_variation: 4.0,
        prior_size_variation_weight: 8.0,
        variation_min: 0.05,
        mean_max: 0.95,
        degrees_of_freedom: 20,
        lower_stretch: 1.25,
        observed_days_min: 1.0,
    };
}

impl Constants {
    /// Size that half of all incidents stay below before any is seen, in bad-days: the median of the log-normal law with the
    /// prior's mean and variation. The few great ones make the mean, so most incidents are far smaller.
    #[must_use]
    pub fn prior_median_size(&self) -> f64 {
        self.prior_size / (1.0 + self.prior_size_variation).sqrt()
    }

    /// Whether a forecast can be made with them at all.
    ///
    /// # Errors
    /// Says which of them do not go together.
    pub fn check(&self) -> Result<(), String> {
        if self.half_life_days_min > self.half_life_days_max {
            let Self { half_life_days_min: least, half_life_days_max: most, .. } = self;
            return Err(format!("half_life_days_min {least} is above half_life_days_max {most}"));
        }
        if !(self.mean_max > 0.0 && self.mean_max < 1.0) {
            return Err(format!("mean_max {} is not between 0 and 1", self.mean_max));
        }
        let thousand: Vec<f64> = (0..1000).map(|i| f64::from(i) * 0.09).collect();
        let large = vec![1.0; thousand.len()];
        let histories: [(&[f64], &[f64], f64); 5] = [
            (&[], &[], 1.0),
            (&[], &[], 900.0),
            (&[0.1], &[0.5], 1.0),
            (&[1.0, 20.0, 21.0], &[0.01, 0.2, 0.0001], 90.0),
            (&thousand, &large, 90.0),
        ];
        for (ages, amounts, observed_days) in histories {
            for window_days in [1.0, 28.0, 92.0] {
                let probe = IncidentForecast::fit_with(self, ages, amounts, observed_days, window_days);
                let law =
                    [probe.location, probe.scale, probe.mean_ratio, probe.rate_per_day, probe.no_incident_probability];
                let usable = law.iter().all(|value| value.is_finite())
                    && probe.scale > 0.0
                    && self.degrees_of_freedom > 0
                    && self.lower_stretch > 0.0;
                if !usable {
                    let count = ages.len();
                    return Err(format!(
                        "no forecast can be made with them of {window_days} days after {observed_days} with {count} incidents"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Default for Constants {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Bad fraction that incidents bring to the next window: zero with some probability, else the logistic function of a shifted
/// and scaled Student's t, stretched below its median.
///
/// The level of a service drifts, so incidents are forgotten at a speed that a local-level Kalman gain chooses: fast where
/// many incidents make the level plain, slowly where few do. The spread has four factors: drift, passing excess,
/// compounding (number and size of incidents), error of estimation. Closed form, no random numbers, linear in the incidents.
///
/// A short or quiet history proves little: the prior (one pseudo-incident of 0.03 bad-days) stands for the ways to fail that
/// have not been seen yet, and weighs the more the shorter the history is. Sizes are so unlike one another that a few of them say
/// little of their mean, and next to nothing of their spread: both stay near the prior until there are many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IncidentForecast {
    location: f64,
    scale: f64,
    no_incident_probability: f64,
    mean_ratio: f64,
    rate_per_day: f64,
    half_life_days: f64,
    degrees_of_freedom: u32,
    /// None where it was kept before there was one.
    #[serde(default = "unstretched")]
    lower_stretch: f64,
}

const fn unstretched() -> f64 {
    1.0
}

/// Exponentially weighted sums over incidents.
struct Remembered {
    count: f64,
    exposure_days: f64,
    amount: f64,
    amount_squared: f64,
}

impl IncidentForecast {
    /// Fits the past with the constants in use. See [`Self::fit_with`].
    #[must_use]
    pub fn fit(ages_days: &[f64], amounts: &[f64], observed_days: f64, window_days: f64) -> Self {
        Self::fit_with(&Constants::DEFAULT, ages_days, amounts, observed_days, window_days)
    }

    /// Fits the past: for each incident its age in days before now and its amount in bad-days (days of full failure), the days
    /// observed, and the length of the window ahead in days.
    ///
    /// Pairs beyond the shorter list, and incidents whose age is negative or amount not positive, are not read. For windows
    /// other than the reference the drift grows with the root of the length (measured better at 7 and at 90 days than a random walk)
    /// and the passing excess shrinks in proportion (independent windows).
    #[must_use]
    pub fn fit_with(
        constants: &Constants,
        ages_days: &[f64],
        amounts: &[f64],
        observed_days: f64,
        window_days: f64,
    ) -> Self {
        let c = constants;
        let observed = finite_or(observed_days, c.observed_days_min).max(c.observed_days_min);
        let window = finite_or(window_days, c.reference_window_days).max(1.0 / 24.0);
        let remember = |half_life: f64| Remembered::new(ages_days, amounts, observed, half_life);
        let (size, dispersion) = sizes(c, &remember(c.size_half_life_days));
        let half_life_days = forgetting(c, &remember(c.rate_half_life_days), dispersion);
        let recent = remember(half_life_days);

        let incidents = recent.count + c.prior_incidents;
        let exposure_days = recent.exposure_days + c.prior_exposure_days;
        let rate_per_day = incidents / exposure_days;
        let recent_size = (recent.amount + c.recent_size_weight * size) / (recent.count + c.recent_size_weight);
        let mean = rate_per_day * recent_size;
        let stretch = window / c.reference_window_days;
        let (drift, transient) = (c.drift * libm::pow(stretch, c.drift_growth), c.transient / stretch);
        let compounding = dispersion / (rate_per_day * window);
        let estimation = (transient + compounding) * window / exposure_days;
        let variation = (1.0 + drift) * (1.0 + transient) * (1.0 + compounding) * (1.0 + estimation) - 1.0;
        let none = libm::pow(exposure_days / (exposure_days + window), incidents);
        let mean_given_any = (mean / (1.0 - none)).min(c.mean_max);
        let log_variance = libm::log1p(((1.0 + variation) * (1.0 - none) - 1.0).max(c.variation_min));
        Self {
            location: logit(mean_given_any) - log_variance / 2.0,
            scale: log_variance.sqrt(),
            no_incident_probability: none,
            mean_ratio: mean_given_any * (1.0 - none),
            rate_per_day,
            half_life_days,
            degrees_of_freedom: c.degrees_of_freedom,
            lower_stretch: c.lower_stretch,
        }
    }

    /// Probability that the bad fraction of the window is greater than `bad_ratio`.
    #[must_use]
    pub fn exceed(&self, bad_ratio: f64) -> f64 {
        if bad_ratio < 0.0 {
            return 1.0;
        }
        (1.0 - self.no_incident_probability) * self.exceed_given_any(bad_ratio)
    }

    /// The same, given that there is an incident; 1 below 0.
    pub(super) fn exceed_given_any(&self, bad_ratio: f64) -> f64 {
        if bad_ratio <= 0.0 {
            return 1.0;
        }
        if bad_ratio >= 1.0 {
            return 0.0;
        }
        student::upper_tail(self.standardised(bad_ratio), self.degrees_of_freedom)
    }

    /// Where a bad fraction within (0, 1) lies in the law of t.
    fn standardised(&self, bad_ratio: f64) -> f64 {
        let z = (logit(bad_ratio) - self.location) / self.scale;
        if z < 0.0 { z / self.lower_stretch } else { z }
    }

    /// The same of each of several, in its place.
    pub(super) fn exceed_each_given_any(&self, bad_ratios: &mut [f64]) {
        let inside = |bad_ratio: f64| bad_ratio > 0.0 && bad_ratio < 1.0;
        if !bad_ratios.iter().all(|bad_ratio| inside(*bad_ratio)) {
            bad_ratios.iter_mut().for_each(|bad_ratio| *bad_ratio = self.exceed_given_any(*bad_ratio));
            return;
        }
        bad_ratios.iter_mut().for_each(|bad_ratio| *bad_ratio = self.standardised(*bad_ratio));
        student::upper_tails(bad_ratios, self.degrees_of_freedom);
    }

    /// The bad fraction that is not exceeded with probability `p`; 0 up to [`Self::no_incident_probability`].
    #[must_use]
    pub fn quantile(&self, p: f64) -> f64 {
        if p.is_nan() || p <= self.no_incident_probability {
            return 0.0;
        }
        if p >= 1.0 {
            return 1.0;
        }
        let given_any = (p - self.no_incident_probability) / (1.0 - self.no_incident_probability);
        let z = student::quantile(given_any, self.degrees_of_freedom);
        let stretched = if z < 0.0 { z * self.lower_stretch } else { z };
        logistic(self.location + self.scale * stretched)
    }

    /// Expected bad fraction, as fitted: the law matches it to first order.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean_ratio
    }

    /// Probability of a window without an incident.
    #[must_use]
    pub fn no_incident_probability(&self) -> f64 {
        self.no_incident_probability
    }

    /// Present incident rate, prior included.
    #[must_use]
    pub fn rate_per_day(&self) -> f64 {
        self.rate_per_day
    }

    /// Age at which an incident counts half.
    #[must_use]
    pub fn half_life_days(&self) -> f64 {
        self.half_life_days
    }
}

/// Mean size of an incident, and its mean square over its squared mean (at least 1), each drawn to the prior.
fn sizes(c: &Constants, remembered: &Remembered) -> (f64, f64) {
    let count = remembered.count;
    let size = (remembered.amount + c.prior_size_weight * c.prior_size) / (count + c.prior_size_weight);
    let square = size * size;
    let prior = c.prior_size_variation_weight * (1.0 + c.prior_size_variation) * square;
    let weight = (count + c.prior_size_variation_weight) * square;
    (size, ((remembered.amount_squared + prior) / weight).max(1.0))
}

fn finite_or(value: f64, otherwise: f64) -> f64 {
    if value.is_finite() { value } else { otherwise }
}

/// Half-life that the steady-state Kalman gain of a local level asks for.
fn forgetting(c: &Constants, first_look: &Remembered, dispersion: f64) -> f64 {
    let window = c.reference_window_days;
    let noise = c.transient
        + dispersion
            / ((first_look.count + c.prior_incidents) * window / (first_look.exposure_days + c.prior_exposure_days));
    let gain = ((c.drift * c.drift + 4.0 * c.drift * noise).sqrt() - c.drift) / (2.0 * noise);
    let half_life = -window * std::f64::consts::LN_2 / libm::log1p(-gain.clamp(1e-3, 0.999));
    half_life.clamp(c.half_life_days_min, c.half_life_days_max)
}

impl Remembered {
    fn new(ages_days: &[f64], amounts: &[f64], observed_days: f64, half_life_days: f64) -> Self {
        let forgotten = 1.0 - libm::exp2(-observed_days / half_life_days);
        let exposure_days = half_life_days / std::f64::consts::LN_2 * forgotten;
        let mut sums = Self { count: 0.0, exposure_days, amount: 0.0, amount_squared: 0.0 };
        for (age, amount) in ages_days.iter().zip(amounts) {
            if *age >= 0.0 && *amount > 0.0 && amount.is_finite() {
                let weight = libm::exp2(-age / half_life_days);
                sums.count += weight;
                sums.amount += weight * amount;
                sums.amount_squared += weight * amount * amount;
            }
        }
        sums
    }
}

fn logit(p: f64) -> f64 {
    libm::log(p / (1.0 - p))
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}
