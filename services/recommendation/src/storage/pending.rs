use attain_vocabulary::{EntityId, TenantId, UnixMillis};

use super::decisions::{Approval, Decided, Terms, enact, matched};
use super::{Store, Transaction, audit, number, word};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::lifecycle::{Pending, PendingState};
use crate::domain::slo::{Verdict, ambition_word, kind_word};

/// How a pending decision is to be closed.
#[derive(Debug, Clone)]
pub(crate) struct Closing {
    pub(crate) id: String,
    pub(crate) outcome: PendingState,
    pub(crate) caller: String,
    pub(crate) reason: String,
    pub(crate) time_ms: UnixMillis,
}

/// A pending decision that was closed, and what came into force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Closed {
    pub(crate) pending: Pending,
    /// Where it was approved.
    pub(crate) decided: Option<Decided>,
}

type Row = (i64, String, String, i64, String, String, i64, String, String);

const COLUMNS: &str = "sequence, id, verdict_json, expire_ms, state, closed_by, close_ms, close_reason, decision_id";

impl Store {
    /// Keeps a decision until somebody else approves it, with its audit record.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] where another version is in force than the decision was made on.
    pub(crate) async fn propose(
        &self,
        tenant: &TenantId,
        mut verdict: Verdict,
        expire_ms: UnixMillis,
    ) -> Result<Pending, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let in_force = matched(&mut transaction, tenant, &verdict).await?;
        // What is approved is what was proposed: not on top of a version that nobody had seen.
        verdict.version_match = Some(in_force.map_or(0, |slo| slo.version));
        let pending = Pending {
            id: format!("pending-{}", head.sequence),
            sequence: head.sequence,
            verdict,
            expire_ms,
            stored: PendingState::Waiting,
            closed_by: String::new(),
            close_ms: 0,
            close_reason: String::new(),
            decision_id: String::new(),
        };
        insert(&mut transaction, tenant, &pending).await?;
        let entry = entry(&pending, "decision.proposed", pending.verdict.time_ms, &pending.verdict.decided_by);
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(pending)
    }

    /// Closes a pending decision, with its audit record; where it is approved, its target comes into force in the same
    /// transaction.
    ///
    /// # Errors
    /// Where there is none, where the caller may not, where it is closed already; and [`Error::VersionMismatch`] where another
    /// version is in force than the decision was made on. It stays as it was then.
    pub(crate) async fn close_pending(
        &self,
        tenant: &TenantId,
        closing: Closing,
        terms: Terms,
    ) -> Result<Closed, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let found = find(&mut transaction, tenant, &closing.id).await?;
        let mut pending = found.ok_or_else(|| Error::UnknownPending(closing.id.clone()))?;
        pending
            .closable(&closing.caller, closing.outcome, closing.time_ms)
            .map_err(|objection| Error::objection(&closing.id, objection))?;
        pending.stored = closing.outcome;
        pending.closed_by = closing.caller;
        pending.close_ms = closing.time_ms;
        pending.close_reason = closing.reason;
        let decided = if closing.outcome == PendingState::Approved {
            let verdict = Verdict { time_ms: closing.time_ms, ..pending.verdict.clone() };
            let approval = Approval {
                pending_id: pending.id.clone(),
                approved_by: pending.closed_by.clone(),
                reason: pending.close_reason.clone(),
            };
            let terms = Terms { approval: Some(approval), ..terms };
            let decided = enact(&mut transaction, tenant, head, &verdict, &terms).await?;
            pending.decision_id.clone_from(&decided.decision.id);
            Some(decided)
        } else {
            let action = format!("decision.{}", closing.outcome.word());
            let entry = entry(&pending, &action, pending.close_ms, &pending.closed_by);
            audit::append(&mut transaction, tenant, head, entry).await?;
            None
        };
        update(&mut transaction, tenant, &pending).await?;
        transaction.commit().await?;
        Ok(Closed { pending, decided })
    }

    /// Reads one pending decision.
    pub(crate) async fn pending(&self, tenant: &TenantId, id: &str) -> Result<Option<Pending>, Error> {
        let statement = format!("SELECT {COLUMNS} FROM pending_decisions WHERE tenant_id = $1 AND id = $2");
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(self.database.pool())
            .await?;
        row.map(pending).transpose()
    }

    /// At most `limit` pending decisions in a state and before a position, newest first.
    pub(crate) async fn pending_decisions(
        &self,
        tenant: &TenantId,
        state: PendingState,
        service: Option<&EntityId>,
        now_ms: UnixMillis,
        before_sequence: u64,
        limit: u32,
    ) -> Result<Vec<Pending>, Error> {
        let condition = match state {
            PendingState::Waiting => "state = $3 AND expire_ms > $4",
            PendingState::Expired => "(state = $3 OR (state = 'waiting' AND expire_ms <= $4))",
            PendingState::Approved | PendingState::Refused | PendingState::Withdrawn => "state = $3 AND $4 = $4",
        };
        let statement = format!(
            "SELECT {COLUMNS} FROM pending_decisions WHERE tenant_id = $1 AND ($2 = '' OR service_id = $2) \
             AND {condition} AND sequence < $5 ORDER BY sequence DESC LIMIT $6"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(service.map(EntityId::as_str).unwrap_or_default())
            .bind(state.word())
            .bind(now_ms)
            .bind(i64::try_from(before_sequence).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(pending).collect()
    }

    /// At most `limit` decisions of all tenants that nobody approved in time and of which that is not on record yet.
    pub(crate) async fn lapsed(&self, now_ms: UnixMillis, limit: u32) -> Result<Vec<(TenantId, String)>, Error> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT tenant_id, id FROM pending_decisions WHERE state = 'waiting' AND expire_ms <= $1 \
             ORDER BY expire_ms LIMIT $2",
        )
        .bind(now_ms)
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        let read = |(tenant, id): (String, String)| {
            TenantId::new("tenant", &tenant)
                .map(|tenant| (tenant, id))
                .map_err(|invalid| Error::Broken(format!("a stored tenant cannot be read: {invalid}")))
        };
        rows.into_iter().map(read).collect()
    }
}

async fn find(transaction: &mut Transaction, tenant: &TenantId, id: &str) -> Result<Option<Pending>, Error> {
    let statement = format!("SELECT {COLUMNS} FROM pending_decisions WHERE tenant_id = $1 AND id = $2");
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(id)
        .fetch_optional(&mut **transaction)
        .await?;
    row.map(pending).transpose()
}

async fn insert(transaction: &mut Transaction, tenant: &TenantId, pending: &Pending) -> Result<(), Error> {
    let verdict = serde_json::to_string(&pending.verdict)
        .map_err(|error| Error::Broken(format!("a decision cannot be written: {error}")))?;
    sqlx::query(
        "INSERT INTO pending_decisions (tenant_id, sequence, id, service_id, recommendation_id, verdict_json, \
         proposed_by, create_ms, expire_ms, state, closed_by, close_ms, close_reason, decision_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '', 0, '', '')",
    )
    .bind(tenant.as_str())
    .bind(pending.sequence as i64)
    .bind(&pending.id)
    .bind(pending.verdict.service.as_str())
    .bind(&pending.verdict.recommendation_id)
    .bind(verdict)
    .bind(&pending.verdict.decided_by)
    .bind(pending.verdict.time_ms)
    .bind(pending.expire_ms)
    .bind(pending.stored.word())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn update(transaction: &mut Transaction, tenant: &TenantId, pending: &Pending) -> Result<(), Error> {
    sqlx::query(
        "UPDATE pending_decisions SET state = $3, closed_by = $4, close_ms = $5, close_reason = $6, decision_id = $7 \
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant.as_str())
    .bind(&pending.id)
    .bind(pending.stored.word())
    .bind(&pending.closed_by)
    .bind(pending.close_ms)
    .bind(&pending.close_reason)
    .bind(&pending.decision_id)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn entry(pending: &Pending, action: &str, time_ms: UnixMillis, caller: &str) -> Entry {
    let verdict = &pending.verdict;
    let mut detail = serde_json::json!({
        "pending_id": pending.id,
        "action": verdict.action.word(),
        "recommendation_id": verdict.recommendation_id,
        "kind": kind_word(verdict.kind),
        "ambition": verdict.ambition.map(ambition_word),
        "target_ratio": verdict.target.map(|target| target.target.target_ratio()),
        "latency_threshold_ms": verdict.target.and_then(|target| target.latency_threshold_ms),
        "replaces_version": verdict.version_match,
        "proposed_by": verdict.decided_by,
        "reason": verdict.reason,
        "close_reason": pending.close_reason,
        "expire_ms": pending.expire_ms,
        "window": verdict.target.map(|target| target.window.to_string()),
    });
    if let Some(contradiction) = &verdict.contradiction {
        detail["contradiction"] = serde_json::json!(contradiction);
    }
    Entry {
        time_ms,
        caller: caller.to_owned(),
        action: action.to_owned(),
        service_id: verdict.service.to_string(),
        detail_json: detail.to_string(),
    }
}

fn pending(row: Row) -> Result<Pending, Error> {
    let (sequence, id, verdict_json, expire_ms, state, closed_by, close_ms, close_reason, decision_id) = row;
    let verdict = serde_json::from_str(&verdict_json)
        .map_err(|error| Error::Broken(format!("the stored {id} cannot be read: {error}")))?;
    Ok(Pending {
        id,
        sequence: number("sequence", sequence)?,
        verdict,
        expire_ms,
        stored: word("state", &state, PendingState::from_word)?,
        closed_by,
        close_ms,
        close_reason,
        decision_id,
    })
}
