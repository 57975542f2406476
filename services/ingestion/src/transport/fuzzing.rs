use super::cursor::{read_bucket_token, read_incident_token, read_service_token};

/// Tokens that say where a page begins.
pub fn page_tokens(text: &str) {
    let _ = (read_service_token(text), read_bucket_token(text), read_incident_token(text));
}
