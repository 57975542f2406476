//! A fair sample of the requests of each service and hour, with the calls that each waited for.

use std::collections::BTreeMap;

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, TenantId, UnixMillis};
use sqlx::AssertSqlSafe;

use super::forgetting::Forgotten;
use super::lines::{Value, all_lines, read_lines};
use super::record::entity_id;
use super::rows::{column, insert_many, select_in, stored};
use super::sample_record::{decode_hour, encode_hour};
use super::write::Write;
use super::{BucketSpan, Store};
use crate::Error;
use crate::domain::{RequestSample, hour_start, least_ranks};

/// Sampled requests of a service that began in one hour, in the order of their ranks: of those of the least ranks, so many
/// as one likes are a fair sample again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledHour {
    /// When the hour began.
    pub hour_ms: UnixMillis,
    /// The requests; at least one.
    pub samples: Vec<RequestSample>,
}

pub(super) const FORGOTTEN: Forgotten =
    Forgotten { table: "request_samples", key: "tenant_id, service_id, hour_ms", order: "hour_ms" };

pub(super) const OF_AN_HOUR: &str =
    "SELECT service_id, record FROM request_samples WHERE tenant_id = $1 AND hour_ms = $2 AND service_id IN";

const HOURS: &str = "SELECT hour_ms, record FROM request_samples WHERE tenant_id = $1 AND service_id = $2 \
                     AND hour_ms >= $3 AND hour_ms < $4 ORDER BY hour_ms DESC LIMIT $5";

/// The statement that reads hours as one text.
pub(super) fn hours_as_lines(dialect: Dialect) -> String {
    let lines = all_lines(dialect, &[Value::Plain("hour_ms"), Value::Bytes("record")]);
    format!("SELECT {lines} FROM ({HOURS}) AS found")
}

impl Store {
    /// Sampled requests of a service, of hours that begin within a time span, newest first, at most `limit` hours.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn request_samples(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        hours: BucketSpan,
        limit: usize,
    ) -> Result<Vec<SampledHour>, Error> {
        let rows = sqlx::query(AssertSqlSafe(hours_as_lines(self.database.dialect())))
            .bind(tenant.as_str())
            .bind(service.as_str())
            .bind(hours.start_ms)
            .bind(hours.end_ms)
            .bind(stored(limit as u64))
            .fetch_all(self.database.pool())
            .await?;
        let mut found = read_lines(&rows, |line| {
            let hour_ms = line.number()?;
            Ok(SampledHour { hour_ms, samples: decode_hour(service, hour_ms, line.bytes()?)? })
        })?;
        found.sort_by_key(|hour| std::cmp::Reverse(hour.hour_ms));
        Ok(found)
    }

    /// Forgets the oldest sampled requests of all tenants, of hours that end before a time, at most so many hours of
    /// services; how many. Call again until it is 0.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn forget_request_samples(&self, before_ms: UnixMillis, rows_max: usize) -> Result<u64, Error> {
        self.forget_step(FORGOTTEN, hour_start(before_ms), rows_max).await
    }
}

impl Write {
    /// Keeps those of the least ranks of what is kept and of what came, of each service and hour.
    pub(super) async fn keep_request_samples(&mut self, samples: Vec<RequestSample>) -> Result<(), Error> {
        let mut came: BTreeMap<UnixMillis, BTreeMap<EntityId, Vec<RequestSample>>> = BTreeMap::new();
        for sample in samples {
            let of_hour = came.entry(sample.hour_ms()).or_default();
            of_hour.entry(sample.service.clone()).or_default().push(sample);
        }
        for (hour_ms, by_service) in came {
            let mut kept = self.request_samples_of(hour_ms, &by_service.keys().collect::<Vec<_>>()).await?;
            let mut changed = Vec::new();
            for (service, new) in by_service {
                let old = kept.remove(&service).unwrap_or_default();
                // What is kept comes first: a request that comes again changes nothing.
                let least =
                    least_ranks(old.iter().cloned().chain(new).collect(), self.capacity.request_samples_per_hour);
                if least != old && !least.is_empty() {
                    changed.push((service, encode_hour(hour_ms, &least)));
                }
            }
            self.put_request_samples(hour_ms, &changed).await?;
        }
        Ok(())
    }

    async fn request_samples_of(
        &mut self,
        hour_ms: UnixMillis,
        services: &[&EntityId],
    ) -> Result<BTreeMap<EntityId, Vec<RequestSample>>, Error> {
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            (OF_AN_HOUR, 2),
            services,
            |query| query.bind(tenant.clone()).bind(hour_ms),
            |query, service| query.bind(service.to_string()),
        )
        .await?;
        let read = |row| {
            let service = entity_id(&column::<String>(row, "service_id")?)?;
            let samples = decode_hour(&service, hour_ms, column(row, "record")?)?;
            Ok((service, samples))
        };
        rows.iter().map(read).collect()
    }

    async fn put_request_samples(&mut self, hour_ms: UnixMillis, hours: &[(EntityId, Vec<u8>)]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO request_samples (tenant_id, service_id, hour_ms, record)",
            4,
            "ON CONFLICT (tenant_id, service_id, hour_ms) DO UPDATE SET record = excluded.record",
        );
        insert_many(&mut self.transaction, self.dialect, statement, hours, |query, (service, record)| {
            query.bind(tenant.clone()).bind(service.to_string()).bind(hour_ms).bind(record.clone())
        })
        .await?;
        Ok(())
    }
}
