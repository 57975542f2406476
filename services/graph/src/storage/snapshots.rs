//! The snapshots of all tenants: read without waiting, replaced whole, fetched once for all who ask. What is fetched is what
//! changed since the one held, wherever ingestion can tell.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use attain_runtime::clock::Clock;
use attain_vocabulary::{TenantId, UnixMillis};
use tokio::sync::{Notify, watch};
use tokio::time::timeout_at;
use tonic::Status;

use super::held::{Asked, Held, Size};
use super::source::Source;
use crate::error::Error;

/// Least time between two fetches of one tenant's graph on account of a name that it does not hold.
const FORCED_INTERVAL: Duration = Duration::from_secs(1);

/// How much is held and how long a fetch may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) tenants_max: usize,
    pub(crate) size: Size,
    /// Beside the newest.
    pub(crate) versions_kept: usize,
    pub(crate) fetch_timeout: Duration,
}

/// Every tenant's snapshot.
#[derive(Debug)]
pub(crate) struct Snapshots {
    source: Source,
    clock: Clock,
    bounds: Bounds,
    tenants: ArcSwap<BTreeMap<TenantId, Arc<Tenant>>>,
    /// Since when nobody tells of changes; `None` while the stream flows.
    lost_since: Mutex<Option<UnixMillis>>,
    /// Told when a version is older than the one before.
    gone_back: Notify,
}

#[derive(Debug)]
struct Tenant {
    held: watch::Sender<Option<Arc<Held>>>,
    /// Versions that differ in more than counts, oldest first; the newest is the one held.
    kept: Mutex<VecDeque<Arc<Held>>>,
    /// Held by whoever fetches.
    flight: tokio::sync::Mutex<()>,
    doubt: Mutex<Doubt>,
}

/// Why the snapshot may not be the newest.
#[derive(Debug, Default)]
struct Doubt {
    behind: Option<Behind>,
    /// When an unknown name last made somebody fetch.
    forced: Option<Instant>,
    /// When the snapshot was asked for, where it brought nothing but counts.
    counted: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Behind {
    since_ms: UnixMillis,
    /// A snapshot asked for from here on settles it …
    at: Instant,
    /// … and so does one of this version.
    version: Option<u64>,
}

/// What a snapshot must be for nobody to fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Freshness {
    /// Anything.
    Any,
    /// Of at least this version.
    Version(u64),
    /// Asked for no earlier.
    Since(Instant),
    /// The newest that is known of, whoever fetched it.
    Newest,
}

impl Snapshots {
    pub(crate) fn new(source: Source, clock: Clock, bounds: Bounds) -> Self {
        let lost_since = Mutex::new(Some(clock.now_ms()));
        Self { source, clock, bounds, tenants: ArcSwap::default(), lost_since, gone_back: Notify::new() }
    }

    /// The source that the snapshots are fetched from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// What is held, or else what ingestion has.
    pub(crate) async fn read(&self, id: &TenantId, deadline: Instant) -> Result<Arc<Held>, Error> {
        self.refresh(id, Freshness::Any, deadline).await
    }

    /// A snapshot of some freshness: the one held where it will do, else fetched, once for all who wait for it.
    pub(crate) async fn refresh(
        &self,
        id: &TenantId,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<Arc<Held>, Error> {
        let tenant = self.tenant(id)?;
        let good_enough = || tenant.current().filter(|held| tenant.meets(freshness, held));
        if let Some(held) = good_enough() {
            return Ok(held);
        }
        let refreshing = async {
            let _flight = tenant.flight.lock().await;
            match good_enough() {
                Some(held) => Ok(held),
                None => self.fetch(id, &tenant).await,
            }
        };
        timeout_at(deadline.into(), refreshing).await.unwrap_or(Err(Error::Deadline))
    }

    /// A snapshot for somebody who asks for a name that the one held does not know: fetched anew, but no more often than
    /// once a second.
    pub(crate) async fn doubt(&self, id: &TenantId, deadline: Instant) -> Result<Arc<Held>, Error> {
        let tenant = self.tenant(id)?;
        let now = Instant::now();
        let first = {
            let mut doubt = tenant.doubt();
            let due = doubt.forced.is_none_or(|last| now.duration_since(last) >= FORCED_INTERVAL);
            if due {
                doubt.forced = Some(now);
            }
            due
        };
        if first {
            return self.refresh(id, Freshness::Since(now), deadline).await;
        }
        if self.lost().is_some() {
            // Nobody would have told of the name.
            return Err(Error::Ingestion(Box::new(Status::unavailable("the stream of changes is interrupted"))));
        }
        // Whoever was first may still be fetching.
        let flight = timeout_at(deadline.into(), tenant.flight.lock()).await;
        drop(flight.map_err(|_| Error::Deadline)?);
        self.read(id, deadline).await
    }

    /// A snapshot of at least `version`, or what there is when `until` has come.
    pub(crate) async fn wait_for(
        &self,
        id: &TenantId,
        version: u64,
        until: Instant,
        deadline: Instant,
    ) -> Result<Arc<Held>, Error> {
        let held = self.read(id, deadline).await?;
        if held.version >= version || until <= Instant::now() {
            return Ok(held);
        }
        match self.refresh(id, Freshness::Version(version), until).await {
            Ok(held) if held.version >= version => return Ok(held),
            Ok(_) | Err(Error::Deadline) => {}
            Err(error) => tracing::debug!(tenant = %id, error = %error, "the stream is waited for instead"),
        }
        let tenant = self.tenant(id)?;
        let mut arrivals = tenant.held.subscribe();
        let arrived = arrivals.wait_for(|held| held.as_ref().is_some_and(|held| held.version >= version));
        let arrived = timeout_at(until.into(), arrived).await.ok().and_then(Result::ok);
        match arrived.and_then(|held| held.clone()) {
            Some(held) => Ok(held),
            None => self.read(id, deadline).await,
        }
    }

    /// Kept versions, oldest first; the last is the newest.
    pub(crate) async fn kept(&self, id: &TenantId, deadline: Instant) -> Result<Vec<Arc<Held>>, Error> {
        self.read(id, deadline).await?;
        Ok(self.tenant(id)?.kept().iter().cloned().collect())
    }

    /// Milliseconds since the snapshot was known to be the newest: 0 while the stream flows and tells of nothing newer.
    pub(crate) fn age_ms(&self, id: &TenantId, held: &Held) -> i64 {
        let tenants = self.tenants.load();
        let behind = tenants.get(id).and_then(|tenant| tenant.doubt().behind);
        let confirmed_ms = match (behind, self.lost()) {
            (Some(behind), _) => behind.since_ms,
            (None, Some(lost_ms)) => lost_ms.max(held.asked.time_ms),
            (None, None) => return 0,
        };
        (self.clock.now_ms() - confirmed_ms).max(0)
    }

    /// Takes note of a change; says whether the tenant's snapshot has to be fetched.
    pub(crate) fn note(&self, id: &TenantId, sequence: u64) -> Result<bool, Error> {
        let tenant = self.tenant(id)?;
        if tenant.current().is_some_and(|held| held.version >= sequence) {
            return Ok(false);
        }
        tenant.fall_behind(Behind { since_ms: self.clock.now_ms(), at: Instant::now(), version: Some(sequence) });
        Ok(true)
    }

    /// When counts alone were last fetched for a tenant; `None` where the last fetch brought anything else.
    pub(crate) fn counted(&self, id: &TenantId) -> Option<Instant> {
        self.tenants.load().get(id)?.doubt().counted
    }

    /// Whether a tenant's snapshot is known not to be the newest.
    pub(crate) fn is_behind(&self, id: &TenantId) -> bool {
        self.tenants.load().get(id).is_some_and(|tenant| tenant.doubt().behind.is_some())
    }

    /// The stream flows (again). Returns the tenants whose snapshots have to be fetched: changes may have been missed.
    pub(crate) fn stream_opened(&self, at: Instant) -> Vec<TenantId> {
        let lost_ms = self.lost_since.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tenants = self.tenants.load();
        let held = tenants.iter().filter(|(_, tenant)| tenant.held.borrow().is_some());
        held.map(|(id, tenant)| {
            let asked_ms = tenant.current().map_or(0, |held| held.asked.time_ms);
            let since_ms = lost_ms.unwrap_or_else(|| self.clock.now_ms()).max(asked_ms);
            tenant.fall_behind(Behind { since_ms, at, version: None });
            id.clone()
        })
        .collect()
    }

    /// The stream has ended.
    pub(crate) fn stream_lost(&self) {
        let mut lost = self.lost_since.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert(self.clock.now_ms());
    }

    /// Waits until ingestion has sent a version older than the one before: its sequence starts anew.
    pub(crate) async fn gone_back(&self) {
        self.gone_back.notified().await;
    }

    fn lost(&self) -> Option<UnixMillis> {
        *self.lost_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, id: &TenantId, tenant: &Tenant) -> Result<Arc<Held>, Error> {
        let asked = Asked { time_ms: self.clock.now_ms(), at: Instant::now() };
        let before = tenant.current();
        let base = before.as_ref().map(|held| (held.version, held.epoch.as_str()));
        let topology = self.source.topology(id, base, self.bounds.fetch_timeout).await?;
        let size = self.bounds.size;
        let read = tokio::task::spawn_blocking(move || {
            let held = match &before {
                Some(before) if topology.base_version > 0 => before.updated(topology, size, asked)?,
                _ => Held::read(topology, size, asked)?,
            };
            let only_counts = before.is_some_and(|before| held.only_counts_since(&before));
            Ok::<_, Error>((Arc::new(held), only_counts))
        });
        let (held, only_counts) = read.await.map_err(Error::Broken)??;
        tracing::debug!(tenant = %id, version = held.version, nodes = held.entities.len(), "a new snapshot");
        tenant.keep(&held, only_counts, self.bounds.versions_kept);
        if tenant.store(Arc::clone(&held), only_counts).is_some_and(|before| before.version > held.version) {
            self.gone_back.notify_one();
        }
        Ok(held)
    }

    fn tenant(&self, id: &TenantId) -> Result<Arc<Tenant>, Error> {
        if let Some(tenant) = self.tenants.load().get(id) {
            return Ok(Arc::clone(tenant));
        }
        let limit = self.bounds.tenants_max;
        let fresh = Arc::new(Tenant::default());
        self.tenants.rcu(|tenants| {
            let mut tenants = BTreeMap::clone(tenants);
            if tenants.len() < limit {
                tenants.entry(id.clone()).or_insert_with(|| Arc::clone(&fresh));
            }
            tenants
        });
        let tenants = self.tenants.load();
        let full = Error::TooLarge { what: "tenants", count: limit + 1, limit };
        tenants.get(id).map(Arc::clone).ok_or(full)
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            held: watch::Sender::new(None),
            kept: Mutex::default(),
            flight: tokio::sync::Mutex::default(),
            doubt: Mutex::default(),
        }
    }
}

impl Tenant {
    fn current(&self) -> Option<Arc<Held>> {
        self.held.borrow().clone()
    }

    fn meets(&self, freshness: Freshness, held: &Held) -> bool {
        match freshness {
            Freshness::Any => true,
            Freshness::Version(version) => held.version >= version,
            Freshness::Since(at) => held.asked.at >= at,
            Freshness::Newest => self.doubt().behind.is_none(),
        }
    }

    /// Keeps a version; in place of the last where only counts differ. One that is older than the last begins anew: it is of
    /// another database.
    fn keep(&self, held: &Arc<Held>, only_counts: bool, versions_kept: usize) {
        let mut kept = self.kept();
        match kept.back().map(|last| last.version) {
            Some(last) if last > held.version => kept.clear(),
            Some(last) if only_counts || last == held.version => {
                kept.pop_back();
            }
            _ => {}
        }
        kept.push_back(Arc::clone(held));
        while kept.len() > versions_kept + 1 {
            kept.pop_front();
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Held>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Swaps the snapshot in; returns the one before.
    fn store(&self, held: Arc<Held>, only_counts: bool) -> Option<Arc<Held>> {
        {
            let mut doubt = self.doubt();
            doubt.counted = only_counts.then_some(held.asked.at);
            let settled = |behind: &mut Behind| {
                held.asked.at >= behind.at || behind.version.is_some_and(|version| held.version >= version)
            };
            doubt.behind.take_if(settled);
        }
        self.held.send_replace(Some(held))
    }

    fn fall_behind(&self, new: Behind) {
        let mut doubt = self.doubt();
        let joined = doubt.behind.map_or(new, |old| Behind {
            since_ms: old.since_ms.min(new.since_ms),
            at: old.at.max(new.at),
            version: old.version.zip(new.version).map(|(old, new)| old.max(new)),
        });
        doubt.behind = Some(joined);
    }

    fn doubt(&self) -> std::sync::MutexGuard<'_, Doubt> {
        // Every change is one assignment: a panic elsewhere leaves it whole.
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
