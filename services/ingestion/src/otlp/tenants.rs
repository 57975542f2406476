//! Which tenants send: their names come in a header that nobody checks, so there are so many and no more.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use attain_vocabulary::TenantId;
use tokio::sync::OnceCell;
use tonic::{Code, Status};

use super::refusal::named;
use crate::Error;
use crate::storage::Store;

/// The tenants that are known, of this process and of others that write to the same storage.
#[derive(Debug)]
pub(super) struct Tenants {
    store: Store,
    tenants_max: usize,
    known: OnceCell<Mutex<HashSet<TenantId>>>,
}

impl Tenants {
    pub(super) fn new(store: Store, tenants_max: usize) -> Self {
        Self { store, tenants_max, known: OnceCell::new() }
    }

    /// Lets a known tenant in, and a new one while there are fewer than may be. To be asked when there is something to keep:
    /// whoever sends nothing takes nobody's place.
    pub(super) async fn admit(&self, tenant: &TenantId) -> Result<(), Status> {
        let stored = async || Ok::<_, Error>(Mutex::new(self.store.tenants().await?));
        let known = self.known.get_or_try_init(stored).await?;
        if enter(known, tenant, self.tenants_max) {
            return Ok(());
        }
        // It may have come another way, or to another process.
        if self.store.has_tenant(tenant).await? {
            enter(known, tenant, usize::MAX);
            return Ok(());
        }
        let text = "there are as many tenants as are kept (ingestion.tenants_max), and nothing is known of this one";
        Err(named(Code::FailedPrecondition, "TENANTS_FULL", text))
    }
}

fn enter(known: &Mutex<HashSet<TenantId>>, tenant: &TenantId, tenants_max: usize) -> bool {
    // A set is whole at any time, also where somebody panicked.
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.contains(tenant) {
        return true;
    }
    known.len() < tenants_max && known.insert(tenant.clone())
}
