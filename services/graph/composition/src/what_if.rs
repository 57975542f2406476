//! Parts that are changed before the root is composed again.

use std::collections::BTreeMap;

use crate::distribution::Distribution;
use crate::learn::Learned;
use crate::pools::middle_rank;
use crate::{Error, NS_PER_MS};

/// What becomes of the self times of one part.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Times a factor, a number of at least 0.
    Scale(f64),
    /// Plus milliseconds, a finite number; never below 0.
    ShiftMs(f64),
    /// Another distribution, read at the rank that the self time has among those of its part.
    Replace(Distribution),
}

/// Changes by part; parts that are not named stay as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes(BTreeMap<String, Change>);

impl Changes {
    /// Changes a part, in place of an earlier change of the same part.
    ///
    /// # Errors
    /// Refuses a factor that is negative or not finite, and a shift that is not finite.
    pub fn with(mut self, part: &str, change: Change) -> Result<Self, Error> {
        match change {
            Change::Scale(value) if !(value.is_finite() && value >= 0.0) => {
                return Err(Error::OutOfRange { field: "scale", expected: "a number of at least 0", value });
            }
            Change::ShiftMs(value) if !value.is_finite() => {
                return Err(Error::OutOfRange { field: "shift_ms", expected: "a finite number", value });
            }
            _ => {}
        }
        self.0.insert(part.to_owned(), change);
        Ok(self)
    }

    /// The change of each part of a model, by its id.
    pub(crate) fn by_part(&self, learned: &Learned) -> Vec<Option<&Change>> {
        learned.parts().iter().map(|part| self.0.get(part)).collect()
    }
}

impl Change {
    /// A self time after the change; `pool` holds all self times of the part, sorted. Nanoseconds in and out.
    pub(crate) fn apply(&self, self_ns: f64, pool: &[f64]) -> f64 {
        match self {
            Self::Scale(factor) => self_ns * factor,
            Self::ShiftMs(shift) => (self_ns + shift * NS_PER_MS).max(0.0),
            Self::Replace(with) => with.quantile(middle_rank(pool, self_ns)) * NS_PER_MS,
        }
    }
}
