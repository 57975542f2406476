//! Windows that may follow a past.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Poisson};

use super::past::{Event, Events};
use super::{FIRST_FUTURE, Fleet, buckets, load};
use crate::process::season;

/// The state of every component at one instant.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Factor of the chronic level.
    levels: Vec<f64>,
    /// Shares that incidents fail right now.
    incidents: Vec<Vec<f64>>,
    /// When those end, in buckets from that instant.
    pub(super) endings: Events,
}

impl Origin {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let count = fleet.components.len();
        Self { levels: vec![1.0; count], incidents: vec![Vec::new(); count], endings: Vec::new() }
    }

    pub(super) fn apply(&mut self, at: usize, event: Event) {
        match event {
            Event::Level(factor) => self.levels[at] *= factor,
            Event::Begin(share) => self.incidents[at].push(share),
            Event::End(share) => {
                let position = self.incidents[at].iter().position(|other| *other == share);
                position.map(|position| self.incidents[at].swap_remove(position));
            }
        }
    }

    /// Probability that a request fails of each component's own, at a load.
    pub(super) fn own(&self, fleet: &Fleet, load: f64, own: &mut [f64]) {
        for (at, component) in fleet.components.iter().enumerate() {
            let chronic = (component.law.chronic_ratio * self.levels[at] * load).min(0.5);
            let spared: f64 = self.incidents[at].iter().map(|share| 1.0 - share).product();
            own[at] = 1.0 - (1.0 - chronic) * spared;
        }
    }
}

impl Fleet {
    /// Draws one window after a past of `past_days`: the share of each component's requests that fails in it. Windows of
    /// different `index` are independent, given the state that the past ended in.
    #[must_use]
    pub fn future(&self, origin: &Origin, (seed, index): (u64, u64), (past_days, days): (u32, u32)) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(FIRST_FUTURE + index);
        let (offset, length) = (buckets(past_days), buckets(days));
        let mut events = self.events(&mut random, length);
        events.extend_from_slice(&origin.endings);
        events.sort_by_key(|(time, at, _)| (*time, *at));
        let mut state = origin.clone();
        let count = self.components.len();
        let (mut own, mut failing, mut failed) = (vec![0.0; count], Vec::new(), vec![0.0; count]);
        let (mut from, mut weight) = (0, 0.0);
        let mut spans = events.chunk_by(|a, b| a.0 == b.0).take_while(|span| span[0].0 < length).peekable();
        loop {
            let until = spans.peek().map_or(length, |span| span[0].0);
            let traffic: f64 = (from..until).map(|bucket| season(offset + bucket)).sum();
            if traffic > 0.0 {
                let loads: f64 = (from..until).map(|bucket| season(offset + bucket) * load(offset + bucket)).sum();
                state.own(self, loads / traffic, &mut own);
                self.failing(&own, &mut failing);
                failed.iter_mut().zip(&failing).for_each(|(failed, failing)| *failed += traffic * failing);
                weight += traffic;
            }
            let Some(span) = spans.next() else { break };
            span.iter().for_each(|(_, at, event)| state.apply(*at, *event));
            from = until;
        }
        let counted = |(failed, component): (f64, &super::Component)| {
            let valid = component.requests_per_second * 300.0 * weight;
            let bad = Poisson::new(valid * failed / weight).map_or(0.0, |poisson| poisson.sample(&mut random));
            (bad / valid).min(1.0)
        };
        failed.into_iter().zip(&self.components).map(counted).collect()
    }
}
