//! What retries leave of each edge's impact, from the callee's own failure probability.
//!
//! A call with k retries whose callee fails one attempt with probability f and persists with share c is lost, given that
//! the first attempt failed, with probability `r = c + (1 − c) f^k` ([`retry_remainder`]). f is the callee's exact
//! unavailability in the steady state, its own retried calls included, so it is found bottom-up. Without cycles one
//! elimination does that: a callee is complete before anybody reads it. Else one diagram holds the
//! functions of all callees that are called with retries, and as a node's children come before it, one pass from the
//! first node to the last meets every f before the first r that needs it. Which of them, `exact` decides.
//!
//! Inside a cycle f and r need each other. Meant is the least solution of the scalar equations `f = F(f)`, reached from
//! "nobody fails" as the steady state is reached from "all up". F increases, so rounds from 0 stay below it; a vector u with
//! `F(u) ≤ u` lies above it (Tarski). Rounds end at such a u within [`TOLERANCE`] of the last one below: the failure
//! ratios that are used are at most that much too high and never too low.
//!
//! Where neither elimination nor the diagram nor the rounds end within their limits, f is the bound from above of
//! [`Association`] and the answer says [`RetryMethod::Bounded`].

use crate::association::Association;
use crate::bdd::{Diagram, Function, LimitExceeded, Measures, TRUE};
use crate::demand::Demand;
use crate::elimination::{self, Weights};
use crate::equations::{Impact, Numbering, Order};
use crate::exact::first_that_fits;
use crate::fixed_point::{Schedule, solve_component};
use crate::formulas::retry_remainder;
use crate::frontier::Plan;
use crate::structure::{Component, EdgeEffect, Structure};
use std::cell::LazyCell;
use std::collections::BTreeMap;

/// Relative distance between the failure ratios used and the last round below them, at most.
const TOLERANCE: f64 = 4e-13;
/// By what share a ratio is put above what the others make of it; above the rounding of a round.
const MARGIN: f64 = 4e-15;
/// A round that raises no ratio by more than this share has settled.
const SETTLED: f64 = 1e-15;
/// Rounds inside one cycle. They approach geometrically except where one more failure makes about one more failure.
const ROUNDS_MAX: usize = 2_000;
/// Nodes measured in all rounds inside one cycle: under a second.
const MEASURED_NODES_MAX: usize = 50_000_000;

/// Where the failure ratios of retried attempts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryMethod {
    /// From the callees' exact unavailability; also where nothing is retried.
    Exact,
    /// For some callees from a bound from above: retries help at least as much as was counted.
    Bounded,
}

/// Failure ratios of one attempt at callees that are called with retries.
pub(crate) struct Attempts {
    failure_ratios: BTreeMap<Component, f64>,
    pub(crate) method: RetryMethod,
}

impl Attempts {
    /// For all edges of the structure, which `root` reaches.
    pub(crate) fn of(structure: &Structure, root: Component, association: &Association, nodes_max: usize) -> Self {
        let retried = retried_edges(structure);
        if retried.is_empty() {
            return Self { failure_ratios: BTreeMap::new(), method: RetryMethod::Exact };
        }
        let impact = |edge| to_be_weighed(structure, edge);
        let number = |order| {
            let mut numbering = Numbering::new(structure, &impact);
            numbering.reach(root, order);
            numbering
        };
        let depth_first = number(Order::DepthFirst);
        let callers_first = LazyCell::new(|| number(Order::CallersFirst));
        let equations = LazyCell::new(|| depth_first.equations());
        let found = first_that_fits(
            depth_first.variables.len(),
            nodes_max,
            |order, nodes_max| {
                let numbering = match order {
                    Order::DepthFirst => &depth_first,
                    Order::CallersFirst => &callers_first,
                };
                let weighing = Weighing::new(structure, &retried, numbering);
                weighing.by_diagram(association, Limits { order, nodes_max })
            },
            |cost_max| {
                let callees = retried.keys().filter_map(|&callee| depth_first.node_of(callee));
                Plan::of(&equations, &Schedule::of(&equations, callees), None, cost_max)
            },
            |plan| Weighing::new(structure, &retried, &depth_first).by_elimination(plan),
        );
        found.unwrap_or_else(|| Self::at_worst(&retried, association))
    }

    /// For all edges of the structure by the bound from above.
    pub(crate) fn bounded(structure: &Structure, association: &Association) -> Self {
        Self::at_worst(&retried_edges(structure), association)
    }

    fn at_worst(retried: &Retried, association: &Association) -> Self {
        let failure_ratios = retried.keys().map(|&callee| (callee, association.failure_ratio_max(callee))).collect();
        Self { failure_ratios, method: RetryMethod::Bounded }
    }

    /// As if every further attempt failed only by the callee's own fault: retries then help at least as much as they do.
    pub(crate) fn at_best(structure: &Structure) -> Self {
        let callees = retried_edges(structure).into_keys();
        let failure_ratios = callees.map(|callee| (callee, structure.own_failure_ratio(callee))).collect();
        Self { failure_ratios, method: RetryMethod::Bounded }
    }

    /// The edge's impact with its retries counted. From a cold start they do not help against a member of the caller's own
    /// cycle, which has not come up for all of them.
    pub(crate) fn impact(&self, structure: &Structure, association: &Association, edge: usize) -> Impact {
        let edge = structure.edge(edge);
        let ratio = edge.effect.impact_ratio;
        if !edge.effect.is_retried() {
            return Impact::of(ratio, ratio);
        }
        let steady = ratio * left(edge.effect, self.failure_ratios[&edge.callee]);
        let cold = if association.in_one_cycle(edge.caller, edge.callee) { ratio } else { steady };
        Impact::of(steady, cold)
    }
}

/// By component: whether a request of it may come to an edge that is called with retries.
pub(crate) fn rests_on_retries(structure: &Structure, association: &Association) -> Vec<bool> {
    let mut rests = vec![false; structure.component_count()];
    for members in association.callees_first() {
        let on_retries = |&node: &usize| {
            let component = Component(node as u32);
            let mut edges = structure.edges_of(component);
            edges.any(|edge| structure.edge(edge).effect.is_retried())
                || structure.callees(component).any(|callee| rests[callee.index()])
        };
        if members.iter().any(on_retries) {
            members.iter().for_each(|&node| rests[node] = true);
        }
    }
    rests
}

/// Indices of the edges that are called with retries, by callee.
type Retried = BTreeMap<Component, Vec<usize>>;

fn retried_edges(structure: &Structure) -> Retried {
    let mut retried = Retried::new();
    for index in structure.components().flat_map(|caller| structure.edges_of(caller)) {
        let edge = structure.edge(index);
        if edge.effect.is_retried() {
            retried.entry(edge.callee).or_default().push(index);
        }
    }
    retried
}

fn left(effect: EdgeEffect, attempt_failure_ratio: f64) -> f64 {
    retry_remainder(attempt_failure_ratio, effect.retry_count, effect.persistent_share)
}

#[derive(Clone, Copy)]
struct Limits {
    order: Order,
    nodes_max: usize,
}

/// The retried callees of one cycle, or one outside all cycles.
struct Stage {
    callees: Vec<(Component, Function)>,
    /// Nodes of the diagram when all of its functions were there.
    node_count: usize,
    cyclic: bool,
}

/// Whatever is retried gets a variable, weighed anew each time that f is known better.
fn to_be_weighed(structure: &Structure, edge: usize) -> Impact {
    let effect = structure.edge(edge).effect;
    let ratio = effect.impact_ratio;
    if effect.is_retried() { Impact::Partial { steady: ratio, cold: ratio } } else { Impact::of(ratio, ratio) }
}

fn stages(
    numbering: &Numbering,
    retried: &Retried,
    diagram: &mut Diagram,
    limits: Limits,
) -> Result<Vec<Stage>, LimitExceeded> {
    let equations = numbering.equations();
    let callee_of: BTreeMap<usize, Component> =
        retried.keys().filter_map(|&callee| Some((numbering.node_of(callee)?, callee))).collect();
    let schedule = Schedule::of(&equations, callee_of.keys().copied());
    if limits.order == Order::CallersFirst
        && let Some(demand) = Demand::new(&equations, &schedule)
    {
        let mut expansion = demand.expand(limits.nodes_max);
        return stages_of(&schedule, &callee_of, |members| {
            let of_member = |&(node, _): &(usize, Component)| expansion.function_of(node, diagram);
            let functions: Result<Vec<Function>, LimitExceeded> = members.retried.iter().map(of_member).collect();
            Ok((functions?, diagram.node_count()))
        });
    }
    let mut values = vec![TRUE; equations.len()];
    let mut operands = Vec::new();
    stages_of(&schedule, &callee_of, |members| {
        solve_component(&equations, members.all, &mut values, &mut operands, diagram)?;
        Ok((members.retried.iter().map(|&(node, _)| values[node]).collect(), diagram.node_count()))
    })
}

/// A strongly connected component, and those of it that are called with retries.
struct Members<'a> {
    all: &'a [usize],
    retried: &'a [(usize, Component)],
}

fn stages_of(
    schedule: &Schedule,
    callee_of: &BTreeMap<usize, Component>,
    mut functions_of: impl FnMut(Members) -> Result<(Vec<Function>, usize), LimitExceeded>,
) -> Result<Vec<Stage>, LimitExceeded> {
    let mut stages = Vec::new();
    for all in schedule.components() {
        let retried: Vec<(usize, Component)> =
            all.iter().filter_map(|node| Some((*node, *callee_of.get(node)?))).collect();
        let (functions, node_count) = functions_of(Members { all, retried: &retried })?;
        if !retried.is_empty() {
            let callees = retried.into_iter().map(|(_, callee)| callee).zip(functions).collect();
            stages.push(Stage { callees, node_count, cyclic: all.len() > 1 });
        }
    }
    Ok(stages)
}

struct Weighing<'a, 'b> {
    structure: &'a Structure,
    retried: &'a Retried,
    numbering: &'a Numbering<'b>,
    ratios: Vec<f64>,
    measures: Measures,
    found: BTreeMap<Component, f64>,
    method: RetryMethod,
}

/// Every f is asked for, and put into the variables of its calls, when its callee is complete.
impl Weights for Weighing<'_, '_> {
    fn failure_ratio(&self, variable: u32) -> f64 {
        self.ratios[variable as usize]
    }

    fn completed(&mut self, node: usize, down: f64) {
        let callee = self.numbering.component_of(node);
        if self.retried.contains_key(&callee) {
            self.weigh(callee, down);
            self.found.insert(callee, down);
        }
    }
}

impl<'a, 'b> Weighing<'a, 'b> {
    fn new(structure: &'a Structure, retried: &'a Retried, numbering: &'a Numbering<'b>) -> Self {
        Self {
            structure,
            retried,
            numbering,
            ratios: numbering.variables.iter().map(|variable| variable.failure_ratio).collect(),
            measures: Measures::default(),
            found: BTreeMap::new(),
            method: RetryMethod::Exact,
        }
    }

    fn by_elimination(mut self, plan: &Plan) -> Attempts {
        elimination::run(plan, &mut self);
        Attempts { failure_ratios: self.found, method: self.method }
    }

    fn by_diagram(mut self, association: &Association, limits: Limits) -> Result<Attempts, LimitExceeded> {
        let mut diagram = Diagram::new(limits.nodes_max);
        for stage in &stages(self.numbering, self.retried, &mut diagram, limits)? {
            self.settle(&diagram, stage, association);
        }
        Ok(Attempts { failure_ratios: self.found, method: self.method })
    }

    fn settle(&mut self, diagram: &Diagram, stage: &Stage, association: &Association) {
        let settled = if stage.cyclic { self.rounds(diagram, stage) } else { Some(self.measured(diagram, stage)) };
        let failing = settled.unwrap_or_else(|| {
            self.method = RetryMethod::Bounded;
            stage.callees.iter().map(|&(callee, _)| association.failure_ratio_max(callee)).collect()
        });
        self.weigh_all(stage, &failing);
        self.found.extend(stage.callees.iter().map(|&(callee, _)| callee).zip(failing));
    }

    /// From "nobody fails" to a vector just above the least solution; nothing where that takes too many rounds.
    fn rounds(&mut self, diagram: &Diagram, stage: &Stage) -> Option<Vec<f64>> {
        let mut failing = vec![0.0; stage.callees.len()];
        let node_count = stage.node_count - self.measures.up.len().min(stage.node_count);
        for _ in 0..ROUNDS_MAX.min(MEASURED_NODES_MAX / node_count.max(1)) {
            self.weigh_all(stage, &failing);
            let next = self.measured(diagram, stage);
            let settled = next.iter().zip(&failing).all(|(next, last)| *next <= last * (1.0 + SETTLED));
            failing = next;
            if settled {
                return self.above(diagram, stage, &failing);
            }
        }
        None
    }

    /// From the last round below the least solution to the first vector u with `F(u) ≤ u`, each ratio raised only as far as
    /// the others ask of it: how a cycle passes a rise on differs from member to member, so no common rise would do. Each
    /// round raises one ratio by [`MARGIN`] at least and none by more than [`TOLERANCE`], so they end.
    fn above(&mut self, diagram: &Diagram, stage: &Stage, below: &[f64]) -> Option<Vec<f64>> {
        let mut above = below.to_vec();
        loop {
            self.weigh_all(stage, &above);
            let image = self.measured(diagram, stage);
            if image.iter().zip(&above).all(|(image, above)| image <= above) {
                return Some(above);
            }
            for (above, image) in above.iter_mut().zip(image) {
                *above = above.max(image * (1.0 + MARGIN)).min(1.0);
            }
            if above.iter().zip(below).any(|(above, below)| *above > below * (1.0 + TOLERANCE)) {
                return None;
            }
        }
    }

    /// Failure ratios of the stage's callees with the ratios as they are. A cycle's nodes are measured again with others.
    fn measured(&mut self, diagram: &Diagram, stage: &Stage) -> Vec<f64> {
        let ratios = &self.ratios;
        let start = self.measures.up.len();
        diagram.measure_on(&mut self.measures, stage.node_count, |variable| ratios[variable as usize]);
        let down = stage.callees.iter().map(|&(_, function)| self.measures.down[function as usize]).collect();
        if stage.cyclic {
            self.measures.truncate(start);
        }
        down
    }

    /// Puts what retries leave of the calls to a callee into their variables.
    fn weigh(&mut self, callee: Component, failing: f64) {
        for &index in &self.retried[&callee] {
            let effect = self.structure.edge(index).effect;
            if let Some(guard) = self.numbering.guard_of(index) {
                self.ratios[guard as usize] = effect.impact_ratio * left(effect, failing);
            }
        }
    }

    fn weigh_all(&mut self, stage: &Stage, failing: &[f64]) {
        for (&(callee, _), &failing) in stage.callees.iter().zip(failing) {
            self.weigh(callee, failing);
        }
    }
}
