use attain_vocabulary::{EntityId, TenantId, TimeWindow, UnixMillis};

use super::experiments::{self, NewExposure};
use super::regional::{self, NewRegional};
use super::standings::{self, NewStanding};
use super::{Store, Transaction, audit, calibration, number};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::calibration::Evidence;
use crate::domain::experiments::Plan;

/// A recommendation as it was stored; never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRecommendation {
    pub(crate) id: String,
    pub(crate) service_id: String,
    /// Code of the window: days of a rolling one, minus the months of a calendar one.
    pub(crate) window_days: i64,
    pub(crate) version: u32,
    pub(crate) input_sha256: String,
    pub(crate) result_sha256: String,
    /// The encoded message.
    pub(crate) message: Vec<u8>,
}

/// The newest recommendation of a service and window, and until which changes it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Latest {
    pub(crate) recommendation: StoredRecommendation,
    /// When it was last found to hold.
    pub(crate) checked_ms: UnixMillis,
    /// What it has read, as JSON.
    pub(crate) basis: String,
    /// When the newest change of the service's own failures was found, whether or not the recommendation knows it.
    pub(crate) drift_ms: Option<UnixMillis>,
    /// The model that is live now; `None` for the compiled one.
    pub(crate) live_model: Option<String>,
    /// The newest experiment that nobody stopped; its horizon may be reached.
    pub(crate) experiment: Option<Plan>,
}

/// A recommendation to store.
#[derive(Debug)]
pub(crate) struct NewRecommendation {
    pub(crate) recommendation: StoredRecommendation,
    pub(crate) create_ms: UnixMillis,
    /// What it was computed from, compressed.
    pub(crate) inputs: Vec<u8>,
    pub(crate) basis: String,
    /// The audit record that goes with it.
    pub(crate) audit: Entry,
    /// How many versions keep their inputs.
    pub(crate) inputs_kept_max: u32,
    /// What its state begins with.
    pub(crate) standing: NewStanding,
    /// What it adds to the record of its class.
    pub(crate) evidence: Evidence,
    /// What was decided of single regions.
    pub(crate) regional: Vec<NewRegional>,
    /// The arm of an experiment that it was made in.
    pub(crate) exposure: Option<NewExposure>,
}

/// What became of a recommendation to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is stored.
    Stored,
    /// Somebody else stored this version first.
    Overtaken,
}

type Row = (String, String, i64, i64, String, String, Vec<u8>);

const COLUMNS: &str = "r.id, r.service_id, r.window_days, r.version, r.input_sha256, r.result_sha256, r.message";

impl Store {
    /// Reads one recommendation.
    pub(crate) async fn recommendation(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Option<StoredRecommendation>, Error> {
        let statement = format!("SELECT {COLUMNS} FROM recommendations r WHERE r.tenant_id = $1 AND r.id = $2");
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(self.database.pool())
            .await?;
        row.map(stored).transpose()
    }

    /// Reads one version of a service's recommendations for a window.
    pub(crate) async fn recommendation_version(
        &self,
        tenant: &TenantId,
        service_id: &str,
        window_days: i64,
        version: u32,
    ) -> Result<Option<StoredRecommendation>, Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM recommendations r \
             WHERE r.tenant_id = $1 AND r.service_id = $2 AND r.window_days = $3 AND r.version = $4"
        );
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(service_id)
            .bind(window_days)
            .bind(i64::from(version))
            .fetch_optional(self.database.pool())
            .await?;
        row.map(stored).transpose()
    }

    /// Reads the newest recommendation of a service and window.
    pub(crate) async fn latest(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        window: TimeWindow,
    ) -> Result<Option<Latest>, Error> {
        type LatestRow = (String, String, i64, i64, String, String, Vec<u8>, i64, String, i64, String, String);
        let statement = format!(
            "SELECT {COLUMNS}, f.checked_ms, f.basis, COALESCE(d.noted_ms, 0), \
             COALESCE((SELECT m.version FROM model_lives m WHERE m.tenant_id = f.tenant_id ORDER BY m.sequence DESC LIMIT 1), ''), \
             COALESCE((SELECT x.content FROM experiments x WHERE x.tenant_id = f.tenant_id AND x.stop_ms = 0 \
             ORDER BY x.sequence DESC LIMIT 1), '') \
             FROM freshness f \
             JOIN recommendations r ON r.tenant_id = f.tenant_id AND r.id = f.recommendation_id \
             LEFT JOIN drift d ON d.tenant_id = f.tenant_id AND d.service_id = f.service_id \
             WHERE f.tenant_id = $1 AND f.service_id = $2 AND f.window_days = $3"
        );
        let row: Option<LatestRow> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(service.as_str())
            .bind(window.code())
            .fetch_optional(self.database.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (id, service_id, window_days, version, input, result, message, checked_ms, basis, noted_ms, live, plan) =
            row;
        let recommendation = stored((id, service_id, window_days, version, input, result, message))?;
        let experiment = (!plan.is_empty()).then(|| experiments::plan(&plan)).transpose()?;
        let drift_ms = Some(noted_ms).filter(|ms| *ms > 0);
        let live_model = Some(live).filter(|version| !version.is_empty());
        Ok(Some(Latest { recommendation, checked_ms, basis, drift_ms, live_model, experiment }))
    }

    /// Notes that a recommendation was found to hold, and can be accepted until `expire_ms`.
    pub(crate) async fn confirm(
        &self,
        tenant: &TenantId,
        held: &StoredRecommendation,
        now_ms: UnixMillis,
        basis: &str,
        expire_ms: UnixMillis,
    ) -> Result<(), Error> {
        // The name keeps an overtaken confirmation from undoing a newer recommendation.
        sqlx::query(
            "UPDATE freshness SET checked_ms = $5, basis = $6 \
             WHERE tenant_id = $1 AND service_id = $2 AND window_days = $3 AND recommendation_id = $4",
        )
        .bind(tenant.as_str())
        .bind(&held.service_id)
        .bind(held.window_days)
        .bind(&held.id)
        .bind(now_ms)
        .bind(basis)
        .execute(self.database.pool())
        .await?;
        self.extend(tenant, &held.id, expire_ms).await
    }

    /// Stores a recommendation, its inputs, its basis and its audit record, or nothing of it.
    pub(crate) async fn insert(&self, tenant: &TenantId, new: NewRecommendation) -> Result<Inserted, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let recommendation = &new.recommendation;
        let (newest,): (i64,) = sqlx::query_as(
            "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM recommendations \
             WHERE tenant_id = $1 AND service_id = $2 AND window_days = $3",
        )
        .bind(tenant.as_str())
        .bind(&recommendation.service_id)
        .bind(recommendation.window_days)
        .fetch_one(&mut *transaction)
        .await?;
        if newest + 1 != i64::from(recommendation.version) {
            transaction.rollback().await?;
            return Ok(Inserted::Overtaken);
        }
        insert_recommendation(&mut transaction, tenant, &new).await?;
        regional::insert(&mut transaction, tenant, &recommendation.id, &new.regional).await?;
        insert_inputs(&mut transaction, tenant, &new).await?;
        upsert_freshness(&mut transaction, tenant, &new).await?;
        standings::insert(&mut transaction, tenant, head.sequence, &new).await?;
        let (service, id) = (&recommendation.service_id, &recommendation.id);
        calibration::record(&mut transaction, tenant, service, id, new.create_ms, &new.evidence).await?;
        if let Some(exposure) = &new.exposure {
            experiments::expose(&mut transaction, tenant, (service, id), new.create_ms, exposure).await?;
        }
        audit::append(&mut transaction, tenant, head, new.audit).await?;
        transaction.commit().await?;
        Ok(Inserted::Stored)
    }

    /// Reads the compressed inputs of a recommendation; `None` where they were given up.
    pub(crate) async fn inputs(&self, tenant: &TenantId, recommendation_id: &str) -> Result<Option<Vec<u8>>, Error> {
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("SELECT content FROM inputs WHERE tenant_id = $1 AND recommendation_id = $2")
                .bind(tenant.as_str())
                .bind(recommendation_id)
                .fetch_optional(self.database.pool())
                .await?;
        Ok(row.map(|(content,)| content))
    }
}

async fn insert_recommendation(
    transaction: &mut Transaction,
    tenant: &TenantId,
    new: &NewRecommendation,
) -> Result<(), Error> {
    let recommendation = &new.recommendation;
    sqlx::query(
        "INSERT INTO recommendations \
         (tenant_id, id, service_id, window_days, version, create_ms, input_sha256, result_sha256, message) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(tenant.as_str())
    .bind(&recommendation.id)
    .bind(&recommendation.service_id)
    .bind(recommendation.window_days)
    .bind(i64::from(recommendation.version))
    .bind(new.create_ms)
    .bind(&recommendation.input_sha256)
    .bind(&recommendation.result_sha256)
    .bind(&recommendation.message)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Keeps the inputs and gives up those of old versions that nobody decided upon, or proposed to.
async fn insert_inputs(transaction: &mut Transaction, tenant: &TenantId, new: &NewRecommendation) -> Result<(), Error> {
    let recommendation = &new.recommendation;
    sqlx::query(
        "INSERT INTO inputs (tenant_id, recommendation_id, service_id, window_days, version, content) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant.as_str())
    .bind(&recommendation.id)
    .bind(&recommendation.service_id)
    .bind(recommendation.window_days)
    .bind(i64::from(recommendation.version))
    .bind(&new.inputs)
    .execute(&mut **transaction)
    .await?;
    sqlx::query(
        "DELETE FROM inputs WHERE tenant_id = $1 AND service_id = $2 AND window_days = $3 AND version <= $4 \
         AND recommendation_id NOT IN (SELECT recommendation_id FROM decisions WHERE tenant_id = $1) \
         AND recommendation_id NOT IN (SELECT recommendation_id FROM pending_decisions WHERE tenant_id = $1)",
    )
    .bind(tenant.as_str())
    .bind(&recommendation.service_id)
    .bind(recommendation.window_days)
    .bind(i64::from(recommendation.version) - i64::from(new.inputs_kept_max))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn upsert_freshness(
    transaction: &mut Transaction,
    tenant: &TenantId,
    new: &NewRecommendation,
) -> Result<(), Error> {
    let recommendation = &new.recommendation;
    sqlx::query(
        "INSERT INTO freshness (tenant_id, service_id, window_days, recommendation_id, checked_ms, basis) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (tenant_id, service_id, window_days) DO UPDATE SET \
         recommendation_id = excluded.recommendation_id, checked_ms = excluded.checked_ms, basis = excluded.basis",
    )
    .bind(tenant.as_str())
    .bind(&recommendation.service_id)
    .bind(recommendation.window_days)
    .bind(&recommendation.id)
    .bind(new.create_ms)
    .bind(&new.basis)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn stored(row: Row) -> Result<StoredRecommendation, Error> {
    let (id, service_id, window_days, version, input_sha256, result_sha256, message) = row;
    Ok(StoredRecommendation {
        id,
        service_id,
        window_days,
        version: number("version", version)?,
        input_sha256,
        result_sha256,
        message,
    })
}
