//! A caller's own words in an answer: short, and without secrets, since answers end in logs.

use attain_redaction::redact;

/// Longest piece of a caller's own text that is repeated to them, in characters.
const ECHO_LEN_MAX: usize = 60;

/// A caller's own text, redacted, then cut to a length that can be repeated.
pub(crate) fn shorten(text: &str) -> String {
    let text = redact(text).0;
    match text.char_indices().nth(ECHO_LEN_MAX) {
        None => text.into_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
