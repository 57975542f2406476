//! What can go wrong, and the one place where it becomes a gRPC status.

use std::io;
use std::path::PathBuf;

use qdrant_edge::OperationError;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Seconds after which a caller that met a full server may try again; calls take milliseconds, so the shortest value
/// that the header can hold is long enough.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why the embedded server cannot start or cannot answer a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option was refused at construction.
    #[error("option {option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// Another process serves this folder.
    #[error(
        "the data folder {} is in use by another process: stop that process or choose another folder",
        path.display()
    )]
    FolderLocked {
        /// The data folder.
        path: PathBuf,
    },
    /// The folder cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Folder {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A collection on disk cannot be opened.
    #[error("the collection `{name}` cannot be opened")]
    CollectionUnreadable {
        /// Name of the collection.
        name: String,
        /// What the engine said.
        #[source]
        source: OperationError,
    },
    /// No collection has this name.
    #[error("collection `{name}` doesn't exist")]
    CollectionNotFound {
        /// The name that was asked for.
        name: String,
    },
    /// A collection of this name is there already.
    #[error("collection `{name}` already exists")]
    CollectionExists {
        /// The name that was asked for.
        name: String,
    },
    /// A field of the request holds a value that no server would take.
    #[error("{field}: {reason}")]
    InvalidArgument {
        /// Path of the field in the request.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A field of the request asks for something that a genuine server does and this one does not.
    #[error("{field}: {feature} is not supported by the embedded server")]
    Unsupported {
        /// Path of the field in the request.
        field: String,
        /// The feature that was asked for.
        feature: &'static str,
    },
    /// The engine refused or failed.
    #[error("the vector engine did not carry out the operation")]
    Engine(#[from] OperationError),
    /// As many calls as allowed are under way.
    #[error("{in_flight_max} calls are under way, which is the most this server takes")]
    Overloaded {
        /// The bound that was met.
        in_flight_max: usize,
    },
    /// The call's own time limit passed; a write may still complete.
    #[error("not done within the {seconds} s that the call allows")]
    TimedOut {
        /// The limit of the call.
        seconds: u64,
    },
    /// The engine gave up in the middle of a call (for a write: nothing was acknowledged).
    #[error("the vector engine stopped unexpectedly while it worked on the call")]
    Interrupted,
    /// The listener failed.
    #[error("the embedded server stopped")]
    Transport(#[source] tonic::transport::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidArgument { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn unsupported(field: impl Into<String>, feature: &'static str) -> Self {
        Self::Unsupported { field: field.into(), feature }
    }

    fn code(&self) -> Code {
        match self {
            Self::CollectionNotFound { .. } => Code::NotFound,
            Self::CollectionExists { .. } => Code::AlreadyExists,
            Self::InvalidArgument { .. } | Self::Unsupported { .. } | Self::Option { .. } => Code::InvalidArgument,
            Self::Engine(engine) => engine_code(engine),
            Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::TimedOut { .. } => Code::DeadlineExceeded,
            Self::FolderLocked { .. } => Code::FailedPrecondition,
            Self::Folder { .. } | Self::CollectionUnreadable { .. } | Self::Interrupted => Code::Internal,
            Self::Transport(_) => Code::Unavailable,
        }
    }
}

/// The engine's own errors, one by one: a new one in a later version does not compile until somebody has decided.
fn engine_code(error: &OperationError) -> Code {
    match error {
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::TypeInferenceError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti
        | OperationError::MissingRangeIndexForOrderBy { .. }
        | OperationError::MissingMapIndexForFacet { .. }
        | OperationError::VariableTypeError { .. }
        | OperationError::NonFiniteNumber { .. } => Code::InvalidArgument,
        OperationError::PointIdError { .. } => Code::NotFound,
        OperationError::ServiceError { .. } | OperationError::InconsistentStorage { .. } => Code::Internal,
        OperationError::OutOfMemory { .. } => Code::ResourceExhausted,
        OperationError::Cancelled { .. } => Code::Aborted,
        OperationError::Timeout { .. } => Code::DeadlineExceeded,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        if matches!(code, Code::Internal) {
            tracing::error!(error = &error as &dyn std::error::Error, "vector call failed");
        }
        let message = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let mut status = Status::new(code, message);
        if matches!(error, Error::Overloaded { .. }) {
            status.metadata_mut().insert("retry-after", MetadataValue::from_static(RETRY_AFTER_SECONDS));
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_the_code_a_client_acts_on() {
        let cases = [
            (Error::CollectionNotFound { name: "a".into() }, Code::NotFound),
            (Error::CollectionExists { name: "a".into() }, Code::AlreadyExists),
            (Error::invalid("limit", "too large"), Code::InvalidArgument),
            (Error::unsupported("order_by", "ordering"), Code::InvalidArgument),
            (
                Error::Engine(OperationError::WrongVectorDimension { expected_dim: 4, received_dim: 3 }),
                Code::InvalidArgument,
            ),
            (Error::Engine(OperationError::validation_error("no")), Code::InvalidArgument),
            (Error::Engine(OperationError::service_error_light("disk")), Code::Internal),
            (Error::TimedOut { seconds: 1 }, Code::DeadlineExceeded),
            (Error::Interrupted, Code::Internal),
        ];
        for (error, code) in cases {
            let text = error.to_string();
            assert_eq!(Status::from(error).code(), code, "{text}");
        }
    }

    #[test]
    fn a_full_server_says_when_to_come_back() {
        let status = Status::from(Error::Overloaded { in_flight_max: 2 });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.metadata().get("retry-after").map(|v| v.as_encoded_bytes()),
            Some(RETRY_AFTER_SECONDS.as_bytes())
        );
    }

    #[test]
    fn the_status_carries_what_the_engine_said() {
        let status =
            Status::from(Error::Engine(OperationError::WrongVectorDimension { expected_dim: 4, received_dim: 3 }));
        assert!(status.message().contains("expected dim: 4, got 3"));
    }
}
