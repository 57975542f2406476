//! Documents: what a sender may hand in, and what is kept of it.

use std::collections::BTreeSet;
use std::fmt;

use attain_redaction::why_refused;
use attain_vocabulary::{EntityId, InvalidValue, UnixMillis};
use sha2::{Digest as _, Sha256};

use super::about::{About, OWN_SOURCE, Source, Visibility};
use super::cleaning::clean;
use super::front_matter::{self, FrontMatter, wrong};
use super::outline::Outline;
use super::{instructions, slo_template, tokens};

/// Longest document name, in bytes (it is ASCII).
const ID_LEN_MAX: usize = 200;
/// Longest text, in characters: about a hundred printed pages.
pub(crate) const TEXT_CHARS_MAX: usize = 200_000;
const TITLE_CHARS_MAX: usize = 300;
const SERVICES_MAX: usize = 100;
/// Most documents whose place one takes.
const SUPERSEDES_MAX: usize = 50;
/// Longest name of an owner or a licence, in characters.
const NAME_CHARS_MAX: usize = 200;
/// Longest address or path of a source, in characters.
const SOURCE_CHARS_MAX: usize = 500;
/// A review may be dated this much ahead: clocks differ, and so do days.
const REVIEWED_AHEAD_MS: UnixMillis = 24 * 3_600_000;

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
    /// What was decided, and why.
    Lesson,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 4] = [Self::Runbook, Self::SloTemplate, Self::Incident, Self::Lesson];

    /// The word under which it is stored and indexed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Runbook => "runbook",
            Self::SloTemplate => "slo_template",
            Self::Incident => "incident",
            Self::Lesson => "lesson",
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
    /// What is known of it beside the text.
    pub(crate) about: About,
}

/// What a sender says of a document beside its text; what is left out is taken from the front matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    pub(crate) kind: Option<Kind>,
    pub(crate) owner: String,
    pub(crate) licence: String,
    pub(crate) reviewed_ms: Option<UnixMillis>,
    pub(crate) review_due_ms: Option<UnixMillis>,
    pub(crate) supersedes: Vec<String>,
    pub(crate) superseded_by: String,
    pub(crate) visibility: Option<Visibility>,
    pub(crate) source: Source,
}

/// What the sender of a document may say, and when it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender {
    /// It is the mesh itself.
    pub(crate) is_mesh: bool,
    /// Its tenant is the one whose documents everybody reads.
    pub(crate) publishes: bool,
    /// It has the role approver, or none because nobody asked it for one.
    pub(crate) may_approve: bool,
    pub(crate) now_ms: UnixMillis,
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
    /// Checks and cleans a document of which nothing else is said. Names the field of whatever cannot be kept.
    #[cfg(test)]
    pub(crate) fn new(written: Written<'_>) -> Result<Self, InvalidValue> {
        let sender = Sender { is_mesh: false, publishes: false, may_approve: true, now_ms: UnixMillis::MAX / 2 };
        Self::from_sender(written, Said { kind: Some(written.kind), ..Said::default() }, sender)
    }

    /// Checks and cleans. Names the field of whatever cannot be kept. `written.kind` counts where neither the sender nor the
    /// front matter says another.
    pub(crate) fn from_sender(written: Written<'_>, said: Said, sender: Sender) -> Result<Self, InvalidValue> {
        let id = DocumentId::new("id", written.id)?;
        without_secrets("id", written.id)?;
        check_length("text", written.text, TEXT_CHARS_MAX)?;
        check_length("title", written.title, TITLE_CHARS_MAX)?;
        let text = clean(written.text);
        if text.text.trim().is_empty() {
            return Err(InvalidValue::new("text", "required", "a document needs visible text"));
        }
        let front = if id.is_yaml() { FrontMatter::default() } else { front_matter::read(&text.text)? };
        let service_ids = match written.service_ids {
            [] => services("front_matter/services", &front.services)?,
            named => services("service_ids", named)?,
        };
        let title = clean(written.title);
        let counts = (text.hidden_count + title.hidden_count, text.redacted_count + title.redacted_count);
        let template = slo_template::read(&text.text);
        let kind = kind(said.kind, &front, template.as_ref().map_or(written.kind, |_| Kind::SloTemplate), sender)?;
        let title =
            match template.as_ref().and_then(slo_template::Template::title).filter(|_| title.text.trim().is_empty()) {
                Some(found) => found.chars().take(TITLE_CHARS_MAX).collect(),
                None => title_or_heading(&title.text, front.title.as_deref(), &text.text, &id),
            };
        let mut about = about(&id, said, front, sender)?;
        about.findings = instructions::findings(&title, &with_line_ends(written.text), &text.text);
        about.objectives = template.map(|template| template.objectives).unwrap_or_default();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (about.hidden_count, about.redacted_count) = (count(counts.0), count(counts.1));
        Ok(Self { id, kind, title, text: text.text, service_ids, about })
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
    pub(crate) about: About,
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
    pub(crate) about: About,
}

impl From<Stored> for Entry {
    fn from(stored: Stored) -> Self {
        let Stored { id, kind, title, service_ids, version, text_sha256, update_ms, about, text: _ } = stored;
        Self { id, kind, title, service_ids, version, text_sha256, update_ms, about }
    }
}

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn services(field: &str, names: &[String]) -> Result<BTreeSet<EntityId>, InvalidValue> {
    if names.len() > SERVICES_MAX {
        let reason = format!("{} services; at most {SERVICES_MAX} are kept", names.len());
        return Err(InvalidValue::new(field, "too_many", reason));
    }
    let checked = |(index, name): (usize, &String)| {
        let field = format!("{field}/{index}");
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

/// What is said beside the text, by the sender or else by the front matter.
fn about(id: &DocumentId, said: Said, front: FrontMatter, sender: Sender) -> Result<About, InvalidValue> {
    let time = |key: &str, said: Option<UnixMillis>, front: Option<String>| match (said, front) {
        (Some(time), _) => Ok(Some(time)),
        (None, value) => value.map(|value| front_matter::time(key, &value)).transpose(),
    };
    let reviewed_ms = time("reviewed", said.reviewed_ms, front.reviewed)?;
    if reviewed_ms.is_some_and(|time| time > sender.now_ms.saturating_add(REVIEWED_AHEAD_MS)) {
        return Err(InvalidValue::new("reviewed_time", "in_the_future", "a review that has not been cannot be dated"));
    }
    let review_due_ms = time("review_due", said.review_due_ms, front.review_due)?;
    if let (Some(reviewed), Some(due)) = (reviewed_ms, review_due_ms)
        && due < reviewed
    {
        return Err(InvalidValue::new(
            "review_due_time",
            "before_review",
            "the next review is due before the last one",
        ));
    }
    let superseded_by = match said.superseded_by.as_str() {
        "" => front.superseded_by.map(|by| other(id, "front_matter/superseded_by", &by)).transpose()?,
        by => Some(other(id, "superseded_by", by)?),
    };
    let supersedes = match said.supersedes.as_slice() {
        [] => others(id, "front_matter/supersedes", &front.supersedes)?,
        named => others(id, "supersedes", named)?,
    };
    Ok(About {
        owner: name("owner", said.owner, front.owner)?,
        licence: name("licence", said.licence, front.licence)?,
        reviewed_ms,
        review_due_ms,
        supersedes,
        superseded_by,
        visibility: visibility(said.visibility, front.visibility, sender)?,
        source: source(said.source, sender)?,
        ..About::default()
    })
}

fn kind(said: Option<Kind>, front: &FrontMatter, otherwise: Kind, sender: Sender) -> Result<Kind, InvalidValue> {
    let kind = match (said, front.kind.as_deref()) {
        (Some(kind), _) => kind,
        (None, None) => otherwise,
        (None, Some(word)) => Kind::parse(&word.to_lowercase().replace(['-', ' '], "_")).ok_or_else(|| {
            wrong("kind", "unknown_value", "it is one of runbook, slo-template and incident".to_owned())
        })?,
    };
    if kind == Kind::Lesson && !sender.is_mesh {
        return Err(InvalidValue::new("kind", "reserved", "lessons are written by the mesh, from decisions"));
    }
    Ok(kind)
}

fn visibility(said: Option<Visibility>, front: Option<String>, sender: Sender) -> Result<Visibility, InvalidValue> {
    let front = front.map(|word| {
        let known = Visibility::parse(&word.to_lowercase());
        known.ok_or_else(|| wrong("visibility", "unknown_value", "it is tenant or public".to_owned()))
    });
    let field = if said.is_none() && front.is_some() { "front_matter/visibility" } else { "visibility" };
    let wanted = match said {
        Some(said) => Some(said),
        None => front.transpose()?,
    };
    let refused = |code, reason: &str| Err(InvalidValue::new(field, code, reason));
    match (wanted, sender.publishes) {
        (Some(Visibility::Public), false) => {
            refused("not_allowed", "this tenant does not publish; rag.public_tenant names the one that does")
        }
        (Some(Visibility::Tenant), true) => refused("not_allowed", "everything that this tenant keeps is public"),
        (_, true) if !sender.may_approve => {
            refused("needs_approver", "what every tenant reads needs the role approver")
        }
        (_, true) => Ok(Visibility::Public),
        (_, false) => Ok(Visibility::Tenant),
    }
}

fn source(said: Source, sender: Sender) -> Result<Source, InvalidValue> {
    if said.uri.starts_with(OWN_SOURCE) && !sender.is_mesh {
        let reason = format!("`{OWN_SOURCE}` stands for what the mesh itself writes");
        return Err(InvalidValue::new("source/uri", "reserved", reason));
    }
    check_length("source/uri", &said.uri, SOURCE_CHARS_MAX)?;
    check_length("source/revision", &said.revision, NAME_CHARS_MAX)?;
    Ok(Source { uri: one_line(&clean(&said.uri).text), revision: one_line(&clean(&said.revision).text) })
}

/// A name that the sender gives, or else the front matter; cleaned.
fn name(key: &str, said: String, front: Option<String>) -> Result<String, InvalidValue> {
    if said.is_empty() {
        let value = front.unwrap_or_default();
        check_length(&format!("front_matter/{key}"), &value, NAME_CHARS_MAX)?;
        return Ok(one_line(&value));
    }
    check_length(key, &said, NAME_CHARS_MAX)?;
    Ok(one_line(&clean(&said).text))
}

fn others(id: &DocumentId, field: &str, names: &[String]) -> Result<BTreeSet<DocumentId>, InvalidValue> {
    if names.len() > SUPERSEDES_MAX {
        let reason = format!("{} documents; at most {SUPERSEDES_MAX} are taken", names.len());
        return Err(InvalidValue::new(field, "too_many", reason));
    }
    names.iter().enumerate().map(|(index, name)| other(id, &format!("{field}/{index}"), name)).collect()
}

/// The name of another document.
fn other(id: &DocumentId, field: &str, name: &str) -> Result<DocumentId, InvalidValue> {
    let other = DocumentId::new(field, name)?;
    without_secrets(field, name)?;
    if other == *id {
        return Err(InvalidValue::new(field, "itself", "a document cannot take its own place"));
    }
    Ok(other)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Line ends as they are stored, so that lines are counted alike.
fn with_line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn title_or_heading(given: &str, front: Option<&str>, text: &str, id: &DocumentId) -> String {
    let given = one_line(given);
    if !given.is_empty() {
        return given;
    }
    let outline = Outline::of(text, id.is_yaml());
    let found = outline.headings.first().map(String::as_str).or(front).map(one_line);
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
        assert_eq!((draft.about.hidden_count, draft.about.redacted_count), (1, 1));
        assert_eq!(draft.text_sha256(), sha256_hex(b"mail [redacted:email]  now"));
    }
}
