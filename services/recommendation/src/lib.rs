//! Which SLOs each service can attain, why, and what people decided. Owner of recommendations, SLOs in force and the audit
//! log.
//!
//! Entry point: [`serve`]. A question travels like this:
//!
//! ```text
//! transport ─ recommendations ─ stored and fresh? ─────────────────────────────────────────────┐
//!                  │ no: one computation for all who ask                                        │
//!                  └ gather (ingestion, graph, knowledge; what is missing is named)             │
//!                      └ decide (the statistics of attain-attainment) ─ storage (with audit) ───┴─ answer
//! changes ─ follows ingestion's stream of changes and holds the newest of each service: the test of freshness
//! transport ─ decisions ─ approvals ─ storage (SLO in force, decision, audit record, messages to webhooks: one transaction)
//! transport ─ lifecycle | policies ─ storage
//! transport ─ reads ─ a bounded queue ─ one writer ─ storage (who read what, many records in one transaction)
//! transport ─ feedback ─ storage (feedback, audit record: one transaction)
//! transport ─ budgets | alerts | agreement ─ measured (the service's own history and SLOs in force) ─ attainment ─ answer
//! transport ─ exchange (SLOs as documents, out and in; what comes in is declared as decisions are) ─ storage
//! learning ─ made from the log of decisions and feedback ─ gather (which offer is suggested, and nothing else)
//! lessons ─ incidents and decided recommendations as documents ─ rag
//! webhooks ─ what waits in storage ─ signed, to endpoints
//! upkeep ─ pending decisions that lapsed, SLOs whose review is near
//! judge ─ offers whose window has closed against what was measured ─ storage ─ calibration (how often offers are missed)
//! drift ─ looks at the own failures of services that changed, and computes anew where their level did
//! transport ─ models ─ storage (registry, which one is live, forecasts of shadows and their scores)
//! transport ─ experiments ─ storage (plans, who was in which arm) ─ gather (the model and the way to suggest of a service's arm)
//! transport ─ impact | what_if ─ fleet (everybody around a change) ─ graph, before and after ─ answer
//! ```
//!
//! Invariants:
//! - a recommendation is immutable: the bytes stored are the bytes given, for ever, and the inputs kept with it give the same
//!   bytes again;
//! - the same inputs make no second version;
//! - an accepted target is the offer's, to the last bit;
//! - a decision, the SLO that it puts in force and its audit record are written together or not at all; the audit log of a
//!   tenant is one chain of hashes; reads are recorded by batches behind a bounded queue, and those that find no room are counted;
//! - a missing input is a named field of the answer and lowers its confidence; only where the service's own history cannot be
//!   had and nothing is stored is there no answer;
//! - all failure ratios that meet in one evaluation are failures of a component's own: measured SLIs are never multiplied.
//!
//! What it deliberately does not know: how telemetry arrives, how a structure function is evaluated, how passages are found,
//! HTTP, and who may do what (the gateway has decided that before it calls).

mod agreement;
mod alerts;
mod approvals;
mod automatic;
mod below;
mod budgets;
mod calibration;
mod changes;
mod comparison;
mod config;
mod consistency;
mod contradictions;
mod decide;
mod decisions;
pub mod domain;
mod drift;
mod engine;
mod error;
mod exchange;
mod experiments;
mod feedback;
mod fleet;
mod gather;
mod health;
mod histories;
mod impact;
mod judge;
mod learning;
mod lessons;
mod lifecycle;
mod measured;
mod members;
mod message;
mod models;
mod packing;
mod page;
mod policies;
mod reads;
mod recommendations;
mod regions;
mod retraining;
mod slowdown;
mod storage;
mod transport;
mod upkeep;
mod webhooks;
mod what_if;

use std::sync::Arc;
use std::time::Duration;

use attain_proto::recommendation::v1::lifecycle_service_server::LifecycleServiceServer;
use attain_proto::recommendation::v1::recommendation_service_server::RecommendationServiceServer;
use attain_proto::recommendation::v1::webhook_service_server::WebhookServiceServer;
use attain_runtime::Shutdown;
use attain_runtime::channel::{self, MESSAGE_BYTES_MAX};
use attain_runtime::clock::Clock;
use attain_runtime::readiness::Readiness;
use attain_runtime::serve::{Member, Windows};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

pub use config::Config;
pub use domain::audit;
pub use domain::exchange::MetricNames;
pub use error::Error;
pub use webhooks::config::{KeyText, WebhookConfig};
pub use webhooks::vault::make_key_file;

use changes::Changes;
use changes::follower::Follower;
use engine::Engine;
use members::Ingestion;
use storage::Store;
use transport::{Transport, classify};
use webhooks::vault::Vault;

const SERVICE_NAMES: &[&str] = &[
    "attain.recommendation.v1.RecommendationService",
    "attain.recommendation.v1.LifecycleService",
    "attain.recommendation.v1.WebhookService",
];

/// A server with the bounds and the compression that all of the house have; generated servers have no trait in common.
macro_rules! bounded {
    ($server:expr) => {
        $server
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    };
}

/// Serves until `shutdown`, then drains.
///
/// # Errors
/// Names the setting that is out of range, or the database that cannot be opened; then nothing is served.
pub async fn serve(config: Config, listener: TcpListener, clock: Clock, shutdown: Shutdown) -> Result<(), Error> {
    config.validate()?;
    let readiness = Readiness::new("recommendation", clock.now_ms());
    let storage = readiness.require("storage", "not opened yet");
    let vault = Vault::read(&config.webhooks)?;
    let store = Store::open(&config.database_url).await?;
    store.seal_secrets(vault.as_ref()).await?;
    storage.met(store.description());
    let looks = health::watch(&config, &readiness, storage, store.clone(), shutdown.clone())?;

    let changes = Arc::new(Changes::new(config.mirrored_services_max, confirm_interval(&config)));
    let following = follow(&config, &readiness, Arc::clone(&changes), shutdown.clone())?;

    let (limits, drain) = (config.limits, Duration::from_secs(config.drain_seconds));
    let (reads, writing) = reads::begin(&config, store.clone(), clock.clone());
    let engine = Arc::new(Engine::new(config, store.clone(), changes, clock, reads, vault)?);
    let keeping = upkeep::keep(Arc::clone(&engine), shutdown.clone());
    let lessons = lessons::keep(Arc::clone(&engine), shutdown.clone());
    let sending = webhooks::send(Arc::clone(&engine), shutdown.clone());
    let lifecycle = bounded!(LifecycleServiceServer::new(Transport(Arc::clone(&engine))));
    let webhooks = bounded!(WebhookServiceServer::new(Transport(Arc::clone(&engine))));
    let callers = below::follow(Arc::clone(&engine), shutdown.clone());
    let judging = tokio::spawn(judge::sweep(Arc::clone(&engine), shutdown.clone()));
    let service = bounded!(RecommendationServiceServer::new(Transport(Arc::clone(&engine))));
    let member = Member {
        readiness,
        service_names: SERVICE_NAMES,
        listener,
        limits,
        classify,
        drain,
        windows: Windows::default(),
    };
    let routes = Routes::new(service).add_service(lifecycle).add_service(webhooks);
    let sweeping = sweep(&engine, shutdown.clone());
    let served = member.serve(routes, shutdown).await;
    looks.abort_all();
    following.abort();
    keeping.abort();
    lessons.abort();
    judging.abort();
    callers.abort();
    sweeping.abort();
    // It ends by itself, in bounded time; one that panicked has nothing to end.
    let _ = sending.await;
    writing.finish().await;
    store.close().await;
    Ok(served?)
}

/// Begins to follow ingestion's changes, on a connection of its own: histories on the way would hold them up.
fn follow(
    config: &Config,
    readiness: &Readiness,
    changes: Arc<Changes>,
    shutdown: Shutdown,
) -> Result<JoinHandle<()>, Error> {
    let ingestion = Ingestion::new(channel::connect("recommendation.ingestion_url", &config.ingestion_url)?);
    let condition = readiness.prefer("changes", "ingestion's stream of changes is not followed yet");
    let follower = Follower::new(changes, ingestion, condition, confirm_interval(config));
    Ok(tokio::spawn(follower.run(shutdown)))
}

/// Begins to look at the own failures of services that changed.
fn sweep(engine: &Arc<Engine>, shutdown: Shutdown) -> JoinHandle<()> {
    tokio::spawn(drift::Sweeper::new(Arc::clone(engine)).run(shutdown))
}

fn confirm_interval(config: &Config) -> Duration {
    Duration::from_millis(config.change_confirm_interval_ms)
}
