//! Tails of the Beta distribution, the same on every machine.

/// From here on the series of [`stirling_error`] is exact to the last digit but one.
const SERIES_FROM: f64 = 12.0;
/// Terms of the continued fraction; it needs about as many as the root of the greater parameter, and is left long before.
const TERMS_MAX: u32 = 20_000;
/// Where a step of the continued fraction would divide by zero.
const LEAST: f64 = 1e-300;

/// A Beta distribution with both parameters above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Beta {
    alpha: f64,
    beta: f64,
    mean: f64,
    /// Logarithm of `x^alpha (1 - x)^beta / B(alpha, beta)` at the mean.
    log_front_at_mean: f64,
}

impl Beta {
    /// `None` unless both parameters are finite and above 0.
    pub(crate) fn new(alpha: f64, beta: f64) -> Option<Self> {
        let usable = |parameter: f64| parameter > 0.0 && parameter.is_finite();
        if !usable(alpha) || !usable(beta) {
            return None;
        }
        let size = alpha + beta;
        let log_front_at_mean =
            (libm::log(alpha) + libm::log(beta) - libm::log(size) - libm::log(std::f64::consts::TAU)) / 2.0
                - stirling_error(alpha)
                - stirling_error(beta)
                + stirling_error(size);
        Some(Self { alpha, beta, mean: alpha / size, log_front_at_mean })
    }

    /// `P(X <= x)`: the regularised incomplete beta function `I_x(alpha, beta)`.
    ///
    /// The continued fraction of Abramowitz & Stegun 26.5.8 by Lentz's method, on the side of the mean where it converges fast
    /// (26.5.2). The factor before it is taken relative to its value at the mean (Loader 2000), so that nothing cancels where
    /// both parameters are great. Relative error about 1e-13.
    pub(crate) fn below(&self, x: f64) -> f64 {
        self.tails(x).0
    }

    /// `P(X > x)`, exact to the last digits where it is small.
    pub(crate) fn above(&self, x: f64) -> f64 {
        self.tails(x).1
    }

    fn tails(&self, x: f64) -> (f64, f64) {
        if x.is_nan() || x <= 0.0 {
            return (0.0, 1.0);
        }
        if x >= 1.0 {
            return (1.0, 0.0);
        }
        let Self { alpha, beta, .. } = *self;
        let front = libm::exp(self.log_front(x));
        if x < (alpha + 1.0) / (alpha + beta + 2.0) {
            let below = (front * continued_fraction(alpha, beta, x) / alpha).clamp(0.0, 1.0);
            (below, 1.0 - below)
        } else {
            let above = (front * continued_fraction(beta, alpha, 1.0 - x) / beta).clamp(0.0, 1.0);
            (1.0 - above, above)
        }
    }

    fn log_front(&self, x: f64) -> f64 {
        let apart = x - self.mean;
        // Far below the mean 1 + apart / mean loses what x tells.
        let below = if apart < -0.5 * self.mean { libm::log(x / self.mean) } else { libm::log1p(apart / self.mean) };
        let rest = 1.0 - self.mean;
        let above = if apart > 0.5 * rest { libm::log((1.0 - x) / rest) } else { libm::log1p(-apart / rest) };
        self.alpha * below + self.beta * above + self.log_front_at_mean
    }
}

/// The fraction in 26.5.8, for `x` up to the mean of the distribution.
fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    let away_from_zero = |value: f64| if value.abs() < LEAST { LEAST } else { value };
    let mut denominator = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let (mut numerator, mut fraction) = (1.0, denominator);
    for m in 1..=TERMS_MAX {
        let m = f64::from(m);
        let (odd, even) = (a + 2.0 * m - 1.0, a + 2.0 * m);
        for term in [m * (b - m) * x / (odd * even), -(a + m) * (a + b + m) * x / (even * (even + 1.0))] {
            denominator = 1.0 / away_from_zero(1.0 + term * denominator);
            numerator = away_from_zero(1.0 + term / numerator);
            fraction *= numerator * denominator;
        }
        if (numerator * denominator - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    fraction
}

/// `ln Γ(z) - ((z - 1/2) ln z - z + ln(2 pi) / 2)`, for `z` above 0: Abramowitz & Stegun 6.1.41.
fn stirling_error(z: f64) -> f64 {
    if z < SERIES_FROM {
        return libm::lgamma(z) - (z - 0.5) * libm::log(z) + z - libm::log(std::f64::consts::TAU) / 2.0;
    }
    let inverse = 1.0 / z;
    let square = inverse * inverse;
    let terms = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0];
    inverse * terms.iter().rev().fold(0.0, |sum, term| sum * square + term)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `P(X <= x)` where `alpha` is a whole number: the chance of at least `alpha` failures in `alpha + beta - 1` requests.
    fn by_counting(alpha: u32, beta: u32, x: f64) -> f64 {
        let requests = alpha + beta - 1;
        let term = |failures: u32| {
            let ways: f64 = (0..failures).map(|i| f64::from(requests - i) / f64::from(failures - i)).product();
            ways * libm::pow(x, f64::from(failures)) * libm::pow(1.0 - x, f64::from(requests - failures))
        };
        (alpha..=requests).map(term).sum()
    }

    #[test]
    fn counts_of_failures_have_its_tails() {
        for (alpha, beta) in [(1, 1), (1, 9), (3, 5), (12, 4), (40, 160)] {
            let law = Beta::new(f64::from(alpha), f64::from(beta)).expect("both are above 0");
            for i in 1..40 {
                let x = f64::from(i) / 40.0;
                let expected = by_counting(alpha, beta, x);
                assert!((law.below(x) - expected).abs() < 1e-12, "{alpha}, {beta}, {x}");
                assert!((law.below(x) + law.above(x) - 1.0).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn published_values() {
        // Abramowitz & Stegun 26.5.2 and table 26.10 by way of 26.5.27: I(x; nu/2, 1/2) at t = 2.179, nu = 12.
        let law = Beta::new(6.0, 0.5).expect("both are above 0");
        assert!((law.below(12.0 / (12.0 + 2.179 * 2.179)) - 0.05).abs() < 6e-5);
        // The arcsine law in closed form.
        let arcsine = Beta::new(0.5, 0.5).expect("both are above 0");
        for x in [1e-9, 0.01, 0.3, 0.5, 0.99] {
            let expected = 2.0 / std::f64::consts::PI * libm::asin(f64::sqrt(x));
            assert!((arcsine.below(x) / expected - 1.0).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn great_parameters_lose_nothing() {
        // Halves of a symmetric law, however great; and one that is a power.
        for size in [1e3, 1e5, 1e7] {
            let law = Beta::new(size, size).expect("both are above 0");
            assert!((law.below(0.5) - 0.5).abs() < 1e-11, "{size}: {}", law.below(0.5));
            let power = Beta::new(size, 1.0).expect("both are above 0");
            let x = 1.0 - 1.0 / size;
            assert!((power.below(x) / libm::exp(size * libm::log1p(-1.0 / size)) - 1.0).abs() < 1e-9, "{size}");
        }
    }

    #[test]
    fn the_ends_and_what_is_no_law() {
        let law = Beta::new(2.0, 3.0).expect("both are above 0");
        assert_eq!((law.below(0.0), law.above(0.0), law.below(1.0), law.above(1.0)), (0.0, 1.0, 1.0, 0.0));
        for (alpha, beta) in [(0.0, 1.0), (1.0, -1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert_eq!(Beta::new(alpha, beta), None);
        }
    }
}
