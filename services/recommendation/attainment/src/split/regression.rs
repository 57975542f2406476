use std::collections::BTreeMap;

use attain_vocabulary::{DependencyMode, EntityId};

use super::Causes;
use crate::series::fraction;
use crate::{CountPoint, CountSeries, DependencyBucket, DependencyHistory};

/// Most dependencies in one regression; the likeliest to matter are taken (cost grows with their square).
const DEPENDENCIES_MAX: usize = 24;
/// How far a declared hardness may be off: one standard deviation. A statement, not a measurement.
const PRIOR_DEVIATION: f64 = 0.3;
/// Share of failed calls that a fallback is taken to save when nobody said.
const FALLBACK_SUCCESS: f64 = 0.9;
/// Passes between coefficients and noise; sweeps of coordinate descent within one.
const PASSES: usize = 3;
const SWEEPS: usize = 200;

/// `f(t) = alpha + sum_j beta_j f_j(t)` with `alpha >= 0`, `0 <= beta_j <= 1`.
pub(super) struct Fit {
    alpha: f64,
    edges: Vec<Edge>,
}

struct Edge {
    id: EntityId,
    ratios: Vec<f64>,
    prior: f64,
    beta: f64,
    standard_error: f64,
}

/// Least squares over buckets, weighted by requests, drawn towards the declared hardness as one Gaussian observation of it
/// with standard deviation 0.3. `None` when no dependency has a history.
///
/// Standard errors are those of the unbounded problem at the noise found: too small where the noise of neighbouring buckets
/// goes together, and for a dependency that never failed just the prior's.
pub(super) fn fit(series: &CountSeries, dependencies: &[&DependencyHistory]) -> Option<Fit> {
    let mut edges: Vec<Edge> = dependencies.iter().filter_map(|dependency| Edge::of(series, dependency)).collect();
    if edges.is_empty() {
        return None;
    }
    let reach = |edge: &Edge| edge.prior * edge.ratios.iter().sum::<f64>();
    edges.sort_by(|a, b| reach(b).total_cmp(&reach(a)).then_with(|| a.id.cmp(&b.id)));
    edges.truncate(DEPENDENCIES_MAX);
    let mut fit = Fit { alpha: 0.0, edges };
    let sums = Sums::of(series, &fit.edges);
    fit.solve(&sums);
    Some(fit)
}

/// Failure ratio of a dependency in each bucket of the series; its mean over the span of the series where it has no requests. `None`
/// without requests in that span.
pub(super) fn failure_ratios(series: &CountSeries, dependency: &DependencyHistory) -> Option<Vec<f64>> {
    let (first, last) = (series.points().first()?, series.points().last()?);
    let span = first.start_ms..=last.start_ms;
    let read = || {
        let buckets = dependency.buckets.iter();
        buckets.filter(|bucket| bucket.counts.valid() > 0 && span.contains(&bucket.start_ms))
    };
    let Joined { mut ratios, valid, bad, in_order } = Joined::of(series.points(), read());
    if valid <= 0.0 {
        return None;
    }
    if !in_order {
        let mut sorted: Vec<&DependencyBucket> = read().collect();
        sorted.sort_by_key(|bucket| bucket.start_ms);
        ratios = Joined::of(series.points(), sorted.into_iter()).ratios;
    }
    let mean = bad / valid;
    ratios.iter_mut().for_each(|ratio| *ratio = if ratio.is_nan() { mean } else { *ratio });
    Some(ratios)
}

/// Buckets of a dependency beside those of a series, in one pass: both are far away in memory.
struct Joined {
    /// Failure ratio in each bucket of the series; not a number where there is none. Only where buckets are in order.
    ratios: Vec<f64>,
    /// Requests and failures of all.
    valid: f64,
    bad: f64,
    in_order: bool,
}

impl Joined {
    /// Of buckets with requests.
    fn of<'a>(points: &[CountPoint], buckets: impl Iterator<Item = &'a DependencyBucket>) -> Self {
        let mut joined = Self { ratios: vec![f64::NAN; points.len()], valid: 0.0, bad: 0.0, in_order: true };
        let (mut row, mut last_ms) = (0, i64::MIN);
        for bucket in buckets {
            let (valid, bad) = (bucket.counts.valid() as f64, bucket.counts.bad() as f64);
            joined.valid += valid;
            joined.bad += bad;
            joined.in_order &= bucket.start_ms >= last_ms;
            last_ms = bucket.start_ms;
            while points.get(row).is_some_and(|point| point.start_ms < bucket.start_ms) {
                row += 1;
            }
            if points.get(row).is_some_and(|point| point.start_ms == bucket.start_ms) {
                joined.ratios[row] = bad / valid;
                row += 1;
            }
        }
        joined
    }
}

impl Edge {
    fn of(series: &CountSeries, dependency: &DependencyHistory) -> Option<Self> {
        let ratios = failure_ratios(series, dependency)?;
        let called = dependency.call_fraction.and_then(fraction).unwrap_or(1.0);
        let prior = match dependency.mode {
            DependencyMode::Hard => called,
            DependencyMode::Soft => {
                called * (1.0 - dependency.fallback_success_ratio.and_then(fraction).unwrap_or(FALLBACK_SUCCESS))
            }
            DependencyMode::Async => 0.0,
        };
        Some(Self { id: dependency.id.clone(), ratios, prior, beta: prior, standard_error: PRIOR_DEVIATION })
    }
}

/// Weighted second moments about the means.
struct Sums {
    count: f64,
    weight: f64,
    mean: f64,
    variance: f64,
    means: Vec<f64>,
    gram: Vec<Vec<f64>>,
    cross: Vec<f64>,
}

impl Sums {
    fn of(series: &CountSeries, edges: &[Edge]) -> Self {
        let n = edges.len();
        let weight = series.valid().max(f64::MIN_POSITIVE);
        let mean = series.bad() / weight;
        let weighted_mean = |edge: &Edge| {
            edge.ratios.iter().zip(series.points()).map(|(ratio, point)| ratio * point.valid).sum::<f64>() / weight
        };
        let means: Vec<f64> = edges.iter().map(weighted_mean).collect();
        let mut sums =
            Self { count: 0.0, weight, mean, variance: 0.0, means, gram: vec![vec![0.0; n]; n], cross: vec![0.0; n] };
        for (t, point) in series.points().iter().enumerate().filter(|(_, point)| point.valid > 0.0) {
            let y = point.bad / point.valid - mean;
            sums.count += 1.0;
            sums.variance += point.valid * y * y;
            for (i, edge) in edges.iter().enumerate() {
                let x = point.valid * (edge.ratios[t] - sums.means[i]);
                sums.cross[i] += x * y;
                for (j, other) in edges[..=i].iter().enumerate() {
                    sums.gram[i][j] += x * (other.ratios[t] - sums.means[j]);
                }
            }
        }
        for i in 0..n {
            for j in 0..i {
                sums.gram[j][i] = sums.gram[i][j];
            }
        }
        sums
    }

    /// The same about zero: for a fit without an intercept.
    fn about_zero(&self) -> Self {
        let n = self.means.len();
        let gram = (0..n)
            .map(|i| (0..n).map(|j| self.gram[i][j] + self.weight * self.means[i] * self.means[j]).collect())
            .collect();
        let cross = (0..n).map(|i| self.cross[i] + self.weight * self.means[i] * self.mean).collect();
        let variance = self.variance + self.weight * self.mean * self.mean;
        Self { gram, cross, variance, means: vec![0.0; n], mean: 0.0, ..*self }
    }
}

impl Fit {
    fn solve(&mut self, sums: &Sums) {
        self.descend(sums);
        self.alpha = sums.mean - self.edges.iter().zip(&sums.means).map(|(edge, mean)| edge.beta * mean).sum::<f64>();
        if self.alpha < 0.0 {
            self.alpha = 0.0;
            self.descend(&sums.about_zero());
        }
    }

    fn descend(&mut self, sums: &Sums) {
        for _ in 0..PASSES {
            let noise = self.noise(sums);
            let pull = noise / (PRIOR_DEVIATION * PRIOR_DEVIATION);
            for _ in 0..SWEEPS {
                let moved = (0..self.edges.len()).map(|i| self.step(sums, pull, i)).fold(0.0, f64::max);
                if moved < 1e-10 {
                    break;
                }
            }
        }
        let noise = self.noise(sums);
        let pull = noise / (PRIOR_DEVIATION * PRIOR_DEVIATION);
        let mut information = sums.gram.clone();
        (0..information.len()).for_each(|i| information[i][i] += pull);
        for (edge, variance) in self.edges.iter_mut().zip(inverse_diagonal(information)) {
            edge.standard_error = (noise * variance).max(0.0).sqrt().min(PRIOR_DEVIATION);
        }
    }

    fn step(&mut self, sums: &Sums, pull: f64, i: usize) -> f64 {
        let others: f64 = (0..self.edges.len()).filter(|j| *j != i).map(|j| sums.gram[i][j] * self.edges[j].beta).sum();
        let edge = &mut self.edges[i];
        let beta = ((sums.cross[i] - others + pull * edge.prior) / (sums.gram[i][i] + pull)).clamp(0.0, 1.0);
        let moved = (beta - edge.beta).abs();
        edge.beta = beta;
        moved
    }

    /// Variance of one request's residual, at least that of a failure ratio of one in a million requests.
    fn noise(&self, sums: &Sums) -> f64 {
        let n = self.edges.len();
        let mut rest = sums.variance;
        for i in 0..n {
            rest -= 2.0 * self.edges[i].beta * sums.cross[i];
            for j in 0..n {
                rest += self.edges[i].beta * self.edges[j].beta * sums.gram[i][j];
            }
        }
        (rest / (sums.count - n as f64 - 1.0).max(1.0)).max(1e-6)
    }

    /// Hardness of an edge and its standard error.
    pub(super) fn hardness(&self, id: &EntityId) -> (Option<f64>, f64) {
        let edge = self.edges.iter().find(|edge| edge.id == *id);
        edge.map_or((None, 0.0), |edge| (Some(edge.beta), edge.standard_error))
    }

    /// Shares out each bucket's failures by what each cause leads to expect there; what exceeds the expectation of the
    /// dependencies by more than three deviations is own.
    pub(super) fn causes(&self, series: &CountSeries) -> Causes {
        let mut by_dependency: BTreeMap<EntityId, Vec<f64>> =
            self.edges.iter().map(|edge| (edge.id.clone(), Vec::with_capacity(series.points().len()))).collect();
        let mut own = Vec::with_capacity(series.points().len());
        for (t, point) in series.points().iter().enumerate() {
            let explained: f64 = self.edges.iter().map(|edge| edge.beta * edge.ratios[t]).sum();
            let expected = explained * point.valid;
            let inherited = if explained > 0.0 {
                (point.bad * explained / (explained + self.alpha)).min(expected + 3.0 * expected.sqrt() + 1.0)
            } else {
                0.0
            };
            own.push(point.bad - inherited);
            for edge in &self.edges {
                let share = if explained > 0.0 { edge.beta * edge.ratios[t] / explained } else { 0.0 };
                if let Some(column) = by_dependency.get_mut(&edge.id) {
                    column.push(inherited * share);
                }
            }
        }
        Causes { own, by_dependency }
    }
}

/// Diagonal of the inverse of a positive definite matrix, by Gauss-Jordan; infinite where it is singular.
fn inverse_diagonal(mut matrix: Vec<Vec<f64>>) -> Vec<f64> {
    let n = matrix.len();
    let mut inverse: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for i in 0..n {
        let pivot = matrix[i][i];
        if pivot.is_nan() || pivot <= 1e-300 {
            return vec![f64::INFINITY; n];
        }
        for j in 0..n {
            matrix[i][j] /= pivot;
            inverse[i][j] /= pivot;
        }
        let (row, inverse_row) = (matrix[i].clone(), inverse[i].clone());
        for k in (0..n).filter(|k| *k != i) {
            let factor = matrix[k][i];
            for j in 0..n {
                matrix[k][j] -= factor * row[j];
                inverse[k][j] -= factor * inverse_row[j];
            }
        }
    }
    (0..n).map(|i| inverse[i][i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_inverted() {
        let diagonal = inverse_diagonal(vec![vec![4.0, 2.0], vec![2.0, 3.0]]);
        assert!((diagonal[0] - 3.0 / 8.0).abs() < 1e-12 && (diagonal[1] - 0.5).abs() < 1e-12);
        assert!(inverse_diagonal(vec![vec![0.0]])[0].is_infinite());
    }
}
