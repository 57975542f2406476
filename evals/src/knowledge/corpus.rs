//! A folder of texts as documents, and the questions about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use attain_proto::rag::v1::{Document, DocumentKind};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::read_texts;

/// Longest name of a document.
const ID_LEN_MAX: usize = 200;
/// Lines of a file in which its front matter is looked for.
const FRONT_MATTER_LINES: usize = 12;

/// A labelled question.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Query {
    pub(crate) id: String,
    pub(crate) query: String,
    pub(crate) kind: String,
    /// Empty where nothing in the corpus answers.
    #[serde(default)]
    pub(crate) relevant: Vec<Judgement>,
}

/// What a document is worth to a question: 2 answers, 1 is useful.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Judgement {
    pub(crate) doc: String,
    pub(crate) grade: u32,
}

/// A file of the corpus.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Its path below the corpus.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) kind: DocumentKind,
    pub(crate) title: String,
    pub(crate) service_ids: Vec<String>,
}

/// Files by the names under which they are kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Corpus {
    pub(crate) files: BTreeMap<String, File>,
    paths: BTreeSet<String>,
}

impl Corpus {
    /// Every text below the folder; licences and notes on sources are not part of a corpus.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut corpus = Self::default();
        for (path, text) in read_texts(root)? {
            corpus.add(path, text);
        }
        Ok(corpus)
    }

    fn add(&mut self, path: String, text: String) {
        let mut name = document_name(&path);
        if self.files.contains_key(&name) {
            name = with_hash(&name, &path);
        }
        let front = |key: &str| front_matter(&text, key);
        let kind = front("kind").map_or_else(|| kind_by_path(&path), |word| kind_by_word(&word));
        let services = front("services").unwrap_or_default();
        let service_ids = services.trim_matches(['[', ']']).split(',').map(str::trim).filter(|id| !id.is_empty());
        let file = File {
            path: path.clone(),
            kind,
            title: front("title").unwrap_or_default(),
            service_ids: service_ids.map(str::to_owned).collect(),
            text,
        };
        self.files.insert(name, file);
        self.paths.insert(path);
    }

    /// Whether there is a file of this path.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The files as documents, in the order of their names.
    pub(crate) fn documents(&self) -> Vec<Document> {
        self.files.iter().map(|(name, file)| document(name, file)).collect()
    }

    /// The path of a kept document; its name where it is none of the corpus.
    pub(crate) fn path_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.files.get(name).map_or(name, |file| file.path.as_str())
    }
}

fn document(name: &str, file: &File) -> Document {
    Document {
        id: name.to_owned(),
        kind: file.kind.into(),
        title: file.title.clone(),
        text: file.text.clone(),
        service_ids: file.service_ids.clone(),
        ..Document::default()
    }
}

/// A path as the service takes a name: what it does not take becomes `-`.
fn document_name(path: &str) -> String {
    let bent: String =
        path.chars().map(|c| if c.is_ascii_alphanumeric() || "._:/@-".contains(c) { c } else { '-' }).collect();
    let bent = bent.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    if bent.is_empty() || bent.len() > ID_LEN_MAX { with_hash(&bent, path) } else { bent }
}

/// A name that another path has already, or that is too long, made one's own.
fn with_hash(name: &str, path: &str) -> String {
    let hash: String = Sha256::digest(path.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{hash}/{}", &name[name.len().saturating_sub(ID_LEN_MAX - hash.len() - 1)..])
}

fn front_matter(text: &str, key: &str) -> Option<String> {
    let body = text.strip_prefix("---\n")?;
    let lines = body.lines().take(FRONT_MATTER_LINES).take_while(|line| *line != "---");
    let value = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(':')).next()?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

fn kind_by_word(word: &str) -> DocumentKind {
    match word {
        "incident" => DocumentKind::Incident,
        "slo_template" => DocumentKind::SloTemplate,
        _ => DocumentKind::Runbook,
    }
}

/// By the words of the path, whole ones: `slow` is about no SLO.
fn kind_by_path(path: &str) -> DocumentKind {
    let lower = path.to_lowercase();
    let words: BTreeSet<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    let has = |any: &[&str]| any.iter().any(|word| words.contains(word));
    if has(&["incident", "incidents", "postmortem", "postmortems"]) {
        DocumentKind::Incident
    } else if has(&["slo", "slos", "openslo"]) {
        DocumentKind::SloTemplate
    } else {
        DocumentKind::Runbook
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names_of_their_own() {
        let mut corpus = Corpus::default();
        for path in ["K8s Playbooks/a b.md", "K8s-Playbooks/a-b.md", "_hidden/é.md"] {
            corpus.add(path.to_owned(), "text".to_owned());
        }
        assert_eq!(corpus.files.len(), 3);
        assert_eq!(corpus.path_of("K8s-Playbooks/a-b.md"), "K8s Playbooks/a b.md");
        assert!(corpus.files.keys().all(|name| name.is_ascii() && name.len() <= ID_LEN_MAX && !name.contains(' ')));
        let long = document_name(&format!("{}.md", "x".repeat(400)));
        assert!(long.len() <= ID_LEN_MAX && long.ends_with(".md"), "{long}");
        assert!(corpus.holds("K8s Playbooks/a b.md") && !corpus.holds("other"));
    }

    #[test]
    fn what_a_file_is_shows_in_its_front_matter_or_its_path() {
        assert_eq!(front_matter("---\nkind: incident\ntitle: \"T\"\n---\nkind: x\n", "title").as_deref(), Some("T"));
        assert_eq!(front_matter("kind: incident\n", "kind"), None);
        for (path, kind) in [
            ("a/slow-queries.md", DocumentKind::Runbook),
            ("x/pyrra-slos/nginx.yaml", DocumentKind::SloTemplate),
            ("postmortem-templates/a.md", DocumentKind::Incident),
        ] {
            assert_eq!(kind_by_path(path), kind, "{path}");
        }
    }
}
