use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::beta::Beta;
use crate::cells::{Cells, Span, Weight};
use crate::{CountPoint, CountSeries, Regime};

/// Greatest probability, under the chronic level, of a bucket that is called part of an episode; shared among all buckets
/// (`FAMILY / n`) where those are many.
const TAIL_MAX: f64 = 1e-6;
const FAMILY: f64 = 0.01;
/// Episodes closer than this are one: people count an incident once.
pub(crate) const GAP_MS: i64 = 15 * 60 * 1000;
/// Rounds of telling chronic buckets from episodes before the answer is taken as it is.
const ROUNDS: usize = 6;
/// A bucket this few deviations above its mean need not have its tail computed: it is above 1e-6 for every skewed count.
pub(crate) const DEVIATIONS_MIN: f64 = 4.0;
/// A single failure proves nothing.
const FAILURES_MIN: f64 = 2.0;
/// A regime shorter than this between two better ones is an incident, not a level.
const PASSING_DAYS: f64 = 14.0;
pub(crate) const HOUR_MS: i64 = 3_600_000;
const HOURS_OF_WEEK: i64 = 7 * 24;
/// What stands out in the same hour of at least so many weeks, and of so great a share of those there are, is chronic. Independent
/// incidents of two hours, one a day, fall into any one hour of the week in 10 of 13 weeks with a probability below 1e-4.
const RECURRING_WEEKS_MIN: i64 = 5;
const RECURRING_SHARE_MIN: f64 = 0.75;

/// Failure in excess of the chronic level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Start of its first bucket.
    pub start_ms: UnixMillis,
    /// End of its last bucket.
    pub end_ms: UnixMillis,
    /// Failures above the chronic level.
    pub excess_bad: f64,
    /// The same in bad-days: over the mean requests of a day.
    pub amount_days: f64,
}

/// A history told apart: a chronic level with its noise, and episodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToldApart {
    pub(crate) episodes: Vec<Episode>,
    /// Failures of each cell at the chronic level: its own, or inside an episode what the level leads to expect.
    pub(crate) chronic_bad: Vec<f64>,
    /// Correlation of outcomes within a bucket at the chronic level, in [0, 1].
    pub(crate) correlation: f64,
}

/// Finds the episodes of a history, oldest first.
///
/// In each regime: the chronic rate and the overdispersion of buckets (Beta-Binomial, by moments), from the calmer half of
/// its days at first and then from every bucket that is not improbable under the last rate, until that set stays. A bucket,
/// or an hour where buckets hold too few requests to tell, belongs to an episode when its tail probability is below 1e-6
/// (less when there are more than 10,000 buckets), but for what recurs in the same hour of most weeks. Episodes within 15 minutes
/// of one another are joined.
#[must_use]
pub fn episodes(series: &CountSeries, regimes: &[Regime]) -> Vec<Episode> {
    tell_apart(Cells::of(series.points(), 0).all(), regimes).episodes
}

pub(crate) fn tell_apart(cells: Span<'_>, regimes: &[Regime]) -> ToldApart {
    let segments = segments(cells, regimes);
    let buckets: f64 = cells.weights.iter().map(|weight| weight.buckets).sum();
    let tail_max = TAIL_MAX.min(FAMILY / buckets.max(1.0));
    let mut chronic: Vec<Chronic> = segments.iter().map(|segment| Chronic::of(*segment, tail_max)).collect();
    let rates: Vec<f64> = chronic.iter().map(|chronic| chronic.rate).collect();
    for (i, passing) in chronic.iter_mut().enumerate() {
        passing.call_off_if_passing(segments[i], i.checked_sub(1).map(|i| rates[i]), rates.get(i + 1).copied());
    }
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for part in &chronic {
        numerator += part.moments.surplus(part.rate);
        denominator += part.moments.pairs();
    }
    let correlation = if denominator > 0.0 { (numerator / denominator).clamp(0.0, 1.0) } else { 0.0 };
    let mut flagged = Vec::with_capacity(cells.points.len());
    chronic.iter().for_each(|part| flagged.extend_from_slice(&part.flagged));
    call_off_recurring(cells.points, &mut flagged);
    let of_level = chronic.iter().zip(&segments).flat_map(|(part, segment)| {
        let rate = part.rate;
        segment.points.iter().map(move |point| rate * point.valid)
    });
    let marks = flagged.into_iter().zip(of_level);
    let (episodes, chronic_bad) = join(cells, marks, cells.valid() / cells.covered_days().max(1e-9));
    ToldApart { episodes, chronic_bad, correlation }
}

fn segments<'a>(cells: Span<'a>, regimes: &[Regime]) -> Vec<Span<'a>> {
    let mut rest = cells;
    let mut segments = Vec::with_capacity(regimes.len().max(1));
    for regime in regimes.iter().skip(1) {
        let at = rest.points.partition_point(|point| point.start_ms < regime.start_ms);
        segments.push(rest.slice(0, at));
        rest = rest.slice(at, rest.points.len());
    }
    segments.push(rest);
    segments
}

/// Takes what happens in the same hour of most weeks for chronic: a job, not a run of bad luck. As incidents, many small ones that
/// always come would make the great ones among them look better known than they are.
fn call_off_recurring(points: &[CountPoint], flagged: &mut [bool]) {
    let hour_of = |point: &CountPoint| point.start_ms.div_euclid(HOUR_MS);
    let (Some(first), Some(end)) = (points.first().map(hour_of), points.last().map(hour_of)) else { return };
    // Weeks in which something stood out, by the hour of the week. What stands out stands alone, so that its hour is known.
    let mut weeks = [0; HOURS_OF_WEEK as usize];
    let mut last = None;
    for hour in points.iter().zip(&*flagged).filter(|(_, flagged)| **flagged).map(|(point, _)| hour_of(point)) {
        weeks[hour.rem_euclid(HOURS_OF_WEEK) as usize] += i64::from(last != Some(hour));
        last = Some(hour);
    }
    let up_to = |hour: i64, slot: i64| (hour - slot).div_euclid(HOURS_OF_WEEK);
    let recurs: Vec<bool> = (0..HOURS_OF_WEEK)
        .zip(weeks)
        .map(|(slot, weeks)| {
            let all = up_to(end, slot) - up_to(first - 1, slot);
            weeks >= RECURRING_WEEKS_MIN && weeks as f64 >= RECURRING_SHARE_MIN * all as f64
        })
        .collect();
    for (point, flagged) in points.iter().zip(flagged).filter(|(_, flagged)| **flagged) {
        *flagged = !recurs[hour_of(point).rem_euclid(HOURS_OF_WEEK) as usize];
    }
}

/// Joins flagged cells into episodes; returns them and the chronic failures of each cell.
fn join(cells: Span<'_>, marks: impl Iterator<Item = (bool, f64)>, daily_valid: f64) -> (Vec<Episode>, Vec<f64>) {
    let points = cells.points;
    let marks: Vec<(bool, f64)> = marks.collect();
    let mut chronic_bad: Vec<f64> = points.iter().map(|point| point.bad).collect();
    let mut episodes = Vec::new();
    let mut at = 0;
    while at < points.len() {
        if !marks[at].0 {
            at += 1;
            continue;
        }
        let (mut last, mut last_ms) = (at, cells.weights[at].last_ms);
        for next in at + 1..points.len() {
            if points[next].start_ms - last_ms - BUCKET_MS > GAP_MS {
                break;
            }
            if marks[next].0 {
                last = next;
                last_ms = last_ms.max(cells.weights[next].last_ms);
            }
        }
        let mut excess_bad = 0.0;
        for i in at..=last {
            excess_bad += points[i].bad - marks[i].1;
        }
        if excess_bad > 0.0 {
            for i in at..=last {
                chronic_bad[i] = marks[i].1;
            }
            let amount_days = if daily_valid > 0.0 { excess_bad / daily_valid } else { 0.0 };
            episodes.push(Episode {
                start_ms: points[at].start_ms,
                end_ms: last_ms + BUCKET_MS,
                excess_bad,
                amount_days,
            });
        }
        at = last + 1;
    }
    (episodes, chronic_bad)
}

/// Sums over the points of the chronic level.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Moments {
    count: f64,
    valid: f64,
    bad: f64,
    /// Sum of bad squared over valid.
    square: f64,
}

impl Moments {
    fn add(&mut self, point: &CountPoint, weight: &Weight) {
        self.count += weight.busy;
        self.valid += point.valid;
        self.bad += point.bad;
        self.square += weight.square;
    }

    /// Pearson's chi-square less what independent requests give.
    fn surplus(&self, rate: f64) -> f64 {
        let variance = rate * (1.0 - rate);
        if variance <= 0.0 || self.count < 2.0 {
            return 0.0;
        }
        let chi_square = (self.square - 2.0 * rate * self.bad + rate * rate * self.valid) / variance;
        chi_square - (self.count - 1.0)
    }

    fn pairs(&self) -> f64 {
        if self.count < 2.0 { 0.0 } else { (self.valid - self.count).max(0.0) }
    }

    fn correlation(&self, rate: f64) -> f64 {
        if self.pairs() > 0.0 { (self.surplus(rate) / self.pairs()).clamp(0.0, 1.0) } else { 0.0 }
    }

    fn rate(&self) -> f64 {
        (self.bad + 0.5) / (self.valid + 1.0)
    }
}

/// The chronic level of one regime and the points that do not belong to it.
struct Chronic {
    rate: f64,
    moments: Moments,
    flagged: Vec<bool>,
}

impl Chronic {
    fn of(cells: Span<'_>, tail_max: f64) -> Self {
        let points = cells.points;
        let suspects = Suspects::among(cells);
        let (mut rate, mut correlation) = (calm_rate(points), 0.0);
        let (mut flagged, mut now) = (vec![false; points.len()], vec![false; points.len()]);
        let mut moments = Moments::default();
        for round in 0..ROUNDS {
            suspects.flag(points, rate, correlation, tail_max, &mut now);
            let as_before = now == flagged;
            if as_before && round > 0 {
                // The level stays where it is.
                break;
            }
            moments = Moments::default();
            for ((point, weight), _) in cells.iter().zip(&now).filter(|(_, flagged)| !**flagged) {
                moments.add(point, weight);
            }
            let unchanged = as_before && rate == moments.rate();
            std::mem::swap(&mut flagged, &mut now);
            rate = moments.rate();
            correlation = moments.correlation(rate);
            if unchanged {
                break;
            }
        }
        Self { rate, moments, flagged }
    }

    /// Takes a short regime between two better ones for one long episode above the worse of them.
    fn call_off_if_passing(&mut self, cells: Span<'_>, before: Option<f64>, after: Option<f64>) {
        let (Some(before), Some(after), Some(first), Some(last_ms)) =
            (before, after, cells.points.first(), cells.last_ms())
        else {
            return;
        };
        let level = before.max(after);
        if self.rate > level && ((last_ms - first.start_ms) as f64) < PASSING_DAYS * DAY_MS as f64 {
            self.rate = level;
            self.moments = Moments::default();
            self.flagged.fill(true);
        }
    }
}

/// Failure ratio of the calmer half of the days.
fn calm_rate(points: &[CountPoint]) -> f64 {
    let mut days: Vec<(i64, f64, f64)> = Vec::new();
    for point in points.iter().filter(|point| point.valid > 0.0) {
        match days.last_mut() {
            Some((day_ms, valid, bad)) if (0..DAY_MS).contains(&point.start_ms.saturating_sub(*day_ms)) => {
                *valid += point.valid;
                *bad += point.bad;
            }
            _ => days.push((point.start_ms.div_euclid(DAY_MS) * DAY_MS, point.valid, point.bad)),
        }
    }
    days.sort_by(|a, b| (a.2 / a.1).total_cmp(&(b.2 / b.1)));
    let calm = &days[..days.len().div_ceil(2)];
    let (valid, bad) = calm.iter().fold((0.0, 0.0), |(valid, bad), day| (valid + day.1, bad + day.2));
    (bad + 0.5) / (valid + 1.0)
}

struct Hour {
    first: usize,
    end: usize,
    valid: f64,
    bad: f64,
}

/// What may be told from the chronic level, whatever that turns out to be: looked at anew for each.
struct Suspects {
    /// Cells that stand alone and failed as often as may ever be improbable.
    alone: Vec<usize>,
    hours: Vec<Hour>,
}

impl Suspects {
    fn among(cells: Span<'_>) -> Self {
        let mut suspects = Self { alone: Vec::new(), hours: Vec::new() };
        let mut hour_end = i64::MIN;
        for (i, (point, weight)) in cells.iter().enumerate() {
            if weight.alone && point.bad >= FAILURES_MIN {
                suspects.alone.push(i);
            }
            if !weight.by_hour {
                continue;
            }
            if point.start_ms >= hour_end {
                hour_end = (point.start_ms.div_euclid(HOUR_MS) * HOUR_MS).saturating_add(HOUR_MS);
                suspects.hours.push(Hour { first: i, end: i, valid: 0.0, bad: 0.0 });
            }
            if let Some(open) = suspects.hours.last_mut() {
                open.end = i + 1;
                open.valid += point.valid;
                open.bad += point.bad;
            }
        }
        suspects
    }

    /// Marks what is improbable under a chronic level, and nothing else.
    fn flag(&self, points: &[CountPoint], rate: f64, correlation: f64, tail_max: f64, flagged: &mut [bool]) {
        flagged.fill(false);
        for i in &self.alone {
            flagged[*i] = improbable(points[*i].valid, points[*i].bad, rate, correlation, tail_max);
        }
        for hour in self.hours.iter().filter(|hour| hour.bad > rate * hour.valid) {
            // Only what the single buckets have not told: an outage must not draw its hour's calm buckets in.
            let told = (hour.first..hour.end).filter(|i| flagged[*i]);
            let (valid, bad) =
                told.fold((hour.valid, hour.bad), |(valid, bad), i| (valid - points[i].valid, bad - points[i].bad));
            if improbable(valid, bad, rate, correlation, tail_max) {
                for i in hour.first..hour.end {
                    flagged[i] |= points[i].bad > rate * points[i].valid;
                }
            }
        }
    }
}

/// Whether so many failures among so many requests have a tail probability below the limit, as a Beta-Binomial count: a
/// negative binomial of the same mean and variance, or the binomial itself when outcomes are independent.
fn improbable(valid: f64, bad: f64, rate: f64, correlation: f64, tail_max: f64) -> bool {
    let mean = rate * valid;
    if bad < FAILURES_MIN || bad <= mean {
        return false;
    }
    let variance = mean * (1.0 - rate) * (1.0 + (valid - 1.0).max(0.0) * correlation);
    if (bad - mean) * (bad - mean) <= DEVIATIONS_MIN * DEVIATIONS_MIN * variance {
        return false;
    }
    let (size, below) = if variance > mean * (1.0 + 1e-9) {
        let size = mean * mean / (variance - mean);
        (size, mean / (mean + size))
    } else {
        (valid - bad + 1.0, rate)
    };
    Beta::new(bad, size).is_none_or(|law| law.is_below_less_than(below, tail_max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regimes;

    const PER_DAY: usize = 288;

    /// Thirty days of 1,000 requests a bucket with two failures each, give or take one, changed by `edit`.
    fn month(edit: impl Fn(usize, &mut CountPoint)) -> CountSeries {
        let points = (0..30 * PER_DAY).map(|i| {
            let bad = [1.0, 2.0, 3.0, 2.0][(i * 7 + i / 5) % 4];
            let mut point = CountPoint { start_ms: i as i64 * BUCKET_MS, valid: 1000.0, bad };
            edit(i, &mut point);
            point
        });
        CountSeries::new(points.collect())
    }

    fn found(series: &CountSeries) -> Vec<Episode> {
        episodes(series, &regimes(series.points()))
    }

    #[test]
    fn a_steady_level_has_no_episode() {
        assert_eq!(found(&month(|_, _| ())), []);
    }

    #[test]
    fn an_outage_is_one_episode_of_its_excess() {
        let series = month(|i, point| {
            if (1000..1012).contains(&i) || (1014..1016).contains(&i) {
                point.bad = 500.0;
            }
        });
        let found = found(&series);
        assert_eq!(found.len(), 1, "a calm of ten minutes does not part an episode: {found:?}");
        assert_eq!(found[0].start_ms, 1000 * BUCKET_MS);
        assert_eq!(found[0].end_ms, 1016 * BUCKET_MS);
        assert!((found[0].excess_bad - 14.0 * 498.0).abs() < 10.0, "{found:?}");
        assert!((found[0].amount_days - found[0].excess_bad / 288_000.0).abs() < 1e-9);
    }

    #[test]
    fn a_service_with_hardly_any_traffic_is_told_by_the_hour() {
        let series = CountSeries::new(
            (0..30 * PER_DAY)
                .map(|i| CountPoint {
                    start_ms: i as i64 * BUCKET_MS,
                    valid: 1.0,
                    bad: if i % 1000 == 999 || (1200..1236).contains(&i) { 1.0 } else { 0.0 },
                })
                .collect(),
        );
        let found = found(&series);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!((found[0].excess_bad - 36.0).abs() < 1.0);
    }

    #[test]
    fn a_bad_week_between_two_good_ones_is_an_incident() {
        let series = month(|i, point| {
            if (10 * PER_DAY..15 * PER_DAY).contains(&i) {
                point.bad *= 10.0;
            }
        });
        let found = found(&series);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!((found[0].amount_days - 5.0 * 0.018).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn nothing_is_lost_between_level_and_episodes() {
        let series = month(|i, point| {
            if i % 977 < 5 {
                point.bad += 80.0;
            }
        });
        let cells = Cells::of(series.points(), 0);
        let apart = tell_apart(cells.all(), &regimes(series.points()));
        let sum = apart.chronic_bad.iter().sum::<f64>()
            + apart.episodes.iter().map(|episode| episode.excess_bad).sum::<f64>();
        assert!((sum - series.bad()).abs() < 1e-6 * series.bad(), "{sum} against {}", series.bad());
        assert_eq!(apart.episodes.len(), 9, "{:?}", apart.episodes);
    }

    #[test]
    fn a_weekly_job_is_chronic_and_a_rare_outage_is_not() {
        let week = 7 * 288usize;
        let at = |i: usize| {
            let job = (100..112).contains(&(i % week));
            let outage = (5 * week + 700..5 * week + 712).contains(&i);
            let ratio = if outage {
                0.3
            } else if job {
                0.02
            } else {
                0.001
            };
            CountPoint { start_ms: i as i64 * BUCKET_MS, valid: 1000.0, bad: 1000.0 * ratio }
        };
        let series = CountSeries::new((0..12 * week).map(at).collect());
        let cells = Cells::of(series.points(), 0);
        let apart = tell_apart(cells.all(), &regimes(series.points()));
        assert_eq!(apart.episodes.len(), 1, "{:?}", apart.episodes);
        assert_eq!(apart.episodes[0].start_ms, (5 * week + 700) as i64 * BUCKET_MS);
        let job =
            cells.all().points.iter().position(|point| point.start_ms == 100 * BUCKET_MS).expect("it stands alone");
        assert_eq!(apart.chronic_bad[job], 20.0, "what the job fails is chronic");
        let short = CountSeries::new((0..4 * week).map(at).collect());
        assert_eq!(episodes(&short, &regimes(short.points())).len(), 4, "four weeks do not tell a habit");
    }
}
