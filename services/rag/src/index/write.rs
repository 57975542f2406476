//! Writes: a document with its passages, in an order that a crash between two steps cannot turn into a wrong answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use qdrant_client::Payload;
use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, DeletePointsBuilder, Filter, NamedVectors, PointStruct, ScrollPointsBuilder,
    UpsertPointsBuilder, Vector,
};

use attain_vocabulary::TenantId;

use super::payload::{self, Reader, point, point_id};
use super::{Index, schema};
use crate::Error;
use crate::domain::document::{DocumentId, Stored};
use crate::domain::preparation::{Prepared, PreparedPassage};
use crate::domain::terms::Weights;
use crate::storage::Place;

/// Points of one write.
const POINTS_PER_WRITE: usize = 256;
/// Documents that one filter names.
const DOCUMENTS_PER_FILTER: usize = 100;
/// Points of one page of [`Index::states`].
const POINTS_PER_PAGE: u32 = 1000;

/// A stored document with what is to be indexed of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Indexable {
    pub(crate) stored: Arc<Stored>,
    pub(crate) prepared: Prepared,
    /// Where a model made them.
    pub(crate) vectors: Option<DocumentVectors>,
}

/// The embeddings of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DocumentVectors {
    /// Names the model; see [`State::model`].
    pub(crate) model: String,
    pub(crate) title: Vec<f32>,
    pub(crate) lead: Vec<f32>,
    /// One a passage, in order.
    pub(crate) passages: Vec<Vec<f32>>,
}

/// What is indexed of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) place: Place,
    /// The content; see `preparation::key`.
    pub(crate) key: String,
    /// The model that made its vectors; empty when it has none.
    pub(crate) model: String,
}

impl Index {
    /// Indexes documents. Passages come first and the documents' own points after them: as long as such a point has the old
    /// key, its document counts as not indexed. Then the passages of other versions go.
    pub(crate) async fn put(&self, tenant: &TenantId, documents: &[Indexable]) -> Result<(), Error> {
        let passages: Vec<PointStruct> =
            documents.iter().flat_map(|document| passage_points(tenant, document)).collect();
        self.upsert(&self.passages, passages).await?;
        let points = documents.iter().map(|document| document_point(tenant, document)).collect();
        self.upsert(&self.documents, points).await?;
        for part in documents.chunks(DOCUMENTS_PER_FILTER) {
            let ids = part.iter().map(|document| document.stored.id.as_str().to_owned()).collect();
            let keys: Vec<String> = part.iter().map(|document| document.prepared.key.clone()).collect();
            let stale = Filter {
                must: of_documents(tenant, ids),
                must_not: vec![Condition::matches(payload::KEY, keys)],
                ..Filter::default()
            };
            let _place = self.place().await;
            self.client.delete_points(DeletePointsBuilder::new(&self.passages).points(stale).wait(true)).await?;
        }
        Ok(())
    }

    async fn upsert(&self, collection: &str, points: Vec<PointStruct>) -> Result<(), Error> {
        for points in points.chunks(POINTS_PER_WRITE) {
            let _place = self.place().await;
            self.client.upsert_points(UpsertPointsBuilder::new(collection, points.to_vec()).wait(true)).await?;
        }
        Ok(())
    }

    /// Removes a document and returns how many passages it had. Its own point goes last, so that an interrupted removal
    /// is found again.
    pub(crate) async fn remove(&self, tenant: &TenantId, id: &DocumentId) -> Result<u64, Error> {
        let filter = Filter::must(of_documents(tenant, vec![id.as_str().to_owned()]));
        let _place = self.place().await;
        let count =
            self.client.count(CountPointsBuilder::new(&self.passages).filter(filter.clone()).exact(true)).await?;
        for collection in [&self.passages, &self.documents] {
            self.client.delete_points(DeletePointsBuilder::new(collection).points(filter.clone()).wait(true)).await?;
        }
        Ok(count.result.map_or(0, |result| result.count))
    }

    /// What is indexed of these documents; at most a few hundred.
    pub(crate) async fn states_of(
        &self,
        tenant: &TenantId,
        ids: impl Iterator<Item = &DocumentId>,
    ) -> Result<BTreeMap<DocumentId, State>, Error> {
        let ids: Vec<String> = ids.map(|id| id.as_str().to_owned()).collect();
        let limit = u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
        let filter = Filter::must(of_documents(tenant, ids));
        let scroll = ScrollPointsBuilder::new(&self.documents)
            .filter(filter)
            .limit(limit)
            .with_payload(true)
            .with_vectors(false);
        let _place = self.place().await;
        let found = self.client.scroll(scroll).await?;
        let states = found.result.iter().map(|point| state(&Reader(&point.payload)));
        states.map(|state| state.map(|state| (state.place.id.clone(), state))).collect()
    }

    /// What is indexed, of every tenant.
    pub(crate) async fn states(&self) -> Result<Vec<State>, Error> {
        let mut states = Vec::new();
        let mut next = None;
        loop {
            let mut scroll =
                ScrollPointsBuilder::new(&self.documents).limit(POINTS_PER_PAGE).with_payload(true).with_vectors(false);
            if let Some(from) = next.take() {
                scroll = scroll.offset::<qdrant_client::qdrant::PointId>(from);
            }
            let page = self.client.scroll(scroll).await?;
            for point in &page.result {
                states.push(state(&Reader(&point.payload))?);
            }
            match page.next_page_offset {
                Some(from) => next = Some(from),
                None => return Ok(states),
            }
        }
    }
}

fn state(reader: &Reader<'_>) -> Result<State, Error> {
    Ok(State {
        place: Place { tenant: reader.tenant()?, id: reader.document()? },
        key: reader.text(payload::KEY)?.to_owned(),
        model: reader.text(payload::MODEL)?.to_owned(),
    })
}

fn of_documents(tenant: &TenantId, ids: Vec<String>) -> Vec<Condition> {
    vec![Condition::matches(payload::TENANT, tenant.as_str().to_owned()), Condition::matches(payload::DOCUMENT, ids)]
}

fn base_payload(tenant: &TenantId, document: &Indexable) -> Payload {
    let stored = &document.stored;
    let services: Vec<String> = stored.service_ids.iter().map(ToString::to_string).collect();
    let mut base = Payload::new();
    base.insert(payload::TENANT, tenant.as_str());
    base.insert(payload::DOCUMENT, stored.id.as_str());
    base.insert(payload::VERSION, i64::from(stored.version));
    base.insert(payload::KIND, stored.kind.as_str());
    base.insert(payload::SERVICES, services);
    base.insert(payload::DOUBTED, stored.about.is_doubted());
    base.insert(payload::KEY, document.prepared.key.as_str());
    base.insert(payload::TITLE_TERMS, numbers(document.prepared.title_terms.iter().copied()));
    base.insert(payload::TIERS, numbers(document.prepared.tiers.iter().copied().map(u32::from)));
    base.insert(payload::OBJECTIVE, document.prepared.states_objective);
    base.insert(payload::REVIEW, stored.about.reviewed_ms.unwrap_or(stored.update_ms));
    base
}

fn document_point(tenant: &TenantId, document: &Indexable) -> PointStruct {
    let mut payload = base_payload(tenant, document);
    let names: Vec<String> = document.prepared.names.iter().cloned().collect();
    payload.insert(payload::NAMES, names);
    payload.insert(payload::SKETCH, numbers(document.prepared.sketch.iter().copied()));
    payload.insert(payload::MODEL, document.vectors.as_ref().map_or("", |vectors| vectors.model.as_str()));
    let mut named = words(&document.prepared.weights);
    if let Some(vectors) = &document.vectors {
        named = named
            .add_vector(schema::TITLE, Vector::new_dense(vectors.title.clone()))
            .add_vector(schema::LEAD, Vector::new_dense(vectors.lead.clone()));
    }
    PointStruct::new(point_id(point(tenant, &document.stored.id, None)), named, payload)
}

fn passage_points(tenant: &TenantId, document: &Indexable) -> Vec<PointStruct> {
    let base = base_payload(tenant, document);
    let passage_point = |(ordinal, passage): (usize, &PreparedPassage)| {
        let mut payload = base.clone();
        payload.insert(payload::ORDINAL, ordinal as i64);
        payload.insert(payload::START, passage.chars.start as i64);
        payload.insert(payload::END, passage.chars.end as i64);
        payload.insert(payload::HEADINGS, passage.headings.clone());
        payload.insert(payload::QUOTE_SHA256, passage.quote_sha256.as_str());
        let mut named = words(&passage.weights);
        let vector = document.vectors.as_ref().and_then(|vectors| Some((vectors, vectors.passages.get(ordinal)?)));
        payload.insert(payload::MODEL, vector.map_or("", |(vectors, _)| vectors.model.as_str()));
        if let Some((_, vector)) = vector {
            named = named.add_vector(schema::TEXT, Vector::new_dense(vector.clone()));
        }
        PointStruct::new(point_id(point(tenant, &document.stored.id, Some(ordinal))), named, payload)
    };
    document.prepared.passages.iter().enumerate().map(passage_point).collect()
}

fn numbers(values: impl Iterator<Item = u32>) -> Vec<i64> {
    values.map(i64::from).collect()
}

/// The sparse vector; left out where there is no term, for an empty vector is refused.
fn words(weights: &Weights) -> NamedVectors {
    let named = NamedVectors::default();
    if weights.is_empty() {
        return named;
    }
    let (indices, values): (Vec<u32>, Vec<f32>) = weights.iter().map(|(term, weight)| (*term, *weight)).unzip();
    named.add_vector(schema::WORDS, Vector::new_sparse(indices, values))
}
