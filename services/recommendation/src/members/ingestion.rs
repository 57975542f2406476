use std::collections::{BTreeMap, BTreeSet};

use attain_proto::ingestion::v1 as wire;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_proto::{columns, convert};
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, SliBucket, Source, TimeRange};
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::Refusal;
use crate::domain::freshness::Head;

/// Most pages of incidents that are read for one service.
const INCIDENT_PAGES_MAX: usize = 4;
const INCIDENT_PAGE_SIZE: u32 = 500;

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
        let request = wire::GetServiceRequest { service_id: id.to_string() };
        let response = self.0.clone().get_service(context.request(request)).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        response.service.ok_or_else(|| Refusal::Refused("the answer holds no service".to_owned()))
    }

    /// Reads the newest changes of services; those without any are at 0.
    pub(crate) async fn heads(
        &self,
        context: &CallContext,
        ids: &[EntityId],
    ) -> Result<BTreeMap<EntityId, Head>, Refusal> {
        let request = wire::GetChangeHeadsRequest { service_ids: ids.iter().map(ToString::to_string).collect() };
        let response = self.0.clone().get_change_heads(context.request(request)).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        let mut heads: BTreeMap<EntityId, Head> = ids.iter().map(|id| (id.clone(), Head::default())).collect();
        for head in response.heads {
            let known = EntityId::new("service_id", &head.service_id).ok().and_then(|id| heads.get_mut(&id));
            if let Some(known) = known {
                *known =
                    Head { topology: head.topology_sequence, sli: head.sli_sequence, incident: head.incident_sequence };
            }
        }
        Ok(heads)
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
        let request = wire::StreamSliHistoryRequest {
            service_ids: ids.iter().map(ToString::to_string).collect(),
            range: Some(range.into()),
            without_latency,
        };
        let refused = |status: tonic::Status| Refusal::from_status(&status);
        let mut stream =
            self.0.clone().stream_sli_history(context.request(request)).await.map_err(refused)?.into_inner();
        while let Some(chunk) = stream.message().await.map_err(refused)? {
            let known = EntityId::new("service_id", &chunk.service_id).ok().and_then(|id| histories.get_mut(&id));
            let Some(history) = known else { continue };
            let buckets = columns::buckets(&chunk.buckets.unwrap_or_default()).map_err(|invalid| {
                Refusal::Refused(format!("a bucket of {} cannot be right: {invalid}", chunk.service_id))
            })?;
            history.buckets.extend(buckets);
            let sources = chunk
                .sources
                .iter()
                .filter_map(|number| convert::word::<vocabulary::Source, Source>("sources", *number).ok().flatten());
            history.sources.extend(sources);
        }
        for history in histories.values_mut() {
            history.buckets.sort_by_key(|bucket| bucket.start_ms);
            history.buckets.dedup_by_key(|bucket| bucket.start_ms);
        }
        Ok(histories)
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
}
