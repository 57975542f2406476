//! After dependencies were ingested: the cycles that they close, as the graph engine sees them.

use std::collections::BTreeSet;
use std::time::Duration;

use attain_proto::graph::v1::graph_service_client::GraphServiceClient;
use attain_proto::graph::v1::{GetSnapshotRequest, GetSnapshotResponse};
use attain_proto::ingestion::v1::IngestDependenciesResponse;
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::context::CallContext;
use prost_reflect::{DynamicMessage, Value};
use tonic::Status;

use crate::contract::Endpoint;
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
pub(crate) fn concerned(endpoint: &Endpoint, request: &DynamicMessage) -> Option<Vec<String>> {
    (endpoint.rpc.full_name() == INGEST_DEPENDENCIES).then(|| named_services(request))
}

/// Read in place: a graph may hold tens of thousands of names, and what is too many is known after the first thousand.
fn named_services(request: &DynamicMessage) -> Vec<String> {
    let mut ids: BTreeSet<String> = BTreeSet::new();
    for (list, names) in NAMES {
        let Some(elements) = request.get_field_by_name(list) else { continue };
        for element in elements.as_list().unwrap_or_default().iter().filter_map(Value::as_message) {
            for field in names {
                match element.get_field_by_name(field).as_deref() {
                    Some(Value::String(id)) => drop(ids.insert(id.clone())),
                    Some(Value::List(several)) => {
                        ids.extend(several.iter().filter_map(Value::as_str).map(str::to_owned))
                    }
                    _ => {}
                }
            }
            if ids.len() > SERVICE_IDS_MAX {
                return Vec::new();
            }
        }
    }
    ids.into_iter().collect()
}

/// Fills `cycles` and `graph_snapshot_version`. Where the graph engine cannot be asked both stay as they are: the write
/// stands, and version 0 says that nobody looked.
pub(crate) async fn fill(mesh: &Mesh, service_ids: Vec<String>, answer: &mut DynamicMessage, context: &CallContext) {
    let Ok(mut typed) = answer.transcode_to::<IngestDependenciesResponse>() else {
        return;
    };
    match ask(mesh, service_ids, typed.topology_version, context).await {
        Ok(snapshot) => {
            typed.graph_snapshot_version = snapshot.snapshot.map_or(0, |info| info.version);
            typed.cycles = snapshot.cycles;
            // Cannot fail: the message came from the same descriptor.
            let mut filled = DynamicMessage::new(prost_reflect::ReflectMessage::descriptor(answer));
            if filled.transcode_from(&typed).is_ok() {
                *answer = filled;
            }
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
        let request =
            IngestDependenciesRequest { services: (0..services).map(service).collect(), dependencies: vec![edge] };
        let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("valid");
        let descriptor = pool.get_message_by_name("attain.ingestion.v1.IngestDependenciesRequest").expect("there");
        let mut message = DynamicMessage::new(descriptor);
        message.transcode_from(&request).expect("one contract");
        named_services(&message)
    }

    #[test]
    fn every_name_once_and_none_for_very_many() {
        assert_eq!(named(2), ["a", "b", "db", "s0", "s1"]);
        assert_eq!(named(0), ["a", "b"]);
        assert_eq!(named(SERVICE_IDS_MAX), Vec::<String>::new());
    }
}
