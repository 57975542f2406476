//! Quoting: the best passages of ranked documents, cut out of the stored text.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Error;
use crate::domain::document::{DocumentId, Stored, sha256_hex};
use crate::domain::passage::slice_chars;
use crate::index::{Placed, Revision};
use crate::knowledge::{Knowledge, Serving};
use crate::search::{Asked, Cited, Ranking};

/// Titles that an abstention names.
const NEAREST_TITLES: usize = 3;
/// Documents that are looked at for them.
const NEAREST_LOOKED_AT: usize = 10;

/// A passage with the stored document that it was quoted out of.
pub(crate) struct Quoted {
    pub(crate) cited: Cited,
    pub(crate) document: Stored,
    /// Its best passages, best first; `None` for one that the index no longer has.
    pub(crate) passages: Vec<Option<Arc<Placed>>>,
}

impl Knowledge {
    /// Documents that came nearest, with their titles.
    pub(crate) async fn nearest(&self, asked: &Asked, ranking: &Ranking) -> Result<Vec<(DocumentId, String)>, Error> {
        let mut nearest = Vec::new();
        for (id, _) in ranking.documents.iter().take(NEAREST_LOOKED_AT) {
            // A title is told without its document around it, so a doubted one is not told at all.
            let found = self.readable(&asked.tenant, id, None).await?;
            nearest.extend(found.filter(|found| !found.about.is_doubted()).map(|found| (found.id, found.title)));
            if nearest.len() == NEAREST_TITLES {
                break;
            }
        }
        Ok(nearest)
    }

    /// Quotes the best passage of each of the first documents out of the stored text, of at most `count` documents, and tells where
    /// the best `each` passages of them stand. What was removed since it was found is left out; what was replaced is quoted as it stands now, or left out.
    pub(crate) async fn quote_best(
        &self,
        serving: &Serving,
        asked: &Asked,
        ranking: &Ranking,
        (count, each): (usize, usize),
    ) -> Result<Vec<Quoted>, Error> {
        let documents = &ranking.documents[..count.min(ranking.documents.len())];
        let mut best = self.best_placed(serving, ranking, documents, each).await?;
        let firsts = best.iter().filter_map(|(id, passages)| Some((id, passages.first()?.as_ref()?.version)));
        let mut stored = self.store.versions(&asked.tenant, &firsts.collect()).await?;
        let mut quoted = Vec::with_capacity(documents.len());
        for (id, score) in documents {
            let Some(passages) = best.remove(id) else { continue };
            let Some(Some(passage)) = passages.first() else { continue };
            let document = match stored.remove(id) {
                Some(own) => Some(own),
                None => self.readable(&asked.tenant, id, Some(passage.version)).await?,
            };
            let Some(document) = document else { continue };
            quoted.extend(quote(&document, passage, *score).map(|cited| Quoted { cited, document, passages }));
        }
        Ok(quoted)
    }

    /// Where the best passages of documents stand; of a document that no passage of was found, its first.
    async fn best_placed(
        &self,
        serving: &Serving,
        ranking: &Ranking,
        documents: &[(DocumentId, f64)],
        each: usize,
    ) -> Result<BTreeMap<DocumentId, Vec<Option<Arc<Placed>>>>, Error> {
        let found = |id: &DocumentId| ranking.passages.get(id).map_or(&[][..], |passages| passages.as_slice());
        let first = |id: &DocumentId| ranking.scope.passage(id, ranking.public.contains(id), 0);
        let mut wanted: Vec<(&DocumentId, Revision)> = Vec::new();
        for (id, _) in documents {
            match found(id) {
                [] => wanted.push((id, Revision { point: first(id), version: None })),
                hits => wanted.extend(hits.iter().take(each).map(|hit| (id, hit.at))),
            }
        }
        let points: Vec<Revision> = wanted.iter().map(|(_, at)| *at).collect();
        let placed = serving.index.placed(&points).await?;
        let mut best: BTreeMap<DocumentId, Vec<Option<Arc<Placed>>>> = BTreeMap::new();
        for (id, Revision { point, .. }) in wanted {
            best.entry(id.clone()).or_default().push(placed.get(&point).cloned());
        }
        Ok(best)
    }
}

/// The passage as it stands in the stored text; `None` where the index speaks of another text.
pub(crate) fn quote(document: &Stored, passage: &Placed, score: f64) -> Option<Cited> {
    let quote = slice_chars(&document.text, passage.start as usize..passage.end as usize);
    let quote_sha256 = sha256_hex(quote.as_bytes());
    (quote_sha256 == passage.quote_sha256).then(|| Cited {
        document: document.id.clone(),
        version: document.version,
        title: document.title.clone(),
        kind: document.kind,
        start: passage.start,
        end: passage.end,
        quote: quote.to_owned(),
        quote_sha256,
        score,
        headings: passage.headings.clone(),
        doubted: document.about.is_doubted(),
        visibility: document.about.visibility,
        review_due_ms: document.about.review_due_ms,
    })
}
