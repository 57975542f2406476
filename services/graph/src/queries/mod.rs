//! One module a question: gather (a snapshot that knows the names), then decide (the pure domain, off the threads that
//! serve).

mod analysis;
mod availability;
mod changes;
mod latency;
mod neighbourhood;
mod samples;
mod slowdown;
mod snapshot;
mod targets;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use attain_runtime::context::CallContext;

use crate::domain::links::NodeIndex;
use crate::domain::snapshot::Snapshot;
use crate::error::Error;
use crate::storage::held::Held;
use crate::storage::snapshots::Snapshots;

pub(crate) use analysis::{Analysis, AnalysisQuestion, FailingCall, SlowCall};
pub(crate) use availability::{Answer, Question};
pub(crate) use changes::{Changed, TopologyChanges};
pub(crate) use latency::{LatencyQuestion, Waiting};
pub(crate) use slowdown::{Slowdown, SlowdownQuestion};
pub(crate) use targets::{SolvedTargets, TargetsQuestion};
pub(crate) use workers::Workers;

/// How large answers may be and how much work they may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) entities_max: usize,
    pub(crate) dependencies_max: usize,
    pub(crate) evaluation_services_max: usize,
    pub(crate) bdd_nodes_max: usize,
    pub(crate) samples: u32,
    pub(crate) snapshot_wait_max: Duration,
}

/// Answers questions.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) workers: Workers,
    pub(crate) bounds: Bounds,
}

impl Engine {
    /// The snapshot to answer from: one fetched anew where the one held does not know every name.
    async fn gather(&self, context: &CallContext, knows: impl Fn(&Snapshot) -> bool) -> Result<Arc<Held>, Error> {
        let held = self.snapshots.read(&context.tenant, context.deadline).await?;
        if knows(&held.snapshot) {
            return Ok(held);
        }
        self.snapshots.doubt(&context.tenant, context.deadline).await
    }

    /// The snapshot of a kept version; 0 for the newest, which knows the service if anybody does.
    async fn gather_service(
        &self,
        context: &CallContext,
        service_id: &str,
        version: u64,
    ) -> Result<(Arc<Held>, NodeIndex), Error> {
        let held = match version {
            0 => self.gather(context, |snapshot| snapshot.find(service_id).is_some()).await?,
            version => self.kept(context, version).await?,
        };
        let node = held.snapshot.find(service_id).ok_or_else(|| Error::UnknownService(service_id.to_owned()))?;
        Ok((held, node))
    }

    async fn kept(&self, context: &CallContext, version: u64) -> Result<Arc<Held>, Error> {
        let kept = self.snapshots.kept(&context.tenant, context.deadline).await?;
        of_version(&kept, version).cloned().ok_or_else(|| unknown_version(&kept, version))
    }
}

fn of_version(kept: &[Arc<Held>], version: u64) -> Option<&Arc<Held>> {
    kept.iter().find(|held| held.version == version)
}

fn unknown_version(kept: &[Arc<Held>], version: u64) -> Error {
    Error::UnknownVersion { version, kept: kept.iter().map(|held| held.version).collect() }
}
