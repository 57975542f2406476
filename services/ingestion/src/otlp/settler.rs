//! Turns pending rows of the span log into observations: reads, joins, applies, each settlement in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_vocabulary::{DAY_MS, EntityId, TenantId, UnixMillis};
use tokio::sync::Notify;

use super::assembler::{Assembler, Patience, RowState, Settlement};
use super::counts::Counts;
use super::join::Joined;
use super::series;
use super::span::decode;
use super::tally::{Hosts, Tally, is_name, learn_hosts, unanswered_hosts};
use crate::Error;
use crate::domain::{ObservationBatch, SettledSpans};
use crate::storage::{CounterStates, PendingSpans, Store};

/// Rows read at a time: a row holds what one export left, a tenth of at most 16 MiB.
const ROWS_READ_MAX: usize = 16;
/// How often it is looked for traces that came to rest.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long to wait after storage did not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the receiver and the settler share.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Wakes the settler.
    pub(super) appended: Notify,
    /// Bytes that wait in the span log: as last counted, and what was appended since.
    pub(super) bytes: AtomicU64,
}

pub(super) struct Settler {
    store: Store,
    patience: Patience,
    /// Most spans in memory, those of one reading more.
    spans_max: usize,
    counts: Arc<Counts>,
    assemblers: BTreeMap<TenantId, Assembler>,
    /// Newest row that was read.
    after: i64,
}

impl Settler {
    pub(super) fn new(store: Store, patience: Patience, spans_max: usize, counts: Arc<Counts>) -> Self {
        Self { store, patience, spans_max, counts, assemblers: BTreeMap::new(), after: 0 }
    }

    /// Works until `shutdown`. What is pending then is read again at the next start.
    pub(super) async fn run(mut self, clock: Clock, backlog: Arc<Backlog>, shutdown: Shutdown) {
        let mut pruned_day = 0;
        let mut answers = true;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = backlog.appended.notified() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let now_ms = clock.now_ms();
            match self.work(now_ms, &backlog, &mut pruned_day).await {
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

    async fn work(&mut self, now_ms: UnixMillis, backlog: &Backlog, pruned_day: &mut i64) -> Result<(), Error> {
        self.step(now_ms).await?;
        let size = self.store.span_log_size().await?;
        backlog.bytes.store(size.payload_bytes, Ordering::Relaxed);
        let day = now_ms.div_euclid(DAY_MS);
        if day != *pruned_day {
            self.store.forget_counter_states(series::KEY_PREFIX, &series::first_key_of_day(day - 1)).await?;
            *pruned_day = day;
        }
        Ok(())
    }

    /// Reads everything that is new, and settles everything that is due.
    pub(super) async fn step(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        loop {
            let rows = self.store.pending_spans(self.after, ROWS_READ_MAX).await?;
            let more = rows.len() == ROWS_READ_MAX;
            for row in rows {
                self.after = row.sequence;
                self.accept(row, now_ms).await?;
            }
            match self.settle(now_ms).await {
                Err(Error::AlreadySettled { sequence }) => {
                    tracing::warn!(sequence, "somebody else settles the same span log; reading it again");
                    self.assemblers.clear();
                    self.after = 0;
                }
                result => result?,
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn accept(&mut self, row: PendingSpans, now_ms: UnixMillis) -> Result<(), Error> {
        let state = RowState { sequence: row.sequence, revision: row.revision, remaining: row.remaining.as_deref() };
        let assembler = self.assemblers.entry(row.tenant.clone()).or_insert_with(|| Assembler::new(self.patience));
        let accepted = decode(&row.payload).and_then(|spans| assembler.accept(state, spans, now_ms));
        match accepted {
            Some(duplicate_count) => self.counts.spans_duplicate.add(duplicate_count),
            None => {
                // It would be as unreadable tomorrow, and would keep the log from ever being empty.
                tracing::error!(
                    sequence = row.sequence,
                    bytes = row.payload.len(),
                    "a row of the span log is dropped: it cannot be read"
                );
                self.counts.rows_unreadable.add(1);
                let settled = SettledSpans { sequence: row.sequence, revision: row.revision, remaining: None };
                let batch = ObservationBatch { settled_spans: vec![settled], ..ObservationBatch::default() };
                self.store.observe(&row.tenant, &[], |_| batch).await?;
            }
        }
        Ok(())
    }

    async fn settle(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        let tenants: Vec<TenantId> = self.assemblers.keys().cloned().collect();
        for tenant in tenants {
            loop {
                let pressed = self.span_count() > self.spans_max;
                let Some(assembler) = self.assemblers.get_mut(&tenant) else { break };
                let Some(settlement) = assembler.due(now_ms, pressed) else { break };
                apply(&self.store, &tenant, &settlement).await?;
                assembler.settled(&settlement);
                self.counts.spans_settled.add(settlement.span_count);
                self.counts.traces_cut.add(settlement.early_count);
            }
        }
        self.assemblers.retain(|_, assembler| assembler.span_count() > 0);
        Ok(())
    }

    fn span_count(&self) -> usize {
        self.assemblers.values().map(Assembler::span_count).sum()
    }
}

/// Where it is kept which service answers at a host.
pub(super) const HOST_PREFIX: &str = "otlp-host/";

/// Applies a settlement in one transaction.
async fn apply(store: &Store, tenant: &TenantId, settlement: &Settlement) -> Result<(), Error> {
    let mut learned = Hosts::new();
    learn_hosts(&settlement.traces, &mut learned);
    let asked: BTreeSet<&EntityId> = unanswered_hosts(&settlement.traces).chain(learned.keys()).collect();
    let keys: Vec<String> = asked.into_iter().map(|host| format!("{HOST_PREFIX}{host}")).collect();
    let (traces, rows) = (settlement.traces.clone(), settlement.rows.clone());
    store.observe(tenant, &keys, move |states| observations(traces, rows, states)).await?;
    Ok(())
}

fn observations(traces: Vec<Joined>, rows: Vec<SettledSpans>, states: &CounterStates) -> ObservationBatch {
    let stored = read_hosts(states);
    let mut hosts = stored.clone();
    learn_hosts(&traces, &mut hosts);
    let mut tally = Tally::default();
    traces.into_iter().for_each(|trace| tally.add(trace, &hosts));
    let learned = hosts.iter().filter(|(host, service)| stored.get(*host) != Some(*service));
    let counter_states = learned.map(|(host, service)| {
        let state = service.as_ref().map(|service| service.as_str().as_bytes().to_vec()).unwrap_or_default();
        (format!("{HOST_PREFIX}{host}"), Some(state))
    });
    ObservationBatch { counter_states: counter_states.collect(), settled_spans: rows, ..tally.into_batch() }
}

/// Which service answers where; an empty state stands for several.
pub(super) fn read_hosts(states: &CounterStates) -> Hosts {
    let read = |(key, state): (&String, &Vec<u8>)| {
        let host = EntityId::new("host", key.strip_prefix(HOST_PREFIX)?).ok().filter(is_name)?;
        let service = std::str::from_utf8(state).ok().and_then(|name| EntityId::new("service", name).ok());
        Some((host, service))
    };
    states.iter().filter_map(read).collect()
}
