//! What happens to every text before it is stored: hidden parts out, then secrets and personal data.

use attain_redaction::redact;

use super::hidden;

/// A text as it may be stored, and what was taken out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// The text.
    pub(crate) text: String,
    /// Hidden parts taken out.
    pub(crate) hidden_count: usize,
    /// Secrets and personal data replaced by marks.
    pub(crate) redacted_count: usize,
}

/// Cleans a text; cleaning it again changes nothing.
pub(crate) fn clean(text: &str) -> Cleaned {
    // Hidden characters first: inside a secret they would hide it from the patterns.
    let (visible, hidden_count) = hidden::strip(text);
    let (text, redacted_count) = redact(&visible);
    Cleaned { text: text.into_owned(), hidden_count, redacted_count }
}
