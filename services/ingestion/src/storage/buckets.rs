use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BucketCounts, EntityId, EntityKind, SliBucket, Source, TenantId, UnixMillis};
use sqlx::any::AnyRow;

use super::Store;
use super::changes::ChangeKind;
use super::entities::WhenFull;
use super::record::{
    decode_histogram, decode_shares, encode_histogram, encode_shares, entity_id, invalid, source, source_number,
};
use super::rows::{column, count, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{BucketMode, MergedBucket, ObservedBucket, add_buckets, merge_sources};

/// Which buckets to read: those that start in `[start_ms, end_ms)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSpan {
    /// Included.
    pub start_ms: UnixMillis,
    /// Excluded.
    pub end_ms: UnixMillis,
}

/// Consecutive buckets of one service, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SliPage {
    /// Each as all its sources together tell it.
    pub buckets: Vec<MergedBucket>,
    /// Where to go on; `None` at the end.
    pub next_start_ms: Option<UnixMillis>,
}

/// Fewest rows a read: a bucket has at most one row a source, so that a page holds at least one whole bucket.
const ROWS_MIN: usize = 8;

type Key = (EntityId, UnixMillis, Source);
type Pending = BTreeMap<Key, (BucketMode, SliBucket)>;

impl Store {
    /// Adds or replaces buckets that a sender counted itself. A service that is not known yet is created. Of two buckets
    /// for the same time the later one in the list stands.
    ///
    /// # Errors
    /// [`Error::TenantFull`], or where storage does not answer.
    pub async fn replace_buckets(&self, tenant: &TenantId, buckets: Vec<(EntityId, SliBucket)>) -> Result<(), Error> {
        let mut write = self.begin_write(tenant).await?;
        let services: BTreeSet<EntityId> = buckets.iter().map(|(service, _)| service.clone()).collect();
        write
            .update_entities(&services, WhenFull::Refuse, |entity| {
                // Only a service that nobody told of, or only the catalogue, which may forget it: a known one is known
                // from where it was.
                if entity.known_from_catalogue_at_most() {
                    entity.observe(Some(EntityKind::Service), 0, &BTreeSet::from([Source::Declared]));
                }
            })
            .await?;
        let observed = buckets.into_iter().map(|(service, bucket)| ObservedBucket {
            service,
            source: Source::Declared,
            mode: BucketMode::Replace,
            bucket,
        });
        write.apply_buckets(observed.collect()).await?;
        write.commit().await?;
        Ok(())
    }

    /// Buckets of one service, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn sli_page(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        span: BucketSpan,
        limit: usize,
        with_latency: bool,
    ) -> Result<SliPage, Error> {
        let rows_max = limit.max(ROWS_MIN) + 1;
        let sql = if with_latency {
            "SELECT start_ms, source, valid_count, bad_count, inherited_bad_count, shares, latency FROM sli_buckets \
             WHERE tenant_id = $1 AND service_id = $2 AND start_ms >= $3 AND start_ms < $4 \
             ORDER BY start_ms, source LIMIT $5"
        } else {
            "SELECT start_ms, source, valid_count, bad_count, inherited_bad_count, shares FROM sli_buckets \
             WHERE tenant_id = $1 AND service_id = $2 AND start_ms >= $3 AND start_ms < $4 \
             ORDER BY start_ms, source LIMIT $5"
        };
        let rows = sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(service.as_str())
            .bind(span.start_ms)
            .bind(span.end_ms)
            .bind(stored(rows_max as u64))
            .fetch_all(self.database.pool())
            .await?;
        let rows = rows.iter().map(|row| read_measurement(row, with_latency)).collect::<Result<Vec<_>, Error>>()?;
        Ok(page(&rows, rows.len() == rows_max, limit))
    }
}

/// Groups rows by bucket. When the read was cut off, so may be its last bucket: it is left for the next page.
fn page(rows: &[(Source, SliBucket)], cut_off: bool, limit: usize) -> SliPage {
    let mut groups: Vec<&[(Source, SliBucket)]> = rows.chunk_by(|a, b| a.1.start_ms == b.1.start_ms).collect();
    let starts_at = |group: &[(Source, SliBucket)]| group.first().map(|(_, bucket)| bucket.start_ms);
    let mut next_start_ms = None;
    if cut_off {
        next_start_ms = groups.pop().and_then(starts_at);
    }
    if groups.len() > limit {
        next_start_ms = starts_at(groups[limit]);
        groups.truncate(limit);
    }
    SliPage { buckets: groups.into_iter().filter_map(|group| merge_sources(group.to_vec())).collect(), next_start_ms }
}

impl Write {
    /// Writes buckets; those that are stored as they are already change nothing.
    pub(super) async fn apply_buckets(&mut self, buckets: Vec<ObservedBucket>) -> Result<(), Error> {
        let mut pending = Pending::new();
        for observed in buckets {
            let key = (observed.service, observed.bucket.start_ms, observed.source);
            let folded = match (pending.remove(&key), observed.mode) {
                (Some((mode, earlier)), BucketMode::Add) => (mode, add_buckets(&earlier, &observed.bucket)),
                (_, mode) => (mode, observed.bucket),
            };
            pending.insert(key, folded);
        }
        self.add_stored(&mut pending).await?;
        let rows: Vec<(Key, SliBucket)> = pending.into_iter().map(|(key, (_, bucket))| (key, bucket)).collect();
        self.write_buckets(&rows).await
    }

    /// Turns what is to be added into what is to stand.
    async fn add_stored(&mut self, pending: &mut Pending) -> Result<(), Error> {
        let mut series: BTreeMap<(EntityId, Source), Vec<UnixMillis>> = BTreeMap::new();
        for ((service, start_ms, source), (mode, _)) in pending.iter() {
            if *mode == BucketMode::Add {
                series.entry((service.clone(), *source)).or_default().push(*start_ms);
            }
        }
        for ((service, source), starts) in series {
            for (start_ms, stored) in self.stored_buckets(&service, source, &starts).await? {
                if let Some((_, bucket)) = pending.get_mut(&(service.clone(), start_ms, source)) {
                    *bucket = add_buckets(&stored, bucket);
                }
            }
        }
        Ok(())
    }

    pub(super) async fn stored_buckets(
        &mut self,
        service: &EntityId,
        source: Source,
        starts: &[UnixMillis],
    ) -> Result<Vec<(UnixMillis, SliBucket)>, Error> {
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            (
                "SELECT start_ms, source, valid_count, bad_count, inherited_bad_count, shares, latency FROM sli_buckets \
                 WHERE tenant_id = $1 AND service_id = $2 AND source = $3 AND start_ms IN",
                3,
            ),
            starts,
            |query| query.bind(tenant.clone()).bind(service.to_string()).bind(source_number(source)),
            |query, start_ms| query.bind(start_ms),
        )
        .await?;
        rows.iter().map(|row| read_measurement(row, true).map(|(_, bucket)| (bucket.start_ms, bucket))).collect()
    }

    async fn write_buckets(&mut self, rows: &[(Key, SliBucket)]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO sli_buckets (tenant_id, service_id, start_ms, source, valid_count, bad_count, \
             inherited_bad_count, shares, latency)",
            9,
            "ON CONFLICT (tenant_id, service_id, start_ms, source) DO UPDATE SET valid_count = excluded.valid_count, \
             bad_count = excluded.bad_count, inherited_bad_count = excluded.inherited_bad_count, \
             shares = excluded.shares, latency = excluded.latency \
             WHERE sli_buckets.valid_count <> excluded.valid_count OR sli_buckets.bad_count <> excluded.bad_count \
             OR sli_buckets.inherited_bad_count IS DISTINCT FROM excluded.inherited_bad_count \
             OR sli_buckets.shares IS DISTINCT FROM excluded.shares \
             OR sli_buckets.latency IS DISTINCT FROM excluded.latency \
             RETURNING service_id",
        );
        let written = insert_many(&mut self.transaction, self.dialect, statement, rows, |query, (key, bucket)| {
            let (service, start_ms, source) = key;
            query
                .bind(tenant.clone())
                .bind(service.to_string())
                .bind(*start_ms)
                .bind(source_number(*source))
                .bind(stored(bucket.counts.valid()))
                .bind(stored(bucket.counts.bad()))
                .bind(bucket.counts.inherited_bad().map(stored))
                .bind(encode_shares(&bucket.inherited_by_dependency))
                .bind(bucket.latency.as_ref().map(encode_histogram))
        })
        .await?;
        let services =
            written.iter().map(|row| column::<String>(row, "service_id")).collect::<Result<BTreeSet<_>, _>>()?;
        for service in services {
            self.changed(ChangeKind::Sli, &entity_id(&service)?);
        }
        Ok(())
    }
}

fn read_measurement(row: &AnyRow, with_latency: bool) -> Result<(Source, SliBucket), Error> {
    let inherited: Option<i64> = column(row, "inherited_bad_count")?;
    let inherited = inherited.map(|inherited| inherited.max(0) as u64);
    let counts = BucketCounts::new(count(row, "valid_count")?, count(row, "bad_count")?, inherited).map_err(invalid)?;
    let shares = decode_shares(column::<Option<&[u8]>>(row, "shares")?)?;
    let latency: Option<&[u8]> = if with_latency { column(row, "latency")? } else { None };
    let latency = latency.map(decode_histogram).transpose()?;
    let bucket = SliBucket::new(column(row, "start_ms")?, counts, shares, latency).map_err(invalid)?;
    Ok((source(column(row, "source")?)?, bucket))
}
