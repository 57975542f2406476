//! Lists, a page at a time.

use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue};

use super::entity_id;
use crate::Error;
use crate::engine::Engine;
use crate::message::{feedback as kept, slo};
use crate::storage::Sought;

const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 500;

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

fn page_size(asked: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(PAGE_SIZE_DEFAULT),
        1..=PAGE_SIZE_MAX => Ok(asked),
        _ => {
            Err(InvalidValue::new("page_size", "out_of_range", format!("{asked} is outside 1 to {PAGE_SIZE_MAX}"))
                .into())
        }
    }
}

/// A page token is the position of the last row of the page before.
fn position(token: &str) -> Result<Option<u64>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let malformed = || InvalidValue::new("page_token", "malformed", "send the token as the page before gave it");
    // Positions are stored as signed numbers.
    let position = token.parse::<i64>().ok().and_then(|position| u64::try_from(position).ok());
    Ok(Some(position.ok_or_else(malformed)?))
}

/// Cuts the row beyond the page off; where there was one, the next page starts after the last that stays.
fn next_token<T>(page: &mut Vec<T>, size: u32, position: impl Fn(&T) -> u64) -> String {
    if page.len() <= size as usize {
        return String::new();
    }
    page.truncate(size as usize);
    page.last().map(|row| position(row).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded_and_tokens_checked() {
        assert_eq!(page_size(0).ok(), Some(100));
        assert!(page_size(501).is_err());
        assert_eq!(position("").ok(), Some(None));
        assert_eq!(position("7").ok(), Some(Some(7)));
        for token in ["x", "-1", "99999999999999999999"] {
            assert!(position(token).is_err(), "{token}");
        }
        let mut rows = vec![1u64, 2, 3];
        assert_eq!(next_token(&mut rows, 2, |row| *row), "2");
        assert_eq!(rows, [1, 2]);
        assert_eq!(next_token(&mut rows, 2, |row| *row), "");
    }
}
