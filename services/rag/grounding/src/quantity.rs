//! Numbers with their units, brought to one form: `5 min`, `5m`, `five minutes` and `300 s` are the same.

use std::sync::LazyLock;

use regex::Regex;

use crate::settings;
use crate::tokens::{Token, TokenKind};

/// Digits with groups of three behind commas or narrow spaces, decimals and an exponent.
static DIGITS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^[+\-−]?(?:\d{1,3}(?:[,\u{a0}\u{202f}\u{2009}]\d{3})+|\d+(?:_\d{3})*)(?:\.\d+)*(?:[eE][+\-]?\d+\b)?")
});
/// `1h30m`.
static CLOCKED: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|s|m|h|d|w))+$"));
static CLOCK_PART: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d|w)"));
/// The letters right behind a number.
static ATTACHED: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\p{Alphabetic}\p{Nd}_%‰°×µ]+"));
/// A unit after a space, a line end or a hyphen.
static APART: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[ \t\u{a0}\u{202f}\u{2009}]+|-|[ \t]*\n[ \t>]*)(per cent|percentage points?|[\p{Alphabetic}µ]+|%|‰|×|°C)",
    )
});
static RATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?: ?/ ?|\s+per\s+)(sec|seconds?|s|minutes?|min|m|hours?|h|days?|d|weeks?|months?|years?)(?:[^\p{Alphabetic}]|$)",
    )
});
static LINK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?:\s*[-–—]\s*|\s+(?:to|and|or)\s+)$"));

/// Longer numbers are compared by their digits: a float does not tell them apart.
const EXACT_DIGITS_MAX: usize = 15;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// A number with its unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantity {
    size: Size,
    /// The kind of unit; empty where there is none.
    unit: String,
}

/// In the first unit of its kind, or the digits where they are too many for that.
#[derive(Debug, Clone, PartialEq)]
enum Size {
    Value(f64),
    Text(String),
}

impl Quantity {
    /// A date or time of day.
    pub(crate) fn stamp(text: &str) -> Self {
        Self { size: Size::Text(text.replace(' ', "T")), unit: "stamp".to_owned() }
    }

    /// The one form of it: equal for equal quantities only.
    pub(crate) fn canonical(&self) -> String {
        match &self.size {
            Size::Value(value) => format!("{value:.12e} {}", self.unit),
            Size::Text(text) => format!("{text} {}", self.unit),
        }
    }

    fn scaled(self, kind: &str, factor: f64) -> Self {
        let size = match self.size {
            Size::Value(value) => Size::Value(value * factor),
            text @ Size::Text(_) => text,
        };
        Self { size, unit: if kind.is_empty() { self.unit } else { kind.to_owned() } }
    }
}

/// Whether a sign of money stands before digits.
pub(crate) fn is_currency(c: char, rest: &str) -> bool {
    matches!(c, '$' | '€' | '£') && rest[c.len_utf8()..].starts_with(|next: char| next.is_ascii_digit())
}

/// A word that is a number.
pub(crate) fn word(lower: &str) -> Option<Quantity> {
    let value = settings::shipped().number_words.get(lower)?;
    Some(Quantity { size: Size::Value(*value), unit: String::new() })
}

/// The number at the head of a text and its length in bytes; `None` in its place where it is part of a name: `5xx`, `1.2.3`.
pub(crate) fn read(rest: &str) -> Option<(Option<Quantity>, usize)> {
    let currency = rest.chars().next().filter(|c| is_currency(*c, rest));
    let head = currency.map_or(0, char::len_utf8);
    let digits = DIGITS.find(&rest[head..])?.as_str();
    let mut length = head + digits.len();
    let name = |length: usize| Some((None, length + tail(&rest[length..])));
    if digits.matches('.').count() > 1 {
        return name(length);
    }
    let attached = ATTACHED.find(&rest[length..]).map_or("", |found| found.as_str());
    if !attached.is_empty()
        && let Some(seconds) = clocked(&rest[head..length + attached.len()])
    {
        let quantity = Quantity { size: Size::Value(seconds), unit: "s".to_owned() };
        return Some((Some(quantity), length + attached.len()));
    }
    let mut quantity = Quantity { size: size(digits), unit: currency.map(String::from).unwrap_or_default() };
    if !attached.is_empty() {
        let Some((kind, factor)) = unit(attached) else { return name(length + attached.len()) };
        quantity = quantity.scaled(kind, factor);
        length += attached.len();
    } else if let Some(found) = APART.captures(&rest[length..])
        && let Some((kind, factor)) = unit(&found[1])
    {
        quantity = quantity.scaled(kind, factor);
        length += found[0].len();
    } else if rest[length..].starts_with(['-', '/', '_']) && goes_on(&rest[length + 1..]) {
        return name(length);
    }
    let (quantity, further) = with_rate(quantity, &rest[length..]);
    Some((Some(quantity), length + further))
}

/// `/s`, `per minute` behind a number, and its length.
fn with_rate(quantity: Quantity, rest: &str) -> (Quantity, usize) {
    let found = RATE.captures(rest).and_then(|found| found.get(1));
    let Some((time, (kind, factor))) = found.and_then(|time| Some((time, unit(time.as_str())?))) else {
        return (quantity, 0);
    };
    let mut rate = quantity.scaled("", 1.0 / factor);
    rate.unit = format!("{}/{kind}", rate.unit);
    (rate, time.end())
}

/// Whether a name goes on behind digits, as in `2-phase`; `5-10` and `3/s` are none.
fn goes_on(rest: &str) -> bool {
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
    word.starts_with(char::is_alphabetic) && unit(&word).is_none()
}

/// How far it goes on, in bytes.
fn tail(rest: &str) -> usize {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || "_-./:".contains(c))).unwrap_or(rest.len());
    rest[..end].trim_end_matches(['-', '.', '/', ':', '_']).len()
}

fn size(digits: &str) -> Size {
    let plain: String =
        digits.chars().filter(|c| !matches!(c, ',' | '_' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '+')).collect();
    let plain = plain.replace('−', "-");
    let count = plain.chars().filter(char::is_ascii_digit).count();
    match plain.parse::<f64>() {
        Ok(value) if count <= EXACT_DIGITS_MAX && value.is_finite() => Size::Value(value),
        _ => Size::Text(plain),
    }
}

fn unit(word: &str) -> Option<(&'static str, f64)> {
    let units = &settings::shipped().units;
    let found = units.get(word).or_else(|| {
        let long = word.chars().count() > 2;
        units.get(&word.to_lowercase()).filter(|_| long)
    });
    found.map(|(kind, factor)| (kind.as_str(), *factor))
}

fn clocked(run: &str) -> Option<f64> {
    let seconds = |part: regex::Captures<'_>| {
        part[1].parse::<f64>().unwrap_or(0.0) * unit(&part[2]).map_or(1.0, |(_, factor)| factor)
    };
    CLOCKED.is_match(run).then(|| CLOCK_PART.captures_iter(run).map(seconds).sum())
}

/// Puts together what several tokens say: a number word takes the unit behind it, `3 h 22 min` is one duration, and in
/// `5 to 10 min` both are minutes.
pub(crate) fn join<'a>(tokens: Vec<Token<'a>>, text: &'a str) -> Vec<Token<'a>> {
    let mut joined: Vec<Token<'a>> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let one = joined.last().and_then(|last| counted(last, &token, text).or_else(|| summed(last, &token, text)));
        match (one, joined.last_mut()) {
            (Some(quantity), Some(last)) => {
                *last = Token {
                    kind: TokenKind::Number(quantity),
                    text: &text[last.start..token.end()],
                    start: last.start,
                };
            }
            _ => joined.push(token),
        }
    }
    for place in (1..joined.len()).rev() {
        let (first, second) = (&joined[place - 1], &joined[place]);
        let (TokenKind::Number(low), TokenKind::Number(high)) = (&first.kind, &second.kind) else { continue };
        let shared = low.unit.is_empty() && !["", "stamp"].contains(&high.unit.as_str());
        if shared && LINK.is_match(&text[first.end()..second.start]) {
            let low = low.clone().scaled(&high.unit, factor_of(second.text));
            joined[place - 1].kind = TokenKind::Number(low);
        }
    }
    joined
}

/// `five minutes`, `one hour`.
fn counted(first: &Token<'_>, second: &Token<'_>, text: &str) -> Option<Quantity> {
    let number = match &first.kind {
        TokenKind::Number(quantity) if quantity.unit.is_empty() && first.text.starts_with(char::is_alphabetic) => {
            quantity.clone()
        }
        TokenKind::Word if first.lower() == "one" => Quantity { size: Size::Value(1.0), unit: String::new() },
        _ => return None,
    };
    let (kind, factor) = unit(&second.lower()).filter(|_| second.kind == TokenKind::Word)?;
    let between = &text[first.end()..second.start];
    (between == "-" || are_beside(between)).then(|| number.scaled(kind, factor))
}

/// `3 h 22 min`.
fn summed(first: &Token<'_>, second: &Token<'_>, text: &str) -> Option<Quantity> {
    let (TokenKind::Number(large), TokenKind::Number(small)) = (&first.kind, &second.kind) else { return None };
    let (Size::Value(a), Size::Value(b)) = (&large.size, &small.size) else { return None };
    let durations = large.unit == "s" && small.unit == "s" && are_beside(&text[first.end()..second.start]);
    let falls = factor_of(second.text) < factor_of(first.text);
    (durations && falls).then(|| Quantity { size: Size::Value(a + b), unit: "s".to_owned() })
}

fn are_beside(between: &str) -> bool {
    !between.is_empty() && between.trim().is_empty() && between.matches('\n').count() < 2
}

/// What one of the last unit that a number is written with is.
fn factor_of(text: &str) -> f64 {
    let before_rate = text.split('/').next().unwrap_or(text);
    let word = before_rate.rsplit(|c: char| c.is_whitespace() || c.is_ascii_digit() || c == '-').next();
    word.and_then(unit).map_or(1.0, |(_, factor)| factor)
}

#[cfg(test)]
mod tests {
    use crate::facts::{FactKind, facts};

    fn numbers(text: &str) -> Vec<String> {
        facts(text).into_iter().filter(|fact| fact.kind == FactKind::Number).map(|fact| fact.canonical).collect()
    }

    #[test]
    fn what_is_the_same_looks_the_same() {
        for (one, other) in [
            ("5 min", "300 s"),
            ("5m", "five minutes"),
            ("5-minute", "5 minutes"),
            ("3 h 22 min", "202 min"),
            ("1h30m", "90 minutes"),
            ("one hour", "60 min"),
            ("1,000", "1000"),
            ("1\u{202f}000 ms", "1 s"),
            ("99.50 %", "99.5 percent"),
            ("2 GiB", "2Gi"),
            ("14/s", "14 per second"),
            ("5–10 min", "5 minutes to 600 s"),
            ("2\n   min", "2 min"),
            ("10 thousand", "10000"),
            ("−5", "-5"),
        ] {
            assert_eq!(numbers(one), numbers(other), "{one} and {other}");
            assert!(!numbers(one).is_empty(), "{one}");
        }
    }

    #[test]
    fn what_differs_looks_different() {
        for (one, other) in [
            ("5 min", "5 h"),
            ("5 %", "5"),
            ("1 GiB", "1 GB"),
            ("3 h 22 min", "3 h 23 min"),
            ("12345678901234567890", "12345678901234567891"),
            ("14/s", "14/min"),
            ("-5", "5"),
            ("19:22", "19:23"),
            ("2026-11-14", "2026-11-15"),
            ("5", "5.1"),
        ] {
            assert_ne!(numbers(one), numbers(other), "{one} and {other}");
        }
    }

    #[test]
    fn names_with_digits_are_no_numbers() {
        for text in ["5xx", "1.2.3", "3rd", "10.0.0.1", "2-phase", "p99", "k8s"] {
            assert!(numbers(text).is_empty(), "{text}: {:?}", numbers(text));
        }
    }
}
