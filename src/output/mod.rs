//! Everything that is printed on standard output: JSON for programs, plain tables for people.
#![allow(clippy::print_stdout)]

mod answers;
mod calibration;
mod files;
mod numbers;
mod progress;
mod recommendation;
mod slos;
mod table;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Format;
use crate::mesh::Addresses;

pub(crate) use files::exported;
pub(crate) use numbers::{milliseconds, percent};
pub(crate) use progress::Progress;
pub(crate) use recommendation::target;
pub(crate) use table::Table;

/// A result on standard output: as JSON, or as lines and tables.
pub(crate) fn answer(answer: &Value, format: Format) {
    match format {
        Format::Json => println!("{answer:#}"),
        Format::Text => print!("{}", table::readable(answer)),
    }
}

/// A recommendation as a person reads it.
pub(crate) fn recommendation(answer: &Value) {
    print!("{}", recommendation::readable(answer));
}

/// An answer in sentences as a person reads it.
pub(crate) fn answered(answer: &Value) {
    print!("{}", answers::readable(answer));
}

/// How often offers are missed, as a person reads it.
pub(crate) fn calibration(answer: &Value) {
    print!("{}", calibration::readable(answer));
}

/// Error budgets as a person reads them.
pub(crate) fn budgets(answer: &Value) {
    print!("{}", slos::budgets(answer));
}

/// Alerts as a person reads them.
pub(crate) fn alerts(answer: &Value) {
    print!("{}", slos::alerts(answer));
}

/// Plain lines.
pub(crate) fn lines(text: &str) {
    println!("{text}");
}

/// Why a command failed, on standard error; as JSON where JSON was asked for.
pub(crate) fn failure(error: &anyhow::Error, format: Format) {
    match format {
        Format::Json => eprintln!("{}", json!({"error": format!("{error:#}")})),
        Format::Text => eprintln!("attain: {error:#}"),
    }
}

/// Where the mesh listens.
pub(crate) fn mesh_is_up(addresses: &Addresses, data_dir: &Path, took: Duration, format: Format) {
    let ready_ms = took.as_millis() as u64;
    match format {
        Format::Json => println!(
            "{}",
            json!({
                "gateway": format!("http://{}", addresses.gateway),
                "otlp": format!("http://{}", addresses.otlp),
                "otlp_http": format!("http://{}", addresses.otlp_http),
                "members": {
                    "ingestion": addresses.ingestion.to_string(),
                    "graph": addresses.graph.to_string(),
                    "recommendation": addresses.recommendation.to_string(),
                    "rag": addresses.rag.to_string(),
                },
                "data_dir": data_dir,
                "ready_ms": ready_ms,
            })
        ),
        Format::Text => {
            println!("Attain is up after {ready_ms} ms; everything is kept in {}.", data_dir.display());
            println!("  REST          http://{}   (routes: /docs)", addresses.gateway);
            println!("  OTLP/gRPC     http://{}", addresses.otlp);
            println!("  OTLP/HTTP     http://{}", addresses.otlp_http);
            println!(
                "  gRPC members  ingestion {}, graph {}, recommendation {}, rag {}",
                addresses.ingestion, addresses.graph, addresses.recommendation, addresses.rag
            );
            println!("Ctrl-C drains and ends.");
        }
    }
}
