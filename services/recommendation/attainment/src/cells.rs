//! A history in few cells: buckets that could belong to an episode stand alone, calm ones are added up by day. What is computed
//! from cells is what would be computed from buckets; a back-test reads them at each origin instead of the buckets.

use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};

use crate::CountPoint;
use crate::episodes::{DEVIATIONS_MIN, GAP_MS, HOUR_MS};

/// Share of the calmest day's failure ratio below which no chronic rate is looked for.
const CALMEST_SHARE: f64 = 0.8;

/// Cells by ascending start.
pub(crate) struct Cells {
    points: Vec<CountPoint>,
    weights: Vec<Weight>,
}

/// A span of cells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    /// Start of the first bucket, and sums.
    pub(crate) points: &'a [CountPoint],
    /// One for each of `points`.
    pub(crate) weights: &'a [Weight],
}

/// What a cell stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weight {
    /// Buckets.
    pub(crate) buckets: f64,
    /// Buckets among them with requests.
    pub(crate) busy: f64,
    /// Sum over buckets of bad squared over valid.
    pub(crate) square: f64,
    /// Start of the last bucket.
    pub(crate) last_ms: UnixMillis,
    /// Whether it is a bucket that may be told by itself.
    pub(crate) alone: bool,
    /// Whether it may be told with the rest of its hour, all of which stands alone.
    pub(crate) by_hour: bool,
}

impl Cells {
    /// Adds up what is calm at any chronic rate that may be found.
    ///
    /// The rate of no span is below half a failure in all requests, nor (after what is flagged is gone) below 0.8 of the calmest
    /// day's. How far failures stand out, `(bad - v p) / sqrt(v p (1 - p))`, falls with the rate `p` and with overdispersion, so
    /// what does not at that least rate never does. Sums end with the day (UTC) and at the time of day of `cut_ms`, so that the
    /// cells can be parted there on any day.
    pub(crate) fn of(points: &[CountPoint], cut_ms: UnixMillis) -> Self {
        let cut = cut_ms.rem_euclid(DAY_MS);
        let rate = least_rate(points);
        let by_hour = hours_that_stand_out(points, rate, cut);
        let may_be_told: Vec<bool> = points
            .iter()
            .zip(&by_hour)
            .map(|(point, by_hour)| *by_hour || stands_out(point.valid, point.bad, rate))
            .collect();
        let alone = with_neighbours(points, &may_be_told);
        let mut cells = Self { points: Vec::new(), weights: Vec::new() };
        let mut open: Option<((i64, bool), usize)> = None;
        for (i, point) in points.iter().enumerate() {
            let piece = (point.start_ms.div_euclid(DAY_MS), point.start_ms.rem_euclid(DAY_MS) < cut);
            match open.filter(|(of, _)| !alone[i] && *of == piece) {
                Some((_, at)) => cells.add(at, point),
                None => {
                    if !alone[i] {
                        open = Some((piece, cells.points.len()));
                    }
                    cells.points.push(*point);
                    cells.weights.push(Weight { alone: alone[i], by_hour: by_hour[i], ..Weight::of(point) });
                }
            }
        }
        cells
    }

    /// All of them.
    pub(crate) fn all(&self) -> Span<'_> {
        Span { points: &self.points, weights: &self.weights }
    }

    /// Those that start in `[start_ms, end_ms)`; both ends at the time of day that the cells were cut at.
    pub(crate) fn between(&self, start_ms: UnixMillis, end_ms: UnixMillis) -> Span<'_> {
        let at = |time_ms| self.points.partition_point(|point| point.start_ms < time_ms);
        let (first, end) = (at(start_ms), at(end_ms));
        self.all().slice(first, end.max(first))
    }

    fn add(&mut self, at: usize, point: &CountPoint) {
        let (sum, weight, more) = (&mut self.points[at], &mut self.weights[at], Weight::of(point));
        sum.valid += point.valid;
        sum.bad += point.bad;
        weight.buckets += more.buckets;
        weight.busy += more.busy;
        weight.square += more.square;
        weight.last_ms = more.last_ms;
    }
}

impl Weight {
    fn of(point: &CountPoint) -> Self {
        let busy = point.valid > 0.0;
        Self {
            buckets: 1.0,
            busy: f64::from(u8::from(busy)),
            square: if busy { point.bad * point.bad / point.valid } else { 0.0 },
            last_ms: point.start_ms,
            alone: true,
            by_hour: true,
        }
    }
}

impl<'a> Span<'a> {
    pub(crate) fn slice(self, first: usize, end: usize) -> Self {
        Self { points: &self.points[first..end], weights: &self.weights[first..end] }
    }

    /// Days of buckets present.
    pub(crate) fn covered_days(self) -> f64 {
        self.weights.iter().map(|weight| weight.buckets).sum::<f64>() * BUCKET_MS as f64 / DAY_MS as f64
    }

    pub(crate) fn valid(self) -> f64 {
        self.points.iter().map(|point| point.valid).sum()
    }

    pub(crate) fn bad(self) -> f64 {
        self.points.iter().map(|point| point.bad).sum()
    }

    /// Buckets with requests.
    pub(crate) fn busy(self) -> f64 {
        self.weights.iter().map(|weight| weight.busy).sum()
    }

    /// Start of the last bucket.
    pub(crate) fn last_ms(self) -> Option<UnixMillis> {
        self.weights.iter().map(|weight| weight.last_ms).max()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a CountPoint, &'a Weight)> {
        self.points.iter().zip(self.weights)
    }
}

/// The least chronic rate that is looked for.
fn least_rate(points: &[CountPoint]) -> f64 {
    let mut calmest = f64::INFINITY;
    let (mut valid, mut day) = (0.0, (i64::MIN, 0.0, 0.0));
    for point in points.iter().filter(|point| point.valid > 0.0) {
        valid += point.valid;
        let at = point.start_ms.div_euclid(DAY_MS);
        if at != day.0 {
            if day.1 > 0.0 {
                calmest = f64::min(calmest, day.2 / day.1);
            }
            day = (at, 0.0, 0.0);
        }
        day.1 += point.valid;
        day.2 += point.bad;
    }
    if day.1 > 0.0 {
        calmest = calmest.min(day.2 / day.1);
    }
    let calmest = if calmest.is_finite() { CALMEST_SHARE * calmest } else { 0.0 };
    calmest.max(0.5 / (valid + 1.0)).min(1.0)
}

fn stands_out(valid: f64, bad: f64, rate: f64) -> bool {
    let mean = rate * valid;
    bad >= 2.0 && bad > mean && (bad - mean) * (bad - mean) > DEVIATIONS_MIN * DEVIATIONS_MIN * mean * (1.0 - rate)
}

/// Buckets of hours that stand out, whole or up to the cut or after it.
fn hours_that_stand_out(points: &[CountPoint], rate: f64, cut: i64) -> Vec<bool> {
    let mut marks = vec![false; points.len()];
    let mut first = 0;
    while first < points.len() {
        let hour = points[first].start_ms.div_euclid(HOUR_MS);
        let mut end = first;
        // Valid and bad: before the cut, after it.
        let mut parts = [(0.0, 0.0); 2];
        while end < points.len() && points[end].start_ms.div_euclid(HOUR_MS) == hour {
            let part = &mut parts[usize::from(points[end].start_ms.rem_euclid(DAY_MS) >= cut)];
            part.0 += points[end].valid;
            part.1 += points[end].bad;
            end += 1;
        }
        let whole = (parts[0].0 + parts[1].0, parts[0].1 + parts[1].1);
        if [whole, parts[0], parts[1]].into_iter().any(|(valid, bad)| stands_out(valid, bad, rate)) {
            marks[first..end].fill(true);
        }
        first = end;
    }
    marks
}

/// Marks what lies within the calm that does not part an episode.
fn with_neighbours(points: &[CountPoint], marks: &[bool]) -> Vec<bool> {
    let mut near = marks.to_vec();
    let close = |a: usize, b: usize| points[b].start_ms - points[a].start_ms <= GAP_MS + BUCKET_MS;
    let mut last = None;
    for i in 0..points.len() {
        if marks[i] {
            last = Some(i);
        } else if last.is_some_and(|last| close(last, i)) {
            near[i] = true;
        }
    }
    let mut next = None;
    for i in (0..points.len()).rev() {
        if marks[i] {
            next = Some(i);
        } else if next.is_some_and(|next| close(i, next)) {
            near[i] = true;
        }
    }
    near
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Constants;
    use crate::prediction::predict_from;
    use proptest::prelude::*;

    /// Every bucket a cell of its own.
    fn buckets(points: &[CountPoint]) -> Cells {
        Cells { points: points.to_vec(), weights: points.iter().map(Weight::of).collect() }
    }

    /// Days of a level, bursts of some buckets, gaps, at any traffic.
    fn history() -> impl Strategy<Value = Vec<CountPoint>> {
        let day = (0.0f64..1.0, 0usize..300, 1usize..30, 0.0f64..1.0, any::<bool>());
        (prop::collection::vec(day, 4..40), 0.0f64..5.0, 0.0f64..3.5, 0u64..u64::MAX).prop_map(
            |(days, size, depth, seed)| {
                let (mut points, mut dice) = (Vec::new(), seed);
                let (valid, level) = (libm::pow(10.0, size), libm::pow(10.0, -depth) / 3.0);
                for (d, (wobble, start, length, severity, ill)) in days.into_iter().enumerate() {
                    for i in 0..288 {
                        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let noise = (dice >> 33) as f64 / (1u64 << 31) as f64;
                        let part =
                            if ill && (start..start + length).contains(&i) { severity } else { level * (0.5 + wobble) };
                        let valid = (valid * (0.5 + noise)).round();
                        let bad = (valid * part * 2.0 * noise + noise * noise).floor().min(valid);
                        if dice % 97 != 0 {
                            points.push(CountPoint { start_ms: (d * 288 + i) as i64 * BUCKET_MS, valid, bad });
                        }
                    }
                }
                points
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn cells_tell_what_buckets_tell(points in history(), cut in 0i64..DAY_MS, at in 3i64..40) {
            let cells = Cells::of(&points, cut);
            let now = at * DAY_MS + cut;
            let end = points.partition_point(|point| point.start_ms < now);
            let (few, many) = (cells.between(i64::MIN, now), buckets(&points[..end]));
            prop_assert!(few.points.windows(2).all(|pair| pair[0].start_ms < pair[1].start_ms));
            prop_assert!((few.covered_days() - many.all().covered_days()).abs() < 1e-9);
            let (few, many) = (predict_from(&Constants::DEFAULT, few, 28.0, now), predict_from(&Constants::DEFAULT, many.all(), 28.0, now));
            prop_assert_eq!(few.is_some(), many.is_some());
            let (Some(few), Some(many)) = (few, many) else { return Ok(()) };
            prop_assert_eq!(few.regimes.len(), many.regimes.len());
            let ends = |of: &crate::Prediction| of.episodes.iter().map(|e| (e.start_ms, e.end_ms)).collect::<Vec<_>>();
            prop_assert_eq!(ends(&few), ends(&many));
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-7 * (1.0 + a.abs().max(b.abs()));
            prop_assert!(close(few.intra_bucket_correlation, many.intra_bucket_correlation));
            prop_assert!(close(few.expected_window_count, many.expected_window_count));
            for budget in [0.0001, 0.001, 0.01, 0.1] {
                let (a, b) = (few.forecast.miss_probability(budget), many.forecast.miss_probability(budget));
                prop_assert!(close(a, b), "{} is not {}", a, b);
            }
        }
    }

    #[test]
    fn calm_days_become_a_few_cells() {
        let points: Vec<CountPoint> = (0..90 * 288)
            .map(|i| {
                let bad = if (5000..5006).contains(&i) { 400.0 } else { [1.0, 2.0, 3.0, 2.0][(i * 7 + i / 5) % 4] };
                CountPoint { start_ms: i as i64 * BUCKET_MS, valid: 1000.0, bad }
            })
            .collect();
        let cells = Cells::of(&points, 12 * HOUR_MS);
        assert!(cells.points.len() < 90 * 2 + 48, "{}", cells.points.len());
        assert_eq!((cells.all().valid(), cells.all().covered_days()), (90.0 * 288_000.0, 90.0));
    }
}
