use std::collections::{BTreeMap, BTreeSet};

use attain_attainment::Ambition;
use attain_learning::Side;
use attain_runtime::database::values_placeholders;
use attain_vocabulary::{EntityId, SliKind, TenantId, UnixMillis};
use sqlx::AssertSqlSafe;

use super::{Store, Transaction, audit, number, word};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::experiments::{Assigned, Experiment, Lived, Plan, Stop, side_from_word, side_word, team};
use crate::domain::slo::{Action, ambition_word, kind_word};

const COLUMNS: &str = "sequence, content, stop_ms, stopped_by, stop_reason";
/// Services in one statement: four parameters each.
const UNITS_A_STATEMENT: usize = 1_000;

type Row = (i64, String, i64, String, String);

/// A recommendation that was made in an arm.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewExposure {
    pub(crate) assigned: Assigned,
    /// The suggested availability offer; `None` for a template.
    pub(crate) suggested: Option<Ambition>,
}

impl Store {
    /// Begins an experiment with its audit record, where none runs; `units` are the components of services.
    ///
    /// # Errors
    /// Names the one that runs.
    pub(crate) async fn start_experiment(
        &self,
        tenant: &TenantId,
        plan: &Plan,
        units: &BTreeMap<EntityId, String>,
        entry: Entry,
    ) -> Result<u64, Error> {
        let content = serde_json::to_string(plan).map_err(|error| Error::Broken(error.to_string()))?;
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let running: Option<(String,)> = sqlx::query_as(
            "SELECT id FROM experiments WHERE tenant_id = $1 AND stop_ms = 0 AND horizon_ms > $2 LIMIT 1",
        )
        .bind(tenant.as_str())
        .bind(plan.start_ms)
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some((running,)) = running {
            transaction.rollback().await?;
            return Err(Error::ExperimentRunning(running));
        }
        let sequence = head.sequence;
        sqlx::query(
            "INSERT INTO experiments (tenant_id, sequence, id, content, horizon_ms, stop_ms, stopped_by, stop_reason) \
             VALUES ($1, $2, $3, $4, $5, 0, '', '')",
        )
        .bind(tenant.as_str())
        .bind(sequence as i64)
        .bind(&plan.id)
        .bind(content)
        .bind(plan.horizon_ms)
        .execute(&mut *transaction)
        .await?;
        let rows: Vec<(&EntityId, &String)> = units.iter().collect();
        for rows in rows.chunks(UNITS_A_STATEMENT) {
            let statement = format!(
                "INSERT INTO experiment_units (tenant_id, experiment_id, service_id, unit) VALUES {}",
                values_placeholders(rows.len(), 4)
            );
            let mut query = sqlx::query(AssertSqlSafe(statement));
            for (service, unit) in rows {
                query = query.bind(tenant.as_str()).bind(&plan.id).bind(service.as_str()).bind(*unit);
            }
            query.execute(&mut *transaction).await?;
        }
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(sequence)
    }

    /// Notes with its audit record that an experiment was stopped; whether it ran until then.
    pub(crate) async fn stop_experiment(
        &self,
        tenant: &TenantId,
        id: &str,
        stop: &Stop,
        entry: Entry,
    ) -> Result<bool, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let written = sqlx::query(
            "UPDATE experiments SET stop_ms = $3, stopped_by = $4, stop_reason = $5 \
             WHERE tenant_id = $1 AND id = $2 AND stop_ms = 0 AND horizon_ms > $3",
        )
        .bind(tenant.as_str())
        .bind(id)
        .bind(stop.time_ms)
        .bind(&stop.by)
        .bind(&stop.reason)
        .execute(&mut *transaction)
        .await?;
        if written.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The experiment that runs at an instant.
    pub(crate) async fn running_experiment(
        &self,
        tenant: &TenantId,
        now_ms: UnixMillis,
    ) -> Result<Option<Plan>, Error> {
        let row: Option<(String,)> = sqlx::query_as(
            "SELECT content FROM experiments WHERE tenant_id = $1 AND stop_ms = 0 AND horizon_ms > $2 \
             ORDER BY sequence DESC LIMIT 1",
        )
        .bind(tenant.as_str())
        .bind(now_ms)
        .fetch_optional(self.database.pool())
        .await?;
        row.map(|(content,)| plan(&content)).transpose()
    }

    /// The component of a service as an experiment began; `None` where it came later.
    pub(crate) async fn experiment_unit(
        &self,
        tenant: &TenantId,
        experiment_id: &str,
        service: &EntityId,
    ) -> Result<Option<String>, Error> {
        let row: Option<(String,)> = sqlx::query_as(
            "SELECT unit FROM experiment_units WHERE tenant_id = $1 AND experiment_id = $2 AND service_id = $3",
        )
        .bind(tenant.as_str())
        .bind(experiment_id)
        .bind(service.as_str())
        .fetch_optional(self.database.pool())
        .await?;
        Ok(row.map(|(unit,)| unit))
    }

    /// The teams of all services that there are recommendations of.
    pub(crate) async fn teams(&self, tenant: &TenantId) -> Result<BTreeSet<String>, Error> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT service_id, owner FROM service_facts WHERE tenant_id = $1")
                .bind(tenant.as_str())
                .fetch_all(self.database.pool())
                .await?;
        Ok(rows.iter().map(|(service, owner)| team(service, owner)).collect())
    }

    /// Reads one experiment.
    pub(crate) async fn experiment(&self, tenant: &TenantId, id: &str) -> Result<Option<Experiment>, Error> {
        let statement = format!("SELECT {COLUMNS} FROM experiments WHERE tenant_id = $1 AND id = $2");
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(self.database.pool())
            .await?;
        row.map(experiment).transpose()
    }

    /// At most `limit` experiments that began before a position in the log, the newest first.
    pub(crate) async fn experiments(
        &self,
        tenant: &TenantId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Experiment>, Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM experiments WHERE tenant_id = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT $3"
        );
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(experiment).collect()
    }

    /// What became of the recommendations of each unit by the horizon, and how many windows are still to be judged.
    pub(crate) async fn lived(&self, tenant: &TenantId, plan: &Plan) -> Result<(Vec<(Side, Lived)>, u32), Error> {
        let mut units: BTreeMap<(Side, String), Lived> = BTreeMap::new();
        self.add_exposures(tenant, plan, &mut units).await?;
        self.add_windows(tenant, plan, &mut units).await?;
        self.add_decisions(tenant, plan, &mut units).await?;
        let (open,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM experiment_exposures e JOIN offers o ON o.tenant_id = e.tenant_id \
             AND o.service_id = e.service_id AND o.recommendation_id = e.recommendation_id AND o.ambition = e.suggested \
             WHERE e.tenant_id = $1 AND e.experiment_id = $2 AND o.kind = $3 AND o.state = 'open' AND o.end_ms <= $4",
        )
        .bind(tenant.as_str())
        .bind(&plan.id)
        .bind(kind_word(SliKind::Availability))
        .bind(plan.horizon_ms)
        .fetch_one(self.database.pool())
        .await?;
        let units = units.into_iter().map(|((side, _), lived)| (side, lived)).collect();
        Ok((units, number("count", open)?))
    }

    async fn add_exposures(
        &self,
        tenant: &TenantId,
        plan: &Plan,
        units: &mut BTreeMap<(Side, String), Lived>,
    ) -> Result<(), Error> {
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "SELECT arm, unit, COUNT(DISTINCT service_id), COUNT(*) FROM experiment_exposures \
             WHERE tenant_id = $1 AND experiment_id = $2 GROUP BY arm, unit",
        )
        .bind(tenant.as_str())
        .bind(&plan.id)
        .fetch_all(self.database.pool())
        .await?;
        for (arm, unit, services, recommendations) in rows {
            let lived = units.entry((word("arm", &arm, side_from_word)?, unit)).or_default();
            lived.services = number("count", services)?;
            lived.recommendations = number("count", recommendations)?;
        }
        Ok(())
    }

    async fn add_windows(
        &self,
        tenant: &TenantId,
        plan: &Plan,
        units: &mut BTreeMap<(Side, String), Lived>,
    ) -> Result<(), Error> {
        let rows: Vec<(String, String, i64, i64, f64, f64, f64)> = sqlx::query_as(
            "SELECT e.arm, e.unit, COUNT(*), CAST(SUM(CASE WHEN o.state = 'missed' THEN 1 ELSE 0 END) AS BIGINT), \
             SUM(o.miss_probability), SUM(1.0 - o.target_ratio), SUM(o.observed_ratio) \
             FROM experiment_exposures e JOIN offers o ON o.tenant_id = e.tenant_id AND o.service_id = e.service_id \
             AND o.recommendation_id = e.recommendation_id AND o.ambition = e.suggested \
             WHERE e.tenant_id = $1 AND e.experiment_id = $2 AND o.kind = $3 AND o.state IN ('met', 'missed') \
             AND o.end_ms <= $4 GROUP BY e.arm, e.unit",
        )
        .bind(tenant.as_str())
        .bind(&plan.id)
        .bind(kind_word(SliKind::Availability))
        .bind(plan.horizon_ms)
        .fetch_all(self.database.pool())
        .await?;
        for (arm, unit, windows, missed, stated, allowed, observed) in rows {
            let lived = units.entry((word("arm", &arm, side_from_word)?, unit)).or_default();
            lived.windows = number("count", windows)?;
            lived.missed = number("count", missed)?;
            (lived.stated, lived.allowed, lived.observed) = (stated, allowed, observed);
        }
        Ok(())
    }

    /// The first decision of a person on the availability of each recommendation; what a policy accepted says nothing of taste.
    async fn add_decisions(
        &self,
        tenant: &TenantId,
        plan: &Plan,
        units: &mut BTreeMap<(Side, String), Lived>,
    ) -> Result<(), Error> {
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "SELECT e.arm, e.unit, COUNT(*), \
             CAST(SUM(CASE WHEN d.action = $4 AND d.ambition = e.suggested THEN 1 ELSE 0 END) AS BIGINT) \
             FROM experiment_exposures e JOIN decisions d ON d.tenant_id = e.tenant_id \
             AND d.recommendation_id = e.recommendation_id \
             WHERE e.tenant_id = $1 AND e.experiment_id = $2 AND d.kind = $3 AND d.create_ms <= $5 \
             AND d.action <> $6 AND d.policy_version = 0 AND e.suggested <> '' \
             AND NOT EXISTS (SELECT 1 FROM decisions f WHERE f.tenant_id = d.tenant_id \
             AND f.recommendation_id = d.recommendation_id AND f.kind = d.kind AND f.policy_version = 0 \
             AND f.sequence < d.sequence) \
             GROUP BY e.arm, e.unit",
        )
        .bind(tenant.as_str())
        .bind(&plan.id)
        .bind(kind_word(SliKind::Availability))
        .bind(Action::Accept.word())
        .bind(plan.horizon_ms)
        .bind(Action::Declare.word())
        .fetch_all(self.database.pool())
        .await?;
        for (arm, unit, decisions, accepted) in rows {
            let lived = units.entry((word("arm", &arm, side_from_word)?, unit)).or_default();
            lived.decisions = number("count", decisions)?;
            lived.accepted = number("count", accepted)?;
        }
        Ok(())
    }
}

/// Notes that a recommendation was made in an arm.
pub(super) async fn expose(
    transaction: &mut Transaction,
    tenant: &TenantId,
    (service, recommendation_id): (&str, &str),
    create_ms: UnixMillis,
    exposure: &NewExposure,
) -> Result<(), Error> {
    let NewExposure { assigned, suggested } = exposure;
    sqlx::query(
        "INSERT INTO experiment_exposures (tenant_id, experiment_id, recommendation_id, service_id, unit, arm, \
         propensity, suggested, create_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(tenant.as_str())
    .bind(&assigned.experiment_id)
    .bind(recommendation_id)
    .bind(service)
    .bind(&assigned.unit)
    .bind(side_word(assigned.side))
    .bind(assigned.propensity)
    .bind(suggested.map_or("", ambition_word))
    .bind(create_ms)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Stops whatever experiment runs because another model becomes live: what it compares with is no longer what serves.
pub(super) async fn stop_for_another_model(
    transaction: &mut Transaction,
    tenant: &TenantId,
    version: &str,
    (caller, now_ms): (&str, UnixMillis),
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE experiments SET stop_ms = $2, stopped_by = $3, stop_reason = $4 \
         WHERE tenant_id = $1 AND stop_ms = 0 AND horizon_ms > $2",
    )
    .bind(tenant.as_str())
    .bind(now_ms)
    .bind(caller)
    .bind(format!("the model {version} became live"))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) fn plan(content: &str) -> Result<Plan, Error> {
    serde_json::from_str(content).map_err(|error| Error::Broken(format!("a stored experiment cannot be read: {error}")))
}

fn experiment((sequence, content, stop_ms, by, reason): Row) -> Result<Experiment, Error> {
    let stop = (stop_ms > 0).then_some(Stop { time_ms: stop_ms, by, reason });
    Ok(Experiment { sequence: number("sequence", sequence)?, plan: plan(&content)?, stop })
}
