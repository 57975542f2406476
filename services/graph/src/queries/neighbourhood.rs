use std::sync::Arc;

use attain_runtime::context::CallContext;

use super::Engine;
use crate::domain::walk::{Bounds, Heading, Neighbourhood, walk};
use crate::error::Error;
use crate::storage::held::Held;

impl Engine {
    /// Who and what is around a service, at most `depth` edges away.
    pub(crate) async fn neighbourhood(
        &self,
        context: &CallContext,
        (service_id, version): (&str, u64),
        heading: Heading,
        depth: Option<u32>,
    ) -> Result<(Arc<Held>, Neighbourhood), Error> {
        let (held, start) = self.gather_service(context, service_id, version).await?;
        let bounds = Bounds { nodes_max: self.bounds.entities_max, edges_max: self.bounds.dependencies_max };
        let graph = Arc::clone(&held);
        let walked = self
            .workers
            .run(context.deadline, move |_| Ok(walk(&graph.snapshot, start, heading, depth, bounds)))
            .await?;
        Ok((held, walked))
    }
}
