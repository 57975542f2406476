//! What is not kept because a tenant is full: told to whoever wrote it, counted by name, logged once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use attain_vocabulary::{EntityId, Source, TenantId};
use tokio::sync::watch;

use crate::count::{Count, observed};
use crate::domain::DependencyKey;

/// Most tenants that the log names as full; more would fill it.
const LOGGED_MAX: usize = 1_000;

/// What of a batch was not kept because the tenant has as many entities or dependencies as are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// New names; whatever else the batch told of them is left out too.
    pub entities: BTreeSet<EntityId>,
    /// New edges between known names.
    pub edges: BTreeSet<(DependencyKey, Source)>,
    /// Edges of names that were left out.
    pub edge_count: usize,
    /// Buckets.
    pub bucket_count: usize,
    /// Operations.
    pub operation_count: usize,
    /// Buckets of utilisation.
    pub utilisation_count: usize,
    /// Exemplars.
    pub exemplar_count: usize,
    /// Sampled requests.
    pub request_sample_count: usize,
}

impl LeftOut {
    /// Whether everything was kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty() && self.edges.is_empty()
    }

    /// Whether nothing was kept of an edge.
    #[must_use]
    pub fn has_edge(&self, key: &DependencyKey, source: Source) -> bool {
        let unknown = |id| self.entities.contains(id);
        unknown(key.caller()) || unknown(key.callee()) || self.edges.contains(&(key.clone(), source))
    }
}

/// A tenant that is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullTenant {
    /// Which.
    pub tenant: TenantId,
    /// Of what it has as many as are kept: the setting that says how many.
    pub setting: &'static str,
}

/// What was left out so far; shared by the clones of a store.
#[derive(Debug, Clone)]
pub(super) struct OverCapacity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    entities: Count,
    edges: Count,
    buckets: Count,
    operations: Count,
    utilisation: Count,
    exemplars: Count,
    request_samples: Count,
    logged: Mutex<BTreeSet<(TenantId, &'static str)>>,
    newest: watch::Sender<Option<FullTenant>>,
}

impl Default for OverCapacity {
    fn default() -> Self {
        let count = |what| observed("storage", what);
        Self(Arc::new(Shared {
            entities: count("entities_over_capacity"),
            edges: count("edges_over_capacity"),
            buckets: count("buckets_over_capacity"),
            operations: count("operations_over_capacity"),
            utilisation: count("utilisation_over_capacity"),
            exemplars: count("exemplars_over_capacity"),
            request_samples: count("request_samples_over_capacity"),
            logged: Mutex::default(),
            newest: watch::Sender::new(None),
        }))
    }
}

impl OverCapacity {
    /// Notes what a committed write left out.
    pub(super) fn note(&self, tenant: &TenantId, left_out: &LeftOut) {
        if left_out.is_empty() {
            return;
        }
        let shared = &self.0;
        shared.entities.add(left_out.entities.len());
        shared.edges.add(left_out.edges.len() + left_out.edge_count);
        shared.buckets.add(left_out.bucket_count);
        shared.operations.add(left_out.operation_count);
        shared.utilisation.add(left_out.utilisation_count);
        shared.exemplars.add(left_out.exemplar_count);
        shared.request_samples.add(left_out.request_sample_count);
        for (full, setting) in [
            (!left_out.entities.is_empty(), "ingestion.entities_per_tenant_max"),
            (!left_out.edges.is_empty(), "ingestion.dependencies_per_tenant_max"),
        ] {
            if full {
                self.tell(FullTenant { tenant: tenant.clone(), setting });
            }
        }
    }

    /// Sees each tenant that something was left out of.
    pub(super) fn watch(&self) -> watch::Receiver<Option<FullTenant>> {
        self.0.newest.subscribe()
    }

    fn tell(&self, full: FullTenant) {
        {
            let mut logged = self.0.logged.lock().unwrap_or_else(PoisonError::into_inner);
            if logged.len() < LOGGED_MAX && logged.insert((full.tenant.clone(), full.setting)) {
                tracing::warn!(
                    tenant = full.tenant.as_str(),
                    setting = full.setting,
                    "the tenant has as much as is kept: new names are left out from now on"
                );
            }
        }
        self.0.newest.send_replace(Some(full));
    }

    #[cfg(test)]
    pub(super) fn counted(&self) -> [u64; 7] {
        let shared = &self.0;
        [
            &shared.entities,
            &shared.edges,
            &shared.buckets,
            &shared.operations,
            &shared.utilisation,
            &shared.exemplars,
            &shared.request_samples,
        ]
        .map(Count::value)
    }
}
