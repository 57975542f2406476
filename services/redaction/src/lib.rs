//! Takes secrets and personal data out of text before it is stored or logged: telemetry, incidents, documents alike.
//!
//! Entry points: [`Redactor`], with what the operator chose, and [`redact`], without choices. A closed list of shapes
//! (`shapes`), some with a check of their own (`checks`), each replaced by `[redacted:what]`, so that a reader knows what
//! stood there.
//!
//! **Invariants.** Redacting twice changes nothing. The time is linear in the length of the text; one pass over it tells
//! which shapes can be there at all, so clean text costs that pass. It errs on the side of taking out: a harmless word after
//! `password:` goes too; only a value that is a reference as a whole, such as `$DB_PASSWORD` or `<your-token>`, stays.
//!
//! **Deliberately unknown here**: who stores the text, and what it means. Pure. Nothing is guessed from entropy: a secret
//! without a known prefix, name or place is not found.

mod checks;
mod shapes;

mod fold;

use std::borrow::Cow;

use regex::Captures;

pub use fold::{fold, fold_machine};

use shapes::{HINTS, SHAPES, Shape};

/// Most rounds over one text. What one round takes out may bring parts of another shape together; each round leaves fewer.
const ROUNDS_MAX: usize = 8;

/// What to take out. Cheap to copy; the patterns are compiled once a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Redactor {
    ip_addresses: bool,
}

impl Redactor {
    /// Secrets, e-mail addresses, card, account and telephone numbers; with `ip_addresses` also the addresses of machines
    /// (IPv4 and IPv6), but for those that every machine has.
    #[must_use]
    pub const fn new(ip_addresses: bool) -> Self {
        Self { ip_addresses }
    }

    /// The text without them, and how many there were; borrowed when there are none.
    #[must_use]
    pub fn redact<'text>(&self, text: &'text str) -> (Cow<'text, str>, usize) {
        let mut redacted = Cow::Borrowed(text);
        let mut count = 0;
        for _ in 0..ROUNDS_MAX {
            let found = self.round(&mut redacted);
            if found == 0 {
                break;
            }
            count += found;
        }
        (redacted, count)
    }

    fn round(&self, text: &mut Cow<'_, str>) -> usize {
        let mut count = 0;
        for index in HINTS.matches(text) {
            let shape = &SHAPES[index];
            if shape.on_demand && !self.ip_addresses {
                continue;
            }
            count += replace(shape, text);
        }
        count
    }
}

/// The text without secrets, e-mail addresses, card, account and telephone numbers, and how many there were; borrowed when
/// there are none.
#[must_use]
pub fn redact(text: &str) -> (Cow<'_, str>, usize) {
    Redactor::default().redact(text)
}

/// Replaces what has the shape; how often.
fn replace(shape: &Shape, text: &mut Cow<'_, str>) -> usize {
    let mut count = 0;
    let replaced = shape.pattern.replace_all(text, |found: &Captures<'_>| {
        if shape.is_one.is_some_and(|is_one| !is_one(found)) {
            return found[0].to_owned();
        }
        count += 1;
        let kept = |names: &[&str]| names.iter().find_map(|name| found.name(name)).map_or("", |group| group.as_str());
        let (lead, head, tail) = (kept(&["lead"]), kept(&["head", "head2"]), kept(&["tail", "tail2", "tail3"]));
        // Behind credentials stands what the address goes on with, however it was spelt.
        let tail = if found.name("password").is_some() { "@" } else { tail };
        format!("{lead}{head}[redacted:{}]{tail}", shape.mark)
    });
    if count > 0 {
        *text = Cow::Owned(replaced.into_owned());
    }
    count
}

#[cfg(test)]
mod tests;
