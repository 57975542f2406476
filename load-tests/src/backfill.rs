//! Ninety days of many services at once, and services read back, bucket by bucket; without latency and with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use attain_proto::columns;
use attain_proto::convert::timestamp;
use attain_proto::day;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::ingestion::v1::{IngestSliBucketsRequest, SliBucketDeclaration, StreamSliHistoryRequest};
use attain_vocabulary::{BUCKET_MS, DAY_MS, LatencyHistogram, SliBucket, bucket_start};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::subject::{self, Subject};

/// 90 days of 1,000 services in a minute.
const BUCKETS_PER_SECOND_MIN: f64 = 90.0 * 288.0 * 1_000.0 / 60.0;
const READ_MS_MAX: f64 = 5.0;
/// Most bytes on disk a bucket, its share of index and pages included: a day of counts has 3 a bucket and some for the row,
/// a histogram with the noise of counting up to 53 besides (decision 0011).
const BYTES_A_BUCKET_MAX: f64 = 8.0;
const BYTES_A_BUCKET_MAX_WITH_LATENCY: f64 = 64.0;
/// The database's size is taken when it has not changed for so long.
const DISK_QUIET: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: subject::Options,
    /// Services, 1 to 10,000.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    services: u32,
    /// Days, 1 to 395; the newest ends at the last midnight, UTC.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=395))]
    days: u32,
    /// Whether buckets have a latency histogram each: one run after the other, each on a database of its own.
    #[arg(long, value_enum, default_value_t = Latency::Both)]
    latency: Latency,
    /// Services in one call, 1 to 10.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10))]
    services_per_call: u32,
    /// Calls in flight, 1 to 64.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    senders: u32,
    /// Services read back, 1 to 10,000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    reads: u32,
    /// Longest wait for the database to be packed, in seconds; 0 to 3,600.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pack_seconds: u64,
    /// Seed of the counts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Latency {
    Without,
    With,
    Both,
}

impl Latency {
    /// Of each run whether it has latency.
    fn runs(self) -> &'static [bool] {
        match self {
            Self::Without => &[false],
            Self::With => &[true],
            Self::Both => &[false, true],
        }
    }
}

/// What is sent: the same seed gives the same buckets.
#[derive(Debug, Clone)]
struct History {
    run: String,
    seed: u64,
    end_ms: i64,
    buckets_per_service: u32,
    latency: bool,
}

struct Written {
    seconds: f64,
    accepted: u64,
}

struct Read {
    wall_ms: LatencyHistogram,
    buckets: u64,
    /// Buckets that are not as they were sent, or were never sent, or are not there.
    different: u64,
    cpu_ms: f64,
}

/// Each kind of run after the other.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let (mut met, mut report) = (true, json!({}));
    for with_latency in options.latency.runs() {
        let of_run = run_once(options, *with_latency).await?;
        met &= of_run["objective_met"] == true;
        report[if *with_latency { "with_latency" } else { "without_latency" }] = of_run;
    }
    report["objective"] = json!(
        "90 days of 1,000 services within 60 s (432,000 buckets a second) and one service's days read within 5 ms, both without \
         latency; every bucket there as it was sent, within 8 bytes a bucket, and 64 with latency"
    );
    report["objective_met"] = json!(met);
    Ok(report)
}

/// Writes, waits for the packing, reads back, judges.
async fn run_once(options: &Options, with_latency: bool) -> anyhow::Result<Value> {
    let subject = Subject::start(&options.subject).await?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let history = History {
        run: format!("backfill-{with_latency}-{now_ms}"),
        seed: options.seed,
        end_ms: now_ms.div_euclid(DAY_MS) * DAY_MS,
        buckets_per_service: options.days * 288,
        latency: with_latency,
    };
    let before = subject.usage()?;
    let written = write(&subject, options, &history).await?;
    let after = subject.usage()?;
    let disk_after_write = subject.bytes_on_disk()?;
    let packed_seconds = wait_for_packing(&subject, Duration::from_secs(options.pack_seconds)).await?;
    let disk = subject.bytes_on_disk()?;
    let packed = subject.usage()?;
    let read = read_back(&subject, options, &history).await?;

    let expected = u64::from(options.services) * u64::from(history.buckets_per_service);
    let bytes_a_bucket = disk.map(|bytes| bytes as f64 / expected as f64);
    let read_expected = u64::from(history.buckets_per_service) * reads(options);
    let mut report = judge(with_latency, &written, expected, &read, read_expected, bytes_a_bucket);
    report["server_cpu_seconds_write"] = json!(after.cpu_since(&before));
    report["server_cpu_seconds_packing"] = json!(packed.cpu_since(&after));
    report["packed_after_seconds"] = json!(packed_seconds);
    report["bytes_on_disk_after_write"] = json!(disk_after_write);
    report["bytes_on_disk"] = json!(disk);
    report["peak_mib"] = json!(subject.usage()?.peak_bytes as f64 / (1024.0 * 1024.0));
    Ok(report)
}

fn reads(options: &Options) -> u64 {
    u64::from(options.reads.min(options.services))
}

fn judge(
    with_latency: bool,
    written: &Written,
    expected: u64,
    read: &Read,
    read_expected: u64,
    bytes_a_bucket: Option<f64>,
) -> Value {
    let rate = written.accepted as f64 / written.seconds;
    let read_ms = read.wall_ms.quantile(0.5).unwrap_or(f64::INFINITY);
    let whole = written.accepted == expected && read.buckets == read_expected && read.different == 0;
    let bytes_max = if with_latency { BYTES_A_BUCKET_MAX_WITH_LATENCY } else { BYTES_A_BUCKET_MAX };
    let small = bytes_a_bucket.is_none_or(|bytes| bytes <= bytes_max);
    // A histogram of some dozen counts a bucket is most of what is sent and read: its speed is told, not judged.
    let fast = with_latency || (rate >= BUCKETS_PER_SECOND_MIN && read_ms < READ_MS_MAX);
    json!({
        "objective_met": whole && small && fast,
        "buckets_sent": expected,
        "buckets_accepted": written.accepted,
        "seconds": written.seconds,
        "buckets_per_second": rate,
        "read_ms_p50": read_ms,
        "read_ms_p99": read.wall_ms.quantile(0.99),
        "read_server_cpu_ms": read.cpu_ms,
        "buckets_read": read.buckets,
        "buckets_read_expected": read_expected,
        "buckets_different": read.different,
        "bytes_a_bucket": bytes_a_bucket,
    })
}

impl History {
    fn service(&self, number: u32) -> String {
        format!("{}-{number}", self.run)
    }

    fn buckets(&self, service: u32) -> impl Iterator<Item = SliBucketDeclaration> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(u64::from(service)));
        let requests = random.random_range(50..5_000) as f64;
        let first_ms = bucket_start(self.end_ms) - i64::from(self.buckets_per_service) * BUCKET_MS;
        let (service_id, with_latency) = (self.service(service), self.latency);
        (0..self.buckets_per_service).map(move |number| {
            // A day's rhythm with noise: what a packer meets in production.
            let hour = f64::from(number % 288) / 288.0 * std::f64::consts::TAU;
            let valid = (requests * (1.0 + 0.6 * hour.sin()) * random.random_range(0.9..1.1)).round();
            let bad =
                if random.random_range(0..20) == 0 { (valid * random.random_range(0.0..0.02)).floor() } else { 0.0 };
            let latency = with_latency.then(|| latency(&mut random, valid as u64));
            SliBucketDeclaration {
                service_id: service_id.clone(),
                start_time: Some(timestamp(first_ms + i64::from(number) * BUCKET_MS)),
                valid_count: valid,
                bad_count: bad,
                latency,
                ..SliBucketDeclaration::default()
            }
        })
    }
}

/// A dozen places over two orders of magnitude, as the latency of one service has.
fn latency(random: &mut ChaCha8Rng, count: u64) -> attain_proto::vocabulary::v1::LatencyHistogram {
    let mut histogram = LatencyHistogram::empty();
    let mut left = count;
    for place in 0..12_i32 {
        let share = if place == 11 { left } else { left * random.random_range(15..35) / 100 };
        histogram.record_many(8.0 * 1.5_f64.powi(place), share);
        left -= share;
    }
    (&histogram).into()
}

async fn write(subject: &Subject, options: &Options, history: &History) -> anyhow::Result<Written> {
    let next = Arc::new(AtomicU64::new(0));
    let progress = ProgressBar::new(options.services.into()).with_message("services written");
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..options.senders {
        let (client, next, progress) = (subject.client().await?, Arc::clone(&next), progress.clone());
        senders.spawn(work(client, options.clone(), history.clone(), next, progress));
    }
    let mut accepted = 0;
    while let Some(sender) = senders.join_next().await {
        accepted += sender??;
    }
    progress.finish_and_clear();
    Ok(Written { seconds: began.elapsed().as_secs_f64(), accepted })
}

async fn work(
    mut client: IngestionServiceClient<Channel>,
    options: Options,
    history: History,
    next: Arc<AtomicU64>,
    progress: ProgressBar,
) -> anyhow::Result<u64> {
    let step = u64::from(options.services_per_call);
    let mut accepted = 0;
    loop {
        let first = next.fetch_add(step, Ordering::Relaxed);
        if first >= u64::from(options.services) {
            return Ok(accepted);
        }
        let services = first as u32..options.services.min((first + step) as u32);
        let buckets = services.clone().flat_map(|service| history.buckets(service)).collect();
        let answer = client.ingest_sli_buckets(IngestSliBucketsRequest { service_id: String::new(), buckets }).await?;
        let answer = answer.into_inner();
        ensure!(answer.rejected.is_empty(), "buckets were refused: {:?}", answer.rejected.first());
        accepted += answer.accepted_count;
        progress.inc(services.len() as u64);
    }
}

/// Until the size of the database rests; how long that took.
async fn wait_for_packing(subject: &Subject, longest: Duration) -> anyhow::Result<Option<f64>> {
    let Some(mut size) = subject.bytes_on_disk()? else { return Ok(None) };
    let (began, mut moved) = (Instant::now(), Instant::now());
    while began.elapsed() < longest && moved.elapsed() < DISK_QUIET {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = subject.bytes_on_disk()?.unwrap_or_default();
        if now != size {
            (size, moved) = (now, Instant::now());
        }
    }
    Ok(Some(moved.duration_since(began).as_secs_f64()))
}

/// Each service once, one after the other.
async fn read_back(subject: &Subject, options: &Options, history: &History) -> anyhow::Result<Read> {
    let mut client = subject.client().await?;
    let reads = reads(options) as u32;
    let mut read = Read { wall_ms: LatencyHistogram::empty(), buckets: 0, different: 0, cpu_ms: 0.0 };
    // The first call connects and prepares statements.
    stream(&mut client, history.service(0)).await?;
    let before = subject.usage()?;
    for number in 0..reads {
        let service = options.services / reads * number;
        let began = Instant::now();
        let buckets = stream(&mut client, history.service(service)).await?;
        read.wall_ms.record(began.elapsed().as_secs_f64() * 1000.0);
        read.buckets += buckets.len() as u64;
        read.different += different(history.buckets(service), buckets)?;
    }
    read.cpu_ms = subject.usage()?.cpu_since(&before) * 1000.0 / f64::from(reads);
    Ok(read)
}

/// How many are only sent, only read, or not the same.
fn different(sent: impl Iterator<Item = SliBucketDeclaration>, read: Vec<SliBucket>) -> anyhow::Result<u64> {
    let mut read: BTreeMap<i64, SliBucket> = read.into_iter().map(|bucket| (bucket.start_ms, bucket)).collect();
    let mut different = 0;
    for sent in sent {
        let latency = sent.latency.as_ref().map(LatencyHistogram::try_from).transpose()?;
        let same = read.remove(&(sent.start_time.unwrap_or_default().seconds * 1_000)).is_some_and(|read| {
            let counts = (read.counts.valid() as f64, read.counts.bad() as f64);
            counts == (sent.valid_count, sent.bad_count) && read.latency == latency
        });
        different += u64::from(!same);
    }
    Ok(different + read.len() as u64)
}

async fn stream(client: &mut IngestionServiceClient<Channel>, service: String) -> anyhow::Result<Vec<SliBucket>> {
    let question = StreamSliHistoryRequest {
        service_ids: vec![service],
        day_version_max: day::VERSION,
        ..StreamSliHistoryRequest::default()
    };
    let mut chunks = client.stream_sli_history(question).await?.into_inner();
    let mut buckets = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        columns::append(&chunk, &mut buckets)?;
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_vocabulary::BucketCounts;

    fn history(seed: u64, latency: bool) -> History {
        History { run: "run".into(), seed, end_ms: 1_793_000_000_000, buckets_per_service: 600, latency }
    }

    #[test]
    fn the_same_seed_gives_the_same_buckets() {
        let buckets = |seed| history(seed, true).buckets(3).collect::<Vec<_>>();
        assert_eq!(buckets(1), buckets(1));
        assert_ne!(buckets(1), buckets(2));
    }

    #[test]
    fn buckets_are_such_as_are_accepted() {
        let mut starts = std::collections::BTreeSet::new();
        for bucket in history(1, true).buckets(0) {
            let latency: LatencyHistogram =
                bucket.latency.as_ref().expect("a latency").try_into().expect("a histogram");
            assert_eq!(latency.count() as f64, bucket.valid_count);
            assert!(bucket.bad_count <= bucket.valid_count && bucket.valid_count.fract() == 0.0);
            let start = bucket.start_time.expect("a start");
            assert_eq!(start.seconds % 300, 0);
            assert!(starts.insert(start.seconds), "each once");
        }
        assert_eq!(starts.len(), 600);
    }

    #[test]
    fn a_bucket_counts_as_read_only_where_it_is_as_it_was_sent() {
        let stored = |bucket: SliBucketDeclaration| {
            let latency = bucket.latency.as_ref().map(|latency| latency.try_into().expect("a histogram"));
            let counts = BucketCounts::new(bucket.valid_count as u64, bucket.bad_count as u64, None).expect("nested");
            let start_ms = bucket.start_time.expect("a start").seconds * 1_000;
            SliBucket::new(start_ms, counts, BTreeMap::new(), latency).expect("valid")
        };
        let all = || history(1, true).buckets(0).map(stored).collect::<Vec<_>>();
        let compared = |read| different(history(1, true).buckets(0), read).expect("compared");
        assert_eq!(compared(all()), 0);
        assert_eq!(compared(all().split_off(2)), 2, "two are missing");
        let mut read = all();
        read[3].latency = read[4].latency.clone();
        read[7] = stored(SliBucketDeclaration {
            valid_count: 1.0,
            bad_count: 0.0,
            latency: None,
            ..history(1, true).buckets(0).nth(7).expect("there")
        });
        assert_eq!(compared(read), 2, "one has another histogram, one other counts");
    }

    #[test]
    fn speed_counts_only_where_every_bucket_is_there() {
        let fast = |accepted| Written { seconds: 50.0, accepted };
        let read = |ms: f64, buckets| {
            let mut wall_ms = LatencyHistogram::empty();
            wall_ms.record(ms);
            Read { wall_ms, buckets, different: 0, cpu_ms: 1.0 }
        };
        let judged = |latency, written: Written, read: Read, bytes| {
            judge(latency, &written, 25_920_000, &read, 25_920, bytes)["objective_met"] == true
        };
        let met = |written: Written, read: Read| judged(false, written, read, Some(4.0));
        assert!(met(fast(25_920_000), read(3.0, 25_920)));
        assert!(!met(fast(25_919_999), read(3.0, 25_920)));
        assert!(!met(fast(25_920_000), read(3.0, 25_919)));
        assert!(!met(fast(25_920_000), read(6.0, 25_920)));
        assert!(!met(Written { seconds: 61.0, accepted: 25_920_000 }, read(3.0, 25_920)));
        assert!(!met(fast(25_920_000), Read { different: 1, ..read(3.0, 25_920) }));
        assert!(!judged(false, fast(25_920_000), read(3.0, 25_920), Some(9.0)));
        assert!(judged(true, Written { seconds: 200.0, accepted: 25_920_000 }, read(60.0, 25_920), Some(60.0)));
        assert!(!judged(true, fast(25_920_000), read(3.0, 25_920), Some(65.0)));
        assert!(!judged(true, fast(25_920_000), Read { different: 1, ..read(3.0, 25_920) }, Some(60.0)));
    }
}
