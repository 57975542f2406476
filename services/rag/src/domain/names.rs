//! The names by which a question may ask for one document exactly: its file name, a one-word title, the alerts it is for.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::document::DocumentId;
use super::outline::Outline;
use super::tokens;

/// Shorter names occur by chance.
const NAME_CHARS_MIN: usize = 8;
/// Most words of a question that are read as one name.
const NAME_WORDS_MAX: usize = 6;
/// Most names of a document that are kept.
const NAMES_MAX: usize = 100;

static CODE_SPAN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"`([A-Za-z][A-Za-z0-9_:-]{7,120})`").expect("a valid pattern"));
static ALERT_ITEM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?m)^\s*(?:- )?alert:[ \t]*["']?([A-Za-z][A-Za-z0-9_:-]+)"#).expect("a valid pattern")
});

/// The names of a document, normalised: lower-case letters and digits only.
pub(crate) fn of_document(id: &DocumentId, title: &str, text: &str, outline: &Outline) -> BTreeSet<String> {
    let stem = id.stem();
    let mut candidates: Vec<&str> = vec![stem];
    // `AlertName-some-variant`: the alert's name counts too.
    if let Some((head, tail)) = stem.split_once('-')
        && tokens::is_identifier(head)
        && tail.starts_with(|c: char| c.is_lowercase())
    {
        candidates.push(head);
    }
    candidates.extend(
        [title].into_iter().chain(outline.headings.first().map(String::as_str)).filter(|t| !t.trim().contains(' ')),
    );
    candidates.extend(ALERT_ITEM.captures_iter(text).filter_map(|found| found.get(1)).map(|name| name.as_str()));
    let alert_blocks = outline.blocks.iter().filter(|block| block.headings.last().is_some_and(|h| is_alert_heading(h)));
    for block in alert_blocks {
        let spans = CODE_SPAN.captures_iter(&text[block.range.clone()]).filter_map(|found| found.get(1));
        candidates.extend(spans.map(|span| span.as_str()).filter(|span| tokens::is_identifier(span)));
    }
    let distinctive = candidates.into_iter().filter(|name| tokens::spaced(name).contains(' '));
    distinctive.map(normalised).filter(|name| name.len() >= NAME_CHARS_MIN).take(NAMES_MAX).collect()
}

/// What a question may name: each of its words, and three to six in a row joined. Two in a row are too often just words.
pub(crate) fn in_question(question: &str) -> BTreeSet<String> {
    let words: Vec<String> = question
        .split(|c: char| !(c.is_alphanumeric() || "_-".contains(c)))
        .map(normalised)
        .filter(|word| !word.is_empty())
        .collect();
    let runs = std::iter::once(1).chain(3..=NAME_WORDS_MAX);
    let joined = runs.flat_map(|length| words.windows(length).map(|run| run.concat()));
    joined.filter(|name| name.len() >= NAME_CHARS_MIN).collect()
}

fn is_alert_heading(heading: &str) -> bool {
    matches!(heading.to_lowercase().as_str(), "alert" | "alerts" | "alert name")
}

fn normalised(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(id: &str, title: &str, text: &str) -> Vec<String> {
        let id = DocumentId::new("id", id).expect("valid");
        of_document(&id, title, text, &Outline::of(text, id.is_yaml())).into_iter().collect()
    }

    #[test]
    fn a_document_is_named_by_file_title_and_alerts() {
        assert_eq!(names("runbooks/retry-storm", "Retry storm", "x"), ["retrystorm"]);
        assert_eq!(names("a/etcdNoLeader.md", "etcdNoLeader", "x"), ["etcdnoleader"]);
        assert_eq!(names("a/KubeNodeNotReady-flapping.md", "t", "x"), ["kubenodenotready", "kubenodenotreadyflapping"]);
        assert_eq!(names("a/readme", "Read me", "x"), Vec::<String>::new());
        let text =
            "# T\n\n## Alert\n\n`CheckoutLatencyHigh` pages. See `plainword`.\n\n## Other\n\n`PaymentProviderDown`";
        assert_eq!(names("a/b", "T", text), ["checkoutlatencyhigh"]);
        assert_eq!(names("a/rules.yaml", "T", "- alert: HighErrorRate\n  expr: x\n"), ["higherrorrate"]);
    }

    #[test]
    fn a_question_names_by_a_word_or_by_several() {
        let found = in_question("etcd no leader, CheckoutLatencyHigh? retry storm");
        for name in ["etcdnoleader", "checkoutlatencyhigh"] {
            assert!(found.contains(name), "{name}");
        }
        assert!(!found.contains("retrystorm"));
        assert!(in_question("checkout_latency-high").contains("checkoutlatencyhigh"));
        assert!(in_question("").is_empty());
    }
}
