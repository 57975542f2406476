//! What a Prometheus-compatible server knows, read by range queries: SLI buckets, edges of the dependency graph,
//! utilisation.
//!
//! A mapping file says which PromQL means what (`mapping`, `entry`), by itself or by a preset (`presets`); counters are asked
//! for so that consecutive buckets add up to what they rose (`promql`). Each mapping is read on its own, oldest first: at the
//! first start from so many days back, then on from where it ended; whichever is least behind comes first, so that reading
//! one mapping's past holds up no other (`follower`). How much time is asked for at once follows what the server bears
//! (`pace`). A cursor is stored with what was read in one transaction, so that a restart neither skips nor repeats; only
//! buckets that are over, and some seconds more, are asked for. Reading a bucket again replaces it; calls of edges are added
//! up, and each edge remembers up to when (`marks`).
//!
//! **Invariants.** A server that is away, slow or wrong never stops ingestion: the readiness condition `prometheus` says
//! what is the matter, and it is asked again. A gap stays a gap. Answers are bounded in bytes and series: too large ones are
//! asked for in smaller pieces. While the past is read, the server rests as long as it works. Secrets are never logged.
//!
//! **Deliberately unknown here**: how the server got its numbers.

mod answer;
mod claims;
mod client;
mod counting;
mod edges;
mod entry;
mod follower;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod histogram;
mod mapping;
mod marks;
mod pace;
mod presets;
mod progress;
mod promql;
mod reader;
mod sli;
mod utilisation;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::Readiness;
use tokio::task::JoinHandle;

pub(crate) use mapping::read_mappings;
pub use mapping::{PlannedQuery, planned_queries};

use crate::storage::Store;
use crate::{Config, Error, PrometheusConfig};
use client::Client;
use follower::Follower;

/// Follows the configured server until `shutdown`; `None` where none is configured.
///
/// # Errors
/// Names the setting that cannot be right.
pub fn follow(
    config: &Config,
    store: &Store,
    readiness: &Readiness,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<Option<JoinHandle<()>>, Error> {
    let Some(settings) = &config.prometheus else { return Ok(None) };
    let condition = readiness.prefer("prometheus", "not asked yet");
    let mappings = read_mappings(&settings.mapping_file)?;
    let client = client(settings)?;
    let follower = Follower::new(store.clone(), client, mappings, settings.clone(), clock.clone());
    let shutdown = shutdown.clone();
    Ok(Some(tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follower.run(condition) => {}
        }
    })))
}

/// Checks the way to the server without asking it.
///
/// # Errors
/// Names the setting that cannot be right.
pub(crate) fn check_client(settings: &PrometheusConfig) -> Result<(), attain_runtime::Error> {
    client(settings).map(drop)
}

fn client(settings: &PrometheusConfig) -> Result<Client, attain_runtime::Error> {
    Client::new(settings)
        .map_err(|(key, reason)| attain_runtime::Error::Config(format!("ingestion.prometheus.{key}: {reason}")))
}
