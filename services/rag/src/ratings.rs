//! Ratings of citations: kept, listed, and what follows for the places of documents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use attain_vocabulary::TenantId;

use crate::Error;
use crate::domain::document::DocumentId;
use crate::domain::standing::{Rate, Rated, Standings, standings};
use crate::knowledge::Knowledge;

/// Most ratings of a tenant that count, the newest.
const RATINGS_MAX: u64 = 20_000;

/// The ratings of each tenant as they were read last.
#[derive(Debug, Default)]
pub(crate) struct Ratings(Mutex<HashMap<TenantId, Arc<Vec<Rated>>>>);

impl Ratings {
    fn held(&self, tenant: &TenantId) -> Option<Arc<Vec<Rated>>> {
        // A map of shared lists: nothing that is done under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    fn hold(&self, tenant: &TenantId, ratings: &Arc<Vec<Rated>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), Arc::clone(ratings));
    }
}

impl Knowledge {
    /// Keeps a rating of a passage that is really there.
    pub(crate) async fn rate(&self, tenant: &TenantId, rate: Rate) -> Result<Rated, Error> {
        let (document, _) = self.get(tenant, &rate.place.document, Some(rate.place.version)).await?;
        rate.check(&document)?;
        self.store.rate(tenant, rate, self.clock.now_ms()).await
    }

    /// A page of ratings, and whether there are more.
    pub(crate) async fn list_ratings(
        &self,
        tenant: &TenantId,
        document: Option<&DocumentId>,
        after: u64,
        page: u32,
    ) -> Result<(Vec<Rated>, bool), Error> {
        let mut ratings = self.store.ratings(tenant, document, after, page + 1).await?;
        let more = ratings.len() > page as usize;
        ratings.truncate(page as usize);
        Ok((ratings, more))
    }

    /// The standing of documents by what people of the tenant said, as of now.
    pub(crate) async fn standings(&self, tenant: &TenantId) -> Result<Standings, Error> {
        let count = self.store.rating_count(tenant).await?;
        if count == 0 {
            return Ok(Standings::new());
        }
        let held = self.ratings.held(tenant).filter(|held| held.last().is_some_and(|last| last.sequence == count));
        let ratings = match held {
            Some(held) => held,
            None => {
                let after = count.saturating_sub(RATINGS_MAX);
                let limit = u32::try_from(RATINGS_MAX).unwrap_or(u32::MAX);
                let read = Arc::new(self.store.ratings(tenant, None, after, limit).await?);
                self.ratings.hold(tenant, &read);
                read
            }
        };
        Ok(standings(ratings.iter(), self.clock.now_ms(), &self.settings.standing))
    }
}
