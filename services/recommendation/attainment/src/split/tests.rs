#![allow(clippy::unwrap_used)]

use attain_vocabulary::{BUCKET_MS, BucketCounts};

use super::*;
use crate::{CountPoint, DependencyBucket};

fn history(name: &str, mode: DependencyMode, ratios: &[f64]) -> DependencyHistory {
    let bucket = |(i, ratio): (usize, &f64)| DependencyBucket {
        start_ms: i as i64 * BUCKET_MS,
        counts: BucketCounts::new(10_000, (10_000.0 * ratio) as u64, None).unwrap(),
    };
    DependencyHistory {
        id: EntityId::new("id", name).unwrap(),
        mode,
        call_fraction: None,
        fallback_success_ratio: None,
        buckets: ratios.iter().enumerate().map(bucket).collect(),
    }
}

fn series(ratios: &[f64]) -> CountSeries {
    let point = |(i, ratio): (usize, &f64)| CountPoint {
        start_ms: i as i64 * BUCKET_MS,
        valid: 10_000.0,
        bad: 10_000.0 * ratio,
    };
    CountSeries::new(ratios.iter().enumerate().map(point).collect())
}

/// Two dependencies with failures of their own; the caller inherits 0.8 of the first, 0.2 of the second, and adds 0.001.
#[test]
fn exact_inheritance_is_recovered() {
    let a: Vec<f64> = (0..500).map(|i| f64::from(i * 17 % 23) / 500.0).collect();
    let b: Vec<f64> = (0..500).map(|i| f64::from(i * 31 % 19) / 500.0).collect();
    let caller: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 0.001 + 0.8 * a + 0.2 * b).collect();
    let (a, b) = (history("a", DependencyMode::Hard, &a), history("b", DependencyMode::Soft, &b));
    let fit = regression::fit(&series(&caller), &[&a, &b]).unwrap();
    for (id, expected) in [(&a.id, 0.8), (&b.id, 0.2)] {
        let (hardness, error) = fit.hardness(id);
        assert!((hardness.unwrap() - expected).abs() < 1e-3, "{hardness:?}");
        assert!(error < 0.01, "{error}");
    }
    let causes = fit.causes(&series(&caller));
    let own: f64 = causes.own.iter().sum::<f64>() / (500.0 * 10_000.0);
    assert!((own - 0.001).abs() < 1e-4, "{own}");
}

#[test]
fn a_dependency_that_never_failed_keeps_its_declared_hardness_and_its_doubt() {
    let quiet = history("quiet", DependencyMode::Soft, &[0.0; 100]);
    let fit = regression::fit(&series(&[0.01; 100]), &[&quiet]).unwrap();
    let (hardness, error) = fit.hardness(&quiet.id);
    assert!((hardness.unwrap() - 0.1).abs() < 1e-9, "one less the success of a fallback");
    assert!((error - 0.3).abs() < 1e-9);
    assert!(regression::fit(&series(&[0.01; 100]), &[&history("new", DependencyMode::Hard, &[])]).is_none());
}

#[test]
fn hardness_stays_between_none_and_all() {
    let f: Vec<f64> = (0..200).map(|i| f64::from(i % 7) / 100.0).collect();
    let doubled: Vec<f64> = f.iter().map(|f| 2.0 * f).collect();
    let against: Vec<f64> = f.iter().map(|f| 0.1 - f).collect();
    let dependency = history("d", DependencyMode::Hard, &f);
    let hardness =
        |caller: &[f64]| regression::fit(&series(caller), &[&dependency]).unwrap().hardness(&dependency.id).0.unwrap();
    assert!((hardness(&doubled) - 1.0).abs() < 1e-9);
    assert!(hardness(&against) < 1e-6);
}
