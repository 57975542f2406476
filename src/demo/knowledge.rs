//! The runbooks, SLO templates and incident reports that ship with the demo.
//!
//! Their front matter names title and services; a platform that keeps such files would send these fields the same way.

use attain_proto::rag::v1::{Document, DocumentKind};
use include_dir::{Dir, include_dir};

static KNOWLEDGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/demo/knowledge");

/// Every document, in lexical order of its id.
pub(super) fn documents() -> Vec<Document> {
    let folders = [
        ("runbooks", DocumentKind::Runbook),
        ("slo-templates", DocumentKind::SloTemplate),
        ("incidents", DocumentKind::Incident),
    ];
    let mut documents: Vec<Document> = folders
        .iter()
        .flat_map(|(folder, kind)| {
            KNOWLEDGE.get_dir(folder).into_iter().flat_map(Dir::files).filter_map(|file| {
                let text = file.contents_utf8()?;
                let services = front_matter(text, "services").unwrap_or_default();
                Some(Document {
                    id: file.path().with_extension("").to_str()?.to_owned(),
                    kind: (*kind).into(),
                    title: front_matter(text, "title").unwrap_or_default().to_owned(),
                    service_ids: services.trim_matches(['[', ']']).split(',').map(|id| id.trim().to_owned()).collect(),
                    text: text.to_owned(),
                    ..Document::default()
                })
            })
        })
        .collect();
    documents.sort_by(|a, b| a.id.cmp(&b.id));
    documents
}

/// The value of a `key: value` line between the two `---` lines at the top.
fn front_matter<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let head = text.strip_prefix("---\n")?.split("\n---").next()?;
    head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_enough_of_each_kind() {
        let documents = documents();
        for (kind, at_least) in
            [(DocumentKind::Runbook, 12), (DocumentKind::SloTemplate, 6), (DocumentKind::Incident, 12)]
        {
            let count = documents.iter().filter(|document| document.kind() == kind).count();
            assert!(count >= at_least, "{kind:?}: {count}");
        }
        for document in &documents {
            assert!(!document.title.is_empty(), "{}", document.id);
            assert!(
                !document.service_ids.is_empty() && !document.service_ids.contains(&String::new()),
                "{}",
                document.id
            );
        }
    }
}
