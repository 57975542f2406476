//! Counts by region, beside those of the whole service: one row a service, region, source and day, which is rewritten while the
//! day goes on. A day of counts takes some hundred bytes; latencies would take ten thousand, and are not kept by region.
//!
//! A service has at most [`REGIONS_MAX`] regions at a time. What observers see of further ones is counted together as
//! [`Region::overflow`]; who sends counts of its own is refused, since what replaces what could not be told there. An observer
//! whose counts replace earlier ones tells all regions of five minutes at once, so their sum replaces the earlier sum.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, SliBucket, Source, TenantId, UnixMillis};
use sqlx::any::AnyRow;

use super::block::{day_start, pack, unpack};
use super::record::{entity_id, source, source_number};
use super::rows::{column, insert_many, select_in};
use super::write::Write;
use super::{BucketSpan, Store};
use crate::Error;
use crate::domain::{BucketMode, MergedBucket, Region, RegionalBucket, add_buckets, merge_sources};

/// Most regions of one service that are kept apart: more than any cloud serves one product from in practice.
pub const REGIONS_MAX: usize = 16;

pub(super) const IN_SPAN: &str = "SELECT region, day_ms, source, counts FROM region_days \
     WHERE tenant_id = $1 AND service_id = $2 AND day_ms >= $3 AND day_ms < $4 ORDER BY region, day_ms, source";
pub(super) const OF_REGION: &str = "SELECT region, day_ms, source, counts FROM region_days \
     WHERE tenant_id = $1 AND service_id = $2 AND day_ms >= $3 AND day_ms < $4 AND region = $5 ORDER BY day_ms, source";
pub(super) const OF_A_DAY: &str = "SELECT service_id, region, day_ms, counts FROM region_days \
     WHERE tenant_id = $1 AND day_ms = $2 AND source = $3 AND service_id IN";
pub(super) const KNOWN: &str = "SELECT service_id, region FROM service_regions WHERE tenant_id = $1 AND service_id IN";
pub(super) const NAMED: &str =
    "SELECT region FROM service_regions WHERE tenant_id = $1 AND service_id = $2 ORDER BY region";

/// The history of a service by region, oldest first.
pub type RegionalHistory = BTreeMap<Region, Vec<MergedBucket>>;

/// Start of the day, source, service, region.
type DayKey = (UnixMillis, Source, EntityId, Region);
type Day = BTreeMap<UnixMillis, SliBucket>;
type Pending = BTreeMap<DayKey, BTreeMap<UnixMillis, (BucketMode, SliBucket)>>;

/// What becomes of regions beyond [`REGIONS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BeyondLimit {
    /// They are counted together.
    Together,
    /// Nothing of the write is kept.
    Refused,
}

impl Store {
    /// The regions of a service, in lexical order.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn regions(&self, tenant: &TenantId, service: &EntityId) -> Result<Vec<Region>, Error> {
        let found = sqlx::query(NAMED).bind(tenant.as_str()).bind(service.as_str()).fetch_all(self.database.pool());
        found.await?.iter().map(read_region).collect()
    }

    /// What is kept of a span by region, or of one region; a region without buckets in the span is not there.
    ///
    /// # Errors
    /// [`Error::DamagedBlock`] where a day cannot be read, or where storage does not answer.
    pub async fn regional_history(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        span: BucketSpan,
        only: Option<&Region>,
    ) -> Result<RegionalHistory, Error> {
        let query = sqlx::query(if only.is_some() { OF_REGION } else { IN_SPAN })
            .bind(tenant.as_str())
            .bind(service.as_str())
            .bind(day_start(span.start_ms))
            .bind(span.end_ms);
        let query = if let Some(region) = only { query.bind(region.as_str()) } else { query };
        let rows = query.fetch_all(self.database.pool()).await?;
        let mut told: BTreeMap<Region, Vec<(Source, SliBucket)>> = BTreeMap::new();
        for row in &rows {
            let by = source(column(row, "source")?)?;
            let buckets = read_day(row, service, by)?.into_iter();
            let within = buckets.filter(|bucket| (span.start_ms..span.end_ms).contains(&bucket.start_ms));
            told.entry(read_region(row)?).or_default().extend(within.map(|bucket| (by, bucket)));
        }
        told.retain(|_, buckets| !buckets.is_empty());
        Ok(told.into_iter().map(|(region, buckets)| (region, merged(buckets))).collect())
    }
}

impl Write {
    /// Writes counts by region; what is stored as it is already changes nothing.
    ///
    /// # Errors
    /// [`Error::TooManyRegions`] where those beyond the limit are refused, or where storage does not answer.
    pub(super) async fn apply_regional(
        &mut self,
        buckets: Vec<RegionalBucket>,
        beyond_limit: BeyondLimit,
    ) -> Result<(), Error> {
        if buckets.is_empty() {
            return Ok(());
        }
        let kept_apart = self.kept_apart(&buckets).await?;
        let mut pending = Pending::new();
        for RegionalBucket { region, observed } in buckets {
            let is_kept = kept_apart.get(&observed.service).is_some_and(|kept| kept.contains(&region));
            let is_a_part = observed.mode == BucketMode::Add || !is_kept;
            let region = match (is_kept, beyond_limit) {
                (true, _) => region,
                (false, BeyondLimit::Together) => Region::overflow(),
                (false, BeyondLimit::Refused) => {
                    return Err(Error::TooManyRegions {
                        service: observed.service,
                        region: region.as_str().to_owned(),
                    });
                }
            };
            let bucket = SliBucket { latency: None, ..observed.bucket };
            let key = (day_start(bucket.start_ms), observed.source, observed.service, region);
            let day = pending.entry(key).or_default();
            let folded = match day.remove(&bucket.start_ms) {
                Some((mode, earlier)) if is_a_part => (mode, add_buckets(&earlier, &bucket)),
                _ => (observed.mode, bucket),
            };
            day.insert(folded.1.start_ms, folded);
        }
        self.note_regions(&pending).await?;
        let mut known = self.stored_regional_days(pending.keys()).await?;
        let mut rows = Vec::with_capacity(pending.len());
        for (key, changes) in pending {
            let mut day = known.remove(&key).unwrap_or_default();
            for (start_ms, (mode, bucket)) in changes {
                let stands = match (mode, day.get(&start_ms)) {
                    (BucketMode::Add, Some(stored)) => add_buckets(stored, &bucket),
                    _ => bucket,
                };
                day.insert(start_ms, stands);
            }
            rows.push((key, pack(&day.into_values().collect::<Vec<_>>()).counts));
        }
        self.write_regional_days(&rows).await
    }

    /// The regions of each service that are kept apart: those that are known, and of new ones the first in lexical order, so that
    /// the order of a batch does not matter.
    async fn kept_apart(&mut self, buckets: &[RegionalBucket]) -> Result<BTreeMap<EntityId, BTreeSet<Region>>, Error> {
        let mut told: BTreeMap<&EntityId, BTreeSet<&Region>> = BTreeMap::new();
        for RegionalBucket { region, observed } in buckets {
            told.entry(&observed.service).or_default().insert(region);
        }
        let services: Vec<&str> = told.keys().map(|service| service.as_str()).collect();
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            (KNOWN, 1),
            &services,
            |query| query.bind(tenant.clone()),
            |query, service| query.bind(service.to_owned()),
        )
        .await?;
        let mut kept: BTreeMap<EntityId, BTreeSet<Region>> = BTreeMap::new();
        for row in &rows {
            let service = entity_id(&column::<String>(row, "service_id")?)?;
            kept.entry(service).or_default().insert(read_region(row)?);
        }
        let overflow = Region::overflow();
        for (service, regions) in told {
            let kept = kept.entry(service.clone()).or_default();
            let apart = kept.iter().filter(|region| **region != overflow).count();
            let new: Vec<Region> = regions
                .into_iter()
                .filter(|region| !kept.contains(*region))
                .take(REGIONS_MAX.saturating_sub(apart))
                .cloned()
                .collect();
            kept.extend(new);
        }
        Ok(kept)
    }

    /// Notes the newest day of each region, by which one that is heard of no more makes room.
    async fn note_regions(&mut self, pending: &Pending) -> Result<(), Error> {
        let mut newest: BTreeMap<(&EntityId, &Region), UnixMillis> = BTreeMap::new();
        for (day_ms, _, service, region) in pending.keys() {
            let day = newest.entry((service, region)).or_insert(*day_ms);
            *day = (*day).max(*day_ms);
        }
        let rows: Vec<_> = newest.into_iter().collect();
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO service_regions (tenant_id, service_id, region, day_ms)",
            4,
            "ON CONFLICT (tenant_id, service_id, region) DO UPDATE SET day_ms = excluded.day_ms \
             WHERE service_regions.day_ms < excluded.day_ms",
        );
        insert_many(&mut self.transaction, self.dialect, statement, &rows, |query, ((service, region), day_ms)| {
            let named = query.bind(tenant.clone()).bind(service.to_string()).bind(region.as_str().to_owned());
            named.bind(*day_ms)
        })
        .await?;
        Ok(())
    }

    async fn stored_regional_days(
        &mut self,
        keys: impl Iterator<Item = &DayKey>,
    ) -> Result<BTreeMap<DayKey, Day>, Error> {
        let mut services: BTreeMap<(UnixMillis, Source), BTreeSet<&str>> = BTreeMap::new();
        for (day_ms, source, service, _) in keys {
            services.entry((*day_ms, *source)).or_default().insert(service.as_str());
        }
        let tenant = self.tenant.clone();
        let mut days = BTreeMap::new();
        for ((day_ms, source), services) in services {
            let services: Vec<&str> = services.into_iter().collect();
            let rows = select_in(
                &mut self.transaction,
                (OF_A_DAY, 3),
                &services,
                |query| query.bind(tenant.clone()).bind(day_ms).bind(source_number(source)),
                |query, service| query.bind(service.to_owned()),
            )
            .await?;
            for row in &rows {
                let service = entity_id(&column::<String>(row, "service_id")?)?;
                let buckets = match read_day(row, &service, source) {
                    Ok(buckets) => buckets,
                    // As for whole services: what is written stands for itself.
                    Err(error @ Error::DamagedBlock { .. }) => {
                        tracing::error!(error = %error, "a write passes over a damaged block");
                        Vec::new()
                    }
                    Err(error) => return Err(error),
                };
                let day = buckets.into_iter().map(|bucket| (bucket.start_ms, bucket)).collect();
                days.insert((day_ms, source, service, read_region(row)?), day);
            }
        }
        Ok(days)
    }

    async fn write_regional_days(&mut self, rows: &[(DayKey, Vec<u8>)]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO region_days (tenant_id, service_id, day_ms, source, region, counts)",
            6,
            "ON CONFLICT (tenant_id, service_id, day_ms, source, region) DO UPDATE SET counts = excluded.counts \
             WHERE region_days.counts <> excluded.counts RETURNING service_id, day_ms",
        );
        let written = insert_many(&mut self.transaction, self.dialect, statement, rows, |query, (key, counts)| {
            let (day_ms, source, service, region) = key;
            query
                .bind(tenant.clone())
                .bind(service.to_string())
                .bind(*day_ms)
                .bind(source_number(*source))
                .bind(region.as_str().to_owned())
                .bind(counts.clone())
        })
        .await?;
        // Of single regions; that the whole is read again from the start of the day is too much, and right.
        self.measured_by(&written, "day_ms")
    }
}

fn read_region(row: &AnyRow) -> Result<Region, Error> {
    Ok(Region::observed(entity_id(&column::<String>(row, "region")?)?))
}

fn read_day(row: &AnyRow, service: &EntityId, by: Source) -> Result<Vec<SliBucket>, Error> {
    let day_ms = column(row, "day_ms")?;
    let counts: &[u8] = column(row, "counts")?;
    let damaged = |what| Error::DamagedBlock { service: service.clone(), source_name: format!("{by:?}"), day_ms, what };
    unpack(day_ms, counts, None).map_err(damaged)
}

/// What several sources say of one region, bucket by bucket.
fn merged(mut told: Vec<(Source, SliBucket)>) -> Vec<MergedBucket> {
    told.sort_by_key(|(source, bucket)| (bucket.start_ms, *source));
    let groups = told.chunk_by(|a, b| a.1.start_ms == b.1.start_ms);
    groups.filter_map(|group| merge_sources(group.to_vec())).collect()
}
