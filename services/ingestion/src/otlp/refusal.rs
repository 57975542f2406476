//! Refusals with a reason that machines read. What may be sent again says when; what may not never does.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

const DOMAIN: &str = "attain";
/// When a sender should try again where nothing better is known.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A status with a reason.
pub(super) fn named(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// A status that somebody else made, with a reason.
pub(super) fn with_reason(status: &Status, reason: &'static str) -> Status {
    named(status.code(), reason, status.message())
}

/// An export that cannot be decoded.
pub(super) fn malformed(text: &str) -> Status {
    named(Code::InvalidArgument, "MALFORMED_BODY", text)
}

/// What did not work this time.
pub(super) fn try_again(reason: &'static str, message: &str) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(Code::Unavailable, message, details)
}

/// The reason of a status; empty for none.
pub(super) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
