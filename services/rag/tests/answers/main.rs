//! Answers in sentences as their callers meet them: over gRPC, out of the demo's documents, with and without a language model.
#![allow(clippy::unwrap_used)]

mod endpoint;
mod grounded;
mod harness;
mod reworded;
