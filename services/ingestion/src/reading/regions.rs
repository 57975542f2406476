use attain_vocabulary::{EntityId, TenantId, UnixMillis};
use futures::stream::{self, Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use crate::Error;
use crate::domain::{MergedBucket, Region, SourceSet};
use crate::storage::{BucketSpan, SliPage, Store};

/// The history of one service in one region; at least one bucket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RegionalChunk {
    pub(crate) service: EntityId,
    pub(crate) region: Region,
    pub(crate) sources: SourceSet,
    /// Oldest first.
    pub(crate) buckets: Vec<MergedBucket>,
}

/// Streams the history of each service in turn by region: one service is in memory at a time.
pub(crate) fn stream_regional(
    store: Store,
    tenant: TenantId,
    services: Vec<EntityId>,
    span: BucketSpan,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<RegionalChunk, Error>> + Send + 'static {
    stream::iter(services)
        .then(move |service| {
            let (store, tenant) = (store.clone(), tenant.clone());
            let _place = &place;
            async move {
                let found = match store.regional_history(&tenant, &service, span, None).await {
                    Ok(found) => found,
                    Err(error) => return vec![Err(error)],
                };
                let chunk = |(region, buckets): (Region, Vec<MergedBucket>)| {
                    let sources = buckets.iter().fold(SourceSet::default(), |all, merged| all.union(merged.sources));
                    Ok(RegionalChunk { service: service.clone(), region, sources, buckets })
                };
                found.into_iter().map(chunk).collect()
            }
        })
        .flat_map(stream::iter)
}

/// Buckets of one service in one region, oldest first, at most `limit`.
///
/// # Errors
/// Names `region` and the regions that there are where it is none of them; as [`Store::regional_history`].
pub(crate) async fn region_page(
    store: &Store,
    tenant: &TenantId,
    service: &EntityId,
    region: &Region,
    (span, limit): (BucketSpan, usize),
) -> Result<SliPage, Error> {
    let known = store.regions(tenant, service).await?;
    if !known.contains(region) {
        let names: Vec<&str> = known.iter().map(Region::as_str).collect();
        let reason = match names.is_empty() {
            true => format!("no telemetry of `{service}` tells a region"),
            false => format!("`{service}` has {}", names.join(", ")),
        };
        return Err(Error::invalid("region", "unknown_region", reason));
    }
    let mut found = store.regional_history(tenant, service, span, Some(region)).await?;
    let mut buckets = found.remove(region).unwrap_or_default();
    let next_start_ms: Option<UnixMillis> = buckets.get(limit).map(|next| next.bucket.start_ms);
    buckets.truncate(limit);
    Ok(SliPage { buckets, next_start_ms })
}
