//! Queries: `QueryPoints` with its prefetches → a [`Search`].

use qdrant_client::qdrant::query::Variant;
use qdrant_client::qdrant::vector_input::Variant as Input;
use qdrant_client::qdrant::{
    DenseVector, Fusion, PrefetchQuery, Query, QueryPoints, Rrf, SearchParams as WireParams,
    SparseVector as WireSparse, VectorInput,
};
use qdrant_edge::{DEFAULT_VECTOR_NAME, SearchParams, VectorInternal, WithPayloadInterface, WithVector};

use super::filter::filter_from_wire;
use super::payload::payload_selector_from_wire;
use super::vectors::{dense, sparse, vector_selector_from_wire};
use super::{refuse, refuse_shard_key};
use crate::Error;
use crate::fusion::DEFAULT_K;
use crate::options::Bounds;
use crate::storage::search::{Ranking, Search};

/// Answer length of a query or prefetch that names none, as on a genuine server.
const DEFAULT_LIMIT: u64 = 10;

/// A whole query: what to look for, which page of it, and what to return of each point.
pub(crate) struct WholeQuery {
    /// Its limit covers the offset too.
    pub(crate) search: Search,
    pub(crate) offset: usize,
    pub(crate) with_payload: WithPayloadInterface,
    pub(crate) with_vector: WithVector,
}

/// Decodes a query and holds it against the bounds.
pub(crate) fn query_from_wire(query: QueryPoints, bounds: &Bounds) -> Result<WholeQuery, Error> {
    refuse_shard_key(&query.shard_key_selector)?;
    refuse(&query.lookup_from, "lookup_from", "a look-up in another collection")?;
    let prefetch_count = count_prefetches(&query.prefetch);
    if prefetch_count > bounds.prefetch_count_max {
        return Err(Error::invalid(
            "prefetch",
            format!("{prefetch_count} are more than the {} allowed", bounds.prefetch_count_max),
        ));
    }
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    let offset = query.offset.unwrap_or(0);
    let reach = checked_limit("limit", limit.saturating_add(offset), bounds)?;
    let search = Search {
        prefetches: prefetches_from_wire("prefetch", query.prefetch, bounds)?,
        ranking: ranking_from_wire("query", query.query, query.using)?,
        filter: filter_from_wire("filter", query.filter)?,
        params: params_from_wire("params", query.params)?,
        score_threshold: threshold("score_threshold", query.score_threshold)?,
        limit: reach,
    };
    check_shape("query", &search)?;
    Ok(WholeQuery {
        search,
        offset: checked_limit("offset", offset, bounds)?,
        with_payload: payload_selector_from_wire(query.with_payload, false)?,
        with_vector: vector_selector_from_wire(query.with_vectors),
    })
}

fn count_prefetches(prefetches: &[PrefetchQuery]) -> usize {
    prefetches.iter().map(|prefetch| 1 + count_prefetches(&prefetch.prefetch)).sum()
}

fn prefetches_from_wire(field: &str, prefetches: Vec<PrefetchQuery>, bounds: &Bounds) -> Result<Vec<Search>, Error> {
    prefetches
        .into_iter()
        .enumerate()
        .map(|(index, prefetch)| prefetch_from_wire(&format!("{field}[{index}]"), prefetch, bounds))
        .collect()
}

fn prefetch_from_wire(field: &str, wire: PrefetchQuery, bounds: &Bounds) -> Result<Search, Error> {
    refuse(&wire.lookup_from, "prefetch.lookup_from", "a look-up in another collection")?;
    let search = Search {
        prefetches: prefetches_from_wire(&format!("{field}.prefetch"), wire.prefetch, bounds)?,
        ranking: ranking_from_wire(&format!("{field}.query"), wire.query, wire.using)?,
        filter: filter_from_wire(&format!("{field}.filter"), wire.filter)?,
        params: params_from_wire(&format!("{field}.params"), wire.params)?,
        score_threshold: threshold(&format!("{field}.score_threshold"), wire.score_threshold)?,
        limit: checked_limit(&format!("{field}.limit"), wire.limit.unwrap_or(DEFAULT_LIMIT), bounds)?,
    };
    check_shape(field, &search)?;
    Ok(search)
}

fn ranking_from_wire(field: &str, query: Option<Query>, using: Option<String>) -> Result<Ranking, Error> {
    let Some(query) = query else {
        return Ok(Ranking::All);
    };
    let feature = match query.variant {
        Some(Variant::Nearest(input)) => return nearest_from_wire(field, input, using),
        Some(Variant::Rrf(rrf)) => return rrf_from_wire(field, rrf),
        Some(Variant::Fusion(fusion)) => match Fusion::try_from(fusion) {
            Ok(Fusion::Rrf) => return rrf_from_wire(field, Rrf::default()),
            Ok(Fusion::Dbsf) => "distribution-based score fusion",
            Err(_) => "this fusion",
        },
        Some(Variant::Recommend(_)) => "a recommendation",
        Some(Variant::Discover(_)) => "a discovery",
        Some(Variant::Context(_)) => "a context search",
        Some(Variant::OrderBy(_)) => "ordering by payload",
        Some(Variant::Sample(_)) => "sampling",
        Some(Variant::Formula(_)) => "a formula",
        Some(Variant::NearestWithMmr(_)) => "maximal marginal relevance",
        Some(Variant::RelevanceFeedback(_)) => "relevance feedback",
        Some(Variant::Text(_)) => "a text query",
        None => return Err(Error::invalid(field, "the query is empty")),
    };
    Err(Error::unsupported(field, feature))
}

fn nearest_from_wire(field: &str, input: VectorInput, using: Option<String>) -> Result<Ranking, Error> {
    let vector = match input.variant {
        Some(Input::Dense(DenseVector { data })) => VectorInternal::Dense(dense(field, data)?),
        Some(Input::Sparse(WireSparse { values, indices })) => VectorInternal::Sparse(sparse(field, indices, values)?),
        Some(Input::Id(_)) => {
            return Err(Error::unsupported(field, "the vector of a stored point"));
        }
        Some(Input::MultiDense(_)) => return Err(Error::unsupported(field, "a multi-vector")),
        Some(Input::Document(_) | Input::Image(_) | Input::Object(_)) => {
            return Err(Error::unsupported(field, "inference on the server"));
        }
        None => return Err(Error::invalid(field, "has no vector")),
    };
    Ok(Ranking::Nearest { vector, using: using.unwrap_or_else(|| DEFAULT_VECTOR_NAME.to_owned()) })
}

fn rrf_from_wire(field: &str, rrf: Rrf) -> Result<Ranking, Error> {
    let k = rrf.k.map_or(DEFAULT_K, |k| k as usize);
    if k == 0 {
        return Err(Error::invalid(format!("{field}.k"), "must be at least 1"));
    }
    if rrf.weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
        return Err(Error::invalid(format!("{field}.weights"), "must be finite and not negative"));
    }
    Ok(Ranking::Fusion { k, weights: rrf.weights })
}

fn params_from_wire(field: &str, params: Option<WireParams>) -> Result<Option<SearchParams>, Error> {
    let Some(params) = params else {
        return Ok(None);
    };
    if params.quantization.is_some() {
        return Err(Error::unsupported(format!("{field}.quantization"), "quantisation"));
    }
    if params.acorn.is_some() {
        return Err(Error::unsupported(format!("{field}.acorn"), "ACORN search"));
    }
    if params.idf.is_some() {
        return Err(Error::unsupported(format!("{field}.idf"), "a choice of IDF statistics"));
    }
    let hnsw_ef = params
        .hnsw_ef
        .map(usize::try_from)
        .transpose()
        .map_err(|_| Error::invalid(format!("{field}.hnsw_ef"), "is too large"))?;
    Ok(Some(SearchParams {
        hnsw_ef,
        exact: params.exact.unwrap_or(false),
        indexed_only: params.indexed_only.unwrap_or(false),
        ..SearchParams::default()
    }))
}

fn threshold(field: &str, threshold: Option<f32>) -> Result<Option<f32>, Error> {
    match threshold {
        Some(threshold) if !threshold.is_finite() => Err(Error::invalid(field, "is not a finite number")),
        threshold => Ok(threshold),
    }
}

pub(crate) fn checked_limit(field: &str, limit: u64, bounds: &Bounds) -> Result<usize, Error> {
    let max = bounds.points_per_answer_max;
    usize::try_from(limit)
        .ok()
        .filter(|limit| *limit <= max)
        .ok_or_else(|| Error::invalid(field, format!("{limit} is more than the {max} allowed")))
}

/// What no single field shows: fusions need something to fuse, prefetches something that uses them.
fn check_shape(field: &str, search: &Search) -> Result<(), Error> {
    match &search.ranking {
        Ranking::Fusion { .. } if search.prefetches.is_empty() => {
            Err(Error::invalid(field, "a fusion needs prefetches"))
        }
        Ranking::Fusion { weights, .. } if !weights.is_empty() && weights.len() != search.prefetches.len() => {
            Err(Error::invalid(
                format!("{field}.weights"),
                format!("{} weights for {} prefetches", weights.len(), search.prefetches.len()),
            ))
        }
        Ranking::All if !search.prefetches.is_empty() => {
            Err(Error::invalid(field, "prefetches need a query that ranks their points"))
        }
        Ranking::All if search.score_threshold.is_some() => {
            Err(Error::invalid(field, "a score threshold needs a query that scores"))
        }
        Ranking::All | Ranking::Nearest { .. } | Ranking::Fusion { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qdrant_client::qdrant::{
        OrderByBuilder, PointId, PrefetchQueryBuilder, QueryPointsBuilder, RrfBuilder, Sample,
    };

    fn refusal(query: impl Into<QueryPoints>) -> String {
        match query_from_wire(query.into(), &Bounds::default()) {
            Ok(_) => String::from("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_name() {
        let query = |q: Query| QueryPointsBuilder::new("c").query(q);
        let prefetch = PrefetchQueryBuilder::default().query(vec![1.0]);
        let cases = [
            (refusal(query(Query::new_nearest(PointId::from(7)))), "a stored point"),
            (refusal(query(Query::new_order_by(OrderByBuilder::new("x")))), "ordering by payload"),
            (refusal(query(Query::new_sample(Sample::Random))), "sampling"),
            (refusal(query(Query::new_fusion(Fusion::Dbsf))), "distribution-based"),
            (refusal(query(Query::new_fusion(Fusion::Rrf))), "a fusion needs prefetches"),
            (refusal(query(Query::new_nearest(vec![f32::NAN]))), "not a finite number"),
            (refusal(QueryPointsBuilder::new("c").limit(10_001)), "more than the 10000"),
            (refusal(QueryPointsBuilder::new("c").add_prefetch(prefetch.clone())), "need a query"),
            (
                refusal(query(Query::new_rrf(RrfBuilder::with_k(0))).add_prefetch(prefetch.clone())),
                "query.k: must be at least 1",
            ),
            (
                refusal(
                    query(Query::new_rrf(RrfBuilder::with_k(2).weights(vec![1.0, 2.0]))).add_prefetch(prefetch.clone()),
                ),
                "2 weights for 1 prefetches",
            ),
        ];
        for (text, expected) in cases {
            assert!(text.contains(expected), "{text} / {expected}");
        }
    }

    #[test]
    fn prefetches_are_counted_through_all_levels() {
        let mut nested = PrefetchQuery::default();
        for _ in 0..16 {
            nested = PrefetchQuery { prefetch: vec![nested], ..PrefetchQuery::default() };
        }
        let text = refusal(QueryPoints { prefetch: vec![nested], ..QueryPoints::default() });
        assert!(text.contains("17 are more than the 16"), "{text}");
    }

    #[test]
    fn defaults_are_those_of_a_genuine_server() {
        let whole = query_from_wire(QueryPoints::default(), &Bounds::default()).expect("all points");
        assert_eq!((whole.search.limit, whole.offset), (10, 0));
        assert_eq!(whole.with_payload, WithPayloadInterface::Bool(false));
    }
}
