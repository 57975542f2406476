//! Where requests were answered, from the attribute of a resource to counts by region.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, Source, TenantId};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1 as wire;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::increments::increments;
use super::points::read_points;
use super::testing::{Bench, LATER_MS, NOW_MS, attribute, spans};
use crate::Config;
use crate::storage::{BucketSpan, CounterStates};

type Told = BTreeMap<String, (u64, u64, Option<u64>, String)>;

/// Valid, bad and inherited counts by region, and who is charged with the inherited ones.
async fn regions(bench: &Bench, service: &str) -> Told {
    let service = EntityId::new("id", service).expect("valid");
    let all = BucketSpan { start_ms: 0, end_ms: i64::MAX };
    let found = bench.store.regional_history(&TenantId::default(), &service, all, None).await.expect("read");
    let one = |buckets: &[crate::domain::MergedBucket]| {
        let [merged] = buckets else { panic!("one bucket: {buckets:?}") };
        assert!(merged.bucket.latency.is_none(), "latency is not kept by region");
        let counts = merged.bucket.counts;
        let by: Vec<String> =
            merged.bucket.inherited_by_dependency.iter().map(|(id, count)| format!("{id} {count}")).collect();
        (counts.valid(), counts.bad(), counts.inherited_bad(), by.join(","))
    };
    found.iter().map(|(region, buckets)| (region.as_str().to_owned(), one(buckets))).collect()
}

#[tokio::test]
async fn requests_of_traces_are_counted_where_they_were_answered() {
    let mut bench = Bench::new().await;
    let traces = [
        // In two regions of the caller, the callee in one of them; then a process that does not say where it runs.
        "1 0 web~eu-west-1 server 0 100 !
         2 1 web~eu-west-1 client 10 60 ! server.address=price
         3 2 price~us server 15 55 !",
        "1 0 web~us server 0 100
         2 1 web~us client 10 60 server.address=price
         3 2 price~us server 15 55",
        "1 0 web server 0 100 !",
    ];
    for (trace, text) in (1..).zip(traces) {
        bench.send(&spans(trace, text)).await;
    }
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    type Counts<'a> = (u64, u64, Option<u64>, &'a str);
    let told = |counts: [(&str, Counts<'_>); 2]| -> Told {
        counts.map(|(region, (valid, bad, inherited, by))| (region.into(), (valid, bad, inherited, by.into()))).into()
    };
    let web = [("eu-west-1", (1, 1, Some(1), "price 1")), ("us", (1, 0, Some(0), ""))];
    assert_eq!(regions(&bench, "web").await, told(web));
    assert_eq!(regions(&bench, "price").await, BTreeMap::from([("us".into(), (2, 1, Some(0), String::new()))]));
    // The whole has all of them, those without a region too.
    assert_eq!(bench.seen().await.bucket("web"), (3, 2, Some(1), "price 1"));
}

#[tokio::test]
async fn a_region_is_redacted_and_bent_as_names_are() {
    let mut bench = Bench::new().await;
    bench.send(&spans(1, "1 0 web~rack/4/jane.doe@mail.example.com server 0 100")).await;
    bench.step(NOW_MS).await;
    bench.step(LATER_MS).await;
    let told = regions(&bench, "web").await;
    assert!(told.len() == 1 && told.keys().all(|name| !name.contains("jane")), "{told:?}");
}

#[test]
fn requests_of_metrics_are_counted_where_they_were_answered() {
    let of = |region: Option<&str>, count: u64, status: &str| {
        let point = wire::HistogramDataPoint {
            start_time_unix_nano: (NOW_MS as u64 - 60_000) * 1_000_000,
            time_unix_nano: NOW_MS as u64 * 1_000_000,
            count,
            attributes: vec![attribute("http.response.status_code", status)],
            ..Default::default()
        };
        let histogram = wire::Histogram { data_points: vec![point], aggregation_temporality: 1 };
        let metric = wire::Metric {
            name: "http.server.request.duration".into(),
            data: Some(Data::Histogram(histogram)),
            ..Default::default()
        };
        let region = region.map(|region| attribute("cloud.region", region));
        let attributes = std::iter::once(attribute("service.name", "shop")).chain(region).collect();
        wire::ResourceMetrics {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_metrics: vec![wire::ScopeMetrics { metrics: vec![metric], ..Default::default() }],
            ..Default::default()
        }
    };
    let resource_metrics =
        vec![of(Some("eu"), 10, "200"), of(Some("us"), 4, "200"), of(Some("us"), 3, "503"), of(None, 5, "200")];
    let config = Config::default();
    let points = read_points(&ExportMetricsServiceRequest { resource_metrics }, config.point_limits(NOW_MS));
    let (batch, _) = increments(&points.readings, None, &CounterStates::new(), config.series_limits(NOW_MS));
    let told: Vec<(&str, Source, u64, u64)> = batch
        .regional
        .iter()
        .map(|of| {
            let counts = of.observed.bucket.counts;
            (of.region.as_str(), of.observed.source, counts.valid(), counts.bad())
        })
        .collect();
    assert_eq!(told, [("eu", Source::OtlpMetrics, 10, 0), ("us", Source::OtlpMetrics, 7, 3)]);
    assert_eq!(batch.buckets.iter().map(|of| of.bucket.counts.valid()).collect::<Vec<_>>(), [22]);
}
