//! A seeded simulator of interconnected services: topology, five-minute SLI buckets and incidents with known causes.
//!
//! Two entry points. [`shop::simulate`] is the e-commerce system of the demo, whose published figures (error rates, p99
//! latency, SLOs in force) it reproduces; [`process`] turns a [`model::System`] of failure and latency processes into buckets.
//! [`consumer::consume`] tells how a consumer behind a queue keeps up with what one of them sends.
//! [`fleet::Fleet::draw`] is a fleet of any size whose laws are known: [`fleet::Fleet::past`] draws a history from them, and
//! [`fleet::Fleet::future`] as many windows after it as are asked for, which tells how good any forecast could have been.
//!
//! Data flow: a system describes each component's own chronic failures and failure episodes → failures are drawn a bucket
//! at a time from the leaves up, so that inherited failures come from the same bucket of the dependency → latency
//! histograms are laid out from log-normal distributions that slow down during episodes (in the shop).
//!
//! Invariants: the same seed, end and length give the same bytes; a bucket's inherited failures sum up by dependency; a
//! component's times are offsets from the end of the data, so that the calendar does not change a figure.
//!
//! Deliberately unknown here: the wire, storage, estimates. Whoever uses it must say that the data is simulated.

pub mod consumer;
pub mod fleet;
pub mod model;
pub mod process;
pub mod regions;
pub mod shop;
