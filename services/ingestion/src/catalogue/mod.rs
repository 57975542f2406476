//! Services, their owners and what they depend on, read from a Backstage catalogue.
//!
//! **How data flows**: `client` asks for one page, only if it is different → `pages` gathers all of them, or none →
//! `translate` says what the entities mean for the graph (`reference` knows their names, `problems` what could not be
//! understood) → [`crate::storage::Store::apply_catalogue`] takes the sweep over in one transaction → `follow` does it
//! again after the interval and says how it stands.
//!
//! **Invariants.** A sweep counts only when every page of it came. What the catalogue does not change changes nothing. It
//! never overrules what people declared, and takes away only what it brought. A sweep that has lost suspiciously much is
//! reported and not applied. A catalogue that is away, slow or wrong never stops ingestion: the readiness condition
//! `catalogue` says what is the matter. Everything that is read is bounded; the token is in no log and no message.
//!
//! **Deliberately unknown here**: users and groups beyond their names, API definitions, any annotation that no setting
//! names; they are not even asked for. Nothing is written to the catalogue.

mod client;
mod follow;
mod kinds;
mod pages;
mod problems;
mod reference;
mod settings;
mod status;
mod translate;
#[cfg(test)]
mod translate_tests;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::Readiness;
use attain_vocabulary::TenantId;
use tokio::task::JoinHandle;

pub use reference::Naming;
pub use settings::{CatalogueConfig, Token};

pub(crate) use status::{Attempt, CatalogueStatus};

use crate::storage::Store;
use crate::{Config, Error};
use follow::{Counts, Follower};
use pages::Sweeper;
use translate::Rules;

/// Follows the configured catalogue until `shutdown`, and how that stands; no task where none is configured.
///
/// # Errors
/// Names the setting that cannot be right.
pub(crate) fn follow(
    config: &Config,
    store: &Store,
    readiness: &Readiness,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<(CatalogueStatus, Option<JoinHandle<()>>), Error> {
    let Some(settings) = &config.catalogue else { return Ok((CatalogueStatus::default(), None)) };
    let tenant = TenantId::new("ingestion.catalogue.tenant", &settings.tenant)?;
    let malformed = |reason| attain_runtime::Error::Config(format!("ingestion.catalogue.{reason}"));
    let status = CatalogueStatus::following(tenant.clone());
    let follower = Follower {
        store: store.clone(),
        tenant,
        sweeper: Sweeper::new(settings).map_err(malformed)?,
        rules: Rules::new(settings),
        settings: settings.clone(),
        clock: clock.clone(),
        condition: readiness.prefer("catalogue", "not asked yet"),
        status: status.clone(),
        counts: Counts::default(),
        outcome: None,
    };
    let shutdown = shutdown.clone();
    let following = tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follower.run() => {}
        }
    });
    Ok((status, Some(following)))
}
