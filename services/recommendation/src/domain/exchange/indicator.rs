//! What an OpenSLO indicator measures, as far as an SLO here can.

use std::sync::LazyLock;

use attain_vocabulary::{InvalidValue, SliKind};
use regex::Regex;
use serde_yaml_ng::Value;

use super::{KIND, THRESHOLD_MS};
use crate::domain::slo::{checked_threshold, kind_from_word};

/// What is measured, and the field that says it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) kind: SliKind,
    pub(super) latency_threshold_ms: Option<u32>,
}

/// Reads the `spec` of an indicator, the objective that may hold its threshold, and what annotations say.
///
/// Annotations stand first. Else a ratio is one of availability, unless its good requests are those within a bound of a
/// histogram; and a threshold metric is one of latency where its objective asks for less than a value.
///
/// # Errors
/// Names the field that does not say enough.
pub(super) fn measured(
    spec: &Value,
    place: &str,
    objective: &Value,
    annotation: impl Fn(&str) -> Option<String>,
) -> Result<Measured, InvalidValue> {
    let (ratio, threshold) = (spec.get("ratioMetric"), spec.get("thresholdMetric"));
    let found = match (ratio, threshold) {
        (Some(ratio), None) => of_ratio(ratio, &format!("{place}.ratioMetric")),
        (None, Some(metric)) => of_threshold(metric, &format!("{place}.thresholdMetric"), objective),
        (Some(_), Some(_)) => {
            return Err(InvalidValue::new(
                place,
                "not_allowed",
                "an indicator is a ratio or a threshold metric, not both",
            ));
        }
        (None, None) => {
            return Err(InvalidValue::new(place, "required", "an indicator needs ratioMetric or thresholdMetric"));
        }
    };
    let Some(kind) = annotation(KIND) else {
        let measured = found?;
        return match annotation(THRESHOLD_MS) {
            Some(text) => annotated(SliKind::Latency, Some(text)),
            None => Ok(measured),
        };
    };
    let field = format!("metadata.annotations[{KIND}]");
    let kind = kind_from_word(&kind)
        .ok_or_else(|| InvalidValue::new(field, "unknown_value", "say availability, latency or freshness"))?;
    annotated(kind, annotation(THRESHOLD_MS))
}

fn annotated(kind: SliKind, threshold: Option<String>) -> Result<Measured, InvalidValue> {
    let field = format!("metadata.annotations[{THRESHOLD_MS}]");
    let number = threshold
        .map(|text| text.trim().parse::<u32>())
        .transpose()
        .map_err(|_| InvalidValue::new(field.as_str(), "malformed", "a whole number of milliseconds"))?;
    let latency_threshold_ms =
        checked_threshold(kind, number).map_err(|fault| InvalidValue::new(field, fault.code, fault.reason))?;
    Ok(Measured { kind, latency_threshold_ms })
}

fn of_ratio(ratio: &Value, place: &str) -> Result<Measured, InvalidValue> {
    if ratio.get("raw").is_some() {
        return Ok(Measured { kind: SliKind::Availability, latency_threshold_ms: None });
    }
    if ratio.get("total").is_none() {
        return Err(InvalidValue::new(format!("{place}.total"), "required", "a ratio needs all requests"));
    }
    let (good, bad) = (ratio.get("good"), ratio.get("bad"));
    if good.is_some() == bad.is_some() {
        let reason = "a ratio needs good requests or bad ones, and not both";
        return Err(InvalidValue::new(format!("{place}.good"), "required", reason));
    }
    let text = texts(good.unwrap_or(&Value::Null));
    match bound(&text) {
        None => Ok(Measured { kind: SliKind::Availability, latency_threshold_ms: None }),
        Some(bound) => latency(bound, &text, &format!("{place}.good")),
    }
}

fn of_threshold(metric: &Value, place: &str, objective: &Value) -> Result<Measured, InvalidValue> {
    let op = objective.get("op").and_then(Value::as_str).unwrap_or_default();
    if !["lt", "lte"].contains(&op) {
        let reason = "of threshold metrics only latencies are taken: an objective with op lt or lte";
        return Err(InvalidValue::new("spec.objectives[0].op", "not_offered", reason));
    }
    let value = objective
        .get("value")
        .and_then(Value::as_f64)
        .ok_or_else(|| InvalidValue::new("spec.objectives[0].value", "required", "say which latency is still good"))?;
    latency(value, &texts(metric), place)
}

/// A threshold whose unit the name of its metric tells.
fn latency(value: f64, text: &str, place: &str) -> Result<Measured, InvalidValue> {
    let milliseconds = match unit(text) {
        Some(in_ms) => value * in_ms,
        None => {
            let reason = format!(
                "whether {value} are seconds or milliseconds is not told by the name of a metric; add the annotation {THRESHOLD_MS}"
            );
            return Err(InvalidValue::new(place, "unknown_unit", reason));
        }
    };
    let rounded = milliseconds.round();
    if (milliseconds - rounded).abs() > 1e-6 || !(1.0..=f64::from(u32::MAX)).contains(&rounded) {
        let reason = format!("{milliseconds} ms is no whole number of milliseconds from 1 on");
        return Err(InvalidValue::new(place, "out_of_range", reason));
    }
    let latency_threshold_ms = checked_threshold(SliKind::Latency, Some(rounded as u32))
        .map_err(|fault| InvalidValue::new(place, fault.code, fault.reason))?;
    Ok(Measured { kind: SliKind::Latency, latency_threshold_ms })
}

/// Milliseconds in the unit that the names of metrics in a query end in; `None` where none does, or they differ. Labels and their
/// values tell nothing of it.
fn unit(query: &str) -> Option<f64> {
    let outside = ASIDE.replace_all(query, " ");
    let named = NAMES.find_iter(&outside).filter_map(|name| {
        let name = name.as_str();
        let name = ["_bucket", "_count", "_sum"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let in_ms = name.ends_with("_milliseconds") || name.ends_with("_ms");
        if in_ms { Some(1.0) } else { name.ends_with("_seconds").then_some(1000.0) }
    });
    let mut units: Vec<f64> = named.collect();
    units.dedup();
    if let [unit] = units[..] { Some(unit) } else { None }
}

/// The bound of a histogram's bucket that a query asks for: `le="0.3"`, or a whole one in both spellings.
fn bound(query: &str) -> Option<f64> {
    BOUND.captures(query)?.get(1)?.as_str().parse().ok()
}

/// A quoted text, or what stands in braces.
static ASIDE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{(?:[^{}"']|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')*\}"#)
        .expect("a constant pattern")
});
/// What can be the name of a metric.
static NAMES: LazyLock<Regex> = LazyLock::new(|| Regex::new("[a-zA-Z_:][a-zA-Z0-9_:]*").expect("a constant pattern"));
/// A bound, and that it ends there or goes on in another spelling.
static BOUND: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\ble\s*=~?\s*["']([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)["'(|\\]"#).expect("a constant pattern")
});

/// Every text below a value.
fn texts(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text} "),
        Value::Sequence(items) => items.iter().map(texts).collect(),
        Value::Mapping(fields) => fields.values().map(texts).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_told_by_the_names_of_metrics_alone() {
        for (query, expected) in [
            ("sum(rate(http_request_duration_seconds_bucket{le=\"0.3\"}[5m]))", Some(1000.0)),
            ("rpc_msg_duration_seconds_bucket{le=\"1\"}", Some(1000.0)),
            ("latency_seconds_bucket{job=\"order_ms\",le='1'}", Some(1000.0)),
            ("latency_seconds_bucket{job_ms=\"a}b\",le=\"1\"}", Some(1000.0)),
            ("request_duration_milliseconds_bucket{le=\"300\"} ", Some(1.0)),
            ("request_ms", Some(1.0)),
            ("a_seconds_count - b_seconds_bucket", Some(1000.0)),
            ("a_seconds_count - b_ms_bucket", None),
            ("latency{unit=\"_seconds\"}", None),
            ("items_msg", None),
        ] {
            assert_eq!(unit(query), expected, "{query}");
        }
    }

    #[test]
    fn a_bound_is_read_whole() {
        for (query, expected) in [
            ("a{le=\"0.3\"}", Some(0.3)),
            ("a{le=\"1e+06\"}", Some(1e6)),
            ("a{le=~\"300(\\\\.0)?\"}", Some(300.0)),
            ("a{le=~\"1|1.0\"}", Some(1.0)),
            ("a{le='5'}", Some(5.0)),
            ("a{le=\"+Inf\"}", None),
            ("a{title=\"1\"}", None),
            ("a{le=\"1x\"}", None),
        ] {
            assert_eq!(bound(query), expected, "{query}");
        }
    }
}
