//! What became of recommendations, and which SLOs there are and were.

use attain_proto::convert;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, SliKind, Tier};

use crate::domain::lifecycle::PendingState;
use crate::domain::slo::{kind_from_word, kind_word};
use crate::engine::Engine;
use crate::message::lifecycle as message;
use crate::page::{next_token, page_size, position};
use crate::storage::{RegistryFilter, StoredRecommendation};
use crate::{Error, recommendations};

/// Lists recommendations by what became of them.
pub(crate) async fn recommendations(
    engine: &Engine,
    context: &CallContext,
    request: wire::ListRecommendationsRequest,
) -> Result<wire::ListRecommendationsResponse, Error> {
    let state = message::state_of(request.state)?;
    let service = optional_service(&request.service_id)?;
    let size = page_size(request.page_size)?;
    let before = position(&request.page_token)?.unwrap_or(u64::MAX);
    let now_ms = engine.clock.now_ms();
    let mut page = engine.store.standings(&context.tenant, state, service.as_ref(), now_ms, before, size + 1).await?;
    let next_page_token = next_token(&mut page, size, |standing| standing.sequence);
    let recommendations = page.iter().map(|standing| message::summary(standing, now_ms)).collect();
    Ok(wire::ListRecommendationsResponse { recommendations, next_page_token })
}

/// One recommendation with what became of it.
pub(crate) async fn recommendation(
    engine: &Engine,
    context: &CallContext,
    stored: &StoredRecommendation,
) -> Result<wire::GetRecommendationResponse, Error> {
    let (id, recommendation) = (&stored.id, recommendations::decode(stored)?);
    let standing = engine.store.standing(&context.tenant, id).await?;
    let newest = engine
        .store
        .newest_standing(&context.tenant, &recommendation.service_id, crate::message::window::of(&recommendation)?)
        .await?;
    let newest_id = newest.map_or_else(|| id.clone(), |newest| newest.recommendation_id);
    let now_ms = engine.clock.now_ms();
    Ok(wire::GetRecommendationResponse {
        lifecycle: standing.map(|standing| message::lifecycle(&standing, newest_id, now_ms)),
        recommendation: Some(recommendation),
    })
}

/// Lists decisions that wait, or waited, for an approval.
pub(crate) async fn pending(
    engine: &Engine,
    context: &CallContext,
    request: wire::ListPendingDecisionsRequest,
) -> Result<wire::ListPendingDecisionsResponse, Error> {
    let state = message::pending_state_of(request.state)?.unwrap_or(PendingState::Waiting);
    let service = optional_service(&request.service_id)?;
    let size = page_size(request.page_size)?;
    let before = position(&request.page_token)?.unwrap_or(u64::MAX);
    let now_ms = engine.clock.now_ms();
    let mut page =
        engine.store.pending_decisions(&context.tenant, state, service.as_ref(), now_ms, before, size + 1).await?;
    let next_page_token = next_token(&mut page, size, |pending| pending.sequence);
    let pending = page.iter().map(|pending| message::pending(pending, now_ms)).collect();
    Ok(wire::ListPendingDecisionsResponse { pending, next_page_token })
}

/// Lists the SLOs in force of every service.
pub(crate) async fn registered(
    engine: &Engine,
    context: &CallContext,
    request: wire::ListRegisteredSlosRequest,
) -> Result<wire::ListRegisteredSlosResponse, Error> {
    let filter = RegistryFilter {
        tier: convert::word::<vocabulary::Tier, Tier>("tier", request.tier)?,
        owner: request.owner,
        kind: convert::word::<vocabulary::SliKind, SliKind>("kind", request.kind)?,
        expiring: request.expiring,
        service: None,
    };
    let size = page_size(request.page_size)?;
    let after = after(&request.page_token)?;
    let now_ms = engine.clock.now_ms();
    let page = engine.store.registered(&context.tenant, &filter, now_ms, after, size + 1).await?;
    let more = page.len() > size as usize;
    let slos: Vec<_> = page.into_iter().take(size as usize).collect();
    let last = slos.last().filter(|_| more);
    let next_page_token =
        last.map_or_else(String::new, |last| format!("{}:{}", kind_word(last.slo.kind), last.slo.service));
    let slos = slos.iter().map(|slo| message::registered(slo, now_ms)).collect();
    Ok(wire::ListRegisteredSlosResponse { slos, next_page_token })
}

/// Reads one SLO in force.
pub(crate) async fn slo(
    engine: &Engine,
    context: &CallContext,
    request: &wire::GetSloRequest,
) -> Result<wire::GetSloResponse, Error> {
    let service = EntityId::new("service_id", &request.service_id)?;
    let kind = kind_named(&request.kind)?;
    let filter = RegistryFilter { service: Some(service.clone()), kind: Some(kind), ..RegistryFilter::default() };
    let now_ms = engine.clock.now_ms();
    let found = engine.store.registered(&context.tenant, &filter, now_ms, ("", ""), 1).await?;
    let found =
        found.first().ok_or_else(|| Error::UnknownSlo { service: service.to_string(), kind: request.kind.clone() })?;
    let registered = message::registered(found, now_ms);
    Ok(wire::GetSloResponse { slo: registered.slo.clone(), registered: Some(registered) })
}

/// Lists the versions of an SLO.
pub(crate) async fn versions(
    engine: &Engine,
    context: &CallContext,
    request: wire::ListSloVersionsRequest,
) -> Result<wire::ListSloVersionsResponse, Error> {
    let service = EntityId::new("service_id", &request.service_id)?;
    let kind = kind_named(&request.kind)?;
    let size = page_size(request.page_size)?;
    let before = position(&request.page_token)?.unwrap_or(u64::MAX);
    let mut page = engine.store.slo_versions(&context.tenant, &service, kind, before, size + 1).await?;
    let next_page_token = next_token(&mut page, size, |version| u64::from(version.version));
    let versions = page.into_iter().map(message::slo_version).collect();
    Ok(wire::ListSloVersionsResponse { versions, next_page_token })
}

fn optional_service(text: &str) -> Result<Option<EntityId>, Error> {
    if text.is_empty() { Ok(None) } else { Ok(Some(EntityId::new("service_id", text)?)) }
}

fn kind_named(word: &str) -> Result<SliKind, Error> {
    let unknown = || InvalidValue::new("kind", "unknown_value", "an SLO measures `availability` or `latency`");
    Ok(kind_from_word(word).ok_or_else(unknown)?)
}

/// A page token of the registry: kind and service of the last row of the page before.
fn after(token: &str) -> Result<(&str, &str), Error> {
    if token.is_empty() {
        return Ok(("", ""));
    }
    let malformed = || InvalidValue::new("page_token", "malformed", "send the token as the page before gave it");
    let (kind, service) = token.split_once(':').ok_or_else(malformed)?;
    kind_from_word(kind).ok_or_else(malformed)?;
    EntityId::new("page_token", service).map_err(|_| malformed())?;
    Ok((service, kind))
}
