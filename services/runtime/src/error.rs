use std::net::SocketAddr;

use thiserror::Error as ThisError;

/// Why a process cannot start or go on.
#[derive(Debug, ThisError)]
pub enum Error {
    /// A setting is missing, misspelt or out of range; nothing was opened yet.
    #[error("configuration: {0}")]
    Config(String),
    /// A port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Telemetry cannot be exported as configured.
    #[error("telemetry: {0}")]
    Telemetry(String),
    /// A database cannot be opened or migrated.
    #[error("cannot open the {service} database at {url}")]
    OpenDatabase {
        /// Whose database.
        service: &'static str,
        /// Where, without credentials.
        url: String,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
    /// A database's schema cannot be brought up to date.
    #[error("cannot migrate the {service} database")]
    Migrate {
        /// Whose database.
        service: &'static str,
        /// What the migrator said.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A member's address cannot be understood.
    #[error("{name} is no address of a member: {value}")]
    Address {
        /// Which setting.
        name: String,
        /// What it holds.
        value: String,
    },
    /// The server ended by itself.
    #[error("the {service} server failed")]
    Serve {
        /// Which service.
        service: &'static str,
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
}
