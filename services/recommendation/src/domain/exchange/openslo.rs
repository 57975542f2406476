//! OpenSLO's `openslo/v1`: a Service and one SLO for each target, its indicator inline.

use std::collections::BTreeMap;

use attain_vocabulary::SliKind;
use serde::Serialize;

use super::metrics::{Queries, SLICE};
use super::{Export, File, KIND, SERVICE_ID, Subject, THRESHOLD_MS, service_label, yaml};
use crate::Error;
use crate::domain::slo::kind_word;

/// The version that is written and read.
pub(super) const API_VERSION: &str = "openslo/v1";
/// Budgets count requests.
pub(super) const OCCURRENCES: &str = "Occurrences";
/// Budgets count slices of time.
pub(super) const TIMESLICES: &str = "Timeslices";
/// Share of a slice that has to be good.
pub(super) const WHOLE_SLICE: f64 = 1.0;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<S> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: S,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Service {
    description: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Slo {
    description: String,
    service: String,
    indicator: Indicator,
    time_window: Vec<TimeWindow>,
    budgeting_method: &'static str,
    objectives: Vec<Objective>,
}

#[derive(Serialize)]
struct Indicator {
    metadata: Metadata,
    spec: Sli,
}

/// Exactly one of them: an enum would be written as a tag.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Sli {
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_metric: Option<RatioMetric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_metric: Option<Metric>,
}

#[derive(Serialize)]
struct RatioMetric {
    counter: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    good: Option<Metric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bad: Option<Metric>,
    total: Metric,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metric {
    metric_source: MetricSource,
}

#[derive(Serialize)]
struct MetricSource {
    #[serde(rename = "type")]
    source: &'static str,
    spec: Query,
}

#[derive(Serialize)]
struct Query {
    query: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimeWindow {
    duration: String,
    is_rolling: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    calendar: Option<Calendar>,
}

/// What windows aligned with the calendar are counted from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calendar {
    start_time: &'static str,
    time_zone: &'static str,
}

impl TimeWindow {
    fn of(window: attain_vocabulary::TimeWindow) -> Self {
        let calendar = |duration: &str| Self {
            duration: duration.to_owned(),
            is_rolling: false,
            calendar: Some(Calendar { start_time: "2020-01-01 00:00:00", time_zone: "UTC" }),
        };
        match window {
            attain_vocabulary::TimeWindow::MONTH => calendar("1M"),
            attain_vocabulary::TimeWindow::QUARTER => calendar("1Q"),
            rolling => Self { duration: format!("{}d", rolling.days()), is_rolling: true, calendar: None },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Objective {
    display_name: String,
    #[serde(flatten)]
    limit: Option<Limit>,
    target: f64,
    #[serde(flatten)]
    slices: Option<Slices>,
}

/// What a value of a threshold metric may be at most.
#[derive(Serialize)]
struct Limit {
    op: &'static str,
    value: f64,
}

/// Which slices are good: those that nothing in was bad.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Slices {
    time_slice_target: f64,
    time_slice_window: &'static str,
}

pub(super) fn export(subjects: &[Subject<'_>]) -> Result<Export, Error> {
    let service = &subjects[0].slo.service;
    let name = service_label(service);
    let metadata = Metadata {
        name: name.clone(),
        display_name: Some(service.to_string()),
        annotations: [(SERVICE_ID, service.to_string())].into(),
    };
    let spec = Service { description: format!("{service}, as Attain knows it.") };
    let mut contents = vec![yaml(&Document { api_version: API_VERSION, kind: "Service", metadata, spec })?];
    for subject in subjects {
        contents.push(yaml(&slo(subject, &name))?);
    }
    let content = contents.join("---\n");
    Ok(Export { files: vec![File { name: format!("{name}.openslo.yaml"), content }], notes: Vec::new() })
}

fn slo(subject: &Subject<'_>, service: &str) -> Document<Slo> {
    let kind = kind_word(subject.slo.kind);
    let mut annotations: BTreeMap<&'static str, String> =
        [(SERVICE_ID, subject.slo.service.to_string()), (KIND, kind.to_owned())].into();
    if let Some(threshold) = subject.slo.latency_threshold_ms {
        annotations.insert(THRESHOLD_MS, threshold.to_string());
    }
    let named = |name: String| Metadata { name, display_name: None, annotations: BTreeMap::new() };
    let (budgeting_method, limit, slices) = match &subject.queries {
        Queries::Ages { limit, .. } => (
            TIMESLICES,
            Some(Limit { op: "lte", value: *limit }),
            Some(Slices { time_slice_target: WHOLE_SLICE, time_slice_window: SLICE }),
        ),
        Queries::Counters { .. } | Queries::Histogram { .. } => (OCCURRENCES, None, None),
    };
    Document {
        api_version: API_VERSION,
        kind: "SLO",
        metadata: Metadata {
            name: subject.name.clone(),
            display_name: Some(match subject.slo.kind {
                SliKind::Availability => format!("Availability of {}", subject.slo.service),
                SliKind::Latency => format!("Latency of {}", subject.slo.service),
                SliKind::Freshness => format!("Freshness of {}", subject.slo.service),
            }),
            annotations,
        },
        spec: Slo {
            description: subject.description(),
            service: service.to_owned(),
            indicator: Indicator { metadata: named(subject.name.clone()), spec: sli(&subject.queries) },
            time_window: vec![TimeWindow::of(subject.slo.window)],
            budgeting_method,
            objectives: vec![Objective {
                display_name: subject.promise(),
                limit,
                target: subject.slo.target.target_ratio(),
                slices,
            }],
        },
    }
}

/// Counters and gauges as they are: `counter: true` says that a reader has to take their increase.
fn sli(queries: &Queries) -> Sli {
    let metric = |query: String| Metric { metric_source: MetricSource { source: "Prometheus", spec: Query { query } } };
    let sum = |selector: &super::selector::Selector| metric(format!("sum({})", selector.render()));
    let ratio = match queries {
        Queries::Ages { ages, .. } => {
            let threshold_metric = Some(metric(format!("max({})", ages.render())));
            return Sli { threshold_metric, ..Sli::default() };
        }
        Queries::Counters { valid, bad } => {
            let bad = bad.iter().map(|bad| format!("(sum({}) or vector(0))", bad.render())).collect::<Vec<_>>();
            RatioMetric { counter: true, good: None, bad: Some(metric(bad.join(" + "))), total: sum(valid) }
        }
        Queries::Histogram { all, fast, .. } => {
            RatioMetric { counter: true, good: Some(sum(fast)), bad: None, total: sum(all) }
        }
    };
    Sli { ratio_metric: Some(ratio), ..Sli::default() }
}
