//! What was learned on the wire, and what a stored recommendation tells of what was suggested.

use attain_attainment::{Ambition, percent};
use attain_learning::{
    ArmView, Arms, Cell, CellState, Direction, Estimate, Evidence, Observed, Outcome, PolicyEstimate, Shown, nearest,
    views,
};
use attain_proto::convert;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::{EntityKind as WireEntityKind, SliKind as WireKind, Tier as WireTier};
use attain_vocabulary::{EntityKind, Tier, UnixMillis};
use prost::Message as _;

use super::slo;
use crate::domain::feedback::FeedbackKind;
use crate::domain::learning::{Entry, Learnable, Learned, Suggested};
use crate::domain::slo::{Action, ambition_word};

pub(crate) fn suggested(learned: &Learned, suggested: &Suggested<'_>) -> wire::SuggestedOffer {
    let Suggested { kind, arms, suggestion, seed } = suggested;
    wire::SuggestedOffer {
        kind: WireKind::from(*kind) as i32,
        ambition: slo::ambition(suggestion.ambition) as i32,
        propensity: suggestion.propensity,
        evidence: suggestion.views.iter().map(|view| evidence(view, arms)).collect(),
        tier: WireTier::from(learned.tier) as i32,
        service_kind: WireEntityKind::from(learned.kind) as i32,
        learning_version: learned.version,
        learning_sha256: learned.sha256.clone(),
        seed: *seed,
        reason: reason(suggested),
    }
}

fn reason(suggested: &Suggested<'_>) -> String {
    let suggestion = &suggested.suggestion;
    let arm = suggested.arms.arm(suggestion.ambition);
    let Some(view) = suggestion.views.iter().find(|view| view.ambition == suggestion.ambition) else {
        return String::new();
    };
    format!(
        "Suggested with a probability of {} among the offers: services of this tier and class take {} as it is in an estimated {} \
         of cases ({} to {}); of {} such suggestions {} were accepted. Every offer keeps the risk that it states.",
        percent(suggestion.propensity),
        ambition_word(suggestion.ambition),
        percent(view.mean),
        percent(view.low),
        percent(view.high),
        arm.suggested_count,
        arm.accepted_count,
    )
}

fn evidence(view: &ArmView, arms: &Arms) -> wire::AmbitionEvidence {
    let arm = arms.arm(view.ambition);
    wire::AmbitionEvidence {
        ambition: slo::ambition(view.ambition) as i32,
        acceptance_mean: view.mean,
        acceptance_low: view.low,
        acceptance_high: view.high,
        success_weight: arm.success,
        failure_weight: arm.failure,
        propensity: view.propensity,
        suggested_count: arm.suggested_count,
        accepted_count: arm.accepted_count,
    }
}

pub(crate) fn cell((cell, state): (&Cell, &CellState), now_ms: UnixMillis) -> wire::LearnedCell {
    let arms = state.arms.at(now_ms);
    wire::LearnedCell {
        tier: WireTier::from(cell.tier) as i32,
        service_kind: WireEntityKind::from(cell.kind) as i32,
        kind: WireKind::from(cell.sli) as i32,
        evidence: views(&arms, &Ambition::ALL).iter().map(|view| evidence(view, &arms)).collect(),
        accept_count: state.accept_count,
        modify_count: state.modify_count,
        reject_count: state.reject_count,
        feedback_count: state.feedback_count,
    }
}

pub(crate) fn policy(estimate: &PolicyEstimate) -> wire::PolicyEstimate {
    let share = |share: Estimate| wire::AcceptanceEstimate {
        acceptance_ratio: share.ratio,
        low_ratio: share.low,
        high_ratio: share.high,
    };
    wire::PolicyEstimate {
        policy: estimate.policy.name().to_owned(),
        ips: estimate.ips.map(share),
        snips: estimate.snips.map(share),
        doubly_robust: estimate.doubly_robust.map(share),
        decision_count: estimate.decision_count,
        effective_count: estimate.effective_count,
    }
}

/// What can be learned from an entry; `None` where its recommendation suggested nothing for the SLI, or cannot be read.
pub(crate) fn learned_from(entry: &Entry) -> Option<Evidence> {
    let recommendation = wire::Recommendation::decode(entry.recommendation.as_slice()).ok()?;
    let number = WireKind::from(entry.kind) as i32;
    let suggested = recommendation.suggested.iter().find(|suggested| suggested.kind == number)?;
    let mut propensities = [None; 3];
    for evidence in &suggested.evidence {
        let ambition = ambition(evidence.ambition)?;
        let place = Ambition::ALL.iter().position(|known| *known == ambition)?;
        propensities[place] = Some(evidence.propensity);
    }
    let shown = Shown { suggested: ambition(suggested.ambition)?, propensities };
    let observed = match &entry.learnable {
        Learnable::Feedback(FeedbackKind::TooStrict) => Observed::Feedback(shown, Direction::TooStrict),
        Learnable::Feedback(FeedbackKind::TooLoose) => Observed::Feedback(shown, Direction::TooLoose),
        Learnable::Feedback(_) => return None,
        Learnable::Decision { action, ambition, target_ratio, threshold_ms } => {
            let outcome = match action {
                Action::Accept => Outcome::Accepted((*ambition)?),
                Action::Reject => Outcome::Rejected,
                Action::Modify => Outcome::Edited(edited(&recommendation, number, *target_ratio, *threshold_ms)?),
                Action::Declare => return None,
            };
            Observed::Decision(shown, outcome)
        }
    };
    let tier: Tier = convert::word::<WireTier, Tier>("tier", suggested.tier).ok()??;
    let kind: EntityKind =
        convert::word::<WireEntityKind, EntityKind>("service_kind", suggested.service_kind).ok()??;
    let cell = Cell { tier, kind, sli: entry.kind };
    Some(Evidence { sequence: entry.sequence, time_ms: entry.time_ms, cell, observed })
}

/// The offer that an edited target lies nearest to.
fn edited(recommendation: &wire::Recommendation, kind: i32, target_ratio: f64, threshold_ms: u32) -> Option<Ambition> {
    let sli = recommendation.slis.iter().find(|sli| sli.kind == kind)?;
    let offers: Vec<(Ambition, f64, u32)> = sli
        .offers
        .iter()
        .filter_map(|offer| Some((ambition(offer.ambition)?, offer.target_ratio, offer.latency_threshold_ms)))
        .collect();
    nearest(&offers, target_ratio, threshold_ms)
}

fn ambition(number: i32) -> Option<Ambition> {
    match wire::Ambition::try_from(number).ok()? {
        wire::Ambition::Conservative => Some(Ambition::Conservative),
        wire::Ambition::Balanced => Some(Ambition::Balanced),
        wire::Ambition::Ambitious => Some(Ambition::Ambitious),
        wire::Ambition::Unspecified => None,
    }
}
