//! A layer on top of a forecast that mends what a back-test finds, where mending is shown to help.

use serde::{Deserialize, Serialize};

/// A stated probability and what happened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stated {
    /// The probability, in [0, 1].
    pub probability: f64,
    /// Whether it happened.
    pub happened: bool,
}

/// A level of risk that follows the misses: adaptive conformal inference (Gibbs & Candès, NeurIPS 2021).
///
/// Ask the forecast for a budget that is missed with probability [`Self::level`] in place of the goal, and tell each
/// outcome: `level ← level + step (goal − missed)`. Over T windows the mean of misses is within `1 / (step T)` of the goal
/// whatever the forecast, as long as the level stays off its ends; here it is held within a quarter of the goal and four times it
/// (at most one half), so that a long quiet time cannot use up all caution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveLevel {
    goal: f64,
    step: f64,
    level: f64,
}

impl AdaptiveLevel {
    /// Starts at the goal. The goal is held within 0.0001 and 0.5, the step within 0 and 1; what is no number counts as the lower end.
    #[must_use]
    pub fn new(goal: f64, step: f64) -> Self {
        let within = |value: f64, low: f64, high: f64| if value.is_nan() { low } else { value.clamp(low, high) };
        let (goal, step) = (within(goal, 1e-4, 0.5), within(step, 0.0, 1.0));
        Self { goal, step, level: goal }
    }

    /// The probability of a miss to ask the forecast for.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.level
    }

    /// How far the level is from the goal: positive when the forecast was missed too seldom.
    #[must_use]
    pub fn offset(&self) -> f64 {
        self.level - self.goal
    }

    /// Tells whether the window missed the budget asked for.
    pub fn observe(&mut self, missed: bool) {
        let moved = self.level + self.step * (self.goal - f64::from(u8::from(missed)));
        self.level = moved.clamp(self.goal / 4.0, (self.goal * 4.0).min(0.5));
    }
}

/// What happened as a function of what was stated, by pooling of adjacent violators (Ayer et al. 1955); never falls.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Isotonic {
    blocks: Vec<Block>,
}

/// Neighbours pooled into one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Block {
    /// Mean probability stated.
    stated: f64,
    /// Greatest probability stated.
    stated_max: f64,
    /// Share that happened.
    happened: f64,
    count: f64,
}

impl Isotonic {
    /// Fits the share that happened. `believed` is a number of imagined forecasts, spread evenly over the real ones, whose
    /// stated probabilities were right: 0 leaves the data alone (as a score's decomposition wants), more draws towards no change.
    /// Probabilities that are no number are not read; others are cut to [0, 1].
    #[must_use]
    pub fn fit(stated: &[Stated], believed: f64) -> Self {
        let mut points: Vec<(f64, f64)> = stated
            .iter()
            .filter(|stated| !stated.probability.is_nan())
            .map(|stated| (stated.probability.clamp(0.0, 1.0), f64::from(u8::from(stated.happened))))
            .collect();
        // By outcome too: sums in another order differ in the last digit, and that decides what is pooled.
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let count = points.len() as f64;
        let belief = if believed > 0.0 { believed / (believed + count) } else { 0.0 };
        let mut blocks: Vec<Block> = Vec::new();
        for (p, happened) in points {
            let happened = (1.0 - belief) * happened + belief * p;
            match blocks.last_mut() {
                // The same stated probability has one answer.
                Some(last) if last.stated_max == p => {
                    *last = pooled(last, &Block { stated: p, stated_max: p, happened, count: 1.0 })
                }
                _ => blocks.push(Block { stated: p, stated_max: p, happened, count: 1.0 }),
            }
        }
        let mut kept: Vec<Block> = Vec::with_capacity(blocks.len());
        for block in blocks {
            kept.push(block);
            while let [.., a, b] = kept.as_slice()
                && a.happened >= b.happened
            {
                let one = pooled(a, b);
                kept.truncate(kept.len() - 2);
                kept.push(one);
            }
        }
        Self { blocks: kept }
    }

    /// The share of the block that a stated probability falls in (the greatest below it, between blocks): the step function that
    /// the fit is. The probability itself when nothing was fitted.
    #[must_use]
    pub fn step(&self, probability: f64) -> f64 {
        let at = self.blocks.partition_point(|block| block.stated_max < probability);
        self.blocks.get(at).or(self.blocks.last()).map_or(probability, |block| block.happened)
    }

    /// The same between the blocks' means in straight lines, from (0, 0) to (1, 1): continuous, never falls, and keeps what
    /// is certain certain. The probability itself when nothing was fitted.
    #[must_use]
    pub fn probability(&self, stated: f64) -> f64 {
        self.read(stated, |block| (block.stated, block.happened))
    }

    /// The greatest stated probability that [`Self::probability`] makes no more than the one wanted.
    #[must_use]
    pub fn stated(&self, probability: f64) -> f64 {
        self.read(probability, |block| (block.happened, block.stated))
    }

    fn read(&self, x: f64, axes: impl Fn(&Block) -> (f64, f64)) -> f64 {
        let x = if x.is_nan() { return x } else { x.clamp(0.0, 1.0) };
        let at = self.blocks.partition_point(|block| axes(block).0 < x);
        let low = at.checked_sub(1).map_or((0.0, 0.0), |at| axes(&self.blocks[at]));
        let high = self.blocks.get(at).map_or((1.0, 1.0), &axes);
        if high.0 <= low.0 {
            return low.1;
        }
        (low.1 + (high.1 - low.1) * (x - low.0) / (high.0 - low.0)).clamp(0.0, 1.0)
    }
}

fn pooled(a: &Block, b: &Block) -> Block {
    let count = a.count + b.count;
    let mean = |a_value: f64, b_value: f64| (a_value * a.count + b_value * b.count) / count;
    Block {
        stated: mean(a.stated, b.stated),
        stated_max: a.stated_max.max(b.stated_max),
        happened: mean(a.happened, b.happened),
        count,
    }
}

/// A term of the Brier score.
fn squared_error(probability: f64, happened: bool) -> f64 {
    let error = probability - f64::from(u8::from(happened));
    error * error
}

/// Imagined right forecasts of a [`Layer`]; a choice: the layer moves by half what the data says when there are as many.
const BELIEVED: f64 = 200.0;
/// Standard errors that a gain must exceed.
const EARNED_ERRORS: f64 = 2.0;
/// Least gain worth a layer: less is rounding.
const GAIN_MIN: f64 = 1e-9;
/// Services below which nothing is learned: each is scored by what the others say.
const SERVICES_MIN: usize = 4;

/// An isotonic layer over the forecasts of services, applied only where it earned its place on services it was not fitted to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Layer {
    isotonic: Option<Isotonic>,
    gain: f64,
    gain_standard_error: f64,
}

impl Layer {
    /// Learns from back-tests, one list of stated probabilities a service. Each service is scored under a layer fitted to the others;
    /// the layer is kept when its mean gain in Brier score over services is more than twice its standard error, and there are four
    /// services at least. With one standard error layers were kept that then did harm.
    #[must_use]
    pub fn learn(services: &[Vec<Stated>]) -> Self {
        let services: Vec<&Vec<Stated>> = services.iter().filter(|service| !service.is_empty()).collect();
        if services.len() < SERVICES_MIN {
            return Self::default();
        }
        let gains: Vec<f64> = (0..services.len())
            .map(|own| {
                let others: Vec<Stated> = (0..services.len())
                    .filter(|other| *other != own)
                    .flat_map(|other| services[other].iter().copied())
                    .collect();
                let layer = Isotonic::fit(&others, BELIEVED);
                let loss = |p: f64, stated: &Stated| squared_error(p, stated.happened);
                let gained = |stated: &Stated| {
                    loss(stated.probability, stated) - loss(layer.probability(stated.probability), stated)
                };
                services[own].iter().map(gained).sum::<f64>() / services[own].len() as f64
            })
            .collect();
        let count = gains.len() as f64;
        let gain = gains.iter().sum::<f64>() / count;
        let variance = gains.iter().map(|value| (value - gain) * (value - gain)).sum::<f64>() / (count - 1.0);
        let gain_standard_error = (variance / count).sqrt();
        let earned = gain > EARNED_ERRORS * gain_standard_error && gain > GAIN_MIN;
        let all = || Isotonic::fit(&services.into_iter().flatten().copied().collect::<Vec<_>>(), BELIEVED);
        Self { isotonic: earned.then(all), gain, gain_standard_error }
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn applies(&self) -> bool {
        self.isotonic.is_some()
    }

    /// Mean gain in Brier score on services that it was not fitted to; negative when it harms.
    #[must_use]
    pub fn gain(&self) -> f64 {
        self.gain
    }

    /// Standard error of the gain over services.
    #[must_use]
    pub fn gain_standard_error(&self) -> f64 {
        self.gain_standard_error
    }

    /// The probability to say where the forecast states one.
    #[must_use]
    pub fn probability(&self, stated: f64) -> f64 {
        self.isotonic.as_ref().map_or(stated, |isotonic| isotonic.probability(stated))
    }

    /// The probability to ask the forecast for, so that the one wanted is said.
    #[must_use]
    pub fn stated(&self, probability: f64) -> f64 {
        self.isotonic.as_ref().map_or(probability, |isotonic| isotonic.stated(probability))
    }

    /// What it adds to a stated probability: to be shown with every answer that it changes.
    #[must_use]
    pub fn offset(&self, stated: f64) -> f64 {
        self.probability(stated) - stated
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stated() -> impl Strategy<Value = Vec<Stated>> {
        let one =
            (0u32..=40, any::<bool>()).prop_map(|(p, happened)| Stated { probability: f64::from(p) / 40.0, happened });
        prop::collection::vec(one, 0..200)
    }

    fn brier(stated: &[Stated], probability: impl Fn(f64) -> f64) -> f64 {
        stated.iter().map(|s| squared_error(probability(s.probability), s.happened)).sum()
    }

    #[test]
    fn neighbours_in_the_wrong_order_are_pooled() {
        let of = |p: f64, happened: bool| Stated { probability: p, happened };
        // Barlow et al. 1972: of 0.1 -> 1 and 0.2 -> 0 the pooled answer is a half for both.
        let fit = Isotonic::fit(&[of(0.1, true), of(0.2, false), of(0.3, false), of(0.8, true)], 0.0);
        for (p, expected) in [(0.1, 1.0 / 3.0), (0.2, 1.0 / 3.0), (0.3, 1.0 / 3.0), (0.8, 1.0), (0.9, 1.0)] {
            assert!((fit.step(p) - expected).abs() < 1e-12, "{p}");
        }
        assert_eq!(Isotonic::fit(&[], 0.0).step(0.4), 0.4);
    }

    #[test]
    fn a_layer_is_kept_only_where_it_helps() {
        // Happens twice as often as stated, in each of ten services; then just as often.
        let services = |factor: usize| -> Vec<Vec<Stated>> {
            (0..10)
                .map(|_| {
                    (0..200).map(|i| Stated { probability: 0.2, happened: i % 10 < 2 * factor }).collect::<Vec<_>>()
                })
                .collect()
        };
        let layer = Layer::learn(&services(2));
        assert!(layer.applies() && layer.gain() > 0.02, "{layer:?}");
        assert!(layer.probability(0.2) > 0.35 && layer.offset(0.2) > 0.15);
        assert!(layer.stated(0.2) < 0.12, "half the risk is asked for");
        let none = Layer::learn(&services(1));
        assert!(!none.applies());
        assert_eq!((none.probability(0.2), none.offset(0.2)), (0.2, 0.0));
        assert!(!Layer::learn(&services(2)[..3]).applies(), "three services teach nothing");
    }

    proptest! {
        #[test]
        fn the_fit_never_falls_and_never_scores_worse(stated in stated()) {
            let fit = Isotonic::fit(&stated, 0.0);
            let steps: Vec<f64> = (0..=40).map(|p| fit.step(f64::from(p) / 40.0)).collect();
            if !stated.is_empty() {
                prop_assert!(steps.windows(2).all(|pair| pair[0] <= pair[1]), "{steps:?}");
                prop_assert!(brier(&stated, |p| fit.step(p)) <= brier(&stated, |p| p) + 1e-9);
                let base = stated.iter().filter(|s| s.happened).count() as f64 / stated.len() as f64;
                prop_assert!(brier(&stated, |p| fit.step(p)) <= brier(&stated, |_| base) + 1e-9);
                let fitted: f64 = stated.iter().map(|s| fit.step(s.probability)).sum();
                prop_assert!((fitted / stated.len() as f64 - base).abs() < 1e-9, "calibrated in the mean");
            }
        }

        #[test]
        fn the_line_never_falls_and_keeps_its_ends(stated in stated(), believed in 0.0f64..500.0) {
            let fit = Isotonic::fit(&stated, believed);
            let line: Vec<f64> = (0..=200).map(|p| fit.probability(f64::from(p) / 200.0)).collect();
            prop_assert!(line.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12), "{line:?}");
            prop_assert!(line.iter().all(|p| (0.0..=1.0).contains(p)));
            // Certainties that did not hold make a jump at an end; everywhere else the one is the inverse of the other.
            for p in [0.02, 0.1, 0.25, 0.7] {
                let asked = fit.stated(p);
                prop_assert!(fit.probability(asked) <= p + 1e-9, "{p}");
                prop_assert!(asked >= 1.0 || fit.probability((asked + 1e-9).min(1.0)) >= p - 1e-9, "{p}");
            }
        }

        #[test]
        fn the_order_of_what_was_stated_does_not_matter(mut stated in stated()) {
            let fit = Isotonic::fit(&stated, 50.0);
            stated.reverse();
            let again = Isotonic::fit(&stated, 50.0);
            for p in 0..=20 {
                let p = f64::from(p) / 20.0;
                prop_assert!((fit.probability(p) - again.probability(p)).abs() < 1e-12);
            }
        }

        #[test]
        fn misses_come_near_the_goal_whatever_the_forecast(goal in 0.05f64..0.4, tilt in 0.3f64..3.0, seed in 0u64..1000) {
            // A forecast that is missed `tilt` times as often as it says, within what the level may follow.
            let mut adaptive = AdaptiveLevel::new(goal, 0.01);
            let (mut state, mut missed_count) = (seed, 0.0);
            let rounds = 20_000;
            for _ in 0..rounds {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let uniform = (state >> 11) as f64 / (1u64 << 53) as f64;
                let missed = uniform < adaptive.level() * tilt;
                missed_count += f64::from(u8::from(missed));
                adaptive.observe(missed);
                prop_assert!((goal / 4.0..=goal * 4.0).contains(&adaptive.level()));
            }
            // Where even the greatest level is missed less than the goal, that is as near as it may come.
            let (reached, most) = (missed_count / f64::from(rounds), (goal * 4.0).min(0.5) * tilt);
            prop_assert!(reached < goal + 0.02 && reached > goal.min(most) - 0.04, "{reached} for {goal}");
        }
    }
}
