//! Which tenants there are.

use std::collections::HashSet;

use attain_vocabulary::TenantId;

use super::Store;
use super::record::tenant;
use super::rows::column;
use crate::Error;

impl Store {
    /// Every tenant that anything is kept of.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn tenants(&self) -> Result<HashSet<TenantId>, Error> {
        // Of one whose spans are not settled yet nothing else may be there.
        let rows = sqlx::query("SELECT tenant_id FROM tenants UNION SELECT tenant_id FROM span_log")
            .fetch_all(self.database.pool())
            .await?;
        rows.iter().map(|row| tenant(&column::<String>(row, "tenant_id")?)).collect()
    }

    /// Whether anything was written for a tenant.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn has_tenant(&self, tenant: &TenantId) -> Result<bool, Error> {
        let row = sqlx::query("SELECT topology_version FROM tenants WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_optional(self.database.pool())
            .await?;
        Ok(row.is_some())
    }
}
