//! What is read from a Prometheus-compatible server: a scripted one for what goes wrong, and a genuine one where
//! `ATTAIN_TEST_PROMETHEUS` names the program (with `promtool` beside it).

#![allow(clippy::unwrap_used)]

mod backfill;
mod edges;
mod exporters;
mod genuine;
mod harness;
mod native;
mod presets;
mod scripted;
mod troubles;
