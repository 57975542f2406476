//! Text as search terms: identifiers split and joined, function words left out, endings cut (Snowball, English).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use rust_stemmers::{Algorithm, Stemmer};

const STOP_WORDS: &str = include_str!("../../data/stop_words.txt");

/// Longest identifier, in parts, whose joined form is a term of its own.
const JOINED_PARTS_MAX: usize = 6;
/// Short words with a digit (`p99`, `k8s`, `ipv4`) are names, not compounds.
const SHORT_NAME_CHARS_MAX: usize = 5;

static STOP: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    STOP_WORDS.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect()
});
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[\p{Alphabetic}\p{Nd}]+(?:[_.\-][\p{Alphabetic}\p{Nd}]+)*").expect("a valid pattern")
});

/// The words of a text with where they start: runs of letters and digits, joined by single `_`, `-` or `.`.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    WORD.find_iter(text).map(|found| (found.start(), found.as_str()))
}

/// The search terms of a text in order, stemmed; an identifier gives its parts and its joined form.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    let mut found = Vec::new();
    for (_, word) in words(text) {
        let split = split_word(word);
        found.extend(split.joined.iter().map(|joined| stemmer.stem(joined).into_owned()));
        found.extend(split.parts.iter().filter(|part| is_term(part)).map(|part| stemmer.stem(part).into_owned()));
    }
    found
}

/// The same without the parts: every word is one term, as it is written.
pub(crate) fn whole_words(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    let lower = words(text).map(|(_, word)| word.to_lowercase()).filter(|word| is_term(word));
    lower.map(|word| stemmer.stem(&word).into_owned()).collect()
}

/// The parts of one word that are terms, in lower case, before and after stemming.
pub(crate) fn part_terms(word: &str) -> Vec<(String, String)> {
    let stemmer = Stemmer::create(Algorithm::English);
    let parts = split_word(word).parts;
    parts.into_iter().filter(|part| is_term(part)).map(|part| (stemmer.stem(&part).into_owned(), part)).collect()
}

/// A name written as one word of several (`RabbitMQ`), in lower case, before and after stemming; `None` for any other word. That
/// its parts occur says little: `ServiceNow` is neither service nor now.
pub(crate) fn compound(word: &str) -> Option<(String, String)> {
    let is_name = !is_short_name(word) && word.chars().all(char::is_alphanumeric) && humps(word).len() > 1;
    let inner_capital = word.chars().skip(1).any(char::is_uppercase) && word.chars().any(char::is_lowercase);
    let plain = word.to_lowercase();
    let stemmer = Stemmer::create(Algorithm::English);
    (is_name && inner_capital).then(|| (stemmer.stem(&plain).into_owned(), plain))
}

/// An identifier as separate words: `KubePodCrashLooping` and `kube_pod-crash.looping` alike. Short names with a digit stay whole.
pub(crate) fn spaced(text: &str) -> String {
    let mut parts = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || "_-./:".contains(c)).filter(|word| !word.is_empty()) {
        if is_short_name(word) { parts.push(word) } else { parts.extend(humps(word)) }
    }
    parts.join(" ")
}

/// Whether a word is written as an identifier: inner capitals or underscores.
pub(crate) fn is_identifier(word: &str) -> bool {
    word.contains('_') || humps(word).len() > 1
}

struct Split {
    parts: Vec<String>,
    joined: Vec<String>,
}

fn split_word(word: &str) -> Split {
    let segments: Vec<&str> = word.split(['_', '-', '.']).filter(|segment| !segment.is_empty()).collect();
    let (mut parts, mut joined) = (Vec::new(), Vec::new());
    for segment in &segments {
        let humps = if is_short_name(segment) { vec![*segment] } else { humps(segment) };
        if humps.len() > 1 {
            joined.push(segment.to_lowercase());
        }
        parts.extend(humps.into_iter().map(str::to_lowercase));
    }
    if (2..=JOINED_PARTS_MAX).contains(&segments.len()) {
        joined.push(segments.concat().to_lowercase());
    }
    Split { parts, joined }
}

fn is_short_name(word: &str) -> bool {
    word.chars().count() <= SHORT_NAME_CHARS_MAX && word.chars().any(char::is_numeric)
}

fn is_term(part: &str) -> bool {
    let single_letter = part.chars().count() == 1 && !part.chars().all(char::is_numeric);
    !single_letter && !STOP.contains(part)
}

/// The parts of a CamelCase word: `HTTPServerError5xx` is `HTTP`, `Server`, `Error`, `5`, `xx`, and `RunVMs` is `Run`, `VMs`.
fn humps(word: &str) -> Vec<&str> {
    let chars: Vec<(usize, char)> = word.char_indices().collect();
    let mut starts = vec![0];
    for window in 1..chars.len() {
        let (previous, (at, current)) = (chars[window - 1].1, chars[window]);
        let next_is_lower = chars.get(window + 1).is_some_and(|(_, next)| next.is_lowercase());
        // The `s` of a plural belongs to its acronym.
        let plural_ends = chars.get(window + 1).is_some_and(|(_, next)| *next == 's')
            && chars.get(window + 2).is_none_or(|(_, after)| !after.is_lowercase());
        let rises = previous.is_lowercase() && current.is_uppercase();
        let acronym_ends = previous.is_uppercase() && current.is_uppercase() && next_is_lower && !plural_ends;
        let digits_meet_letters = previous.is_numeric() != current.is_numeric();
        if rises || acronym_ends || digits_meet_letters {
            starts.push(at);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([word.len()]);
    starts.iter().zip(ends).map(|(start, end)| &word[*start..end]).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_give_their_parts_and_their_joined_form() {
        for (text, expected) in [
            ("KubePodCrashLooping", "kubepodcrashloop kube pod crash loop"),
            ("payment_provider_latency", "paymentproviderlat payment provid latenc"),
            ("external-payment-api", "externalpaymentapi extern payment api"),
            ("HTTPServerErrors", "httpservererror http server error"),
            ("p99 of k8s, 5xx", "p99 k8s 5xx"),
            ("The provider is down", "provid down"),
            ("", ""),
            ("a b", ""),
            ("Größe 数据", "größe 数据"),
        ] {
            assert_eq!(tokens(text).join(" "), expected, "{text}");
        }
    }

    #[test]
    fn a_compound_is_a_name_of_its_own() {
        let plain = |word| compound(word).map(|(_, plain)| plain);
        assert_eq!(plain("RabbitMQ").as_deref(), Some("rabbitmq"));
        assert_eq!(plain("KubePodCrashLooping").as_deref(), Some("kubepodcrashlooping"));
        for word in ["Kafka", "etcd", "HTTP", "K8s", "read-only", "a_b", "5xx", ""] {
            assert_eq!(plain(word), None, "{word}");
        }
    }

    #[test]
    fn an_identifier_reads_as_words() {
        assert_eq!(spaced("PaymentProviderErrorRateHigh"), "Payment Provider Error Rate High");
        assert_eq!(spaced("runbooks/retry-storm_2.md"), "runbooks retry storm 2 md");
        assert_eq!(spaced("K8s Playbooks/NoNodesToRunVMs-p99"), "K8s Playbooks No Nodes To Run VMs p99");
        assert!(
            is_identifier("CamelCase") && is_identifier("a_b") && !is_identifier("plain") && !is_identifier("Plain")
        );
    }

    proptest! {
        #[test]
        fn splitting_keeps_every_letter(word in "[A-Za-z0-9]{1,30}") {
            prop_assert_eq!(humps(&word).concat(), word);
        }

        #[test]
        fn any_text_can_be_tokenised(text in "\\PC{0,200}") {
            let found = tokens(&text);
            prop_assert!(found.iter().all(|term| !term.is_empty()));
        }
    }
}
