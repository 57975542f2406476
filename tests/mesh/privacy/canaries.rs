//! Texts with secrets that must appear nowhere, and the search for them in whatever is written or answered.

use std::path::Path;

const CORPUS: &str = include_str!("../../privacy/canaries.txt");
const ADDRESSES: &str = include_str!("../../privacy/addresses.txt");

/// A text with a secret in it.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    pub(crate) what: String,
    /// The part that must appear nowhere, however it is spelt.
    secret: String,
    pub(crate) text: String,
}

/// The corpus.
pub(crate) fn canaries() -> Vec<Canary> {
    read(CORPUS)
}

/// The corpus of addresses of machines.
pub(crate) fn addresses() -> Vec<Canary> {
    read(ADDRESSES)
}

fn read(corpus: &str) -> Vec<Canary> {
    let lines = corpus.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let parts: Vec<String> = line.split('\t').map(|part| part.replace('¦', "")).collect();
            let [what, secret, text] = <[String; 3]>::try_from(parts).unwrap();
            assert!(text.contains(&secret), "{what}");
            Canary { what, secret, text }
        })
        .collect()
}

/// Looks for every spelling of every canary in one pass over the bytes.
pub(crate) struct Search {
    forms: Vec<(Vec<u8>, String)>,
    /// Places in `forms` by the first two bytes.
    starts: Vec<Vec<usize>>,
}

impl Search {
    pub(crate) fn new(canaries: &[Canary]) -> Self {
        let mut forms = Vec::new();
        for canary in canaries {
            for (spelling, bytes) in spellings(&canary.secret) {
                forms.push((bytes, format!("{} ({spelling})", canary.what)));
            }
        }
        let mut starts = vec![Vec::new(); 1 << 16];
        for (place, (bytes, _)) in forms.iter().enumerate() {
            starts[start(bytes)].push(place);
        }
        Self { forms, starts }
    }

    /// What was found, with what stands around it.
    pub(crate) fn found(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for at in 0..bytes.len().saturating_sub(1) {
            for place in &self.starts[start(&bytes[at..])] {
                let (form, what) = &self.forms[*place];
                if bytes[at..].starts_with(form) {
                    let around = &bytes[at.saturating_sub(100)..(at + form.len() + 20).min(bytes.len())];
                    found.push(format!("{what} in …{}…", String::from_utf8_lossy(around)));
                }
            }
        }
        found.sort();
        found.dedup_by_key(|line| line.split(" in …").next().unwrap_or_default().to_owned());
        found
    }

    /// The same in every file below a folder.
    pub(crate) fn found_below(&self, folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(self.found_below(&path));
            } else if let Ok(bytes) = std::fs::read(&path) {
                // A file that went away meanwhile holds nothing.
                found.extend(self.found(&bytes).into_iter().map(|line| format!("{}: {line}", path.display())));
            }
        }
        found
    }
}

fn start(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

fn spellings(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let json = serde_json::to_string(secret).unwrap();
    let bent: String =
        secret.chars().map(|c| if c.is_ascii_alphanumeric() || "._:/@-".contains(c) { c } else { '-' }).collect();
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let compact: String = secret.chars().filter(|c| *c != ' ').collect();
    let mut spellings = vec![
        ("as it is", secret.as_bytes().to_vec()),
        ("in small letters", secret.to_lowercase().into_bytes()),
        ("escaped as JSON", json.trim_matches('"').as_bytes().to_vec()),
        ("bent into a name", bent.into_bytes()),
        ("in hex", hex.into_bytes()),
        ("without blanks", compact.into_bytes()),
        ("UTF-16LE", secret.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("UTF-16BE", secret.encode_utf16().flat_map(u16::to_be_bytes).collect()),
    ];
    spellings.extend(in_addresses(secret).into_iter().map(|written| ("percent-encoded", written.into_bytes())));
    spellings.extend((0..3).map(|offset| ("base64", base64_at(secret, offset).into_bytes())));
    spellings
}

/// How clients write a text into an address: with all but letters and digits encoded, with what RFC 3986 leaves unreserved as
/// it is, as forms do, with whatever a path may hold as it is, and with every byte encoded; in capital and in small digits.
pub(crate) fn in_addresses(text: &str) -> Vec<String> {
    let encoded = |plain: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte);
        text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    };
    let every_byte: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
    let mut written = vec![encoded(""), encoded("-._~"), encoded("-._~!$'()*,;=:@"), every_byte];
    written.push(encoded("-._~").replace("%20", "+"));
    let small: Vec<String> = written.iter().map(|text| in_small_digits(text)).collect();
    written.extend(small);
    written.sort();
    written.dedup();
    written
}

/// `%2F` as `%2f`, and everything else as it is.
fn in_small_digits(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "%" + &part[..2].to_lowercase() + &part[2..])
}

/// What is certain of the base64 of a text that stands `offset` bytes behind a multiple of three.
fn base64_at(text: &str, offset: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let skip = (3 - offset) % 3;
    let whole = text.as_bytes()[skip..].chunks_exact(3);
    whole
        .flat_map(|group| {
            let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
            (0..4).map(move |digit| char::from(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize]))
        })
        .collect()
}

#[test]
fn every_spelling_is_found() {
    let canaries = [canaries(), addresses()].concat();
    assert!(canaries.len() > 40);
    let search = Search::new(&canaries);
    assert!(search.found(b"nothing to see in here; password=[redacted:secret]").is_empty());
    for canary in &canaries {
        for (spelling, bytes) in spellings(&canary.secret) {
            let text = [b"before ".as_slice(), &bytes, b" after"].concat();
            assert!(!search.found(&text).is_empty(), "{} {spelling}", canary.what);
        }
    }
}
