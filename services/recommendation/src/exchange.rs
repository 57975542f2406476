//! SLOs as documents: those in force out, those of other tools in.

use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, SliKind};

use crate::decisions::Came;
use crate::domain::exchange::import::{Content, Declared, Document, read};
use crate::domain::exchange::{Format, MetricNames, export};
use crate::domain::lifecycle::PendingState;
use crate::domain::slo::{Action, NewTarget, Slo, Verdict, checked_reason};
use crate::engine::Engine;
use crate::gather::blocking;
use crate::members::Refusal;
use crate::{Error, approvals, measured};

/// Proposals of one service that are looked through for one that is sent again.
const PENDING_MAX: u32 = 500;

/// Writes the SLOs in force of a service.
pub(crate) async fn exported(
    engine: &Engine,
    context: &CallContext,
    request: wire::GetSloExportRequest,
) -> Result<wire::GetSloExportResponse, Error> {
    let service = EntityId::new("service_id", &request.service_id)?;
    let format = Format::from_word(&request.format)?;
    let metrics = metrics(&engine.config.metrics, request)?;
    let measured = measured::read(engine, context, &service).await?;
    let exported = blocking(move || {
        // Rules that traffic is too little for are guarded; where none was measured nobody knows.
        let requests_per_day = measured.history(SliKind::Availability, None).valid_per_day();
        export(format, &measured.slos, &metrics, Some(requests_per_day).filter(|requests| *requests > 0.0))
    })
    .await??;
    let file = |file: crate::domain::exchange::File| wire::ExportedFile { name: file.name, content: file.content };
    Ok(wire::GetSloExportResponse {
        format: format.word().to_owned(),
        files: exported.files.into_iter().map(file).collect(),
        notes: exported.notes,
    })
}

/// The names that the request gives, else those configured. Counters of all and of failed requests go together: one without
/// the other would count apples among pears.
fn metrics(configured: &MetricNames, request: wire::GetSloExportRequest) -> Result<MetricNames, Error> {
    let mut metrics = configured.clone();
    if request.valid_counter.is_empty() != request.bad_counter.is_empty() {
        let field = if request.valid_counter.is_empty() { "valid_counter" } else { "bad_counter" };
        return Err(InvalidValue::new(field, "required", "valid_counter and bad_counter go together").into());
    }
    if !request.valid_counter.is_empty() {
        (metrics.valid_counter, metrics.bad_counter) = (request.valid_counter, request.bad_counter);
    }
    if !request.latency_histogram.is_empty() {
        metrics.latency_histogram = request.latency_histogram;
    }
    if !request.latency_unit.is_empty() {
        metrics.latency_unit = request.latency_unit;
    }
    if !request.age_gauge.is_empty() {
        metrics.age_gauge = request.age_gauge;
    }
    if !request.age_unit.is_empty() {
        metrics.age_unit = request.age_unit;
    }
    metrics.validate()?;
    Ok(metrics)
}

/// Declares the SLOs of a text, each by itself and each as a decision. One that is in force already is left as it is.
pub(crate) async fn imported(
    engine: &Engine,
    context: &CallContext,
    text: String,
) -> Result<wire::ImportSlosResponse, Error> {
    let documents = blocking(move || read(&text)).await??;
    let mut response = wire::ImportSlosResponse::default();
    for document in documents {
        let failed = failed(&document);
        let taken = take(engine, context, document).await.unwrap_or_else(failed);
        match taken.outcome() {
            wire::ImportOutcome::Imported => response.imported_count += 1,
            wire::ImportOutcome::Unchanged => response.unchanged_count += 1,
            wire::ImportOutcome::Refused => response.refused_count += 1,
            wire::ImportOutcome::Pending => response.pending_count += 1,
            wire::ImportOutcome::Failed => response.failed_count += 1,
            wire::ImportOutcome::Read | wire::ImportOutcome::Unspecified => {}
        }
        response.documents.push(taken);
    }
    Ok(response)
}

/// What to say of a document that could not be taken: those before it are decided already.
fn failed(document: &Document) -> impl FnOnce(Error) -> wire::ImportedDocument + use<> {
    let (position, kind, name) = (document.position, document.kind.clone(), document.name.clone());
    move |error| wire::ImportedDocument {
        position,
        kind,
        name,
        outcome: wire::ImportOutcome::Failed as i32,
        errors: vec![wire::DocumentError {
            field: String::new(),
            code: error.reason().to_lowercase(),
            reason: error.to_string(),
        }],
        ..wire::ImportedDocument::default()
    }
}

async fn take(engine: &Engine, context: &CallContext, document: Document) -> Result<wire::ImportedDocument, Error> {
    let Document { position, kind, name, content } = document;
    let mut taken = wire::ImportedDocument { position, kind, name, ..wire::ImportedDocument::default() };
    let refused = |taken: wire::ImportedDocument, faults: Vec<InvalidValue>| wire::ImportedDocument {
        outcome: wire::ImportOutcome::Refused as i32,
        errors: faults.into_iter().map(error).collect(),
        ..taken
    };
    let declared = match content {
        Content::Other => return Ok(wire::ImportedDocument { outcome: wire::ImportOutcome::Read as i32, ..taken }),
        Content::Wrong(faults) => return Ok(refused(taken, faults)),
        Content::Slo(declared) => declared,
    };
    match engine.ingestion.entity(context, &declared.service).await {
        Ok(_) => {}
        Err(Refusal::Unknown) => {
            let reason = "there is no service of this name; send its telemetry or declare it first";
            return Ok(refused(taken, vec![InvalidValue::new("spec.service", "unknown_service", reason)]));
        }
        Err(other) => return Err(other.fatal("ingestion")),
    }
    taken.service_id = declared.service.to_string();
    taken.sli_kind = WireKind::from(declared.kind) as i32;
    let (outcome, slo_id) = declare(engine, context, declared, &taken.name).await?;
    Ok(wire::ImportedDocument { outcome: outcome as i32, slo_id, ..taken })
}

/// Puts an SLO in force where another or none is. The version that was seen has to be the one that is replaced: where somebody
/// decided in between it is looked at again.
async fn declare(
    engine: &Engine,
    context: &CallContext,
    declared: Declared,
    name: &str,
) -> Result<(wire::ImportOutcome, String), Error> {
    let reason = checked_reason(Action::Declare, &format!("imported from the OpenSLO document {name}"))?;
    loop {
        let slos = engine.store.slos(&context.tenant, &declared.service).await?;
        let in_force = slos.iter().find(|slo| slo.kind == declared.kind);
        if let Some(slo) = in_force.filter(|slo| as_declared(slo, &declared)) {
            return Ok((wire::ImportOutcome::Unchanged, slo.id()));
        }
        let target = NewTarget {
            target: declared.target,
            latency_threshold_ms: declared.latency_threshold_ms,
            window: declared.window,
            as_recommended: false,
        };
        let verdict = Verdict {
            action: Action::Declare,
            service: declared.service.clone(),
            recommendation_id: String::new(),
            kind: declared.kind,
            ambition: None,
            target: Some(target),
            reason: reason.clone(),
            decided_by: context.caller.clone(),
            time_ms: engine.clock.now_ms(),
            version_match: Some(in_force.map_or(0, |slo| slo.version)),
            contradiction: None,
        };
        if is_proposed(engine, context, &verdict).await? {
            return Ok((wire::ImportOutcome::Pending, String::new()));
        }
        match approvals::decide_or_propose(engine, context, verdict).await {
            Ok(Came::Decided(decided)) => {
                let slo_id = decided.slo.map(|slo| slo.id()).unwrap_or_default();
                return Ok((wire::ImportOutcome::Imported, slo_id));
            }
            Ok(Came::Pending(..)) => return Ok((wire::ImportOutcome::Pending, String::new())),
            Err(Error::VersionMismatch { .. }) => {}
            Err(other) => return Err(other),
        }
    }
}

/// Whether the same target waits for an approval already.
async fn is_proposed(engine: &Engine, context: &CallContext, verdict: &Verdict) -> Result<bool, Error> {
    let (state, service, now_ms) = (PendingState::Waiting, Some(&verdict.service), verdict.time_ms);
    let store = &engine.store;
    let waiting = store.pending_decisions(&context.tenant, state, service, now_ms, u64::MAX, PENDING_MAX).await?;
    Ok(waiting.iter().any(|pending| pending.verdict.kind == verdict.kind && pending.verdict.target == verdict.target))
}

fn as_declared(slo: &Slo, declared: &Declared) -> bool {
    slo.target == declared.target
        && slo.latency_threshold_ms == declared.latency_threshold_ms
        && slo.window == declared.window
}

fn error(fault: InvalidValue) -> wire::DocumentError {
    wire::DocumentError { field: fault.field, code: fault.code.to_owned(), reason: fault.reason }
}
