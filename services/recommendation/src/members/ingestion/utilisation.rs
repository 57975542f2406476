//! What ingestion knows of queues and limits.

use attain_attainment::{AgeBucket, Used};
use attain_proto::convert::{self, word};
use attain_proto::ingestion::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, TimeRange, UtilisationKind};

use super::Ingestion;
use crate::members::Refusal;

/// Starts of buckets a page: the most that ingestion gives.
const PAGE_SIZE: u32 = 2_000;
/// Most pages of ages that are read for one service: more than a year of slices.
const PAGES_MAX: usize = 60;

/// A service, and how much it used of its limits in the last days.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) entity: vocabulary::Entity,
    /// By kind.
    pub(crate) used: Vec<Used>,
}

impl Known {
    /// Whether the age of what waits there was measured in the last days.
    pub(crate) fn has_age(&self) -> bool {
        self.used.iter().any(|used| used.kind == UtilisationKind::MessageAge)
    }
}

impl Ingestion {
    /// Reads one service, with what it used of its limits.
    pub(crate) async fn known(&self, context: &CallContext, id: &EntityId) -> Result<Known, Refusal> {
        let request = wire::GetServiceRequest { service_id: id.to_string() };
        let response = self.0.clone().get_service(context.request(request)).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        let entity = response.service.ok_or_else(|| Refusal::Refused("the answer holds no service".to_owned()))?;
        let summaries = response.data.map(|data| data.utilisation).unwrap_or_default();
        let mut used: Vec<Used> = summaries.iter().filter_map(summary).collect();
        used.sort_by_key(|used| used.kind);
        Ok(Known { entity, used })
    }

    /// Reads the oldest age of what waited in each slice of a span, oldest slice first.
    pub(crate) async fn ages(
        &self,
        context: &CallContext,
        id: &EntityId,
        range: TimeRange,
    ) -> Result<Vec<AgeBucket>, Refusal> {
        let mut ages = Vec::new();
        let mut page_token = String::new();
        for _ in 0..PAGES_MAX {
            let request = wire::ListUtilisationRequest {
                service_id: id.to_string(),
                kind: vocabulary::UtilisationKind::MessageAge as i32,
                start_time: Some(convert::timestamp(range.start_ms())),
                end_time: Some(convert::timestamp(range.end_ms())),
                page_size: PAGE_SIZE,
                page_token,
            };
            let response = self.0.clone().list_utilisation(context.request(request)).await;
            let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
            ages.extend(response.buckets.iter().filter_map(age));
            page_token = response.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(ages)
    }
}

fn age(bucket: &wire::UtilisationBucket) -> Option<AgeBucket> {
    let start_ms = bucket.start_time.as_ref().map(convert::unix_millis)?;
    let known = bucket.maximum.is_finite() && bucket.maximum >= 0.0;
    // Whole milliseconds, none of them cut off: what is a hair too old is too old.
    known.then(|| AgeBucket { start_ms, oldest_ms: (bucket.maximum * 1000.0).ceil() as u64 })
}

/// A kind that is not known here is left out.
fn summary(summary: &wire::UtilisationSummary) -> Option<Used> {
    let kind = word::<vocabulary::UtilisationKind, UtilisationKind>("kind", summary.kind).ok().flatten()?;
    let wire::UtilisationSummary { average_p95, maximum, bucket_count, .. } = *summary;
    Some(Used { kind, average_p95, maximum, bucket_count })
}
