//! Addresses of machines in a text: where they stand, and what stands there afterwards.
//!
//! Sources: RFC 4291 and RFC 5952 (IPv6), the names that Amazon gives to instances (`ip-10-0-0-1`, `ec2-…`) and Kubernetes to
//! pods (`10-0-0-1.default.pod`).

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::LazyLock;

use hmac::{Hmac, Mac as _};
use regex::{Regex, RegexSet};
use sha2::Sha256;

use super::runs;
use super::shapes::spelt;

/// What a pseudonym begins with.
const PREFIX: &str = "ip-";
/// Digits of a pseudonym. Among a million addresses two share one with a chance of 1 in 560.
const DIGITS: usize = 12;

/// A hint, as of other shapes, and a pattern whose group `ip` may be an address. What has to stand behind it is checked
/// apart: a pattern that took it along would hide an address that begins there.
const WRITTEN: &[(&str, &str)] = &[
    // IPv6 first: it may end like IPv4. A word and a colon may stand before it, as in `peer:2001:db8::1`.
    (
        "[0-9A-Fa-f]*{colon}[0-9A-Fa-f]*{colon}",
        r"(?:^|[^0-9A-Za-z_:.]|_|[0-9A-Za-z_]*[G-Zg-z_][0-9A-Za-z_]*:|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[nrtbf])(?P<ip>[0-9A-Fa-f]{0,4}(?:{colon}[0-9A-Fa-f]{0,4}){2,7}(?:(?:{dot}[0-9]{1,3}){3})?)",
    ),
    ("[0-9]{dot}[0-9]{1,3}{dot}[0-9]", r"{bound}(?P<ip>[0-9]{1,3}(?:{dot}[0-9]{1,3}){3})"),
    ("(?i-u:ip|ec2)-[0-9]{1,3}-[0-9]", r"{bound}(?P<ip>(?i:ip|ec2)-[0-9]{1,3}(?:-[0-9]{1,3}){3})"),
    ("[0-9]-[0-9]{1,3}-[0-9]", r"{bound}(?P<ip>[0-9]{1,3}(?:-[0-9]{1,3}){3})\.[a-z0-9-]+\.pod"),
];

static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let pattern =
        |(_, written): &(&str, &str)| Regex::new(&spelt(written)).expect("the patterns of this file are valid");
    WRITTEN.iter().map(pattern).collect()
});

static HINTS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(WRITTEN.iter().map(|(hint, _)| spelt(hint))).expect("the hints of this file are valid")
});

/// What addresses of machines are hidden by in names: whoever has it can find out which address a pseudonym stands for.
#[derive(Clone)]
pub struct AddressKey(Hmac<Sha256>);

impl AddressKey {
    /// Shortest secret, in bytes. There are only 2³² IPv4 addresses: without a secret that cannot be guessed, trying them
    /// all would tell which one a pseudonym stands for.
    pub const BYTES_MIN: usize = 32;

    /// `None` for a secret that is too short.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let keyed = || Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        (secret.len() >= Self::BYTES_MIN).then(|| Self(keyed()))
    }

    /// `ip-` and twelve hexadecimal digits, the same for every spelling of an address.
    pub(crate) fn pseudonym(&self, address: IpAddr) -> String {
        let digest = self.0.clone().chain_update(address.to_canonical().to_string()).finalize().into_bytes();
        let mut pseudonym = PREFIX.to_owned();
        for byte in &digest[..DIGITS / 2] {
            let _ = write!(pseudonym, "{byte:02x}");
        }
        pseudonym
    }
}

impl fmt::Debug for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressKey(…)")
    }
}

/// Whether a name as a whole is what stands for an address.
#[must_use]
pub fn is_pseudonym(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == DIGITS && rest.bytes().all(is_digit))
}

/// Whether it is the address of one machine: not one that every machine has.
pub(crate) fn is_of_one_machine(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_loopback() && !address.is_unspecified()
}

/// Puts what `stand_in` makes of it in place of every address; how many there were.
pub(crate) fn replace(text: &mut Cow<'_, str>, stand_in: impl Fn(IpAddr) -> String) -> usize {
    let mut count = 0;
    for index in HINTS.matches(text) {
        count += runs::replace(text, &PATTERNS[index], "ip", |text, start, end| {
            recognised(text, start, end).map(|(address, end)| (stand_in(address), end))
        });
    }
    count
}

/// The address that stands between two places, and where it ends: a colon behind it may be one of the sentence.
fn recognised(text: &str, start: usize, end: usize) -> Option<(IpAddr, usize)> {
    let shorter = ["%3a", "%3A", r"\u003a", r"\u003A", ":"].iter().find(|colon| text[start..end].ends_with(**colon));
    let ends = std::iter::once(end).chain(shorter.map(|colon| end - colon.len()));
    let grouped = text[start..end].contains([':', '%', '\\']);
    ends.filter(|end| is_end(&text[*end..], grouped)).find_map(|end| Some((read(&text[start..end])?, end)))
}

/// Whether an address may end before this: no more of a word, and no more groups of what would be none, such as a digest.
fn is_end(rest: &str, grouped: bool) -> bool {
    match rest.strip_prefix(':').filter(|_| grouped) {
        None => !rest.starts_with(|c: char| c.is_ascii_alphanumeric()),
        Some(behind_colon) => {
            let behind_port = behind_colon.trim_start_matches(|c: char| c.is_ascii_digit());
            !behind_port.starts_with(|c: char| c == ':' || c.is_ascii_hexdigit())
        }
    }
}

fn read(written: &str) -> Option<IpAddr> {
    let mut plain = written.to_ascii_lowercase();
    for (spelling, meant) in [("%3a", ":"), (r"\u003a", ":"), ("%2e", "."), (r"\u002e", ".")] {
        if plain.contains(spelling) {
            plain = plain.replace(spelling, meant);
        }
    }
    let dotted = plain.strip_prefix("ip-").or(plain.strip_prefix("ec2-")).unwrap_or(&plain).replace('-', ".");
    dotted.parse().ok().filter(|address| is_of_one_machine(*address))
}
