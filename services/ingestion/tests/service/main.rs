//! The service as its callers see it: a served process on a port of its own, asked through the generated client.

#![allow(clippy::unwrap_used)]

mod regions;
mod topology;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use attain_ingestion::{Config, Listeners};
use attain_proto::convert::{timestamp, unix_millis};
use attain_proto::ingestion::v1 as wire;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::vocabulary::v1 as words;
use attain_proto::{columns, day};
use attain_runtime::Shutdown;
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::clock::Clock;
use attain_runtime::context::{CallContext, Role};
use attain_vocabulary::{BUCKET_MS, TenantId, bucket_start};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Client = IngestionServiceClient<Channel>;

const NOW_MS: i64 = 1_793_000_000_000;

struct Served {
    client: IngestionServiceClient<Channel>,
    channel: Channel,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), attain_ingestion::Error>>,
    folder: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Config::default()).await
    }

    async fn start_in(folder: tempfile::TempDir, config: Config) -> Self {
        let database_url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { mesh: free().await, otlp: free().await, otlp_http: free().await };
        let url = format!("http://{}", listeners.mesh.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let config = Config { database_url, ..config };
        let serving = attain_ingestion::serve(config, listeners, Clock::held(NOW_MS), shutdown.clone());
        let ended = tokio::spawn(serving);
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        let client = IngestionServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { client, channel, shutdown, ended, folder }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
        self.folder
    }

    async fn ingest(&mut self, buckets: Vec<wire::SliBucketDeclaration>) -> wire::IngestSliBucketsResponse {
        let request = wire::IngestSliBucketsRequest { service_id: "checkout".into(), buckets };
        self.client.ingest_sli_buckets(request).await.unwrap().into_inner()
    }
}

fn declared(id: &str, depends_on: &[&str]) -> wire::ServiceDeclaration {
    wire::ServiceDeclaration {
        id: id.into(),
        depends_on: depends_on.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// The bucket that started so many buckets ago.
fn bucket(ago: i64, valid: f64, bad: f64) -> wire::SliBucketDeclaration {
    wire::SliBucketDeclaration {
        start_time: Some(timestamp(bucket_start(NOW_MS) - ago * BUCKET_MS)),
        valid_count: valid,
        bad_count: bad,
        ..Default::default()
    }
}

fn complaints(rejected: &[words::Rejection]) -> Vec<(u32, &str, &str)> {
    rejected.iter().map(|r| (r.index, r.pointer.as_str(), r.code.as_str())).collect()
}

fn violated(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().domain, "attain");
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test]
async fn half_a_batch_of_buckets_bad_and_the_rest_kept() {
    let mut served = Served::start().await;
    let explicit = |bounds_ms: &[f64], counts: &[u64]| {
        Some(wire::ExplicitHistogram { bounds_ms: bounds_ms.to_vec(), counts: counts.to_vec() })
    };
    let exponential = Some(words::LatencyHistogram { scale: 3, zero_count: 0, offset: 40, bucket_counts: vec![6, 4] });
    let unaligned = Some(timestamp(bucket_start(NOW_MS) - 1));
    let rows = vec![
        wire::SliBucketDeclaration { latency_explicit: explicit(&[10.0, 100.0], &[5, 4, 1]), ..bucket(1, 10.0, 2.0) },
        wire::SliBucketDeclaration {
            latency: exponential.clone(),
            inherited_bad_count: Some(1.0),
            ..bucket(2, 10.0, 2.0)
        },
        bucket(3, 10.0, 11.0),
        bucket(4, f64::NAN, 0.0),
        bucket(5, -1.0, 0.0),
        bucket(6, 1.5, 0.0),
        bucket(-2, 1.0, 0.0),
        bucket(401 * 288, 1.0, 0.0),
        wire::SliBucketDeclaration { start_time: unaligned, ..bucket(7, 1.0, 0.0) },
        wire::SliBucketDeclaration { start_time: None, ..bucket(7, 1.0, 0.0) },
        wire::SliBucketDeclaration { inherited_bad_count: Some(3.0), ..bucket(8, 10.0, 2.0) },
        wire::SliBucketDeclaration { latency_explicit: explicit(&[10.0], &[9, 2]), ..bucket(9, 10.0, 0.0) },
        wire::SliBucketDeclaration { latency_explicit: explicit(&[10.0, 5.0], &[1, 1, 1]), ..bucket(9, 10.0, 0.0) },
        wire::SliBucketDeclaration {
            latency: exponential,
            latency_explicit: explicit(&[1.0], &[1, 1]),
            ..bucket(9, 10.0, 0.0)
        },
        wire::SliBucketDeclaration { service_id: "-".into(), ..bucket(9, 10.0, 0.0) },
        wire::SliBucketDeclaration { service_id: "auth".into(), ..bucket(0, 3.0, 0.0) },
    ];
    let kept = served.ingest(rows).await;
    assert_eq!(kept.accepted_count, 3);
    let expected = [
        (2, "/buckets/2/bad_count", "bad_exceeds_valid"),
        (3, "/buckets/3/valid_count", "not_a_number"),
        (4, "/buckets/4/valid_count", "out_of_range"),
        (5, "/buckets/5/valid_count", "not_whole"),
        (6, "/buckets/6/start_time", "future_time"),
        (7, "/buckets/7/start_time", "too_old"),
        (8, "/buckets/8/start_time", "not_aligned"),
        (9, "/buckets/9/start_time", "required"),
        (10, "/buckets/10/inherited_bad_count", "inherited_exceeds_bad"),
        (11, "/buckets/11/latency_explicit", "latency_exceeds_valid"),
        (12, "/buckets/12/latency_explicit/bounds_ms", "malformed_bounds"),
        (13, "/buckets/13/latency_explicit", "conflicting"),
        (14, "/buckets/14/service_id", "malformed_name"),
    ];
    assert_eq!(complaints(&kept.rejected), expected);

    let request = wire::ListSliBucketsRequest { service_id: "checkout".into(), page_size: 1, ..Default::default() };
    let page = served.client.list_sli_buckets(request.clone()).await.unwrap().into_inner();
    assert_eq!((page.buckets.len(), page.buckets[0].inherited_bad_count), (1, Some(1)));
    let next = wire::ListSliBucketsRequest { page_token: page.next_page_token, ..request.clone() };
    let page = served.client.list_sli_buckets(next).await.unwrap().into_inner();
    let latency = page.buckets[0].latency.clone().unwrap();
    assert_eq!(latency.bucket_counts.iter().sum::<u64>(), 10);
    assert_eq!(page.next_page_token, "");

    let health = wire::GetServiceRequest { service_id: "checkout".into() };
    let health = served.client.get_service(health).await.unwrap().into_inner();
    let data = health.data.unwrap();
    assert_eq!((data.bucket_count, data.coverage_ratio, data.sources.clone()), (2, 1.0, vec![1]));
    assert_eq!(health.service.unwrap().kind, 1);
    let last = unix_millis(&data.last_bucket_time.unwrap());
    assert_eq!(last, bucket_start(NOW_MS) - BUCKET_MS);

    for (status, field) in [
        (
            served
                .client
                .list_sli_buckets(wire::ListSliBucketsRequest { page_token: "?".into(), ..request.clone() })
                .await,
            "page_token",
        ),
        (
            served.client.list_sli_buckets(wire::ListSliBucketsRequest { page_size: 2_001, ..request.clone() }).await,
            "page_size",
        ),
        (
            served
                .client
                .list_sli_buckets(wire::ListSliBucketsRequest {
                    start_time: Some(timestamp(2)),
                    end_time: Some(timestamp(1)),
                    ..request.clone()
                })
                .await,
            "end_time",
        ),
    ] {
        assert_eq!(violated(&status.unwrap_err()), field);
    }
    served.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_as_a_whole() {
    let config = Config { buckets_per_request_max: 2, dependencies_per_request_max: 1, ..Config::default() };
    let mut served = Served::start_in(tempfile::tempdir().unwrap(), config).await;
    let request = wire::IngestSliBucketsRequest {
        service_id: "a".into(),
        buckets: vec![bucket(1, 1.0, 0.0), bucket(2, 1.0, 0.0), bucket(3, 1.0, 0.0)],
    };
    assert_eq!(violated(&served.client.ingest_sli_buckets(request).await.unwrap_err()), "buckets");
    let request =
        wire::IngestDependenciesRequest { services: vec![declared("a", &["b", "c"])].into(), ..Default::default() };
    assert_eq!(violated(&served.client.ingest_dependencies(request).await.unwrap_err()), "dependencies");
    let topology = served.client.get_topology(wire::GetTopologyRequest::default()).await.unwrap().into_inner();
    assert_eq!(topology, wire::GetTopologyResponse { epoch: topology.epoch.clone(), ..Default::default() });
    served.stop().await;
}

#[tokio::test]
async fn unknown_services_are_not_found_by_name() {
    let mut served = Served::start().await;
    let request = wire::GetServiceRequest { service_id: "nobody".into() };
    let status = served.client.get_service(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no service `nobody`"));
    assert_eq!(status.get_details_error_info().unwrap().reason, "UNKNOWN_SERVICE");
    let request = wire::ListSliBucketsRequest { service_id: "nobody".into(), ..Default::default() };
    assert_eq!(served.client.list_sli_buckets(request).await.unwrap_err().code(), Code::NotFound);
    let request = wire::GetServiceRequest { service_id: "a b".into() };
    assert_eq!(violated(&served.client.get_service(request).await.unwrap_err()), "service_id");
    let request = wire::GetChangeHeadsRequest { service_ids: vec!["nobody".into()] };
    assert!(served.client.get_change_heads(request).await.unwrap().into_inner().heads.is_empty());
    served.stop().await;
}

#[tokio::test]
async fn incidents_are_checked_redacted_and_listed() {
    let mut served = Served::start().await;
    let incident = |id: &str, ago_ms: i64| wire::Incident {
        id: id.into(),
        title: "Payment down".into(),
        service_ids: vec!["checkout".into()],
        cause_service_id: "payment".into(),
        start_time: Some(timestamp(NOW_MS - ago_ms)),
        summary: "on-call jane@example.com saw postgres://app:hunter2@db/x".into(),
        ..Default::default()
    };
    let incidents = vec![
        incident("INC-1", 3_000),
        incident("INC-2", 2_000),
        wire::Incident { end_time: Some(timestamp(0)), ..incident("INC-3", 0) },
        wire::Incident { severity_ratio: Some(1.1), ..incident("INC-4", 0) },
        wire::Incident { title: String::new(), ..incident("INC-5", 0) },
        wire::Incident { start_time: None, ..incident("INC-6", 0) },
        wire::Incident { service_ids: vec!["a".into(), String::new()], ..incident("INC-7", 0) },
        incident("INC-8", -301_000),
    ];
    let request = wire::IngestIncidentsRequest { incidents };
    let kept = served.client.ingest_incidents(request).await.unwrap().into_inner();
    assert_eq!(kept.accepted_count, 2);
    let expected = [
        (2, "/incidents/2/end_time", "ends_before_start"),
        (3, "/incidents/3/severity_ratio", "out_of_range"),
        (4, "/incidents/4/title", "required"),
        (5, "/incidents/5/start_time", "required"),
        (6, "/incidents/6/service_ids/1", "required"),
        (7, "/incidents/7/start_time", "future_time"),
    ];
    assert_eq!(complaints(&kept.rejected), expected);
    let request = wire::ListIncidentsRequest { service_id: "payment".into(), page_size: 1, page_token: String::new() };
    let page = served.client.list_incidents(request.clone()).await.unwrap().into_inner();
    assert_eq!(page.incidents[0].id, "INC-2");
    let summary = &page.incidents[0].summary;
    assert!(!summary.contains("jane") && !summary.contains("hunter2"), "{summary}");
    let next = wire::ListIncidentsRequest { page_token: page.next_page_token, ..request };
    assert_eq!(served.client.list_incidents(next).await.unwrap().into_inner().incidents[0].id, "INC-1");
    served.stop().await;
}

fn as_sender<T>(role: Option<Role>, message: T) -> tonic::Request<T> {
    let context = CallContext::new(TenantId::default(), "ci", Duration::from_secs(60));
    role.map_or_else(|| context.clone(), |role| context.clone().with_role(role)).request(message)
}

#[tokio::test]
async fn what_counts_in_estimates_is_an_approvers_word_whichever_way_it_comes() {
    let mut served = Served::start().await;
    let hour = |ago: i64| Some(timestamp(NOW_MS - ago * 3_600_000));
    let incident = |id: &str| wire::Incident {
        id: id.into(),
        title: "Down".into(),
        service_ids: vec!["cart".into()],
        start_time: hour(5),
        end_time: hour(4),
        ..Default::default()
    };
    let excluded = |id: &str| wire::Incident { excluded: true, exclusion_reason: "drill".into(), ..incident(id) };
    let planned = |id: &str| wire::Incident { kind: wire::IncidentKind::Maintenance.into(), ..incident(id) };
    let rows = wire::IngestIncidentsRequest {
        incidents: vec![
            incident("I-1"),
            excluded("I-2"),
            planned("I-3"),
            wire::Incident { start_time: hour(-1), end_time: hour(-2), ..planned("I-4") },
            wire::Incident { start_time: hour(-1), end_time: None, ..planned("I-5") },
        ],
    };
    for role in [None, Some(Role::Proposer)] {
        let kept = served.client.ingest_incidents(as_sender(role, rows.clone())).await.unwrap().into_inner();
        assert_eq!(
            complaints(&kept.rejected),
            [
                (1, "/incidents/1/excluded", "needs_approver"),
                (2, "/incidents/2/start_time", "needs_approver"),
                (4, "/incidents/4/end_time", "required"),
            ]
        );
        assert_eq!(kept.accepted_count, 2);
    }
    let csv = b"id,title,start_time,excluded,exclusion_reason\nI-6,Down,2026-10-01T10:00:00Z,yes,drill\n";
    let import = |role| {
        let document = Some(attain_proto::google::HttpBody { data: csv.to_vec(), ..Default::default() });
        let request = wire::ImportDocumentRequest { format: "incidents-csv".into(), document, ..Default::default() };
        as_sender(Some(role), request)
    };
    let refused = served.client.import_document(import(Role::Proposer)).await.unwrap().into_inner();
    assert_eq!(complaints(&refused.rejected), [(2, "/lines/2/excluded", "needs_approver")]);

    let kept = served.client.ingest_incidents(as_sender(Some(Role::Approver), rows)).await.unwrap().into_inner();
    assert_eq!((kept.accepted_count, complaints(&kept.rejected)[0].2), (4, "required"));
    assert_eq!(served.client.import_document(import(Role::Approver)).await.unwrap().into_inner().rejected, []);
    let listed = served.client.list_incidents(wire::ListIncidentsRequest::default()).await.unwrap().into_inner();
    let by: Vec<(&str, bool, &str)> = listed
        .incidents
        .iter()
        .map(|incident| (incident.id.as_str(), incident.excluded, incident.exclusion_by.as_str()))
        .collect();
    for (id, excluded, name) in [("I-1", false, ""), ("I-2", true, "ci"), ("I-3", true, "ci"), ("I-6", true, "ci")] {
        assert!(by.contains(&(id, excluded, name)), "{id}: {by:?}");
    }

    // What is left out is not widened by a report or a link of somebody else's.
    let wider = wire::Incident { start_time: hour(9), ..incident("I-2") };
    let report = wire::IngestIncidentsRequest { incidents: vec![wider, incident("I-1")] };
    let kept = served.client.ingest_incidents(as_sender(Some(Role::Proposer), report)).await.unwrap().into_inner();
    assert_eq!((complaints(&kept.rejected), kept.accepted_count), (vec![(0, "/incidents/0/id", "needs_approver")], 1));
    let link = |id: &str| wire::PutIncidentServicesRequest {
        incident_id: id.into(),
        service_ids: vec!["cart".into(), "mail".into()],
        by: String::new(),
    };
    let mut put = async |role, id| served.client.put_incident_services(as_sender(Some(role), link(id))).await;
    assert_eq!(put(Role::Proposer, "I-2").await.unwrap_err().code(), Code::PermissionDenied);
    put(Role::Proposer, "I-1").await.unwrap();
    put(Role::Approver, "I-2").await.unwrap();

    let window = |from: i64, to: i64| wire::PutMaintenanceWindowRequest {
        window_id: "drill".into(),
        start_time: hour(from),
        end_time: hour(to),
        service_ids: vec!["cart".into()],
        reason: "drill".into(),
    };
    let mut declare = async |role, from, to| {
        let declared = served.client.put_maintenance_window(as_sender(Some(role), window(from, to))).await;
        declared.map(drop).map_err(|status| (status.code(), status.get_details_error_info().unwrap().reason))
    };
    let no = Err((Code::PermissionDenied, "NEEDS_APPROVER".to_owned()));
    assert_eq!(declare(Role::Proposer, 3, -3).await, no);
    assert_eq!(declare(Role::Proposer, 0, -3).await, Ok(()));
    assert_eq!(declare(Role::Proposer, 3, -3).await, no, "it grows into what was measured");
    assert_eq!(declare(Role::Approver, 3, -3).await, Ok(()));
    assert_eq!(declare(Role::Proposer, 3, -4).await, Ok(()), "it lasts longer");
    served.stop().await;
}

#[tokio::test]
async fn histories_come_in_chunks_service_by_service() {
    let mut served = Served::start().await;
    let many = (1..=2_500).map(|ago| bucket(ago, 10.0, 1.0)).collect();
    served.ingest(many).await;
    served.ingest(vec![wire::SliBucketDeclaration { service_id: "auth".into(), ..bucket(1, 5.0, 0.0) }]).await;
    let request = wire::StreamSliHistoryRequest {
        service_ids: ["checkout", "nobody", "auth", "auth"].map(String::from).to_vec(),
        range: Some(words::TimeRange { start_time: Some(timestamp(0)), end_time: Some(timestamp(NOW_MS)) }),
        without_latency: true,
        ..Default::default()
    };
    let mut stream = served.client.stream_sli_history(request).await.unwrap().into_inner();
    let mut chunks: Vec<(String, usize)> = Vec::new();
    let mut starts = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        assert_eq!(chunk.sources, [1]);
        let buckets = columns::buckets(&chunk.buckets.unwrap()).unwrap();
        if chunk.service_id == "checkout" {
            starts.extend(buckets.iter().map(|bucket| bucket.start_ms));
        }
        chunks.push((chunk.service_id, buckets.len()));
    }
    let [(first, week), (second, rest), last] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!((first.as_str(), second.as_str(), last), ("checkout", "checkout", &("auth".into(), 1)));
    // Whole days, so many that there are a week's buckets.
    assert!((2_016..2_016 + 288).contains(week) && week + rest == 2_500, "{chunks:?}");
    assert!(starts.is_sorted_by(|a, b| a < b));
    served.stop().await;
}

#[tokio::test]
async fn whoever_reads_packed_days_gets_the_same_history_as_whoever_does_not() {
    let mut served = Served::start().await;
    let latency = words::LatencyHistogram { scale: 3, zero_count: 1, offset: 30, bucket_counts: vec![2, 0, 3] };
    let one = |ago: i64| wire::SliBucketDeclaration {
        latency: (ago % 3 == 0).then(|| latency.clone()),
        inherited_bad_count: (ago % 2 == 0).then_some(1.0),
        inherited_by_dependency: if ago % 4 == 0 { [("db".to_owned(), 1)].into() } else { [].into() },
        ..bucket(ago, 10.0, 2.0)
    };
    served.ingest((1..=2_500).map(one).collect()).await;
    let mut read = async |day_version_max, start_time| {
        let range = Some(words::TimeRange { start_time: Some(timestamp(start_time)), end_time: None });
        let service_ids = vec!["checkout".into()];
        let request = wire::StreamSliHistoryRequest { service_ids, range, day_version_max, ..Default::default() };
        let mut stream = served.client.stream_sli_history(request).await.unwrap().into_inner();
        let (mut buckets, mut days) = (Vec::new(), 0);
        while let Some(chunk) = stream.message().await.unwrap() {
            assert!(chunk.days.is_empty() != chunk.buckets.is_none() && chunk.sources == [1]);
            days += chunk.days.len();
            columns::append(&chunk, &mut buckets).unwrap();
        }
        (buckets, days)
    };
    for (start_ms, count) in [(0, 2_500), (NOW_MS - 2_000 * 300_000, 1_999)] {
        let (columns, none) = read(0, start_ms).await;
        let (buckets, days) = read(7, start_ms).await;
        assert!(none == 0 && days >= 6, "{days} days came packed");
        assert!((count..=count + 1).contains(&columns.len()) && buckets == columns);
    }
    served.stop().await;
}

#[tokio::test]
async fn of_what_is_held_only_what_may_differ_is_sent() {
    let mut served = Served::start().await;
    served.ingest((1..=900).map(|ago| bucket(ago, 10.0, 1.0)).collect()).await;
    let start = |ago: i64| unix_millis(bucket(ago, 1.0, 0.0).start_time.as_ref().unwrap());
    let head = async |client: &mut Client| {
        let request = wire::GetChangeHeadsRequest { service_ids: vec!["checkout".into()] };
        client.get_change_heads(request).await.unwrap().into_inner().heads[0].sli_sequence
    };
    /// Until when what is held stands, and how many buckets followed.
    async fn read(client: &mut Client, start_ms: i64, sequence: u64, end_ms: i64) -> (Option<i64>, usize) {
        let end_time = Some(timestamp(end_ms));
        let request = wire::StreamSliHistoryRequest {
            service_ids: vec!["checkout".into()],
            range: Some(words::TimeRange { start_time: Some(timestamp(start_ms)), end_time: Some(timestamp(NOW_MS)) }),
            without_latency: true,
            day_version_max: day::VERSION,
            held: vec![wire::HeldHistory { service_id: "checkout".into(), sequence, end_time }],
        };
        let mut stream = client.stream_sli_history(request).await.unwrap().into_inner();
        let (mut until, mut buckets) = (None, Vec::new());
        while let Some(part) = stream.message().await.unwrap() {
            assert_eq!(part.tells_latency, part.held_until_time.is_none().then_some(false));
            until = until.or(part.held_until_time.as_ref().map(unix_millis));
            columns::append(&part, &mut buckets).unwrap();
        }
        (until, buckets.len())
    }
    let first = start(1_000);
    let whole = head(&mut served.client).await;
    assert_eq!(read(&mut served.client, first, whole, NOW_MS).await, (Some(NOW_MS), 0), "nothing changed");
    assert_eq!(read(&mut served.client, first, whole, start(3)).await, (Some(start(3)), 3), "later ones are not held");
    assert_eq!(read(&mut served.client, first, 0, NOW_MS).await.1, 900, "held before there was anything");
    assert_eq!(read(&mut served.client, first, whole, 0).await, (None, 900), "nothing is held of the span");
    let forgotten = first - 400 * 86_400_000;
    assert_eq!(
        read(&mut served.client, forgotten, whole, NOW_MS).await,
        (None, 900),
        "what is too old goes without a change"
    );
    served.ingest(vec![bucket(1, 11.0, 1.0)]).await;
    assert_eq!(read(&mut served.client, first, whole, NOW_MS).await, (Some(start(1)), 1));
    let newer = head(&mut served.client).await;
    served.ingest(vec![bucket(700, 11.0, 1.0)]).await;
    let (until, sent) = read(&mut served.client, first, newer, NOW_MS).await;
    assert_eq!((until, sent), (Some(start(700)), 700), "one came late");
    served.stop().await;
}

#[tokio::test]
async fn changes_are_followed_and_resumed_and_the_stream_ends_with_the_service() {
    let mut served = Served::start().await;
    let request = wire::StreamChangesRequest::default();
    let mut live = served.client.stream_changes(request).await.unwrap().into_inner();
    served.ingest(vec![bucket(1, 10.0, 1.0)]).await;
    let first = live.message().await.unwrap().unwrap();
    let second = live.message().await.unwrap().unwrap();
    assert_eq!((first.kind, first.service_id.as_str(), first.tenant_id.as_str()), (1, "checkout", "default"));
    assert_eq!((second.kind, second.sequence), (2, first.sequence + 1));

    // Resumed after the first: the second again, then what is new.
    let request = wire::StreamChangesRequest { after_sequence: first.sequence, epoch: first.epoch.clone() };
    let mut resumed = served.client.stream_changes(request).await.unwrap().into_inner();
    assert_eq!(resumed.message().await.unwrap().unwrap(), second);
    served.ingest(vec![bucket(1, 11.0, 1.0)]).await;
    let third = resumed.message().await.unwrap().unwrap();
    assert!(third.sequence > second.sequence);
    assert_eq!(live.message().await.unwrap().unwrap(), third);
    let request = wire::GetChangeHeadsRequest { service_ids: vec!["checkout".into()] };
    let answer = served.client.get_change_heads(request).await.unwrap().into_inner();
    let heads = &answer.heads;
    assert_eq!((heads[0].topology_sequence, heads[0].sli_sequence), (first.sequence, third.sequence));
    assert_eq!(answer.newest_sequence, third.sequence);
    // Also for whoever names no service.
    let answer = served.client.get_change_heads(wire::GetChangeHeadsRequest::default()).await.unwrap().into_inner();
    assert_eq!((answer.heads.len(), answer.newest_sequence), (0, third.sequence));

    served.shutdown.cancel();
    assert_eq!(live.message().await.unwrap(), None);
    assert_eq!(resumed.message().await.unwrap(), None);
    served.stop().await;
}

#[tokio::test]
async fn so_many_follow_the_changes_and_the_next_one_is_told_when_to_come_again() {
    let config = Config { change_followers_max: 2, ..Config::default() };
    let mut served = Served::start_in(tempfile::tempdir().unwrap(), config).await;
    let follow = |served: &Served| {
        let mut client = served.client.clone();
        async move { client.stream_changes(wire::StreamChangesRequest::default()).await.map(tonic::Response::into_inner) }
    };
    let first = follow(&served).await.unwrap();
    let mut second = follow(&served).await.unwrap();
    let refused = follow(&served).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("ingestion.change_followers_max"), "{refused}");
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "TOO_MANY_FOLLOWERS");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    // One that goes away makes room; whoever follows already notices nothing.
    drop(first);
    let began = Instant::now();
    while let Err(refused) = follow(&served).await {
        assert!(refused.code() == Code::ResourceExhausted && began.elapsed().as_secs() < 10, "{refused}");
        tokio::task::yield_now().await;
    }
    served.ingest(vec![bucket(1, 10.0, 1.0)]).await;
    assert_eq!(second.message().await.unwrap().unwrap().service_id, "checkout");
    served.stop().await;
}

#[tokio::test]
async fn a_follower_learns_that_the_database_was_put_back_though_it_has_grown_past_it() {
    let mut served = Served::start().await;
    served.ingest(vec![bucket(1, 10.0, 1.0)]).await;
    let folder = served.stop().await;
    let (file, copy) = (folder.path().join("ingestion.db"), folder.path().join("copy.db"));
    std::fs::copy(&file, &copy).unwrap();

    let mut served = Served::start_in(folder, Config::default()).await;
    let ask = |served: &Served, after_sequence: u64, epoch: &str| {
        let (mut client, epoch) = (served.client.clone(), epoch.to_owned());
        async move {
            let request = wire::StreamChangesRequest { after_sequence, epoch };
            client.stream_changes(request).await.unwrap().into_inner()
        }
    };
    let mut stream = ask(&served, 0, "").await;
    for ago in 1..=4 {
        served.ingest(vec![bucket(ago, 20.0, 1.0)]).await;
    }
    let mut seen = stream.message().await.unwrap().unwrap();
    while seen.sequence < 6 {
        seen = stream.message().await.unwrap().unwrap();
    }
    // Across a plain restart it goes on where it was.
    let folder = served.stop().await;
    let mut served = Served::start_in(folder, Config::default()).await;
    let mut resumed = ask(&served, seen.sequence, &seen.epoch).await;
    served.ingest(vec![bucket(1, 30.0, 1.0)]).await;
    let next = resumed.message().await.unwrap().unwrap();
    assert!(next.sequence > seen.sequence && next.epoch != seen.epoch);

    let folder = served.stop().await;
    std::fs::rename(&copy, &file).unwrap();
    let mut served = Served::start_in(folder, Config::default()).await;
    for ago in 1..=9 {
        served.ingest(vec![bucket(ago, 40.0, 1.0)]).await;
    }
    for known in [&seen, &next] {
        let refused = ask(&served, known.sequence, &known.epoch).await.message().await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        assert_eq!(refused.get_details_error_info().unwrap().reason, "OTHER_EPOCH");
    }
    served.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_readiness_names_storage() {
    let mut served = Served::start().await;
    served.ingest(vec![bucket(1, 10.0, 1.0)]).await;
    let mut status = StatusServiceClient::new(served.channel.clone());
    let told = status.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(told.ready && told.conditions.iter().any(|c| c.name == "storage" && c.holds && c.detail == "SQLite"));
    let folder = served.stop().await;
    let mut served = Served::start_in(folder, Config::default()).await;
    let request = wire::ListSliBucketsRequest { service_id: "checkout".into(), ..Default::default() };
    assert_eq!(served.client.list_sli_buckets(request).await.unwrap().into_inner().buckets.len(), 1);
    served.stop().await;
}

/// 8 services over 30 days: what the demo sends. The time it takes is shown, not judged: machines differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_eight_services_goes_in_and_comes_out_whole() {
    const SERVICES: usize = 8;
    const BUCKETS: i64 = 8_640;
    let mut served = Served::start().await;
    let started = Instant::now();
    for service in 0..SERVICES {
        for from in (0..BUCKETS).step_by(4_320) {
            let latency = words::LatencyHistogram { scale: 3, zero_count: 0, offset: 30, bucket_counts: vec![100; 24] };
            let rows = (from..from + 4_320).map(|ago| wire::SliBucketDeclaration {
                latency: Some(latency.clone()),
                inherited_bad_count: Some(1.0),
                inherited_by_dependency: [("db".to_owned(), 1)].into(),
                ..bucket(ago, 2_400.0, 3.0)
            });
            let request =
                wire::IngestSliBucketsRequest { service_id: format!("service-{service}"), buckets: rows.collect() };
            let kept = served.client.ingest_sli_buckets(request).await.unwrap().into_inner();
            assert_eq!((kept.accepted_count, kept.rejected.len()), (4_320, 0));
        }
    }
    let written = started.elapsed();
    let request = wire::StreamSliHistoryRequest {
        service_ids: (0..SERVICES).map(|service| format!("service-{service}")).collect(),
        ..Default::default()
    };
    let started = Instant::now();
    let mut stream = served.client.stream_sli_history(request).await.unwrap().into_inner();
    let mut read: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        *read.entry(chunk.service_id).or_default() += chunk.buckets.unwrap().start_steps.len();
    }
    assert_eq!(read.len(), SERVICES);
    assert!(read.values().all(|count| *count == BUCKETS as usize), "{read:?}");
    let total = SERVICES as i64 * BUCKETS;
    eprintln!("{total} buckets written in {written:?}, read in {:?}", started.elapsed());
    served.stop().await;
}
