//! Runs of characters that only a check can tell from what merely looks the same: digits of a card, groups of an address.

use std::borrow::Cow;

use regex::Regex;

/// Puts something else in place of every run that `recognise` knows. The pattern's group names where one may stand; `recognise`
/// gets the text with the place, and says what to put there and where it ends, which may be sooner. What it does not know may
/// hide the beginning of one that it does, so the search goes on right behind where that began.
///
/// The pattern must match a bounded length of ASCII in the group, so that the time stays linear.
pub(crate) fn replace<'t>(
    text: &mut Cow<'t, str>,
    pattern: &Regex,
    group: &str,
    recognise: impl Fn(&str, usize, usize) -> Option<(String, usize)>,
) -> usize {
    let (mut replaced, mut count) = (String::new(), 0);
    let (mut copied, mut at) = (0, 0);
    while let Some(run) = pattern.captures_at(text, at).and_then(|found| found.name(group)) {
        match recognise(text, run.start(), run.end()) {
            Some((stand_in, end)) => {
                replaced.push_str(&text[copied..run.start()]);
                replaced.push_str(&stand_in);
                (copied, at) = (end, end);
                count += 1;
            }
            None => at = run.start() + 1,
        }
    }
    if count > 0 {
        replaced.push_str(&text[copied..]);
        *text = Cow::Owned(replaced);
    }
    count
}

/// Where the longest beginning of a run of groups ends that passes a check: what is written behind a number, such as the month
/// in which a card expires, may look like more of it.
pub(crate) fn longest(text: &str, start: usize, end: usize, check: impl Fn(&str) -> bool) -> Option<usize> {
    let run = &text[start..end];
    let separators = run.char_indices().rev().filter(|(_, c)| !c.is_ascii_alphanumeric()).map(|(place, _)| place);
    std::iter::once(run.len()).chain(separators).find(|place| check(&run[..*place])).map(|place| start + place)
}
