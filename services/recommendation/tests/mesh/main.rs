//! The service over gRPC on loopback, with members that hold a small seeded system and answer honestly from it.
#![allow(clippy::unwrap_used)]

mod audit;
mod beside;
mod budgets;
mod calibration;
mod changes;
mod comparison;
mod contradictions;
mod decisions;
mod degraded;
mod drift;
mod exchange;
mod experiments;
mod freshness;
mod harness;
mod histories;
mod impact;
mod learning;
mod lessons;
mod lifecycle;
mod models;
mod recommendation;
mod regions;
mod risks;
mod slowdown;
mod structure;
mod webhooks;
mod windows;
mod world;
