//! Searches: leaves go to the engine, fusions and re-ranking are put together here, where equal scores have an order.

use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition, Distance, EdgeShard, Filter, HasIdCondition, NamedQuery, OperationError, PointId, QueryEnum,
    QueryRequest, ScoringQuery, SearchParams, VectorInternal, WithPayloadInterface, WithVector,
};

use crate::Error;
use crate::fusion::{Ranked, reciprocal_rank_fusion, sort_best_first};

/// A found point: its id and score.
pub(crate) type Found = Ranked<PointId>;

/// A query or one of its prefetches.
pub(crate) struct Search {
    pub(crate) prefetches: Vec<Search>,
    pub(crate) ranking: Ranking,
    /// Applies to the points of this search and to those of all its prefetches.
    pub(crate) filter: Option<Filter>,
    pub(crate) params: Option<SearchParams>,
    pub(crate) score_threshold: Option<f32>,
    pub(crate) limit: usize,
}

/// What makes a point better than another.
pub(crate) enum Ranking {
    /// Nothing: by id.
    All,
    /// Similarity to a vector; over the prefetched points where there are prefetches.
    Nearest { vector: VectorInternal, using: String },
    /// Reciprocal rank fusion of the prefetches. No weights: all equal.
    Fusion { k: usize, weights: Vec<f32> },
}

/// The best points, best first, at most the limit.
pub(crate) fn evaluate(shard: &EdgeShard, search: &Search) -> Result<Vec<Found>, Error> {
    evaluate_within(shard, search, None)
}

fn evaluate_within(shard: &EdgeShard, search: &Search, outer: Option<&Filter>) -> Result<Vec<Found>, Error> {
    let filter = both(outer.cloned(), search.filter.clone());
    let lists = search
        .prefetches
        .iter()
        .map(|prefetch| evaluate_within(shard, prefetch, filter.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    match &search.ranking {
        Ranking::Fusion { k, weights } => {
            let mut fused = reciprocal_rank_fusion(&lists, *k, weights);
            if let Some(threshold) = search.score_threshold {
                fused.retain(|point| point.score >= threshold);
            }
            fused.truncate(search.limit);
            Ok(fused)
        }
        Ranking::Nearest { vector, using } => {
            let larger_is_better = check_query(shard, vector, using)?;
            let candidates = candidates(search, &lists);
            let query = QueryEnum::Nearest(NamedQuery::new(vector.clone(), using.clone()));
            let filter = both(filter, candidates);
            let mut points = leaf(shard, search, Some(ScoringQuery::Vector(query)), filter)?;
            sort_best_first(&mut points, larger_is_better);
            Ok(points)
        }
        Ranking::All => {
            let mut points = leaf(shard, search, None, filter)?;
            points.sort_by_key(|point| point.id);
            Ok(points)
        }
    }
}

/// A filter for the prefetched points, where there are prefetches.
fn candidates(search: &Search, lists: &[Vec<Found>]) -> Option<Filter> {
    if search.prefetches.is_empty() {
        return None;
    }
    let ids: HasIdCondition = lists.iter().flatten().map(|point| point.id).collect();
    Some(Filter { must: Some(vec![Condition::HasId(ids)]), ..Filter::new() })
}

fn leaf(
    shard: &EdgeShard,
    search: &Search,
    query: Option<ScoringQuery>,
    filter: Option<Filter>,
) -> Result<Vec<Found>, Error> {
    if search.limit == 0 {
        return Ok(Vec::new());
    }
    let request = QueryRequest {
        prefetches: Vec::new(),
        query,
        filter,
        score_threshold: search.score_threshold.map(OrderedFloat),
        limit: search.limit,
        offset: 0,
        params: search.params,
        with_vector: WithVector::Bool(false),
        with_payload: WithPayloadInterface::Bool(false),
    };
    let points = shard.query(request)?;
    Ok(points.into_iter().map(|point| Found { id: point.id, score: point.score, version: point.version }).collect())
}

/// Holds a query's vector against the collection; tells whether a larger score is a better one.
///
/// The engine would only notice in a segment that has points, and an empty collection must not answer otherwise.
fn check_query(shard: &EdgeShard, vector: &VectorInternal, using: &str) -> Result<bool, Error> {
    let config = shard.config();
    match (vector, config.vectors.get(using), config.sparse_vectors.get(using)) {
        (VectorInternal::Dense(values), Some(params), _) => {
            if values.len() != params.size {
                return Err(Error::Engine(OperationError::WrongVectorDimension {
                    expected_dim: params.size,
                    received_dim: values.len(),
                }));
            }
            Ok(match params.distance {
                Distance::Cosine | Distance::Dot => true,
                Distance::Euclid | Distance::Manhattan => false,
            })
        }
        (VectorInternal::Sparse(_), _, Some(_)) => Ok(true),
        (_, None, None) => Err(Error::Engine(OperationError::vector_name_not_exists(using))),
        (VectorInternal::MultiDense(_), _, _) => Err(Error::Engine(OperationError::WrongMulti)),
        (VectorInternal::Dense(_), None, Some(_)) | (VectorInternal::Sparse(_), Some(_), None) => {
            Err(Error::Engine(OperationError::WrongSparse))
        }
    }
}

/// Points that satisfy both filters.
fn both(outer: Option<Filter>, inner: Option<Filter>) -> Option<Filter> {
    match (outer, inner) {
        (Some(outer), Some(inner)) => {
            Some(Filter { must: Some(vec![Condition::Filter(outer), Condition::Filter(inner)]), ..Filter::new() })
        }
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qdrant_edge::{FieldCondition, Match};

    #[test]
    fn two_filters_are_joined_by_and() {
        let tenant = |name: &str| {
            let key = "tenant".parse().expect("a path");
            let matches = FieldCondition::new_match(key, Match::from(name.to_owned()));
            Some(Filter { should: Some(vec![Condition::Field(matches)]), ..Filter::new() })
        };
        let joined = both(tenant("a"), tenant("b")).expect("two filters");
        assert_eq!(joined.must.map(|all| all.len()), Some(2));
        assert_eq!(joined.should, None);
        assert_eq!(both(None, tenant("a")), tenant("a"));
    }
}
