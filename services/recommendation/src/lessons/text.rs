//! Incidents and decisions as documents. Names of people are left out: who decided, approved, excluded or linked is in the audit
//! log and in ingestion, for those who may read it there.

use attain_proto::convert::unix_millis;
use attain_proto::ingestion::v1::{Incident, IncidentKind};
use attain_proto::rag::v1::{Document, DocumentKind, DocumentSource};
use attain_vocabulary::{SliKind, UnixMillis};
use sha2::{Digest as _, Sha256};

use super::Sort;
use crate::domain::slo::{Action, Decision, ambition_word, kind_word};

/// Longest name of a document that is made of another name as it is.
const NAME_LEN_MAX: usize = 150;
/// Longest summary that is taken over, in characters.
const SUMMARY_CHARS_MAX: usize = 20_000;
/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// Most services that a document is about.
const SERVICES_MAX: usize = 100;
const MINUTE_MS: UnixMillis = 60_000;

/// An incident as a document; `None` for planned work and for what its pager says was none.
pub(super) fn incident(incident: &Incident) -> Option<Document> {
    if incident.kind() == IncidentKind::Maintenance || incident.dismissed {
        return None;
    }
    let title =
        if incident.title.trim().is_empty() { format!("Incident {}", incident.id) } else { one_line(&incident.title) };
    let mut lines = vec![format!("# {title}"), String::new()];
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("- {name}: {value}"));
        }
    };
    fact("incident", one_line(&incident.id));
    fact("services hurt", incident.service_ids.join(", "));
    fact("caused by", incident.cause_service_id.clone());
    let (start, end) = (incident.start_time.as_ref().map(unix_millis), incident.end_time.as_ref().map(unix_millis));
    fact("began", start.map(time).unwrap_or_default());
    fact("ended", end.map(time).unwrap_or_default());
    let minutes = start.zip(end).map(|(start, end)| (end - start).max(0) / MINUTE_MS);
    fact("lasted", minutes.map(|minutes| format!("{minutes} min")).unwrap_or_default());
    fact("requests that failed", incident.severity_ratio.map(percent).unwrap_or_default());
    fact("priority", one_line(&incident.priority));
    if incident.excluded {
        fact("left out of estimates", one_line(&incident.exclusion_reason));
    }
    let summary: String = incident.summary.trim().chars().take(SUMMARY_CHARS_MAX).collect();
    if !summary.is_empty() {
        lines.extend([String::new(), "## What happened".to_owned(), String::new(), summary]);
    }
    let services = incident.service_ids.iter().chain(Some(&incident.cause_service_id).filter(|id| !id.is_empty()));
    let about = services.take(SERVICES_MAX).cloned().collect();
    Some(document(Sort::Incidents, &incident.id, DocumentKind::Incident, title, lines, about))
}

/// A decision on a recommendation as a lesson.
pub(super) fn decision(decision: &Decision) -> Document {
    let done = match decision.action {
        Action::Accept => "accepted",
        Action::Modify => "changed",
        Action::Reject => "rejected",
        Action::Declare => "declared",
    };
    let (kind, service) = (kind_word(decision.kind), &decision.service);
    let title = format!("The recommended {kind} target of {service} was {done}");
    let mut lines = vec![format!("# {title}"), String::new()];
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("- {name}: {value}"));
        }
    };
    fact("service", Some(service.to_string()));
    fact("decided on", Some(time(decision.create_ms)));
    fact("offer taken", decision.ambition.map(|ambition| ambition_word(ambition).to_owned()));
    fact("target in force since", decision.target_ratio.map(percent));
    let threshold = decision.latency_threshold_ms.filter(|_| decision.kind != SliKind::Availability);
    fact("threshold", threshold.map(|threshold| format!("{threshold} ms")));
    fact(
        "promises below it that are too little for it",
        decision.contradiction.as_ref().map(|_| "accepted all the same".to_owned()),
    );
    lines.extend([String::new(), "## Why".to_owned(), String::new(), decision.reason.trim().to_owned()]);
    document(Sort::Decisions, &decision.id, DocumentKind::Lesson, title, lines, vec![service.to_string()])
}

fn document(
    sort: Sort,
    id: &str,
    kind: DocumentKind,
    title: String,
    lines: Vec<String>,
    service_ids: Vec<String>,
) -> Document {
    let text = lines.join("\n") + "\n";
    // What was sent, not what is stored of it: redaction may change that.
    let said = format!("{}\n{}\n{}", kind.as_str_name(), service_ids.join(" "), text);
    let name = name(id);
    let source = DocumentSource { uri: format!("{}{name}", sort.source()), revision: sha256_hex(&said) };
    Document {
        id: format!("{}{name}", sort.prefix()),
        kind: kind.into(),
        title: title.chars().take(TITLE_CHARS_MAX).collect(),
        text,
        service_ids,
        source: Some(source),
        ..Document::default()
    }
}

/// A name as part of a document's: as it is where a document may have it, else made of its letters and its hash.
fn name(id: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/@-".contains(c);
    if !id.is_empty() && id.len() <= NAME_LEN_MAX && id.chars().all(allowed) {
        return id.to_owned();
    }
    let letters: String = id.chars().filter(|c| allowed(*c)).take(40).collect();
    format!("{letters}-{}", &sha256_hex(id)[..12])
}

fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn time(time_ms: UnixMillis) -> String {
    let seconds = time_ms.div_euclid(1000);
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// A ratio as people read it, without what arithmetic leaves behind the sixth digit.
fn percent(ratio: f64) -> String {
    format!("{} %", (ratio * 1e8).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_proto::convert::timestamp;
    use attain_vocabulary::EntityId;

    fn outage() -> Incident {
        Incident {
            id: "pagerduty:P1".into(),
            title: "Provider\nis down".into(),
            service_ids: vec!["checkout".into()],
            cause_service_id: "provider".into(),
            start_time: Some(timestamp(1_795_000_000_000)),
            end_time: Some(timestamp(1_795_002_580_000)),
            severity_ratio: Some(0.12),
            summary: "The provider answered 503.".into(),
            excluded: true,
            exclusion_reason: "a drill".into(),
            exclusion_by: "jane".into(),
            services_by: "joe".into(),
            ..Incident::default()
        }
    }

    #[test]
    fn an_incident_tells_what_happened_and_not_who_said_so() {
        let made = incident(&outage()).expect("an incident");
        assert_eq!((made.id.as_str(), made.title.as_str()), ("incidents/pagerduty:P1", "Provider is down"));
        assert_eq!(made.service_ids, ["checkout", "provider"]);
        for told in ["- lasted: 43 min", "- requests that failed: 12 %", "2026-11-18T", "answered 503", "a drill"] {
            assert!(made.text.contains(told), "{told}: {}", made.text);
        }
        assert!(!made.text.contains("jane") && !made.text.contains("joe"));
        let changed = incident(&Incident { summary: "more".into(), ..outage() }).expect("an incident");
        assert_ne!(made.source, changed.source);
        assert_eq!(incident(&Incident { dismissed: true, ..outage() }), None);
        assert_eq!(incident(&Incident { kind: IncidentKind::Maintenance.into(), ..outage() }), None);
        let odd = incident(&Incident { id: "Störung 7 / \u{1f525}".into(), ..outage() }).expect("an incident");
        assert!(odd.id.starts_with("incidents/Strung7/-") && odd.id.is_ascii(), "{}", odd.id);
    }

    #[test]
    fn a_decision_tells_its_reason_and_not_who_made_it() {
        let made = decision(&Decision {
            id: "dec-1".into(),
            action: Action::Reject,
            service: EntityId::new("id", "checkout").expect("valid"),
            recommendation_id: "rec-1".into(),
            kind: SliKind::Availability,
            ambition: None,
            target_ratio: None,
            latency_threshold_ms: None,
            reason: "too loose for the contract".into(),
            decided_by: "jane".into(),
            approved_by: "joe".into(),
            policy_version: 0,
            create_ms: 1_795_000_000_000,
            contradiction: None,
        });
        assert_eq!(made.title, "The recommended availability target of checkout was rejected");
        assert!(made.text.contains("## Why\n\ntoo loose for the contract"), "{}", made.text);
        assert!(!made.text.contains("jane") && !made.text.contains("joe"));
        assert_eq!((made.id.as_str(), made.kind()), ("lessons/dec-1", DocumentKind::Lesson));
    }

    #[test]
    fn a_ratio_is_read_without_noise() {
        assert_eq!(
            (percent(0.999).as_str(), percent(0.9995).as_str(), percent(1.0).as_str()),
            ("99.9 %", "99.95 %", "100 %")
        );
    }
}
