//! A history in few cells: buckets that could belong to an episode stand alone, calm ones are added up by day. What is computed
//! from cells is what would be computed from buckets; a back-test reads them at each origin instead of the buckets.

use std::ops::Range;

use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};

use crate::CountPoint;
use crate::episodes::{DEVIATIONS_MIN, GAP_MS, Suspects};
use crate::regime::{Day, days};
use crate::timeline::{Timeline, sum_of_whole};

/// Share of the calmest day's failure ratio below which no chronic rate is looked for.
const CALMEST_SHARE: f64 = 0.8;

/// Cells by ascending start.
pub(crate) struct Cells {
    points: Vec<CountPoint>,
    weights: Vec<Weight>,
    parts: Vec<Part>,
    pub(crate) suspects: Suspects,
}

/// A part of a day, and what is added up until its end: asked for at every origin.
struct Part {
    /// The first cell after it.
    end: usize,
    /// Of its day.
    day: Day,
    /// Of all cells.
    totals: Totals,
}

/// Sums over cells.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) valid: f64,
    /// Buckets.
    pub(crate) buckets: f64,
    /// Buckets among them with requests.
    pub(crate) busy: f64,
}

/// A span of cells.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    /// Start of the first bucket, and sums.
    pub(crate) points: &'a [CountPoint],
    /// One for each of `points`.
    pub(crate) weights: &'a [Weight],
    /// The cells that it is a span of, and its first one among them.
    pub(crate) cells: &'a Cells,
    pub(crate) first: usize,
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
    /// Of points in order; see [`Self::along`].
    pub(crate) fn of(points: &[CountPoint], cut_ms: UnixMillis) -> Self {
        let bad: Vec<f64> = points.iter().map(|point| point.bad).collect();
        Self::along(&Timeline::of(points, cut_ms), &bad)
    }

    /// Adds up what is calm at any chronic rate that may be found: failures of each row of a timeline, at most as many as requests.
    ///
    /// The rate of no span is below half a failure in all requests, nor (after what is flagged is gone) below 0.8 of the calmest
    /// day's. How far failures stand out, `(bad - v p) / sqrt(v p (1 - p))`, falls with the rate `p` and with overdispersion, so
    /// what does not at that least rate never does. Sums end with the day (UTC) and at the time of day that the timeline was cut at, so that
    /// the cells can be parted there on any day.
    pub(crate) fn along(timeline: &Timeline, bad: &[f64]) -> Self {
        Self::of_hours(timeline, bad, failed::<false>(timeline, bad))
    }

    /// The same of whole failures.
    pub(crate) fn along_whole(timeline: &Timeline, bad: &[f64]) -> Self {
        let exact = timeline.adds_exactly();
        let hours = if exact { failed::<true>(timeline, bad) } else { failed::<false>(timeline, bad) };
        Self::of_hours(timeline, bad, hours)
    }

    fn of_hours(timeline: &Timeline, bad: &[f64], (hours, rate): (Vec<Failed>, f64)) -> Self {
        let marks = marks(timeline, bad, &hours, rate);
        let alone = with_neighbours(&timeline.starts, &marks);
        // What is calm has one cell for each part of a day.
        let room = alone.iter().map(ExactSizeIterator::len).sum::<usize>() + timeline.parts.len();
        let mut cells = Self::with_room(room);
        let mut open = Open { at: 0, end: 0, parts: timeline.parts.iter() };
        let (mut next, mut told) = (0, marks.iter().peekable());
        for span in alone {
            cells.add_calm(timeline, bad, next..span.start, &mut open);
            for i in span.clone() {
                while told.next_if(|mark| mark.rows.end <= i).is_some() {}
                let by_hour = told.peek().is_some_and(|mark| mark.by_hour && mark.rows.contains(&i));
                let point = CountPoint { start_ms: timeline.starts[i], valid: timeline.valid[i], bad: bad[i] };
                cells.points.push(point);
                cells.weights.push(Weight { by_hour, ..Weight::of(&point) });
            }
            next = span.end;
        }
        cells.add_calm(timeline, bad, next..bad.len(), &mut open);
        cells.indexed(timeline.now_ms)
    }

    fn with_room(cells: usize) -> Self {
        let (points, weights) = (Vec::with_capacity(cells), Vec::with_capacity(cells));
        Self { points, weights, parts: Vec::new(), suspects: Suspects::default() }
    }

    /// The same with what is added up for every span, once.
    fn indexed(mut self, cut_ms: UnixMillis) -> Self {
        self.suspects = Suspects::among(&self.points, &self.weights);
        let cut = cut_ms.rem_euclid(DAY_MS);
        let (mut at, mut totals, mut day) = (0, Totals::default(), Day::of(i64::MIN));
        while let Some(first) = self.points.get(at) {
            let start_ms = first.start_ms.div_euclid(DAY_MS) * DAY_MS;
            let end_ms = if first.start_ms < start_ms + cut { start_ms + cut } else { start_ms.saturating_add(DAY_MS) };
            let end = at + self.points[at..].partition_point(|point| point.start_ms < end_ms);
            day = if day.start_ms == start_ms { day } else { Day::of(start_ms) };
            for (point, weight) in self.points[at..end].iter().zip(&self.weights[at..end]) {
                totals = totals.and(point, weight);
                day.valid += point.valid;
                day.bad += point.bad;
            }
            self.parts.push(Part { end, day, totals });
            at = end;
        }
        self
    }

    /// Adds calm rows to the cell that is open, or to one that they open.
    fn add_calm(&mut self, timeline: &Timeline, bad: &[f64], calm: Range<usize>, open: &mut Open<'_>) {
        let mut next = calm.start;
        while next < calm.end {
            if next >= open.end {
                open.end = open.parts.find(|end| **end > next).copied().unwrap_or(calm.end);
                open.at = self.points.len();
                let first = CountPoint { start_ms: timeline.starts[next], valid: timeline.valid[next], bad: bad[next] };
                self.points.push(first);
                self.weights.push(Weight { alone: false, by_hour: false, ..Weight::of(&first) });
                next += 1;
            }
            let added = next..calm.end.min(open.end);
            next = added.end;
            if added.is_empty() {
                continue;
            }
            // Added up beside the cell: what is written to memory again and again is slow to read back.
            let (mut sum, mut weight) = (self.points[open.at], self.weights[open.at]);
            let columns = timeline.valid[added.clone()].chunks(AT_ONCE).zip(bad[added.clone()].chunks(AT_ONCE));
            for (valid, bad) in columns {
                let mut squares = [0.0; AT_ONCE];
                for (square_of, (valid, bad)) in squares.iter_mut().zip(valid.iter().zip(bad)) {
                    *square_of = square(*valid, *bad);
                }
                for ((valid, bad), square) in valid.iter().zip(bad).zip(&squares) {
                    sum.valid += valid;
                    sum.bad += bad;
                    weight.busy += f64::from(u8::from(*valid > 0.0));
                    weight.square += square;
                }
            }
            weight.buckets += added.len() as f64;
            weight.last_ms = timeline.starts[added.end - 1];
            (self.points[open.at], self.weights[open.at]) = (sum, weight);
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Span<'_> {
        Span { points: &self.points, weights: &self.weights, cells: self, first: 0 }
    }

    /// Those that start in `[start_ms, end_ms)`; both ends at the time of day that the cells were cut at.
    pub(crate) fn between(&self, start_ms: UnixMillis, end_ms: UnixMillis) -> Span<'_> {
        let at = |time_ms| self.points.partition_point(|point| point.start_ms < time_ms);
        let (first, end) = (at(start_ms), at(end_ms));
        self.all().slice(first, end.max(first))
    }
}

impl Weight {
    fn of(point: &CountPoint) -> Self {
        let busy = point.valid > 0.0;
        Self {
            buckets: 1.0,
            busy: f64::from(u8::from(busy)),
            square: square(point.valid, point.bad),
            last_ms: point.start_ms,
            alone: true,
            by_hour: true,
        }
    }
}

impl Totals {
    fn and(self, point: &CountPoint, weight: &Weight) -> Self {
        Self { valid: self.valid + point.valid, buckets: self.buckets + weight.buckets, busy: self.busy + weight.busy }
    }

    /// Days of buckets present.
    pub(crate) fn covered_days(self) -> f64 {
        self.buckets * BUCKET_MS as f64 / DAY_MS as f64
    }
}

impl<'a> Span<'a> {
    pub(crate) fn slice(self, first: usize, end: usize) -> Self {
        let (points, weights) = (&self.points[first..end], &self.weights[first..end]);
        Self { points, weights, first: self.first + first, ..self }
    }

    /// Requests and buckets.
    pub(crate) fn totals(self) -> Totals {
        match self.parts().last() {
            Some(last) => last.totals,
            None => self.iter().fold(Totals::default(), |totals, (point, weight)| totals.and(point, weight)),
        }
    }

    /// Days with requests.
    pub(crate) fn days(self) -> Vec<Day> {
        let parts = self.parts();
        if parts.is_empty() {
            return days(self.points);
        }
        let whole = |at: &usize| parts.get(at + 1).is_none_or(|next| next.day.start_ms != parts[*at].day.start_ms);
        (0..parts.len()).filter(whole).map(|at| parts[at].day).filter(|day| day.valid > 0.0).collect()
    }

    /// The parts of days that it is made of: none unless it is the history up to the end of one.
    fn parts(self) -> &'a [Part] {
        let parts = &self.cells.parts;
        let count = parts.partition_point(|part| part.end <= self.points.len());
        let whole = self.first == 0 && count > 0 && parts[count - 1].end == self.points.len();
        if whole { &parts[..count] } else { &[] }
    }

    /// Days of buckets present.
    pub(crate) fn covered_days(self) -> f64 {
        self.totals().covered_days()
    }

    pub(crate) fn valid(self) -> f64 {
        self.totals().valid
    }

    pub(crate) fn bad(self) -> f64 {
        self.points.iter().map(|point| point.bad).sum()
    }

    /// Start of the last bucket.
    pub(crate) fn last_ms(self) -> Option<UnixMillis> {
        let last = self.points.last()?;
        // No cell is longer than a day, so only those that begin within one before the last reach beyond it.
        let near = self.iter().rev().take_while(|(point, _)| last.start_ms - point.start_ms < DAY_MS);
        near.map(|(_, weight)| weight.last_ms).max()
    }

    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = (&'a CountPoint, &'a Weight)> {
        self.points.iter().zip(self.weights)
    }
}

/// The calm cell that further rows go to, up to its end.
struct Open<'a> {
    at: usize,
    end: usize,
    parts: std::slice::Iter<'a, usize>,
}

/// Rows whose squares are computed together.
const AT_ONCE: usize = 8;

/// Bad squared over valid.
fn square(valid: f64, bad: f64) -> f64 {
    let square = bad * bad / valid;
    if bad > 0.0 { square } else { 0.0 }
}

/// Failures of one hour: before the cut, after it, and most of a row.
struct Failed {
    parts: [f64; 2],
    most: f64,
}

/// Rows that may be told: one by itself, or a whole hour.
struct Mark {
    rows: Range<usize>,
    by_hour: bool,
}

/// Failures by hours, and the least chronic rate that is looked for: one pass over the rows. Where they are `WHOLE`, in any order.
fn failed<const WHOLE: bool>(timeline: &Timeline, bad: &[f64]) -> (Vec<Failed>, f64) {
    let mut failed = Vec::with_capacity(timeline.hours.len());
    let (mut calmest, mut next) = (f64::INFINITY, 0);
    for day in &timeline.days {
        let mut sum = 0.0;
        for hour in &timeline.hours[next..day.hours_end] {
            let before = Running { day: sum, ..Running::default() }.and::<WHOLE>(&bad[hour.first..hour.cut_at]);
            let after = Running { part: 0.0, ..before }.and::<WHOLE>(&bad[hour.cut_at..hour.end]);
            failed.push(Failed { parts: [before.part, after.part], most: after.most });
            sum = after.day;
        }
        next = day.hours_end;
        if day.valid > 0.0 {
            calmest = f64::min(calmest, sum / day.valid);
        }
    }
    let calmest = if calmest.is_finite() { CALMEST_SHARE * calmest } else { 0.0 };
    (failed, calmest.max(0.5 / (timeline.valid_sum + 1.0)).min(1.0))
}

/// Sums while rows are passed over: handed on by value, so that they stay in registers.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    day: f64,
    /// Of the part of an hour that was passed over last.
    part: f64,
    most: f64,
}

impl Running {
    #[inline]
    fn and<const WHOLE: bool>(mut self, bad: &[f64]) -> Self {
        if WHOLE {
            let part = sum_of_whole(bad);
            self.most = bad.iter().fold(self.most, |most, bad| if *bad > most { *bad } else { most });
            return Self { part: self.part + part, day: self.day + part, ..self };
        }
        for bad in bad {
            self.part += bad;
            self.day += bad;
            self.most = if *bad > self.most { *bad } else { self.most };
        }
        self
    }
}

fn stands_out(valid: f64, bad: f64, rate: f64) -> bool {
    let mean = rate * valid;
    bad >= 2.0 && bad > mean && (bad - mean) * (bad - mean) > DEVIATIONS_MIN * DEVIATIONS_MIN * mean * (1.0 - rate)
}

/// Hours that stand out, whole or up to the cut or after it; else their rows that do.
fn marks(timeline: &Timeline, bad: &[f64], failed: &[Failed], rate: f64) -> Vec<Mark> {
    let mut marks = Vec::new();
    for (hour, Failed { parts, most }) in timeline.hours.iter().zip(failed) {
        let (rows, valid) = (hour.first..hour.end, hour.valid);
        let whole = (valid[0] + valid[1], parts[0] + parts[1]);
        let told = [whole, (valid[0], parts[0]), (valid[1], parts[1])];
        if told.into_iter().any(|(valid, bad)| stands_out(valid, bad, rate)) {
            marks.push(Mark { rows, by_hour: true });
        } else if stands_out(hour.valid_min, *most, rate) {
            // Where that does not, no row of the hour does: more requests and fewer failures stand out less.
            let alone = rows.filter(|i| stands_out(timeline.valid[*i], bad[*i], rate));
            marks.extend(alone.map(|i| Mark { rows: i..i + 1, by_hour: false }));
        }
    }
    marks
}

/// What is marked, with what lies within the calm that does not part an episode: spans that do not touch.
fn with_neighbours(starts: &[UnixMillis], marks: &[Mark]) -> Vec<Range<usize>> {
    let close = |a: usize, b: usize| starts[b] - starts[a] <= GAP_MS + BUCKET_MS;
    let mut spans: Vec<Range<usize>> = Vec::new();
    for Mark { rows, .. } in marks {
        let before = (0..rows.start).rev().take_while(|i| close(*i, rows.start)).count();
        let after = (rows.end..starts.len()).take_while(|i| close(rows.end - 1, *i)).count();
        let span = rows.start - before..rows.end + after;
        match spans.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => spans.push(span),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Constants;
    use crate::episodes::HOUR_MS;
    use crate::prediction::predict_from;
    use proptest::prelude::*;

    /// Every bucket a cell of its own.
    fn buckets(points: &[CountPoint], cut: i64) -> Cells {
        let weights = points.iter().map(Weight::of).collect();
        Cells { points: points.to_vec(), weights, ..Cells::with_room(0) }.indexed(cut)
    }

    /// The slow way: a mark for every bucket, one pass for each question.
    fn step_by_step(points: &[CountPoint], cut_ms: UnixMillis) -> Cells {
        let cut = cut_ms.rem_euclid(DAY_MS);
        let rate = least_rate(points);
        let by_hour = hours_that_stand_out(points, rate, cut);
        let marked: Vec<bool> =
            points.iter().zip(&by_hour).map(|(point, by)| *by || stands_out(point.valid, point.bad, rate)).collect();
        let near = |i: usize| {
            let close = |j: &usize| (points[*j].start_ms - points[i].start_ms).abs() <= GAP_MS + BUCKET_MS;
            (i.saturating_sub(8)..points.len().min(i + 9)).filter(close).any(|j| marked[j])
        };
        let mut cells = Cells::with_room(0);
        let mut open: Option<((i64, bool), usize)> = None;
        for (i, point) in points.iter().enumerate() {
            let (alone, weight) = (near(i), Weight::of(point));
            let piece = (point.start_ms.div_euclid(DAY_MS), point.start_ms.rem_euclid(DAY_MS) < cut);
            match open.filter(|(of, _)| !alone && *of == piece) {
                Some((_, at)) => {
                    let (sum, all) = (&mut cells.points[at], &mut cells.weights[at]);
                    sum.valid += point.valid;
                    sum.bad += point.bad;
                    all.buckets += weight.buckets;
                    all.busy += weight.busy;
                    all.square += weight.square;
                    all.last_ms = weight.last_ms;
                }
                None => {
                    if !alone {
                        open = Some((piece, cells.points.len()));
                    }
                    cells.points.push(*point);
                    cells.weights.push(Weight { alone, by_hour: by_hour[i], ..weight });
                }
            }
        }
        cells
    }

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
        fn one_pass_gives_the_same_bits(points in history(), cut in 0i64..DAY_MS) {
            for cut in [cut, 0] {
                let (fast, slow) = (Cells::of(&points, cut), step_by_step(&points, cut));
                prop_assert_eq!(&fast.points, &slow.points);
                let bad: Vec<f64> = points.iter().map(|point| point.bad).collect();
                let whole = Cells::along_whole(&Timeline::of(&points, cut), &bad);
                prop_assert_eq!((&whole.points, &whole.weights), (&slow.points, &slow.weights));
                prop_assert_eq!(&fast.weights, &slow.weights);
            }
        }

        #[test]
        fn cells_tell_what_buckets_tell(points in history(), cut in 0i64..DAY_MS, at in 3i64..40) {
            let cells = Cells::of(&points, cut);
            let now = at * DAY_MS + cut;
            let end = points.partition_point(|point| point.start_ms < now);
            let (few, many) = (cells.between(i64::MIN, now), buckets(&points[..end], cut));
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
                prop_assert!((a - b).abs() <= 1e-7, "{} is not {}", a, b);
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
