//! Keeping documents: stored, then indexed, then acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_vocabulary::{InvalidValue, TenantId};

use crate::Error;
use crate::domain::document::{DocumentId, Draft, Entry, Stored};
use crate::embedding::Embedder;
use crate::index::Indexable;
use crate::indexing::is_level;
use crate::knowledge::{Knowledge, Serving};

/// Most passages that one call embeds before it answers: about ten seconds on two cores. What is more is searchable by words at
/// once and gets its vectors right after.
const EMBEDDED_PASSAGES_MAX: usize = 200;

/// A document as stored, or why it cannot be.
pub(crate) type Kept = Result<Entry, InvalidValue>;

impl Knowledge {
    /// Keeps documents and returns them as stored. They can be found as soon as this returns.
    ///
    /// Once begun it runs to its end, whether or not the caller still waits.
    pub(crate) async fn put(self: &Arc<Self>, tenant: TenantId, drafts: Vec<Draft>) -> Result<Vec<Kept>, Error> {
        self.check_level()?;
        let knowledge = Arc::clone(self);
        let result = tokio::spawn(async move { knowledge.put_now(&tenant, drafts).await }).await?;
        if result.is_err() {
            // What was stored but not indexed is made good without waiting for the caller to try again.
            self.wake();
        }
        result
    }

    async fn put_now(&self, tenant: &TenantId, drafts: Vec<Draft>) -> Result<Vec<Kept>, Error> {
        log_what_was_taken_out(tenant, &drafts);
        let _writing = self.writing.lock().await;
        let checked = without_circles(drafts, self.store.superseded(tenant).await?);
        let kept: Vec<Draft> = checked.iter().filter_map(|draft| draft.as_ref().ok()).cloned().collect();
        let mut entries = self.put_checked(tenant, &kept).await?.into_iter();
        Ok(checked
            .into_iter()
            .filter_map(|draft| draft.map_or_else(|fault| Some(Err(fault)), |_| entries.next().map(Ok)))
            .collect())
    }

    async fn put_checked(&self, tenant: &TenantId, drafts: &[Draft]) -> Result<Vec<Entry>, Error> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let stored = self.store.put(tenant, drafts, self.clock.now_ms()).await?;
        let stored: Vec<Arc<Stored>> = stored.into_iter().map(Arc::new).collect();
        let serving = self.serving();
        let mut changed = self.prepare_changed(&serving, tenant, &stored).await?;
        let passages: usize = changed.iter().map(|document| document.prepared.passages.len()).sum();
        let embedder = serving.loaded().cloned();
        let inline = embedder.as_deref().filter(|_| passages <= EMBEDDED_PASSAGES_MAX);
        let is_changed = !changed.is_empty();
        if is_changed {
            self.index_new(&serving, tenant, &mut changed, inline).await?;
        }
        drop(changed);
        // Asked again: a model that was loaded meanwhile has not seen these documents.
        if inline.is_none() && serving.loaded().is_some() {
            if is_changed {
                self.model_is_behind("documents wait for their vectors");
            }
            self.wake();
        }
        Ok(stored.into_iter().map(|document| Entry::from(Arc::unwrap_or_clone(document))).collect())
    }

    /// The documents that are not indexed as they are now.
    async fn prepare_changed(
        &self,
        serving: &Serving,
        tenant: &TenantId,
        stored: &[Arc<Stored>],
    ) -> Result<Vec<Indexable>, Error> {
        let states = serving.index.states_of(tenant, stored.iter().map(|document| &document.id)).await?;
        let is_behind = |document: &&Arc<Stored>| !is_level(document, states.get(&document.id), None);
        self.prepare(stored.iter().filter(is_behind).cloned().collect()).await
    }

    /// A model that fails costs the documents their vectors for now, not their place in the index.
    async fn index_new(
        &self,
        serving: &Serving,
        tenant: &TenantId,
        documents: &mut [Indexable],
        embedder: Option<&Embedder>,
    ) -> Result<(), Error> {
        match self.index_documents(&serving.index, tenant, documents, embedder).await {
            Err(Error::Model(reason)) => {
                tracing::error!(reason, "documents were indexed without vectors");
                self.model_is_absent(serving, &reason);
                self.index_documents(&serving.index, tenant, documents, None).await
            }
            result => result,
        }
    }
}

/// Refuses a document by whose word two would take the place of each other: neither would be found any more. `superseded` tells
/// of each stored document which have taken its place.
fn without_circles(
    drafts: Vec<Draft>,
    mut superseded: BTreeMap<DocumentId, BTreeSet<DocumentId>>,
) -> Vec<Result<Draft, InvalidValue>> {
    let check = |draft: Draft| {
        for (document, by) in draft.about.supersessions(&draft.id) {
            if leads_to(&superseded, &by, &document) {
                let reason = format!("`{document}` has taken the place of `{by}` already");
                return Err(InvalidValue::new("supersedes", "circle", reason));
            }
            superseded.entry(document).or_default().insert(by);
        }
        Ok(draft)
    };
    drafts.into_iter().map(check).collect()
}

/// Whether the places taken lead from one document to another.
fn leads_to(superseded: &BTreeMap<DocumentId, BTreeSet<DocumentId>>, from: &DocumentId, to: &DocumentId) -> bool {
    let (mut waiting, mut seen) = (vec![from], BTreeSet::new());
    while let Some(document) = waiting.pop() {
        if document == to {
            return true;
        }
        if seen.insert(document) {
            waiting.extend(superseded.get(document).into_iter().flatten());
        }
    }
    false
}

fn log_what_was_taken_out(tenant: &TenantId, drafts: &[Draft]) {
    for Draft { id, about, .. } in
        drafts.iter().filter(|draft| draft.about.hidden_count + draft.about.redacted_count > 0)
    {
        tracing::warn!(
            tenant_id = %tenant,
            document_id = %id,
            hidden_count = about.hidden_count,
            redacted_count = about.redacted_count,
            "hidden parts or secrets were taken out of a document"
        );
    }
    for Draft { id, about, .. } in drafts.iter().filter(|draft| draft.about.is_doubted()) {
        let codes: Vec<&str> = about.findings.iter().map(|finding| finding.code.as_str()).collect();
        tracing::warn!(tenant_id = %tenant, document_id = %id, findings = codes.join(","), "trust in a document is lowered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::Written;

    fn draft(id: &str, supersedes: &str) -> Draft {
        let text = format!("---\nsupersedes: [{supersedes}]\n---\ntext");
        let kind = crate::domain::document::Kind::Runbook;
        Draft::new(Written { id, kind, title: "", text: &text, service_ids: &[] }).expect("valid")
    }

    #[test]
    fn a_circle_is_refused_whoever_closes_it() {
        let id = |name: &str| DocumentId::new("id", name).expect("valid");
        let stored = BTreeMap::from([(id("a"), BTreeSet::from([id("b")])), (id("b"), BTreeSet::from([id("c")]))]);
        let checked = without_circles(vec![draft("a", "c"), draft("d", "a, c"), draft("b", "d")], stored);
        let faults: Vec<Option<&str>> =
            checked.iter().map(|draft| draft.as_ref().err().map(|fault| fault.code)).collect();
        // a → b → c; then c → a closes it, c → d does not, and d → b does.
        assert_eq!(faults, [Some("circle"), None, Some("circle")]);
    }
}
