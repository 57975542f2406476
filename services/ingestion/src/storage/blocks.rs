//! Blocks in their table: who has one for which day, and what is in it.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, SliBucket, Source, UnixMillis};

use super::block::{Opened, Packed, day_start, marked, unpack, unpack_each, unseal};
use super::record::{entity_id, source, source_number};
use super::rows::{column, insert_many, select_in};
use super::write::Write;
use crate::Error;

/// Blocks of one day of many services …
pub(super) const OF_A_DAY: &str = "SELECT service_id, day_ms, source, counts, latency FROM sli_blocks \
     WHERE tenant_id = $1 AND day_ms = $2 AND service_id IN";
/// … and of many days of one service.
pub(super) const OF_A_SERVICE: &str = "SELECT service_id, day_ms, source, counts, latency FROM sli_blocks \
     WHERE tenant_id = $1 AND service_id = $2 AND day_ms IN";
const PUT: &str = "INSERT INTO sli_blocks (tenant_id, service_id, day_ms, source, slots, counts, latency)";
const PUT_COLUMNS: usize = 7;
const OR_REPLACE: &str = "ON CONFLICT (tenant_id, service_id, day_ms, source) DO UPDATE \
     SET slots = excluded.slots, counts = excluded.counts, latency = excluded.latency";

/// One series and day: what a block holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeriesDay {
    pub(super) service: EntityId,
    pub(super) day_ms: UnixMillis,
    pub(super) source: Source,
}

/// What a block holds, by start.
pub(super) type Day = BTreeMap<UnixMillis, SliBucket>;

impl SeriesDay {
    pub(super) fn of(service: &EntityId, start_ms: UnixMillis, source: Source) -> Self {
        Self { service: service.clone(), day_ms: day_start(start_ms), source }
    }

    pub(super) fn end_ms(&self) -> UnixMillis {
        self.day_ms.saturating_add(DAY_MS)
    }

    fn damaged(&self, what: &'static str) -> Error {
        let source_name = format!("{:?}", self.source);
        Error::DamagedBlock { service: self.service.clone(), source_name, day_ms: self.day_ms, what }
    }

    /// What a block of this day holds; without latency where that section is not given.
    fn read(&self, counts: &[u8], latency: Option<&[u8]>) -> Result<Vec<SliBucket>, Error> {
        unpack(self.day_ms, counts, latency).map_err(|what| self.damaged(what))
    }
}

/// A block as it is stored, to be read.
#[derive(Debug)]
pub(super) struct StoredBlock {
    pub(super) day: SeriesDay,
    pub(super) counts: Vec<u8>,
    /// `None` where it has none, or none is wanted.
    pub(super) latency: Option<Vec<u8>>,
}

impl StoredBlock {
    /// Hands out what it holds, ascending.
    pub(super) fn each(&self, take: impl FnMut(SliBucket)) -> Result<(), Error> {
        unpack_each(self.day.day_ms, &self.counts, self.latency.as_deref(), take).map_err(|what| self.day.damaged(what))
    }

    /// Its sections.
    pub(super) fn open(&self) -> Result<Opened, Error> {
        unseal(self.day.day_ms, &self.counts, self.latency.as_deref()).map_err(|what| self.day.damaged(what))
    }
}

impl Write {
    /// The blocks among `days` that there are, each with its buckets or what is wrong with it.
    pub(super) async fn blocks(
        &mut self,
        days: impl IntoIterator<Item = SeriesDay>,
    ) -> Result<BTreeMap<SeriesDay, Result<Day, Error>>, Error> {
        let days: BTreeSet<SeriesDay> = days.into_iter().filter(|day| day.day_ms < self.packed_until_ms).collect();
        let by_day = grouped(&days, |day| (day.day_ms, day.service.as_str()));
        let by_service = grouped(&days, |day| (day.service.as_str(), day.day_ms));
        let tenant = self.tenant.clone();
        let mut rows = Vec::new();
        // Whichever takes fewer statements.
        if by_day.len() <= by_service.len() {
            for (day_ms, services) in by_day {
                let services: Vec<&str> = services.into_iter().collect();
                let found = select_in(
                    &mut self.transaction,
                    (OF_A_DAY, 2),
                    &services,
                    |query| query.bind(tenant.clone()).bind(day_ms),
                    |query, service| query.bind(service.to_owned()),
                );
                rows.extend(found.await?);
            }
        } else {
            for (service, starts) in by_service {
                let starts: Vec<i64> = starts.into_iter().collect();
                let found = select_in(
                    &mut self.transaction,
                    (OF_A_SERVICE, 2),
                    &starts,
                    |query| query.bind(tenant.clone()).bind(service.to_owned()),
                    |query, day_ms| query.bind(day_ms),
                );
                rows.extend(found.await?);
            }
        }
        let mut found = BTreeMap::new();
        for row in &rows {
            let key = SeriesDay {
                service: entity_id(&column::<String>(row, "service_id")?)?,
                day_ms: column(row, "day_ms")?,
                source: source(column(row, "source")?)?,
            };
            if days.contains(&key) {
                let buckets = key.read(column(row, "counts")?, column(row, "latency")?).map(by_start);
                found.insert(key, buckets);
            }
        }
        Ok(found)
    }

    /// Writes blocks over those that there are.
    pub(super) async fn put_blocks(&mut self, blocks: &[(SeriesDay, Packed)]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (PUT, PUT_COLUMNS, OR_REPLACE);
        insert_many(&mut self.transaction, self.dialect, statement, blocks, |query, (day, packed)| {
            query
                .bind(tenant.clone())
                .bind(day.service.to_string())
                .bind(day.day_ms)
                .bind(source_number(day.source))
                .bind(packed.slots.to_vec())
                .bind(packed.counts.clone())
                .bind(packed.latency.clone())
        })
        .await?;
        // Not the day's end: what is written of the day that goes on need not be looked for in its block.
        let end_ms = |(day, packed): &(SeriesDay, Packed)| {
            marked(&packed.slots).next_back().map(|place| day.day_ms + (place as i64 + 1) * BUCKET_MS)
        };
        let until_ms = blocks.iter().filter_map(end_ms).max();
        if let Some(until_ms) = until_ms.filter(|until_ms| *until_ms > self.packed_until_ms) {
            sqlx::query("UPDATE tenants SET packed_until_ms = $1 WHERE tenant_id = $2")
                .bind(until_ms)
                .bind(self.tenant.clone())
                .execute(&mut *self.transaction)
                .await?;
            self.packed_until_ms = until_ms;
        }
        Ok(())
    }
}

pub(super) fn by_start(buckets: Vec<SliBucket>) -> Day {
    buckets.into_iter().map(|bucket| (bucket.start_ms, bucket)).collect()
}

/// What a writer does with a damaged block: what is written stands for itself, and the damage stays to be read of.
pub(super) fn or_nothing(block: Option<Result<Day, Error>>) -> Day {
    match block {
        None => Day::new(),
        Some(Ok(day)) => day,
        Some(Err(error)) => {
            tracing::error!(error = %error, "a write passes over a damaged block");
            Day::new()
        }
    }
}

fn grouped<'d, K: Ord, V: Ord>(
    days: &'d BTreeSet<SeriesDay>,
    part: impl Fn(&'d SeriesDay) -> (K, V),
) -> BTreeMap<K, BTreeSet<V>> {
    let mut groups: BTreeMap<K, BTreeSet<V>> = BTreeMap::new();
    for (key, value) in days.iter().map(part) {
        groups.entry(key).or_default().insert(value);
    }
    groups
}
