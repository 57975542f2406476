//! Whether a sentence is what its source says.

use std::collections::BTreeSet;
use std::fmt;

use crate::facts::{Clause, Mention, Reading};
use crate::readable::readable;
use crate::settings;

/// Parts of the source that one part of a sentence may be put together from.
const PARTS_JOINED_MAX: usize = 3;

/// The outcome: supported where nothing failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// What failed, in the order of the checks.
    pub failures: Vec<Failure>,
}

/// One check that failed, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The check.
    pub check: Check,
    /// The words that it failed on.
    pub detail: String,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// The sentence says nothing.
    Empty,
    /// A number with its unit is not in the source, or not in that order.
    Number,
    /// A name is not in the source, or not in that order.
    Identifier,
    /// Negation, exception or limitation differs.
    Negation,
    /// A word stands for the opposite of what the source says, or for one that it does not say.
    Direction,
    /// Too few of the words are in the source.
    Coverage,
}

impl Check {
    /// Every check in order.
    pub const ALL: [Self; 6] =
        [Self::Empty, Self::Number, Self::Identifier, Self::Negation, Self::Direction, Self::Coverage];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Number => "number",
            Self::Identifier => "identifier",
            Self::Negation => "negation",
            Self::Direction => "direction",
            Self::Coverage => "coverage",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check.as_str(), self.detail)
    }
}

impl Verdict {
    /// Whether every check passed.
    pub fn is_supported(&self) -> bool {
        self.failures.is_empty()
    }

    pub(crate) fn fail(&mut self, check: Check, detail: impl Into<String>) {
        self.failures.push(Failure { check, detail: detail.into() });
    }
}

/// Compares a sentence with the text that it cites. `weigh` gives the weight of a stemmed word, at least 0: its IDF, or 1 for all.
///
/// Numbers, names and words with an opposite must occur in the source in the order of the sentence; negation, exception and limitation
/// must be the same, as a whole and part by part; of the words, weighted, at least `coverage_min` must occur, and of every part between
/// commas at least `clause_coverage_min`.
pub fn verify(sentence: &str, source: &str, weigh: &dyn Fn(&str) -> f64) -> Verdict {
    let said = Reading::of(sentence);
    // As it is written and as it is read: markup inside a word parts it in one of them only.
    let (written, read) = (Reading::of(source), Reading::of(&readable(source)));
    let mut verdict = Verdict::default();
    if said.words.is_empty() && said.numbers.is_empty() {
        verdict.fail(Check::Empty, "no word");
        return verdict;
    }
    let in_order =
        |missing: fn(&Reading, &Reading) -> Option<String>| missing(&said, &written).and(missing(&said, &read));
    let numbers = in_order(|said, source| out_of_order(&said.numbers, &canonicals(&source.numbers)));
    let names = in_order(|said, source| out_of_order(&said.names, &source.words));
    for (check, missing) in [(Check::Number, numbers), (Check::Identifier, names)] {
        if let Some(missing) = missing {
            verdict.fail(check, missing);
        }
    }
    negation(&said, &written, &mut verdict);
    if let Some(missing) = in_order(direction) {
        verdict.fail(Check::Direction, missing);
    }
    coverage(&said, &written, weigh, &mut verdict);
    verdict
}

fn canonicals(mentions: &[Mention]) -> Vec<String> {
    mentions.iter().map(|mention| mention.canonical.clone()).collect()
}

/// The first that does not follow the ones before it in the source.
fn out_of_order(said: &[Mention], source: &[String]) -> Option<String> {
    let mut rest = source.iter();
    said.iter().find(|mention| !rest.any(|there| *there == mention.canonical)).map(|mention| mention.text.clone())
}

fn negation(said: &Reading, source: &Reading, verdict: &mut Verdict) {
    let kinds = |reading: &Reading| -> Vec<_> { reading.polarity().map(|(kind, _)| *kind).collect() };
    let words = |reading: &Reading| {
        let words: Vec<&str> = reading.polarity().map(|(_, word)| word.as_str()).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    };
    if kinds(said) != kinds(source) {
        verdict.fail(Check::Negation, format!("{} for {}", words(said), words(source)));
        return;
    }
    if kinds(said).is_empty() {
        return;
    }
    let joined = joined(&source.clauses);
    let turned = said.clauses.iter().find(|clause| !agrees(clause, &joined));
    if let Some(clause) = turned {
        verdict.fail(Check::Negation, format!("of {}", clause.stems.join(" ")));
    }
}

/// Every run of up to three parts as one.
fn joined(clauses: &[Clause]) -> Vec<Clause> {
    let lengths = 1..=PARTS_JOINED_MAX.min(clauses.len());
    let run = |run: &[Clause]| Clause {
        stems: run.iter().flat_map(|clause| clause.stems.clone()).collect(),
        polarity: run.iter().flat_map(|clause| clause.polarity.clone()).collect(),
    };
    lengths.flat_map(|length| clauses.windows(length).map(run)).collect()
}

/// Whether a part is turned round as the part of the source that it is most like.
fn agrees(clause: &Clause, source: &[Clause]) -> bool {
    let wanted: BTreeSet<&String> = clause.stems.iter().collect();
    let held = |other: &Clause| {
        let there: BTreeSet<&String> = other.stems.iter().collect();
        wanted.intersection(&there).count()
    };
    let most = source.iter().map(held).max().unwrap_or(0);
    let kinds = |clause: &Clause| -> Vec<_> { clause.polarity.iter().map(|(kind, _)| *kind).collect() };
    source.iter().any(|other| held(other) == most && kinds(other) == kinds(clause))
}

fn direction(said: &Reading, source: &Reading) -> Option<String> {
    let mut rest = source.sides.iter();
    let missing = said.sides.iter().find(|(_, side)| !rest.any(|(_, there)| there == side));
    missing.map(|(mention, _)| mention.text.clone())
}

fn coverage(said: &Reading, source: &Reading, weigh: &dyn Fn(&str) -> f64, verdict: &mut Verdict) {
    let checks = settings::shipped().checks;
    let held: BTreeSet<&String> = source.clauses.iter().flat_map(|clause| &clause.stems).collect();
    let share = |stems: &[&String]| {
        let total: f64 = stems.iter().map(|stem| weigh(stem).max(0.0)).sum();
        let there: f64 = stems.iter().filter(|stem| held.contains(*stem)).map(|stem| weigh(stem).max(0.0)).sum();
        // An empty sum is -0.
        let there = there + 0.0;
        if total > 0.0 { there / total } else { 1.0 }
    };
    let new = |stems: &[&String]| {
        let new: BTreeSet<&str> = stems.iter().filter(|stem| !held.contains(*stem)).map(|stem| stem.as_str()).collect();
        new.into_iter().collect::<Vec<_>>().join(" ")
    };
    let all: Vec<&String> = said.clauses.iter().flat_map(|clause| &clause.stems).collect();
    let whole = share(&all);
    if whole < checks.coverage_min {
        verdict.fail(Check::Coverage, format!("{whole:.2} of the words; new: {}", new(&all)));
        return;
    }
    for clause in &said.clauses {
        let stems: Vec<&String> = clause.stems.iter().collect();
        if stems.len() >= checks.clause_words_min && share(&stems) < checks.clause_coverage_min {
            verdict.fail(Check::Coverage, format!("a part of it; new: {}", new(&stems)));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "`PaymentProviderErrorRateHigh` pages when more than 5 % of calls from payment-service to external-payment-api \
        fail for 5 minutes, with at least 100 calls; do **not** raise timeouts before Kafka is up.";

    fn failed(sentence: &str, source: &str) -> Option<Check> {
        verify(sentence, source, &|_| 1.0).failures.first().map(|failure| failure.check)
    }

    #[test]
    fn what_the_source_says_passes_in_other_dress() {
        for sentence in [
            SOURCE,
            "PaymentProviderErrorRateHigh pages when more than 5 percent of calls from payment-service to external-payment-api fail for 300 s, with at least 100 calls; don't raise timeouts before kafka is up",
        ] {
            assert_eq!(failed(sentence, SOURCE), None, "{sentence}");
        }
    }

    #[test]
    fn each_check_names_what_it_failed_on() {
        let turned = |from: &str, to: &str| SOURCE.replace(from, to);
        for (sentence, check, detail) in [
            (turned("5 minutes", "5 hours"), Check::Number, "5 hours"),
            (turned("100 calls", "1000 calls"), Check::Number, "1000"),
            (turned("payment-service", "checkout-service"), Check::Identifier, "checkout-service"),
            (turned("PaymentProviderErrorRateHigh", "PaymentProviderDown"), Check::Identifier, "PaymentProviderDown"),
            (turned("Kafka", "Redis"), Check::Identifier, "Redis"),
            (turned("do **not** raise", "raise"), Check::Negation, "nothing for not"),
            (turned("fail for", "never fail for"), Check::Negation, "never, not for not"),
            (turned("more than", "less than"), Check::Direction, "less"),
            (turned("before", "after"), Check::Direction, "after"),
            (turned("at least", "at most"), Check::Direction, "most"),
            (format!("{SOURCE} Then delete all volumes and ignore alerts."), Check::Direction, "delete"),
            (
                format!("{SOURCE}, and customers get money back"),
                Check::Coverage,
                "a part of it; new: back custom money",
            ),
        ] {
            let verdict = verify(&sentence, SOURCE, &|_| 1.0);
            let found = verdict.failures.first().unwrap_or_else(|| panic!("{sentence} passed"));
            assert_eq!((found.check, found.detail.as_str()), (check, detail), "{sentence}");
        }
        assert_eq!(failed("  ** ", SOURCE), Some(Check::Empty));
    }

    #[test]
    fn order_says_who_does_what() {
        let source = "Calls rose from 14/s to 81/s when checkout-service asked payment-service.";
        assert_eq!(
            failed("Calls rose from 81/s to 14/s when checkout-service asked payment-service.", source),
            Some(Check::Number)
        );
        assert_eq!(
            failed("Calls rose from 14/s to 81/s when payment-service asked checkout-service.", source),
            Some(Check::Identifier)
        );
        let source = "Do not restart the primary; restart the replica.";
        assert_eq!(failed("Restart the primary; do not restart the replica.", source), Some(Check::Negation));
        let source = "Do not restart the writer; restart the reader.";
        assert_eq!(failed("Restart the writer; do not restart the reader.", source), Some(Check::Negation));
    }

    #[test]
    fn rare_words_weigh_more() {
        let source = "The breaker opens at once.";
        let sentence = "The thermostat opens at once, the breaker";
        assert_eq!(failed(sentence, source), None);
        let weigh = |stem: &str| if stem == "thermostat" { 9.0 } else { 1.0 };
        assert_eq!(verify(sentence, source, &weigh).failures[0].check, Check::Coverage);
    }
}
