//! What the project asks of a Qdrant, written once over the ordinary client and run on the embedded server and, where
//! `QDRANT_URL` names one, on a genuine server (`QDRANT_API_KEY` if it needs a key).

use crate::support::{DENSE, SPARSE, corpus, hybrid, ids, number, point};
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, CreateFieldIndexCollectionBuilder, DeletePointsBuilder, FieldType, Filter, Fusion,
    GetPointsBuilder, HasVectorCondition, PointStruct, PointsIdsList, PrefetchQueryBuilder, Query, QueryPointsBuilder,
    Range, RrfBuilder, ScoredPoint, ScrollPointsBuilder, UpsertPointsBuilder, ValuesCount, VectorParamsBuilder,
    vector_output,
};
use qdrant_client::qdrant::{CreateCollectionBuilder, Distance};
use qdrant_client::{Payload, Qdrant, QdrantError};
use tonic::Code;

/// Runs each function of the contract on both backends, each on a collection of its own.
macro_rules! contract {
    ($($promise:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $promise() {
                let folder = tempfile::tempdir().unwrap();
                let server = crate::support::Embedded::start(folder.path()).await;
                super::$promise(&server.client, stringify!($promise)).await;
                server.stop().await;
            })*
        }
        mod genuine {
            $(#[tokio::test]
            async fn $promise() {
                let Some(client) = super::genuine_client() else { return };
                let name = format!("attain_{}_{}", stringify!($promise), std::process::id());
                super::$promise(&client, &name).await;
                client.delete_collection(name).await.unwrap();
            })*
        }
    };
}

contract! {
    a_collection_is_created_described_listed_and_deleted,
    an_upsert_is_idempotent_and_replaces,
    points_come_back_as_they_were_sent,
    pages_cover_all_points_once,
    filters_select_what_they_say,
    dense_search_finds_the_nearest,
    sparse_search_weighs_rare_terms,
    hybrid_search_fuses_ranks_with_the_k_it_is_given,
    a_filter_around_a_fusion_reaches_its_prefetches,
    prefetched_points_can_be_ranked_again,
    a_tenant_sees_only_its_own_points,
    deletes_remove_by_id_and_by_filter,
    an_unnamed_vector_works_too,
    errors_have_the_codes_that_callers_act_on,
}

fn genuine_client() -> Option<Qdrant> {
    let Ok(url) = std::env::var("QDRANT_URL") else {
        eprintln!("SKIPPED: QDRANT_URL is not set, so there is no genuine server to hold to the contract");
        return None;
    };
    Some(crate::support::client(&url, std::env::var("QDRANT_API_KEY").ok().as_deref()))
}

/// A server of somebody else's is not ours to restart (`crash.rs` and `embedded_only.rs` restart the embedded one): another
/// connection finds what was acknowledged.
#[tokio::test]
async fn what_a_genuine_server_acknowledged_is_there_for_another_connection() {
    let Some(client) = genuine_client() else { return };
    let name = format!("attain_another_connection_{}", std::process::id());
    fill(&client, &name).await;
    drop(client);
    let another = genuine_client().unwrap();
    assert_eq!(count(&another, &name, None).await, 8);
    let nearest = QueryPointsBuilder::new(&name).query(vec![0.0, 1.0, 0.08, 0.0]).using(DENSE).limit(1);
    assert_eq!(query(&another, nearest).await, [4]);
    another.delete_collection(name).await.unwrap();
}

async fn fill(client: &Qdrant, name: &str) {
    client.create_collection(hybrid(name)).await.unwrap();
    client
        .create_field_index(CreateFieldIndexCollectionBuilder::new(name, "tenant", FieldType::Keyword).wait(true))
        .await
        .unwrap();
    upsert(client, name, corpus()).await;
}

async fn upsert(client: &Qdrant, name: &str, points: Vec<PointStruct>) {
    client.upsert_points(UpsertPointsBuilder::new(name, points).wait(true)).await.unwrap();
}

async fn count(client: &Qdrant, name: &str, filter: Option<Filter>) -> u64 {
    let mut request = CountPointsBuilder::new(name).exact(true);
    if let Some(filter) = filter {
        request = request.filter(filter);
    }
    client.count(request).await.unwrap().result.unwrap().count
}

async fn query(client: &Qdrant, request: QueryPointsBuilder) -> Vec<u64> {
    ids(&client.query(request).await.unwrap().result)
}

fn code(error: QdrantError) -> Code {
    match error {
        QdrantError::ResponseError { status } => status.code(),
        other => panic!("not an answer of the server: {other}"),
    }
}

fn tenant(name: &str) -> Filter {
    Filter::must([Condition::matches("tenant", name.to_owned())])
}

fn dense_prefetch(vector: [f32; 4]) -> PrefetchQueryBuilder {
    PrefetchQueryBuilder::default().query(vector.to_vec()).using(DENSE).limit(10u64)
}

fn sparse_prefetch(terms: &[(u32, f32)]) -> PrefetchQueryBuilder {
    PrefetchQueryBuilder::default().query(Query::new_nearest(terms)).using(SPARSE).limit(10u64)
}

async fn a_collection_is_created_described_listed_and_deleted(client: &Qdrant, name: &str) {
    assert!(!client.collection_exists(name).await.unwrap());
    assert!(client.create_collection(hybrid(name)).await.unwrap().result);
    assert!(client.collection_exists(name).await.unwrap());

    fill_existing(client, name).await;
    let info = client.collection_info(name).await.unwrap().result.unwrap();
    assert_eq!(info.points_count, Some(8));
    assert!(info.payload_schema.contains_key("tenant"));
    let params = info.config.unwrap().params.unwrap();
    assert!(params.sparse_vectors_config.unwrap().map.contains_key(SPARSE));

    let listed = client.list_collections().await.unwrap().collections;
    assert!(listed.iter().any(|collection| collection.name == name));

    assert!(client.delete_collection(name).await.unwrap().result);
    assert!(!client.collection_exists(name).await.unwrap());
    // The name is free again, and nothing of the old collection shows.
    client.create_collection(hybrid(name)).await.unwrap();
    assert_eq!(count(client, name, None).await, 0);
}

async fn fill_existing(client: &Qdrant, name: &str) {
    client
        .create_field_index(CreateFieldIndexCollectionBuilder::new(name, "tenant", FieldType::Keyword).wait(true))
        .await
        .unwrap();
    upsert(client, name, corpus()).await;
}

async fn an_upsert_is_idempotent_and_replaces(client: &Qdrant, name: &str) {
    fill(client, name).await;
    upsert(client, name, corpus()).await;
    assert_eq!(count(client, name, None).await, 8);

    upsert(client, name, vec![point(1, "south", [0.0, 0.0, 0.0, 1.0], &[(9, 1.0)])]).await;
    assert_eq!(count(client, name, None).await, 8);
    assert_eq!(count(client, name, Some(tenant("south"))).await, 3);
    let found =
        query(client, QueryPointsBuilder::new(name).query(Query::new_nearest(&[(9u32, 1.0f32)][..])).using(SPARSE))
            .await;
    assert_eq!(found, [1]);
}

async fn points_come_back_as_they_were_sent(client: &Qdrant, name: &str) {
    fill(client, name).await;
    let request = GetPointsBuilder::new(name, vec![3.into(), 99.into()]).with_payload(true).with_vectors(true);
    let points = client.get_points(request).await.unwrap().result;
    assert_eq!(points.len(), 1, "99 is not there");
    let sent = &corpus()[2];
    assert_eq!(points[0].payload, sent.payload);
    let vectors = points[0].vectors.as_ref().unwrap();
    let Some(vector_output::Vector::Dense(dense)) = vectors.get_vector_by_name(DENSE) else {
        panic!("a dense vector");
    };
    assert_eq!(dense.data, [0.0, 1.0, 0.0, 0.0]);
    let Some(vector_output::Vector::Sparse(sparse)) = vectors.get_vector_by_name(SPARSE) else {
        panic!("a sparse vector");
    };
    assert_eq!((sparse.indices, sparse.values), (vec![1, 2], vec![1.0, 1.0]));

    let bare = GetPointsBuilder::new(name, vec![3.into()]).with_payload(false);
    let bare = client.get_points(bare).await.unwrap().result;
    assert!(bare[0].payload.is_empty() && bare[0].vectors.is_none());
}

async fn pages_cover_all_points_once(client: &Qdrant, name: &str) {
    fill(client, name).await;
    let (mut seen, mut offset, mut page_count) = (Vec::new(), None, 0);
    loop {
        let mut request = ScrollPointsBuilder::new(name).limit(3).filter(tenant("north"));
        if let Some(offset) = offset {
            request = request.offset::<qdrant_client::qdrant::PointId>(offset);
        }
        let page = client.scroll(request).await.unwrap();
        seen.extend(page.result.iter().map(|point| number(point.id.as_ref())));
        page_count += 1;
        offset = page.next_page_offset;
        if offset.is_none() {
            break;
        }
    }
    assert_eq!((seen, page_count), (vec![1, 2, 3, 4, 5, 6], 2));
}

async fn filters_select_what_they_say(client: &Qdrant, name: &str) {
    fill(client, name).await;
    let ordinal = |range| Condition::range("ordinal", range);
    let between = Range { gte: Some(3.0), lt: Some(6.0), ..Range::default() };
    let two_tags = ValuesCount { gte: Some(2), ..ValuesCount::default() };
    let cases = [
        (tenant("north"), 6),
        (tenant("nobody"), 0),
        (Filter::must_not([Condition::matches("tenant", "north".to_owned())]), 2),
        (Filter::must([Condition::matches("tags", vec!["south".to_owned(), "x".to_owned()])]), 2),
        (Filter::must([ordinal(between)]), 3),
        (Filter::must([Condition::matches("passage.start", 40)]), 1),
        (Filter::should([Condition::matches("ordinal", 1), Condition::matches("ordinal", 8)]), 2),
        (Filter::must([Condition::is_null("retired")]), 8),
        (Filter::must([Condition::is_empty("absent")]), 8),
        (Filter::must([Condition::values_count("tags", two_tags)]), 8),
        (Filter::must([Condition::has_id([2, 7, 99])]), 2),
        (Filter::must([has_vector(SPARSE)]), 8),
        (Filter::must([Condition::from(tenant("south")), Condition::matches("ordinal", 7)]), 1),
    ];
    for (filter, expected) in cases {
        let counted = count(client, name, Some(filter.clone())).await;
        assert_eq!(counted, expected, "{filter:?}");
    }
}

fn has_vector(name: &str) -> Condition {
    Condition { condition_one_of: Some(ConditionOneOf::HasVector(HasVectorCondition { has_vector: name.to_owned() })) }
}

async fn dense_search_finds_the_nearest(client: &Qdrant, name: &str) {
    fill(client, name).await;
    let nearest =
        || QueryPointsBuilder::new(name).query(vec![0.0, 1.0, 0.08, 0.0]).using(DENSE).filter(tenant("north"));
    let answer = client.query(nearest().limit(2).with_payload(true)).await.unwrap().result;
    assert_eq!(ids(&answer), [4, 3]);
    assert!(answer[0].score > 0.99 && answer[0].score <= 1.0, "a cosine: {}", answer[0].score);
    assert_eq!(answer[0].payload, corpus()[3].payload);
    let bare = client.query(nearest().limit(2)).await.unwrap().result;
    assert!(
        bare.iter().all(|point| point.payload.is_empty() && point.vectors.is_none()),
        "no payload unless asked for"
    );
    let told = |points: &[ScoredPoint]| points.iter().map(|p| (p.id.clone(), p.score, p.version)).collect::<Vec<_>>();
    assert_eq!(told(&bare), told(&answer), "the same points");

    assert_eq!(query(client, nearest().limit(1).offset(1)).await, [3]);
    assert_eq!(query(client, nearest().score_threshold(0.5)).await, [4, 3]);
}

async fn sparse_search_weighs_rare_terms(client: &Qdrant, name: &str) {
    fill(client, name).await;
    // Term 1 is in seven points of eight, term 2 in two: without IDF point 4 (2.0 of term 1) would tie with point 3.
    let terms = [(1u32, 1.0f32), (2, 1.0)];
    let request = QueryPointsBuilder::new(name)
        .query(Query::new_nearest(&terms[..]))
        .using(SPARSE)
        .filter(tenant("north"))
        .limit(2);
    let found = client.query(request).await.unwrap().result;
    assert_eq!(ids(&found), [3, 4]);
    assert!(found[0].score > found[1].score * 1.5, "{found:?}");
    // A point without any of the terms is not found at all.
    let all = QueryPointsBuilder::new(name).query(Query::new_nearest(&terms[..])).using(SPARSE);
    assert!(!query(client, all).await.contains(&6));
}

async fn hybrid_search_fuses_ranks_with_the_k_it_is_given(client: &Qdrant, name: &str) {
    fill(client, name).await;
    // Dense ranks of tenant north: 1, 2, then the rest far behind. Sparse: 3 (both terms), 2 (term 3 is rarer still).
    let hybrid = |rrf: RrfBuilder| {
        QueryPointsBuilder::new(name)
            .add_prefetch(dense_prefetch([1.0, 0.05, 0.0, 0.0]).filter(tenant("north")).limit(2u64))
            .add_prefetch(sparse_prefetch(&[(2, 3.0), (3, 1.0)]).filter(tenant("north")).limit(2u64))
            .query(Query::new_rrf(rrf))
            .limit(3)
    };
    let answer = client.query(hybrid(RrfBuilder::with_k(60))).await.unwrap().result;
    let scores: Vec<f32> = answer.iter().map(|point| point.score).collect();
    // Point 2 is second in both lists; points 1 and 3 are first in one each, and their order is not promised.
    assert_eq!(ids(&answer)[0], 2);
    let expected = [2.0 / 61.0, 1.0 / 60.0, 1.0 / 60.0];
    for (score, expected) in scores.iter().zip(expected) {
        assert!((score - expected).abs() < 1e-6, "{scores:?}");
    }
    // A weight decides between the two that are first in one list each.
    for (weights, expected) in [([1.0, 9.0], [2, 3, 1]), ([9.0, 1.0], [2, 1, 3])] {
        let weighted = hybrid(RrfBuilder::with_k(2).weights(weights.to_vec()));
        assert_eq!(query(client, weighted).await, expected, "{weights:?}");
    }

    // The fusion of the enumeration is RRF with k = 2.
    let default = QueryPointsBuilder::new(name)
        .add_prefetch(dense_prefetch([1.0, 0.05, 0.0, 0.0]).limit(1u64))
        .query(Query::new_fusion(Fusion::Rrf));
    let answer = client.query(default).await.unwrap().result;
    assert!((answer[0].score - 0.5).abs() < 1e-6, "{answer:?}");
}

async fn a_filter_around_a_fusion_reaches_its_prefetches(client: &Qdrant, name: &str) {
    fill(client, name).await;
    let request = QueryPointsBuilder::new(name)
        .add_prefetch(dense_prefetch([1.0, 0.0, 0.0, 0.0]).limit(1u64))
        .add_prefetch(sparse_prefetch(&[(2, 1.0)]).limit(1u64))
        .query(Query::new_rrf(RrfBuilder::with_k(2)))
        .filter(tenant("south"));
    // Were the filter applied after the prefetches, point 1 or 3 could have taken the only place.
    assert_eq!(query(client, request).await, [7]);
}

async fn prefetched_points_can_be_ranked_again(client: &Qdrant, name: &str) {
    fill(client, name).await;
    let request = QueryPointsBuilder::new(name)
        .add_prefetch(sparse_prefetch(&[(2, 1.0)]))
        .query(vec![1.0, 0.0, 0.0, 0.0])
        .using(DENSE);
    // Only points 3 and 7 have term 2; the dense vector decides between them.
    assert_eq!(query(client, request).await, [7, 3]);
}

async fn a_tenant_sees_only_its_own_points(client: &Qdrant, name: &str) {
    fill(client, name).await;
    for (own, expected) in [("north", vec![1, 2, 3, 4, 5, 6]), ("south", vec![7, 8]), ("east", vec![])] {
        let request = QueryPointsBuilder::new(name)
            .add_prefetch(dense_prefetch([1.0, 1.0, 1.0, 1.0]).filter(tenant(own)))
            .add_prefetch(sparse_prefetch(&[(1, 1.0), (2, 1.0)]).filter(tenant(own)))
            .query(Query::new_rrf(RrfBuilder::with_k(2)))
            .limit(100);
        let mut found = query(client, request).await;
        found.sort_unstable();
        assert_eq!(found, expected, "{own}");
    }
}

async fn deletes_remove_by_id_and_by_filter(client: &Qdrant, name: &str) {
    fill(client, name).await;
    let by_id = DeletePointsBuilder::new(name).points(PointsIdsList { ids: vec![1.into(), 99.into()] }).wait(true);
    client.delete_points(by_id).await.unwrap();
    assert_eq!(count(client, name, None).await, 7);

    let by_filter = DeletePointsBuilder::new(name).points(tenant("south")).wait(true);
    client.delete_points(by_filter).await.unwrap();
    assert_eq!(count(client, name, None).await, 5);
    let request = QueryPointsBuilder::new(name).query(vec![1.0, 0.0, 0.0, 0.0]).using(DENSE).limit(1);
    assert_eq!(query(client, request).await, [2]);

    // A deleted point can come back.
    upsert(client, name, corpus()).await;
    assert_eq!(count(client, name, None).await, 8);
}

async fn an_unnamed_vector_works_too(client: &Qdrant, name: &str) {
    let create = CreateCollectionBuilder::new(name).vectors_config(VectorParamsBuilder::new(2, Distance::Euclid));
    client.create_collection(create).await.unwrap();
    let points = [[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]]
        .into_iter()
        .enumerate()
        .map(|(index, vector)| PointStruct::new(index as u64, vector.to_vec(), Payload::new()))
        .collect();
    upsert(client, name, points).await;
    let request = QueryPointsBuilder::new(name).query(vec![0.0, 0.0]).with_vectors(true);
    let answer = client.query(request).await.unwrap().result;
    assert_eq!(ids(&answer), [0, 2, 1]);
    assert!((answer[2].score - 5.0).abs() < 1e-5, "a distance: smaller is nearer");
    let Some(vector_output::Vector::Dense(dense)) = answer[2].vectors.as_ref().unwrap().get_vector() else {
        panic!("the unnamed vector");
    };
    assert_eq!(dense.data, [3.0, 4.0]);
}

async fn errors_have_the_codes_that_callers_act_on(client: &Qdrant, name: &str) {
    let missing = QueryPointsBuilder::new(name).query(vec![1.0; 4]).using(DENSE);
    assert_eq!(code(client.query(missing).await.unwrap_err()), Code::NotFound);
    assert_eq!(code(client.collection_info(name).await.unwrap_err()), Code::NotFound);

    fill(client, name).await;
    let again = client.create_collection(hybrid(name)).await.unwrap_err();
    assert_eq!(code(again), Code::AlreadyExists);

    let short =
        PointStruct::new(1, std::collections::HashMap::from([(DENSE.to_owned(), vec![1.0f32, 2.0])]), Payload::new());
    let refused = client.upsert_points(UpsertPointsBuilder::new(name, vec![short]).wait(true)).await;
    assert_eq!(code(refused.unwrap_err()), Code::InvalidArgument);

    let short = QueryPointsBuilder::new(name).query(vec![1.0, 2.0]).using(DENSE);
    assert_eq!(code(client.query(short).await.unwrap_err()), Code::InvalidArgument);
    let unknown = QueryPointsBuilder::new(name).query(vec![1.0; 4]).using("other");
    assert_eq!(code(client.query(unknown).await.unwrap_err()), Code::InvalidArgument);
    let nothing_to_fuse = QueryPointsBuilder::new(name).query(Query::new_fusion(Fusion::Rrf));
    assert_eq!(code(client.query(nothing_to_fuse).await.unwrap_err()), Code::InvalidArgument);
    assert_eq!(count(client, name, None).await, 8, "refused calls change nothing");
}
