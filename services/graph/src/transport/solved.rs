//! Targets that hold together, as a message.

use attain_consistency::{Binding, Change, Contradiction, Method, Repair, Service};
use attain_proto::graph::v1 as wire;
use attain_vocabulary::{EntityId, Objective};

use super::encode::names;
use crate::domain::snapshot::Snapshot;
use crate::queries::SolvedTargets;

/// Most rules that an answer says to bind.
const BINDINGS_MAX: usize = 100;

pub(super) fn targets(snapshot: &Snapshot, solved: SolvedTargets) -> wire::SolveTargetsResponse {
    let SolvedTargets { fleet, plan, repairs, assumed_perfect, rechecked_count, unchecked_count } = solved;
    let own = plan.budgets.iter().zip(&plan.own_budgets);
    let target = |(service, (budget, own_budget)): (&Service, (&f64, &f64))| wire::SolvedTarget {
        service_id: service.id.to_string(),
        in_force_ratio: service.target.map(Objective::target_ratio),
        target_ratio: promised(*budget),
        own_budget_ratio: *own_budget,
    };
    wire::SolveTargetsResponse {
        contradictions: plan.contradictions.into_iter().map(contradiction).collect(),
        targets: fleet.services().iter().zip(own).map(target).collect(),
        unresolved: plan.unresolved.into_iter().map(contradiction).collect(),
        bindings: plan.bindings.into_iter().take(BINDINGS_MAX).map(binding).collect(),
        repairs: repairs.ranked.into_iter().map(repair).collect(),
        repairs_suggested_count: repairs.suggested_count as u32,
        repairs_solved_count: repairs.considered_count as u32,
        method: match plan.method {
            Method::AsTheyAre => wire::SolveMethod::AsTheyAre,
            Method::Program => wire::SolveMethod::Program,
            Method::ProgramOfLargestTerms => wire::SolveMethod::ProgramOfLargestTerms,
            Method::Loosening => wire::SolveMethod::Loosening,
            Method::TightenedAlike => wire::SolveMethod::TightenedAlike,
        }
        .into(),
        movement_cost: plan.cost,
        assumed_perfect_ids: names(snapshot, &assumed_perfect),
        snapshot: None,
        rechecked_count: rechecked_count as u32,
        unchecked_count: unchecked_count as u32,
    }
}

/// The target of an error budget.
fn promised(budget: f64) -> f64 {
    (1.0 - budget).max(0.0)
}

fn contradiction(contradiction: Contradiction) -> wire::Contradiction {
    match contradiction {
        Contradiction::Promise { caller, callee, budget, needed } => wire::Contradiction {
            service_id: caller.to_string(),
            callee_id: callee.to_string(),
            budget_ratio: budget,
            needed_ratio: needed,
            chain: vec![caller.to_string(), callee.to_string()],
        },
        Contradiction::Ceiling { service, budget, needed, chain } => wire::Contradiction {
            service_id: service.to_string(),
            callee_id: String::new(),
            budget_ratio: budget,
            needed_ratio: needed,
            chain: texts(&chain),
        },
    }
}

fn binding(binding: Binding) -> wire::BindingRule {
    wire::BindingRule {
        service_id: binding.service.to_string(),
        callee_id: binding.callee.map(|callee| callee.to_string()).unwrap_or_default(),
        chain: texts(&binding.chain),
        price: binding.price,
    }
}

fn repair(repair: Repair) -> wire::TargetRepair {
    let (kind, service, callee, target_ratio) = match repair.change {
        Change::LooserTarget { service, budget } => {
            (wire::RepairKind::LooserTarget, service, None, Some(promised(budget)))
        }
        Change::StricterPromise { service, budget } => {
            (wire::RepairKind::StricterPromise, service, None, Some(promised(budget)))
        }
        Change::Fallback { caller, callee, .. } => (wire::RepairKind::Fallback, caller, Some(callee), None),
        Change::SecondInstance { service, budget, .. } => {
            (wire::RepairKind::SecondInstance, service, None, Some(promised(budget)))
        }
    };
    wire::TargetRepair {
        kind: kind.into(),
        service_id: service.to_string(),
        callee_id: callee.map(|callee| callee.to_string()).unwrap_or_default(),
        target_ratio,
        cost: repair.cost,
        contradictions_left_count: repair.contradictions_left as u32,
        moved_count: repair.moved_count as u32,
    }
}

fn texts(ids: &[EntityId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
