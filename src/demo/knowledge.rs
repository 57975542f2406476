//! The runbooks, SLO templates and incident reports that ship with the demo.

use attain_proto::rag::v1::{Document, DocumentKind};
use include_dir::{Dir, include_dir};

static KNOWLEDGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/demo/knowledge");

/// Every document, in lexical order of its id. Title, services and kind stand in the front matter of the text.
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
                Some(Document {
                    id: file.path().with_extension("").to_str()?.to_owned(),
                    kind: (*kind).into(),
                    text: file.contents_utf8()?.to_owned(),
                    ..Document::default()
                })
            })
        })
        .collect();
    documents.sort_by(|a, b| a.id.cmp(&b.id));
    documents
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
        assert!(documents.iter().all(|document| document.text.starts_with("---\n")));
    }
}
