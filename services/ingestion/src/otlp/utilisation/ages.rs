//! How old the oldest message is that a consumer still has to process, read from gauges that settings name.
//!
//! OpenTelemetry's conventions for messaging define no such metric, so each exporter has its own. The unit is the metric's own.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, UtilisationKind};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use serde::Deserialize;

use super::super::known::entity_name;
use super::super::points::{PointLimits, Points};
use super::super::reduce::within;
use super::{Measured, Sample, measured, service};

/// Most gauges that are looked for: each is sought in every export.
const GAUGES_MAX: usize = 50;
/// Longest name of a metric or an attribute, in characters.
const NAME_CHARS_MAX: usize = 255;

/// Names of gauges, each with the attribute of its points that names the service: a consumer group, a queue. An empty attribute
/// stands for the service that reports the gauge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct AgeGauges(BTreeMap<String, String>);

impl Default for AgeGauges {
    /// What the exporters of Kafka's lag in time call it (kafka-lag-exporter, klag-exporter).
    fn default() -> Self {
        Self(BTreeMap::from([("kafka_consumergroup_group_max_lag_seconds".to_owned(), "group".to_owned())]))
    }
}

impl AgeGauges {
    /// Checks the names.
    ///
    /// # Errors
    /// Says what cannot be right: too many, a name that is empty or too long.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.0.len() > GAUGES_MAX {
            return Err(format!("{} gauges; at most {GAUGES_MAX} are looked for", self.0.len()));
        }
        let long = |name: &str| name.chars().count() > NAME_CHARS_MAX;
        match self.0.iter().find(|(gauge, attribute)| gauge.trim().is_empty() || long(gauge) || long(attribute)) {
            Some((gauge, _)) => Err(format!("`{gauge}`: a gauge needs a name of at most {NAME_CHARS_MAX} characters")),
            None => Ok(()),
        }
    }
}

/// Seconds that one of a unit is worth; of the bare number, one.
fn seconds(unit: &str) -> Option<f64> {
    match unit {
        "" | "1" | "s" => Some(1.0),
        "ms" => Some(1e-3),
        "us" => Some(1e-6),
        "ns" => Some(1e-9),
        "min" => Some(60.0),
        "h" => Some(3_600.0),
        _ => None,
    }
}

/// The ages of an export, in seconds; of several points of one service and time the oldest. What is read counts as ignored no
/// longer; what has no unit of time is rejected, and a point that names no service stays ignored.
pub(in crate::otlp) fn read_ages(
    request: &ExportMetricsServiceRequest,
    limits: PointLimits,
    gauges: &AgeGauges,
    points: &mut Points,
) -> Vec<Sample> {
    let mut oldest: BTreeMap<(EntityId, u64), f64> = BTreeMap::new();
    for of_resource in &request.resource_metrics {
        let reporter = || service(of_resource.resource.as_ref(), limits.resource);
        for metric in of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Some(attribute) = gauges.0.get(&metric.name) else { continue };
            let read = measured(std::iter::once(metric), &metric.name);
            let Some(worth) = seconds(&metric.unit) else {
                points.ignored_count = points.ignored_count.saturating_sub(read.len());
                points.rejected.note_many("the age of a message is in a unit that is none of time", read.len());
                continue;
            };
            for point in &read {
                let named = match attribute.as_str() {
                    "" => reporter(),
                    attribute => name_of(point, attribute, limits),
                };
                let Some(service) = named else { continue };
                points.ignored_count = points.ignored_count.saturating_sub(1);
                match within(limits.time, point.time_ns) {
                    Ok(()) => {
                        let age = oldest.entry((service, point.time_ns)).or_insert(f64::MIN);
                        *age = age.max(point.value * worth);
                    }
                    Err(reason) => points.rejected.note(reason),
                }
            }
        }
    }
    let sample = |((service, time_ns), value): ((EntityId, u64), f64)| Sample {
        service,
        time_ms: (time_ns / 1_000_000) as i64,
        kind: UtilisationKind::MessageAge,
        value,
    };
    oldest.into_iter().map(sample).collect()
}

fn name_of(point: &Measured<'_>, attribute: &str, limits: PointLimits) -> Option<EntityId> {
    let name = point.said(&[attribute]).filter(|name| name.len() <= limits.attribute_bytes_max)?;
    entity_name(&name)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1 as wire;

    use super::super::tests::{NOW_MS, attributes, gauge};
    use super::*;
    use opentelemetry_proto::tonic::resource::v1::Resource;

    fn read(gauges: &[(&str, &str)], metrics: Vec<wire::Metric>) -> (Vec<String>, usize, usize) {
        let named = gauges.iter().map(|(gauge, attribute)| ((*gauge).to_owned(), (*attribute).to_owned()));
        let resource = Some(Resource { attributes: attributes("service.name=billing"), ..Default::default() });
        let scope_metrics = vec![wire::ScopeMetrics { metrics, ..Default::default() }];
        let of_resource = wire::ResourceMetrics { resource, scope_metrics, ..Default::default() };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![of_resource] };
        let limits = crate::Config::default().point_limits(NOW_MS);
        let mut points = super::super::super::points::read_points(&request, limits);
        let samples = read_ages(&request, limits, &AgeGauges(named.collect()), &mut points);
        let told = samples.iter().map(|sample| format!("{} {:?} {:.3}", sample.service, sample.kind, sample.value));
        (told.collect(), points.ignored_count, points.rejected.count())
    }

    fn in_unit(unit: &str, metric: wire::Metric) -> wire::Metric {
        wire::Metric { unit: unit.to_owned(), ..metric }
    }

    #[test]
    fn the_oldest_message_of_each_consumer_is_read_in_seconds() {
        let lag =
            || gauge("lag", &[("group=mailer topic=a", 4.0), ("group=mailer topic=b", 9.0), ("group=audit", 2.0)]);
        let own = gauge("orders.oldest", &[("", 1500.0)]);
        let (told, ignored, rejected) = read(&[("lag", "group")], vec![lag(), in_unit("ms", own.clone())]);
        assert_eq!(told, ["audit MessageAge 2.000", "mailer MessageAge 9.000"]);
        assert_eq!((ignored, rejected), (1, 0), "what nobody named stays ignored");
        let (told, ignored, _) = read(&[("orders.oldest", ""), ("lag", "partition")], vec![lag(), in_unit("ms", own)]);
        assert_eq!(told, ["billing MessageAge 1.500"]);
        assert_eq!(ignored, 3, "no point names a service by that attribute");
    }

    #[test]
    fn an_age_in_no_unit_of_time_is_rejected() {
        let depth = in_unit("{message}", gauge("lag", &[("group=mailer", 40.0)]));
        assert_eq!(read(&[("lag", "group")], vec![depth]), (vec![], 0, 1));
        let stale = in_unit("min", gauge("lag", &[("group=mailer", 2.0)]));
        assert_eq!(read(&[("lag", "group")], vec![stale]).0, ["mailer MessageAge 120.000"]);
    }

    #[test]
    fn names_are_bounded() {
        let of = |pairs: Vec<(String, String)>| AgeGauges(pairs.into_iter().collect());
        assert_eq!(AgeGauges::default().validate(), Ok(()));
        assert!(of(vec![(" ".into(), String::new())]).validate().is_err());
        assert!(of(vec![("a".into(), "b".repeat(256))]).validate().is_err());
        assert!(of((0..51).map(|i| (format!("g{i}"), String::new())).collect()).validate().is_err());
    }
}
