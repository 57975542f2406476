//! What the names in a title stand for, so that a document is also found by somebody who describes the thing and does not name it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Read by [`preparation::recipe`](super::preparation::recipe) too: documents are indexed anew when it changes.
pub(super) const GLOSSARY: &str = include_str!("../../data/glossary.toml");

static TERMS: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| toml::from_str(GLOSSARY).expect("glossary.toml is checked by a test"));
static WORDS_MAX: LazyLock<usize> =
    LazyLock::new(|| TERMS.keys().map(|term| term.split(' ').count()).max().unwrap_or(0));

/// What the terms of a title stand for, in their order, each once; of terms that overlap the longest counts. A plural is its
/// singular.
pub(crate) fn glosses(title: &str) -> Vec<&'static str> {
    let lower = title.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut found: Vec<&'static str> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let longest = (1..=(*WORDS_MAX).min(words.len() - at)).rev();
        let hit = longest.filter_map(|count| Some((count, gloss(&words[at..at + count])?))).next();
        if let Some((_, gloss)) = hit
            && !found.contains(&gloss)
        {
            found.push(gloss);
        }
        at += hit.map_or(1, |(count, _)| count);
    }
    found
}

fn gloss(words: &[&str]) -> Option<&'static str> {
    let term = words.join(" ");
    let singular = term.strip_suffix('s');
    let found = TERMS.get(&term).or_else(|| TERMS.get(singular?));
    found.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_read_by_its_longest_terms() {
        assert_eq!(glosses("Kube API Server Down"), ["control plane endpoint"]);
        assert_eq!(glosses("etcd members down, etcd"), ["key-value store of the Kubernetes control plane"]);
        assert_eq!(glosses("Node File Descriptors Limit"), ["open files and sockets, file handles"]);
        assert_eq!(glosses("Retry storm"), Vec::<&str>::new());
        assert_eq!(glosses(""), Vec::<&str>::new());
    }

    #[test]
    fn the_file_is_in_the_form_that_titles_are_read_in() {
        for (term, gloss) in TERMS.iter() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ' ';
            assert!(term.chars().all(plain) && term.trim() == term, "{term}");
            assert!(!gloss.is_empty() && gloss.len() <= 80, "{term}");
        }
    }
}
