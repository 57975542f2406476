//! A few requests of each service and hour, with the traces that show them.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, TenantId, UnixMillis};
use sqlx::any::AnyRow;

use super::forgetting::Forgotten;
use super::rows::{column, count, insert_many, select_in, stored};
use super::write::Write;
use super::{BucketSpan, Store};
use crate::Error;
use crate::domain::{Exemplar, hour_start, worst};

/// Where a list of exemplars goes on: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExemplarPosition {
    /// Its time.
    pub time_ms: UnixMillis,
    /// Its trace.
    pub trace_id: u128,
    /// Its sort.
    pub failed: bool,
}

pub(super) const FORGOTTEN: Forgotten =
    Forgotten { table: "exemplars", key: "tenant_id, service_id, hour_ms, failed, trace_id", order: "hour_ms" };

const COLUMNS: &str = "service_id, trace_id, span_id, time_ms, latency_us, failed";

impl Store {
    /// Exemplars of a service within a time span, newest first, at most `limit`, after a position.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn exemplars(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        span: BucketSpan,
        after: Option<&ExemplarPosition>,
        limit: usize,
    ) -> Result<Vec<Exemplar>, Error> {
        let first = ExemplarPosition { time_ms: i64::MAX, trace_id: 0, failed: false };
        let after = after.unwrap_or(&first);
        let rows = sqlx::query(
            "SELECT service_id, trace_id, span_id, time_ms, latency_us, failed FROM exemplars \
             WHERE tenant_id = $1 AND service_id = $2 AND hour_ms >= $3 AND time_ms >= $4 AND time_ms < $5 \
             AND (time_ms < $6 OR (time_ms = $6 AND (trace_id > $7 OR (trace_id = $7 AND failed > $8)))) \
             ORDER BY time_ms DESC, trace_id, failed LIMIT $9",
        )
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(hour_start(span.start_ms.max(i64::MIN / 2)))
        .bind(span.start_ms)
        .bind(span.end_ms)
        .bind(after.time_ms)
        .bind(trace_hex(after.trace_id))
        .bind(i64::from(after.failed))
        .bind(stored(limit as u64))
        .fetch_all(self.database.pool())
        .await?;
        rows.iter().map(exemplar).collect()
    }

    /// Forgets the oldest exemplars of all tenants from before a time, at most so many; how many. Call again until it is 0.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn forget_exemplars(&self, before_ms: UnixMillis, rows_max: usize) -> Result<u64, Error> {
        self.forget_step(FORGOTTEN, hour_start(before_ms), rows_max).await
    }
}

impl Write {
    /// Keeps the worst of what is kept and of what came, of each service and hour.
    pub(super) async fn keep_exemplars(&mut self, exemplars: Vec<Exemplar>) -> Result<(), Error> {
        let mut came: BTreeMap<UnixMillis, BTreeMap<EntityId, Vec<Exemplar>>> = BTreeMap::new();
        for exemplar in exemplars {
            let of_hour = came.entry(hour_start(exemplar.time_ms)).or_default();
            of_hour.entry(exemplar.service.clone()).or_default().push(exemplar);
        }
        for (hour_ms, by_service) in came {
            let mut kept = self.exemplars_of(hour_ms, &by_service.keys().collect::<Vec<_>>()).await?;
            let (mut added, mut dropped) = (Vec::new(), Vec::new());
            for (service, new) in by_service {
                let old = kept.remove(&service).unwrap_or_default();
                let worst = worst(old.iter().cloned().chain(new).collect());
                dropped.extend(old.iter().filter(|old| !worst.iter().any(|kept| key(kept) == key(old))).cloned());
                added.extend(worst.into_iter().filter(|kept| !old.contains(kept)));
            }
            self.replace_exemplars(hour_ms, &added, &dropped).await?;
        }
        Ok(())
    }

    async fn exemplars_of(
        &mut self,
        hour_ms: UnixMillis,
        services: &[&EntityId],
    ) -> Result<BTreeMap<EntityId, Vec<Exemplar>>, Error> {
        let tenant = self.tenant.clone();
        let head = format!("SELECT {COLUMNS} FROM exemplars WHERE tenant_id = $1 AND hour_ms = $2 AND service_id IN");
        let rows = select_in(
            &mut self.transaction,
            (&head, 2),
            services,
            |query| query.bind(tenant.clone()).bind(hour_ms),
            |query, service| query.bind(service.to_string()),
        )
        .await?;
        let mut found: BTreeMap<EntityId, Vec<Exemplar>> = BTreeMap::new();
        for row in &rows {
            let exemplar = exemplar(row)?;
            found.entry(exemplar.service.clone()).or_default().push(exemplar);
        }
        Ok(found)
    }

    async fn replace_exemplars(
        &mut self,
        hour_ms: UnixMillis,
        added: &[Exemplar],
        dropped: &[Exemplar],
    ) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO exemplars (tenant_id, service_id, hour_ms, failed, trace_id, span_id, time_ms, latency_us)",
            8,
            "ON CONFLICT (tenant_id, service_id, hour_ms, failed, trace_id) DO UPDATE SET \
             span_id = excluded.span_id, time_ms = excluded.time_ms, latency_us = excluded.latency_us",
        );
        insert_many(&mut self.transaction, self.dialect, statement, added, |query, exemplar| {
            query
                .bind(tenant.clone())
                .bind(exemplar.service.to_string())
                .bind(hour_ms)
                .bind(i64::from(exemplar.failed))
                .bind(trace_hex(exemplar.trace_id))
                .bind(format!("{:016x}", exemplar.span_id))
                .bind(exemplar.time_ms)
                .bind(stored(exemplar.latency_us))
        })
        .await?;
        for exemplar in dropped {
            sqlx::query(
                "DELETE FROM exemplars \
                 WHERE tenant_id = $1 AND service_id = $2 AND hour_ms = $3 AND failed = $4 AND trace_id = $5",
            )
            .bind(tenant.clone())
            .bind(exemplar.service.to_string())
            .bind(hour_ms)
            .bind(i64::from(exemplar.failed))
            .bind(trace_hex(exemplar.trace_id))
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }
}

fn key(exemplar: &Exemplar) -> (bool, u128) {
    (exemplar.failed, exemplar.trace_id)
}

/// Sorts like the number.
fn trace_hex(trace_id: u128) -> String {
    format!("{trace_id:032x}")
}

fn exemplar(row: &AnyRow) -> Result<Exemplar, Error> {
    let corrupt = |what: &str| Error::Corrupt(format!("an exemplar's {what}"));
    let text = |name| column::<String>(row, name);
    Ok(Exemplar {
        service: EntityId::new("service_id", &text("service_id")?).map_err(|_| corrupt("service_id"))?,
        trace_id: u128::from_str_radix(&text("trace_id")?, 16).map_err(|_| corrupt("trace_id"))?,
        span_id: u64::from_str_radix(&text("span_id")?, 16).map_err(|_| corrupt("span_id"))?,
        time_ms: column(row, "time_ms")?,
        latency_us: count(row, "latency_us")?,
        failed: column::<i64>(row, "failed")? != 0,
    })
}
