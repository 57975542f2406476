//! Targets that rest on redundancy, held against the exact structure function.
//!
//! The fleet's rules count a group conservatively: its members' failures over how many it can spare. Exactly counted, members
//! fail together more rarely, except for what they have in common; so where this finds more than the rules allow, the rules
//! are cut.

use std::cell::{Cell, RefCell};

use attain_reliability::{Component, EvaluationLimits, EvaluationMethod, evaluate as evaluate_root};

use super::links::{NodeIndex, reached};
use super::scenario::State;
use super::snapshot::Snapshot;
use super::structure::{Model, Rate};

/// Evaluates services that rest on a group, one set of own budgets after the other.
pub struct Recheck<'a> {
    state: &'a State,
    resting: Vec<bool>,
    limits: EvaluationLimits,
    enough: &'a dyn Fn() -> bool,
    /// The newest own budgets, and the structure with them.
    model: RefCell<Option<(Vec<f64>, Model)>>,
    checked_count: Cell<usize>,
    left_count: Cell<usize>,
}

impl<'a> Recheck<'a> {
    /// Nothing is evaluated any more as soon as `enough` says so.
    #[must_use]
    pub fn new(snapshot: &Snapshot, state: &'a State, limits: EvaluationLimits, enough: &'a dyn Fn() -> bool) -> Self {
        let resting = resting_on_groups(snapshot, state);
        let (model, checked_count, left_count) = (RefCell::new(None), Cell::new(0), Cell::new(0));
        Self { state, resting, limits, enough, model, checked_count, left_count }
    }

    /// Availability of a service when these own budgets are used up; `None` where it rests on no group, or where the exact
    /// value was not to be had.
    pub fn availability(&self, service: usize, own_budgets: &[f64]) -> Option<f64> {
        if !self.resting[service] {
            return None;
        }
        let found = (!(self.enough)()).then(|| self.evaluated(service, own_budgets)).flatten();
        let counter = if found.is_some() { &self.checked_count } else { &self.left_count };
        counter.set(counter.get() + 1);
        found
    }

    fn evaluated(&self, service: usize, own_budgets: &[f64]) -> Option<f64> {
        let mut held = self.model.borrow_mut();
        if held.as_ref().is_none_or(|(of, _)| of != own_budgets) {
            *held = Some((own_budgets.to_vec(), self.model_of(own_budgets)?));
        }
        let (_, model) = held.as_ref()?;
        let evaluation = evaluate_root(&model.structure, Component(service as NodeIndex), &self.limits);
        (evaluation.method == EvaluationMethod::Exact).then_some(evaluation.availability_ratio)
    }

    fn model_of(&self, own_budgets: &[f64]) -> Option<Model> {
        let rates = own_budgets.iter().zip(&self.state.rates).map(|(own_budget, rate)| Rate {
            failure_ratio: own_budget.clamp(0.0, 1.0),
            includes_dependencies: rate.includes_dependencies,
        });
        Model::new(&self.state.needs, &rates.collect::<Vec<_>>()).ok()
    }

    /// Evaluations that were exact, and those that could not be had.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.checked_count.get(), self.left_count.get())
    }
}

/// Who reaches a redundancy group.
fn resting_on_groups(snapshot: &Snapshot, state: &State) -> Vec<bool> {
    let opaque = |node: NodeIndex| state.rates[node as usize].includes_dependencies;
    let has_group = |&node: &NodeIndex| {
        !opaque(node) && state.needs.of_caller(node).iter().any(|need| need.matters() && need.members.len() > 1)
    };
    let node_count = snapshot.nodes().len();
    let above =
        |node: NodeIndex| snapshot.request_path().callers(node).iter().copied().filter(|&caller| !opaque(caller));
    reached(node_count, (0..node_count as NodeIndex).filter(has_group), above)
}
