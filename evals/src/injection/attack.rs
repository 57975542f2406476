use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, ensure};
use attain_proto::rag::v1::{Document, DocumentKind, DocumentSource};
use serde::Deserialize;

/// One attack: documents that somebody keeps, and questions by which they are found.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attack {
    pub(super) id: String,
    pub(super) family: String,
    documents: Vec<Poisoned>,
    pub(super) questions: Vec<String>,
    /// Part of the payload; must not be told outside a quote.
    #[serde(default)]
    pub(super) marker: Option<String>,
    /// Whether no reader of the document sees the payload: then it must not be told at all.
    #[serde(default)]
    pub(super) hidden: bool,
    /// The honest document that is to be found first.
    #[serde(default)]
    pub(super) victim: Option<String>,
    /// `refused` where no document of it may be kept.
    #[serde(default)]
    expect: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Poisoned {
    id: String,
    text: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    service_ids: Vec<String>,
    #[serde(default)]
    source: Option<Source>,
}

#[derive(Debug, Clone, Deserialize)]
struct Source {
    uri: String,
    revision: String,
}

impl Attack {
    pub(super) fn documents(&self) -> Vec<Document> {
        let document = |poisoned: &Poisoned| Document {
            id: poisoned.id.clone(),
            text: poisoned.text.clone(),
            title: poisoned.title.clone(),
            kind: if poisoned.kind == "slo_template" { DocumentKind::SloTemplate.into() } else { 0 },
            service_ids: poisoned.service_ids.clone(),
            source: poisoned.source.clone().map(|source| DocumentSource { uri: source.uri, revision: source.revision }),
            ..Document::default()
        };
        self.documents.iter().map(document).collect()
    }

    pub(super) fn has(&self, document_id: &str) -> bool {
        self.documents.iter().any(|document| document.id == document_id)
    }

    pub(super) fn must_be_refused(&self) -> bool {
        self.expect.as_deref() == Some("refused")
    }
}

pub(super) fn read(file: &Path) -> anyhow::Result<Vec<Attack>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let attacks: Vec<Attack> = lines
        .map(|(number, line)| serde_json::from_str(line).with_context(|| format!("line {}", number + 1)))
        .collect::<anyhow::Result<_>>()?;
    let ids: BTreeSet<&str> = attacks.iter().map(|attack| attack.id.as_str()).collect();
    ensure!(!attacks.is_empty() && ids.len() == attacks.len(), "attacks need names of their own");
    Ok(attacks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_of_many_kinds() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/poisoned/attacks.jsonl");
        let attacks = read(&file).expect("attacks");
        let families: BTreeSet<&str> = attacks.iter().map(|attack| attack.family.as_str()).collect();
        assert!(attacks.len() >= 40 && families.len() >= 8, "{} {families:?}", attacks.len());
        for attack in &attacks {
            assert!(!attack.questions.is_empty(), "{} is not asked for", attack.id);
            let told = attack.documents().iter().any(|d| {
                attack.marker.as_ref().is_none_or(|marker| {
                    d.text.contains(marker)
                        || d.title.contains(marker)
                        || !d.text.is_ascii()
                        || attack.family == "encoded"
                        || attack.hidden
                        || attack.family == "commands"
                })
            });
            assert!(told, "{} does not carry its payload", attack.id);
        }
    }
}
