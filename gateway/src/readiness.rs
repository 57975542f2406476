//! Whether the mesh is ready, asked of every member at once.

use std::time::Duration;

use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use futures::future::join_all;
use prost::Message as _;
use serde_json::{Value as JsonValue, json};
use tonic::Code;

use crate::json::encode;
use crate::json::plan::Plans;
use crate::mesh::{Member, Mesh};

/// Longest that one member may take to tell its state.
const TIMEOUT: Duration = Duration::from_secs(1);
const STATUS: &str = "attain.status.v1.GetStatusResponse";

/// State of the mesh.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    pub(crate) json: JsonValue,
}

/// Asks every member. The mesh is ready when every member answers that all that it requires holds.
pub(crate) async fn ask(mesh: &Mesh, plans: &Plans) -> Report {
    let members = join_all(mesh.members().iter().map(|member| ask_one(member, plans))).await;
    let ready = members.iter().all(|(ready, _)| *ready);
    let members: Vec<_> = members.into_iter().map(|(_, json)| json).collect();
    Report { ready, json: json!({"ready": ready, "members": members}) }
}

async fn ask_one(member: &Member, plans: &Plans) -> (bool, JsonValue) {
    let mut client = StatusServiceClient::new(member.channel.clone());
    let answer = tokio::time::timeout(TIMEOUT, client.get_status(GetStatusRequest {})).await;
    let unreachable =
        |detail: &str| (false, json!({"name": member.name, "ready": false, "reachable": false, "detail": detail}));
    let status = match answer {
        Ok(Ok(status)) => status.into_inner(),
        Ok(Err(status)) if status.code() == Code::DeadlineExceeded => {
            return unreachable("did not answer in time");
        }
        Ok(Err(_)) => return unreachable("cannot be reached"),
        Err(_) => return unreachable("did not answer in time"),
    };
    let ready = status.ready;
    let described = plans.find(STATUS).and_then(|id| {
        let mut text = Vec::new();
        encode::write(plans, id, &status.encode_to_vec(), &mut text).ok()?;
        serde_json::from_slice::<JsonValue>(&text).ok()
    });
    (ready, json!({"name": member.name, "ready": ready, "reachable": true, "status": described}))
}
