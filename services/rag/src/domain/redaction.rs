//! Takes secrets and personal data out of a text before it is stored, and leaves a mark that says what was there.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Digits of a payment card number (ISO/IEC 7812).
const CARD_DIGITS_MIN: usize = 13;
const CARD_DIGITS_MAX: usize = 19;

/// A pattern and what its match is called. A group named `keep` stays in front of the mark.
struct Rule {
    name: &'static str,
    pattern: Regex,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    // Order matters: the specific before the general.
    let patterns = [
        ("private-key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)"),
        ("token", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        (
            "token",
            r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abprs]-[A-Za-z0-9-]{10,}|sk_live_[A-Za-z0-9]{10,}|sk-[A-Za-z0-9_-]{20,}|AIza[A-Za-z0-9_-]{30,})",
        ),
        ("access-key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
        ("token", r"(?i)(?P<keep>\b(?:bearer|basic)[ \t]+)[A-Za-z0-9+/._~=-]{12,}"),
        ("password", r"(?P<keep>\b[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:@\[\]]*:)[^\s/@\[\]]+(?:@)"),
        (
            "secret",
            r#"(?i)(?P<keep>\b[A-Za-z0-9_.-]*(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|auth[_-]?token|access[_-]?token|private[_-]?token)["']?[ \t]*(?:=|:)[ \t]*["']?)[^\s"'`<>\[\]{}$,;|]{6,}"#,
        ),
        ("email", r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b"),
    ];
    let rule = |(name, pattern)| Rule { name, pattern: Regex::new(pattern).expect("a valid pattern") };
    patterns.into_iter().map(rule).collect()
});
static CARD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[0-9](?:[ -]?[0-9]){12,18}\b").expect("a valid pattern"));

/// The text with secrets, e-mail addresses and card numbers replaced by `[redacted:…]`, and how many there were. Applying
/// it again changes nothing.
pub(crate) fn redact(text: &str) -> (String, usize) {
    let mut count = 0;
    let mut clean = text.to_owned();
    for rule in RULES.iter() {
        clean = replace(&clean, &rule.pattern, &mut count, |found| {
            let keep = found.name("keep").map_or("", |kept| kept.as_str());
            let whole = found.get_match().as_str();
            let end = if rule.name == "password" && whole.ends_with('@') { "@" } else { "" };
            Some(format!("{keep}[redacted:{}]{end}", rule.name))
        });
    }
    let clean = replace(&clean, &CARD, &mut count, |found| {
        is_card_number(found.get_match().as_str()).then(|| "[redacted:card]".to_owned())
    });
    (clean, count)
}

fn replace(text: &str, pattern: &Regex, count: &mut usize, with: impl Fn(&Captures<'_>) -> Option<String>) -> String {
    pattern
        .replace_all(text, |found: &Captures<'_>| match with(found) {
            Some(mark) => {
                *count += 1;
                mark
            }
            None => found.get_match().as_str().to_owned(),
        })
        .into_owned()
}

/// The check digit of ISO/IEC 7812 (Luhn), and a first digit that card networks use.
fn is_card_number(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let plausible = (CARD_DIGITS_MIN..=CARD_DIGITS_MAX).contains(&digits.len()) && (2..=6).contains(&digits[0]);
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match place % 2 {
            0 => *digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    plausible && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_and_personal_data_go_and_the_rest_stays() {
        for (text, expected) in [
            ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [redacted:token]"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[redacted:token]"),
            ("postgres://app:hunter2@db:5432/x", "postgres://app:[redacted:password]@db:5432/x"),
            ("AKIAIOSFODNN7EXAMPLE", "[redacted:access-key]"),
            ("password = hunter2hunter2", "password = [redacted:secret]"),
            ("DB_PASSWORD: \"s3cr3t-value\"", "DB_PASSWORD: \"[redacted:secret]\""),
            ("ask jane.doe@example.com", "ask [redacted:email]"),
            ("card 4111 1111 1111 1111 declined", "card [redacted:card] declined"),
            ("order 4111 1111 1111 1112", "order 4111 1111 1111 1112"),
            ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[redacted:token]"),
            ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nafter", "[redacted:private-key]\nafter"),
            ("rotate the password of the user", "rotate the password of the user"),
            ("password: $DB_PASSWORD", "password: $DB_PASSWORD"),
            ("2026-11-14T19:20:00Z 17 of 1793 requests, 99.95 %", "2026-11-14T19:20:00Z 17 of 1793 requests, 99.95 %"),
            ("http://127.0.0.1:7104/path", "http://127.0.0.1:7104/path"),
        ] {
            assert_eq!(redact(text).0, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn redacting_again_changes_nothing(
            text in "(password[=:] ?|Bearer |[a-z]{3}://u:|@host|a@b\\.cd|4111111111111111|[a-zA-Z0-9 ./=]{0,12}){0,8}"
        ) {
            let (once, _) = redact(&text);
            prop_assert_eq!(redact(&once), (once.clone(), 0));
        }
    }
}
