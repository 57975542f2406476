use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use attain_proto::ingestion::v1::ListServicesRequest;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::recommendation::v1::recommendation_service_client::RecommendationServiceClient;
use attain_proto::recommendation::v1::{GetSloRecommendationsRequest, Offer};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::scratch::Folder;

/// A recommendation older than this is computed anew: nothing that was stored before the attacks is answered after them.
const MAX_AGE: Duration = Duration::from_secs(1);
const START_WITHIN: Duration = Duration::from_secs(180);
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The bits of every target, threshold and bound that is offered, by service.
pub(super) type Targets = BTreeMap<String, Vec<u64>>;

/// The whole mesh as a process, with the demo's shop in it.
pub(super) struct Mesh {
    /// gRPC address of rag.
    pub(super) rag: String,
    ingestion: String,
    recommendation: String,
    _process: Child,
    _folder: Folder,
}

impl Mesh {
    /// Loads the demo into a folder, then runs the mesh on it.
    pub(super) async fn start(attain: Option<&Path>, without_model: bool) -> anyhow::Result<Self> {
        let attain = match attain {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()?.with_file_name("attain"),
        };
        ensure!(attain.is_file(), "{} is not built; name the command with --attain", attain.display());
        let folder = Folder::new("injection")?;
        let model: &[&str] = if without_model { &["--set", "rag.embeddings=false"] } else { &[] };
        let loaded = command(&attain)
            .args(["demo", "--once", "--format", "json", "--listen", "127.0.0.1:0", "--otlp-listen", "127.0.0.1:0"])
            .args(["--otlp-http-listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path())
            .args(model)
            .stdout(Stdio::null())
            .status();
        let loaded = tokio::time::timeout(START_WITHIN, loaded).await.context("the demo was not loaded in time")??;
        ensure!(loaded.success(), "the demo could not be loaded");
        let mut process = command(&attain)
            .args(["up", "--format", "json", "--listen", "127.0.0.1:0", "--otlp-listen", "127.0.0.1:0"])
            .args(["--otlp-http-listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path())
            .args(model)
            .args(["--set", &format!("recommendation.max_age_seconds={}", MAX_AGE.as_secs())])
            .args(["--set", "recommendation.min_recompute_interval_seconds=0"])
            .stdout(Stdio::piped())
            .spawn()
            .context("the mesh does not start")?;
        let mut lines = BufReader::new(process.stdout.take().context("an output")?).lines();
        let line =
            tokio::time::timeout(START_WITHIN, lines.next_line()).await.context("the mesh is not ready in time")??;
        let printed: Value = serde_json::from_str(&line.context("the mesh ended at once")?)?;
        let member = |name: &str| {
            let address = printed["members"][name].as_str().context("an address")?;
            Ok::<_, anyhow::Error>(format!("http://{address}"))
        };
        let (rag, ingestion, recommendation) = (member("rag")?, member("ingestion")?, member("recommendation")?);
        Ok(Self { rag, ingestion, recommendation, _process: process, _folder: folder })
    }

    /// What every service is offered, computed after this is called.
    pub(super) async fn targets(&self) -> anyhow::Result<Targets> {
        tokio::time::sleep(MAX_AGE + Duration::from_millis(200)).await;
        let channel = Channel::from_shared(self.ingestion.clone())?.connect().await?;
        let listed = IngestionServiceClient::new(channel)
            .list_services(ListServicesRequest { page_size: 500, ..Default::default() })
            .await?
            .into_inner();
        let channel = Channel::from_shared(self.recommendation.clone())?.connect().await?;
        let mut client = RecommendationServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut targets = Targets::new();
        for service in listed.services {
            let asked = GetSloRecommendationsRequest { service_id: service.id.clone(), ..Default::default() };
            // Parties outside have no recommendation of their own.
            let Ok(answer) = client.get_slo_recommendations(asked).await else { continue };
            let recommendation = answer.into_inner().recommendation.context("a recommendation")?;
            let offers = recommendation.slis.iter().flat_map(|sli| {
                let ceiling = sli.ceiling_ratio.unwrap_or(-1.0).to_bits();
                [u64::from(sli.latency_threshold_ms), ceiling].into_iter().chain(sli.offers.iter().flat_map(bits))
            });
            targets.insert(service.id, offers.collect());
        }
        Ok(targets)
    }
}

fn bits(offer: &Offer) -> [u64; 2] {
    [offer.target_ratio.to_bits(), u64::from(offer.latency_threshold_ms)]
}

/// The command, without the settings of the machine.
fn command(attain: &Path) -> Command {
    let mut command = Command::new(attain);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ATTAIN_")) {
        command.env_remove(name);
    }
    command.env("RUST_LOG", "error").kill_on_drop(true);
    command
}
