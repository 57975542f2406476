//! Which endpoints of webhooks are sent to next: each gets its turn, however slow or broken the others are.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::TenantId;

/// An endpoint of a tenant.
pub(crate) type Endpoint = (TenantId, String);

/// Who is being sent to, and who had a turn when.
#[derive(Debug, Default)]
pub(crate) struct EndpointTurns {
    busy: BTreeSet<Endpoint>,
    /// Number of the last turn of each.
    last: BTreeMap<Endpoint, u64>,
    turn: u64,
}

impl EndpointTurns {
    /// Takes endpoints that messages are due for, at most `places` being sent to at a time and half of them for one tenant:
    /// whoever had no turn for longest goes first.
    pub(crate) fn take(&mut self, due: Vec<Endpoint>, places: usize) -> Vec<Endpoint> {
        let mut waiting: Vec<Endpoint> = due.into_iter().filter(|endpoint| !self.busy.contains(endpoint)).collect();
        waiting.sort_by_key(|endpoint| self.last.get(endpoint).copied().unwrap_or(0));
        // Whoever has nothing due any more needs no memory; a turn too early is no harm.
        let known: BTreeSet<&Endpoint> = waiting.iter().chain(&self.busy).collect();
        self.last.retain(|endpoint, _| known.contains(endpoint));
        let per_tenant = (places / 2).max(1);
        let mut taken = Vec::new();
        for endpoint in waiting {
            let of_tenant = self.busy.iter().filter(|(tenant, _)| *tenant == endpoint.0).count();
            if self.busy.len() < places && of_tenant < per_tenant {
                self.turn += 1;
                self.last.insert(endpoint.clone(), self.turn);
                self.busy.insert(endpoint.clone());
                taken.push(endpoint);
            }
        }
        taken
    }

    /// The endpoint can be sent to again.
    pub(crate) fn give_back(&mut self, endpoint: &Endpoint) {
        self.busy.remove(endpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(tenant: &str, count: usize) -> Vec<Endpoint> {
        let tenant = TenantId::new("tenant", tenant).expect("valid");
        (0..count).map(|number| (tenant.clone(), format!("webhook-{number}"))).collect()
    }

    #[test]
    fn a_tenant_that_stalls_leaves_places_and_everybody_gets_a_turn() {
        let mut turns = EndpointTurns::default();
        let (stalled, other) = (endpoints("stalled", 40), endpoints("other", 1));
        let due = || [stalled.clone(), other.clone()].concat();
        let first = turns.take(due(), 32);
        assert_eq!((first.len(), first.contains(&other[0])), (17, true), "half of the places, and the other tenant");
        assert_eq!(turns.take(due(), 32), [], "busy ones are not taken twice");
        // Whoever fails has older messages still; those that had no turn go first all the same.
        let mut had_turn: BTreeSet<Endpoint> = first.iter().cloned().collect();
        for endpoint in &first {
            turns.give_back(endpoint);
        }
        for _ in 0..2 {
            let next = turns.take(due(), 32);
            assert!(next.contains(&other[0]), "it is not held up");
            had_turn.extend(next.iter().cloned());
            next.iter().for_each(|endpoint| turns.give_back(endpoint));
        }
        assert_eq!(had_turn.len(), 41, "everybody within three rounds");
    }

    #[test]
    fn with_one_place_they_take_turns() {
        let mut turns = EndpointTurns::default();
        let due = endpoints("one", 3);
        let mut order = Vec::new();
        for _ in 0..6 {
            let taken = turns.take(due.clone(), 1);
            assert_eq!(taken.len(), 1);
            turns.give_back(&taken[0]);
            order.push(taken[0].1.clone());
        }
        assert_eq!(order[..3], order[3..]);
        assert_eq!(order[..3].iter().collect::<BTreeSet<_>>().len(), 3);
    }
}
