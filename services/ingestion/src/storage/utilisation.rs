use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, EntityKind, Source, TenantId, UnixMillis, UtilisationKind};
use prost::Message;
use sqlx::any::AnyRow;

use super::changes::ChangeKind;
use super::entities::WhenFull;
use super::record::{entity_id, invalid, source, source_number, utilisation_kind, utilisation_kind_number};
use super::rows::{column, insert_many, select_in, stored};
use super::write::Write;
use super::{BucketSpan, Store};
use crate::Error;
use crate::domain::{
    BucketMode, MeasuredUtilisation, ObservedUtilisation, UtilisationBucket, add_utilisation, from_millionths,
    merge_utilisation, millionths,
};

pub(super) const PAGE: &str = "SELECT day_ms, source, record FROM utilisation_days \
     WHERE tenant_id = $1 AND service_id = $2 AND day_ms >= $3 AND day_ms < $4 ORDER BY day_ms, source LIMIT $5";
pub(super) const OF_A_DAY: &str = "SELECT service_id, day_ms, record FROM utilisation_days \
     WHERE tenant_id = $1 AND day_ms = $2 AND source = $3 AND service_id IN";

/// Most rows that a day of one service can have: one a source.
const SOURCES_MAX: usize = 8;

/// Utilisation of one service by start and kind, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UtilisationPage {
    /// Each as its most direct source measured it.
    pub buckets: Vec<MeasuredUtilisation>,
    /// Where to go on; `None` at the end.
    pub next_start_ms: Option<UnixMillis>,
}

/// Every kind of one service, day and source. Fields are only ever added.
#[derive(Clone, PartialEq, Message)]
struct DayRecord {
    #[prost(message, repeated, tag = "1")]
    kinds: Vec<KindRecord>,
}

/// Columns of equal length, a place for each bucket.
#[derive(Clone, PartialEq, Message)]
struct KindRecord {
    #[prost(uint32, tag = "1")]
    kind: u32,
    /// Buckets since the one before, the first since the day's start.
    #[prost(uint32, repeated, tag = "2")]
    steps: Vec<u32>,
    #[prost(uint64, repeated, tag = "3")]
    average_millionths: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    maximum_above_millionths: Vec<u64>,
    #[prost(uint32, repeated, tag = "5")]
    sample_counts: Vec<u32>,
}

/// One day of one service and source.
type Day = BTreeMap<(UtilisationKind, UnixMillis), UtilisationBucket>;
/// Start of the day, source, service.
type DayKey = (UnixMillis, Source, EntityId);
/// What is to be done with each bucket of a day.
type Pending = BTreeMap<DayKey, BTreeMap<(UtilisationKind, UnixMillis), (BucketMode, UtilisationBucket)>>;

impl Store {
    /// Adds or replaces utilisation that a sender measured itself. A service that is not known yet is created. Of two
    /// buckets for the same time and kind the later one in the list stands.
    ///
    /// # Errors
    /// [`Error::TenantFull`], or where storage does not answer.
    pub async fn replace_utilisation(
        &self,
        tenant: &TenantId,
        buckets: Vec<(EntityId, UtilisationBucket)>,
    ) -> Result<(), Error> {
        let mut write = self.begin_write(tenant).await?;
        let services: BTreeSet<EntityId> = buckets.iter().map(|(service, _)| service.clone()).collect();
        write
            .update_entities(&services, WhenFull::Refuse, |entity| {
                // As for SLI buckets.
                if entity.known_from_catalogue_at_most() {
                    entity.observe(Some(EntityKind::Service), 0, &BTreeSet::from([Source::Declared]));
                }
            })
            .await?;
        let observed = buckets.into_iter().map(|(service, bucket)| ObservedUtilisation {
            service,
            source: Source::Declared,
            mode: BucketMode::Replace,
            bucket,
        });
        write.apply_utilisation(observed.collect()).await?;
        write.commit().await?;
        Ok(())
    }

    /// Utilisation of one service, oldest first, of at most `limit` different starts; perhaps of fewer where a page ends
    /// with a day.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn utilisation_page(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        span: BucketSpan,
        limit: usize,
    ) -> Result<UtilisationPage, Error> {
        let per_day = (DAY_MS / BUCKET_MS) as usize;
        // A whole day more than may be needed: the last one may be cut off.
        let rows_max = (limit / per_day + 2) * SOURCES_MAX + 1;
        let rows = sqlx::query(PAGE)
            .bind(tenant.as_str())
            .bind(service.as_str())
            .bind(day_of(span.start_ms))
            .bind(span.end_ms)
            .bind(stored(rows_max as u64))
            .fetch_all(self.database.pool())
            .await?;
        let days: Vec<UnixMillis> = rows.iter().map(|row| column(row, "day_ms")).collect::<Result<_, Error>>()?;
        let cut_off = if rows.len() == rows_max { days.last().copied() } else { None };
        let mut measured = Vec::new();
        for (row, _) in rows.iter().zip(&days).filter(|(_, day_ms)| cut_off != Some(**day_ms)) {
            let source = source(column(row, "source")?)?;
            let within = |bucket: &UtilisationBucket| (span.start_ms..span.end_ms).contains(&bucket.start_ms());
            let buckets = read_day(row)?.into_values().filter(within);
            measured.extend(buckets.map(|bucket| MeasuredUtilisation { source, bucket }));
        }
        Ok(page(merge_utilisation(measured), cut_off, limit))
    }
}

impl Write {
    /// Writes utilisation; what is stored as it is already changes nothing.
    pub(super) async fn apply_utilisation(&mut self, observed: Vec<ObservedUtilisation>) -> Result<(), Error> {
        let mut pending = Pending::new();
        for ObservedUtilisation { service, source, mode, bucket } in observed {
            let day = pending.entry((day_of(bucket.start_ms()), source, service)).or_default();
            let place = (bucket.kind(), bucket.start_ms());
            let folded = match (day.remove(&place), mode) {
                (Some((mode, earlier)), BucketMode::Add) => (mode, add_utilisation(earlier, bucket)),
                (_, mode) => (mode, bucket),
            };
            day.insert(place, folded);
        }
        let mut known = self.stored_days(pending.keys()).await?;
        let mut rows = Vec::with_capacity(pending.len());
        for (key, changes) in pending {
            let mut day = known.remove(&key).unwrap_or_default();
            for (place, (mode, bucket)) in changes {
                let stands = match (mode, day.get(&place)) {
                    (BucketMode::Add, Some(stored)) => add_utilisation(*stored, bucket),
                    _ => bucket,
                };
                day.insert(place, stands);
            }
            rows.push((key, encode_day(&day)));
        }
        self.write_days(&rows).await
    }

    async fn stored_days(&mut self, keys: impl Iterator<Item = &DayKey>) -> Result<BTreeMap<DayKey, Day>, Error> {
        let mut services: BTreeMap<(UnixMillis, Source), Vec<&str>> = BTreeMap::new();
        for (day_ms, source, service) in keys {
            services.entry((*day_ms, *source)).or_default().push(service.as_str());
        }
        let tenant = self.tenant.clone();
        let mut days = BTreeMap::new();
        for ((day_ms, source), services) in services {
            let rows = select_in(
                &mut self.transaction,
                (OF_A_DAY, 3),
                &services,
                |query| query.bind(tenant.clone()).bind(day_ms).bind(source_number(source)),
                |query, service| query.bind(service.to_owned()),
            )
            .await?;
            for row in &rows {
                days.insert((day_ms, source, entity_id(&column::<String>(row, "service_id")?)?), read_day(row)?);
            }
        }
        Ok(days)
    }

    async fn write_days(&mut self, rows: &[(DayKey, Vec<u8>)]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO utilisation_days (tenant_id, service_id, day_ms, source, record)",
            5,
            "ON CONFLICT (tenant_id, service_id, day_ms, source) DO UPDATE SET record = excluded.record \
             WHERE utilisation_days.record <> excluded.record RETURNING service_id",
        );
        let written = insert_many(&mut self.transaction, self.dialect, statement, rows, |query, (key, record)| {
            let (day_ms, source, service) = key;
            query
                .bind(tenant.clone())
                .bind(service.to_string())
                .bind(*day_ms)
                .bind(source_number(*source))
                .bind(record.clone())
        })
        .await?;
        self.changed_by(ChangeKind::Utilisation, &written)
    }
}

fn day_of(time_ms: UnixMillis) -> UnixMillis {
    time_ms.div_euclid(DAY_MS) * DAY_MS
}

/// At most `limit` different starts; the rest, and the day that was cut off, is for the next page.
fn page(mut buckets: Vec<MeasuredUtilisation>, cut_off: Option<UnixMillis>, limit: usize) -> UtilisationPage {
    let mut next_start_ms = cut_off;
    let starts = buckets.chunk_by(|a, b| a.bucket.start_ms() == b.bucket.start_ms());
    let length: usize = starts.take(limit).map(<[_]>::len).sum();
    if let Some(left) = buckets.get(length) {
        next_start_ms = Some(left.bucket.start_ms());
        buckets.truncate(length);
    }
    UtilisationPage { buckets, next_start_ms }
}

fn encode_day(day: &Day) -> Vec<u8> {
    let buckets: Vec<UtilisationBucket> = day.values().copied().collect();
    let kinds = buckets.chunk_by(|a, b| a.kind() == b.kind()).map(|buckets| {
        let mut record = KindRecord::default();
        let mut before = 0;
        for bucket in buckets {
            record.kind = utilisation_kind_number(bucket.kind());
            let place = ((bucket.start_ms() - day_of(bucket.start_ms())) / BUCKET_MS) as u32;
            let average = millionths(bucket.average());
            record.steps.push(place - before);
            record.average_millionths.push(average);
            record.maximum_above_millionths.push(millionths(bucket.maximum()).saturating_sub(average));
            record.sample_counts.push(bucket.sample_count());
            before = place;
        }
        record
    });
    DayRecord { kinds: kinds.collect() }.encode_to_vec()
}

fn read_day(row: &AnyRow) -> Result<Day, Error> {
    decode_day(column(row, "day_ms")?, column(row, "record")?)
}

pub(super) fn decode_day(day_ms: UnixMillis, record: &[u8]) -> Result<Day, Error> {
    let record = DayRecord::decode(record).map_err(|error| Error::Corrupt(error.to_string()))?;
    let mut day = Day::new();
    for columns in &record.kinds {
        let kind = utilisation_kind(columns.kind)?;
        let values = columns.average_millionths.iter().zip(&columns.maximum_above_millionths);
        let mut start_ms = day_ms;
        for ((step, (average, above)), samples) in columns.steps.iter().zip(values).zip(&columns.sample_counts) {
            start_ms += i64::from(*step) * BUCKET_MS;
            let maximum = from_millionths(average.saturating_add(*above));
            let bucket = UtilisationBucket::new(start_ms, kind, from_millionths(*average), maximum, *samples);
            day.insert((kind, start_ms), bucket.map_err(invalid)?);
        }
    }
    Ok(day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: UnixMillis = 20_000 * DAY_MS;

    fn bucket(place: i64, kind: UtilisationKind, average: f64, above: f64, samples: u32) -> UtilisationBucket {
        let maximum = if kind.is_ratio() { (average + above).min(1.0) } else { average + above };
        UtilisationBucket::new(DAY + place * BUCKET_MS, kind, average, maximum, samples).expect("valid")
    }

    fn day(buckets: impl IntoIterator<Item = UtilisationBucket>) -> Day {
        buckets.into_iter().map(|bucket| ((bucket.kind(), bucket.start_ms()), bucket)).collect()
    }

    #[test]
    fn a_full_day_of_a_ratio_takes_less_than_nine_bytes_a_bucket() {
        let full = day((0..288).map(|n| bucket(n, UtilisationKind::Cpu, 0.4 + n as f64 / 1000.0, 0.1, 20)));
        let size = encode_day(&full).len();
        assert!(size < 9 * 288, "{size} bytes");
    }

    proptest! {
        #[test]
        fn a_day_comes_back_as_it_was_kept(
            ratios in prop::collection::btree_map(0i64..288, (0.0..=1.0f64, 0.0..0.5f64, 1u32..100), 0..40),
            depths in prop::collection::btree_map(0i64..288, (0.0..=1e8f64, 0.0..1e8f64, 1u32..100), 0..40),
        ) {
            let of = |kind| move |(place, (average, above, samples)): (&i64, &(f64, f64, u32))| {
                bucket(*place, kind, *average, *above, *samples)
            };
            let kept = day(
                ratios.iter().map(of(UtilisationKind::Memory)).chain(depths.iter().map(of(UtilisationKind::QueueDepth))),
            );
            prop_assert_eq!(decode_day(DAY, &encode_day(&kept)).expect("ours"), kept);
        }
    }
}
