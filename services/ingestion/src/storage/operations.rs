use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, TenantId};
use sqlx::any::AnyRow;

use super::Store;
use super::record::{decode_histogram, encode_histogram, entity_id};
use super::rows::{column, count, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{OTHER_OPERATIONS, ObservedOperation, OperationCounts, OperationKey};

/// Which operations of a service to read: those of days in `[first_day, end_day)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaySpan {
    /// Included; days since the Unix epoch.
    pub first_day: i64,
    /// Excluded.
    pub end_day: i64,
}

/// Where a page of operations ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationPosition {
    /// Days since the Unix epoch.
    pub day: i64,
    /// Empty for what the service answered itself.
    pub callee: String,
    /// The operation.
    pub name: String,
}

impl OperationPosition {
    /// The place of an operation in the order of pages.
    #[must_use]
    pub fn of(key: &OperationKey) -> Self {
        let callee = key.callee.as_ref().map(ToString::to_string).unwrap_or_default();
        Self { day: key.day, callee, name: key.name.clone() }
    }
}

type Known = BTreeMap<OperationKey, OperationCounts>;

impl Store {
    /// Operations of one service by day, callee (its own first) and name, after a position, at most `limit`.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn operations(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        days: DaySpan,
        after: Option<&OperationPosition>,
        limit: usize,
    ) -> Result<Vec<ObservedOperation>, Error> {
        let before_all = OperationPosition { day: i64::MIN, callee: String::new(), name: String::new() };
        let after = after.unwrap_or(&before_all);
        let rows = sqlx::query(
            "SELECT service_id, day, callee_id, operation, request_count, bad_count, latency FROM operations \
             WHERE tenant_id = $1 AND service_id = $2 AND day >= $3 AND day < $4 \
             AND (day, callee_id, operation) > ($5, $6, $7) ORDER BY day, callee_id, operation LIMIT $8",
        )
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(days.first_day)
        .bind(days.end_day)
        .bind(after.day)
        .bind(after.callee.as_str())
        .bind(after.name.as_str())
        .bind(stored(limit as u64))
        .fetch_all(self.database.pool())
        .await?;
        rows.iter().map(read_operation).map(|read| read.map(|(key, seen)| ObservedOperation { key, seen })).collect()
    }

    /// Forgets operations of all tenants of days before one.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn forget_operations(&self, before_day: i64) -> Result<(), Error> {
        let _turn = self.write_turn().await;
        let mut transaction = self.database.begin_write().await?;
        sqlx::query("DELETE FROM operations WHERE day < $1").bind(before_day).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

impl Write {
    /// Adds to what is stored of operations. Those of a service and day beyond the most that are kept are counted together.
    pub(super) async fn observe_operations(&mut self, observed: Vec<ObservedOperation>) -> Result<(), Error> {
        let mut by_day: BTreeMap<i64, Vec<ObservedOperation>> = BTreeMap::new();
        observed.into_iter().for_each(|operation| by_day.entry(operation.key.day).or_default().push(operation));
        for (day, observed) in by_day {
            let services: BTreeSet<&EntityId> = observed.iter().map(|operation| &operation.key.service).collect();
            let known = self.known_operations(day, &services).await?;
            let changed = added(known, observed, self.capacity.operations_per_service_max);
            self.write_operations(&changed).await?;
        }
        Ok(())
    }

    async fn known_operations(&mut self, day: i64, services: &BTreeSet<&EntityId>) -> Result<Known, Error> {
        let services: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            (
                "SELECT service_id, day, callee_id, operation, request_count, bad_count, latency FROM operations \
                 WHERE tenant_id = $1 AND day = $2 AND service_id IN",
                2,
            ),
            &services,
            |query| query.bind(tenant.clone()).bind(day),
            |query, service| query.bind(service.to_owned()),
        )
        .await?;
        rows.iter().map(read_operation).collect()
    }

    async fn write_operations(&mut self, operations: &[(OperationKey, OperationCounts)]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO operations (tenant_id, service_id, day, callee_id, operation, request_count, bad_count, latency)",
            8,
            "ON CONFLICT (tenant_id, service_id, day, callee_id, operation) DO UPDATE SET \
             request_count = excluded.request_count, bad_count = excluded.bad_count, latency = excluded.latency",
        );
        insert_many(&mut self.transaction, self.dialect, statement, operations, |query, (key, seen)| {
            query
                .bind(tenant.clone())
                .bind(key.service.to_string())
                .bind(key.day)
                .bind(key.callee.as_ref().map(ToString::to_string).unwrap_or_default())
                .bind(key.name.clone())
                .bind(stored(seen.request_count))
                .bind(stored(seen.bad_count))
                .bind(encode_histogram(&seen.latency))
        })
        .await?;
        Ok(())
    }
}

/// What is to be stored of operations of one day after more of them were seen.
fn added(mut known: Known, observed: Vec<ObservedOperation>, max: usize) -> Vec<(OperationKey, OperationCounts)> {
    let mut kept_counts: BTreeMap<EntityId, usize> = BTreeMap::new();
    known.keys().for_each(|key| *kept_counts.entry(key.service.clone()).or_insert(0) += 1);
    let mut changed = BTreeSet::new();
    for ObservedOperation { mut key, seen } in observed {
        if !known.contains_key(&key) {
            let kept = kept_counts.entry(key.service.clone()).or_insert(0);
            if *kept >= max {
                key.name = OTHER_OPERATIONS.to_owned();
            } else {
                *kept += 1;
            }
        }
        known.entry(key.clone()).or_default().add(&seen);
        changed.insert(key);
    }
    known.retain(|key, _| changed.contains(key));
    known.into_iter().collect()
}

fn read_operation(row: &AnyRow) -> Result<(OperationKey, OperationCounts), Error> {
    let callee: String = column(row, "callee_id")?;
    let key = OperationKey {
        service: entity_id(&column::<String>(row, "service_id")?)?,
        callee: if callee.is_empty() { None } else { Some(entity_id(&callee)?) },
        name: column(row, "operation")?,
        day: column(row, "day")?,
    };
    let seen = OperationCounts {
        request_count: count(row, "request_count")?,
        bad_count: count(row, "bad_count")?,
        latency: decode_histogram(column(row, "latency")?)?,
    };
    Ok((key, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_most_that_are_kept_all_others_are_counted_together() {
        let observed = |name: &str| ObservedOperation {
            key: OperationKey {
                service: EntityId::new("id", "shop").expect("valid"),
                callee: None,
                name: name.to_owned(),
                day: 1,
            },
            seen: OperationCounts { request_count: 2, bad_count: 1, ..OperationCounts::default() },
        };
        let known: Known = [(observed("a").key, observed("a").seen)].into();
        let changed = added(known, ["b", "c", "a", "d"].map(observed).to_vec(), 2);
        let told: Vec<(&str, u64)> =
            changed.iter().map(|(key, seen)| (key.name.as_str(), seen.request_count)).collect();
        assert_eq!(told, [("a", 4), ("b", 2), ("other", 4)]);
        assert!(added(BTreeMap::new(), Vec::new(), 2).is_empty());
    }
}
