//! Loads members of the mesh from outside and reports what they bore, with the objective that each scenario must meet.
//!
//! One module a scenario. [`ingest`] and [`read`] load a mesh that runs, with [`drive`], which keeps a fixed number of calls
//! in flight for a fixed time. [`crash`], [`spans`], [`backfill`], [`graph`], [`recompute`] and [`overload`] start members of their own as
//! real processes and measure the processor time and memory that these used. [`traffic`] and [`calls`] make what is sent,
//! [`counted`] reads back what was counted. JSON alone goes to standard output, progress to standard error. The exit code
//! says whether the objective was met.
#![allow(clippy::print_stdout)]

mod backfill;
mod calls;
mod counted;
mod crash;
mod drive;
mod exporting;
mod graph;
mod ingest;
mod memory;
mod overload;
mod read;
mod recompute;
mod sending;
mod spans;
mod subject;
mod template;
mod traffic;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

/// Loads members of the mesh and judges what they bore.
#[derive(Debug, Parser)]
#[command(
    name = "load-tests",
    after_help = "Example:\n  cargo run --release -p load-tests -- ingest --address http://127.0.0.1:7101 --seconds 20"
)]
struct Cli {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Json)]
    format: Format,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON document.
    Json,
    /// The same, indented.
    Text,
}

/// How hard and how long.
#[derive(Debug, Clone, Args)]
struct Load {
    /// gRPC address of the member, as `attain up` prints it.
    #[arg(long)]
    address: String,
    /// Calls in flight at one time, 1 to 1000.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
    /// How long, in seconds, 1 to 3600.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// SLI buckets into ingestion: at least 5,000 buckets a second, none lost.
    #[command(after_help = "Example:\n  cargo run --release -p load-tests -- ingest --address http://127.0.0.1:7101")]
    Ingest(Load),
    /// Stored recommendations out of recommendation: 99 % of reads within 100 ms.
    #[command(
        after_help = "Example:\n  cargo run --release -p load-tests -- read --address http://127.0.0.1:7103 --service-id checkout-service"
    )]
    Read(read::Options),
    /// Spans of a genuine OpenTelemetry SDK while ingestion is killed: sent = stored + rejected, exactly.
    #[command(
        after_help = "Example:\n  cargo run --release -p load-tests -- crash --python .venv/bin/python --spans 200000 --kills 3"
    )]
    Crash(crash::Options),
    /// Spans over OTLP/gRPC: 150,000 a second and core, or memory flat at a rate.
    #[command(
        after_help = "Examples:\n  cargo run --release -p load-tests -- spans\n  cargo run --release -p load-tests -- spans --rate 20000 --minutes 30"
    )]
    Spans(Box<spans::Options>),
    /// Ninety days of 1,000 services within a minute, one of them read within 5 ms.
    #[command(after_help = "Example:\n  cargo run --release -p load-tests -- backfill --services 1000 --days 90")]
    Backfill(Box<backfill::Options>),
    /// A dependency graph of 5,000 services and 15,000 edges in one REST call: within 1 s and 150 ms of processor time.
    #[command(after_help = "Example:\n  cargo run --release -p load-tests -- graph --runs 5")]
    Graph(graph::Options),
    /// Recommendations of 5,000 services, computed again within 20 s on two cores and read as stored within 0.5 ms.
    #[command(after_help = "Example:\n  cargo run --release -p load-tests -- recompute --services 5000")]
    Recompute(Box<recompute::Options>),
    /// Ten times capacity: every answer within 50 ms, accepted or refused.
    #[command(after_help = "Example:\n  cargo run --release -p load-tests -- overload --times 10 --seconds 10")]
    Overload(overload::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.scenario {
        Scenario::Ingest(load) => ingest::run(&load).await,
        Scenario::Read(options) => read::run(&options).await,
        Scenario::Crash(options) => crash::run(&options).await,
        Scenario::Spans(options) => spans::run(&options).await,
        Scenario::Backfill(options) => backfill::run(&options).await,
        Scenario::Graph(options) => graph::run(&options).await,
        Scenario::Recompute(options) => recompute::run(&options).await,
        Scenario::Overload(options) => overload::run(&options).await,
    };
    match result {
        Ok(report) => {
            match cli.format {
                Format::Json => println!("{report}"),
                Format::Text => println!("{report:#}"),
            }
            if report["objective_met"] == Value::Bool(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("load-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}
