//! Cuts a text into passages that can be found and quoted: contiguous slices, so that a quote is always the stored text.

use std::ops::Range;

use super::outline::{Block, Outline};
use super::word_pieces::estimate;

/// Most word pieces of a passage. With its title and headings before it, it stays below the 256 that the embedding model
/// reads.
pub(crate) const WORD_PIECES_MAX: usize = 200;
/// A new section starts a new passage once the passage under way has this part of the most.
const SECTION_PART: usize = 3;

/// A passage of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Where it is, in bytes.
    pub(crate) bytes: Range<usize>,
    /// Where it is, in Unicode scalar values.
    pub(crate) chars: Range<usize>,
    /// The headings above its start, outermost first.
    pub(crate) headings: Vec<String>,
}

/// The passages of a text in order. They do not overlap, and every block of the outline lies in exactly one or, where it
/// is too long, in several. `word_pieces_max` is at least 1.
pub(crate) fn cut(text: &str, outline: &Outline, word_pieces_max: usize) -> Vec<Passage> {
    let pieces = outline.blocks.iter().flat_map(|block| split(text, block, word_pieces_max));
    let mut packer = Packer { text, word_pieces_max, passages: Vec::new(), open: None, counted: (0, 0) };
    for piece in pieces {
        packer.take(piece);
    }
    packer.finish()
}

/// The slice of a text between two places counted in Unicode scalar values.
pub(crate) fn slice_chars(text: &str, chars: Range<usize>) -> &str {
    let byte_of = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
    let start = byte_of(chars.start);
    let end =
        start + text[start..].chars().take(chars.end.saturating_sub(chars.start)).map(char::len_utf8).sum::<usize>();
    &text[start..end]
}

struct Piece {
    range: Range<usize>,
    headings: Vec<String>,
    begins_section: bool,
}

struct Packer<'a> {
    text: &'a str,
    word_pieces_max: usize,
    passages: Vec<Passage>,
    open: Option<(Range<usize>, Vec<String>, usize)>,
    /// Bytes and characters up to a place already passed, so that counting is linear.
    counted: (usize, usize),
}

impl Packer<'_> {
    fn take(&mut self, piece: Piece) {
        if let Some((range, _, word_pieces)) = &self.open {
            let grown = *word_pieces + estimate(&self.text[range.end..piece.range.end]);
            let section_ends = piece.begins_section && *word_pieces >= self.word_pieces_max / SECTION_PART;
            if grown > self.word_pieces_max || section_ends {
                self.close();
            }
        }
        let Piece { range, headings, .. } = piece;
        match &mut self.open {
            Some((open, _, word_pieces)) => {
                *word_pieces += estimate(&self.text[open.end..range.end]);
                open.end = range.end;
            }
            None => {
                let word_pieces = estimate(&self.text[range.clone()]);
                self.open = Some((range, headings, word_pieces));
            }
        }
    }

    fn close(&mut self) {
        if let Some((bytes, headings, _)) = self.open.take() {
            let chars = self.chars_at(bytes.start)..self.chars_at(bytes.end);
            self.passages.push(Passage { bytes, chars, headings });
        }
    }

    fn chars_at(&mut self, byte: usize) -> usize {
        let (bytes, chars) = self.counted;
        self.counted = (byte, chars + self.text[bytes..byte].chars().count());
        self.counted.1
    }

    fn finish(mut self) -> Vec<Passage> {
        self.close();
        self.passages
    }
}

/// A block as pieces of at most so many word pieces: cut at line ends, then at sentence ends, then at blanks, then
/// after a mark (of a link that is longer than a passage), then anywhere.
fn split(text: &str, block: &Block, max: usize) -> Vec<Piece> {
    let ranges = split_range(text, block.range.clone(), (0, max));
    let piece = |(index, range)| Piece {
        range,
        headings: block.headings.clone(),
        begins_section: block.begins_section && index == 0,
    };
    ranges.into_iter().enumerate().map(piece).collect()
}

fn split_range(text: &str, range: Range<usize>, (level, max): (usize, usize)) -> Vec<Range<usize>> {
    let content = &text[range.clone()];
    if estimate(content) <= max {
        return trimmed(text, range).into_iter().collect();
    }
    let mut parts = Vec::new();
    let (mut start, mut counted) = (range.start, 0);
    let mut at = range.start;
    for unit in units(content, level) {
        let cost = estimate(unit);
        if counted > 0 && counted + cost > max {
            parts.push(start..at);
            (start, counted) = (at, 0);
        }
        counted += cost;
        at += unit.len();
    }
    parts.push(start..range.end);
    if parts.len() == 1 && level >= UNIT_LEVELS {
        return trimmed(text, range).into_iter().collect();
    }
    parts.into_iter().flat_map(|part| split_range(text, part, (level + 1, max))).collect()
}

const UNIT_LEVELS: usize = 4;

/// A text in ever smaller units that together are the whole.
fn units(text: &str, level: usize) -> Vec<&str> {
    match level {
        0 => text.split_inclusive('\n').collect(),
        1 => split_after(text, |before, c| c.is_whitespace() && matches!(before, '.' | ';' | '!' | '?')),
        2 => split_after(text, |_, c| c.is_whitespace()),
        3 => split_after(text, |_, c| !c.is_alphanumeric()),
        _ => split_after(text, |_, _| true),
    }
}

fn split_after(text: &str, ends: impl Fn(char, char) -> bool) -> Vec<&str> {
    let (mut parts, mut start, mut before) = (Vec::new(), 0, ' ');
    for (at, c) in text.char_indices() {
        if ends(before, c) {
            let end = at + c.len_utf8();
            parts.push(&text[start..end]);
            start = end;
        }
        before = c;
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let content = &text[range.clone()];
    let start = range.start + content.len() - content.trim_start_matches('\n').len();
    let end = range.start + content.trim_end().len();
    (start < end && !text[start..end].trim().is_empty()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn passages(text: &str) -> Vec<Passage> {
        cut(text, &Outline::of(text, false), WORD_PIECES_MAX)
    }

    #[test]
    fn short_sections_share_a_passage_and_long_ones_do_not() {
        let sentence = "The provider fails and customers wait for an answer that never comes. ";
        let text = format!("# T\n\nshort\n\n## A\n\n{}\n\n## B\n\n{}\n", sentence.repeat(8), sentence.repeat(8));
        let found = passages(&text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].headings, ["T"]);
        assert_eq!(found[1].headings, ["T", "B"]);
        assert!(text[found[0].bytes.clone()].starts_with("short\n\n## A"));
    }

    #[test]
    fn a_long_block_is_cut_at_line_ends() {
        let text = (0..100).map(|n| format!("| row {n} | some value | another value |\n")).collect::<String>();
        let found = passages(&text);
        assert!(found.len() > 3);
        for passage in &found {
            let quote = &text[passage.bytes.clone()];
            assert!(quote.starts_with("| row") && quote.ends_with('|'), "{quote}");
            assert!(estimate(quote) <= WORD_PIECES_MAX);
        }
    }

    #[test]
    fn a_link_that_is_too_long_is_cut_between_its_words() {
        let link = format!("https://dashboards.example/graph?{}", "expr=sum%20rate&range=1h&".repeat(40));
        let found = passages(&link);
        assert!(found.len() > 2);
        let whole: Vec<&str> = link.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let quotes = found.iter().map(|passage| &link[passage.bytes.clone()]);
        let cut: Vec<&str> = quotes
            .flat_map(|quote| quote.split(|c: char| !c.is_alphanumeric()))
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(cut, whole);
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        let text = "äöü\n\n# Ж\n\n数据库 fails";
        let found = passages(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].chars, 0..text.chars().count());
        assert_eq!(slice_chars(text, 1..3), "öü");
        assert_eq!(slice_chars(text, 0..0), "");
    }

    proptest! {
        #[test]
        fn every_passage_is_the_stored_text_and_small_enough(
            text in "(---\n|# h[a-z]{0,9}\n|## i\n|```\n|\n|\\| é \\| ж \\|\n|- [a-z]{1,20}\n|[a-zäß数 .]{0,80}\n|[a-z]{300}\n|(word ){50,400}\n){0,25}"
        ) {
            let found = passages(&text);
            let mut end = 0;
            for passage in &found {
                let quote = &text[passage.bytes.clone()];
                prop_assert_eq!(slice_chars(&text, passage.chars.clone()), quote);
                prop_assert!(!quote.trim().is_empty());
                prop_assert!(passage.chars.start >= end);
                prop_assert!(estimate(quote) <= WORD_PIECES_MAX, "{} word pieces", estimate(quote));
                end = passage.chars.end;
            }
        }

        #[test]
        fn no_word_below_a_heading_is_lost(words in proptest::collection::vec("[a-z]{1,12}", 1..600)) {
            let text = format!("# Title\n\n{}\n", words.join(" "));
            let found: Vec<&str> = passages(&text).iter().map(|p| &text[p.bytes.clone()]).collect();
            let kept: Vec<&str> = found.iter().flat_map(|quote| quote.split_whitespace()).collect();
            prop_assert_eq!(kept, words.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
