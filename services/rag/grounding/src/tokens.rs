//! Text as tokens: numbers, identifiers and words, with the places where a clause ends. Markup is space between them.

use std::sync::LazyLock;

use regex::Regex;

use crate::quantity::{self, Quantity};
use crate::settings;

static URL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^[A-Za-z][A-Za-z0-9+.\-]*://[^\s<>"'`|)\]}]+"#));
static STAMP: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})?)?|\d{1,2}:\d{2}(?::\d{2})?)",
    )
});
static FLAG: LazyLock<Regex> = LazyLock::new(|| pattern(r"^--?[A-Za-z][A-Za-z0-9_\-]*"));
static ROOTED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:~|\.{1,2})?/[\p{Alphabetic}\p{Nd}_.$\-]+(?:/[\p{Alphabetic}\p{Nd}_.$\-]+)*"));
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^[\p{Alphabetic}_$][\p{Alphabetic}\p{Mn}\p{Nd}_]*(?:(?:::|[.\-/:@])[\p{Alphabetic}\p{Nd}_$][\p{Alphabetic}\p{Mn}\p{Nd}_$]*)*(?:['’]\p{Alphabetic}+)?",
    )
});
static COMPARISON: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(>=|<=|≥|≤|>|<) ?[\d$€-]"));

/// Short forms with dots that are words.
const DOTTED_WORDS: [&str; 6] = ["e.g", "i.e", "a.m", "p.m", "etc", "et.al"];

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// A piece of text that means something.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
    /// Where it starts, in bytes.
    pub(crate) start: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    Number(Quantity),
    Identifier,
    Word,
    /// The end of a clause: punctuation or an empty line.
    Boundary,
}

impl Token<'_> {
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it may be a name although it is not marked as one.
    pub(crate) fn begins_with_capital(&self) -> bool {
        let mut chars = self.text.trim_start_matches('_').chars();
        chars.next().is_some_and(char::is_uppercase) && chars.next().is_some() && !is_plain(&self.lower())
    }

    /// The word in lower case, without what is hung on.
    pub(crate) fn lower(&self) -> String {
        let text = self.text.strip_suffix("'s").or_else(|| self.text.strip_suffix("’s")).unwrap_or(self.text);
        text.trim_matches('_').to_lowercase().replace('’', "'")
    }
}

/// The tokens of a text in order.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut scanner = Scanner { text, at: 0, before: None, found: Vec::new(), sentence_begins: true };
    while scanner.at < text.len() {
        scanner.step();
    }
    quantity::join(scanner.found, text)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    before: Option<char>,
    found: Vec<Token<'a>>,
    /// Whether no word of the sentence was met: a capital there says nothing.
    sentence_begins: bool,
}

impl<'a> Scanner<'a> {
    fn step(&mut self) {
        let rest = &self.text[self.at..];
        let Some(c) = rest.chars().next() else { return };
        let (kind, length) = self.read(rest, c);
        if let Some(kind) = kind {
            if kind == TokenKind::Boundary {
                self.sentence_begins |= matches!(c, '.' | '!' | '?' | ':' | '|' | '\n');
            } else {
                self.sentence_begins = false;
            }
            self.found.push(Token { kind, text: &rest[..length], start: self.at });
        }
        self.before = rest[..length].chars().next_back();
        self.at += length;
    }

    /// What stands here, if anything, and how many bytes it takes.
    fn read(&self, rest: &'a str, c: char) -> (Option<TokenKind>, usize) {
        let apart = !self.before.is_some_and(|before| before.is_alphanumeric() || before == '_');
        if apart
            && c.is_ascii_alphabetic()
            && let Some(url) = URL.find(rest)
        {
            let url = url.as_str().trim_end_matches(['.', ',', ';', ':', '!', '?']);
            return (Some(TokenKind::Identifier), url.len());
        }
        if let Some(number) = self.number(rest, c, apart) {
            return number;
        }
        if apart
            && c == '-'
            && self.opens()
            && let Some(flag) = FLAG.find(rest)
        {
            return (Some(TokenKind::Identifier), flag.end());
        }
        if apart
            && matches!(c, '/' | '~' | '.')
            && let Some(path) = ROOTED.find(rest)
        {
            return (Some(TokenKind::Identifier), trimmed(path.as_str()));
        }
        if (c.is_alphabetic() || matches!(c, '_' | '$'))
            && let Some(name) = NAME.find(rest)
        {
            return self.name(name.as_str());
        }
        if matches!(c, '<' | '>' | '≥' | '≤') {
            return self.comparison(rest, c);
        }
        (boundary(rest, c), c.len_utf8())
    }

    fn opens(&self) -> bool {
        self.before.is_none_or(|before| before.is_whitespace() || "`([{\"'|=".contains(before))
    }

    fn number(&self, rest: &'a str, c: char, apart: bool) -> Option<(Option<TokenKind>, usize)> {
        let signed = matches!(c, '-' | '−' | '+')
            && self.opens()
            && rest[c.len_utf8()..].starts_with(|next: char| next.is_ascii_digit());
        if !apart || !(c.is_ascii_digit() || signed || quantity::is_currency(c, rest)) {
            return None;
        }
        if let Some(stamp) = STAMP.find(rest)
            && !rest[stamp.end()..].starts_with(|next: char| next.is_alphanumeric() || next == ':')
        {
            return Some((Some(TokenKind::Number(Quantity::stamp(stamp.as_str()))), stamp.end()));
        }
        let (quantity, length) = quantity::read(rest)?;
        let kind = quantity.map_or(TokenKind::Identifier, TokenKind::Number);
        Some((Some(kind), length))
    }

    fn name(&self, name: &'a str) -> (Option<TokenKind>, usize) {
        let kept = name.trim_end_matches(['_', '$']);
        if kept.trim_matches(['_', '$']).is_empty() {
            return (None, name.len());
        }
        let length = kept.len();
        let bare = kept.trim_start_matches('_');
        if let Some(quantity) = quantity::word(&bare.to_lowercase()) {
            return (Some(TokenKind::Number(quantity)), length);
        }
        let kind = if is_identifier(bare, self.sentence_begins) { TokenKind::Identifier } else { TokenKind::Word };
        (Some(kind), length)
    }

    /// A sign of comparison before a number; at the head of a line `>` is a quotation's.
    fn comparison(&self, rest: &str, c: char) -> (Option<TokenKind>, usize) {
        let heads_line = c == '>' && self.before.is_none_or(|before| before == '\n');
        match COMPARISON.captures(rest).filter(|_| !heads_line) {
            Some(found) => (Some(TokenKind::Word), found[1].len()),
            None => (None, c.len_utf8()),
        }
    }
}

fn trimmed(path: &str) -> usize {
    path.trim_end_matches(['.', ',', ';', ':']).len()
}

fn boundary(rest: &str, c: char) -> Option<TokenKind> {
    let next = rest[c.len_utf8()..].chars().next();
    let ends = match c {
        '(' | ')' | ';' | '|' | '—' | '!' | '?' => true,
        '.' | ',' | ':' => next.is_none_or(|next| !next.is_alphanumeric()),
        '–' | '-' => next.is_some_and(char::is_whitespace),
        '\n' => next == Some('\n'),
        _ => false,
    };
    ends.then_some(TokenKind::Boundary)
}

/// Whether a word is a name: joined parts, inner capitals, letters with digits, all capitals, or a capital inside a sentence.
fn is_identifier(word: &str, begins_sentence: bool) -> bool {
    let lower = word.to_lowercase();
    if DOTTED_WORDS.contains(&lower.as_str()) {
        return false;
    }
    if is_plain(&lower) {
        return false;
    }
    let (stem, hung) = word.split_once(['\'', '’']).map_or((word, false), |(stem, _)| (stem, true));
    if stem.contains(['_', '.', '/', ':', '@', '$', '-']) {
        return true;
    }
    let mut chars = stem.chars();
    let first = chars.next().is_some_and(char::is_uppercase);
    let rest: Vec<char> = chars.collect();
    let inner = rest.iter().any(|c| c.is_uppercase() || c.is_numeric());
    if inner {
        return true;
    }
    // `I'll`, `Don't` are no names.
    first && !rest.is_empty() && !begins_sentence && !hung
}

fn is_plain(lower: &str) -> bool {
    let settings = settings::shipped();
    settings.function_words.contains(lower)
        || settings.polarity.contains_key(lower)
        || settings.sides.contains_key(lower)
        || lower.ends_with("n't")
        || lower.ends_with("n’t")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifiers(text: &str) -> Vec<&str> {
        tokens(text).into_iter().filter(|token| token.kind == TokenKind::Identifier).map(|token| token.text).collect()
    }

    #[test]
    fn names_of_every_kind_are_seen() {
        for (text, expected) in [
            ("`PaymentProviderDown` pages", vec!["PaymentProviderDown"]),
            ("from payment-service to external-payment-api.", vec!["payment-service", "external-payment-api"]),
            ("set rag.model_dir in /etc/attain/a.toml, now", vec!["rag.model_dir", "/etc/attain/a.toml"]),
            ("run it with --since=5m and -n shop", vec!["--since", "-n"]),
            ("see https://example.org/a(b). Then", vec!["https://example.org/a(b"]),
            ("5xx and p95 over HTTP", vec!["5xx", "p95", "HTTP"]),
            ("When Kafka is down, Restart it", vec!["Kafka", "Restart"]),
            ("sum by `job:request_rate:5m`", vec!["job:request_rate:5m"]),
            ("don't e.g. do it", vec![]),
            ("**bold** and _emphasis_ here", vec![]),
            ("v1.2.3 or 1.2.3", vec!["v1.2.3", "1.2.3"]),
        ] {
            assert_eq!(identifiers(text), expected, "{text}");
        }
    }

    #[test]
    fn a_comparison_is_one_and_a_quotation_is_not() {
        let words = |text: &'static str| -> Vec<&str> {
            tokens(text).into_iter().filter(|t| t.kind == TokenKind::Word).map(|t| t.text).collect()
        };
        assert_eq!(words("if x > 5"), ["if", "x", ">"]);
        assert_eq!(words("> 5 quoted"), ["quoted"]);
        assert_eq!(words("a <b> c"), ["a", "b", "c"]);
    }
}
