//! The one translation of errors to gRPC.

use std::collections::HashMap;
use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::Error;
use crate::domain::NEEDS_APPROVER;

const DOMAIN: &str = "attain";
/// When a caller should try again after storage did not answer.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// When a follower of changes should come again where there are too many: others seldom leave.
const FOLLOWER_RETRY_DELAY: Duration = Duration::from_secs(10);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, reason) = match &error {
            Error::Invalid(invalid) if invalid.first().is_some_and(|first| first.code == NEEDS_APPROVER) => {
                (Code::PermissionDenied, "NEEDS_APPROVER")
            }
            Error::Invalid(_) => (Code::InvalidArgument, "INVALID_REQUEST"),
            Error::UnknownService(_) => (Code::NotFound, "UNKNOWN_SERVICE"),
            Error::UnknownIncident(_) => (Code::NotFound, "UNKNOWN_INCIDENT"),
            Error::UnknownWindow(_) => (Code::NotFound, "UNKNOWN_MAINTENANCE_WINDOW"),
            Error::SignatureRefused(_) => (Code::Unauthenticated, "SIGNATURE_REFUSED"),
            // Lasts until somebody raises the setting: to send it again is of no use, which RESOURCE_EXHAUSTED would ask for.
            Error::TenantFull { .. } => (Code::FailedPrecondition, "TENANT_FULL"),
            Error::TooManyRegions { .. } => (Code::FailedPrecondition, "TOO_MANY_REGIONS"),
            Error::AlreadySettled { .. } => (Code::Aborted, "ALREADY_SETTLED"),
            Error::Storage(_) => (Code::Unavailable, "STORAGE_UNAVAILABLE"),
            Error::Corrupt(_) => (Code::Internal, "STORAGE_CORRUPT"),
            Error::DamagedBlock { .. } => (Code::DataLoss, "DAMAGED_BLOCK"),
            Error::SequenceAhead { .. } => (Code::OutOfRange, "SEQUENCE_AHEAD"),
            Error::OtherEpoch { .. } => (Code::OutOfRange, "OTHER_EPOCH"),
            Error::TooManyFollowers { .. } => (Code::ResourceExhausted, "TOO_MANY_FOLLOWERS"),
            Error::Runtime(_) => (Code::Internal, "INTERNAL"),
        };
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, HashMap::new());
        match &error {
            Error::Invalid(invalid) => {
                let violation = |invalid: &attain_vocabulary::InvalidValue| {
                    FieldViolation::new(invalid.field.clone(), format!("{}: {}", invalid.code, invalid.reason))
                };
                details.set_bad_request(invalid.iter().map(violation).collect::<Vec<_>>());
            }
            Error::Storage(_) => {
                details.set_retry_info(Some(RETRY_DELAY));
                tracing::error!(error = %error, cause = error.source().map(tracing::field::display), "storage failed");
            }
            Error::TooManyFollowers { .. } => {
                details.set_retry_info(Some(FOLLOWER_RETRY_DELAY));
            }
            Error::Corrupt(_) | Error::DamagedBlock { .. } | Error::Runtime(_) => {
                tracing::error!(error = %error, "a call failed");
            }
            Error::UnknownService(_)
            | Error::UnknownIncident(_)
            | Error::UnknownWindow(_)
            | Error::SignatureRefused(_)
            | Error::TenantFull { .. }
            | Error::TooManyRegions { .. }
            | Error::AlreadySettled { .. }
            | Error::SequenceAhead { .. }
            | Error::OtherEpoch { .. } => {}
        }
        Self::with_error_details(code, error.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_carries_a_stable_reason_and_what_the_caller_can_do() {
        let status = Status::from(Error::invalid("page_token", "malformed", "not a token of ours"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let violations = status.get_details_bad_request().expect("a bad request").field_violations;
        assert_eq!(
            (violations[0].field.as_str(), violations[0].description.as_str()),
            ("page_token", "malformed: not a token of ours")
        );
        let status = Status::from(Error::invalid("start_time", NEEDS_APPROVER, "it is over"));
        assert_eq!(status.code(), Code::PermissionDenied);
        let status = Status::from(Error::Storage(sqlx::Error::PoolTimedOut));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.get_details_retry_info().and_then(|info| info.retry_delay), Some(RETRY_DELAY));
        assert_eq!(status.get_details_error_info().map(|info| info.reason), Some("STORAGE_UNAVAILABLE".into()));
    }

    /// RESOURCE_EXHAUSTED asks to come again, so it says when; what lasts until somebody raises a setting is something else.
    #[test]
    fn what_is_exhausted_says_when_to_come_again_and_what_is_full_does_not_ask() {
        let id = || attain_vocabulary::EntityId::new("id", "shop").expect("valid");
        let one_of_each = [
            Error::invalid("a", "b", "c"),
            Error::UnknownService(id()),
            Error::UnknownIncident("i".into()),
            Error::UnknownWindow("w".into()),
            Error::SignatureRefused("none"),
            Error::TenantFull { what: "entities", max: 1 },
            Error::TooManyRegions { service: id(), region: "west".into() },
            Error::AlreadySettled { sequence: 1 },
            Error::Storage(sqlx::Error::PoolTimedOut),
            Error::Corrupt("row".into()),
            Error::DamagedBlock { service: id(), source_name: "traces".into(), day_ms: 0, what: "cut" },
            Error::SequenceAhead { after: 2, newest: 1 },
            Error::Runtime(attain_runtime::Error::Config("no".into())),
        ];
        for error in one_of_each {
            let (text, is_full) = (error.to_string(), matches!(error, Error::TenantFull { .. }));
            let status = Status::from(error);
            let says_when = status.get_details_retry_info().and_then(|info| info.retry_delay).is_some();
            assert!(status.code() != Code::ResourceExhausted || says_when, "{text}");
            if is_full {
                assert_eq!((status.code(), says_when), (Code::FailedPrecondition, false));
            }
        }
    }
}
