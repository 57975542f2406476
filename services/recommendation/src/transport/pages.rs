//! Lists, a page at a time.

use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::EntityId;

use super::entity_id;
use crate::Error;
use crate::engine::Engine;
use crate::message::{feedback as kept, slo};
use crate::page::{next_token, page_size, position};
use crate::storage::Sought;

pub(super) async fn slos(
    engine: &Engine,
    context: &CallContext,
    request: &wire::ListSlosRequest,
) -> Result<wire::ListSlosResponse, Error> {
    let service = entity_id(&request.service_id)?;
    let slos = engine.store.slos(&context.tenant, &service).await?;
    Ok(wire::ListSlosResponse { slos: slos.iter().map(slo::slo).collect() })
}

pub(super) async fn decisions(
    engine: &Engine,
    context: &CallContext,
    request: &wire::ListDecisionsRequest,
) -> Result<wire::ListDecisionsResponse, Error> {
    let service = entity_id(&request.service_id)?;
    let size = page_size(request.page_size)?;
    let before = position(&request.page_token)?.unwrap_or(u64::MAX);
    let mut page = engine.store.decisions(&context.tenant, &service, before, size + 1).await?;
    let next_page_token = next_token(&mut page, size, |(sequence, _)| *sequence);
    let decisions = page.iter().map(|(_, decision)| slo::decision(decision)).collect();
    Ok(wire::ListDecisionsResponse { decisions, next_page_token })
}

pub(super) async fn audit_records(
    engine: &Engine,
    context: &CallContext,
    request: &wire::ListAuditRecordsRequest,
) -> Result<wire::ListAuditRecordsResponse, Error> {
    let service = if request.service_id.is_empty() { None } else { Some(entity_id(&request.service_id)?) };
    let size = page_size(request.page_size)?;
    let sought = Sought {
        service_id: service.as_ref().map(EntityId::as_str),
        without_reads: request.without_reads,
        after_sequence: position(&request.page_token)?.unwrap_or(0),
    };
    let mut page = engine.store.audit_records(&context.tenant, sought, size + 1).await?;
    let next_page_token = next_token(&mut page, size, |record| record.sequence);
    let records = page.into_iter().map(slo::audit_record).collect();
    Ok(wire::ListAuditRecordsResponse { records, next_page_token })
}

pub(super) async fn audit_head(engine: &Engine, context: &CallContext) -> Result<wire::GetAuditHeadResponse, Error> {
    let end = engine.store.audit_end(&context.tenant).await?;
    Ok(wire::GetAuditHeadResponse {
        tenant_id: context.tenant.to_string(),
        sequence: end.sequence,
        sha256: end.sha256,
        time: end.time_ms.map(timestamp),
    })
}

pub(super) async fn feedback(
    engine: &Engine,
    context: &CallContext,
    request: &wire::ListFeedbackRequest,
) -> Result<wire::ListFeedbackResponse, Error> {
    let service = entity_id(&request.service_id)?;
    let size = page_size(request.page_size)?;
    let before = position(&request.page_token)?.unwrap_or(u64::MAX);
    let mut page = engine.store.feedback(&context.tenant, &service, before, size + 1).await?;
    let next_page_token = next_token(&mut page, size, |(sequence, _)| *sequence);
    let feedback = page.iter().map(|(_, feedback)| kept::feedback(feedback)).collect();
    Ok(wire::ListFeedbackResponse { feedback, next_page_token })
}
