use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EntityId, InvalidValue, LatencyHistogram, UnixMillis};

/// Width of an SLI bucket: five minutes.
pub const BUCKET_MS: i64 = 300_000;

/// Start of the bucket that holds an instant.
#[must_use]
pub fn bucket_start(time_ms: UnixMillis) -> UnixMillis {
    time_ms.div_euclid(BUCKET_MS) * BUCKET_MS
}

/// Requests of one bucket: `inherited_bad <= bad <= valid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BucketCounts {
    valid: u64,
    bad: u64,
    inherited_bad: Option<u64>,
}

impl BucketCounts {
    /// Checks the counts against one another. `inherited_bad` is `None` where nothing tells own and inherited apart.
    ///
    /// # Errors
    /// Refuses more failures than requests and more inherited failures than failures.
    #[inline]
    pub fn new(valid: u64, bad: u64, inherited_bad: Option<u64>) -> Result<Self, InvalidValue> {
        if bad > valid {
            let reason = format!("{bad} bad requests among {valid} valid ones");
            return Err(InvalidValue::new("bad_count", "bad_exceeds_valid", reason));
        }
        if let Some(inherited) = inherited_bad.filter(|inherited| *inherited > bad) {
            let reason = format!("{inherited} inherited failures among {bad} failures");
            return Err(InvalidValue::new("inherited_bad_count", "inherited_exceeds_bad", reason));
        }
        Ok(Self { valid, bad, inherited_bad })
    }

    /// Requests that count.
    #[must_use]
    pub fn valid(self) -> u64 {
        self.valid
    }

    /// Requests among them that failed.
    #[must_use]
    pub fn bad(self) -> u64 {
        self.bad
    }

    /// Failures that a failed dependency explains; `None` where nothing tells.
    #[must_use]
    pub fn inherited_bad(self) -> Option<u64> {
        self.inherited_bad
    }
}

/// What happened to one service in five minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliBucket {
    /// Start of the bucket; a multiple of [`BUCKET_MS`].
    pub start_ms: UnixMillis,
    /// Requests.
    pub counts: BucketCounts,
    /// Inherited failures by the dependency that was called directly; sums to at most the inherited count.
    pub inherited_by_dependency: BTreeMap<EntityId, u64>,
    /// Latency of the valid requests, where known.
    pub latency: Option<LatencyHistogram>,
}

impl SliBucket {
    /// Checks the alignment of the start and that the inherited failures by dependency do not exceed their sum.
    ///
    /// # Errors
    /// Refuses an unaligned start, and shares that sum to more than the inherited count.
    #[inline]
    pub fn new(
        start_ms: UnixMillis,
        counts: BucketCounts,
        inherited_by_dependency: BTreeMap<EntityId, u64>,
        latency: Option<LatencyHistogram>,
    ) -> Result<Self, InvalidValue> {
        if start_ms.rem_euclid(BUCKET_MS) != 0 {
            let reason = "the start is not a multiple of five minutes";
            return Err(InvalidValue::new("start_time", "not_aligned", reason));
        }
        let shares = inherited_by_dependency.values().fold(0u64, |sum, n| sum.saturating_add(*n));
        if shares > counts.inherited_bad().unwrap_or(0) {
            let reason = format!("the shares sum to {shares}, more than inherited_bad_count");
            return Err(InvalidValue::new("inherited_by_dependency", "inherited_exceeds_bad", reason));
        }
        Ok(Self { start_ms, counts, inherited_by_dependency, latency })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_must_nest() {
        assert_eq!(BucketCounts::new(3, 4, None).map_err(|e| e.field), Err("bad_count".into()));
        assert_eq!(BucketCounts::new(3, 2, Some(3)).map_err(|e| e.field), Err("inherited_bad_count".into()));
        assert!(BucketCounts::new(3, 3, Some(3)).is_ok());
    }

    #[test]
    fn a_bucket_starts_on_a_multiple_of_five_minutes() {
        assert_eq!(bucket_start(-1), -BUCKET_MS);
        assert_eq!(bucket_start(BUCKET_MS + 1), BUCKET_MS);
        let counts = BucketCounts::default();
        assert_eq!(SliBucket::new(1, counts, BTreeMap::new(), None).map_err(|e| e.code), Err("not_aligned"));
    }
}
