//! The service over gRPC on loopback, with members that hold a small seeded system and answer honestly from it.
#![allow(clippy::unwrap_used)]

mod changes;
mod comparison;
mod decisions;
mod degraded;
mod drift;
mod harness;
mod impact;
mod models;
mod recommendation;
mod slowdown;
mod structure;
mod world;
