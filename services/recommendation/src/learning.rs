//! What was learned from a tenant's decisions, made from the log itself: the first time from its beginning, then from where it was
//! read to. Nothing of it is stored, so nothing of it can differ from the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use attain_learning::State;
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;

use crate::Error;
use crate::domain::learning::state_sha256;
use crate::engine::Engine;
use crate::gather::blocking;
use crate::message::{feedback, learning};
use crate::storage::Store;

/// Most tenants whose state is kept in memory; those beyond are made from the log each time.
const TENANTS_MAX: usize = 10_000;

/// A state, and how far the log was read for it.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) state: State,
    pub(crate) sha256: String,
    up_to: u64,
}

/// The states in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<BTreeMap<TenantId, Arc<Read>>>);

impl Memory {
    /// What was learned up to now.
    pub(crate) async fn now(&self, store: &Store, tenant: &TenantId) -> Result<Arc<Read>, Error> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        // Places in the log are taken and given free in order, so nothing at or before its end comes later.
        let end = store.audit_end(tenant).await?.sequence;
        if let Some(held) = held.as_ref().filter(|held| held.up_to >= end) {
            return Ok(Arc::clone(held));
        }
        let held = held.unwrap_or_default();
        let entries = store.learnable(tenant, held.up_to, end).await?;
        let state = held.state.clone();
        let read = blocking(move || {
            let mut state = state;
            entries.iter().filter_map(learning::learned_from).for_each(|evidence| state.learn(&evidence));
            let sha256 = state_sha256(&state)?;
            Ok::<_, serde_json::Error>(Read { state, sha256, up_to: end })
        })
        .await?
        .map_err(|error| Error::Broken(format!("what was learned cannot be written: {error}")))?;
        let read = Arc::new(read);
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = states.get(tenant).is_some_and(|other| other.up_to >= read.up_to);
        if !newer && (states.len() < TENANTS_MAX || states.contains_key(tenant)) {
            states.insert(tenant.clone(), Arc::clone(&read));
        }
        Ok(read)
    }
}

/// Tells it.
pub(crate) async fn told(engine: &Engine, context: &CallContext) -> Result<wire::GetLearningResponse, Error> {
    let read = engine.learned.now(&engine.store, &context.tenant).await?;
    let counts = engine.store.feedback_counts(&context.tenant).await?;
    let now_ms = engine.clock.now_ms();
    let state = &read.state;
    Ok(wire::GetLearningResponse {
        version: state.version,
        sha256: read.sha256.clone(),
        time: (state.version > 0).then(|| timestamp(state.time_ms)),
        half_life_days: attain_learning::HALF_LIFE_DAYS,
        cells: state.cells.iter().map(|cell| learning::cell(cell, now_ms)).collect(),
        policies: state.policies().iter().map(learning::policy).collect(),
        feedback: counts.into_iter().map(|(kind, count)| feedback::count(kind, count)).collect(),
    })
}
