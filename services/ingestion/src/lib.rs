//! Telemetry, dependencies and incidents in; history and topology out. Owner of what was observed.
//!
//! **Entry point**: [`serve`], with a [`Config`], [`Listeners`] (the mesh's gRPC, OTLP/gRPC, OTLP/HTTP), a clock and the end.
//!
//! **How data flows in**: `transport` decodes each row to a checked value or an error that names its field → `intake` parts
//! good rows from bad ones and applies limits → [`storage`] writes the good ones and their changes in one transaction →
//! acknowledgement. [`otlp`] and [`prometheus`] turn telemetry into a [`domain::ObservationBatch`] and write it through
//! [`storage::Store::observe`]; [`catalogue`] takes over what a Backstage catalogue holds; [`imports`] reads documents of
//! other tools, such as webhooks of pagers. Free text is redacted before it is stored (`attain-redaction`).
//!
//! **How data flows out**: `transport` reads pages from storage; `reading` streams histories in chunks and follows the
//! change log. Where several sources tell of the same edge or bucket, [`domain::merge_statements`] and
//! [`domain::merge_sources`] say which one stands, when it is read; every source's own words stay stored.
//!
//! **How data rests**: days that are over are packed into blocks and what is too old goes, in the background (`upkeep`).
//!
//! **Invariants**: an acknowledged write is durable, and a batch is kept whole but for the rows that were refused by name;
//! writing what is stored already changes nothing, not even the change log; changes become visible in the order of their
//! sequence numbers; the same topology version means the same topology; nothing that is read or queued is without a bound.
//!
//! **Deliberately unknown here**: what a graph means (cycles, blast radius), what a good SLO is, who may ask. This crate
//! draws no conclusion from what it keeps.

pub mod catalogue;
mod config;
mod count;
pub mod domain;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod imports;
mod intake;
pub mod otlp;
pub mod prometheus;
mod reading;
mod serve;
pub mod storage;
mod transport;
mod upkeep;

pub use catalogue::CatalogueConfig;
pub use config::{Config, Hidden, IncidentsConfig, PrometheusConfig, WebhookConfig, WebhooksConfig};
pub use error::Error;
pub use serve::{Listeners, serve};
