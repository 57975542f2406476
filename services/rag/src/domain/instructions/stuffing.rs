//! The same words or lines over and over, as a document has them that wants to be found for everything.

use std::collections::HashMap;

/// A line of at least this many words counts …
const LINE_WORDS_MIN: usize = 4;
/// … and stuffs a text from this many times on …
const LINE_REPEATS_MIN: usize = 12;
/// … where it makes up this share of the lines that are not blank.
const LINE_SHARE_MIN: f64 = 0.5;
/// A text of at least this many words …
const WORDS_MIN: usize = 120;
/// … is stuffed where one word of four letters or more makes up this share of it. Ordinary prose and tables stay below 0.12.
const WORD_SHARE_MIN: f64 = 0.3;

/// The line, from 1, at which the stuffing begins; `None` where there is none.
pub(super) fn line_of(text: &str) -> Option<u32> {
    repeated_line(text).or_else(|| repeated_word(text)).map(|at| u32::try_from(at + 1).unwrap_or(u32::MAX))
}

fn repeated_line(text: &str) -> Option<usize> {
    let mut seen: HashMap<&str, (usize, usize)> = HashMap::new();
    let mut lines = 0_usize;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        lines += 1;
        if line.split_whitespace().nth(LINE_WORDS_MIN - 1).is_some() {
            seen.entry(line.trim()).or_insert((number, 0)).1 += 1;
        }
    }
    let stuffs = |count: usize| count >= LINE_REPEATS_MIN && count as f64 >= LINE_SHARE_MIN * lines as f64;
    seen.into_values().filter(|(_, count)| stuffs(*count)).map(|(first, _)| first).min()
}

fn repeated_word(text: &str) -> Option<usize> {
    let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
    let mut words = 0_usize;
    for (number, line) in text.lines().enumerate() {
        for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            words += 1;
            if word.chars().count() >= 4 && word.chars().all(char::is_alphabetic) {
                seen.entry(word.to_lowercase()).or_insert((number, 0)).1 += 1;
            }
        }
    }
    let stuffs = |count: usize| words >= WORDS_MIN && count as f64 >= WORD_SHARE_MIN * words as f64;
    seen.into_values().filter(|(_, count)| stuffs(*count)).map(|(first, _)| first).min()
}
