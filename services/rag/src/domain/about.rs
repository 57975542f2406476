//! What is known of a document beside its text: who answers for it, since when, until when, and how far it is believed.

use std::collections::BTreeSet;

use attain_vocabulary::UnixMillis;

use super::document::DocumentId;
use super::instructions::Finding;

/// Begins the source of what the mesh itself writes; nobody else may say so.
pub(crate) const OWN_SOURCE: &str = "attain:";

/// What is known of a version of a document beside its text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct About {
    /// Who answers for it; empty where nobody is named.
    pub(crate) owner: String,
    /// Under which licence it may be used; empty where none is named.
    pub(crate) licence: String,
    /// When a person last found it right.
    pub(crate) reviewed_ms: Option<UnixMillis>,
    /// By when a person is to look at it again.
    pub(crate) review_due_ms: Option<UnixMillis>,
    /// Documents whose place it takes.
    pub(crate) supersedes: BTreeSet<DocumentId>,
    /// Document that has taken its place, where it says so itself.
    pub(crate) superseded_by: Option<DocumentId>,
    /// Who may read it.
    pub(crate) visibility: Visibility,
    /// Where it was taken from.
    pub(crate) source: Source,
    /// What lowers trust in it.
    pub(crate) findings: Vec<Finding>,
    /// Hidden parts taken out of title and text.
    pub(crate) hidden_count: u32,
    /// Secrets and personal data taken out of title and text.
    pub(crate) redacted_count: u32,
    /// What the SLOs in it promise, a line each.
    pub(crate) objectives: Vec<String>,
}

/// Who may read a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Visibility {
    /// The tenant that owns it.
    #[default]
    Tenant,
    /// Every tenant.
    Public,
}

/// Where a document was taken from; empty where that was not said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Source {
    pub(crate) uri: String,
    pub(crate) revision: String,
}

impl About {
    /// Whether a person is to look at it again by now.
    pub(crate) fn review_is_due(&self, now_ms: UnixMillis) -> bool {
        self.review_due_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Whether something in it speaks to a machine rather than to a reader.
    pub(crate) fn is_doubted(&self) -> bool {
        !self.findings.is_empty()
    }

    /// Pairs of a document and the one that takes its place, as `id` tells them. A doubted document takes nobody's place.
    pub(crate) fn supersessions(&self, id: &DocumentId) -> Vec<(DocumentId, DocumentId)> {
        let others = self.supersedes.iter().filter(|_| !self.is_doubted()).map(|other| (other.clone(), id.clone()));
        others.chain(self.superseded_by.iter().map(|by| (id.clone(), by.clone()))).collect()
    }
}

impl Visibility {
    /// The word under which it is stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Public => "public",
        }
    }

    /// The value behind a word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Tenant, Self::Public].into_iter().find(|value| value.as_str() == word)
    }
}
