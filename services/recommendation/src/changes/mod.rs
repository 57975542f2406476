//! What is known of ingestion's changes without asking it: a mirror of the change log that a [`follower`] keeps, and when it
//! was last known to hold everything.

pub(crate) mod follower;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use attain_vocabulary::{EntityId, TenantId};

use crate::domain::freshness::{Basis, Head};
use crate::domain::mirror::{Change, Mirror, Part, Taken};
use crate::domain::touched::Touched;

/// Most services that changed and wait to be looked at.
const TOUCHED_MAX: usize = 10_000;
/// A confirmation that this many turns ago was the last one is not relied upon any more.
const TURNS_MISSED_MAX: u32 = 5;

/// The mirror, shared by the follower that writes it and whoever judges by it.
#[derive(Debug)]
pub(crate) struct Changes {
    state: Mutex<State>,
    /// How old a confirmation may be.
    age_max: Duration,
}

#[derive(Debug)]
struct State {
    mirror: Mirror,
    touched: Touched,
    /// Tenants of whose incidents some changed, and all that ever told of any.
    incidents: BTreeSet<TenantId>,
    incidents_ever: BTreeSet<TenantId>,
    /// The mirror holds everything that was acknowledged before; `None` while that is not known.
    confirmed: Option<Instant>,
    /// How often the stream was lost, or its log turned out to be another one.
    breaks: u64,
}

/// What the mirror knows of the inputs of a recommendation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) heads: BTreeMap<EntityId, Head>,
    /// Number of the newest change of all.
    pub(crate) newest: u64,
    /// Time since the mirror was known to hold everything.
    pub(crate) age: Duration,
}

impl Changes {
    /// A mirror that knows nothing. `turn` is the time between two confirmations.
    pub(crate) fn new(services_max: usize, turn: Duration) -> Self {
        let state = State {
            mirror: Mirror::new(services_max),
            touched: Touched::new(TOUCHED_MAX),
            incidents: BTreeSet::new(),
            incidents_ever: BTreeSet::new(),
            confirmed: None,
            breaks: 0,
        };
        Self { state: Mutex::new(state), age_max: turn * TURNS_MISSED_MAX }
    }

    /// How the inputs of a basis are now; `None` where only ingestion can tell: the stream is lost or not confirmed, the
    /// mirror has not come as far as the basis, or has no room for the tenant.
    pub(crate) fn known(&self, tenant: &TenantId, read: &Basis, now: Instant) -> Option<Known> {
        let state = self.lock();
        let (age, newest) = (now.saturating_duration_since(state.confirmed?), state.mirror.newest());
        // A basis that knows more was read at ingestion just now, or at another database: the mirror cannot tell which.
        if age > self.age_max || read.newest() > newest {
            return None;
        }
        let heads = state.mirror.heads(tenant, read.heads.keys())?;
        Some(Known { heads, newest, age })
    }

    /// A number that stays the same for as long as the stream is followed without a break, and so for as long as a number of a
    /// change means the same one; `None` while that is not known.
    pub(crate) fn unbroken(&self, now: Instant) -> Option<u64> {
        let state = self.lock();
        let age = now.saturating_duration_since(state.confirmed?);
        (age <= self.age_max).then_some(state.breaks)
    }

    /// Services that changed since this was asked last, at most `limit`, each once; and whether everything that is stored
    /// has to be judged, because more changed than is remembered. The sweep for drift asks; a second reader needs a set of its own.
    pub(crate) fn take_touched(&self, limit: usize) -> (Vec<(TenantId, EntityId)>, bool) {
        self.lock().touched.take(limit)
    }

    /// Tenants of whose incidents some changed since this was asked last.
    pub(crate) fn take_incidents(&self) -> BTreeSet<TenantId> {
        std::mem::take(&mut self.lock().incidents)
    }

    /// Has every tenant that ever told of an incident looked at again.
    pub(crate) fn note_incidents_again(&self) {
        let mut state = self.lock();
        state.incidents = state.incidents_ever.clone();
    }

    fn newest(&self) -> u64 {
        self.lock().mirror.newest()
    }

    fn witness(&self) -> Option<(u64, Change)> {
        self.lock().mirror.witness().cloned()
    }

    fn take(&self, sequence: u64, change: Option<Change>) -> Taken {
        let mut state = self.lock();
        if let Some(change) = &change {
            state.touched.note(&change.tenant, &change.service);
            if change.part == Part::Incident {
                state.incidents.insert(change.tenant.clone());
                state.incidents_ever.insert(change.tenant.clone());
            }
        }
        state.mirror.take(sequence, change)
    }

    /// Everything that was acknowledged before `asked` is held.
    fn confirm(&self, asked: Instant) {
        let mut state = self.lock();
        state.confirmed = state.confirmed.max(Some(asked));
    }

    /// Nobody tells of changes any more.
    fn lose(&self) {
        let mut state = self.lock();
        state.confirmed = None;
        state.breaks += 1;
    }

    /// The log starts anew.
    fn forget(&self) {
        let mut state = self.lock();
        state.confirmed = None;
        state.breaks += 1;
        state.mirror.forget();
        state.touched.note_all();
        state.incidents = state.incidents_ever.clone();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_secs(1);

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn change(service: &str) -> Option<Change> {
        Some(Change { tenant: TenantId::default(), service: id(service), part: Part::Topology })
    }

    fn basis(topology: u64) -> Basis {
        let head = Head { topology, ..Head::default() };
        Basis { heads: BTreeMap::from([(id("a"), head)]), ..Basis::default() }
    }

    #[test]
    fn what_was_not_confirmed_lately_is_not_relied_upon() {
        let (changes, start) = (Changes::new(10, TURN), Instant::now());
        changes.take(1, change("a"));
        let known = |after_ms| {
            let now = start + Duration::from_millis(after_ms);
            changes.known(&TenantId::default(), &basis(1), now)
        };
        assert_eq!(known(0), None, "nobody has said that this is all");
        changes.confirm(start);
        let told = known(2_000).expect("confirmed");
        assert_eq!((told.age, told.newest, told.heads), (Duration::from_secs(2), 1, basis(1).heads));
        assert_eq!(known(5_000).map(|known| known.age), Some(Duration::from_secs(5)));
        assert_eq!(known(5_001), None);
        changes.confirm(start + Duration::from_secs(4));
        // One that was asked for earlier and answered later changes nothing.
        changes.confirm(start + Duration::from_secs(3));
        assert_eq!(known(9_000).map(|known| known.age), Some(Duration::from_secs(5)));
        changes.lose();
        assert_eq!(known(4_000), None);
    }

    #[test]
    fn a_basis_that_knows_more_is_not_judged() {
        let (changes, now) = (Changes::new(10, TURN), Instant::now());
        changes.take(7, change("a"));
        changes.confirm(now);
        let known = |read: &Basis| changes.known(&TenantId::default(), read, now).is_some();
        assert!(known(&basis(7)) && known(&basis(5)) && !known(&basis(8)));
        assert!(!known(&Basis { graph_version: Some(8), ..basis(7) }));
    }

    #[test]
    fn a_break_is_told_from_every_span_before_and_after_it() {
        let (changes, start) = (Changes::new(10, TURN), Instant::now());
        assert_eq!(changes.unbroken(start), None, "nothing is followed yet");
        changes.confirm(start);
        let first = changes.unbroken(start);
        assert!(first.is_some() && first == changes.unbroken(start + 5 * TURN));
        assert_eq!(changes.unbroken(start + 6 * TURN), None, "nobody has confirmed it for too long");
        changes.lose();
        assert_eq!(changes.unbroken(start), None);
        changes.confirm(start);
        let second = changes.unbroken(start);
        assert!(second.is_some() && second != first);
        changes.forget();
        changes.confirm(start);
        assert!(![None, first, second].contains(&changes.unbroken(start)));
    }

    #[test]
    fn tenants_with_incidents_are_told_once_and_again_when_asked_to() {
        let changes = Changes::new(10, TURN);
        let of = |part| Some(Change { tenant: TenantId::default(), service: id("a"), part });
        changes.take(1, of(Part::Sli));
        assert!(changes.take_incidents().is_empty());
        changes.take(2, of(Part::Incident));
        assert_eq!(changes.take_incidents().len(), 1);
        assert!(changes.take_incidents().is_empty());
        changes.note_incidents_again();
        assert_eq!(changes.take_incidents().len(), 1);
    }

    #[test]
    fn what_changed_waits_once_and_another_log_touches_everything() {
        let changes = Changes::new(10, TURN);
        for (sequence, told) in [(1, change("a")), (2, change("b")), (3, None), (4, change("a"))] {
            changes.take(sequence, told);
        }
        let (touched, all) = changes.take_touched(10);
        assert_eq!((touched.len(), all), (2, false));
        changes.forget();
        assert_eq!(changes.take_touched(10), (Vec::new(), true));
        assert_eq!(changes.newest(), 0);
    }
}
