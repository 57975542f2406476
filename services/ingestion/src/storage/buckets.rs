//! Buckets written: whole days of one series straight into blocks, everything else as rows.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BucketCounts, EntityId, EntityKind, SliBucket, Source, TenantId, UnixMillis};
use sqlx::any::AnyRow;

use super::Store;
use super::block::{Packed, SLOTS, day_start, pack};
use super::blocks::{Day, SeriesDay, by_start, or_nothing};
use super::entities::WhenFull;
use super::record::{decode_histogram, decode_shares, encode_histogram, encode_shares, invalid, source, source_number};
use super::regions::BeyondLimit;
use super::rows::{column, count, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{BucketMode, ObservedBucket, Region, RegionalBucket, add_buckets};

pub(super) const STORED: &str = "SELECT start_ms, source, valid_count, bad_count, inherited_bad_count, shares, latency \
     FROM sli_buckets WHERE tenant_id = $1 AND service_id = $2 AND source = $3 AND start_ms IN";
pub(super) const OF_A_DAY: &str = "SELECT start_ms, source, valid_count, bad_count, inherited_bad_count, shares, latency \
     FROM sli_buckets WHERE tenant_id = $1 AND service_id = $2 AND source = $3 AND start_ms >= $4 AND start_ms < $5";
pub(super) const FORGET_DAY: &str = "DELETE FROM sli_buckets \
     WHERE tenant_id = $1 AND service_id = $2 AND source = $3 AND start_ms >= $4 AND start_ms < $5";
pub(super) const OLDEST: &str = "SELECT MIN(start_ms) AS oldest FROM sli_buckets \
     WHERE tenant_id = $1 AND service_id = $2 AND start_ms >= $3 AND start_ms < $4";

/// From how many buckets of a day that is over it is packed at once: about where rewriting the block costs less than
/// writing rows and packing them later. A whole day always is.
const BUCKETS_AT_ONCE_MIN: usize = 12;
/// From how many buckets a batch is prepared away from the threads that answer calls.
const BUCKETS_IN_PLACE_MAX: usize = 2_000;

type Key = (EntityId, UnixMillis, Source);
type Pending = BTreeMap<Key, (BucketMode, SliBucket)>;

/// Much of one day of one series.
struct MuchOfADay {
    day: SeriesDay,
    buckets: Vec<SliBucket>,
    packed: Packed,
}

/// Buckets of a batch, each key once, parted by how they will be kept.
#[derive(Default)]
pub(super) struct PreparedBuckets {
    days: Vec<MuchOfADay>,
    rows: Pending,
}

impl Store {
    /// Adds or replaces buckets that a sender counted itself. A service that is not known yet is created. Of two buckets
    /// for the same time the later one in the list stands.
    ///
    /// # Errors
    /// [`Error::TenantFull`], or where storage does not answer.
    pub async fn replace_buckets(&self, tenant: &TenantId, buckets: Vec<(EntityId, SliBucket)>) -> Result<(), Error> {
        self.replace_measured(tenant, buckets, Vec::new()).await
    }

    /// The same, and in the same transaction those of single regions, without latency.
    ///
    /// # Errors
    /// As [`Store::replace_buckets`], and [`Error::TooManyRegions`].
    pub async fn replace_measured(
        &self,
        tenant: &TenantId,
        buckets: Vec<(EntityId, SliBucket)>,
        regional: Vec<(EntityId, Region, SliBucket)>,
    ) -> Result<(), Error> {
        let mut services: BTreeSet<EntityId> = regional.iter().map(|(service, ..)| service.clone()).collect();
        for (service, _) in &buckets {
            if services.last() != Some(service) && !services.contains(service) {
                services.insert(service.clone());
            }
        }
        let observed =
            |(service, bucket)| ObservedBucket { service, source: Source::Declared, mode: BucketMode::Replace, bucket };
        let closed_before_ms = self.closed_before_ms();
        let prepared = if buckets.len() > BUCKETS_IN_PLACE_MAX {
            let prepare = move || prepare_buckets(buckets.into_iter().map(observed), closed_before_ms);
            tokio::task::spawn_blocking(prepare).await.map_err(|error| Error::Storage(sqlx::Error::Io(error.into())))?
        } else {
            prepare_buckets(buckets.into_iter().map(observed), closed_before_ms)
        };
        let mut write = self.begin_write(tenant).await?;
        write
            .update_entities(&services, WhenFull::Refuse, |entity| {
                // Only a service that nobody told of, or only the catalogue, which may forget it: a known one is known
                // from where it was.
                if entity.known_from_catalogue_at_most() {
                    entity.observe(Some(EntityKind::Service), 0, &BTreeSet::from([Source::Declared]));
                }
            })
            .await?;
        write.apply_prepared(prepared).await?;
        let regional = regional
            .into_iter()
            .map(|(service, region, bucket)| RegionalBucket { region, observed: observed((service, bucket)) });
        write.apply_regional(regional.collect(), BeyondLimit::Refused).await?;
        write.commit().await?;
        Ok(())
    }
}

/// Folds buckets of the same key, packs what is much of a day that is over, and leaves the rest as rows.
pub(super) fn prepare_buckets(
    buckets: impl Iterator<Item = ObservedBucket>,
    closed_before_ms: UnixMillis,
) -> PreparedBuckets {
    let mut series: BTreeMap<(EntityId, Source), Vec<(BucketMode, SliBucket)>> = BTreeMap::new();
    for observed in buckets {
        series.entry((observed.service, observed.source)).or_default().push((observed.mode, observed.bucket));
    }
    let mut prepared = PreparedBuckets::default();
    for ((service, source), mut buckets) in series {
        // Stable: the later one of a key stays the later one.
        buckets.sort_by_key(|(_, bucket)| bucket.start_ms);
        let mut rest = folded(buckets).into_iter().peekable();
        while let Some((_, first)) = rest.peek() {
            let day = SeriesDay::of(&service, first.start_ms, source);
            let end_ms = day.end_ms();
            let of_day: Vec<_> = std::iter::from_fn(|| rest.next_if(|(_, bucket)| bucket.start_ms < end_ms)).collect();
            let much = of_day.len() == SLOTS || (end_ms <= closed_before_ms && of_day.len() >= BUCKETS_AT_ONCE_MIN);
            if much && of_day.iter().all(|(mode, _)| *mode == BucketMode::Replace) {
                let buckets: Vec<SliBucket> = of_day.into_iter().map(|(_, bucket)| bucket).collect();
                let packed = pack(&buckets);
                prepared.days.push(MuchOfADay { day, buckets, packed });
            } else {
                let keyed = of_day.into_iter().map(|row| ((service.clone(), row.1.start_ms, source), row));
                prepared.rows.extend(keyed);
            }
        }
    }
    prepared
}

/// Buckets in order of time, those of one time made one.
fn folded(buckets: Vec<(BucketMode, SliBucket)>) -> Vec<(BucketMode, SliBucket)> {
    let mut folded: Vec<(BucketMode, SliBucket)> = Vec::with_capacity(buckets.len());
    for (mode, bucket) in buckets {
        match folded.last_mut().filter(|(_, last)| last.start_ms == bucket.start_ms) {
            Some((_, last)) if mode == BucketMode::Add => *last = add_buckets(last, &bucket),
            Some(last) => *last = (mode, bucket),
            None => folded.push((mode, bucket)),
        }
    }
    folded
}

impl Write {
    /// Writes buckets; those that are stored as they are already change nothing.
    pub(super) async fn apply_buckets(&mut self, buckets: Vec<ObservedBucket>) -> Result<(), Error> {
        let prepared = prepare_buckets(buckets.into_iter(), self.closed_before_ms());
        self.apply_prepared(prepared).await
    }

    async fn apply_prepared(&mut self, prepared: PreparedBuckets) -> Result<(), Error> {
        let PreparedBuckets { days, mut rows } = prepared;
        let starts: BTreeSet<UnixMillis> = rows
            .keys()
            .map(|(_, start_ms, _)| day_start(*start_ms))
            .chain(days.iter().map(|of| of.day.day_ms))
            .collect();
        self.make_partitions(starts.into_iter()).await?;
        self.put_days(days, &mut rows).await?;
        self.settle_rows(&mut rows).await?;
        let rows: Vec<(Key, SliBucket)> = rows.into_iter().map(|(key, (_, bucket))| (key, bucket)).collect();
        self.write_rows(&rows).await
    }

    /// Writes days as blocks, with what is stored of them. A part of a day whose block is damaged goes to `rows`.
    async fn put_days(&mut self, days: Vec<MuchOfADay>, rows: &mut Pending) -> Result<(), Error> {
        let with_rows = self.services_with_rows(&days).await?;
        let mut blocks = self.blocks(days.iter().map(|of| of.day.clone())).await?;
        let mut put = Vec::with_capacity(days.len());
        for MuchOfADay { day, buckets, packed } in days {
            let block = blocks.remove(&day);
            let damaged = matches!(block, Some(Err(_)));
            if damaged && buckets.len() < SLOTS {
                let key = |bucket: &SliBucket| (day.service.clone(), bucket.start_ms, day.source);
                rows.extend(buckets.into_iter().map(|bucket| (key(&bucket), (BucketMode::Replace, bucket))));
                continue;
            }
            let mut before = or_nothing(block);
            if with_rows.contains(&day.service) {
                before.append(&mut self.rows_of(&day).await?);
            }
            if before.is_empty() {
                self.measured(&day.service, day.day_ms);
                put.push((day, packed));
                continue;
            }
            let mut after = before.clone();
            after.append(&mut by_start(buckets));
            if damaged || after != before {
                self.forget_rows(&day, day.end_ms()).await?;
                self.measured(&day.service, day.day_ms);
                put.push((day, pack(&after.into_values().collect::<Vec<_>>())));
            }
        }
        self.put_blocks(&put).await
    }

    async fn services_with_rows(&mut self, days: &[MuchOfADay]) -> Result<BTreeSet<EntityId>, Error> {
        let mut found = BTreeSet::new();
        for of_service in days.chunk_by(|a, b| a.day.service == b.day.service) {
            let service = &of_service[0].day.service;
            let from_ms = of_service.iter().map(|of| of.day.day_ms).min().unwrap_or_default();
            let to_ms = of_service.iter().map(|of| of.day.end_ms()).max().unwrap_or_default();
            if self.oldest_row(service, from_ms, to_ms).await?.is_some() {
                found.insert(service.clone());
            }
        }
        Ok(found)
    }

    /// Start of the oldest row of a service that starts in `[from_ms, to_ms)`.
    pub(super) async fn oldest_row(
        &mut self,
        service: &EntityId,
        from_ms: UnixMillis,
        to_ms: UnixMillis,
    ) -> Result<Option<UnixMillis>, Error> {
        let row = sqlx::query(OLDEST)
            .bind(self.tenant.clone())
            .bind(service.to_string())
            .bind(from_ms)
            .bind(to_ms)
            .fetch_one(&mut *self.transaction)
            .await?;
        column(&row, "oldest")
    }

    async fn rows_of(&mut self, day: &SeriesDay) -> Result<Day, Error> {
        let rows = sqlx::query(OF_A_DAY)
            .bind(self.tenant.clone())
            .bind(day.service.to_string())
            .bind(source_number(day.source))
            .bind(day.day_ms)
            .bind(day.end_ms())
            .fetch_all(&mut *self.transaction)
            .await?;
        rows.iter().map(|row| read_measurement(row, true).map(|(_, bucket)| (bucket.start_ms, bucket))).collect()
    }

    /// Forgets the rows of a day that start before `to_ms`.
    pub(super) async fn forget_rows(&mut self, day: &SeriesDay, to_ms: UnixMillis) -> Result<(), Error> {
        sqlx::query(FORGET_DAY)
            .bind(self.tenant.clone())
            .bind(day.service.to_string())
            .bind(source_number(day.source))
            .bind(day.day_ms)
            .bind(to_ms.min(day.end_ms()))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Turns what is to be added into what is to stand, and drops what a block holds already.
    async fn settle_rows(&mut self, pending: &mut Pending) -> Result<(), Error> {
        let late: BTreeSet<SeriesDay> = pending
            .keys()
            .filter(|(_, start_ms, _)| *start_ms < self.packed_until_ms)
            .map(|(service, start_ms, source)| SeriesDay::of(service, *start_ms, *source))
            .collect();
        let blocks = self.blocks(late).await?;
        let mut packed: BTreeMap<Key, SliBucket> = BTreeMap::new();
        for (day, block) in blocks {
            for (start_ms, bucket) in or_nothing(Some(block)) {
                let key = (day.service.clone(), start_ms, day.source);
                if pending.contains_key(&key) {
                    packed.insert(key, bucket);
                }
            }
        }
        let mut series: BTreeMap<(EntityId, Source), Vec<UnixMillis>> = BTreeMap::new();
        for (key, (mode, _)) in pending.iter() {
            if *mode == BucketMode::Add || packed.contains_key(key) {
                series.entry((key.0.clone(), key.2)).or_default().push(key.1);
            }
        }
        let mut stored: BTreeMap<Key, SliBucket> = BTreeMap::new();
        for ((service, source), starts) in series {
            for (start_ms, bucket) in self.stored_rows(&service, source, &starts).await? {
                stored.insert((service.clone(), start_ms, source), bucket);
            }
        }
        pending.retain(|key, (mode, bucket)| {
            let (row, block) = (stored.get(key), packed.get(key));
            if let (BucketMode::Add, Some(stands)) = (*mode, row.or(block)) {
                *bucket = add_buckets(stands, bucket);
            }
            row.is_some() || block != Some(bucket)
        });
        Ok(())
    }

    pub(super) async fn stored_rows(
        &mut self,
        service: &EntityId,
        source: Source,
        starts: &[UnixMillis],
    ) -> Result<Vec<(UnixMillis, SliBucket)>, Error> {
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            (STORED, 3),
            starts,
            |query| query.bind(tenant.clone()).bind(service.to_string()).bind(source_number(source)),
            |query, start_ms| query.bind(start_ms),
        )
        .await?;
        rows.iter().map(|row| read_measurement(row, true).map(|(_, bucket)| (bucket.start_ms, bucket))).collect()
    }

    async fn write_rows(&mut self, rows: &[(Key, SliBucket)]) -> Result<(), Error> {
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
             RETURNING service_id, start_ms",
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
        self.measured_by(&written, "start_ms")
    }
}

pub(super) fn read_measurement(row: &AnyRow, with_latency: bool) -> Result<(Source, SliBucket), Error> {
    let inherited: Option<i64> = column(row, "inherited_bad_count")?;
    let inherited = inherited.map(|inherited| inherited.max(0) as u64);
    let counts = BucketCounts::new(count(row, "valid_count")?, count(row, "bad_count")?, inherited).map_err(invalid)?;
    let shares = decode_shares(column::<Option<&[u8]>>(row, "shares")?)?;
    let latency: Option<&[u8]> = if with_latency { column(row, "latency")? } else { None };
    let latency = latency.map(decode_histogram).transpose()?;
    let bucket = SliBucket::new(column(row, "start_ms")?, counts, shares, latency).map_err(invalid)?;
    Ok((source(column(row, "source")?)?, bucket))
}
