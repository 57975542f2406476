//! Pyrra's `pyrra.dev/v1alpha1`: one resource an SLO.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metrics::{Queries, Unit};
use super::{Export, File, Subject, percent, prometheus, service_label, yaml};
use crate::Error;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
    labels: BTreeMap<&'static str, &'static str>,
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Spec {
    description: String,
    target: String,
    window: String,
    indicator: Indicator,
}

/// Exactly one of them: an enum would be written as a tag.
#[derive(Serialize, Default)]
struct Indicator {
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    #[serde(rename = "bool_gauge", skip_serializing_if = "Option::is_none")]
    bool_gauge: Option<Metric>,
}

#[derive(Serialize)]
struct Ratio {
    errors: Metric,
    total: Metric,
}

#[derive(Serialize)]
struct Latency {
    success: Metric,
    total: Metric,
    /// Seconds where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}

#[derive(Serialize)]
struct Metric {
    metric: String,
}

pub(super) fn export(subjects: &[Subject<'_>]) -> Result<Export, Error> {
    let mut contents = Vec::new();
    let mut notes = Vec::new();
    let service = service_label(&subjects[0].slo.service);
    let rules_name = format!("{service}.pyrra.rules.yaml");
    for subject in subjects {
        let metric = |selector: &super::selector::Selector| Metric { metric: selector.render() };
        let indicator = match &subject.queries {
            Queries::Counters { valid, bad } => {
                if bad.len() > 1 {
                    notes.push(format!(
                        "Pyrra takes one selector of failed requests: of {} the first is written, and what {} others count is not.",
                        subject.name,
                        bad.len() - 1
                    ));
                }
                let ratio = Ratio { errors: metric(&bad[0]), total: metric(valid) };
                Indicator { ratio: Some(ratio), ..Indicator::default() }
            }
            Queries::Histogram { fast, buckets, unit, .. } => {
                notes.push(format!(
                    "Pyrra reads the number of all requests of {} from the series `_count` of its histogram.",
                    subject.name
                ));
                let total = Metric { metric: count_of(&buckets.render()) };
                Indicator {
                    latency: Some(Latency {
                        success: metric(fast),
                        total,
                        unit: (*unit == Unit::Milliseconds).then_some("ms"),
                    }),
                    ..Indicator::default()
                }
            }
            Queries::Ages { .. } => {
                notes.push(format!(
                    "Pyrra takes no limit of a gauge: {} rests on a series that the rules in {rules_name} record.",
                    subject.name
                ));
                Indicator { bool_gauge: Some(Metric { metric: prometheus::fresh(subject) }), ..Indicator::default() }
            }
        };
        let document = Document {
            api_version: "pyrra.dev/v1alpha1",
            kind: "ServiceLevelObjective",
            metadata: Metadata {
                name: subject.name.clone(),
                labels: [("pyrra.dev/source", "attain")].into(),
                annotations: [(super::SERVICE_ID, subject.slo.service.to_string())].into(),
            },
            spec: Spec {
                description: subject.description(),
                target: percent(subject.slo).to_string(),
                window: format!("{}d", subject.slo.window.days()),
                indicator,
            },
        };
        contents.push(yaml(&document)?);
    }
    let mut files = vec![File { name: format!("{service}.pyrra.yaml"), content: contents.join("---\n") }];
    files.extend(prometheus::recorded_slices(subjects)?.map(|content| File { name: rules_name, content }));
    Ok(Export { files, notes })
}

/// The buckets' histogram, counted.
fn count_of(buckets: &str) -> String {
    let end = buckets.find('{').unwrap_or(buckets.len());
    let (metric, matchers) = buckets.split_at(end);
    format!("{}_count{matchers}", metric.strip_suffix("_bucket").unwrap_or(metric))
}
