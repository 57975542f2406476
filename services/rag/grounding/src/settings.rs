//! Thresholds and word lists, read from the cited data file of the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

const FILE: &str = include_str!("../data/grounding.toml");

static SHIPPED: LazyLock<Settings> =
    LazyLock::new(|| Settings::parse(FILE).expect("grounding.toml is checked by a test"));

/// Everything in `data/grounding.toml`.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) checks: Checks,
    pub(crate) rephrasing: Rephrasing,
    pub(crate) choice: Choice,
    pub(crate) function_words: BTreeSet<String>,
    /// Words that turn a statement round, with how.
    pub(crate) polarity: BTreeMap<String, Polarity>,
    pub(crate) openers: Vec<String>,
    pub(crate) short_forms: BTreeSet<String>,
    pub(crate) pointing_back: BTreeSet<String>,
    /// Words with an opposite: which pair, and which side of it.
    pub(crate) sides: BTreeMap<String, (usize, bool)>,
    pub(crate) intents: Vec<Intent>,
    /// Units by name: their kind, and what one is in the first of it.
    pub(crate) units: BTreeMap<String, (String, f64)>,
    pub(crate) number_words: BTreeMap<String, f64>,
}

/// How a word turns a statement round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Polarity {
    Not,
    Except,
    Only,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checks {
    pub(crate) coverage_min: f64,
    pub(crate) clause_coverage_min: f64,
    pub(crate) clause_words_min: usize,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rephrasing {
    pub(crate) kept_min: f64,
    pub(crate) length_max: f64,
    pub(crate) length_min: f64,
    pub(crate) length_slack_chars: usize,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    pub(crate) question_weight: f64,
    pub(crate) heading_weight: f64,
    pub(crate) title_weight: f64,
    pub(crate) passage_weight: f64,
    pub(crate) passage_decay: f64,
    pub(crate) intent_weight: f64,
    pub(crate) other_intent_weight: f64,
    pub(crate) pointing_back_weight: f64,
    pub(crate) quote_share: f64,
    pub(crate) relative_min: f64,
    pub(crate) document_decay: f64,
    pub(crate) same_share: f64,
    pub(crate) item_chars_max: usize,
    pub(crate) quote_lines_max: usize,
}

/// What a section may be about, and a question ask.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) name: String,
    pub(crate) headings: BTreeSet<String>,
    pub(crate) question: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    checks: Checks,
    rephrasing: Rephrasing,
    choice: Choice,
    words: Words,
    opposites: Vec<Opposites>,
    intents: Vec<IntentWords>,
    units: BTreeMap<String, BTreeMap<String, f64>>,
    number_words: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    function: String,
    not: String,
    except: String,
    only: String,
    openers: Vec<String>,
    short_forms: String,
    pointing_back: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opposites {
    one: String,
    other: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentWords {
    name: String,
    headings: String,
    question: String,
}

/// The settings that the crate ships.
pub(crate) fn shipped() -> &'static Settings {
    &SHIPPED
}

impl Settings {
    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let Words { function, not, except, only, openers, short_forms, pointing_back } = file.words;
        let mut polarity = BTreeMap::new();
        for (list, kind) in [(&not, Polarity::Not), (&except, Polarity::Except), (&only, Polarity::Only)] {
            polarity.extend(list.split_whitespace().map(|word| (word.to_owned(), kind)));
        }
        let mut sides = BTreeMap::new();
        for (pair, Opposites { one, other }) in file.opposites.iter().enumerate() {
            for (list, side) in [(one, false), (other, true)] {
                for word in list.split_whitespace() {
                    if sides.insert(word.to_owned(), (pair, side)).is_some() {
                        return Err(format!("opposites: `{word}` stands twice"));
                    }
                }
            }
        }
        let mut units = BTreeMap::new();
        for (kind, names) in &file.units {
            for (name, factor) in names {
                if !factor.is_finite()
                    || *factor <= 0.0
                    || units.insert(name.clone(), (kind.clone(), *factor)).is_some()
                {
                    return Err(format!("units: `{name}` needs one kind and a factor above 0"));
                }
            }
        }
        let intent = |words: IntentWords| Intent {
            name: words.name,
            headings: set(&words.headings),
            question: set(&words.question),
        };
        let settings = Self {
            checks: file.checks,
            rephrasing: file.rephrasing,
            choice: file.choice,
            function_words: set(&function),
            polarity,
            openers,
            short_forms: set(&short_forms),
            pointing_back: set(&pointing_back),
            sides,
            intents: file.intents.into_iter().map(intent).collect(),
            units,
            number_words: file.number_words,
        };
        settings.check().map(|()| settings)
    }

    fn check(&self) -> Result<(), String> {
        let choice = &self.choice;
        let shares = [
            ("checks.coverage_min", self.checks.coverage_min),
            ("checks.clause_coverage_min", self.checks.clause_coverage_min),
            ("rephrasing.kept_min", self.rephrasing.kept_min),
            ("rephrasing.length_min", self.rephrasing.length_min),
            ("choice.passage_decay", choice.passage_decay),
            ("choice.quote_share", choice.quote_share),
            ("choice.relative_min", choice.relative_min),
            ("choice.document_decay", choice.document_decay),
            ("choice.same_share", choice.same_share),
        ];
        if let Some((name, share)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return Err(format!("{name}: {share} is outside [0, 1]"));
        }
        let weights = [
            ("question_weight", choice.question_weight),
            ("heading_weight", choice.heading_weight),
            ("title_weight", choice.title_weight),
            ("passage_weight", choice.passage_weight),
            ("intent_weight", choice.intent_weight),
            ("other_intent_weight", choice.other_intent_weight),
            ("pointing_back_weight", choice.pointing_back_weight),
        ];
        if let Some((name, _)) = weights.iter().find(|(_, weight)| !weight.is_finite() || *weight < 0.0) {
            return Err(format!("choice.{name} must be at least 0"));
        }
        if !(1.0..=4.0).contains(&self.rephrasing.length_max) {
            return Err("rephrasing.length_max must be in [1, 4]".to_owned());
        }
        Ok(())
    }
}

fn set(list: &str) -> BTreeSet<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_valid() {
        let settings = Settings::parse(FILE).expect("valid");
        assert_eq!(settings.polarity["without"], Polarity::Not);
        assert_ne!(settings.sides["before"].1, settings.sides["after"].1);
        assert!(settings.openers.iter().all(|opener| *opener == opener.to_lowercase()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (from, to, named) in [
            ("coverage_min = 0.6", "coverage_min = 1.6", "checks.coverage_min"),
            ("question_weight = 1.0", "question_weight = -1.0", "choice.question_weight"),
            ("other = \"down\"", "other = \"off\"", "`off` stands twice"),
            ("[choice]", "[choices]", "choices"),
        ] {
            let error = Settings::parse(&FILE.replacen(from, to, 1)).expect_err(named);
            assert!(error.contains(named), "{error}");
        }
    }
}
