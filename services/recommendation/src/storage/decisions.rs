use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, Objective, SliKind, TenantId, TimeWindow, UnixMillis};

use super::audit::Head;
use super::standings::{ServiceFacts, tier_number, upsert_facts};
use super::{Store, Transaction, audit, number, registry, standings, word};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::contradiction::Contradiction;
use crate::domain::slo::{
    Action, Decision, Slo, Verdict, ambition_from_word, ambition_word, kind_from_word, kind_word,
};

const DAY_MS: UnixMillis = 86_400_000;

/// What a decision did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decided {
    /// In force now.
    pub(crate) slo: Option<Slo>,
    pub(crate) decision: Decision,
}

/// What a decision brings with it beside what was decided.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Terms {
    /// When the SLO is to be reviewed, and from when on a renewal is to be offered; for one that follows a recommendation.
    pub(crate) review: Option<Review>,
    /// What the service is today, where that is known.
    pub(crate) facts: Option<ServiceFacts>,
    /// Who approved, by which proposal and why.
    pub(crate) approval: Option<Approval>,
    /// Version of the policy that decided instead of a person; 0 otherwise.
    pub(crate) policy_version: u32,
}

/// When an SLO is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Review {
    pub(crate) review_ms: UnixMillis,
    pub(crate) renewal_ms: UnixMillis,
}

/// The second pair of eyes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Approval {
    pub(crate) pending_id: String,
    pub(crate) approved_by: String,
    pub(crate) reason: String,
}

pub(super) type SloRow = (String, String, f64, i64, i64, i64, String, i64, i64);
type DecisionRow =
    (i64, String, String, String, String, String, String, f64, i64, String, String, i64, String, i64, String);

pub(super) const SLO_COLUMNS: &str = "service_id, kind, target_ratio, latency_threshold_ms, window_days, version, recommendation_id, \
                           as_recommended, update_ms";

impl Store {
    /// Writes a decision, the SLO that it puts in force and its audit record, or nothing of it.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] where another version is in force than the decision was made on.
    pub(crate) async fn decide(&self, tenant: &TenantId, verdict: Verdict, terms: &Terms) -> Result<Decided, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let decided = enact(&mut transaction, tenant, head, &verdict, terms).await?;
        transaction.commit().await?;
        Ok(decided)
    }

    /// The same for a decision of policy's own, unless policy made `per_day_max` decisions about services of this tier within
    /// the 24 hours before: then nothing is written.
    pub(crate) async fn decide_within(
        &self,
        tenant: &TenantId,
        verdict: Verdict,
        terms: &Terms,
        per_day_max: u32,
    ) -> Result<Option<Decided>, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let (made,): (i64,) = sqlx::query_as(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM decisions d JOIN service_facts f ON f.tenant_id = d.tenant_id \
             AND f.service_id = d.service_id WHERE d.tenant_id = $1 AND d.policy_version > 0 AND d.create_ms > $2 \
             AND f.tier = $3",
        )
        .bind(tenant.as_str())
        .bind(verdict.time_ms - DAY_MS)
        .bind(terms.facts.as_ref().map_or(0, |facts| tier_number(facts.tier)))
        .fetch_one(&mut *transaction)
        .await?;
        if made >= i64::from(per_day_max) {
            transaction.rollback().await?;
            return Ok(None);
        }
        let decided = enact(&mut transaction, tenant, head, &verdict, terms).await?;
        transaction.commit().await?;
        Ok(Some(decided))
    }

    /// When policy last decided about an SLO.
    pub(crate) async fn last_automatic(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        kind: SliKind,
    ) -> Result<Option<UnixMillis>, Error> {
        let (last,): (i64,) = sqlx::query_as(
            "SELECT CAST(COALESCE(MAX(create_ms), -1) AS BIGINT) FROM decisions \
             WHERE tenant_id = $1 AND service_id = $2 AND kind = $3 AND policy_version > 0",
        )
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(kind_word(kind))
        .fetch_one(self.database.pool())
        .await?;
        Ok(Some(last).filter(|time| *time >= 0))
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
             reason, decided_by, create_ms, approved_by, policy_version, contradiction FROM decisions \
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

    /// The newest decisions of people that have a reason, at most `limit`, oldest first.
    pub(crate) async fn reasoned_decisions(&self, tenant: &TenantId, limit: u32) -> Result<Vec<Decision>, Error> {
        let rows: Vec<DecisionRow> = sqlx::query_as(
            "SELECT sequence, id, service_id, action, recommendation_id, kind, ambition, target_ratio, latency_threshold_ms, \
             reason, decided_by, create_ms, approved_by, policy_version, contradiction FROM decisions \
             WHERE tenant_id = $1 AND policy_version = 0 AND reason <> '' ORDER BY sequence DESC LIMIT $2",
        )
        .bind(tenant.as_str())
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        let newest_first: Result<Vec<(u64, Decision)>, Error> = rows.into_iter().map(read_decision).collect();
        Ok(newest_first?.into_iter().rev().map(|(_, decision)| decision).collect())
    }

    /// Every tenant that decided something, with the position of its newest decision.
    pub(crate) async fn newest_decisions(&self) -> Result<Vec<(TenantId, u64)>, Error> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT tenant_id, MAX(sequence) FROM decisions GROUP BY tenant_id ORDER BY tenant_id")
                .fetch_all(self.database.pool())
                .await?;
        let read = |(tenant, sequence): (String, i64)| {
            let tenant = TenantId::new("tenant", &tenant)
                .map_err(|invalid| Error::Broken(format!("a stored tenant cannot be read: {invalid}")))?;
            Ok((tenant, number("sequence", sequence)?))
        };
        rows.into_iter().map(read).collect()
    }
}

/// Writes all that a decision changes. Where it fails the transaction is to be given up.
pub(super) async fn enact(
    transaction: &mut Transaction,
    tenant: &TenantId,
    head: Head,
    verdict: &Verdict,
    terms: &Terms,
) -> Result<Decided, Error> {
    let in_force = matched(transaction, tenant, verdict).await?;
    let found = in_force.as_ref().map_or(0, |slo| slo.version);
    let decision = decision(verdict, terms, head.sequence);
    let slo = match following(verdict, found) {
        None => in_force,
        Some(slo) => {
            upsert_slo(transaction, tenant, &slo, terms.review).await?;
            registry::insert_version(transaction, tenant, &slo, head.sequence).await?;
            Some(slo)
        }
    };
    insert_decision(transaction, tenant, head.sequence, &decision).await?;
    standings::mark_decided(transaction, tenant, &decision).await?;
    if let Some(facts) = &terms.facts {
        upsert_facts(transaction, tenant, decision.service.as_str(), facts).await?;
    }
    let entry = audit_entry(&decision, slo.as_ref(), terms);
    audit::append(transaction, tenant, head, entry).await?;
    Ok(Decided { slo, decision })
}

/// The SLO in force that a decision replaces; refused where it is not the version that was expected.
pub(super) async fn matched(
    transaction: &mut Transaction,
    tenant: &TenantId,
    verdict: &Verdict,
) -> Result<Option<Slo>, Error> {
    let in_force = slo_in_force(transaction, tenant, &verdict.service, verdict.kind).await?;
    let found = in_force.as_ref().map_or(0, |slo| slo.version);
    match verdict.version_match.filter(|expected| *expected != found) {
        Some(expected) => Err(Error::VersionMismatch { expected, found }),
        None => Ok(in_force),
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

fn decision(verdict: &Verdict, terms: &Terms, sequence: u64) -> Decision {
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
        approved_by: terms.approval.as_ref().map(|approval| approval.approved_by.clone()).unwrap_or_default(),
        policy_version: terms.policy_version,
        create_ms: verdict.time_ms,
        contradiction: verdict.contradiction.clone(),
    }
}

fn audit_entry(decision: &Decision, slo: Option<&Slo>, terms: &Terms) -> Entry {
    let mut detail = serde_json::json!({
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
    let mut caller = &decision.decided_by;
    if let Some(approval) = &terms.approval {
        // It was the approval that put it in force.
        caller = &approval.approved_by;
        detail["pending_id"] = approval.pending_id.as_str().into();
        detail["proposed_by"] = decision.decided_by.as_str().into();
        detail["approval_reason"] = approval.reason.as_str().into();
    }
    if decision.policy_version > 0 {
        detail["policy_version"] = decision.policy_version.into();
    }
    if let Some(contradiction) = &decision.contradiction {
        detail["contradiction"] = serde_json::json!(contradiction);
    }
    Entry {
        time_ms: decision.create_ms,
        caller: caller.clone(),
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

async fn upsert_slo(
    transaction: &mut Transaction,
    tenant: &TenantId,
    slo: &Slo,
    review: Option<Review>,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO slos (tenant_id, service_id, kind, target_ratio, latency_threshold_ms, window_days, version, \
         recommendation_id, as_recommended, update_ms, review_ms, renewal_ms, renewal_offered) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0) \
         ON CONFLICT (tenant_id, service_id, kind) DO UPDATE SET target_ratio = excluded.target_ratio, \
         latency_threshold_ms = excluded.latency_threshold_ms, window_days = excluded.window_days, \
         version = excluded.version, recommendation_id = excluded.recommendation_id, \
         as_recommended = excluded.as_recommended, update_ms = excluded.update_ms, review_ms = excluded.review_ms, \
         renewal_ms = excluded.renewal_ms, renewal_offered = 0",
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
    .bind(review.map_or(0, |review| review.review_ms))
    .bind(review.map_or(0, |review| review.renewal_ms))
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
         latency_threshold_ms, reason, decided_by, create_ms, approved_by, policy_version, contradiction) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
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
    .bind(&decision.approved_by)
    .bind(i64::from(decision.policy_version))
    .bind(contradiction_text(decision.contradiction.as_ref())?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) fn slo(row: SloRow) -> Result<Slo, Error> {
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
        approved_by,
        policy_version,
        contradiction,
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
        approved_by,
        policy_version: number("policy_version", policy_version)?,
        create_ms,
        contradiction: read_contradiction(&contradiction)?,
    };
    Ok((number("sequence", sequence)?, decision))
}

fn contradiction_text(contradiction: Option<&Contradiction>) -> Result<String, Error> {
    contradiction.map_or(Ok(String::new()), |contradiction| {
        serde_json::to_string(contradiction)
            .map_err(|error| Error::Broken(format!("a contradiction cannot be written: {error}")))
    })
}

/// What a decision contradicts, as it was stored; empty for nothing.
pub(super) fn read_contradiction(stored: &str) -> Result<Option<Contradiction>, Error> {
    if stored.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(stored)
        .map(Some)
        .map_err(|error| Error::Broken(format!("a stored contradiction cannot be read: {error}")))
}

pub(super) fn threshold(stored_ms: i64) -> Result<Option<u32>, Error> {
    let threshold: u32 = number("latency_threshold_ms", stored_ms)?;
    Ok(Some(threshold).filter(|threshold| *threshold > 0))
}
