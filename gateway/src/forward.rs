//! Headers that senders of documents prove themselves by, passed on to the member that checks them. Everything else stays
//! here, credentials above all.

use http::HeaderMap;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};

/// Headers with these names, and all whose names begin with one of [`PREFIXES`].
const NAMES: [&str; 4] = ["x-pagerduty-signature", "webhook-id", "webhook-timestamp", "webhook-signature"];
const PREFIXES: [&str; 2] = ["svix-", "x-opsgenie-"];
/// Longer values are left out, and then missed by the check.
const VALUE_LEN_MAX: usize = 4_096;
/// More headers than this of one request are left out.
const COUNT_MAX: usize = 16;

/// One header as metadata of a call.
pub(crate) type Forwarded = (MetadataKey<Ascii>, MetadataValue<Ascii>);

/// The headers of a request that the check of a signature needs.
pub(crate) fn signatures(headers: &HeaderMap) -> Vec<Forwarded> {
    let wanted = |name: &str| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let read = headers.iter().filter(|(name, value)| wanted(name.as_str()) && value.len() <= VALUE_LEN_MAX);
    let forwarded = read.filter_map(|(name, value)| {
        // Keys of binary metadata end in `-bin` and mean another encoding.
        let key =
            MetadataKey::from_bytes(name.as_str().as_bytes()).ok().filter(|key| !key.as_str().ends_with("-bin"))?;
        Some((key, MetadataValue::try_from(value.to_str().ok()?).ok()?))
    });
    forwarded.take(COUNT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn only_what_a_signature_needs_is_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-pagerduty-signature", "v1=ab"),
            ("webhook-id", "msg_1"),
            ("svix-signature", "v1,ab"),
            ("x-opsgenie-token", "secret"),
            ("authorization", "Bearer x"),
            ("x-api-key", "x"),
            ("cookie", "x"),
            ("x-attain-tenant", "other"),
            ("x-attain-role", "admin"),
            ("grpc-timeout", "1S"),
            ("webhook-other", "x"),
            ("svix-data-bin", "x"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.append("svix-long", "x".repeat(5_000).parse().expect("a header"));
        headers.append("svix-id", HeaderValue::from_bytes(b"\xff").expect("opaque"));
        let mut names: Vec<String> = signatures(&headers).into_iter().map(|(key, _)| key.to_string()).collect();
        names.sort();
        assert_eq!(names, ["svix-signature", "webhook-id", "x-opsgenie-token", "x-pagerduty-signature"]);
        headers.extend((0..40).map(|i| (format!("svix-{i}").parse().ok(), HeaderValue::from_static("x"))));
        assert_eq!(signatures(&headers).len(), COUNT_MAX);
    }
}
