//! Texts with secrets that must appear nowhere, and the search for them in whatever is written or answered.

use std::path::Path;

const CORPUS: &str = include_str!("../../privacy/canaries.txt");

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
    let lines = CORPUS.lines().filter(|line| !line.starts_with('#'));
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
    let percent: String = secret
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let json = serde_json::to_string(secret).unwrap();
    let bent: String =
        secret.chars().map(|c| if c.is_ascii_alphanumeric() || "._:/@-".contains(c) { c } else { '-' }).collect();
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let compact: String = secret.chars().filter(|c| *c != ' ').collect();
    let mut spellings = vec![
        ("as it is", secret.as_bytes().to_vec()),
        ("in small letters", secret.to_lowercase().into_bytes()),
        ("percent-encoded", percent.into_bytes()),
        ("escaped as JSON", json.trim_matches('"').as_bytes().to_vec()),
        ("bent into a name", bent.into_bytes()),
        ("in hex", hex.into_bytes()),
        ("without blanks", compact.into_bytes()),
        ("UTF-16LE", secret.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("UTF-16BE", secret.encode_utf16().flat_map(u16::to_be_bytes).collect()),
    ];
    spellings.extend((0..3).map(|offset| ("base64", base64_at(secret, offset).into_bytes())));
    spellings
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
    let canaries = canaries();
    assert!(canaries.len() > 30);
    let search = Search::new(&canaries);
    assert!(search.found(b"nothing to see in here; password=[redacted:secret]").is_empty());
    for canary in &canaries {
        for (spelling, bytes) in spellings(&canary.secret) {
            let text = [b"before ".as_slice(), &bytes, b" after"].concat();
            assert!(!search.found(&text).is_empty(), "{} {spelling}", canary.what);
        }
    }
}
