//! PetShop's metrics and graph, over REST.
//!
//! A column of metrics is `microservice, metric, statistic` (three header lines); a line is five minutes. Requests become
//! `valid_count`; availability, in percent, becomes failures; p50, p90, p95 and p99 of latency, in seconds, become bounds of
//! a histogram that hold 50, 40, 5, 4 and 1 % of the requests. A line of the graph names a caller, its columns the callees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use attain_members::{Attain, IngestionOptions, Mesh, get, post, rest_client};
use attain_vocabulary::EntityId;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::edges::{Comparison, Edges};
use super::{AGE_SETTINGS, Place, known_edges};

const BUCKETS_PER_CALL: usize = 2_000;
const PAGE: usize = 2_000;
/// Shares of the requests up to each quantile, and beyond the last.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.50), ("p90", 0.40), ("p95", 0.05), ("p99", 0.04)];

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The folder of traffic to import, with `metrics.csv` and `graph.csv`.
    #[arg(long, default_value = "low_traffic")]
    traffic: String,
}

/// One five-minute bucket as it is sent.
#[derive(Debug, Clone, PartialEq)]
struct Bucket {
    service: String,
    start_seconds: i64,
    valid: u64,
    bad: u64,
    /// Bounds in milliseconds, and counts, one more than bounds.
    latency: Option<(Vec<f64>, Vec<u64>)>,
}

/// What the files hold, and what of it is no bucket, by reason.
#[derive(Debug, Default)]
struct Metrics {
    buckets: Vec<Bucket>,
    not_sent: BTreeMap<&'static str, usize>,
    without_latency: usize,
}

/// Imports both files and compares.
pub(super) async fn run(options: &Options) -> anyhow::Result<Value> {
    let folder = options.place.data.join(&options.traffic);
    let mut names = Names::default();
    let graph = read_graph(&read(&folder.join("graph.csv"))?, &mut names)?;
    let metrics = read_metrics(&read(&folder.join("metrics.csv"))?, &mut names)?;
    let attain = Attain::find(options.place.attain.as_deref())?;
    let started =
        IngestionOptions { settings: AGE_SETTINGS.map(str::to_owned).to_vec(), ..IngestionOptions::default() };
    let mesh = Mesh::start(&attain, &started, &[]).await?;
    let rest = rest_client();
    let refused_edges = send_graph(&mesh, &rest, &graph).await?;
    let refused = send_buckets(&mesh, &rest, &metrics.buckets).await?;
    let found = known_edges(&mut mesh.ingestion.client().await?).await?;
    let (same, different) = compare_buckets(&mesh, &rest, &metrics.buckets).await?;

    let comparison = Comparison::of(&found, &graph);
    let refused_count: usize = refused.values().sum();
    let whole = same + refused_count == metrics.buckets.len() && different == 0;
    Ok(json!({
        "objective": "the graph equals theirs; every bucket that was not refused by name is read back as it was sent",
        "objective_met": comparison.is_equal() && whole && refused_edges == 0,
        "edges": comparison.report(),
        "edges_refused": refused_edges,
        "names_bent": names.bent,
        "buckets_sent": metrics.buckets.len(),
        "buckets_without_latency": metrics.without_latency,
        "buckets_not_sent": metrics.not_sent,
        "buckets_refused": refused,
        "buckets_read_back_the_same": same,
        "buckets_read_back_different": different,
    }))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Names as the product accepts them.
#[derive(Debug, Default)]
struct Names {
    bent: BTreeMap<String, String>,
}

impl Names {
    fn of(&mut self, written: &str) -> anyhow::Result<String> {
        let name = EntityId::from_observed(written).context("a node has no name")?.to_string();
        if name != written {
            self.bent.insert(written.to_owned(), name.clone());
        }
        Ok(name)
    }
}

fn read_graph(text: &str, names: &mut Names) -> anyhow::Result<Edges> {
    let mut records = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes()).into_records();
    let callees = records.next().context("graph.csv is empty")??;
    let mut edges = Edges::new();
    for record in records {
        let record = record?;
        let caller = names.of(record.get(0).unwrap_or_default())?;
        for (callee, cell) in callees.iter().zip(record.iter()).skip(1) {
            let weight: f64 = cell.parse().with_context(|| format!("`{cell}` is no weight"))?;
            if weight != 0.0 {
                edges.insert((caller.clone(), names.of(callee)?));
            }
        }
    }
    Ok(edges)
}

fn read_metrics(text: &str, names: &mut Names) -> anyhow::Result<Metrics> {
    let mut records =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes()).into_records();
    let mut header = || anyhow::Ok(records.next().context("metrics.csv has three header lines")??);
    let (services, metrics, statistics) = (header()?, header()?, header()?);
    let mut columns: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut of_services = BTreeSet::new();
    for (place, service) in services.iter().enumerate().skip(1) {
        let metric =
            format!("{}/{}", metrics.get(place).unwrap_or_default(), statistics.get(place).unwrap_or_default());
        columns.insert((service.to_owned(), metric), place);
        of_services.insert(service.to_owned());
    }
    let mut read = Metrics::default();
    for record in records {
        let record = record?;
        // A fourth header line names the index and has no time.
        let Some(start) = record.get(0).and_then(|cell| cell.parse::<f64>().ok()) else { continue };
        for service in &of_services {
            let cell = |metric: &str| {
                let place = columns.get(&(service.clone(), metric.to_owned()))?;
                record.get(*place)?.parse::<f64>().ok().filter(|value| value.is_finite())
            };
            match bucket(names.of(service)?, start as i64, cell) {
                Ok(bucket) => {
                    read.without_latency += usize::from(bucket.latency.is_none());
                    read.buckets.push(bucket);
                }
                Err(reason) => *read.not_sent.entry(reason).or_default() += 1,
            }
        }
    }
    ensure!(!read.buckets.is_empty(), "metrics.csv holds no bucket");
    Ok(read)
}

/// A bucket, or why there is none.
fn bucket(service: String, start_seconds: i64, cell: impl Fn(&str) -> Option<f64>) -> Result<Bucket, &'static str> {
    let requests = cell("requests/Sum").ok_or("no requests were measured")?;
    if requests < 0.0 || requests.fract() != 0.0 {
        return Err("requests are no whole number");
    }
    let availability = cell("availability/Average").ok_or("availability was not measured")?;
    if !(0.0..=100.0).contains(&availability) {
        return Err("availability is no percentage");
    }
    let bad = (requests * (100.0 - availability) / 100.0).round();
    let bounds: Option<Vec<f64>> =
        QUANTILES.iter().map(|(name, _)| cell(&format!("latency/{name}")).map(|seconds| seconds * 1000.0)).collect();
    let ascending = |bounds: &Vec<f64>| bounds[0] > 0.0 && bounds.windows(2).all(|pair| pair[0] <= pair[1]);
    let latency =
        bounds.filter(|bounds| requests > 0.0 && ascending(bounds)).map(|bounds| histogram(&bounds, requests as u64));
    Ok(Bucket { service, start_seconds, valid: requests as u64, bad: bad as u64, latency })
}

/// Requests spread over the quantiles; equal bounds become one.
fn histogram(bounds: &[f64], requests: u64) -> (Vec<f64>, Vec<u64>) {
    let (mut ascending, mut counts): (Vec<f64>, Vec<u64>) = (Vec::new(), Vec::new());
    let (mut share, mut counted) = (0.0, 0);
    for (bound, (_, part)) in bounds.iter().zip(QUANTILES) {
        share += part;
        let until = (requests as f64 * share).round() as u64;
        if ascending.last() == Some(bound) {
            if let Some(last) = counts.last_mut() {
                *last += until - counted;
            }
        } else {
            ascending.push(*bound);
            counts.push(until - counted);
        }
        counted = until;
    }
    counts.push(requests - counted);
    (ascending, counts)
}

/// How many edges were refused.
async fn send_graph(mesh: &Mesh, rest: &reqwest::Client, graph: &Edges) -> anyhow::Result<usize> {
    let edges: Vec<Value> =
        graph.iter().map(|(caller, callee)| json!({"caller_id": caller, "callee_id": callee})).collect();
    let body = json!({"dependencies": edges}).to_string();
    let (status, answer) = post(rest, &format!("{}/api/v1/services/dependencies", mesh.gateway_url), body).await?;
    ensure!(status == 200, "the graph was refused: {answer}");
    Ok(answer["rejected"].as_array().map_or(0, Vec::len))
}

/// What was refused, by its code.
async fn send_buckets(
    mesh: &Mesh,
    rest: &reqwest::Client,
    buckets: &[Bucket],
) -> anyhow::Result<BTreeMap<String, usize>> {
    let progress = ProgressBar::new(buckets.len() as u64).with_message("buckets sent");
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for part in buckets.chunks(BUCKETS_PER_CALL) {
        let body = json!({"buckets": part.iter().map(Bucket::json).collect::<Vec<_>>()}).to_string();
        let (status, answer) = post(rest, &format!("{}/api/v1/metrics", mesh.gateway_url), body).await?;
        ensure!(status == 200, "{status}: {answer}");
        for rejection in answer["rejected"].as_array().into_iter().flatten() {
            *refused.entry(rejection["code"].as_str().unwrap_or("unnamed").to_owned()).or_default() += 1;
        }
        progress.inc(part.len() as u64);
    }
    progress.finish_and_clear();
    Ok(refused)
}

impl Bucket {
    fn json(&self) -> Value {
        let mut bucket = json!({
            "service_id": self.service,
            "start_time": time(self.start_seconds),
            "valid_count": self.valid,
            "bad_count": self.bad,
        });
        if let Some((bounds_ms, counts)) = &self.latency {
            bucket["latency_explicit"] = json!({"bounds_ms": bounds_ms, "counts": counts});
        }
        bucket
    }
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Buckets whose counts, and number of latencies, are as sent; and those that differ.
async fn compare_buckets(mesh: &Mesh, rest: &reqwest::Client, sent: &[Bucket]) -> anyhow::Result<(usize, usize)> {
    let mut by_service: BTreeMap<&str, BTreeMap<String, &Bucket>> = BTreeMap::new();
    for bucket in sent {
        by_service.entry(&bucket.service).or_default().insert(time(bucket.start_seconds), bucket);
    }
    let (mut same, mut different) = (0, 0);
    for (service, buckets) in by_service {
        for read in read_service(mesh, rest, service).await? {
            let start = read["start_time"].as_str().unwrap_or_default();
            match buckets.get(start).is_some_and(|bucket| bucket.equals(&read)) {
                true => same += 1,
                false => different += 1,
            }
        }
    }
    Ok((same, different))
}

impl Bucket {
    fn equals(&self, read: &Value) -> bool {
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let counts = read["latency"]["bucket_counts"].as_array().into_iter().flatten().map(count);
        let latencies = counts.sum::<u64>() + count(&read["latency"]["zero_count"]);
        let latencies_sent = self.latency.as_ref().map_or(0, |(_, counts)| counts.iter().sum());
        (count(&read["valid_count"]), count(&read["bad_count"]), latencies) == (self.valid, self.bad, latencies_sent)
    }
}

async fn read_service(mesh: &Mesh, rest: &reqwest::Client, service: &str) -> anyhow::Result<Vec<Value>> {
    let (mut buckets, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("{}/api/v1/services/{}/metrics", mesh.gateway_url, encoded(service));
        let (status, answer) = get(rest, &format!("{path}?page_size={PAGE}&page_token={}", encoded(&token))).await?;
        ensure!(status == 200, "{service}: {status}: {answer}");
        buckets.extend(answer["buckets"].as_array().cloned().unwrap_or_default());
        token = answer["next_page_token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return Ok(buckets);
        }
    }
}

/// Percent-encoded but for letters, digits and `. _ -`.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells<'a>(given: &'a [(&'a str, f64)]) -> impl Fn(&str) -> Option<f64> + 'a {
        |metric| given.iter().find(|(name, _)| *name == metric).map(|(_, value)| *value)
    }

    #[test]
    fn a_bucket_is_what_was_measured_or_the_reason_why_there_is_none() {
        let of = |given: &[(&str, f64)]| bucket("petsite".into(), 1_692_608_400, cells(given));
        let full = [
            ("requests/Sum", 488.0),
            ("availability/Average", 97.336_065_573_770_5),
            ("latency/p50", 0.05),
            ("latency/p90", 0.25),
            ("latency/p95", 0.32),
            ("latency/p99", 0.5),
        ];
        let read = of(&full).expect("a bucket");
        assert_eq!((read.valid, read.bad), (488, 13));
        let (bounds, counts) = read.latency.expect("a latency");
        assert_eq!(bounds, [50.0, 250.0, 320.0, 500.0]);
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (5, 488));
        assert_eq!(of(&full[..2]).expect("a bucket").latency, None);
        assert_eq!(of(&full[1..]), Err("no requests were measured"));
        assert_eq!(of(&full[..1]), Err("availability was not measured"));
        assert_eq!(of(&[("requests/Sum", 1.5), full[1]]), Err("requests are no whole number"));
    }

    #[test]
    fn equal_quantiles_are_one_bound_and_no_request_is_lost() {
        let (bounds, counts) = histogram(&[10.0, 10.0, 20.0, 20.0], 100);
        assert_eq!((bounds, counts), (vec![10.0, 20.0], vec![90, 9, 1]));
        for requests in 1..50 {
            let (_, counts) = histogram(&[1.0, 2.0, 3.0, 4.0], requests);
            assert_eq!(counts.iter().sum::<u64>(), requests);
        }
    }

    #[test]
    fn the_graph_is_read_by_lines_of_callers() {
        let mut names = Names::default();
        let edges = read_graph("microservice,a,PG Query\na,0.0,1.0\nPG Query,0.0,0.0\n", &mut names).expect("a graph");
        assert_eq!(edges, Edges::from([("a".into(), "PG-Query".into())]));
        assert_eq!(names.bent, BTreeMap::from([("PG Query".into(), "PG-Query".into())]));
    }
}
