//! The graph engine: what the structure of the dependencies means for availability.
//!
//! **What it does.** Walks neighbourhoods, finds cycles and what to cut, longest call chains, blast radii, single points of
//! failure, betweenness and contradictions, evaluates the structure function of many services with given failure ratios, before
//! and after changes, and finds targets of the whole tenant that hold together. Entry point: [`serve`].
//!
//! **How data flows.** The follower reads ingestion's stream of changes; when a tenant's burst of changes has paused, its topology
//! is fetched whole (at most every few seconds while only counts change), built into an immutable [`domain::snapshot::Snapshot`] and swapped in. A question reads one
//! snapshot from beginning to end: transport decodes, a query gathers the snapshot and asks the pure domain on a worker
//! thread, transport encodes.
//!
//! | room | holds |
//! |---|---|
//! | `transport` | messages ↔ values |
//! | `queries` | one module a question: gather, then decide |
//! | [`domain`] | the snapshot and every function of it; pure |
//! | `storage` | one snapshot a tenant in memory, the follower that keeps it the newest |
//! | `topology` | rows of the wire as values of the domain |
//!
//! **Invariants.** A snapshot never changes; nodes are numbered in lexical order, so every tie is broken lexically and
//! the same graph gives the same answer to the last bit. A graph that cannot be read whole is refused and the one before
//! stands, its age growing. Every answer says which version it was read from and for how long that has not been
//! confirmed. Work, answers, tenants and waits are bounded; computations end with their caller's deadline.
//!
//! **Deliberately unknown here**: storage on disk (it owns nothing), SLI history and where failure ratios come from,
//! SLOs, and who asks beyond the tenant.

mod config;
pub mod domain;
mod error;
mod queries;
mod storage;
mod topology;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use attain_proto::graph::v1::graph_service_server::GraphServiceServer;
use attain_runtime::Shutdown;
use attain_runtime::channel::{self, MESSAGE_BYTES_MAX};
use attain_runtime::clock::Clock;
use attain_runtime::readiness::Readiness;
use attain_runtime::serve::{Member, Windows};
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

use crate::queries::{Engine, Workers};
use crate::storage::follower::Follower;
use crate::storage::held::Size;
use crate::storage::snapshots::{self, Snapshots};
use crate::storage::source::Source;
use crate::transport::Graph;

pub use config::Config;
pub use error::Error;

/// Full name of the gRPC service.
pub const SERVICE_NAME: &str = "attain.graph.v1.GraphService";

/// Serves until `shutdown`, then drains. Listening begins at once; the first graphs arrive in the background, and the
/// condition `topology` tells when.
///
/// # Errors
/// Names the setting that is out of range; where the transport fails by itself.
pub async fn serve(config: Config, listener: TcpListener, clock: Clock, shutdown: Shutdown) -> Result<(), Error> {
    config.validate()?;
    let channel = channel::connect("graph.ingestion_url", &config.ingestion_url)?;
    let readiness = Readiness::new("graph", clock.now_ms());
    let topology = readiness.require("topology", "not read from ingestion yet");

    let snapshots = Arc::new(Snapshots::new(Source::new(channel), clock, held_bounds(&config)));
    let loss_max = Duration::from_millis(config.stream_loss_ms_max);
    let count_interval = Duration::from_millis(config.count_refresh_interval_ms);
    let follower = Follower::new(Arc::clone(&snapshots), topology, loss_max, count_interval);
    let following = tokio::spawn(follower.run(shutdown.clone()));
    let workers = Workers::new(config.computations_max);
    let engine = Arc::new(Engine { snapshots, workers, bounds: answer_bounds(&config) });

    let service = GraphServiceServer::new(Graph { engine })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let member = Member {
        readiness,
        service_names: &[SERVICE_NAME],
        listener,
        limits: config.limits,
        classify: transport::classify,
        drain: Duration::from_secs(config.drain_seconds),
        windows: Windows::default(),
    };
    let served = member.serve(Routes::new(service), shutdown).await;
    following.abort();
    Ok(served?)
}

fn held_bounds(config: &Config) -> snapshots::Bounds {
    snapshots::Bounds {
        tenants_max: config.tenants_max,
        size: Size { entities_max: config.entities_max, dependencies_max: config.dependencies_max },
        versions_kept: config.versions_kept,
        fetch_timeout: Duration::from_millis(config.fetch_timeout_ms),
    }
}

fn answer_bounds(config: &Config) -> queries::Bounds {
    queries::Bounds {
        entities_max: config.answer_entities_max,
        dependencies_max: config.answer_dependencies_max,
        evaluation_services_max: config.evaluation_services_max,
        bdd_nodes_max: config.bdd_nodes_max,
        samples: config.samples,
        snapshot_wait_max: Duration::from_millis(config.snapshot_wait_ms_max),
    }
}
