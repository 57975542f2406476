//! Finds what in a document speaks to a machine rather than to a reader: orders to set other instructions aside, marks of
//! conversations, calls of tools, made-up citations, and the same in disguise. What is found lowers trust; no text is removed.
//!
//! The patterns are data (`data/instructions.toml`); [`disguises`] undoes what hides them. The time is linear in the length of the
//! text: a fixed number of readings, each matched by finite automata.

mod disguises;
mod stuffing;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::Deserialize;

use disguises::View;

/// Memory of the automaton that all patterns share; with less it is built anew again and again.
const AUTOMATON_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most findings of one document; further ones say nothing new.
const FINDINGS_MAX: usize = 20;

/// Instructions in what a reader of the rendered document does not see.
const HIDDEN: &str = "hidden_instructions";
/// Instructions that had to be decoded.
const ENCODED: &str = "encoded_instructions";
/// A word of letters that only look alike.
const MIXED_LETTERS: &str = "look_alike_letters";
/// The same words or lines over and over.
const STUFFED: &str = "keyword_stuffing";

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    Rules::read(include_str!("../../data/instructions.toml")).expect("the shipped patterns are valid")
});

/// Something in a document that lowers trust in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Line of the text as it was sent, from 1; 0 for the title.
    pub(crate) line: u32,
    /// What it is; see `data/instructions.toml`.
    pub(crate) code: String,
}

/// What lowers trust in a document, in the order of its lines. `sent` is the text as it came, `kept` what is stored of it, line
/// ends alike: what is found in the first only was hidden.
pub(crate) fn findings(title: &str, sent: &str, kept: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = RULES.scan(title).into_iter().map(|finding| Finding { line: 0, ..finding }).collect();
    if disguises::mixed_word(title).is_some() {
        found.push(Finding { line: 0, code: MIXED_LETTERS.to_owned() });
    }
    let shown = RULES.scan(sent);
    if sent.len() != kept.len()
        && let Some(first) = first_hidden(&shown, &RULES.scan(kept))
    {
        found.push(Finding { line: first, code: HIDDEN.to_owned() });
    }
    found.extend(shown);
    found.extend(heading_disguises(sent));
    found.extend(stuffing::line_of(kept).map(|line| Finding { line, code: STUFFED.to_owned() }));
    found.sort();
    found.dedup();
    found.truncate(FINDINGS_MAX);
    found
}

/// What a code means, for people.
pub(crate) fn reason(code: &str) -> &str {
    match code {
        HIDDEN => "instructions stood where no reader sees them",
        ENCODED => "instructions stood there in disguise: encoded, reversed or spelled out",
        MIXED_LETTERS => "a name is written with letters that only look like those it seems to have",
        STUFFED => "the same words or lines stand there over and over",
        _ => RULES.patterns.iter().find(|pattern| pattern.code == code).map_or(code, |pattern| &pattern.reason),
    }
}

/// The line of the first finding that the stored text lacks.
fn first_hidden(sent: &[Finding], kept: &[Finding]) -> Option<u32> {
    let mut left: Vec<&str> = kept.iter().map(|finding| finding.code.as_str()).collect();
    let hidden = sent.iter().find(|finding| match left.iter().position(|code| *code == finding.code) {
        Some(at) => {
            left.swap_remove(at);
            false
        }
        None => true,
    });
    hidden.map(|finding| finding.line)
}

/// Headings are what documents are found and named by.
fn heading_disguises(text: &str) -> Option<Finding> {
    let heading = |line: &&str| line.trim_start().starts_with('#');
    let at = text.lines().position(|line| heading(&line) && disguises::mixed_word(line).is_some())?;
    Some(Finding { line: number(at + 1), code: MIXED_LETTERS.to_owned() })
}

fn number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pattern: Vec<Pattern>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    code: String,
    reason: String,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    marks: Vec<String>,
    #[serde(default)]
    squeezed: Vec<String>,
}

/// The patterns, compiled.
struct Rules {
    patterns: Vec<Pattern>,
    words: Matcher,
    marks: Matcher,
    squeezed: Matcher,
}

/// Expressions that are tried together, each with the code of its pattern.
struct Matcher {
    set: RegexSet,
    each: Vec<(Regex, String)>,
}

impl Rules {
    fn read(text: &str) -> Result<Self, String> {
        let File { pattern: patterns } = toml::from_str(text).map_err(|error| error.to_string())?;
        let matcher = |part: fn(&Pattern) -> &Vec<String>| {
            let all = patterns.iter().flat_map(|pattern| part(pattern).iter().map(|regex| (regex, &pattern.code)));
            Matcher::new(all.collect())
        };
        let (words, marks, squeezed) = (matcher(|p| &p.words)?, matcher(|p| &p.marks)?, matcher(|p| &p.squeezed)?);
        Ok(Self { patterns, words, marks, squeezed })
    }

    /// Findings of a text, one a code and line.
    fn scan(&self, text: &str) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.marks.matches(&View::raw(text)).collect();
        found.extend(self.words.matches(&View::plain(text)));
        let disguised = View::disguised(text);
        let encoded = disguised.iter().flat_map(|view| self.words.matches(view));
        let spelled = View::spelled(text);
        let joined = self.squeezed.matches(&spelled);
        for finding in encoded.chain(joined).collect::<Vec<_>>() {
            // Where the plain reading found the same, nothing was disguised.
            if !found.iter().any(|known| known.code == finding.code && known.line == finding.line) {
                found.push(Finding { line: finding.line, code: ENCODED.to_owned() });
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

impl Matcher {
    /// Letters of other scripts are matched as they are; classes such as `\w` are of ASCII, which disguises are folded to.
    fn new(all: Vec<(&String, &String)>) -> Result<Self, String> {
        let fault = |error: regex::Error| error.to_string();
        let patterns: Vec<&String> = all.iter().map(|(regex, _)| *regex).collect();
        let set =
            RegexSetBuilder::new(patterns).unicode(false).dfa_size_limit(AUTOMATON_BYTES_MAX).build().map_err(fault)?;
        let each: Result<Vec<(Regex, String)>, String> = all
            .into_iter()
            .map(|(regex, code)| Ok((RegexBuilder::new(regex).unicode(false).build().map_err(fault)?, code.clone())))
            .collect();
        Ok(Self { set, each: each? })
    }

    fn matches<'a>(&'a self, view: &'a View) -> impl Iterator<Item = Finding> + 'a {
        let hit = self.set.matches(view.text.as_bytes()).into_iter().collect::<Vec<_>>();
        hit.into_iter().filter_map(|index| {
            let (regex, code) = &self.each[index];
            let at = regex.find(view.text.as_bytes())?.start();
            Some(Finding { line: view.line_of(at), code: code.clone() })
        })
    }
}
