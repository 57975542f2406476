//! What can be asked for on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::Command as ClientCommand;

const EXAMPLES: &str = "\
Examples:
  attain demo --once                          a simulated shop, its SLOs and why, then exit
  attain up --data-dir ./attain-data          the whole mesh for your own telemetry
  attain recommend checkout-service           what a running mesh recommends";

/// Tells every team which SLOs its service can attain, given what it depends on.
#[derive(Debug, Parser)]
#[command(name = "attain", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// How results are printed on standard output; logs and progress go to standard error.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the whole mesh in this process, with embedded storage in a folder.
    #[command(after_help = "Example:\n  attain up --data-dir ./attain-data --listen 127.0.0.1:8080")]
    Up(UpOptions),
    /// Runs one member by itself, as containers do.
    #[command(after_help = "Example:\n  attain serve graph --set graph.ingestion_url=http://ingestion:7101")]
    Serve(ServeOptions),
    /// Runs the mesh with a simulated shop and walks through what it recommends.
    #[command(after_help = "Example:\n  attain demo --once --format json")]
    Demo(DemoOptions),
    /// Asks one member whether it is ready; the exit code says so too.
    #[command(after_help = "Example:\n  attain health http://127.0.0.1:7102")]
    Health(HealthOptions),
    /// Checks a Prometheus mapping file and prints every query that it leads to.
    #[command(after_help = "Example:\n  attain check-mapping deploy/prometheus-mapping.toml --format json")]
    CheckMapping(CheckMappingOptions),
    #[command(flatten)]
    Client(ClientCommand),
}

/// Where a gateway is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// Gateway that client commands speak to.
    #[arg(long, global = true, env = "ATTAIN_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// API key that client commands send.
    #[arg(long, global = true, env = "ATTAIN_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
}

/// Where settings come from; flags win over variables, variables over the file.
#[derive(Debug, Clone, Args)]
pub(crate) struct SettingsOptions {
    /// TOML file with one section a service.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, for example `--set gateway.rates.reads_per_minute=600`; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpOptions {
    /// Folder for everything that is kept; created when missing.
    #[arg(long, value_name = "DIR", default_value = "attain-data")]
    pub(crate) data_dir: PathBuf,
    /// Address of the gateway.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Address that takes OpenTelemetry (OTLP/gRPC).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317")]
    pub(crate) otlp_listen: SocketAddr,
    /// Address that takes OpenTelemetry (OTLP/HTTP).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4318")]
    pub(crate) otlp_http_listen: SocketAddr,
    #[command(flatten)]
    pub(crate) settings: SettingsOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoOptions {
    /// Folder for everything that is kept; a temporary one, removed at the end, when left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the gateway.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Address that takes OpenTelemetry (OTLP/gRPC).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317")]
    pub(crate) otlp_listen: SocketAddr,
    /// Address that takes OpenTelemetry (OTLP/HTTP).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4318")]
    pub(crate) otlp_http_listen: SocketAddr,
    /// Seed of the simulated telemetry.
    #[arg(long, default_value_t = attain_simulator::shop::SEED)]
    pub(crate) seed: u64,
    /// End when the tour is done.
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) settings: SettingsOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServeOptions {
    /// Which member.
    #[arg(value_enum)]
    pub(crate) member: Member,
    /// Address to listen on; the same as `--set MEMBER.listen=ADDR`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Check the settings and end, without opening a port.
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) settings: SettingsOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HealthOptions {
    /// The member's gRPC address.
    pub(crate) address: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CheckMappingOptions {
    /// The file that `ingestion.prometheus.mapping_file` names.
    pub(crate) file: PathBuf,
}

/// A member of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Member {
    /// Telemetry, dependencies and incidents in.
    Ingestion,
    /// Structure of the dependency graph.
    Graph,
    /// Recommendations, decisions, audit.
    Recommendation,
    /// Runbooks, SLO templates and incident reports.
    Rag,
    /// REST over the mesh.
    Gateway,
}
