//! REST and JSON over the mesh. Everything about a route is read from the contract: an RPC with a `google.api.http`
//! annotation has a route, a JSON mapping and a path in the OpenAPI document by that alone.
//!
//! Entry point: [`serve`]. The way of a request:
//!
//! 1. `server` accepts the connection (HTTP/1.1 or HTTP/2 in clear) within the bound on connections.
//! 2. `pipeline` finds the route (`routes`, built from `contract`), tells who asks (`identity`), counts them against
//!    their rate (`limits`) and gives the request its deadline, its trace and its id.
//! 3. `transcode` turns path, query, headers and body (`intake`) into the encoded request by the rules of `json`; in a
//!    batch, elements that cannot be read are set aside one by one.
//! 4. `mesh` calls the member that owns the RPC's package; `transcode` turns its answer into JSON and an entity tag.
//! 5. Whatever goes wrong becomes a problem document (RFC 9457) in `problem`.
//!
//! JSON conventions: field names as in the contract (snake case); enums as lower-case words without their prefix (`hard`,
//! `slo_template`; the prefix stays where a digit would follow: `tier_1`), read also with hyphens and as the contract's
//! full name; 64-bit integers are numbers; times are RFC 3339, spans of time seconds with an `s` (`3.5s`); what is unset
//! is left out, and `null` reads as unset; NaN and infinities are refused. Unknown fields and query parameters are
//! refused by name. Of several members with one name the last counts.
//!
//! Invariants: every answer is JSON, a problem document, the documentation page or the metrics text; every answer carries
//! `x-request-id`; the tenant comes from the key and never from the request; nothing that a member says of its own insides
//! is passed on.
//!
//! Deliberately unknown here: what any RPC means, with one exception: after dependencies were ingested the graph engine is
//! asked for the cycles that they close (`cycles`). Absent for now: `Idempotency-Key` (the ingestion routes are
//! idempotent by their keys, decisions are guarded by `If-Match`), paging by `Link` headers, the web console.

mod config;
mod contract;
mod cycles;
mod documents;
mod error;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod intake;
mod json;
mod limits;
mod mesh;
mod metrics;
mod openapi;
mod pipeline;
mod problem;
mod readiness;
mod reply;
mod routes;
mod server;
mod template;
mod told;
mod transcode;

pub use config::{Auth, Config, KeyConfig, Rates};
pub use error::Error;
pub use identity::Role;
pub use server::serve;

/// The OpenAPI 3.1 document of the routes as `config` serves them, as JSON text.
///
/// # Errors
/// Where the contract has an annotation that the gateway cannot serve.
pub fn openapi_document(config: &Config) -> Result<String, Error> {
    let contract = contract::Contract::read(attain_proto::DESCRIPTORS)?;
    let routes = routes::Routes::build(&contract)?;
    Ok(openapi::document(&contract, &routes, config).to_string())
}
