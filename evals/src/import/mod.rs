//! Public traces and metrics through the product's own doors: sent to a real member, read back over its API, and compared
//! with the graph that comes with them.

mod edges;
mod nezha;
mod petshop;

use std::path::PathBuf;

use attain_proto::ingestion::v1::GetTopologyRequest;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use clap::{Args, Subcommand};
use serde_json::Value;
use tonic::transport::Channel;

use edges::Edges;

/// The data is years old; by default ingestion refuses what is older than a year.
const AGE_SETTINGS: [&str; 2] = ["ingestion.bucket_age_days_max=36500", "ingestion.history_days=36500"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    data: Data,
}

#[derive(Debug, Subcommand)]
enum Data {
    /// Spans of Online Boutique (Nezha) as OTLP; the edges that they show against its dependency.csv.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- import nezha --data ../data/nezha")]
    Nezha(nezha::Options),
    /// Metrics and graph of the PetShop application over REST, read back and compared.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- import petshop --data ../data/petshop")]
    Petshop(petshop::Options),
}

/// Where data is and what it is sent to.
#[derive(Debug, Clone, Args)]
struct Place {
    /// Folder of the data set.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The built command that is started; the one beside this command when left out.
    #[arg(long, value_name = "FILE")]
    attain: Option<PathBuf>,
}

/// Imports one data set.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    match &options.data {
        Data::Nezha(options) => nezha::run(options).await,
        Data::Petshop(options) => petshop::run(options).await,
    }
}

/// Every edge that the member knows.
async fn known_edges(client: &mut IngestionServiceClient<Channel>) -> anyhow::Result<Edges> {
    let topology = client.get_topology(GetTopologyRequest::default()).await?.into_inner();
    topology
        .dependencies
        .iter()
        .map(|edge| edge.map(|edge| (edge.caller_id, edge.callee_id)).map_err(Into::into))
        .collect()
}
