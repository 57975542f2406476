//! What redaction costs on the way of every text that is stored: clean text of three sizes, and text with secrets.

#![allow(missing_docs)]

use std::hint::black_box;

use attain_redaction::{AddressKey, Redactor, redact};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const SENTENCE: &str = "At 14:32 UTC checkout began to answer with 503; p99 rose from 120 ms to 4,800 ms. \
    The pool of connections to inventory was exhausted after release 2026.11.3 (see https://status.example.com/incidents/42). ";

fn benchmarks(criterion: &mut Criterion) {
    let clean = SENTENCE.repeat(6);
    let kilobyte = &clean[..1024];
    let dirty = format!("{}DB_PASSWORD=hunter2 postgres://app:hunter2@db/x jane@example.com", &kilobyte[..950]);
    let texts =
        [("name of a service", "checkout-service"), ("clean 1 KB", kilobyte), ("three secrets in 1 KB", &dirty)];
    let mut group = criterion.benchmark_group("redact");
    for (name, text) in texts {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| redact(black_box(text)).1));
    }
    group.bench_function("clean 1 KB, with addresses of machines", |bencher| {
        let redactor = Redactor::with_addresses(AddressKey::new(&[7; 32]).expect("long enough"));
        bencher.iter_batched(|| kilobyte, |text| redactor.redact(black_box(text)).1, BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
