//! Reads: the first candidates of each signal, always within one tenant. A signal tells the names of its candidates and no more; what
//! ranking reads of a document is fetched once, however many signals found it and however often, and what few of them need comes after that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use qdrant_client::qdrant::{
    Condition, Filter, GetPointsBuilder, PayloadIncludeSelector, Query, QueryPointsBuilder, RetrievedPoint,
    ScoredPoint, ScrollPointsBuilder, VectorInput,
};

use attain_vocabulary::{TenantId, UnixMillis};

use super::kept::{Kept, Revision};
use super::names::Place;
use super::payload::{self, Point, Reader, point, point_id, point_of};
use super::{Index, schema};
use crate::Error;
use crate::domain::document::{DocumentId, Kind};
use crate::domain::terms::{TermId, Weights};

/// Most documents that a question may name.
const NAMED_MAX: u32 = 50;

/// Points of one call that reads them: two such calls keep two cores busy.
const POINTS_PER_READ: usize = 100;

/// What ranking reads of a document. Each of its passages carries the same.
const FACT_FIELDS: [&str; 10] = [
    payload::TENANT,
    payload::DOCUMENT,
    payload::VERSION,
    payload::DOUBTED,
    payload::SERVICES,
    payload::TITLE_TERMS,
    payload::TIERS,
    payload::OBJECTIVE,
    payload::REVIEW,
    payload::MODEL,
];
/// What the name of a passage is made of.
const NAME_FIELDS: [&str; 3] = [payload::TENANT, payload::DOCUMENT, payload::ORDINAL];
/// What quoting reads of a passage.
const PLACED_FIELDS: [&str; 5] =
    [payload::VERSION, payload::START, payload::END, payload::HEADINGS, payload::QUOTE_SHA256];
/// What the comparison of copies reads of a document.
const SKETCH_FIELDS: [&str; 1] = [payload::SKETCH];

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

/// What ranking reads of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    tenant: TenantId,
    pub(crate) id: DocumentId,
    pub(crate) version: u32,
    pub(crate) service_ids: BTreeSet<String>,
    /// In their order.
    pub(crate) title_terms: Arc<[TermId]>,
    pub(crate) tiers: BTreeSet<u32>,
    pub(crate) states_objective: bool,
    pub(crate) review_ms: UnixMillis,
    /// Whether it has vectors.
    pub(crate) embedded: bool,
    /// Whether something in it speaks to a machine.
    pub(crate) doubted: bool,
}

/// A document for somebody who may read it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) facts: Arc<Facts>,
    /// Its point; without a version where passages alone were found.
    pub(crate) at: Revision,
    /// Whether it is another tenant's, that publishes it.
    pub(crate) public: bool,
}

/// A document that one signal found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Near {
    pub(crate) document: Revision,
    pub(crate) score: f64,
}

/// A passage that one signal found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NearPassage {
    pub(crate) passage: Revision,
    pub(crate) document: Point,
    /// Its place among the passages of the document.
    pub(crate) ordinal: u32,
    pub(crate) score: f64,
}

/// Where a passage stands in its document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    /// Version of the document.
    pub(crate) version: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) headings: Vec<String>,
    pub(crate) quote_sha256: String,
}

/// Which vector of a document to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Title,
    Lead,
}

impl Scope {
    /// The name of a passage of a document.
    pub(crate) fn passage(&self, id: &DocumentId, is_public: bool, ordinal: u32) -> Point {
        point(self.owner(is_public), id, Some(ordinal as usize))
    }

    /// Whose a document is.
    fn owner(&self, is_public: bool) -> &TenantId {
        self.public.as_ref().filter(|_| is_public).unwrap_or(&self.tenant)
    }

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

    fn document(&self, facts: &Arc<Facts>, at: Revision) -> Document {
        Document { facts: Arc::clone(facts), at, public: facts.tenant != self.tenant }
    }
}

impl Index {
    /// Documents by BM25F.
    pub(crate) async fn documents_by_words(
        &self,
        scope: &Scope,
        weights: &Weights,
        limit: u64,
    ) -> Result<Vec<Near>, Error> {
        let Some(query) = by_words(weights) else { return Ok(Vec::new()) };
        self.query(&self.documents, scope, query, schema::WORDS, limit).await
    }

    /// Documents by cosine with their title or beginning.
    pub(crate) async fn documents_by_vector(
        &self,
        scope: &Scope,
        part: Part,
        vector: &[f32],
        limit: u64,
    ) -> Result<Vec<Near>, Error> {
        let using = match part {
            Part::Title => schema::TITLE,
            Part::Lead => schema::LEAD,
        };
        self.query(&self.documents, scope, by_vector(vector), using, limit).await
    }

    /// Passages by BM25F.
    pub(crate) async fn passages_by_words(
        &self,
        scope: &Scope,
        weights: &Weights,
        limit: u64,
    ) -> Result<Vec<NearPassage>, Error> {
        let Some(query) = by_words(weights) else { return Ok(Vec::new()) };
        let found = self.query(&self.passages, scope, query, schema::WORDS, limit).await?;
        self.named(found).await
    }

    /// Passages by cosine.
    pub(crate) async fn passages_by_vector(
        &self,
        scope: &Scope,
        vector: &[f32],
        limit: u64,
    ) -> Result<Vec<NearPassage>, Error> {
        let found = self.query(&self.passages, scope, by_vector(vector), schema::TEXT, limit).await?;
        self.named(found).await
    }

    /// The passages behind the names of points; those that are gone are left out.
    async fn named(&self, found: Vec<Near>) -> Result<Vec<NearPassage>, Error> {
        let (mut places, unknown) = self.names.look_up(found.iter().map(|near| near.document.point));
        if !unknown.is_empty() {
            let points = self.points(&self.passages, &unknown, NAME_FIELDS).await?;
            let learnt: HashMap<Point, Place> = points.iter().map(named).collect::<Result<_, _>>()?;
            self.names.learn(&learnt);
            places.extend(learnt);
        }
        let passage = |near: Near| {
            let (document, ordinal) = *places.get(&near.document.point)?;
            Some(NearPassage { passage: near.document, document, ordinal, score: near.score })
        };
        Ok(found.into_iter().filter_map(passage).collect())
    }

    /// Documents that have one of these names.
    pub(crate) async fn documents_named(&self, scope: &Scope, names: &BTreeSet<String>) -> Result<Vec<Near>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = names.iter().cloned().collect();
        let filter = scope.filter([Condition::matches(payload::NAMES, names)]);
        let scroll = ScrollPointsBuilder::new(&self.documents).filter(filter).limit(NAMED_MAX).with_payload(false);
        let _place = self.place().await;
        let found = self.client.scroll(scroll).await?;
        let near = |found: &RetrievedPoint| {
            Ok(Near { document: Revision { point: point_of(found.id.as_ref())?, version: None }, score: 0.0 })
        };
        found.result.iter().map(near).collect()
    }

    /// What ranking reads of documents; those that are gone are left out.
    pub(crate) async fn documents(&self, scope: &Scope, points: &[Revision]) -> Result<Vec<(Point, Document)>, Error> {
        let facts = self.read(&self.documents, &self.known.facts, points, &FACT_FIELDS, facts).await?;
        let document = |at: &Revision| Some((at.point, scope.document(facts.get(&at.point)?, *at)));
        Ok(points.iter().filter_map(document).collect())
    }

    /// The same of documents by one of their passages each.
    pub(crate) async fn documents_of(
        &self,
        scope: &Scope,
        passages: &BTreeMap<Point, Revision>,
    ) -> Result<Vec<(Point, Document)>, Error> {
        let points: Vec<Revision> = passages.values().copied().collect();
        let facts = self.read(&self.passages, &self.known.facts, &points, &FACT_FIELDS, facts).await?;
        let document = |(document, passage): (&Point, &Revision)| {
            let at = Revision { point: *document, version: None };
            Some((*document, scope.document(facts.get(&passage.point)?, at)))
        };
        Ok(passages.iter().filter_map(document).collect())
    }

    /// Where passages stand, by their names; those that are gone are left out.
    pub(crate) async fn placed(&self, passages: &[Revision]) -> Result<HashMap<Point, Arc<Placed>>, Error> {
        self.read(&self.passages, &self.known.placed, passages, &PLACED_FIELDS, placed).await
    }

    /// By which copies are known, by the names of documents; those that are gone are left out.
    pub(crate) async fn sketches(&self, documents: &[Revision]) -> Result<HashMap<Point, Arc<BTreeSet<u32>>>, Error> {
        let sketch = |reader: &Reader<'_>| reader.numbers(payload::SKETCH);
        self.read(&self.documents, &self.known.sketches, documents, &SKETCH_FIELDS, sketch).await
    }

    /// What points carry, by their names: what is known of them, and the rest read. Those that are gone are left out.
    async fn read<T>(
        &self,
        collection: &str,
        kept: &Kept<T>,
        points: &[Revision],
        fields: &[&'static str],
        of: impl Fn(&Reader<'_>) -> Result<T, Error>,
    ) -> Result<HashMap<Point, Arc<T>>, Error> {
        let (mut found, unknown) = kept.look_up(points);
        for part in unknown.chunks(2 * POINTS_PER_READ) {
            let names: Vec<Point> = part.iter().map(|revision| revision.point).collect();
            let (left, right) = names.split_at(names.len().min(POINTS_PER_READ));
            let fields = || fields.iter().copied();
            let (left, right) =
                tokio::try_join!(self.points(collection, left, fields()), self.points(collection, right, fields()),)?;
            let value =
                |point: &RetrievedPoint| Ok((point_of(point.id.as_ref())?, Arc::new(of(&Reader(&point.payload))?)));
            let read: HashMap<Point, Arc<T>> = left.iter().chain(&right).map(value).collect::<Result<_, Error>>()?;
            kept.learn(&read, part);
            found.extend(read);
        }
        Ok(found)
    }

    /// Points by their names, in no order; those that are gone are left out.
    async fn points(
        &self,
        collection: &str,
        points: &[Point],
        fields: impl IntoIterator<Item = &'static str>,
    ) -> Result<Vec<RetrievedPoint>, Error> {
        if points.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = points.iter().map(|point| point_id(*point)).collect();
        let fields = PayloadIncludeSelector { fields: fields.into_iter().map(str::to_owned).collect() };
        let request = GetPointsBuilder::new(collection, ids).with_payload(fields).with_vectors(false);
        let _place = self.place().await;
        Ok(self.client.get_points(request).await?.result)
    }

    /// Names of points with their scores, best first.
    async fn query(
        &self,
        collection: &str,
        scope: &Scope,
        query: Query,
        using: &str,
        limit: u64,
    ) -> Result<Vec<Near>, Error> {
        let request = QueryPointsBuilder::new(collection)
            .query(query)
            .using(using)
            .filter(scope.filter([]))
            .limit(limit)
            .with_payload(false);
        let _place = self.place().await;
        let found = self.client.query(request).await?.result;
        let near = |found: &ScoredPoint| {
            let document = Revision { point: point_of(found.id.as_ref())?, version: Some(found.version) };
            Ok(Near { document, score: found.score.into() })
        };
        found.iter().map(near).collect()
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

/// The name of a point with the passage that it stands for.
fn named(found: &RetrievedPoint) -> Result<(Point, Place), Error> {
    let reader = Reader(&found.payload);
    let document = point(&reader.tenant()?, &reader.document()?, None);
    Ok((point_of(found.id.as_ref())?, (document, reader.number(payload::ORDINAL)?)))
}

fn facts(reader: &Reader<'_>) -> Result<Facts, Error> {
    Ok(Facts {
        tenant: reader.tenant()?,
        id: reader.document()?,
        version: reader.number(payload::VERSION)?,
        service_ids: reader.set(payload::SERVICES)?,
        title_terms: reader.numbers(payload::TITLE_TERMS)?.into_iter().collect(),
        tiers: reader.numbers(payload::TIERS)?,
        states_objective: reader.flag(payload::OBJECTIVE)?,
        review_ms: reader.time_ms(payload::REVIEW)?,
        embedded: !reader.text(payload::MODEL)?.is_empty(),
        doubted: reader.flag(payload::DOUBTED)?,
    })
}

fn placed(reader: &Reader<'_>) -> Result<Placed, Error> {
    Ok(Placed {
        version: reader.number(payload::VERSION)?,
        start: reader.number(payload::START)?,
        end: reader.number(payload::END)?,
        headings: reader.texts(payload::HEADINGS)?,
        quote_sha256: reader.text(payload::QUOTE_SHA256)?.to_owned(),
    })
}
