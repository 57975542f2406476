//! `attain health`: asks one member what it still waits for.

use std::time::Duration;

use anyhow::{Context as _, bail};
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::status::v1::{Condition, GetStatusRequest, GetStatusResponse};
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;
use serde_json::{Value, json};

use crate::cli::Format;
use crate::output;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Prints the conditions; an error where a required one does not hold.
pub(crate) async fn ask(address: &str, format: Format) -> anyhow::Result<()> {
    let mut client = StatusServiceClient::new(attain_runtime::channel::connect("ADDRESS", address)?);
    let context = CallContext::new(TenantId::default(), "attain health", TIMEOUT);
    let answer = client.get_status(context.request(GetStatusRequest {})).await;
    let status = answer.with_context(|| format!("nobody answers at {address}"))?.into_inner();
    output::answer(&as_json(&status), format);
    if !status.ready {
        bail!("{} is not ready", status.service);
    }
    Ok(())
}

fn as_json(status: &GetStatusResponse) -> Value {
    let condition = |condition: &Condition| {
        json!({
            "name": condition.name,
            "holds": condition.holds,
            "required": condition.required,
            "detail": condition.detail,
        })
    };
    json!({
        "service": status.service,
        "version": status.version,
        "ready": status.ready,
        "conditions": status.conditions.iter().map(condition).collect::<Vec<_>>(),
    })
}
