use super::{Anchor, Encoding, Record};

/// The first place at which a log does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is broken at record {sequence}: {reason}")]
pub struct BrokenChain {
    /// Position of the first record that is not what it has to be, or not there.
    pub sequence: u64,
    /// In which way.
    pub reason: &'static str,
}

/// A log that holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Records that were checked.
    pub record_count: u64,
    /// Where they end.
    pub head: Anchor,
    /// Anchors that they led to.
    pub anchor_count: usize,
}

/// Checks a log record by record, in constant memory.
#[derive(Debug, Clone)]
pub struct Verifier {
    tenant_id: Option<String>,
    last: Anchor,
    encoding: Encoding,
    /// Not reached yet, the nearest last.
    anchors: Vec<Anchor>,
    anchor_count: usize,
    record_count: u64,
}

impl Verifier {
    /// Begins behind `start` ([`Anchor::genesis`] for a whole log). The log has to lead to each of `anchors`, however far it goes
    /// on; one at or before `start` is compared with it.
    ///
    /// # Errors
    /// Names the record where an anchor says another hash than `start` or another anchor, or lies before `start`, where nothing
    /// of it can be told.
    pub fn new(start: Anchor, mut anchors: Vec<Anchor>) -> Result<Self, BrokenChain> {
        anchors.sort_by(|a, b| b.cmp(a));
        anchors.dedup();
        let contradicting = anchors.windows(2).rev().find(|pair| pair[0].sequence == pair[1].sequence);
        if let Some([anchor, _]) = contradicting {
            return Err(BrokenChain { sequence: anchor.sequence, reason: "two anchors say different hashes of it" });
        }
        let mut anchor_count = 0;
        while let Some(anchor) = anchors.pop_if(|anchor| anchor.sequence <= start.sequence) {
            let reason = match anchor.sequence < start.sequence {
                true => "an anchor is of a record before the first that is checked",
                false => "an anchor says another hash of it than where the check begins",
            };
            if anchor != start {
                return Err(BrokenChain { sequence: anchor.sequence, reason });
            }
            anchor_count += 1;
        }
        Ok(Self { tenant_id: None, last: start, encoding: Encoding::Json, anchors, anchor_count, record_count: 0 })
    }

    /// Where the records so far end.
    #[must_use]
    pub fn last(&self) -> &Anchor {
        &self.last
    }

    /// Checks the next record.
    ///
    /// # Errors
    /// Names the position that this record should have had, and in which way it does not follow.
    pub fn check(&mut self, record: &Record) -> Result<(), BrokenChain> {
        let sequence = self.last.sequence + 1;
        let broken = |reason| Err(BrokenChain { sequence, reason });
        if record.sequence > sequence {
            return broken("it is missing");
        }
        if record.sequence < sequence {
            return broken("an earlier record stands in its place");
        }
        if self.tenant_id.as_ref().is_some_and(|tenant_id| *tenant_id != record.tenant_id) {
            return broken("it is of another tenant's log");
        }
        if record.previous_sha256 != self.last.sha256 {
            return broken("it does not follow the record before");
        }
        if record.encoding < self.encoding {
            return broken("it is in an encoding that was given up before it");
        }
        if record.sha256 != record.computed_sha256() {
            return broken("it was changed");
        }
        if let Some(anchor) = self.anchors.pop_if(|anchor| anchor.sequence == sequence) {
            if anchor.sha256 != record.sha256 {
                return broken("an anchor says another hash: it, or something before it, was written anew");
            }
            self.anchor_count += 1;
        }
        self.tenant_id.get_or_insert_with(|| record.tenant_id.clone());
        self.encoding = record.encoding;
        self.last = Anchor { sequence, sha256: record.sha256.clone() };
        self.record_count += 1;
        Ok(())
    }

    /// The log ends here.
    ///
    /// # Errors
    /// Names the first record that is missing where an anchor lies behind the end.
    pub fn finish(self) -> Result<Verified, BrokenChain> {
        if !self.anchors.is_empty() {
            let reason = "it is missing, and so is everything behind it up to an anchor: the tail was cut off";
            return Err(BrokenChain { sequence: self.last.sequence + 1, reason });
        }
        Ok(Verified { record_count: self.record_count, head: self.last, anchor_count: self.anchor_count })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Entry, GENESIS_SHA256};
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

    fn sealed(tenant_id: &str, entries: impl IntoIterator<Item = Entry>) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        for (sequence, entry) in (1..).zip(entries) {
            let previous = records.last().map_or(GENESIS_SHA256.to_owned(), |record| record.sha256.clone());
            records.push(Record::seal(tenant_id, sequence, previous, entry));
        }
        records
    }

    fn chain(length: i64) -> Vec<Record> {
        sealed("acme", (1..=length).map(entry))
    }

    fn anchor(record: &Record) -> Anchor {
        Anchor { sequence: record.sequence, sha256: record.sha256.clone() }
    }

    fn verify(records: &[Record], anchors: Vec<Anchor>) -> Result<Verified, BrokenChain> {
        let mut verifier = Verifier::new(Anchor::genesis(), anchors)?;
        records.iter().try_for_each(|record| verifier.check(record))?;
        verifier.finish()
    }

    fn broken_at(records: &[Record], anchors: Vec<Anchor>) -> Option<u64> {
        verify(records, anchors).err().map(|broken| broken.sequence)
    }

    #[test]
    fn a_whole_chain_holds_and_says_where_it_ends() {
        let records = chain(5);
        let verified = verify(&records, vec![anchor(&records[2]), Anchor::genesis()]).expect("whole");
        assert_eq!((verified.record_count, verified.anchor_count), (5, 2));
        assert_eq!(verified.head, anchor(&records[4]));
        assert_eq!(verify(&[], Vec::new()).expect("empty").head, Anchor::genesis());
    }

    #[test]
    fn the_first_bad_position_is_named() {
        let head = vec![anchor(&chain(5)[4])];
        let after = |change: fn(&mut Vec<Record>)| {
            let mut records = chain(5);
            change(&mut records);
            broken_at(&records, head.clone())
        };
        assert_eq!(after(|_| ()), None);
        assert_eq!(after(|records| records[2].entry.caller = "mallory".into()), Some(3));
        assert_eq!(after(|records| records[3].entry.time_ms += 1), Some(4));
        assert_eq!(after(|records| drop(records.remove(1))), Some(2));
        assert_eq!(after(|records| records.swap(0, 1)), Some(1));
        assert_eq!(after(|records| records.insert(2, records[1].clone())), Some(3));
        assert_eq!(after(|records| records.truncate(3)), Some(4));
        assert_eq!(after(|records| records[1].tenant_id = "other".into()), Some(2));
        assert_eq!(after(|records| records[1].encoding = Encoding::Json), Some(2));
        // Sealing the changed record anew moves the break to its successor.
        let resealed = |records: &mut Vec<Record>| {
            let old = records[2].clone();
            records[2] = Record::seal("acme", 3, old.previous_sha256, entry(99));
        };
        assert_eq!(after(resealed), Some(4));
        // Writing everything anew from there on holds together, and only an anchor shows it.
        let anew = sealed("acme", [1, 2, 99, 4, 5].map(entry));
        assert_eq!((broken_at(&anew, Vec::new()), broken_at(&anew, head.clone())), (None, Some(5)));
        assert_eq!(broken_at(&anew, vec![anchor(&chain(3)[2])]), Some(3));
        assert_eq!(broken_at(&sealed("other", (1..=5).map(entry)), head), Some(5));
    }

    #[test]
    fn a_check_goes_on_from_an_anchor() {
        let records = chain(6);
        let start = anchor(&records[2]);
        let mut verifier = Verifier::new(start.clone(), vec![start.clone(), anchor(&records[5])]).expect("agree");
        records[3..].iter().try_for_each(|record| verifier.check(record)).expect("follow");
        assert_eq!(verifier.finish().expect("whole").record_count, 3);
        assert_eq!(
            Verifier::new(start.clone(), vec![anchor(&records[0])]).err().map(|broken| broken.sequence),
            Some(1)
        );
        let other = Anchor { sha256: "0".repeat(64), ..start.clone() };
        assert_eq!(Verifier::new(start.clone(), vec![other.clone()]).err().map(|broken| broken.sequence), Some(3));
        let agreeing = Verifier::new(Anchor::genesis(), vec![start, other]);
        assert_eq!(agreeing.err().map(|broken| broken.sequence), Some(3));
    }

    #[test]
    fn the_first_encoding_may_only_come_first() {
        let json = |sequence, previous_sha256: String| {
            let sealed = Record::seal("acme", sequence, previous_sha256, entry(sequence as i64));
            let record = Record { encoding: Encoding::Json, ..sealed };
            Record { sha256: record.computed_sha256(), ..record }
        };
        let first = json(1, GENESIS_SHA256.to_owned());
        let second = Record::seal("acme", 2, first.sha256.clone(), entry(2));
        let third = json(3, second.sha256.clone());
        assert_eq!(broken_at(&[first.clone(), second.clone()], Vec::new()), None);
        assert_eq!(broken_at(&[first, second, third], Vec::new()), Some(3));
    }

    /// One thing done to a log by somebody who cannot write everything behind it anew.
    #[derive(Debug, Clone)]
    enum Mutation {
        Text(usize, u8, String),
        Time(usize, i64),
        Sequence(usize, u64),
        Hash(usize, bool, usize),
        Encoding(usize),
        Remove(usize),
        Swap(usize, usize),
        Repeat(usize, usize),
        Forge(usize, String),
        Reseal(usize, String),
        Truncate(usize),
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        let at = any::<usize>;
        prop_oneof![
            (at(), 0u8..5, ".{0,12}").prop_map(|(i, field, text)| Mutation::Text(i, field, text)),
            (at(), any::<i64>()).prop_map(|(i, time_ms)| Mutation::Time(i, time_ms)),
            (at(), any::<u64>()).prop_map(|(i, sequence)| Mutation::Sequence(i, sequence)),
            (at(), any::<bool>(), at()).prop_map(|(i, previous, digit)| Mutation::Hash(i, previous, digit)),
            at().prop_map(Mutation::Encoding),
            at().prop_map(Mutation::Remove),
            (at(), at()).prop_map(|(i, k)| Mutation::Swap(i, k)),
            (at(), at()).prop_map(|(i, k)| Mutation::Repeat(i, k)),
            (at(), ".{0,12}").prop_map(|(i, text)| Mutation::Forge(i, text)),
            (at(), ".{0,12}").prop_map(|(i, text)| Mutation::Reseal(i, text)),
            at().prop_map(Mutation::Truncate),
        ]
    }

    fn mutate(records: &mut Vec<Record>, mutation: Mutation) {
        let length = records.len();
        match mutation {
            Mutation::Text(i, field, text) => {
                let record = &mut records[i % length];
                let field = match field {
                    0 => &mut record.tenant_id,
                    1 => &mut record.entry.caller,
                    2 => &mut record.entry.action,
                    3 => &mut record.entry.service_id,
                    _ => &mut record.entry.detail_json,
                };
                *field = text;
            }
            Mutation::Time(i, time_ms) => records[i % length].entry.time_ms = time_ms,
            Mutation::Sequence(i, sequence) => records[i % length].sequence = sequence,
            Mutation::Hash(i, previous, digit) => {
                let record = &mut records[i % length];
                let hash = if previous { &mut record.previous_sha256 } else { &mut record.sha256 };
                let digit = digit % hash.len();
                let other = if &hash[digit..=digit] == "0" { "1" } else { "0" };
                hash.replace_range(digit..=digit, other);
            }
            Mutation::Encoding(i) => records[i % length].encoding = Encoding::Json,
            Mutation::Remove(i) => drop(records.remove(i % length)),
            Mutation::Swap(i, k) => records.swap(i % length, k % length),
            Mutation::Repeat(i, k) => records.insert(i % (length + 1), records[k % length].clone()),
            Mutation::Forge(i, text) => {
                let i = i % (length + 1);
                let previous = i.checked_sub(1).map_or(GENESIS_SHA256.to_owned(), |i| records[i].sha256.clone());
                records.insert(i, Record::seal("acme", i as u64 + 1, previous, Entry { caller: text, ..entry(0) }));
            }
            Mutation::Reseal(i, text) => {
                let i = i % length;
                let old = records[i].clone();
                let entry = Entry { caller: text, ..old.entry };
                records[i] = Record::seal("acme", old.sequence, old.previous_sha256, entry);
            }
            Mutation::Truncate(i) => records.truncate(i % length),
        }
    }

    proptest! {
        #[test]
        fn any_single_mutation_is_found(
            entries in prop::collection::vec((any::<i64>(), ".{0,8}", ".{0,8}"), 1..12),
            mutation in mutation(),
        ) {
            let entries = entries.into_iter().map(|(time_ms, caller, action)| {
                Entry { time_ms, caller, action, ..entry(0) }
            });
            let records = sealed("acme", entries);
            let head = vec![anchor(records.last().expect("not empty"))];
            prop_assert!(verify(&records, head.clone()).is_ok());
            let mut mutated = records.clone();
            mutate(&mut mutated, mutation);
            // A record forged behind the end is as one that was written: it follows, and nothing before it is touched.
            let untouched = mutated.get(..records.len()) == Some(records.as_slice()) && mutated.len() <= records.len() + 1;
            let repeated_last = untouched && mutated.last().is_some_and(|last| last.sequence <= records.len() as u64);
            let found = verify(&mutated, head);
            if mutated == records || (untouched && !repeated_last) {
                prop_assert!(found.is_ok());
            } else {
                let first_bad = records.iter().zip(&mutated).take_while(|(was, is)| was == is).count() as u64 + 1;
                let named = found.expect_err("found").sequence;
                // A sealed forgery shows at its successor; everything else where it is.
                prop_assert!(named == first_bad || named == first_bad + 1, "{named} for {first_bad}");
            }
        }
    }
}
