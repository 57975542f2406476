//! What can go wrong, and the one place where it becomes a gRPC status.

use std::collections::HashMap;
use std::time::Duration;

use attain_vocabulary::InvalidValue;
use qdrant_client::QdrantError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

const DOMAIN: &str = "attain";
/// When a caller that met a store that is down should try again.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why the service cannot start or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request cannot be right.
    #[error("{0}")]
    Invalid(#[from] InvalidValue),
    /// No document has this name, or not in this version.
    #[error("there is no document `{document_id}`{}", version.map(|v| format!(" in version {v}")).unwrap_or_default())]
    UnknownDocument {
        /// The name asked for.
        document_id: String,
        /// The version asked for; `None` for the newest.
        version: Option<u32>,
    },
    /// The index is not yet level with the documents.
    #[error("the index is being brought level with the documents; try again shortly")]
    NotReady,
    /// The answer did not come in time.
    #[error("the answer did not come within the deadline")]
    Deadline,
    /// The database does not answer.
    #[error("the document store does not answer")]
    Storage(#[from] sqlx::Error),
    /// A stored row cannot be read.
    #[error("a stored document cannot be read: {0}")]
    Corrupt(String),
    /// The vector index does not answer or refuses.
    #[error("the vector index does not answer")]
    Index(#[source] Box<QdrantError>),
    /// The embedded index cannot be opened or served.
    #[error("the embedded index cannot be used")]
    EmbeddedIndex(#[from] attain_embedded_qdrant::Error),
    /// The embedding model cannot be used.
    #[error("the embedding model cannot be used: {0}")]
    Model(String),
    /// Only a model could answer, and none is loaded.
    #[error("no embedding model is loaded, and nothing else was asked for; ask without a strategy to search by words")]
    NoModel,
    /// A data file of the crate is wrong.
    #[error("{0}")]
    Settings(String),
    /// A computation broke off.
    #[error("a computation broke off")]
    Task(#[from] tokio::task::JoinError),
    /// The process cannot start or go on.
    #[error("the knowledge service cannot run")]
    Runtime(#[from] attain_runtime::Error),
    /// A folder of documents cannot be read.
    #[error("the folder of documents cannot be read")]
    Folder(#[source] std::io::Error),
    /// A loopback port for the embedded index cannot be had.
    #[error("no loopback port for the embedded index")]
    Port(#[source] std::io::Error),
}

impl From<QdrantError> for Error {
    fn from(error: QdrantError) -> Self {
        Self::Index(Box::new(error))
    }
}

impl Error {
    fn code_and_reason(&self) -> (Code, &'static str) {
        match self {
            Self::Invalid(_) => (Code::InvalidArgument, "INVALID_REQUEST"),
            Self::UnknownDocument { .. } => (Code::NotFound, "UNKNOWN_DOCUMENT"),
            Self::NotReady => (Code::Unavailable, "INDEX_NOT_READY"),
            Self::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Self::Storage(_) => (Code::Unavailable, "STORAGE_UNAVAILABLE"),
            Self::Index(_) => (Code::Unavailable, "INDEX_UNAVAILABLE"),
            Self::EmbeddedIndex(_) | Self::Port(_) => (Code::Unavailable, "INDEX_UNAVAILABLE"),
            Self::NoModel => (Code::FailedPrecondition, "NO_EMBEDDING_MODEL"),
            Self::Model(_) => (Code::Unavailable, "MODEL_UNAVAILABLE"),
            Self::Corrupt(_) | Self::Settings(_) | Self::Task(_) | Self::Runtime(_) | Self::Folder(_) => {
                (Code::Internal, "INTERNAL")
            }
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        match self {
            Self::UnknownDocument { document_id, .. } => {
                HashMap::from([("document_id".to_owned(), document_id.clone())])
            }
            _ => HashMap::new(),
        }
    }

    /// The error and what caused it, on one line, for the log.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, reason) = error.code_and_reason();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, error.metadata());
        if let Error::Invalid(invalid) = &error {
            let description = format!("{}: {}", invalid.code, invalid.reason);
            details.set_bad_request(vec![FieldViolation::new(&invalid.field, description)]);
        }
        if code == Code::Unavailable {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        if matches!(code, Code::Unavailable | Code::Internal) && !matches!(error, Error::NotReady) {
            tracing::error!(error = %error.with_causes(), "a request failed for a reason of the service's own");
        }
        Status::with_error_details(code, error.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_with_its_code() {
        let status = Status::from(Error::from(InvalidValue::new("query", "required", "ask something")));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violation = &details.bad_request().expect("details").field_violations[0];
        assert_eq!((violation.field.as_str(), violation.description.as_str()), ("query", "required: ask something"));
    }

    #[test]
    fn what_may_come_back_says_when_to_try_again() {
        for error in [Error::NotReady, Error::Storage(sqlx::Error::PoolClosed)] {
            let details = Status::from(error).get_error_details();
            assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(RETRY_DELAY));
        }
        let unknown = Error::UnknownDocument { document_id: "a/b".into(), version: Some(3) };
        assert_eq!(unknown.to_string(), "there is no document `a/b` in version 3");
        let details = Status::from(unknown).get_error_details();
        assert_eq!(details.error_info().expect("info").metadata["document_id"], "a/b");
    }
}
