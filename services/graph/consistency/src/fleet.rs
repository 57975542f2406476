//! Services with their targets, edges and groups; refused at construction, sorted so that order of input means nothing.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, Objective, Tier};

use crate::Error;

/// One service of a tenant, or an external party.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name, unique in the fleet.
    pub id: EntityId,
    /// How much its target weighs when targets have to move; without one it weighs as tier three.
    pub tier: Option<Tier>,
    /// The target in force, or the promise an external party publishes.
    pub target: Option<Objective>,
    /// Whether the target cannot be moved: an external promise, a contract.
    pub fixed: bool,
    /// Share of requests that fails of the service's own doing in a bad window, in `[0, 1]`: the predictive quantile.
    pub own_floor: f64,
}

/// What a failure of the callee does to the caller. Asynchronous calls are not on the request path and are no edges.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Who calls.
    pub caller: EntityId,
    /// Who is called.
    pub callee: EntityId,
    /// Probability in `[0, 1]` that a failure of the callee fails a request of the caller.
    pub impact: f64,
}

impl Edge {
    /// `impact = call fraction × hardness × (1 − fallback)`, each in `[0, 1]`; `hardness` is per call made.
    ///
    /// # Errors
    /// Refuses a ratio that is not in `[0, 1]`.
    pub fn new(
        caller: EntityId,
        callee: EntityId,
        call_fraction: f64,
        hardness: f64,
        fallback: f64,
    ) -> Result<Self, Error> {
        ratio("call_fraction", call_fraction)?;
        ratio("hardness", hardness)?;
        ratio("fallback", fallback)?;
        Ok(Self { caller, callee, impact: call_fraction * hardness * (1.0 - fallback) })
    }
}

/// Redundant callees: the caller works as long as `required_count` of them do.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Who depends on the group.
    pub caller: EntityId,
    /// The members; a repeated one counts once.
    pub members: Vec<EntityId>,
    /// How many have to work, from 1 to the number of members.
    pub required_count: usize,
}

/// A tenant's services and dependencies, sorted by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    services: Vec<Service>,
    /// Caller, callee, impact; one a pair, no self-calls.
    pub(crate) edges: Vec<(usize, usize, f64)>,
    pub(crate) groups: Vec<GroupOf>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupOf {
    pub(crate) caller: usize,
    pub(crate) members: Vec<usize>,
    pub(crate) required_count: usize,
}

impl Fleet {
    /// Checks and sorts. Repeated edges of one pair become one that fails when any of them does; calls to oneself add nothing.
    ///
    /// # Errors
    /// Refuses ratios outside `[0, 1]`, repeated services, unknown names and impossible groups.
    pub fn new(mut services: Vec<Service>, edges: &[Edge], groups: &[Group]) -> Result<Self, Error> {
        services.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(pair) = services.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(Error::DuplicateService { service: pair[0].id.clone() });
        }
        for service in &services {
            ratio("own_floor", service.own_floor)?;
        }
        let index_of = |field: &'static str, id: &EntityId| {
            let found = services.binary_search_by(|service| service.id.cmp(id));
            found.map_err(|_| Error::UnknownService { field, service: id.clone() })
        };
        let mut impacts: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
        for edge in edges {
            ratio("impact", edge.impact)?;
            let pair = (index_of("caller", &edge.caller)?, index_of("callee", &edge.callee)?);
            impacts.entry(pair).or_default().push(edge.impact);
        }
        let mut grouped = Vec::new();
        for group in groups {
            let caller = index_of("caller", &group.caller)?;
            let members: Result<Vec<usize>, Error> = group.members.iter().map(|id| index_of("members", id)).collect();
            let mut members = members?;
            members.sort_unstable();
            members.dedup();
            if group.required_count == 0 || group.required_count > members.len() {
                return Err(Error::RequiredCountOutOfRange {
                    caller: group.caller.clone(),
                    required_count: group.required_count,
                    member_count: members.len(),
                });
            }
            grouped.push(GroupOf { caller, members, required_count: group.required_count });
        }
        grouped.sort();
        let edges = impacts.into_iter().filter(|((caller, callee), _)| caller != callee);
        let edges = edges.map(|((caller, callee), impacts)| (caller, callee, any(impacts))).collect();
        Ok(Self { services, edges, groups: grouped })
    }

    /// The services, sorted by name; every answer that is a list has this order.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Edges on the request path as positions in [`Fleet::services`], caller first, with their impact.
    #[must_use]
    pub fn edges(&self) -> &[(usize, usize, f64)] {
        &self.edges
    }

    /// Error budgets of the targets in force; `None` where there is none.
    #[must_use]
    pub fn budgets_in_force(&self) -> Vec<Option<f64>> {
        self.services.iter().map(|service| service.target.map(Objective::error_budget)).collect()
    }

    pub(crate) fn with_service(&self, index: usize, change: impl FnOnce(&mut Service)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.services[index]);
        changed
    }

    pub(crate) fn with_impact(&self, edge: usize, impact: f64) -> Self {
        let mut changed = self.clone();
        changed.edges[edge].2 = impact;
        changed
    }
}

/// Probability that any of independent events happens, in an order that does not depend on the input's.
fn any(mut impacts: Vec<f64>) -> f64 {
    impacts.sort_by(f64::total_cmp);
    1.0 - impacts.iter().map(|impact| 1.0 - impact).product::<f64>()
}

pub(crate) fn ratio(field: &'static str, value: f64) -> Result<(), Error> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(Error::RatioOutOfRange { field, value }) }
}
