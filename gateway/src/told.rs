//! What logs, traces and answers may repeat of a request: the words of a caller without their secrets, and not too many.

use std::borrow::Cow;
use std::net::IpAddr;

use attain_redaction::{redact, shown_address};
use percent_encoding::percent_decode_str;

/// Longest path in the access log, in bytes.
const LOGGED_PATH_LEN_MAX: usize = 256;
/// A path as it came, or, where it holds what is taken out, decoded and without it: clients encode what they like, down to
/// every letter.
pub(crate) fn path(path: &str) -> Cow<'_, str> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    match (redact(path), redact(&decoded)) {
        ((clean, 0), (_, 0)) => clean,
        (_, (redacted, _)) => Cow::Owned(redacted.into_owned()),
    }
}

/// A path for the access log: decoded, redacted, and only then cut, for half a secret would not be known for one.
pub(crate) fn logged_path(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut path = redact(&decoded).0.into_owned();
    path.truncate(path.floor_char_boundary(LOGGED_PATH_LEN_MAX));
    path
}

/// An address under which callers are counted, for the log: of an IPv6 caller the network.
pub(crate) fn address(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => shown_address(address.into()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            let network = std::net::Ipv6Addr::from([a, b, c, d, 0, 0, 0, 0]);
            format!("{}/64", shown_address(network.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_without_secrets_however_they_are_encoded() {
        for given in [
            "/api/v1/services/jane.doe@mail.example",
            "/api/v1/services/jane.doe%40mail.example",
            "/api/v1/services/jane%2edoe%40mail%2eexample",
            "/api/v1/services/%6A%61%6E%65%2E%64%6F%65%40mail.example",
            "/api/v1/services/jane.doe%2540mail.example",
            "/api/v1/services/password%3Djane",
        ] {
            for told in [logged_path(given), path(given).into_owned()] {
                assert!(told.starts_with("/api/v1/services/") && told.contains("[redacted:"), "{given}: {told}");
                assert!(!told.contains("jane") && !told.contains("%6A"), "{given}: {told}");
            }
        }
        for clean in ["/api/v1/services/checkout", "/a%2Fb", "/%ff"] {
            assert_eq!(path(clean), clean);
        }
        assert_eq!((logged_path("/a%2Fb"), logged_path("/%ff")), ("/a/b".to_owned(), "/\u{fffd}".to_owned()));
    }

    #[test]
    fn a_long_path_is_cut_after_it_is_redacted() {
        // The cut would go through the address, and leave what is no address any more.
        let given = format!("/{}/jane.doe%40mail.example/x", "é".repeat(122));
        let told = logged_path(&given);
        assert!(told.len() <= LOGGED_PATH_LEN_MAX && !told.contains("jane"), "{told}");
    }

    #[test]
    fn callers_are_told_by_what_one_host_holds() {
        for (given, told) in
            [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3::6", "2001:db8:1:2::/64")]
        {
            assert_eq!(address(given.parse().expect("an address")), told);
        }
    }
}
