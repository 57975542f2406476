//! Says a sentence in fewer words without touching what it states: openers and asides without facts are left out.

use std::sync::LazyLock;

use regex::Regex;

use crate::facts::{Reading, facts};
use crate::settings;

/// An aside in round brackets, without others inside.
static ASIDE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\s+\(([^()`]*)\)([.,;:!?]*(?:\s|$))").expect("a valid pattern"));

/// The sentence without what it can do without. Numbers, names, negation and words with an opposite always stay.
pub fn shorten(sentence: &str) -> String {
    let kept = |found: &regex::Captures<'_>| {
        if states_something(&found[1]) { found[0].to_owned() } else { found[2].to_owned() }
    };
    let without_asides = ASIDE.replace_all(sentence, kept);
    let short = without_opener(&without_asides);
    if short.trim().is_empty() { sentence.to_owned() } else { short }
}

fn states_something(aside: &str) -> bool {
    let reading = Reading::of(aside);
    !facts(aside).is_empty() || reading.polarity().next().is_some() || !reading.sides.is_empty()
}

fn without_opener(sentence: &str) -> String {
    let lower = sentence.to_lowercase();
    let opener = settings::shipped()
        .openers
        .iter()
        .find(|opener| lower.strip_prefix(opener.as_str()).is_some_and(|rest| rest.starts_with([' ', ',', ':'])));
    // Lower case may have another length; then the sentence stays as it is.
    let Some(rest) = opener.and_then(|opener| sentence.get(opener.len()..)).filter(|_| lower.len() == sentence.len())
    else {
        return sentence.to_owned();
    };
    let rest = rest.trim_start_matches([' ', ',', ':']);
    if opens_with_noun_of(rest) {
        return sentence.to_owned();
    }
    let mut chars = rest.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => sentence.to_owned(),
    }
}

/// `Note of the day`, `Also known as`: there the opener is part of what is said.
fn opens_with_noun_of(rest: &str) -> bool {
    ["of ", "known ", "called ", "as ", "to "].iter().any(|word| rest.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_states_nothing_goes() {
        for (sentence, expected) in [
            ("However, the pool is full (see the other page).", "The pool is full."),
            ("Please note that `kubectl` waits.", "`kubectl` waits."),
            ("It waits (5 min), then ends (not sooner).", "It waits (5 min), then ends (not sooner)."),
            ("Also known as the breaker.", "Also known as the breaker."),
            ("Please", "Please"),
            ("Notebooks are slow.", "Notebooks are slow."),
        ] {
            assert_eq!(shorten(sentence), expected);
        }
    }
}
