//! Decode, answer, encode.

mod decode;
mod encode;
mod latencies;
mod solved;

use std::sync::Arc;

use attain_proto::convert;
use attain_proto::graph::v1::graph_service_server::GraphService;
use attain_proto::graph::v1::{
    AnalyzeLatencyRequest, AnalyzeLatencyResponse, AnalyzeServiceRequest, AnalyzeServiceResponse,
    EvaluateAvailabilityRequest, EvaluateAvailabilityResponse, EvaluateLatencyRequest, EvaluateLatencyResponse,
    GetDependenciesRequest, GetDependenciesResponse, GetSnapshotRequest, GetSnapshotResponse,
    GetTopologyChangesRequest, GetTopologyChangesResponse, SnapshotInfo, SolveTargetsRequest, SolveTargetsResponse,
};
use attain_runtime::admission::Class;
use attain_runtime::context::CallContext;
use attain_runtime::serve::call_timeout;
use tonic::{Request, Response, Status};

use crate::queries::{AnalysisQuestion, Engine};
use crate::storage::held::Held;

/// The gRPC service.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    pub(crate) engine: Arc<Engine>,
}

/// Every call of this service answers a question.
pub(crate) fn classify(_path: &str) -> Class {
    Class::Read
}

impl Graph {
    fn info(&self, context: &CallContext, held: &Held) -> Option<SnapshotInfo> {
        Some(SnapshotInfo {
            version: held.version,
            age: Some(convert::duration(self.engine.snapshots.age_ms(&context.tenant, held))),
            entity_count: held.entities.len() as u32,
            dependency_count: held.dependencies.len() as u32,
        })
    }
}

#[tonic::async_trait]
impl GraphService for Graph {
    async fn get_dependencies(
        &self,
        request: Request<GetDependenciesRequest>,
    ) -> Result<Response<GetDependenciesResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let request = request.into_inner();
        let heading = decode::heading(request.direction)?;
        let depth = (request.depth > 0).then_some(request.depth);
        let walked = self.engine.neighbourhood(&context, (&request.service_id, request.version), heading, depth).await;
        let (held, neighbourhood) = walked?;
        let mut answer = encode::neighbourhood(&held, &neighbourhood);
        answer.snapshot = self.info(&context, &held);
        Ok(Response::new(answer))
    }

    async fn analyze_service(
        &self,
        request: Request<AnalyzeServiceRequest>,
    ) -> Result<Response<AnalyzeServiceResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let request = request.into_inner();
        let question = AnalysisQuestion {
            service_id: &request.service_id,
            version: request.version,
            with_betweenness: request.with_betweenness,
            confidence_min: request.confidence_min,
        };
        let (held, analysis) = self.engine.analyse(&context, question).await?;
        let mut answer = encode::analysis(&held, analysis);
        answer.snapshot = self.info(&context, &held);
        Ok(Response::new(answer))
    }

    async fn analyze_latency(
        &self,
        request: Request<AnalyzeLatencyRequest>,
    ) -> Result<Response<AnalyzeLatencyResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let (held, waiting) = self.engine.latency(&context, decode::latency(request.into_inner())?).await?;
        let mut answer = latencies::waiting(&held.snapshot, waiting);
        answer.snapshot = self.info(&context, &held);
        Ok(Response::new(answer))
    }

    async fn get_topology_changes(
        &self,
        request: Request<GetTopologyChangesRequest>,
    ) -> Result<Response<GetTopologyChangesResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let request = request.into_inner();
        let changes = self.engine.changes(&context, request.from_version, request.to_version).await?;
        Ok(Response::new(encode::changes(changes)))
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let request = request.into_inner();
        let wait = decode::wait(request.wait.as_ref().map_or(0, convert::duration_millis))?;
        let found = self.engine.snapshot(&context, request.version_min, wait, &request.service_ids).await;
        let (held, cycles) = found?;
        let cycles = cycles.iter().map(|cycle| encode::cycle(&held.snapshot, cycle)).collect();
        Ok(Response::new(GetSnapshotResponse { snapshot: self.info(&context, &held), cycles }))
    }

    async fn evaluate_availability(
        &self,
        request: Request<EvaluateAvailabilityRequest>,
    ) -> Result<Response<EvaluateAvailabilityResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let question = decode::question(request.into_inner())?;
        let (held, answer) = self.engine.availability(&context, question).await?;
        let mut answer = encode::availabilities(&held.snapshot, &answer);
        answer.snapshot = self.info(&context, &held);
        Ok(Response::new(answer))
    }

    async fn evaluate_latency(
        &self,
        request: Request<EvaluateLatencyRequest>,
    ) -> Result<Response<EvaluateLatencyResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let question = decode::slowdown(request.into_inner())?;
        let (held, found) = self.engine.slowdown(&context, question).await?;
        let mut answer = latencies::slowdown(&held.snapshot, &found);
        answer.snapshot = self.info(&context, &held);
        Ok(Response::new(answer))
    }

    async fn solve_targets(
        &self,
        request: Request<SolveTargetsRequest>,
    ) -> Result<Response<SolveTargetsResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let question = decode::targets(&request.into_inner())?;
        let (held, solved) = self.engine.solve_targets(&context, question).await?;
        let mut answer = solved::targets(&held.snapshot, solved);
        answer.snapshot = self.info(&context, &held);
        Ok(Response::new(answer))
    }
}
