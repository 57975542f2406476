//! Sloth's `prometheus/v1`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Export, File, Subject, percent, service_label, yaml};
use crate::Error;

/// Where Sloth puts the window of each of its queries.
const WINDOW: &str = "{{.window}}";

#[derive(Serialize)]
struct Document {
    version: &'static str,
    service: String,
    slos: Vec<Slo>,
}

#[derive(Serialize)]
struct Slo {
    name: String,
    objective: f64,
    description: String,
    labels: BTreeMap<&'static str, String>,
    sli: Sli,
    alerting: Alerting,
}

#[derive(Serialize)]
struct Sli {
    events: Events,
}

#[derive(Serialize)]
struct Events {
    error_query: String,
    total_query: String,
}

#[derive(Serialize)]
struct Alerting {
    name: &'static str,
    annotations: BTreeMap<&'static str, String>,
    page_alert: Labels,
    ticket_alert: Labels,
}

#[derive(Serialize)]
struct Labels {
    labels: BTreeMap<&'static str, &'static str>,
}

pub(super) fn export(subjects: &[Subject<'_>]) -> Result<Export, Error> {
    let service = service_label(&subjects[0].slo.service);
    let slo = |subject: &Subject<'_>| Slo {
        name: subject.name.clone(),
        objective: percent(subject.slo),
        description: subject.description(),
        labels: [("attain_service", subject.slo.service.to_string())].into(),
        sli: Sli {
            events: Events {
                error_query: subject.queries.bad("rate", WINDOW),
                total_query: subject.queries.valid("rate", WINDOW),
            },
        },
        alerting: Alerting {
            name: "ErrorBudgetBurn",
            annotations: [("description", subject.description())].into(),
            page_alert: Labels { labels: [("severity", "page")].into() },
            ticket_alert: Labels { labels: [("severity", "ticket")].into() },
        },
    };
    let document =
        Document { version: "prometheus/v1", service: service.clone(), slos: subjects.iter().map(slo).collect() };
    let mut windows: Vec<u32> = subjects.iter().map(|subject| subject.slo.window.days()).collect();
    windows.sort_unstable();
    windows.dedup();
    let notes = windows
        .iter()
        .map(|days| {
            format!(
                "Sloth's documents have no window; it is an option of its command. For the SLO over {days} days say \
                 --default-slo-period={days}d."
            )
        })
        .chain(
            (windows.len() > 1).then(|| "SLOs of different windows have to go into separate runs of Sloth.".to_owned()),
        )
        .collect();
    Ok(Export { files: vec![File { name: format!("{service}.sloth.yaml"), content: yaml(&document)? }], notes })
}
