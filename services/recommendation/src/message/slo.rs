//! SLOs, decisions and audit records on the wire.

use attain_attainment::Ambition;
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;
use attain_vocabulary::InvalidValue;

use super::window;
use crate::domain::audit::Record;
use crate::domain::below::DecidedBelow;
use crate::domain::contradiction::Contradiction;
use crate::domain::slo::{Action, Decision, Slo};

pub(crate) fn slo(slo: &Slo) -> wire::Slo {
    wire::Slo {
        id: slo.id(),
        service_id: slo.service.to_string(),
        kind: WireKind::from(slo.kind) as i32,
        target_ratio: slo.target.target_ratio(),
        latency_threshold_ms: slo.latency_threshold_ms.unwrap_or(0),
        window_days: slo.window.days(),
        version: slo.version,
        recommendation_id: slo.recommendation_id.clone(),
        as_recommended: slo.as_recommended,
        update_time: Some(timestamp(slo.update_ms)),
        calendar_window: window::calendar(slo.window),
    }
}

pub(crate) fn decision(decision: &Decision) -> wire::Decision {
    wire::Decision {
        id: decision.id.clone(),
        action: action(decision.action) as i32,
        service_id: decision.service.to_string(),
        recommendation_id: decision.recommendation_id.clone(),
        kind: WireKind::from(decision.kind) as i32,
        ambition: decision.ambition.map_or(wire::Ambition::Unspecified, ambition) as i32,
        target_ratio: decision.target_ratio.unwrap_or(0.0),
        latency_threshold_ms: decision.latency_threshold_ms.unwrap_or(0),
        reason: decision.reason.clone(),
        decided_by: decision.decided_by.clone(),
        approved_by: decision.approved_by.clone(),
        policy_version: decision.policy_version,
        create_time: Some(timestamp(decision.create_ms)),
        contradiction: decision.contradiction.as_ref().map(contradiction),
    }
}

pub(crate) fn contradiction(contradiction: &Contradiction) -> wire::AcceptedContradiction {
    wire::AcceptedContradiction {
        callee_id: contradiction.callee.as_ref().map(ToString::to_string).unwrap_or_default(),
        chain: contradiction.chain.iter().map(ToString::to_string).collect(),
        target_ratio: contradiction.target_ratio,
        consistent_target_ratio: contradiction.consistent_target_ratio,
        needed_ratio: contradiction.needed_ratio,
        reason: contradiction.reason.clone(),
    }
}

pub(crate) fn audit_record(record: Record) -> wire::AuditRecord {
    wire::AuditRecord {
        tenant_id: record.tenant_id,
        encoding: record.encoding.number(),
        sequence: record.sequence,
        time: Some(timestamp(record.entry.time_ms)),
        caller: record.entry.caller,
        action: record.entry.action,
        service_id: record.entry.service_id,
        detail_json: record.entry.detail_json,
        sha256: record.sha256,
        previous_sha256: record.previous_sha256,
    }
}

pub(crate) fn ambition(ambition: Ambition) -> wire::Ambition {
    match ambition {
        Ambition::Conservative => wire::Ambition::Conservative,
        Ambition::Balanced => wire::Ambition::Balanced,
        Ambition::Ambitious => wire::Ambition::Ambitious,
    }
}

pub(crate) fn decided_below(decided: &DecidedBelow) -> wire::DecidedBelow {
    wire::DecidedBelow { service_id: decided.service.to_string(), decide_time: Some(timestamp(decided.time_ms)) }
}

/// Unsaid is balanced.
pub(crate) fn ambition_of(number: i32) -> Result<Ambition, InvalidValue> {
    match wire::Ambition::try_from(number) {
        Ok(wire::Ambition::Conservative) => Ok(Ambition::Conservative),
        Ok(wire::Ambition::Unspecified | wire::Ambition::Balanced) => Ok(Ambition::Balanced),
        Ok(wire::Ambition::Ambitious) => Ok(Ambition::Ambitious),
        Err(_) => Err(unknown("ambition", number)),
    }
}

pub(crate) fn action_of(number: i32) -> Result<Action, InvalidValue> {
    match wire::DecisionAction::try_from(number) {
        Ok(wire::DecisionAction::Accept) => Ok(Action::Accept),
        Ok(wire::DecisionAction::Modify) => Ok(Action::Modify),
        Ok(wire::DecisionAction::Reject) => Ok(Action::Reject),
        Ok(wire::DecisionAction::Declare) => Ok(Action::Declare),
        Ok(wire::DecisionAction::Unspecified) => {
            Err(InvalidValue::new("action", "required", "say what was decided: accept, modify, reject or declare"))
        }
        Err(_) => Err(unknown("action", number)),
    }
}

pub(crate) fn action(action: Action) -> wire::DecisionAction {
    match action {
        Action::Accept => wire::DecisionAction::Accept,
        Action::Modify => wire::DecisionAction::Modify,
        Action::Reject => wire::DecisionAction::Reject,
        Action::Declare => wire::DecisionAction::Declare,
    }
}

fn unknown(field: &str, number: i32) -> InvalidValue {
    InvalidValue::new(field, "unknown_value", format!("{number} is no value that this version knows"))
}
