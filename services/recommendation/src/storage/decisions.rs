use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, Objective, SliKind, TenantId, TimeWindow};

use super::{Store, Transaction, audit, number, word};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::slo::{
    Action, Decision, Slo, Verdict, ambition_from_word, ambition_word, kind_from_word, kind_word,
};

/// What a decision did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decided {
    /// In force now.
    pub(crate) slo: Option<Slo>,
    pub(crate) decision: Decision,
}

type SloRow = (String, String, f64, i64, i64, i64, String, i64, i64);
type DecisionRow = (i64, String, String, String, String, String, String, f64, i64, String, String, i64);

const SLO_COLUMNS: &str = "service_id, kind, target_ratio, latency_threshold_ms, window_days, version, recommendation_id, \
                           as_recommended, update_ms";

impl Store {
    /// Writes a decision, the SLO that it puts in force and its audit record, or nothing of it.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] where another version is in force than the decision was made on.
    pub(crate) async fn decide(&self, tenant: &TenantId, verdict: Verdict) -> Result<Decided, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let in_force = slo_in_force(&mut transaction, tenant, &verdict.service, verdict.kind).await?;
        let found = in_force.as_ref().map_or(0, |slo| slo.version);
        if let Some(expected) = verdict.version_match.filter(|expected| *expected != found) {
            transaction.rollback().await?;
            return Err(Error::VersionMismatch { expected, found });
        }
        let slo = match following(&verdict, found) {
            None => in_force,
            Some(slo) => {
                upsert_slo(&mut transaction, tenant, &slo).await?;
                Some(slo)
            }
        };
        let decision = decision(&verdict, head.sequence);
        insert_decision(&mut transaction, tenant, head.sequence, &decision).await?;
        let entry = audit_entry(&decision, slo.as_ref());
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(Decided { slo, decision })
    }

    /// The SLOs in force of a service, availability first.
    pub(crate) async fn slos(&self, tenant: &TenantId, service: &EntityId) -> Result<Vec<Slo>, Error> {
        let statement =
            format!("SELECT {SLO_COLUMNS} FROM slos WHERE tenant_id = $1 AND service_id = $2 ORDER BY kind");
        let rows: Vec<SloRow> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(service.as_str())
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(slo).collect()
    }

    /// Every SLO in force of the tenant for one SLI, by service.
    pub(crate) async fn slos_of_kind(
        &self,
        tenant: &TenantId,
        kind: SliKind,
    ) -> Result<BTreeMap<EntityId, Slo>, Error> {
        let statement = format!("SELECT {SLO_COLUMNS} FROM slos WHERE tenant_id = $1 AND kind = $2");
        let rows: Vec<SloRow> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(kind_word(kind))
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(|row| slo(row).map(|slo| (slo.service.clone(), slo))).collect()
    }

    /// At most `limit` decisions before a position, newest first, each with its position.
    pub(crate) async fn decisions(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        before_sequence: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Decision)>, Error> {
        let rows: Vec<DecisionRow> = sqlx::query_as(
            "SELECT sequence, id, service_id, action, recommendation_id, kind, ambition, target_ratio, latency_threshold_ms, \
             reason, decided_by, create_ms FROM decisions \
             WHERE tenant_id = $1 AND service_id = $2 AND sequence < $3 ORDER BY sequence DESC LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(i64::try_from(before_sequence).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        rows.into_iter().map(read_decision).collect()
    }
}

/// The SLO that a decision puts in force; `None` where it leaves everything as it is.
fn following(verdict: &Verdict, version_in_force: u32) -> Option<Slo> {
    let new = verdict.target?;
    Some(Slo {
        service: verdict.service.clone(),
        kind: verdict.kind,
        target: new.target,
        latency_threshold_ms: new.latency_threshold_ms,
        window: new.window,
        version: version_in_force + 1,
        recommendation_id: verdict.recommendation_id.clone(),
        as_recommended: new.as_recommended,
        update_ms: verdict.time_ms,
    })
}

fn decision(verdict: &Verdict, sequence: u64) -> Decision {
    Decision {
        id: format!("decision-{sequence}"),
        action: verdict.action,
        service: verdict.service.clone(),
        recommendation_id: verdict.recommendation_id.clone(),
        kind: verdict.kind,
        ambition: verdict.ambition,
        target_ratio: verdict.target.map(|new| new.target.target_ratio()),
        latency_threshold_ms: verdict.target.and_then(|new| new.latency_threshold_ms),
        reason: verdict.reason.clone(),
        decided_by: verdict.decided_by.clone(),
        create_ms: verdict.time_ms,
    }
}

fn audit_entry(decision: &Decision, slo: Option<&Slo>) -> Entry {
    let detail = serde_json::json!({
        "decision_id": decision.id,
        "recommendation_id": decision.recommendation_id,
        "kind": kind_word(decision.kind),
        "ambition": decision.ambition.map(ambition_word),
        "target_ratio": decision.target_ratio,
        "latency_threshold_ms": decision.latency_threshold_ms,
        "reason": decision.reason,
        "slo_version": slo.map(|slo| slo.version),
        "window": slo.map(|slo| slo.window.to_string()),
    });
    Entry {
        time_ms: decision.create_ms,
        caller: decision.decided_by.clone(),
        action: decision.action.audit_action().to_owned(),
        service_id: decision.service.to_string(),
        detail_json: detail.to_string(),
    }
}

async fn slo_in_force(
    transaction: &mut Transaction,
    tenant: &TenantId,
    service: &EntityId,
    kind: SliKind,
) -> Result<Option<Slo>, Error> {
    let statement = format!("SELECT {SLO_COLUMNS} FROM slos WHERE tenant_id = $1 AND service_id = $2 AND kind = $3");
    let row: Option<SloRow> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(kind_word(kind))
        .fetch_optional(&mut **transaction)
        .await?;
    row.map(slo).transpose()
}

async fn upsert_slo(transaction: &mut Transaction, tenant: &TenantId, slo: &Slo) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO slos (tenant_id, service_id, kind, target_ratio, latency_threshold_ms, window_days, version, \
         recommendation_id, as_recommended, update_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (tenant_id, service_id, kind) DO UPDATE SET target_ratio = excluded.target_ratio, \
         latency_threshold_ms = excluded.latency_threshold_ms, window_days = excluded.window_days, \
         version = excluded.version, recommendation_id = excluded.recommendation_id, \
         as_recommended = excluded.as_recommended, update_ms = excluded.update_ms",
    )
    .bind(tenant.as_str())
    .bind(slo.service.as_str())
    .bind(kind_word(slo.kind))
    .bind(slo.target.target_ratio())
    .bind(i64::from(slo.latency_threshold_ms.unwrap_or(0)))
    .bind(slo.window.code())
    .bind(i64::from(slo.version))
    .bind(&slo.recommendation_id)
    .bind(i64::from(slo.as_recommended))
    .bind(slo.update_ms)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn insert_decision(
    transaction: &mut Transaction,
    tenant: &TenantId,
    sequence: u64,
    decision: &Decision,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO decisions (tenant_id, sequence, id, service_id, action, recommendation_id, kind, ambition, target_ratio, \
         latency_threshold_ms, reason, decided_by, create_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(tenant.as_str())
    .bind(sequence as i64)
    .bind(&decision.id)
    .bind(decision.service.as_str())
    .bind(decision.action.word())
    .bind(&decision.recommendation_id)
    .bind(kind_word(decision.kind))
    .bind(decision.ambition.map_or("", ambition_word))
    .bind(decision.target_ratio.unwrap_or(0.0))
    .bind(i64::from(decision.latency_threshold_ms.unwrap_or(0)))
    .bind(&decision.reason)
    .bind(&decision.decided_by)
    .bind(decision.create_ms)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn slo(row: SloRow) -> Result<Slo, Error> {
    let (
        service_id,
        kind,
        target_ratio,
        threshold_ms,
        window_days,
        version,
        recommendation_id,
        as_recommended,
        update_ms,
    ) = row;
    let broken =
        |invalid: attain_vocabulary::InvalidValue| Error::Broken(format!("a stored SLO cannot be read: {invalid}"));
    Ok(Slo {
        service: EntityId::new("service_id", &service_id).map_err(broken)?,
        kind: word("kind", &kind, kind_from_word)?,
        target: Objective::new("target_ratio", target_ratio).map_err(broken)?,
        latency_threshold_ms: threshold(threshold_ms)?,
        window: TimeWindow::from_code("window_days", window_days).map_err(broken)?,
        version: number("version", version)?,
        recommendation_id,
        as_recommended: as_recommended != 0,
        update_ms,
    })
}

fn read_decision(row: DecisionRow) -> Result<(u64, Decision), Error> {
    let (
        sequence,
        id,
        service_id,
        action,
        recommendation_id,
        kind,
        ambition,
        target_ratio,
        threshold_ms,
        reason,
        decided_by,
        create_ms,
    ) = row;
    let decision = Decision {
        id,
        action: word("action", &action, Action::from_word)?,
        service: EntityId::new("service_id", &service_id)
            .map_err(|invalid| Error::Broken(format!("a stored decision cannot be read: {invalid}")))?,
        recommendation_id,
        kind: word("kind", &kind, kind_from_word)?,
        ambition: if ambition.is_empty() { None } else { Some(word("ambition", &ambition, ambition_from_word)?) },
        target_ratio: Some(target_ratio).filter(|ratio| *ratio > 0.0),
        latency_threshold_ms: threshold(threshold_ms)?,
        reason,
        decided_by,
        create_ms,
    };
    Ok((number("sequence", sequence)?, decision))
}

fn threshold(stored_ms: i64) -> Result<Option<u32>, Error> {
    let threshold: u32 = number("latency_threshold_ms", stored_ms)?;
    Ok(Some(threshold).filter(|threshold| *threshold > 0))
}
