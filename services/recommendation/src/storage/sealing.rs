use attain_vocabulary::TenantId;

use super::Store;
use super::webhooks::Secrets;
use crate::Error;
use crate::webhooks::vault::{Failure, Sealed, Vault};

type Row = (String, String, Vec<u8>, String, Vec<u8>, String, i64);

impl Store {
    /// Encrypts each secret with the newest key that is not yet: those that were stored before there were keys, and those of an
    /// older key. Gives how many endpoints were changed.
    ///
    /// # Errors
    /// Where there are endpoints and no keys, and where a secret opens with none of them: then nothing is changed.
    pub(crate) async fn seal_secrets(&self, vault: Option<&Vault>) -> Result<usize, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT tenant_id, id, secret, secret_key_id, previous_secret, previous_key_id, previous_expire_ms FROM webhooks \
             ORDER BY tenant_id, id",
        )
        .fetch_all(self.database.pool())
        .await?;
        let Some(vault) = vault else {
            return if rows.is_empty() { Ok(0) } else { Err(Error::Runtime(without_key(rows.len()))) };
        };
        let mut pending = Vec::new();
        for (tenant, id, secret, key_id, previous, previous_key_id, expire_ms) in rows {
            let owner = TenantId::new("tenant", &tenant)
                .map_err(|invalid| Error::Broken(format!("a stored tenant cannot be read: {invalid}")))?;
            let kept = Secrets::stored((secret, key_id), (previous, previous_key_id), expire_ms);
            let reseal = |sealed: &Sealed| {
                resealed(vault, &owner, &id, sealed)
                    .map_err(|failure| Error::Runtime(format!("webhook `{id}`: {failure}")))
            };
            let secret = reseal(&kept.secret)?;
            let previous = kept.previous.as_ref().map(reseal).transpose()?;
            if secret != kept.secret || previous != kept.previous {
                pending.push((tenant, id, kept.secret.content, secret, previous));
            }
        }
        let mut changed = 0;
        for (tenant, id, before, secret, previous) in pending {
            let previous = previous.unwrap_or(Sealed { key_id: String::new(), content: Vec::new() });
            // Another process may have rotated it meanwhile, or sealed it.
            let updated = sqlx::query(
                "UPDATE webhooks SET secret = $3, secret_key_id = $4, previous_secret = $5, previous_key_id = $6 \
                 WHERE tenant_id = $1 AND id = $2 AND secret = $7",
            )
            .bind(&tenant)
            .bind(&id)
            .bind(secret.content)
            .bind(secret.key_id)
            .bind(previous.content)
            .bind(previous.key_id)
            .bind(before)
            .execute(self.database.pool())
            .await?;
            changed += usize::from(updated.rows_affected() > 0);
        }
        if changed > 0 {
            tracing::info!(
                attain.count = changed,
                attain.key = vault.key_id(),
                "secrets of webhooks were encrypted anew"
            );
        }
        Ok(changed)
    }
}

fn without_key(count: usize) -> String {
    format!(
        "there are {count} webhooks and no key for their secrets; set recommendation.webhooks.key_file or \
         recommendation.webhooks.keys"
    )
}

/// A secret under the newest key; as it is where it is that already and opens.
fn resealed(vault: &Vault, tenant: &TenantId, id: &str, sealed: &Sealed) -> Result<Sealed, Failure> {
    if sealed.key_id.is_empty() {
        return vault.seal(tenant, id, &sealed.content);
    }
    let secret = vault.open(tenant, id, sealed)?;
    if sealed.key_id == vault.key_id() { Ok(sealed.clone()) } else { vault.seal(tenant, id, &secret) }
}
