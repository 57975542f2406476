//! A caller's own words in an answer.

/// Longest piece of a caller's own text that is repeated to them, in characters.
const ECHO_LEN_MAX: usize = 60;

/// A caller's own text, cut to a length that can be repeated.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(ECHO_LEN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
