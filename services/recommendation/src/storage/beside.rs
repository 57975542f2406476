//! What many services promise and offer, in a few statements.

use attain_vocabulary::{EntityId, SliKind, TenantId, TimeWindow};

use super::Store;
use crate::Error;
use crate::domain::slo::kind_word;

/// Most names in one statement.
const NAMES_MAX: usize = 200;

impl Store {
    /// Targets of the SLOs in force of the named services for one SLI; a service without one is left out.
    pub(crate) async fn targets_of(
        &self,
        tenant: &TenantId,
        kind: SliKind,
        services: &[&EntityId],
    ) -> Result<Vec<(EntityId, f64)>, Error> {
        let mut found = Vec::new();
        for services in services.chunks(NAMES_MAX) {
            let statement = format!(
                "SELECT service_id, target_ratio FROM slos WHERE tenant_id = $1 AND kind = $2 AND service_id IN ({})",
                places(3, services.len())
            );
            let query = sqlx::query_as(sqlx::AssertSqlSafe(statement)).bind(tenant.as_str()).bind(kind_word(kind));
            let query = services.iter().fold(query, |query, service| query.bind(service.as_str()));
            let rows: Vec<(String, f64)> = query.fetch_all(self.database.pool()).await?;
            for (service, target_ratio) in rows {
                found.push((EntityId::new("service_id", &service)?, target_ratio));
            }
        }
        Ok(found)
    }

    /// The newest recommendation of each of the named services for a window, encoded; a service without one is left out.
    pub(crate) async fn newest_messages(
        &self,
        tenant: &TenantId,
        services: &[&EntityId],
        window: TimeWindow,
    ) -> Result<Vec<(EntityId, Vec<u8>)>, Error> {
        let mut found = Vec::new();
        for services in services.chunks(NAMES_MAX) {
            let statement = format!(
                "SELECT f.service_id, r.message FROM freshness f \
                 JOIN recommendations r ON r.tenant_id = f.tenant_id AND r.id = f.recommendation_id \
                 WHERE f.tenant_id = $1 AND f.window_days = $2 AND f.service_id IN ({})",
                places(3, services.len())
            );
            let query = sqlx::query_as(sqlx::AssertSqlSafe(statement)).bind(tenant.as_str()).bind(window.code());
            let query = services.iter().fold(query, |query, service| query.bind(service.as_str()));
            let rows: Vec<(String, Vec<u8>)> = query.fetch_all(self.database.pool()).await?;
            for (service, message) in rows {
                found.push((EntityId::new("service_id", &service)?, message));
            }
        }
        Ok(found)
    }
}

/// So many numbered parameters, the first with this number.
fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|number| format!("${number}")).collect();
    places.join(", ")
}
