//! A stored document made ready to be found: passages, sparse weights, sentences to embed, names.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::document::{Kind, Stored, sha256_hex};
use super::outline::Outline;
use super::passage::{self, Passage};
use super::settings::{Reading, Settings};
use super::terms::{Fields, TermId, Weights, term_id};
use super::{glossary, names, sketch, tokens};

/// Grows when this module, or what it calls, gives other results for the same text.
const RECIPE_VERSION: &str = "3";
/// Characters of the beginning of a document that are embedded as its lead.
const LEAD_CHARS: usize = 450;
/// Folders whose names say nothing about a document.
const PLAIN_FOLDERS: [&str; 8] =
    ["docs", "content", "runbooks", "alerts", "examples", "rules", "templates", "incidents"];

/// Glosses that are embedded with a title.
const GLOSSES_MAX: usize = 3;

static OBJECTIVE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)\bslo|objective").expect("a valid pattern"));
static TIERS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?m)^\s*tiers?:[ \t]*\[?[ \t"']*([1-4](?:[ \t"']*,[ \t"']*[1-4])*)[ \t"']*\]?[ \t]*$"#)
        .expect("a valid pattern")
});

static RECIPE: LazyLock<String> = LazyLock::new(|| {
    let data =
        [include_str!("../../data/retrieval.toml"), include_str!("../../data/stop_words.txt"), glossary::GLOSSARY];
    let parts: Vec<&str> = std::iter::once(RECIPE_VERSION).chain(data).collect();
    sha256_hex(parts.join("\n").as_bytes())[..16].to_owned()
});

/// What is indexed of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prepared {
    /// Names of exactly this content under this recipe; what is indexed under another key is out of date.
    pub(crate) key: String,
    /// BM25F weights.
    pub(crate) weights: Weights,
    /// Every term of the document.
    pub(crate) terms: BTreeSet<TermId>,
    /// Names a question may use for it.
    pub(crate) names: BTreeSet<String>,
    /// The terms of its title, by which documents about the same thing are known.
    pub(crate) title_terms: BTreeSet<TermId>,
    /// By which copies of one text are known.
    pub(crate) sketch: BTreeSet<u32>,
    /// Tiers that it says it is for.
    pub(crate) tiers: BTreeSet<u8>,
    /// Whether it states objectives.
    pub(crate) states_objective: bool,
    /// What is embedded as its title: the title and what its names stand for.
    pub(crate) title_sentence: String,
    /// What is embedded as its beginning.
    pub(crate) lead_sentence: String,
    /// Its passages in order.
    pub(crate) passages: Vec<PreparedPassage>,
}

/// What is indexed of a passage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PreparedPassage {
    /// Where it is in the stored text, in Unicode scalar values.
    pub(crate) chars: Range<usize>,
    pub(crate) quote_sha256: String,
    pub(crate) headings: Vec<String>,
    pub(crate) weights: Weights,
    /// What is embedded: title and headings before the text.
    pub(crate) sentence: String,
}

/// Names the rules by which documents are prepared; part of every [`Prepared::key`].
pub(crate) fn recipe() -> &'static str {
    &RECIPE
}

/// Prepares a document. The same document always gives the same result.
pub(crate) fn prepare(document: &Stored, settings: &Settings) -> Prepared {
    let text = document.text.as_str();
    let outline = Outline::of(text, document.id.is_yaml());
    let display = display_title(document);
    let reading = &settings.reading;
    let passages = passage::cut(text, &outline, reading.word_pieces_max);
    let fields = document_fields(document, &outline, reading);
    let preparer = Preparer { document, display: &display, settings };
    let passages: Vec<PreparedPassage> = passages.into_iter().map(|passage| preparer.passage(passage)).collect();
    Prepared {
        key: key(document),
        weights: fields.weights(&settings.document),
        terms: fields.term_ids().collect(),
        names: names::of_document(&document.id, &document.title, text, &outline),
        lead_sentence: preparer.lead(&outline),
        title_terms: fields.title.iter().map(|term| term_id(term)).collect(),
        sketch: sketch::sketch(&fields.body),
        tiers: tiers(text),
        states_objective: document.kind == Kind::SloTemplate || (document.id.is_yaml() && OBJECTIVE.is_match(text)),
        title_sentence: if reading.embeds_glosses { with_glosses(&display) } else { display.clone() },
        passages,
    }
}

/// The key that [`prepare`] would give, without preparing.
pub(crate) fn key(document: &Stored) -> String {
    let services: Vec<&str> = document.service_ids.iter().map(|id| id.as_str()).collect();
    let parts = [
        recipe(),
        &document.version.to_string(),
        &document.text_sha256,
        document.kind.as_str(),
        &document.title,
        &services.join(","),
        if document.about.is_doubted() { "doubted" } else { "" },
        &document.about.reviewed_ms.map(|ms| ms.to_string()).unwrap_or_default(),
    ];
    sha256_hex(parts.join("\n").as_bytes())[..32].to_owned()
}

struct Preparer<'a> {
    document: &'a Stored,
    display: &'a str,
    settings: &'a Settings,
}

impl Preparer<'_> {
    fn passage(&self, passage: Passage) -> PreparedPassage {
        let quote = &self.document.text[passage.bytes.clone()];
        let below_title: Vec<&str> =
            passage.headings.iter().map(String::as_str).filter(|heading| *heading != self.document.title).collect();
        let tokens = self.settings.reading.tokens();
        let fields = Fields {
            title: tokens(&self.document.title),
            headings: tokens(&below_title.join(" ")),
            path: Vec::new(),
            gloss: Vec::new(),
            body: tokens(quote),
        };
        let sentence = self.sentence(&passage, &below_title);
        PreparedPassage {
            chars: passage.chars,
            quote_sha256: sha256_hex(quote.as_bytes()),
            weights: fields.weights(&self.settings.passage),
            headings: passage.headings,
            sentence,
        }
    }

    /// What is embedded of a passage.
    fn sentence(&self, passage: &Passage, headings: &[&str]) -> String {
        let (text, reading) = (self.document.text.as_str(), &self.settings.reading);
        let mut sentence = String::new();
        if reading.embeds_headings {
            sentence.push_str(&self.context());
            for heading in headings {
                sentence.push_str(" > ");
                sentence.push_str(heading);
            }
            sentence.push('\n');
        }
        let before = text[..passage.bytes.start].char_indices().rev().take(reading.neighbour_chars).last();
        sentence.push_str(&text[before.map_or(passage.bytes.start, |(at, _)| at)..passage.bytes.end]);
        sentence
    }

    fn lead(&self, outline: &Outline) -> String {
        let text = self.document.text.as_str();
        let told = self.document.about.objectives.iter().take(2).map(String::as_str);
        let beginning: Vec<&str> =
            told.chain(outline.blocks.iter().take(6).map(|block| &text[block.range.clone()])).collect();
        let beginning: String = beginning.join("\n").chars().take(LEAD_CHARS).collect();
        format!("{}. {beginning}", self.context())
    }

    /// `folder: title`, without folders whose names say nothing.
    fn context(&self) -> String {
        let folders = self.document.id.folder().split('/').skip(1);
        let telling: Vec<String> = folders
            .filter(|folder| !PLAIN_FOLDERS.contains(folder))
            .map(|folder| tokens::spaced(folder.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-')))
            .filter(|f| !f.is_empty())
            .collect();
        if telling.is_empty() { self.display.to_owned() } else { format!("{}: {}", telling.join(" "), self.display) }
    }
}

fn document_fields(document: &Stored, outline: &Outline, reading: &Reading) -> Fields {
    let tokens = reading.tokens();
    let stem = document.id.stem();
    let title = if document.title == stem { document.title.clone() } else { format!("{} {stem}", document.title) };
    let headings: Vec<&str> = outline.headings.iter().map(String::as_str).filter(|h| *h != document.title).collect();
    let told = document.about.objectives.iter().map(String::as_str);
    let body: Vec<&str> = outline.blocks.iter().map(|block| &document.text[block.range.clone()]).chain(told).collect();
    Fields {
        title: tokens(&title),
        headings: tokens(&headings.join("\n")),
        path: tokens(document.id.folder()),
        gloss: tokens(&glossary::glosses(&display_title(document)).join(" ")),
        body: tokens(&body.join("\n")),
    }
}

/// A title followed by what its names stand for.
fn with_glosses(title: &str) -> String {
    let glosses: Vec<&str> = glossary::glosses(title).into_iter().take(GLOSSES_MAX).collect();
    if glosses.is_empty() { title.to_owned() } else { format!("{title} ({})", glosses.join("; ")) }
}

/// Tiers that a line such as `tier: 1` or `tiers: [1, 2]` names.
fn tiers(text: &str) -> BTreeSet<u8> {
    let lines = TIERS.captures_iter(text).filter_map(|found| found.get(1));
    lines.flat_map(|list| list.as_str().bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0')).collect()
}

/// The title as words, followed by the file name where that says more.
fn display_title(document: &Stored) -> String {
    let title = document.title.trim();
    let title = if title.contains(' ') { title.to_owned() } else { tokens::spaced(title) };
    let stem = tokens::spaced(document.id.stem());
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
    };
    let generic = ["readme", "index", "overview", "main"].contains(&stem.to_lowercase().as_str());
    if generic || words(&stem).is_subset(&words(&title)) { title } else { format!("{title} - {stem}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::{DocumentId, Draft, Kind, Written};
    use crate::domain::passage::slice_chars;
    use crate::domain::terms::term_id;
    use proptest::prelude::*;

    fn stored(id: &str, title: &str, text: &str) -> Option<Stored> {
        let written = Written { id, kind: Kind::Runbook, title, text, service_ids: &[] };
        let draft = Draft::new(written).ok()?;
        Some(Stored {
            text_sha256: draft.text_sha256(),
            id: draft.id,
            kind: draft.kind,
            title: draft.title,
            text: draft.text,
            service_ids: draft.service_ids,
            version: 1,
            update_ms: 0,
            about: draft.about,
        })
    }

    fn prepared(id: &str, text: &str) -> Prepared {
        prepare(&stored(id, "", text).expect("valid"), &Settings::shipped().expect("valid"))
    }

    #[test]
    fn title_and_headings_go_before_what_is_embedded() {
        let found =
            prepared("shop/payments/provider-down.md", "# Provider is down\n\n## Mitigation\n\nOpen the breaker.");
        assert_eq!(found.passages[0].sentence, "payments: Provider is down > Mitigation\nOpen the breaker.");
        assert_eq!(found.lead_sentence, "payments: Provider is down. Open the breaker.");
        assert_eq!(found.passages[0].headings, ["Provider is down", "Mitigation"]);
        assert!(found.terms.contains(&term_id("breaker")) && found.terms.contains(&term_id("payment")));
    }

    #[test]
    fn what_a_title_stands_for_is_told_and_searched() {
        let found = prepared("a/etcdNoLeader.md", "# etcdNoLeader\n\nNo leader.");
        assert_eq!(found.title_sentence, "etcd No Leader (key-value store of the Kubernetes control plane)");
        assert!(found.lead_sentence.starts_with("etcd No Leader. "), "{}", found.lead_sentence);
        assert!(found.weights.contains_key(&term_id("store")) && !found.title_terms.contains(&term_id("store")));
    }

    #[test]
    fn tiers_and_objectives_are_read_from_the_text() {
        assert_eq!(prepared("a/b", "---\ntiers: [1, 2]\n---\nx").tiers, BTreeSet::from([1, 2]));
        assert_eq!(prepared("a/b.yaml", "labels:\n  tier: \"2\"\n").tiers, BTreeSet::from([2]));
        assert!(prepared("a/b", "tier: 9\n\nThe tier: 1 of it").tiers.is_empty());
        assert!(prepared("a/b.yaml", "kind: SLO\nspec: x\n").states_objective);
        assert!(!prepared("a/slow.md", "The objective is missed.").states_objective);
    }

    #[test]
    fn the_file_name_is_told_where_it_says_more() {
        let of = |id: &str, title: &str| display_title(&stored(id, title, "x").expect("valid"));
        assert_eq!(of("a/retry-storm.md", "Retry storm"), "Retry storm");
        assert_eq!(of("a/KubeNodeNotReady", "KubeNodeNotReady"), "Kube Node Not Ready");
        assert_eq!(of("a/2026-11-14-retry-storm", "Payments outage"), "Payments outage - 2026 11 14 retry storm");
    }

    #[test]
    fn the_key_changes_with_whatever_is_indexed() {
        let document = stored("a/b", "T", "text").expect("valid");
        let other = |change: fn(&mut Stored)| {
            let mut other = document.clone();
            change(&mut other);
            key(&other)
        };
        assert_eq!(other(|d| d.update_ms = 9), key(&document));
        assert_ne!(other(|d| d.version = 2), key(&document));
        assert_ne!(other(|d| d.title = "U".into()), key(&document));
        assert_ne!(other(|d| d.kind = Kind::Incident), key(&document));
        assert_eq!(DocumentId::new("id", "a/b").expect("valid"), document.id);
    }

    proptest! {
        #[test]
        fn a_quote_is_always_the_stored_text(
            text in "(---\n|title: x\n|# h[a-z]{0,9}\n|```\n|<!-- h -->|\u{200b}|\n|é ж 数|a@b\\.cd |[a-z .]{0,60}\n|(word ){50,300}\n){1,20}"
        ) {
            let Some(document) = stored("a/b", "", &text) else { return Ok(()) };
            for passage in prepare(&document, &Settings::shipped().expect("valid")).passages {
                let quote = slice_chars(&document.text, passage.chars.clone());
                prop_assert_eq!(sha256_hex(quote.as_bytes()), passage.quote_sha256);
                prop_assert!(!quote.is_empty() && passage.sentence.ends_with(quote));
            }
        }
    }
}
