//! Buckets of single regions: sent, listed, streamed, refused, and nobody else's.

use super::*;

fn of(region: &str, ago: i64, valid: f64, bad: f64) -> wire::SliBucketDeclaration {
    wire::SliBucketDeclaration { region: region.into(), ..bucket(ago, valid, bad) }
}

async fn listed(served: &mut Served, region: &str, page_size: u32) -> Result<Vec<(u64, u64)>, Status> {
    let mut request = wire::ListSliBucketsRequest {
        service_id: "checkout".into(),
        region: region.into(),
        page_size,
        ..Default::default()
    };
    let mut counts = Vec::new();
    loop {
        let page = served.client.list_sli_buckets(request.clone()).await?.into_inner();
        counts.extend(page.buckets.iter().map(|bucket| (bucket.valid_count, bucket.bad_count)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(counts);
        }
    }
}

async fn streamed(served: &mut Served, tenant: &str) -> Vec<(String, String, usize)> {
    let context = CallContext::new(TenantId::new("tenant", tenant).unwrap(), "test", Duration::from_secs(20));
    let request = wire::StreamRegionalHistoryRequest {
        service_ids: ["auth", "checkout", "nobody"].map(String::from).to_vec(),
        range: Some(words::TimeRange { start_time: Some(timestamp(0)), end_time: Some(timestamp(NOW_MS)) }),
    };
    let mut stream = served.client.stream_regional_history(context.request(request)).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        assert_eq!(chunk.sources, [words::Source::Declared as i32]);
        let buckets = columns::buckets(&chunk.buckets.unwrap()).unwrap();
        told.push((chunk.service_id, chunk.region, buckets.len()));
    }
    told
}

#[tokio::test]
async fn regions_are_kept_listed_and_streamed_beside_the_whole() {
    let mut served = Served::start().await;
    let rows = vec![
        bucket(3, 10.0, 2.0),
        of("eu-west-1", 3, 6.0, 0.0),
        of("us", 3, 4.0, 2.0),
        of("us", 2, 5.0, 1.0),
        of("us", 300, 7.0, 1.0),
    ];
    assert_eq!(served.ingest(rows).await.accepted_count, 5);
    assert_eq!(listed(&mut served, "", 0).await.unwrap(), [(10, 2)]);
    for page_size in [0, 1, 2] {
        assert_eq!(listed(&mut served, "us", page_size).await.unwrap(), [(7, 1), (4, 2), (5, 1)]);
    }
    let told = |region: &str, count| ("checkout".to_owned(), region.to_owned(), count);
    assert_eq!(streamed(&mut served, "default").await, [told("eu-west-1", 1), told("us", 3)]);

    // Another tenant has a service of the same name, and sees nothing of these regions.
    assert_eq!(streamed(&mut served, "other").await, []);
    served.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_region_is_refused_by_name() {
    let mut served = Served::start().await;
    let explicit = wire::ExplicitHistogram { bounds_ms: vec![1.0], counts: vec![1, 9] };
    let rows = vec![
        of("a b", 1, 1.0, 0.0),
        of("jane.doe@example.com", 1, 1.0, 0.0),
        wire::SliBucketDeclaration { latency_explicit: Some(explicit), ..of("eu", 1, 10.0, 0.0) },
        of("eu", 1, 1.0, 0.0),
    ];
    let answer = served.ingest(rows).await;
    let refused = complaints(&answer.rejected);
    assert_eq!(answer.accepted_count, 1);
    let named: Vec<(u32, &str)> = refused.iter().map(|(index, pointer, _)| (*index, *pointer)).collect();
    assert_eq!(
        named,
        [(0, "/buckets/0/region"), (1, "/buckets/1/region"), (2, "/buckets/2/latency_explicit")],
        "{refused:?}"
    );
    assert_eq!((refused[1].2, refused[2].2), ("secret_in_name", "not_allowed"));

    let status = listed(&mut served, "mars", 0).await.unwrap_err();
    assert_eq!(violated(&status), "region");
    assert!(status.message().contains("`checkout` has eu"), "{}", status.message());

    // One region more than are kept apart: nothing of the request is kept.
    let many = (0..16).map(|n| of(&format!("zone-{n}"), 1, 1.0, 0.0)).collect();
    let request = wire::IngestSliBucketsRequest { service_id: "checkout".into(), buckets: many };
    let status = served.client.ingest_sli_buckets(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.get_details_error_info().unwrap().reason, "TOO_MANY_REGIONS");
    assert_eq!(streamed(&mut served, "default").await.len(), 1);
    served.stop().await;
}
