//! Who was decided upon, and whose offers that touches: everybody who needs the service, its callees before it.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, UnixMillis};

/// An availability SLO that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecidedBelow {
    pub(crate) service: EntityId,
    /// Position of the decision in the tenant's audit log.
    pub(crate) sequence: u64,
    pub(crate) time_ms: UnixMillis,
}

/// The newest decision about the availability of each service, as far as the log was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Promised {
    newest: BTreeMap<EntityId, (u64, UnixMillis)>,
    /// Position of the newest of all; 0 before the first.
    pub(crate) up_to: u64,
}

impl Promised {
    /// Takes in what was decided.
    pub(crate) fn learn(&mut self, decided: Vec<DecidedBelow>) {
        for DecidedBelow { service, sequence, time_ms } in decided {
            self.up_to = self.up_to.max(sequence);
            let known = self.newest.entry(service).or_default();
            *known = (*known).max((sequence, time_ms));
        }
    }

    /// Which of the members, the service itself aside, were decided upon after a position: oldest first.
    pub(crate) fn after<'a>(
        &self,
        position: u64,
        service: &EntityId,
        members: impl Iterator<Item = &'a EntityId>,
    ) -> Vec<DecidedBelow> {
        if self.up_to <= position {
            return Vec::new();
        }
        let of = |id: &EntityId| {
            let (sequence, time_ms) = *self.newest.get(id)?;
            (sequence > position).then(|| DecidedBelow { service: id.clone(), sequence, time_ms })
        };
        let mut decided: Vec<DecidedBelow> = members.filter(|id| *id != service).filter_map(of).collect();
        decided.sort_by_key(|decided| decided.sequence);
        decided
    }
}

/// The members in an order in which whoever is called comes before its callers, as far as no cycle forbids it: what is
/// computed for a caller rests on what was computed for its callees.
pub(crate) fn callees_first(members: &BTreeSet<EntityId>, edges: &BTreeSet<(EntityId, EntityId)>) -> Vec<EntityId> {
    let mut callees: BTreeMap<&EntityId, Vec<&EntityId>> = BTreeMap::new();
    for (caller, callee) in edges.iter().filter(|(caller, callee)| members.contains(caller) && members.contains(callee))
    {
        callees.entry(caller).or_default().push(callee);
    }
    let mut order = Vec::with_capacity(members.len());
    let mut seen: BTreeSet<&EntityId> = BTreeSet::new();
    for start in members {
        // Each entry is a member and how many of its callees were looked at.
        let mut path: Vec<(&EntityId, usize)> = if seen.insert(start) { vec![(start, 0)] } else { Vec::new() };
        while let Some((id, looked_at)) = path.last_mut() {
            match callees.get(*id).and_then(|callees| callees.get(*looked_at)) {
                Some(callee) => {
                    *looked_at += 1;
                    if seen.insert(callee) {
                        path.push((callee, 0));
                    }
                }
                None => {
                    order.push((*id).clone());
                    path.pop();
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    #[test]
    fn only_what_was_decided_below_and_later_is_told() {
        let mut promised = Promised::default();
        let decided =
            |service: &str, sequence| DecidedBelow { service: id(service), sequence, time_ms: 10 * sequence as i64 };
        promised.learn(vec![decided("db", 3), decided("cache", 5), decided("far", 6), decided("shop", 9)]);
        promised.learn(vec![decided("db", 7), decided("cache", 4)]);
        assert_eq!(promised.up_to, 9);
        let members = [id("shop"), id("db"), id("cache"), id("quiet")];
        let after = |position| promised.after(position, &id("shop"), members.iter());
        assert_eq!(after(4), [decided("cache", 5), decided("db", 7)]);
        assert_eq!(after(5), [decided("db", 7)]);
        assert_eq!((after(7), after(9)), (Vec::new(), Vec::new()));
    }

    #[test]
    fn in_a_diamond_the_bottom_comes_first() {
        let names = |ids: &[&str]| ids.iter().map(|name| id(name)).collect::<BTreeSet<_>>();
        let edges = [("a", "b"), ("b", "c"), ("a", "c"), ("b", "elsewhere")];
        let edges = edges.iter().map(|(caller, callee)| (id(caller), id(callee))).collect();
        let order = callees_first(&names(&["a", "b", "c"]), &edges);
        assert_eq!(order, [id("c"), id("b"), id("a")]);
    }

    proptest! {
        #[test]
        fn everybody_comes_once_and_without_cycles_after_its_callees(
            pairs in prop::collection::vec((0u8..12, 0u8..12), 0..40), acyclic: bool,
        ) {
            let name = |number: u8| id(&format!("s{number}"));
            let members: BTreeSet<EntityId> = (0..12).map(name).collect();
            let kept = pairs.into_iter().filter(|(caller, callee)| !acyclic || caller > callee);
            let edges: BTreeSet<_> = kept.map(|(caller, callee)| (name(caller), name(callee))).collect();
            let order = callees_first(&members, &edges);
            prop_assert_eq!(order.iter().cloned().collect::<BTreeSet<_>>(), members.clone());
            prop_assert_eq!(order.len(), members.len());
            let place = |id: &EntityId| order.iter().position(|other| other == id);
            if acyclic {
                prop_assert!(edges.iter().all(|(caller, callee)| place(callee) < place(caller)));
            }
        }
    }
}
