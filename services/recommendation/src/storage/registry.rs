use attain_vocabulary::{EntityId, SliKind, TenantId, Tier, TimeWindow, UnixMillis};

use super::decisions::{SLO_COLUMNS, read_contradiction, slo, threshold};
use super::standings::{tier, tier_number};
use super::{Store, Transaction, audit, number, window, word};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::contradiction::Contradiction;
use crate::domain::slo::{Action, Slo, kind_word};

/// An SLO in force and what the registry knows of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Registered {
    pub(crate) slo: Slo,
    pub(crate) tier: Option<Tier>,
    pub(crate) owner: String,
    /// When it is to be reviewed, and from when on it is expiring; `None` where it follows no recommendation.
    pub(crate) review_ms: Option<UnixMillis>,
    pub(crate) renewal_ms: Option<UnixMillis>,
    /// The newest recommendation of its service and window, where that is open.
    pub(crate) open_recommendation_id: Option<String>,
    /// What was promised below and too little for it when it was decided.
    pub(crate) contradiction: Option<Contradiction>,
}

/// Which SLOs in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistryFilter {
    pub(crate) tier: Option<Tier>,
    /// Empty for all.
    pub(crate) owner: String,
    pub(crate) kind: Option<SliKind>,
    pub(crate) expiring: bool,
    /// Only of this service.
    pub(crate) service: Option<EntityId>,
}

/// One version of an SLO.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SloVersion {
    pub(crate) version: u32,
    pub(crate) target_ratio: f64,
    pub(crate) latency_threshold_ms: Option<u32>,
    /// `None` where it was not recorded.
    pub(crate) window: Option<TimeWindow>,
    pub(crate) recommendation_id: String,
    pub(crate) as_recommended: bool,
    /// Position of the decision in the audit log.
    pub(crate) sequence: u64,
    pub(crate) action: Action,
    pub(crate) reason: String,
    pub(crate) decided_by: String,
    pub(crate) approved_by: String,
    pub(crate) create_ms: UnixMillis,
    /// `None` for the one in force.
    pub(crate) end_ms: Option<UnixMillis>,
    /// What was promised below and too little for it.
    pub(crate) contradiction: Option<Contradiction>,
}

/// An SLO whose review is near and for which no renewal was offered yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Renewal {
    pub(crate) tenant: TenantId,
    pub(crate) slo: Slo,
    pub(crate) review_ms: UnixMillis,
}

impl Store {
    /// At most `limit` SLOs in force after a service and kind, in their order.
    pub(crate) async fn registered(
        &self,
        tenant: &TenantId,
        filter: &RegistryFilter,
        now_ms: UnixMillis,
        after: (&str, &str),
        limit: u32,
    ) -> Result<Vec<Registered>, Error> {
        type Row = (String, String, f64, i64, i64, i64, String, i64, i64, i64, i64, i64, String, String, String);
        let columns = SLO_COLUMNS.replace(", ", ", s.");
        let statement = format!(
            "SELECT s.{columns}, s.review_ms, s.renewal_ms, COALESCE(f.tier, 0), COALESCE(f.owner, ''), \
             COALESCE((SELECT r.recommendation_id FROM recommendation_states r WHERE r.tenant_id = s.tenant_id \
                 AND r.service_id = s.service_id AND r.window_days = s.window_days AND r.superseded = 0 \
                 AND r.decided = '' AND r.expire_ms > $7), ''), \
             COALESCE((SELECT d.contradiction FROM slo_versions v JOIN decisions d ON d.tenant_id = v.tenant_id \
                 AND d.sequence = v.sequence WHERE v.tenant_id = s.tenant_id AND v.service_id = s.service_id \
                 AND v.kind = s.kind AND v.version = s.version), '') \
             FROM slos s LEFT JOIN service_facts f ON f.tenant_id = s.tenant_id AND f.service_id = s.service_id \
             WHERE s.tenant_id = $1 AND ($2 = 0 OR f.tier = $2) AND ($3 = '' OR f.owner = $3) AND ($4 = '' OR s.kind = $4) \
             AND ($5 = '' OR s.service_id = $5) AND ($6 = 0 OR (s.renewal_ms > 0 AND s.renewal_ms <= $7)) \
             AND (s.service_id > $8 OR (s.service_id = $8 AND s.kind > $9)) ORDER BY s.service_id, s.kind LIMIT $10"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(filter.tier.map_or(0, tier_number))
            .bind(&filter.owner)
            .bind(filter.kind.map(kind_word).unwrap_or_default())
            .bind(filter.service.as_ref().map(EntityId::as_str).unwrap_or_default())
            .bind(i64::from(filter.expiring))
            .bind(now_ms)
            .bind(after.0)
            .bind(after.1)
            .bind(i64::from(limit))
            .fetch_all(self.database.pool())
            .await?;
        let read = |row: Row| {
            let (a, b, c, d, e, f, g, h, i, review_ms, renewal_ms, tier_number, owner, open, contradiction) = row;
            Ok(Registered {
                slo: slo((a, b, c, d, e, f, g, h, i))?,
                tier: tier(tier_number)?,
                owner,
                review_ms: Some(review_ms).filter(|time| *time > 0),
                renewal_ms: Some(renewal_ms).filter(|time| *time > 0),
                open_recommendation_id: Some(open).filter(|id| !id.is_empty()),
                contradiction: read_contradiction(&contradiction)?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// At most `limit` versions of an SLO before one, newest first.
    pub(crate) async fn slo_versions(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        kind: SliKind,
        before_version: u64,
        limit: u32,
    ) -> Result<Vec<SloVersion>, Error> {
        type Row = (i64, f64, i64, i64, String, i64, i64, i64, String, String, String, String, i64, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT v.version, v.target_ratio, v.latency_threshold_ms, v.window_days, v.recommendation_id, v.as_recommended, \
             v.sequence, v.create_ms, d.action, d.reason, d.decided_by, d.approved_by, COALESCE(n.create_ms, -1), \
             d.contradiction \
             FROM slo_versions v JOIN decisions d ON d.tenant_id = v.tenant_id AND d.sequence = v.sequence \
             LEFT JOIN slo_versions n ON n.tenant_id = v.tenant_id AND n.service_id = v.service_id AND n.kind = v.kind \
             AND n.version = v.version + 1 \
             WHERE v.tenant_id = $1 AND v.service_id = $2 AND v.kind = $3 AND v.version < $4 \
             ORDER BY v.version DESC LIMIT $5",
        )
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(kind_word(kind))
        .bind(i64::try_from(before_version).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        let read = |row: Row| {
            let (
                version,
                target_ratio,
                threshold_ms,
                window_days,
                recommendation_id,
                as_recommended,
                sequence,
                create_ms,
                action,
                reason,
                decided_by,
                approved_by,
                end_ms,
                contradiction,
            ) = row;
            Ok(SloVersion {
                version: number("version", version)?,
                target_ratio,
                latency_threshold_ms: threshold(threshold_ms)?,
                window: (window_days != 0).then(|| window(window_days)).transpose()?,
                recommendation_id,
                as_recommended: as_recommended != 0,
                sequence: number("sequence", sequence)?,
                action: word("action", &action, Action::from_word)?,
                reason,
                decided_by,
                approved_by,
                create_ms,
                end_ms: Some(end_ms).filter(|time| *time >= 0),
                contradiction: read_contradiction(&contradiction)?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// At most `limit` SLOs of all tenants whose review is near and for which no renewal was offered yet.
    pub(crate) async fn renewals_due(&self, now_ms: UnixMillis, limit: u32) -> Result<Vec<Renewal>, Error> {
        type Row = (String, String, f64, i64, i64, i64, String, i64, i64, String, i64);
        let statement = format!(
            "SELECT {SLO_COLUMNS}, tenant_id, review_ms FROM slos \
             WHERE renewal_offered = 0 AND renewal_ms > 0 AND renewal_ms <= $1 ORDER BY renewal_ms LIMIT $2"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(now_ms)
            .bind(i64::from(limit))
            .fetch_all(self.database.pool())
            .await?;
        let read = |row: Row| {
            let (a, b, c, d, e, f, g, h, i, tenant, review_ms): Row = row;
            let tenant = TenantId::new("tenant", &tenant)
                .map_err(|invalid| Error::Broken(format!("a stored tenant cannot be read: {invalid}")))?;
            Ok(Renewal { tenant, slo: slo((a, b, c, d, e, f, g, h, i))?, review_ms })
        };
        rows.into_iter().map(read).collect()
    }

    /// Notes that a renewal of a version of an SLO was offered; whether it was this call that did.
    pub(crate) async fn offer_renewal(&self, renewal: &Renewal, entry: Entry) -> Result<bool, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, &renewal.tenant).await?;
        let changed = sqlx::query(
            "UPDATE slos SET renewal_offered = 1 WHERE tenant_id = $1 AND service_id = $2 AND kind = $3 AND version = $4 \
             AND renewal_offered = 0",
        )
        .bind(renewal.tenant.as_str())
        .bind(renewal.slo.service.as_str())
        .bind(kind_word(renewal.slo.kind))
        .bind(i64::from(renewal.slo.version))
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if changed == 0 {
            // Another process did, or another version is in force by now.
            transaction.rollback().await?;
            return Ok(false);
        }
        audit::append(&mut transaction, &renewal.tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// Keeps a version of an SLO.
pub(super) async fn insert_version(
    transaction: &mut Transaction,
    tenant: &TenantId,
    slo: &Slo,
    sequence: u64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO slo_versions (tenant_id, service_id, kind, version, target_ratio, latency_threshold_ms, window_days, \
         recommendation_id, as_recommended, sequence, create_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(tenant.as_str())
    .bind(slo.service.as_str())
    .bind(kind_word(slo.kind))
    .bind(i64::from(slo.version))
    .bind(slo.target.target_ratio())
    .bind(i64::from(slo.latency_threshold_ms.unwrap_or(0)))
    .bind(slo.window.code())
    .bind(&slo.recommendation_id)
    .bind(i64::from(slo.as_recommended))
    .bind(sequence as i64)
    .bind(slo.update_ms)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
