use attain_proto::recommendation::v1::recommendation_service_client::RecommendationServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::ingestion::{Ingestion, IngestionOptions};
use crate::process::{Attain, Process, free_address, wait_until_ready};
use crate::usage::Usage;

fn of_section(settings: &[String], section: &str) -> Vec<String> {
    settings.iter().filter(|text| text.starts_with(&format!("{section}."))).cloned().collect()
}

/// Arguments and further settings.
fn with(arguments: &[String], settings: Vec<String>) -> Vec<String> {
    let settings = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
    arguments.iter().cloned().chain(settings).collect()
}

/// Recommendation and everything that it asks: ingestion, graph and rag, each a process of its own with embedded storage.
#[derive(Debug)]
pub struct Recommending {
    /// The member that keeps measurements and dependencies.
    pub ingestion: Ingestion,
    /// gRPC address of recommendation.
    pub address: String,
    graph: Process,
    rag: Process,
    recommendation: Process,
    attain: Attain,
    arguments: Vec<String>,
    _folder: TempDir,
}

impl Recommending {
    /// Starts all four and waits until they answer. `settings` are `section.key=value` of any of them.
    ///
    /// # Errors
    /// Where one does not become ready.
    pub async fn start(attain: &Attain, settings: &[String]) -> anyhow::Result<Self> {
        let of = |section: &str| of_section(settings, section);
        let options = IngestionOptions { database_url: None, settings: of("ingestion") };
        let ingestion = Ingestion::start(attain, &options).await?;
        let folder = tempfile::Builder::new().prefix("attain-load-").tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (graph_at, rag_at, listen) = (free_address()?, free_address()?, free_address()?);
        let serve = |member: &str, listen: std::net::SocketAddr, own: Vec<String>| {
            let mut arguments = vec!["serve".into(), member.into(), "--listen".into(), listen.to_string()];
            let all = own.into_iter().chain(of(member));
            arguments.extend(all.flat_map(|setting| ["--set".to_owned(), setting]));
            attain.start(&arguments)
        };
        let ingestion_url = |section: &str| format!("{section}.ingestion_url={}", ingestion.address);
        let graph = serve("graph", graph_at, vec![ingestion_url("graph")])?;
        let rag_settings = vec![
            format!("rag.database_url=sqlite:{}", path("rag.db")),
            format!("rag.index_dir={}", path("index")),
            "rag.embeddings=false".to_owned(),
        ];
        let rag = serve("rag", rag_at, rag_settings)?;
        wait_until_ready(&format!("http://{graph_at}")).await?;
        wait_until_ready(&format!("http://{rag_at}")).await?;
        let own = vec![
            ingestion_url("recommendation"),
            format!("recommendation.graph_url=http://{graph_at}"),
            format!("recommendation.rag_url=http://{rag_at}"),
            format!("recommendation.database_url=sqlite:{}", path("recommendation.db")),
        ];
        let mut arguments = vec!["serve".into(), "recommendation".into(), "--listen".into(), listen.to_string()];
        arguments.extend(own.into_iter().flat_map(|setting| ["--set".to_owned(), setting]));
        let recommendation = attain.start(&with(&arguments, of("recommendation")))?;
        let address = format!("http://{listen}");
        wait_until_ready(&address).await?;
        let attain = attain.clone();
        Ok(Self { ingestion, address, graph, rag, recommendation, attain, arguments, _folder: folder })
    }

    /// Ends recommendation and starts it again on what it stored, with its part of other settings than before.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn restart(self, settings: &[String]) -> anyhow::Result<Self> {
        self.recommendation.kill_9().await?;
        let recommendation = self.attain.start(&with(&self.arguments, of_section(settings, "recommendation")))?;
        wait_until_ready(&self.address).await?;
        Ok(Self { recommendation, ..self })
    }

    /// A client of recommendation.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub async fn client(&self) -> anyhow::Result<RecommendationServiceClient<Channel>> {
        let channel = Channel::from_shared(self.address.clone())?.connect().await?;
        Ok(RecommendationServiceClient::new(channel).max_decoding_message_size(64 * 1024 * 1024))
    }

    /// Each process by its name with what it has used.
    ///
    /// # Errors
    /// Where one has ended.
    pub fn usage(&self) -> anyhow::Result<[(&'static str, Usage); 4]> {
        Ok([
            ("ingestion", self.ingestion.usage()?),
            ("graph", self.graph.usage()?),
            ("rag", self.rag.usage()?),
            ("recommendation", self.recommendation.usage()?),
        ])
    }
}
