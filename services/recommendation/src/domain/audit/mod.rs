//! The audit chain: each record's hash covers the record before it, so that nothing can be changed, dropped or put in
//! between without showing. What a chain cannot tell by itself is that its end was cut off or that it was written anew from
//! somewhere on; an [`Anchor`] kept elsewhere tells that.

mod line;
mod verifier;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use attain_vocabulary::UnixMillis;

pub use verifier::{BrokenChain, Verified, Verifier};

/// What the first record of a log follows.
pub const GENESIS_SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What the action of every record begins with that only tells who read what.
pub const READ_PREFIX: &str = "read.";

/// First field of what is hashed in [`Encoding::Prefixed`]: no other document that somebody hashes begins like it.
const DOMAIN: &str = "attain-audit-2";

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

/// How a record is written for its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// The previous hash as hex text, then a compact JSON array `[sequence, time in ms, caller, action, service_id,
    /// detail_json]`. Logs that began before [`Encoding::Prefixed`] begin with such records; none is written any more.
    Json,
    /// Each field behind its length in bytes, a number of eight bytes, most significant first. In this order: the text
    /// `attain-audit-2`, tenant, sequence, time in ms, caller, action, service_id, detail_json, the previous hash as 32 bytes.
    /// Texts are UTF-8; the two numbers are eight bytes, most significant first, the time in two's complement.
    Prefixed,
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose log.
    pub tenant_id: String,
    /// Position in the tenant's log, from 1.
    pub sequence: u64,
    /// What was done.
    pub entry: Entry,
    /// Hash of the record before, in lower-case hex.
    pub previous_sha256: String,
    /// Hash over `previous_sha256` and this record, in lower-case hex.
    pub sha256: String,
    /// How it is written for its hash.
    pub encoding: Encoding,
}

/// Where a log was at some time: `sequence:sha256`. Kept elsewhere it tells a log that was cut or written anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anchor {
    /// Position of a record; 0 for before the first.
    pub sequence: u64,
    /// Its hash, in lower-case hex.
    pub sha256: String,
}

impl Encoding {
    /// Its number in storage and on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Json => 1,
            Self::Prefixed => 2,
        }
    }

    /// The encoding with a number; `None` where there is no such one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Json, Self::Prefixed].into_iter().find(|encoding| encoding.number() == number)
    }
}

impl Record {
    /// Puts an entry behind the record whose hash is `previous_sha256`.
    #[must_use]
    pub fn seal(tenant_id: &str, sequence: u64, previous_sha256: String, entry: Entry) -> Self {
        let mut record = Self {
            tenant_id: tenant_id.to_owned(),
            sequence,
            entry,
            previous_sha256,
            sha256: String::new(),
            encoding: Encoding::Prefixed,
        };
        record.sha256 = record.computed_sha256();
        record
    }

    /// The hash that the record has to have, in lower-case hex; whatever `sha256` says.
    #[must_use]
    pub fn computed_sha256(&self) -> String {
        match self.encoding {
            Encoding::Json => self.json_sha256(),
            Encoding::Prefixed => self.prefixed_sha256(),
        }
    }

    fn prefixed_sha256(&self) -> String {
        let mut digest = Sha256::new();
        let mut field = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        field(DOMAIN.as_bytes());
        field(self.tenant_id.as_bytes());
        field(&self.sequence.to_be_bytes());
        field(&self.entry.time_ms.to_be_bytes());
        field(self.entry.caller.as_bytes());
        field(self.entry.action.as_bytes());
        field(self.entry.service_id.as_bytes());
        field(self.entry.detail_json.as_bytes());
        // What is no hash is hashed as the text it is; it follows nothing, which the verifier says first.
        field(&hex::decode(&self.previous_sha256).unwrap_or_else(|_| self.previous_sha256.clone().into_bytes()));
        hex::encode(digest.finalize())
    }

    fn json_sha256(&self) -> String {
        let Entry { time_ms, caller, action, service_id, detail_json } = &self.entry;
        let canonical = serde_json::json!([self.sequence, time_ms, caller, action, service_id, detail_json]);
        let mut digest = Sha256::new();
        digest.update(self.previous_sha256.as_bytes());
        digest.update(canonical.to_string().as_bytes());
        hex::encode(digest.finalize())
    }
}

impl Anchor {
    /// Before the first record of any log.
    #[must_use]
    pub fn genesis() -> Self {
        Self { sequence: 0, sha256: GENESIS_SHA256.to_owned() }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.sha256)
    }
}

impl FromStr for Anchor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (sequence, sha256) = text.split_once(':').ok_or("say SEQUENCE:SHA256")?;
        let sequence = sequence.parse().map_err(|_| format!("`{sequence}` is no position in a log"))?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if sha256.len() != GENESIS_SHA256.len() || !sha256.bytes().all(lower_hex) {
            return Err("a SHA-256 is 64 digits of lower-case hex".to_owned());
        }
        Ok(Self { sequence, sha256: sha256.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_can_be_computed_by_anybody() {
        // The same in Python: services/recommendation/tests/verify_audit.py, which the test of that name runs.
        let entry = Entry {
            time_ms: -1,
            caller: "group:payments".into(),
            action: "slo.accepted".into(),
            service_id: "checkout".into(),
            detail_json: "{\"n\":1}".into(),
        };
        let record = Record::seal("acme", 1, GENESIS_SHA256.to_owned(), entry);
        let mut bytes = Vec::new();
        for field in [
            b"attain-audit-2".as_slice(),
            b"acme",
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &[0xff; 8],
            b"group:payments",
            b"slo.accepted",
            b"checkout",
            b"{\"n\":1}",
            &[0; 32],
        ] {
            bytes.extend((field.len() as u64).to_be_bytes());
            bytes.extend(field);
        }
        assert_eq!(record.sha256, hex::encode(Sha256::digest(&bytes)));
    }

    #[test]
    fn records_of_the_first_encoding_keep_their_hash() {
        // printf '%064d[1,1,"group:payments","slo.accepted","checkout","{\\"n\\":1}"]' 0 | sha256sum
        let canonical =
            format!("{GENESIS_SHA256}[1,1,\"group:payments\",\"slo.accepted\",\"checkout\",\"{{\\\"n\\\":1}}\"]");
        let entry = Entry {
            time_ms: 1,
            caller: "group:payments".into(),
            action: "slo.accepted".into(),
            service_id: "checkout".into(),
            detail_json: "{\"n\":1}".into(),
        };
        let sealed = Record::seal("acme", 1, GENESIS_SHA256.to_owned(), entry);
        let record = Record { encoding: Encoding::Json, ..sealed };
        assert_eq!(record.computed_sha256(), hex::encode(Sha256::digest(canonical.as_bytes())));
    }

    #[test]
    fn no_two_records_are_written_alike() {
        let with = |caller: &str, action: &str| {
            let entry = Entry {
                time_ms: 0,
                caller: caller.into(),
                action: action.into(),
                service_id: String::new(),
                detail_json: String::new(),
            };
            Record::seal("acme", 1, GENESIS_SHA256.to_owned(), entry).sha256
        };
        assert_ne!(with("ab", "c"), with("a", "bc"));
        assert_ne!(with("", "abc"), with("abc", ""));
    }

    #[test]
    fn an_anchor_reads_back() {
        let anchor = Anchor { sequence: 7, sha256: "ab".repeat(32) };
        assert_eq!(anchor.to_string().parse(), Ok(anchor));
        assert_eq!(Anchor::genesis().to_string().parse(), Ok(Anchor::genesis()));
        for malformed in ["", "7", "x:00", "7:AB", &format!("7:{}", "AB".repeat(32)), "-1:00"] {
            assert!(malformed.parse::<Anchor>().is_err(), "{malformed}");
        }
    }
}
