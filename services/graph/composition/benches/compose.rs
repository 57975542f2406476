//! Time to learn from 500 traces of 41 spans, to predict their root, and to bound a sum without traces.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use attain_composition::{
    Bounds, Changes, Dependence, Distribution, Draws, Learned, Oddities, Span, Together, Trace, predict,
};
use criterion::{Criterion, criterion_group, criterion_main};

/// A root with 20 calls of one call each; the calls of a trace are all faster or all slower.
fn trace(at: u64) -> Trace {
    let (start, unit) = (at * 1_000_000_000, 100_000 + at * 7_919 % 100_000);
    let span = |id: u64, parent: Option<u64>, start_ns: u64, end_ns: u64| Span {
        id: id.to_string(),
        parent_id: parent.map(|parent| parent.to_string()),
        part: format!("part {}", id % 10),
        start_ns,
        end_ns,
    };
    let mut spans = vec![span(0, None, start, start + 100 * unit)];
    for call in 0..20 {
        let begin = start + call * 5 * unit;
        spans.push(span(1 + call, Some(0), begin, begin + 4 * unit));
        spans.push(span(21 + call, Some(1 + call), begin + unit, begin + 3 * unit));
    }
    Trace::build(&spans, &mut Oddities::default()).unwrap()
}

fn benches(criterion: &mut Criterion) {
    let traces: Vec<Trace> = (0..500).map(trace).collect();
    let learned = Learned::from_traces(&traces).unwrap();
    let changes = Changes::default();
    let mut group = criterion.benchmark_group("500 traces of 41 spans");
    group.sample_size(10);
    group.bench_function("learn", |bencher| bencher.iter(|| Learned::from_traces(black_box(&traces))));
    for together in [Together::AsMeasured, Together::OneFactor, Together::Independent] {
        group.bench_function(format!("predict {together:?}"), |bencher| {
            bencher.iter(|| predict(black_box(&learned), together, &changes, Draws::default()));
        });
    }
    group.finish();
    let part = Distribution::from_samples((1..=1_000).map(f64::from).collect()).unwrap();
    let bounds = Bounds::of(&part);
    criterion.bench_function("bounds of a sum", |bencher| {
        bencher.iter(|| black_box(&bounds).in_sequence(&bounds, Dependence::Unknown));
    });
}

criterion_group!(composition, benches);
criterion_main!(composition);
