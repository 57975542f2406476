//! What can go wrong, and the one place where it becomes a gRPC status.

use std::collections::HashMap;
use std::time::Duration;

use attain_vocabulary::InvalidValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::domain::availability::Interruption;

const DOMAIN: &str = "attain";
/// When a caller that met a member that is down should try again.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why the service cannot start or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request cannot be right.
    #[error("{}", describe(.0))]
    Invalid(Vec<InvalidValue>),
    /// The tenant's graph does not hold this service.
    #[error("there is no service `{0}`")]
    UnknownService(String),
    /// No such version of the tenant's graph is kept.
    #[error("version {version} of the graph is not kept; kept are {kept:?}")]
    UnknownVersion {
        /// What was asked for.
        version: u64,
        /// What is kept, oldest first.
        kept: Vec<u64>,
    },
    /// No graph can be read and none is held from before.
    #[error("ingestion cannot be reached and no earlier graph is held")]
    Ingestion(#[source] Box<Status>),
    /// Ingestion sent a graph that its own contract forbids.
    #[error("ingestion sent a graph that cannot be read: {0}")]
    Topology(#[source] InvalidValue),
    /// The tenant's graph is past a bound of this process.
    #[error("the graph has {count} {what}; this process is configured for at most {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The answer did not come in time.
    #[error("the answer did not come within the deadline")]
    Deadline,
    /// The structure function cannot be built.
    #[error("the structure function cannot be built")]
    Structure(#[from] attain_reliability::Error),
    /// Targets cannot be solved for.
    #[error("targets that hold together were not found: {0}")]
    Targets(#[from] attain_consistency::Error),
    /// A latency cannot be composed.
    #[error("the latency cannot be composed: {0}")]
    Latency(#[from] attain_composition::Error),
    /// A computation broke off.
    #[error("a computation broke off")]
    Broken(#[source] tokio::task::JoinError),
    /// The process cannot start or go on.
    #[error(transparent)]
    Runtime(#[from] attain_runtime::Error),
}

impl From<InvalidValue> for Error {
    fn from(invalid: InvalidValue) -> Self {
        Self::Invalid(vec![invalid])
    }
}

impl From<Interruption> for Error {
    fn from(interruption: Interruption) -> Self {
        match interruption {
            Interruption::GivenUp => Self::Deadline,
            Interruption::Structure(error) => Self::Structure(error),
        }
    }
}

impl Error {
    fn code_and_reason(&self) -> (Code, &'static str) {
        match self {
            Self::Invalid(_) => (Code::InvalidArgument, "INVALID_REQUEST"),
            Self::UnknownService(_) => (Code::NotFound, "UNKNOWN_SERVICE"),
            Self::UnknownVersion { .. } => (Code::NotFound, "UNKNOWN_VERSION"),
            Self::Ingestion(_) => (Code::Unavailable, "MEMBER_UNREACHABLE"),
            // Lasts until somebody raises the setting: to ask again is of no use, which RESOURCE_EXHAUSTED would say.
            Self::TooLarge { .. } | Self::Targets(attain_consistency::Error::ClosureTooLarge { .. }) => {
                (Code::FailedPrecondition, "GRAPH_TOO_LARGE")
            }
            Self::Targets(_) => (Code::FailedPrecondition, "TARGETS_NOT_SOLVED"),
            Self::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Self::Topology(_) | Self::Structure(_) | Self::Latency(_) | Self::Broken(_) | Self::Runtime(_) => {
                (Code::Internal, "INTERNAL")
            }
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pairs = match self {
            Self::UnknownService(id) => vec![("service_id", id.clone())],
            Self::UnknownVersion { version, .. } => vec![("version", version.to_string())],
            Self::Ingestion(_) => vec![("member", "ingestion".to_owned())],
            Self::TooLarge { limit, .. } => vec![("limit", limit.to_string())],
            Self::Invalid(_)
            | Self::Topology(_)
            | Self::Deadline
            | Self::Structure(_)
            | Self::Targets(_)
            | Self::Latency(_)
            | Self::Broken(_)
            | Self::Runtime(_) => Vec::new(),
        };
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, reason) = error.code_and_reason();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, error.metadata());
        if let Error::Invalid(fields) = &error {
            let violations: Vec<FieldViolation> = fields
                .iter()
                .map(|invalid| FieldViolation::new(&invalid.field, format!("{}: {}", invalid.code, invalid.reason)))
                .collect();
            details.set_bad_request(violations);
        }
        if code == Code::Unavailable {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        if code == Code::Internal {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a request failed for a reason of the service's own"
            );
        }
        Status::with_error_details(code, error.to_string(), details)
    }
}

fn describe(fields: &[InvalidValue]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_with_its_code() {
        let status = Status::from(Error::from(InvalidValue::new("rates/0/entity_id", "unknown_entity", "nothing")));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violation = &details.bad_request().expect("details").field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.description.as_str()),
            ("rates/0/entity_id", "unknown_entity: nothing")
        );
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("INVALID_REQUEST"));
    }

    #[test]
    fn what_may_come_back_says_when_to_try_again() {
        let status = Status::from(Error::Ingestion(Box::new(Status::unavailable("refused"))));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.get_error_details().retry_info().and_then(|info| info.retry_delay), Some(RETRY_DELAY));
    }

    #[test]
    fn a_graph_that_is_too_large_is_not_asked_for_again() {
        let status = Status::from(Error::TooLarge { what: "entities", count: 4, limit: 3 });
        assert_eq!(status.code(), Code::FailedPrecondition);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("GRAPH_TOO_LARGE"));
        assert!(details.retry_info().is_none());
    }
}
