//! Availability of one component: exact where an elimination or a decision diagram fits its limit, else estimated; always
//! with bounds.

use crate::association::Association;
use crate::bdd::{Diagram, Function, LimitExceeded};
use crate::bounds::{self, BoundsMethod};
use crate::demand::Demand;
use crate::elimination;
use crate::equations::{Equation, Order, System, Variable};
use crate::exact::first_that_fits;
use crate::fixed_point::{Schedule, Start, solve};
use crate::frontier::Plan;
use crate::importance::{self, CommonCauseImportance, Importance, Ranking};
use crate::monte_carlo::{self, Sampling};
use crate::retries::{Attempts, RetryMethod};
use crate::structure::{Component, Part, Structure};
use std::cell::LazyCell;

/// How much work an evaluation may take, and its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationLimits {
    /// Nodes of one decision diagram, intermediate ones included; about 200 bytes each at worst. Up to eight diagrams are
    /// tried, one after the other. An elimination may read or write 200 states for each of these nodes.
    pub bdd_nodes_max: usize,
    /// States sampled where nothing exact fits; rounded up to a multiple of 64, fewer for systems of tens of thousands of
    /// components.
    pub samples: u32,
    /// Seed of the samples. The same seed gives the same answer.
    pub seed: u64,
}

impl Default for EvaluationLimits {
    fn default() -> Self {
        Self { bdd_nodes_max: 250_000, samples: 65_536, seed: 0 }
    }
}

/// How a probability was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationMethod {
    /// Binary decision diagram, or elimination over a frontier of components.
    Exact,
    /// Seeded Monte Carlo, for what remains when everything in series has been factored out exactly.
    MonteCarlo,
}

/// What the structure allows a component to attain. Ratios are fractions in `[0, 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Probability that a request works in the steady state (greatest fixed point).
    pub availability_ratio: f64,
    /// Probability that it fails, without the rounding of `1 − availability_ratio`: digits hold down to 1e-300.
    pub unavailability_ratio: f64,
    /// How both were computed.
    pub method: EvaluationMethod,
    /// Where the failure ratios of retried attempts come from. When [`RetryMethod::Bounded`], the availability is not
    /// overstated, and the interval and the bounds reach up to what retries could save at best.
    pub retries: RetryMethod,
    /// 95 % interval (Wilson) of a Monte Carlo estimate, cut to the bounds; the value itself, twice, when exact.
    pub interval: (f64, f64),
    /// Bounds on the exact availability.
    pub bounds: (f64, f64),
    /// Which bounds.
    pub bounds_method: BoundsMethod,
    /// Availability after a cold start (least fixed point): below `availability_ratio` where a cycle cannot start itself.
    pub cold_start_ratio: f64,
    /// How that was computed.
    pub cold_start_method: EvaluationMethod,
    /// Every component that the root reaches, greatest contribution first.
    pub importances: Vec<Importance>,
    /// False where Monte Carlo had no budget for components of small failure ratio, which are then missing.
    pub importances_complete: bool,
    /// Common causes of the redundancy groups that the root reaches, greatest contribution first.
    pub common_causes: Vec<CommonCauseImportance>,
}

/// Evaluates what the structure allows `root` to attain.
///
/// Time and memory are bounded by the limits and by what the root reaches, linear in it for trees and wherever edges are
/// hard. A small diagram is tried first, then elimination where there is no cycle and the frontier stays narrow, then diagrams
/// up to the limit with variables depth first and callers first, then sampling.
///
/// # Panics
/// When `root` is not a component of the structure.
#[must_use]
pub fn evaluate(structure: &Structure, root: Component, limits: &EvaluationLimits) -> Evaluation {
    let sampled = |structure: &Structure, system: &System| Some(steady_sampled(structure, system, limits));
    evaluate_or_else(structure, root, limits, sampled).expect("whatever is not exact is sampled")
}

/// The same where the steady state is exact within the limits, and nothing where it would have to be sampled.
///
/// # Panics
/// When `root` is not a component of the structure.
#[must_use]
pub fn evaluate_exactly(structure: &Structure, root: Component, limits: &EvaluationLimits) -> Option<Evaluation> {
    evaluate_or_else(structure, root, limits, |_, _| None)
}

fn evaluate_or_else(
    structure: &Structure,
    root: Component,
    limits: &EvaluationLimits,
    inexact: impl FnOnce(&Structure, &System) -> Option<Steady>,
) -> Option<Evaluation> {
    let Part { structure, root, origins } = structure.reached_from(root);
    let mut evaluation = evaluate_part(&structure, root, limits, inexact)?;
    let origin = |component: Component| origins[component.index()];
    for importance in &mut evaluation.importances {
        importance.component = origin(importance.component);
    }
    for member in evaluation.common_causes.iter_mut().flat_map(|cause| &mut cause.members) {
        *member = origin(*member);
    }
    Some(evaluation)
}

fn evaluate_part(
    structure: &Structure,
    root: Component,
    limits: &EvaluationLimits,
    inexact: impl FnOnce(&Structure, &System) -> Option<Steady>,
) -> Option<Evaluation> {
    let association = Association::below(structure, [root]);
    let attempts = Attempts::of(structure, root, &association, limits.bdd_nodes_max);
    let impact = |edge| attempts.impact(structure, &association, edge);
    let compile = |order| System::compile(structure, root, &impact, order);
    let depth_first = compile(Order::DepthFirst);
    let callers_first = LazyCell::new(|| compile(Order::CallersFirst));

    let steady = first_that_fits(
        depth_first.variables.len(),
        limits.bdd_nodes_max,
        |order, nodes_max| match order {
            Order::DepthFirst => steady_by_diagram(structure, &depth_first, nodes_max),
            Order::CallersFirst => steady_by_diagram(structure, &callers_first, nodes_max),
        },
        |cost_max| Plan::of(&depth_first.steady, &Schedule::of(&depth_first.steady, [0]), Some(0), cost_max),
        |plan| steady_by_elimination(structure, &depth_first, plan),
    );
    let steady = match steady {
        Some(steady) => steady,
        None => inexact(structure, &depth_first)?,
    };
    let cold = Schedule::of(&depth_first.cold, [0]).is_cyclic().then(|| {
        cold_exactly(&depth_first, limits)
            .or_else(|_| cold_exactly(&callers_first, limits))
            .unwrap_or_else(|_| cold_sampled(&depth_first, limits))
    });
    let bracket = bounds::bracket(&depth_first, root, &association);
    let evaluation = assemble(&Series::of(&depth_first), steady, cold, bracket);
    Some(match attempts.method {
        RetryMethod::Exact => evaluation,
        RetryMethod::Bounded => confess(evaluation, structure, root, &association),
    })
}

/// The value stands on retries that help too little: above, only what they could save at best is a bound.
fn confess(conservative: Evaluation, structure: &Structure, root: Component, association: &Association) -> Evaluation {
    let at_best = Attempts::at_best(structure);
    let impact = |edge| at_best.impact(structure, association, edge);
    let system = System::compile(structure, root, &impact, Order::DepthFirst);
    let high = bounds::bracket(&system, root, association).1.max(conservative.availability_ratio);
    Evaluation {
        retries: RetryMethod::Bounded,
        interval: (conservative.interval.0, high),
        bounds: (conservative.bounds.0, high),
        bounds_method: BoundsMethod::Bracket,
        ..conservative
    }
}

/// The steady state, given that everything in series is up.
struct Steady {
    up: f64,
    down: f64,
    method: EvaluationMethod,
    interval: (f64, f64),
    /// Esary–Proschan, where minimal sets are few enough.
    bounds: Option<(f64, f64)>,
    ranking: Ranking,
}

/// What the root cannot do without.
struct Series {
    up: f64,
    ln_up: f64,
}

impl Series {
    fn of(system: &System) -> Self {
        let ratios = system.series.iter().map(|&v| system.variables[v as usize].failure_ratio);
        Self { up: ratios.clone().map(|q| 1.0 - q).product(), ln_up: ratios.map(|q| libm::log1p(-q)).sum() }
    }
}

fn steady_by_diagram(structure: &Structure, system: &System, nodes_max: usize) -> Result<Steady, LimitExceeded> {
    let (diagram, root) = steady_function(system, nodes_max)?;
    let ratio = |v: u32| system.variables[v as usize].failure_ratio;
    let measures = diagram.measure(root, ratio);
    let birnbaum = diagram.birnbaum(root, &measures, ratio, system.variables.len());
    let (up, down) = (measures.up[root as usize], measures.down[root as usize]);
    let bounds = bounds::esary_proschan(&diagram, root, &system.variables);
    Ok(steady_exactly(structure, system, (up, down), bounds, birnbaum))
}

fn steady_by_elimination(structure: &Structure, system: &System, plan: &Plan) -> Steady {
    let ratio = |v: u32| system.variables[v as usize].failure_ratio;
    let (outcome, birnbaum) = elimination::differentiate(plan, system.variables.len(), ratio);
    steady_exactly(structure, system, (outcome.up, outcome.down), None, birnbaum)
}

fn steady_exactly(
    structure: &Structure,
    system: &System,
    (up, down): (f64, f64),
    bounds: Option<(f64, f64)>,
    birnbaum: Vec<f64>,
) -> Steady {
    let birnbaum: Vec<Option<f64>> = birnbaum.into_iter().map(Some).collect();
    let ranking = importance::rank(structure, system, up, &birnbaum);
    Steady { up, down, method: EvaluationMethod::Exact, interval: (up, up), bounds, ranking }
}

fn steady_sampled(structure: &Structure, system: &System, limits: &EvaluationLimits) -> Steady {
    let sampling = sampling(limits, true);
    let estimate = monte_carlo::estimate(&system.variables, &system.steady, Start::AllUp, sampling);
    Steady {
        up: estimate.up,
        down: 1.0 - estimate.up,
        method: EvaluationMethod::MonteCarlo,
        interval: estimate.interval,
        bounds: None,
        ranking: importance::rank(structure, system, estimate.up, &estimate.birnbaum),
    }
}

fn cold_exactly(system: &System, limits: &EvaluationLimits) -> Result<(f64, EvaluationMethod), LimitExceeded> {
    let (diagram, root) = function_of(&system.cold, Start::AllDown, limits.bdd_nodes_max)?;
    let measures = diagram.measure(root, |v| system.variables[v as usize].cold_failure_ratio);
    Ok((measures.up[root as usize], EvaluationMethod::Exact))
}

fn cold_sampled(system: &System, limits: &EvaluationLimits) -> (f64, EvaluationMethod) {
    let sampling = sampling(limits, false);
    let from_cold = |variable: &Variable| Variable { failure_ratio: variable.cold_failure_ratio, ..*variable };
    let variables: Vec<Variable> = system.variables.iter().map(from_cold).collect();
    let estimate = monte_carlo::estimate(&variables, &system.cold, Start::AllDown, sampling);
    (estimate.up, EvaluationMethod::MonteCarlo)
}

/// Callers first, and without groups, the way down from the root is the cheaper way to the same function.
fn steady_function(system: &System, nodes_max: usize) -> Result<(Diagram, Function), LimitExceeded> {
    if system.order == Order::CallersFirst
        && let Some(demand) = Demand::of(system)
    {
        let mut diagram = Diagram::new(nodes_max);
        let root = demand.expand(nodes_max).function_of(0, &mut diagram)?;
        return Ok((diagram, root));
    }
    function_of(&system.steady, Start::AllUp, nodes_max)
}

fn function_of(equations: &[Equation], start: Start, nodes_max: usize) -> Result<(Diagram, Function), LimitExceeded> {
    let mut diagram = Diagram::new(nodes_max);
    let schedule = Schedule::of(equations, [0]);
    let functions = solve(equations, &schedule, start, &mut diagram)?;
    Ok((diagram, functions[0]))
}

fn sampling(limits: &EvaluationLimits, ranked: bool) -> Sampling {
    Sampling { sample_count: limits.samples, seed: limits.seed, ranked }
}

fn assemble(series: &Series, steady: Steady, cold: Option<(f64, EvaluationMethod)>, bracket: (f64, f64)) -> Evaluation {
    let (mut bounds, bounds_method) = match steady.bounds {
        Some((low, high)) => ((series.up * low, series.up * high), BoundsMethod::EsaryProschan),
        None => (bracket, BoundsMethod::Bracket),
    };
    let mut availability_ratio = (series.up * steady.up).clamp(0.0, 1.0);
    let mut unavailability_ratio = -libm::expm1(series.ln_up + libm::log1p(-steady.down));
    let mut interval = (series.up * steady.interval.0, series.up * steady.interval.1);
    if steady.method == EvaluationMethod::Exact {
        // Where a bound is attained, the last digit of its product must not put it on the wrong side.
        bounds = (bounds.0.min(availability_ratio), bounds.1.max(availability_ratio));
        interval = (availability_ratio, availability_ratio);
    } else {
        let within = |ratio: f64| ratio.max(bounds.0).min(bounds.1);
        interval = (within(interval.0), within(interval.1));
        if within(availability_ratio) != availability_ratio {
            availability_ratio = within(availability_ratio);
            unavailability_ratio = 1.0 - availability_ratio;
        }
    }
    let (cold_up, cold_start_method) = cold.unwrap_or((steady.up, steady.method));
    Evaluation {
        cold_start_ratio: (series.up * cold_up).min(availability_ratio),
        availability_ratio,
        unavailability_ratio,
        method: steady.method,
        retries: RetryMethod::Exact,
        interval,
        bounds,
        bounds_method,
        cold_start_method,
        importances: steady.ranking.components,
        importances_complete: steady.ranking.complete,
        common_causes: steady.ranking.common_causes,
    }
}
