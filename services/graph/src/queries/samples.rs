//! Sampled requests of services, from ingestion. They are asked for by question and not held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attain_proto::convert::unix_millis;
use attain_proto::ingestion::v1 as wire;
use attain_runtime::context::CallContext;

use super::Engine;
use crate::domain::links::NodeIndex;
use crate::domain::requests::{Requests, Sampled, SampledCall};
use crate::storage::held::Held;

/// Most services whose samples are asked for at a time; ingestion answers up to 200.
const SERVICES_A_CALL: usize = 100;
/// Most services of one question whose samples are asked for.
const SERVICES_MAX: usize = 1_000;
/// Share of the caller's time that samples may take: without them there is an answer as well.
const TIME_SHARE: u32 = 3;

/// What was to be had.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Of services with enough of them.
    pub(crate) requests: BTreeMap<NodeIndex, Requests>,
    /// Services that were not asked for, or for which there was no answer.
    pub(crate) missing_count: usize,
}

impl Engine {
    /// Sampled requests of services, the first ones first.
    pub(super) async fn samples(&self, context: &CallContext, held: &Arc<Held>, services: &[NodeIndex]) -> Samples {
        let until = Instant::now() + context.remaining() / TIME_SHARE;
        let mut rows = Vec::new();
        let mut asked = 0;
        for services in services[..services.len().min(SERVICES_MAX)].chunks(SERVICES_A_CALL) {
            let ids = services.iter().map(|&node| held.snapshot.id(node).to_string()).collect();
            let timeout = until.saturating_duration_since(Instant::now());
            match self.snapshots.source().request_samples(&context.tenant, ids, timeout).await {
                _ if timeout == Duration::ZERO => break,
                Ok(answer) => rows.extend(answer.services),
                Err(status) => {
                    tracing::warn!(code = ?status.code(), "latencies are composed without sampled requests");
                    break;
                }
            }
            asked += services.len();
        }
        let requests = rows.into_iter().filter_map(|of_service| {
            let node = held.snapshot.find(&of_service.service_id)?;
            let samples = of_service.samples.into_iter().map(sampled).collect();
            Some((node, Requests::read(&of_service.service_id, samples)?))
        });
        Samples { requests: requests.collect(), missing_count: services.len() - asked }
    }
}

fn sampled(row: wire::RequestSample) -> Sampled {
    let call = |call: wire::SampledCall| SampledCall {
        callee_id: call.callee_id,
        start_us: call.start_us,
        duration_us: call.duration_us,
        failed: call.failed,
    };
    Sampled {
        start_ms: row.start_time.as_ref().map_or(0, unix_millis),
        duration_us: row.duration_us,
        calls: row.calls.into_iter().map(call).collect(),
        truncated: row.truncated,
    }
}
