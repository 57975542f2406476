use attain_vocabulary::{EntityId, TenantId, Tier, TimeWindow, UnixMillis};

use super::decisions::read_contradiction;
use super::recommendations::NewRecommendation;
use super::{Store, Transaction, number, window, word};
use crate::Error;
use crate::domain::lifecycle::{Standing, State};
use crate::domain::slo::{Action, Decision};

/// What the state of a new recommendation begins with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewStanding {
    pub(crate) expire_ms: UnixMillis,
    /// Number of the confidence level on the wire.
    pub(crate) confidence: i32,
    pub(crate) fallback: bool,
    pub(crate) facts: ServiceFacts,
}

/// What a service was when it was last recommended for or decided upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    pub(crate) tier: Tier,
    pub(crate) owner: String,
}

type Row = (String, i64, String, i64, i64, i64, i64, String, i64, i64, i64, i64, String);

const COLUMNS: &str = "recommendation_id, sequence, service_id, window_days, version, create_ms, expire_ms, decided, \
                       superseded, confidence, fallback, tier, \
                       COALESCE((SELECT d.contradiction FROM decisions d \
                           WHERE d.tenant_id = recommendation_states.tenant_id \
                           AND d.recommendation_id = recommendation_states.recommendation_id \
                           ORDER BY d.sequence DESC LIMIT 1), '')";

impl Store {
    /// What became of a recommendation.
    pub(crate) async fn standing(&self, tenant: &TenantId, id: &str) -> Result<Option<Standing>, Error> {
        let statement =
            format!("SELECT {COLUMNS} FROM recommendation_states WHERE tenant_id = $1 AND recommendation_id = $2");
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(self.database.pool())
            .await?;
        row.map(standing).transpose()
    }

    /// What became of the newest recommendation of a service and window.
    pub(crate) async fn newest_standing(
        &self,
        tenant: &TenantId,
        service_id: &str,
        window: TimeWindow,
    ) -> Result<Option<Standing>, Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM recommendation_states WHERE tenant_id = $1 AND service_id = $2 AND window_days = $3 \
             ORDER BY version DESC LIMIT 1"
        );
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(service_id)
            .bind(window.code())
            .fetch_optional(self.database.pool())
            .await?;
        row.map(standing).transpose()
    }

    /// At most `limit` recommendations before a position, newest first; in one state and of one service where they are named.
    pub(crate) async fn standings(
        &self,
        tenant: &TenantId,
        state: Option<State>,
        service: Option<&EntityId>,
        now_ms: UnixMillis,
        before_sequence: u64,
        limit: u32,
    ) -> Result<Vec<Standing>, Error> {
        let condition = match state {
            None => "$5 = $5",
            Some(State::Open) => "decided = '' AND superseded = 0 AND expire_ms > $5",
            Some(State::Superseded) => "decided = '' AND superseded = 1 AND expire_ms > $5",
            Some(State::Expired) => "decided = '' AND expire_ms <= $5",
            Some(State::Accepted) => "decided = 'accept' AND $5 = $5",
            Some(State::Modified) => "decided IN ('modify', 'declare') AND $5 = $5",
            Some(State::Rejected) => "decided = 'reject' AND $5 = $5",
        };
        let statement = format!(
            "SELECT {COLUMNS} FROM recommendation_states \
             WHERE tenant_id = $1 AND ($2 = '' OR service_id = $2) AND sequence < $3 AND {condition} \
             ORDER BY sequence DESC LIMIT $4"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(service.map(EntityId::as_str).unwrap_or_default())
            .bind(i64::try_from(before_sequence).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .bind(now_ms)
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(standing).collect()
    }

    /// What a service was when it was last recommended for or decided upon.
    pub(crate) async fn service_facts(
        &self,
        tenant: &TenantId,
        service: &EntityId,
    ) -> Result<Option<ServiceFacts>, Error> {
        let row: Option<(i64, String)> =
            sqlx::query_as("SELECT tier, owner FROM service_facts WHERE tenant_id = $1 AND service_id = $2")
                .bind(tenant.as_str())
                .bind(service.as_str())
                .fetch_optional(self.database.pool())
                .await?;
        let Some((number, owner)) = row else { return Ok(None) };
        Ok(tier(number)?.map(|tier| ServiceFacts { tier, owner }))
    }

    /// A recommendation that was found to hold can be accepted for longer.
    pub(super) async fn extend(&self, tenant: &TenantId, id: &str, expire_ms: UnixMillis) -> Result<(), Error> {
        sqlx::query(
            "UPDATE recommendation_states SET expire_ms = $3 \
             WHERE tenant_id = $1 AND recommendation_id = $2 AND expire_ms < $3",
        )
        .bind(tenant.as_str())
        .bind(id)
        .bind(expire_ms)
        .execute(self.database.pool())
        .await?;
        Ok(())
    }

    /// The newest recommendation of a service and window that nobody decided upon and that can be accepted.
    pub(crate) async fn open_recommendation(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        window: TimeWindow,
        now_ms: UnixMillis,
    ) -> Result<Option<String>, Error> {
        let newest = self.newest_standing(tenant, service.as_str(), window).await?;
        Ok(newest.filter(|newest| newest.state(now_ms) == State::Open).map(|newest| newest.recommendation_id))
    }
}

/// Writes the state of a new recommendation; the one before is superseded from now on.
pub(super) async fn insert(
    transaction: &mut Transaction,
    tenant: &TenantId,
    sequence: u64,
    new: &NewRecommendation,
) -> Result<(), Error> {
    let (recommendation, begin) = (&new.recommendation, &new.standing);
    sqlx::query(
        "UPDATE recommendation_states SET superseded = 1 \
         WHERE tenant_id = $1 AND service_id = $2 AND window_days = $3 AND superseded = 0",
    )
    .bind(tenant.as_str())
    .bind(&recommendation.service_id)
    .bind(recommendation.window_days)
    .execute(&mut **transaction)
    .await?;
    sqlx::query(
        "INSERT INTO recommendation_states (tenant_id, recommendation_id, sequence, service_id, window_days, version, \
         create_ms, expire_ms, decided, superseded, confidence, fallback, tier) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', 0, $9, $10, $11)",
    )
    .bind(tenant.as_str())
    .bind(&recommendation.id)
    .bind(sequence as i64)
    .bind(&recommendation.service_id)
    .bind(recommendation.window_days)
    .bind(i64::from(recommendation.version))
    .bind(new.create_ms)
    .bind(begin.expire_ms)
    .bind(i64::from(begin.confidence))
    .bind(i64::from(begin.fallback))
    .bind(tier_number(begin.facts.tier))
    .execute(&mut **transaction)
    .await?;
    upsert_facts(transaction, tenant, &recommendation.service_id, &begin.facts).await
}

/// Notes the newest decision about a recommendation.
pub(super) async fn mark_decided(
    transaction: &mut Transaction,
    tenant: &TenantId,
    decision: &Decision,
) -> Result<(), Error> {
    sqlx::query("UPDATE recommendation_states SET decided = $3 WHERE tenant_id = $1 AND recommendation_id = $2")
        .bind(tenant.as_str())
        .bind(&decision.recommendation_id)
        .bind(decision.action.word())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(super) async fn upsert_facts(
    transaction: &mut Transaction,
    tenant: &TenantId,
    service_id: &str,
    facts: &ServiceFacts,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO service_facts (tenant_id, service_id, tier, owner) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, service_id) DO UPDATE SET tier = excluded.tier, owner = excluded.owner",
    )
    .bind(tenant.as_str())
    .bind(service_id)
    .bind(tier_number(facts.tier))
    .bind(&facts.owner)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn standing(row: Row) -> Result<Standing, Error> {
    let (
        recommendation_id,
        sequence,
        service_id,
        window_days,
        version,
        create_ms,
        expire_ms,
        decided,
        superseded,
        confidence,
        fallback,
        tier_number,
        contradiction,
    ) = row;
    Ok(Standing {
        recommendation_id,
        sequence: number("sequence", sequence)?,
        service_id,
        window: window(window_days)?,
        version: number("version", version)?,
        create_ms,
        expire_ms,
        decided: if decided.is_empty() { None } else { Some(word("decided", &decided, Action::from_word)?) },
        superseded: superseded != 0,
        confidence: number("confidence", confidence)?,
        fallback: fallback != 0,
        tier: tier(tier_number)?,
        contradiction: read_contradiction(&contradiction)?,
    })
}

/// 1 for the most critical.
pub(super) fn tier_number(tier: Tier) -> i64 {
    match tier {
        Tier::One => 1,
        Tier::Two => 2,
        Tier::Three => 3,
        Tier::Four => 4,
    }
}

/// The tier behind a stored number; `None` where it was not recorded.
pub(super) fn tier(stored: i64) -> Result<Option<Tier>, Error> {
    match stored {
        0 => Ok(None),
        1 => Ok(Some(Tier::One)),
        2 => Ok(Some(Tier::Two)),
        3 => Ok(Some(Tier::Three)),
        4 => Ok(Some(Tier::Four)),
        _ => Err(Error::Broken(format!("the stored tier {stored} is not known"))),
    }
}
