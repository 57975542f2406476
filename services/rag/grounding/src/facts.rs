//! What a text states that can be compared: numbers with units, names, negation, words with an opposite, and content words.

use rust_stemmers::{Algorithm, Stemmer};

use crate::readable::readable;
use crate::settings::{self, Polarity};
use crate::tokens::{Token, TokenKind, tokens};

/// Words that begin a clause of their own.
const JOINERS: [&str; 5] = ["but", "while", "whereas", "then", "because"];

/// A number or a name, where it stands in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Which of them.
    pub kind: FactKind,
    /// The one form of it; equal for equal facts only.
    pub canonical: String,
    /// As it is written.
    pub text: String,
    /// Where it starts in the text, in bytes.
    pub start: usize,
}

/// What a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactKind {
    /// A number with its unit, a date or a time of day.
    Number,
    /// A name: of a service, metric, alert, path, flag, version or product.
    Identifier,
}

/// The numbers and names of a text in order.
pub fn facts(text: &str) -> Vec<Fact> {
    let fact = |token: Token<'_>| {
        let (kind, canonical) = match &token.kind {
            TokenKind::Number(quantity) => (FactKind::Number, quantity.canonical()),
            TokenKind::Identifier => (FactKind::Identifier, token.lower()),
            TokenKind::Word | TokenKind::Boundary => return None,
        };
        Some(Fact { kind, canonical, text: token.text.to_owned(), start: token.start })
    };
    tokens(text).into_iter().filter_map(fact).collect()
}

/// The content words of a text in order, stemmed (Snowball, English); names give their parts. Numbers and function words are left out.
pub fn stems(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    tokens(text).iter().flat_map(|token| content(token, &stemmer)).collect()
}

/// A text read once for comparison.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) numbers: Vec<Mention>,
    /// Names, and words that may be one: with a capital where a sentence begins.
    pub(crate) names: Vec<Mention>,
    /// Every word and name in lower case, in order: where a name may be found.
    pub(crate) words: Vec<String>,
    /// Words with an opposite: pair and side.
    pub(crate) sides: Vec<(Mention, (usize, bool))>,
    pub(crate) clauses: Vec<Clause>,
}

/// What was said, in its one form and as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) canonical: String,
    pub(crate) text: String,
}

/// A part of a sentence between marks of punctuation.
#[derive(Debug, Default, Clone)]
pub(crate) struct Clause {
    pub(crate) stems: Vec<String>,
    pub(crate) polarity: Vec<(Polarity, String)>,
}

impl Reading {
    /// Reads a text. Names and numbers are those of the text as it is written, also in the targets of links; negation is that of the text
    /// as it is read.
    pub(crate) fn of(text: &str) -> Self {
        let settings = settings::shipped();
        let mut reading =
            Self { numbers: Vec::new(), names: Vec::new(), words: Vec::new(), sides: Vec::new(), clauses: Vec::new() };
        for token in tokens(text) {
            let lower = token.lower();
            match &token.kind {
                TokenKind::Number(quantity) => {
                    reading.numbers.push(Mention { canonical: quantity.canonical(), text: token.text.to_owned() });
                }
                TokenKind::Identifier => {
                    reading.names.push(Mention { canonical: lower.clone(), text: token.text.to_owned() });
                    reading.words.push(lower);
                }
                TokenKind::Word => {
                    if token.begins_with_capital() {
                        reading.names.push(Mention { canonical: lower.clone(), text: token.text.to_owned() });
                    }
                    if let Some(side) = settings.sides.get(&lower) {
                        let mention = Mention { canonical: lower.clone(), text: token.text.to_owned() };
                        reading.sides.push((mention, *side));
                    }
                    reading.words.push(lower);
                }
                TokenKind::Boundary => {}
            }
        }
        reading.clauses = clauses(&readable(text));
        reading
    }

    /// Every negation, exception and limitation in order.
    pub(crate) fn polarity(&self) -> impl Iterator<Item = &(Polarity, String)> {
        self.clauses.iter().flat_map(|clause| &clause.polarity)
    }
}

fn clauses(text: &str) -> Vec<Clause> {
    let settings = settings::shipped();
    let stemmer = Stemmer::create(Algorithm::English);
    let mut clauses = vec![Clause::default()];
    for token in tokens(text) {
        let lower = token.lower();
        let begins = token.kind == TokenKind::Boundary || JOINERS.contains(&lower.as_str());
        if begins && clauses.last().is_some_and(|clause| !clause.is_empty()) {
            clauses.push(Clause::default());
        }
        let Some(clause) = clauses.last_mut() else { continue };
        if token.kind == TokenKind::Word {
            let turned = settings.polarity.get(&lower).copied();
            let turned = turned.or_else(|| (lower.ends_with("n't")).then_some(Polarity::Not));
            clause.polarity.extend(turned.map(|polarity| (polarity, token.text.to_owned())));
        }
        clause.stems.extend(content(&token, &stemmer));
    }
    clauses.retain(|clause| !clause.is_empty());
    clauses
}

impl Clause {
    fn is_empty(&self) -> bool {
        self.stems.is_empty() && self.polarity.is_empty()
    }
}

/// The content words of a token: parts of a name, or the word itself.
fn content(token: &Token<'_>, stemmer: &Stemmer) -> Vec<String> {
    let settings = settings::shipped();
    let is_content = |part: &String| {
        part.chars().count() > 1 && !settings.function_words.contains(part) && !settings.polarity.contains_key(part)
    };
    match token.kind {
        TokenKind::Word => {
            let lower = token.lower();
            let word = lower.split('\'').next().unwrap_or_default().to_owned();
            let turned = lower.ends_with("n't");
            Some(word).filter(|word| is_content(word) && !turned).map(|word| stem(stemmer, &word)).into_iter().collect()
        }
        TokenKind::Identifier => {
            parts(token.text).into_iter().filter(is_content).map(|part| stem(stemmer, &part)).collect()
        }
        TokenKind::Number(_) | TokenKind::Boundary => Vec::new(),
    }
}

fn stem(stemmer: &Stemmer, word: &str) -> String {
    stemmer.stem(word).into_owned()
}

/// The parts of a name in lower case: cut at marks and where a capital follows a small letter.
fn parts(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = vec![String::new()];
    let mut before: Option<char> = None;
    let chars: Vec<char> = name.chars().collect();
    for (place, c) in chars.iter().enumerate() {
        let next_is_small = chars.get(place + 1).is_some_and(|next| next.is_lowercase());
        let hump = before.is_some_and(|before| {
            (before.is_lowercase() && c.is_uppercase()) || (before.is_uppercase() && c.is_uppercase() && next_is_small)
        });
        if !c.is_alphanumeric() || hump {
            parts.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(part) = parts.last_mut()
        {
            part.extend(c.to_lowercase());
        }
        before = Some(*c);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_words_are_stems_and_parts_of_names() {
        assert_eq!(stems("Restart the pods of payment-service"), ["restart", "pod", "payment", "servic"]);
        assert_eq!(stems("`PaymentProviderDown` isn't 5 min"), ["payment", "provid", "down"]);
        assert_eq!(parts("HTTPServerErrors_total/5xx"), ["http", "server", "errors", "total", "5xx"]);
    }

    #[test]
    fn negation_is_seen_in_every_dress() {
        let polarity = |text: &str| -> Vec<Polarity> { Reading::of(text).polarity().map(|(kind, _)| *kind).collect() };
        assert_eq!(polarity("Don't wait. It cannot, and never will"), [Polarity::Not; 3]);
        assert_eq!(polarity("do NOT restart unless told"), [Polarity::Not, Polarity::Except]);
        assert_eq!(polarity("only with no load; use `--no-headers`"), [Polarity::Only, Polarity::Not]);
        assert_eq!(polarity("see [why](https://x.example/not/only)"), []);
    }
}
