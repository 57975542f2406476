//! Nezha's spans, as OTLP.
//!
//! The files hold no span kinds. They are derived as a sender would know them: a span is SERVER where it has no parent or
//! its parent belongs to another service; else CLIENT where a span of another service is its child; else INTERNAL. The service
//! is the pod's name without its last two parts. Times are start and end; the column of durations disagrees with them for
//! some spans and is not read.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use attain_members::{Attain, Ingestion, IngestionOptions};
use attain_proto::ingestion::v1::StreamSliHistoryRequest;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use indicatif::ProgressBar;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::edges::{Comparison, Edges};
use super::{AGE_SETTINGS, Place, known_edges};
use crate::spans::{NO_PARENT, Row, read_rows, service, text};

const SPANS_PER_EXPORT: usize = 2_000;
/// Traces are whole in the files: short patience loses nothing.
const IDLE_SETTING: &str = "ingestion.trace_idle_seconds=2";
/// Three times the patience, as for a trace without its root, and some.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The day to import: a folder with `trace` and `metric/dependency.csv.gz`.
    #[arg(long, default_value = "2022-08-22")]
    day: String,
}

/// What dependency.csv says: calls between services, and other lines that are none.
#[derive(Debug, Default, PartialEq)]
struct Theirs {
    edges: Edges,
    not_compared: BTreeMap<&'static str, usize>,
}

/// Imports a day and compares.
pub(super) async fn run(options: &Options) -> anyhow::Result<Value> {
    let folder = options.place.data.join(&options.day);
    let rows = read_rows(&folder.join("trace"))?;
    let theirs = Theirs::read(&text(&folder.join("metric/dependency.csv.gz"))?)?;
    let derived = Derived::of(&rows);
    let attain = Attain::find(options.place.attain.as_deref())?;
    let settings = AGE_SETTINGS.into_iter().chain([IDLE_SETTING]).map(str::to_owned).collect();
    let started = IngestionOptions { settings, ..Default::default() };
    let ingestion = Ingestion::start(&attain, &started).await?;
    let rejected = send(&ingestion, &rows, &derived.kinds).await?;
    let mut client = ingestion.client().await?;
    let requests = settled_requests(&mut client, derived.count(SpanKind::Server)).await?;
    let found = known_edges(&mut client).await?;
    Ok(report(&rows, &derived, &theirs, &found, rejected, requests))
}

fn report(rows: &[Row], derived: &Derived, theirs: &Theirs, found: &Edges, rejected: u64, requests: u64) -> Value {
    let with_theirs = Comparison::of(found, &theirs.edges);
    let with_spans = Comparison::of(found, &derived.edges);
    let unshown: Vec<String> = theirs
        .edges
        .difference(&derived.edges)
        .map(|(caller, callee)| format!("{caller} -> {callee}: no span of {callee} has a parent in {caller}"))
        .collect();
    let only_unshown = with_theirs.unexpected.is_empty() && with_theirs.missing.len() == unshown.len();
    let met = with_spans.is_equal() && only_unshown && rejected == 0 && requests == derived.count(SpanKind::Server);
    json!({
        "objective": "every edge of dependency.csv that a span shows, no other, and every request counted once",
        "objective_met": met,
        "spans": rows.len(),
        "spans_rejected": rejected,
        "spans_by_derived_kind": {
            "server": derived.count(SpanKind::Server),
            "client": derived.count(SpanKind::Client),
            "internal": derived.count(SpanKind::Internal),
        },
        "requests_counted": requests,
        "edges_against_dependency_csv": with_theirs.report(),
        "edges_that_no_span_shows": unshown,
        "edges_against_parent_links": with_spans.report(),
        "lines_of_dependency_csv_not_compared": theirs.not_compared,
        "kinds_derived": "server: no parent, or a parent of another service; client: not server, and a child of another service; internal: the rest",
    })
}

/// Kinds of all spans, and the edges that links between parents and children show.
#[derive(Debug)]
struct Derived {
    kinds: Vec<SpanKind>,
    edges: Edges,
}

impl Derived {
    fn of(rows: &[Row]) -> Self {
        let places: HashMap<(&str, &str), usize> =
            rows.iter().enumerate().map(|(place, row)| ((row.trace.as_str(), row.span.as_str()), place)).collect();
        let parent = |row: &Row| places.get(&(row.trace.as_str(), row.parent.as_str())).copied();
        let mut kinds = vec![SpanKind::Internal; rows.len()];
        let mut edges = Edges::new();
        for (place, row) in rows.iter().enumerate() {
            let Some(parent) = parent(row) else {
                if row.parent == NO_PARENT {
                    kinds[place] = SpanKind::Server;
                }
                continue;
            };
            let (caller, callee) = (service(&rows[parent].pod), service(&row.pod));
            if caller != callee {
                edges.insert((caller.to_owned(), callee.to_owned()));
                kinds[place] = SpanKind::Server;
                if kinds[parent] != SpanKind::Server {
                    kinds[parent] = SpanKind::Client;
                }
            }
        }
        Self { kinds, edges }
    }

    fn count(&self, kind: SpanKind) -> u64 {
        self.kinds.iter().filter(|of| **of == kind).count() as u64
    }
}

impl Theirs {
    /// A target that is an address is the node that a pod runs on, and nobody traces the generator of the load.
    fn read(csv: &str) -> anyhow::Result<Self> {
        let mut theirs = Self::default();
        for record in csv::Reader::from_reader(csv.as_bytes()).records() {
            let record = record?;
            let (source, target) = (record.get(0).context("a source")?, record.get(1).context("a target")?);
            if target.parse::<std::net::IpAddr>().is_ok() {
                *theirs.not_compared.entry("node that a pod runs on").or_default() += 1;
            } else {
                theirs.edges.insert((source.to_owned(), target.to_owned()));
            }
        }
        ensure!(!theirs.edges.is_empty(), "dependency.csv names no calls");
        Ok(theirs)
    }
}

/// Sends all spans; how many were rejected.
async fn send(ingestion: &Ingestion, rows: &[Row], kinds: &[SpanKind]) -> anyhow::Result<u64> {
    let mut client = TraceServiceClient::new(Channel::from_shared(ingestion.otlp_address.clone())?.connect().await?);
    let progress = ProgressBar::new(rows.len() as u64).with_message("spans sent");
    let mut rejected = 0;
    for (rows, kinds) in rows.chunks(SPANS_PER_EXPORT).zip(kinds.chunks(SPANS_PER_EXPORT)) {
        let answer = client.export(export(rows, kinds)?).await?.into_inner();
        rejected += answer.partial_success.map_or(0, |partial| partial.rejected_spans.unsigned_abs());
        progress.inc(rows.len() as u64);
    }
    progress.finish_and_clear();
    Ok(rejected)
}

fn export(rows: &[Row], kinds: &[SpanKind]) -> anyhow::Result<ExportTraceServiceRequest> {
    let mut services: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for (row, kind) in rows.iter().zip(kinds) {
        services.entry(service(&row.pod)).or_default().push(span(row, *kind)?);
    }
    let of_service = |(name, spans): (&str, Vec<Span>)| {
        let value = Some(AnyValue { value: Some(Attribute::StringValue(name.to_owned())) });
        let attributes = vec![KeyValue { key: "service.name".into(), value, ..KeyValue::default() }];
        ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }
    };
    Ok(ExportTraceServiceRequest { resource_spans: services.into_iter().map(of_service).collect() })
}

fn span(row: &Row, kind: SpanKind) -> anyhow::Result<Span> {
    let parent_span_id = if row.parent == NO_PARENT { Vec::new() } else { bytes(&row.parent)? };
    Ok(Span {
        trace_id: bytes(&row.trace)?,
        span_id: bytes(&row.span)?,
        parent_span_id,
        name: row.operation.clone(),
        kind: kind.into(),
        start_time_unix_nano: row.start_ns,
        end_time_unix_nano: row.end_ns,
        ..Span::default()
    })
}

fn bytes(hex: &str) -> anyhow::Result<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    pairs.collect::<anyhow::Result<_>>().with_context(|| format!("`{hex}` is no id"))
}

/// Requests counted once all are there, or once nothing moves any more.
async fn settled_requests(client: &mut IngestionServiceClient<Channel>, expected: u64) -> anyhow::Result<u64> {
    let (mut newest, mut moved) = (0, Instant::now());
    while newest != expected && moved.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let callers = known_edges(client).await?;
        let mut service_ids: Vec<String> = callers.into_iter().flat_map(|(caller, callee)| [caller, callee]).collect();
        service_ids.sort();
        service_ids.dedup();
        if service_ids.is_empty() {
            continue;
        }
        let question = StreamSliHistoryRequest { service_ids, without_latency: true, ..Default::default() };
        let mut chunks = client.stream_sli_history(question).await?.into_inner();
        let mut requests = 0;
        while let Some(chunk) = chunks.message().await? {
            requests += chunk.buckets.unwrap_or_default().valid_counts.iter().sum::<u64>();
        }
        if requests != newest {
            (newest, moved) = (requests, Instant::now());
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(span: &str, parent: &str, pod: &str) -> Row {
        Row {
            trace: "0a".into(),
            span: span.into(),
            parent: parent.into(),
            pod: format!("{pod}-579b9bff58-t2dbm"),
            operation: "Recv.".into(),
            start_ns: 1,
            end_ns: 2,
        }
    }

    #[test]
    fn kinds_follow_from_whose_parent_a_span_is() {
        let rows = [
            row("01", "root", "front-end"),
            row("02", "01", "front-end"),
            row("03", "02", "cart"),
            row("04", "03", "cart"),
            row("05", "03", "price"),
            row("06", "99", "price"),
        ];
        let derived = Derived::of(&rows);
        use SpanKind::{Client, Internal, Server};
        assert_eq!(derived.kinds, [Server, Client, Server, Internal, Server, Internal]);
        let expected = [("front-end", "cart"), ("cart", "price")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(derived.edges, Edges::from(expected));
    }

    #[test]
    fn a_child_before_its_parent_tells_the_same() {
        let rows = [row("03", "02", "cart"), row("02", "01", "front"), row("01", "root", "front")];
        assert_eq!(Derived::of(&rows).kinds, [SpanKind::Server, SpanKind::Client, SpanKind::Server]);
    }

    #[test]
    fn nodes_are_no_services() {
        let theirs = Theirs::read("Source,Target,Weight\na,b,1\na,33.33.33.76,1\n").expect("two lines");
        assert_eq!(theirs.edges, Edges::from([("a".into(), "b".into())]));
        assert_eq!(theirs.not_compared["node that a pod runs on"], 1);
        assert!(Theirs::read("Source,Target,Weight\n").is_err());
    }

    #[test]
    fn an_edge_that_no_span_shows_is_named_and_not_held_against_the_graph() {
        let rows = [row("01", "root", "front"), row("02", "01", "cart")];
        let derived = Derived::of(&rows);
        let edges = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Edges>();
        let theirs = Theirs { edges: edges(&[("front", "cart"), ("cart", "rate")]), ..Theirs::default() };
        let judged = |found: &Edges| report(&rows, &derived, &theirs, found, 0, 2);
        let good = judged(&edges(&[("front", "cart")]));
        assert_eq!(good["objective_met"], true);
        assert_eq!(good["edges_against_dependency_csv"]["recall"], 0.5);
        assert_eq!(judged(&edges(&[("front", "cart"), ("front", "rate")]))["objective_met"], false);
        assert_eq!(judged(&Edges::new())["objective_met"], false);
    }
}
