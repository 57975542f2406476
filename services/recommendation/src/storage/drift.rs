use attain_drift::{Change, State};
use attain_vocabulary::{EntityId, TenantId, TimeWindow, UnixMillis};

use super::{Store, Transaction, audit};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::drift::{Watched, state_word};

/// How the own failures of a service stood when they were looked at last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredDrift {
    pub(crate) service_id: String,
    pub(crate) check_ms: UnixMillis,
    /// When the newest change was first found.
    pub(crate) noted_ms: Option<UnixMillis>,
    pub(crate) watched: Watched,
}

type Row = (String, i64, i64, String);

impl Store {
    /// Notes how a service's own failures stand. A change that was not known before gets an audit record, in the same
    /// transaction and once, whoever else notes it at the same time. Gives when the newest change was first found, and whether
    /// it is new.
    pub(crate) async fn note_drift(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        watched: &Watched,
        caller: &str,
        now_ms: UnixMillis,
    ) -> Result<(Option<UnixMillis>, bool), Error> {
        let mut transaction = self.database.begin_write().await?;
        let before = one(&mut transaction, tenant, service).await?;
        let known_ms = before.as_ref().and_then(|before| before.noted_ms);
        if is_new(watched, before.as_ref()).is_some() {
            let head = audit::lock(&mut transaction, tenant).await?;
            // Under the lock nobody else notes a change: what was read before may be old.
            let before = one(&mut transaction, tenant, service).await?;
            if let Some(change) = is_new(watched, before.as_ref()) {
                upsert(&mut transaction, tenant, service, watched, (now_ms, change.detected_ms)).await?;
                audit::append(&mut transaction, tenant, head, entry(service, change, caller, now_ms)).await?;
                let noted_ms = Some(change.detected_ms);
                transaction.commit().await?;
                return Ok((noted_ms, true));
            }
            transaction.rollback().await?;
            return Ok((before.and_then(|before| before.noted_ms), false));
        }
        upsert(&mut transaction, tenant, service, watched, (now_ms, known_ms.unwrap_or(0))).await?;
        transaction.commit().await?;
        Ok((known_ms, false))
    }

    /// At most `limit` services after a name, in the order of names; of one service, and in one state, where those are said.
    pub(crate) async fn drift(
        &self,
        tenant: &TenantId,
        service: Option<&EntityId>,
        state: Option<State>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredDrift>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT service_id, check_ms, noted_ms, content FROM drift WHERE tenant_id = $1 \
             AND ($2 = '' OR service_id = $2) AND ($3 = '' OR state = $3) AND service_id > $4 ORDER BY service_id LIMIT $5",
        )
        .bind(tenant.as_str())
        .bind(service.map_or("", EntityId::as_str))
        .bind(state.map_or("", state_word))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        rows.into_iter().map(stored).collect()
    }

    /// The windows that there are recommendations of a service for.
    pub(crate) async fn windows(&self, tenant: &TenantId, service: &EntityId) -> Result<Vec<TimeWindow>, Error> {
        let rows: Vec<(i64,)> = sqlx::query_as(
            "SELECT window_days FROM freshness WHERE tenant_id = $1 AND service_id = $2 ORDER BY window_days",
        )
        .bind(tenant.as_str())
        .bind(service.as_str())
        .fetch_all(self.database.pool())
        .await?;
        rows.into_iter().map(|(code,)| super::window(code)).collect()
    }

    /// At most `limit` services that have recommendations, of all tenants, after one of them, in order.
    pub(crate) async fn recommended(
        &self,
        (tenant, service): (&str, &str),
        limit: u32,
    ) -> Result<Vec<(TenantId, EntityId)>, Error> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT DISTINCT tenant_id, service_id FROM freshness \
             WHERE tenant_id > $1 OR (tenant_id = $1 AND service_id > $2) ORDER BY tenant_id, service_id LIMIT $3",
        )
        .bind(tenant)
        .bind(service)
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        let read = |(tenant, service): (String, String)| {
            Ok((TenantId::new("tenant_id", &tenant)?, EntityId::new("service_id", &service)?))
        };
        let read: Result<Vec<_>, attain_vocabulary::InvalidValue> = rows.into_iter().map(read).collect();
        read.map_err(|invalid| Error::Broken(format!("a stored name cannot be read: {invalid}")))
    }
}

/// The change that nobody has noted yet.
fn is_new<'a>(watched: &'a Watched, before: Option<&StoredDrift>) -> Option<&'a Change> {
    watched.new_change(before.map(|before| &before.watched), before.and_then(|before| before.noted_ms))
}

async fn one(
    transaction: &mut Transaction,
    tenant: &TenantId,
    service: &EntityId,
) -> Result<Option<StoredDrift>, Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT service_id, check_ms, noted_ms, content FROM drift WHERE tenant_id = $1 AND service_id = $2",
    )
    .bind(tenant.as_str())
    .bind(service.as_str())
    .fetch_optional(&mut **transaction)
    .await?;
    row.map(stored).transpose()
}

/// Writes the row; what was noted of a change never goes back.
async fn upsert(
    transaction: &mut Transaction,
    tenant: &TenantId,
    service: &EntityId,
    watched: &Watched,
    (check_ms, noted_ms): (UnixMillis, UnixMillis),
) -> Result<(), Error> {
    let content = serde_json::to_string(watched).map_err(|error| Error::Broken(error.to_string()))?;
    sqlx::query(
        "INSERT INTO drift (tenant_id, service_id, check_ms, state, noted_ms, content) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (tenant_id, service_id) DO UPDATE SET check_ms = excluded.check_ms, state = excluded.state, \
         noted_ms = CASE WHEN excluded.noted_ms > drift.noted_ms THEN excluded.noted_ms ELSE drift.noted_ms END, \
         content = excluded.content",
    )
    .bind(tenant.as_str())
    .bind(service.as_str())
    .bind(check_ms)
    .bind(state_word(watched.drift.state))
    .bind(noted_ms)
    .bind(content)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn entry(service: &EntityId, change: &Change, caller: &str, time_ms: UnixMillis) -> Entry {
    let detail = serde_json::json!({
        "since_ms": change.since_ms,
        "detected_ms": change.detected_ms,
        "before_failure_ratio": change.before_ratio,
        "after_failure_ratio": change.after_ratio,
        "detectors": change.signals.iter().map(|signal| signal.detector).collect::<Vec<_>>(),
    });
    Entry {
        time_ms,
        caller: caller.to_owned(),
        action: "drift.found".to_owned(),
        service_id: service.to_string(),
        detail_json: detail.to_string(),
    }
}

fn stored((service_id, check_ms, noted_ms, content): Row) -> Result<StoredDrift, Error> {
    let watched = serde_json::from_str(&content)
        .map_err(|error| Error::Broken(format!("the stored drift of {service_id} cannot be read: {error}")))?;
    Ok(StoredDrift { service_id, check_ms, noted_ms: Some(noted_ms).filter(|ms| *ms > 0), watched })
}
