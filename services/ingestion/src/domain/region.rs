use attain_vocabulary::{EntityId, InvalidValue};

use super::{ObservedBucket, entity_name};

/// Where what does not fit the number of regions kept apart is counted.
const OVERFLOW: &str = "other-regions";

/// Where requests were answered: a name as services have, since a region may be a node of the graph too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region(EntityId);

impl Region {
    /// Checks a region that a sender named.
    ///
    /// # Errors
    /// As [`entity_name`].
    pub fn new(field: &str, value: &str) -> Result<Self, InvalidValue> {
        entity_name(field, value).map(Self)
    }

    /// A region that telemetry told, its name redacted and bent into shape already.
    #[must_use]
    pub fn observed(name: EntityId) -> Self {
        Self(name)
    }

    /// The regions beyond the number that is kept apart, together.
    #[must_use]
    pub fn overflow() -> Self {
        Self(EntityId::new("region", OVERFLOW).expect("a valid name"))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A bucket of what one region answered. Its latency is not kept.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionalBucket {
    /// Where.
    pub region: Region,
    /// Of which service, by whom, and the counts.
    pub observed: ObservedBucket,
}
