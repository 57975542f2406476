use attain_vocabulary::TenantId;

use super::{Store, StoredRecommendation, Transaction};
use crate::Error;

/// Between the id of the whole and the region.
const MARK: char = '@';

/// The recommendation of a region to store beside that of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewRegional {
    pub(crate) region: String,
    pub(crate) result_sha256: String,
    /// The encoded message.
    pub(crate) message: Vec<u8>,
}

/// The id of a region's recommendation.
pub(crate) fn id_in(whole_id: &str, region: &str) -> String {
    format!("{whole_id}{MARK}{region}")
}

/// The id of the whole, and the region where one is named.
pub(crate) fn parted(id: &str) -> (&str, Option<&str>) {
    id.split_once(MARK).map_or((id, None), |(whole, region)| (whole, Some(region)))
}

impl Store {
    /// Reads the recommendation of a region that was made with one of the whole.
    pub(crate) async fn regional(
        &self,
        tenant: &TenantId,
        whole: &StoredRecommendation,
        region: &str,
    ) -> Result<Option<StoredRecommendation>, Error> {
        let row: Option<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT result_sha256, message FROM regional_recommendations \
             WHERE tenant_id = $1 AND recommendation_id = $2 AND region = $3",
        )
        .bind(tenant.as_str())
        .bind(&whole.id)
        .bind(region)
        .fetch_optional(self.database.pool())
        .await?;
        Ok(row.map(|(result_sha256, message)| StoredRecommendation {
            id: id_in(&whole.id, region),
            result_sha256,
            message,
            ..whole.clone()
        }))
    }
}

/// Stores what was decided of each region with the whole.
pub(super) async fn insert(
    transaction: &mut Transaction,
    tenant: &TenantId,
    recommendation_id: &str,
    regional: &[NewRegional],
) -> Result<(), Error> {
    for of in regional {
        sqlx::query(
            "INSERT INTO regional_recommendations (tenant_id, recommendation_id, region, result_sha256, message) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant.as_str())
        .bind(recommendation_id)
        .bind(&of.region)
        .bind(&of.result_sha256)
        .bind(&of.message)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
