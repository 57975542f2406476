//! An in-process Qdrant: the gRPC services of a Qdrant server, answered from `qdrant-edge` shards in a data folder.
//!
//! # What it does
//!
//! A process that has no Qdrant server opens a folder with [`EmbeddedQdrant::open`] and serves it on a loopback port
//! with [`EmbeddedQdrant::serve`] (or both at once with [`serve`]). Everybody then talks to it with the ordinary
//! `qdrant_client::Qdrant`, so that there is one client path whether the vectors live here or in a cluster.
//!
//! # How a call travels
//!
//! `server` (the API key, message limits) → `transport` (one method a screen: decode, run, encode) → `wire` (protobuf ⇄
//! engine types; what is not supported is refused here, by name) → `storage` (collections, the search evaluator, the
//! folder's lock) → `qdrant-edge`. `fusion` is pure.
//!
//! # Invariants
//!
//! - One process owns a folder: a second one gets [`Error::FolderLocked`].
//! - An acknowledged write is on disk: the shard is flushed before the answer leaves, because `qdrant-edge` 0.7.2 does
//!   not replay its log when it is opened. `wait = false` is answered as late as `wait = true`.
//! - A batch of points is checked whole before any of it is applied: a refused upsert changes nothing.
//! - A collection exists from the moment its manifest is in place until the moment it is gone; folders without one are
//!   what an interrupted create or delete left behind and are removed at the next start.
//! - Equal scores are ordered by point id, also inside a fusion, so that the same data gives the same answer.
//! - Nothing is ignored in silence: a feature outside the list below answers `INVALID_ARGUMENT` and names its field, a
//!   method outside it `UNIMPLEMENTED`.
//! - The engine is synchronous: it only ever runs on blocking threads, at most [`Bounds::in_flight_max`] calls at a time;
//!   one more is answered `RESOURCE_EXHAUSTED` at once with `retry-after`.
//!
//! # What is supported
//!
//! | method | of it |
//! |---|---|
//! | `HealthCheck` | without a key, as on a genuine server |
//! | `Collections.Create` | named or unnamed dense `f32` vectors (cosine, dot, Euclid, Manhattan), sparse vectors with or without IDF; one shard, one replica |
//! | `Collections.Get`, `List`, `Delete`, `CollectionExists` | whole |
//! | `Points.Upsert` | dense and sparse vectors, any payload; no update filter, no update mode but upsert |
//! | `Points.Delete` | by ids and by filter |
//! | `Points.Get`, `Scroll`, `Count` | payload and vector selectors, filters, paging by id; no `order_by` |
//! | `Points.Query` | all points, nearest (dense, sparse), RRF with `k` and weights over prefetches, nested; filters in a prefetch and around all of them; `score_threshold`, `offset`, `using` |
//! | `Points.CreateFieldIndex`, `DeleteFieldIndex` | keyword, integer, float, bool, datetime, uuid, text; parameters for keyword only |
//! | filters | `match` (not prefix, not substring), `range`, `datetime_range`, `values_count`, empty, null, `has_id`, `has_vector`, nested; no geography, no slices |
//!
//! Not supported by choice: aliases, snapshots, clusters and shard keys, quantisation, multi-vectors, other fusions (DBSF),
//! formulas, recommendation and discovery, server-side inference, batches and groups of queries.
//!
//! Differences from a genuine server: filters of a query and of its prefetch are joined by *and* (a genuine server
//! merges two `should` lists into one); vectors that hold NaN or infinity are refused; a collection's status is always
//! green, for nothing but a bounded [clean-up](Bounds::optimise_after_points) happens in the background.
//!
//! # What it deliberately does not know
//!
//! Documents, chunks, tenants, embeddings, BM25: those belong to the caller. It reads no environment and no clock but to
//! measure the `time` field of its answers.

mod error;
mod fusion;
mod options;
mod server;
mod storage;
mod transport;
mod wire;

use std::future::Future;

use tokio::net::TcpListener;

pub use error::Error;
pub use options::{Bounds, Options, random_api_key};
pub use server::EmbeddedQdrant;

/// Opens the folder of `options` and serves it on `listener` until `shutdown` resolves and the calls under way are done.
///
/// # Errors
///
/// Everything that [`EmbeddedQdrant::open`] and [`EmbeddedQdrant::serve`] report; the former come before any call is
/// accepted.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    EmbeddedQdrant::open(options).await?.serve(listener, shutdown).await
}
