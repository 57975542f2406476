//! Tail of Student's t distribution.

use crate::beta::Beta;

/// The first of [`ratio`]: divisions are dear, and it is the same few that are asked for.
const RATIOS: [f64; 16] = {
    let mut ratios = [0.0; 16];
    let mut k = 1;
    while k < 16 {
        ratios[k] = ratio(k as u32);
        k += 1;
    }
    ratios
};

/// A term of the series of 26.7.4 over the one before, without the cosine.
const fn ratio(k: u32) -> f64 {
    let k = k as f64;
    (2.0 * k - 1.0) / (2.0 * k)
}

/// `P(T > t)` with `nu` degrees of freedom; 0 counts as 1.
///
/// For even `nu` the closed form of Abramowitz & Stegun 26.7.4 (a hundred times faster than the incomplete beta function,
/// and the predictor asks for it thousands of times); otherwise 26.5.27 and the Beta distribution. Absolute error about 1e-15.
pub(crate) fn upper_tail(t: f64, nu: u32) -> f64 {
    if t.is_nan() {
        return 0.0;
    }
    if t.is_infinite() {
        return if t > 0.0 { 0.0 } else { 1.0 };
    }
    if nu == 0 || nu % 2 == 1 {
        return by_beta(t, f64::from(nu.max(1)));
    }
    let freedom = f64::from(nu);
    let cos2 = freedom / (freedom + t * t);
    let sine = t / (freedom + t * t).sqrt();
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..nu / 2 {
        let ratio = RATIOS.get(k as usize).copied().unwrap_or_else(|| ratio(k));
        term *= ratio * cos2;
        sum += term;
    }
    ((1.0 - sine * sum) / 2.0).clamp(0.0, 1.0)
}

/// [`upper_tail`] of each of several finite `t`, in its place: several at a time for even `nu`.
pub(crate) fn upper_tails(ts: &mut [f64], nu: u32) {
    if nu == 0 || nu % 2 == 1 || ts.iter().any(|t| !t.is_finite()) {
        ts.iter_mut().for_each(|t| *t = upper_tail(*t, nu));
        return;
    }
    let freedom = f64::from(nu);
    for ts in ts.chunks_mut(AT_ONCE) {
        let (mut cos2, mut term, mut sum) = ([0.0; AT_ONCE], [1.0; AT_ONCE], [1.0; AT_ONCE]);
        cos2.iter_mut().zip(&*ts).for_each(|(cos2, t)| *cos2 = freedom / (freedom + t * t));
        for k in 1..nu / 2 {
            let ratio = RATIOS.get(k as usize).copied().unwrap_or_else(|| ratio(k));
            for ((term, sum), cos2) in term.iter_mut().zip(&mut sum).zip(&cos2) {
                *term *= ratio * cos2;
                *sum += *term;
            }
        }
        for (t, sum) in ts.iter_mut().zip(&sum) {
            let sine = *t / (freedom + *t * *t).sqrt();
            *t = ((1.0 - sine * sum) / 2.0).clamp(0.0, 1.0);
        }
    }
}

/// How many tails are computed together.
const AT_ONCE: usize = 8;

/// The `t` below which a share `p` lies, to its last digits; `p` in (0, 1), kept 1e-15 away from both ends.
pub(crate) fn quantile(p: f64, nu: u32) -> f64 {
    let p = p.clamp(1e-15, 1.0 - 1e-15);
    let above = 1.0 - p;
    // The law is symmetric, and small tails are exact on the upper side only for `by_beta`: search there by halves.
    let tail = p.min(above);
    let mut high = 1.0;
    while upper_tail(high, nu) > tail {
        high *= 2.0;
    }
    let mut low = 0.0;
    while high - low > 1e-15 * f64::max(high, 1.0) {
        let middle = (low + high) / 2.0;
        if upper_tail(middle, nu) > tail { low = middle } else { high = middle }
    }
    if p < above { -high } else { high }
}

fn by_beta(t: f64, freedom: f64) -> f64 {
    let law = Beta::new(freedom / 2.0, 0.5).expect("at least one degree of freedom");
    let tail = law.below(freedom / (freedom + t * t)) / 2.0;
    if t > 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_agrees_with_the_incomplete_beta_function() {
        for nu in [2, 4, 12, 30] {
            for i in -80..=80 {
                let t = f64::from(i) / 8.0;
                let expected = by_beta(t, f64::from(nu));
                assert!((upper_tail(t, nu) - expected).abs() < 1e-12, "nu {nu}, t {t}");
            }
        }
    }

    #[test]
    fn published_critical_values() {
        // Abramowitz & Stegun, table 26.10: one-sided 5 %, 2.5 % and 0.5 % for 12 degrees of freedom.
        for (t, p) in [(1.782, 0.05), (2.179, 0.025), (3.055, 0.005)] {
            assert!((upper_tail(t, 12) - p).abs() < 3e-5, "{t}");
            assert!((quantile(1.0 - p, 12) - t).abs() < 6e-4, "{t}");
            assert!((quantile(p, 12) + t).abs() < 6e-4, "{t}");
        }
        assert_eq!(upper_tail(f64::INFINITY, 12), 0.0);
        assert_eq!(upper_tail(f64::NEG_INFINITY, 12), 1.0);
    }

    #[test]
    fn several_tails_are_the_same_bits() {
        for nu in [0, 1, 2, 5, 20, 40] {
            for count in [1, 7, 8, 19] {
                let ts: Vec<f64> = (0..count).map(|i| f64::from(i * i) / 3.0 - 7.0).collect();
                let mut tails = ts.clone();
                upper_tails(&mut tails, nu);
                assert_eq!(tails, ts.iter().map(|t| upper_tail(*t, nu)).collect::<Vec<f64>>());
            }
        }
        let mut odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5];
        upper_tails(&mut odd, 20);
        assert_eq!(odd, [0.0, 0.0, 1.0, upper_tail(0.5, 20)]);
    }

    #[test]
    fn cauchys_law_in_closed_form() {
        for i in -40..=40 {
            let t = f64::from(i) / 4.0;
            let expected = 0.5 - libm::atan(t) / std::f64::consts::PI;
            assert!((upper_tail(t, 1) - expected).abs() < 1e-14, "{t}");
        }
        for p in [1e-12, 0.01, 0.3, 0.5, 0.9] {
            assert!((upper_tail(quantile(p, 1), 1) - (1.0 - p)).abs() < 1e-12, "{p}");
        }
    }
}
