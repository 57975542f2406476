//! Members of the mesh as real processes, and what they use, for load tests and evaluations.
//!
//! [`Attain`] is the built command; [`Ingestion`] one member that can be killed and started again on the same ports;
//! [`Mesh`] gateway, graph and ingestion as three processes, [`Recommending`] recommendation with all that it asks; [`Usage`] what `/proc` says that a process has used, so that
//! figures per core hold on a machine that others use too. Processes end with their values.
//!
//! Deliberately unknown here: what is sent and what is judged.

mod ingestion;
mod mesh;
mod process;
mod recommendation;
mod rest;
mod usage;

pub use ingestion::{Ingestion, IngestionOptions};
pub use mesh::Mesh;
pub use process::{Attain, Process};
pub use recommendation::Recommending;
pub use rest::{get, post, rest_client};
pub use usage::Usage;
