//! Takes secrets and personal data out of text before it is stored or logged: telemetry, incidents, documents alike.
//!
//! Entry points: [`redact`] for texts and [`redact_name`] for names that were observed, with what the operator chose once a
//! process ([`configure`]); [`Redactor`] for whoever chooses by itself. A closed list of shapes (`shapes`), some with a check
//! of their own (`checks`), each replaced by `[redacted:what]`, so that a reader knows what stood there. Addresses of machines
//! (`addresses`) go only where the operator wants it; in a name each is replaced by a pseudonym of its own, for two names with
//! the same mark would be one.
//!
//! **Invariants.** Redacting twice changes nothing. The time is linear in the length of the text; one pass over it tells
//! which shapes can be there at all, so clean text costs that pass. It errs on the side of taking out: a harmless word after
//! `password:` goes too; only a value that is a reference as a whole, such as `$DB_PASSWORD` or `<your-token>`, stays.
//!
//! **Deliberately unknown here**: who stores the text, what it means, and where the choice is written. Nothing is guessed
//! from entropy: a secret without a known prefix, name or place is not found.

mod addresses;
mod checks;
mod runs;
mod shapes;

mod fold;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;

use regex::Captures;

pub use addresses::{AddressKey, is_pseudonym};
pub use fold::{fold, fold_machine};

use shapes::{HINTS, SHAPES, Shape};

/// Most rounds over one text. What one round takes out may bring parts of another shape together; each round leaves fewer.
const ROUNDS_MAX: usize = 8;
/// What stands where the address of a machine stood.
const ADDRESS_MARK: &str = "[redacted:ip]";

/// What the process takes out; nothing but what everybody does until [`configure`] says otherwise.
static OF_THE_PROCESS: OnceLock<Redactor> = OnceLock::new();
static WITHOUT_CHOICES: Redactor = Redactor { addresses: None };

/// What to take out: by default secrets, e-mail addresses, card, account and telephone numbers. The patterns are compiled
/// once a process.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    addresses: Option<AddressKey>,
}

/// The process has chosen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlreadyConfigured;

impl fmt::Display for AlreadyConfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what is redacted was chosen before")
    }
}

impl std::error::Error for AlreadyConfigured {}

impl Redactor {
    /// Takes out the addresses of machines (IPv4 and IPv6) as well, but for those that every machine has.
    #[must_use]
    pub const fn with_addresses(key: AddressKey) -> Self {
        Self { addresses: Some(key) }
    }

    /// The text without what is taken out, and how often there was something; borrowed when there was nothing.
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
        let mut count: usize = HINTS.matches(text).into_iter().map(|index| replace(&SHAPES[index], text)).sum();
        if self.addresses.is_some() {
            count += addresses::replace(text, |_| ADDRESS_MARK.to_owned());
        }
        count
    }

    /// A name that was observed, without what is taken out. The address of a machine becomes a pseudonym of its own, `ip-` and
    /// twelve hexadecimal digits, so that what has a name by its address keeps one, and another one than its neighbour.
    #[must_use]
    pub fn redact_name<'name>(&self, name: &'name str) -> Cow<'name, str> {
        // Secrets first: one that has an address within goes as a whole.
        let mut redacted = WITHOUT_CHOICES.redact(name).0;
        if let Some(key) = &self.addresses {
            addresses::replace(&mut redacted, |address| key.pseudonym(address));
        }
        redacted
    }

    /// How an address may be shown: as it is, or by its pseudonym.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> String {
        match &self.addresses {
            Some(key) if addresses::is_of_one_machine(address) => key.pseudonym(address),
            _ => address.to_string(),
        }
    }
}

/// Chooses what the process takes out, before anything comes in. Everything that stores or logs asks the process rather than
/// being handed the choice: a place that was forgotten would be a leak.
///
/// # Errors
/// Where the process has chosen before: what came in meanwhile would be kept by another rule.
pub fn configure(redactor: Redactor) -> Result<(), AlreadyConfigured> {
    OF_THE_PROCESS.set(redactor).map_err(|_| AlreadyConfigured)
}

fn of_the_process() -> &'static Redactor {
    OF_THE_PROCESS.get().unwrap_or(&WITHOUT_CHOICES)
}

/// [`Redactor::redact`] as the process has chosen.
#[must_use]
pub fn redact(text: &str) -> (Cow<'_, str>, usize) {
    of_the_process().redact(text)
}

/// [`Redactor::redact_name`] as the process has chosen.
#[must_use]
pub fn redact_name(name: &str) -> Cow<'_, str> {
    of_the_process().redact_name(name)
}

/// [`Redactor::address`] as the process has chosen.
#[must_use]
pub fn shown_address(address: IpAddr) -> String {
    of_the_process().address(address)
}

/// Why a name that a request gives is refused, where it holds what is taken out of texts; nothing of the name is repeated.
#[must_use]
pub fn why_refused(name: &str) -> Option<&'static str> {
    if WITHOUT_CHOICES.redact(name).1 > 0 {
        return Some("looks like a secret or personal data, which is not kept");
    }
    let reason = "holds the address of a machine, which privacy.ip_addresses keeps out; choose a name without it, or the \
        pseudonym (ip- and twelve digits) under which telemetry shows the machine";
    (redact(name).1 > 0).then_some(reason)
}

/// Replaces what has the shape; how often.
fn replace(shape: &Shape, text: &mut Cow<'_, str>) -> usize {
    if let Some((group, check)) = shape.run {
        return runs::replace(text, &shape.pattern, group, |text, start, end| {
            runs::longest(text, start, end, check).map(|end| (format!("[redacted:{}]", shape.mark), end))
        });
    }
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
