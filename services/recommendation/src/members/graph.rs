use std::collections::BTreeMap;
use std::time::Duration;

use attain_proto::convert;
use attain_proto::graph::v1 as wire;
use attain_proto::graph::v1::graph_service_client::GraphServiceClient;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::context::CallContext;
use attain_vocabulary::EntityId;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::Refusal;
use crate::domain::components::Facts;
use crate::domain::flow::Edge;
use crate::message::topology;

/// Seed of every Monte Carlo estimate that this service asks for; part of the record of each recommendation.
pub(crate) const SEED: u64 = 20_261_123;

/// Which way to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// What the service needs.
    Downstream,
    /// Who needs the service.
    Upstream,
}

/// Everything reached from one service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closure {
    /// Names by distance, then in lexical order; the service itself first.
    pub(crate) order: Vec<EntityId>,
    pub(crate) facts: BTreeMap<EntityId, Facts>,
    /// Where its members are said to run, as far as that is said.
    pub(crate) regions: BTreeMap<EntityId, String>,
    pub(crate) edges: Vec<Edge>,
    /// The edges as they came, one for each of `edges`.
    pub(crate) dependencies: Vec<vocabulary::Dependency>,
    /// How sure it is that each of `edges` is there, in that order; empty where that is not told.
    pub(crate) confidences: Vec<f64>,
    /// Whether the walk stopped at the engine's bound.
    pub(crate) truncated: bool,
    /// Topology version of the snapshot that was walked: it holds every change of topology up to this number.
    pub(crate) version: u64,
}

/// Structure.
#[derive(Debug, Clone)]
pub(crate) struct Graph(GraphServiceClient<Channel>);

impl Graph {
    pub(crate) fn new(channel: Channel) -> Self {
        let client = GraphServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip);
        Self(client)
    }

    /// Walks as far as it goes.
    pub(crate) async fn closure(
        &self,
        context: &CallContext,
        id: &EntityId,
        direction: Direction,
    ) -> Result<Closure, Refusal> {
        let direction = match direction {
            Direction::Downstream => wire::Direction::Downstream,
            Direction::Upstream => wire::Direction::Upstream,
        };
        let request = wire::GetDependenciesRequest {
            service_id: id.to_string(),
            direction: direction as i32,
            depth: 0,
            version: 0,
        };
        let response = self.0.clone().get_dependencies(context.request(request)).await;
        read(response.map_err(|status| Refusal::from_status(&status))?.into_inner())
    }

    /// Waits, within bounds, until the snapshot holds a topology version. The version that it has then, which is less where
    /// the wait ended first.
    pub(crate) async fn follow(
        &self,
        context: &CallContext,
        service: &EntityId,
        version: u64,
        wait: Duration,
    ) -> Result<u64, Refusal> {
        let wait = wait.min(context.remaining());
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let request = wire::GetSnapshotRequest {
            version_min: version,
            wait: Some(convert::duration(wait_ms)),
            // Cycles are not of interest; an empty list would ask for all of them.
            service_ids: vec![service.to_string()],
        };
        let response = self.0.clone().get_snapshot(context.request(request)).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        Ok(response.snapshot.map_or(0, |info| info.version))
    }

    /// Evaluates what the structure allows; where a bound of confidence is given, also without the edges below it.
    pub(crate) async fn evaluate(
        &self,
        context: &CallContext,
        services: &[EntityId],
        rates: &[wire::ComponentRate],
        changes: Vec<wire::ScenarioChange>,
        confidence_min: Option<f64>,
    ) -> Result<wire::EvaluateAvailabilityResponse, Refusal> {
        let request = wire::EvaluateAvailabilityRequest {
            service_ids: services.iter().map(ToString::to_string).collect(),
            rates: rates.to_vec(),
            changes,
            seed: SEED,
            confidence_min: confidence_min.unwrap_or_default(),
        };
        let response = self.0.clone().evaluate_availability(context.request(request)).await;
        Ok(response.map_err(|status| Refusal::from_status(&status))?.into_inner())
    }

    /// What changes do to latencies.
    pub(crate) async fn evaluate_latency(
        &self,
        context: &CallContext,
        request: wire::EvaluateLatencyRequest,
    ) -> Result<wire::EvaluateLatencyResponse, Refusal> {
        let response = self.0.clone().evaluate_latency(context.request(request)).await;
        Ok(response.map_err(|status| Refusal::from_status(&status))?.into_inner())
    }

    /// What sampled requests of a service say when they are held against thresholds; `None` where too few are known.
    pub(crate) async fn sampled(
        &self,
        context: &CallContext,
        service: &EntityId,
        thresholds_ms: &[u32],
    ) -> Result<Option<wire::SampledLatency>, Refusal> {
        let request = wire::AnalyzeLatencyRequest {
            service_id: service.to_string(),
            slow_thresholds_ms: thresholds_ms.iter().copied().map(f64::from).collect(),
            sampled_only: true,
            ..wire::AnalyzeLatencyRequest::default()
        };
        let response = self.0.clone().analyze_latency(context.request(request)).await;
        Ok(response.map_err(|status| Refusal::from_status(&status))?.into_inner().sampled)
    }

    /// Targets that hold together.
    pub(crate) async fn solve(
        &self,
        context: &CallContext,
        request: wire::SolveTargetsRequest,
    ) -> Result<wire::SolveTargetsResponse, Refusal> {
        let response = self.0.clone().solve_targets(context.request(request)).await;
        Ok(response.map_err(|status| Refusal::from_status(&status))?.into_inner())
    }
}

fn read(response: wire::GetDependenciesResponse) -> Result<Closure, Refusal> {
    let malformed = |invalid: attain_vocabulary::InvalidValue| {
        Refusal::Refused(format!("the graph holds what cannot be right: {invalid}"))
    };
    let version = response.snapshot.map_or(0, |info| info.version);
    let confidences = response.dependency_confidences;
    let mut closure = Closure { confidences, truncated: response.truncated, version, ..Closure::default() };
    for entity in response.entities.iter().filter_map(|reached| reached.entity.as_ref()) {
        let (id, facts) = topology::entity(entity).map_err(malformed)?;
        closure.order.push(id.clone());
        if !entity.region.is_empty() {
            closure.regions.insert(id.clone(), entity.region.clone());
        }
        closure.facts.insert(id, facts);
    }
    for dependency in response.dependencies {
        closure.edges.push(topology::edge(&dependency).map_err(malformed)?);
        closure.dependencies.push(dependency);
    }
    Ok(closure)
}
