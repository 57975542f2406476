//! What a mesh says that it has counted, read over its API.

use std::time::{Duration, Instant};

use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::ingestion::v1::{GetTopologyRequest, StreamSliHistoryRequest};
use tonic::transport::Channel;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Sums over the services of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    /// Requests in SLI buckets.
    pub(crate) requests: u64,
    /// Calls on edges.
    pub(crate) calls: u64,
}

impl Counted {
    /// Spans that were counted: each request and each call is one.
    pub(crate) fn spans(self) -> u64 {
        self.requests + self.calls
    }
}

/// What is counted now of the services whose names begin with `run-`.
pub(crate) async fn counted(client: &mut IngestionServiceClient<Channel>, run: &str) -> anyhow::Result<Counted> {
    let prefix = format!("{run}-");
    let topology = client.get_topology(GetTopologyRequest::default()).await?.into_inner();
    let (entities, edges) = (topology.entities.to_vec()?, topology.dependencies.to_vec()?);
    let edges = edges.iter().filter(|edge| edge.caller_id.starts_with(&prefix));
    let calls = edges.map(|edge| edge.observed_call_count).sum();
    let services = entities.into_iter().map(|entity| entity.id).filter(|id| id.starts_with(&prefix));
    let service_ids: Vec<String> = services.collect();
    let mut requests = 0;
    if !service_ids.is_empty() {
        let question = StreamSliHistoryRequest { service_ids, without_latency: true, ..Default::default() };
        let mut chunks = client.stream_sli_history(question).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            requests += chunk.buckets.unwrap_or_default().valid_counts.iter().sum::<u64>();
        }
    }
    Ok(Counted { requests, calls })
}

/// Looks until `expected` is counted or nothing has moved for `quiet`; what is counted then, and how long the last
/// movement took. With `quiet_too` it waits for the quiet in any case, so that what is counted twice is seen.
pub(crate) async fn settle(
    client: &mut IngestionServiceClient<Channel>,
    run: &str,
    expected: Counted,
    quiet: Duration,
    quiet_too: bool,
) -> anyhow::Result<(Counted, Duration)> {
    let began = Instant::now();
    let (mut newest, mut moved) = (counted(client, run).await?, Instant::now());
    while (quiet_too || newest != expected) && moved.elapsed() < quiet {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = counted(client, run).await?;
        if now != newest {
            (newest, moved) = (now, Instant::now());
        }
    }
    Ok((newest, moved.duration_since(began)))
}
