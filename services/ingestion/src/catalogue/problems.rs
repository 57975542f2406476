//! What could not be taken over as it stands, counted by reason.

use std::collections::BTreeMap;

use attain_redaction::redact;

use crate::storage::CatalogueProblem;

/// Most examples of one reason.
const EXAMPLES_MAX: usize = 5;
/// Most characters of an example.
const EXAMPLE_CHARS_MAX: usize = 300;

/// What somebody wrote, as an example shows it: redacted, and only then cut, for half a secret would not be known for one.
pub(super) fn shown(said: &str, chars_max: usize) -> String {
    redact(said).0.chars().take(chars_max).collect()
}

#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<&'static str, (u32, Vec<String>)>);

impl Problems {
    pub(super) fn add(&mut self, code: &'static str, example: impl FnOnce() -> String) {
        let (count, examples) = self.0.entry(code).or_default();
        *count = count.saturating_add(1);
        if examples.len() < EXAMPLES_MAX {
            examples.push(shown(&example(), EXAMPLE_CHARS_MAX));
        }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.0.iter().map(|(code, (count, _))| (*code, *count as usize))
    }

    pub(super) fn listed(&self) -> Vec<CatalogueProblem> {
        let listed = self.0.iter().map(|(code, (count, examples))| CatalogueProblem {
            code: (*code).to_owned(),
            count: *count,
            examples: examples.clone(),
        });
        listed.collect()
    }
}
