//! Structure and what it means for availability. Pure: no transport, no clock, no random numbers but seeded ones.
//!
//! [`snapshot::Snapshot`] is built once, from rows or from the one before it ([`update`]), and never changes; every question is a
//! function of it. Nodes are numbered in
//! lexical order of their names, so that "lowest number first" and "lexical order" are the same thing.

pub mod availability;
pub mod betweenness;
pub mod blast;
pub mod chain;
pub mod chokes;
pub mod confidence;
pub mod critical;
pub mod cuts;
pub mod cycles;
pub mod findings;
pub mod fleet;
pub mod latency;
pub mod links;
pub mod needs;
pub mod opened;
pub mod recheck;
pub mod requests;
pub mod routes;
pub mod sampled_latency;
pub mod scenario;
pub mod sensitivity;
pub mod single_points;
pub mod slow_requests;
pub mod slowdown;
pub mod snapshot;
pub mod structure;
pub mod together;
pub mod update;
pub mod upstream;
pub mod walk;
