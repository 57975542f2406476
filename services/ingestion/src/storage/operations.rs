use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, TenantId};
use sqlx::any::AnyRow;

use super::Store;
use super::forgetting::Forgotten;
use super::record::{decode_histogram, encode_histogram, entity_id};
use super::rows::{column, count, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{OTHER_CALLEES, OTHER_OPERATIONS, ObservedOperation, OperationCounts, OperationKey};

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

pub(super) const FORGOTTEN: Forgotten =
    Forgotten { table: "operations", key: "tenant_id, service_id, day, callee_id, operation", order: "day" };

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

    /// Forgets the oldest operations of all tenants of days before one, at most so many; how many. Call again until it
    /// is 0.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn forget_operations(&self, before_day: i64, rows_max: usize) -> Result<u64, Error> {
        self.forget_step(FORGOTTEN, before_day, rows_max).await
    }
}

impl Write {
    /// Adds to what is stored of operations. Those of a service and day beyond the most that are kept are counted together
    /// for each callee, and those of callees beyond as many for all of them, so that a service that calls ever new hosts
    /// has at most twice as many rows a day, and two.
    pub(super) async fn observe_operations(&mut self, observed: Vec<ObservedOperation>) -> Result<(), Error> {
        let mut by_day: BTreeMap<i64, Vec<ObservedOperation>> = BTreeMap::new();
        observed.into_iter().for_each(|operation| by_day.entry(operation.key.day).or_default().push(operation));
        for (day, observed) in by_day {
            let services: BTreeSet<&EntityId> = observed.iter().map(|operation| &operation.key.service).collect();
            let known = self.known_operations(day, &services).await?;
            let (changed, other_count) = added(known, observed, self.capacity.operations_per_service_max);
            self.store.other_operations.add(other_count);
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

/// What is to be stored of operations of one day after more of them were seen, and how many of them were counted together.
fn added(
    mut known: Known,
    observed: Vec<ObservedOperation>,
    max: usize,
) -> (Vec<(OperationKey, OperationCounts)>, usize) {
    let mut kept: BTreeMap<EntityId, Kept> = BTreeMap::new();
    known.keys().for_each(|key| kept.entry(key.service.clone()).or_default().count(key));
    let (mut changed, mut other_count) = (BTreeSet::new(), 0);
    for ObservedOperation { key, seen } in observed {
        let kept = kept.entry(key.service.clone()).or_default();
        let placed = kept.place(&key, &known, max);
        other_count += usize::from(placed != key);
        if !known.contains_key(&placed) {
            kept.count(&placed);
        }
        known.entry(placed.clone()).or_default().add(&seen);
        changed.insert(placed);
    }
    known.retain(|key, _| changed.contains(key));
    (known.into_iter().collect(), other_count)
}

/// How many rows a service has on a day.
#[derive(Debug, Default)]
struct Kept {
    named: usize,
    /// One for each callee whose operations are counted together.
    others: usize,
}

impl Kept {
    fn count(&mut self, key: &OperationKey) {
        if key.name == OTHER_OPERATIONS {
            self.others += 1;
        } else {
            self.named += 1;
        }
    }

    /// Where an operation is counted.
    fn place(&self, key: &OperationKey, known: &Known, max: usize) -> OperationKey {
        if known.contains_key(key) || (key.name != OTHER_OPERATIONS && self.named < max) {
            return key.clone();
        }
        let of_callee = OperationKey { name: OTHER_OPERATIONS.to_owned(), ..key.clone() };
        if key.callee.is_none() || known.contains_key(&of_callee) || self.others < max {
            return of_callee;
        }
        let all = EntityId::new("callee_id", OTHER_CALLEES).expect("a valid name");
        OperationKey { callee: Some(all), ..of_callee }
    }
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
        let (changed, other_count) = added(known, ["b", "c", "a", "d"].map(observed).to_vec(), 2);
        let told: Vec<(&str, u64)> =
            changed.iter().map(|(key, seen)| (key.name.as_str(), seen.request_count)).collect();
        assert_eq!(told, [("a", 4), ("b", 2), ("other", 4)]);
        assert_eq!(other_count, 2);
        assert!(added(BTreeMap::new(), Vec::new(), 2).0.is_empty());
    }
    #[test]
    fn who_calls_ever_new_hosts_has_a_bounded_number_of_rows() {
        const MAX: usize = 3;
        let call = |host: usize| ObservedOperation {
            key: OperationKey {
                service: EntityId::new("id", "webhooks").expect("valid"),
                callee: Some(EntityId::new("id", &format!("host-{host}")).expect("valid")),
                name: "POST".to_owned(),
                day: 1,
            },
            seen: OperationCounts { request_count: 1, ..OperationCounts::default() },
        };
        let mut known = Known::new();
        let mut other_count = 0;
        // As settlements do: a few at a time, each beside what is stored, hosts coming again.
        for settlement in 0..50 {
            let observed = (0..4).map(|n| call((settlement * 3 + n) % 100)).collect();
            let (changed, others) = added(known.clone(), observed, MAX);
            other_count += others;
            known.extend(changed);
        }
        assert!(known.len() <= 2 * MAX + 2, "{:?}", known.keys());
        assert_eq!(known.values().map(|seen| seen.request_count).sum::<u64>(), 200, "each call is counted once");
        let of_others = known.iter().filter(|(key, _)| key.name == OTHER_OPERATIONS);
        assert_eq!(of_others.map(|(_, seen)| seen.request_count).sum::<u64>(), other_count as u64);
        assert!(known.keys().any(|key| key.callee.as_ref().is_some_and(|id| id.as_str() == OTHER_CALLEES)));
    }
}
