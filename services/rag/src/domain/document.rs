//! Documents: what a sender may hand in, and what is kept of it.

use std::collections::BTreeSet;
use std::fmt;

use attain_redaction::why_refused;
use attain_vocabulary::{EntityId, InvalidValue, UnixMillis};
use sha2::{Digest as _, Sha256};

use super::cleaning::clean;
use super::outline::Outline;
use super::tokens;

/// Longest document name, in bytes (it is ASCII).
const ID_LEN_MAX: usize = 200;
/// Longest text, in characters: about a hundred printed pages.
pub(crate) const TEXT_CHARS_MAX: usize = 200_000;
const TITLE_CHARS_MAX: usize = 300;
const SERVICES_MAX: usize = 100;

/// Stable name of a document in its tenant, for example `runbooks/payment-provider-errors`: 1 to 200 ASCII letters, digits
/// and `. _ : / @ -`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DocumentId(String);

impl DocumentId {
    /// Checks a name. `field` is what the sender calls the value.
    pub(crate) fn new(field: &str, value: &str) -> Result<Self, InvalidValue> {
        if value.is_empty() {
            return Err(InvalidValue::new(field, "required", "a document name is required"));
        }
        if value.len() > ID_LEN_MAX {
            let reason = format!("{} characters; at most {ID_LEN_MAX} are kept", value.len());
            return Err(InvalidValue::new(field, "too_long", reason));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/@-".contains(c);
        if !value.starts_with(|c: char| c.is_ascii_alphanumeric()) || !value.chars().all(allowed) {
            let reason = "begins with a letter or digit and has only ASCII letters, digits and . _ : / @ -";
            return Err(InvalidValue::new(field, "malformed_name", reason));
        }
        Ok(Self(value.to_owned()))
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last `/`, without the ending of a text file.
    pub(crate) fn stem(&self) -> &str {
        let last = self.0.rsplit('/').next().unwrap_or(&self.0);
        [".md", ".markdown", ".yaml", ".yml", ".txt"]
            .iter()
            .find_map(|ending| last.strip_suffix(ending))
            .unwrap_or(last)
    }

    /// The parts before the last `/`.
    pub(crate) fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether the name says that the text is YAML.
    pub(crate) fn is_yaml(&self) -> bool {
        self.0.ends_with(".yaml") || self.0.ends_with(".yml")
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Kind {
    /// What to do.
    #[default]
    Runbook,
    /// What to promise.
    SloTemplate,
    /// What went wrong.
    Incident,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 3] = [Self::Runbook, Self::SloTemplate, Self::Incident];

    /// The word under which it is stored and indexed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Runbook => "runbook",
            Self::SloTemplate => "slo_template",
            Self::Incident => "incident",
        }
    }

    /// The kind behind a stored word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A checked and cleaned document that is not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) id: DocumentId,
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) service_ids: BTreeSet<EntityId>,
    /// Hidden parts taken out of title and text.
    pub(crate) hidden_count: usize,
    /// Secrets and personal data taken out of title and text.
    pub(crate) redacted_count: usize,
}

/// A document as a sender writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) id: &'a str,
    pub(crate) kind: Kind,
    /// Empty to take the first heading.
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
    pub(crate) service_ids: &'a [String],
}

impl Draft {
    /// Checks and cleans. Names the field of whatever cannot be kept.
    pub(crate) fn new(written: Written<'_>) -> Result<Self, InvalidValue> {
        let id = DocumentId::new("id", written.id)?;
        without_secrets("id", written.id)?;
        let service_ids = services(written.service_ids)?;
        check_length("text", written.text, TEXT_CHARS_MAX)?;
        check_length("title", written.title, TITLE_CHARS_MAX)?;
        let text = clean(written.text);
        if text.text.trim().is_empty() {
            return Err(InvalidValue::new("text", "required", "a document needs visible text"));
        }
        let title = clean(written.title);
        let (hidden_count, redacted_count) =
            (text.hidden_count + title.hidden_count, text.redacted_count + title.redacted_count);
        let title = title_or_heading(&title.text, &text.text, &id);
        Ok(Self { id, kind: written.kind, title, text: text.text, service_ids, hidden_count, redacted_count })
    }

    /// SHA-256 of the text as stored, in hex.
    pub(crate) fn text_sha256(&self) -> String {
        sha256_hex(self.text.as_bytes())
    }
}

/// A version of a document as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: DocumentId,
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) service_ids: BTreeSet<EntityId>,
    /// From 1; grows when the text changes, also across a removal.
    pub(crate) version: u32,
    pub(crate) text_sha256: String,
    pub(crate) update_ms: UnixMillis,
}

/// A stored document without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: DocumentId,
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) service_ids: BTreeSet<EntityId>,
    pub(crate) version: u32,
    pub(crate) text_sha256: String,
    pub(crate) update_ms: UnixMillis,
}

impl From<Stored> for Entry {
    fn from(stored: Stored) -> Self {
        let Stored { id, kind, title, service_ids, version, text_sha256, update_ms, text: _ } = stored;
        Self { id, kind, title, service_ids, version, text_sha256, update_ms }
    }
}

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn services(names: &[String]) -> Result<BTreeSet<EntityId>, InvalidValue> {
    if names.len() > SERVICES_MAX {
        let reason = format!("{} services; at most {SERVICES_MAX} are kept", names.len());
        return Err(InvalidValue::new("service_ids", "too_many", reason));
    }
    let checked = |(index, name): (usize, &String)| {
        let field = format!("service_ids/{index}");
        without_secrets(&field, name).and_then(|()| EntityId::new(&field, name))
    };
    names.iter().enumerate().map(checked).collect()
}

/// A name is what documents are found by, so one that holds a secret is refused rather than changed.
fn without_secrets(field: &str, name: &str) -> Result<(), InvalidValue> {
    why_refused(name).map_or(Ok(()), |why| Err(InvalidValue::new(field, "secret_in_name", why)))
}

fn check_length(field: &str, text: &str, chars_max: usize) -> Result<(), InvalidValue> {
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(InvalidValue::new(field, "too_long", format!("{chars} characters; at most {chars_max} are kept")));
    }
    Ok(())
}

fn title_or_heading(given: &str, text: &str, id: &DocumentId) -> String {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let given = one_line(given);
    if !given.is_empty() {
        return given;
    }
    let outline = Outline::of(text, id.is_yaml());
    let found = outline.headings.first().or(outline.front_matter_title.as_ref()).map(|heading| one_line(heading));
    let found = found.filter(|heading| !heading.is_empty()).unwrap_or_else(|| tokens::spaced(id.stem()));
    found.chars().take(TITLE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(id: &'static str, title: &'static str, text: &'static str) -> Written<'static> {
        Written { id, kind: Kind::Runbook, title, text, service_ids: &[] }
    }

    #[test]
    fn a_title_is_found_when_none_is_given() {
        for (title, text, expected) in [
            ("Given  title", "# Heading\nx", "Given title"),
            ("", "intro\n\n## First heading ##\nx", "First heading"),
            ("", "---\ntitle: \"From the front\"\n---\nno heading", "From the front"),
            ("", "no heading at all", "retry storm"),
        ] {
            let draft = Draft::new(written("runbooks/retry-storm.md", title, text)).expect("valid");
            assert_eq!(draft.title, expected);
        }
    }

    #[test]
    fn what_cannot_be_kept_is_named() {
        let long: &'static str = Box::leak("x".repeat(TEXT_CHARS_MAX + 1).into_boxed_str());
        for (id, title, text, field, code) in [
            ("", "", "x", "id", "required"),
            ("a b", "", "x", "id", "malformed_name"),
            ("runbooks/jane@mail.example", "", "x", "id", "secret_in_name"),
            ("a", "", " \n", "text", "required"),
            ("a", "", "<!-- only hidden -->", "text", "required"),
            ("a", "", long, "text", "too_long"),
        ] {
            let invalid = Draft::new(written(id, title, text)).expect_err(code);
            assert_eq!((invalid.field.as_str(), invalid.code), (field, code));
        }
        let bad = Written { service_ids: &["ok".to_owned(), "not ok".to_owned()], ..written("a", "", "x") };
        assert_eq!(Draft::new(bad).expect_err("a blank").field, "service_ids/1");
    }

    #[test]
    fn text_is_cleaned_before_it_is_hashed() {
        let draft = Draft::new(written("a", "", "mail a@b.example <!-- hidden --> now")).expect("valid");
        assert_eq!(draft.text, "mail [redacted:email]  now");
        assert_eq!((draft.hidden_count, draft.redacted_count), (1, 1));
        assert_eq!(draft.text_sha256(), sha256_hex(b"mail [redacted:email]  now"));
    }
}
