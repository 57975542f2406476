//! Where the targets in force contradict each other, and along which chain.

use attain_vocabulary::EntityId;

use crate::demands::{Demands, SLACK};

/// Two ways in which targets cannot all hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Contradiction {
    /// The callee promises less than its caller needs of it.
    Promise {
        /// Who promises more.
        caller: EntityId,
        /// Who promises less.
        callee: EntityId,
        /// Error budget of the caller.
        budget: f64,
        /// What the callee's promise alone uses of it.
        needed: f64,
    },
    /// The ceiling, with everything below the service counted once, is below its target.
    Ceiling {
        /// Whose target.
        service: EntityId,
        /// Its error budget.
        budget: f64,
        /// Error budget of the ceiling.
        needed: f64,
        /// From the service to the component that uses most of its budget, along the edges that pass on most.
        chain: Vec<EntityId>,
    },
}

/// Positions of a contradiction, beside what people read.
pub(crate) struct Found {
    pub(crate) contradiction: Contradiction,
    pub(crate) service: usize,
    pub(crate) heaviest: usize,
    pub(crate) needed: f64,
    pub(crate) chain: Vec<usize>,
}

/// A service whose budget is less than it needs: of one callee, or of everything below it.
struct Broken {
    service: usize,
    callee: Option<usize>,
    needed: f64,
}

/// All contradictions among these budgets. Services without a target promise nothing and contradict nothing.
pub(crate) fn found(demands: &Demands<'_>, budgets: &[f64]) -> Vec<Found> {
    let own = demands.own(budgets);
    broken(demands, budgets, &own).map(|broken| explained(demands, budgets, &own, &broken)).collect()
}

/// How many contradictions there are.
pub(crate) fn count(demands: &Demands<'_>, budgets: &[f64]) -> usize {
    broken(demands, budgets, &demands.own(budgets)).count()
}

fn broken<'a>(demands: &'a Demands<'_>, budgets: &'a [f64], own: &'a [f64]) -> impl Iterator<Item = Broken> + 'a {
    let over = |service: usize, needed: f64| needed > budgets[service] * (1.0 + SLACK);
    let promising = (0..budgets.len()).filter(|service| demands.in_force[*service].is_some());
    promising.flat_map(move |service| {
        let callees = demands.edges_of[service].iter();
        let promises = callees.map(move |(callee, impact)| Broken {
            service,
            callee: Some(*callee),
            needed: impact * budgets[*callee],
        });
        let promises = promises.filter(move |broken| over(service, broken.needed));
        let needed = demands.ceiling(service, own);
        // A budget of everything keeps no target.
        let ceiling = over(service, needed) || budgets[service] >= 1.0;
        promises.chain(ceiling.then_some(Broken { service, callee: None, needed }))
    })
}

fn explained(demands: &Demands<'_>, budgets: &[f64], own: &[f64], broken: &Broken) -> Found {
    let id = |service: usize| demands.fleet.services()[service].id.clone();
    let &Broken { service, callee, needed } = broken;
    let budget = budgets[service];
    if let Some(callee) = callee {
        let contradiction = Contradiction::Promise { caller: id(service), callee: id(callee), budget, needed };
        return Found { contradiction, service, heaviest: callee, needed, chain: vec![service, callee] };
    }
    let below = demands.closure.rows[service].iter().map(|(j, c)| (*j as usize, f64::from(*c)));
    let load = |(component, c): &(usize, f64)| c * own[*component];
    let heaviest = below.max_by(|a, b| load(a).total_cmp(&load(b)).then(b.0.cmp(&a.0)));
    let heaviest = heaviest.map_or(service, |(component, _)| component);
    let chain = chain(demands, service, heaviest);
    let names = chain.iter().map(|service| id(*service)).collect();
    let contradiction = Contradiction::Ceiling { service: id(service), budget, needed, chain: names };
    Found { contradiction, service, heaviest, needed, chain }
}

/// From the service down to the component, each time over the callee that passes on most of its failures.
pub(crate) fn chain(demands: &Demands<'_>, service: usize, component: usize) -> Vec<usize> {
    let mut chain = vec![service];
    let mut at = service;
    while at != component {
        let edges = demands.edges_of[at].iter().copied();
        let members = demands.fleet.groups.iter().filter(|group| group.caller == at);
        let members = members.flat_map(|group| group.members.iter().map(|member| (*member, 1.0)));
        let passes = |(callee, impact): &(usize, f64)| impact * demands.closure.impact(*callee, component);
        let open = edges.chain(members).filter(|(callee, _)| !chain.contains(callee));
        let next = open.max_by(|a, b| passes(a).total_cmp(&passes(b)).then(b.0.cmp(&a.0)));
        let Some((callee, _)) = next.filter(|way| passes(way) > 0.0) else { break };
        chain.push(callee);
        at = callee;
    }
    chain
}
