//! Sampled states that depend on nothing but the seed, who is random, and the number of the state.
//!
//! Every state of something random has a number U of its own, uniform in `[0, 1)`, and is a failure where `U < q`. So
//! whatever has the same name fails in the same states wherever it is asked about; and of two failure ratios the lesser one's
//! failures are among the greater one's (common random numbers, coupled by inversion). Numbers are made where they are
//! needed rather than drawn in turn: SplitMix64 (Steele, Lea and Flood 2014), started anew for each name and word.

use std::collections::HashMap;

/// Words that are handled together.
pub(crate) const BLOCK_WORDS: usize = 16;
/// Sampled states in one block.
pub(crate) const BLOCK_STATES: u64 = BLOCK_WORDS as u64 * u64::BITS as u64;
/// One bit for each state of a block.
pub(crate) type Block = [u64; BLOCK_WORDS];

/// Increment of SplitMix64: the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A failure ratio of 1, as a binary fraction of 64 digits: 2^64.
pub(crate) const DRAWS: f64 = 18_446_744_073_709_551_616.0;

/// Numbers that one word takes on average, whatever the failure ratio: as many binary digits as 64 comparisons need.
const NUMBERS_PER_WORD: usize = 8;

/// A name as a number: names that differ in any part are as good as certain to differ in the number.
pub(crate) fn name_of(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, |name, part| mix(name.wrapping_add(STEP) ^ mix(part.wrapping_add(STEP))))
}

/// SplitMix64's output function, a bijection.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// One block of states of everything random that is asked about.
pub(crate) struct Draws {
    seed: u64,
    random: Vec<Random>,
    positions: HashMap<Random, u32>,
    /// Bits are 1 where it is up.
    up: Vec<Block>,
}

/// Something random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Random {
    name: u64,
    threshold: u64,
}

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, random: Vec::new(), positions: HashMap::new(), up: Vec::new() }
    }

    /// Where the states of something that fails with this ratio are found.
    pub(crate) fn position(&mut self, name: u64, failure_ratio: f64) -> u32 {
        let random = Random { name, threshold: threshold(failure_ratio) };
        *self.positions.entry(random).or_insert_with(|| {
            self.random.push(random);
            self.up.push([0; BLOCK_WORDS]);
            (self.random.len() - 1) as u32
        })
    }

    /// Replaces all states by those of the block of this number.
    pub(crate) fn draw(&mut self, block: u64) {
        let starts: Block = std::array::from_fn(|word| start(self.seed, block * BLOCK_WORDS as u64 + word as u64));
        for (up, random) in self.up.iter_mut().zip(&self.random) {
            *up = starts.map(|start| !random.failures(start));
        }
    }

    pub(crate) fn up(&self, position: u32) -> &Block {
        &self.up[position as usize]
    }

    /// Operations that drawing a word of everything takes.
    pub(crate) fn cost(&self) -> usize {
        self.random.len() * NUMBERS_PER_WORD
    }
}

impl Random {
    /// A word whose bits are 1 where `U < threshold`: compares 64 numbers with it digit by digit, all at once, until each is
    /// decided.
    fn failures(self, start: u64) -> u64 {
        if self.threshold == u64::MAX {
            return !0;
        }
        let mut state = mix(self.name ^ start);
        let mut below = 0;
        let mut undecided = !0_u64;
        let mut digits = self.threshold;
        while digits != 0 && undecided != 0 {
            state = state.wrapping_add(STEP);
            let drawn = mix(state);
            let one = ((digits as i64) >> 63) as u64;
            below |= undecided & !drawn & one;
            undecided &= drawn ^ !one;
            digits <<= 1;
        }
        below
    }
}

/// Where numbers of a word start; names lead on from there.
fn start(seed: u64, word: u64) -> u64 {
    name_of([seed, word])
}

/// The failure ratio as a binary fraction, its first digit highest; 1 is as good as its predecessor, and always fails.
fn threshold(failure_ratio: f64) -> u64 {
    (failure_ratio * DRAWS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(ratio: f64, name: u64, seed: u64, words: u64) -> Vec<u64> {
        let random = Random { name, threshold: threshold(ratio) };
        (0..words).map(|word| random.failures(start(seed, word))).collect()
    }

    #[test]
    fn mixing_gives_the_published_numbers() {
        // The first outputs of SplitMix64 from the seed 1234567, as its reference implementation prints them.
        let outputs = (1..=3_u64).map(|turn| mix(1_234_567_u64.wrapping_add(STEP.wrapping_mul(turn))));
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert!(outputs.eq(expected));
    }

    #[test]
    fn states_fail_with_their_ratio_in_every_lane() {
        for (name, ratio) in (0..).zip([0.0, 1e-12, 1e-3, 0.04, 0.25, 0.5, 0.7, 1.0]) {
            let words = 20_000;
            let mut by_lane = [0_u32; 64];
            for word in failures(ratio, name_of([name]), 7, words) {
                for (lane, count) in by_lane.iter_mut().enumerate() {
                    *count += (word >> lane & 1) as u32;
                }
            }
            let near = |count: u32, n: f64, sigmas: f64| {
                let sigma = (ratio * (1.0 - ratio) / n).sqrt();
                (f64::from(count) / n - ratio).abs() <= sigmas * sigma + 1e-12
            };
            let n = words as f64;
            assert!(near(by_lane.iter().sum(), n * 64.0, 4.0), "{ratio}");
            assert!(by_lane.iter().all(|&count| near(count, n, 5.0)), "{ratio}: {by_lane:?}");
        }
    }

    #[test]
    fn names_and_words_fail_independently() {
        let [one, other] = [1, 2].map(|name| failures(0.5, name_of([name]), 7, 20_000));
        let agreeing = |pairs: &mut dyn Iterator<Item = (&u64, &u64)>| -> f64 {
            let (mut agreed, mut count) = (0, 0);
            for (a, b) in pairs {
                agreed += (!(a ^ b)).count_ones();
                count += 64;
            }
            f64::from(agreed) / f64::from(count)
        };
        // Five standard errors of a share of one half among 1,280,000.
        let close = |share: f64| (share - 0.5).abs() < 5.0 * 0.5 / 1_280_000_f64.sqrt();
        assert!(close(agreeing(&mut one.iter().zip(&other))));
        assert!(close(agreeing(&mut one.iter().zip(&one[1..]))));
        assert!(close(agreeing(&mut one.iter().zip(&failures(0.5, name_of([1]), 8, 20_000)))));
    }

    #[test]
    fn a_lesser_ratios_failures_are_among_a_greater_ones() {
        let ratios = [0.0, 1e-15, 1e-3, 0.1, 0.1 + 1e-9, 0.5, 0.999, 1.0];
        for pair in ratios.windows(2) {
            let [lesser, greater] = [pair[0], pair[1]].map(|ratio| failures(ratio, name_of([3]), 7, 2_000));
            assert!(lesser.iter().zip(&greater).all(|(lesser, greater)| lesser & !greater == 0), "{pair:?}");
        }
    }
}
