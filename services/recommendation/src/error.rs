//! What can go wrong, and the one place where it becomes a gRPC status.

use std::collections::HashMap;
use std::time::Duration;

use attain_attainment::percent;
use attain_vocabulary::{EntityId, InvalidValue};

use crate::domain::contradiction::Contradiction;
use crate::domain::lifecycle::Objection;
use crate::webhooks::vault::Failure;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

const DOMAIN: &str = "attain";
/// When a caller that met a member or a database that is down should try again.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why the service cannot start or cannot answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Fields of the request cannot be right.
    #[error("{}", describe(.0))]
    Invalid(Vec<InvalidValue>),
    /// Nobody ever spoke of this service.
    #[error("there is no service `{0}`")]
    UnknownService(String),
    /// No recommendation has this id.
    #[error("there is no recommendation `{0}`")]
    UnknownRecommendation(String),
    /// The inputs of an old version were given up.
    #[error(
        "the inputs of recommendation `{0}` are no longer kept; only the newest versions and those decided upon can be replayed"
    )]
    InputsNotKept(String),
    /// Somebody changed the SLO since it was read.
    #[error("the SLO in force has version {found}, not {expected}; read it again and decide anew")]
    VersionMismatch {
        /// The version that the decision was made on.
        expected: u32,
        /// The version in force; 0 where there is none.
        found: u32,
    },
    /// The recommendation is too old to be accepted.
    #[error("recommendation `{id}` can no longer be accepted; the newest of its service and window is `{newest}`")]
    RecommendationExpired {
        /// The recommendation.
        id: String,
        /// The newest one of the same service and window.
        newest: String,
    },
    /// A target contradicts what is promised below.
    #[error("{}", contradicts(&.0.0, &.0.1))]
    Contradiction(Box<(EntityId, Contradiction)>),
    /// No SLO of this kind is in force.
    #[error("no {kind} SLO of `{service}` is in force")]
    UnknownSlo {
        /// The service.
        service: String,
        /// The kind.
        kind: String,
    },
    /// No pending decision has this id.
    #[error("there is no pending decision `{0}`")]
    UnknownPending(String),
    /// The pending decision was closed before, or lapsed.
    #[error("`{id}` is {state} already; decide anew")]
    DecisionClosed {
        /// The pending decision.
        id: String,
        /// In which state it is.
        state: &'static str,
    },
    /// Whoever proposed a decision cannot be the second pair of eyes.
    #[error("`{0}` is a proposal of your own: somebody else has to look at it, or withdraw it")]
    SameIdentity(String),
    /// Only whoever proposed a decision can take it back.
    #[error("only whoever proposed `{0}` can withdraw it; refuse it instead")]
    NotTheProposer(String),
    /// Nobody knows who asks, so nobody can be somebody else.
    #[error("an approval needs a caller who is told apart by a key of their own")]
    Anonymous,
    /// No policy has this version.
    #[error("there is no version {0} of the policy")]
    UnknownPolicy(u32),
    /// Somebody changed the policy since it was read.
    #[error("the policy that holds has version {found}, not {expected}; read it again")]
    PolicyMismatch {
        /// The version that the change was made on.
        expected: u32,
        /// The version that holds; 0 for the defaults.
        found: u32,
    },
    /// No endpoint has this id.
    #[error("there is no webhook `{0}`")]
    UnknownWebhook(String),
    /// Nothing would encrypt the secret of an endpoint.
    #[error(
        "webhooks need a key that their secrets are encrypted with: set recommendation.webhooks.key_file or \
         recommendation.webhooks.keys"
    )]
    NoWebhookKey,
    /// The tenant has as many endpoints as it may have.
    #[error("there are {0} webhooks, which is the most; delete one first")]
    TooManyWebhooks(u32),
    /// No message of this event was written for the endpoint, or it was forgotten.
    #[error("there is no delivery of the event `{0}` to this webhook")]
    UnknownDelivery(String),
    /// No model has this version.
    #[error("there is no model `{0}`")]
    UnknownModel(String),
    /// A model may not become the live one.
    #[error("model `{version}` is not promoted: {}", .lacking.join("; "))]
    NotPromotable {
        /// Which.
        version: String,
        /// What is lacking, with its numbers.
        lacking: Vec<String>,
    },
    /// Another model became the live one in between.
    #[error("model `{found}` is live by now, not `{expected}`; look at the scores again")]
    LiveModelChanged {
        /// The one that was live.
        expected: String,
        /// The one that is.
        found: String,
    },
    /// No experiment has this id.
    #[error("there is no experiment `{0}`")]
    UnknownExperiment(String),
    /// An experiment runs already.
    #[error("experiment `{0}` runs, and one runs at a time; stop it, or wait for its horizon")]
    ExperimentRunning(String),
    /// The experiment ended before.
    #[error("experiment `{0}` is over already")]
    ExperimentOver(String),
    /// A member that the answer cannot do without does not answer.
    #[error("{member} cannot be reached: {detail}")]
    Unreachable {
        /// Which member.
        member: &'static str,
        /// What it, or the transport, said.
        detail: String,
    },
    /// The answer did not come in time.
    #[error("the answer did not come within the deadline")]
    Deadline,
    /// The database does not answer.
    #[error("the recommendation database does not answer: {0}")]
    Storage(String),
    /// The database answers that it does not take what was written, now or at any time.
    #[error("the recommendation database refuses what was written: {0}")]
    Refused(String),
    /// What was stored cannot be read, or a computation broke off.
    #[error("{0}")]
    Broken(String),
    /// The process cannot start.
    #[error("the recommendation service cannot run: {0}")]
    Runtime(String),
}

impl From<InvalidValue> for Error {
    fn from(invalid: InvalidValue) -> Self {
        Self::Invalid(vec![invalid])
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_refusal(&error) { Self::Refused(error.to_string()) } else { Self::Storage(error.to_string()) }
    }
}

/// Whether the same statement would fail again whenever it is tried: a constraint, or a value that the database cannot hold.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(_) => true,
        sqlx::Error::Database(error) => {
            // PostgreSQL's classes 22 and 23, and SQLite's TOOBIG, CONSTRAINT and MISMATCH with what extends them.
            let code = error.code().unwrap_or_default();
            let by_sqlite = code.parse::<u32>().is_ok_and(|code| [18, 19, 20].contains(&(code & 0xff)));
            let by_postgres = code.len() == 5 && (code.starts_with("22") || code.starts_with("23"));
            if code.len() == 5 { by_postgres } else { by_sqlite }
        }
        _ => false,
    }
}

impl From<attain_runtime::Error> for Error {
    fn from(error: attain_runtime::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Runtime(text)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure.to_string())
    }
}

impl Error {
    /// Why a pending decision cannot be closed as asked.
    pub(crate) fn objection(id: &str, objection: Objection) -> Self {
        match objection {
            Objection::Closed(state) => Self::DecisionClosed { id: id.to_owned(), state: state.word() },
            Objection::OwnProposal => Self::SameIdentity(id.to_owned()),
            Objection::OthersProposal => Self::NotTheProposer(id.to_owned()),
        }
    }

    fn code_and_reason(&self) -> (Code, &'static str) {
        match self {
            Self::Invalid(_) => (Code::InvalidArgument, "INVALID_REQUEST"),
            Self::UnknownService(_) => (Code::NotFound, "UNKNOWN_SERVICE"),
            Self::UnknownRecommendation(_) => (Code::NotFound, "UNKNOWN_RECOMMENDATION"),
            Self::InputsNotKept(_) => (Code::FailedPrecondition, "INPUTS_NOT_KEPT"),
            Self::VersionMismatch { .. } | Self::PolicyMismatch { .. } => (Code::Aborted, "VERSION_MISMATCH"),
            Self::RecommendationExpired { .. } => (Code::FailedPrecondition, "RECOMMENDATION_EXPIRED"),
            Self::Contradiction(_) => (Code::FailedPrecondition, "CONTRADICTS_DEPENDENCY"),
            Self::UnknownSlo { .. } => (Code::NotFound, "UNKNOWN_SLO"),
            Self::UnknownPending(_) => (Code::NotFound, "UNKNOWN_DECISION"),
            Self::DecisionClosed { .. } => (Code::FailedPrecondition, "DECISION_CLOSED"),
            Self::SameIdentity(_) => (Code::PermissionDenied, "SAME_IDENTITY"),
            Self::NotTheProposer(_) => (Code::PermissionDenied, "NOT_THE_PROPOSER"),
            Self::Anonymous => (Code::PermissionDenied, "NO_IDENTITY"),
            Self::UnknownPolicy(_) => (Code::NotFound, "UNKNOWN_POLICY"),
            Self::UnknownWebhook(_) => (Code::NotFound, "UNKNOWN_WEBHOOK"),
            Self::NoWebhookKey => (Code::FailedPrecondition, "NO_WEBHOOK_KEY"),
            Self::TooManyWebhooks(_) => (Code::FailedPrecondition, "TOO_MANY_WEBHOOKS"),
            Self::UnknownDelivery(_) => (Code::NotFound, "UNKNOWN_DELIVERY"),
            Self::UnknownModel(_) => (Code::NotFound, "UNKNOWN_MODEL"),
            Self::NotPromotable { .. } => (Code::FailedPrecondition, "MODEL_NOT_BETTER"),
            Self::LiveModelChanged { .. } => (Code::Aborted, "LIVE_MODEL_CHANGED"),
            Self::UnknownExperiment(_) => (Code::NotFound, "UNKNOWN_EXPERIMENT"),
            Self::ExperimentRunning(_) => (Code::FailedPrecondition, "EXPERIMENT_RUNNING"),
            Self::ExperimentOver(_) => (Code::FailedPrecondition, "EXPERIMENT_OVER"),
            Self::Unreachable { .. } => (Code::Unavailable, "MEMBER_UNREACHABLE"),
            Self::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Self::Storage(_) => (Code::Unavailable, "STORAGE_UNAVAILABLE"),
            Self::Refused(_) | Self::Broken(_) | Self::Runtime(_) => (Code::Internal, "INTERNAL"),
        }
    }

    /// The machine-readable reason.
    pub(crate) fn reason(&self) -> &'static str {
        self.code_and_reason().1
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pairs: Vec<(&str, String)> = match self {
            Self::UnknownService(id) => vec![("service_id", id.clone())],
            Self::UnknownRecommendation(id) | Self::InputsNotKept(id) => vec![("recommendation_id", id.clone())],
            Self::RecommendationExpired { id, newest } => {
                vec![("recommendation_id", id.clone()), ("newest_recommendation_id", newest.clone())]
            }
            Self::Contradiction(found) => contradiction_metadata(&found.1),
            Self::UnknownPending(id)
            | Self::DecisionClosed { id, .. }
            | Self::SameIdentity(id)
            | Self::NotTheProposer(id) => vec![("decision_id", id.clone())],
            Self::UnknownWebhook(id) => vec![("webhook_id", id.clone())],
            Self::UnknownDelivery(id) => vec![("event_id", id.clone())],
            Self::UnknownSlo { service, kind } => vec![("service_id", service.clone()), ("kind", kind.clone())],
            Self::VersionMismatch { expected, found } | Self::PolicyMismatch { expected, found } => {
                vec![("expected_version", expected.to_string()), ("found_version", found.to_string())]
            }
            Self::UnknownModel(version) | Self::NotPromotable { version, .. } => vec![("version", version.clone())],
            Self::UnknownExperiment(id) | Self::ExperimentRunning(id) | Self::ExperimentOver(id) => {
                vec![("experiment_id", id.clone())]
            }
            Self::LiveModelChanged { expected, found } => {
                vec![("expected_version", expected.clone()), ("found_version", found.clone())]
            }
            Self::Unreachable { member, .. } => vec![("member", (*member).to_owned())],
            Self::Invalid(_)
            | Self::Anonymous
            | Self::UnknownPolicy(_)
            | Self::NoWebhookKey
            | Self::TooManyWebhooks(_)
            | Self::Deadline
            | Self::Storage(_)
            | Self::Refused(_)
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
            tracing::error!(error = %error, "a request failed for a reason of the service's own");
        }
        Status::with_error_details(code, error.to_string(), details)
    }
}

fn contradicts(service: &EntityId, found: &Contradiction) -> String {
    let holds = match found.consistent_target_ratio {
        Some(ratio) => format!("at most {} holds", percent(ratio)),
        None => "no target on the menu holds".to_owned(),
    };
    format!(
        "a target of {} for {service} contradicts what is promised by {}, beside which {holds}; take another, or say in \
         contradiction_reason why it is taken all the same",
        percent(found.target_ratio),
        found.callee_in_words(),
    )
}

fn contradiction_metadata(found: &Contradiction) -> Vec<(&'static str, String)> {
    let chain: Vec<&str> = found.chain.iter().map(EntityId::as_str).collect();
    let mut metadata = vec![
        ("callee_id", found.callee.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("target_ratio", found.target_ratio.to_string()),
        ("needed_ratio", found.needed_ratio.to_string()),
        ("chain", chain.join(",")),
    ];
    metadata.extend(found.consistent_target_ratio.map(|ratio| ("consistent_target_ratio", ratio.to_string())));
    metadata
}

fn describe(fields: &[InvalidValue]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_with_its_code() {
        let error = Error::from(InvalidValue::new("target_ratio", "out_of_range", "2 is outside [0, 1]"));
        let status = Status::from(error);
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violation = &details.bad_request().expect("details").field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.description.as_str()),
            ("target_ratio", "out_of_range: 2 is outside [0, 1]")
        );
    }

    #[test]
    fn a_version_mismatch_says_both_versions() {
        let status = Status::from(Error::VersionMismatch { expected: 1, found: 3 });
        let details = status.get_error_details();
        let info = details.error_info().expect("info");
        assert_eq!((status.code(), info.reason.as_str()), (Code::Aborted, "VERSION_MISMATCH"));
        assert_eq!(info.metadata.get("found_version").map(String::as_str), Some("3"));
    }

    #[test]
    fn what_may_come_back_says_when_to_try_again() {
        let status = Status::from(Error::Storage("closed".into()));
        assert_eq!(status.get_error_details().retry_info().and_then(|info| info.retry_delay), Some(RETRY_DELAY));
    }
}
