//! What the signals find, and, read once each, the documents that they found.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::domain::document::DocumentId;
use crate::domain::terms::Frequencies;
use crate::embedding::EmbeddedQuestion;
use crate::index::{Document, Index, Near, NearPassage, Part, Point, Revision, Scope};
use crate::knowledge::Knowledge;
use crate::search::{Asked, Strategy};

/// The first candidates of each signal, with their documents.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) named: Vec<Near>,
    pub(crate) words: Vec<Near>,
    pub(crate) titles: Vec<Near>,
    pub(crate) leads: Vec<Near>,
    pub(crate) passage_words: Vec<NearPassage>,
    pub(crate) passage_texts: Vec<NearPassage>,
    /// What of them may be read. A candidate whose document is not here does not count.
    documents: BTreeMap<Point, Document>,
}

impl Found {
    /// Keeps what `keep` says of a name and of whether the document is another tenant's.
    pub(crate) fn keep(&mut self, keep: impl Fn(&DocumentId, bool) -> bool) {
        self.documents.retain(|_, document| keep(&document.facts.id, document.public));
    }

    /// Names of the documents of which this holds.
    pub(crate) fn ids(&self, holds: impl Fn(&Document) -> bool) -> BTreeSet<DocumentId> {
        self.documents.values().filter(|document| holds(document)).map(|document| document.facts.id.clone()).collect()
    }

    /// Candidates of a signal with their documents.
    pub(crate) fn known<'a>(&'a self, hits: &'a [Near]) -> impl Iterator<Item = (&'a Near, &'a Document)> {
        hits.iter().filter_map(|near| Some((near, self.documents.get(&near.document.point)?)))
    }

    /// The same for passages.
    pub(crate) fn known_passages<'a>(
        &'a self,
        hits: &'a [NearPassage],
    ) -> impl Iterator<Item = (&'a NearPassage, &'a Document)> {
        hits.iter().filter_map(|near| Some((near, self.documents.get(&near.document)?)))
    }

    /// Reads the documents that were not read yet: those that passages alone were found of by one of these.
    async fn read_documents(&mut self, index: &Index, scope: &Scope) -> Result<(), Error> {
        let hits = [&self.named, &self.words, &self.titles, &self.leads].into_iter().flatten();
        let mut documents: BTreeMap<Point, Revision> = BTreeMap::new();
        for Revision { point, version } in hits.map(|near| near.document) {
            let at = documents.entry(point).or_insert(Revision { point, version });
            at.version = at.version.or(version);
        }
        let hits = [&self.passage_words, &self.passage_texts].into_iter().flatten();
        let passages = hits.filter(|near| !documents.contains_key(&near.document));
        let mut passages: BTreeMap<Point, Revision> = passages.map(|near| (near.document, near.passage)).collect();
        for (point, at) in &documents {
            // Of one that passages alone were found of before.
            self.documents
                .entry(*point)
                .and_modify(|document| document.at.version = document.at.version.or(at.version));
        }
        documents.retain(|point, _| !self.documents.contains_key(point));
        passages.retain(|point, _| !self.documents.contains_key(point));
        let documents: Vec<Revision> = documents.into_values().collect();
        let (documents, by_passages) =
            tokio::try_join!(index.documents(scope, &documents), index.documents_of(scope, &passages))?;
        self.documents.extend(documents.into_iter().chain(by_passages));
        Ok(())
    }
}

impl Knowledge {
    /// What the words of a question find.
    pub(crate) async fn by_words(
        &self,
        index: &Index,
        asked: &Asked,
        scope: &Scope,
        frequencies: &Frequencies,
    ) -> Result<Found, Error> {
        let limit = self.settings.candidates_max;
        let weights = asked.question.weights(frequencies);
        let mut found = Found::default();
        match asked.strategy {
            Strategy::Meaning => {}
            Strategy::Words => found.passage_words = index.passages_by_words(scope, &weights, limit).await?,
            Strategy::Hybrid => {
                (found.named, found.words, found.passage_words) = tokio::try_join!(
                    index.documents_named(scope, &asked.question.names),
                    index.documents_by_words(scope, &weights, limit),
                    index.passages_by_words(scope, &weights, limit),
                )?;
            }
        }
        found.read_documents(index, scope).await?;
        Ok(found)
    }

    /// The same with what its meaning finds, where it was embedded.
    pub(crate) async fn by_meaning(
        &self,
        index: &Index,
        asked: &Asked,
        scope: &Scope,
        embedded: Option<&EmbeddedQuestion>,
        mut found: Found,
    ) -> Result<Found, Error> {
        let limit = self.settings.candidates_max;
        match (asked.strategy, embedded) {
            (Strategy::Words, _) | (Strategy::Hybrid, None) => return Ok(found),
            (Strategy::Meaning, None) => return Err(Error::NoModel),
            (Strategy::Meaning, Some(EmbeddedQuestion { vector, .. })) => {
                found.passage_texts = index.passages_by_vector(scope, vector, limit).await?;
            }
            (Strategy::Hybrid, Some(EmbeddedQuestion { vector, .. })) => {
                (found.passage_texts, found.titles, found.leads) = tokio::try_join!(
                    index.passages_by_vector(scope, vector, limit),
                    index.documents_by_vector(scope, Part::Title, vector, limit),
                    index.documents_by_vector(scope, Part::Lead, vector, limit),
                )?;
            }
        }
        found.read_documents(index, scope).await?;
        Ok(found)
    }
}
