//! The wire contract of the mesh: messages, clients and servers of every `attain.*.v1` package.
//!
//! The `.proto` files beside this crate are the source of truth; the code is generated when the crate is built and never
//! committed. [`DESCRIPTORS`] carries the same contract as bytes, HTTP annotations and comments included: reflection,
//! the gateway's routes and its OpenAPI document are all read from there.
//!
//! [`codec`] writes and reads messages, [`rows`] keeps the lists of whole graphs as bytes. [`convert`] translates between wire
//! messages and the validated words of `attain-vocabulary`, [`columns`] and [`day`] long histories. This crate knows nothing of
//! transport settings, storage or statistics.

pub mod codec;
pub mod columns;
pub mod convert;
pub mod day;
pub mod google;
pub mod rows;

/// The encoded `FileDescriptorSet` of every package, with HTTP annotations and source comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $package:literal $(, $elsewhere:path)*) => {
        $(#[$doc])*
        #[allow(missing_docs, clippy::all, unreachable_pub)]
        pub mod $name {
            #[allow(missing_docs)]
            pub mod v1 {
                tonic::include_proto!($package);
                $(pub use $elsewhere;)*
            }
        }
    };
}

package!(
    /// The words that more than one service speaks.
    vocabulary, "attain.vocabulary.v1"
);
package!(
    /// Why a process is, or is not, ready.
    status, "attain.status.v1"
);
package!(
    /// Telemetry, dependencies and incidents in; history and topology out.
    ingestion, "attain.ingestion.v1", crate::rows::IngestDependenciesRequest, crate::rows::GetTopologyResponse
);
package!(
    /// Structure of the dependency graph.
    graph, "attain.graph.v1"
);
package!(
    /// Runbooks, SLO templates and incident reports.
    rag, "attain.rag.v1"
);
package!(
    /// Recommendations, decisions and the audit log.
    recommendation, "attain.recommendation.v1"
);
