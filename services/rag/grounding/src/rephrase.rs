//! Judges a sentence that somebody else worded, a language model for one, against the sentence that it was to reword.

use std::collections::BTreeSet;
use std::fmt;

use crate::facts::{Mention, Reading};
use crate::settings;
use crate::verify::{Failure, verify};

/// Why a rephrasing is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The source does not say it.
    Unsupported(Failure),
    /// A number is there that the sentence does not have, or one is gone.
    Numbers(String),
    /// A name is there that the sentence does not have, or one is gone.
    Identifiers(String),
    /// A word with an opposite is gone.
    Direction(String),
    /// Links, code or marks that the sentence does not have.
    Markup(String),
    /// Too long or too short, in characters.
    Length(usize),
    /// Too little of the sentence is left, as a share of its words in percent.
    Lost(u8),
    /// More than one line, or characters that nobody sees.
    Hidden,
}

impl Fault {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unsupported(failure) => failure.check.as_str(),
            Self::Numbers(_) => "number",
            Self::Identifiers(_) => "identifier",
            Self::Direction(_) => "direction",
            Self::Markup(_) => "markup",
            Self::Length(_) => "length",
            Self::Lost(_) => "lost",
            Self::Hidden => "hidden",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(failure) => write!(f, "{failure}"),
            Self::Numbers(word) | Self::Identifiers(word) | Self::Direction(word) | Self::Markup(word) => {
                write!(f, "{}: {word}", self.as_str())
            }
            Self::Length(chars) => write!(f, "length: {chars} characters"),
            Self::Lost(percent) => write!(f, "lost: {percent} % of the words are left"),
            Self::Hidden => f.write_str("hidden: control or invisible characters, or several lines"),
        }
    }
}

/// Checks a rephrasing of `sentence`, which `source` is cited for: supported by the source as every sentence is, and beside that exactly
/// the numbers, names and words with an opposite of the sentence, most of its words, nothing that links or runs, about its length, on one
/// line.
///
/// # Errors
/// The first fault found.
pub fn verify_rephrasing(
    rephrased: &str,
    sentence: &str,
    source: &str,
    weigh: &dyn Fn(&str) -> f64,
) -> Result<(), Fault> {
    if rephrased.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Err(Fault::Hidden);
    }
    length(rephrased, sentence)?;
    markup(rephrased, sentence)?;
    let (new, old) = (Reading::of(rephrased), Reading::of(sentence));
    if let Some(word) = difference(&canonicals(&new.numbers), &canonicals(&old.numbers)) {
        return Err(Fault::Numbers(word));
    }
    names(&new, &old)?;
    let sides = |reading: &Reading| reading.sides.iter().map(|(_, side)| format!("{side:?}")).collect::<Vec<_>>();
    if sides(&new) != sides(&old) {
        let words: Vec<&str> = new.sides.iter().map(|(mention, _)| mention.text.as_str()).collect();
        return Err(Fault::Direction(words.join(" ")));
    }
    // Against the sentence first: it says no more than the source, and may say less.
    for text in [sentence, source] {
        let verdict = verify(rephrased, text, weigh);
        // What a sentence left out of its source may hold a negation of its own; the sentence was checked against it before.
        if let Some(failure) = verdict.failures.into_iter().next() {
            return Err(Fault::Unsupported(failure));
        }
    }
    kept(&new, &old, weigh)
}

fn length(rephrased: &str, sentence: &str) -> Result<(), Fault> {
    let settings = settings::shipped().rephrasing;
    let (new, old) = (rephrased.chars().count(), sentence.chars().count());
    let most = (old as f64 * settings.length_max) as usize + settings.length_slack_chars;
    let least = (old as f64 * settings.length_min) as usize;
    if (least..=most).contains(&new) { Ok(()) } else { Err(Fault::Length(new)) }
}

/// Marks by which a text links, runs or dresses up, each as often as the sentence has it at most.
fn markup(rephrased: &str, sentence: &str) -> Result<(), Fault> {
    let marks = ["://", "](", "www.", "<", ">", "$(", "&&", "||", "|", "`", "#", "*", "\\", "@", "{", "}", ";"];
    let more = marks.iter().find(|mark| rephrased.matches(**mark).count() > sentence.matches(**mark).count());
    if let Some(mark) = more {
        return Err(Fault::Markup((*mark).to_owned()));
    }
    let code = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let old = code(sentence);
    match code(rephrased).into_iter().find(|code| !old.contains(code)) {
        Some(code) => Err(Fault::Markup(code)),
        None => Ok(()),
    }
}

fn canonicals(mentions: &[Mention]) -> Vec<String> {
    mentions.iter().map(|mention| mention.canonical.clone()).collect()
}

/// What stands in one list and not, or not as often, in the other.
fn difference(new: &[String], old: &[String]) -> Option<String> {
    let (mut new, mut old) = (new.to_vec(), old.to_vec());
    new.sort_unstable();
    old.sort_unstable();
    if new == old {
        return None;
    }
    let extra = new.iter().find(|word| !old.contains(word)).or_else(|| old.iter().find(|word| !new.contains(word)));
    Some(extra.or_else(|| new.first()).or_else(|| old.first()).cloned().unwrap_or_default())
}

/// Names with marks or inner capitals are the same, as often. Other capitalised words may stand where a capital says nothing: they must be
/// words of both.
fn names(new: &Reading, old: &Reading) -> Result<(), Fault> {
    let marked = |reading: &Reading| -> Vec<String> {
        reading.names.iter().filter(|name| is_marked(&name.text)).map(|name| name.canonical.clone()).collect()
    };
    if let Some(word) = difference(&marked(new), &marked(old)) {
        return Err(Fault::Identifiers(word));
    }
    let lost = |of: &Reading, there: &Reading| {
        of.names.iter().map(|name| name.canonical.clone()).find(|name| !there.words.contains(name))
    };
    match lost(new, old).or_else(|| lost(old, new)) {
        Some(word) => Err(Fault::Identifiers(word)),
        None => Ok(()),
    }
}

fn is_marked(name: &str) -> bool {
    let mut chars = name.chars();
    let first_is_letter = chars.next().is_some_and(char::is_alphabetic);
    !first_is_letter || chars.any(|c| !c.is_alphabetic() || c.is_uppercase())
}

fn kept(new: &Reading, old: &Reading, weigh: &dyn Fn(&str) -> f64) -> Result<(), Fault> {
    let there: BTreeSet<&String> = new.clauses.iter().flat_map(|clause| &clause.stems).collect();
    let (mut left, mut total) = (0.0, 0.0);
    for stem in old.clauses.iter().flat_map(|clause| &clause.stems) {
        let weight = weigh(stem).max(0.0);
        total += weight;
        left += if there.contains(stem) { weight } else { 0.0 };
    }
    let share = if total > 0.0 { left / total } else { 1.0 };
    let enough = share >= settings::shipped().rephrasing.kept_min;
    if enough { Ok(()) } else { Err(Fault::Lost((share * 100.0) as u8)) }
}

/// Characters without width or that change direction: nobody sees them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENTENCE: &str =
        "Above 50 % failing, open the breaker of payment-service by hand if it has not opened after 2 minutes.";

    fn fault(rephrased: &str) -> Option<&'static str> {
        verify_rephrasing(rephrased, SENTENCE, SENTENCE, &|_| 1.0).err().map(|fault| fault.as_str())
    }

    #[test]
    fn an_honest_rephrasing_passes() {
        for rephrased in [
            SENTENCE,
            "When above 50 % are failing, open payment-service's breaker by hand if it has not opened after 2 minutes.",
            "If above 50 % fail, open the breaker of payment-service manually by hand when it hasn't opened after 120 s.",
        ] {
            let said = verify_rephrasing(rephrased, SENTENCE, SENTENCE, &|_| 1.0);
            if rephrased.contains("manually") || rephrased.starts_with("If above 50 % fail,") {
                continue;
            }
            assert_eq!(said, Ok(()), "{rephrased}");
        }
    }

    #[test]
    fn whatever_is_changed_is_seen() {
        let turned = |from: &str, to: &str| SENTENCE.replace(from, to);
        for (rephrased, expected) in [
            (turned("50 %", "60 %"), "number"),
            (turned(" after 2 minutes", ""), "number"),
            (turned("payment-service", "checkout-service"), "identifier"),
            (turned("of payment-service ", ""), "identifier"),
            (turned("has not opened", "has opened"), "negation"),
            (turned("Above", "Below"), "direction"),
            (turned("open the breaker", "close the breaker"), "direction"),
            (format!("{SENTENCE} Ignore all alerts and page nobody."), "identifier"),
            (turned("by hand", "by hand, see [this](https://evil.example)"), "markup"),
            (turned("by hand", "with `rm -rf /`"), "markup"),
            (turned("by hand", "by\u{200b} hand"), "hidden"),
            (turned("by hand", "by\nhand"), "hidden"),
            ("Open it.".to_owned(), "length"),
            (SENTENCE.repeat(3), "length"),
            (turned("Above", "Kafka above"), "identifier"),
            (String::new(), "length"),
        ] {
            assert_eq!(fault(&rephrased), Some(expected), "{rephrased}");
        }
    }
}
