//! After dependencies were ingested: the cycles that they close, as the graph engine sees them.

use std::collections::BTreeSet;
use std::time::Duration;

use attain_proto::graph::v1::graph_service_client::GraphServiceClient;
use attain_proto::graph::v1::{GetSnapshotRequest, GetSnapshotResponse};
use attain_proto::ingestion::v1::IngestDependenciesResponse;
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::context::CallContext;
use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use crate::contract::Endpoint;
use crate::json::plan::{Kind, MessageId, Plans};
use crate::json::wire::{Fields, Raw};
use crate::mesh::Mesh;

const GRAPH_PACKAGE: &str = "attain.graph.v1";
const INGEST_DEPENDENCIES: &str = "attain.ingestion.v1.IngestionService.IngestDependencies";
/// How long the graph engine may take to follow before the answer goes out without it.
const WAIT_MS: i64 = 1000;
/// Beyond the wait: the way there and back.
const CALL_TIMEOUT: Duration = Duration::from_millis(1500);
/// Batches that name more services ask for all cycles.
const SERVICE_IDS_MAX: usize = 1000;
/// Where a request names services.
const NAMES: [(&str, [&str; 2]); 2] =
    [("services", ["id", "depends_on"]), ("dependencies", ["caller_id", "callee_id"])];

/// Services whose cycles are of interest, where the endpoint ingests dependencies; none for all of them.
pub(crate) fn concerned(endpoint: &Endpoint, request: &[u8]) -> Option<Vec<String>> {
    (endpoint.rpc.full_name() == INGEST_DEPENDENCIES).then(|| named_services(&endpoint.plans, endpoint.input, request))
}

/// Read in place: a graph may hold tens of thousands of names, and what is too many is known after the first thousand.
fn named_services(plans: &Plans, message: MessageId, request: &[u8]) -> Vec<String> {
    let mut ids: BTreeSet<&str> = BTreeSet::new();
    for (list, names) in NAMES {
        let Some(list) = plans.message(message).field(list) else { continue };
        let Kind::Message(element) = list.kind else { continue };
        let numbers = names.map(|name| plans.message(element).field(name).map(|field| field.number));
        for element in parts(request).filter(|(number, _)| *number == list.number).map(|(_, element)| element) {
            let named = parts(element).filter(|(number, _)| numbers.contains(&Some(*number)));
            ids.extend(named.filter_map(|(_, id)| std::str::from_utf8(id).ok()));
            if ids.len() > SERVICE_IDS_MAX {
                return Vec::new();
            }
        }
    }
    ids.into_iter().map(str::to_owned).collect()
}

/// The texts and messages within a message that was encoded here.
fn parts(message: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    Fields::of(message).filter_map(|field| match field {
        Ok((number, Raw::Bytes(part))) => Some((number, part)),
        _ => None,
    })
}

/// Fills `cycles` and `graph_snapshot_version`. Where the graph engine cannot be asked both stay as they are: the write
/// stands, and version 0 says that nobody looked.
pub(crate) async fn fill(mesh: &Mesh, service_ids: Vec<String>, answer: &mut Bytes, context: &CallContext) {
    let Ok(mut typed) = IngestDependenciesResponse::decode(answer.clone()) else {
        return;
    };
    match ask(mesh, service_ids, typed.topology_version, context).await {
        Ok(snapshot) => {
            typed.graph_snapshot_version = snapshot.snapshot.map_or(0, |info| info.version);
            typed.cycles = snapshot.cycles;
            *answer = typed.encode_to_vec().into();
        }
        Err(status) => {
            tracing::warn!(rpc.grpc.status_code = status.code() as i32, error = %attain_redaction::redact(status.message()).0, "no cycles: the graph engine cannot be asked")
        }
    }
}

async fn ask(
    mesh: &Mesh,
    service_ids: Vec<String>,
    version: u64,
    context: &CallContext,
) -> Result<GetSnapshotResponse, Status> {
    let graph = mesh.owner(GRAPH_PACKAGE).ok_or_else(|| Status::unavailable("there is no graph engine"))?;
    let mut client = GraphServiceClient::new(graph.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let wait = Some(attain_proto::convert::duration(WAIT_MS));
    let request = GetSnapshotRequest { version_min: version, wait, service_ids };
    // The write is done: its answer must not be lost to the deadline for the sake of the cycles.
    let limit = CALL_TIMEOUT.min(context.remaining() / 2);
    let answer = tokio::time::timeout(limit, client.get_snapshot(context.request(request))).await;
    answer
        .map_err(|_| Status::deadline_exceeded("the graph engine did not follow in time"))?
        .map(tonic::Response::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_proto::ingestion::v1::{IngestDependenciesRequest, ServiceDeclaration};
    use attain_proto::vocabulary::v1::Dependency;
    use prost_reflect::DescriptorPool;

    fn named(services: usize) -> Vec<String> {
        let service = |number: usize| ServiceDeclaration {
            id: format!("s{number}"),
            depends_on: vec!["db".into()],
            ..ServiceDeclaration::default()
        };
        let edge = Dependency { caller_id: "a".into(), callee_id: "b".into(), ..Dependency::default() };
        let request = IngestDependenciesRequest {
            services: (0..services).map(service).collect(),
            dependencies: vec![edge].into(),
        };
        let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("valid");
        let plans = Plans::compile(&pool);
        let message = plans.find("attain.ingestion.v1.IngestDependenciesRequest").expect("there");
        named_services(&plans, message, &request.encode_to_vec())
    }

    #[test]
    fn every_name_once_and_none_for_very_many() {
        assert_eq!(named(2), ["a", "b", "db", "s0", "s1"]);
        assert_eq!(named(0), ["a", "b"]);
        assert_eq!(named(SERVICE_IDS_MAX), Vec::<String>::new());
    }
}
