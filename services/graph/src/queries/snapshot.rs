use std::sync::Arc;
use std::time::{Duration, Instant};

use attain_runtime::context::CallContext;

use super::Engine;
use crate::domain::cycles::Cycle;
use crate::error::Error;
use crate::storage::held::Held;

impl Engine {
    /// The snapshot, of at least a version where it comes within `wait`, and the cycles through some services, or all.
    pub(crate) async fn snapshot(
        &self,
        context: &CallContext,
        version_min: u64,
        wait: Duration,
        service_ids: &[String],
    ) -> Result<(Arc<Held>, Vec<Cycle>), Error> {
        let wait = wait.min(self.bounds.snapshot_wait_max);
        let until = (Instant::now() + wait).min(context.deadline);
        let held = self.snapshots.wait_for(&context.tenant, version_min, until, context.deadline).await?;
        let snapshot = &held.snapshot;
        let through: Vec<_> = service_ids.iter().filter_map(|id| snapshot.find(id)).collect();
        let asked = |cycle: &&Cycle| {
            service_ids.is_empty() || through.iter().any(|node| cycle.members.binary_search(node).is_ok())
        };
        let cycles = snapshot.cycles().iter().filter(asked).cloned().collect();
        Ok((held, cycles))
    }
}
