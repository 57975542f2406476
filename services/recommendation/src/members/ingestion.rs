mod counted;
mod utilisation;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use attain_proto::ingestion::v1 as wire;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_proto::{columns, convert, day};
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER as CALLER};
use attain_vocabulary::{EntityId, InvalidValue, SliBucket, Source, TenantId, TimeRange};
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(crate) use counted::HeldHistory;
pub(crate) use utilisation::Known;

use super::Refusal;
use crate::domain::components::Facts;
use crate::domain::flow::Edge;
use crate::domain::freshness::Head;
use crate::domain::mirror::{Change, Part};
use crate::message::topology;

/// Most pages of incidents that are read for one service.
const INCIDENT_PAGES_MAX: usize = 4;
const INCIDENT_PAGE_SIZE: u32 = 500;
/// Longest that ingestion may take to say how far its log of changes goes.
const LOG_END_TIMEOUT: Duration = Duration::from_secs(2);

/// Newest changes as ingestion knows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heads {
    pub(crate) services: BTreeMap<EntityId, Head>,
    /// Number of the newest change of all; 0 where it was not said.
    pub(crate) newest: u64,
}

/// How far the log of changes goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogEnd {
    /// To this change.
    At(u64),
    /// It is not the log that was followed.
    OfAnother,
}

/// A tenant's services and what they call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topology {
    pub(crate) facts: BTreeMap<EntityId, Facts>,
    pub(crate) edges: Vec<Edge>,
    /// Where services are said to run, by service.
    pub(crate) regions: BTreeMap<EntityId, String>,
}

/// Buckets of one service, and where they came from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct History {
    /// By ascending start.
    pub(crate) buckets: Vec<SliBucket>,
    pub(crate) sources: BTreeSet<Source>,
}

/// What was observed.
#[derive(Debug, Clone)]
pub(crate) struct Ingestion(IngestionServiceClient<Channel>);

impl Ingestion {
    pub(crate) fn new(channel: Channel) -> Self {
        let client = IngestionServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip);
        Self(client)
    }

    /// Reads one service.
    pub(crate) async fn entity(&self, context: &CallContext, id: &EntityId) -> Result<vocabulary::Entity, Refusal> {
        self.known(context, id).await.map(|known| known.entity)
    }

    /// Reads every service and every edge of the tenant.
    pub(crate) async fn topology(&self, context: &CallContext) -> Result<Topology, Refusal> {
        let response = self.0.clone().get_topology(context.request(wire::GetTopologyRequest::default())).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        let malformed =
            |error: &dyn std::error::Error| Refusal::Refused(format!("the topology cannot be read: {error}"));
        let mut topology = Topology::default();
        let read =
            |row: &mut vocabulary::Entity| topology::entity(row).map(|known| (known, std::mem::take(&mut row.region)));
        for entity in response.entities.map(|row| row.map(read)) {
            let entity = entity.map_err(|error| malformed(&error))?.map_err(|error| malformed(&error))?;
            let ((id, facts), region) = entity;
            if !region.is_empty() {
                topology.regions.insert(id.clone(), region);
            }
            topology.facts.insert(id, facts);
        }
        for edge in response.dependencies.map(|row| row.map(|row| topology::edge(row))) {
            topology.edges.push(edge.map_err(|error| malformed(&error))?.map_err(|error| malformed(&error))?);
        }
        Ok(topology)
    }

    /// Reads the newest changes of services; those without any are at 0.
    pub(crate) async fn heads(&self, context: &CallContext, ids: &[EntityId]) -> Result<Heads, Refusal> {
        let request = wire::GetChangeHeadsRequest { service_ids: ids.iter().map(ToString::to_string).collect() };
        let response = self.0.clone().get_change_heads(context.request(request)).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        let mut services: BTreeMap<EntityId, Head> = ids.iter().map(|id| (id.clone(), Head::default())).collect();
        for head in response.heads {
            let known = EntityId::new("service_id", &head.service_id).ok().and_then(|id| services.get_mut(&id));
            if let Some(known) = known {
                *known =
                    Head { topology: head.topology_sequence, sli: head.sli_sequence, incident: head.incident_sequence };
            }
        }
        Ok(Heads { services, newest: response.newest_sequence })
    }

    /// Every tenant's changes after a sequence number of an epoch, for as long as both ends last.
    pub(crate) async fn changes(
        &self,
        after_sequence: u64,
        epoch: String,
    ) -> Result<Streaming<wire::StreamChangesResponse>, Status> {
        let context = CallContext::new(TenantId::default(), CALLER, Duration::ZERO);
        let request = context.lasting_request(wire::StreamChangesRequest { after_sequence, epoch });
        self.0.clone().stream_changes(request).await.map(tonic::Response::into_inner)
    }

    /// How far the log of changes goes. One that does not reach what is known of it, or does not hold the change that was
    /// seen in it (the witness) or a newer one in its place, is another.
    pub(crate) async fn log_end(&self, known: u64, witness: Option<&(u64, Change)>) -> Result<LogEnd, Refusal> {
        let tenant = witness.map(|(_, change)| change.tenant.clone()).unwrap_or_default();
        let service = witness.map(|(_, change)| change.service.clone());
        let context = CallContext::new(tenant, CALLER, LOG_END_TIMEOUT);
        let heads = self.heads(&context, service.as_slice()).await?;
        let seen = witness.is_none_or(|(sequence, change)| {
            let head = heads.services.get(&change.service).copied().unwrap_or_default();
            let newest = match change.part {
                Part::Topology => head.topology,
                Part::Sli => head.sli,
                Part::Incident => head.incident,
            };
            newest >= *sequence
        });
        match heads.newest {
            _ if !seen => Ok(LogEnd::OfAnother),
            0 if known > 0 => {
                Err(Refusal::Refused("ingestion does not say how far its log of changes goes".to_owned()))
            }
            newest if newest < known => Ok(LogEnd::OfAnother),
            newest => Ok(LogEnd::At(newest)),
        }
    }

    /// Reads the histories of services; one without measurements is empty.
    pub(crate) async fn histories(
        &self,
        context: &CallContext,
        ids: &[EntityId],
        range: TimeRange,
        without_latency: bool,
    ) -> Result<BTreeMap<EntityId, History>, Refusal> {
        let mut histories: BTreeMap<EntityId, History> =
            ids.iter().map(|id| (id.clone(), History::default())).collect();
        if ids.is_empty() {
            return Ok(histories);
        }
        let refused = |status: tonic::Status| Refusal::from_status(&status);
        let mut stream = self.history_parts(context, ids, range, without_latency, Vec::new()).await?;
        while let Some(chunk) = stream.message().await.map_err(refused)? {
            let known = EntityId::new("service_id", &chunk.service_id).ok().and_then(|id| histories.get_mut(&id));
            let Some(history) = known else { continue };
            columns::append(&chunk, &mut history.buckets).map_err(|invalid| malformed(&chunk, &invalid))?;
            history.sources.extend(sources(&chunk));
        }
        for history in histories.values_mut() {
            history.buckets.sort_by_key(|bucket| bucket.start_ms);
            history.buckets.dedup_by_key(|bucket| bucket.start_ms);
        }
        Ok(histories)
    }

    async fn history_parts(
        &self,
        context: &CallContext,
        ids: &[EntityId],
        range: TimeRange,
        without_latency: bool,
        held: Vec<wire::HeldHistory>,
    ) -> Result<Streaming<wire::StreamSliHistoryResponse>, Refusal> {
        let request = wire::StreamSliHistoryRequest {
            service_ids: ids.iter().map(ToString::to_string).collect(),
            range: Some(range.into()),
            without_latency,
            day_version_max: day::VERSION,
            held,
        };
        let stream = self.0.clone().stream_sli_history(context.request(request)).await;
        Ok(stream.map_err(|status| Refusal::from_status(&status))?.into_inner())
    }

    /// Reads the histories of services by region; a service whose telemetry tells none is not there.
    pub(crate) async fn regional(
        &self,
        context: &CallContext,
        ids: &[EntityId],
        range: TimeRange,
    ) -> Result<BTreeMap<EntityId, BTreeMap<String, History>>, Refusal> {
        let request = wire::StreamRegionalHistoryRequest {
            service_ids: ids.iter().map(ToString::to_string).collect(),
            range: Some(range.into()),
        };
        let refused = |status: tonic::Status| Refusal::from_status(&status);
        let mut stream =
            self.0.clone().stream_regional_history(context.request(request)).await.map_err(refused)?.into_inner();
        let mut regional: BTreeMap<EntityId, BTreeMap<String, History>> = BTreeMap::new();
        while let Some(chunk) = stream.message().await.map_err(refused)? {
            let malformed = |invalid: attain_vocabulary::InvalidValue| {
                Refusal::Refused(format!("the history of {} in {}: {invalid}", chunk.service_id, chunk.region))
            };
            let id = EntityId::new("service_id", &chunk.service_id).map_err(malformed)?;
            let buckets = chunk.buckets.as_ref().map_or(Ok(Vec::new()), columns::buckets).map_err(malformed)?;
            let sources = chunk
                .sources
                .iter()
                .filter_map(|number| convert::word::<vocabulary::Source, Source>("sources", *number).ok().flatten());
            let history = History { buckets, sources: sources.collect() };
            regional.entry(id).or_default().insert(chunk.region.clone(), history);
        }
        Ok(regional)
    }

    /// Reads the incidents that hurt the service or that it caused, newest first.
    pub(crate) async fn incidents(&self, context: &CallContext, id: &EntityId) -> Result<Vec<wire::Incident>, Refusal> {
        let mut incidents = Vec::new();
        let mut page_token = String::new();
        for _ in 0..INCIDENT_PAGES_MAX {
            let request =
                wire::ListIncidentsRequest { service_id: id.to_string(), page_size: INCIDENT_PAGE_SIZE, page_token };
            let response = self.0.clone().list_incidents(context.request(request)).await;
            let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
            incidents.extend(response.incidents);
            page_token = response.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(incidents)
    }

    /// Reads the newest incidents of the tenant, and whether those are all.
    pub(crate) async fn all_incidents(&self, context: &CallContext) -> Result<(Vec<wire::Incident>, bool), Refusal> {
        let (mut incidents, mut page_token) = (Vec::new(), String::new());
        for _ in 0..INCIDENT_PAGES_MAX {
            let request =
                wire::ListIncidentsRequest { service_id: String::new(), page_size: INCIDENT_PAGE_SIZE, page_token };
            let response = self.0.clone().list_incidents(context.request(request)).await;
            let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
            incidents.extend(response.incidents);
            page_token = response.next_page_token;
            if page_token.is_empty() {
                return Ok((incidents, true));
            }
        }
        Ok((incidents, false))
    }
}

fn sources(part: &wire::StreamSliHistoryResponse) -> impl Iterator<Item = Source> + '_ {
    let word = |number: &i32| convert::word::<vocabulary::Source, Source>("sources", *number).ok().flatten();
    part.sources.iter().filter_map(word)
}

fn malformed(part: &wire::StreamSliHistoryResponse, invalid: &InvalidValue) -> Refusal {
    Refusal::Refused(format!("a bucket of {} cannot be right: {invalid}", part.service_id))
}
