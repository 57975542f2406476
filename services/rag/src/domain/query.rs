//! A question read once: what to embed, which terms to look for, what it names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use attain_vocabulary::{EntityId, InvalidValue};
use regex::Regex;
use serde::Deserialize;

use super::settings::Settings;
use super::terms::{Frequencies, TermId, Weights, term_id};
use super::{names, tokens};

/// Longest question, in characters.
pub(crate) const QUESTION_CHARS_MAX: usize = 2000;
const SYNONYMS: &str = include_str!("../../data/synonyms.toml");
/// A synonym of several words is spread over them.
const PHRASE_DISCOUNT: f64 = 1.5;

static ABOUT_OBJECTIVES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:slos?|slas?|slis?|objectives?|targets?|promises?|error budget|openslo|service level)\b")
        .expect("a valid pattern")
});
static EXCLUSION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i),\s*(?:and |but )?not\s+[\w\-/ ]+$").expect("a valid pattern"));
static SYNONYM_GROUPS: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        groups: Vec<Vec<String>>,
    }
    toml::from_str::<File>(SYNONYMS).expect("synonyms.toml is checked by a test").groups
});

/// A question as the index and the model are asked it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    /// What is embedded: identifiers written as words.
    pub(crate) sentence: String,
    /// Terms with their weight before IDF: how often they occur, less for synonyms.
    terms: BTreeMap<TermId, f64>,
    /// The words as the sender wrote them.
    pub(crate) words: Vec<Word>,
    /// Names that a document may have.
    pub(crate) names: BTreeSet<String>,
    /// Whether it asks about objectives.
    pub(crate) about_objectives: bool,
}

/// A word of the question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    /// As a term.
    pub(crate) term: TermId,
    /// In lower case, before stemming.
    pub(crate) plain: String,
    /// 1 for a word with inner capitals or a capital inside the question, 1/2 for a capital at its very start, else 0.
    pub(crate) capital: f64,
}

impl Question {
    /// Reads a question of 1 to 2000 characters.
    pub(crate) fn new(text: &str, settings: &Settings) -> Result<Self, InvalidValue> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars == 0 {
            return Err(InvalidValue::new("query", "required", "a question of 1 to 2000 characters is required"));
        }
        if chars > QUESTION_CHARS_MAX {
            let reason = format!("{chars} characters; a question has at most {QUESTION_CHARS_MAX}");
            return Err(InvalidValue::new("query", "too_long", reason));
        }
        let asked = EXCLUSION.find(text).map_or(text, |found| &text[..found.start()]);
        Ok(Self {
            sentence: sentence(asked),
            terms: terms(asked, settings),
            words: words(asked),
            names: names::in_question(asked),
            about_objectives: ABOUT_OBJECTIVES.is_match(asked),
        })
    }

    /// Every term that is looked for, synonyms included.
    pub(crate) fn term_ids(&self) -> BTreeSet<TermId> {
        self.terms.keys().copied().chain(self.words.iter().map(|word| word.term)).collect()
    }

    /// The sparse vector to search with: weight times IDF, of the terms that any document holds.
    pub(crate) fn weights(&self, frequencies: &Frequencies) -> Weights {
        let known = self.terms.iter().filter(|(term, _)| frequencies.knows(**term));
        known.map(|(term, weight)| (*term, (weight * frequencies.idf(*term)) as f32)).collect()
    }

    /// Which of these services the question names in full.
    pub(crate) fn names_service(&self, service: &EntityId) -> bool {
        let spoken = tokens::spaced(service.as_str()).to_lowercase().replace(' ', "");
        self.names.contains(&spoken)
    }
}

/// The text with identifiers written as words, which is how the model was taught to read.
fn sentence(text: &str) -> String {
    let written = text
        .split_whitespace()
        .map(|word| if tokens::is_identifier(word) { tokens::spaced(word) } else { word.to_owned() });
    written.collect::<Vec<_>>().join(" ")
}

fn terms(text: &str, settings: &Settings) -> BTreeMap<TermId, f64> {
    let tokens = settings.reading.tokens();
    let mut terms: BTreeMap<TermId, f64> = BTreeMap::new();
    for term in tokens(text) {
        *terms.entry(term_id(&term)).or_default() += 1.0;
    }
    let mut added: BTreeMap<TermId, f64> = BTreeMap::new();
    for (phrase, discount) in synonyms(text) {
        for term in tokens(phrase).iter().map(|term| term_id(term)) {
            let weight = added.entry(term).or_default();
            *weight = weight.max(settings.synonym_weight / discount);
        }
    }
    for (term, weight) in added.into_iter().filter(|(_, weight)| *weight > 0.0) {
        terms.entry(term).or_insert(weight);
    }
    terms
}

/// Other words for what the question says, each with how much it is discounted.
fn synonyms(text: &str) -> Vec<(&'static str, f64)> {
    let spoken: String = text.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let spoken = format!(" {} ", spoken.split_whitespace().collect::<Vec<_>>().join(" "));
    let says = |phrase: &str| spoken.contains(&format!(" {phrase} ")) || spoken.contains(&format!(" {phrase}s "));
    let mut found = Vec::new();
    for group in SYNONYM_GROUPS.iter().filter(|group| group.iter().any(|phrase| says(phrase))) {
        let others = group.iter().filter(|phrase| !says(phrase));
        found.extend(others.map(|phrase| (phrase.as_str(), if phrase.contains(' ') { PHRASE_DISCOUNT } else { 1.0 })));
    }
    found
}

fn words(text: &str) -> Vec<Word> {
    let mut by_term: BTreeMap<TermId, Word> = BTreeMap::new();
    for (start, word) in tokens::words(text) {
        let capital = capital(start, word);
        for (term, plain) in tokens::part_terms(word).into_iter().chain(tokens::compound(word)) {
            let term = term_id(&term);
            let entry = by_term.entry(term).or_insert(Word { term, plain, capital });
            entry.capital = entry.capital.max(capital);
        }
    }
    by_term.into_values().collect()
}

fn capital(start: usize, word: &str) -> f64 {
    let mut chars = word.chars();
    let first = chars.next().is_some_and(char::is_uppercase);
    match (first, chars.any(char::is_uppercase)) {
        (_, true) => 1.0,
        (true, false) if start > 0 => 1.0,
        (true, false) => 0.5,
        (false, false) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::shipped().expect("valid")
    }

    fn question(text: &str) -> Question {
        Question::new(text, &settings()).expect("valid")
    }

    #[test]
    fn too_short_and_too_long_are_refused() {
        for (text, code) in [("", "required"), ("  ", "required"), (&*"x".repeat(2001), "too_long")] {
            assert_eq!(Question::new(text, &settings()).expect_err(code).code, code);
        }
        assert!(Question::new(&"ж".repeat(2000), &settings()).is_ok());
    }

    #[test]
    fn the_model_is_asked_in_words() {
        assert_eq!(
            question("PaymentProviderErrorRateHigh on eu-west").sentence,
            "Payment Provider Error Rate High on eu-west"
        );
        assert_eq!(question("node not ready, not the kubelet").sentence, "node not ready");
    }

    #[test]
    fn synonyms_count_less_than_the_words() {
        let asked = question("database is slow");
        assert_eq!(asked.terms.get(&term_id("databas")), Some(&1.0));
        assert_eq!(asked.terms.get(&term_id("db")), Some(&0.2));
        assert_eq!(asked.terms.get(&term_id("p99")), Some(&0.2));
        assert!(!question("database").terms.contains_key(&term_id("p99")));
    }

    #[test]
    fn capitals_are_seen() {
        let asked = question("Why does MongoDB elect Kafka");
        let capital = |plain: &str| asked.words.iter().find(|w| w.plain == plain).map(|w| w.capital);
        assert_eq!(capital("mongo"), Some(1.0));
        assert_eq!(capital("kafka"), Some(1.0));
        assert_eq!(capital("elect"), Some(0.0));
        assert!(question("which target can it promise").about_objectives && !question("slow").about_objectives);
    }

    #[test]
    fn a_service_is_named_in_full() {
        let service = |id: &str| EntityId::new("id", id).expect("valid");
        let asked = question("what can checkout-service promise with the external payment api");
        assert!(
            asked.names_service(&service("checkout-service")) && asked.names_service(&service("external-payment-api"))
        );
        assert!(!asked.names_service(&service("payment-service")));
    }

    #[test]
    fn the_synonyms_file_is_valid() {
        assert!(
            SYNONYM_GROUPS
                .iter()
                .all(|group| group.len() > 1 && group.iter().all(|phrase| *phrase == phrase.to_lowercase()))
        );
    }
}
