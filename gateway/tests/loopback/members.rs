//! Members for the other end of the wire: the generated server traits over plain memory. They keep what they are sent and
//! judge it by the project's own vocabulary, so that what arrives can be told from what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attain_proto::convert;
use attain_proto::graph::v1::graph_service_server::{GraphService, GraphServiceServer};
use attain_proto::graph::v1::*;
use attain_proto::ingestion::v1::ingestion_service_server::{IngestionService, IngestionServiceServer};
use attain_proto::ingestion::v1::*;
use attain_proto::recommendation::v1::recommendation_service_server::{
    RecommendationService, RecommendationServiceServer,
};
use attain_proto::recommendation::v1::*;
use attain_proto::vocabulary::v1::{Cycle, Entity, Rejection};
use attain_runtime::Shutdown;
use attain_runtime::admission::{Class, Limits};
use attain_runtime::context::CallContext;
use attain_runtime::readiness::{Condition, Readiness};
use attain_runtime::serve::{Member, Windows};
use attain_vocabulary::{EntityId, InvalidValue};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::Empty;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

type Answer<T> = Result<Response<T>, Status>;

/// What the members keep, and what they saw of their callers.
#[derive(Debug, Default)]
pub struct Memory {
    services: Mutex<BTreeMap<String, BTreeMap<String, Entity>>>,
    edges: Mutex<BTreeSet<(String, String)>>,
    pub buckets: Mutex<Vec<SliBucketDeclaration>>,
    slo: Mutex<Option<Slo>>,
    pub metadata: Mutex<BTreeMap<String, String>>,
    /// Told when a replay begins, which lasts until `release`.
    pub replaying: Notify,
    pub release: Notify,
}

/// A running member.
#[derive(Debug)]
pub struct Running {
    pub address: SocketAddr,
    pub storage: Condition,
    _stop: tokio_util_guard::Guard,
}

mod tokio_util_guard {
    /// Stops a member when the test ends.
    #[derive(Debug)]
    pub struct Guard(pub attain_runtime::Shutdown);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
}

async fn start(name: &'static str, routes: Routes) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let readiness = Readiness::new(name, 0);
    let storage = readiness.require("storage", "not opened yet");
    storage.met("memory");
    let shutdown = Shutdown::new();
    let member = Member {
        readiness,
        service_names: &[],
        listener,
        limits: Limits::default(),
        classify: |_| Class::Read,
        drain: Duration::from_secs(1),
        windows: Windows::default(),
    };
    tokio::spawn(member.serve(routes, shutdown.clone()));
    Running { address, storage, _stop: tokio_util_guard::Guard(shutdown) }
}

pub async fn ingestion(memory: &Arc<Memory>) -> Running {
    start("ingestion", Routes::new(IngestionServiceServer::new(Ingestion(Arc::clone(memory))))).await
}

pub async fn graph(memory: &Arc<Memory>) -> Running {
    start("graph", Routes::new(GraphServiceServer::new(Graph(Arc::clone(memory))))).await
}

pub async fn recommendation(memory: &Arc<Memory>) -> Running {
    start("recommendation", Routes::new(RecommendationServiceServer::new(Recommender(Arc::clone(memory))))).await
}

pub async fn rag() -> Running {
    start("rag", Routes::default()).await
}

fn refuse(code: Code, reason: &str, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "attain", [("service".to_owned(), "test".to_owned())]);
    Status::with_error_details(code, message, details)
}

fn tenant<T>(request: &Request<T>) -> Result<String, Status> {
    CallContext::read(request.metadata(), Duration::from_secs(60)).map(|context| context.tenant.to_string())
}

struct Ingestion(Arc<Memory>);

impl Ingestion {
    fn add(&self, tenant: &str, declared: &ServiceDeclaration) -> Result<(), InvalidValue> {
        EntityId::new("id", &declared.id)?;
        let entity = Entity { id: declared.id.clone(), tier: declared.tier, kind: declared.kind, ..Entity::default() };
        self.0.services.lock().unwrap().entry(tenant.to_owned()).or_default().insert(declared.id.clone(), entity);
        let edges = declared.depends_on.iter().map(|callee| (declared.id.clone(), callee.clone()));
        self.0.edges.lock().unwrap().extend(edges);
        Ok(())
    }

    fn connect(&self, caller: &str, callee: &str) -> Result<(), InvalidValue> {
        EntityId::new("caller_id", caller)?;
        EntityId::new("callee_id", callee)?;
        if caller == callee {
            return Err(InvalidValue::new("callee_id", "self_dependency", "a service does not depend on itself"));
        }
        self.0.edges.lock().unwrap().insert((caller.to_owned(), callee.to_owned()));
        Ok(())
    }
}

#[tonic::async_trait]
impl IngestionService for Ingestion {
    type StreamSliHistoryStream = Empty<Result<StreamSliHistoryResponse, Status>>;
    type StreamRegionalHistoryStream = Empty<Result<StreamRegionalHistoryResponse, Status>>;
    type StreamChangesStream = Empty<Result<StreamChangesResponse, Status>>;

    async fn ingest_dependencies(
        &self,
        request: Request<IngestDependenciesRequest>,
    ) -> Answer<IngestDependenciesResponse> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let mut rejected: Vec<Rejection> = Vec::new();
        let mut answer = IngestDependenciesResponse::default();
        for (index, service) in request.services.iter().enumerate() {
            match self.add(&tenant, &service.expect("of the contract")) {
                Ok(()) => answer.accepted_service_count += 1,
                Err(invalid) => rejected.push(convert::rejection("services", index, &invalid)),
            }
        }
        for (index, edge) in request.dependencies.iter().enumerate() {
            let edge = edge.expect("of the contract");
            match self.connect(&edge.caller_id, &edge.callee_id) {
                Ok(()) => answer.accepted_dependency_count += 1,
                Err(invalid) => rejected.push(convert::rejection("dependencies", index, &invalid)),
            }
        }
        answer.topology_version = self.0.edges.lock().unwrap().len() as u64;
        Ok(Response::new(IngestDependenciesResponse { rejected, ..answer }))
    }

    async fn ingest_sli_buckets(&self, request: Request<IngestSliBucketsRequest>) -> Answer<IngestSliBucketsResponse> {
        let request = request.into_inner();
        if request.buckets.is_empty() {
            let details =
                ErrorDetails::with_bad_request_violation("buckets", "required: at least one bucket is needed");
            return Err(Status::with_error_details(Code::InvalidArgument, "there are no buckets", details));
        }
        let mut answer = IngestSliBucketsResponse::default();
        for (index, bucket) in request.buckets.into_iter().enumerate() {
            if bucket.bad_count > bucket.valid_count {
                let invalid = InvalidValue::new("bad_count", "bad_exceeds_valid", "more failed than there were");
                answer.rejected.push(convert::rejection("buckets", index, &invalid));
            } else {
                self.0.buckets.lock().unwrap().push(bucket);
                answer.accepted_count += 1;
            }
        }
        Ok(Response::new(answer))
    }

    async fn list_services(&self, request: Request<ListServicesRequest>) -> Answer<ListServicesResponse> {
        let tenant = tenant(&request)?;
        let mut seen = self.0.metadata.lock().unwrap();
        for name in ["x-attain-tenant", "x-attain-caller", "grpc-timeout", "traceparent", "x-attain-role"] {
            let value = request.metadata().get(name).map(|value| value.to_str().expect("text").to_owned());
            seen.insert(name.to_owned(), value.unwrap_or_default());
        }
        let services = self.0.services.lock().unwrap().get(&tenant).map(|all| all.values().cloned().collect());
        Ok(Response::new(ListServicesResponse {
            services: services.unwrap_or_default(),
            next_page_token: String::new(),
        }))
    }

    async fn get_service(&self, request: Request<GetServiceRequest>) -> Answer<GetServiceResponse> {
        let tenant = tenant(&request)?;
        let id = request.into_inner().service_id;
        let service = self.0.services.lock().unwrap().get(&tenant).and_then(|all| all.get(&id).cloned());
        let unknown = || refuse(Code::NotFound, "UNKNOWN_SERVICE", &format!("there is no service `{id}`"));
        Ok(Response::new(GetServiceResponse { service: Some(service.ok_or_else(unknown)?), data: None }))
    }

    async fn ingest_incidents(&self, _: Request<IngestIncidentsRequest>) -> Answer<IngestIncidentsResponse> {
        Err(Status::internal("table incidents is locked at /var/lib/db"))
    }

    async fn list_operations(&self, _: Request<ListOperationsRequest>) -> Answer<ListOperationsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_sli_buckets(&self, _: Request<ListSliBucketsRequest>) -> Answer<ListSliBucketsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn ingest_utilisation(&self, _: Request<IngestUtilisationRequest>) -> Answer<IngestUtilisationResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_utilisation(&self, _: Request<ListUtilisationRequest>) -> Answer<ListUtilisationResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    /// Notes every header, and refuses one event for each byte that is no letter.
    async fn import_document(&self, request: Request<ImportDocumentRequest>) -> Answer<ImportDocumentResponse> {
        let headers = request.metadata().clone().into_headers();
        let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
        *self.0.metadata.lock().unwrap() =
            headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let document = request.into_inner().document.unwrap_or_default();
        let (kept, refused): (Vec<_>, Vec<_>) =
            document.data.iter().enumerate().partition(|(_, byte)| byte.is_ascii_alphabetic());
        let reject = |(at, _): (usize, &u8)| Rejection { pointer: format!("/{at}"), ..Rejection::default() };
        Ok(Response::new(ImportDocumentResponse {
            accepted_incident_count: kept.len() as u32,
            rejected: refused.into_iter().map(reject).collect(),
            ..ImportDocumentResponse::default()
        }))
    }

    async fn decide_incident_exclusion(
        &self,
        _: Request<DecideIncidentExclusionRequest>,
    ) -> Answer<DecideIncidentExclusionResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn put_incident_services(
        &self,
        _: Request<PutIncidentServicesRequest>,
    ) -> Answer<PutIncidentServicesResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn put_maintenance_window(
        &self,
        _: Request<PutMaintenanceWindowRequest>,
    ) -> Answer<PutMaintenanceWindowResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn end_maintenance_window(
        &self,
        _: Request<EndMaintenanceWindowRequest>,
    ) -> Answer<EndMaintenanceWindowResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn delete_maintenance_window(
        &self,
        _: Request<DeleteMaintenanceWindowRequest>,
    ) -> Answer<DeleteMaintenanceWindowResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_catalogue_status(&self, _: Request<GetCatalogueStatusRequest>) -> Answer<GetCatalogueStatusResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_incidents(&self, _: Request<ListIncidentsRequest>) -> Answer<ListIncidentsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_request_samples(&self, _: Request<ListRequestSamplesRequest>) -> Answer<ListRequestSamplesResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_exemplars(&self, _: Request<ListExemplarsRequest>) -> Answer<ListExemplarsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn stream_sli_history(&self, _: Request<StreamSliHistoryRequest>) -> Answer<Self::StreamSliHistoryStream> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_topology(&self, _: Request<GetTopologyRequest>) -> Answer<GetTopologyResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_change_heads(&self, _: Request<GetChangeHeadsRequest>) -> Answer<GetChangeHeadsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn stream_regional_history(
        &self,
        _: Request<StreamRegionalHistoryRequest>,
    ) -> Answer<Self::StreamRegionalHistoryStream> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn stream_changes(&self, _: Request<StreamChangesRequest>) -> Answer<Self::StreamChangesStream> {
        Err(Status::unimplemented("not kept here"))
    }
}

struct Graph(Arc<Memory>);

#[tonic::async_trait]
impl GraphService for Graph {
    /// Reports pairs that need each other.
    async fn get_snapshot(&self, request: Request<GetSnapshotRequest>) -> Answer<GetSnapshotResponse> {
        let asked = request.into_inner();
        let edges = self.0.edges.lock().unwrap();
        let mutual = edges
            .iter()
            .filter(|(caller, callee)| caller < callee && edges.contains(&(callee.clone(), caller.clone())));
        let concerned =
            mutual.filter(|(caller, callee)| asked.service_ids.contains(caller) || asked.service_ids.contains(callee));
        let cycle = |(caller, callee): &(String, String)| Cycle {
            service_ids: vec![caller.clone(), callee.clone()],
            bootstrap_hazard: true,
        };
        let snapshot = SnapshotInfo { version: asked.version_min.max(edges.len() as u64), ..SnapshotInfo::default() };
        Ok(Response::new(GetSnapshotResponse { snapshot: Some(snapshot), cycles: concerned.map(cycle).collect() }))
    }

    async fn get_dependencies(&self, _: Request<GetDependenciesRequest>) -> Answer<GetDependenciesResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn analyze_latency(&self, _: Request<AnalyzeLatencyRequest>) -> Answer<AnalyzeLatencyResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn analyze_service(&self, _: Request<AnalyzeServiceRequest>) -> Answer<AnalyzeServiceResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn evaluate_latency(&self, _: Request<EvaluateLatencyRequest>) -> Answer<EvaluateLatencyResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn evaluate_availability(
        &self,
        _: Request<EvaluateAvailabilityRequest>,
    ) -> Answer<EvaluateAvailabilityResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_topology_changes(&self, _: Request<GetTopologyChangesRequest>) -> Answer<GetTopologyChangesResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn solve_targets(&self, _: Request<SolveTargetsRequest>) -> Answer<SolveTargetsResponse> {
        Err(Status::unimplemented("not kept here"))
    }
}

struct Recommender(Arc<Memory>);

#[tonic::async_trait]
impl RecommendationService for Recommender {
    async fn get_recommendation(
        &self,
        request: Request<GetRecommendationRequest>,
    ) -> Answer<GetRecommendationResponse> {
        let offer = Offer { target_ratio: 0.1 + 0.2, miss_probability_max: 1e-9, ..Offer::default() };
        let sli = SliRecommendation {
            offers: vec![offer],
            ceiling_ratio: Some(f64::MIN_POSITIVE),
            ..SliRecommendation::default()
        };
        let recommendation = Recommendation {
            id: request.into_inner().recommendation_id,
            version: 7,
            seed: u64::MAX,
            slis: vec![sli],
            ..Recommendation::default()
        };
        Ok(Response::new(GetRecommendationResponse { recommendation: Some(recommendation), lifecycle: None }))
    }

    async fn analyze_consistency(&self, _: Request<AnalyzeConsistencyRequest>) -> Answer<AnalyzeConsistencyResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn decide_slo(&self, request: Request<DecideSloRequest>) -> Answer<DecideSloResponse> {
        let asked = request.into_inner();
        let mut slo = self.0.slo.lock().unwrap();
        let version = slo.as_ref().map_or(0, |slo| slo.version);
        if asked.version_match.is_some_and(|wanted| wanted != version) {
            return Err(refuse(Code::Aborted, "VERSION_MISMATCH", &format!("version {version} is in force")));
        }
        let target_ratio = asked.target_ratio.unwrap_or_default();
        *slo = Some(Slo {
            id: "slo".into(),
            service_id: asked.service_id,
            target_ratio,
            version: version + 1,
            ..Slo::default()
        });
        Ok(Response::new(DecideSloResponse { slo: slo.clone(), ..DecideSloResponse::default() }))
    }

    async fn list_slos(&self, _: Request<ListSlosRequest>) -> Answer<ListSlosResponse> {
        Ok(Response::new(ListSlosResponse { slos: self.0.slo.lock().unwrap().iter().cloned().collect() }))
    }

    async fn replay_recommendation(
        &self,
        _: Request<ReplayRecommendationRequest>,
    ) -> Answer<ReplayRecommendationResponse> {
        self.0.replaying.notify_one();
        self.0.release.notified().await;
        Ok(Response::new(ReplayRecommendationResponse { identical: true, ..ReplayRecommendationResponse::default() }))
    }

    async fn get_recommendation_changes(
        &self,
        _: Request<GetRecommendationChangesRequest>,
    ) -> Answer<GetRecommendationChangesResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_slo_recommendations(
        &self,
        _: Request<GetSloRecommendationsRequest>,
    ) -> Answer<GetSloRecommendationsResponse> {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        details.set_error_info("STORAGE_DOWN", "attain", [("service".to_owned(), "test".to_owned())]);
        Err(Status::with_error_details(Code::Unavailable, "storage does not answer", details))
    }

    async fn list_decisions(&self, _: Request<ListDecisionsRequest>) -> Answer<ListDecisionsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn analyze_impact(&self, _: Request<AnalyzeImpactRequest>) -> Answer<AnalyzeImpactResponse> {
        Err(attain_runtime::admission::overloaded())
    }

    async fn analyze_what_if(&self, _: Request<AnalyzeWhatIfRequest>) -> Answer<AnalyzeWhatIfResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_error_budgets(&self, _: Request<GetErrorBudgetsRequest>) -> Answer<GetErrorBudgetsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_alerts(&self, _: Request<GetAlertsRequest>) -> Answer<GetAlertsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_sla_suggestion(&self, _: Request<GetSlaSuggestionRequest>) -> Answer<GetSlaSuggestionResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_slo_export(&self, _: Request<GetSloExportRequest>) -> Answer<GetSloExportResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn import_slos(&self, _: Request<ImportSlosRequest>) -> Answer<ImportSlosResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_drift(&self, _: Request<ListDriftRequest>) -> Answer<ListDriftResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Answer<ListModelsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_model_scores(&self, _: Request<GetModelScoresRequest>) -> Answer<GetModelScoresResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn register_model(&self, _: Request<RegisterModelRequest>) -> Answer<RegisterModelResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn promote_model(&self, _: Request<PromoteModelRequest>) -> Answer<PromoteModelResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn roll_back_model(&self, _: Request<RollBackModelRequest>) -> Answer<RollBackModelResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn start_experiment(&self, _: Request<StartExperimentRequest>) -> Answer<StartExperimentResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn stop_experiment(&self, _: Request<StopExperimentRequest>) -> Answer<StopExperimentResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_experiments(&self, _: Request<ListExperimentsRequest>) -> Answer<ListExperimentsResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_experiment(&self, _: Request<GetExperimentRequest>) -> Answer<GetExperimentResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_audit_records(&self, _: Request<ListAuditRecordsRequest>) -> Answer<ListAuditRecordsResponse> {
        Ok(Response::new(ListAuditRecordsResponse::default()))
    }

    async fn get_calibration(&self, _: Request<GetCalibrationRequest>) -> Answer<GetCalibrationResponse> {
        Ok(Response::new(GetCalibrationResponse::default()))
    }

    async fn get_audit_head(&self, _: Request<GetAuditHeadRequest>) -> Answer<GetAuditHeadResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn get_learning(&self, _: Request<GetLearningRequest>) -> Answer<GetLearningResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn submit_feedback(&self, _: Request<SubmitFeedbackRequest>) -> Answer<SubmitFeedbackResponse> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_feedback(&self, _: Request<ListFeedbackRequest>) -> Answer<ListFeedbackResponse> {
        Err(Status::unimplemented("not kept here"))
    }
}
