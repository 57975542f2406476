//! Seeded Monte Carlo over the same equations, 64 sampled states a machine word.

use crate::draws::DRAWS;
use crate::equations::{Clause, Equation, Source, Variable};
use crate::fixed_point::{Algebra, Schedule, Start, solve};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::convert::Infallible;

/// Sampled states in one word.
const LANES: u32 = u64::BITS;

/// Two-sided 95 % quantile of the standard normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// Word operations spent on samples: keeps a root above 100,000 components within seconds, at about 8,000 states.
const SAMPLE_OPERATIONS_MAX: usize = 100_000_000;

/// From this failure ratio on a word is drawn digit by digit (about 8 random numbers); below it, from failure to failure
/// (64 × ratio random numbers and as many logarithms).
const DENSE_FROM: f64 = 0.05;

/// Words sampled at least, so that an interval always has a thousand states behind it.
const WORDS_MIN: usize = 16;

/// Word operations spent on importances: under a second on one core without optimisation.
const IMPORTANCE_OPERATIONS_MAX: usize = 20_000_000;

/// What sampling says about node 0.
pub(crate) struct Estimate {
    pub(crate) up: f64,
    /// Wilson's 95 % interval.
    pub(crate) interval: (f64, f64),
    /// By variable: `P(up | variable up) − P(up | variable down)` from common random numbers; nothing where the budget
    /// did not reach.
    pub(crate) birnbaum: Vec<Option<f64>>,
}

/// Estimates the probability that node 0 is up, from `sample_count` states rounded up to whole words; from fewer where
/// variables are so many that they would take more than a bounded number of draws (the interval is then wider).
///
/// Every variable is drawn for every state, used or not, so that two starts with one seed see the same states. With
/// `ranked`, also importances: each candidate variable is set up and then down in the same states. Candidates are
/// taken by failure ratio, the largest first, as far as a fixed budget reaches; what a variable contributes to
/// unavailability is at most its failure ratio, so those left out matter least.
pub(crate) fn estimate(variables: &[Variable], equations: &[Equation], start: Start, sampling: Sampling) -> Estimate {
    let schedule = Schedule::of(equations, [0]);
    let cost = cost_of(equations, &schedule);
    let word_count = word_count(sampling.sample_count, drawing_cost(variables) + cost);
    let plan = if sampling.ranked {
        ImportancePlan::new(variables, equations, &schedule, cost, word_count)
    } else {
        ImportancePlan::default()
    };
    let mut random = ChaCha8Rng::seed_from_u64(sampling.seed);
    let mut states = States::new(variables, &mut random);
    let mut up_count = 0_u64;
    let mut gains = vec![0_u64; plan.candidates.len()];
    for word in 0..word_count {
        states.draw(&mut random);
        up_count += u64::from(states.solve(equations, &schedule, start).count_ones());
        if word < plan.word_count {
            for (gain, &variable) in gains.iter_mut().zip(&plan.candidates) {
                *gain += states.gain(variable, equations, &schedule, start);
            }
        }
    }
    let sample_count = u64::from(word_count) * u64::from(LANES);
    Estimate {
        up: up_count as f64 / sample_count as f64,
        interval: wilson_interval(up_count, sample_count),
        birnbaum: plan.birnbaum(variables.len(), &gains),
    }
}

/// As many words as asked for, within what a call may take; `cost` is in operations a word.
fn word_count(sample_count: u32, cost: usize) -> u32 {
    let affordable = (SAMPLE_OPERATIONS_MAX / cost.max(1)).max(WORDS_MIN);
    let affordable = u32::try_from(affordable).unwrap_or(u32::MAX);
    sample_count.div_ceil(LANES).clamp(1, affordable)
}

/// How much to sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampling {
    pub(crate) sample_count: u32,
    pub(crate) seed: u64,
    pub(crate) ranked: bool,
}

/// Wilson's score interval for a share, 95 %, two-sided (Wilson 1927). Never empty: no failure among n leaves an upper
/// bound of about 3.8 / n on the failure ratio. Assumes independent samples.
pub(crate) fn wilson_interval(success_count: u64, sample_count: u64) -> (f64, f64) {
    let n = sample_count as f64;
    let share = success_count as f64 / n;
    let z2 = Z_95 * Z_95;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let low = if success_count == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if success_count == sample_count { 1.0 } else { (centre + half).min(1.0) };
    (low, high)
}

#[derive(Default)]
struct ImportancePlan {
    candidates: Vec<u32>,
    word_count: u32,
    /// Variables that no solved equation mentions: their importance is 0 without sampling.
    unused: Vec<u32>,
}

impl ImportancePlan {
    fn new(variables: &[Variable], equations: &[Equation], schedule: &Schedule, cost: usize, word_count: u32) -> Self {
        let mut used = vec![false; variables.len()];
        for node in schedule.nodes() {
            let equation = &equations[node];
            let guards = equation.clauses.iter().filter_map(|clause| match clause {
                Clause::Needs { unless, .. } => *unless,
                Clause::AtLeast { .. } => None,
            });
            for variable in equation.own.iter().copied().chain(guards) {
                used[variable as usize] = true;
            }
        }
        let (mut candidates, unused): (Vec<u32>, Vec<u32>) =
            (0..variables.len() as u32).partition(|&v| used[v as usize]);
        candidates.retain(|&v| variables[v as usize].source != Source::Fallback);
        let ratio = |v: u32| variables[v as usize].failure_ratio;
        candidates.sort_by(|&a, &b| ratio(b).total_cmp(&ratio(a)).then(a.cmp(&b)));
        let solutions = IMPORTANCE_OPERATIONS_MAX / (2 * cost).max(1);
        candidates.truncate(solutions.max(1));
        let word_count = (solutions / candidates.len().max(1)).clamp(1, word_count as usize);
        Self { candidates, word_count: word_count as u32, unused }
    }

    fn birnbaum(&self, variable_count: usize, gains: &[u64]) -> Vec<Option<f64>> {
        let mut birnbaum = vec![None; variable_count];
        for &variable in &self.unused {
            birnbaum[variable as usize] = Some(0.0);
        }
        let samples = f64::from(self.word_count) * f64::from(LANES);
        for (&variable, &gain) in self.candidates.iter().zip(gains) {
            birnbaum[variable as usize] = Some(gain as f64 / samples);
        }
        birnbaum
    }
}

/// Operations that solving one word takes, cycles counted as one round.
pub(crate) fn cost_of(equations: &[Equation], schedule: &Schedule) -> usize {
    let of_clause = |clause: &Clause| match clause {
        Clause::Needs { .. } => 1,
        Clause::AtLeast { required, nodes } => required * nodes.len(),
    };
    let of_equation =
        |equation: &Equation| 1 + equation.own.len() + equation.clauses.iter().map(of_clause).sum::<usize>();
    schedule.nodes().map(|node| of_equation(&equations[node])).sum()
}

/// Operations that drawing one word of all variables takes, each random number counted as one.
fn drawing_cost(variables: &[Variable]) -> usize {
    let numbers = |variable: &Variable| {
        let q = variable.failure_ratio;
        1.0 + if q < DENSE_FROM { 64.0 * q } else { 8.0 }
    };
    variables.iter().map(numbers).sum::<f64>() as usize
}

/// One word of states: bit l of a variable's word says whether it is up in state l.
struct States {
    draws: Vec<Draw>,
    words: Vec<u64>,
}

/// How a variable's words are drawn.
enum Draw {
    /// The failure ratio as a binary fraction, its first digit highest.
    Dense(u64),
    /// States until the next failure, and the logarithm of the probability of being up.
    Sparse { wait: u64, ln_up: f64 },
}

impl States {
    fn new(variables: &[Variable], random: &mut ChaCha8Rng) -> Self {
        let draws = variables.iter().map(|v| Draw::new(v.failure_ratio, random));
        Self { draws: draws.collect(), words: vec![0; variables.len()] }
    }

    fn draw(&mut self, random: &mut ChaCha8Rng) {
        for (word, draw) in self.words.iter_mut().zip(&mut self.draws) {
            *word = !draw.failures(random);
        }
    }

    fn solve(&mut self, equations: &[Equation], schedule: &Schedule, start: Start) -> u64 {
        let Ok(values) = solve(equations, schedule, start, self);
        values[0]
    }

    /// States in which node 0 is up or down as the variable is.
    fn gain(&mut self, variable: u32, equations: &[Equation], schedule: &Schedule, start: Start) -> u64 {
        let drawn = self.words[variable as usize];
        self.words[variable as usize] = !0;
        let with = self.solve(equations, schedule, start);
        self.words[variable as usize] = 0;
        let without = self.solve(equations, schedule, start);
        self.words[variable as usize] = drawn;
        u64::from((with & !without).count_ones())
    }
}

impl Algebra for States {
    type Value = u64;
    type Error = Infallible;

    fn constant(&self, up: bool) -> u64 {
        if up { !0 } else { 0 }
    }

    fn variable(&mut self, variable: u32) -> Result<u64, Infallible> {
        Ok(self.words[variable as usize])
    }

    fn and(&mut self, a: u64, b: u64) -> Result<u64, Infallible> {
        Ok(a & b)
    }

    fn or(&mut self, a: u64, b: u64) -> Result<u64, Infallible> {
        Ok(a | b)
    }
}

impl Draw {
    fn new(failure_ratio: f64, random: &mut ChaCha8Rng) -> Self {
        if failure_ratio >= DENSE_FROM {
            // A failure ratio of 1 saturates to 1 − 2^−64.
            return Self::Dense((failure_ratio * DRAWS) as u64);
        }
        let ln_up = libm::log1p(-failure_ratio);
        Self::Sparse { wait: draw_wait(ln_up, random), ln_up }
    }

    /// The next word, its bits 1 where the variable is down.
    fn failures(&mut self, random: &mut ChaCha8Rng) -> u64 {
        match self {
            Self::Dense(threshold) => draw_below(*threshold, random),
            Self::Sparse { wait, ln_up } => {
                let mut failures = 0;
                while *wait < u64::from(LANES) {
                    failures |= 1 << *wait;
                    *wait = draw_wait(*ln_up, random).saturating_add(1).saturating_add(*wait);
                }
                *wait -= u64::from(LANES);
                failures
            }
        }
    }
}

/// States that are up before the next that is down: geometric, by inversion.
fn draw_wait(ln_up: f64, random: &mut ChaCha8Rng) -> u64 {
    if ln_up == 0.0 {
        return u64::MAX;
    }
    // From 2^−53 to 1, so that the logarithm is finite.
    let uniform = ((random.next_u64() >> 11) + 1) as f64 * f64::EPSILON / 2.0;
    (libm::log(uniform) / ln_up) as u64
}

/// A word whose bits are 1 with probability `threshold / 2^64`, independently: compares 64 random numbers with it digit by
/// digit, all at once, until each is decided (about 8 draws, not 64).
fn draw_below(threshold: u64, random: &mut ChaCha8Rng) -> u64 {
    let mut below = 0;
    let mut undecided = !0_u64;
    let mut digits = threshold;
    while digits != 0 && undecided != 0 {
        let drawn = random.next_u64();
        if digits >> 63 == 1 {
            below |= undecided & !drawn;
            undecided &= drawn;
        } else {
            undecided &= !drawn;
        }
        digits <<= 1;
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_drawn_with_their_ratio() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for ratio in [0.0, 1e-12, 1e-3, 0.04, 0.05, 0.25, 0.7, 1.0] {
            let mut draw = Draw::new(ratio, &mut random);
            let words = 20_000;
            let mut by_lane = [0_u32; LANES as usize];
            for _ in 0..words {
                let word = draw.failures(&mut random);
                for (lane, count) in by_lane.iter_mut().enumerate() {
                    *count += (word >> lane & 1) as u32;
                }
            }
            let near = |count: u32, n: f64, sigmas: f64| {
                let sigma = (ratio * (1.0 - ratio) / n).sqrt();
                (f64::from(count) / n - ratio).abs() <= sigmas * sigma + 1e-12
            };
            let n = f64::from(words);
            assert!(near(by_lane.iter().sum(), n * 64.0, 4.0), "{ratio}");
            let every_lane = by_lane.iter().all(|&count| near(count, n, 5.0));
            assert!(every_lane, "{ratio}: {by_lane:?}");
        }
    }

    #[test]
    fn many_variables_are_paid_for_in_samples() {
        assert_eq!(word_count(65_536, 300), 1_024);
        assert_eq!(word_count(0, 0), 1);
        assert_eq!(word_count(65_536, 1_000_000), 100);
        assert_eq!(word_count(u32::MAX, 40_000_000), 16);
    }

    #[test]
    fn wilson_agrees_with_published_values() {
        // Newcombe 1998, table I: 81 of 263 and 15 of 148, and 0 of 20.
        for (successes, count, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
        {
            let found = wilson_interval(successes, count);
            assert!((found.0 - low).abs() < 5e-5, "{found:?}");
            assert!((found.1 - high).abs() < 5e-5, "{found:?}");
        }
    }
}
