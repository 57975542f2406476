//! The members of the mesh that this one calls: ingestion for what was observed, graph for structure, rag for knowledge.

mod graph;
mod ingestion;
mod knowledge;

pub(crate) use graph::{Closure, Direction, Graph, SEED};
pub(crate) use ingestion::{HeldHistory, History, Ingestion, Known, LogEnd, Topology};
pub(crate) use knowledge::Knowledge;

use tonic::{Code, Status};

use crate::Error;

/// Why a member did not answer a question.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// It does not know what was asked about.
    Unknown,
    /// It refused the question: this service's mistake, or a bound of the member's.
    Refused(String),
    /// It could not be reached, or not in time.
    Unreachable(String),
}

impl Refusal {
    fn from_status(status: &Status) -> Self {
        let text = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::NotFound => Self::Unknown,
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => Self::Refused(text),
            _ => Self::Unreachable(text),
        }
    }

    /// In words.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Unknown => "it does not know the service".to_owned(),
            Self::Refused(text) | Self::Unreachable(text) => text.clone(),
        }
    }

    /// As the failure of a whole call that cannot do without the member.
    pub(crate) fn fatal(self, member: &'static str) -> Error {
        Error::Unreachable { member, detail: self.detail() }
    }
}
