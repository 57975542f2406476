//! Sends what waits: endpoints beside one another, the messages of each one after the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_vocabulary::TenantId;
use reqwest::StatusCode;
use tokio::task::{JoinHandle, JoinSet};

use super::client::{Client, Message};
use crate::Error;
use crate::domain::endpoint_turns::{Endpoint, EndpointTurns};
use crate::domain::webhook::{Backoff, signatures};
use crate::engine::Engine;
use crate::storage::{DeliveryState, Due, Outcome};

/// Most endpoints that are sent to at a time.
const ENDPOINTS_AT_A_TIME: usize = 32;
/// Most endpoints with due messages that one look sees.
const ENDPOINTS_SEEN_MAX: u32 = 10_000;
/// Most messages to one endpoint before others get their turn.
const MESSAGES_IN_A_ROW: u32 = 32;
/// Time beside the endpoint's own for which an attempt is nobody else's, in milliseconds.
const CLAIM_MARGIN_MS: i64 = 30_000;

/// Least pause after a look that failed.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);

/// Whose turn it is.
type Busy = Arc<Mutex<EndpointTurns>>;

/// Looks for messages that are due again and again until the stop; then ends the attempts that were begun, as long as the
/// member may take to drain. An attempt that takes longer is broken off, and made again when its claim has ended. Where the
/// machine has no certificates to verify endpoints by, messages wait until it has.
pub(crate) fn send(engine: Arc<Engine>, shutdown: Shutdown) -> JoinHandle<()> {
    let interval = Duration::from_millis(engine.config.webhooks.poll_interval_ms);
    tokio::spawn(async move {
        let busy = Busy::default();
        let mut sending = JoinSet::new();
        let mut client = None;
        loop {
            let mut pause = interval;
            if let Err(error) = round(&engine, &mut client, &busy, &mut sending, &shutdown).await {
                tracing::warn!(error = %error, "messages to webhooks cannot be sent; they wait");
                pause = interval.max(TROUBLE_PAUSE);
            }
            while sending.try_join_next().is_some() {}
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => break,
            }
        }
        let ended = async { while sending.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(engine.config.drain_seconds), ended).await.is_err() {
            tracing::warn!(
                "messages to webhooks were still on their way; they are sent again when their claims have ended"
            );
        }
    })
}

async fn round(
    engine: &Arc<Engine>,
    made: &mut Option<Client>,
    busy: &Busy,
    sending: &mut JoinSet<()>,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let endpoints = engine.store.due_endpoints(engine.clock.now_ms(), ENDPOINTS_SEEN_MAX).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let client = match made {
        Some(client) => client,
        None => made.insert(Client::new(&engine.config.webhooks)?),
    };
    let taken = busy.lock().unwrap_or_else(PoisonError::into_inner).take(endpoints, ENDPOINTS_AT_A_TIME);
    for endpoint in taken {
        let (engine, client, shutdown) = (Arc::clone(engine), client.clone(), shutdown.clone());
        let place = Place { busy: Arc::clone(busy), endpoint };
        sending.spawn(async move {
            let (tenant, webhook_id) = &place.endpoint;
            if let Err(error) = drain(&engine, &client, tenant, webhook_id, &shutdown).await {
                tracing::warn!(attain.webhook = webhook_id, error = %error, "messages to a webhook could not be sent");
            }
        });
    }
    Ok(())
}

/// Gives the endpoint free, also where its task breaks off.
struct Place {
    busy: Busy,
    endpoint: Endpoint,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).give_back(&self.endpoint);
    }
}

/// Sends what is due to an endpoint, oldest first, until something fails or the member stops.
async fn drain(
    engine: &Engine,
    client: &Client,
    tenant: &TenantId,
    webhook_id: &str,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    for _ in 0..MESSAGES_IN_A_ROW {
        if shutdown.is_cancelled() {
            break;
        }
        let Some(due) = engine.store.next_due(tenant, webhook_id, engine.clock.now_ms()).await? else { break };
        if !attempt(engine, client, &due).await? {
            break;
        }
    }
    Ok(())
}

/// One attempt; whether the endpoint took the message.
async fn attempt(engine: &Engine, client: &Client, due: &Due) -> Result<bool, Error> {
    let settings = &engine.config.webhooks;
    let now_ms = engine.clock.now_ms();
    // Before an attempt is taken: what cannot be signed waits, and none of its attempts is used up.
    let secrets = opened(engine, due, now_ms)?;
    let secrets: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
    let until_ms = now_ms + i64::from(settings.timeout_seconds) * 1000 + CLAIM_MARGIN_MS;
    let Some(taken) = engine.store.claim(due, until_ms).await? else { return Ok(true) };
    let id = due.event_id();
    let timestamp_seconds = now_ms.div_euclid(1000);
    let signed = signatures(&secrets, &id, timestamp_seconds, &due.body);
    let message = Message { url: &due.url, id: &id, timestamp_seconds, signatures: &signed, body: &due.body };
    let sent = client.post(&message).await;
    let backoff = Backoff {
        first_ms: i64::from(settings.first_wait_seconds) * 1000,
        max_ms: i64::from(settings.wait_seconds_max) * 1000,
        attempts_max: settings.attempts_max,
    };
    let wait_ms = backoff.wait_ms(taken.round_count, &format!("{id}\n{}", due.webhook_id));
    let outcome = outcome(sent, wait_ms.map(|wait_ms| engine.clock.now_ms() + wait_ms));
    if outcome.state == DeliveryState::Dead {
        tracing::warn!(
            attain.webhook = due.webhook_id,
            attain.event = id,
            "a message is given up; it can be sent again on request"
        );
    }
    engine.store.settle(due, taken, &outcome).await?;
    Ok(outcome.state == DeliveryState::Delivered)
}

fn opened(engine: &Engine, due: &Due, now_ms: i64) -> Result<Vec<Vec<u8>>, Error> {
    let vault = engine.vault.as_ref().ok_or(Error::NoWebhookKey)?;
    let held = due.secrets.held(now_ms).into_iter();
    held.map(|sealed| Ok(vault.open(&due.tenant, &due.webhook_id, sealed)?)).collect()
}

fn outcome(sent: Result<StatusCode, String>, next_ms: Option<i64>) -> Outcome {
    let (status, error) = match sent {
        Ok(status) if status.is_success() => {
            return Outcome {
                status: status.as_u16(),
                error: String::new(),
                state: DeliveryState::Delivered,
                next_ms: 0,
            };
        }
        Ok(status) if status.is_redirection() => (status.as_u16(), "redirects are not followed".to_owned()),
        Ok(status) => (status.as_u16(), format!("the endpoint answered {}", status.as_u16())),
        Err(error) => (0, error),
    };
    let state = if next_ms.is_some() { DeliveryState::Waiting } else { DeliveryState::Dead };
    Outcome { status, error, state, next_ms: next_ms.unwrap_or(0) }
}
