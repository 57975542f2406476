//! Sampled requests, asked for over the wire.

use attain_ingestion::Config;
use attain_proto::ingestion::v1 as words;
use opentelemetry_proto::tonic::trace::v1 as trace;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use trace::span::SpanKind::{Client, Server};

use super::senders::of_tenant;
use super::{NOW_MS, Served, export, span};

async fn sampled(
    served: &Served,
    tenant: &'static str,
    names: &[&str],
) -> Result<Vec<words::ServiceRequestSamples>, Status> {
    let request = words::ListRequestSamplesRequest {
        service_ids: names.iter().map(ToString::to_string).collect(),
        start_time: None,
    };
    let answer = served.ingestion.clone().list_request_samples(of_tenant(tenant, request)).await?;
    Ok(answer.into_inner().services)
}

#[tokio::test]
async fn sampled_requests_are_told_with_their_calls() {
    let served = Served::start(Config::default()).await;
    for trace in 1..=20 {
        served.send(export("shop", vec![span(trace, 1, 0, Server, true), span(trace, 2, 1, Client, false)])).await;
        served.send(export("cart", vec![span(trace, 3, 2, Server, false)])).await;
    }
    served.clock.set(NOW_MS + 61_000);
    served.counted("shop", 20).await;

    let found = sampled(&served, "default", &["shop", "nobody", "cart", "shop"]).await.unwrap();
    let names: Vec<&str> = found.iter().map(|of| of.service_id.as_str()).collect();
    assert_eq!(names, ["cart", "shop"], "who is not known has none");
    let of_shop = &found[1].samples;
    assert_eq!((of_shop.len(), found[0].samples.len()), (8, 8));
    for sample in of_shop {
        let time = sample.start_time.unwrap();
        assert_eq!((time.seconds, time.nanos), (NOW_MS / 1_000, 0));
        assert_eq!((sample.duration_us, sample.failed, sample.truncated), (5_000, true, false));
        let call = words::SampledCall { callee_id: "cart".into(), start_us: 0, duration_us: 5_000, failed: false };
        assert_eq!(sample.calls, [call]);
    }
    assert!(sampled(&served, "other", &["shop"]).await.unwrap().is_empty(), "tenants do not meet");

    let after = words::ListRequestSamplesRequest {
        service_ids: vec!["shop".into()],
        start_time: Some(prost_types::Timestamp { seconds: NOW_MS / 1_000, nanos: 1_000 }),
    };
    let later = served.ingestion.clone().list_request_samples(after).await.unwrap().into_inner();
    assert!(later.services.is_empty(), "all began before");

    // They outlive the process.
    let folder = served.stop().await;
    let again = Served::start_in(folder, Config::default()).await;
    assert_eq!(sampled(&again, "default", &["shop", "cart"]).await.unwrap(), found);
    again.stop().await;
}

#[tokio::test]
async fn a_question_about_samples_that_cannot_be_right_is_named() {
    let served = Served::start(Config::default()).await;
    let many: Vec<String> = (0..201).map(|n| format!("service-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(sampled(&served, "default", &many[..200]).await.unwrap().is_empty());
    for (names, field) in [(&many[..], "service_ids"), (&[], "service_ids"), (&["shop", "no name"], "service_ids/1")] {
        let refused = sampled(&served, "default", names).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
    }
    served.stop().await;
}
