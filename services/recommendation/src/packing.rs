//! Inputs as they are kept: canonical JSON, hashed and compressed.
//!
//! Most of it are histories, and each is kept with every recommendation that was computed from it. It is written and compressed
//! once, as a frame of its own, and put in its place among the rest: what is read back is the same JSON to the last byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_attainment::{DependencyBucket, Written};
use attain_vocabulary::{BucketCounts, EntityId, SliBucket, UnixMillis};
use sha2::{Digest as _, Sha256};
use zstd::bulk::Compressor;

use crate::Error;
use crate::domain::kept::Kept;
use crate::domain::recorded::{KeptHistory, Recorded};
use crate::domain::written::written;

/// Inputs are columns of numbers: higher levels take longer and make more of those.
const ZSTD_LEVEL: i32 = 1;
/// Start of the bucket that holds the place of a history: no bucket begins there, and no text can look like a list of numbers.
const PLACE_MS: UnixMillis = UnixMillis::MIN + 1;

/// Inputs as they are hashed and kept.
#[derive(Debug)]
pub(crate) struct Packed {
    /// SHA-256 in hex of the canonical JSON.
    pub(crate) sha256: String,
    /// The JSON, compressed.
    pub(crate) content: Vec<u8>,
}

/// Hashes and compresses inputs. `records` are of the services whose histories among the inputs are as the records have them.
pub(crate) fn pack(kept: &mut Kept, records: &BTreeMap<EntityId, Arc<Recorded>>) -> Result<Packed, Error> {
    let out = TakenOut::of(kept, records);
    let json = kept.canonical_json();
    let json = String::from_utf8(json.map_err(|error| unwritten(&error))?).map_err(|error| unwritten(&error))?;
    let records = out.put_back(kept);
    let place = serde_json::to_string(&Written(&[place()])).map_err(|error| unwritten(&error))?;
    let parts: Vec<&str> = json.split(place.as_str()).collect();
    if parts.len() != records.len() + 1 {
        let found = parts.len() - 1;
        return Err(Error::Broken(format!("{} histories have {found} places among the inputs", records.len())));
    }
    let mut packing = Packing::new()?;
    packing.add(parts[0])?;
    for (recorded, after) in records.into_iter().zip(&parts[1..]) {
        packing.add_history(recorded)?;
        packing.add(after)?;
    }
    Ok(packing.done())
}

fn unwritten(error: &dyn std::error::Error) -> Error {
    Error::Broken(format!("the inputs cannot be written: {error}"))
}

fn unpacked(error: &std::io::Error) -> Error {
    Error::Broken(format!("the inputs cannot be packed: {error}"))
}

fn place() -> DependencyBucket {
    DependencyBucket { start_ms: PLACE_MS, counts: BucketCounts::default() }
}

/// Histories that were taken out of the inputs, and whose place is held.
struct TakenOut<'a> {
    own: Option<(&'a Recorded, Vec<SliBucket>)>,
    /// By number of the dependency, ascending.
    dependencies: Vec<(usize, &'a Recorded, Vec<DependencyBucket>)>,
}

impl<'a> TakenOut<'a> {
    fn of(kept: &mut Kept, records: &'a BTreeMap<EntityId, Arc<Recorded>>) -> Self {
        let input = &mut kept.input;
        let held = SliBucket {
            start_ms: PLACE_MS,
            counts: BucketCounts::default(),
            inherited_by_dependency: BTreeMap::new(),
            latency: None,
        };
        let own = records.get(&input.service).map(|recorded| {
            let buckets = std::mem::replace(&mut input.history.buckets, vec![held]);
            (recorded.as_ref(), buckets)
        });
        let mut dependencies = Vec::new();
        for (number, dependency) in input.dependencies.iter_mut().enumerate() {
            if let Some(recorded) = records.get(&dependency.id) {
                let buckets = std::mem::replace(&mut dependency.buckets, vec![place()]);
                dependencies.push((number, recorded.as_ref(), buckets));
            }
        }
        Self { own, dependencies }
    }

    /// The records in the order of their places.
    fn put_back(self, kept: &mut Kept) -> Vec<&'a Recorded> {
        let mut records = Vec::new();
        if let Some((recorded, buckets)) = self.own {
            kept.input.history.buckets = buckets;
            records.push(recorded);
        }
        for (number, recorded, buckets) in self.dependencies {
            kept.input.dependencies[number].buckets = buckets;
            records.push(recorded);
        }
        records
    }
}

/// Frames one after the other, and the hash of what they hold.
struct Packing {
    hash: Sha256,
    content: Vec<u8>,
    compressor: Compressor<'static>,
}

impl Packing {
    fn new() -> Result<Self, Error> {
        let compressor = Compressor::new(ZSTD_LEVEL).map_err(|error| unpacked(&error))?;
        Ok(Self { hash: Sha256::new(), content: Vec::new(), compressor })
    }

    fn add(&mut self, json: &str) -> Result<(), Error> {
        self.hash.update(json);
        self.content.extend(self.compressor.compress(json.as_bytes()).map_err(|error| unpacked(&error))?);
        Ok(())
    }

    fn add_history(&mut self, recorded: &Recorded) -> Result<(), Error> {
        if let Some(kept) = recorded.kept() {
            let json = zstd::bulk::decompress(&kept.frame, kept.json_bytes).map_err(|error| unpacked(&error))?;
            self.hash.update(json);
            self.content.extend(&kept.frame);
            return Ok(());
        }
        let json = written(recorded.counted());
        let frame = self.compressor.compress(&json).map_err(|error| unpacked(&error))?;
        self.hash.update(&json);
        self.content.extend(&frame);
        recorded.keep(KeptHistory { json_bytes: json.len(), frame });
        Ok(())
    }

    fn done(self) -> Packed {
        Packed { sha256: hex::encode(self.hash.finalize()), content: self.content }
    }
}

#[cfg(test)]
mod tests {
    use attain_attainment::Exclusion;
    use attain_vocabulary::{BUCKET_MS, DependencyMode, TimeRange};

    use super::*;
    use crate::decide::unpack;
    use crate::domain::components::{dependencies, failures};
    use crate::domain::flow::Edge;
    use crate::domain::kept::Evidence;

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn history(service: u64, inherited: Option<u64>) -> Vec<SliBucket> {
        let bucket = |at: u64| {
            let counts = BucketCounts::new(1_000 + at * service % 977, at % 7, inherited.map(|most| most.min(at % 7)));
            SliBucket::new(at as i64 * BUCKET_MS, counts.expect("nested"), BTreeMap::new(), None).expect("aligned")
        };
        (0..2_000).filter(|at| at % 500 != 3).map(bucket).collect()
    }

    /// A service that calls two, of which nothing is known of one; what people wrote looks like the place of a history.
    fn kept() -> (Kept, BTreeMap<EntityId, Arc<Recorded>>) {
        let of = |name: &str, buckets| (id(name), Arc::new(Recorded::from(buckets)));
        let records =
            BTreeMap::from([of("shop", history(1, None)), of("db", history(3, Some(2))), of("queue", Vec::new())]);
        let edge = |callee: &str| Edge {
            caller: id("shop"),
            callee: id(callee),
            mode: DependencyMode::Hard,
            call_fraction: None,
            fallback_success_ratio: None,
        };
        let range = TimeRange::new("range", 0, 2_000 * BUCKET_MS).expect("ascending");
        let reason = serde_json::to_string(&Written(&[place()])).expect("numbers");
        let exclusions = vec![Exclusion { range, reason: format!("{reason} {reason}") }];
        let called = dependencies(&id("shop"), &[edge("db"), edge("queue")], &records);
        let kept = Kept {
            input: failures(&id("shop"), range, history(1, None), called, exclusions),
            changes: BTreeMap::new(),
            evidence: Evidence::default(),
            snapshot: None,
            sources: Vec::new(),
            slos: Vec::new(),
            learned: None,
            disputed: Vec::new(),
            drift: None,
            regions: Vec::new(),
            experiment: None,
        };
        (kept, records)
    }

    #[test]
    fn histories_that_are_packed_already_make_the_same_inputs() {
        let (mut kept, records) = kept();
        let before = kept.clone();
        let json = before.canonical_json().expect("written");
        let whole = pack(&mut kept, &BTreeMap::new()).expect("packed");
        for some in [
            &records,
            &records,
            &BTreeMap::from(
                [records.iter().nth(1).map(|(a, b)| (a.clone(), b.clone()))].map(|one| one.expect("three")),
            ),
        ] {
            let packed = pack(&mut kept, some).expect("packed");
            assert_eq!(kept, before, "everything is back in its place");
            assert_eq!(packed.sha256, whole.sha256);
            assert_eq!(packed.sha256, crate::domain::kept::sha256_hex(&json));
            let (read, sha256) = unpack(&packed.content).expect("read");
            assert_eq!((&read, &sha256), (&before, &packed.sha256));
        }
        assert!(records.values().all(|recorded| recorded.kept().is_some()));
        assert!(whole.content.len() * 2 < json.len());
    }
}
