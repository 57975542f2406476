//! Takes secrets and personal data out of free text before it is stored: telemetry, incidents, documents alike.
//!
//! Entry point: [`redact`]. A closed list of shapes, each replaced by `[redacted:what]`, so that a reader knows what stood
//! there. Redacting twice changes nothing. It errs on the side of taking out: a harmless word after `password:` goes too;
//! only a value that is a reference as a whole, such as `$DB_PASSWORD` or `<your-token>`, stays. Pure; knows nothing of who
//! stores the text.

mod fold;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

pub use fold::fold;

struct Shape {
    pattern: Regex,
    replacement: &'static str,
    /// What a match must pass besides; `None` where the pattern says it all.
    is_one: Option<Check>,
}

type Check = fn(&Captures<'_>) -> bool;

/// In this order: what holds other shapes comes first.
static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let shapes = [
        // PEM blocks, also cut off ones.
        (
            r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
            "[redacted:private-key]",
        ),
        // Connection strings: scheme://user:password@host.
        (r"\b([A-Za-z][A-Za-z0-9+.-]{1,30}://)[^\s/@:\[\]]*:[^\s@/]+@", "${1}[redacted:credentials]@"),
        // Authorization headers, and bearer tokens wherever they stand.
        (
            r#"(?i)\b(authorization["']?\s*[:=]\s*["']?(?:basic|bearer|digest|token|apikey)\s+)[^\s"',;\[\]]+"#,
            "${1}[redacted:token]",
        ),
        (r"(?i)\b(bearer\s+)(?P<bearer>[A-Za-z0-9._~+/-]{12,}=*)", "${1}[redacted:token]"),
        (r"(?i)\b(basic\s+)(?P<basic>[A-Za-z0-9+/]{8,}={0,2})", "${1}[redacted:token]"),
        // JSON Web Tokens.
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*", "[redacted:token]"),
        // Keys with the prefixes that their issuers publish: AWS, GitHub, GitLab, Slack, Stripe, Google, npm, PyPI, and the
        // `sk-` of several APIs.
        (r"\b(?:AKIA|ASIA|AGPA|AROA|AIDA)[0-9A-Z]{16}\b", "[redacted:key]"),
        (r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})", "[redacted:key]"),
        (r"\bxox[abeprs]-[A-Za-z0-9-]{10,}", "[redacted:key]"),
        (r"\b(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}", "[redacted:key]"),
        (r"\bAIza[0-9A-Za-z_-]{30,}", "[redacted:key]"),
        (r"\b(?:npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|sk-[A-Za-z0-9_-]{20,})", "[redacted:key]"),
        // name=value, name: value, "name": "value", wherever the name speaks of a secret.
        (
            r#"(?i)\b((?:[a-z0-9]+[_.-])*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|apikey|access[_-]?key|private[_-]?key|credentials?)(?:[_.-][a-z0-9]+)*["']?\s*[:=]\s*)(?P<value>"[^"]*"|'[^']*'|[^\s"'\[,;&]+)"#,
            "${1}[redacted:secret]",
        ),
        // E-mail addresses.
        (r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b", "[redacted:email]"),
        // Thirteen to nineteen digits, with single blanks or hyphens between them, as payment cards are written. First
        // digits as issuers have them, so that times in milliseconds are let be.
        (r"\b(?P<card>[2-6](?:[ -]?[0-9]){12,18})\b", "[redacted:card]"),
    ];
    shapes
        .into_iter()
        .map(|(pattern, replacement)| {
            let pattern = compiled(pattern);
            let named = |name: &str| pattern.capture_names().flatten().any(|group| group == name);
            let check = CHECKS.iter().find(|(name, _)| named(name)).map(|(_, check)| *check);
            Shape { pattern, replacement, is_one: check }
        })
        .collect()
});

/// What the groups of these names must pass.
const CHECKS: &[(&str, Check)] = &[
    ("bearer", |found| looks_like_a_token(&found["bearer"])),
    ("basic", |found| is_basic_credentials(&found["basic"])),
    ("value", |found| !REFERENCE.is_match(found["value"].trim_matches(['"', '\'']))),
    ("card", |found| luhn(&found["card"])),
];

/// A value that only names where the secret is.
static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"^(?:\$[A-Z_][A-Z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\}|<[a-z][a-z-]*>?)$"));

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns of this file are valid")
}

/// The text without secrets, e-mail addresses and card numbers, and how many there were; borrowed when there are none.
#[must_use]
pub fn redact(text: &str) -> (Cow<'_, str>, usize) {
    let mut redacted = Cow::Borrowed(text);
    let mut count = 0;
    for shape in SHAPES.iter() {
        let mut found = 0;
        let replaced = shape.pattern.replace_all(&redacted, |captures: &Captures<'_>| {
            if shape.is_one.is_some_and(|is_one| !is_one(captures)) {
                return captures[0].to_owned();
            }
            found += 1;
            let mut replacement = String::new();
            captures.expand(shape.replacement, &mut replacement);
            replacement
        });
        if found > 0 {
            count += found;
            redacted = Cow::Owned(replaced.into_owned());
        }
    }
    (redacted, count)
}

/// Whether what follows `bearer` is no word of a sentence: any word of at least 16 characters, shorter ones that mix.
fn looks_like_a_token(text: &str) -> bool {
    let mixed = |c: char| c.is_ascii_digit() || "_~+/=".contains(c);
    text.len() >= 16 || text.contains(mixed) || text.chars().skip(1).any(|c| c.is_ascii_uppercase())
}

/// Whether what follows `basic` is a name and a password in base64 (RFC 7617), or at least no word of a sentence.
fn is_basic_credentials(text: &str) -> bool {
    let has = |kind: fn(&char) -> bool| text.chars().skip(1).any(|c| kind(&c));
    let mixed = has(char::is_ascii_digit) && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
    text.ends_with('=') || (text.len() >= 16 && mixed) || decoded(text).is_some_and(|bytes| bytes.contains(&b':'))
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

/// The check digit of ISO/IEC 7812-1, annex B.
fn luhn(text: &str) -> bool {
    let digits = text.chars().rev().filter_map(|c| c.to_digit(10));
    let sum: u32 = digits
        .enumerate()
        .map(|(i, digit)| match i % 2 {
            0 => digit,
            _ if digit > 4 => 2 * digit - 9,
            _ => 2 * digit,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Put together here so that no scanner takes this file for a leak.
    fn samples() -> Vec<(String, &'static str, &'static str)> {
        vec![
            (format!("Authorization: Basic {}", "dXNlcjpodW50ZXIy"), "dXNlcjpodW50ZXIy", "[redacted:token]"),
            (format!("sent Bearer {}", "abcdefghij0123456789"), "abcdefghij", "[redacted:token]"),
            (format!("jwt {}.{}.sig", "eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxIn0"), "eyJhbGci", "[redacted:token]"),
            (format!("key {}{} leaked", "AKIA", "IOSFODNN7EXAMPLE"), "IOSFODNN7", "[redacted:key]"),
            (format!("{}_{}", "ghp", "0123456789abcdef0123456789abcdef0123"), "0123456789abcdef", "[redacted:key]"),
            (format!("{}-{}", "xoxb", "123456789012-abcdef"), "123456789012", "[redacted:key]"),
            (format!("{}_live_{}", "sk", "0123456789abcdefABCD"), "0123456789abcdef", "[redacted:key]"),
            (
                "postgres://app:hunter2@db:5432/x is down".into(),
                "hunter2",
                "postgres://[redacted:credentials]@db:5432/x",
            ),
            ("redis://:hunter2@cache:6379".into(), "hunter2", "@cache:6379"),
            ("DB_PASSWORD=hunter2; retried".into(), "hunter2", "[redacted:secret]; retried"),
            (r#"{"api_key": "hunter2", "user": 1}"#.into(), "hunter2", r#""user": 1"#),
            ("client-secret: 'hunter 2'".into(), "hunter 2", "[redacted:secret]"),
            (r#"password: "hun$ter2 <x" and on"#.into(), "ter2", "password: [redacted:secret] and on"),
            ("password: $ecret{99".into(), "ecret{99", "password: [redacted:secret]"),
            ("pwd=<hunter2>".into(), "hunter2", "pwd=[redacted:secret]"),
            (format!("sent Basic {} twice", "dXNlcjpodW50ZXIy"), "dXNlcjpodW50ZXIy", "Basic [redacted:token] twice"),
            (format!("sent bearer {}", "abc123def456"), "abc123def456", "bearer [redacted:token]"),
            ("Server=db;Password=hunter2;Timeout=5".into(), "hunter2", ";Timeout=5"),
            ("paged jane.doe+oncall@mail.example.com twice".into(), "jane.doe", "[redacted:email] twice"),
            ("card 4111 1111 1111 1111 declined".into(), "4111", "[redacted:card] declined"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- after".into(), "MIIE", "after"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE cut".into(), "MIIE", "[redacted:private-key]"),
        ]
    }

    #[test]
    fn secrets_go_and_the_rest_stays() {
        for (text, secret, kept) in samples() {
            let (redacted, count) = redact(&text);
            assert_eq!(count, 1, "{text} → {redacted}");
            assert!(!redacted.contains(secret), "{text} → {redacted}");
            assert!(redacted.contains(kept), "{text} → {redacted}");
        }
    }

    #[test]
    fn plain_prose_is_let_be() {
        for text in [
            "basic authentication failed for bearer of bad news",
            "a basic understanding; Basic Understanding of basic configurations; the bearer satisfactorily answered",
            "p99 rose to 1250 ms at 1793000000123, 4111 1111 1111 1112 requests",
            "https://status.example.com/incidents/42?x=1 and checkout@eu-1",
            "the token bucket was empty; password resets were slow",
            "export PGPASSWORD=$DB_PASSWORD and token: <your token>",
            r#"password: "${DB_PASSWORD}", secret='$SECRET', api_key=<your-key>"#,
            "http://127.0.0.1:7104/path at 2026-11-14T19:20:00Z, 99.95 %",
        ] {
            assert_eq!(redact(text), (text.into(), 0));
        }
    }

    proptest! {
        #[test]
        fn redacting_twice_changes_nothing(before in "\\PC{0,40}", after in "\\PC{0,40}", i in 0usize..22) {
            let text = format!("{before} {} {after}", samples()[i].0);
            let once = redact(&text).0.into_owned();
            prop_assert_eq!(redact(&once), (once.as_str().into(), 0));
        }

        #[test]
        fn a_secret_goes_whatever_stands_around_it(before in "[a-z .,]{0,40}", after in "[a-z .,]{0,40}", i in 0usize..22) {
            let (text, secret, _) = &samples()[i];
            let redacted = redact(&format!("{before} {text} {after}")).0.into_owned();
            prop_assert!(!redacted.contains(secret), "{}", redacted);
        }
    }
}
