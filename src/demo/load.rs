//! Sends the simulated shop to a running mesh over gRPC.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use attain_proto::convert::timestamp;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::ingestion::v1::{
    Incident, IngestDependenciesRequest, IngestIncidentsRequest, IngestSliBucketsRequest, IngestUtilisationRequest,
    ServiceDeclaration, SliBucketDeclaration, UtilisationDeclaration,
};
use attain_proto::rag::v1::PutDocumentsRequest;
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_proto::recommendation::v1::recommendation_service_client::RecommendationServiceClient;
use attain_proto::recommendation::v1::{DecideSloRequest, DecisionAction};
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::vocabulary::v1 as wire;
use attain_runtime::context::CallContext;
use attain_simulator::consumer::{Backlog, consume};
use attain_simulator::model::{DeclaredSlo, Simulation, System};
use attain_simulator::shop;
use attain_vocabulary::{EntityId, SliBucket, TenantId, UnixMillis};
use tonic::transport::Channel;

use super::knowledge;
use crate::mesh::Addresses;
use crate::output::Progress;

/// Buckets a call: a few hundred kilobytes.
const BUCKETS_PER_CALL: usize = 2_000;
/// Documents a call: a few seconds of embedding.
const DOCUMENTS_PER_CALL: usize = 4;
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest that the tour waits for the model; without it, it goes on and search is by words.
const MODEL_WITHIN: Duration = Duration::from_secs(30);

/// Loads topology, telemetry, incidents, SLOs in force and knowledge.
pub(super) async fn shop(addresses: &Addresses, seed: u64, now_ms: UnixMillis) -> anyhow::Result<()> {
    let progress = Progress::start("simulating 30 days of a shop");
    let simulation = tokio::task::spawn_blocking(move || shop::simulate(seed, now_ms)).await?;
    progress.end();
    let mut ingestion = IngestionServiceClient::new(channel(addresses.ingestion)?);
    topology(&mut ingestion, &simulation.system).await?;
    telemetry(&mut ingestion, &simulation).await?;
    consumer(&mut ingestion, &simulation, seed).await?;
    by_region(&mut ingestion, &simulation, seed).await?;
    incidents(&mut ingestion, &simulation).await?;
    slos(addresses, &simulation.system.slos).await?;
    model(addresses).await?;
    documents(addresses).await
}

async fn topology(ingestion: &mut IngestionServiceClient<Channel>, system: &System) -> anyhow::Result<()> {
    let services = system.components.iter().map(|component| ServiceDeclaration {
        id: component.id.to_string(),
        display_name: component.display_name.to_owned(),
        kind: wire::EntityKind::from(component.kind).into(),
        tier: wire::Tier::from(component.tier).into(),
        owner: component.owner.to_owned(),
        published_availability_ratio: component.published_availability_ratio,
        ..ServiceDeclaration::default()
    });
    let dependencies = system.calls.iter().map(|call| wire::Dependency {
        caller_id: call.caller.to_string(),
        callee_id: call.callee.to_string(),
        mode: wire::DependencyMode::from(call.mode).into(),
        call_fraction: Some(call.call_fraction),
        call_rate: Some(call.call_fraction),
        timeout_ms: Some(call.timeout_ms),
        protocol: call.protocol.to_owned(),
        ..wire::Dependency::default()
    });
    let request = IngestDependenciesRequest { services: services.collect(), dependencies: dependencies.collect() };
    let answer = ingestion.ingest_dependencies(context().request(request)).await?.into_inner();
    none_refused(&answer.rejected)
}

async fn telemetry(ingestion: &mut IngestionServiceClient<Channel>, simulation: &Simulation) -> anyhow::Result<()> {
    let total: usize = simulation.buckets.values().map(Vec::len).sum();
    let progress = Progress::count("sending buckets", total);
    for (service, buckets) in &simulation.buckets {
        for chunk in buckets.chunks(BUCKETS_PER_CALL) {
            send(ingestion, service, chunk).await?;
            progress.advance(chunk.len());
        }
    }
    progress.end();
    Ok(())
}

async fn send(
    ingestion: &mut IngestionServiceClient<Channel>,
    service: &EntityId,
    buckets: &[SliBucket],
) -> anyhow::Result<()> {
    let buckets = buckets.iter().map(declaration).collect();
    let request = IngestSliBucketsRequest { service_id: service.to_string(), buckets };
    let answer = ingestion.ingest_sli_buckets(context().request(request)).await?.into_inner();
    none_refused(&answer.rejected)
}

/// The consumer of orders: nobody waits for it, and what matters of it is how old the oldest message becomes.
async fn consumer(
    ingestion: &mut IngestionServiceClient<Channel>,
    simulation: &Simulation,
    seed: u64,
) -> anyhow::Result<()> {
    let mailer = shop::mailer();
    let service = ServiceDeclaration {
        id: mailer.id.to_string(),
        display_name: "Order confirmations by mail".to_owned(),
        kind: wire::EntityKind::Service.into(),
        tier: wire::Tier::Tier3.into(),
        owner: "team-checkout".to_owned(),
        ..ServiceDeclaration::default()
    };
    let sends = wire::Dependency {
        caller_id: mailer.sender.to_string(),
        callee_id: mailer.id.to_string(),
        mode: wire::DependencyMode::Async.into(),
        call_fraction: Some(1.0),
        call_rate: Some(1.0),
        protocol: "queue".to_owned(),
        ..wire::Dependency::default()
    };
    let request = IngestDependenciesRequest { services: vec![service].into(), dependencies: vec![sends].into() };
    let answer = ingestion.ingest_dependencies(context().request(request)).await?.into_inner();
    none_refused(&answer.rejected)?;
    let (buckets, backlogs) = consume(simulation, &mailer, seed);
    for chunk in buckets.chunks(BUCKETS_PER_CALL) {
        send(ingestion, &mailer.id, chunk).await?;
    }
    for chunk in backlogs.chunks(BUCKETS_PER_CALL) {
        let request = IngestUtilisationRequest {
            service_id: mailer.id.to_string(),
            buckets: chunk.iter().flat_map(measurements).collect(),
        };
        let answer = ingestion.ingest_utilisation(context().request(request)).await?.into_inner();
        none_refused(&answer.rejected)?;
    }
    Ok(())
}

fn measurements(backlog: &Backlog) -> [UtilisationDeclaration; 2] {
    let of = |kind: wire::UtilisationKind, average, maximum| UtilisationDeclaration {
        start_time: Some(timestamp(backlog.start_ms)),
        kind: kind.into(),
        average,
        maximum: Some(maximum),
        ..UtilisationDeclaration::default()
    };
    [
        of(wire::UtilisationKind::MessageAge, backlog.age_average_s, backlog.age_max_s),
        of(wire::UtilisationKind::Cpu, backlog.busy_ratio, backlog.busy_ratio),
    ]
}

/// What the shop answers in single regions, beside the whole.
async fn by_region(
    ingestion: &mut IngestionServiceClient<Channel>,
    simulation: &Simulation,
    seed: u64,
) -> anyhow::Result<()> {
    for (service, regions) in shop::regions(simulation, seed) {
        for (region, buckets) in regions {
            for chunk in buckets.chunks(BUCKETS_PER_CALL) {
                let of_region = |bucket| SliBucketDeclaration { region: region.to_owned(), ..declaration(bucket) };
                let buckets = chunk.iter().map(of_region).collect();
                let request = IngestSliBucketsRequest { service_id: service.to_string(), buckets };
                none_refused(&ingestion.ingest_sli_buckets(context().request(request)).await?.into_inner().rejected)?;
            }
        }
    }
    Ok(())
}

async fn incidents(ingestion: &mut IngestionServiceClient<Channel>, simulation: &Simulation) -> anyhow::Result<()> {
    let incidents = simulation.incidents.iter().map(|incident| Incident {
        id: incident.id.clone(),
        title: incident.title.clone(),
        service_ids: incident.affected.iter().map(EntityId::to_string).collect(),
        cause_service_id: incident.cause.to_string(),
        start_time: Some(timestamp(incident.start_ms)),
        end_time: Some(timestamp(incident.end_ms)),
        severity_ratio: Some(incident.failure_ratio),
        ..Incident::default()
    });
    let request = IngestIncidentsRequest { incidents: incidents.collect() };
    let answer = ingestion.ingest_incidents(context().request(request)).await?.into_inner();
    none_refused(&answer.rejected)
}

async fn slos(addresses: &Addresses, slos: &[DeclaredSlo]) -> anyhow::Result<()> {
    let mut recommendation = RecommendationServiceClient::new(channel(addresses.recommendation)?);
    for slo in slos {
        let request = DecideSloRequest {
            service_id: slo.service_id.to_string(),
            action: DecisionAction::Declare.into(),
            kind: wire::SliKind::from(slo.kind).into(),
            target_ratio: Some(slo.target_ratio),
            latency_threshold_ms: (slo.latency_threshold_ms > 0).then_some(slo.latency_threshold_ms),
            reason: "In force before the demo began".to_owned(),
            ..DecideSloRequest::default()
        };
        recommendation.decide_slo(context().request(request)).await?;
    }
    Ok(())
}

/// Waits until the embedding model is loaded or known to be missing: what is put before that is found by words only.
async fn model(addresses: &Addresses) -> anyhow::Result<()> {
    let mut status = StatusServiceClient::new(channel(addresses.rag)?);
    let progress = Progress::start("loading the embedding model");
    let began = Instant::now();
    while began.elapsed() < MODEL_WITHIN {
        let answer = status.get_status(context().request(GetStatusRequest {})).await?.into_inner();
        let model = answer.conditions.iter().find(|condition| condition.name == "embedding_model");
        if model.is_none_or(|model| model.holds || !model.detail.contains("not loaded yet")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    progress.end();
    Ok(())
}

async fn documents(addresses: &Addresses) -> anyhow::Result<()> {
    let mut knowledge_service = KnowledgeServiceClient::new(channel(addresses.rag)?);
    let documents = knowledge::documents();
    let progress = Progress::count("reading runbooks, templates and incident reports", documents.len());
    for chunk in documents.chunks(DOCUMENTS_PER_CALL) {
        let request = PutDocumentsRequest { documents: chunk.to_vec() };
        let answer = knowledge_service.put_documents(context().request(request)).await?.into_inner();
        none_refused(&answer.rejected)?;
        progress.advance(chunk.len());
    }
    progress.end();
    Ok(())
}

fn declaration(bucket: &SliBucket) -> SliBucketDeclaration {
    let bucket = wire::SliBucket::from(bucket);
    SliBucketDeclaration {
        start_time: bucket.start_time,
        valid_count: bucket.valid_count as f64,
        bad_count: bucket.bad_count as f64,
        inherited_bad_count: bucket.inherited_bad_count.map(|count| count as f64),
        latency: bucket.latency,
        inherited_by_dependency: bucket.inherited_by_dependency,
        ..SliBucketDeclaration::default()
    }
}

fn none_refused(rejected: &[wire::Rejection]) -> anyhow::Result<()> {
    match rejected.first() {
        None => Ok(()),
        Some(first) => bail!("{} rows were refused, the first at {}: {}", rejected.len(), first.pointer, first.reason),
    }
}

fn context() -> CallContext {
    CallContext::new(TenantId::default(), "demo", CALL_TIMEOUT)
}

fn channel(address: SocketAddr) -> anyhow::Result<Channel> {
    attain_runtime::channel::connect("member", &format!("http://{address}")).context("a member's address")
}
