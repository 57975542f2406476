//! What other services of a class tell about one, with a weight that is learned and may be none.

use serde::{Deserialize, Serialize};

use crate::{Constants, IncidentForecast};

/// Another service's incidents, as [`IncidentForecast::fit`] takes them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Peer {
    /// Age of each incident in days before now.
    pub ages_days: Vec<f64>,
    /// Its amount in bad-days.
    pub amounts: Vec<f64>,
    /// Days observed.
    pub observed_days: f64,
}

/// A class's typical service, and how much it counts for a service of the class.
///
/// At weight 0 the constants in use stand alone; at weight 1 the class counts for [`CLASS_INCIDENTS`] incidents more, in rate, size and
/// dispersion of sizes. The weight is learned on the class's own members: see [`Self::learn`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassPrior {
    typical: Typical,
    weight: f64,
}

/// Geometric means over services.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Typical {
    rate_per_day: f64,
    size: f64,
    size_variation: f64,
}

/// Incidents that a class counts for at weight 1.
pub const CLASS_INCIDENTS: f64 = 4.0;
/// Weights that are tried.
const WEIGHTS: [f64; 4] = [0.0, 0.25, 0.5, 1.0];
/// Standard errors that a gain must exceed.
const EARNED_ERRORS: f64 = 2.0;
/// Least gain worth a weight: less is rounding.
const GAIN_MIN: f64 = 1e-9;
/// Members below which nothing is learned.
const PEERS_MIN: usize = 4;
/// History before the first window that a weight is scored on, in days: short ones are where a class matters.
const HISTORY_DAYS: f64 = 60.0;
/// Windows a member that are scored at most, evenly spread over its time.
const ORIGINS_MAX: usize = 12;
/// Budgets at which a weight is scored.
const BUDGETS: [f64; 5] = [0.0005, 0.002, 0.005, 0.02, 0.05];

impl ClassPrior {
    /// Learns from other services than the one that it will be used for.
    ///
    /// Each member's own windows are forecast with the class made of the other members at each weight, and scored by the Brier score
    /// over budgets. The best weight is kept when its gain over none is more than twice the gain's standard error over members; else, and
    /// with fewer than four members, the weight is 0. Deterministic; linear in members times their incidents.
    #[must_use]
    pub fn learn(peers: &[Peer], window_days: f64) -> Self {
        let logs: Vec<[f64; 3]> = peers.iter().filter(|peer| peer.observed_days > 0.0).map(Typical::logs).collect();
        let typical = Typical::of(&logs, None);
        let none = Self { typical, weight: 0.0 };
        if peers.len() < PEERS_MIN || logs.len() != peers.len() || window_days.is_nan() || window_days <= 0.0 {
            return none;
        }
        let losses: Vec<[f64; WEIGHTS.len()]> = peers
            .iter()
            .enumerate()
            .filter_map(|(own, peer)| {
                let typical = Typical::of(&logs, Some(own));
                let constants = WEIGHTS.map(|weight| Self { typical, weight }.constants());
                loss(peer, &constants, window_days)
            })
            .collect();
        if losses.len() < PEERS_MIN {
            return none;
        }
        let count = losses.len() as f64;
        let gain = |at: usize| losses.iter().map(|loss| loss[0] - loss[at]).sum::<f64>() / count;
        let best = (1..WEIGHTS.len()).fold(0, |best, at| if gain(at) > gain(best) { at } else { best });
        let mean = gain(best);
        let apart = |loss: &[f64; WEIGHTS.len()]| loss[0] - loss[best] - mean;
        let variance = losses.iter().map(|loss| apart(loss) * apart(loss)).sum::<f64>() / (count - 1.0);
        let earned = mean > EARNED_ERRORS * (variance / count).sqrt() && mean > GAIN_MIN;
        Self { typical, weight: if earned { WEIGHTS[best] } else { 0.0 } }
    }

    /// How much the class counts, in [0, 1].
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Constants for a service of the class, for [`IncidentForecast::fit_with`].
    #[must_use]
    pub fn constants(&self) -> Constants {
        let own = Constants::DEFAULT;
        if self.weight <= 0.0 {
            return own;
        }
        let incidents = self.weight * CLASS_INCIDENTS;
        let blend = |own: f64, own_weight: f64, class: f64| {
            libm::exp((own_weight * libm::log(own) + incidents * libm::log(class)) / (own_weight + incidents))
        };
        let typical = &self.typical;
        Constants {
            prior_incidents: own.prior_incidents + incidents,
            prior_exposure_days: own.prior_exposure_days + incidents / typical.rate_per_day,
            recent_size_weight: own.recent_size_weight + incidents,
            prior_size: blend(own.prior_size, own.prior_size_weight, typical.size),
            prior_size_weight: own.prior_size_weight + incidents,
            prior_size_variation: blend(
                own.prior_size_variation,
                own.prior_size_variation_weight,
                typical.size_variation,
            ),
            prior_size_variation_weight: own.prior_size_variation_weight + incidents,
            ..own
        }
    }
}

impl Typical {
    /// Log rate, size and squared coefficient of variation of one service, each drawn a little to the constants in use.
    fn logs(peer: &Peer) -> [f64; 3] {
        let c = Constants::DEFAULT;
        let amounts = || peer.amounts.iter().copied().filter(|amount| *amount > 0.0 && amount.is_finite());
        let (count, sum) = amounts().fold((0.0, 0.0), |(count, sum), amount| (count + 1.0, sum + amount));
        let squares: f64 = amounts().map(|amount| amount * amount).sum();
        let size = (sum + c.prior_size_weight * c.prior_size) / (count + c.prior_size_weight);
        let prior = c.prior_size_variation_weight * (1.0 + c.prior_size_variation);
        let square = (squares / (size * size) + prior) / (count + c.prior_size_variation_weight);
        [libm::log((count + 0.5) / peer.observed_days), libm::log(size), libm::log((square - 1.0).max(c.variation_min))]
    }

    /// Over all but one. Of none, the constants in use at one incident a month.
    fn of(logs: &[[f64; 3]], without: Option<usize>) -> Self {
        let others: Vec<&[f64; 3]> =
            logs.iter().enumerate().filter(|(at, _)| Some(*at) != without).map(|(_, logs)| logs).collect();
        let c = Constants::DEFAULT;
        if others.is_empty() {
            return Self { rate_per_day: 1.0 / 30.0, size: c.prior_size, size_variation: c.prior_size_variation };
        }
        let mean = |which: usize| libm::exp(others.iter().map(|logs| logs[which]).sum::<f64>() / others.len() as f64);
        Self { rate_per_day: mean(0), size: mean(1), size_variation: mean(2) }
    }
}

/// Brier score of each of the constants over the peer's windows; `None` when it has none.
fn loss<const N: usize>(peer: &Peer, constants: &[Constants; N], window_days: f64) -> Option<[f64; N]> {
    let windows = ((peer.observed_days - HISTORY_DAYS) / window_days).floor();
    if windows.is_nan() || windows < 1.0 {
        return None;
    }
    let step = (windows / ORIGINS_MAX as f64).max(1.0);
    let mut losses = [0.0; N];
    let count = (windows / step).floor() as usize;
    for i in 0..count {
        // Age of the window's beginning.
        let ahead = peer.observed_days - HISTORY_DAYS - (i as f64 * step).floor() * window_days;
        let pairs = || peer.ages_days.iter().copied().zip(peer.amounts.iter().copied());
        let (ages, amounts): (Vec<f64>, Vec<f64>) =
            pairs().filter(|(age, _)| *age > ahead).map(|(age, amount)| (age - ahead, amount)).unzip();
        let within = pairs().filter(|(age, _)| (ahead - window_days..=ahead).contains(age));
        let outcome = within.map(|(_, amount)| amount.max(0.0)).sum::<f64>() / window_days;
        let observed = peer.observed_days - ahead;
        for (loss, constants) in losses.iter_mut().zip(constants) {
            let forecast = IncidentForecast::fit_with(constants, &ages, &amounts, observed, window_days);
            for budget in BUDGETS {
                let error = forecast.exceed(budget) - f64::from(u8::from(outcome > budget));
                *loss += error * error;
            }
        }
    }
    Some(losses.map(|loss| loss / (count * BUDGETS.len()) as f64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Incidents evenly spaced a little unevenly; sizes go round.
    fn peer(rate_per_day: f64, size: f64, days: f64, shift: f64) -> Peer {
        let count = (rate_per_day * days) as usize;
        let ages_days = (0..count).map(|i| (i as f64 + shift.fract()) / rate_per_day).collect();
        let amounts =
            (0..count).map(|i| size * (0.5 + ((i * 7 + (shift * 10.0) as usize) % 11) as f64 / 10.0)).collect();
        Peer { ages_days, amounts, observed_days: days }
    }

    #[test]
    fn alike_services_teach_one_another() {
        let alike: Vec<Peer> = (0..12).map(|i| peer(1.0 / 12.0, 0.2, 360.0, f64::from(i) * 0.37)).collect();
        let class = ClassPrior::learn(&alike, 30.0);
        assert!(class.weight() > 0.0, "{class:?}");
        let constants = class.constants();
        assert!(constants.prior_size > Constants::DEFAULT.prior_size);
        let rate = constants.prior_incidents / constants.prior_exposure_days;
        assert!((1.0 / 24.0..1.0 / 6.0).contains(&rate), "{rate}");
    }

    #[test]
    fn unlike_and_few_services_teach_nothing() {
        let unlike: Vec<Peer> = (0..12)
            .map(|i| {
                peer(
                    0.004 * libm::exp2(f64::from(i)),
                    2e-4 * libm::pow(3.0, f64::from((i * 5) % 12 / 2)),
                    360.0,
                    f64::from(i) * 0.37,
                )
            })
            .collect();
        assert_eq!(ClassPrior::learn(&unlike, 30.0).weight(), 0.0);
        let few: Vec<Peer> = (0..3).map(|i| peer(0.1, 0.2, 360.0, f64::from(i) * 0.3)).collect();
        let class = ClassPrior::learn(&few, 30.0);
        assert_eq!((class.weight(), class.constants()), (0.0, Constants::DEFAULT));
        assert_eq!(ClassPrior::learn(&[], 30.0).constants(), Constants::DEFAULT);
    }

    fn arbitrary() -> impl Strategy<Value = Peer> {
        (prop::collection::vec((-5.0f64..900.0, -0.1f64..3.0), 0..40), 0.0f64..900.0).prop_map(
            |(incidents, observed_days)| {
                let (ages_days, amounts) = incidents.into_iter().unzip();
                Peer { ages_days, amounts, observed_days }
            },
        )
    }

    proptest! {
        #[test]
        fn constants_of_a_class_are_usable(peers in prop::collection::vec(arbitrary(), 0..9), window in 1.0f64..90.0) {
            let class = ClassPrior::learn(&peers, window);
            prop_assert!((0.0..=1.0).contains(&class.weight()));
            let c = class.constants();
            for value in [c.prior_size, c.prior_size_weight, c.prior_size_variation, c.prior_size_variation_weight, c.prior_incidents] {
                prop_assert!(value.is_finite() && value > 0.0, "{c:?}");
            }
            prop_assert!(c.prior_exposure_days >= 0.0 && c.prior_exposure_days.is_finite());
            let forecast = IncidentForecast::fit_with(&c, &[3.0], &[0.1], 20.0, window);
            prop_assert!((0.0..=1.0).contains(&forecast.exceed(0.01)));
        }
    }
}
