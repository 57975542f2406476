//! One series of data points: what a new point adds to what was counted, and the state kept in between.
//!
//! A series is a metric with its resource, scope and attributes. Points of several processes may come under the same name;
//! their start times tell them apart, so a state holds one stream for each start, up to a bound: one that is silent makes
//! room, one that is not keeps its place, and whoever finds none is refused. Cumulative: a point adds its difference to the
//! stream's last one; the first point of a stream counts from its start if that was within ten minutes, else it is a
//! baseline only (nobody knows when the rest happened), as it is where the stream may be one that was forgotten. Delta: a
//! point counts once. Points that came before, sent again by a careful sender, add nothing. A count that goes down without
//! a new start began again from zero.

use attain_vocabulary::{DAY_MS, LatencyHistogram, UnixMillis};
use prost::Message;

/// How long before its first point a cumulative stream may have started to be counted from the start, in nanoseconds.
const FIRST_POINT_SPAN_NS: u64 = 600 * 1_000_000_000;
/// How long a stream must be silent to make room for another one, in nanoseconds: twice the longest interval in use.
const STREAM_SILENCE_NS: u64 = 600 * 1_000_000_000;
/// How long a silent stream is remembered, in nanoseconds.
const STREAM_AGE_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// Finest resolution that a latency histogram has.
const SCALE_FINEST: i32 = 20;

/// Where the states of series are kept.
pub(super) const KEY_PREFIX: &str = "otlp-series/";

/// The key of a series on a day: states move on from day to day, so that silent ones can be forgotten by their keys.
pub(super) fn key(day: i64, series: &str) -> String {
    format!("{}{series}", first_key_of_day(day))
}

/// Where it is counted how many series of a day are kept; sorts among the day's keys, and is forgotten with them.
pub(super) fn count_key(day: i64) -> String {
    key(day, "count")
}

/// How many series of a day are kept; 0 where nobody counted.
pub(super) fn read_count(state: Option<&Vec<u8>>) -> u64 {
    state.and_then(|state| state.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// The same as it is kept.
pub(super) fn written_count(count: u64) -> Vec<u8> {
    count.to_be_bytes().to_vec()
}

/// Sorts before all keys of this day, and after those of earlier ones.
pub(super) fn first_key_of_day(day: i64) -> String {
    format!("{KEY_PREFIX}{day:08}/")
}

/// The day of a time.
pub(super) fn day(now_ms: UnixMillis) -> i64 {
    now_ms.div_euclid(DAY_MS)
}

/// One data point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) cumulative: bool,
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) count: u64,
    pub(super) shape: Shape,
}

/// How the observations of a point are spread, in the unit of the metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Shape {
    #[default]
    Unknown,
    Explicit {
        bounds: Vec<f64>,
        counts: Vec<u64>,
    },
    Exponential {
        scale: i32,
        zero_count: u64,
        /// What is at most this counts as zero.
        zero_threshold: f64,
        offset: i32,
        counts: Vec<u64>,
    },
}

/// What a point adds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Added {
    /// So many observations more.
    Count { count: u64, shape: Shape },
    /// The same, after the series began again without saying so.
    Reset { count: u64, shape: Shape },
    /// Nothing: it only says where the stream stands.
    Baseline,
    /// Nothing: it was counted before.
    Duplicate,
    /// Nothing: it is of a process that is one too many.
    Surplus,
}

/// The state of a series.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Series {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
    /// The newest start of a stream that was forgotten: whoever started then or before may have been counted already.
    #[prost(fixed64, tag = "2")]
    forgotten_start_ns: u64,
    /// Delta points that were counted lately, oldest first.
    #[prost(message, repeated, tag = "3")]
    counted: Vec<Interval>,
}

/// What a delta point is of.
#[derive(Clone, Copy, PartialEq, Message)]
struct Interval {
    #[prost(fixed64, tag = "1")]
    start_ns: u64,
    #[prost(fixed64, tag = "2")]
    time_ns: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(fixed64, tag = "1")]
    start_ns: u64,
    #[prost(fixed64, tag = "2")]
    time_ns: u64,
    #[prost(uint64, tag = "3")]
    count: u64,
    #[prost(double, repeated, tag = "4")]
    bounds: Vec<f64>,
    #[prost(uint64, repeated, tag = "5")]
    counts: Vec<u64>,
    #[prost(sint32, optional, tag = "6")]
    scale: Option<i32>,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(sint32, tag = "8")]
    offset: i32,
    #[prost(double, tag = "9")]
    zero_threshold: f64,
}

impl Series {
    /// A state that was stored; one that cannot be read is as none.
    pub(super) fn read(state: Option<&Vec<u8>>) -> Self {
        state.and_then(|state| Self::decode(state.as_slice()).ok()).unwrap_or_default()
    }

    /// Takes a point: what it adds, and how many silent streams had to make room for it.
    pub(super) fn take(&mut self, point: &Point, streams_max: usize) -> (Added, usize) {
        if point.cumulative {
            self.take_cumulative(point, streams_max)
        } else {
            (self.take_delta(point, streams_max), 0)
        }
    }

    fn take_delta(&mut self, point: &Point, points_max: usize) -> Added {
        let interval = Interval { start_ns: point.start_ns, time_ns: point.time_ns };
        // Earlier versions kept them among the streams.
        let of_before = |stream: &Stream| (stream.start_ns, stream.time_ns) == (point.start_ns, point.time_ns);
        if self.counted.contains(&interval) || self.streams.iter().any(of_before) {
            return Added::Duplicate;
        }
        let place = self.counted.partition_point(|kept| kept.time_ns <= interval.time_ns);
        self.counted.insert(place, interval);
        let newest = self.counted.last().map_or(0, |kept| kept.time_ns);
        self.counted.retain(|kept| newest - kept.time_ns <= STREAM_AGE_NS);
        let surplus = self.counted.len().saturating_sub(points_max);
        self.counted.drain(..surplus);
        Added::Count { count: point.count, shape: point.shape.clone() }
    }

    fn take_cumulative(&mut self, point: &Point, streams_max: usize) -> (Added, usize) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.start_ns == point.start_ns) {
            return (stream.go_on(point), 0);
        }
        let evicted = self.make_room(point.time_ns, streams_max);
        if self.streams.len() >= streams_max {
            return (Added::Surplus, evicted);
        }
        self.streams.push(Stream::at(point));
        // A start that is the time of the point itself says that the true one is not known.
        let known = point.start_ns > self.forgotten_start_ns && point.start_ns < point.time_ns;
        let added = if known && point.time_ns - point.start_ns <= FIRST_POINT_SPAN_NS {
            Added::Count { count: point.count, shape: point.shape.clone() }
        } else {
            Added::Baseline
        };
        (added, evicted)
    }

    /// Forgets streams that were silent for a day, and where that is not enough the one that has been silent for longest;
    /// how many had to go before their time.
    fn make_room(&mut self, time_ns: u64, streams_max: usize) -> usize {
        let newest = self.streams.iter().map(|stream| stream.time_ns).fold(time_ns, u64::max);
        self.forget(|stream| newest - stream.time_ns > STREAM_AGE_NS);
        if self.streams.len() < streams_max {
            return 0;
        }
        let Some(quietest) = self.streams.iter().map(|stream| stream.time_ns).min() else { return 0 };
        if newest - quietest <= STREAM_SILENCE_NS {
            return 0;
        }
        self.forget(|stream| stream.time_ns == quietest)
    }

    fn forget(&mut self, old: impl Fn(&Stream) -> bool) -> usize {
        let before = self.streams.len();
        let start_ns = self.streams.iter().filter(|stream| old(stream)).map(|stream| stream.start_ns).max();
        self.forgotten_start_ns = self.forgotten_start_ns.max(start_ns.unwrap_or(0));
        self.streams.retain(|stream| !old(stream));
        before - self.streams.len()
    }
}

impl Stream {
    fn at(point: &Point) -> Self {
        let stream = Self { start_ns: point.start_ns, time_ns: point.time_ns, count: point.count, ..Self::default() };
        match point.shape.clone() {
            Shape::Unknown => stream,
            Shape::Explicit { bounds, counts } => Self { bounds, counts, ..stream },
            Shape::Exponential { scale, zero_count, zero_threshold, offset, counts } => {
                Self { scale: Some(scale), zero_count, zero_threshold, offset, counts, ..stream }
            }
        }
    }

    /// Takes the stream's next point.
    fn go_on(&mut self, point: &Point) -> Added {
        if point.time_ns <= self.time_ns {
            return Added::Duplicate;
        }
        let before = std::mem::replace(self, Self::at(point));
        match (point.count.checked_sub(before.count), point.shape.since(&before.shape())) {
            (Some(count), Difference::Is(shape)) => Added::Count { count, shape },
            _ => Added::Reset { count: point.count, shape: point.shape.clone() },
        }
    }

    fn shape(self) -> Shape {
        match self.scale {
            Some(scale) => Shape::Exponential {
                scale,
                zero_count: self.zero_count,
                zero_threshold: self.zero_threshold,
                offset: self.offset,
                counts: self.counts,
            },
            None if self.bounds.is_empty() => Shape::Unknown,
            None => Shape::Explicit { bounds: self.bounds, counts: self.counts },
        }
    }
}

#[derive(Debug, PartialEq)]
enum Difference {
    Is(Shape),
    /// Something went down.
    WentDown,
}

impl Shape {
    /// What came since an earlier shape of the same stream; unknown where the two cannot be compared.
    fn since(&self, before: &Self) -> Difference {
        match (self, before) {
            (Self::Explicit { bounds, counts }, Self::Explicit { bounds: earlier_bounds, counts: earlier }) => {
                if bounds != earlier_bounds || counts.len() != earlier.len() {
                    return Difference::Is(Self::Unknown);
                }
                let since: Option<Vec<u64>> =
                    counts.iter().zip(earlier).map(|(now, before)| now.checked_sub(*before)).collect();
                since.map_or(Difference::WentDown, |counts| {
                    Difference::Is(Self::Explicit { bounds: bounds.clone(), counts })
                })
            }
            (Self::Exponential { scale, .. }, Self::Exponential { scale: earlier, .. }) if scale <= earlier => {
                self.since_exponential(before, (earlier - scale) as u32)
            }
            _ => Difference::Is(Self::Unknown),
        }
    }

    /// `steps` of resolution are lost since: buckets of the earlier shape fold into those of this one, and those that this
    /// one has no place above zero for into zero.
    fn since_exponential(&self, before: &Self, steps: u32) -> Difference {
        let (
            Self::Exponential { scale, zero_count, zero_threshold, offset, counts },
            Self::Exponential {
                zero_count: earlier_zeros,
                zero_threshold: earlier_threshold,
                offset: earlier_offset,
                counts: earlier,
                ..
            },
        ) = (self, before)
        else {
            return Difference::Is(Self::Unknown);
        };
        let (mut counts, mut earlier_zeros) = (counts.clone(), *earlier_zeros);
        let width = libm::exp2(-f64::from(*scale));
        for (place, count) in earlier.iter().enumerate().filter(|(_, count)| **count > 0) {
            let index = (i64::from(*earlier_offset) + place as i64) >> steps.min(63);
            // Rounding must not decide: the threshold is a bound of buckets where it is anything.
            let swallowed =
                zero_threshold > earlier_threshold && libm::exp2((index as f64 + 0.5) * width) <= *zero_threshold;
            if swallowed {
                earlier_zeros = earlier_zeros.saturating_add(*count);
                continue;
            }
            let left = usize::try_from(index - i64::from(*offset)).ok().and_then(|at| counts.get_mut(at));
            match left.and_then(|left| left.checked_sub(*count).map(|rest| *left = rest)) {
                Some(()) => {}
                None => return Difference::WentDown,
            }
        }
        match zero_count.checked_sub(earlier_zeros) {
            Some(zero_count) => Difference::Is(Self::Exponential {
                scale: *scale,
                zero_count,
                zero_threshold: *zero_threshold,
                offset: *offset,
                counts,
            }),
            None => Difference::WentDown,
        }
    }

    /// As a histogram of milliseconds, the unit of the metric being so many; `None` where it is unknown or malformed.
    pub(super) fn latency(&self, unit_ms: f64) -> Option<LatencyHistogram> {
        match self {
            Self::Unknown => None,
            Self::Explicit { bounds, counts } => {
                let bounds: Vec<f64> = bounds.iter().map(|bound| bound * unit_ms).collect();
                LatencyHistogram::from_explicit(&bounds, counts).ok()
            }
            Self::Exponential { scale, zero_count, offset, counts, .. } => {
                let (scale, offset, counts) = at_most_finest(*scale, *offset, counts);
                let scale = i8::try_from(scale).ok()?;
                let same_unit = LatencyHistogram::new(scale, *zero_count, offset, counts).ok()?;
                if unit_ms == 1.0 { Some(same_unit) } else { Some(in_milliseconds(&same_unit, unit_ms)) }
            }
        }
    }
}

/// The same at the finest resolution that is kept: of a finer one several buckets become one.
fn at_most_finest(scale: i32, offset: i32, counts: &[u64]) -> (i32, i32, Vec<u64>) {
    let steps = scale.saturating_sub(SCALE_FINEST);
    if steps <= 0 || counts.is_empty() {
        return (scale, offset, counts.to_vec());
    }
    let index = |place: usize| (i64::from(offset) + place as i64) >> steps.min(63);
    let first = index(0);
    let mut coarser = vec![0u64; (index(counts.len() - 1) - first) as usize + 1];
    for (place, count) in counts.iter().enumerate() {
        let kept = &mut coarser[(index(place) - first) as usize];
        *kept = kept.saturating_add(*count);
    }
    (SCALE_FINEST, first as i32, coarser)
}

/// Each bucket put where its middle (on the logarithmic scale) lies in milliseconds: exact to half a bucket.
fn in_milliseconds(histogram: &LatencyHistogram, unit_ms: f64) -> LatencyHistogram {
    let mut converted = LatencyHistogram::empty();
    converted.record_many(0.0, histogram.zero_count());
    let width = libm::exp2(-f64::from(histogram.scale()));
    for (place, count) in histogram.bucket_counts().iter().enumerate().filter(|(_, count)| **count > 0) {
        let middle = (f64::from(histogram.offset()) + place as f64 + 0.5) * width;
        converted.record_many(libm::exp2(middle) * unit_ms, *count);
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const START: u64 = 1_793_000_000 * SECOND;
    const STREAMS_MAX: usize = 4;

    fn point(cumulative: bool, start_s: u64, time_s: u64, count: u64) -> Point {
        let shape = Shape::Explicit { bounds: vec![0.1, 1.0], counts: vec![count, 0, 0] };
        Point { cumulative, start_ns: START + start_s * SECOND, time_ns: START + time_s * SECOND, count, shape }
    }

    /// What each point adds: `+n`, `reset n`, `baseline`, `again`.
    fn told(points: &[Point]) -> Vec<String> {
        let mut state: Option<Vec<u8>> = None;
        let mut told = Vec::new();
        for point in points {
            // Through the stored form each time.
            let mut series = Series::read(state.as_ref());
            told.push(match series.take(point, STREAMS_MAX).0 {
                Added::Count { count, .. } => format!("+{count}"),
                Added::Reset { count, .. } => format!("reset {count}"),
                Added::Baseline => "baseline".into(),
                Added::Duplicate => "again".into(),
                Added::Surplus => "too many".into(),
            });
            state = Some(series.encode_to_vec());
        }
        told
    }

    #[test]
    fn cumulative_points_add_their_differences() {
        let c = |start, time, count| point(true, start, time, count);
        for (what, points, expected) in [
            ("from a recent start", vec![c(0, 60, 5), c(0, 120, 7), c(0, 180, 7)], vec!["+5", "+2", "+0"]),
            ("from a start long ago", vec![c(0, 601, 500), c(0, 661, 510)], vec!["baseline", "+10"]),
            (
                "sent again",
                vec![c(0, 60, 5), c(0, 60, 5), c(0, 120, 6), c(0, 60, 5)],
                vec!["+5", "again", "+1", "again"],
            ),
            ("a new start", vec![c(0, 60, 5), c(100, 160, 3), c(100, 220, 4)], vec!["+5", "+3", "+1"]),
            (
                "two processes under one name",
                vec![c(0, 60, 5), c(1, 61, 50), c(0, 120, 6), c(1, 121, 55)],
                vec!["+5", "+50", "+1", "+5"],
            ),
            ("down without a new start", vec![c(0, 60, 5), c(0, 120, 2), c(0, 180, 4)], vec!["+5", "reset 2", "+2"]),
        ] {
            assert_eq!(told(&points), expected, "{what}");
        }
        let unknown_start = Point { start_ns: 0, ..c(0, 60, 5) };
        assert_eq!(told(&[unknown_start]), ["baseline"]);
        assert_eq!(told(&[c(60, 60, 5), c(60, 120, 7)]), ["baseline", "+2"], "the true start is not known");
    }

    #[test]
    fn delta_points_count_once() {
        let d = |start, time, count| point(false, start, time, count);
        assert_eq!(told(&[d(0, 60, 5), d(60, 120, 5), d(0, 60, 5), d(60, 120, 5)]), ["+5", "+5", "again", "again"]);
        assert_eq!(told(&[d(0, 60, 5), d(0, 59, 2)]), ["+5", "+2"], "another process, the same start");
    }

    #[test]
    fn processes_beyond_the_bound_are_refused_and_the_others_go_on() {
        // Six processes whose starts differ, each with a point a minute: four are counted, at every turn the same.
        let turn = |minute: u64| (0..6).map(move |process| point(true, process, 60 * minute + process, 10 * minute));
        let told = told(&(1..=3).flat_map(turn).collect::<Vec<_>>());
        for turn in told.chunks(6) {
            assert_eq!(turn, ["+10", "+10", "+10", "+10", "too many", "too many"]);
        }
    }

    #[test]
    fn who_was_silent_makes_room_and_is_not_counted_from_zero_when_it_comes_back() {
        let mut series = Series::default();
        for process in 0..STREAMS_MAX as u64 {
            series.take(&point(true, process, 60, 7), STREAMS_MAX);
        }
        let mut take = |start, time, count| {
            let (added, evicted) = series.take(&point(true, start, time, count), STREAMS_MAX);
            (matches!(added, Added::Count { .. }), added == Added::Baseline, evicted)
        };
        for process in 1..STREAMS_MAX as u64 {
            assert_eq!(take(process, 500, 8), (true, false, 0));
        }
        assert_eq!(take(590, 650, 3), (false, false, 0), "ten minutes of silence, not less: too many");
        assert_eq!(take(590, 661, 3), (true, false, 1), "its start is newer than any that was forgotten");
        assert_eq!(take(0, 599, 9), (false, false, 0), "it was counted up to 7 and there is no place for it");
        assert_eq!(take(0, 1_101, 9), (false, true, STREAMS_MAX - 1), "it goes on from where it is");
        assert_eq!(take(0, 1_161, 12), (true, false, 0));
    }

    #[test]
    fn the_state_stays_small() {
        let mut series = Series::default();
        for start in 0..100 {
            series.take(&point(true, start, start + 60, 1), STREAMS_MAX);
            series.take(&point(false, start, start + 60, 1), STREAMS_MAX);
        }
        assert_eq!((series.streams.len(), series.counted.len()), (STREAMS_MAX, STREAMS_MAX));
        series.take(&point(true, 7, 200_000, 1), STREAMS_MAX);
        series.take(&point(false, 8, 200_000, 1), STREAMS_MAX);
        assert_eq!((series.streams.len(), series.counted.len()), (1, 1), "what was silent for a day is forgotten");
        let of_yesterday = series.take(&point(true, 3, 120, 5), STREAMS_MAX).0;
        assert_eq!(of_yesterday, Added::Baseline, "sent again after a day it counts no second time");
    }

    #[test]
    fn points_that_an_earlier_version_counted_count_no_second_time() {
        let kept = Stream { start_ns: START, time_ns: START + SECOND, ..Stream::default() };
        let mut series = Series { streams: vec![kept], ..Series::default() };
        assert_eq!(series.take(&point(false, 0, 1, 5), STREAMS_MAX).0, Added::Duplicate);
    }

    fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Shape {
        Shape::Exponential { scale, zero_count: 0, zero_threshold: 0.0, offset, counts: counts.to_vec() }
    }

    #[test]
    fn exponential_histograms_are_compared_at_the_coarser_resolution() {
        // At scale 1 the buckets 4 to 7; at scale 0 they are 2 and 3.
        let before = exponential(1, 4, &[1, 2, 3, 4]);
        for (now, expected) in [
            (exponential(1, 4, &[1, 2, 4, 4]), Difference::Is(exponential(1, 4, &[0, 0, 1, 0]))),
            (exponential(1, 3, &[5, 1, 2, 3, 4]), Difference::Is(exponential(1, 3, &[5, 0, 0, 0, 0]))),
            (exponential(0, 2, &[3, 9]), Difference::Is(exponential(0, 2, &[0, 2]))),
            (exponential(0, -1, &[7, 0, 0, 3, 7]), Difference::Is(exponential(0, -1, &[7, 0, 0, 0, 0]))),
            (exponential(1, 4, &[0, 2, 3, 4]), Difference::WentDown),
            (exponential(1, 5, &[2, 3, 4]), Difference::WentDown),
            (exponential(2, 8, &[1; 8]), Difference::Is(Shape::Unknown)),
        ] {
            assert_eq!(now.since(&before), expected, "{now:?}");
        }
        let negative = exponential(1, -3, &[2, 2]);
        assert_eq!(exponential(0, -2, &[2, 3]).since(&negative), Difference::Is(exponential(0, -2, &[0, 1])));
    }

    #[test]
    fn a_threshold_that_grew_swallows_buckets() {
        let at = |zero_count, zero_threshold, offset, counts: &[u64]| Shape::Exponential {
            scale: 0,
            zero_count,
            zero_threshold,
            offset,
            counts: counts.to_vec(),
        };
        // (1/8, 1/4], (1/4, 1/2], (1/2, 1]: all up to 1/4 became zero.
        let before = at(1, 0.0, -3, &[2, 3, 4]);
        let now = at(4, 0.25, -2, &[3, 6]);
        assert_eq!(now.since(&before), Difference::Is(at(1, 0.25, -2, &[0, 2])));
        assert_eq!(at(2, 0.25, -2, &[3, 4]).since(&before), Difference::WentDown);
    }

    #[test]
    fn a_finer_resolution_than_is_kept_becomes_coarser() {
        let fine = exponential(22, -3, &[1, 2, 3, 4, 5]);
        // Buckets -3 to 1 at scale 22 are -1 and 0 at scale 20.
        let kept = fine.latency(1.0).expect("a histogram");
        assert_eq!((kept.scale(), kept.offset(), kept.bucket_counts()), (20, -1, &[6, 9][..]));
        assert_eq!(exponential(40, i32::MIN, &[1]).latency(1.0).map(|kept| kept.count()), Some(1));
    }

    #[test]
    fn seconds_become_milliseconds() {
        let explicit = Shape::Explicit { bounds: vec![0.0, 0.1, 0.25], counts: vec![0, 50, 50, 0] };
        let latency = explicit.latency(1000.0).expect("a histogram");
        assert_eq!(latency.count(), 100);
        assert!(latency.quantile(0.99).is_some_and(|p99| (220.0..=275.0).contains(&p99)));
        // 2^-3 s to 2^-2 s: 125 ms to 250 ms, middle 177 ms.
        let latency = exponential(0, -3, &[10]).latency(1000.0).expect("a histogram");
        assert!(latency.quantile(0.5).is_some_and(|p50| (160.0..=195.0).contains(&p50)), "{latency:?}");
        let same = exponential(3, 40, &[1, 2]).latency(1.0).expect("a histogram");
        assert_eq!((same.scale(), same.offset(), same.bucket_counts()), (3, 40, &[1, 2][..]));
        assert_eq!(Shape::Explicit { bounds: vec![2.0, 1.0], counts: vec![1, 1, 1] }.latency(1.0), None);
    }
}
