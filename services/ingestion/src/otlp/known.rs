//! Names as they are kept, for names as they arrive: taking secrets out costs more than all else that is done to a span, and
//! the same names come again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use attain_redaction::redact_name;
use attain_vocabulary::EntityId;

use super::operation::RawName;

/// The service of whoever does not name itself, as SDKs call it too.
pub(super) const UNKNOWN_SERVICE: &str = "unknown_service";
/// Most names of a sort that are remembered; then all are forgotten.
const NAMES_MAX: usize = 20_000;

/// A name that was observed, redacted before it is bent into shape.
pub(super) fn entity_name(observed: &str) -> Option<EntityId> {
    EntityId::from_observed(&redact_name(observed))
}

/// Whoever does not name itself.
pub(super) fn unknown_service() -> EntityId {
    EntityId::new("service", UNKNOWN_SERVICE).expect("a valid name")
}

/// Names that were seen lately; shared by all exports, of all tenants: what a name becomes depends on nothing else.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    entities: Cache<String>,
    operations: Cache<(String, String)>,
}

#[derive(Debug)]
struct Cache<K>(Mutex<HashMap<K, Arc<str>>>);

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: std::hash::Hash + Eq> Cache<K> {
    fn get(&self, key: K, make: impl FnOnce(&K) -> Arc<str>) -> Arc<str> {
        // What is remembered is whole at any time, also where somebody panicked.
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(known);
        }
        let made = make(&key);
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(key, Arc::clone(&made));
        made
    }
}

impl KnownNames {
    /// What an entity is called; `None` where the name has nothing that a name can have.
    pub(super) fn entity(&self, observed: &str) -> Option<Arc<str>> {
        let kept = |observed: &String| entity_name(observed).map_or_else(|| Arc::from(""), |id| Arc::from(id.as_str()));
        Some(self.entities.get(observed.to_owned(), kept)).filter(|name| !name.is_empty())
    }

    /// What an operation is called; empty where nothing is left of it.
    pub(super) fn operation(&self, raw: RawName<'_>) -> Arc<str> {
        self.operations.get(raw.key(), |_| Arc::from(raw.kept()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_the_second_time_and_bounded() {
        let known = KnownNames::default();
        let first = known.entity("user service");
        assert_eq!((first.as_deref(), known.entity("user service")), (Some("user-service"), first.clone()));
        assert_eq!((known.entity("***"), known.entity("***")), (None, None));
        assert!(known.entity("mail to jane.doe@example.com").is_some_and(|name| !name.contains("jane")));
        (0..NAMES_MAX + 5).for_each(|n| drop(known.entity(&n.to_string())));
        assert!(known.entities.0.lock().expect("whole").len() <= NAMES_MAX);
    }
}
