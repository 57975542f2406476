//! Where the buckets of a record came from, and whether any has latencies: what a history tells beside its counts.

use std::collections::BTreeSet;

use attain_vocabulary::Source;

/// Sources of buckets that follow one another, and whether there are latencies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// How many buckets, and what all of them together came from; buckets of several sources are told as they were sent.
    runs: Vec<(usize, BTreeSet<Source>)>,
    /// Whether a part had latencies, or nobody said that it had none.
    latency: bool,
}

impl Origin {
    /// Of so many buckets.
    #[must_use]
    pub fn of(buckets: usize, sources: BTreeSet<Source>, latency: bool) -> Self {
        let mut origin = Self::default();
        origin.add(buckets, sources, latency);
        origin
    }

    /// Goes on with so many buckets.
    pub fn add(&mut self, buckets: usize, sources: BTreeSet<Source>, latency: bool) {
        self.latency |= latency;
        match self.runs.last_mut() {
            _ if buckets == 0 => {}
            Some((count, known)) if known.len() == 1 && *known == sources => *count += buckets,
            _ => self.runs.push((buckets, sources)),
        }
    }

    /// Where all of them came from.
    #[must_use]
    pub fn sources(&self) -> BTreeSet<Source> {
        self.runs.iter().flat_map(|(_, sources)| sources.iter().copied()).collect()
    }

    /// Whether any bucket has latencies, as far as that was said.
    #[must_use]
    pub fn may_have_latency(&self) -> bool {
        self.latency
    }

    /// Of the buckets from one place to another; `None` where that parts some that several sources told together, or where not all
    /// of them are known.
    #[must_use]
    pub fn part(&self, from: usize, to: usize) -> Option<Self> {
        let (mut part, mut place) = (Self { runs: Vec::new(), latency: self.latency }, 0);
        for (count, sources) in &self.runs {
            let inside = (place + count).min(to).saturating_sub(place.max(from));
            if inside > 0 && inside < *count && sources.len() > 1 {
                return None;
            }
            part.add(inside, sources.clone(), false);
            place += count;
        }
        (to <= place).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(all: &[Source]) -> BTreeSet<Source> {
        all.iter().copied().collect()
    }

    #[test]
    fn a_part_came_from_what_its_buckets_came_from() {
        let (traces, declared) = (sources(&[Source::Traces]), sources(&[Source::Declared]));
        let both = sources(&[Source::Traces, Source::Declared]);
        let mut origin = Origin::of(10, declared.clone(), false);
        origin.add(10, declared.clone(), false);
        origin.add(5, both.clone(), true);
        origin.add(20, traces.clone(), false);
        assert_eq!((origin.sources(), origin.may_have_latency()), (both.clone(), true));
        let part = |from, to| origin.part(from, to).map(|part| part.sources());
        assert_eq!(part(0, 20), Some(declared.clone()));
        assert_eq!(part(19, 25), Some(both.clone()));
        assert_eq!((part(3, 24), part(21, 45)), (None, None), "nobody knows which of the five are whose");
        assert_eq!((part(25, 26), part(30, 45)), (Some(traces.clone()), Some(traces)));
        assert_eq!(part(7, 7), Some(BTreeSet::new()));
        assert_eq!(part(0, 46), None, "more than is known");
        assert!(origin.part(0, 3).is_some_and(|part| part.may_have_latency()), "nobody knows where they are");
        assert!(!Origin::of(3, declared, false).may_have_latency());
    }
}
