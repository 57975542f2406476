use std::collections::{BTreeMap, BTreeSet};

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, TenantId};
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::Store;
use super::lines::{Line, Value, all_lines, read_lines};
use super::rows::{column, count, insert_many, select_in, stored};
use super::tails::{self, Touched};
use crate::Error;

/// As [`read_change`] reads them.
const VALUES: [Value; 4] =
    [Value::Plain("sequence"), Value::Plain("tenant_id"), Value::Plain("kind"), Value::Plain("service_id")];
/// Epochs of the numbers from $1 to $2, from the oldest on.
pub(super) const EPOCHS: &str = "SELECT first_sequence, epoch FROM change_epochs WHERE first_sequence <= $2 \
     AND first_sequence >= COALESCE((SELECT MAX(first_sequence) FROM change_epochs WHERE first_sequence <= $1), 0) \
     ORDER BY first_sequence";
pub(super) const HEADS: &str = "SELECT service_id, kind, sequence FROM changes WHERE tenant_id = $1 AND service_id IN";

/// What changed. Topology sorts first, so that of one write the newest sequence of it is known from its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Entity or outgoing dependencies.
    Topology,
    /// SLI buckets.
    Sli,
    /// Incidents.
    Incident,
    /// Utilisation.
    Utilisation,
}

/// The newest change of one kind of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Position in the order of all changes.
    pub sequence: u64,
    /// The history of the database that the position belongs to; empty where it is no longer remembered.
    pub epoch: String,
    /// Whose.
    pub tenant: TenantId,
    /// What changed.
    pub kind: ChangeKind,
    /// Of which service.
    pub service: EntityId,
}

/// Sequence numbers of the newest changes of one service; 0 for never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeHead {
    /// The service.
    pub service: EntityId,
    /// Entity or outgoing dependencies.
    pub topology_sequence: u64,
    /// SLI buckets.
    pub sli_sequence: u64,
    /// Incidents.
    pub incident_sequence: u64,
}

/// The changes after a number, the next ones first.
pub(super) fn after(dialect: Dialect) -> String {
    let next =
        "SELECT sequence, tenant_id, kind, service_id FROM changes WHERE sequence > $1 ORDER BY sequence LIMIT $2";
    format!("SELECT {} FROM ({next}) AS next", all_lines(dialect, &VALUES))
}

fn read_change(line: &mut Line<'_>) -> Result<Change, Error> {
    Ok(Change {
        sequence: line.count()?,
        epoch: String::new(),
        tenant: super::record::tenant(line.text()?)?,
        kind: ChangeKind::from_number(line.number()?)?,
        service: super::record::entity_id(line.text()?)?,
    })
}

pub(super) struct Appended {
    pub(super) newest: u64,
    pub(super) topology: Option<u64>,
}

impl ChangeKind {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Topology => 1,
            Self::Sli => 2,
            Self::Incident => 3,
            Self::Utilisation => 4,
        }
    }

    fn from_number(number: i64) -> Result<Self, Error> {
        match number {
            1 => Ok(Self::Topology),
            2 => Ok(Self::Sli),
            3 => Ok(Self::Incident),
            4 => Ok(Self::Utilisation),
            number => Err(Error::Corrupt(format!("{number} is no kind of change"))),
        }
    }
}

/// Hands out numbers and writes the changes, of which none is there twice. The counter's row stays locked until the
/// transaction ends.
pub(super) async fn append_changes(
    transaction: &mut Transaction<'static, Any>,
    dialect: Dialect,
    tenant: &str,
    changed: &[(ChangeKind, EntityId)],
    touched: &Touched,
) -> Result<Appended, Error> {
    let newest = allocate(transaction, "changes", changed.len()).await?;
    let first = newest - changed.len() as u64 + 1;
    let rows: Vec<(u64, ChangeKind, &EntityId)> =
        changed.iter().enumerate().map(|(i, (kind, service))| (first + i as u64, *kind, service)).collect();
    insert_many(transaction, dialect, tails::APPEND, &rows, |query, (sequence, kind, service)| {
        let query = query.bind(tenant.to_owned()).bind(service.as_str().to_owned()).bind(kind.number());
        let from_ms = touched.earliest_ms(*kind, service);
        let after = from_ms.map(|_| 0_i64);
        query.bind(stored(*sequence)).bind(after).bind(from_ms).bind(after).bind(from_ms)
    })
    .await?;
    let topology =
        rows.iter().filter(|(_, kind, _)| *kind == ChangeKind::Topology).map(|(sequence, ..)| *sequence).max();
    Ok(Appended { newest, topology })
}

/// The last of `amount` new numbers of a counter.
pub(super) async fn allocate(
    transaction: &mut Transaction<'static, Any>,
    counter: &'static str,
    amount: usize,
) -> Result<u64, Error> {
    let row = sqlx::query("UPDATE counters SET last = last + $1 WHERE name = $2 RETURNING last")
        .bind(stored(amount as u64))
        .bind(counter)
        .fetch_one(&mut **transaction)
        .await?;
    count(&row, "last")
}

impl Store {
    /// Changes of all tenants with a greater sequence number, in their order, at most `limit`. A change that a newer one
    /// of the same service and kind overtook is left out.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn changes_after(&self, sequence: u64, limit: usize) -> Result<Vec<Change>, Error> {
        let mut transaction = self.begin_read().await?;
        let rows = sqlx::query(AssertSqlSafe(after(self.database.dialect())))
            .bind(stored(sequence))
            .bind(stored(limit as u64))
            .fetch_all(&mut *transaction)
            .await?;
        let mut changes = read_lines(&rows, read_change)?;
        changes.sort_by_key(|change| change.sequence);
        let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return Ok(changes) };
        let epochs = sqlx::query(EPOCHS)
            .bind(stored(first.sequence))
            .bind(stored(last.sequence))
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        for row in &epochs {
            let (first, epoch) = (count(row, "first_sequence")?, column::<String>(row, "epoch")?);
            let of_epoch = changes.partition_point(|change| change.sequence < first);
            changes[of_epoch..].iter_mut().for_each(|change| change.epoch.clone_from(&epoch));
        }
        Ok(changes)
    }

    /// Sequence number of the newest change; 0 before the first.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn newest_sequence(&self) -> Result<u64, Error> {
        let row =
            sqlx::query("SELECT last FROM counters WHERE name = 'changes'").fetch_one(self.database.pool()).await?;
        count(&row, "last")
    }

    /// The newest changes of those services among `services` that are known, in lexical order.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn change_heads(
        &self,
        tenant: &TenantId,
        services: &BTreeSet<EntityId>,
    ) -> Result<Vec<ChangeHead>, Error> {
        let keys: Vec<&str> = services.iter().map(EntityId::as_str).collect();
        let mut transaction = self.begin_read().await?;
        let rows = select_in(
            &mut transaction,
            (HEADS, 1),
            &keys,
            |query| query.bind(tenant.as_str().to_owned()),
            |query, key| query.bind(key.to_owned()),
        )
        .await?;
        transaction.commit().await?;
        let mut heads: BTreeMap<String, ChangeHead> = BTreeMap::new();
        for row in &rows {
            let name: String = column(row, "service_id")?;
            let service = super::record::entity_id(&name)?;
            let empty = ChangeHead { service, topology_sequence: 0, sli_sequence: 0, incident_sequence: 0 };
            let head = heads.entry(name).or_insert(empty);
            let sequence = count(row, "sequence")?;
            match ChangeKind::from_number(column(row, "kind")?)? {
                ChangeKind::Topology => head.topology_sequence = sequence,
                ChangeKind::Incident => head.incident_sequence = sequence,
                // Both are measurements that an estimate rests on.
                ChangeKind::Sli | ChangeKind::Utilisation => head.sli_sequence = head.sli_sequence.max(sequence),
            }
        }
        // An incident may name a service of which nothing else is known; it is not a known service.
        Ok(heads.into_values().filter(|head| head.topology_sequence > 0).collect())
    }
}
