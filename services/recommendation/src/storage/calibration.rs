use std::collections::{BTreeMap, BTreeSet};

use attain_attainment::{Ambition, Record};
use attain_vocabulary::{DAY_MS, EntityId, EntityKind, SliKind, TenantId, Tier, TimeWindow, UnixMillis};
use sqlx::AssertSqlSafe;

use super::{Store, Transaction, number, word};
use crate::Error;
use crate::domain::calibration::{
    Class, Evidence, Published, Scope, entity_kind_from_word, entity_kind_word, place, tier_from_number, tier_number,
};
use crate::domain::slo::{ambition_from_word, ambition_word, kind_from_word, kind_word};

/// Offers of a service, window, SLI and ambition are kept once a week: closer ones would be about the same claim.
const WEEK_MS: i64 = 7 * DAY_MS;

/// An offer whose window is over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DueOffer {
    pub(crate) tenant: TenantId,
    pub(crate) service: EntityId,
    pub(crate) window_days: i64,
    pub(crate) kind: SliKind,
    pub(crate) ambition: Ambition,
    pub(crate) week: i64,
    pub(crate) start_ms: UnixMillis,
    pub(crate) end_ms: UnixMillis,
    pub(crate) target_ratio: f64,
    /// `None` for availability.
    pub(crate) latency_threshold_ms: Option<u32>,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Judgement {
    /// The window was this bad, and met the target.
    Met(f64),
    /// The window was this bad, and missed the target.
    Missed(f64),
    /// Too little was measured.
    Unjudged,
}

impl Judgement {
    fn state(self) -> &'static str {
        match self {
            Self::Met(_) => "met",
            Self::Missed(_) => "missed",
            Self::Unjudged => "unjudged",
        }
    }

    fn observed_ratio(self) -> f64 {
        match self {
            Self::Met(observed) | Self::Missed(observed) => observed,
            Self::Unjudged => 0.0,
        }
    }
}

/// Tier, kind of node, SLI, window, ambition.
type ScopeRow = (i64, String, String, i64, String);

/// Which classes are asked about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter {
    pub(crate) tier: Option<Tier>,
    pub(crate) kind: Option<EntityKind>,
}

impl Filter {
    /// 0 and the empty word stand for all: a bound parameter of either database has one type.
    const WHERE: &str = "tenant_id = $1 AND (CAST($2 AS BIGINT) = 0 OR tier = $2) AND ($3 = '' OR entity_kind = $3)";

    fn tier(self) -> i64 {
        self.tier.map_or(0, tier_number)
    }

    fn kind(self) -> &'static str {
        self.kind.map_or("", entity_kind_word)
    }
}

/// Puts the back-tests of a recommendation in the place of those before, and keeps its offers where they are the first of their
/// week.
pub(super) async fn record(
    transaction: &mut Transaction,
    tenant: &TenantId,
    service: &str,
    recommendation_id: &str,
    now_ms: UnixMillis,
    evidence: &Evidence,
) -> Result<(), Error> {
    let (tier, kind) = (tier_number(evidence.class.tier), entity_kind_word(evidence.class.kind));
    let window = evidence.window.code();
    sqlx::query("DELETE FROM backtests WHERE tenant_id = $1 AND service_id = $2 AND window_days = $3")
        .bind(tenant.as_str())
        .bind(service)
        .bind(window)
        .execute(&mut **transaction)
        .await?;
    for (sli, backtest) in &evidence.backtests {
        for offer in backtest.offers.iter().filter(|offer| offer.record.forecast_count > 0) {
            let record = &offer.record;
            sqlx::query(
                "INSERT INTO backtests (tenant_id, service_id, window_days, kind, ambition, tier, entity_kind, \
                 forecast_count, missed_count, window_count, probability_sum, brier_sum, allowed_sum, observed_sum, \
                 update_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            )
            .bind(tenant.as_str())
            .bind(service)
            .bind(window)
            .bind(kind_word(*sli))
            .bind(ambition_word(offer.ambition))
            .bind(tier)
            .bind(kind)
            .bind(i64::try_from(record.forecast_count).unwrap_or(i64::MAX))
            .bind(i64::try_from(record.missed_count).unwrap_or(i64::MAX))
            .bind(record.window_count)
            .bind(record.probability_sum)
            .bind(record.brier_sum)
            .bind(record.allowed_sum)
            .bind(record.observed_sum)
            .bind(now_ms)
            .execute(&mut **transaction)
            .await?;
        }
    }
    for claim in &evidence.claims {
        sqlx::query(
            "INSERT INTO offers (tenant_id, service_id, window_days, kind, ambition, week, recommendation_id, tier, \
             entity_kind, start_ms, end_ms, target_ratio, latency_threshold_ms, miss_probability, state, observed_ratio, \
             judge_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'open', 0.0, 0) \
             ON CONFLICT (tenant_id, service_id, window_days, kind, ambition, week) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(service)
        .bind(window)
        .bind(kind_word(claim.sli))
        .bind(ambition_word(claim.ambition))
        .bind(evidence.start_ms.div_euclid(WEEK_MS))
        .bind(recommendation_id)
        .bind(tier)
        .bind(kind)
        .bind(evidence.start_ms)
        .bind(evidence.end_ms)
        .bind(claim.target_ratio)
        .bind(i64::from(claim.latency_threshold_ms.unwrap_or(0)))
        .bind(claim.miss_probability)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

impl Store {
    /// How the balanced availability offers of the other services of a class fared in their back-tests; `None` where there is
    /// no record.
    pub(crate) async fn class_record(
        &self,
        tenant: &TenantId,
        class: Class,
        window: TimeWindow,
        but: &EntityId,
    ) -> Result<Option<Record>, Error> {
        type Row = (i64, i64, f64, f64, f64, f64, f64);
        let row: Row = sqlx::query_as(
            "SELECT CAST(COALESCE(SUM(forecast_count), 0) AS BIGINT), CAST(COALESCE(SUM(missed_count), 0) AS BIGINT), \
             COALESCE(SUM(window_count), 0.0), COALESCE(SUM(probability_sum), 0.0), COALESCE(SUM(brier_sum), 0.0), \
             COALESCE(SUM(allowed_sum), 0.0), COALESCE(SUM(observed_sum), 0.0) FROM backtests \
             WHERE tenant_id = $1 AND tier = $2 AND entity_kind = $3 AND kind = $4 AND window_days = $5 AND ambition = $6 \
             AND service_id <> $7",
        )
        .bind(tenant.as_str())
        .bind(tier_number(class.tier))
        .bind(entity_kind_word(class.kind))
        .bind(kind_word(SliKind::Availability))
        .bind(window.code())
        .bind(ambition_word(Ambition::Balanced))
        .bind(but.as_str())
        .fetch_one(self.database.pool())
        .await?;
        let record = added(row)?;
        Ok((record.forecast_count > 0).then_some(record))
    }

    /// How offers fared, by scope.
    pub(crate) async fn published(
        &self,
        tenant: &TenantId,
        filter: Filter,
    ) -> Result<BTreeMap<Scope, Published>, Error> {
        let mut published = BTreeMap::new();
        self.add_backtests(tenant, filter, &mut published).await?;
        self.add_lived(tenant, filter, &mut published).await?;
        self.add_waiting(tenant, filter, &mut published).await?;
        Ok(published)
    }

    async fn add_backtests(
        &self,
        tenant: &TenantId,
        filter: Filter,
        published: &mut BTreeMap<Scope, Published>,
    ) -> Result<(), Error> {
        type Row = (i64, String, String, i64, String, i64, i64, i64, f64, f64, f64, f64, f64);
        let statement = format!(
            "SELECT tier, entity_kind, kind, window_days, ambition, COUNT(*), CAST(SUM(forecast_count) AS BIGINT), \
             CAST(SUM(missed_count) AS BIGINT), SUM(window_count), SUM(probability_sum), SUM(brier_sum), \
             SUM(allowed_sum), SUM(observed_sum) FROM backtests WHERE {} \
             GROUP BY tier, entity_kind, kind, window_days, ambition",
            Filter::WHERE
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(filter.tier())
            .bind(filter.kind())
            .fetch_all(self.database.pool())
            .await?;
        for (
            tier,
            entity,
            kind,
            window,
            ambition,
            services,
            forecasts,
            missed,
            windows,
            stated,
            brier,
            allowed,
            seen,
        ) in rows
        {
            let (scope, ambition) = scope((tier, entity, kind, window, ambition))?;
            let of: &mut Published = published.entry(scope).or_default();
            of.backtest_service_count = of.backtest_service_count.max(number("count", services)?);
            of.backtest[place(ambition)] = added((forecasts, missed, windows, stated, brier, allowed, seen))?;
        }
        Ok(())
    }

    async fn add_lived(
        &self,
        tenant: &TenantId,
        filter: Filter,
        published: &mut BTreeMap<Scope, Published>,
    ) -> Result<(), Error> {
        type Row = (i64, String, String, i64, String, String, i64, i64, i64, i64, i64, f64, f64, f64, f64);
        // One row a service: how far its windows overlap is told from its first start to its last.
        let statement = format!(
            "SELECT tier, entity_kind, kind, window_days, ambition, service_id, COUNT(*), \
             CAST(SUM(CASE WHEN state = 'missed' THEN 1 ELSE 0 END) AS BIGINT), MIN(start_ms), MAX(start_ms), \
             CAST(SUM(end_ms - start_ms) AS BIGINT), SUM(miss_probability), \
             SUM(CASE WHEN state = 'missed' THEN (1.0 - miss_probability) * (1.0 - miss_probability) \
             ELSE miss_probability * miss_probability END), \
             SUM(1.0 - target_ratio), SUM(observed_ratio) FROM offers \
             WHERE state IN ('met', 'missed') AND {} \
             GROUP BY tier, entity_kind, kind, window_days, ambition, service_id",
            Filter::WHERE
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(filter.tier())
            .bind(filter.kind())
            .fetch_all(self.database.pool())
            .await?;
        let mut services: BTreeMap<Scope, BTreeSet<String>> = BTreeMap::new();
        for (
            tier,
            entity,
            kind,
            window,
            ambition,
            service,
            count,
            missed,
            first,
            last,
            length,
            stated,
            brier,
            allowed,
            seen,
        ) in rows
        {
            let (scope, ambition) = scope((tier, entity, kind, window, ambition))?;
            let windows = 1.0 + (last - first) as f64 * count as f64 / (length as f64).max(1.0);
            let record = added((count, missed, windows.min(count as f64), stated, brier, allowed, seen))?;
            published.entry(scope).or_default().lived[place(ambition)].add(&record);
            services.entry(scope).or_default().insert(service);
        }
        for (scope, services) in services {
            published.entry(scope).or_default().lived_service_count = u32::try_from(services.len()).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    async fn add_waiting(
        &self,
        tenant: &TenantId,
        filter: Filter,
        published: &mut BTreeMap<Scope, Published>,
    ) -> Result<(), Error> {
        type Row = (i64, String, String, i64, String, String, i64);
        let statement = format!(
            "SELECT tier, entity_kind, kind, window_days, ambition, state, COUNT(*) FROM offers \
             WHERE state IN ('open', 'unjudged') AND {} \
             GROUP BY tier, entity_kind, kind, window_days, ambition, state",
            Filter::WHERE
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(filter.tier())
            .bind(filter.kind())
            .fetch_all(self.database.pool())
            .await?;
        for (tier, entity, kind, window, ambition, state, count) in rows {
            let (scope, _) = scope((tier, entity, kind, window, ambition))?;
            let of = published.entry(scope).or_default();
            let count: u64 = number("count", count)?;
            if state == "open" { of.open_count += count } else { of.unjudged_count += count }
        }
        Ok(())
    }

    /// At most `limit` open offers whose window ended before an instant, of every tenant or of one service; those of one
    /// service stand together.
    pub(crate) async fn due_offers(
        &self,
        of: Option<(&TenantId, &EntityId)>,
        ended_before_ms: UnixMillis,
        limit: u32,
    ) -> Result<Vec<DueOffer>, Error> {
        type Row = (String, String, i64, String, String, i64, i64, i64, f64, i64);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT tenant_id, service_id, window_days, kind, ambition, week, start_ms, end_ms, target_ratio, \
             latency_threshold_ms FROM offers WHERE state = 'open' AND end_ms < $1 \
             AND ($2 = '' OR (tenant_id = $2 AND service_id = $3)) \
             ORDER BY tenant_id, service_id, start_ms LIMIT $4",
        )
        .bind(ended_before_ms)
        .bind(of.map_or("", |(tenant, _)| tenant.as_str()))
        .bind(of.map_or("", |(_, service)| service.as_str()))
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        let read = |row: Row| {
            let (tenant, service, window_days, kind, ambition, week, start_ms, end_ms, target_ratio, threshold) = row;
            let threshold: u32 = number("latency_threshold_ms", threshold)?;
            Ok(DueOffer {
                tenant: TenantId::new("tenant_id", &tenant)?,
                service: EntityId::new("service_id", &service)?,
                window_days,
                kind: word("kind", &kind, kind_from_word)?,
                ambition: word("ambition", &ambition, ambition_from_word)?,
                week,
                start_ms,
                end_ms,
                target_ratio,
                latency_threshold_ms: (threshold > 0).then_some(threshold),
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Writes what became of offers. One that was judged already stays as it is.
    pub(crate) async fn judge(&self, judged: &[(DueOffer, Judgement)], now_ms: UnixMillis) -> Result<(), Error> {
        let mut transaction = self.database.begin_write().await?;
        for (offer, judgement) in judged {
            sqlx::query(
                "UPDATE offers SET state = $1, observed_ratio = $2, judge_ms = $3 WHERE tenant_id = $4 \
                 AND service_id = $5 AND window_days = $6 AND kind = $7 AND ambition = $8 AND week = $9 AND state = 'open'",
            )
            .bind(judgement.state())
            .bind(judgement.observed_ratio())
            .bind(now_ms)
            .bind(offer.tenant.as_str())
            .bind(offer.service.as_str())
            .bind(offer.window_days)
            .bind(kind_word(offer.kind))
            .bind(ambition_word(offer.ambition))
            .bind(offer.week)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

fn scope((tier, entity, kind, window, ambition): ScopeRow) -> Result<(Scope, Ambition), Error> {
    let tier =
        tier_from_number(tier).ok_or_else(|| Error::Broken(format!("the stored tier {tier} is out of range")))?;
    let class = Class { tier, kind: word("entity_kind", &entity, entity_kind_from_word)? };
    let window = TimeWindow::from_code("window_days", window)?;
    Ok((
        Scope { class, sli: word("kind", &kind, kind_from_word)?, window },
        word("ambition", &ambition, ambition_from_word)?,
    ))
}

fn added(row: (i64, i64, f64, f64, f64, f64, f64)) -> Result<Record, Error> {
    let (forecasts, missed, window_count, probability_sum, brier_sum, allowed_sum, observed_sum) = row;
    Ok(Record {
        forecast_count: number("forecast_count", forecasts)?,
        missed_count: number("missed_count", missed)?,
        window_count,
        probability_sum,
        brier_sum,
        allowed_sum,
        observed_sum,
    })
}
