use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::process::{Attain, Process, free_address, wait_until_ready};
use crate::usage::Usage;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How ingestion is started.
#[derive(Debug, Clone, Default)]
pub struct IngestionOptions {
    /// A database of its own in a temporary folder when left out.
    pub database_url: Option<String>,
    /// Further settings, `ingestion.key=value`.
    pub settings: Vec<String>,
}

/// Ingestion as a process, on ports and with a database that outlive it.
#[derive(Debug)]
pub struct Ingestion {
    attain: Attain,
    arguments: Vec<String>,
    process: Option<Process>,
    /// gRPC address of the mesh's service.
    pub address: String,
    /// gRPC address for OTLP.
    pub otlp_address: String,
    folder: TempDir,
    embedded: bool,
}

impl Ingestion {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn start(attain: &Attain, options: &IngestionOptions) -> anyhow::Result<Self> {
        let (listen, otlp_listen) = (free_address()?, free_address()?);
        let folder = tempfile::Builder::new().prefix("attain-load-").tempdir()?;
        let embedded = format!("sqlite:{}/ingestion.db", folder.path().display());
        let database_url = options.database_url.as_ref().unwrap_or(&embedded);
        let mut arguments: Vec<String> =
            ["serve", "ingestion", "--listen"].iter().map(ToString::to_string).chain([listen.to_string()]).collect();
        let own = [
            format!("ingestion.otlp_listen={otlp_listen}"),
            "ingestion.otlp_http_listen=127.0.0.1:0".to_owned(),
            format!("ingestion.database_url={database_url}"),
        ];
        for setting in own.iter().chain(&options.settings) {
            arguments.extend(["--set".to_owned(), setting.clone()]);
        }
        let mut ingestion = Self {
            attain: attain.clone(),
            arguments,
            process: None,
            address: format!("http://{listen}"),
            otlp_address: format!("http://{otlp_listen}"),
            embedded: options.database_url.is_none(),
            folder,
        };
        ingestion.restart().await?;
        Ok(ingestion)
    }

    /// Starts it again after a kill and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = Some(self.attain.start(&self.arguments)?);
        wait_until_ready(&self.address).await
    }

    /// Ends it as `kill -9` does; what it had used.
    ///
    /// # Errors
    /// Where it had ended by itself.
    pub async fn kill_9(&mut self) -> anyhow::Result<Usage> {
        let process = self.process.take().context("ingestion runs")?;
        let usage = process.usage()?;
        process.kill_9().await?;
        Ok(usage)
    }

    /// What the running process has used.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        self.process.as_ref().context("ingestion runs")?.usage()
    }

    /// A client of the mesh's service.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub async fn client(&self) -> anyhow::Result<IngestionServiceClient<Channel>> {
        let channel = Channel::from_shared(self.address.clone())?.connect().await?;
        Ok(IngestionServiceClient::new(channel)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX))
    }

    /// Bytes of the embedded database, its log included; `None` for another one.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn bytes_on_disk(&self) -> anyhow::Result<Option<u64>> {
        if !self.embedded {
            return Ok(None);
        }
        let sizes = files(self.folder.path())?.into_iter().map(|path| Ok(std::fs::metadata(path)?.len()));
        Ok(Some(sizes.sum::<anyhow::Result<u64>>()?))
    }
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.path())).filter(|path| path.as_ref().is_ok_and(|path| path.is_file())).collect()
}
