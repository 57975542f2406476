use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{DependencyMode, EntityId, EntityKind, SliBucket, Source, TenantId, UnixMillis, bucket_start};

use super::Store;
use super::dependencies::Statements;
use super::entities::WhenFull;
use super::rows::{column, insert_many, select_in};
use super::write::Write;
use crate::Error;
use crate::domain::{
    DependencyKey, DependencyTerms, FirstDay, ObservationBatch, ObservedBucket, ObservedEdge, RequestDays, Sightings,
    day_of, keep_newest, most_certain,
};

pub(super) const FORGET_STATES: &str = "DELETE FROM counter_states WHERE tenant_id = $1 AND key >= $2 AND key < $3";
pub(super) const STATE_KEYS: &str =
    "SELECT key FROM counter_states WHERE tenant_id = $1 AND key >= $2 AND key < $3 ORDER BY key";

/// Counter states as they are stored, by key; a key without a state is not there.
pub type CounterStates = BTreeMap<String, Vec<u8>>;

/// What one batch shows of one entity.
#[derive(Debug, Default)]
struct Seen {
    kind: Option<EntityKind>,
    sources: BTreeSet<Source>,
    request_count: u64,
}

type SeenEdges = BTreeMap<DependencyKey, (DependencyTerms, Sightings)>;
/// What a batch counts of requests: by day, and by five minutes.
type Counted<'a> = (&'a BTreeMap<EntityId, RequestDays>, &'a [ObservedBucket]);

impl Store {
    /// Reads the named counter states, lets `build` make a batch of them, and applies it: all in one transaction, or
    /// nothing of it. The tenant's topology version after it.
    ///
    /// A tenant that has as many entities or dependencies as are kept gets no new ones; what concerns known ones is kept
    /// all the same, so that one sender of ever new names does not stop the rest.
    ///
    /// # Errors
    /// [`Error::AlreadySettled`] where a row of the span log is not in the state that was worked on, or where storage does
    /// not answer.
    pub async fn observe<B>(&self, tenant: &TenantId, counter_keys: &[String], build: B) -> Result<u64, Error>
    where
        B: FnOnce(&CounterStates) -> ObservationBatch + Send,
    {
        let mut write = self.begin_write(tenant).await?;
        let states = write.counter_states(counter_keys).await?;
        let batch = build(&states);
        write.apply(batch).await?;
        write.commit().await
    }

    /// The keys of a tenant's counter states from `from` on and before `before`, in lexical order.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn counter_keys(&self, tenant: &TenantId, from: &str, before: &str) -> Result<Vec<String>, Error> {
        let query = sqlx::query(STATE_KEYS).bind(tenant.as_str()).bind(from).bind(before);
        let rows = query.fetch_all(self.database.pool()).await?;
        rows.iter().map(|row| column(row, "key")).collect()
    }

    /// Forgets the counter states of all tenants whose keys begin with `prefix` and sort before `before`.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn forget_counter_states(&self, prefix: &str, before: &str) -> Result<(), Error> {
        let _turn = self.write_turn().await;
        let mut transaction = self.database.begin_write().await?;
        let tenants = sqlx::query("SELECT tenant_id FROM tenants").fetch_all(&mut *transaction).await?;
        // A tenant at a time: keys of one are side by side.
        for tenant in &tenants {
            sqlx::query(FORGET_STATES)
                .bind(column::<String>(tenant, "tenant_id")?)
                .bind(prefix.to_owned())
                .bind(before.to_owned())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

impl Write {
    pub(super) async fn apply(&mut self, batch: ObservationBatch) -> Result<(), Error> {
        self.settle_spans(&batch.settled_spans).await?;
        if let Some(settled) = &batch.settled_fingerprints {
            self.keep_fingerprints(settled).await?;
        }
        self.keep_counter_states(batch.counter_states.clone()).await?;
        let ignored = self.observe_entities(&batch).await?;
        let mut edges = batch.edges;
        let mut operations = batch.operations;
        operations.retain(|operation| !ignored.contains(&operation.key.service));
        self.observe_operations(operations).await?;
        edges.retain(|edge| !ignored.contains(edge.key.caller()) && !ignored.contains(edge.key.callee()));
        self.observe_edges(edges, (&batch.requests, &batch.buckets)).await?;
        let mut buckets = batch.buckets;
        buckets.retain(|observed| !ignored.contains(&observed.service));
        self.apply_buckets(buckets).await?;
        let mut utilisation = batch.utilisation;
        utilisation.retain(|observed| !ignored.contains(&observed.service));
        self.apply_utilisation(utilisation).await?;
        let mut exemplars = batch.exemplars;
        exemplars.retain(|exemplar| !ignored.contains(&exemplar.service));
        self.keep_exemplars(exemplars).await
    }

    async fn counter_states(&mut self, keys: &[String]) -> Result<CounterStates, Error> {
        let unique: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        let keys: Vec<&str> = unique.into_iter().collect();
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            ("SELECT key, state FROM counter_states WHERE tenant_id = $1 AND key IN", 1),
            &keys,
            |query| query.bind(tenant.clone()),
            |query, key| query.bind(key.to_owned()),
        )
        .await?;
        rows.iter().map(|row| Ok((column(row, "key")?, column(row, "state")?))).collect()
    }

    async fn keep_counter_states(&mut self, states: BTreeMap<String, Option<Vec<u8>>>) -> Result<(), Error> {
        let (kept, forgotten): (Vec<_>, Vec<_>) = states.into_iter().partition(|(_, state)| state.is_some());
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO counter_states (tenant_id, key, state)",
            3,
            "ON CONFLICT (tenant_id, key) DO UPDATE SET state = excluded.state",
        );
        insert_many(&mut self.transaction, self.dialect, statement, &kept, |query, (key, state)| {
            query.bind(tenant.clone()).bind(key.clone()).bind(state.clone().unwrap_or_default())
        })
        .await?;
        for (key, _) in forgotten {
            sqlx::query("DELETE FROM counter_states WHERE tenant_id = $1 AND key = $2")
                .bind(tenant.clone())
                .bind(key)
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    /// Every entity, end of an edge and service of a bucket; the names left out because the tenant is full.
    async fn observe_entities(&mut self, batch: &ObservationBatch) -> Result<BTreeSet<EntityId>, Error> {
        let seen = seen_in(batch);
        let measured: BTreeSet<&EntityId> = batch.buckets.iter().map(|observed| &observed.service).collect();
        let ids = seen.keys().cloned().collect();
        let window_days = self.capacity.call_rate_days;
        self.update_entities(&ids, WhenFull::Ignore, |entity| {
            let Some(of) = seen.get(&entity.id) else { return };
            entity.observe(of.kind, of.request_count, &of.sources);
            if let Some(days) = batch.requests.get(&entity.id) {
                entity.count_requests(days, window_days);
            }
            // That it has buckets tells what it is only where nothing else does: an external party may have some too.
            if measured.contains(&entity.id) && entity.declared_kind.is_none() && entity.observed_kind.is_none() {
                entity.observe(Some(EntityKind::Service), 0, &of.sources);
            }
        })
        .await
    }

    async fn observe_edges(&mut self, edges: Vec<ObservedEdge>, counted: Counted<'_>) -> Result<(), Error> {
        let mut by_source: BTreeMap<Source, SeenEdges> = BTreeMap::new();
        for edge in edges {
            let (terms, sightings) = by_source.entry(edge.source).or_default().entry(edge.key.clone()).or_default();
            *terms = observed_terms(&edge).or(std::mem::take(terms));
            sightings.add(&edge.sightings);
        }
        let window_days = self.capacity.call_rate_days;
        for (source, mut seen) in by_source {
            let keys: BTreeSet<DependencyKey> = seen.keys().cloned().collect();
            let known = self.statements(&keys, source).await?;
            if source == Source::Traces {
                self.begin_rates(&mut seen, &known, counted).await?;
            }
            self.change_statements(&known, &keys, source, WhenFull::Ignore, |statement| {
                let Some((terms, sightings)) = seen.get(&statement.key) else { return };
                statement.terms = terms.clone().or(std::mem::take(&mut statement.terms));
                statement.sightings.add(sightings);
                keep_newest(&mut statement.sightings.days, window_days);
            })
            .await?;
        }
        Ok(())
    }

    /// Notes of each new edge how many requests its caller had answered before on the same day.
    async fn begin_rates(
        &mut self,
        seen: &mut SeenEdges,
        known: &Statements,
        (requests, buckets): Counted<'_>,
    ) -> Result<(), Error> {
        let is_new = |key: &DependencyKey| !known.contains_key(key);
        let callers: BTreeSet<EntityId> =
            seen.keys().filter(|key| is_new(key)).map(|key| key.caller().clone()).collect();
        if callers.is_empty() {
            return Ok(());
        }
        let callers = self.entities(&callers).await?;
        let traced = traced(buckets, &callers);
        for (key, (_, sightings)) in seen.iter_mut().filter(|(key, _)| is_new(key)) {
            let (Some(first_ms), Some(caller)) = (sightings.first_seen_ms, callers.get(key.caller())) else { continue };
            let day = day_of(first_ms);
            let of_day = |days: &RequestDays| days.get(&day).copied().unwrap_or(0);
            // What this batch counts is in the caller's requests already.
            let before_batch =
                of_day(&caller.request_days).saturating_sub(requests.get(key.caller()).map_or(0, of_day));
            let in_batch = traced.get(key.caller()).map_or(0, |buckets| earlier(buckets, first_ms));
            let earlier_request_count = before_batch.saturating_add(in_batch);
            sightings.first_day = Some(FirstDay { day, earlier_request_count });
        }
        Ok(())
    }
}

/// The buckets in which traces in the batch showed requests, of some services.
fn traced<'a, T>(
    buckets: &'a [ObservedBucket],
    of: &BTreeMap<EntityId, T>,
) -> BTreeMap<&'a EntityId, Vec<&'a SliBucket>> {
    let mut traced: BTreeMap<&EntityId, Vec<&SliBucket>> = BTreeMap::new();
    for observed in buckets.iter().filter(|observed| observed.source == Source::Traces) {
        if of.contains_key(&observed.service) {
            traced.entry(&observed.service).or_default().push(&observed.bucket);
        }
    }
    traced
}

/// Requests of the same day before a time, to five minutes.
fn earlier(buckets: &[&SliBucket], time_ms: UnixMillis) -> u64 {
    let day = day_of(time_ms);
    let earlier = |bucket: &&&SliBucket| bucket.start_ms < bucket_start(time_ms) && day_of(bucket.start_ms) == day;
    buckets.iter().filter(earlier).map(|bucket| bucket.counts.valid()).sum()
}

fn seen_in(batch: &ObservationBatch) -> BTreeMap<EntityId, Seen> {
    let mut seen: BTreeMap<EntityId, Seen> = BTreeMap::new();
    for entity in &batch.entities {
        let of = seen.entry(entity.id.clone()).or_default();
        of.kind = most_certain(of.kind, entity.kind);
        of.sources.insert(entity.source);
        of.request_count = of.request_count.saturating_add(entity.request_count);
    }
    for edge in &batch.edges {
        for end in [edge.key.caller(), edge.key.callee()] {
            seen.entry(end.clone()).or_default().sources.insert(edge.source);
        }
    }
    for observed in &batch.buckets {
        seen.entry(observed.service.clone()).or_default().sources.insert(observed.source);
    }
    for observed in &batch.utilisation {
        seen.entry(observed.service.clone()).or_default().sources.insert(observed.source);
    }
    seen
}

/// What sightings say of an edge: only that it is asynchronous; hard or soft is for estimation to find.
fn observed_terms(edge: &ObservedEdge) -> DependencyTerms {
    let mode = (edge.asynchronous == Some(true)).then_some(DependencyMode::Async);
    DependencyTerms { mode, protocol: edge.protocol.clone(), ..DependencyTerms::default() }
}
