//! What the service owns: recommendations, their inputs, SLOs in force, decisions and the audit log. Everything that
//! belongs together is written in one transaction; the tenant's audit head is its lock and puts writes in order.

mod audit;
mod below;
mod beside;
mod calibration;
mod decisions;
mod deliveries;
mod drift;
mod experiments;
mod feedback;
mod learning;
mod models;
mod pending;
mod policies;
mod recommendations;
mod regional;
mod registry;
mod retrainings;
mod sealing;
mod standings;
mod webhooks;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod contract_experiments;
#[cfg(test)]
mod contract_models;
#[cfg(test)]
mod lifecycle_contract;
#[cfg(test)]
mod webhook_contract;

pub(crate) use audit::Sought;
pub(crate) use calibration::{DueOffer, Filter, Judgement};
pub(crate) use decisions::{Decided, Review, Terms};
pub(crate) use deliveries::{Delivery, DeliveryState, Due, Outcome};
pub(crate) use drift::StoredDrift;
pub(crate) use experiments::NewExposure;
pub(crate) use models::{NewForecast, Registry, Window};
pub(crate) use pending::{Closed, Closing};
pub(crate) use recommendations::{Inserted, Latest, NewRecommendation, StoredRecommendation};
pub(crate) use regional::{NewRegional, id_in, parted};
pub(crate) use registry::{Registered, RegistryFilter, Renewal, SloVersion};
pub(crate) use standings::{NewStanding, ServiceFacts};
pub(crate) use webhooks::{NewWebhook, Webhook};

use attain_runtime::database::{Database, Migrations};
use attain_vocabulary::TimeWindow;
use sqlx::Any;

use crate::Error;

/// A transaction on either database.
type Transaction = sqlx::Transaction<'static, Any>;

/// The service's database.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    /// Opens the database and brings its schema up to date. Migration 0003 was joined into 0004 before either was released; no
    /// other may take its number, since a database that has 0004 would run it late.
    pub(crate) async fn open(url: &str) -> Result<Self, Error> {
        let migrations = Migrations {
            sqlite: sqlx::migrate!("./migrations/sqlite"),
            postgres: sqlx::migrate!("./migrations/postgres"),
        };
        Ok(Self { database: Database::open("recommendation", url, &migrations).await? })
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(self.database.pool()).await?;
        Ok(())
    }

    /// In words, for people.
    pub(crate) fn description(&self) -> String {
        format!("{:?}", self.database.dialect())
    }

    pub(crate) async fn close(&self) {
        self.database.close().await;
    }
}

/// The window of a code that was stored.
fn window(code: i64) -> Result<TimeWindow, Error> {
    TimeWindow::from_code("window_days", code)
        .map_err(|invalid| Error::Broken(format!("a stored window: {}", invalid.reason)))
}

/// A number that was stored by this service and has to be in range.
fn number<T: TryFrom<i64>>(column: &str, value: i64) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::Broken(format!("the stored {column} {value} is out of range")))
}

/// A stored word that has to be known.
fn word<T>(column: &str, value: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
    read(value).ok_or_else(|| Error::Broken(format!("the stored {column} `{value}` is not known")))
}
