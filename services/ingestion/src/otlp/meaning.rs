//! Which metrics tell of requests and calls, and what the attributes of their points say of who called whom.
//!
//! Sources: OpenTelemetry semantic conventions for HTTP, RPC, database and messaging metrics, stable and old; gRPC proposal
//! A66; the metrics of the Collector's service graph connector and of Grafana Tempo.

use attain_vocabulary::{EntityId, EntityKind, Source};
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::conventions::{Facts, PeerName, in_small_letters, pseudonym, split_port, text};
use super::known::entity_name;
use crate::domain::Region;

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Requests that the resource's service answered, messages that it processed.
    Requests,
    /// Calls that the resource's service made.
    Calls(Via),
    /// Calls of anybody, counted from traces by a collector or a backend.
    Graph(Part),
}

/// By what a service calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Http,
    Rpc,
    Database,
    Messaging,
}

/// What a point tells of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Calls, and where the metric is a histogram how long they took.
    Calls,
    /// Failed calls, counted among the calls elsewhere.
    Failures,
    /// How long calls took that are counted elsewhere.
    Latency,
}

/// One thing that is counted, under the names that it has and had, each with its unit where the metric does not say it,
/// in milliseconds.
type Line = (Meaning, &'static [(&'static str, f64)]);

const SECONDS: f64 = 1_000.0;
const MILLISECONDS: f64 = 1.0;
/// For counters.
const NO_UNIT: f64 = 1.0;

/// Of each line only one name that a resource reports is read (`chosen`): SDKs in transition send both the old and the new
/// name of the same thing.
const METRICS: &[Line] = &[
    (
        Meaning::Requests,
        &[
            ("http.server.request.duration", SECONDS),
            ("http.server.duration", MILLISECONDS),
            ("http.server.request.count", NO_UNIT),
        ],
    ),
    (
        Meaning::Requests,
        &[
            ("rpc.server.call.duration", SECONDS),
            ("rpc.server.duration", MILLISECONDS),
            ("grpc.server.call.duration", SECONDS),
            ("rpc.server.call.count", NO_UNIT),
        ],
    ),
    (Meaning::Requests, &[("messaging.process.duration", SECONDS)]),
    (Meaning::Calls(Via::Http), &[("http.client.request.duration", SECONDS), ("http.client.duration", MILLISECONDS)]),
    (
        Meaning::Calls(Via::Rpc),
        &[
            ("rpc.client.call.duration", SECONDS),
            ("rpc.client.duration", MILLISECONDS),
            ("grpc.client.call.duration", SECONDS),
        ],
    ),
    (Meaning::Calls(Via::Database), &[("db.client.operation.duration", SECONDS)]),
    (
        Meaning::Calls(Via::Messaging),
        &[
            ("messaging.client.operation.duration", SECONDS),
            ("messaging.publish.duration", SECONDS),
            ("messaging.client.sent.messages", NO_UNIT),
            ("messaging.client.published.messages", NO_UNIT),
        ],
    ),
    (Meaning::Graph(Part::Calls), &[("traces_service_graph_request_total", NO_UNIT)]),
    (Meaning::Graph(Part::Failures), &[("traces_service_graph_request_failed_total", NO_UNIT)]),
    (
        Meaning::Graph(Part::Latency),
        &[
            ("traces_service_graph_request_client_seconds", SECONDS),
            ("traces_service_graph_request_client", SECONDS),
            ("traces_service_graph_request_server_seconds", SECONDS),
            ("traces_service_graph_request_server", SECONDS),
            ("traces_service_graph_request_duration_seconds", SECONDS),
        ],
    ),
];

/// A metric that is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ReadMetric {
    pub(super) name: &'static str,
    /// What is counted: the same for all names that it has and had.
    pub(super) line: usize,
    /// Among these names its place; of several in one export the first is read.
    pub(super) rank: usize,
    pub(super) meaning: Meaning,
    /// The unit where the metric does not say it.
    pub(super) unit_ms: f64,
}

/// A metric by its name; `None` for one that says nothing about requests.
pub(super) fn metric_to_read(name: &str) -> Option<ReadMetric> {
    METRICS.iter().enumerate().find_map(|(line, (meaning, names))| {
        let rank = names.iter().position(|(known, _)| *known == name)?;
        let (name, unit_ms) = names[rank];
        Some(ReadMetric { name, line, rank, meaning: *meaning, unit_ms })
    })
}

/// What a point tells.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// Requests to a service.
    Requests {
        service: EntityId,
        /// Where they were answered; `None` where that is not told.
        region: Option<Region>,
        /// Whether the requests that it counts failed.
        failed: bool,
    },
    /// Calls along an edge.
    Edge(Box<EdgeTold>),
}

/// What a point tells of an edge.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EdgeTold {
    pub(super) source: Source,
    pub(super) caller: EntityId,
    pub(super) callee: EntityId,
    pub(super) callee_kind: Option<EntityKind>,
    /// Whether the callee is known by its host only, at which a service may be known to answer.
    pub(super) by_host: bool,
    pub(super) protocol: Option<String>,
    pub(super) asynchronous: Option<bool>,
    pub(super) part: Part,
    /// Whether the calls that it counts failed.
    pub(super) failed: bool,
    /// Whether its callers are the only ones who measure the callee.
    pub(super) measures_callee: bool,
}

impl Meaning {
    /// What a point of a resource's service tells; `None` where it does not tell who was called.
    pub(super) fn of_point(
        self,
        (service, region): (&EntityId, Option<&Region>),
        attributes: &[KeyValue],
    ) -> Option<Told> {
        let facts = Facts::read(attributes);
        match self {
            Self::Requests => {
                Some(Told::Requests { service: service.clone(), region: region.cloned(), failed: facts.failed(false) })
            }
            Self::Calls(via) => called(via, service, &facts, attributes).map(|edge| Told::Edge(Box::new(edge))),
            Self::Graph(part) => graphed(part, attributes).map(|edge| Told::Edge(Box::new(edge))),
        }
    }
}

fn called(via: Via, caller: &EntityId, facts: &Facts<'_>, attributes: &[KeyValue]) -> Option<EdgeTold> {
    if via == Via::Messaging && !sends(attributes) {
        return None;
    }
    let peer = facts.peer().or_else(|| grpc_target(attributes))?;
    // Only what the conventions name so is a database or a queue here.
    let expected = match via {
        Via::Http | Via::Rpc => peer.kind == EntityKind::External,
        Via::Database => matches!(peer.kind, EntityKind::Datastore | EntityKind::Cache),
        Via::Messaging => peer.kind == EntityKind::Queue,
    };
    let spoken = match via {
        Via::Http => "http",
        Via::Rpc => "grpc",
        Via::Database | Via::Messaging => "",
    };
    let protocol = facts.protocol().unwrap_or(spoken);
    expected.then_some(())?;
    Some(EdgeTold {
        source: Source::OtlpMetrics,
        caller: caller.clone(),
        callee: peer.kept()?,
        callee_kind: Some(peer.kind),
        by_host: peer.kind == EntityKind::External,
        protocol: entity_name(protocol).map(String::from),
        asynchronous: Some(via == Via::Messaging),
        part: Part::Calls,
        failed: facts.failed(false),
        // A datastore has no server metrics of its own under this name; a host may be a service that has.
        measures_callee: via == Via::Database,
    })
}

/// Whether a messaging operation hands messages over; receiving and settling ask the broker for what others sent.
fn sends(attributes: &[KeyValue]) -> bool {
    let said = |key: &str| attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref().and_then(text);
    let operation = said("messaging.operation.type")
        .or_else(|| said("messaging.operation"))
        .or_else(|| said("messaging.operation.name"));
    operation.is_none_or(|operation| matches!(operation, "send" | "publish" | "create"))
}

/// The host that a gRPC client was told to call, for example `dns:///cart.shop:8080`.
fn grpc_target(attributes: &[KeyValue]) -> Option<PeerName> {
    let target = attributes.iter().find(|attribute| attribute.key == "grpc.target")?.value.as_ref().and_then(text)?;
    let endpoint = target.rsplit('/').next()?;
    let endpoint =
        ["dns:", "ipv4:", "xds:"].iter().find_map(|scheme| endpoint.strip_prefix(scheme)).unwrap_or(endpoint);
    if endpoint.is_empty() || target.starts_with("unix") {
        return None;
    }
    let (host, port) = split_port(endpoint);
    let host = in_small_letters(host);
    // An address, or this machine, is no name without its port.
    let is_name = host != "localhost" && host.parse::<std::net::IpAddr>().is_err();
    let host = pseudonym(&host).unwrap_or(host);
    let name = match port.filter(|_| !is_name) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    Some(PeerName { name, kind: EntityKind::External })
}

/// An edge of a service graph. One whose client is virtual is no edge: nobody who is known called.
fn graphed(part: Part, attributes: &[KeyValue]) -> Option<EdgeTold> {
    let said = |key: &str| attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref().and_then(text);
    let (client, server) = (said("client")?, said("server")?);
    let connection = said("connection_type").unwrap_or_default();
    let machine = |name: &str| PeerName { name: name.to_owned(), kind: EntityKind::External }.kept();
    let is_virtual = connection == "virtual_node";
    let virtual_client = said("virtual_node") == Some("client") || client == "user" || client == "unknown";
    if is_virtual && (virtual_client || server == "unknown") {
        return None;
    }
    let callee_kind = match connection {
        "database" => Some(EntityKind::Datastore),
        "virtual_node" => Some(EntityKind::External),
        _ => None,
    };
    Some(EdgeTold {
        source: Source::ServiceGraph,
        caller: entity_name(client)?,
        callee: if is_virtual { machine(server)? } else { entity_name(server)? },
        callee_kind,
        by_host: is_virtual,
        protocol: None,
        asynchronous: (connection == "messaging_system").then_some(true),
        part,
        failed: false,
        measures_callee: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    fn attributes(written: &str) -> Vec<KeyValue> {
        let attribute = |pair: &str| {
            let (key, value) = pair.split_once('=').expect("key=value");
            let value = match value.parse() {
                Ok(number) => Value::IntValue(number),
                Err(_) => Value::StringValue(value.to_owned()),
            };
            KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
        };
        written.split_whitespace().map(attribute).collect()
    }

    fn told(meaning: Meaning, written: &str) -> Option<Told> {
        meaning.of_point((&EntityId::new("service", "shop").expect("valid"), None), &attributes(written))
    }

    #[test]
    fn calls_name_whom_they_went_to() {
        for (via, written, expected) in [
            (
                Via::Http,
                "http.request.method=GET server.address=cart server.port=80",
                Some("cart External http sync ok"),
            ),
            (
                Via::Http,
                "http.request.method=GET server.address=cart http.response.status_code=503",
                Some("cart External http sync failed"),
            ),
            (
                Via::Http,
                "http.request.method=GET server.address=cart error.type=timeout",
                Some("cart External http sync failed"),
            ),
            (
                Via::Http,
                "http.request.method=GET server.address=cart-7d9f8b6c5-x2x4z",
                Some("cart External http sync ok"),
            ),
            (Via::Http, "http.request.method=GET", None),
            (
                Via::Rpc,
                "rpc.system=grpc server.address=prices rpc.grpc.status_code=5",
                Some("prices External grpc sync ok"),
            ),
            (
                Via::Rpc,
                "grpc.method=p.P/Get grpc.target=dns:///prices.shop:8080 grpc.status=UNAVAILABLE",
                Some("prices.shop External grpc sync failed"),
            ),
            (
                Via::Rpc,
                "grpc.method=p.P/Get grpc.target=ipv4:10.0.0.7:8080",
                Some("10.0.0.7:8080 External grpc sync ok"),
            ),
            (Via::Rpc, "grpc.method=p.P/Get grpc.target=unix:/run/x.sock", None),
            (
                Via::Database,
                "db.system.name=postgresql db.namespace=users server.address=db-1",
                Some("postgresql/users Datastore sql sync ok measured"),
            ),
            (
                Via::Database,
                "db.system.name=redis server.address=cache-1 error.type=timeout",
                Some("redis/cache-1 Cache redis sync failed measured"),
            ),
            (Via::Database, "server.address=db-1", None),
            (
                Via::Messaging,
                "messaging.system=kafka messaging.destination.name=orders messaging.operation.type=send",
                Some("kafka/orders Queue kafka async ok"),
            ),
            (
                Via::Messaging,
                "messaging.system=kafka messaging.destination.name=orders messaging.operation.type=receive",
                None,
            ),
        ] {
            let edge = match told(Meaning::Calls(via), written) {
                Some(Told::Edge(edge)) => Some(edge),
                None => None,
                Some(Told::Requests { .. }) => panic!("{written}"),
            };
            let spoken = edge.map(|edge| {
                assert_eq!((edge.caller.as_str(), edge.source), ("shop", Source::OtlpMetrics));
                let mut words = vec![edge.callee.to_string(), format!("{:?}", edge.callee_kind.expect("a kind"))];
                words.extend(edge.protocol);
                words.push(if edge.asynchronous == Some(true) { "async" } else { "sync" }.into());
                words.push(if edge.failed { "failed" } else { "ok" }.into());
                words.extend(edge.measures_callee.then(|| "measured".to_owned()));
                words.join(" ")
            });
            assert_eq!(spoken.as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn service_graphs_name_both_ends() {
        for (written, expected) in [
            ("client=shop server=cart connection_type=", Some(("shop", "cart", None, None))),
            ("client=shop server=cart", Some(("shop", "cart", None, None))),
            (
                "client=cart server=prices connection_type=database",
                Some(("cart", "prices", Some(EntityKind::Datastore), None)),
            ),
            ("client=shop server=mail connection_type=messaging_system", Some(("shop", "mail", None, Some(true)))),
            (
                "client=shop server=pay.example.com connection_type=virtual_node virtual_node=server",
                Some(("shop", "pay.example.com", Some(EntityKind::External), None)),
            ),
            ("client=user server=shop connection_type=virtual_node", None),
            ("client=browser server=shop connection_type=virtual_node virtual_node=client", None),
            ("client=shop server=unknown connection_type=virtual_node", None),
            ("client=shop", None),
        ] {
            let edge = match told(Meaning::Graph(Part::Calls), written) {
                Some(Told::Edge(edge)) => Some(*edge),
                _ => None,
            };
            let said = edge.as_ref().map(|edge| {
                assert_eq!(edge.source, Source::ServiceGraph);
                (edge.caller.as_str(), edge.callee.as_str(), edge.callee_kind, edge.asynchronous)
            });
            assert_eq!(said, expected, "{written}");
        }
    }

    #[test]
    fn old_and_new_names_are_of_one_line_the_present_one_first() {
        let place = |name: &str| metric_to_read(name).map(|metric| (metric.line, metric.rank));
        let of_line = |names: &[&str]| {
            let places: Vec<(usize, usize)> = names.iter().map(|name| place(name).expect("read")).collect();
            assert!(places.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1), "{names:?}");
        };
        of_line(&["http.server.request.duration", "http.server.duration"]);
        of_line(&["traces_service_graph_request_client_seconds", "traces_service_graph_request_server_seconds"]);
        assert_ne!(place("traces_service_graph_request_total"), place("traces_service_graph_request_failed_total"));
        assert_eq!(place("process.cpu.time"), None);
    }
}
