//! A way to the trace receiver for other rooms of this process.

use std::sync::{Arc, OnceLock};

use attain_runtime::context::CallContext;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tonic::Status;

use super::receivers::TraceReceiver;

/// Hands spans to the receiver as if a sender had exported them: the same bounds, durable before it answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceDoor(Arc<OnceLock<TraceReceiver>>);

impl TraceDoor {
    /// Once, when the receiver is there.
    pub(super) fn open(&self, receiver: TraceReceiver) {
        // Whoever opens it again has the same receiver.
        let _ = self.0.set(receiver);
    }

    /// Exports spans for the tenant of the call. How many were refused and why, where any were.
    ///
    /// # Errors
    /// What the receiver answers; UNAVAILABLE before it has started.
    pub(crate) async fn export(
        &self,
        context: &CallContext,
        spans: &ExportTraceServiceRequest,
    ) -> Result<Option<(usize, String)>, Status> {
        let receiver =
            self.0.get().ok_or_else(|| Status::unavailable("the receiver of spans is starting; try again"))?;
        let partial = receiver.accept(context.clone(), spans.into()).await?;
        Ok(partial
            .map(|partial| (usize::try_from(partial.rejected_spans).unwrap_or(usize::MAX), partial.error_message)))
    }
}
