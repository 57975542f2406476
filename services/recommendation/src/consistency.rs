//! Whether the availability SLOs in force hold together, and what would.

use std::sync::Arc;

use attain_attainment::TARGET_MENU;
use attain_proto::graph::v1 as graph;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue};

use crate::Error;
use crate::domain::consistent::bad_window_factor;
use crate::engine::Engine;
use crate::fleet::{self, Fleet};
use crate::message::recommendation::missing_input;

const REPAIRS_DEFAULT: u32 = 8;
const REPAIRS_MAX: u32 = 50;

/// Solves for all of them at once.
pub(crate) async fn analyze(
    engine: &Arc<Engine>,
    context: &CallContext,
    request: wire::AnalyzeConsistencyRequest,
) -> Result<wire::AnalyzeConsistencyResponse, Error> {
    let repairs_max = repairs_max(request.repairs_max)?;
    let fleet = fleet::promised(engine, context).await?;
    let target = |id: &EntityId| {
        let target_ratio = fleet.slos.get(id)?.target.target_ratio();
        Some(graph::TargetInForce { service_id: id.to_string(), target_ratio, fixed: false })
    };
    let question = graph::SolveTargetsRequest {
        targets: fleet.affected.iter().filter_map(target).collect(),
        rates: fleet.rates.iter().map(|rate| in_a_bad_window(&fleet, rate)).collect(),
        menu_ratios: TARGET_MENU.to_vec(),
        repairs_max,
        scope_ids: Vec::new(),
    };
    let solved = engine.graph.solve(context, question).await.map_err(|refusal| refusal.fatal("graph"))?;
    let moves = |target: &graph::SolvedTarget| target.in_force_ratio.is_some_and(|ratio| ratio != target.target_ratio);
    Ok(wire::AnalyzeConsistencyResponse {
        consistent: solved.contradictions.is_empty(),
        method: solved.method,
        contradictions: solved.contradictions,
        moves: solved.targets.into_iter().filter(moves).collect(),
        unresolved: solved.unresolved,
        bindings: solved.bindings,
        repairs: solved.repairs,
        repairs_suggested_count: solved.repairs_suggested_count,
        repairs_solved_count: solved.repairs_solved_count,
        slo_count: fleet.affected.len() as u32,
        assumed_perfect_ids: solved.assumed_perfect_ids,
        missing_inputs: fleet.missing.iter().map(missing_input).collect(),
        snapshot: solved.snapshot,
        rechecked_count: solved.rechecked_count,
        unchecked_count: solved.unchecked_count,
    })
}

fn repairs_max(asked: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(REPAIRS_DEFAULT),
        1..=REPAIRS_MAX => Ok(asked),
        _ => {
            Err(InvalidValue::new("repairs_max", "out_of_range", format!("{asked} is outside 1 to {REPAIRS_MAX}"))
                .into())
        }
    }
}

/// The rate scaled as all failures of the service are in a bad window, where that is forecast.
fn in_a_bad_window(fleet: &Fleet, rate: &graph::ComponentRate) -> graph::ComponentRate {
    let forecast = EntityId::new("entity_id", &rate.entity_id).ok().and_then(|id| fleet.forecasts.get(&id));
    let worse = forecast.map_or(1.0, bad_window_factor);
    graph::ComponentRate { own_failure_ratio: (rate.own_failure_ratio * worse).min(1.0), ..rate.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_bounded() {
        assert_eq!(repairs_max(0).expect("the default"), REPAIRS_DEFAULT);
        assert_eq!(repairs_max(50).expect("the most"), 50);
        let refused = repairs_max(51).expect_err("too many").to_string();
        assert!(refused.contains("repairs_max"), "{refused}");
    }
}
