//! Reads: the first candidates of each signal, always within one tenant.

use std::collections::BTreeSet;

use qdrant_client::qdrant::{
    Condition, Filter, Query, QueryPointsBuilder, ScoredPoint, ScrollPointsBuilder, VectorInput,
};

use attain_vocabulary::{TenantId, UnixMillis};

use super::payload::{self, Reader};
use super::{Index, schema};
use crate::Error;
use crate::domain::document::{DocumentId, Kind};
use crate::domain::terms::{TermId, Weights};

/// Most documents that a question may name.
const NAMED_MAX: u32 = 50;

/// Whose documents, and of which kinds; empty for all.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) tenant: TenantId,
    pub(crate) kinds: BTreeSet<Kind>,
    /// The tenant whose documents everybody reads, where it is another one.
    pub(crate) public: Option<TenantId>,
    /// Documents that are left out: others have taken their place.
    pub(crate) excluded: BTreeSet<DocumentId>,
}

/// What a point says of its document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct About {
    pub(crate) kind: Kind,
    pub(crate) service_ids: BTreeSet<String>,
    pub(crate) title_terms: BTreeSet<TermId>,
    pub(crate) tiers: BTreeSet<u32>,
    pub(crate) states_objective: bool,
    pub(crate) review_ms: UnixMillis,
}

/// A document that one signal found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DocumentHit {
    pub(crate) id: DocumentId,
    pub(crate) about: About,
    /// By which copies are known.
    pub(crate) sketch: BTreeSet<u32>,
    /// Its version.
    pub(crate) version: u32,
    /// Whether it has vectors.
    pub(crate) embedded: bool,
    /// Whether it is another tenant's, that publishes it.
    pub(crate) public: bool,
    /// Whether something in it speaks to a machine.
    pub(crate) doubted: bool,
    pub(crate) score: f64,
}

/// A passage that one signal found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PassageHit {
    pub(crate) document: DocumentId,
    pub(crate) about: About,
    pub(crate) version: u32,
    /// Its place among the passages of the document.
    pub(crate) ordinal: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) headings: Vec<String>,
    pub(crate) quote_sha256: String,
    /// Whether it is another tenant's, that publishes it.
    pub(crate) public: bool,
    /// Whether something in its document speaks to a machine.
    pub(crate) doubted: bool,
    pub(crate) score: f64,
}

/// Which vector of a document to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Title,
    Lead,
}

impl Scope {
    fn filter(&self, further: impl IntoIterator<Item = Condition>) -> Filter {
        let readable: Vec<String> =
            std::iter::once(&self.tenant).chain(&self.public).map(|tenant| tenant.as_str().to_owned()).collect();
        let mut must = vec![Condition::matches(payload::TENANT, readable)];
        if !self.kinds.is_empty() {
            let kinds: Vec<String> = self.kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
            must.push(Condition::matches(payload::KIND, kinds));
        }
        must.extend(further);
        let excluded = self.excluded_names();
        let must_not =
            if excluded.is_empty() { Vec::new() } else { vec![Condition::matches(payload::DOCUMENT, excluded)] };
        Filter { must, must_not, ..Filter::default() }
    }
}

impl Index {
    /// Documents by BM25F.
    pub(crate) async fn documents_by_words(
        &self,
        scope: &Scope,
        weights: &Weights,
        limit: u64,
    ) -> Result<Vec<DocumentHit>, Error> {
        let Some(query) = by_words(weights) else { return Ok(Vec::new()) };
        let found = self.query(&self.documents, scope, query, schema::WORDS, limit).await?;
        found.iter().map(|point| document_hit(scope, point)).collect()
    }

    /// Documents by cosine with their title or beginning.
    pub(crate) async fn documents_by_vector(
        &self,
        scope: &Scope,
        part: Part,
        vector: &[f32],
        limit: u64,
    ) -> Result<Vec<DocumentHit>, Error> {
        let using = match part {
            Part::Title => schema::TITLE,
            Part::Lead => schema::LEAD,
        };
        let found = self.query(&self.documents, scope, by_vector(vector), using, limit).await?;
        found.iter().map(|point| document_hit(scope, point)).collect()
    }

    /// Passages by BM25F.
    pub(crate) async fn passages_by_words(
        &self,
        scope: &Scope,
        weights: &Weights,
        limit: u64,
    ) -> Result<Vec<PassageHit>, Error> {
        let Some(query) = by_words(weights) else { return Ok(Vec::new()) };
        let found = self.query(&self.passages, scope, query, schema::WORDS, limit).await?;
        found.iter().map(|point| passage_hit(scope, &Reader(&point.payload), f64::from(point.score))).collect()
    }

    /// Passages by cosine.
    pub(crate) async fn passages_by_vector(
        &self,
        scope: &Scope,
        vector: &[f32],
        limit: u64,
    ) -> Result<Vec<PassageHit>, Error> {
        let found = self.query(&self.passages, scope, by_vector(vector), schema::TEXT, limit).await?;
        found.iter().map(|point| passage_hit(scope, &Reader(&point.payload), f64::from(point.score))).collect()
    }

    /// Documents that have one of these names.
    pub(crate) async fn documents_named(
        &self,
        scope: &Scope,
        names: &BTreeSet<String>,
    ) -> Result<Vec<DocumentHit>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = names.iter().cloned().collect();
        let filter = scope.filter([Condition::matches(payload::NAMES, names)]);
        let scroll = ScrollPointsBuilder::new(&self.documents).filter(filter).limit(NAMED_MAX).with_payload(true);
        let _place = self.place().await;
        let found = self.client.scroll(scroll).await?;
        found.result.iter().map(|point| read_document(scope, &Reader(&point.payload), 0.0)).collect()
    }

    /// The first passage of each of these documents.
    pub(crate) async fn first_passages(
        &self,
        scope: &Scope,
        documents: &[DocumentId],
    ) -> Result<Vec<PassageHit>, Error> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = documents.iter().map(|id| id.as_str().to_owned()).collect();
        let filter =
            scope.filter([Condition::matches(payload::DOCUMENT, names), Condition::matches(payload::ORDINAL, 0_i64)]);
        // One name may be that of an own document and of a public one.
        let limit = u32::try_from(2 * documents.len()).unwrap_or(u32::MAX);
        let scroll = ScrollPointsBuilder::new(&self.passages).filter(filter).limit(limit).with_payload(true);
        let _place = self.place().await;
        let found = self.client.scroll(scroll).await?;
        found.result.iter().map(|point| passage_hit(scope, &Reader(&point.payload), 0.0)).collect()
    }

    async fn query(
        &self,
        collection: &str,
        scope: &Scope,
        query: Query,
        using: &str,
        limit: u64,
    ) -> Result<Vec<ScoredPoint>, Error> {
        let request = QueryPointsBuilder::new(collection)
            .query(query)
            .using(using)
            .filter(scope.filter([]))
            .limit(limit)
            .with_payload(true);
        let _place = self.place().await;
        Ok(self.client.query(request).await?.result)
    }
}

/// `None` where the question has no term that any document holds.
fn by_words(weights: &Weights) -> Option<Query> {
    let (indices, values): (Vec<u32>, Vec<f32>) = weights.iter().map(|(term, weight)| (*term, *weight)).unzip();
    (!indices.is_empty()).then(|| Query::new_nearest(VectorInput::new_sparse(indices, values)))
}

fn by_vector(vector: &[f32]) -> Query {
    Query::new_nearest(VectorInput::new_dense(vector.to_vec()))
}

fn document_hit(scope: &Scope, point: &ScoredPoint) -> Result<DocumentHit, Error> {
    read_document(scope, &Reader(&point.payload), f64::from(point.score))
}

fn read_document(scope: &Scope, reader: &Reader<'_>, score: f64) -> Result<DocumentHit, Error> {
    Ok(DocumentHit {
        id: reader.document()?,
        about: about(reader)?,
        sketch: reader.numbers(payload::SKETCH)?,
        version: reader.number(payload::VERSION)?,
        embedded: !reader.text(payload::MODEL)?.is_empty(),
        public: reader.tenant()? != scope.tenant,
        doubted: reader.flag(payload::DOUBTED)?,
        score,
    })
}

fn passage_hit(scope: &Scope, reader: &Reader<'_>, score: f64) -> Result<PassageHit, Error> {
    Ok(PassageHit {
        document: reader.document()?,
        about: about(reader)?,
        version: reader.number(payload::VERSION)?,
        ordinal: reader.number(payload::ORDINAL)?,
        start: reader.number(payload::START)?,
        end: reader.number(payload::END)?,
        headings: reader.texts(payload::HEADINGS)?,
        quote_sha256: reader.text(payload::QUOTE_SHA256)?.to_owned(),
        public: reader.tenant()? != scope.tenant,
        doubted: reader.flag(payload::DOUBTED)?,
        score,
    })
}

fn about(reader: &Reader<'_>) -> Result<About, Error> {
    Ok(About {
        kind: kind(reader)?,
        service_ids: reader.set(payload::SERVICES)?,
        title_terms: reader.numbers(payload::TITLE_TERMS)?,
        tiers: reader.numbers(payload::TIERS)?,
        states_objective: reader.flag(payload::OBJECTIVE)?,
        review_ms: reader.time_ms(payload::REVIEW)?,
    })
}

fn kind(reader: &Reader<'_>) -> Result<Kind, Error> {
    let word = reader.text(payload::KIND)?;
    Kind::parse(word).ok_or_else(|| Error::Corrupt(format!("kind `{word}`")))
}
