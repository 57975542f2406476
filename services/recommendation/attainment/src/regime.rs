use attain_vocabulary::{DAY_MS, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::CountPoint;

/// Shortest regime, in days.
const DAYS_MIN: usize = 3;
/// Days of the running median that takes incidents of up to two days out of sight.
const MEDIAN_DAYS: usize = 5;
/// Variance of a median over that of a mean of as many Gaussian values, and so of its sums over those of independent days.
const MEDIAN_INFLATION: f64 = std::f64::consts::FRAC_PI_2;
/// Least day-to-day noise of the log-odds: a change of 10 % is not worth a regime, however heavy the traffic.
const NOISE_MIN: f64 = 0.1;

/// A span of days with one level of failure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Regime {
    /// Start of its first day (UTC).
    pub start_ms: UnixMillis,
    /// End of its last day.
    pub end_ms: UnixMillis,
    /// Mean log-odds of failure over its days, incidents of up to two days taken out.
    pub log_odds: f64,
}

/// Requests of a day (UTC).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day {
    pub(crate) start_ms: UnixMillis,
    pub(crate) valid: f64,
    pub(crate) bad: f64,
}

impl Day {
    /// Without a request yet.
    pub(crate) fn of(start_ms: UnixMillis) -> Self {
        Self { start_ms, valid: 0.0, bad: 0.0 }
    }
}

/// Cuts a history where its level of failure changes; one regime when it never does, none without requests.
///
/// PELT (Killick, Fearnhead & Eckley 2012) on the daily log-odds, Gaussian cost, penalty 3 ln n, at least 3 days each. A
/// one-day outage moves the mean of three days further than any penalty forbids, so a running median of five days comes
/// first. Noise: the median absolute day-to-day difference, at least 0.1.
#[must_use]
pub fn regimes(points: &[CountPoint]) -> Vec<Regime> {
    regimes_of(&days(points))
}

/// The same of days with requests, in order.
pub(crate) fn regimes_of(days: &[Day]) -> Vec<Regime> {
    let (Some(first), Some(last)) = (days.first(), days.last()) else {
        return Vec::new();
    };
    let levels = log_odds(days);
    let smooth = running_median(&levels);
    let cuts = change_points(&smooth, noise(&levels));
    let bounds: Vec<usize> = std::iter::once(0).chain(cuts).chain([days.len()]).collect();
    let mut regimes: Vec<Regime> = bounds
        .windows(2)
        .map(|pair| Regime {
            start_ms: days[pair[0]].start_ms,
            end_ms: days.get(pair[1]).map_or(last.start_ms + DAY_MS, |day| day.start_ms),
            log_odds: smooth[pair[0]..pair[1]].iter().sum::<f64>() / (pair[1] - pair[0]) as f64,
        })
        .collect();
    regimes[0].start_ms = first.start_ms;
    regimes
}

/// Days with requests.
pub(crate) fn days(points: &[CountPoint]) -> Vec<Day> {
    let mut days: Vec<Day> = Vec::new();
    for point in points.iter().filter(|point| point.valid > 0.0) {
        match days.last_mut() {
            Some(day) if (0..DAY_MS).contains(&point.start_ms.saturating_sub(day.start_ms)) => {
                day.valid += point.valid;
                day.bad += point.bad;
            }
            _ => {
                let start_ms = point.start_ms.div_euclid(DAY_MS) * DAY_MS;
                days.push(Day { start_ms, valid: point.valid, bad: point.bad });
            }
        }
    }
    days
}

/// Log-odds a day, half a failure at the overall rate added: a quiet day with little traffic looks like any other.
fn log_odds(days: &[Day]) -> Vec<f64> {
    let (valid, bad) = days.iter().fold((0.0, 0.0), |(valid, bad), day| (valid + day.valid, bad + day.bad));
    if bad <= 0.0 || bad >= valid {
        return vec![0.0; days.len()];
    }
    let (extra_bad, extra_good) = (0.5, 0.5 * (valid - bad) / bad);
    days.iter().map(|day| libm::log((day.bad + extra_bad) / (day.valid - day.bad + extra_good))).collect()
}

fn running_median(values: &[f64]) -> Vec<f64> {
    let half = MEDIAN_DAYS / 2;
    (0..values.len())
        .map(|i| {
            let near = &values[i.saturating_sub(half)..(i + half + 1).min(values.len())];
            let mut sorted = [0.0; MEDIAN_DAYS];
            sorted[..near.len()].copy_from_slice(near);
            median(&mut sorted[..near.len()])
        })
        .collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn noise(levels: &[f64]) -> f64 {
    let mut steps: Vec<f64> = levels.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    if steps.is_empty() {
        return NOISE_MIN;
    }
    // 1.4826: median absolute deviation to standard deviation of a Gaussian; sqrt 2: a difference of two days.
    (median(&mut steps) * 1.4826 / std::f64::consts::SQRT_2).max(NOISE_MIN)
}

/// First days of all segments but the first.
fn change_points(values: &[f64], noise: f64) -> Vec<usize> {
    let n = values.len();
    if n < 2 * DAYS_MIN {
        return Vec::new();
    }
    let variance = noise * noise * MEDIAN_INFLATION;
    let mut sums = vec![(0.0, 0.0)];
    for value in values {
        let (sum, square) = sums[sums.len() - 1];
        sums.push((sum + value, square + value * value));
    }
    let penalty = 3.0 * libm::log(n as f64);
    // best[t]: least cost of the first t days; -penalty pays for the first segment.
    let mut best = vec![f64::INFINITY; n + 1];
    let mut previous = vec![0; n + 1];
    best[0] = -penalty;
    // A start that can no longer win is kept until the end that beat it is itself usable as a start.
    let mut starts = Starts::default();
    starts.add(0, (0.0, 0.0), best[0]);
    let mut reached = Vec::with_capacity(n);
    for to in DAYS_MIN..=n {
        starts.cost(to, sums[to], variance, &mut reached);
        for (from, without_penalty) in starts.from.iter().zip(&reached) {
            if without_penalty + penalty < best[to] {
                (best[to], previous[to]) = (without_penalty + penalty, *from as usize);
            }
        }
        for (beaten, without_penalty) in starts.beaten.iter_mut().zip(&reached) {
            if *beaten == usize::MAX && *without_penalty > best[to] {
                *beaten = to;
            }
        }
        starts.drop_beaten(to);
        // A start becomes usable once the segment that it opens can have its least length at the next end.
        let next = to + 1 - DAYS_MIN;
        if next >= DAYS_MIN {
            starts.add(next, sums[next], best[next]);
        }
    }
    let mut cuts = Vec::new();
    let mut at = previous[n];
    while at > 0 {
        cuts.push(at);
        at = previous[at];
    }
    cuts.reverse();
    cuts
}

/// Where a last segment may begin, column by column: costs of several are computed at a time.
#[derive(Default)]
struct Starts {
    /// Its first day.
    from: Vec<f64>,
    /// Sums of values and of their squares before it.
    sums: Vec<f64>,
    squares: Vec<f64>,
    /// Least cost of what is before it.
    best: Vec<f64>,
    /// The end at which another start was better; `usize::MAX` before that.
    beaten: Vec<usize>,
}

impl Starts {
    fn add(&mut self, from: usize, (sum, square): (f64, f64), best: f64) {
        self.from.push(from as f64);
        self.sums.push(sum);
        self.squares.push(square);
        self.best.push(best);
        self.beaten.push(usize::MAX);
    }

    /// What a segment up to a day costs from each start, with what is before it.
    fn cost(&self, to: usize, (sum_to, square_to): (f64, f64), variance: f64, reached: &mut Vec<f64>) {
        let to = to as f64;
        let columns = self.from.iter().zip(&self.sums).zip(self.squares.iter().zip(&self.best));
        reached.clear();
        reached.extend(columns.map(|((from, sum), (square, best))| {
            let (sum, square) = (sum_to - sum, square_to - square);
            let square = square - sum * sum / (to - from);
            let square = if square > 0.0 { square } else { 0.0 };
            best + square / variance
        }));
    }

    /// Drops starts that cannot win any more.
    fn drop_beaten(&mut self, to: usize) {
        let kept = |beaten: &usize| to < beaten.saturating_add(DAYS_MIN);
        if self.beaten.iter().all(kept) {
            return;
        }
        let keep: Vec<bool> = self.beaten.iter().map(kept).collect();
        for column in [&mut self.from, &mut self.sums, &mut self.squares, &mut self.best] {
            let mut keep = keep.iter();
            column.retain(|_| keep.next().is_some_and(|keep| *keep));
        }
        self.beaten.retain(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(rates: &[f64]) -> Vec<CountPoint> {
        let wobble = [1.0, 1.1, 0.93, 1.04, 0.9, 1.07, 0.97];
        rates
            .iter()
            .enumerate()
            .map(|(i, rate)| CountPoint {
                start_ms: i as i64 * DAY_MS,
                valid: 1e5,
                bad: 1e5 * rate * wobble[i % wobble.len()],
            })
            .collect()
    }

    #[test]
    fn a_step_is_found_on_its_day() {
        let mut rates = vec![0.001; 40];
        rates.extend([0.004; 20]);
        let found = regimes(&history(&rates));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!((found[1].start_ms / DAY_MS - 40).abs() <= 1, "{found:?}");
        assert!((found[1].log_odds - found[0].log_odds - libm::log(4.0)).abs() < 0.1);
        assert_eq!(found[0].end_ms, found[1].start_ms);
    }

    #[test]
    fn an_outage_of_two_days_is_no_regime() {
        let mut rates = vec![0.001; 60];
        rates[30] = 0.2;
        rates[31] = 0.1;
        assert_eq!(regimes(&history(&rates)).len(), 1);
    }

    #[test]
    fn steady_quiet_and_empty_histories_have_no_change() {
        assert_eq!(regimes(&history(&[0.001; 90])).len(), 1);
        assert_eq!(regimes(&history(&[0.0; 30])).len(), 1);
        assert_eq!(regimes(&history(&[1.0; 30])).len(), 1);
        assert_eq!(regimes(&history(&[0.001])).len(), 1);
        assert!(regimes(&[]).is_empty());
    }

    #[test]
    fn three_levels_are_three_regimes() {
        let rates: Vec<f64> =
            [(0.001, 20), (0.01, 15), (0.002, 25)].iter().flat_map(|(rate, n)| vec![*rate; *n]).collect();
        let starts: Vec<i64> = regimes(&history(&rates)).iter().map(|regime| regime.start_ms / DAY_MS).collect();
        assert_eq!(starts.len(), 3, "{starts:?}");
        assert!((starts[1] - 20).abs() <= 1 && (starts[2] - 35).abs() <= 1, "{starts:?}");
    }
}
