//! Follows ingestion's changes and keeps every tenant's snapshot the newest.
//!
//! Changes come in bursts, so what changed of a tenant's graph is fetched when its burst has paused or lasted long enough. Where a fetch
//! brought nothing but counts, as every batch of traces does, the next one waits: structure that is new in it comes that much
//! later, unless somebody asks for its version or its name. When the stream breaks it is opened again, after the last change
//! that was seen, and what changed of every snapshot is fetched once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use attain_proto::ingestion::v1::{ChangeKind, StreamChangesResponse};
use attain_runtime::Shutdown;
use attain_runtime::count::Count;
use attain_runtime::readiness::Condition;
use attain_vocabulary::TenantId;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Status, Streaming};

use super::held::Held;
use super::snapshots::{Freshness, Snapshots};
use crate::error::Error;

/// A burst is over when it pauses this long …
const PAUSE: Duration = Duration::from_millis(20);
/// … or has lasted this long.
const BURST_MAX: Duration = Duration::from_millis(200);
/// How long a stream that was just opened may take to tell of what there is; the service is not ready before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// When a fetch that failed is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Between attempts to open the stream, doubled after each.
const REOPEN_DELAY: Duration = Duration::from_millis(50);
const REOPEN_DELAY_MAX: Duration = Duration::from_secs(2);
/// Longest that opening the stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that one refresh may take, its wait for another one included.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(60);
/// Graphs fetched at a time.
const FETCHES_MAX: usize = 4;

type Fetched = (TenantId, Result<Arc<Held>, Error>);

/// Keeps snapshots the newest until it is told to stop.
pub(crate) struct Follower {
    snapshots: Arc<Snapshots>,
    topology: Condition,
    /// A stream that is lost for longer makes the service not ready; it goes on answering from what it holds.
    loss_max: Duration,
    /// Least time between two fetches of a tenant's graph on account of counts.
    count_interval: Duration,
    counts: Counts,
    after_sequence: u64,
    /// The epoch that came with it: by it ingestion notices that its database was put back.
    epoch: String,
    reopen_delay: Duration,
    /// Since when there is no stream.
    lost: Instant,
    burst: Burst,
    /// What is to be fetched as soon as there is a place.
    due: BTreeSet<TenantId>,
    /// What changed, most likely in counts only, and is fetched then.
    resting: BTreeMap<TenantId, Instant>,
    fetching: JoinSet<Fetched>,
    in_flight: BTreeSet<TenantId>,
    /// Whether everything that the present stream told of at first has been fetched.
    caught_up: bool,
}

/// What happened to the stream.
struct Counts {
    /// Opened from the first change on …
    begun: Count,
    /// … and after the last one that was seen.
    resumed: Count,
    lost: Count,
    /// Sequences that started anew.
    restarted: Count,
}

impl Counts {
    fn new() -> Self {
        let of =
            |what| Count::new("attain.graph.changes", "What happened to the stream of changes that is followed", what);
        Self {
            begun: of("stream.begun"),
            resumed: of("stream.resumed"),
            lost: of("stream.lost"),
            restarted: of("stream.restarted"),
        }
    }
}

/// Tenants that changed in the present burst.
#[derive(Default)]
struct Burst {
    tenants: BTreeSet<TenantId>,
    /// When it must end, and when it ends unless more comes.
    ends: Option<(Instant, Instant)>,
}

impl Burst {
    fn add(&mut self, tenant: TenantId) {
        let now = Instant::now();
        let last = self.ends.map_or(now + BURST_MAX, |(last, _)| last);
        self.ends = Some((last, last.min(now + PAUSE)));
        self.tenants.insert(tenant);
    }

    /// Ends soon though nothing may come.
    fn wait(&mut self) {
        let now = Instant::now();
        self.ends = Some((now + BURST_MAX, now + FIRST_PAUSE));
    }

    /// Tries again later, unless a burst is under way anyhow.
    fn retry(&mut self, tenant: TenantId) {
        let at = Instant::now() + RETRY_DELAY;
        self.ends.get_or_insert((at, at));
        self.tenants.insert(tenant);
    }

    async fn end(&self) {
        match self.ends {
            Some((_, end)) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    }
}

impl Follower {
    pub(crate) fn new(
        snapshots: Arc<Snapshots>,
        topology: Condition,
        loss_max: Duration,
        count_interval: Duration,
    ) -> Self {
        Self {
            snapshots,
            topology,
            loss_max,
            count_interval,
            counts: Counts::new(),
            after_sequence: 0,
            epoch: String::new(),
            reopen_delay: Duration::ZERO,
            lost: Instant::now(),
            burst: Burst::default(),
            due: BTreeSet::new(),
            resting: BTreeMap::new(),
            fetching: JoinSet::new(),
            in_flight: BTreeSet::new(),
            caught_up: false,
        }
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let following = async {
            loop {
                let stream = self.open().await;
                self.begin();
                let end = self.follow(stream).await;
                self.snapshots.stream_lost();
                self.counts.lost.add(1);
                self.lost = Instant::now();
                tracing::warn!(reason = %end, "the stream of changes ended; it is opened again");
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = following => {}
        }
    }

    /// Opens the stream, however long it takes.
    async fn open(&mut self) -> Streaming<StreamChangesResponse> {
        let overdue = sleep_until(self.lost + self.loss_max);
        tokio::pin!(overdue);
        let mut told = false;
        let loss_ms = self.loss_max.as_millis();
        let (source, topology) = (self.snapshots.source().clone(), self.topology.clone());
        let attempts = self.attempt(source);
        tokio::pin!(attempts);
        loop {
            tokio::select! {
                stream = &mut attempts => return stream,
                () = &mut overdue, if !told => {
                    told = true;
                    topology.unmet(format!("ingestion's stream of changes has been lost for over {loss_ms} ms; answers may be stale"));
                }
            }
        }
    }

    async fn attempt(&mut self, source: super::source::Source) -> Streaming<StreamChangesResponse> {
        loop {
            sleep(self.reopen_delay).await;
            self.reopen_delay = (self.reopen_delay * 2).clamp(REOPEN_DELAY, REOPEN_DELAY_MAX);
            let opening = timeout(OPEN_TIMEOUT, source.changes(self.after_sequence, self.epoch.clone())).await;
            match opening.unwrap_or_else(|_| Err(Status::deadline_exceeded("the stream did not open in time"))) {
                Ok(stream) => {
                    if self.after_sequence == 0 {
                        self.counts.begun.add(1)
                    } else {
                        self.counts.resumed.add(1)
                    }
                    return stream;
                }
                Err(status) => self.refused(&status),
            }
        }
    }

    fn refused(&mut self, status: &Status) {
        tracing::debug!(code = ?status.code(), reason = status.message(), "ingestion does not stream changes yet");
        if status.code() == Code::OutOfRange {
            self.restart();
        }
    }

    /// The sequence starts anew: another database than before.
    fn restart(&mut self) {
        self.after_sequence = 0;
        self.epoch.clear();
        self.counts.restarted.add(1);
    }

    fn begin(&mut self) {
        self.caught_up = false;
        self.fetching = JoinSet::new();
        let mut unfinished = std::mem::take(&mut self.due);
        unfinished.append(&mut self.in_flight);
        unfinished.extend(std::mem::take(&mut self.resting).into_keys());
        for tenant in unfinished {
            self.burst.add(tenant);
        }
        for tenant in self.snapshots.stream_opened(std::time::Instant::now()) {
            self.burst.add(tenant);
        }
        self.burst.wait();
    }

    /// Follows one stream to its end, and says why it ended.
    async fn follow(&mut self, mut stream: Streaming<StreamChangesResponse>) -> Status {
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(change)) => self.take(change),
                    Ok(None) => return Status::unavailable("ingestion ended it"),
                    Err(status) => {
                        self.refused(&status);
                        return status;
                    }
                },
                () = self.snapshots.gone_back() => {
                    self.restart();
                    return Status::data_loss("versions went back: another database than before");
                }
                () = self.burst.end() => {
                    self.burst.ends = None;
                    let changed = std::mem::take(&mut self.burst.tenants);
                    changed.into_iter().for_each(|tenant| self.fetch_or_rest(tenant));
                }
                () = rested(&self.resting) => {
                    let now = Instant::now();
                    let (rested, resting) = std::mem::take(&mut self.resting).into_iter().partition(|(_, end)| *end <= now);
                    self.resting = resting;
                    self.due.extend(BTreeMap::into_keys(rested));
                }
                Some(fetched) = self.fetching.join_next() => match fetched {
                    Ok(fetched) => self.settle(fetched),
                    Err(error) => return Status::internal(format!("a fetch broke off: {error}")),
                },
            }
            self.fetch_due();
            self.tell();
        }
    }

    fn take(&mut self, change: StreamChangesResponse) {
        self.after_sequence = change.sequence;
        self.epoch.clone_from(&change.epoch);
        if change.kind != ChangeKind::Topology as i32 {
            return;
        }
        let Ok(tenant) = TenantId::new("tenant_id", &change.tenant_id) else {
            tracing::warn!(sequence = change.sequence, "a change names no tenant");
            return;
        };
        match self.snapshots.note(&tenant, change.sequence) {
            Ok(true) => self.burst.add(tenant),
            Ok(false) => {}
            Err(error) => tracing::warn!(tenant = %tenant, error = %error, "a tenant is not followed"),
        }
    }

    /// A tenant changed: its graph is fetched now, or later where the last fetch brought only counts.
    fn fetch_or_rest(&mut self, tenant: TenantId) {
        let end = self.snapshots.counted(&tenant).map(|asked| Instant::from_std(asked) + self.count_interval);
        match end.filter(|end| self.caught_up && *end > Instant::now()) {
            Some(end) => _ = self.resting.insert(tenant, end),
            None => _ = self.due.insert(tenant),
        }
    }

    fn fetch_due(&mut self) {
        while self.fetching.len() < FETCHES_MAX {
            let Some(tenant) = self.due.iter().find(|tenant| !self.in_flight.contains(*tenant)).cloned() else {
                return;
            };
            self.due.remove(&tenant);
            if self.caught_up && !self.snapshots.is_behind(&tenant) {
                // Somebody who waits for a version has fetched it in the meantime.
                continue;
            }
            self.in_flight.insert(tenant.clone());
            let snapshots = Arc::clone(&self.snapshots);
            let deadline = std::time::Instant::now() + REFRESH_TIMEOUT;
            self.fetching.spawn(async move {
                // Somebody who waits for a version may be fetching it already.
                let fetched = snapshots.refresh(&tenant, Freshness::Newest, deadline).await;
                (tenant, fetched)
            });
        }
    }

    fn settle(&mut self, (tenant, fetched): Fetched) {
        self.in_flight.remove(&tenant);
        match fetched {
            Ok(_) => {}
            // Of one tenant only, and the same until its graph changes: nobody else waits for it.
            Err(error @ (Error::Topology(_) | Error::TooLarge { .. })) => {
                tracing::error!(tenant = %tenant, error = %error, "a tenant's new graph is refused; the one before stands");
            }
            Err(error) => {
                tracing::warn!(tenant = %tenant, error = %error, "a graph could not be fetched; it is tried again");
                if !self.caught_up {
                    self.topology.unmet(format!("the graph of tenant {tenant} could not be fetched: {error}"));
                }
                self.burst.retry(tenant);
            }
        }
    }

    fn tell(&mut self) {
        let idle = self.burst.ends.is_none() && self.due.is_empty() && self.in_flight.is_empty();
        if idle && !self.caught_up {
            self.caught_up = true;
            self.reopen_delay = Duration::ZERO;
            self.topology.met("follows ingestion's changes");
        }
    }
}

/// Waits for the first rest to end.
async fn rested(resting: &BTreeMap<TenantId, Instant>) {
    match resting.values().min() {
        Some(end) => sleep_until(*end).await,
        None => std::future::pending().await,
    }
}
