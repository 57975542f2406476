//! Offers beside the targets of what a service depends on.
//!
//! Whatever is promised below stands: the SLO in force, else what was recommended there at the same ambition. Against that the
//! graph engine holds the offer, by the rules by which it finds contradictions of the whole fleet. So two offers that were
//! accepted at one ambition, each as it holds beside the other, contradict nothing.

use std::collections::BTreeMap;

use attain_attainment::{Ambition, ConsistentTarget, FleetLimit, Forecast};
use attain_vocabulary::EntityId;

/// A window is bad where only a tenth of windows are worse: as much risk as a balanced offer takes.
const BAD_WINDOW: f64 = 0.9;

/// Availability targets by ambition, as they were recommended.
pub type Offered = BTreeMap<Ambition, f64>;

/// What is promised below a service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Promises {
    /// SLOs in force.
    pub in_force: BTreeMap<EntityId, f64>,
    /// Offers of those that have no SLO in force.
    pub offered: BTreeMap<EntityId, Offered>,
}

impl Promises {
    /// What an offer of this ambition has to hold beside: of each component one target, where it has any.
    #[must_use]
    pub fn beside(&self, ambition: Ambition) -> BTreeMap<EntityId, f64> {
        let offered = self.offered.iter().filter_map(|(id, offered)| Some((id.clone(), *offered.get(&ambition)?)));
        let mut beside: BTreeMap<EntityId, f64> = offered.collect();
        beside.extend(self.in_force.iter().map(|(id, target)| (id.clone(), *target)));
        beside
    }

    /// Whether nothing is promised.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.in_force.is_empty() && self.offered.is_empty()
    }
}

/// How many times as much fails in a bad window as in the mean; 1 where nothing is known to fail.
#[must_use]
pub fn bad_window_factor(forecast: &Forecast) -> f64 {
    let mean = forecast.mean();
    if mean > 0.0 { (forecast.quantile(BAD_WINDOW) / mean).max(1.0) } else { 1.0 }
}

/// What a solve says of one offer: the target found for its service, and the contradictions that it is part of.
#[must_use]
pub fn consistent_target(
    (ambition, offered_ratio): (Ambition, f64),
    solved_ratio: f64,
    contradictions: Vec<FleetLimit>,
) -> ConsistentTarget {
    // Of several, the one that needs most of the budget.
    let limited_by = contradictions
        .into_iter()
        .reduce(|most, other| if other.needed_ratio > most.needed_ratio { other } else { most });
    let target_ratio = match limited_by {
        Some(_) => (solved_ratio > 0.0).then(|| solved_ratio.min(offered_ratio)),
        None => Some(offered_ratio),
    };
    ConsistentTarget { ambition, offered_ratio, target_ratio, limited_by }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    #[test]
    fn an_slo_in_force_stands_before_what_was_offered() {
        let promises = Promises {
            in_force: BTreeMap::from([(id("db"), 0.99)]),
            offered: BTreeMap::from([
                (id("db"), Offered::from([(Ambition::Balanced, 0.999)])),
                (id("cache"), Offered::from([(Ambition::Balanced, 0.995), (Ambition::Ambitious, 0.999)])),
            ]),
        };
        let balanced = BTreeMap::from([(id("cache"), 0.995), (id("db"), 0.99)]);
        assert_eq!(promises.beside(Ambition::Balanced), balanced);
        assert_eq!(promises.beside(Ambition::Conservative), BTreeMap::from([(id("db"), 0.99)]));
        assert!(!promises.is_empty() && Promises::default().is_empty());
    }

    #[test]
    fn an_offer_gives_way_to_what_needs_most_of_its_budget() {
        let limit = |callee: &str, needed_ratio| FleetLimit {
            callee: Some(id(callee)),
            needed_ratio,
            chain: vec![id("shop"), id(callee)],
        };
        let offer = (Ambition::Balanced, 0.999);
        let holds = consistent_target(offer, 0.999, Vec::new());
        assert_eq!((holds.target_ratio, holds.limited_by), (Some(0.999), None));
        let limited = consistent_target(offer, 0.995, vec![limit("db", 0.002), limit("cache", 0.005)]);
        assert_eq!(limited.target_ratio, Some(0.995));
        assert_eq!(limited.limited_by.expect("limited").callee, Some(id("cache")));
        let hopeless = consistent_target(offer, 0.0, vec![limit("db", 1.0)]);
        assert_eq!(hopeless.target_ratio, None);
    }
}
