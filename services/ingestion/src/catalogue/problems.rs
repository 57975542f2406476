//! What could not be taken over as it stands, counted by reason.

use std::collections::BTreeMap;

use attain_redaction::redact;

use crate::storage::CatalogueProblem;

/// Most examples of one reason.
const EXAMPLES_MAX: usize = 5;
/// Most characters of an example.
const EXAMPLE_CHARS_MAX: usize = 300;

#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<&'static str, (u32, Vec<String>)>);

impl Problems {
    pub(super) fn add(&mut self, code: &'static str, example: impl FnOnce() -> String) {
        let (count, examples) = self.0.entry(code).or_default();
        *count = count.saturating_add(1);
        if examples.len() < EXAMPLES_MAX {
            examples.push(redact(&example()).0.chars().take(EXAMPLE_CHARS_MAX).collect());
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
