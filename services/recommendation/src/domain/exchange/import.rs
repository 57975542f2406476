//! OpenSLO documents (`openslo/v1`), read one by one: what is wrong with one says nothing of the others.

use std::collections::BTreeMap;

use attain_attainment::SLICE_MINUTES;
use attain_redaction::redact;
use attain_vocabulary::{EntityId, InvalidValue, Objective, SliKind, TimeWindow};
use serde_yaml_ng::Value;

use super::indicator::{Measured, measured};
use super::metrics::SLICE;
use super::openslo::{API_VERSION, OCCURRENCES, TIMESLICES, WHOLE_SLICE};
use super::{SERVICE_ID, is_label};
use crate::domain::slo::kind_word;

/// The length of a slice as a number, which OpenSLO allows, too: of seconds.
const SLICE_SECONDS: u64 = SLICE_MINUTES as u64 * 60;
/// Longest text that is read, in bytes.
const BYTES_MAX: usize = 1024 * 1024;
/// Most documents of one text.
const DOCUMENTS_MAX: usize = 1000;
/// What OpenSLO v1 knows beside SLOs, services and indicators; nothing here needs them.
const OTHER_KINDS: [&str; 4] = ["DataSource", "AlertPolicy", "AlertCondition", "AlertNotificationTarget"];
/// Longest name that is repeated of a document that says something else than a label.
const ECHO_LEN_MAX: usize = 100;

/// A document as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// From 1.
    pub(crate) position: u32,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// What a document holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// An SLO to declare.
    Slo(Declared),
    /// Something that SLOs refer to.
    Other,
    /// What is wrong with it, field by field.
    Wrong(Vec<InvalidValue>),
}

/// An SLO that a document declares.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    pub(crate) service: EntityId,
    pub(crate) kind: SliKind,
    pub(crate) target: Objective,
    pub(crate) latency_threshold_ms: Option<u32>,
    pub(crate) window: TimeWindow,
}

/// Reads a text of documents.
///
/// # Errors
/// Refuses a text that is too long or holds too many, and one without any.
pub(crate) fn read(text: &str) -> Result<Vec<Document>, InvalidValue> {
    if text.len() > BYTES_MAX {
        let reason = format!("{} bytes; at most {BYTES_MAX} are read", text.len());
        return Err(InvalidValue::new("text", "too_long", reason));
    }
    let parts = parts(text);
    if parts.len() > DOCUMENTS_MAX {
        let reason = format!("{} documents; at most {DOCUMENTS_MAX} are read", parts.len());
        return Err(InvalidValue::new("text", "too_many", reason));
    }
    let parsed: Vec<(u32, Result<Value, InvalidValue>)> = (1..)
        .zip(parts)
        .map(|(position, part)| (position, parse(&part)))
        .filter(|(_, parsed)| !matches!(parsed, Ok(Value::Null)))
        .collect();
    if parsed.is_empty() {
        return Err(InvalidValue::new("text", "required", "there is no document in it"));
    }
    let named = Named::of(parsed.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()));
    let mut documents: Vec<Document> =
        parsed.iter().map(|(position, parsed)| document(*position, parsed, &named)).collect();
    refuse_second_ones(&mut documents);
    Ok(documents)
}

/// The documents between lines of three hyphens. They are parted before they are read, so that one that is no YAML does not
/// take those after it along.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        match (rest, parts.last_mut()) {
            (Some(rest), _) => parts.push(format!("{rest}\n")),
            (None, Some(open)) => {
                open.push_str(line);
                open.push('\n');
            }
            (None, None) => {}
        }
    }
    if parts.first().is_some_and(|first| first.trim().is_empty()) && parts.len() > 1 {
        parts.remove(0);
    }
    parts
}

/// What the parser says is not repeated: it may quote the document.
fn parse(part: &str) -> Result<Value, InvalidValue> {
    serde_yaml_ng::from_str(part).map_err(|error| {
        let place = error.location().map(|at| format!(" near line {} of the document", at.line())).unwrap_or_default();
        InvalidValue::new("", "malformed", format!("this is no YAML{place}"))
    })
}

/// What SLOs may refer to.
#[derive(Default)]
struct Named<'a> {
    services: BTreeMap<&'a str, &'a Value>,
    indicators: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Named<'a> {
    fn of(documents: impl Iterator<Item = &'a Value>) -> Self {
        let mut named = Self::default();
        for document in documents.filter(|document| text(document, "apiVersion") == Some(API_VERSION)) {
            let Some(name) = at(document, &["metadata", "name"]).as_str() else { continue };
            match text(document, "kind") {
                Some("Service") => named.services.insert(name, document),
                Some("SLI") => named.indicators.insert(name, document),
                _ => None,
            };
        }
        named
    }
}

fn document(position: u32, parsed: &Result<Value, InvalidValue>, named: &Named<'_>) -> Document {
    let value = match parsed {
        Ok(value) => value,
        Err(fault) => {
            let content = Content::Wrong(vec![fault.clone()]);
            return Document { position, kind: String::new(), name: String::new(), content };
        }
    };
    let echoed = |text: Option<&str>| {
        let short: String = text.unwrap_or_default().chars().take(ECHO_LEN_MAX).collect();
        redact(&short).0.into_owned()
    };
    let kind = text(value, "kind");
    let content = match head(value) {
        Err(faults) => Content::Wrong(faults),
        Ok("SLO") => slo(value, named).map_or_else(Content::Wrong, Content::Slo),
        Ok(_) => Content::Other,
    };
    Document { position, kind: echoed(kind), name: echoed(at(value, &["metadata", "name"]).as_str()), content }
}

/// The fields that every document has; the kind.
fn head(document: &Value) -> Result<&str, Vec<InvalidValue>> {
    if !document.is_mapping() {
        return Err(vec![InvalidValue::new("", "malformed", "a document is a mapping of fields")]);
    }
    let mut faults = Vec::new();
    match text(document, "apiVersion") {
        Some(API_VERSION) => {}
        Some(_) => faults.push(InvalidValue::new("apiVersion", "not_offered", format!("only {API_VERSION} is read"))),
        None => faults.push(InvalidValue::new("apiVersion", "required", format!("say {API_VERSION}"))),
    }
    let known = |kind: &&str| ["SLO", "SLI", "Service"].contains(kind) || OTHER_KINDS.contains(kind);
    let kind = text(document, "kind").unwrap_or_default();
    if !known(&kind) {
        let code = if kind.is_empty() { "required" } else { "unknown_value" };
        faults.push(InvalidValue::new("kind", code, "OpenSLO has SLO, SLI, Service, DataSource and those of alerts"));
    }
    match at(document, &["metadata", "name"]).as_str() {
        Some(name) if is_label(name) => {}
        Some(_) => {
            let reason = "at most 63 lower-case letters, digits and hyphens, no hyphen at an end (RFC 1123)";
            faults.push(InvalidValue::new("metadata.name", "malformed_name", reason));
        }
        None => faults.push(InvalidValue::new("metadata.name", "required", "a document has a name")),
    }
    if !at(document, &["spec"]).is_mapping() {
        faults.push(InvalidValue::new("spec", "required", "a document has a spec"));
    }
    if faults.is_empty() { Ok(kind) } else { Err(faults) }
}

fn slo(document: &Value, named: &Named<'_>) -> Result<Declared, Vec<InvalidValue>> {
    let spec = at(document, &["spec"]);
    let mut faults = Vec::new();
    let service = service(document, spec, named).map_err(|fault| faults.push(fault)).ok();
    let window = window(spec).map_err(|fault| faults.push(fault)).ok();
    let objective = objective(spec).map_err(|fault| faults.push(fault)).ok();
    let target = objective.and_then(|objective| target(objective).map_err(|fault| faults.push(fault)).ok());
    let measured =
        indicator(document, spec, objective.unwrap_or(&Value::Null), named).map_err(|fault| faults.push(fault)).ok();
    let counts_slices = measured.is_some_and(|measured| measured.kind == SliKind::Freshness);
    if let Err(fault) = budgeting(spec, objective.unwrap_or(&Value::Null), counts_slices) {
        faults.push(fault);
    }
    match (service, window, target, measured) {
        (Some(service), Some(window), Some(target), Some(Measured { kind, latency_threshold_ms }))
            if faults.is_empty() =>
        {
            Ok(Declared { service, kind, target, latency_threshold_ms, window })
        }
        _ => Err(faults),
    }
}

/// The service that an SLO names: by its own annotation, by that of the Service document it refers to, or by that name itself.
fn service(document: &Value, spec: &Value, named: &Named<'_>) -> Result<EntityId, InvalidValue> {
    let field = "spec.service";
    let name =
        text(spec, "service").ok_or_else(|| InvalidValue::new(field, "required", "say which service it is for"))?;
    if let Some(id) = annotation(document, SERVICE_ID) {
        return EntityId::new(&format!("metadata.annotations[{SERVICE_ID}]"), &id);
    }
    let of_service = named.services.get(name).and_then(|service| annotation(service, SERVICE_ID));
    EntityId::new(field, of_service.as_deref().unwrap_or(name))
}

fn window(spec: &Value) -> Result<TimeWindow, InvalidValue> {
    let field = "spec.timeWindow";
    let windows = at(spec, &["timeWindow"]).as_sequence().filter(|windows| windows.len() == 1);
    let window = windows
        .and_then(|windows| windows.first())
        .ok_or_else(|| InvalidValue::new(field, "required", "exactly one window is needed"))?;
    let rolling = window.get("isRolling").and_then(Value::as_bool).unwrap_or(false);
    match (rolling, window.get("calendar")) {
        (true, None) => {}
        (false, Some(calendar)) => return calendar_window(&format!("{field}[0]"), window, calendar),
        (true, Some(_)) => {
            let reason = "a rolling window has no calendar";
            return Err(InvalidValue::new(format!("{field}[0].calendar"), "not_allowed", reason));
        }
        (false, None) => {
            let reason = "say isRolling: true, or a calendar";
            return Err(InvalidValue::new(format!("{field}[0].calendar"), "required", reason));
        }
    }
    let field = format!("{field}[0].duration");
    let malformed =
        || InvalidValue::new(field.as_str(), "malformed", "a whole number with its unit, for example 28d or 4w");
    let duration = text(window, "duration").ok_or_else(malformed)?;
    let unit = duration.chars().last().ok_or_else(malformed)?;
    let number: u32 = duration[..duration.len() - unit.len_utf8()].parse().map_err(|_| malformed())?;
    let days = match unit {
        'd' => Some(number),
        'w' => number.checked_mul(7),
        'h' if number.is_multiple_of(24) => Some(number / 24),
        'h' | 'm' => None,
        _ => return Err(malformed()),
    };
    match days {
        Some(days) if days > 0 => TimeWindow::from_days(&field, days),
        _ => Err(InvalidValue::new(field, "not_offered", "windows of 7, 28, 30 or 90 days can be in force")),
    }
}

/// A month or a quarter from its first day on, in UTC: others cannot be in force.
fn calendar_window(field: &str, window: &Value, calendar: &Value) -> Result<TimeWindow, InvalidValue> {
    let not_offered =
        |part: &str, reason: &str| Err(InvalidValue::new(format!("{field}.{part}"), "not_offered", reason));
    if !text(calendar, "timeZone").is_some_and(|zone| ["UTC", "Etc/UTC"].contains(&zone)) {
        return not_offered("calendar.timeZone", "calendar windows are counted in UTC here");
    }
    let start = text(calendar, "startTime").unwrap_or_default();
    let first_of = |months: &[&str]| {
        let day = start.get(5..).and_then(|rest| rest.strip_suffix(" 00:00:00")).unwrap_or_default();
        months.is_empty() && day.ends_with("-01") || months.contains(&day)
    };
    match text(window, "duration") {
        Some("1M") if first_of(&[]) => Ok(TimeWindow::MONTH),
        Some("1Q") if first_of(&["01-01", "04-01", "07-01", "10-01"]) => Ok(TimeWindow::QUARTER),
        Some("1M" | "1Q") => not_offered(
            "calendar.startTime",
            "a month or quarter begins on its first day at 00:00:00, for example 2020-01-01 00:00:00",
        ),
        _ => not_offered("duration", "calendar windows of 1M or 1Q can be in force"),
    }
}

/// Whether the budget is counted as it is here: requests, or for freshness slices of five minutes.
fn budgeting(spec: &Value, objective: &Value, counts_slices: bool) -> Result<(), InvalidValue> {
    let field = "spec.budgetingMethod";
    match text(spec, "budgetingMethod") {
        Some(OCCURRENCES) => Ok(()),
        Some(TIMESLICES) if counts_slices => slices(objective),
        Some(TIMESLICES | "RatioTimeslices") => Err(InvalidValue::new(
            field,
            "not_offered",
            "slices of time are counted for freshness alone, and by Timeslices: for requests say Occurrences",
        )),
        Some(_) => {
            Err(InvalidValue::new(field, "unknown_value", "OpenSLO has Occurrences, Timeslices and RatioTimeslices"))
        }
        None => Err(InvalidValue::new(field, "required", "say Occurrences, or Timeslices for freshness")),
    }
}

/// Slices as they are counted here.
fn slices(objective: &Value) -> Result<(), InvalidValue> {
    let window = objective.get("timeSliceWindow");
    let seconds = || window.and_then(Value::as_u64);
    if window.and_then(Value::as_str) != Some(SLICE) && seconds() != Some(SLICE_SECONDS) {
        let reason = "slices of five minutes are counted: say 5m";
        return Err(InvalidValue::new("spec.objectives[0].timeSliceWindow", "not_offered", reason));
    }
    if objective.get("timeSliceTarget").and_then(Value::as_f64) != Some(WHOLE_SLICE) {
        let reason = "a slice is good where nothing in it is older than the threshold: say 1";
        return Err(InvalidValue::new("spec.objectives[0].timeSliceTarget", "not_offered", reason));
    }
    Ok(())
}

/// The one objective.
fn objective(spec: &Value) -> Result<&Value, InvalidValue> {
    let field = "spec.objectives";
    let objectives = at(spec, &["objectives"]).as_sequence().map(Vec::as_slice).unwrap_or_default();
    match objectives {
        [] => Err(InvalidValue::new(field, "required", "say the target")),
        [objective] if objective.get("indicator").is_some() || objective.get("indicatorRef").is_some() => {
            let reason = "a composite SLO cannot be in force here: give each objective an SLO of its own";
            Err(InvalidValue::new(format!("{field}[0].indicator"), "not_offered", reason))
        }
        [objective] => Ok(objective),
        several => {
            let reason = format!("{} objectives; a service has one target for each SLI here", several.len());
            Err(InvalidValue::new(field, "too_many", reason))
        }
    }
}

fn target(objective: &Value) -> Result<Objective, InvalidValue> {
    let field = "spec.objectives[0].target";
    match (objective.get("target"), objective.get("targetPercent")) {
        (Some(_), Some(_)) => Err(InvalidValue::new(field, "not_allowed", "say target or targetPercent, not both")),
        (Some(target), None) => {
            let ratio = target.as_f64().ok_or_else(|| InvalidValue::new(field, "malformed", "a number in (0, 1)"))?;
            Objective::new(field, ratio)
        }
        (None, Some(percent)) => {
            let field = "spec.objectives[0].targetPercent";
            let percent =
                percent.as_f64().ok_or_else(|| InvalidValue::new(field, "malformed", "a number in (0, 100)"))?;
            // Not a division: 99.9 / 100 is more than 0.999.
            Objective::new(field, (percent * 1e10).round() / 1e12)
        }
        (None, None) => Err(InvalidValue::new(field, "required", "say the target, for example 0.999")),
    }
}

/// The indicator, inline or by its name.
fn indicator(document: &Value, spec: &Value, objective: &Value, named: &Named<'_>) -> Result<Measured, InvalidValue> {
    let (inline, reference) = (spec.get("indicator"), text(spec, "indicatorRef"));
    let (indicator, place) = match (inline, reference) {
        (Some(inline), None) => (inline, "spec.indicator.spec"),
        (None, Some(name)) => {
            let missing = || {
                InvalidValue::new(
                    "spec.indicatorRef",
                    "unknown_reference",
                    "no SLI of this name is among the documents sent",
                )
            };
            (*named.indicators.get(name).ok_or_else(missing)?, "spec.indicatorRef")
        }
        (Some(_), Some(_)) => {
            return Err(InvalidValue::new(
                "spec.indicatorRef",
                "not_allowed",
                "say indicator or indicatorRef, not both",
            ));
        }
        (None, None) => {
            return Err(InvalidValue::new(
                "spec.indicator",
                "required",
                "say what is measured: indicator or indicatorRef",
            ));
        }
    };
    measured(at(indicator, &["spec"]), place, objective, |name| annotation(document, name))
}

/// Of several that speak of one service and SLI the first stands; the others say which that is.
fn refuse_second_ones(documents: &mut [Document]) {
    let mut seen: BTreeMap<(EntityId, &str), (u32, Declared)> = BTreeMap::new();
    for document in documents {
        let Content::Slo(declared) = &document.content else { continue };
        let key = (declared.service.clone(), kind_word(declared.kind));
        let (first, standing) = seen.entry(key).or_insert_with(|| (document.position, declared.clone()));
        if standing != declared {
            let reason = format!(
                "document {first} declares another target for the same service and SLI; one is in force at a time"
            );
            document.content = Content::Wrong(vec![InvalidValue::new("spec.objectives", "conflict", reason)]);
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(value, |value, field| value.get(*field)).unwrap_or(&Value::Null)
}

/// An annotation; numbers and booleans as YAML has them are texts here.
fn annotation(document: &Value, name: &str) -> Option<String> {
    match at(document, &["metadata", "annotations", name]) {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
