//! The linear program: which targets to move, and by how much.
//!
//! Per service with a target, all scaled by its budget in force: the budget `x`, own budget beyond the floor `e`, loosening
//! `r ≥ x − 1`, and tightening `v`, a convex piecewise bound of `−ln x`. A service without a target is no variable: its own budget is
//! its floor, and promises reach through it. Closure rows hold their largest terms as variables; the rest of a long
//! row stands at its value of the round before, and the least loosening afterwards makes up for what that misses.

use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver as _, NonnegativeConeT, SolverStatus};

use crate::demands::Demands;
use crate::solve::{Limits, Weights};

/// Points `e^−k` at which the cost of tightening is exact.
const TANGENTS: u32 = 5;
/// Cost of a unit by which a target that cannot move falls short: above any other.
const SHORT_COST: f64 = 1e4;
/// How far the solution may cost more than the least; at the solver's own, duals of rules that do not bind are not yet small.
const GAP: f64 = 1e-11;
/// The same where the program is an approximation anyway.
const ROUGH_GAP: f64 = 1e-5;

/// Which rule a row states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    Ceiling { service: usize },
    Promise { caller: usize, callee: usize },
}

/// A rule with its dual and what is left before it binds, both in units of the service's budget in force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub(crate) rule: Rule,
    pub(crate) price: f64,
    pub(crate) slack: f64,
}

pub(crate) struct Solved {
    pub(crate) budgets: Vec<f64>,
    pub(crate) rows: Vec<Row>,
    pub(crate) dropped_terms: bool,
}

/// Rows `Σ coefficient · variable ≤ bound`.
#[derive(Default)]
struct Rows {
    entries: Vec<(usize, usize, f64)>,
    bounds: Vec<f64>,
}

impl Rows {
    fn push(&mut self, terms: &[(usize, f64)], bound: f64) -> usize {
        let row = self.bounds.len();
        self.entries.extend(terms.iter().map(|(variable, coefficient)| (*variable, row, *coefficient)));
        self.bounds.push(bound);
        row
    }
}

/// Where the variables of each service stand.
struct Layout {
    scale: Vec<f64>,
    budget: Vec<Option<usize>>,
    excess: Vec<Option<usize>>,
    short: Vec<Option<usize>>,
    costs: Vec<f64>,
}

impl Layout {
    fn variable(&mut self, cost: f64) -> usize {
        self.costs.push(cost);
        self.costs.len() - 1
    }

    fn of(demands: &Demands<'_>, start: &[f64]) -> Self {
        let count = start.len();
        let mut layout = Self {
            scale: start.iter().map(|budget| budget.max(f64::MIN_POSITIVE.sqrt())).collect(),
            budget: vec![None; count],
            excess: vec![None; count],
            short: vec![None; count],
            costs: Vec::new(),
        };
        for service in 0..count {
            if demands.is_fixed(service) {
                layout.short[service] = Some(layout.variable(SHORT_COST));
            } else if demands.in_force[service].is_some() {
                layout.budget[service] = Some(layout.variable(0.0));
                layout.excess[service] = Some(layout.variable(0.0));
            }
        }
        layout
    }
}

/// One round. `start` are the budgets in force, completed; `held` those at which the small terms of long rows stand.
/// `None` where the solver gives up.
pub(crate) fn solve(
    demands: &Demands<'_>,
    start: &[f64],
    held: &[f64],
    weights: &Weights,
    limits: &Limits,
) -> Option<Solved> {
    let mut layout = Layout::of(demands, start);
    let mut rows = Rows::default();
    let mut rules = Vec::new();
    movements(demands, weights, &mut layout, &mut rows);
    let dropped_terms = ceilings(demands, held, limits, &layout, &mut rows, &mut rules);
    promises(demands, weights, start, &mut layout, &mut rows, &mut rules);
    for variable in 0..layout.costs.len() {
        rows.push(&[(variable, -1.0)], 0.0);
    }
    let (x, z, s) = optimum(&layout.costs, rows, if dropped_terms { ROUGH_GAP } else { GAP })?;
    let budgets = (0..start.len())
        .map(|service| layout.budget[service].map_or(start[service], |at| x[at] * layout.scale[service]));
    Some(Solved {
        budgets: budgets.collect(),
        rows: rules.into_iter().map(|(rule, row)| Row { rule, price: z[row], slack: s[row] }).collect(),
        dropped_terms,
    })
}

/// What it costs to move each target, and what a target entitles its owner to.
fn movements(demands: &Demands<'_>, weights: &Weights, layout: &mut Layout, rows: &mut Rows) {
    for service in 0..layout.scale.len() {
        let (Some(budget), Some(excess)) = (layout.budget[service], layout.excess[service]) else { continue };
        let tier = weights.of(demands.fleet.services()[service].tier);
        let loosened = layout.variable(tier * weights.loosen);
        rows.push(&[(budget, 1.0), (loosened, -1.0)], 1.0);
        let tightened = layout.variable(tier * weights.tighten);
        for step in 0..TANGENTS {
            let slope = libm::exp(f64::from(step));
            rows.push(&[(budget, -slope), (tightened, -1.0)], -f64::from(step + 1));
        }
        let floor = demands.floor(service) / layout.scale[service];
        rows.push(&[(budget, demands.share[service]), (excess, -1.0)], floor);
        // Nothing can be promised that the service's own failures break, nor an exact evaluation.
        rows.push(&[(budget, -1.0)], -floor.max(demands.cut[service] / layout.scale[service]));
    }
}

fn ceilings(
    demands: &Demands<'_>,
    held: &[f64],
    limits: &Limits,
    layout: &Layout,
    rows: &mut Rows,
    rules: &mut Vec<(Rule, usize)>,
) -> bool {
    let own = demands.own(held);
    let count = layout.scale.len();
    let terms_max = limits.row_terms_max.min(limits.terms_max / count.max(1)).max(1);
    let mut dropped = false;
    for service in 0..count {
        let scale = layout.scale[service];
        let mut constant = demands.floor(service);
        let mut terms = Vec::new();
        let mut free: Vec<(f64, usize, f64)> = Vec::new();
        for (component, c) in &demands.closure.rows[service] {
            let (component, c) = (*component as usize, f64::from(*c));
            if layout.excess[component].is_some() {
                free.push((c * own[component], component, c));
            } else {
                constant += c * own[component];
            }
        }
        if free.len() > terms_max {
            dropped = true;
            free.select_nth_unstable_by(terms_max, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            constant += free.split_off(terms_max).iter().map(|(load, _, _)| load).sum::<f64>();
        }
        for (_, component, c) in free {
            constant += c * demands.floor(component);
            terms.extend(layout.excess[component].map(|at| (at, c * layout.scale[component] / scale)));
        }
        match (layout.budget[service], layout.short[service]) {
            (Some(budget), _) => {
                terms.push((budget, -1.0));
                terms.extend(layout.excess[service].map(|excess| (excess, 1.0)));
                let row = rows.push(&terms, -constant / scale);
                rules.push((Rule::Ceiling { service }, row));
            }
            (None, Some(short)) => {
                terms.push((short, -1.0));
                let entitled = (demands.share[service] * scale - demands.floor(service)).max(0.0);
                let row = rows.push(&terms, 1.0 - (constant + entitled) / scale);
                rules.push((Rule::Ceiling { service }, row));
            }
            (None, None) => {}
        }
    }
    dropped
}

/// The promise of every callee, and the wish that it have an extra nine.
fn promises(
    demands: &Demands<'_>,
    weights: &Weights,
    start: &[f64],
    layout: &mut Layout,
    rows: &mut Rows,
    rules: &mut Vec<(Rule, usize)>,
) {
    for caller in (0..start.len()).filter(|caller| demands.in_force[*caller].is_some()) {
        let callees = demands.promising_below(caller);
        let share_of_wish = weights.extra_nine / callees.len().max(1) as f64;
        for (callee, impact) in callees {
            let used = impact * layout.scale[callee] / layout.scale[caller];
            if used == 0.0 {
                continue;
            }
            let (mut terms, mut bound) = (Vec::new(), 0.0);
            match layout.budget[callee] {
                Some(at) => terms.push((at, used)),
                None => bound -= used,
            }
            match (layout.budget[caller], layout.short[caller]) {
                (Some(at), _) => terms.push((at, -1.0)),
                (None, Some(short)) => {
                    terms.push((short, -1.0));
                    bound += 1.0;
                }
                (None, None) => {}
            }
            let row = rows.push(&terms, bound);
            rules.push((Rule::Promise { caller, callee }, row));
            let near = 10.0 * impact * start[callee] > 0.1 * start[caller];
            if let (true, Some(caller_at), Some(callee_at)) = (near, layout.budget[caller], layout.budget[callee]) {
                let missed = layout.variable(share_of_wish);
                rows.push(&[(callee_at, 1.0), (caller_at, -0.1 / used), (missed, -1.0)], 0.0);
            }
        }
    }
}

/// Variables, duals and slacks at the optimum; nothing where there is nothing to choose, or the solver gives up.
fn optimum(costs: &[f64], mut rows: Rows, gap: f64) -> Option<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let (row_count, column_count) = (rows.bounds.len(), costs.len());
    if column_count == 0 {
        return None;
    }
    rows.entries.sort_unstable_by_key(|(column, row, _)| (*column, *row));
    let mut starts = vec![0; column_count + 1];
    rows.entries.iter().for_each(|(column, _, _)| starts[column + 1] += 1);
    (0..column_count).for_each(|column| starts[column + 1] += starts[column]);
    let values = rows.entries.iter().map(|(_, _, value)| *value).collect();
    let places = rows.entries.iter().map(|(_, row, _)| *row).collect();
    let constraints = CscMatrix::new(row_count, column_count, starts, places, values);
    let quadratic = CscMatrix::zeros((column_count, column_count));
    let settings = DefaultSettingsBuilder::default()
        .verbose(false)
        .max_iter(200)
        .max_threads(1)
        .tol_gap_abs(gap)
        .tol_gap_rel(gap)
        .build()
        .ok()?;
    let cones = [NonnegativeConeT(row_count)];
    let mut solver = DefaultSolver::new(&quadratic, costs, &constraints, &rows.bounds, &cones, settings).ok()?;
    solver.solve();
    let solution = solver.solution;
    let solved = matches!(solution.status, SolverStatus::Solved | SolverStatus::AlmostSolved);
    solved.then_some((solution.x, solution.z, solution.s))
}
