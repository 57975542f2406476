use std::sync::Arc;
use std::time::Instant;

use attain_consistency::{Fleet, Limits, Menu, Plan, Problem, Repairs, Weights};
use attain_reliability::EvaluationLimits;
use attain_runtime::context::CallContext;
use attain_vocabulary::{InvalidValue, Objective};

use super::Engine;
use crate::domain::fleet::{NamedPromise, assumed_perfect, fleet, promises, within};
use crate::domain::links::NodeIndex;
use crate::domain::recheck::Recheck;
use crate::domain::scenario::{NamedRate, Scenario, known};
use crate::domain::snapshot::Snapshot;
use crate::error::Error;
use crate::storage::held::Held;

/// Most changes that are solved for as repairs.
const REPAIRS_MAX: usize = 50;

/// What is asked, by names.
#[derive(Debug)]
pub(crate) struct TargetsQuestion {
    pub(crate) promises: Vec<NamedPromise>,
    pub(crate) rates: Vec<NamedRate>,
    pub(crate) menu: Vec<Objective>,
    pub(crate) repairs_max: usize,
    /// Only what these services need is looked at; everything when empty.
    pub(crate) scope: Vec<String>,
}

/// Targets that hold together.
#[derive(Debug)]
pub(crate) struct SolvedTargets {
    pub(crate) fleet: Fleet,
    pub(crate) plan: Plan,
    pub(crate) repairs: Repairs,
    pub(crate) assumed_perfect: Vec<NodeIndex>,
    /// Targets that rest on redundancy: evaluated exactly, and not.
    pub(crate) rechecked_count: usize,
    pub(crate) unchecked_count: usize,
}

impl TargetsQuestion {
    fn is_understood_by(&self, snapshot: &Snapshot) -> bool {
        let known = |id: &str| snapshot.find(id).is_some();
        self.promises.iter().all(|promise| known(&promise.service_id))
            && self.rates.iter().all(|rate| known(&rate.entity_id))
            && self.scope.iter().all(|id| known(id))
    }
}

impl Engine {
    /// Contradictions of targets in force, targets that hold together, and repairs as far as half of the time allows.
    pub(crate) async fn solve_targets(
        &self,
        context: &CallContext,
        question: TargetsQuestion,
    ) -> Result<(Arc<Held>, SolvedTargets), Error> {
        if question.repairs_max > REPAIRS_MAX {
            let reason = format!("{} are too many for one call; ask for at most {REPAIRS_MAX}", question.repairs_max);
            return Err(InvalidValue::new("repairs_max", "out_of_range", reason).into());
        }
        let held = self.gather(context, |snapshot| question.is_understood_by(snapshot)).await?;
        let graph = Arc::clone(&held);
        let (quarter, half) = (Instant::now() + context.remaining() / 4, Instant::now() + context.remaining() / 2);
        let limits = EvaluationLimits {
            bdd_nodes_max: self.bounds.bdd_nodes_max,
            samples: self.bounds.samples,
            ..EvaluationLimits::default()
        };
        let job = move |give_up: &dyn Fn() -> bool| {
            let snapshot = &graph.snapshot;
            let mut state = Scenario::resolve(snapshot, &question.rates, &[]).map_err(Error::Invalid)?.before;
            if !question.scope.is_empty() {
                state = within(snapshot, state, &scope(snapshot, &question.scope)?);
            }
            let promises = promises(snapshot, &question.promises).map_err(Error::Invalid)?;
            let fleet = fleet(snapshot, &state, &promises)?;
            let problem = Problem::of(&fleet, &Weights::default(), &solver_limits(&question.scope))?;
            let menu = (!question.menu.is_empty()).then(|| Menu::new(&question.menu));
            let enough = || give_up() || Instant::now() >= quarter;
            let recheck = Recheck::new(snapshot, &state, limits, &enough);
            let exact = |service: usize, own_budgets: &[f64]| recheck.availability(service, own_budgets);
            let plan = problem.solve(menu.as_ref(), Some(&exact))?;
            let repairs = problem.repairs(question.repairs_max, &|| give_up() || Instant::now() >= half);
            let assumed_perfect = assumed_perfect(&state, &promises);
            let (rechecked_count, unchecked_count) = recheck.counts();
            Ok(SolvedTargets { fleet, plan, repairs, assumed_perfect, rechecked_count, unchecked_count })
        };
        let answer = self.workers.run(context.deadline, job).await?;
        Ok((held, answer))
    }
}

/// A scope asks how far one target has to give way: the least loosening says so, and no program is needed.
fn solver_limits(scope: &[String]) -> Limits {
    let all = Limits::default();
    if scope.is_empty() { all } else { Limits { program_services_max: 0, ..all } }
}

fn scope(snapshot: &Snapshot, ids: &[String]) -> Result<Vec<NodeIndex>, Error> {
    let node = |(index, id): (usize, &String)| known(snapshot, &format!("scope_ids/{index}"), id);
    ids.iter().enumerate().map(node).collect::<Result<_, _>>().map_err(Error::from)
}
