//! Sends exports as an SDK does: again after the time that a refusal names.

use std::time::Duration;

use anyhow::bail;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What a sender waits where a refusal names no time.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const ATTEMPTS_MAX: u32 = 1_000;

/// What became of one export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sent {
    pub(crate) rejected_spans: u64,
    pub(crate) refused_times: u64,
}

/// Sends until it is acknowledged.
///
/// # Errors
/// Where the receiver says that it will never take it.
pub(crate) async fn send(
    client: &mut TraceServiceClient<Channel>,
    export: &ExportTraceServiceRequest,
) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    for _ in 0..ATTEMPTS_MAX {
        match client.export(export.clone()).await {
            Ok(answer) => {
                let partial = answer.into_inner().partial_success.unwrap_or_default();
                sent.rejected_spans = u64::try_from(partial.rejected_spans).unwrap_or(0);
                return Ok(sent);
            }
            Err(status) if matches!(status.code(), Code::ResourceExhausted | Code::Unavailable) => {
                sent.refused_times += 1;
                tokio::time::sleep(retry_delay(&status).unwrap_or(RETRY_DELAY)).await;
            }
            Err(status) => bail!("an export failed: {status}"),
        }
    }
    bail!("an export was refused {ATTEMPTS_MAX} times")
}

/// When a refusal says to come again.
pub(crate) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay)
}
