use attain_vocabulary::{TenantId, UnixMillis};

use super::{Store, audit};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::kept::sha256_hex;
use crate::webhooks::vault::{Sealed, Vault};

/// An endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Webhook {
    pub(crate) id: String,
    pub(crate) url: String,
    /// Empty for all.
    pub(crate) event_types: Vec<String>,
    pub(crate) created_by: String,
    pub(crate) create_ms: UnixMillis,
    /// Until when messages are signed with the secret before too.
    pub(crate) previous_expire_ms: Option<UnixMillis>,
}

/// An endpoint to be.
#[derive(Clone)]
pub(crate) struct NewWebhook {
    pub(crate) url: String,
    pub(crate) event_types: Vec<String>,
    pub(crate) secret: Vec<u8>,
    pub(crate) created_by: String,
    pub(crate) create_ms: UnixMillis,
}

/// What messages are signed with, encrypted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Secrets {
    pub(crate) secret: Sealed,
    /// `None` before the first rotation.
    pub(crate) previous: Option<Sealed>,
    pub(crate) previous_expire_ms: UnixMillis,
}

impl Secrets {
    /// As they are stored.
    pub(super) fn stored(
        (secret, secret_key_id): (Vec<u8>, String),
        (previous, previous_key_id): (Vec<u8>, String),
        previous_expire_ms: UnixMillis,
    ) -> Self {
        let previous = Sealed { key_id: previous_key_id, content: previous };
        Self {
            secret: Sealed { key_id: secret_key_id, content: secret },
            previous: Some(previous).filter(|previous| !previous.content.is_empty()),
            previous_expire_ms,
        }
    }

    /// Those that hold now, the newest first.
    pub(crate) fn held(&self, now_ms: UnixMillis) -> Vec<&Sealed> {
        let previous = self.previous.as_ref().filter(|_| now_ms < self.previous_expire_ms);
        std::iter::once(&self.secret).chain(previous).collect()
    }
}

type Row = (String, String, String, String, i64, i64);

const COLUMNS: &str = "id, url, event_types, created_by, create_ms, previous_expire_ms";

impl Store {
    /// Registers an endpoint, with its audit record; at most `most` a tenant. Its secret is encrypted.
    ///
    /// # Errors
    /// [`Error::TooManyWebhooks`].
    pub(crate) async fn create_webhook(
        &self,
        tenant: &TenantId,
        new: NewWebhook,
        most: u32,
        vault: &Vault,
    ) -> Result<Webhook, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let (count,): (i64,) = sqlx::query_as("SELECT CAST(COUNT(*) AS BIGINT) FROM webhooks WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        if count >= i64::from(most) {
            transaction.rollback().await?;
            return Err(Error::TooManyWebhooks(most));
        }
        let webhook = Webhook {
            id: format!("webhook-{}", head.sequence),
            url: new.url,
            event_types: new.event_types,
            created_by: new.created_by,
            create_ms: new.create_ms,
            previous_expire_ms: None,
        };
        let event_types = serde_json::to_string(&webhook.event_types)
            .map_err(|error| Error::Broken(format!("types of events cannot be written: {error}")))?;
        let sealed = vault.seal(tenant, &webhook.id, &new.secret)?;
        sqlx::query(
            "INSERT INTO webhooks (tenant_id, id, url, event_types, secret, previous_secret, previous_expire_ms, \
             created_by, create_ms, secret_key_id, previous_key_id) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9, '')",
        )
        .bind(tenant.as_str())
        .bind(&webhook.id)
        .bind(&webhook.url)
        .bind(event_types)
        .bind(sealed.content)
        .bind(Vec::<u8>::new())
        .bind(&webhook.created_by)
        .bind(webhook.create_ms)
        .bind(sealed.key_id)
        .execute(&mut *transaction)
        .await?;
        // The address can be as good as a password, and nothing is ever taken out of the log.
        let detail = serde_json::json!({"webhook_id": webhook.id, "url_sha256": sha256_hex(webhook.url.as_bytes()), "event_types": webhook.event_types});
        let entry = entry("webhook.created", &webhook.created_by, webhook.create_ms, &detail);
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(webhook)
    }

    /// The endpoints of a tenant, oldest first.
    pub(crate) async fn webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, Error> {
        let statement = format!("SELECT {COLUMNS} FROM webhooks WHERE tenant_id = $1 ORDER BY create_ms, id");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(webhook).collect()
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`Error::UnknownWebhook`].
    pub(crate) async fn webhook(&self, tenant: &TenantId, id: &str) -> Result<Webhook, Error> {
        let found = self.webhooks(tenant).await?.into_iter().find(|webhook| webhook.id == id);
        found.ok_or_else(|| Error::UnknownWebhook(id.to_owned()))
    }

    /// Removes an endpoint and its messages, with its audit record.
    ///
    /// # Errors
    /// [`Error::UnknownWebhook`].
    pub(crate) async fn delete_webhook(
        &self,
        tenant: &TenantId,
        id: &str,
        caller: &str,
        now_ms: UnixMillis,
    ) -> Result<(), Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let gone = sqlx::query("DELETE FROM webhooks WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if gone == 0 {
            transaction.rollback().await?;
            return Err(Error::UnknownWebhook(id.to_owned()));
        }
        sqlx::query("DELETE FROM deliveries WHERE tenant_id = $1 AND webhook_id = $2")
            .bind(tenant.as_str())
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        let entry = entry("webhook.deleted", caller, now_ms, &serde_json::json!({"webhook_id": id}));
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Puts a new secret in place; the old one is signed with too until `previous_expire_ms`.
    ///
    /// # Errors
    /// [`Error::UnknownWebhook`].
    pub(crate) async fn rotate_secret(
        &self,
        tenant: &TenantId,
        id: &str,
        (secret, vault): (Vec<u8>, &Vault),
        previous_expire_ms: UnixMillis,
        (caller, now_ms): (&str, UnixMillis),
    ) -> Result<Webhook, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let sealed = vault.seal(tenant, id, &secret)?;
        let changed = sqlx::query(
            "UPDATE webhooks SET previous_secret = secret, previous_key_id = secret_key_id, secret = $3, secret_key_id = $5, \
             previous_expire_ms = $4 WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(id)
        .bind(sealed.content)
        .bind(previous_expire_ms)
        .bind(sealed.key_id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if changed == 0 {
            transaction.rollback().await?;
            return Err(Error::UnknownWebhook(id.to_owned()));
        }
        let detail = serde_json::json!({"webhook_id": id, "previous_expire_ms": previous_expire_ms});
        audit::append(&mut transaction, tenant, head, entry("webhook.secret_rotated", caller, now_ms, &detail)).await?;
        transaction.commit().await?;
        self.webhook(tenant, id).await
    }
}

pub(super) fn entry(action: &str, caller: &str, time_ms: UnixMillis, detail: &serde_json::Value) -> Entry {
    Entry {
        time_ms,
        caller: caller.to_owned(),
        action: action.to_owned(),
        service_id: String::new(),
        detail_json: detail.to_string(),
    }
}

pub(super) fn types(stored: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(stored)
        .map_err(|error| Error::Broken(format!("the stored types of events cannot be read: {error}")))
}

fn webhook(row: Row) -> Result<Webhook, Error> {
    let (id, url, event_types, created_by, create_ms, previous_expire_ms) = row;
    Ok(Webhook {
        id,
        url,
        event_types: types(&event_types)?,
        created_by,
        create_ms,
        previous_expire_ms: Some(previous_expire_ms).filter(|time| *time > 0),
    })
}
