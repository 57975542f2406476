//! The mesh as its users meet it: the built binary as one process and as five, over its real ports.
//!
//! What a machine lacks (PostgreSQL, a Prometheus server, a Python with the OpenTelemetry SDK) is named by variables that
//! the test run sets; without them the test says `SKIPPED`, or fails where `ATTAIN_TEST_REQUIRE` is set.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod audit;
mod bad_input;
mod compose;
mod consistency;
mod contract;
mod demo;
mod harness;
mod imports;
mod kill;
mod kill_decisions;
mod knowledge;
mod lifecycle;
mod opentelemetry;
mod outage;
mod privacy;
mod processes;
mod prometheus;
mod telemetry;
