//! Ingestion, as far as this service needs it.

use std::time::Duration;

use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::ingestion::v1::{
    GetTopologyRequest, GetTopologyResponse, ListRequestSamplesRequest, ListRequestSamplesResponse,
    StreamChangesRequest, StreamChangesResponse,
};
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::context::{CallContext, name_deadline};
use attain_vocabulary::TenantId;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::error::Error;

/// How this service calls itself.
const CALLER: &str = "graph";

/// A connection to ingestion.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    client: IngestionServiceClient<Channel>,
}

impl Source {
    pub(crate) fn new(channel: Channel) -> Self {
        let client = IngestionServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { client }
    }

    /// The newest topology of one tenant: the whole, or what changed since the version that is held, with its epoch.
    pub(crate) async fn topology(
        &self,
        tenant: &TenantId,
        held: Option<(u64, &str)>,
        timeout: Duration,
    ) -> Result<GetTopologyResponse, Error> {
        let context = CallContext::new(tenant.clone(), CALLER, timeout);
        let (after_version, epoch) = held.unwrap_or_default();
        let request = context.request(GetTopologyRequest { after_version, epoch: epoch.to_owned() });
        let answer = self.client.clone().get_topology(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| match name_deadline(status) {
            status if status.code() == Code::DeadlineExceeded => Error::Deadline,
            status => Error::Ingestion(Box::new(status)),
        })
    }

    /// Sampled requests of some services of one tenant, all that are kept.
    pub(crate) async fn request_samples(
        &self,
        tenant: &TenantId,
        service_ids: Vec<String>,
        timeout: Duration,
    ) -> Result<ListRequestSamplesResponse, Status> {
        let context = CallContext::new(tenant.clone(), CALLER, timeout);
        let request = ListRequestSamplesRequest { service_ids, start_time: None };
        self.client.clone().list_request_samples(context.request(request)).await.map(tonic::Response::into_inner)
    }

    /// Every tenant's changes after a sequence number of an epoch, for as long as both ends last.
    pub(crate) async fn changes(
        &self,
        after_sequence: u64,
        epoch: String,
    ) -> Result<Streaming<StreamChangesResponse>, Status> {
        let context = CallContext::new(TenantId::default(), CALLER, Duration::ZERO);
        let request = context.lasting_request(StreamChangesRequest { after_sequence, epoch });
        self.client.clone().stream_changes(request).await.map(tonic::Response::into_inner)
    }
}
