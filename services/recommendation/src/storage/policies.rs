use attain_vocabulary::{TenantId, UnixMillis};

use super::{Store, audit, number};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::policy::{Policy, VersionedPolicy};

type Row = (i64, String, String, String, i64);

const COLUMNS: &str = "version, content_json, reason, set_by, set_ms";

impl Store {
    /// The policy that holds: the newest that was set, or the defaults.
    pub(crate) async fn policy(&self, tenant: &TenantId) -> Result<VersionedPolicy, Error> {
        let newest = self.policies(tenant, u64::MAX, 1).await?;
        Ok(newest.into_iter().next().unwrap_or_default())
    }

    /// At most `limit` policies before a version, newest first.
    pub(crate) async fn policies(
        &self,
        tenant: &TenantId,
        before_version: u64,
        limit: u32,
    ) -> Result<Vec<VersionedPolicy>, Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM policies WHERE tenant_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(i64::try_from(before_version).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(policy).collect()
    }

    /// Sets the policy that `change` makes of the one that holds, with its audit record.
    ///
    /// # Errors
    /// [`Error::PolicyMismatch`] where another version holds than `version_match`.
    pub(crate) async fn set_policy(
        &self,
        tenant: &TenantId,
        version_match: Option<u32>,
        set: (String, String, UnixMillis),
        change: impl FnOnce(Policy) -> Policy + Send,
    ) -> Result<VersionedPolicy, Error> {
        let (reason, set_by, set_ms) = set;
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let statement = format!("SELECT {COLUMNS} FROM policies WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1");
        let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let before = row.map(policy).transpose()?.unwrap_or_default();
        if let Some(expected) = version_match.filter(|expected| *expected != before.version) {
            transaction.rollback().await?;
            return Err(Error::PolicyMismatch { expected, found: before.version });
        }
        let new =
            VersionedPolicy { version: before.version + 1, policy: change(before.policy), reason, set_by, set_ms };
        let content = serde_json::to_string(&new.policy)
            .map_err(|error| Error::Broken(format!("a policy cannot be written: {error}")))?;
        sqlx::query(
            "INSERT INTO policies (tenant_id, version, content_json, reason, set_by, set_ms) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant.as_str())
        .bind(i64::from(new.version))
        .bind(&content)
        .bind(&new.reason)
        .bind(&new.set_by)
        .bind(new.set_ms)
        .execute(&mut *transaction)
        .await?;
        let detail = serde_json::json!({"version": new.version, "policy": new.policy, "reason": new.reason});
        let entry = Entry {
            time_ms: set_ms,
            caller: new.set_by.clone(),
            action: "policy.set".to_owned(),
            service_id: String::new(),
            detail_json: detail.to_string(),
        };
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(new)
    }
}

fn policy(row: Row) -> Result<VersionedPolicy, Error> {
    let (version, content_json, reason, set_by, set_ms) = row;
    let policy = serde_json::from_str(&content_json)
        .map_err(|error| Error::Broken(format!("the stored policy {version} cannot be read: {error}")))?;
    Ok(VersionedPolicy { version: number("version", version)?, policy, reason, set_by, set_ms })
}
