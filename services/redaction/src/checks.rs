//! What a pattern alone cannot tell: check digits, and whether a word is one of a sentence or of a machine.

use std::sync::LazyLock;

use regex::Regex;

/// A value that only names where the secret is, or that there is none.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:\$[A-Z_][A-Z0-9_]*|\$\([a-z-]+|\$\{[A-Za-z_][A-Za-z0-9_]*\}|<[a-z][a-z-]*>?|[\[\]{}()<>|*.$-]*|null|none|nil|true|false|\[redacted:[a-z-]+\])$",
    )
    .expect("a valid pattern")
});

/// Whether a value, quotes aside, is a reference as a whole: `$DB_PASSWORD`, `${DB_PASSWORD}`, `<your-token>`,
/// `$(command`, nothing at all, or the mark of what was taken out before.
pub(crate) fn is_reference(value: &str) -> bool {
    REFERENCE.is_match(value.trim().trim_matches(['"', '\'', '\\']))
}

/// Domains of databases and of clusters' services, where nobody has a mailbox.
const ENDPOINT_DOMAINS: &[&str] = &[
    ".cache.amazonaws.com",
    ".cluster.local",
    ".database.azure.com",
    ".database.windows.net",
    ".docdb.amazonaws.com",
    ".rds.amazonaws.com",
    ".redshift.amazonaws.com",
];

/// Whether what follows an at sign is where a database or a service listens: tracers call a database `orders@host`.
pub(crate) fn is_endpoint(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    ENDPOINT_DOMAINS.iter().any(|domain| host.ends_with(domain))
}

/// Whether what follows the colon of an address begins with a port rather than a password.
pub(crate) fn begins_with_a_port(rest: &str) -> bool {
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    after.len() < rest.len() && after.starts_with(['/', '?', '#', ',', ';', '"', '\'', ')', '\\'])
}

/// Whether a word mixes letters with digits or small letters with capitals, as no word of a sentence does.
pub(crate) fn mixes(word: &str) -> bool {
    let any = |kind: fn(&u8) -> bool| word.as_bytes().iter().skip(1).any(kind);
    any(u8::is_ascii_digit) || (any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase))
}

/// Whether what follows `bearer` is no word of a sentence: any word of at least 16 characters, shorter ones that mix.
pub(crate) fn is_bearer_token(word: &str) -> bool {
    word.len() >= 16 || word.contains(['_', '~', '+', '/', '=']) || mixes(word)
}

/// Whether what follows `basic` is a name and a password in base64, or at least no word of a sentence.
pub(crate) fn is_basic_credentials(word: &str) -> bool {
    let word = word.replace("%2B", "+").replace("%2b", "+").replace("%2F", "/").replace("%2f", "/");
    let word = word.replace("%3D", "=").replace("%3d", "=");
    let digit = word.bytes().any(|c| c.is_ascii_digit());
    let telling = word.ends_with('=') || (word.len() >= 16 && digit && mixes(&word));
    telling || decoded(&word).is_some_and(|bytes| bytes.contains(&b':'))
}

/// Base64 with or without its padding; `None` where it is none, or holds what nobody can type.
fn decoded(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').bytes();
    let digits: Vec<u32> =
        digits.map(|c| ALPHABET.iter().position(|a| *a == c).map(|i| i as u32)).collect::<Option<_>>()?;
    let mut bytes = Vec::with_capacity(digits.len());
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    (digits.len() % 4 != 1 && bytes.iter().all(|byte| !byte.is_ascii_control())).then_some(bytes)
}

/// The check digit of ISO/IEC 7812-1, annex B, and a length that cards of the issuer have.
pub(crate) fn is_card(text: &str) -> bool {
    // A blank may be percent-encoded; its digits are none of the card's.
    let text = text.replace("%20", " ");
    let digits: Vec<u32> = text.chars().rev().filter_map(|c| c.to_digit(10)).collect();
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = digits.iter().enumerate().map(|(i, digit)| if i % 2 == 0 { *digit } else { doubled(*digit) }).sum();
    sum.is_multiple_of(10) && is_length_of_issuer(&digits)
}

/// Whether an issuer has numbers of this length; the digits are in reverse order.
fn is_length_of_issuer(digits: &[u32]) -> bool {
    let length = digits.len();
    let first = |place: usize| length.checked_sub(place).and_then(|index| digits.get(index)).copied().unwrap_or(0);
    match (first(1), first(2)) {
        (4, _) => matches!(length, 13 | 16 | 19),
        (3, 4 | 7) => length == 15,
        (3, 0 | 6 | 8 | 9) => (14..=19).contains(&length),
        (2, 2..=7) | (5, _) => length == 16,
        (3, 5) | (6, _) => (16..=19).contains(&length),
        _ => false,
    }
}

/// The check digits of ISO 13616: the number with its first four characters at the end is 1 modulo 97.
pub(crate) fn is_iban(text: &str) -> bool {
    let compact: Vec<u8> = text.bytes().filter(|c| *c != b' ').collect();
    let Some((head, rest)) = compact.split_at_checked(4) else { return false };
    let value = |c: &u8| char::from(*c).to_digit(36).unwrap_or(0);
    let modulo = rest
        .iter()
        .chain(head)
        .map(value)
        .fold(0, |modulo, value| if value > 9 { (modulo * 100 + value) % 97 } else { (modulo * 10 + value) % 97 });
    (15..=34).contains(&compact.len()) && modulo == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_references_are_references() {
        for text in [
            "$DB_PASSWORD",
            "${db_password}",
            "<your-token>",
            "<your",
            "\"${X}\"",
            "{{",
            "***",
            "",
            "null",
            "$(openssl",
        ] {
            assert!(is_reference(text), "{text}");
        }
        for text in ["$ecret", "$A b", "<b2>", "{x}", "hun$ter", "${A}b", "[redacted:key]x"] {
            assert!(!is_reference(text), "{text}");
        }
    }

    #[test]
    fn check_digits_hold() {
        // Numbers that issuers publish for tests, and examples of the IBAN registry.
        for card in ["4111 1111 1111 1111", "378282246310005", "6011000990139424", "5555%205555%205555%204444"] {
            assert!(is_card(card), "{card}");
        }
        assert!(!is_card("4111 1111 1111 1112") && !is_card("411111111116"));
        for iban in ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "NO93 8601 1117 947"] {
            assert!(is_iban(iban), "{iban}");
        }
        assert!(!is_iban("GB82 WEST 1234 5698 7654 33"));
    }

    #[test]
    fn basic_credentials_are_told_from_words() {
        for word in ["dXNlcjpodW50ZXIy", "YTpi", "dXNlcjpodW50ZXIyMQ=="] {
            assert!(is_basic_credentials(word), "{word}");
        }
        for word in ["understanding", "Understanding", "authentication", "configurations", "a:"] {
            assert!(!is_basic_credentials(word), "{word}");
        }
    }
}
