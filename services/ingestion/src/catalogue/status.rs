//! How the synchronisation stands, for whoever asks.

use std::sync::{Arc, Mutex, PoisonError};

use attain_vocabulary::{TenantId, UnixMillis};

/// What came of the last time that the catalogue was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attempt {
    /// When; `None` before the first time.
    pub(crate) time_ms: Option<UnixMillis>,
    /// For people.
    pub(crate) detail: String,
    /// Why what is kept is not what the catalogue holds; empty where it is.
    pub(crate) code: &'static str,
}

/// Shared by whoever follows the catalogue and whoever tells of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CatalogueStatus(Option<Arc<Followed>>);

#[derive(Debug)]
struct Followed {
    tenant: TenantId,
    attempt: Mutex<Attempt>,
}

impl CatalogueStatus {
    /// Of a catalogue that was not asked yet.
    pub(super) fn following(tenant: TenantId) -> Self {
        let attempt = Attempt { time_ms: None, detail: "not asked yet".to_owned(), code: "not_asked" };
        Self(Some(Arc::new(Followed { tenant, attempt: Mutex::new(attempt) })))
    }

    /// What came of the last time; `None` where no catalogue is followed for the tenant.
    pub(crate) fn attempt(&self, tenant: &TenantId) -> Option<Attempt> {
        let followed = self.0.as_ref().filter(|followed| followed.tenant == *tenant)?;
        Some(followed.attempt.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn attempted(&self, time_ms: UnixMillis, code: &'static str, detail: &str) {
        if let Some(followed) = &self.0 {
            let attempt = Attempt { time_ms: Some(time_ms), detail: detail.to_owned(), code };
            *followed.attempt.lock().unwrap_or_else(PoisonError::into_inner) = attempt;
        }
    }
}
