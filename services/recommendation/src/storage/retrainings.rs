use attain_vocabulary::{TenantId, UnixMillis};

use super::Store;
use crate::Error;

impl Store {
    /// The tenant whose model is to be fitted anew: `interval_ms` after the last time, or `after_drift_ms` where a service drifted since. Of
    /// several who ask at a time one gets it. Tenants that are new are asked for an interval from now on.
    pub(crate) async fn retraining_turn(
        &self,
        now_ms: UnixMillis,
        interval_ms: i64,
        after_drift_ms: i64,
    ) -> Result<Option<TenantId>, Error> {
        self.note_new_tenants(now_ms).await?;
        let due: Option<(String, i64)> = sqlx::query_as(
            "SELECT r.tenant_id, r.fit_ms FROM retrainings r WHERE r.fit_ms <= $1 OR (r.fit_ms <= $2 AND EXISTS (\
             SELECT 1 FROM drift d WHERE d.tenant_id = r.tenant_id AND d.noted_ms > r.fit_ms)) \
             ORDER BY r.fit_ms, r.tenant_id LIMIT 1",
        )
        .bind(now_ms.saturating_sub(interval_ms))
        .bind(now_ms.saturating_sub(after_drift_ms))
        .fetch_optional(self.database.pool())
        .await?;
        let Some((tenant, fit_ms)) = due else { return Ok(None) };
        let taken = sqlx::query("UPDATE retrainings SET fit_ms = $3 WHERE tenant_id = $1 AND fit_ms = $2")
            .bind(&tenant)
            .bind(fit_ms)
            .bind(now_ms)
            .execute(self.database.pool())
            .await?;
        if taken.rows_affected() == 0 {
            return Ok(None);
        }
        let tenant = TenantId::new("tenant_id", &tenant);
        tenant.map(Some).map_err(|invalid| Error::Broken(format!("a stored name cannot be read: {invalid}")))
    }

    async fn note_new_tenants(&self, now_ms: UnixMillis) -> Result<(), Error> {
        let new: Vec<(String,)> = sqlx::query_as(
            "SELECT DISTINCT f.tenant_id FROM freshness f \
             WHERE NOT EXISTS (SELECT 1 FROM retrainings r WHERE r.tenant_id = f.tenant_id)",
        )
        .fetch_all(self.database.pool())
        .await?;
        for (tenant,) in new {
            sqlx::query(
                "INSERT INTO retrainings (tenant_id, fit_ms, outcome) VALUES ($1, $2, '') \
                 ON CONFLICT (tenant_id) DO NOTHING",
            )
            .bind(tenant)
            .bind(now_ms)
            .execute(self.database.pool())
            .await?;
        }
        Ok(())
    }

    /// Notes what came of a tenant's last fit.
    pub(crate) async fn note_retraining(&self, tenant: &TenantId, outcome: &str) -> Result<(), Error> {
        sqlx::query("UPDATE retrainings SET outcome = $2 WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .bind(outcome)
            .execute(self.database.pool())
            .await?;
        Ok(())
    }

    /// When a tenant's model was fitted anew last, and what came of it; `None` where it never was.
    pub(crate) async fn retraining(&self, tenant: &TenantId) -> Result<Option<(UnixMillis, String)>, Error> {
        let row: Option<(i64, String)> =
            sqlx::query_as("SELECT fit_ms, outcome FROM retrainings WHERE tenant_id = $1 AND outcome <> ''")
                .bind(tenant.as_str())
                .fetch_optional(self.database.pool())
                .await?;
        Ok(row)
    }
}
