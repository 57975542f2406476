//! The service over gRPC on loopback, with members that hold a small seeded system and answer honestly from it.
#![allow(clippy::unwrap_used)]

mod beside;
mod changes;
mod comparison;
mod decisions;
mod degraded;
mod harness;
mod impact;
mod recommendation;
mod slowdown;
mod structure;
mod world;
