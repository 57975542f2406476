use attain_vocabulary::{TenantId, UnixMillis};

use super::webhooks::{Secrets, entry, types};
use super::{Store, Transaction, audit, number, word};
use crate::Error;
use crate::domain::audit::Record;
use crate::domain::webhook::{body, event_id, is_event};

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryState {
    Waiting,
    Delivered,
    Dead,
}

impl DeliveryState {
    const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Dead];

    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// A message to an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) sequence: u64,
    pub(crate) event_type: String,
    pub(crate) service_id: String,
    pub(crate) event_ms: UnixMillis,
    pub(crate) state: DeliveryState,
    pub(crate) attempt_count: u32,
    pub(crate) next_ms: UnixMillis,
    pub(crate) last_status: u16,
    pub(crate) last_error: String,
}

/// A message whose time has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Due {
    pub(crate) tenant: TenantId,
    pub(crate) webhook_id: String,
    pub(crate) sequence: u64,
    pub(crate) url: String,
    pub(crate) secrets: Secrets,
    pub(crate) body: String,
    pub(crate) attempt: Attempt,
}

/// Which attempt a message is at: whoever holds this one may make the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) attempt_count: u32,
    /// Attempts that count towards giving up.
    pub(crate) round_count: u32,
    pub(crate) next_ms: UnixMillis,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// HTTP status; 0 where no answer came.
    pub(crate) status: u16,
    /// What went wrong; empty where nothing did.
    pub(crate) error: String,
    /// Where it stands now.
    pub(crate) state: DeliveryState,
    /// When the next attempt is due; for one that waits.
    pub(crate) next_ms: UnixMillis,
}

impl Due {
    pub(crate) fn event_id(&self) -> String {
        event_id(&self.tenant, self.sequence)
    }
}

type Row = (i64, String, String, i64, String, i64, i64, i64, String);

const COLUMNS: &str = "d.sequence, e.type, e.service_id, e.create_ms, d.state, d.attempt_count, d.next_ms, d.last_status, \
                       d.last_error";

/// Writes the messages that tell of an audit record, in the transaction of what happened.
pub(super) async fn emit(transaction: &mut Transaction, tenant: &TenantId, record: &Record) -> Result<(), Error> {
    if !is_event(&record.entry.action) {
        return Ok(());
    }
    let endpoints: Vec<(String, String)> =
        sqlx::query_as("SELECT id, event_types FROM webhooks WHERE tenant_id = $1 ORDER BY id")
            .bind(tenant.as_str())
            .fetch_all(&mut **transaction)
            .await?;
    let mut told = Vec::new();
    for (id, event_types) in endpoints {
        let wanted = types(&event_types)?;
        if wanted.is_empty() || wanted.contains(&record.entry.action) {
            told.push(id);
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO events (tenant_id, sequence, type, service_id, create_ms, body) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant.as_str())
    .bind(record.sequence as i64)
    .bind(&record.entry.action)
    .bind(&record.entry.service_id)
    .bind(record.entry.time_ms)
    .bind(body(tenant, record))
    .execute(&mut **transaction)
    .await?;
    for webhook_id in told {
        sqlx::query(
            "INSERT INTO deliveries (tenant_id, webhook_id, sequence, state, attempt_count, round_count, next_ms, \
             last_status, last_error) VALUES ($1, $2, $3, 'waiting', 0, 0, $4, 0, '')",
        )
        .bind(tenant.as_str())
        .bind(webhook_id)
        .bind(record.sequence as i64)
        .bind(record.entry.time_ms)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

impl Store {
    /// At most `limit` endpoints of all tenants that a message waits for, the longest waiting first.
    pub(crate) async fn due_endpoints(&self, now_ms: UnixMillis, limit: u32) -> Result<Vec<(TenantId, String)>, Error> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT tenant_id, webhook_id FROM deliveries WHERE state = 'waiting' AND next_ms <= $1 \
             GROUP BY tenant_id, webhook_id ORDER BY MIN(next_ms) LIMIT $2",
        )
        .bind(now_ms)
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        rows.into_iter().map(|(tenant, webhook_id)| Ok((read_tenant(&tenant)?, webhook_id))).collect()
    }

    /// The message to an endpoint whose turn it is: of those that are due the one that happened first.
    pub(crate) async fn next_due(
        &self,
        tenant: &TenantId,
        webhook_id: &str,
        now_ms: UnixMillis,
    ) -> Result<Option<Due>, Error> {
        type Row = (i64, i64, i64, i64, String, Vec<u8>, String, Vec<u8>, String, i64, String);
        let row: Option<Row> = sqlx::query_as(
            "SELECT d.sequence, d.attempt_count, d.round_count, d.next_ms, w.url, w.secret, w.secret_key_id, \
             w.previous_secret, w.previous_key_id, w.previous_expire_ms, e.body FROM deliveries d \
             JOIN webhooks w ON w.tenant_id = d.tenant_id AND w.id = d.webhook_id \
             JOIN events e ON e.tenant_id = d.tenant_id AND e.sequence = d.sequence \
             WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND d.state = 'waiting' AND d.next_ms <= $3 \
             ORDER BY d.sequence LIMIT 1",
        )
        .bind(tenant.as_str())
        .bind(webhook_id)
        .bind(now_ms)
        .fetch_optional(self.database.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (sequence, attempt_count, round_count, next_ms, url, secret, key, before, key_before, expire_ms, body) =
            row;
        Ok(Some(Due {
            tenant: tenant.clone(),
            webhook_id: webhook_id.to_owned(),
            sequence: number("sequence", sequence)?,
            url,
            secrets: Secrets::stored((secret, key), (before, key_before), expire_ms),
            body,
            attempt: Attempt {
                attempt_count: number("attempt_count", attempt_count)?,
                round_count: number("round_count", round_count)?,
                next_ms,
            },
        }))
    }

    /// Takes the next attempt of a message: until `until_ms` nobody else makes it. `None` where somebody was faster.
    pub(crate) async fn claim(&self, due: &Due, until_ms: UnixMillis) -> Result<Option<Attempt>, Error> {
        let taken = Attempt {
            attempt_count: due.attempt.attempt_count + 1,
            round_count: due.attempt.round_count + 1,
            next_ms: until_ms,
        };
        let changed = sqlx::query(
            "UPDATE deliveries SET attempt_count = $6, round_count = $7, next_ms = $8 WHERE tenant_id = $1 \
             AND webhook_id = $2 AND sequence = $3 AND state = 'waiting' AND attempt_count = $4 AND next_ms = $5",
        )
        .bind(due.tenant.as_str())
        .bind(&due.webhook_id)
        .bind(due.sequence as i64)
        .bind(i64::from(due.attempt.attempt_count))
        .bind(due.attempt.next_ms)
        .bind(i64::from(taken.attempt_count))
        .bind(i64::from(taken.round_count))
        .bind(until_ms)
        .execute(self.database.pool())
        .await?
        .rows_affected();
        Ok((changed > 0).then_some(taken))
    }

    /// Notes how the attempt that was taken went; nothing where somebody else took the message over meanwhile.
    pub(crate) async fn settle(&self, due: &Due, taken: Attempt, outcome: &Outcome) -> Result<(), Error> {
        sqlx::query(
            "UPDATE deliveries SET state = $6, next_ms = $7, last_status = $8, last_error = $9 WHERE tenant_id = $1 \
             AND webhook_id = $2 AND sequence = $3 AND attempt_count = $4 AND next_ms = $5",
        )
        .bind(due.tenant.as_str())
        .bind(&due.webhook_id)
        .bind(due.sequence as i64)
        .bind(i64::from(taken.attempt_count))
        .bind(taken.next_ms)
        .bind(outcome.state.word())
        .bind(outcome.next_ms)
        .bind(i64::from(outcome.status))
        .bind(&outcome.error)
        .execute(self.database.pool())
        .await?;
        Ok(())
    }

    /// At most `limit` messages to an endpoint before a position, newest first; in one state where it is named.
    pub(crate) async fn deliveries(
        &self,
        tenant: &TenantId,
        webhook_id: &str,
        state: Option<DeliveryState>,
        before_sequence: u64,
        limit: u32,
    ) -> Result<Vec<Delivery>, Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.tenant_id = d.tenant_id AND e.sequence = d.sequence \
             WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND ($3 = '' OR d.state = $3) AND d.sequence < $4 \
             ORDER BY d.sequence DESC LIMIT $5"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(webhook_id)
            .bind(state.map(DeliveryState::word).unwrap_or_default())
            .bind(i64::try_from(before_sequence).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(delivery).collect()
    }

    /// Lets a message wait anew, whatever became of it, with its audit record.
    ///
    /// # Errors
    /// [`Error::UnknownDelivery`].
    pub(crate) async fn redeliver(
        &self,
        tenant: &TenantId,
        webhook_id: &str,
        sequence: u64,
        (caller, now_ms): (&str, UnixMillis),
    ) -> Result<Delivery, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let changed = sqlx::query(
            "UPDATE deliveries SET state = 'waiting', round_count = 0, next_ms = $4 \
             WHERE tenant_id = $1 AND webhook_id = $2 AND sequence = $3",
        )
        .bind(tenant.as_str())
        .bind(webhook_id)
        .bind(sequence as i64)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if changed == 0 {
            transaction.rollback().await?;
            return Err(Error::UnknownDelivery(event_id(tenant, sequence)));
        }
        let detail = serde_json::json!({"webhook_id": webhook_id, "event_id": event_id(tenant, sequence)});
        audit::append(&mut transaction, tenant, head, entry("webhook.redelivered", caller, now_ms, &detail)).await?;
        transaction.commit().await?;
        let found = self.deliveries(tenant, webhook_id, None, sequence + 1, 1).await?;
        let found = found.into_iter().next().filter(|delivery| delivery.sequence == sequence);
        found.ok_or_else(|| Error::UnknownDelivery(event_id(tenant, sequence)))
    }

    /// Forgets messages of before a time that wait no longer, and events that nobody is told of any more.
    pub(crate) async fn forget_deliveries(&self, before_ms: UnixMillis) -> Result<(), Error> {
        let mut transaction = self.database.begin_write().await?;
        sqlx::query(
            "DELETE FROM deliveries WHERE state <> 'waiting' \
             AND (tenant_id, sequence) IN (SELECT tenant_id, sequence FROM events WHERE create_ms < $1)",
        )
        .bind(before_ms)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM events WHERE create_ms < $1 AND NOT EXISTS (SELECT 1 FROM deliveries d \
             WHERE d.tenant_id = events.tenant_id AND d.sequence = events.sequence)",
        )
        .bind(before_ms)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn read_tenant(stored: &str) -> Result<TenantId, Error> {
    TenantId::new("tenant", stored)
        .map_err(|invalid| Error::Broken(format!("a stored tenant cannot be read: {invalid}")))
}

fn delivery(row: Row) -> Result<Delivery, Error> {
    let (sequence, event_type, service_id, event_ms, state, attempt_count, next_ms, last_status, last_error) = row;
    Ok(Delivery {
        sequence: number("sequence", sequence)?,
        event_type,
        service_id,
        event_ms,
        state: word("state", &state, DeliveryState::from_word)?,
        attempt_count: number("attempt_count", attempt_count)?,
        next_ms,
        last_status: number("last_status", last_status)?,
        last_error,
    })
}
