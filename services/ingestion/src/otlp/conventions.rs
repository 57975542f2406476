//! What attributes of spans and data points mean, by OpenTelemetry's semantic conventions: the stable names and those that
//! came before them, as SDKs of either age still send both.
//!
//! Sources: OpenTelemetry semantic conventions 1.17 to 1.20 (old HTTP, network, database and messaging names), 1.21 and 1.22
//! (names on the way) and 1.36 (stable ones).

use std::net::IpAddr;

use attain_redaction::{fold_machine, is_pseudonym, redact_name, shown_address};
use attain_vocabulary::{EntityId, EntityKind};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::known::entity_name;

/// The value of an attribute, as far as conventions go; borrowed from where it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Text(&'a str),
    Whole(i64),
    Truth(bool),
    /// Of a type that tells nothing, or none.
    Other,
}

/// What the attributes of one span or one data point tell, borrowed from it.
#[derive(Debug, Default, Clone)]
pub(super) struct Facts<'a> {
    http_status: Option<i64>,
    http: bool,
    rpc_system: Option<&'a str>,
    rpc_status: Option<RpcStatus>,
    error_type: Option<&'a str>,
    error_flag: bool,
    peer_service: Option<&'a str>,
    server_address: Option<&'a str>,
    server_port: Option<i64>,
    socket_address: Option<&'a str>,
    socket_port: Option<i64>,
    url: Option<&'a str>,
    db_system: Option<&'a str>,
    db_namespace: Option<&'a str>,
    messaging_system: Option<&'a str>,
    messaging_destination: Option<&'a str>,
    messaging_template: Option<&'a str>,
    messaging_passing: bool,
    messaging_operation: Option<&'a str>,
    http_method: Option<&'a str>,
    template: Option<&'a str>,
    rpc_service: Option<&'a str>,
    rpc_method: Option<&'a str>,
    db_operation: Option<&'a str>,
    db_collection: Option<&'a str>,
    resent: bool,
}

/// What attributes tell of the name of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperationFacts<'a> {
    /// A route of a server or the template of a client's url.
    Http {
        method: Option<&'a str>,
        template: &'a str,
    },
    Rpc {
        service: Option<&'a str>,
        method: &'a str,
    },
    Database {
        operation: &'a str,
        collection: Option<&'a str>,
    },
    /// A database that says nothing but perhaps its statement.
    Statement,
    None,
}

/// Whom a call went to, as far as the caller's side tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PeerName {
    /// Not yet bent into an entity's name.
    pub(super) name: String,
    pub(super) kind: EntityKind,
}

impl PeerName {
    /// The name as it is kept; `None` where it has nothing that a name can have.
    pub(super) fn kept(&self) -> Option<EntityId> {
        let id = entity_name(&self.name)?;
        EntityId::new("peer", &fold_machine(id.as_str())).ok()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RpcStatus {
    Ok,
    /// The caller asked for what cannot be.
    CallersFault,
    /// The server failed: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, as the conventions
    /// tell a server's errors from a client's.
    ServersFault,
}

impl<'a> Facts<'a> {
    /// Reads attributes; of a key that stands twice the last stands.
    pub(super) fn read(attributes: &'a [KeyValue]) -> Self {
        let mut facts = Self::default();
        for attribute in attributes {
            if let Some(value) = &attribute.value {
                facts.note(&attribute.key, value.into());
            }
        }
        facts
    }

    /// Reads one attribute.
    pub(super) fn note(&mut self, key: &str, value: Scalar<'a>) {
        match key {
            "http.response.status_code" | "http.status_code" => self.http_status = value.whole(),
            "http.request.method" | "http.method" => {
                self.http = true;
                self.http_method = value.text();
            }
            "http.route" => {
                self.http = true;
                self.template = value.text();
            }
            "url.template" => self.template = self.template.or(value.text()),
            "http.request.resend_count" | "http.resend_count" | "http.retry_count" => {
                self.resent |= value.whole().is_some_and(|count| count > 0);
            }
            // gRPC counts attempts in this header of the second and later ones (gRPC proposal A6).
            "rpc.grpc.request.metadata.grpc-previous-rpc-attempts"
            | "rpc.request.metadata.grpc-previous-rpc-attempts" => self.resent = true,
            "rpc.service" => self.rpc_service = value.text(),
            "rpc.method" => self.rpc_method = value.text(),
            "db.operation.name" | "db.operation" => self.db_operation = value.text(),
            "db.collection.name" | "db.sql.table" | "db.mongodb.collection" => self.db_collection = value.text(),
            "messaging.operation.type" | "messaging.operation" => self.messaging_operation = value.text(),
            "rpc.system" | "rpc.system.name" => self.rpc_system = value.text(),
            "rpc.grpc.status_code" => self.rpc_status = value.whole().map(RpcStatus::from_number),
            "rpc.response.status_code" | "grpc.status" | "rpc.connect_rpc.error_code" => {
                self.rpc_status = RpcStatus::from_value(value);
            }
            "error.type" => self.error_type = value.text(),
            "error" => self.error_flag = value.truth(),
            "peer.service" | "service.peer.name" => self.peer_service = value.text(),
            "server.address" => self.server_address = value.text(),
            "net.peer.name" | "net.sock.peer.name" | "server.socket.domain" | "http.host" => {
                self.server_address = self.server_address.or(value.text());
            }
            "server.port" | "net.peer.port" => self.server_port = value.whole(),
            "network.peer.address" | "server.socket.address" | "net.sock.peer.addr" | "net.peer.ip" => {
                self.socket_address = value.text();
            }
            "network.peer.port" | "server.socket.port" | "net.sock.peer.port" => self.socket_port = value.whole(),
            "url.full" | "http.url" => self.url = value.text(),
            "db.system.name" | "db.system" => self.db_system = value.text(),
            "db.namespace" | "db.name" => self.db_namespace = value.text(),
            "messaging.system" => self.messaging_system = value.text(),
            "messaging.destination.name" | "messaging.destination" => self.messaging_destination = value.text(),
            "messaging.destination.template" => self.messaging_template = value.text(),
            "messaging.destination.temporary"
            | "messaging.destination.anonymous"
            | "messaging.temp_destination"
            | "messaging.source.temporary"
            | "messaging.source.anonymous" => self.messaging_passing |= value.truth(),
            // What a consumer called its destination for a while.
            "messaging.source.name" | "messaging.source" => {
                self.messaging_destination = self.messaging_destination.or(value.text());
            }
            "messaging.source.template" => self.messaging_template = self.messaging_template.or(value.text()),
            _ => {}
        }
    }

    /// Whether the operation failed in the sense of an SLI: the server's fault, not the caller's. A 4xx is an answer.
    pub(super) fn failed(&self, status_error: bool) -> bool {
        match (self.rpc_status, self.http_status) {
            (Some(RpcStatus::ServersFault), _) => true,
            (Some(RpcStatus::CallersFault), _) => false,
            (_, Some(code)) if code >= 500 => true,
            (_, Some(400..=499)) => false,
            _ => status_error || self.error_flag || self.error_type.is_some_and(names_failure),
        }
    }

    /// What was spoken, for example `http`, `grpc`, `sql`; `None` where nothing tells.
    pub(super) fn protocol(&self) -> Option<&'a str> {
        if let Some(system) = self.db_system {
            return Some(if SQL_SYSTEMS.contains(&system) { "sql" } else { system });
        }
        let spoken_http = || (self.http || self.http_status.is_some() || self.url.is_some()).then_some("http");
        self.messaging_system.or(self.rpc_system).or_else(spoken_http)
    }

    /// Whom a call went to; `None` where nothing tells.
    pub(super) fn peer(&self) -> Option<PeerName> {
        let (name, kind) = if let Some(system) = self.db_system {
            (self.database_name(system), database_kind(system))
        } else if let Some(system) = self.messaging_system {
            (self.queue_name(system), EntityKind::Queue)
        } else {
            (self.host()?, EntityKind::External)
        };
        // What people named stands before what was pieced together.
        let name = self.peer_service.map_or(name, str::to_owned);
        Some(PeerName { name, kind })
    }

    /// What tells the operation's name.
    pub(super) fn operation(&self) -> OperationFacts<'a> {
        if let Some(method) = self.rpc_method {
            return OperationFacts::Rpc { service: self.rpc_service, method };
        }
        if self.db_system.is_some() {
            return match self.db_operation {
                Some(operation) => OperationFacts::Database { operation, collection: self.db_collection },
                None => OperationFacts::Statement,
            };
        }
        match self.template {
            Some(template) => OperationFacts::Http { method: self.http_method, template },
            None => OperationFacts::None,
        }
    }

    /// The sender says that this repeats an earlier call.
    pub(super) fn resent(&self) -> bool {
        self.resent
    }

    /// Whether attributes tell of messages.
    pub(super) fn is_messaging(&self) -> bool {
        self.messaging_system.is_some()
    }

    /// Whether the operation hands a message on, so that whoever consumes it may link to it: `send` and `create`, or by
    /// their older name `publish`.
    pub(super) fn sends(&self) -> bool {
        matches!(self.messaging_operation, Some("send" | "create" | "publish"))
    }

    /// A database is one node by its name, whichever hosts serve it: a primary, its replicas and those that take over have
    /// different ones. A name that every server of the system has tells nothing, so there it is the host.
    fn database_name(&self, system: &str) -> String {
        let host = || self.address();
        let namespace = || self.db_namespace.map(str::to_owned);
        // The namespace of a cache is a small number that every cache has.
        let by_host = database_kind(system) == EntityKind::Cache || self.db_namespace.is_some_and(is_of_every_server);
        let part = if by_host { host().or_else(namespace) } else { namespace().or_else(host) };
        part.map_or_else(|| system.to_owned(), |part| format!("{system}/{part}"))
    }

    fn queue_name(&self, system: &str) -> String {
        let named = self.messaging_destination.filter(|_| !self.messaging_passing);
        match self.messaging_template.or(named) {
            Some(destination) => format!("{system}/{destination}"),
            None => system.to_owned(),
        }
    }

    fn host(&self) -> Option<String> {
        self.peer_service.map(str::to_owned).or_else(|| self.address())
    }

    /// The other side's host; with its port where the host alone is no name.
    fn address(&self) -> Option<String> {
        let of_url = self.url.and_then(authority);
        let ((host, port), said_port) = match (self.server_address, of_url, self.socket_address) {
            (Some(address), _, _) => (split_port(address), self.server_port),
            (None, Some(authority), _) => (split_port(authority), self.server_port),
            // The port of the same end of the connection.
            (None, None, Some(address)) => (split_port(address), self.socket_port.or(self.server_port)),
            (None, None, None) => return None,
        };
        let host = in_small_letters(host.trim_end_matches('.'));
        let port = said_port.or(port);
        let name = match (pseudonym(&host), host.parse::<IpAddr>()) {
            (Some(pseudonym), _) => pseudonym,
            (None, Ok(IpAddr::V6(_))) => format!("ipv6/{host}"),
            (None, Ok(IpAddr::V4(_))) => host,
            (None, Err(_)) if host == "localhost" => host,
            (None, Err(_)) => return (!host.is_empty()).then_some(host),
        };
        Some(port.map_or_else(|| name.clone(), |port| format!("{name}:{port}")))
    }
}

/// A host in small letters, as hosts are compared. In them a key would not be known for one any more, so it goes first.
pub(super) fn in_small_letters(host: &str) -> String {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) && host.parse::<IpAddr>().is_err() {
        redact_name(host).to_ascii_lowercase()
    } else {
        host.to_ascii_lowercase()
    }
}

/// What stands for a host that is an address, where addresses are kept out of names. Here, while the port stands apart: behind
/// an IPv6 address it would be taken for a part of it.
pub(super) fn pseudonym(host: &str) -> Option<String> {
    let address = host.parse().ok()?;
    Some(shown_address(address)).filter(|shown| is_pseudonym(shown))
}

impl RpcStatus {
    fn from_number(code: i64) -> Self {
        match code {
            0 => Self::Ok,
            2 | 4 | 12..=15 => Self::ServersFault,
            _ => Self::CallersFault,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "OK" => Self::Ok,
            "UNKNOWN" | "DEADLINE_EXCEEDED" | "UNIMPLEMENTED" | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS" => {
                Self::ServersFault
            }
            "CANCELLED"
            | "CANCELED"
            | "INVALID_ARGUMENT"
            | "NOT_FOUND"
            | "ALREADY_EXISTS"
            | "PERMISSION_DENIED"
            | "RESOURCE_EXHAUSTED"
            | "FAILED_PRECONDITION"
            | "ABORTED"
            | "OUT_OF_RANGE"
            | "UNAUTHENTICATED" => Self::CallersFault,
            _ => return None,
        })
    }

    fn from_value(value: Scalar<'_>) -> Option<Self> {
        value.whole().map(Self::from_number).or_else(|| value.text().and_then(Self::from_name))
    }
}

/// Whether an `error.type` names a failure of the server; it may be an exception's class, an HTTP or a gRPC status.
fn names_failure(error_type: &str) -> bool {
    if error_type.is_empty() {
        return false;
    }
    if let Ok(code) = error_type.parse::<i64>() {
        return !(400..=499).contains(&code);
    }
    RpcStatus::from_name(error_type).is_none_or(|status| status == RpcStatus::ServersFault)
}

const SQL_SYSTEMS: &[&str] = &[
    "postgresql",
    "mysql",
    "mariadb",
    "mssql",
    "microsoft.sql_server",
    "oracle",
    "oracle.db",
    "sqlite",
    "db2",
    "ibm.db2",
    "cockroachdb",
    "other_sql",
    "h2",
    "h2database",
    "hsqldb",
    "derby",
    "trino",
    "redshift",
    "aws.redshift",
    "snowflake",
    "clickhouse",
    "gcp.spanner",
    "spanner",
    "teradata",
    "vertica",
    "firebirdsql",
    "sybase",
    "actian.ingres",
];

fn database_kind(system: &str) -> EntityKind {
    match system {
        "redis" | "valkey" | "memcached" | "hazelcast" | "ehcache" => EntityKind::Cache,
        _ => EntityKind::Datastore,
    }
}

/// Whether every server of some system has a database of this name, as its default or for itself; of a database and its
/// schema, as PostgreSQL's are named, the database counts.
fn is_of_every_server(namespace: &str) -> bool {
    let database = namespace.split(['|', '.']).next().unwrap_or(namespace);
    const NAMES: &[&str] =
        &["postgres", "public", "mysql", "information_schema", "sys", "master", "admin", "local", "test", "default"];
    NAMES.iter().any(|name| name.eq_ignore_ascii_case(database))
}

/// Host and port of a url, without credentials.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (!host.is_empty()).then_some(host)
}

pub(super) fn split_port(address: &str) -> (&str, Option<i64>) {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, after.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match address.rsplit_once(':') {
        // More than one colon: an IPv6 address without a port.
        Some((host, port)) if !host.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (address, None),
        },
        _ => (address, None),
    }
}

impl<'a> From<&'a AnyValue> for Scalar<'a> {
    fn from(value: &'a AnyValue) -> Self {
        match &value.value {
            Some(Value::StringValue(text)) => Self::Text(text),
            Some(Value::IntValue(number)) => Self::Whole(*number),
            Some(Value::BoolValue(truth)) => Self::Truth(*truth),
            _ => Self::Other,
        }
    }
}

impl<'a> Scalar<'a> {
    /// A text that is not empty.
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn whole(self) -> Option<i64> {
        match self {
            Self::Whole(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
            Self::Truth(_) | Self::Other => None,
        }
    }

    fn truth(self) -> bool {
        match self {
            Self::Truth(truth) => truth,
            Self::Text(text) => text.eq_ignore_ascii_case("true"),
            Self::Whole(_) | Self::Other => false,
        }
    }
}

/// A text that is not empty.
pub(super) fn text(value: &AnyValue) -> Option<&str> {
    Scalar::from(value).text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(key: &str, written: &str) -> KeyValue {
        let value = match (written, written.parse::<i64>()) {
            ("true", _) => Value::BoolValue(true),
            (_, Ok(number)) if !written.starts_with('"') => Value::IntValue(number),
            _ => Value::StringValue(written.trim_matches('"').to_owned()),
        };
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn attributes(written: &str) -> Vec<KeyValue> {
        written
            .split_whitespace()
            .map(|pair| pair.split_once('=').expect("key=value"))
            .map(|(key, value)| attribute(key, value))
            .collect()
    }

    #[test]
    fn a_failure_is_the_servers_fault() {
        for (written, status_error, failed) in [
            ("", false, false),
            ("", true, true),
            ("http.response.status_code=200", false, false),
            ("http.response.status_code=200", true, true),
            ("http.response.status_code=503", false, true),
            ("http.status_code=500", false, true),
            ("http.status_code=\"502\"", false, true),
            ("http.response.status_code=404", true, false),
            ("http.status_code=429 error.type=\"429\"", true, false),
            ("http.status_code=0", true, true),
            ("error.type=java.net.SocketTimeoutException", false, true),
            ("error.type=\"404\"", false, false),
            ("error.type=\"503\"", false, true),
            ("error.type=UNAVAILABLE", false, true),
            ("error.type=NOT_FOUND", false, false),
            ("rpc.grpc.status_code=0", false, false),
            ("rpc.grpc.status_code=13", false, true),
            ("rpc.grpc.status_code=14 http.status_code=200", false, true),
            ("rpc.grpc.status_code=5", true, false),
            ("rpc.grpc.status_code=8", true, false),
            ("rpc.response.status_code=DEADLINE_EXCEEDED", true, true),
            ("rpc.response.status_code=INVALID_ARGUMENT", true, false),
            ("rpc.response.status_code=OK", false, false),
            ("rpc.response.status_code=\"14\"", true, true),
            ("rpc.connect_rpc.error_code=unavailable", false, true),
            ("grpc.status=UNIMPLEMENTED", false, true),
            ("db.system=postgresql db.response.status_code=40001", true, true),
            ("error=true", false, true),
        ] {
            let attributes = attributes(written);
            assert_eq!(
                Facts::read(&attributes).failed(status_error),
                failed,
                "{written} with status error {status_error}"
            );
        }
    }

    #[test]
    fn the_other_side_has_a_name_and_a_kind() {
        use EntityKind::{Cache, Datastore, External, Queue};
        for (written, expected) in [
            ("http.request.method=GET", None),
            ("server.address=api.example.com server.port=443", Some(("api.example.com", External))),
            ("server.address=API.Example.com.", Some(("api.example.com", External))),
            ("net.peer.name=pay.example.com net.peer.port=443", Some(("pay.example.com", External))),
            ("http.url=https://user:secret@pay.example.com:8443/charge?card=1", Some(("pay.example.com", External))),
            ("url.full=http://10.0.0.7/x", Some(("10.0.0.7", External))),
            ("server.address=127.0.0.1 server.port=9000", Some(("127.0.0.1:9000", External))),
            ("server.address=localhost server.port=9000", Some(("localhost:9000", External))),
            ("server.address=::1 server.port=9000", Some(("ipv6/::1:9000", External))),
            ("network.peer.address=192.0.2.4 server.port=80", Some(("192.0.2.4:80", External))),
            (
                "network.peer.address=192.0.2.4 network.peer.port=8080 server.port=80",
                Some(("192.0.2.4:8080", External)),
            ),
            ("net.sock.peer.addr=192.0.2.4 net.sock.peer.port=8080", Some(("192.0.2.4:8080", External))),
            ("server.socket.address=192.0.2.4 server.socket.port=8080", Some(("192.0.2.4:8080", External))),
            (
                "server.socket.domain=pay.example.com server.socket.address=192.0.2.4",
                Some(("pay.example.com", External)),
            ),
            ("server.address=127.0.0.1 server.port=9000 network.peer.port=1", Some(("127.0.0.1:9000", External))),
            (
                "server.address=pay.example.com server.socket.domain=lb-7.example.com",
                Some(("pay.example.com", External)),
            ),
            ("http.host=shop.example.com:8080", Some(("shop.example.com", External))),
            ("peer.service=ledger server.address=10.0.0.9", Some(("ledger", External))),
            ("db.system=postgresql db.name=users net.peer.name=db-1", Some(("postgresql/users", Datastore))),
            ("db.system.name=postgresql db.namespace=users", Some(("postgresql/users", Datastore))),
            ("db.system=mysql server.address=db-1", Some(("mysql/db-1", Datastore))),
            ("db.system=sqlite", Some(("sqlite", Datastore))),
            ("db.system=postgresql db.name=users server.address=db-2", Some(("postgresql/users", Datastore))),
            ("db.system=postgresql db.name=postgres server.address=db-1", Some(("postgresql/db-1", Datastore))),
            ("db.system.name=postgresql db.namespace=postgres|public", Some(("postgresql/postgres|public", Datastore))),
            (
                "db.system.name=postgresql db.namespace=users|public server.address=db-1",
                Some(("postgresql/users|public", Datastore)),
            ),
            ("db.system=mssql db.name=Master server.address=db-1", Some(("mssql/db-1", Datastore))),
            ("db.system=redis db.name=\"0\" net.peer.name=cache-1", Some(("redis/cache-1", Cache))),
            ("db.system=postgresql db.name=users peer.service=user-db", Some(("user-db", Datastore))),
            ("messaging.system=kafka messaging.destination.name=orders", Some(("kafka/orders", Queue))),
            ("messaging.system=rabbitmq messaging.destination=orders", Some(("rabbitmq/orders", Queue))),
            ("messaging.system=kafka messaging.source.name=orders", Some(("kafka/orders", Queue))),
            (
                "messaging.system=kafka messaging.source=orders messaging.destination=audit",
                Some(("kafka/audit", Queue)),
            ),
            ("messaging.system=jms messaging.source.name=tmp-1 messaging.source.temporary=true", Some(("jms", Queue))),
            (
                "messaging.system=nats messaging.source.name=c.17 messaging.source.template=c.{id}",
                Some(("nats/c.{id}", Queue)),
            ),
            (
                "messaging.system=jms messaging.destination.name=tmp-1 messaging.destination.temporary=true",
                Some(("jms", Queue)),
            ),
            (
                "messaging.system=nats messaging.destination.name=c.17 messaging.destination.template=c.{id}",
                Some(("nats/c.{id}", Queue)),
            ),
        ] {
            let attributes = attributes(written);
            let peer = Facts::read(&attributes).peer();
            assert_eq!(peer.as_ref().map(|peer| (peer.name.as_str(), peer.kind)), expected, "{written}");
        }
    }

    #[test]
    fn what_was_spoken() {
        for (written, expected) in [
            ("http.method=GET", Some("http")),
            ("http.request.method=GET", Some("http")),
            ("rpc.system=grpc http.status_code=200", Some("grpc")),
            ("db.system=postgresql", Some("sql")),
            ("db.system.name=mongodb", Some("mongodb")),
            ("messaging.system=kafka", Some("kafka")),
            ("", None),
        ] {
            assert_eq!(Facts::read(&attributes(written)).protocol(), expected, "{written}");
        }
    }

    #[test]
    fn old_and_new_names_together_agree() {
        let attributes = attributes("net.peer.name=old.example.com server.address=new.example.com");
        assert_eq!(Facts::read(&attributes).peer().map(|peer| peer.name), Some("new.example.com".into()));
    }
}
