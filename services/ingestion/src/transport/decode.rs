//! From the wire to checked values: each row by itself, each complaint with the field as the sender wrote it.

use std::collections::{BTreeMap, BTreeSet};

use attain_proto::convert::{required_time, shares, unix_millis, word};
use attain_proto::day;
use attain_proto::ingestion::v1 as wire;
use attain_proto::vocabulary::v1 as words;
use attain_runtime::context::{CallContext, Role};
use attain_runtime::serve::call_timeout;
use attain_vocabulary::{DAY_MS, EntityId, InvalidValue, Ratio, UnixMillis};
use foldhash::{HashMap, HashSet};
use prost::DecodeError;
use tonic::metadata::KeyAndValueRef;
use tonic::{Request, Status};

use crate::domain::{
    BucketDraft, DependencyKey, DependencyTerms, EntityDeclaration, IncidentDraft, IncidentKind, IncidentSender,
    Latency, MaintenanceDraft, Region, UtilisationDraft, entity_name, optional_text, without_secrets,
};
use crate::imports::{Format, Import};
use crate::intake::{DependencyRows, ServiceRow, bounded};
use crate::reading::Held;
use crate::storage::{BucketSpan, DaySpan, DeclaredEdge, Handing};
use crate::{Config, Error};

/// How the names of headers begin that senders of documents prove themselves by.
const SIGNATURE_HEADERS: [&str; 4] = ["x-pagerduty-signature", "webhook-", "svix-", "x-opsgenie-"];
const NAME_CHARS_MAX: usize = 200;
/// Most services that one question about sampled requests may name.
const SAMPLED_SERVICES_MAX: usize = 200;
const WORD_CHARS_MAX: usize = 64;
const GROUP_CHARS_MAX: usize = 128;

/// How days are handed to whoever reads packed ones up to a version.
pub(super) fn handing(day_version_max: u32) -> Handing {
    if day_version_max >= day::VERSION { Handing::Kept } else { Handing::Unpacked }
}

/// What a caller holds of services; an end that is not given is none.
pub(super) fn held(held: Vec<wire::HeldHistory>) -> Result<BTreeMap<EntityId, Held>, InvalidValue> {
    let one = |(place, held): (usize, wire::HeldHistory)| {
        let within = |invalid: InvalidValue| invalid.within(&format!("held[{place}]"));
        let service = EntityId::new("service_id", &held.service_id).map_err(within)?;
        let end_ms = held.end_time.as_ref().map_or(UnixMillis::MIN, unix_millis);
        Ok((service, Held { sequence: held.sequence, end_ms }))
    };
    held.into_iter().enumerate().map(one).collect()
}

/// A graph, row by row. A request of too many is refused before any is read.
pub(super) fn dependency_rows(
    request: &wire::IngestDependenciesRequest,
    config: &Config,
) -> Result<DependencyRows, Error> {
    bounded("services", request.services.len(), config.services_per_request_max)?;
    bounded("dependencies", request.dependencies.len(), config.dependencies_per_request_max)?;
    let mut checked = Checked::default();
    let mut listed_count = 0;
    let services = request.services.map(|row| {
        let row = readable(row)?;
        listed_count += row.depends_on.len();
        service_row(row, &mut checked)
    });
    let services = services.collect();
    let dependencies = request.dependencies.map(|row| declared_edge(readable(row)?, &mut checked)).collect();
    Ok(DependencyRows { services, dependencies, listed_count })
}

fn readable<Row>(row: Result<Row, DecodeError>) -> Result<Row, InvalidValue> {
    row.map_err(|error| InvalidValue::new("", "unreadable", format!("the row is not of the contract: {error}")))
}

/// Names and texts of one request that were checked: a graph names each service several times, and owners, regions and
/// protocols are few.
#[derive(Debug, Default)]
struct Checked {
    names: HashSet<EntityId>,
    /// By the length that is allowed.
    texts: HashMap<usize, HashMap<String, Option<String>>>,
}

impl Checked {
    fn name(&mut self, field: &str, value: &str) -> Result<EntityId, InvalidValue> {
        if let Some(checked) = self.names.get(value) {
            return Ok(checked.clone());
        }
        let checked = entity_name(field, value)?;
        self.names.insert(checked.clone());
        Ok(checked)
    }

    fn text(&mut self, field: &str, value: &str, chars_max: usize) -> Result<Option<String>, InvalidValue> {
        let known = self.texts.entry(chars_max).or_default();
        if let Some(checked) = known.get(value) {
            return Ok(checked.clone());
        }
        let checked = optional_text(field, value, chars_max)?;
        known.insert(value.to_owned(), checked.clone());
        Ok(checked)
    }
}

fn service_row(row: &mut wire::ServiceDeclaration, checked: &mut Checked) -> Result<ServiceRow, InvalidValue> {
    let declaration = EntityDeclaration {
        id: checked.name("id", &row.id)?,
        display_name: optional_text("display_name", &row.display_name, NAME_CHARS_MAX)?,
        kind: word::<words::EntityKind, _>("kind", row.kind)?,
        tier: word::<words::Tier, _>("tier", row.tier)?,
        owner: checked.text("owner", &row.owner, NAME_CHARS_MAX)?,
        region: checked.text("region", &row.region, NAME_CHARS_MAX)?,
        published_availability: None,
    };
    let declaration = declaration.publish(row.published_availability_ratio)?;
    Ok(ServiceRow { declaration, depends_on: std::mem::take(&mut row.depends_on) })
}

fn declared_edge(row: &mut words::Dependency, checked: &mut Checked) -> Result<DeclaredEdge, InvalidValue> {
    let caller = checked.name("caller_id", &row.caller_id)?;
    let callee = checked.name("callee_id", &row.callee_id)?;
    let ratio = |field: &str, value: Option<f64>| value.map(|value| Ratio::new(field, value)).transpose();
    let terms = DependencyTerms {
        mode: word::<words::DependencyMode, _>("mode", row.mode)?,
        call_rate: row.call_rate,
        call_fraction: ratio("call_fraction", row.call_fraction)?,
        fallback_success: ratio("fallback_success_ratio", row.fallback_success_ratio)?,
        retry_count: row.retry_count,
        timeout_ms: row.timeout_ms,
        protocol: checked.text("protocol", &row.protocol, WORD_CHARS_MAX)?,
        redundancy_group: checked.text("redundancy_group", &row.redundancy_group, GROUP_CHARS_MAX)?,
        redundancy_required_count: row.redundancy_required_count,
    };
    Ok(DeclaredEdge { key: DependencyKey::new(caller, callee)?, said: terms.checked()?, listed: false })
}

/// `service` is the request's; a row that names its own has that.
pub(super) fn bucket_draft(
    service: Option<&EntityId>,
    row: wire::SliBucketDeclaration,
) -> Result<(EntityId, Option<Region>, BucketDraft), InvalidValue> {
    let service = match service {
        Some(service) if row.service_id.is_empty() => service.clone(),
        _ => entity_name("service_id", &row.service_id)?,
    };
    let region = region(&row.region)?;
    if region.is_some() && (row.latency.is_some() || row.latency_explicit.is_some()) {
        let field = if row.latency.is_some() { "latency" } else { "latency_explicit" };
        let reason = "latency is not kept by region; send it with the bucket of the whole service";
        return Err(InvalidValue::new(field, "not_allowed", reason));
    }
    // In lexical order, so that of several bad names always the same is told.
    let by_dependency: BTreeMap<&String, &u64> = row.inherited_by_dependency.iter().collect();
    for name in by_dependency.keys() {
        without_secrets("inherited_by_dependency", name)?;
    }
    let latency = match (&row.latency, row.latency_explicit) {
        (Some(_), Some(_)) => {
            let reason = "latency is given twice; send either latency or latency_explicit";
            return Err(InvalidValue::new("latency_explicit", "conflicting", reason));
        }
        (Some(latency), None) => Some(Latency::Exponential(latency.try_into()?)),
        (None, Some(explicit)) => Some(Latency::Explicit { bounds_ms: explicit.bounds_ms, counts: explicit.counts }),
        (None, None) => None,
    };
    let draft = BucketDraft {
        start_ms: required_time("start_time", row.start_time.as_ref())?,
        valid_count: row.valid_count,
        bad_count: row.bad_count,
        inherited_bad_count: row.inherited_bad_count,
        inherited_by_dependency: shares(by_dependency)?,
        latency,
    };
    Ok((service, region, draft))
}

/// A region that a request names; `None` for an empty one.
pub(super) fn region(name: &str) -> Result<Option<Region>, InvalidValue> {
    (!name.is_empty()).then(|| Region::new("region", name)).transpose()
}

/// `service` is the request's; a row that names its own has that.
pub(super) fn utilisation_draft(
    service: Option<&EntityId>,
    row: &wire::UtilisationDeclaration,
) -> Result<(EntityId, UtilisationDraft), InvalidValue> {
    let service = match service {
        Some(service) if row.service_id.is_empty() => service.clone(),
        _ => entity_name("service_id", &row.service_id)?,
    };
    let kind = word::<words::UtilisationKind, _>("kind", row.kind)?;
    let draft = UtilisationDraft {
        start_ms: required_time("start_time", row.start_time.as_ref())?,
        kind: kind.ok_or_else(|| InvalidValue::new("kind", "required", "say what is used up, for example cpu"))?,
        average: row.average,
        maximum: row.maximum,
        sample_count: row.sample_count,
    };
    Ok((service, draft))
}

pub(super) fn incident_draft(row: wire::Incident) -> Result<IncidentDraft, InvalidValue> {
    Ok(IncidentDraft {
        start_ms: required_time("start_time", row.start_time.as_ref())?,
        end_ms: row.end_time.as_ref().map(unix_millis),
        id: row.id,
        title: row.title,
        service_ids: row.service_ids,
        cause_service_id: row.cause_service_id,
        severity_ratio: row.severity_ratio,
        summary: row.summary,
        excluded: row.excluded,
        exclusion_reason: row.exclusion_reason,
        kind: incident_kind(row.kind)?,
        priority: row.priority,
        origin: None,
    })
}

/// A document with what it needs of the headers. Only ASCII headers of the list reach this far.
pub(super) fn import(request: Request<wire::ImportDocumentRequest>, now_ms: UnixMillis) -> Result<Import, Status> {
    let context = CallContext::read(request.metadata(), call_timeout())?;
    let headers = request.metadata().iter().filter_map(|entry| match entry {
        KeyAndValueRef::Ascii(key, value) if SIGNATURE_HEADERS.iter().any(|begin| key.as_str().starts_with(begin)) => {
            Some((key.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        }
        _ => None,
    });
    let headers = headers.collect();
    let request = request.into_inner();
    Ok(Import {
        sender: sender(&context),
        context,
        format: Format::named(&request.format).map_err(Error::from)?,
        body: request.document.unwrap_or_default().data,
        headers,
        start_ms: request.start_time.as_ref().map(unix_millis),
        end_ms: request.end_time.as_ref().map(unix_millis),
        now_ms,
    })
}

/// Who sends incidents.
pub(super) fn sender(context: &CallContext) -> IncidentSender {
    IncidentSender { name: context.caller.clone(), may_approve: context.may(Role::Approver) }
}

/// Who decides: as the request says, else the caller that the gateway knows.
pub(super) fn named<'a>(by: &'a str, context: &'a CallContext) -> &'a str {
    if by.trim().is_empty() { &context.caller } else { by }
}

pub(super) fn window(request: wire::PutMaintenanceWindowRequest) -> Result<MaintenanceDraft, InvalidValue> {
    Ok(MaintenanceDraft {
        start_ms: required_time("start_time", request.start_time.as_ref())?,
        end_ms: required_time("end_time", request.end_time.as_ref())?,
        id: request.window_id,
        service_ids: request.service_ids,
        reason: request.reason,
    })
}

fn incident_kind(number: i32) -> Result<IncidentKind, InvalidValue> {
    match wire::IncidentKind::try_from(number) {
        Ok(wire::IncidentKind::Unspecified | wire::IncidentKind::Incident) => Ok(IncidentKind::Incident),
        Ok(wire::IncidentKind::Maintenance) => Ok(IncidentKind::Maintenance),
        Err(_) => {
            Err(InvalidValue::new("kind", "unknown_value", format!("{number} is no value that this version knows")))
        }
    }
}

/// A span of time whose ends may be left open.
pub(super) fn span(
    start: Option<&prost_types::Timestamp>,
    end: Option<&prost_types::Timestamp>,
    open_end_ms: i64,
) -> Result<BucketSpan, Error> {
    let span = BucketSpan { start_ms: start.map_or(0, unix_millis), end_ms: end.map_or(open_end_ms, unix_millis) };
    if span.end_ms < span.start_ms {
        return Err(Error::invalid("end_time", "ends_before_start", "the span ends before it starts"));
    }
    Ok(span)
}

/// The days that begin in a span, and the one that it begins in.
pub(super) fn days(span: BucketSpan) -> DaySpan {
    let end_day = span.end_ms.saturating_add(DAY_MS - 1).div_euclid(DAY_MS);
    DaySpan { first_day: span.start_ms.div_euclid(DAY_MS), end_day }
}

/// The services that a question names, each once, in the order of the question.
pub(super) fn services(names: &[String], max: usize) -> Result<Vec<EntityId>, Error> {
    if names.len() > max {
        let reason = format!("{} services; at most {max} a question", names.len());
        return Err(Error::invalid("service_ids", "too_many", reason));
    }
    let mut seen = BTreeSet::new();
    let mut services = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        let service = EntityId::new(&format!("service_ids/{i}"), name)?;
        if seen.insert(service.clone()) {
            services.push(service);
        }
    }
    Ok(services)
}

/// The services that a question about sampled requests names, 1 to 200.
pub(super) fn sampled_services(names: &[String]) -> Result<Vec<EntityId>, Error> {
    if names.is_empty() {
        return Err(Error::invalid("service_ids", "required", "name 1 to 200 services"));
    }
    services(names, SAMPLED_SERVICES_MAX)
}

/// In microseconds since the Unix epoch; fractions of a microsecond are cut off.
pub(super) fn unix_micros(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn edge(caller: &str) -> words::Dependency {
        words::Dependency { caller_id: caller.into(), callee_id: "database".into(), ..Default::default() }
    }

    #[test]
    fn a_row_that_is_no_message_is_refused_alone() {
        let mut sent = wire::IngestDependenciesRequest {
            services: vec![wire::ServiceDeclaration { id: "a".into(), ..Default::default() }].into(),
            dependencies: vec![edge("a"), edge("b")].into(),
        }
        .encode_to_vec();
        // An edge whose caller is said to be longer than the edge.
        sent.extend([0x12, 0x03, 0x0a, 0x09, b'c']);
        sent.extend(
            wire::IngestDependenciesRequest { dependencies: vec![edge("d")].into(), ..Default::default() }
                .encode_to_vec(),
        );
        let request = wire::IngestDependenciesRequest::decode(&sent[..]).expect("a list of rows");
        let rows = dependency_rows(&request, &Config::default()).expect("few enough");
        assert!(rows.services.iter().all(Result::is_ok) && rows.services.len() == 1);
        let callers: Vec<_> = rows
            .dependencies
            .iter()
            .map(|row| row.as_ref().map(|edge| edge.key.caller().as_str()).map_err(|invalid| invalid.code))
            .collect();
        assert_eq!(callers, [Ok("a"), Ok("b"), Err("unreadable"), Ok("d")]);
    }

    #[test]
    fn of_too_many_rows_none_is_read() {
        let config = Config { dependencies_per_request_max: 2, services_per_request_max: 1, ..Config::default() };
        let unread = |tag: u8, count: usize| {
            let bytes = [tag, 0x01, 0xff].repeat(count);
            wire::IngestDependenciesRequest::decode(&bytes[..]).expect("a list of rows")
        };
        for (tag, field, max) in [(0x0a, "services", 1), (0x12, "dependencies", 2)] {
            assert!(dependency_rows(&unread(tag, max), &config).is_ok(), "rows that cannot be read are refused alone");
            let Err(Error::Invalid(invalid)) = dependency_rows(&unread(tag, max + 1), &config) else {
                panic!("too many {field}")
            };
            assert_eq!((invalid[0].field.as_str(), invalid[0].code), (field, "too_many"));
        }
    }
}
