//! History: 90 days of one service read, days packed, and closed days backfilled, on SQLite and realistic traffic.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use attain_ingestion::storage::{BucketSpan, Capacity, PackCursor, Store};
use attain_ingestion::{Config, Listeners};
use attain_proto::convert::timestamp;
use attain_proto::ingestion::v1 as wire;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_simulator::{process, shop};
use attain_vocabulary::{DAY_MS, EntityId, LatencyHistogram, SliBucket, TenantId};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Poisson};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const DAYS: i64 = 90;
/// A multiple of a day.
const END_MS: i64 = 20_752 * DAY_MS;
const SERVICES: usize = 8;
const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };

/// 90 days of each of some services: the demo's shop at a tenth of its traffic, each histogram with the noise of
/// counting, which the simulator spares itself.
fn traffic() -> Vec<Vec<SliBucket>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut system = shop::system();
    system.requests_per_second /= 10.0;
    let simulated = process::simulate(system, 7, END_MS, DAYS as u32);
    let mut noisy = |mut bucket: SliBucket| {
        let smooth = bucket.latency.take().unwrap();
        let mut left = bucket.counts.valid();
        let mut drawn = |count: u64| {
            let drawn = if count == 0 { 0 } else { Poisson::new(count as f64).unwrap().sample(&mut random) as u64 };
            let drawn = drawn.min(left);
            left -= drawn;
            drawn
        };
        let counts = smooth.bucket_counts().iter().map(|count| drawn(*count)).collect();
        bucket.latency = Some(LatencyHistogram::new(smooth.scale(), 0, smooth.offset(), counts).unwrap());
        bucket
    };
    let all = simulated.buckets.into_values().take(SERVICES);
    all.map(|buckets| buckets.into_iter().map(&mut noisy).collect()).collect()
}

fn service(i: usize) -> EntityId {
    EntityId::new("id", &format!("service-{i}")).unwrap()
}

async fn opened(folder: &tempfile::TempDir) -> Store {
    let url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
    let store = Store::open(
        &url,
        Capacity {
            entities_max: 100_000,
            dependencies_max: 1_000,
            operations_per_service_max: 200,
            call_rate_days: 28,
            request_samples_per_hour: 8,
        },
    )
    .await
    .unwrap();
    store.close_days_before(END_MS);
    store
}

async fn backfill(store: &Store, tenant: &TenantId, traffic: &[Vec<SliBucket>]) -> Duration {
    let requests: Vec<Vec<(EntityId, SliBucket)>> = (0..)
        .zip(traffic)
        .map(|(i, buckets)| buckets.iter().map(|bucket| (service(i), bucket.clone())).collect())
        .collect();
    let begun = Instant::now();
    for request in requests {
        store.replace_buckets(tenant, request).await.unwrap();
    }
    begun.elapsed()
}

fn tenant(name: &str) -> TenantId {
    TenantId::new("tenant", name).unwrap()
}

fn read(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let traffic = traffic();
    let store = runtime.block_on(opened(&folder));
    let acme = tenant("acme");
    runtime.block_on(backfill(&store, &acme, &traffic));
    let buckets = traffic.iter().map(Vec::len).sum::<usize>();
    runtime.block_on(store.close());
    let bytes = std::fs::metadata(folder.path().join("ingestion.db")).unwrap().len();
    eprintln!("{buckets} buckets with latency in {bytes} bytes on disk: {:.1} a bucket", bytes as f64 / buckets as f64);
    let store = runtime.block_on(opened(&folder));
    let mut group = criterion.benchmark_group("read_90_days_of_one_service");
    for (name, with_latency) in [("with_latency", true), ("without_latency", false)] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let page = runtime.block_on(store.sli_page(&acme, &service(3), ALL, 30_000, with_latency)).unwrap();
                assert_eq!(page.buckets.len(), DAYS as usize * 288);
                black_box(page)
            });
        });
    }
    group.finish();
}

fn pack(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let traffic = traffic();
    let mut group = criterion.benchmark_group("pack_a_day");
    group.sample_size(10).throughput(Throughput::Elements((SERVICES * 288) as u64));
    group.bench_function("of_8_services", |bench| {
        bench.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let folder = tempfile::tempdir().unwrap();
                spent += runtime.block_on(async {
                    let store = opened(&folder).await;
                    store.close_days_before(i64::MIN);
                    // In two halves: neither is a whole day.
                    for half in 0..2 {
                        let rows = traffic.iter().enumerate().flat_map(|(i, buckets)| {
                            buckets[half * 144..(half + 1) * 144].iter().map(move |bucket| (service(i), bucket.clone()))
                        });
                        store.replace_buckets(&tenant("acme"), rows.collect()).await.unwrap();
                    }
                    let begun = Instant::now();
                    let (mut cursor, mut packed) = (Some(PackCursor::default()), 0);
                    while let Some(from) = cursor {
                        let step = store.pack(from, END_MS).await.unwrap();
                        packed += step.row_count;
                        cursor = step.next;
                    }
                    assert_eq!(packed, SERVICES * 288);
                    begun.elapsed()
                });
            }
            spent
        });
    });
    group.finish();
}

fn direct_backfill(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let traffic = traffic();
    let mut group = criterion.benchmark_group("backfill_90_days_of_8_services");
    group.sample_size(10).throughput(Throughput::Elements((SERVICES as i64 * DAYS * 288) as u64));
    group.bench_function("into_storage", |bench| {
        bench.iter_custom(|times| {
            let folder = tempfile::tempdir().unwrap();
            runtime.block_on(async {
                let store = opened(&folder).await;
                let mut spent = Duration::ZERO;
                for i in 0..times {
                    spent += backfill(&store, &tenant(&format!("tenant-{i}")), &traffic).await;
                }
                spent
            })
        });
    });
    for (name, with_latency) in [("over_grpc_with_latency", true), ("over_grpc_without_latency", false)] {
        let requests: Vec<wire::IngestSliBucketsRequest> =
            (0..).zip(&traffic).map(|(i, buckets)| request(i, buckets, with_latency)).collect();
        group.bench_function(name, |bench| {
            bench.iter_custom(|times| (0..times).map(|_| runtime.block_on(send(requests.clone()))).sum());
        });
    }
    group.finish();
}

fn request(i: usize, buckets: &[SliBucket], with_latency: bool) -> wire::IngestSliBucketsRequest {
    let row = |bucket: &SliBucket| wire::SliBucketDeclaration {
        start_time: Some(timestamp(bucket.start_ms)),
        valid_count: bucket.counts.valid() as f64,
        bad_count: bucket.counts.bad() as f64,
        latency: bucket.latency.as_ref().filter(|_| with_latency).map(Into::into),
        ..Default::default()
    };
    wire::IngestSliBucketsRequest { service_id: service(i).into(), buckets: buckets.iter().map(row).collect() }
}

/// Sends every request to a service of its own, two at a time.
async fn send(requests: Vec<wire::IngestSliBucketsRequest>) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let database_url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
    let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listeners = Listeners { mesh: free().await, otlp: free().await, otlp_http: free().await };
    let channel =
        attain_runtime::channel::connect("bench", &format!("http://{}", listeners.mesh.local_addr().unwrap())).unwrap();
    let shutdown = Shutdown::new();
    let config = Config { database_url, ..Config::default() };
    let clock = Clock::held(END_MS + DAY_MS);
    let serving = tokio::spawn(attain_ingestion::serve(config, listeners, clock, shutdown.clone()));
    let client = IngestionServiceClient::new(channel);
    let mut half = requests;
    let other = half.split_off(half.len() / 2);
    let send = |requests: Vec<wire::IngestSliBucketsRequest>| {
        let mut client = client.clone();
        tokio::spawn(async move {
            for request in requests {
                let sent = request.buckets.len() as u64;
                let answer = client.ingest_sli_buckets(request).await.unwrap().into_inner();
                assert_eq!(answer.accepted_count, sent);
            }
        })
    };
    let begun = Instant::now();
    let both = [send(half), send(other)];
    for sending in both {
        sending.await.unwrap();
    }
    let spent = begun.elapsed();
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    spent
}

criterion_group!(benches, read, pack, direct_backfill);
criterion_main!(benches);
