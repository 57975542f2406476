//! Loads a running mesh over gRPC and reports what it bore, with the objective that each scenario must meet.
//!
//! One module a scenario; [`drive`] keeps a fixed number of calls in flight for a fixed time and measures them. JSON alone
//! goes to standard output, progress to standard error. The exit code says whether the objective was met.
#![allow(clippy::print_stdout)]

mod drive;
mod ingest;
mod read;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

/// Loads a running mesh.
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
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.scenario {
        Scenario::Ingest(load) => ingest::run(&load).await,
        Scenario::Read(options) => read::run(&options).await,
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
