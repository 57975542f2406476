//! What must hold for every trace, order and distribution, over seeded cases.
#![allow(clippy::unwrap_used)]

use attain_composition::{
    Bounds, Change, Changes, Declared, Dependence, Distribution, Draws, Error, Learned, Oddities, Order, Period, Span,
    Together, Trace, critical_path_ns, predict, predict_in, split_budget,
};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const CASES: u64 = 200;
const QUANTILES: [f64; 5] = [0.05, 0.5, 0.9, 0.95, 0.99];

fn span(id: &str, parent: Option<&str>, part: &str, start_ns: u64, end_ns: u64) -> Span {
    Span { id: id.into(), parent_id: parent.map(str::to_owned), part: part.into(), start_ns, end_ns }
}

fn build(spans: &[Span]) -> Trace {
    Trace::build(spans, &mut Oddities::default()).unwrap()
}

/// A root with children that may overlap, outlive it or begin before it, and grandchildren.
fn any_spans(random: &mut ChaCha8Rng) -> Vec<Span> {
    let start = random.random_range(100_000_000..9_000_000_000);
    let mut spans = vec![span("0", None, "root", start, start + random.random_range(0..50_000_000))];
    for id in 1..random.random_range(1..14) {
        let parent = spans[random.random_range(0..spans.len())].clone();
        let begin = parent.start_ns + random.random_range(0..30_000_000) - random.random_range(0..900_000);
        let part = ["a", "b", "c"][random.random_range(0..3)];
        spans.push(span(&id.to_string(), Some(&parent.id), part, begin, begin + random.random_range(0..20_000_000)));
    }
    spans
}

fn any_traces(seed: u64, count: usize) -> Vec<Trace> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| build(&any_spans(&mut random))).collect()
}

fn any_distribution(random: &mut ChaCha8Rng) -> Distribution {
    let count = random.random_range(1..60);
    Distribution::from_samples((0..count).map(|_| random.random_range(0.0..100.0)).collect()).unwrap()
}

#[test]
fn a_trace_of_its_own_parts_has_its_own_duration() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..CASES {
        let trace = build(&any_spans(&mut random));
        assert_eq!(trace.recomposed_ns(), trace.duration_ns());
        assert_eq!(critical_path_ns(&trace).values().sum::<u64>(), trace.duration_ns());
    }
}

#[test]
fn sequences_add_up_and_of_overlapping_calls_the_slowest_counts() {
    let spans = [
        span("r", None, "root", 0, 100_000_000),
        span("a", Some("r"), "a", 10_000_000, 30_000_000),
        span("b", Some("r"), "b", 40_000_000, 90_000_000),
        span("c", Some("r"), "c", 40_000_000, 60_000_000),
    ];
    let learned = Learned::from_traces(&[build(&spans)]).unwrap();
    let after = |part, change| {
        let changes = Changes::default().with(part, change).unwrap();
        predict(&learned, Together::AsMeasured, &changes, Draws::default()).quantile(0.5)
    };
    assert_eq!(after("a", Change::Scale(1.0)), 100.0);
    assert_eq!(after("a", Change::Scale(2.0)), 120.0);
    assert_eq!(after("b", Change::ShiftMs(-50.0)), 70.0);
    assert_eq!(after("c", Change::Scale(0.0)), 100.0);
    assert_eq!(after("c", Change::Replace(Distribution::from_samples(vec![70.0]).unwrap())), 120.0);
    let trace = build(&spans);
    let shares = critical_path_ns(&trace).into_iter().collect::<Vec<_>>();
    assert_eq!(shares, [("a", 20_000_000), ("b", 50_000_000), ("root", 30_000_000)]);
}

#[test]
fn calls_that_take_other_times_move_the_root_by_what_is_waited_for() {
    let spans = [
        span("r", None, "root", 0, 100_000_000),
        span("a", Some("r"), "a", 10_000_000, 30_000_000),
        span("b", Some("r"), "b", 20_000_000, 60_000_000),
        span("c", Some("r"), "c", 70_000_000, 80_000_000),
    ];
    let trace = build(&spans);
    assert_eq!(trace.calls().collect::<Vec<_>>(), [("a", 20_000_000), ("b", 40_000_000), ("c", 10_000_000)]);
    let root_ms = |calls_ms: [u64; 3]| trace.duration_with_ns(&calls_ms.map(|ms| ms * 1_000_000)) / 1_000_000;
    assert_eq!(root_ms([20, 40, 10]), 100);
    assert_eq!(root_ms([50, 40, 10]), 100, "hidden behind the slower one");
    assert_eq!(root_ms([60, 40, 15]), 115);
    assert_eq!(root_ms([0, 0, 0]), 50, "the second of a stage still begins when it did");
    assert_eq!(trace.duration_with_ns(&[u64::MAX; 3]), u64::MAX);
    let mut random = ChaCha8Rng::seed_from_u64(12);
    for _ in 0..CASES {
        let trace = build(&any_spans(&mut random));
        let measured: Vec<u64> = trace.calls().map(|(_, ns)| ns).collect();
        assert_eq!(trace.duration_with_ns(&measured), trace.duration_ns());
        let calls: Vec<u64> = measured.iter().map(|_| random.random_range(0..40_000_000)).collect();
        let changed = trace.with_calls_ns(&calls);
        assert_eq!(changed.duration_ns(), trace.duration_with_ns(&calls));
        assert_eq!(changed.recomposed_ns(), changed.duration_ns());
        assert_eq!(critical_path_ns(&changed).values().sum::<u64>(), changed.duration_ns());
    }
}

#[test]
fn what_nobody_waits_for_does_not_count() {
    let spans = [
        span("r", None, "root", 0, 100_000_000),
        span("a", Some("r"), "late", 100_000_001, 300_000_000),
        span("b", Some("r"), "outliving", 50_000_000, 130_000_000),
    ];
    let mut oddities = Oddities::default();
    let trace = Trace::build(&spans, &mut oddities).unwrap();
    assert_eq!(trace.self_times_ns().collect::<Vec<_>>(), [("root", 100_000_000)]);
    assert_eq!(oddities, Oddities { not_waited_for: 2, ..Oddities::default() });
}

#[test]
fn what_cannot_be_right_is_counted_and_left_out() {
    let spans = [
        span("r", None, "root", 1_000_000, 9_000_000),
        span("kept", Some("r"), "a", 2_000_000, 3_000_000),
        span("kept", Some("r"), "a", 2_500_000, 3_000_000),
        span("skewed", Some("r"), "a", 500_000, 1_500_000),
        span("backwards", Some("r"), "a", 5_000_000, 4_000_000),
        span("below-backwards", Some("backwards"), "a", 4_000_000, 5_000_000),
        span("lost", Some("nobody"), "a", 4_000_000, 5_000_000),
        span("x", Some("y"), "a", 4_000_000, 5_000_000),
        span("y", Some("x"), "a", 4_000_000, 5_000_000),
        span("itself", Some("itself"), "a", 4_000_000, 5_000_000),
    ];
    let mut oddities = Oddities::default();
    let trace = Trace::build(&spans, &mut oddities).unwrap();
    assert_eq!(trace.self_times_ns().count(), 3);
    let expected = Oddities { duplicate: 1, negative: 1, orphaned: 2, cyclic: 3, moved: 1, ..Oddities::default() };
    assert_eq!(oddities, expected);
    assert_eq!(Trace::build(&spans[1..], &mut oddities), None);
    assert_eq!(oddities.traces_without_root, 1);
    assert_eq!(Trace::build(&[spans[0].clone(), span("s", None, "a", 0, 1)], &mut oddities), None);
    assert_eq!(oddities.traces_with_several_roots, 1);
}

#[test]
fn the_order_of_spans_and_traces_changes_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..CASES {
        let mut spans = any_spans(&mut random);
        let trace = build(&spans);
        spans.shuffle(&mut random);
        assert_eq!(build(&spans), trace);
    }
    let mut traces = any_traces(3, 80);
    let predicted = |traces: &[Trace], together| {
        let learned = Learned::from_traces(traces).unwrap();
        predict(&learned, together, &Changes::default(), Draws { count: 500, seed: 1 })
    };
    let other = any_traces(9, 60);
    let within = |traces: &[Trace], other: &[Trace], together| {
        let (learned, period) = (Learned::from_traces(traces).unwrap(), Period::from_traces(other).unwrap());
        predict_in(&learned, &period, together, Draws { count: 500, seed: 1 })
    };
    for together in [Together::AsMeasured, Together::OneFactor, Together::Independent] {
        let before = (predicted(&traces, together), within(&traces, &other, together));
        traces.shuffle(&mut random);
        let after = (predicted(&traces, together), within(&traces, &other, together));
        assert_eq!(after, before);
    }
}

#[test]
fn no_part_that_gets_slower_makes_the_root_faster() {
    let learned = Learned::from_traces(&any_traces(4, 100)).unwrap();
    for together in [Together::AsMeasured, Together::OneFactor, Together::Independent] {
        let of = |changes| predict(&learned, together, &changes, Draws { count: 1_000, seed: 2 });
        let before = of(Changes::default());
        let of_root = of(Changes::default().with("root", Change::ShiftMs(5.0)).unwrap());
        for part in ["a", "b", "c"] {
            let after = of(Changes::default().with(part, Change::Scale(1.5)).unwrap());
            for quantile in QUANTILES {
                assert!(after.quantile(quantile) >= before.quantile(quantile), "{part} {quantile}");
            }
        }
        for quantile in QUANTILES {
            assert!((of_root.quantile(quantile) - before.quantile(quantile) - 5.0).abs() < 1e-9);
        }
    }
}

#[test]
fn a_part_replaced_by_itself_changes_nothing() {
    let traces = any_traces(5, 100);
    let learned = Learned::from_traces(&traces).unwrap();
    let own = traces.iter().flat_map(Trace::self_times_ns).filter(|(part, _)| *part == "root");
    let own = Distribution::from_samples(own.map(|(_, ns)| ns as f64 / 1e6).collect()).unwrap();
    let changes = Changes::default().with("root", Change::Replace(own)).unwrap();
    let of = |changes: &Changes| predict(&learned, Together::AsMeasured, changes, Draws::default());
    let (before, after) = (of(&Changes::default()), of(&changes));
    for quantile in QUANTILES {
        assert!((after.quantile(quantile) - before.quantile(quantile)).abs() < 1e-6);
    }
}

#[test]
fn parts_that_are_slow_together_have_a_rho_near_one_and_are_not_taken_for_independent() {
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let traces: Vec<Trace> = (0..400)
        .map(|at| {
            let unit = random.random_range(1_000_000..10_000_000_u64);
            let start = at * 1_000_000_000;
            build(&[
                span("r", None, "root", start, start + 30 * unit),
                span("a", Some("r"), "a", start + 10 * unit, start + 20 * unit),
                span("b", Some("r"), "b", start + 20 * unit, start + 30 * unit),
            ])
        })
        .collect();
    let learned = Learned::from_traces(&traces).unwrap();
    assert!(learned.rho().unwrap() > 0.9, "{:?}", learned.rho());
    let p99 = |together| predict(&learned, together, &Changes::default(), Draws::default()).quantile(0.99);
    let mut measured: Vec<f64> = traces.iter().map(|trace| trace.duration_ns() as f64 / 1e6).collect();
    measured.sort_by(f64::total_cmp);
    assert!((p99(Together::AsMeasured) / measured[395] - 1.0).abs() < 0.01);
    assert!((p99(Together::OneFactor) / measured[395] - 1.0).abs() < 0.05);
    assert!(p99(Together::Independent) < 0.95 * measured[395]);
}

/// A root that calls `a`, then ends, with the self times of both in microseconds.
fn pair(at: u64, own_us: u64, a_us: u64) -> Trace {
    let (start, own, a) = (at * 1_000_000_000, own_us * 1_000, a_us * 1_000);
    build(&[span("r", None, "root", start, start + own + a), span("a", Some("r"), "a", start + own, start + own + a)])
}

fn pairs(seed: u64, together: bool) -> (Vec<u64>, Vec<u64>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let own: Vec<u64> = (0..300).map(|_| random.random_range(1..1_000u64).pow(2)).collect();
    let a = own.iter().map(|own| if together { *own } else { random.random_range(1..1_000u64).pow(2) }).collect();
    (own, a)
}

fn traces_of((own, a): &(Vec<u64>, Vec<u64>), slower: u64) -> Vec<Trace> {
    own.iter().zip(a).enumerate().map(|(at, (own, a))| pair(at as u64, *own, slower * a)).collect()
}

#[test]
fn a_period_says_nothing_of_which_self_times_belong_together() {
    let learned = Learned::from_traces(&traces_of(&pairs(10, true), 1)).unwrap();
    let composed = |pairs: &(Vec<u64>, Vec<u64>)| {
        let period = Period::from_traces(&traces_of(pairs, 1)).unwrap();
        predict_in(&learned, &period, Together::AsMeasured, Draws::default())
    };
    let mut measured = pairs(11, true);
    let before = composed(&measured);
    // Sixty requests a minute, one a second.
    measured.1.chunks_mut(60).for_each(|minute| minute.reverse());
    assert_eq!(composed(&measured), before);
}

#[test]
fn a_period_is_composed_with_its_own_parts_and_the_dependence_of_training() {
    for together in [true, false] {
        let learned = Learned::from_traces(&traces_of(&pairs(12, together), 1)).unwrap();
        let traces = traces_of(&pairs(13, together), 3);
        let period = Period::from_traces(&traces).unwrap();
        assert_eq!((period.request_count(), period.share_unseen(&learned)), (300, 0.0));
        let composed = predict_in(&learned, &period, Together::AsMeasured, Draws::default());
        let measured = traces.iter().map(|trace| trace.duration_ns() as f64 / 1e6).collect();
        let measured = Distribution::from_samples(measured).unwrap();
        let independent = predict_in(&learned, &period, Together::Independent, Draws::default());
        let ratio = |of: &Distribution, quantile| of.quantile(quantile) / measured.quantile(quantile);
        // Where parts do not move together the dependence found is that of a sample of 300.
        let tolerance = if together { 0.02 } else { 0.1 };
        for quantile in [0.5, 0.9, 0.95] {
            let ratio = ratio(&composed, quantile);
            assert!((ratio - 1.0).abs() < tolerance, "{together} {quantile}: {ratio}");
        }
        if together {
            assert!(ratio(&independent, 0.5) > 1.08, "{}", ratio(&independent, 0.5));
        }
    }
}

#[test]
fn a_kind_that_training_never_saw_has_the_plans_of_the_most_similar() {
    let learned = Learned::from_traces(&traces_of(&pairs(14, true), 1)).unwrap();
    let alone = build(&[span("r", None, "root", 0, 7_000_000)]);
    let other = build(&[
        span("r", None, "root", 0, 9_000_000),
        span("a", Some("r"), "a", 0, 4_000_000),
        span("b", Some("a"), "b", 0, 2_000_000),
    ]);
    let period = Period::from_traces(&[alone, other]).unwrap();
    assert_eq!(period.share_unseen(&learned), 1.0);
    let composed = predict_in(&learned, &period, Together::AsMeasured, Draws::default());
    // Self times of `root` lie between 5 and 7 ms there, and `a` has 2 ms.
    assert!(composed.quantile(0.0) >= 7.0 && composed.quantile(1.0) <= 9.0);
    assert_eq!(Period::from_traces(&[]).map(|period| period.request_count()), None);
}

#[test]
fn bounds_hold_for_every_dependence_tried() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..12 {
        let (a, b) = (any_distribution(&mut random), any_distribution(&mut random));
        let draws: Vec<f64> = (0..2_000).map(|i| (f64::from(i) + 0.5) / 2_000.0).collect();
        let mut shuffled = draws.clone();
        shuffled.shuffle(&mut random);
        let reversed: Vec<f64> = draws.iter().rev().copied().collect();
        for (order, join) in [
            (Order::InSequence as fn(Vec<Order>) -> Order, (|a, b| a + b) as fn(f64, f64) -> f64),
            (Order::AtOnce, f64::max),
        ] {
            let order = order(vec![Order::Part(0), Order::Part(1)]);
            let declared = Declared::new(order, vec![a.clone(), b.clone()]).unwrap();
            let (any, positive) = (declared.bounds(Dependence::Unknown), declared.bounds(Dependence::Positive));
            for other in [&draws, &shuffled, &reversed] {
                let joined = draws.iter().zip(other).map(|(u, v)| join(a.quantile(*u), b.quantile(*v)));
                let joined = Distribution::from_samples(joined.collect()).unwrap();
                for quantile in QUANTILES {
                    bracketed(&any, &joined, quantile);
                }
            }
            for quantile in QUANTILES {
                let ((low, high), (least, greatest)) = (positive.quantile(quantile), any.quantile(quantile));
                assert!(least <= low && high <= greatest, "knowing more must not widen");
                let together = declared.comonotone(quantile);
                assert!(low <= together + 1e-9 && together <= high + 1e-9);
            }
        }
    }
}

/// A sample of 2,000 ranks lies within one of them of the distribution that it stands for.
fn bracketed(bounds: &Bounds, joined: &Distribution, quantile: f64) {
    let (low, high) = bounds.quantile(quantile);
    assert!(low <= joined.quantile(quantile + 0.001) + 1e-9, "{low} {}", joined.quantile(quantile));
    assert!(high + 1e-9 >= joined.quantile(quantile - 0.001), "{high} {}", joined.quantile(quantile));
}

#[test]
fn independent_calls_in_a_declared_order_follow_arithmetic() {
    let uniform = || Distribution::from_samples((0..=1_000).map(|i| f64::from(i) / 10.0).collect()).unwrap();
    let of = |order| Declared::new(order, vec![uniform()]).unwrap().independent(Draws::default());
    let two = || vec![Order::Part(0), Order::Part(0)];
    // P(max ≤ 50) = 1/4; P(sum ≤ 100) = 1/2, of two uniform on 0 to 100.
    assert!((of(Order::AtOnce(two())).share_above(50.0) - 0.75).abs() < 0.02);
    assert!((of(Order::InSequence(two())).share_above(100.0) - 0.5).abs() < 0.02);
    let refused = |order| Declared::new(order, vec![uniform()]).unwrap_err();
    assert_eq!(refused(Order::Part(1)), Error::UnknownPart { index: 1, part_count: 1 });
    assert_eq!(refused(Order::AtOnce(vec![])), Error::Empty { field: "order" });
    let deep = (0..100).fold(Order::Part(0), |order, _| Order::InSequence(vec![order]));
    assert_eq!(refused(deep), Error::TooDeep { limit: 64 });
}

#[test]
fn a_budget_goes_where_it_takes_most_misses_away() {
    let constant = |ms: f64| vec![Distribution::from_samples(vec![ms]).unwrap()];
    let budget = split_budget(&[constant(70.0), constant(20.0)], 100.0, 10).unwrap();
    assert_eq!((budget.stages_ms, budget.miss_probability_max), (vec![70.0, 20.0], 0.0));
    let budget = split_budget(&[constant(70.0), constant(20.0)], 60.0, 6).unwrap();
    assert_eq!((budget.stages_ms, budget.miss_probability_max), (vec![0.0, 20.0], 1.0));
    let refused = split_budget(&[constant(1.0)], f64::NAN, 6).unwrap_err();
    assert_eq!(refused.to_string(), "threshold_ms must be a positive number, not NaN");
}
