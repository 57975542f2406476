//! The audit chain: each record's hash covers the record before it, so that nothing can be changed, dropped or put in
//! between without showing.

use sha2::{Digest as _, Sha256};

use attain_vocabulary::UnixMillis;

/// What the first record of a log follows.
pub const GENESIS_SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time_ms: UnixMillis,
    /// Who, as the gateway knows them.
    pub caller: String,
    /// For example `slo.accepted`.
    pub action: String,
    /// About which service.
    pub service_id: String,
    /// What exactly, as JSON.
    pub detail_json: String,
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position in the tenant's log, from 1.
    pub sequence: u64,
    /// What was done.
    pub entry: Entry,
    /// Hash of the record before, in hex.
    pub previous_sha256: String,
    /// Hash over `previous_sha256` and this record, in hex.
    pub sha256: String,
}

/// The first record at which a log does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is broken at record {sequence}: {reason}")]
pub struct BrokenChain {
    /// Where.
    pub sequence: u64,
    /// In which way.
    pub reason: &'static str,
}

impl Record {
    /// Puts an entry behind the record whose hash is `previous_sha256`.
    #[must_use]
    pub fn seal(sequence: u64, previous_sha256: String, entry: Entry) -> Self {
        let sha256 = hash(sequence, &previous_sha256, &entry);
        Self { sequence, entry, previous_sha256, sha256 }
    }
}

/// Hash of a record in hex: SHA-256 over the previous hash (as hex text) and the record as a compact JSON array
/// `[sequence, time in ms, caller, action, service_id, detail_json]`. Anybody can compute it again offline.
fn hash(sequence: u64, previous_sha256: &str, entry: &Entry) -> String {
    let canonical =
        serde_json::json!([sequence, entry.time_ms, entry.caller, entry.action, entry.service_id, entry.detail_json]);
    let mut digest = Sha256::new();
    digest.update(previous_sha256.as_bytes());
    digest.update(canonical.to_string().as_bytes());
    hex::encode(digest.finalize())
}

/// Checks a stretch of consecutive records; `previous_sha256` is the hash before the first ([`GENESIS_SHA256`] at the start).
///
/// # Errors
/// Names the first record that is out of order, does not follow the one before, or was changed.
pub fn verify(previous_sha256: &str, records: &[Record]) -> Result<(), BrokenChain> {
    let mut previous = previous_sha256;
    let first = records.first().map_or(1, |record| record.sequence);
    for (expected, record) in (first..).zip(records) {
        let broken = |reason| Err(BrokenChain { sequence: record.sequence, reason });
        if record.sequence != expected {
            return broken("a record is missing or out of order");
        }
        if record.previous_sha256 != previous {
            return broken("it does not follow the record before");
        }
        if record.sha256 != hash(record.sequence, &record.previous_sha256, &record.entry) {
            return broken("it was changed");
        }
        previous = &record.sha256;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: i64) -> Entry {
        Entry {
            time_ms: n,
            caller: "group:payments".into(),
            action: "slo.accepted".into(),
            service_id: "checkout".into(),
            detail_json: format!("{{\"n\":{n}}}"),
        }
    }

    fn chain(length: u64) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        for sequence in 1..=length {
            let previous = records.last().map_or(GENESIS_SHA256.to_owned(), |record| record.sha256.clone());
            records.push(Record::seal(sequence, previous, entry(sequence as i64)));
        }
        records
    }

    #[test]
    fn a_whole_chain_holds_and_every_tampering_shows() {
        assert_eq!(verify(GENESIS_SHA256, &chain(5)), Ok(()));
        let broken_at = |change: fn(&mut Vec<Record>)| {
            let mut records = chain(5);
            change(&mut records);
            verify(GENESIS_SHA256, &records).map_err(|broken| broken.sequence)
        };
        assert_eq!(broken_at(|records| records[2].entry.caller = "mallory".into()), Err(3));
        assert_eq!(broken_at(|records| records[3].entry.time_ms += 1), Err(4));
        assert_eq!(
            broken_at(|records| {
                records.remove(1);
            }),
            Err(3)
        );
        assert_eq!(broken_at(|records| records.swap(0, 1)), Err(2));
        // Sealing the changed record anew moves the break to its successor.
        assert_eq!(
            broken_at(|records| {
                let old = records[2].clone();
                records[2] = Record::seal(old.sequence, old.previous_sha256, entry(99));
            }),
            Err(4)
        );
    }

    #[test]
    fn the_hash_can_be_computed_by_anybody() {
        // printf '%064d[1,1,"group:payments","slo.accepted","checkout","{\\"n\\":1}"]' 0 | sha256sum
        let canonical =
            format!("{GENESIS_SHA256}[1,1,\"group:payments\",\"slo.accepted\",\"checkout\",\"{{\\\"n\\\":1}}\"]");
        assert_eq!(chain(1)[0].sha256, hex::encode(Sha256::digest(canonical.as_bytes())));
    }
}
