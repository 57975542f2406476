//! Turns pending rows of the span log into observations: takes, joins, applies, each settlement in one transaction.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_vocabulary::{TenantId, UnixMillis};
use tokio::time::Instant;

use super::assembler::{Assembler, Patience, RowState, Settlement, Workbench};
use super::backlog::Backlog;
use super::counts::Counts;
use super::hosts::{HostLimits, Hosts, state_keys};
use super::names::Names;
use super::recent::fingerprint;
use super::sampler::{Chosen, SampleLimits};
use super::span::{self, Spans, decode};
use super::tally::Tally;
use crate::Error;
use crate::domain::{ObservationBatch, SettledFingerprints, SettledSpans};
use crate::storage::{CounterStates, PendingSpans, Store};

/// Rows read at a time: a row holds what one export left, a tenth of at most 16 MiB.
const ROWS_READ_MAX: usize = 16;
/// How often it is looked for rows that were not handed over.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is looked for traces that came to rest: what a settlement writes is the same for few traces and for many.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait after storage did not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How the settler works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settling {
    pub(super) patience: Patience,
    /// Most spans in memory and what they link to, those of one reading more.
    pub(super) spans_max: usize,
    pub(super) hosts: HostLimits,
    pub(super) samples: SampleLimits,
}

pub(super) struct Settler {
    store: Store,
    backlog: Arc<Backlog>,
    settling: Settling,
    counts: Arc<Counts>,
    assemblers: BTreeMap<TenantId, Assembler>,
    bench: Workbench,
    /// Whether what earlier processes settled is remembered.
    remembers: bool,
    /// Newest row that was taken.
    after: i64,
}

impl Settler {
    pub(super) fn new(store: Store, backlog: Arc<Backlog>, settling: Settling, counts: Arc<Counts>) -> Self {
        let bench = Workbench::new(&settling.patience);
        Self { store, backlog, settling, counts, assemblers: BTreeMap::new(), bench, remembers: false, after: 0 }
    }

    /// Works until `shutdown`. What is pending then is read again at the next start.
    pub(super) async fn run(mut self, clock: Clock, shutdown: Shutdown) {
        let backlog = Arc::clone(&self.backlog);
        let mut answers = true;
        let mut settle_at = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = backlog.appended.notified() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let settles = Instant::now() >= settle_at;
            if settles {
                settle_at = Instant::now() + SETTLE_INTERVAL;
            }
            match self.work(clock.now_ms(), settles).await {
                Ok(()) => answers = true,
                Err(error) => {
                    if std::mem::replace(&mut answers, false) {
                        tracing::error!(error = %error, "spans wait in the log: they cannot be settled");
                    }
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    async fn work(&mut self, now_ms: UnixMillis, settles: bool) -> Result<(), Error> {
        self.take(now_ms).await?;
        if !settles {
            return Ok(());
        }
        self.settle(now_ms).await?;
        let size = self.store.span_log_size().await?;
        self.backlog.bytes.store(size.payload_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes everything that is new, and settles everything that is due.
    pub(super) async fn step(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        self.take(now_ms).await?;
        self.settle(now_ms).await
    }

    /// Takes everything that is new: what was handed over, and what was not from the log.
    pub(super) async fn take(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        if !self.remembers {
            self.remember().await?;
        }
        let mut was_handed = false;
        while let Some(row) = self.backlog.take() {
            was_handed = true;
            if row.sequence == self.after + 1 {
                self.after = row.sequence;
                let spans = span::read(&row.record, &mut self.bench.names);
                let state = RowState { sequence: row.sequence, revision: 0, remaining: None };
                self.accept(&row.tenant, state, spans, now_ms).await?;
                self.relieve(now_ms).await?;
            } else if row.sequence > self.after {
                self.read_log(now_ms).await?;
            }
        }
        // Others may write to the same log, and what was there at the start was never handed over.
        if !was_handed && self.store.newest_spans().await? > self.after {
            self.read_log(now_ms).await?;
        }
        Ok(())
    }

    async fn read_log(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        loop {
            // What was given out before the rows are read is among them, or settled.
            let newest = self.store.newest_spans().await?;
            let rows = self.store.pending_spans(self.after, ROWS_READ_MAX).await?;
            let more = rows.len() == ROWS_READ_MAX;
            for PendingSpans { tenant, sequence, payload, remaining, revision, .. } in rows {
                self.after = sequence;
                let state = RowState { sequence, revision, remaining: remaining.as_deref() };
                let spans = decode(&payload, &mut self.bench.names);
                self.accept(&tenant, state, spans, now_ms).await?;
            }
            if !more {
                self.after = self.after.max(newest);
            }
            self.relieve(now_ms).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// What earlier processes settled counts no second time either.
    async fn remember(&mut self) -> Result<(), Error> {
        for settled in self.store.settled_fingerprints(self.settling.patience.settled_max).await? {
            let memory = &mut self.bench.settled;
            settled.fingerprints.iter().for_each(|fingerprint| memory.insert(*fingerprint, settled.settled_ms));
        }
        self.remembers = true;
        Ok(())
    }

    async fn accept(
        &mut self,
        tenant: &TenantId,
        row: RowState<'_>,
        spans: Option<Spans>,
        now_ms: UnixMillis,
    ) -> Result<(), Error> {
        let patience = self.settling.patience;
        let new = || Assembler::new(patience, salt(tenant));
        let assembler = self.assemblers.entry(tenant.clone()).or_insert_with(new);
        let taken = spans.and_then(|spans| assembler.accept(row, &spans, now_ms, &mut self.bench));
        if let Some(taken) = taken {
            self.counts.spans_duplicate.add(taken.duplicate_count + taken.settled_count);
            self.counts.spans_late.add(taken.late_count);
            return Ok(());
        }
        // It would be as unreadable tomorrow, and would keep the log from ever being empty.
        tracing::error!(sequence = row.sequence, "a row of the span log is dropped: it cannot be read");
        self.counts.rows_unreadable.add(1);
        let settled = SettledSpans { sequence: row.sequence, revision: row.revision, remaining: None };
        let batch = ObservationBatch { settled_spans: vec![settled], ..ObservationBatch::default() };
        match self.store.observe(tenant, &[], |_| batch).await {
            // Somebody else dropped it.
            Err(Error::AlreadySettled { .. }) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Settles where there is more in memory than may be.
    async fn relieve(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        if self.held_count() > self.settling.spans_max { self.settle(now_ms).await } else { Ok(()) }
    }

    /// Settles everything that is due.
    pub(super) async fn settle(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        match self.settle_due(now_ms).await {
            Err(Error::AlreadySettled { sequence }) => {
                tracing::warn!(sequence, "somebody else settles the same span log; reading it again");
                self.assemblers.clear();
                self.bench = Workbench::new(&self.settling.patience);
                (self.remembers, self.after) = (false, 0);
                self.remember().await
            }
            result => result,
        }
    }

    async fn settle_due(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        // One settlement a tenant and round: nobody waits for all that somebody else sent.
        let mut tenants: Vec<TenantId> = self.assemblers.keys().cloned().collect();
        while !tenants.is_empty() {
            let mut unfinished = Vec::new();
            for tenant in tenants {
                if self.settle_next(&tenant, now_ms).await? {
                    unfinished.push(tenant);
                }
            }
            tenants = unfinished;
        }
        self.assemblers.retain(|_, assembler| !assembler.is_empty());
        if self.bench.names.wants_sweep() {
            let of_spans = self.assemblers.values().flat_map(Assembler::symbols);
            let used: HashSet<_> =
                of_spans.chain(self.bench.producers.symbols()).chain(self.bench.sampler.symbols()).collect();
            self.bench.names.sweep(&used);
        }
        Ok(())
    }

    /// Settles what is due next of a tenant; `false` where nothing is.
    async fn settle_next(&mut self, tenant: &TenantId, now_ms: UnixMillis) -> Result<bool, Error> {
        let pressed = self.held_count() > self.settling.spans_max;
        let Some(assembler) = self.assemblers.get_mut(tenant) else { return Ok(false) };
        let Some(settlement) = assembler.due(now_ms, pressed, &mut self.bench) else { return Ok(false) };
        let samples = self.settling.samples;
        let chosen = self.bench.sampler.choose(salt(tenant), &settlement.joined, now_ms, samples);
        let at = (now_ms, self.settling.hosts);
        let ignored_count = apply(&self.store, tenant, (&settlement, &chosen), at, &mut self.bench.names).await?;
        self.bench.sampler.note(&chosen, samples.per_hour);
        assembler.settled(&settlement, now_ms, &mut self.bench);
        self.counts.spans_settled.add(settlement.span_count);
        self.counts.traces_cut.add(settlement.early_count);
        self.counts.hosts_over_max.add(ignored_count);
        Ok(true)
    }

    fn held_count(&self) -> usize {
        self.assemblers.values().map(Assembler::held_count).sum()
    }
}

/// A number of the tenant's own.
fn salt(tenant: &TenantId) -> u64 {
    tenant.as_str().bytes().fold(0, |salt, byte| fingerprint(u128::from(salt), u64::from(byte)))
}

/// Applies a settlement in one transaction; how many hosts are one too many.
async fn apply(
    store: &Store,
    tenant: &TenantId,
    work: (&Settlement, &Chosen),
    at: (UnixMillis, HostLimits),
    names: &mut Names,
) -> Result<usize, Error> {
    let keys = state_keys(&work.0.joined, names);
    let mut ignored_count = 0;
    let build = |states: &CounterStates| {
        let (batch, ignored) = observations(work, states, at, names);
        ignored_count = ignored;
        batch
    };
    store.observe(tenant, &keys, build).await?;
    Ok(ignored_count)
}

fn observations(
    (settlement, chosen): (&Settlement, &Chosen),
    states: &CounterStates,
    (now_ms, limits): (UnixMillis, HostLimits),
    names: &mut Names,
) -> (ObservationBatch, usize) {
    let mut hosts = Hosts::read(states, names, limits);
    hosts.learn(&settlement.joined, names);
    let mut tally = Tally::default();
    tally.add(&settlement.joined, &hosts, names);
    let fingerprints = settlement.fingerprints.clone();
    let settled = (!fingerprints.is_empty()).then_some(SettledFingerprints { settled_ms: now_ms, fingerprints });
    let batch = ObservationBatch {
        counter_states: hosts.states_after(names),
        request_samples: chosen.samples(&settlement.joined, &hosts, names),
        settled_spans: settlement.rows.clone(),
        settled_fingerprints: settled,
        ..tally.into_batch(names)
    };
    (batch, hosts.ignored_count())
}
