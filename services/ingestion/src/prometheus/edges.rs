//! Calls from one service to another as edges of the dependency graph. Pure.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BUCKET_MS, EntityId, EntityKind, LatencyHistogram, Source, UnixMillis};

use super::answer::RangeSeries;
use super::counting::{Tally, rounded, sums};
use super::histogram::latencies;
use super::mapping::EdgeQueries;
use super::marks::{Identities, Marks, mark_key};
use crate::domain::{DependencyKey, ObservedEdge, ObservedEntity, Sightings};
use crate::storage::CounterStates;

/// What backends call whoever calls from outside.
const OUTSIDE_CLIENT: &str = "user";

/// How a service graph labels what lies between two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Connection {
    /// Two services, or not said.
    Direct,
    Messaging,
    Database,
    /// One of the ends sends no traces of its own.
    Virtual,
}

type Key = (EntityId, EntityId, Connection);

/// Calls as one source counted them.
#[derive(Debug, PartialEq)]
pub(super) struct Calls {
    source: Source,
    /// Of each five minutes, by their end.
    edges: BTreeMap<Key, BTreeMap<UnixMillis, Sightings>>,
}

/// Edges, what is known of their ends, and up to when each was counted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) edges: Vec<ObservedEdge>,
    pub(super) entities: Vec<ObservedEntity>,
    pub(super) marks: BTreeMap<String, Option<Vec<u8>>>,
}

/// Calls of what a mapping's queries gave, in the order of [`super::mapping::Reading::queries`]. Edges without a call are
/// none.
pub(super) fn calls(queries: &EdgeQueries, mut answers: Vec<Vec<RangeSeries>>, tally: &mut Tally) -> Calls {
    let mut answer = || if answers.is_empty() { Vec::new() } else { answers.remove(0) };
    let key = |series: &RangeSeries| ends(queries, series);
    let (calls, unnamed_calls) = sums(&answer(), key);
    let (failures, unnamed_failures) = sums(&answer(), key);
    let unit_ms = queries.latency.as_ref().map_or(1.0, |latency| latency.unit_ms);
    let (mut latency, unnamed_latency) = latencies(answer(), unit_ms, key);
    tally.add("series_unnamed", unnamed_calls + unnamed_failures + unnamed_latency);

    let mut seen = Calls { source: queries.source, edges: BTreeMap::new() };
    for (at, calls) in calls {
        let failed = failures.get(&at).copied().unwrap_or(0.0);
        let (Some(call_count), Some(failure_count)) = (rounded(calls), rounded(failed)) else {
            tally.add("not_a_number", 1);
            continue;
        };
        if call_count == 0 {
            continue;
        }
        tally.add("bad_clamped", usize::from(failure_count > call_count));
        let latency = latency.remove(&at).and_then(|latency| {
            let histogram = latency.histogram(call_count);
            tally.add("latency_malformed", usize::from(histogram.is_none()));
            histogram.filter(|histogram: &LatencyHistogram| histogram.count() > 0)
        });
        let (key, end_ms) = at;
        let sightings = Sightings {
            first_seen_ms: Some(end_ms - BUCKET_MS),
            last_seen_ms: Some(end_ms),
            call_count,
            failure_count: Some(failure_count.min(call_count)),
            latency,
            ..Sightings::default()
        };
        seen.edges.entry(key).or_default().insert(end_ms, sightings);
    }
    seen
}

impl Calls {
    /// Where the marks of these edges are kept.
    pub(super) fn mark_keys(&self) -> Vec<String> {
        let keys: BTreeSet<String> = self.edges.keys().filter_map(edge).map(|edge| mark_key(&edge)).collect();
        keys.into_iter().collect()
    }
}

/// The edges of calls that were not counted yet, by the marks in `states`, and the marks after them.
pub(super) fn uncounted(calls: Calls, states: &CounterStates, identities: &Identities, tally: &mut Tally) -> Seen {
    let mut seen = Seen::default();
    let mut kinds: BTreeSet<(EntityId, EntityKind)> = BTreeSet::new();
    let mut newest: BTreeMap<DependencyKey, UnixMillis> = BTreeMap::new();
    let source = calls.source;
    for (ends, calls) in calls.edges {
        let Some(key) = edge(&ends) else {
            tally.add("edges_to_self", 1);
            continue;
        };
        let (_, server, connection) = ends;
        kinds.extend(connection.kind().map(|kind| (server, kind)));
        let counted_to = Marks::stored(states, &key).counted_to(identities);
        let is_new = |end_ms: &UnixMillis| counted_to.is_none_or(|counted_to| *end_ms > counted_to);
        let (new, known): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(end_ms, _)| is_new(end_ms));
        tally.add("edges_counted_before", known.len());
        let Some((newest_ms, _)) = new.last() else { continue };
        let mark = newest.entry(key.clone()).or_insert(*newest_ms);
        *mark = (*mark).max(*newest_ms);
        seen.edges.push(observed((key, source), connection, new.into_iter().map(|(_, sightings)| sightings)));
    }
    for (key, end_ms) in newest {
        let marks = Marks::stored(states, &key).after(end_ms, identities);
        seen.marks.insert(mark_key(&key), Some(marks.encoded()));
    }
    let entity = |(id, kind)| ObservedEntity { id, kind: Some(kind), source, request_count: 0 };
    seen.entities = kinds.into_iter().map(entity).collect();
    tally.add("edges", seen.edges.len());
    seen
}

impl Connection {
    /// What a callee is, where that tells.
    fn kind(self) -> Option<EntityKind> {
        match self {
            Self::Database => Some(EntityKind::Datastore),
            Self::Virtual => Some(EntityKind::External),
            Self::Direct | Self::Messaging => None,
        }
    }
}

fn edge((client, server, _): &Key) -> Option<DependencyKey> {
    DependencyKey::new(client.clone(), server.clone()).ok()
}

fn observed(
    (key, source): (DependencyKey, Source),
    connection: Connection,
    each: impl Iterator<Item = Sightings>,
) -> ObservedEdge {
    let mut sightings = Sightings::default();
    each.for_each(|more| sightings.add(&more));
    let (asynchronous, protocol) = match connection {
        Connection::Direct | Connection::Virtual => (None, None),
        Connection::Messaging => (Some(true), Some("messaging".to_owned())),
        // Which protocol the database speaks nobody says: Redis and MongoDB are databases too.
        Connection::Database => (Some(false), None),
    };
    ObservedEdge { key, source, asynchronous, protocol, sightings }
}

/// Caller, callee and what lies between them; `None` where one of the ends has no name.
fn ends(queries: &EdgeQueries, series: &RangeSeries) -> Option<Key> {
    let label = queries.connection_type.as_ref().and_then(|label| series.labels.get(label));
    let connection = match label.map(String::as_str) {
        Some("messaging_system") => Connection::Messaging,
        Some("database") => Connection::Database,
        Some("virtual_node") => Connection::Virtual,
        _ => Connection::Direct,
    };
    let client = queries.client.service(series)?;
    // A service may be called so too, but then it sends traces.
    if connection == Connection::Virtual && client.as_str() == OUTSIDE_CLIENT {
        return None;
    }
    Some((client, queries.server.service(series)?, connection))
}

#[cfg(test)]
mod tests {
    use super::super::mapping::{LatencyQuery, Naming};
    use super::*;

    const T: i64 = 1_793_000_100_000;

    fn queries() -> EdgeQueries {
        let label = |label: &str| Naming::Label { labels: vec![label.into()], strip_namespace: false };
        EdgeQueries {
            client: label("client"),
            server: label("server"),
            connection_type: Some("connection_type".into()),
            calls: "c".into(),
            failures: "f".into(),
            latency: Some(LatencyQuery { query: "l".into(), unit_ms: 1_000.0 }),
            source: Source::Istio,
        }
    }

    /// Edges that nobody counted before.
    fn edges(queries: &EdgeQueries, answers: Vec<Vec<RangeSeries>>, tally: &mut Tally) -> Seen {
        uncounted(calls(queries, answers, tally), &CounterStates::new(), &Identities::default(), tally)
    }

    fn series(client: &str, server: &str, between: &str, le: &str, values: &[f64]) -> RangeSeries {
        let labels = [("client", client), ("server", server), ("connection_type", between), ("le", le)];
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
        RangeSeries {
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            values: values.iter().enumerate().map(|(i, value)| (T + i as i64 * BUCKET_MS, *value)).collect(),
            histograms: Vec::new(),
        }
    }

    #[test]
    fn calls_of_some_time_are_one_sighting() {
        let calls = vec![series("shop", "pay", "", "", &[0.0, 10.0, f64::NAN, 30.0])];
        let failures = vec![series("shop", "pay", "", "", &[0.0, 2.0, 1.0, 40.0])];
        let le = |le: &str, count: f64| series("shop", "pay", "", le, &[0.0, count]);
        let mut tally = Tally::default();
        let seen = edges(&queries(), vec![calls, failures, vec![le("0.1", 8.0), le("+Inf", 10.0)]], &mut tally);
        let [edge] = &seen.edges[..] else { panic!("{seen:?}") };
        assert_eq!((edge.key.caller().as_str(), edge.key.callee().as_str()), ("shop", "pay"));
        assert_eq!((edge.source, edge.asynchronous), (Source::Istio, None));
        assert_eq!((edge.sightings.call_count, edge.sightings.failure_count), (40, Some(32)));
        assert_eq!((edge.sightings.first_seen_ms, edge.sightings.last_seen_ms), (Some(T), Some(T + 3 * BUCKET_MS)));
        assert_eq!(edge.sightings.latency.as_ref().map(LatencyHistogram::count), Some(10));
        assert_eq!((tally.of("not_a_number"), tally.of("bad_clamped"), tally.of("edges")), (1, 1, 1));
    }

    #[test]
    fn what_was_counted_counts_no_second_time_under_another_name_either() {
        let identities = |own| Identities { own, all: [own].into() };
        let read = |states: &CounterStates, own: u64, values: &[f64]| {
            let mut tally = Tally::default();
            let calls = calls(&queries(), vec![vec![series("shop", "pay", "", "", values)]], &mut tally);
            assert_eq!(calls.mark_keys().len(), 1);
            let seen = uncounted(calls, states, &identities(own), &mut tally);
            let marks: CounterStates = seen.marks.into_iter().filter_map(|(key, mark)| Some((key, mark?))).collect();
            let counted = seen.edges.first().map(|edge| edge.sightings.call_count);
            (counted, marks, tally.of("edges_counted_before"))
        };
        let (counted, marks, _) = read(&CounterStates::new(), 1, &[5.0, 7.0]);
        assert_eq!(counted, Some(12));
        assert_eq!(read(&marks, 1, &[5.0, 7.0]).0, None);
        let (counted, marks, known) = read(&marks, 2, &[5.0, 7.0, 11.0]);
        assert_eq!((counted, known), (Some(11), 2));
        assert_eq!(read(&marks, 2, &[5.0, 7.0, 11.0, 0.0, 13.0]).0, Some(13));
    }

    #[test]
    fn what_lies_between_tells_the_mode_and_the_kind() {
        let calls = vec![
            series("shop", "orders", "messaging_system", "", &[3.0]),
            series("shop", "orders-db", "database", "", &[3.0]),
            series("shop", "psp.example", "virtual_node", "", &[3.0]),
            series("user", "shop", "virtual_node", "", &[3.0]),
            series("user", "cart", "", "", &[3.0]),
            series("shop", "shop", "", "", &[3.0]),
            series("shop", "unknown", "", "", &[3.0]),
            series("shop", "", "", "", &[3.0]),
            series("shop", "idle", "", "", &[0.0]),
        ];
        let mut tally = Tally::default();
        let seen = edges(&queries(), vec![calls, Vec::new(), Vec::new()], &mut tally);
        let told: Vec<(&str, &str, Option<bool>)> = seen
            .edges
            .iter()
            .map(|edge| (edge.key.caller().as_str(), edge.key.callee().as_str(), edge.asynchronous))
            .collect();
        let expected = [
            ("shop", "orders", Some(true)),
            ("shop", "orders-db", Some(false)),
            ("shop", "psp.example", None),
            ("user", "cart", None),
        ];
        assert_eq!(told, expected);
        assert!(seen.edges.iter().all(|edge| edge.protocol.as_deref() != Some("sql")), "a database may be Redis");
        let kinds: Vec<_> = seen.entities.iter().map(|entity| (entity.id.as_str(), entity.kind)).collect();
        let expected = [("orders-db", Some(EntityKind::Datastore)), ("psp.example", Some(EntityKind::External))];
        assert_eq!(kinds, expected);
        assert_eq!((tally.of("series_unnamed"), tally.of("edges_to_self")), (3, 1));
    }
}
