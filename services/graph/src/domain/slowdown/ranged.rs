//! What a latency lies between when all that is known of a change is how it is spread, not which requests it meets.
//!
//! Changes are bounded whatever moves together ([`attain_composition::bounds`]): from above as if every call that gets longer
//! delays the request by all of it, from below as if every call that gets shorter hurries it by all of it.

use attain_composition::{Bounds, Dependence, Distribution};

/// Quantiles that a distribution is kept at: the middles of as many equal shares.
const STEPS: usize = 1_000;
/// Most changes of one request that are composed: each takes about a millisecond. Of the rest the greatest values count.
const TERMS_MAX: usize = 40;

/// Milliseconds at the middles of equal shares, ascending.
pub(super) fn steps(distribution: &Distribution) -> Vec<f64> {
    (0..STEPS).map(|step| distribution.quantile((step as f64 + 0.5) / STEPS as f64)).collect()
}

/// A change of a share of requests; which, and together with what, nobody knows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term {
    /// Of all requests, in `(0, 1]`.
    share: f64,
    /// How much shorter their wait gets, in milliseconds at most 0, ascending.
    low: Vec<f64>,
    /// How much longer, at least 0, ascending.
    high: Vec<f64>,
}

impl Term {
    /// From the least and the greatest change of each of several requests, at least one, all of the same weight.
    pub(super) fn new(share: f64, changes: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let (low, high) = changes.into_iter().map(|(low, high)| (low.min(0.0), high.max(0.0))).unzip();
        let sorted = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values
        };
        Self { share: share.min(1.0), low: sorted(low), high: sorted(high) }
    }

    /// So many times the change, a positive number.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        let scaled = |values: &[f64]| values.iter().map(|value| value * factor).collect();
        Self { share: self.share, low: scaled(&self.low), high: scaled(&self.high) }
    }

    fn low(&self) -> (f64, &[f64]) {
        (self.share, &self.low)
    }

    fn high(&self) -> (f64, &[f64]) {
        (self.share, &self.high)
    }
}

/// How much shorter and how much longer requests may take, in milliseconds at the middles of equal shares: bounds of the quantiles
/// of the change, whatever else a request does.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) low: Vec<f64>,
    pub(super) high: Vec<f64>,
}

/// What terms add up to.
pub(super) struct Total {
    shorter: Sum,
    longer: Sum,
}

impl Total {
    pub(super) fn of(terms: &[Term]) -> Self {
        Self { shorter: Sum::of(terms.iter().map(Term::low)), longer: Sum::of(terms.iter().map(Term::high)) }
    }

    /// The change by itself.
    pub(super) fn change(&self) -> Change {
        Change { low: self.shorter.least(None), high: self.longer.greatest(None) }
    }

    /// Least and greatest of latencies of which this is the change: themselves, where nothing gets shorter or longer.
    pub(super) fn on(&self, least: &Distribution, greatest: &Distribution) -> (Distribution, Distribution) {
        let known = |mut latencies_ms: Vec<f64>| {
            latencies_ms.iter_mut().for_each(|ms| *ms = ms.max(0.0));
            Distribution::from_samples(latencies_ms).expect("there are steps, none is negative")
        };
        let least = if self.shorter.is_nothing() { least.clone() } else { known(self.shorter.least(Some(least))) };
        let greatest =
            if self.longer.is_nothing() { greatest.clone() } else { known(self.longer.greatest(Some(greatest))) };
        (least, greatest)
    }
}

/// A constant, and what varies above it.
#[derive(Default)]
struct Sum {
    constant_ms: f64,
    rest: Option<Bounds>,
}

impl Sum {
    /// Sums values, ascending, each list of a share of requests; nothing is added to the others.
    fn of<'a>(parts: impl Iterator<Item = (f64, &'a [f64])>) -> Self {
        let mut sum = Self::default();
        let parts = parts.filter(|(_, values)| values.iter().any(|value| *value != 0.0));
        for (place, (share, values)) in parts.enumerate() {
            let (first, last) = (values[0], values[values.len() - 1]);
            let (least, most) = if share < 1.0 { (first.min(0.0), last.max(0.0)) } else { (first, last) };
            if place >= TERMS_MAX {
                // All of one sign: the end farther from 0 bounds the sum on its side.
                sum.constant_ms += if most > 0.0 { most } else { least };
                continue;
            }
            sum.constant_ms += least;
            if least < most {
                let above = Distribution::from_samples(above(share, values, least)).expect("there are steps above it");
                let above = Bounds::of(&above);
                sum.rest = Some(match sum.rest {
                    None => above,
                    Some(rest) => rest.in_sequence(&above, Dependence::Unknown),
                });
            }
        }
        sum
    }

    fn is_nothing(&self) -> bool {
        self.constant_ms == 0.0 && self.rest.is_none()
    }

    fn least(&self, on: Option<&Distribution>) -> Vec<f64> {
        self.ends(on, |bounds, step| bounds.quantile(step as f64 / STEPS as f64).0)
    }

    fn greatest(&self, on: Option<&Distribution>) -> Vec<f64> {
        self.ends(on, |bounds, step| bounds.quantile((step + 1) as f64 / STEPS as f64).1)
    }

    fn ends(&self, on: Option<&Distribution>, end: impl Fn(&Bounds, usize) -> f64) -> Vec<f64> {
        let bounds = match (on.map(Bounds::of), &self.rest) {
            (None, None) => return vec![self.constant_ms; STEPS],
            (Some(on), None) => on,
            (None, Some(rest)) => rest.clone(),
            (Some(on), Some(rest)) => on.in_sequence(rest, Dependence::Unknown),
        };
        (0..STEPS).map(|step| end(&bounds, step) + self.constant_ms).collect()
    }
}

/// Values at the steps, above the least of all; those without a change at 0. The share is rounded up.
fn above(share: f64, values: &[f64], least: f64) -> Vec<f64> {
    let changed = ((share * STEPS as f64).ceil() as usize).min(STEPS);
    let at = |step: usize| values[((step as f64 + 0.5) / changed as f64 * values.len() as f64) as usize];
    (0..changed)
        .map(at)
        .chain(std::iter::repeat_n(0.0, STEPS - changed))
        .map(|value| (value - least).max(0.0))
        .collect()
}
