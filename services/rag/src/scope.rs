//! What a question may be answered from: the tenant's own documents and the public ones, without those whose place is taken.

use std::collections::BTreeSet;

use crate::Error;
use crate::domain::document::DocumentId;
use crate::domain::terms::{Frequencies, TermId};
use crate::gathering::Found;
use crate::index::Scope;
use crate::knowledge::Knowledge;
use crate::search::Asked;

/// Most names that a filter leaves out; of what is beyond, candidates are dropped once they are found.
const EXCLUDED_MAX: usize = 1000;

impl Knowledge {
    /// Whose documents are looked in, and which of them are not.
    pub(crate) async fn scope(&self, asked: &Asked) -> Result<Scope, Error> {
        let excluded = if asked.include_superseded {
            BTreeSet::new()
        } else {
            self.store.superseded(&asked.tenant).await?.into_keys().collect()
        };
        let (tenant, kinds) = (asked.tenant.clone(), asked.kinds.clone());
        Ok(Scope { tenant, kinds, public: self.publisher_for(&asked.tenant).cloned(), excluded })
    }

    /// Takes out public documents that the tenant has a document of its own for, or whose place another has taken.
    pub(crate) async fn drop_unreadable(&self, asked: &Asked, scope: &Scope, found: &mut Found) -> Result<(), Error> {
        let mut unreadable: BTreeSet<DocumentId> = BTreeSet::new();
        let public = found.ids(|document| document.public);
        if let Some(publisher) = scope.public.as_ref().filter(|_| !public.is_empty()) {
            unreadable = self.store.existing(&asked.tenant, &public.iter().collect()).await?;
            if !asked.include_superseded {
                unreadable.extend(self.store.superseded(publisher).await?.into_keys());
            }
        }
        found.keep(|id, is_public| !(scope.excluded.contains(id) || is_public && unreadable.contains(id)));
        Ok(())
    }

    /// How many readable documents hold each of these terms.
    pub(crate) async fn frequencies(&self, asked: &Asked, terms: &BTreeSet<TermId>) -> Result<Frequencies, Error> {
        let mut frequencies = self.store.frequencies(&asked.tenant, terms).await?;
        if let Some(publisher) = self.publisher_for(&asked.tenant) {
            let public = self.store.frequencies(publisher, terms).await?;
            frequencies.document_count += public.document_count;
            for (term, count) in public.by_term {
                *frequencies.by_term.entry(term).or_default() += count;
            }
        }
        Ok(frequencies)
    }

    /// Which of these terms each of these documents holds, in the order of the documents.
    pub(crate) async fn held_terms(
        &self,
        asked: &Asked,
        ids: &[DocumentId],
        terms: &BTreeSet<TermId>,
        public: &BTreeSet<DocumentId>,
    ) -> Result<Vec<BTreeSet<TermId>>, Error> {
        let mut held = self.store.held_terms(&asked.tenant, ids, terms).await?;
        if let Some(publisher) = self.publisher_for(&asked.tenant).filter(|_| !public.is_empty()) {
            let of_public = self.store.held_terms(publisher, ids, terms).await?;
            for ((id, held), of_public) in ids.iter().zip(&mut held).zip(of_public) {
                if public.contains(id) {
                    *held = of_public;
                }
            }
        }
        Ok(held)
    }
}

impl Scope {
    /// As many excluded names as a filter takes.
    pub(crate) fn excluded_names(&self) -> Vec<String> {
        self.excluded.iter().take(EXCLUDED_MAX).map(|id| id.as_str().to_owned()).collect()
    }
}
