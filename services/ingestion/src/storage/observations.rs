use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{DependencyMode, EntityId, EntityKind, SliBucket, Source, TenantId, UnixMillis, bucket_start};

use super::Store;
use super::dependencies::Statements;
use super::entities::WhenFull;
use super::left_out::LeftOut;
use super::regions::BeyondLimit;
use super::rows::{column, insert_many, select_in};
use super::write::Write;
use crate::Error;
use crate::domain::{
    DependencyKey, DependencyStatement, DependencyTerms, FirstDay, ObservationBatch, ObservedBucket, ObservedEdge,
    RequestDays, Sightings, day_of, keep_newest, most_certain,
};

pub(super) const FORGET_STATES: &str = "DELETE FROM counter_states WHERE tenant_id = $1 AND key >= $2 AND key < $3";

/// Counter states as they are stored, by key; a key without a state is not there.
pub type CounterStates = BTreeMap<String, Vec<u8>>;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The tenant's topology version after it.
    pub version: u64,
    /// What was not kept because the tenant is full.
    pub left_out: LeftOut,
}

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
    /// all the same, so that one sender of ever new names does not stop the rest. What is left out is counted by name.
    ///
    /// # Errors
    /// [`Error::AlreadySettled`] where a row of the span log is not in the state that was worked on, or where storage does
    /// not answer.
    pub async fn observe<B>(&self, tenant: &TenantId, counter_keys: &[String], build: B) -> Result<u64, Error>
    where
        B: FnOnce(&CounterStates) -> ObservationBatch + Send,
    {
        self.observe_telling(tenant, counter_keys, build).await.map(|observed| observed.version)
    }

    /// The same, and what was left out.
    ///
    /// # Errors
    /// As [`Store::observe`].
    pub async fn observe_telling<B>(
        &self,
        tenant: &TenantId,
        counter_keys: &[String],
        build: B,
    ) -> Result<Observed, Error>
    where
        B: FnOnce(&CounterStates) -> ObservationBatch + Send,
    {
        let mut write = self.begin_write(tenant).await?;
        let states = write.counter_states(counter_keys).await?;
        let batch = build(&states);
        let left_out = write.apply(batch).await?;
        let version = write.commit().await?;
        self.over_capacity.note(tenant, &left_out);
        Ok(Observed { version, left_out })
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
    /// Applies a batch; what of it was not kept because the tenant is full.
    pub(super) async fn apply(&mut self, batch: ObservationBatch) -> Result<LeftOut, Error> {
        self.settle_spans(&batch.settled_spans).await?;
        if let Some(settled) = &batch.settled_fingerprints {
            self.keep_fingerprints(settled).await?;
        }
        self.keep_counter_states(batch.counter_states.clone()).await?;
        let entities = self.observe_entities(&batch).await?;
        let is_kept = |service: &EntityId| !entities.contains(service);
        let ObservationBatch { mut edges, mut operations, mut buckets, mut utilisation, .. } = batch;
        let ObservationBatch { mut exemplars, mut request_samples, mut regional, .. } = batch;
        let mut left_out = LeftOut {
            edge_count: cut(&mut edges, |edge| is_kept(edge.key.caller()) && is_kept(edge.key.callee())),
            operation_count: cut(&mut operations, |operation| is_kept(&operation.key.service)),
            bucket_count: cut(&mut buckets, |observed| is_kept(&observed.service)),
            utilisation_count: cut(&mut utilisation, |observed| is_kept(&observed.service)),
            exemplar_count: cut(&mut exemplars, |exemplar| is_kept(&exemplar.service)),
            request_sample_count: cut(&mut request_samples, |sample| is_kept(&sample.service)),
            ..LeftOut::default()
        };
        // Its buckets of the whole were counted above.
        cut(&mut regional, |bucket| is_kept(&bucket.observed.service));
        request_samples.iter_mut().for_each(|sample| sample.leave_out_callees(is_kept));
        left_out.entities = entities;
        self.observe_operations(operations).await?;
        left_out.edges = self.observe_edges(edges, (&batch.requests, &buckets)).await?;
        self.apply_buckets(buckets).await?;
        self.apply_regional(regional, BeyondLimit::Together).await?;
        self.apply_utilisation(utilisation).await?;
        self.keep_exemplars(exemplars).await?;
        self.keep_request_samples(request_samples).await?;
        Ok(left_out)
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

    /// The edges left out because the tenant is full.
    async fn observe_edges(
        &mut self,
        edges: Vec<ObservedEdge>,
        counted: Counted<'_>,
    ) -> Result<BTreeSet<(DependencyKey, Source)>, Error> {
        let mut left_out = BTreeSet::new();
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
            let update = |statement: &mut DependencyStatement| {
                let Some((terms, sightings)) = seen.get(&statement.key) else { return };
                statement.terms = terms.clone().or(std::mem::take(&mut statement.terms));
                statement.sightings.add(sightings);
                keep_newest(&mut statement.sightings.days, window_days);
            };
            let ignored = self.change_statements(&known, &keys, source, update).await?;
            left_out.extend(ignored.into_iter().map(|key| (key, source)));
        }
        Ok(left_out)
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

/// Keeps what is wanted; how many went.
fn cut<T>(rows: &mut Vec<T>, is_kept: impl Fn(&T) -> bool) -> usize {
    let before = rows.len();
    rows.retain(is_kept);
    before - rows.len()
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
