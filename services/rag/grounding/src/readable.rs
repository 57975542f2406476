//! Markdown as a person reads it: one line, without emphasis, link targets, images, tags and marks of lines. Code stays as written.

use std::sync::LazyLock;

use regex::Regex;

static IMAGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"!\[[^\]\n]*\]\([^)\s]*(?:\s+[^)]*)?\)"));
static LINK: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[([^\]]+)\]\([^)\s]*(?:\s+[^)]*)?\)"));
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[([^\]]+)\]\[[^\]]*\]"));
static AUTO_LINK: LazyLock<Regex> = LazyLock::new(|| pattern(r"<(https?://[^>\s]+)>"));
static TAG: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"</?(?:[a-z][a-z0-9]*)(?:\s+[a-z-]+=(?:\x22[^\x22]*\x22|'[^']*'))*\s*/?>"));
static LINE_MARK: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^[ \t]*(?:>[ \t]?)+"));
/// Emphasis, and marks that a backslash says to take literally.
static MARK: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\\([\\`*_{}\[\]()#+\-.!|<>~])|\*{1,3}|~~|(?:^|\B)__?\b|\b__?(?:\B|$)"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// A passage of Markdown as one line of plain words; code between backticks keeps its marks.
pub fn readable(markdown: &str) -> String {
    let unquoted = LINE_MARK.replace_all(markdown, "");
    let mut plain = String::with_capacity(unquoted.len());
    let ticks = unquoted.matches('`').count();
    for (place, part) in unquoted.split('`').enumerate() {
        // What stands between two backticks is code; the last of an odd number opens nothing.
        let is_code = !place.is_multiple_of(2) && place < ticks;
        if place > 0 {
            plain.push('`');
        }
        if is_code {
            plain.push_str(part);
        } else {
            plain.push_str(&without_marks(part));
        }
    }
    // An empty line stays the end of a clause.
    let paragraphs = plain.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let paragraphs: Vec<String> = paragraphs.filter(|paragraph| !paragraph.is_empty()).collect();
    with_whole_links(&paragraphs.join("\n\n"))
}

fn without_marks(text: &str) -> String {
    let text = IMAGE.replace_all(text, "");
    let text = LINK.replace_all(&text, "$1");
    let text = REFERENCE.replace_all(&text, "$1");
    let text = AUTO_LINK.replace_all(&text, "$1");
    let text = TAG.replace_all(&text, " ");
    MARK.replace_all(&text, "$1").into_owned()
}

/// Links whose words are code, which were read apart: `[`code`](target)`.
fn with_whole_links(text: &str) -> String {
    LINK.replace_all(text, "$1").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn marks_go_and_words_stay() {
        for (markdown, expected) in [
            ("**Stop** the _old_ pods\n   at once.", "Stop the old pods at once."),
            ("see [the page](https://x.example/a \"t\") now", "see the page now"),
            ("![shot](a.png) run `a *b* _c_` here", "run `a *b* _c_` here"),
            ("> quoted\n> on two lines", "quoted on two lines"),
            ("one<br>two <https://x.example/y>", "one two https://x.example/y"),
            ("[`kubectl`](https://x.example)", "`kubectl`"),
            ("snake_case_name and 2 \\* 3", "snake_case_name and 2 * 3"),
            ("a\n\nb", "a\n\nb"),
        ] {
            assert_eq!(readable(markdown), expected, "{markdown}");
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_stays(words in proptest::collection::vec("[a-z]{1,8}", 1..20)) {
            let text = words.join(" ");
            prop_assert_eq!(readable(&text), text);
        }
    }
}
