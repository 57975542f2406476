use attain_vocabulary::{EntityId, TenantId};

use super::{Store, number};
use crate::Error;
use crate::domain::below::DecidedBelow;

impl Store {
    /// Position of the newest decision that put an SLO of the tenant in force; 0 before the first.
    pub(crate) async fn newest_slo(&self, tenant: &TenantId) -> Result<u64, Error> {
        let (newest,): (i64,) =
            sqlx::query_as("SELECT CAST(COALESCE(MAX(sequence), 0) AS BIGINT) FROM slo_versions WHERE tenant_id = $1")
                .bind(tenant.as_str())
                .fetch_one(self.database.pool())
                .await?;
        number("sequence", newest)
    }

    /// The newest availability SLO of each service that was decided after a position and up to another, oldest first.
    pub(crate) async fn slos_decided(
        &self,
        tenant: &TenantId,
        after: u64,
        up_to: u64,
    ) -> Result<Vec<DecidedBelow>, Error> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT service_id, CAST(MAX(sequence) AS BIGINT), CAST(MAX(create_ms) AS BIGINT) FROM slo_versions \
             WHERE tenant_id = $1 AND sequence > $2 AND sequence <= $3 AND kind = 'availability' \
             GROUP BY service_id ORDER BY MAX(sequence)",
        )
        .bind(tenant.as_str())
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(i64::try_from(up_to).unwrap_or(i64::MAX))
        .fetch_all(self.database.pool())
        .await?;
        let read = |(service, sequence, time_ms): (String, i64, i64)| {
            let service = EntityId::new("service_id", &service)
                .map_err(|invalid| Error::Broken(format!("a stored SLO cannot be read: {invalid}")))?;
            Ok(DecidedBelow { service, sequence: number("sequence", sequence)?, time_ms })
        };
        rows.into_iter().map(read).collect()
    }

    /// Tenants in which SLOs were decided whose callers were not all computed anew yet, with how far they were.
    pub(crate) async fn tenants_to_follow(&self) -> Result<Vec<(TenantId, u64)>, Error> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT h.tenant_id, COALESCE(f.sequence, 0) FROM audit_heads h \
             LEFT JOIN decisions_followed f ON f.tenant_id = h.tenant_id \
             WHERE EXISTS (SELECT 1 FROM slo_versions v WHERE v.tenant_id = h.tenant_id \
                 AND v.sequence > COALESCE(f.sequence, 0)) ORDER BY h.tenant_id",
        )
        .fetch_all(self.database.pool())
        .await?;
        let read = |(tenant, sequence): (String, i64)| {
            let tenant = TenantId::new("tenant", &tenant)
                .map_err(|invalid| Error::Broken(format!("a stored tenant cannot be read: {invalid}")))?;
            Ok((tenant, number("sequence", sequence)?))
        };
        rows.into_iter().map(read).collect()
    }

    /// Notes how far the callers were computed anew; never back.
    pub(crate) async fn note_followed(&self, tenant: &TenantId, sequence: u64) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO decisions_followed (tenant_id, sequence) VALUES ($1, $2) ON CONFLICT (tenant_id) DO UPDATE SET \
             sequence = excluded.sequence WHERE decisions_followed.sequence < excluded.sequence",
        )
        .bind(tenant.as_str())
        .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
        .execute(self.database.pool())
        .await?;
        Ok(())
    }
}
