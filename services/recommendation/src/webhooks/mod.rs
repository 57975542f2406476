//! Signed callbacks: endpoints are kept here, and what waits for them is sent. Messages were written with what they tell of,
//! in one transaction, so that the end of the process at any moment loses none; one that was sent and not noted is sent
//! again, under the same name.

mod client;
pub(crate) mod config;
mod sender;
pub(crate) mod vault;

use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::InvalidValue;

use crate::Error;
use crate::domain::webhook::{EVENT_TYPES, SECRET_BYTES, event_sequence, secret_text};
use crate::engine::Engine;
use crate::message::webhook as message;
use crate::page::{next_token, page_size, position};
use crate::storage::NewWebhook;

pub(crate) use sender::send;

/// Hours for which an old secret is signed with where nobody says.
const OVERLAP_HOURS: u32 = 24;
const OVERLAP_HOURS_MAX: u32 = 168;
const HOUR_MS: i64 = 3_600_000;

/// Registers an endpoint.
pub(crate) async fn create(
    engine: &Engine,
    context: &CallContext,
    request: wire::CreateWebhookRequest,
) -> Result<wire::CreateWebhookResponse, Error> {
    let settings = &engine.config.webhooks;
    let vault = engine.vault.as_ref().ok_or(Error::NoWebhookKey)?;
    let url = client::checked_url(&request.url, settings)?;
    let event_types = checked_types(request.event_types)?;
    let secret = random_secret()?;
    let text = secret_text(&secret);
    let new =
        NewWebhook { url, event_types, secret, created_by: context.caller.clone(), create_ms: engine.clock.now_ms() };
    let webhook = engine.store.create_webhook(&context.tenant, new, settings.endpoints_max, vault).await?;
    Ok(wire::CreateWebhookResponse { webhook: Some(message::webhook(webhook)), secret: text })
}

/// Lists the endpoints.
pub(crate) async fn list(engine: &Engine, context: &CallContext) -> Result<wire::ListWebhooksResponse, Error> {
    let webhooks = engine.store.webhooks(&context.tenant).await?;
    Ok(wire::ListWebhooksResponse { webhooks: webhooks.into_iter().map(message::webhook).collect() })
}

/// Removes an endpoint.
pub(crate) async fn delete(engine: &Engine, context: &CallContext, id: &str) -> Result<(), Error> {
    engine.store.delete_webhook(&context.tenant, id, &context.caller, engine.clock.now_ms()).await
}

/// Makes a new secret for an endpoint.
pub(crate) async fn rotate(
    engine: &Engine,
    context: &CallContext,
    request: wire::RotateWebhookSecretRequest,
) -> Result<wire::RotateWebhookSecretResponse, Error> {
    let hours = request.overlap_hours.unwrap_or(OVERLAP_HOURS);
    if hours > OVERLAP_HOURS_MAX {
        let reason = format!("{hours} is outside 0 to {OVERLAP_HOURS_MAX}");
        return Err(InvalidValue::new("overlap_hours", "out_of_range", reason).into());
    }
    let vault = engine.vault.as_ref().ok_or(Error::NoWebhookKey)?;
    let secret = random_secret()?;
    let text = secret_text(&secret);
    let now_ms = engine.clock.now_ms();
    let until_ms = now_ms + i64::from(hours) * HOUR_MS;
    let by = (context.caller.as_str(), now_ms);
    let replaced = (secret, vault);
    let webhook = engine.store.rotate_secret(&context.tenant, &request.webhook_id, replaced, until_ms, by).await?;
    Ok(wire::RotateWebhookSecretResponse { webhook: Some(message::webhook(webhook)), secret: text })
}

/// Lists messages to an endpoint.
pub(crate) async fn deliveries(
    engine: &Engine,
    context: &CallContext,
    request: wire::ListDeliveriesRequest,
) -> Result<wire::ListDeliveriesResponse, Error> {
    let state = message::state_of(request.state)?;
    let size = page_size(request.page_size)?;
    let before = position(&request.page_token)?.unwrap_or(u64::MAX);
    let webhook = engine.store.webhook(&context.tenant, &request.webhook_id).await?;
    let mut page = engine.store.deliveries(&context.tenant, &webhook.id, state, before, size + 1).await?;
    let next_page_token = next_token(&mut page, size, |delivery| delivery.sequence);
    let deliveries = page.iter().map(|delivery| message::delivery(&context.tenant, delivery)).collect();
    Ok(wire::ListDeliveriesResponse { deliveries, next_page_token })
}

/// Sends a message again.
pub(crate) async fn retry(
    engine: &Engine,
    context: &CallContext,
    request: &wire::RetryDeliveryRequest,
) -> Result<wire::RetryDeliveryResponse, Error> {
    let webhook = engine.store.webhook(&context.tenant, &request.webhook_id).await?;
    let sequence = event_sequence(&context.tenant, &request.event_id)
        .ok_or_else(|| Error::UnknownDelivery(request.event_id.clone()))?;
    let by = (context.caller.as_str(), engine.clock.now_ms());
    let delivery = engine.store.redeliver(&context.tenant, &webhook.id, sequence, by).await?;
    Ok(wire::RetryDeliveryResponse { delivery: Some(message::delivery(&context.tenant, &delivery)) })
}

fn checked_types(mut types: Vec<String>) -> Result<Vec<String>, InvalidValue> {
    if types.iter().any(|given| !EVENT_TYPES.contains(&given.as_str())) {
        let reason = format!("there are {}", EVENT_TYPES.join(", "));
        return Err(InvalidValue::new("event_types", "unknown_value", reason));
    }
    types.sort();
    types.dedup();
    Ok(types)
}

/// From the system's randomness.
fn random_secret() -> Result<Vec<u8>, Error> {
    let mut secret = vec![0; SECRET_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut secret).map_err(|_| Error::Broken("the system gives no random bytes".to_owned()))?;
    Ok(secret)
}
