//! Up to when the calls of each edge were counted, so that none is counted twice. Pure.
//!
//! Calls are added to what is stored of an edge. A mapping may be renamed, changed, or read again from the beginning after
//! its cursor was lost: therefore each edge remembers which mapping counted it, and up to when. A mapping counts what is
//! newer than its own mark, and newer than the marks of mappings that are no longer there: it may be one of them under
//! another name. Those of other mappings of the present file do not matter: their calls add up.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::UnixMillis;
use sha2::{Digest as _, Sha256};

use crate::domain::DependencyKey;
use crate::storage::CounterStates;

/// Stands for mappings that are no longer there.
const GONE: u64 = 0;

/// A mapping of edges among those of the present file.
#[derive(Debug, Clone, Default)]
pub(super) struct Identities {
    pub(super) own: u64,
    pub(super) all: BTreeSet<u64>,
}

/// Ends of the newest buckets that were counted, by mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks(BTreeMap<u64, UnixMillis>);

/// Where the marks of an edge are kept.
pub(super) fn mark_key(edge: &DependencyKey) -> String {
    let mut identity = Sha256::new();
    for end in [edge.caller().as_str(), edge.callee().as_str()] {
        identity.update((end.len() as u64).to_be_bytes());
        identity.update(end);
    }
    format!("prometheus-edge/{}", &format!("{:x}", identity.finalize())[..32])
}

impl Marks {
    pub(super) fn stored(states: &CounterStates, edge: &DependencyKey) -> Self {
        let bytes = states.get(&mark_key(edge)).map(Vec::as_slice).unwrap_or_default();
        let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).unwrap_or_default();
        Self(bytes.chunks_exact(16).map(|pair| (number(&pair[..8]), number(&pair[8..]).cast_signed())).collect())
    }

    pub(super) fn encoded(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(mapping, end_ms)| [mapping.to_be_bytes(), end_ms.to_be_bytes()].concat()).collect()
    }

    /// End of the newest bucket that must not be counted again.
    pub(super) fn counted_to(&self, identities: &Identities) -> Option<UnixMillis> {
        let matters = |mapping: &u64| *mapping == identities.own || !identities.all.contains(mapping);
        self.0.iter().filter(|(mapping, _)| matters(mapping)).map(|(_, end_ms)| *end_ms).max()
    }

    /// After buckets up to `end_ms` were counted. Mappings that are no longer there become one, so that marks stay few.
    pub(super) fn after(&self, end_ms: UnixMillis, identities: &Identities) -> Self {
        let mut marks: BTreeMap<u64, UnixMillis> = BTreeMap::new();
        for (mapping, known_ms) in
            self.0.iter().map(|(mapping, end_ms)| (*mapping, *end_ms)).chain([(identities.own, end_ms)])
        {
            let mapping = if identities.all.contains(&mapping) { mapping } else { GONE };
            let newest_ms = marks.entry(mapping).or_insert(known_ms);
            *newest_ms = known_ms.max(*newest_ms);
        }
        Self(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_vocabulary::EntityId;

    fn identities(own: u64, all: &[u64]) -> Identities {
        Identities { own, all: all.iter().copied().collect() }
    }

    #[test]
    fn a_mapping_counts_on_from_those_that_are_gone_and_beside_those_that_are_there() {
        let first = identities(7, &[7, 9]);
        let marks = Marks::default().after(100, &first);
        assert_eq!(marks.counted_to(&first), Some(100));
        let beside = identities(9, &[7, 9]);
        assert_eq!(marks.counted_to(&beside), None, "its calls are others");
        let marks = marks.after(40, &beside);
        assert_eq!((marks.counted_to(&first), marks.counted_to(&beside)), (Some(100), Some(40)));
        // The first was changed: whoever shows the edge now goes on where it ended.
        let changed = identities(8, &[8, 9]);
        let beside = identities(9, &[8, 9]);
        assert_eq!((marks.counted_to(&changed), marks.counted_to(&beside)), (Some(100), Some(100)));
        let marks = marks.after(120, &changed);
        assert_eq!(marks.counted_to(&changed), Some(120));
        // A process with the old file still runs: it does not count again either.
        assert_eq!(marks.counted_to(&first), Some(120));
        assert_eq!(marks.0.len(), 3, "{marks:?}");
    }

    #[test]
    fn marks_are_read_as_they_were_written() {
        let id = |name| EntityId::new("id", name).expect("valid");
        let edge = DependencyKey::new(id("a"), id("b")).expect("two");
        let marks = Marks::default().after(-5, &identities(u64::MAX, &[u64::MAX, 3])).after(9, &identities(3, &[3]));
        let states = CounterStates::from([(mark_key(&edge), marks.encoded())]);
        assert_eq!(Marks::stored(&states, &edge), marks);
        assert_eq!(Marks::stored(&CounterStates::new(), &edge), Marks::default());
    }
}
