//! Histories of components that were read already, shared by everybody who calls them: what changed is read once, and not once
//! for each caller.
//!
//! A history is given again only for the same tenant, service and span, while the newest change of its measurements has the
//! number that it had before the history was read, and the stream of changes has been followed ever since without a break:
//! then nothing was written to it. Where the span moved on, or something was written, ingestion says until when what is held
//! stands, and only what follows is read; where it cannot say so, and after a break, the whole is. What is held is bounded
//! in bytes; what was used least lately goes first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, TenantId, TimeRange, UnixMillis};

use crate::domain::freshness::Head;
use crate::domain::recorded::Recorded;
use crate::engine::Engine;
use crate::members::{HeldHistory, Refusal};

/// What a record takes beside its columns: names, the answers remembered with it, and its places here.
const BESIDE_BYTES: usize = 8 * 1024;

/// Records by tenant, service and span.
#[derive(Debug)]
pub(crate) struct Histories {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<Key, Held>,
    /// Keys by when they were used last.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

/// Tenant, service, and start and end of the span.
type Key = (TenantId, EntityId, UnixMillis, UnixMillis);

fn key(tenant: &TenantId, id: &EntityId, range: TimeRange) -> Key {
    (tenant.clone(), id.clone(), range.start_ms(), range.end_ms())
}

/// Before every span of a service.
fn from(tenant: &TenantId, id: &EntityId) -> Key {
    (tenant.clone(), id.clone(), UnixMillis::MIN, UnixMillis::MIN)
}

#[derive(Debug)]
struct Held {
    reading: Reading,
    recorded: Arc<Recorded>,
    used: u64,
    bytes: usize,
}

/// As of when a history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The span of unbroken following that it was read in.
    pub(crate) unbroken: u64,
    /// Number of the newest change of the service's measurements, known before they were read.
    pub(crate) sli: u64,
}

/// What was known of changes before histories are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since<'a> {
    /// [`crate::changes::Changes::unbroken`], asked before the changes of the services were.
    pub(crate) unbroken: Option<u64>,
    /// The newest changes of the services.
    pub(crate) heads: &'a BTreeMap<EntityId, Head>,
}

impl Since<'_> {
    fn reading(&self, id: &EntityId) -> Option<Reading> {
        Some(Reading { unbroken: self.unbroken?, sli: self.heads.get(id)?.sli })
    }
}

impl Engine {
    /// The records of services for a span: those held, and those that have to be read at ingestion.
    pub(crate) async fn records(
        &self,
        context: &CallContext,
        ids: &[EntityId],
        range: TimeRange,
        since: &Since<'_>,
    ) -> Result<BTreeMap<EntityId, Arc<Recorded>>, Refusal> {
        let held = |id: &EntityId| self.histories.held(&context.tenant, id, range, since.reading(id)?);
        let mut records: BTreeMap<EntityId, Arc<Recorded>> =
            ids.iter().filter_map(|id| Some((id.clone(), held(id)?))).collect();
        let unread: Vec<EntityId> = ids.iter().filter(|id| !records.contains_key(*id)).cloned().collect();
        let older = |id: &EntityId| self.histories.older(&context.tenant, id, range, since.unbroken?);
        let older: BTreeMap<EntityId, HeldHistory> =
            unread.iter().filter_map(|id| Some((id.clone(), older(id)?))).collect();
        for (id, read) in self.ingestion.recorded(context, &unread, range, &older).await? {
            // What was computed from the same buckets stays with them.
            let same = older.get(&id).map(|older| &older.recorded).filter(|older| older.tells_the_same(&read));
            let recorded = same.map_or(read, Arc::clone);
            self.hold(context, (&id, range), since, &recorded);
            records.insert(id, recorded);
        }
        Ok(records)
    }

    /// Holds a record that was read after what is said to have been known before it, unless the stream of changes was lost since.
    pub(crate) fn hold(
        &self,
        context: &CallContext,
        (id, range): (&EntityId, TimeRange),
        since: &Since<'_>,
        recorded: &Arc<Recorded>,
    ) {
        let unbroken = since.unbroken == self.changes.unbroken(Instant::now());
        if let Some(reading) = since.reading(id).filter(|_| unbroken) {
            self.histories.hold((&context.tenant, id, range), reading, recorded);
        }
    }
}

impl Histories {
    /// Holds at most so many bytes; none for 0.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// The record of a span, where nothing changed since it was read.
    pub(crate) fn held(
        &self,
        tenant: &TenantId,
        id: &EntityId,
        range: TimeRange,
        reading: Reading,
    ) -> Option<Arc<Recorded>> {
        let mut state = self.lock();
        let State { held, by_use, uses, .. } = &mut *state;
        let key = key(tenant, id, range);
        let held = held.get_mut(&key).filter(|held| held.reading == reading)?;
        *uses += 1;
        by_use.remove(&held.used);
        by_use.insert(*uses, key);
        held.used = *uses;
        Some(Arc::clone(&held.recorded))
    }

    /// What is held of a service that a span can go on with: of the same time of unbroken following, and from the start of the span
    /// on or earlier.
    pub(crate) fn older(
        &self,
        tenant: &TenantId,
        id: &EntityId,
        range: TimeRange,
        unbroken: u64,
    ) -> Option<HeldHistory> {
        let state = self.lock();
        let of_service = state.of_service(tenant, id);
        let goes_on = |(key, held): &(&Key, &Held)| {
            let (start_ms, end_ms) = (key.2, key.3);
            held.reading.unbroken == unbroken && start_ms <= range.start_ms() && range.start_ms() < end_ms
        };
        let newest = of_service.filter(goes_on).max_by_key(|(key, held)| (key.3, held.reading.sli))?;
        let ((.., end_ms), Held { recorded, reading, .. }) = newest;
        Some(HeldHistory { recorded: Arc::clone(recorded), end_ms: *end_ms, sequence: reading.sli })
    }

    /// Whether counts are known to be all that a service has: there are some, and no latencies, in what was read of it last.
    pub(crate) fn are_all(&self, tenant: &TenantId, id: &EntityId) -> bool {
        let state = self.lock();
        let newest = state.of_service(tenant, id).max_by_key(|(key, _)| key.3);
        newest.is_some_and(|(_, Held { recorded, .. })| {
            !recorded.counted().is_empty() && !recorded.origin().may_have_latency()
        })
    }

    /// Holds what was read. Earlier spans of the service, and what was read before another change of it, are asked for no more.
    pub(crate) fn hold(
        &self,
        (tenant, id, range): (&TenantId, &EntityId, TimeRange),
        reading: Reading,
        recorded: &Arc<Recorded>,
    ) {
        let bytes = recorded.bytes() + BESIDE_BYTES;
        if bytes > self.bytes_max {
            return;
        }
        let key = key(tenant, id, range);
        let mut state = self.lock();
        if state.held.get(&key).is_some_and(|held| held.reading == reading) {
            return;
        }
        let spent =
            state.of_service(tenant, id).filter(|(other, held)| other.3 < range.end_ms() || held.reading != reading);
        for spent in spent.map(|(spent, _)| spent.clone()).collect::<Vec<_>>() {
            state.let_go(&spent);
        }
        state.shrink(self.bytes_max - bytes);
        state.add(key, reading, Arc::clone(recorded), bytes);
    }

    /// Weighs the records of a service anew: they grow when they are kept for the first time.
    pub(crate) fn weigh(&self, tenant: &TenantId, id: &EntityId) {
        let mut state = self.lock();
        let State { held, bytes, .. } = &mut *state;
        let of_service = held.range_mut(from(tenant, id)..).take_while(|(key, _)| key.0 == *tenant && key.1 == *id);
        for (_, held) in of_service {
            *bytes -= held.bytes;
            held.bytes = held.recorded.bytes() + BESIDE_BYTES;
            *bytes += held.bytes;
        }
        state.shrink(self.bytes_max);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of_service<'a>(&'a self, tenant: &'a TenantId, id: &'a EntityId) -> impl Iterator<Item = (&'a Key, &'a Held)> {
        self.held.range(from(tenant, id)..).take_while(move |(key, _)| key.0 == *tenant && key.1 == *id)
    }

    fn add(&mut self, key: Key, reading: Reading, recorded: Arc<Recorded>, bytes: usize) {
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, key.clone());
        self.held.insert(key, Held { reading, recorded, used: self.uses, bytes });
    }

    /// Lets go of what was used least lately until no more than so many bytes are held.
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(oldest) = self.by_use.first_key_value().map(|(_, oldest)| oldest.clone()) else { return };
            self.let_go(&oldest);
        }
    }

    fn let_go(&mut self, key: &Key) {
        if let Some(held) = self.held.remove(key) {
            self.by_use.remove(&held.used);
            self.bytes -= held.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::recorded::KeptHistory;
    use attain_vocabulary::{BUCKET_MS, BucketCounts, SliBucket};

    const SPAN: i64 = 100;
    const READ: Reading = Reading { unbroken: 0, sli: 7 };

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn tenant(text: &str) -> TenantId {
        TenantId::new("tenant", text).expect("valid")
    }

    fn range(end: i64) -> TimeRange {
        TimeRange::new("range", (end - SPAN) * BUCKET_MS, end * BUCKET_MS).expect("ascending")
    }

    fn recorded(valid: u64) -> Arc<Recorded> {
        let counts = BucketCounts::new(valid, 0, None).expect("nested");
        let bucket = |step| SliBucket::new(step * BUCKET_MS, counts, BTreeMap::new(), None).expect("aligned");
        Arc::new(Recorded::from((0..SPAN).map(bucket).collect::<Vec<_>>()))
    }

    #[test]
    fn a_history_is_given_for_what_it_was_read_for_and_nothing_else() {
        let (histories, one, here) = (Histories::new(1 << 20), recorded(1), tenant("here"));
        histories.hold((&here, &id("a"), range(200)), READ, &one);
        let held = |tenant: &TenantId, name: &str, end, reading| histories.held(tenant, &id(name), range(end), reading);
        assert!(held(&here, "a", 200, READ).is_some_and(|held| Arc::ptr_eq(&held, &one)));
        assert_eq!(held(&tenant("there"), "a", 200, READ), None, "another tenant");
        assert_eq!(held(&here, "b", 200, READ), None, "another service");
        assert_eq!(held(&here, "a", 201, READ), None, "another span");
        assert_eq!(held(&here, "a", 200, Reading { sli: 8, ..READ }), None, "it was measured again");
        assert_eq!(held(&here, "a", 200, Reading { sli: 6, ..READ }), None, "of a log that has not come so far");
        assert_eq!(held(&here, "a", 200, Reading { unbroken: 1, ..READ }), None, "nobody followed in between");
    }

    #[test]
    fn what_was_read_later_takes_the_place_of_what_was_read_before() {
        let (histories, here, a) = (Histories::new(1 << 20), tenant("here"), id("a"));
        let later = Reading { sli: 8, ..READ };
        histories.hold((&here, &a, range(200)), READ, &recorded(1));
        histories.hold((&here, &id("ab"), range(200)), READ, &recorded(1));
        histories.hold((&here, &a, range(200)), later, &recorded(2));
        assert_eq!(histories.held(&here, &a, range(200), READ), None);
        assert_eq!(histories.held(&here, &a, range(200), later), Some(recorded(2)));
        histories.hold((&here, &a, range(201)), later, &recorded(3));
        assert_eq!(histories.held(&here, &a, range(200), later), None, "the span moved on");
        assert!(histories.held(&here, &id("ab"), range(200), READ).is_some(), "of another service");
        assert_eq!(histories.lock().held.len(), 2);
    }

    #[test]
    fn the_bound_holds_and_what_was_used_least_lately_goes_first() {
        let (here, each) = (tenant("here"), recorded(1).counted().bytes() + BESIDE_BYTES);
        let histories = Histories::new(3 * each + each / 2);
        let hold = |name: &str| histories.hold((&here, &id(name), range(200)), READ, &recorded(1));
        let is_held = |name: &str| histories.held(&here, &id(name), range(200), READ).is_some();
        ["a", "b", "c"].into_iter().for_each(hold);
        assert!(is_held("a"));
        hold("d");
        assert_eq!(["a", "b", "c", "d"].map(is_held), [true, false, true, true]);
        for number in 0..100 {
            hold(&format!("s{number}"));
            let state = histories.lock();
            assert!(state.bytes <= histories.bytes_max && state.held.len() == state.by_use.len());
            assert_eq!(state.bytes, state.held.values().map(|held| held.bytes).sum::<usize>());
        }
        // One that grew counts for what it is now.
        let grown = histories.held(&here, &id("s99"), range(200), READ).expect("the newest");
        grown.keep(KeptHistory { json_bytes: 0, frame: vec![0; each] });
        histories.weigh(&here, &id("s99"));
        assert_eq!(["s97", "s98", "s99"].map(is_held), [false, true, true]);
        // What is larger than all that may be held pushes nothing out.
        let none = Histories::new(each - 1);
        none.hold((&here, &id("a"), range(200)), READ, &recorded(1));
        assert_eq!(none.held(&here, &id("a"), range(200), READ), None);
    }
}
