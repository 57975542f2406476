//! What is loaded: a member of this run's own, or one that runs already.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use attain_members::{Attain, Ingestion, IngestionOptions, Usage};
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use clap::Args;
use tonic::transport::Channel;

const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The built command; the one beside this command when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) attain: Option<PathBuf>,
    /// PostgreSQL (or another SQLite file) in place of an embedded database of the run's own.
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// A further setting of the member that is started, `ingestion.key=value`; may be repeated.
    #[arg(long = "set", value_name = "ingestion.KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// gRPC address of a running ingestion member, in place of one of the run's own.
    #[arg(long, value_name = "URL", requires = "pid")]
    pub(crate) address: Option<String>,
    /// OTLP/gRPC address of that member.
    #[arg(long, value_name = "URL", requires = "address")]
    pub(crate) otlp_address: Option<String>,
    /// Process of that member, on this machine, whose processor time and memory are measured.
    #[arg(long, requires = "address")]
    pub(crate) pid: Option<u32>,
}

/// A member under load.
pub(crate) enum Subject {
    Own(Box<Ingestion>),
    Running { address: String, otlp_address: Option<String>, pid: u32 },
}

impl Subject {
    pub(crate) async fn start(options: &Options) -> anyhow::Result<Self> {
        if let (Some(address), Some(pid)) = (&options.address, options.pid) {
            ensure!(options.settings.is_empty(), "--set is for a member that is started; this one runs already");
            let (address, otlp_address) = (address.clone(), options.otlp_address.clone());
            return Ok(Self::Running { address, otlp_address, pid });
        }
        let attain = Attain::find(options.attain.as_deref())?;
        let started =
            IngestionOptions { database_url: options.database_url.clone(), settings: options.settings.clone() };
        Ok(Self::Own(Box::new(Ingestion::start(&attain, &started).await?)))
    }

    pub(crate) async fn client(&self) -> anyhow::Result<IngestionServiceClient<Channel>> {
        match self {
            Self::Own(own) => own.client().await,
            Self::Running { address, .. } => {
                let channel = Channel::from_shared(address.clone())?.connect().await?;
                Ok(IngestionServiceClient::new(channel)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX))
            }
        }
    }

    pub(crate) fn otlp_address(&self) -> anyhow::Result<String> {
        match self {
            Self::Own(own) => Ok(own.otlp_address.clone()),
            Self::Running { otlp_address, .. } => otlp_address.clone().context("--otlp-address is needed"),
        }
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        match self {
            Self::Own(own) => own.usage(),
            Self::Running { pid, .. } => Usage::of(*pid),
        }
    }

    /// Bytes of the database, where it is embedded and the run's own.
    pub(crate) fn bytes_on_disk(&self) -> anyhow::Result<Option<u64>> {
        match self {
            Self::Own(own) => own.bytes_on_disk(),
            Self::Running { .. } => Ok(None),
        }
    }
}
