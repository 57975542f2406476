//! Where sentences end.

use std::ops::Range;

use crate::settings;

/// The sentences of a paragraph, in bytes, without the blanks between them.
pub(super) fn split(text: &str) -> Vec<Range<usize>> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let mut found = Vec::new();
    let (mut start, mut in_code, mut in_target) = (0, false, false);
    for (place, (at, c)) in chars.iter().enumerate() {
        match c {
            '`' => in_code = !in_code && text[at + 1..].contains('`'),
            '(' if place > 0 && chars[place - 1].1 == ']' => in_target = true,
            ')' if in_target => in_target = false,
            '.' | '!' | '?' if !in_code && !in_target => {
                if let Some(end) = end_of_sentence(text, &chars, place) {
                    found.push(start..end);
                    start = end;
                }
            }
            _ => {}
        }
    }
    found.push(start..text.len());
    found.into_iter().filter_map(|range| trimmed(text, range)).collect()
}

/// The end in bytes where the mark at `place` ends a sentence: closing marks count to it.
fn end_of_sentence(text: &str, chars: &[(usize, char)], place: usize) -> Option<usize> {
    let closing = |c: char| matches!(c, ')' | ']' | '"' | '\'' | '”' | '’' | '*' | '_' | '.' | '!' | '?' | '…');
    let mut next = place + 1;
    while chars.get(next).is_some_and(|(_, c)| closing(*c)) {
        next += 1;
    }
    let (end, after) = chars.get(next).copied()?;
    if !after.is_whitespace() {
        return None;
    }
    let begins = chars[next..].iter().map(|(_, c)| *c).find(|c| !c.is_whitespace())?;
    if begins.is_lowercase() || is_short_form(&text[..chars[place].0]) && chars[place].1 == '.' {
        return None;
    }
    Some(end)
}

/// Whether the text ends in a short form or a single letter, whose full stop is its own.
fn is_short_form(before: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || "([{\"'".contains(c)).next().unwrap_or_default();
    let lower = word.to_lowercase();
    let single = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    single || settings::shipped().short_forms.contains(&lower)
}

fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let part = &text[range.clone()];
    let start = range.start + part.len() - part.trim_start().len();
    let end = range.start + part.trim_end().len();
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_a_reader_stops() {
        for (text, expected) in [
            ("One. Two! Three? Four", vec!["One.", "Two!", "Three?", "Four"]),
            ("Wait e.g. 5 min vs. Kafka. Then go.", vec!["Wait e.g. 5 min vs. Kafka.", "Then go."]),
            ("See 1.5 GB of a.b.c now. `Run. This` ends.", vec!["See 1.5 GB of a.b.c now.", "`Run. This` ends."]),
            ("(Also here.) And **bold.** Next", vec!["(Also here.)", "And **bold.**", "Next"]),
            ("at 5. minutes", vec!["at 5. minutes"]),
            ("Is it ours? 5xx come from them.", vec!["Is it ours?", "5xx come from them."]),
        ] {
            let found: Vec<&str> = split(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected);
        }
    }
}
