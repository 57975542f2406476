use attain_attainment::{Constants, MODEL_VERSION};
use attain_vocabulary::{DAY_MS, TenantId, UnixMillis};

use super::{Store, Transaction, audit, experiments, number};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::models::{Content, Registered, compiled, serving};
use crate::domain::scores::{Closed, Stated};

const WEEK_MS: i64 = 7 * DAY_MS;
/// Most pairs of forecasts that scores are read from, the newest ones.
const PAIRS_MAX: i64 = 50_000;

/// A tenant's models.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Registry {
    /// The compiled one first, then as they were registered.
    pub(crate) models: Vec<Registered>,
    /// Versions that were live, oldest first; the compiled one was before, and stands for those of other statistics.
    pub(crate) lives: Vec<String>,
}

/// What a model forecast.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewForecast {
    pub(crate) version: String,
    pub(crate) stated: Stated,
}

/// A window that is to be forecast, or that was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window {
    pub(crate) service_id: String,
    pub(crate) days: u32,
    pub(crate) start_ms: UnixMillis,
}

type ModelRow = (String, String, String, String, String, i64, String, String, String);

impl Registry {
    /// The version that is live.
    pub(crate) fn live(&self) -> &str {
        self.lives.last().map_or(MODEL_VERSION, String::as_str)
    }

    pub(crate) fn find(&self, version: &str) -> Option<&Registered> {
        self.models.iter().find(|registered| registered.version == version)
    }
}

impl Window {
    pub(crate) fn close_ms(&self) -> UnixMillis {
        self.start_ms.saturating_add(i64::from(self.days) * DAY_MS)
    }
}

impl Store {
    /// A tenant's models and which of them were live.
    pub(crate) async fn registry(&self, tenant: &TenantId) -> Result<Registry, Error> {
        let rows: Vec<ModelRow> = sqlx::query_as(
            "SELECT version, name, parent_version, constants, content_sha256, create_ms, created_by, note, classes \
             FROM models \
             WHERE tenant_id = $1 ORDER BY create_ms, version",
        )
        .bind(tenant.as_str())
        .fetch_all(self.database.pool())
        .await?;
        let lives: Vec<(String,)> =
            sqlx::query_as("SELECT version FROM model_lives WHERE tenant_id = $1 ORDER BY sequence")
                .bind(tenant.as_str())
                .fetch_all(self.database.pool())
                .await?;
        let registered: Result<Vec<Registered>, Error> = rows.into_iter().map(registered).collect();
        let models = std::iter::once(compiled()).chain(registered?).collect();
        Ok(Registry { models, lives: lives.into_iter().map(|(version,)| serving(&version).to_owned()).collect() })
    }

    /// Registers a model with its audit record; one of the same content that is there already stays as it is.
    pub(crate) async fn register_model(&self, tenant: &TenantId, new: &Registered, entry: Entry) -> Result<(), Error> {
        let json = |text: serde_json::Result<String>| text.map_err(|error| Error::Broken(error.to_string()));
        let constants = json(serde_json::to_string(&new.content.constants))?;
        let classes = json(serde_json::to_string(&new.content.classes))?;
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let written = sqlx::query(
            "INSERT INTO models (tenant_id, version, name, parent_version, constants, content_sha256, create_ms, created_by, \
             note, classes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (tenant_id, version) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(&new.version)
        .bind(&new.name)
        .bind(&new.parent_version)
        .bind(constants)
        .bind(&new.content_sha256)
        .bind(new.create_ms.unwrap_or(0))
        .bind(&new.created_by)
        .bind(&new.note)
        .bind(classes)
        .execute(&mut *transaction)
        .await?;
        if written.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(());
        }
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Makes a version the live one, with its audit record, where `expected` is the live one still; otherwise nothing. An experiment that
    /// runs is stopped.
    pub(crate) async fn make_live(
        &self,
        tenant: &TenantId,
        version: &str,
        expected: &str,
        entry: Entry,
    ) -> Result<(), Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let found = live(&mut transaction, tenant).await?;
        if found != expected {
            transaction.rollback().await?;
            return Err(Error::LiveModelChanged { expected: expected.to_owned(), found });
        }
        sqlx::query("INSERT INTO model_lives (tenant_id, sequence, version, create_ms) VALUES ($1, $2, $3, $4)")
            .bind(tenant.as_str())
            .bind(head.sequence as i64)
            .bind(version)
            .bind(entry.time_ms)
            .execute(&mut *transaction)
            .await?;
        let who = (entry.caller.as_str(), entry.time_ms);
        experiments::stop_for_another_model(&mut transaction, tenant, version, who).await?;
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Keeps what models forecast of a window; one that a model has forecast in the same week already stays as it is.
    pub(crate) async fn keep_forecasts(
        &self,
        tenant: &TenantId,
        window: &Window,
        forecasts: &[NewForecast],
    ) -> Result<(), Error> {
        let Some(first) = forecasts.first() else { return Ok(()) };
        // Most computations of a week find the row there: a write would wait for others in vain.
        let known: Option<(i64,)> = sqlx::query_as(
            "SELECT start_ms FROM model_forecasts \
             WHERE tenant_id = $1 AND version = $2 AND service_id = $3 AND window_days = $4 AND week = $5",
        )
        .bind(tenant.as_str())
        .bind(&first.version)
        .bind(&window.service_id)
        .bind(i64::from(window.days))
        .bind(window.start_ms.div_euclid(WEEK_MS))
        .fetch_optional(self.database.pool())
        .await?;
        if known.is_some_and(|(start_ms,)| start_ms != window.start_ms) {
            // Another instant of the week was forecast: forecasts of this one could not be paired with the live model's.
            return Ok(());
        }
        let mut transaction = self.database.begin_write().await?;
        for forecast in forecasts {
            let content = serde_json::to_string(&forecast.stated).map_err(|error| Error::Broken(error.to_string()))?;
            sqlx::query(
                "INSERT INTO model_forecasts (tenant_id, version, service_id, window_days, week, start_ms, close_ms, content, \
                 closed, bad_ratio) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0.0) \
                 ON CONFLICT (tenant_id, version, service_id, window_days, week) DO NOTHING",
            )
            .bind(tenant.as_str())
            .bind(&forecast.version)
            .bind(&window.service_id)
            .bind(i64::from(window.days))
            .bind(window.start_ms.div_euclid(WEEK_MS))
            .bind(window.start_ms)
            .bind(window.close_ms())
            .bind(content)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// At most `limit` windows of all tenants that were forecast and ended before an instant, and are not closed; oldest first.
    pub(crate) async fn windows_over(
        &self,
        before_ms: UnixMillis,
        limit: u32,
    ) -> Result<Vec<(TenantId, Window)>, Error> {
        let rows: Vec<(i64, String, String, i64, i64)> = sqlx::query_as(
            "SELECT DISTINCT close_ms, tenant_id, service_id, window_days, start_ms FROM model_forecasts \
             WHERE closed = 0 AND close_ms <= $1 ORDER BY close_ms, tenant_id, service_id, window_days, start_ms LIMIT $2",
        )
        .bind(before_ms)
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        let read = |(_, tenant, service_id, days, start_ms): (i64, String, String, i64, i64)| {
            let tenant = TenantId::new("tenant_id", &tenant)
                .map_err(|invalid| Error::Broken(format!("a stored name cannot be read: {invalid}")))?;
            Ok((tenant, Window { service_id, days: number("window_days", days)?, start_ms }))
        };
        rows.into_iter().map(read).collect()
    }

    /// Notes what happened in a window; `None` where it was not measured.
    pub(crate) async fn close_window(
        &self,
        tenant: &TenantId,
        window: &Window,
        bad_ratio: Option<f64>,
    ) -> Result<(), Error> {
        sqlx::query(
            "UPDATE model_forecasts SET closed = $5, bad_ratio = $6 \
             WHERE tenant_id = $1 AND service_id = $2 AND window_days = $3 AND start_ms = $4 AND closed = 0",
        )
        .bind(tenant.as_str())
        .bind(&window.service_id)
        .bind(i64::from(window.days))
        .bind(window.start_ms)
        .bind(if bad_ratio.is_some() { 1i64 } else { 2 })
        .bind(bad_ratio.unwrap_or(0.0))
        .execute(self.database.pool())
        .await?;
        Ok(())
    }

    /// Closed windows that both versions have forecast, the newest ones.
    pub(crate) async fn closed_windows(
        &self,
        tenant: &TenantId,
        candidate: &str,
        live: &str,
    ) -> Result<Vec<Closed>, Error> {
        let rows: Vec<(String, String, String, f64)> = sqlx::query_as(
            "SELECT c.service_id, c.content, l.content, c.bad_ratio FROM model_forecasts c \
             JOIN model_forecasts l ON l.tenant_id = c.tenant_id AND l.service_id = c.service_id \
             AND l.window_days = c.window_days AND l.week = c.week AND l.start_ms = c.start_ms \
             WHERE c.tenant_id = $1 AND c.version = $2 AND l.version = $3 AND c.closed = 1 AND l.closed = 1 \
             ORDER BY c.start_ms DESC, c.service_id, c.window_days LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(candidate)
        .bind(live)
        .bind(PAIRS_MAX)
        .fetch_all(self.database.pool())
        .await?;
        let read = |content: &str| -> Result<Stated, Error> {
            serde_json::from_str(content)
                .map_err(|error| Error::Broken(format!("a stored forecast cannot be read: {error}")))
        };
        rows.into_iter()
            .map(|(service_id, candidate, live, bad_ratio)| {
                Ok(Closed { service_id, candidate: read(&candidate)?, live: read(&live)?, bad_ratio })
            })
            .collect()
    }

    /// Windows that a version has forecast and that are not over.
    pub(crate) async fn open_windows(&self, tenant: &TenantId, version: &str) -> Result<u32, Error> {
        let (count,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM model_forecasts WHERE tenant_id = $1 AND version = $2 AND closed = 0")
                .bind(tenant.as_str())
                .bind(version)
                .fetch_one(self.database.pool())
                .await?;
        number("count", count)
    }
}

async fn live(transaction: &mut Transaction, tenant: &TenantId) -> Result<String, Error> {
    let row: Option<(String,)> =
        sqlx::query_as("SELECT version FROM model_lives WHERE tenant_id = $1 ORDER BY sequence DESC LIMIT 1")
            .bind(tenant.as_str())
            .fetch_optional(&mut **transaction)
            .await?;
    Ok(row.map_or_else(|| MODEL_VERSION.to_owned(), |(version,)| serving(&version).to_owned()))
}

fn registered(row: ModelRow) -> Result<Registered, Error> {
    let (version, name, parent_version, constants, content_sha256, create_ms, created_by, note, classes) = row;
    let constants: Constants = serde_json::from_str(&constants)
        .map_err(|error| Error::Broken(format!("the stored constants of {version} cannot be read: {error}")))?;
    // Models that were registered before there were classes have none.
    let classes = if classes.is_empty() { "[]" } else { &classes };
    let classes = serde_json::from_str(classes)
        .map_err(|error| Error::Broken(format!("the stored classes of {version} cannot be read: {error}")))?;
    let content = Content { constants, classes };
    Ok(Registered {
        version,
        content,
        name,
        parent_version,
        content_sha256,
        create_ms: Some(create_ms),
        created_by,
        note,
    })
}
