//! Documents held field by field against what their tools publish: Sloth's type `prometheus/v1` (its package
//! `pkg/prometheus/api/v1`) and the schema of Pyrra's resource `servicelevelobjectives.pyrra.dev` (version `v1alpha1`). The tools
//! themselves are in no package registry that tests can reach.

use attain_vocabulary::{Objective, TimeWindow};
use serde_yaml_ng::Value;

use super::*;

/// What may stand at a place.
enum Shape {
    Text,
    Number,
    Truth,
    /// Texts by name.
    Labels,
    List(&'static Shape),
    Fields(&'static [Field]),
}

/// Name, whether it has to be there, and what may stand there.
type Field = (&'static str, bool, Shape);

const SLOTH_ALERT: Shape = Shape::Fields(&[
    ("disable", false, Shape::Truth),
    ("labels", false, Shape::Labels),
    ("annotations", false, Shape::Labels),
]);
const SLOTH: Shape = Shape::Fields(&[
    ("version", true, Shape::Text),
    ("service", true, Shape::Text),
    ("labels", false, Shape::Labels),
    ("slos", true, Shape::List(&SLOTH_SLO)),
]);
const SLOTH_SLO: Shape = Shape::Fields(&[
    ("name", true, Shape::Text),
    ("description", false, Shape::Text),
    ("objective", true, Shape::Number),
    ("labels", false, Shape::Labels),
    ("infoLabels", false, Shape::Labels),
    (
        "sli",
        true,
        Shape::Fields(&[
            // One of raw, events and plugin.
            ("raw", false, Shape::Fields(&[("error_ratio_query", true, Shape::Text)])),
            ("events", false, Shape::Fields(&[("error_query", true, Shape::Text), ("total_query", true, Shape::Text)])),
            ("plugin", false, Shape::Fields(&[("id", true, Shape::Text), ("options", false, Shape::Labels)])),
        ]),
    ),
    (
        "alerting",
        true,
        Shape::Fields(&[
            ("name", true, Shape::Text),
            ("labels", false, Shape::Labels),
            ("annotations", false, Shape::Labels),
            ("page_alert", false, SLOTH_ALERT),
            ("ticket_alert", false, SLOTH_ALERT),
        ]),
    ),
]);

const METRIC: Shape = Shape::Fields(&[("metric", true, Shape::Text)]);
const GROUPING: Shape = Shape::List(&Shape::Text);
const PYRRA: Shape = Shape::Fields(&[
    ("apiVersion", true, Shape::Text),
    ("kind", true, Shape::Text),
    (
        "metadata",
        true,
        Shape::Fields(&[
            ("name", true, Shape::Text),
            ("namespace", false, Shape::Text),
            ("labels", false, Shape::Labels),
            ("annotations", false, Shape::Labels),
        ]),
    ),
    (
        "spec",
        true,
        Shape::Fields(&[
            ("description", false, Shape::Text),
            // A number as a text.
            ("target", true, Shape::Text),
            ("window", true, Shape::Text),
            (
                "indicator",
                true,
                Shape::Fields(&[
                    (
                        "ratio",
                        false,
                        Shape::Fields(&[
                            ("errors", true, METRIC),
                            ("total", true, METRIC),
                            ("grouping", false, GROUPING),
                        ]),
                    ),
                    (
                        "latency",
                        false,
                        Shape::Fields(&[
                            ("success", true, METRIC),
                            ("total", true, METRIC),
                            ("unit", false, Shape::Text),
                            ("grouping", false, GROUPING),
                        ]),
                    ),
                    (
                        "bool_gauge",
                        false,
                        Shape::Fields(&[("metric", true, Shape::Text), ("grouping", false, GROUPING)]),
                    ),
                ]),
            ),
        ]),
    ),
]);

/// What does not fit, by its path.
fn misfits(value: &Value, shape: &Shape, path: &str) -> Vec<String> {
    let fits = match shape {
        Shape::Text => value.is_string(),
        Shape::Number => value.is_number(),
        Shape::Truth => value.is_bool(),
        Shape::Labels => value.as_mapping().is_some_and(|labels| labels.values().all(Value::is_string)),
        Shape::List(item) => {
            let Some(items) = value.as_sequence() else { return vec![path.to_owned()] };
            return items
                .iter()
                .enumerate()
                .flat_map(|(place, value)| misfits(value, item, &format!("{path}[{place}]")))
                .collect();
        }
        Shape::Fields(fields) => {
            let Some(mapping) = value.as_mapping() else { return vec![path.to_owned()] };
            let required = fields.iter().filter(|(name, required, _)| *required && !mapping.contains_key(*name));
            let mut found: Vec<String> = required.map(|(name, ..)| format!("{path}.{name} is required")).collect();
            for (name, value) in mapping {
                let name = name.as_str().unwrap_or_default();
                match fields.iter().find(|(known, ..)| *known == name) {
                    Some((.., shape)) => found.extend(misfits(value, shape, &format!("{path}.{name}"))),
                    None => found.push(format!("{path}.{name} is not known")),
                }
            }
            return found;
        }
    };
    if fits { Vec::new() } else { vec![path.to_owned()] }
}

fn slos() -> Vec<Slo> {
    let slo = |kind, target: f64, threshold, window| Slo {
        service: EntityId::new("service_id", "Checkout/API").expect("a name"),
        kind,
        target: Objective::new("target_ratio", target).expect("in range"),
        latency_threshold_ms: threshold,
        window,
        version: 1,
        recommendation_id: String::new(),
        as_recommended: false,
        update_ms: 0,
    };
    vec![
        slo(SliKind::Availability, 0.9995, None, TimeWindow::default()),
        slo(SliKind::Latency, 0.95, Some(300), TimeWindow::MONTH),
        slo(SliKind::Freshness, 0.95, Some(300_000), TimeWindow::default()),
    ]
}

fn documents(format: Format, metrics: &MetricNames) -> Vec<Value> {
    let written = export(format, &slos(), metrics, Some(1e6)).expect("written");
    let texts = written.files[0].content.split("---\n");
    texts.map(|text| serde_yaml_ng::from_str(text).expect("YAML")).collect()
}

#[test]
fn every_field_is_one_that_the_tool_reads() {
    let metrics = MetricNames::default();
    for (format, shape, count) in [(Format::Sloth, &SLOTH, 1), (Format::Pyrra, &PYRRA, 3)] {
        let documents = documents(format, &metrics);
        assert_eq!(documents.len(), count);
        for document in &documents {
            assert_eq!(misfits(document, shape, ""), Vec::<String>::new(), "{document:?}");
        }
        // The comparison can fail.
        let mut changed = documents[0].clone();
        let fields = changed.as_mapping_mut().expect("fields");
        fields.insert("objectives".into(), "99".into());
        fields.remove(if format == Format::Sloth { "service" } else { "kind" });
        assert_eq!(misfits(&changed, shape, "").len(), 2);
    }
}

#[test]
fn what_the_tools_ask_of_values_is_kept() {
    let sloth = documents(Format::Sloth, &MetricNames::default()).remove(0);
    assert_eq!(sloth["version"], Value::from("prometheus/v1"));
    for slo in sloth["slos"].as_sequence().expect("a list") {
        let objective = slo["objective"].as_f64().expect("a number");
        assert!(objective > 0.0 && objective <= 100.0, "percent");
        for query in ["error_query", "total_query"] {
            let query = slo["sli"]["events"][query].as_str().expect("a query");
            assert!(query.contains("[{{.window}}]") || query.contains("[{{.window}}:5m]"), "{query}");
        }
    }
    let milliseconds = MetricNames {
        latency_histogram: "request_duration_milliseconds_bucket{job=\"$service\"}".into(),
        latency_unit: "ms".into(),
        ..MetricNames::default()
    };
    for (metrics, unit) in [(MetricNames::default(), None), (milliseconds, Some("ms"))] {
        let [ratio, latency, freshness] = documents(Format::Pyrra, &metrics).try_into().expect("three resources");
        assert_eq!(
            (&ratio["apiVersion"], &ratio["kind"]),
            (&"pyrra.dev/v1alpha1".into(), &"ServiceLevelObjective".into())
        );
        for resource in [&ratio, &latency, &freshness] {
            let target: f64 = resource["spec"]["target"].as_str().expect("a text").parse().expect("a number");
            assert!(target > 0.0 && target < 100.0);
            assert!(resource["spec"]["window"].as_str().expect("a text").ends_with('d'));
            assert_eq!(resource["spec"]["indicator"].as_mapping().expect("fields").len(), 1, "one indicator");
            assert!(super::is_label(resource["metadata"]["name"].as_str().expect("a name")));
        }
        // Bounds of buckets in milliseconds have to be said: seconds are taken otherwise.
        assert_eq!(latency["spec"]["indicator"]["latency"].get("unit").and_then(Value::as_str), unit);
    }
}
