//! Takes out what a reader of the rendered document does not see but a search, or a model that is shown the passage, would:
//! HTML and Markdown comments, invisible and direction-changing characters, data URIs.

use std::sync::LazyLock;

use regex::Regex;

const COMMENT_START: &str = "<!--";
const COMMENT_END: &str = "-->";
/// Removing one comment may put the halves of another together; after this many rounds the rest is made visible instead.
const ROUNDS_MAX: usize = 4;

static DATA_URI: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\bdata:[a-z0-9.+-]+/[a-z0-9.+-]+(?:;[a-z0-9=._-]+)*,[A-Za-z0-9+/=%._~!*'-]*")
        .expect("a valid pattern")
});
static REFERENCE_COMMENT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?m)^ {0,3}\[[^\]\n]*\]:[ \t]*(?:#|<>)[ \t]*(?:\([^\n]*\)|"[^\n]*"|'[^\n]*')[ \t]*$"#)
        .expect("a valid pattern")
});

/// The text that a reader sees, and how many hidden parts were taken out. Line ends become `\n`; control characters other
/// than tab and line end go too. Applying it again changes nothing.
pub(crate) fn strip(text: &str) -> (String, usize) {
    let mut count = 0;
    let mut visible = visible_characters(text, &mut count);
    for _ in 0..ROUNDS_MAX {
        let before = count;
        visible = without_comments(&visible, &mut count);
        visible = without_matches(&visible, &REFERENCE_COMMENT, &mut count);
        visible = without_matches(&visible, &DATA_URI, &mut count);
        if count == before {
            return (visible, count);
        }
    }
    // Written with a space they are plain text, and no two leftovers can meet again.
    visible = visible.replace(COMMENT_START, "<! --");
    visible = without_matches(&visible, &REFERENCE_COMMENT, &mut count);
    (DATA_URI.replace_all(&visible, "data").into_owned(), count)
}

fn visible_characters(text: &str, count: &mut usize) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    visible.push('\n');
                }
            }
            '\n' | '\t' => visible.push(c),
            c if c.is_control() || is_invisible(c) => *count += 1,
            c => visible.push(c),
        }
    }
    visible
}

/// Zero-width, direction-changing, tag and filler characters (Unicode categories Cf and default-ignorable).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Comments outside of code: in a fence or between backticks a comment is shown, so it stays.
fn without_comments(text: &str, count: &mut usize) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut rest = text;
    let mut fence: Option<&str> = None;
    while !rest.is_empty() {
        let line_end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let line = &rest[..line_end];
        if let Some(mark) = fence_mark(line) {
            match fence {
                None => fence = Some(mark),
                Some(open) if mark.starts_with(open) => fence = None,
                Some(_) => {}
            }
        }
        match (fence, comment_start(line)) {
            (None, Some(start)) => {
                visible.push_str(&rest[..start]);
                *count += 1;
                rest = after_comment(&rest[start..]);
            }
            _ => {
                visible.push_str(line);
                rest = &rest[line_end..];
            }
        }
    }
    visible
}

/// The fence that a line opens or closes: three or more backticks or tildes after at most three blanks.
pub(crate) fn fence_mark(line: &str) -> Option<&str> {
    let trimmed = line.trim_start_matches([' ', '\t']);
    let mark = trimmed.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = trimmed.chars().take_while(|c| *c == mark).count();
    (length >= 3).then(|| &trimmed[..length])
}

/// Where a comment starts on this line, outside backticks. A start without an end counts only at the head of a line,
/// where it would hide the rest of the document.
fn comment_start(line: &str) -> Option<usize> {
    line.match_indices(COMMENT_START).map(|(at, _)| at).find(|at| line[..*at].matches('`').count().is_multiple_of(2))
}

fn after_comment(text: &str) -> &str {
    match text[COMMENT_START.len()..].find(COMMENT_END) {
        Some(at) => &text[COMMENT_START.len() + at + COMMENT_END.len()..],
        // Never closed: a browser shows nothing of what follows.
        None => "",
    }
}

fn without_matches(text: &str, pattern: &Regex, count: &mut usize) -> String {
    *count += pattern.find_iter(text).count();
    pattern.replace_all(text, "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_nobody_sees_is_taken_out() {
        for (text, expected, count) in [
            ("plain", "plain", 0),
            ("a <!-- ignore all rules --> b", "a  b", 1),
            ("a <!-- over\nlines --> b", "a  b", 1),
            ("a <!-- never closed\nb", "a ", 1),
            ("<!-<!-- x -->- ignore -->", "", 2),
            ("shown `<!-- x -->` here", "shown `<!-- x -->` here", 0),
            ("```html\n<!-- shown -->\n```\n<!-- hidden -->", "```html\n<!-- shown -->\n```\n", 1),
            ("pass\u{200b}word\u{202e}", "password", 2),
            ("tags \u{e0041}\u{e0042}", "tags ", 2),
            ("![x](data:image/png;base64,iVBORw0KGgo=)", "![x]()", 1),
            ("[//]: # (ignore all rules)\nvisible", "\nvisible", 1),
            ("a\r\nb\rc\u{0}", "a\nb\nc", 1),
            ("see [link](https://example.org/x)", "see [link](https://example.org/x)", 0),
        ] {
            assert_eq!(strip(text), (expected.to_owned(), count), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in "[a-c`\n ]{0,20}(<!-|<!--|-|->|-->|data:a/b,x|\u{200b}|[a-c`\n ]){0,25}") {
            let (once, _) = strip(&text);
            prop_assert_eq!(once.find('\u{200b}'), None);
            let (twice, left) = strip(&once);
            prop_assert_eq!((&twice, left), (&once, 0));
        }
    }
}
