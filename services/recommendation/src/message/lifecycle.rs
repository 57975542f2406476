//! States, pending decisions and the registry of SLOs on the wire.

use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_vocabulary::{InvalidValue, Tier, TimeWindow, UnixMillis};

use super::slo::{action, ambition, contradiction, slo};
use super::window;
use crate::domain::lifecycle::{Pending, PendingState, Standing, State};
use crate::storage::{Registered, SloVersion};

pub(crate) fn summary(standing: &Standing, now_ms: UnixMillis) -> wire::RecommendationSummary {
    wire::RecommendationSummary {
        id: standing.recommendation_id.clone(),
        service_id: standing.service_id.clone(),
        version: standing.version,
        window_days: standing.window.days(),
        create_time: Some(timestamp(standing.create_ms)),
        state: state(standing.state(now_ms)) as i32,
        expire_time: Some(timestamp(standing.expire_ms)),
        confidence: standing.confidence,
        fallback: standing.fallback,
        tier: tier(standing.tier),
        calendar_window: window::calendar(standing.window),
        contradiction: standing.contradiction.as_ref().map(contradiction),
    }
}

pub(crate) fn lifecycle(standing: &Standing, newest_id: String, now_ms: UnixMillis) -> wire::RecommendationLifecycle {
    wire::RecommendationLifecycle {
        state: state(standing.state(now_ms)) as i32,
        expire_time: Some(timestamp(standing.expire_ms)),
        newest_recommendation_id: newest_id,
        contradiction: standing.contradiction.as_ref().map(contradiction),
    }
}

pub(crate) fn pending(pending: &Pending, now_ms: UnixMillis) -> wire::PendingDecision {
    let verdict = &pending.verdict;
    let closed = pending.stored != PendingState::Waiting;
    wire::PendingDecision {
        id: pending.id.clone(),
        state: pending_state(pending.state(now_ms)) as i32,
        action: action(verdict.action) as i32,
        service_id: verdict.service.to_string(),
        recommendation_id: verdict.recommendation_id.clone(),
        kind: vocabulary::SliKind::from(verdict.kind) as i32,
        ambition: verdict.ambition.map_or(wire::Ambition::Unspecified, ambition) as i32,
        target_ratio: verdict.target.map_or(0.0, |target| target.target.target_ratio()),
        latency_threshold_ms: verdict.target.and_then(|target| target.latency_threshold_ms).unwrap_or(0),
        window_days: verdict.target.map_or(0, |target| target.window.days()),
        replaces_version: verdict.version_match.unwrap_or(0),
        reason: verdict.reason.clone(),
        proposed_by: verdict.decided_by.clone(),
        create_time: Some(timestamp(verdict.time_ms)),
        expire_time: Some(timestamp(pending.expire_ms)),
        closed_by: pending.closed_by.clone(),
        close_time: closed.then(|| timestamp(pending.close_ms)),
        close_reason: pending.close_reason.clone(),
        decision_id: pending.decision_id.clone(),
        calendar_window: verdict.target.map_or(0, |target| window::calendar(target.window)),
        contradiction: verdict.contradiction.as_ref().map(contradiction),
    }
}

pub(crate) fn registered(registered: &Registered, now_ms: UnixMillis) -> wire::RegisteredSlo {
    let expiring = registered.renewal_ms.is_some_and(|renewal_ms| now_ms >= renewal_ms);
    let open = registered.open_recommendation_id.clone();
    wire::RegisteredSlo {
        slo: Some(slo(&registered.slo)),
        tier: tier(registered.tier),
        owner: registered.owner.clone(),
        review_time: registered.review_ms.map(timestamp),
        expiring,
        renewal_recommendation_id: open.filter(|_| expiring).unwrap_or_default(),
        contradiction: registered.contradiction.as_ref().map(contradiction),
    }
}

pub(crate) fn slo_version(version: SloVersion) -> wire::SloVersion {
    wire::SloVersion {
        version: version.version,
        target_ratio: version.target_ratio,
        latency_threshold_ms: version.latency_threshold_ms.unwrap_or(0),
        window_days: version.window.map_or(0, TimeWindow::days),
        recommendation_id: version.recommendation_id,
        as_recommended: version.as_recommended,
        decision_id: format!("decision-{}", version.sequence),
        action: action(version.action) as i32,
        reason: version.reason,
        decided_by: version.decided_by,
        approved_by: version.approved_by,
        create_time: Some(timestamp(version.create_ms)),
        end_time: version.end_ms.map(timestamp),
        calendar_window: version.window.map_or(0, window::calendar),
        contradiction: version.contradiction.as_ref().map(contradiction),
    }
}

/// The state asked for; `None` for any.
pub(crate) fn state_of(number: i32) -> Result<Option<State>, InvalidValue> {
    Ok(match wire::RecommendationState::try_from(number).map_err(|_| unknown(number))? {
        wire::RecommendationState::Unspecified => None,
        wire::RecommendationState::Open => Some(State::Open),
        wire::RecommendationState::Accepted => Some(State::Accepted),
        wire::RecommendationState::Modified => Some(State::Modified),
        wire::RecommendationState::Rejected => Some(State::Rejected),
        wire::RecommendationState::Expired => Some(State::Expired),
        wire::RecommendationState::Superseded => Some(State::Superseded),
    })
}

/// The state asked for; `None` where it was left unsaid.
pub(crate) fn pending_state_of(number: i32) -> Result<Option<PendingState>, InvalidValue> {
    Ok(match wire::PendingState::try_from(number).map_err(|_| unknown(number))? {
        wire::PendingState::Unspecified => None,
        wire::PendingState::Waiting => Some(PendingState::Waiting),
        wire::PendingState::Approved => Some(PendingState::Approved),
        wire::PendingState::Refused => Some(PendingState::Refused),
        wire::PendingState::Withdrawn => Some(PendingState::Withdrawn),
        wire::PendingState::Expired => Some(PendingState::Expired),
    })
}

fn state(state: State) -> wire::RecommendationState {
    match state {
        State::Open => wire::RecommendationState::Open,
        State::Accepted => wire::RecommendationState::Accepted,
        State::Modified => wire::RecommendationState::Modified,
        State::Rejected => wire::RecommendationState::Rejected,
        State::Expired => wire::RecommendationState::Expired,
        State::Superseded => wire::RecommendationState::Superseded,
    }
}

fn pending_state(state: PendingState) -> wire::PendingState {
    match state {
        PendingState::Waiting => wire::PendingState::Waiting,
        PendingState::Approved => wire::PendingState::Approved,
        PendingState::Refused => wire::PendingState::Refused,
        PendingState::Withdrawn => wire::PendingState::Withdrawn,
        PendingState::Expired => wire::PendingState::Expired,
    }
}

fn tier(tier: Option<Tier>) -> i32 {
    tier.map_or(vocabulary::Tier::Unspecified, vocabulary::Tier::from) as i32
}

fn unknown(number: i32) -> InvalidValue {
    InvalidValue::new("state", "unknown_value", format!("{number} is no state that this version knows"))
}
