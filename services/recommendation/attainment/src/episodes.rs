use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::beta::Beta;
use crate::cells::{Cells, Span, Weight};
use crate::regime::Day;
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
    let cells = Cells::of(series.points(), 0);
    tell_apart(cells.all(), &cells.all().days(), regimes).episodes
}

pub(crate) fn tell_apart(cells: Span<'_>, days: &[Day], regimes: &[Regime]) -> ToldApart {
    let totals = cells.totals();
    let segments = segments(cells, regimes);
    let tail_max = TAIL_MAX.min(FAMILY / totals.buckets.max(1.0));
    let mut chronic: Vec<Chronic> = segments.iter().map(|segment| Chronic::of(*segment, days, tail_max)).collect();
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
    let mut levels = Levels { ends: Vec::with_capacity(chronic.len()) };
    let mut flagged = Vec::with_capacity(cells.points.len());
    for part in &chronic {
        flagged.extend_from_slice(&part.flagged);
        levels.ends.push((flagged.len(), part.rate));
    }
    call_off_recurring(cells.points, &mut flagged);
    let daily_valid = totals.valid / totals.covered_days().max(1e-9);
    let (episodes, chronic_bad) = join(cells, &flagged, &levels, daily_valid);
    ToldApart { episodes, chronic_bad, correlation }
}

/// Chronic rates, each with the first cell after those that it holds for.
struct Levels {
    ends: Vec<(usize, f64)>,
}

impl Levels {
    /// Failures of a cell at the chronic level.
    fn of(&self, at: usize, point: &CountPoint) -> f64 {
        let segment = self.ends.partition_point(|(end, _)| *end <= at);
        self.ends.get(segment).map_or(0.0, |(_, rate)| rate * point.valid)
    }
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
fn join(cells: Span<'_>, flagged: &[bool], levels: &Levels, daily_valid: f64) -> (Vec<Episode>, Vec<f64>) {
    let points = cells.points;
    let mut chronic_bad: Vec<f64> = points.iter().map(|point| point.bad).collect();
    let mut episodes = Vec::new();
    let mut next = 0;
    while let Some(at) = flagged[next..].iter().position(|flagged| *flagged).map(|passed| next + passed) {
        let (mut last, mut last_ms) = (at, cells.weights[at].last_ms);
        for next in at + 1..points.len() {
            if points[next].start_ms - last_ms - BUCKET_MS > GAP_MS {
                break;
            }
            if flagged[next] {
                last = next;
                last_ms = last_ms.max(cells.weights[next].last_ms);
            }
        }
        let levels: Vec<f64> = (at..=last).map(|i| levels.of(i, &points[i])).collect();
        let excess_bad =
            points[at..=last].iter().zip(&levels).fold(0.0, |sum, (point, level)| sum + (point.bad - level));
        if excess_bad > 0.0 {
            chronic_bad[at..=last].copy_from_slice(&levels);
            let amount_days = if daily_valid > 0.0 { excess_bad / daily_valid } else { 0.0 };
            episodes.push(Episode {
                start_ms: points[at].start_ms,
                end_ms: last_ms + BUCKET_MS,
                excess_bad,
                amount_days,
            });
        }
        next = last + 1;
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
    /// Of cells that begin and end with a day, but for the last one, and the days of all.
    fn of(cells: Span<'_>, days: &[Day], tail_max: f64) -> Self {
        let points = cells.points;
        let suspects = cells.cells.suspects.within(cells);
        let (mut rate, mut correlation) = (calm_rate(cells, days), 0.0);
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

/// Failure ratio of the calmer half of the days, of which `days` are those of a longer history.
fn calm_rate(cells: Span<'_>, days: &[Day]) -> f64 {
    let (first, last) = match (cells.points.first(), cells.points.last()) {
        (Some(first), Some(last)) => (first.start_ms, last.start_ms),
        _ => (0, i64::MIN),
    };
    let from = days.partition_point(|day| day.start_ms.saturating_add(DAY_MS) <= first);
    let to = days.partition_point(|day| day.start_ms <= last);
    let mut days = days[from..to.max(from)].to_vec();
    days.sort_by(|a, b| (a.bad / a.valid).total_cmp(&(b.bad / b.valid)));
    let calm = &days[..days.len().div_ceil(2)];
    let (valid, bad) = calm.iter().fold((0.0, 0.0), |(valid, bad), day| (valid + day.valid, bad + day.bad));
    (bad + 0.5) / (valid + 1.0)
}

/// Cells of one hour that may be told together.
#[derive(Debug, Clone, Copy)]
struct Hour {
    first: usize,
    end: usize,
    valid: f64,
    bad: f64,
}

/// What may be told from the chronic level, whatever that turns out to be: looked at anew for each.
#[derive(Default)]
pub(crate) struct Suspects {
    /// Cells that stand alone and failed as often as may ever be improbable.
    alone: Vec<usize>,
    /// Requests and failures of each of them.
    valid: Vec<f64>,
    bad: Vec<f64>,
    hours: Vec<Hour>,
}

/// The same of a span of cells.
struct Within<'a> {
    /// The first cell of the span: others are told from it on.
    first: usize,
    alone: &'a [usize],
    valid: &'a [f64],
    bad: &'a [f64],
    hours: Vec<Hour>,
}

/// Cells that are looked at together.
const AT_ONCE: usize = 16;

impl Suspects {
    pub(crate) fn among(points: &[CountPoint], weights: &[Weight]) -> Self {
        let mut suspects = Self::default();
        let mut hour_end = i64::MIN;
        for (i, (point, weight)) in points.iter().zip(weights).enumerate() {
            if weight.alone && point.bad >= FAILURES_MIN {
                suspects.alone.push(i);
                suspects.valid.push(point.valid);
                suspects.bad.push(point.bad);
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

    /// Those in a span of the same cells, told from its first cell on: of an hour that reaches beyond it, what is within.
    fn within(&self, cells: Span<'_>) -> Within<'_> {
        let (first, end) = (cells.first, cells.first + cells.points.len());
        let among = self.alone.partition_point(|i| *i < first)..self.alone.partition_point(|i| *i < end);
        let hours = &self.hours
            [self.hours.partition_point(|hour| hour.end <= first)..self.hours.partition_point(|hour| hour.first < end)];
        let inside = |hour: &Hour| {
            let whole = hour.first >= first && hour.end <= end;
            let (from, to) = (hour.first.max(first) - first, hour.end.min(end) - first);
            if whole {
                return Hour { first: from, end: to, ..*hour };
            }
            let parts = cells.points[from..to].iter().zip(&cells.weights[from..to]);
            let (valid, bad) = parts
                .filter(|(_, weight)| weight.by_hour)
                .fold((0.0, 0.0), |(valid, bad), (point, _)| (valid + point.valid, bad + point.bad));
            Hour { first: from, end: to, valid, bad }
        };
        Within {
            first,
            alone: &self.alone[among.clone()],
            valid: &self.valid[among.clone()],
            bad: &self.bad[among],
            hours: hours.iter().map(inside).collect(),
        }
    }
}

impl Within<'_> {
    /// Marks what is improbable under a chronic level, and nothing else.
    fn flag(&self, points: &[CountPoint], rate: f64, correlation: f64, tail_max: f64, flagged: &mut [bool]) {
        flagged.fill(false);
        let columns = self.valid.chunks(AT_ONCE).zip(self.bad.chunks(AT_ONCE));
        for (alone, (valid, bad)) in self.alone.chunks(AT_ONCE).zip(columns) {
            // Of all, and then of few: what is asked of one says nothing of the next, and a guess that goes wrong costs more.
            let mut suspect = [0u64; AT_ONCE];
            for (suspect, (valid, bad)) in suspect.iter_mut().zip(valid.iter().zip(bad)) {
                *suspect = u64::from(stands_out(*valid, *bad, rate, correlation));
            }
            if suspect.iter().fold(0, |any, suspect| any | suspect) == 0 {
                continue;
            }
            for (i, (valid, bad)) in alone.iter().zip(valid.iter().zip(bad)) {
                flagged[i - self.first] = stands_out(*valid, *bad, rate, correlation)
                    && improbable(*valid, *bad, rate, correlation, tail_max);
            }
        }
        for hour in self.hours.iter().filter(|hour| hour.bad > rate * hour.valid) {
            // Only what the single buckets have not told: an outage must not draw its hour's calm buckets in.
            let told = (hour.first..hour.end).filter(|i| flagged[*i]);
            let (valid, bad) =
                told.fold((hour.valid, hour.bad), |(valid, bad), i| (valid - points[i].valid, bad - points[i].bad));
            if stands_out(valid, bad, rate, correlation) && improbable(valid, bad, rate, correlation, tail_max) {
                for i in hour.first..hour.end {
                    flagged[i] |= points[i].bad > rate * points[i].valid;
                }
            }
        }
    }
}

/// Whether failures are so many deviations above their mean that their tail may be below 1e-6.
fn stands_out(valid: f64, bad: f64, rate: f64, correlation: f64) -> bool {
    let excess = bad - rate * valid;
    let least = DEVIATIONS_MIN * DEVIATIONS_MIN * variance(valid, rate, correlation);
    (bad >= FAILURES_MIN) & (excess > 0.0) & (excess * excess > least)
}

/// Variance of a Beta-Binomial count.
fn variance(valid: f64, rate: f64, correlation: f64) -> f64 {
    rate * valid * (1.0 - rate) * (1.0 + (valid - 1.0).max(0.0) * correlation)
}

/// Whether so many failures, which stand out, among so many requests have a tail probability below the limit, as a Beta-Binomial count: a
/// negative binomial of the same mean and variance, or the binomial itself when outcomes are independent.
fn improbable(valid: f64, bad: f64, rate: f64, correlation: f64, tail_max: f64) -> bool {
    let (mean, variance) = (rate * valid, variance(valid, rate, correlation));
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
        let apart = tell_apart(cells.all(), &cells.all().days(), &regimes(series.points()));
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
        let apart = tell_apart(cells.all(), &cells.all().days(), &regimes(series.points()));
        assert_eq!(apart.episodes.len(), 1, "{:?}", apart.episodes);
        assert_eq!(apart.episodes[0].start_ms, (5 * week + 700) as i64 * BUCKET_MS);
        let job =
            cells.all().points.iter().position(|point| point.start_ms == 100 * BUCKET_MS).expect("it stands alone");
        assert_eq!(apart.chronic_bad[job], 20.0, "what the job fails is chronic");
        let short = CountSeries::new((0..4 * week).map(at).collect());
        assert_eq!(episodes(&short, &regimes(short.points())).len(), 4, "four weeks do not tell a habit");
    }
}
