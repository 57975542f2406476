//! How much of its limits a service uses, read from gauges of an export: pure, points in, samples out.
//!
//! Only what is a share of a limit, or a depth, is read: processor time and bytes without a limit say nothing of how near
//! the limit is. Sources: OpenTelemetry semantic conventions for system, process, JVM, .NET, Node.js and database client
//! metrics; the Collector's host metrics and kubelet stats receivers.

mod ages;

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, UnixMillis, UtilisationKind};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1 as wire;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::known::entity_name;
use super::points::PointLimits;
use super::reduce::{Rejected, said_last, within};
use super::sent::AttributeLimits;

pub use ages::AgeGauges;
pub(super) use ages::read_ages;

/// How the points of one metric and time become one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The largest: of several containers, devices or queues the fullest.
    Largest,
    /// The sum over what time was spent on.
    Sum,
    /// The sum over what is not idle, a processor.
    Busy,
    /// Only what is in use.
    Used,
}

/// Name, kind, how, and what 1 of the metric is worth.
const GAUGES: &[(&str, UtilisationKind, How, f64)] = &[
    ("process.cpu.utilization", UtilisationKind::Cpu, How::Sum, 1.0),
    ("system.cpu.utilization", UtilisationKind::Cpu, How::Busy, 1.0),
    ("jvm.cpu.recent_utilization", UtilisationKind::Cpu, How::Largest, 1.0),
    ("process.runtime.jvm.cpu.utilization", UtilisationKind::Cpu, How::Largest, 1.0),
    ("k8s.container.cpu_limit_utilization", UtilisationKind::Cpu, How::Largest, 1.0),
    ("k8s.pod.cpu_limit_utilization", UtilisationKind::Cpu, How::Largest, 1.0),
    ("system.memory.utilization", UtilisationKind::Memory, How::Used, 1.0),
    ("process.memory.utilization", UtilisationKind::Memory, How::Largest, 0.01),
    ("k8s.container.memory_limit_utilization", UtilisationKind::Memory, How::Largest, 1.0),
    ("k8s.pod.memory_limit_utilization", UtilisationKind::Memory, How::Largest, 1.0),
    ("container.memory.percent", UtilisationKind::Memory, How::Largest, 0.01),
    ("system.filesystem.utilization", UtilisationKind::Saturation, How::Largest, 1.0),
    ("nodejs.eventloop.utilization", UtilisationKind::Saturation, How::Largest, 1.0),
    ("dotnet.thread_pool.queue.length", UtilisationKind::QueueDepth, How::Largest, 1.0),
    ("executor.queued", UtilisationKind::QueueDepth, How::Largest, 1.0),
];

/// Connections of pools, and how many each may have: stable and old names.
const POOLS: &[(&str, &str)] = &[
    ("db.client.connection.count", "db.client.connection.max"),
    ("db.client.connections.usage", "db.client.connections.max"),
];

/// What names a service that does not name itself, as the conventions derive it in Kubernetes.
const WORKLOADS: &[&str] =
    &["k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name", "k8s.job.name"];

/// How much was used at some time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) service: EntityId,
    pub(super) time_ms: UnixMillis,
    pub(super) kind: UtilisationKind,
    pub(super) value: f64,
}

/// Whether a metric is read here.
pub(super) fn is_read(name: &str) -> bool {
    GAUGES.iter().any(|(gauge, ..)| *gauge == name) || POOLS.iter().any(|(used, max)| *used == name || *max == name)
}

/// The samples of an export. Points of resources that name no service are left out.
pub(super) fn read_utilisation(
    request: &ExportMetricsServiceRequest,
    limits: PointLimits,
    rejected: &mut Rejected,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    for of_resource in &request.resource_metrics {
        let metrics = || of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics);
        if !metrics().any(|metric| is_read(&metric.name)) {
            continue;
        }
        let Some(service) = service(of_resource.resource.as_ref(), limits.resource) else { continue };
        let gauges = GAUGES.iter().flat_map(|(name, kind, how, worth)| {
            let points = measured(metrics(), name);
            combined(*how, &points).into_iter().map(move |(time_ns, value)| (*kind, time_ns, value * worth))
        });
        let pools = POOLS.iter().flat_map(|(used, max)| {
            let (used, max) = (measured(metrics(), used), measured(metrics(), max));
            fullest_pool(&used, &max)
                .into_iter()
                .map(|(time_ns, value)| (UtilisationKind::ConnectionPool, time_ns, value))
        });
        for (kind, time_ns, value) in gauges.chain(pools) {
            match within(limits.time, time_ns) {
                Ok(()) => {
                    let time_ms = (time_ns / 1_000_000) as i64;
                    samples.push(Sample { service: service.clone(), time_ms, kind, value });
                }
                Err(reason) => rejected.note(reason),
            }
        }
    }
    samples
}

fn service(resource: Option<&Resource>, limits: AttributeLimits) -> Option<EntityId> {
    let attributes = &resource?.attributes;
    let said = |key: &&str| said_last(attributes, key, limits).filter(|name| !name.starts_with("unknown_service"));
    std::iter::once(&"service.name").chain(WORKLOADS).find_map(said).and_then(entity_name)
}

/// A number, when, and of what.
struct Measured<'a> {
    time_ns: u64,
    value: f64,
    attributes: &'a [KeyValue],
}

impl Measured<'_> {
    fn said(&self, keys: &[&str]) -> Option<String> {
        let attribute = self.attributes.iter().find(|attribute| keys.contains(&attribute.key.as_str()))?;
        match attribute.value.as_ref()?.value.as_ref()? {
            Any::StringValue(text) => Some(text.clone()),
            Any::IntValue(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn is_used(&self, keys: &[&str]) -> bool {
        self.said(keys).as_deref() == Some("used")
    }
}

/// The points of a gauge, or of a sum that goes up and down.
fn measured<'a>(metrics: impl Iterator<Item = &'a wire::Metric>, name: &str) -> Vec<Measured<'a>> {
    let points = metrics.filter(|metric| metric.name == name).flat_map(|metric| match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.as_slice(),
        Some(Data::Sum(sum)) if !sum.is_monotonic => sum.data_points.as_slice(),
        _ => &[],
    });
    let measured = points.filter_map(|point| {
        let value = match point.value? {
            Value::AsDouble(value) => value,
            Value::AsInt(value) => value as f64,
        };
        (point.time_unix_nano > 0 && value.is_finite()).then_some(Measured {
            time_ns: point.time_unix_nano,
            value,
            attributes: &point.attributes,
        })
    });
    measured.collect()
}

fn by_time<'a, 'p>(points: &'a [Measured<'p>]) -> BTreeMap<u64, Vec<&'a Measured<'p>>> {
    let mut by_time: BTreeMap<u64, Vec<&Measured<'p>>> = BTreeMap::new();
    for point in points {
        by_time.entry(point.time_ns).or_default().push(point);
    }
    by_time
}

fn combined(how: How, points: &[Measured<'_>]) -> Vec<(u64, f64)> {
    let at = |(time_ns, points): (u64, Vec<&Measured<'_>>)| {
        let values = || points.iter().map(|point| point.value);
        let largest = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
        let value = match how {
            How::Largest => largest(&mut values()),
            How::Sum => Some(values().sum()),
            How::Busy => Some(busy(&points)),
            How::Used => {
                let used = points.iter().filter(|point| point.is_used(&["system.memory.state", "state"]));
                largest(&mut used.map(|point| point.value))
            }
        };
        Some((time_ns, value?))
    };
    by_time(points).into_iter().filter_map(at).collect()
}

/// The share of time that processors were not idle, all of them together.
fn busy(points: &[&Measured<'_>]) -> f64 {
    let processors: BTreeSet<Option<String>> =
        points.iter().map(|point| point.said(&["cpu.logical_number", "system.cpu.logical_number", "cpu"])).collect();
    let idle = |point: &&&Measured<'_>| {
        let mode = point.said(&["cpu.mode", "system.cpu.state", "state"]);
        matches!(mode.as_deref(), Some("idle" | "iowait" | "wait"))
    };
    let busy: f64 = points.iter().filter(|point| !idle(point)).map(|point| point.value).sum();
    busy / processors.len().max(1) as f64
}

/// Of several pools the share of the fullest; those without a bound are left out.
fn fullest_pool(used: &[Measured<'_>], max: &[Measured<'_>]) -> Vec<(u64, f64)> {
    let pool = |point: &Measured<'_>| point.said(&["db.client.connection.pool.name", "pool.name"]);
    let bounds: BTreeMap<Option<String>, f64> =
        max.iter().filter(|point| point.value > 0.0).map(|point| (pool(point), point.value)).collect();
    let share = |point: &&Measured<'_>| {
        let in_use = point.is_used(&["db.client.connection.state", "state"]);
        in_use.then_some(point.value / bounds.get(&pool(point))?)
    };
    let at = |(time_ns, points): (u64, Vec<&Measured<'_>>)| {
        Some((time_ns, points.iter().filter_map(share).reduce(f64::max)?))
    };
    by_time(used).into_iter().filter_map(at).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::AnyValue;

    pub(super) const NOW_MS: i64 = 1_793_000_000_000;

    pub(super) fn attributes(written: &str) -> Vec<KeyValue> {
        let attribute = |pair: &str| {
            let (key, value) = pair.split_once('=').expect("key=value");
            let value = Some(AnyValue { value: Some(Any::StringValue(value.to_owned())) });
            KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
        };
        written.split_whitespace().map(attribute).collect()
    }

    pub(super) fn gauge(name: &str, points: &[(&str, f64)]) -> wire::Metric {
        let point = |(written, value): &(&str, f64)| wire::NumberDataPoint {
            attributes: attributes(written),
            time_unix_nano: NOW_MS as u64 * 1_000_000,
            value: Some(Value::AsDouble(*value)),
            ..Default::default()
        };
        let data = Some(Data::Gauge(wire::Gauge { data_points: points.iter().map(point).collect() }));
        wire::Metric { name: name.into(), data, ..Default::default() }
    }

    fn read(resource: &str, metrics: Vec<wire::Metric>) -> Vec<String> {
        let resource = Some(Resource { attributes: attributes(resource), ..Default::default() });
        let scope_metrics = vec![wire::ScopeMetrics { metrics, ..Default::default() }];
        let of_resource = wire::ResourceMetrics { resource, scope_metrics, ..Default::default() };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![of_resource] };
        let limits = crate::Config::default().point_limits(NOW_MS);
        let samples = read_utilisation(&request, limits, &mut Rejected::default());
        samples.iter().map(|sample| format!("{} {:?} {:.3}", sample.service, sample.kind, sample.value)).collect()
    }

    #[test]
    fn gauges_become_shares_of_limits() {
        for (metric, expected) in [
            (gauge("process.cpu.utilization", &[("cpu.mode=user", 0.3), ("cpu.mode=system", 0.1)]), "shop Cpu 0.400"),
            (
                gauge(
                    "system.cpu.utilization",
                    &[
                        ("cpu=cpu0 state=user", 0.5),
                        ("cpu=cpu0 state=idle", 0.5),
                        ("cpu=cpu1 state=system", 0.1),
                        ("cpu=cpu1 state=wait", 0.2),
                        ("cpu=cpu1 state=idle", 0.7),
                    ],
                ),
                "shop Cpu 0.300",
            ),
            (gauge("jvm.cpu.recent_utilization", &[("", 0.25)]), "shop Cpu 0.250"),
            (gauge("k8s.container.memory_limit_utilization", &[("", 0.7), ("", 0.9)]), "shop Memory 0.900"),
            (
                gauge("system.memory.utilization", &[("state=used", 0.6), ("state=cached", 0.3), ("state=free", 0.1)]),
                "shop Memory 0.600",
            ),
            (gauge("process.memory.utilization", &[("", 12.5)]), "shop Memory 0.125"),
            (gauge("system.filesystem.utilization", &[("device=a", 0.2), ("device=b", 0.95)]), "shop Saturation 0.950"),
            (gauge("executor.queued", &[("name=a", 4.0), ("name=b", 17.0)]), "shop QueueDepth 17.000"),
        ] {
            assert_eq!(read("service.name=shop", vec![metric.clone()]), [expected], "{}", metric.name);
            assert!(is_read(&metric.name));
        }
    }

    #[test]
    fn pools_are_as_full_as_their_bound_says() {
        let used = gauge(
            "db.client.connection.count",
            &[
                ("db.client.connection.pool.name=a db.client.connection.state=used", 8.0),
                ("db.client.connection.pool.name=a db.client.connection.state=idle", 2.0),
                ("db.client.connection.pool.name=b db.client.connection.state=used", 5.0),
                ("db.client.connection.pool.name=unbounded db.client.connection.state=used", 500.0),
            ],
        );
        let max = gauge(
            "db.client.connection.max",
            &[("db.client.connection.pool.name=a", 10.0), ("db.client.connection.pool.name=b", 50.0)],
        );
        assert_eq!(read("service.name=shop", vec![used.clone(), max]), ["shop ConnectionPool 0.800"]);
        assert_eq!(read("service.name=shop", vec![used]), [""; 0], "without a bound there is no share");
    }

    #[test]
    fn a_workload_names_its_service_and_a_host_names_none() {
        let metric = || vec![gauge("k8s.pod.cpu_limit_utilization", &[("", 0.5)])];
        for (resource, expected) in [
            ("k8s.deployment.name=cart k8s.pod.name=cart-7d9", vec!["cart Cpu 0.500"]),
            ("service.name=unknown_service:java k8s.statefulset.name=db", vec!["db Cpu 0.500"]),
            ("host.name=node-1", vec![]),
        ] {
            assert_eq!(read(resource, metric()), expected, "{resource}");
        }
        let nothing = gauge("jvm.cpu.recent_utilization", &[("", f64::NAN)]);
        assert_eq!(read("service.name=shop", vec![nothing, gauge("process.cpu.time", &[("", 5.0)])]), [""; 0]);
    }
}
