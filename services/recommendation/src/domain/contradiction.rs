//! Targets that are stricter than what is promised below bears, and the reason for which one is taken all the same.

use attain_attainment::{ConsistentTarget, FleetLimit};
use attain_vocabulary::EntityId;
use serde::{Deserialize, Serialize};

/// A target and the promises below that it contradicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contradiction {
    /// The callee whose promise is too little; `None` where all that lies below does it together.
    pub callee: Option<EntityId>,
    /// From the service to the component that uses most of its budget.
    pub chain: Vec<EntityId>,
    /// The target that contradicts, a fraction in (0, 1).
    pub target_ratio: f64,
    /// The strictest target on the menu that would hold; `None` where none does.
    pub consistent_target_ratio: Option<f64>,
    /// Share of requests that the promises below may fail, in `[0, 1]`.
    pub needed_ratio: f64,
    /// Why it is taken all the same; empty while nobody said so.
    pub reason: String,
}

impl Contradiction {
    /// What a target that was held against the promises below contradicts; `None` where it holds.
    #[must_use]
    pub fn of(held: ConsistentTarget) -> Option<Self> {
        let FleetLimit { callee, needed_ratio, chain } = held.limited_by?;
        Some(Self {
            callee,
            chain,
            target_ratio: held.offered_ratio,
            consistent_target_ratio: held.target_ratio,
            needed_ratio,
            reason: String::new(),
        })
    }

    /// The callee in words.
    #[must_use]
    pub fn callee_in_words(&self) -> &str {
        self.callee.as_ref().map_or("all that lies below together", EntityId::as_str)
    }
}

#[cfg(test)]
mod tests {
    use attain_attainment::Ambition;

    use super::*;

    fn held(limited_by: Option<FleetLimit>) -> ConsistentTarget {
        ConsistentTarget { ambition: Ambition::Balanced, offered_ratio: 0.999, target_ratio: Some(0.99), limited_by }
    }

    #[test]
    fn what_is_limited_contradicts_and_says_whom() {
        assert_eq!(Contradiction::of(held(None)), None);
        let id = |text: &str| EntityId::new("id", text).expect("valid");
        let limit = |callee| FleetLimit { callee, needed_ratio: 0.01, chain: vec![id("shop"), id("db")] };
        let one = Contradiction::of(held(Some(limit(Some(id("db")))))).expect("limited");
        assert_eq!((one.target_ratio, one.consistent_target_ratio, one.callee_in_words()), (0.999, Some(0.99), "db"));
        let all = Contradiction::of(held(Some(limit(None)))).expect("limited");
        assert_eq!(all.callee_in_words(), "all that lies below together");
    }
}
