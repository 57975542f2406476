use std::time::{Duration, Instant};

use anyhow::bail;

use crate::ingestion::{Ingestion, IngestionOptions};
use crate::process::{Attain, Process, free_address, wait_until_ready};
use crate::rest::{get, rest_client};
use crate::usage::Usage;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// Gateway, graph and ingestion, each a process of its own.
#[derive(Debug)]
pub struct Mesh {
    /// Base address of the REST routes.
    pub gateway_url: String,
    /// The member that keeps everything.
    pub ingestion: Ingestion,
    graph: Process,
    gateway: Process,
}

impl Mesh {
    /// Starts all three and waits until they answer. `settings` are `section.key=value` of the gateway and the graph.
    ///
    /// # Errors
    /// Where one does not become ready.
    pub async fn start(attain: &Attain, options: &IngestionOptions, settings: &[String]) -> anyhow::Result<Self> {
        let ingestion = Ingestion::start(attain, options).await?;
        let (graph_address, gateway_address) = (free_address()?, free_address()?);
        let of =
            |section: &str| settings.iter().filter(|text| text.starts_with(&format!("{section}."))).cloned().collect();
        let ingestion_url = |section: &str| format!("{section}.ingestion_url={}", ingestion.address);
        let serve = |member: &str, listen: std::net::SocketAddr, settings: Vec<String>| {
            let mut arguments = vec!["serve".into(), member.into(), "--listen".into(), listen.to_string()];
            arguments.extend(settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]));
            attain.start(&arguments)
        };
        let mut of_graph: Vec<String> = of("graph");
        of_graph.push(ingestion_url("graph"));
        let graph = serve("graph", graph_address, of_graph)?;
        let mut of_gateway: Vec<String> = of("gateway");
        of_gateway.extend([ingestion_url("gateway"), format!("gateway.graph_url=http://{graph_address}")]);
        let gateway = serve("gateway", gateway_address, of_gateway)?;
        wait_until_ready(&format!("http://{graph_address}")).await?;
        let mesh = Self { gateway_url: format!("http://{gateway_address}"), ingestion, graph, gateway };
        mesh.wait_for_gateway().await?;
        Ok(mesh)
    }

    /// Each process by its name with what it has used.
    ///
    /// # Errors
    /// Where one has ended.
    pub fn usage(&self) -> anyhow::Result<[(&'static str, Usage); 3]> {
        Ok([("gateway", self.gateway.usage()?), ("ingestion", self.ingestion.usage()?), ("graph", self.graph.usage()?)])
    }

    /// The gateway alone: readiness of the whole would ask for members that do not run.
    async fn wait_for_gateway(&self) -> anyhow::Result<()> {
        let (client, began) = (rest_client(), Instant::now());
        while began.elapsed() < READY_WITHIN {
            if get(&client, &format!("{}/healthz", self.gateway_url)).await.is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the gateway at {} does not answer", self.gateway_url)
    }
}
