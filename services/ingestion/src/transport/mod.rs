//! gRPC in and out: decode, use case, encode.

mod cursor;
mod decode;
mod encode;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use attain_proto::convert::{unix_millis, word};
use attain_proto::ingestion::v1 as wire;
use attain_proto::ingestion::v1::ingestion_service_server::{IngestionService, IngestionServiceServer};
use attain_proto::vocabulary::v1 as words;
use attain_runtime::Shutdown;
use attain_runtime::admission::{Class, overloaded};
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_runtime::serve::call_timeout;
use attain_vocabulary::{EntityId, EntityKind, TenantId, UtilisationKind};
use futures::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use crate::catalogue::CatalogueStatus;
use crate::domain::{Bounds, Dependency, Entity, ExclusionDecision, ServiceLink, optional_text};
use crate::imports::Importer;
use crate::intake::{self, keep_buckets, keep_dependencies, keep_incidents, keep_utilisation};
use crate::reading::{
    FollowFrom, HistoryQuestion, follow_changes, region_page, sampled_requests, stream_history, stream_regional,
    utilisation_summaries,
};
use crate::storage::{BucketSpan, HeldVersion, IncidentPosition, OperationPosition, Store};
use crate::{Config, Error};

/// The service's full name.
pub(crate) const SERVICE_NAME: &str = "attain.ingestion.v1.IngestionService";

const QUERY_CHARS_MAX: usize = 200;
const SERVICES_PAGE: (usize, usize) = (100, 500);
const BUCKETS_PAGE: (usize, usize) = (288, 2_000);
const OPERATIONS_PAGE: (usize, usize) = (200, 1_000);
const INCIDENTS_PAGE: (usize, usize) = (100, 500);
const EXEMPLARS_PAGE: (usize, usize) = (100, 500);

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a path costs: what takes telemetry in gives way to what answers questions.
pub(crate) fn classify(path: &str) -> Class {
    match path.rsplit('/').next() {
        Some(
            "IngestDependencies" | "IngestSliBuckets" | "IngestIncidents" | "IngestUtilisation" | "ImportDocument",
        ) => Class::Ingest,
        // It lasts as long as both ends.
        Some("StreamChanges") => Class::Vital,
        _ => Class::Read,
    }
}

/// The gRPC service.
pub(crate) struct Transport {
    store: Store,
    config: Arc<Config>,
    catalogue: CatalogueStatus,
    clock: Clock,
    shutdown: Shutdown,
    histories: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    importer: Importer,
}

impl Transport {
    pub(crate) fn service(
        store: Store,
        config: Arc<Config>,
        (catalogue, importer): (CatalogueStatus, Importer),
        clock: Clock,
        shutdown: Shutdown,
    ) -> IngestionServiceServer<Self> {
        let histories = Arc::new(Semaphore::new(config.history_streams_max));
        let followers = Arc::new(Semaphore::new(config.change_followers_max));
        IngestionServiceServer::new(Self { store, config, catalogue, importer, clock, shutdown, histories, followers })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
    }

    fn bounds(&self) -> Bounds {
        Bounds { now_ms: self.clock.now_ms(), skew_ms: self.config.future_skew_ms() }
    }

    /// Where a span without an end stops: past everything that is accepted.
    fn open_end_ms(&self) -> i64 {
        self.clock.now_ms().saturating_add(self.config.future_skew_ms() + 1)
    }

    /// Services and span of a stream of histories, and its place among those under way.
    fn history_asked(
        &self,
        service_ids: &[String],
        range: words::TimeRange,
    ) -> Result<(Vec<EntityId>, BucketSpan, OwnedSemaphorePermit), Status> {
        let services = decode::services(service_ids, self.config.services_per_question_max)?;
        let span = decode::span(range.start_time.as_ref(), range.end_time.as_ref(), self.open_end_ms())?;
        let place = Arc::clone(&self.histories).try_acquire_owned().map_err(|_| overloaded())?;
        Ok((services, span, place))
    }

    /// The service by its name, or NOT_FOUND.
    async fn known(&self, tenant: &TenantId, name: &str) -> Result<crate::domain::Entity, Error> {
        let id = EntityId::new("service_id", name)?;
        self.store.entity(tenant, &id).await?.ok_or(Error::UnknownService(id))
    }
}

fn tenant<T>(request: &Request<T>) -> Result<TenantId, Status> {
    Ok(CallContext::read(request.metadata(), call_timeout())?.tenant)
}

/// Who calls, and with what.
fn called<T>(request: Request<T>) -> Result<(CallContext, T), Status> {
    let context = CallContext::read(request.metadata(), call_timeout())?;
    Ok((context, request.into_inner()))
}

#[tonic::async_trait]
impl IngestionService for Transport {
    async fn ingest_dependencies(
        &self,
        request: Request<wire::IngestDependenciesRequest>,
    ) -> Result<Response<wire::IngestDependenciesResponse>, Status> {
        let tenant = tenant(&request)?;
        let rows = decode::dependency_rows(&request.into_inner(), &self.config)?;
        let intake = keep_dependencies(&self.store, &self.config, &tenant, rows).await?;
        Ok(Response::new(wire::IngestDependenciesResponse {
            accepted_service_count: encode::row_count(intake.service_count),
            accepted_dependency_count: encode::row_count(intake.dependency_count),
            rejected: encode::rejections(&intake.refused),
            topology_version: intake.topology_version,
            // The graph engine finds cycles; the gateway asks it.
            cycles: Vec::new(),
            graph_snapshot_version: 0,
        }))
    }

    async fn ingest_sli_buckets(
        &self,
        request: Request<wire::IngestSliBucketsRequest>,
    ) -> Result<Response<wire::IngestSliBucketsResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let named = !request.service_id.is_empty();
        let service =
            named.then(|| EntityId::new("service_id", &request.service_id)).transpose().map_err(Error::from)?;
        let drafts = request.buckets.into_iter().map(|row| decode::bucket_draft(service.as_ref(), row)).collect();
        let intake = keep_buckets(&self.store, &self.config, &tenant, self.clock.now_ms(), drafts).await?;
        Ok(Response::new(wire::IngestSliBucketsResponse {
            accepted_count: intake.accepted_count as u64,
            rejected: encode::rejections(&intake.refused),
        }))
    }

    async fn ingest_utilisation(
        &self,
        request: Request<wire::IngestUtilisationRequest>,
    ) -> Result<Response<wire::IngestUtilisationResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let named = !request.service_id.is_empty();
        let service =
            named.then(|| EntityId::new("service_id", &request.service_id)).transpose().map_err(Error::from)?;
        let drafts = request.buckets.iter().map(|row| decode::utilisation_draft(service.as_ref(), row)).collect();
        let intake = keep_utilisation(&self.store, &self.config, &tenant, self.clock.now_ms(), drafts).await?;
        Ok(Response::new(wire::IngestUtilisationResponse {
            accepted_count: intake.accepted_count as u64,
            rejected: encode::rejections(&intake.refused),
        }))
    }

    async fn list_utilisation(
        &self,
        request: Request<wire::ListUtilisationRequest>,
    ) -> Result<Response<wire::ListUtilisationResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let kind = word::<words::UtilisationKind, _>("kind", request.kind).map_err(Error::from)?;
        let size = cursor::page_size(request.page_size, BUCKETS_PAGE.0, BUCKETS_PAGE.1)?;
        let next = cursor::read_bucket_token(&request.page_token)?;
        let open_end_ms = self.open_end_ms();
        let span = decode::span(request.start_time.as_ref(), request.end_time.as_ref(), open_end_ms)?;
        let start_ms = next.map_or(span.start_ms, |next| next.max(span.start_ms));
        let service = self.known(&tenant, &request.service_id).await?;
        let page = self.store.utilisation_page(&tenant, &service.id, BucketSpan { start_ms, ..span }, size).await?;
        let summaries = utilisation_summaries(&self.store, &tenant, &service.id, open_end_ms).await?;
        let asked = |of: UtilisationKind| kind.is_none_or(|kind| of == kind);
        let buckets = page.buckets.into_iter().filter(|measured| asked(measured.bucket.kind()));
        let summaries = summaries.into_iter().filter(|summary| asked(summary.kind));
        Ok(Response::new(wire::ListUtilisationResponse {
            summaries: summaries.map(encode::utilisation_summary).collect(),
            buckets: buckets.map(encode::utilisation).collect(),
            next_page_token: page.next_start_ms.map(cursor::bucket_token).unwrap_or_default(),
        }))
    }

    async fn ingest_incidents(
        &self,
        request: Request<wire::IngestIncidentsRequest>,
    ) -> Result<Response<wire::IngestIncidentsResponse>, Status> {
        let (context, request) = called(request)?;
        let drafts = request.incidents.into_iter().map(decode::incident_draft).collect();
        let (sender, bounds) = (decode::sender(&context), self.bounds());
        let intake = keep_incidents(&self.store, &self.config, &context.tenant, (&sender, bounds), drafts).await?;
        Ok(Response::new(wire::IngestIncidentsResponse {
            accepted_count: encode::row_count(intake.accepted_count),
            rejected: encode::rejections(&intake.refused),
        }))
    }

    async fn import_document(
        &self,
        request: Request<wire::ImportDocumentRequest>,
    ) -> Result<Response<wire::ImportDocumentResponse>, Status> {
        let import = decode::import(request, self.clock.now_ms())?;
        let imported = self.importer.import(import).await?;
        Ok(Response::new(encode::imported(imported)))
    }

    async fn decide_incident_exclusion(
        &self,
        request: Request<wire::DecideIncidentExclusionRequest>,
    ) -> Result<Response<wire::DecideIncidentExclusionResponse>, Status> {
        let (context, request) = called(request)?;
        let by = decode::named(&request.by, &context);
        let decision = ExclusionDecision::new(request.excluded, &request.reason, by, self.clock.now_ms());
        let decision = decision.map_err(Error::from)?;
        let incident = intake::decide_exclusion(&self.store, &context.tenant, &request.incident_id, decision).await?;
        Ok(Response::new(wire::DecideIncidentExclusionResponse { incident: Some(encode::incident(incident)) }))
    }

    async fn put_incident_services(
        &self,
        request: Request<wire::PutIncidentServicesRequest>,
    ) -> Result<Response<wire::PutIncidentServicesResponse>, Status> {
        let (context, request) = called(request)?;
        let by = decode::named(&request.by, &context);
        let link = ServiceLink::new(&request.service_ids, by, self.clock.now_ms()).map_err(Error::from)?;
        let incident = intake::link_services(
            &self.store,
            &context.tenant,
            &request.incident_id,
            (&decode::sender(&context), link),
        )
        .await?;
        Ok(Response::new(wire::PutIncidentServicesResponse { incident: Some(encode::incident(incident)) }))
    }

    async fn put_maintenance_window(
        &self,
        request: Request<wire::PutMaintenanceWindowRequest>,
    ) -> Result<Response<wire::PutMaintenanceWindowResponse>, Status> {
        let (context, request) = called(request)?;
        let draft = decode::window(request).map_err(Error::from)?;
        let window =
            intake::put_window(&self.store, &context.tenant, draft, (&decode::sender(&context), self.bounds())).await?;
        Ok(Response::new(wire::PutMaintenanceWindowResponse { window: Some(encode::incident(window)) }))
    }

    async fn end_maintenance_window(
        &self,
        request: Request<wire::EndMaintenanceWindowRequest>,
    ) -> Result<Response<wire::EndMaintenanceWindowResponse>, Status> {
        let (context, request) = called(request)?;
        let end_ms = request.end_time.as_ref().map_or_else(|| self.clock.now_ms(), unix_millis);
        let window = intake::end_window(&self.store, &context.tenant, &request.window_id, end_ms).await?;
        Ok(Response::new(wire::EndMaintenanceWindowResponse { window: Some(encode::incident(window)) }))
    }

    async fn delete_maintenance_window(
        &self,
        request: Request<wire::DeleteMaintenanceWindowRequest>,
    ) -> Result<Response<wire::DeleteMaintenanceWindowResponse>, Status> {
        let (context, request) = called(request)?;
        intake::delete_window(&self.store, &context.tenant, &request.window_id).await?;
        Ok(Response::new(wire::DeleteMaintenanceWindowResponse {}))
    }

    async fn list_services(
        &self,
        request: Request<wire::ListServicesRequest>,
    ) -> Result<Response<wire::ListServicesResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let size = cursor::page_size(request.page_size, SERVICES_PAGE.0, SERVICES_PAGE.1)?;
        let after = cursor::read_service_token(&request.page_token)?;
        let query = optional_text("query", &request.query, QUERY_CHARS_MAX).map_err(Error::from)?.unwrap_or_default();
        let kind = word::<words::EntityKind, EntityKind>("kind", request.kind).map_err(Error::from)?;
        let mut found = match kind {
            None => self.store.entities(&tenant, &query, after.as_ref(), size + 1).await?,
            Some(kind) => self.store.entities_of_kind(&tenant, (&query, kind), after.as_ref(), size + 1).await?,
        };
        let next_page_token = match found.len() > size {
            true => found.get(size - 1).map(|last| cursor::service_token(&last.id)).unwrap_or_default(),
            false => String::new(),
        };
        found.truncate(size);
        let services = found.into_iter().map(encode::entity).collect();
        Ok(Response::new(wire::ListServicesResponse { services, next_page_token }))
    }

    async fn get_service(
        &self,
        request: Request<wire::GetServiceRequest>,
    ) -> Result<Response<wire::GetServiceResponse>, Status> {
        let tenant = tenant(&request)?;
        let service = self.known(&tenant, &request.get_ref().service_id).await?;
        let summary = self.store.data_summary(&tenant, &service.id).await?;
        let open_end_ms = self.open_end_ms();
        let utilisation = utilisation_summaries(&self.store, &tenant, &service.id, open_end_ms).await?;
        Ok(Response::new(wire::GetServiceResponse {
            service: Some(encode::entity(service)),
            data: Some(encode::data_health(&summary, utilisation)),
        }))
    }

    async fn list_sli_buckets(
        &self,
        request: Request<wire::ListSliBucketsRequest>,
    ) -> Result<Response<wire::ListSliBucketsResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let size = cursor::page_size(request.page_size, BUCKETS_PAGE.0, BUCKETS_PAGE.1)?;
        let next = cursor::read_bucket_token(&request.page_token)?;
        // What a sender whose clock runs ahead called now is not hidden.
        let open_end_ms = self.open_end_ms();
        let span = decode::span(request.start_time.as_ref(), request.end_time.as_ref(), open_end_ms)?;
        let start_ms = next.map_or(span.start_ms, |next| next.max(span.start_ms));
        let service = self.known(&tenant, &request.service_id).await?;
        let span = BucketSpan { start_ms, ..span };
        let page = match decode::region(&request.region).map_err(Error::from)? {
            None => self.store.sli_page(&tenant, &service.id, span, size, true).await?,
            Some(region) => region_page(&self.store, &tenant, &service.id, &region, (span, size)).await?,
        };
        Ok(Response::new(wire::ListSliBucketsResponse {
            buckets: encode::buckets(page.buckets),
            next_page_token: page.next_start_ms.map(cursor::bucket_token).unwrap_or_default(),
        }))
    }

    async fn list_operations(
        &self,
        request: Request<wire::ListOperationsRequest>,
    ) -> Result<Response<wire::ListOperationsResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let size = cursor::page_size(request.page_size, OPERATIONS_PAGE.0, OPERATIONS_PAGE.1)?;
        let after = cursor::read_operation_token(&request.page_token)?;
        let open_end_ms = self.open_end_ms();
        let days = decode::days(decode::span(request.start_time.as_ref(), request.end_time.as_ref(), open_end_ms)?);
        let service = self.known(&tenant, &request.service_id).await?;
        let mut found = self.store.operations(&tenant, &service.id, days, after.as_ref(), size + 1).await?;
        let mut next_page_token = String::new();
        if found.len() > size {
            found.truncate(size);
            next_page_token =
                found.last().map(|last| cursor::operation_token(&OperationPosition::of(&last.key))).unwrap_or_default();
        }
        let operations = found.into_iter().map(encode::operation).collect();
        Ok(Response::new(wire::ListOperationsResponse { operations, next_page_token }))
    }

    async fn list_incidents(
        &self,
        request: Request<wire::ListIncidentsRequest>,
    ) -> Result<Response<wire::ListIncidentsResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let size = cursor::page_size(request.page_size, INCIDENTS_PAGE.0, INCIDENTS_PAGE.1)?;
        let after = cursor::read_incident_token(&request.page_token)?;
        let named = !request.service_id.is_empty();
        let service =
            named.then(|| EntityId::new("service_id", &request.service_id)).transpose().map_err(Error::from)?;
        let mut found = self.store.incidents(&tenant, service.as_ref(), after.as_ref(), size + 1).await?;
        let mut next_page_token = String::new();
        if found.len() > size {
            found.truncate(size);
            let position =
                |last: &crate::domain::Incident| IncidentPosition { start_ms: last.start_ms, id: last.id.clone() };
            next_page_token = found.last().map(|last| cursor::incident_token(&position(last))).unwrap_or_default();
        }
        let incidents = found.into_iter().map(encode::incident).collect();
        Ok(Response::new(wire::ListIncidentsResponse { incidents, next_page_token }))
    }

    async fn list_exemplars(
        &self,
        request: Request<wire::ListExemplarsRequest>,
    ) -> Result<Response<wire::ListExemplarsResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let size = cursor::page_size(request.page_size, EXEMPLARS_PAGE.0, EXEMPLARS_PAGE.1)?;
        let after = cursor::read_exemplar_token(&request.page_token)?;
        let open_end_ms = self.open_end_ms();
        let span = decode::span(request.start_time.as_ref(), request.end_time.as_ref(), open_end_ms)?;
        let service = self.known(&tenant, &request.service_id).await?;
        let mut found = self.store.exemplars(&tenant, &service.id, span, after.as_ref(), size + 1).await?;
        let mut next_page_token = String::new();
        if found.len() > size {
            found.truncate(size);
            next_page_token = found.last().map(cursor::exemplar_token).unwrap_or_default();
        }
        let exemplars = found.iter().map(encode::exemplar).collect();
        Ok(Response::new(wire::ListExemplarsResponse { exemplars, next_page_token }))
    }

    async fn list_request_samples(
        &self,
        request: Request<wire::ListRequestSamplesRequest>,
    ) -> Result<Response<wire::ListRequestSamplesResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let services = decode::sampled_services(&request.service_ids)?;
        let from_us = request.start_time.as_ref().map_or(0, decode::unix_micros);
        let found = sampled_requests(&self.store, &tenant, services, from_us).await?;
        Ok(Response::new(encode::request_samples(found)))
    }

    async fn get_catalogue_status(
        &self,
        request: Request<wire::GetCatalogueStatusRequest>,
    ) -> Result<Response<wire::GetCatalogueStatusResponse>, Status> {
        let tenant = tenant(&request)?;
        let applied = self.store.applied_sweep(&tenant).await?;
        Ok(Response::new(encode::catalogue_status(self.catalogue.attempt(&tenant), applied)))
    }

    type StreamSliHistoryStream = Outgoing<wire::StreamSliHistoryResponse>;

    async fn stream_sli_history(
        &self,
        request: Request<wire::StreamSliHistoryRequest>,
    ) -> Result<Response<Self::StreamSliHistoryStream>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let (services, span, place) = self.history_asked(&request.service_ids, request.range.unwrap_or_default())?;
        // What is not kept any more goes without a change: whoever asks for so much is told the whole.
        let kept = span.start_ms >= self.config.keep_from_ms(self.clock.now_ms());
        let held = if kept { decode::held(request.held).map_err(Error::from)? } else { BTreeMap::new() };
        let question = HistoryQuestion {
            tenant,
            services: services.into(),
            span,
            with_latency: !request.without_latency,
            handing: decode::handing(request.day_version_max),
            held,
        };
        let chunks = stream_history(self.store.clone(), question, place);
        Ok(Response::new(Box::pin(chunks.map(|chunk| chunk.map(encode::history_chunk).map_err(Status::from)))))
    }

    type StreamRegionalHistoryStream = Outgoing<wire::StreamRegionalHistoryResponse>;

    async fn stream_regional_history(
        &self,
        request: Request<wire::StreamRegionalHistoryRequest>,
    ) -> Result<Response<Self::StreamRegionalHistoryStream>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let (services, span, place) = self.history_asked(&request.service_ids, request.range.unwrap_or_default())?;
        let chunks = stream_regional(self.store.clone(), tenant, services, span, place);
        Ok(Response::new(Box::pin(chunks.map(|chunk| chunk.map(encode::regional_chunk).map_err(Status::from)))))
    }

    async fn get_topology(
        &self,
        request: Request<wire::GetTopologyRequest>,
    ) -> Result<Response<wire::GetTopologyResponse>, Status> {
        let mut answer = wire::GetTopologyResponse::default();
        let node = |entity: Entity| answer.entities.push(&encode::entity(entity));
        let edge = |dependency: Dependency| answer.dependencies.push(&encode::dependency(dependency));
        let tenant = tenant(&request)?;
        let wire::GetTopologyRequest { after_version, epoch } = request.get_ref();
        let held = HeldVersion { version: *after_version, epoch };
        let handed = self.store.visit_topology(&tenant, Some(held), node, edge).await?;
        (answer.version, answer.epoch) = (handed.version, handed.epoch);
        if let Some(changed) = handed.changed {
            answer.base_version = *after_version;
            answer.changed_service_ids = changed.iter().map(EntityId::to_string).collect();
        }
        Ok(Response::new(answer))
    }

    async fn get_change_heads(
        &self,
        request: Request<wire::GetChangeHeadsRequest>,
    ) -> Result<Response<wire::GetChangeHeadsResponse>, Status> {
        let tenant = tenant(&request)?;
        let names = &request.get_ref().service_ids;
        let services: BTreeSet<EntityId> =
            decode::services(names, self.config.services_per_question_max)?.into_iter().collect();
        let heads = self.store.change_heads(&tenant, &services).await?;
        let newest_sequence = self.store.newest_sequence().await?;
        let heads = heads.into_iter().map(encode::change_head).collect();
        Ok(Response::new(wire::GetChangeHeadsResponse { heads, newest_sequence }))
    }

    type StreamChangesStream = Outgoing<wire::StreamChangesResponse>;

    async fn stream_changes(
        &self,
        request: Request<wire::StreamChangesRequest>,
    ) -> Result<Response<Self::StreamChangesStream>, Status> {
        let poll = Duration::from_millis(self.config.change_poll_ms);
        let max = self.config.change_followers_max;
        let place = Arc::clone(&self.followers).try_acquire_owned().map_err(|_| Error::TooManyFollowers { max })?;
        let request = request.into_inner();
        let from = FollowFrom { after: request.after_sequence, epoch: request.epoch };
        let changes = follow_changes(self.store.clone(), from, poll, self.shutdown.clone(), Some(place));
        Ok(Response::new(Box::pin(changes.map(|change| change.map(encode::change).map_err(Status::from)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_never_refused_and_telemetry_waits_behind_questions() {
        let path = |method: &str| format!("/{SERVICE_NAME}/{method}");
        assert_eq!(classify(&path("StreamChanges")), Class::Vital);
        assert_eq!(classify(&path("IngestSliBuckets")), Class::Ingest);
        assert_eq!(classify(&path("GetTopology")), Class::Read);
    }
}
