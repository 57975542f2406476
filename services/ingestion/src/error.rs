use attain_vocabulary::{EntityId, InvalidValue, UnixMillis};
use thiserror::Error as ThisError;

/// Why ingestion cannot do what it was asked.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The request as a whole cannot be right.
    #[error("{}", listed(.0))]
    Invalid(Vec<InvalidValue>),
    /// Nobody ever told of this service.
    #[error("there is no service `{0}`")]
    UnknownService(EntityId),
    /// Nobody ever told of this incident.
    #[error("there is no incident `{0}`")]
    UnknownIncident(String),
    /// There is no such maintenance window.
    #[error("there is no maintenance window `{0}`")]
    UnknownWindow(String),
    /// A document does not prove that it comes from who it says.
    #[error("the signature is refused: {0}")]
    SignatureRefused(&'static str),
    /// The tenant has as much as is kept.
    #[error("the tenant has {max} {what} already; no more are kept")]
    TenantFull {
        /// What there are too many of.
        what: &'static str,
        /// How many are kept.
        max: usize,
    },
    /// The service has as many regions as are kept apart, and the sender's own counts cannot be added to others.
    #[error("`{service}` has {max} regions already, and `{region}` would be one more; send it under one of them", max = crate::storage::REGIONS_MAX)]
    TooManyRegions {
        /// Of which service.
        service: EntityId,
        /// The first in lexical order that is one too many.
        region: String,
    },
    /// A row of the span log was settled by another observer in the meantime; nothing was applied.
    #[error("row {sequence} of the span log was settled by somebody else")]
    AlreadySettled {
        /// Which row.
        sequence: i64,
    },
    /// The database does not answer; trying again may help.
    #[error("storage does not answer")]
    Storage(#[source] sqlx::Error),
    /// What the database holds cannot be understood.
    #[error("storage holds what this version cannot read: {0}")]
    Corrupt(String),
    /// One block of history is damaged; every other series and day can be read.
    #[error(
        "the history of `{service}` on the day that starts at {day_ms} ms, as told by {source_name}, is damaged: {what}"
    )]
    DamagedBlock {
        /// Whose history.
        service: EntityId,
        /// Who measured it.
        source_name: String,
        /// Start of the UTC day.
        day_ms: UnixMillis,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A follower knows of more changes than there are: this is another database than it followed before.
    #[error("there are changes up to {newest} only, and {after} was asked for: start again from 0")]
    SequenceAhead {
        /// What the follower knows of.
        after: u64,
        /// What there is.
        newest: u64,
    },
    /// A follower knows of changes that this database never had under their numbers: it was put back from a copy, or is
    /// another one.
    #[error("change {after} was of another history of the database (epoch {epoch}): start again from 0")]
    OtherEpoch {
        /// What the follower knows of.
        after: u64,
        /// The epoch that it had.
        epoch: String,
    },
    /// As many follow the changes as may.
    #[error("{max} follow the changes already, and no more may (ingestion.change_followers_max); try again later")]
    TooManyFollowers {
        /// How many may.
        max: usize,
    },
    /// The process cannot start or go on.
    #[error(transparent)]
    Runtime(#[from] attain_runtime::Error),
}

impl Error {
    /// One field that makes the whole request wrong.
    pub fn invalid(field: &str, code: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid(vec![InvalidValue::new(field, code, reason)])
    }
}

impl From<InvalidValue> for Error {
    fn from(invalid: InvalidValue) -> Self {
        Self::Invalid(vec![invalid])
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                Self::Corrupt(error.to_string())
            }
            error => Self::Storage(error),
        }
    }
}

fn listed(invalid: &[InvalidValue]) -> String {
    invalid.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
