//! Two arms compared over units that were drawn by lot: teams, or components of a graph.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Fewest units of an arm that anything is concluded from: with four and four the least p-value that there can be is 2/70, with three and
/// three it is 2/20.
pub const UNITS_MIN: usize = 4;
/// Other ways to draw the arms that are looked at.
const DRAWS: u32 = 9_999;
/// Fewest units for an interval.
const INTERVAL_UNITS_MIN: usize = 3;
/// Share of the distribution below the upper end of a two-sided interval of 95 %.
const UPPER: f64 = 0.975;

/// Which arm a unit was drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What is compared with.
    Control,
    /// What is tried.
    Treatment,
}

impl Side {
    /// The control first.
    pub const ALL: [Self; 2] = [Self::Control, Self::Treatment];
}

/// What one unit adds to the figure of its arm, which is the sum of the numerators over the sum of the denominators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnitOutcome {
    /// Its arm.
    pub side: Side,
    /// For example windows that missed.
    pub numerator: f64,
    /// For example windows; at least 0.
    pub denominator: f64,
}

/// A figure with its 95 % interval; without one where there are fewer than three units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The figure.
    pub value: f64,
    /// Both ends.
    pub ends: Option<(f64, f64)>,
}

/// Treatment less control.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The difference of the figures.
    pub interval: Interval,
    /// Two-sided p-value of the randomisation test, in (0, 1].
    pub p_value: f64,
}

/// Nothing can be concluded: how many units of each arm have what the figure is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFewUnits {
    /// Of the control.
    pub control: usize,
    /// Of the treatment.
    pub treatment: usize,
}

/// The figure of one arm. `None` where its denominators are 0.
///
/// The interval takes units, not what is in them, for independent: the linearised variance of a ratio
/// `m / (m - 1) * sum (n_i - R d_i)^2 / (sum d)^2` over `m` units (Cochran, Sampling Techniques, 3rd ed. 1977, section 6.4), with Student's
/// t of `m - 1` degrees of freedom. With few units or heavy tails it is too narrow; the test below is not.
#[must_use]
pub fn ratio(units: &[UnitOutcome], side: Side) -> Option<Interval> {
    let part = Part::of(units.iter().filter(|unit| unit.side == side))?;
    let ends = (part.count >= INTERVAL_UNITS_MIN).then(|| {
        let half = quantile(part.count - 1) * part.variance.sqrt();
        (part.ratio - half, part.ratio + half)
    });
    Some(Interval { value: part.ratio, ends })
}

/// Compares the figures of both arms.
///
/// The p-value is of a randomisation test: how many ways to draw as many units for the treatment as there are give a difference at least
/// as large? It is exact whatever the distribution, under the hypothesis that the arm makes no difference to any unit (R. A. Fisher, The
/// Design of Experiments, 1935; clusters as units: Gail and others, Statistics in Medicine 15, 1996). 9,999 ways are drawn, the one that
/// happened is one more. It may be looked at once, at an instant that was fixed before: whoever looks again and again until it is small
/// will see it small (Johari and others, Peeking at A/B Tests, KDD 2017).
///
/// # Errors
/// Fewer than [`UNITS_MIN`] units of an arm have a denominator.
pub fn difference(units: &[UnitOutcome], seed: u64) -> Result<Difference, TooFewUnits> {
    let with: Vec<UnitOutcome> = units.iter().filter(|unit| unit.denominator > 0.0).copied().collect();
    let of = |side| with.iter().filter(move |unit| unit.side == side);
    let (control_count, treated_count) = (of(Side::Control).count(), of(Side::Treatment).count());
    let (Some(control), Some(treatment), true) = (
        Part::of(of(Side::Control)),
        Part::of(of(Side::Treatment)),
        control_count >= UNITS_MIN && treated_count >= UNITS_MIN,
    ) else {
        return Err(TooFewUnits { control: control_count, treatment: treated_count });
    };
    let value = treatment.ratio - control.ratio;
    let half = quantile(control_count + treated_count - 2) * (control.variance + treatment.variance).sqrt();
    let interval = Interval { value, ends: Some((value - half, value + half)) };
    Ok(Difference { interval, p_value: p_value(with, treated_count, value, seed) })
}

/// Share of ways to draw the treatment that differ by at least as much.
fn p_value(mut units: Vec<UnitOutcome>, treated_count: usize, happened: f64, seed: u64) -> f64 {
    let total = Sums::of(units.iter());
    // A hair of tolerance: the same units summed in another order must count.
    let least = happened.abs() * (1.0 - 1e-9);
    let mut state = seed;
    let mut as_far = 1u32;
    for _ in 0..DRAWS {
        // The first places of a shuffle (Fisher and Yates) are a draw without replacement.
        for place in 0..treated_count {
            let other = place + below(&mut state, (units.len() - place) as u64) as usize;
            units.swap(place, other);
        }
        let treated = Sums::of(units[..treated_count].iter());
        let rest = Sums {
            numerator: total.numerator - treated.numerator,
            denominator: total.denominator - treated.denominator,
        };
        as_far += u32::from((treated.ratio() - rest.ratio()).abs() >= least);
    }
    f64::from(as_far) / f64::from(DRAWS + 1)
}

#[derive(Clone, Copy)]
struct Sums {
    numerator: f64,
    denominator: f64,
}

impl Sums {
    fn of<'a>(units: impl Iterator<Item = &'a UnitOutcome>) -> Self {
        units.fold(Self { numerator: 0.0, denominator: 0.0 }, |sums, unit| Self {
            numerator: sums.numerator + unit.numerator,
            denominator: sums.denominator + unit.denominator,
        })
    }

    fn ratio(self) -> f64 {
        self.numerator / self.denominator
    }
}

/// A ratio over some units, and the variance of it.
struct Part {
    count: usize,
    ratio: f64,
    variance: f64,
}

impl Part {
    fn of<'a>(units: impl Iterator<Item = &'a UnitOutcome> + Clone) -> Option<Self> {
        let sums = Sums::of(units.clone());
        let count = units.clone().filter(|unit| unit.denominator > 0.0).count();
        if sums.denominator <= 0.0 {
            return None;
        }
        let ratio = sums.ratio();
        let residuals = units.map(|unit| unit.numerator - ratio * unit.denominator);
        let squares: f64 = residuals.map(|residual| residual * residual).sum();
        let correction = count as f64 / (count as f64 - 1.0).max(1.0);
        Some(Self { count, ratio, variance: correction * squares / (sums.denominator * sums.denominator) })
    }
}

/// The 97.5 % quantile of Student's t.
fn quantile(freedom: usize) -> f64 {
    StudentsT::new(0.0, 1.0, freedom.max(1) as f64).map_or(f64::INFINITY, |student| student.inverse_cdf(UPPER))
}

/// A number below `bound`, which is far below 2^32 here: the upper half of the next number of a fixed sequence (SplitMix64: Steele, Lea
/// and Flood, OOPSLA 2014), scaled.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    ((bits >> 32) * bound) >> 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(treated: bool, numerator: f64, denominator: f64) -> UnitOutcome {
        let side = if treated { Side::Treatment } else { Side::Control };
        UnitOutcome { side, numerator, denominator }
    }

    /// Reference: the interval of a mean is the case of equal denominators. Of 1, 2, 3, 4, 5 it is 3 +- 2.776 sqrt(2.5 / 5).
    #[test]
    fn with_equal_denominators_it_is_the_interval_of_a_mean() {
        let units: Vec<UnitOutcome> = (1..=5).map(|i| unit(false, f64::from(i), 1.0)).collect();
        let interval = ratio(&units, Side::Control).expect("there are some");
        let (low, high) = interval.ends.expect("five units");
        assert!((interval.value - 3.0).abs() < 1e-12 && (high - 3.0 - 2.776_445 * 0.5f64.sqrt()).abs() < 1e-5);
        assert!((low + high - 6.0).abs() < 1e-12);
        assert_eq!(ratio(&units, Side::Treatment), None);
        assert_eq!(ratio(&units[..2], Side::Control).expect("two").ends, None);
    }

    /// Fisher's 2 of 70: four against four, as far apart as can be.
    #[test]
    fn the_least_p_value_of_four_and_four_is_two_in_seventy() {
        let units: Vec<UnitOutcome> = (0..8).map(|i| unit(i >= 4, f64::from(u8::from(i >= 4)) * 10.0, 10.0)).collect();
        let found = difference(&units, 1).expect("enough");
        assert_eq!(found.interval.value, 1.0);
        assert!((found.p_value - 2.0 / 70.0).abs() < 0.006, "{}", found.p_value);
        assert_eq!(difference(&units[1..], 1), Err(TooFewUnits { control: 3, treatment: 4 }));
    }

    #[test]
    fn units_without_what_the_figure_is_made_of_do_not_count() {
        let mut units: Vec<UnitOutcome> = (0..10).map(|i| unit(i % 2 == 0, f64::from(i % 3), 4.0)).collect();
        let before = difference(&units, 3).expect("enough");
        units.extend([unit(true, 0.0, 0.0), unit(false, 0.0, 0.0)]);
        assert_eq!(difference(&units, 3), Ok(before));
    }

    fn outcomes() -> impl Strategy<Value = Vec<UnitOutcome>> {
        prop::collection::vec((any::<bool>(), 0.0f64..5.0, 0.0f64..5.0), 0..40)
            .prop_map(|units| units.into_iter().map(|(treated, n, d)| unit(treated, n, d)).collect())
    }

    proptest! {
        #[test]
        fn swapping_the_arms_turns_the_difference_round(units in outcomes(), seed in any::<u64>()) {
            let swapped: Vec<UnitOutcome> =
                units.iter().map(|one| unit(one.side == Side::Control, one.numerator, one.denominator)).collect();
            match (difference(&units, seed), difference(&swapped, seed)) {
                (Ok(a), Ok(b)) => {
                    prop_assert!((a.interval.value + b.interval.value).abs() < 1e-9);
                    prop_assert!((a.p_value - b.p_value).abs() < 0.05, "{} {}", a.p_value, b.p_value);
                    prop_assert!(a.p_value > 0.0 && a.p_value <= 1.0);
                    let (low, high) = a.interval.ends.expect("enough units");
                    prop_assert!(low <= a.interval.value && a.interval.value <= high);
                }
                (Err(a), Err(b)) => prop_assert_eq!((a.control, a.treatment), (b.treatment, b.control)),
                (a, b) => prop_assert!(false, "{:?} {:?}", a, b),
            }
        }
    }
}
