//! What only the embedded server promises: its folder, its key, its bounds, its order of equal scores.

use crate::support::{DENSE, Embedded, SPARSE, client, corpus, hybrid, ids, point};
use attain_embedded_qdrant::{EmbeddedQdrant, Error, Options, random_api_key};
use qdrant_client::qdrant::{
    CountPointsBuilder, CreateFieldIndexCollectionBuilder, FieldType, PrefetchQueryBuilder, Query, QueryPointsBuilder,
    RrfBuilder, ScrollPointsBuilder, SearchPointsBuilder, UpdateMode, UpsertPointsBuilder,
};
use qdrant_client::{Qdrant, QdrantError};
use tonic::{Code, Status};

fn status(error: QdrantError) -> Status {
    match error {
        QdrantError::ResponseError { status } => status,
        QdrantError::ResourceExhaustedError { status, .. } => status,
        other => panic!("not an answer of the server: {other}"),
    }
}

async fn count(client: &Qdrant, name: &str) -> u64 {
    let answer = client.count(CountPointsBuilder::new(name).exact(true)).await.unwrap();
    answer.result.unwrap().count
}

#[tokio::test]
async fn everything_survives_a_restart_and_can_be_written_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(folder.path()).await;
    server.client.create_collection(hybrid("kept")).await.unwrap();
    server.client.create_collection(hybrid("dropped")).await.unwrap();
    let index = CreateFieldIndexCollectionBuilder::new("kept", "tenant", FieldType::Keyword);
    server.client.create_field_index(index).await.unwrap();
    server.client.upsert_points(UpsertPointsBuilder::new("kept", corpus())).await.unwrap();
    server.client.delete_collection("dropped").await.unwrap();
    let search = || QueryPointsBuilder::new("kept").query(vec![0.3, 0.2, 0.1, 0.0]).using(DENSE);
    let before = server.client.query(search()).await.unwrap().result;
    server.stop().await;

    for round in 1..=3u64 {
        let server = Embedded::start(folder.path()).await;
        let names = server.client.list_collections().await.unwrap().collections;
        assert_eq!(names.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["kept"]);
        let info = server.client.collection_info("kept").await.unwrap().result.unwrap();
        assert!(info.payload_schema.contains_key("tenant"), "round {round}");
        assert_eq!(count(&server.client, "kept").await, 7 + round);
        let mut after = server.client.query(search()).await.unwrap().result;
        after.retain(|point| ids(std::slice::from_ref(point))[0] <= 8);
        assert_eq!(ids(&after), ids(&before)[..after.len()], "round {round}");
        // A write after the restart is neither skipped as old nor lost by the next restart.
        let new = point(100 + round, "west", [0.0, 0.0, 0.0, 1.0], &[(7, 1.0)]);
        server.client.upsert_points(UpsertPointsBuilder::new("kept", vec![new])).await.unwrap();
        assert_eq!(count(&server.client, "kept").await, 8 + round);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_folder_in_use_is_refused_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(folder.path()).await;
    let second = Options::new(folder.path(), random_api_key()).unwrap();
    let refusal = EmbeddedQdrant::open(second).await.err().unwrap();
    assert!(matches!(refusal, Error::FolderLocked { .. }));
    let text = refusal.to_string();
    assert!(text.contains("in use by another process"), "{text}");
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn only_the_right_key_opens_more_than_the_health_check() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(folder.path()).await;
    for key in [None, Some("a-key-that-is-not-the-one")] {
        let stranger = client(&server.url, key);
        let refusal = stranger.list_collections().await.unwrap_err();
        assert_eq!(status(refusal).code(), Code::Unauthenticated);
        let refusal = stranger.count(CountPointsBuilder::new("c")).await.unwrap_err();
        assert_eq!(status(refusal).code(), Code::Unauthenticated);
        assert!(stranger.health_check().await.unwrap().title.contains("embedded"));
    }
    server.stop().await;
}

#[tokio::test]
async fn equal_scores_are_in_the_order_of_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(folder.path()).await;
    server.client.create_collection(hybrid("ties")).await.unwrap();
    let points: Vec<_> = (0..40u64).rev().map(|id| point(id, "north", [1.0, 0.0, 0.0, 0.0], &[(1, 1.0)])).collect();
    server.client.upsert_points(UpsertPointsBuilder::new("ties", points)).await.unwrap();
    let all: Vec<u64> = (0..40).collect();

    let dense = QueryPointsBuilder::new("ties").query(vec![1.0, 0.0, 0.0, 0.0]).using(DENSE).limit(40);
    assert_eq!(ids(&server.client.query(dense).await.unwrap().result), all);
    let sparse = || Query::new_nearest(&[(1u32, 1.0f32)][..]);
    let fused = QueryPointsBuilder::new("ties")
        .add_prefetch(PrefetchQueryBuilder::default().query(vec![1.0, 0.0, 0.0, 0.0]).using(DENSE).limit(40u64))
        .add_prefetch(PrefetchQueryBuilder::default().query(sparse()).using(SPARSE).limit(40u64))
        .query(Query::new_rrf(RrfBuilder::with_k(2)))
        .limit(40);
    assert_eq!(ids(&server.client.query(fused).await.unwrap().result), all);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(folder.path()).await;
    let client = &server.client;
    client.create_collection(hybrid("c")).await.unwrap();

    let search = SearchPointsBuilder::new("c", vec![1.0; 4], 1);
    #[allow(deprecated)]
    let refusal = status(client.search_points(search).await.unwrap_err());
    assert_eq!(refusal.code(), Code::Unimplemented);
    assert!(refusal.message().contains("`search`"), "{}", refusal.message());

    let update_only = UpsertPointsBuilder::new("c", corpus()).update_mode(UpdateMode::UpdateOnly);
    let refusal = status(client.upsert_points(update_only).await.unwrap_err());
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().starts_with("update_mode:"), "{}", refusal.message());
    assert_eq!(count(client, "c").await, 0);

    let ordered = ScrollPointsBuilder::new("c").order_by("ordinal");
    let refusal = status(client.scroll(ordered).await.unwrap_err());
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().starts_with("order_by:"), "{}", refusal.message());

    for name in ["../escape", "", "a b"] {
        let refusal = status(client.create_collection(hybrid(name)).await.unwrap_err());
        assert_eq!(refusal.code(), Code::InvalidArgument, "{name:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn bounds_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path(), random_api_key()).unwrap();
    options.bounds.points_per_request_max = 4;
    options.bounds.points_per_answer_max = 5;
    options.bounds.request_bytes_max = 64 * 1024;
    let server = Embedded::start_with(options).await;
    let client = &server.client;
    client.create_collection(hybrid("c")).await.unwrap();

    let refusal = status(client.upsert_points(UpsertPointsBuilder::new("c", corpus())).await.unwrap_err());
    assert!(refusal.message().contains("8 are more than the 4"), "{}", refusal.message());
    let request = QueryPointsBuilder::new("c").query(vec![1.0; 4]).using(DENSE).limit(4).offset(2);
    let refusal = status(client.query(request).await.unwrap_err());
    assert!(refusal.message().contains("6 is more than the 5"), "{}", refusal.message());
    let mut large = corpus()[0].clone();
    large.payload.insert("text".into(), "x".repeat(65 * 1024).into());
    let refusal = status(client.upsert_points(UpsertPointsBuilder::new("c", vec![large])).await.unwrap_err());
    assert_eq!(refusal.code(), Code::OutOfRange);
    assert_eq!(count(client, "c").await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_allowed_are_turned_away_and_the_rest_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path(), random_api_key()).unwrap();
    options.bounds.in_flight_max = 1;
    let server = Embedded::start_with(options).await;
    server.client.create_collection(hybrid("c")).await.unwrap();
    let calls: Vec<_> = (0..32u64)
        .map(|id| {
            let client = server.client.clone();
            tokio::spawn(async move {
                let points = vec![point(id, "north", [1.0, 0.0, 0.0, 0.0], &[(1, 1.0)])];
                client.upsert_points(UpsertPointsBuilder::new("c", points)).await
            })
        })
        .collect();
    let (mut written, mut refused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => written += 1,
            Err(QdrantError::ResourceExhaustedError { retry_after_seconds, .. }) => {
                assert_eq!(retry_after_seconds, 1);
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(written >= 1 && refused >= 1, "{written} written, {refused} refused");
    assert_eq!(count(&server.client, "c").await, written, "exactly what was acknowledged");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_caller_has_gone_is_done_before_the_folder_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let options = || {
        let mut options = Options::new(folder.path(), random_api_key()).unwrap();
        options.bounds.in_flight_max = 1;
        options
    };
    let server = Embedded::start_with(options()).await;
    server.client.create_collection(hybrid("c")).await.unwrap();
    let write = || {
        let points = (0..1_000).map(|id| point(id, "north", [1.0, id as f32, 0.0, 0.0], &[(1, 1.0)]));
        let (client, points) = (server.client.clone(), points.collect::<Vec<_>>());
        tokio::spawn(async move { client.upsert_points(UpsertPointsBuilder::new("c", points)).await })
    };
    let mut writing = write();
    // Turned away: the write has the only place.
    while server.client.list_collections().await.is_ok() {
        if writing.is_finished() {
            writing = write();
        }
    }
    writing.abort();
    server.stop().await;
    EmbeddedQdrant::open(options()).await.map(drop).expect("the folder is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_readers_and_tidying_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path(), random_api_key()).unwrap();
    options.bounds.optimise_after_points = 40;
    options.bounds.log_bytes_max = 4 * 1024;
    let server = Embedded::start_with(options).await;
    server.client.create_collection(hybrid("c")).await.unwrap();
    let mut calls = Vec::new();
    for task in 0..4u64 {
        let client = server.client.clone();
        calls.push(tokio::spawn(async move {
            for round in 0..25u64 {
                let id = task * 1000 + round;
                let points = vec![point(id, "north", [1.0, id as f32, 0.0, 0.0], &[(1, 1.0)])];
                client.upsert_points(UpsertPointsBuilder::new("c", points)).await.unwrap();
                let nearest = QueryPointsBuilder::new("c").query(vec![1.0, 1.0, 0.0, 0.0]).using(DENSE);
                assert!(!client.query(nearest).await.unwrap().result.is_empty());
            }
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(count(&server.client, "c").await, 100);
    server.stop().await;

    let server = Embedded::start(folder.path()).await;
    assert_eq!(count(&server.client, "c").await, 100);
    server.stop().await;
}

#[tokio::test]
async fn a_write_larger_than_a_file_of_the_log_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(folder.path()).await;
    let client = &server.client;
    client.create_collection(hybrid("c")).await.unwrap();
    for id in [1, 2] {
        let mut large = point(id, "north", [1.0, 0.0, 0.0, 0.0], &[(1, 1.0)]);
        let text = "x".repeat(6 * 1024 * 1024);
        large.payload.insert("text".to_owned(), text.into());
        let upsert = UpsertPointsBuilder::new("c", vec![large]);
        client.upsert_points(upsert).await.unwrap();
    }
    server.stop().await;
    let server = Embedded::start(folder.path()).await;
    assert_eq!(count(&server.client, "c").await, 2);
    server.stop().await;
}
