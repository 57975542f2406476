//! The critical path: from a service down, at each step the call that costs a request of the service most.

use super::links::{EdgeIndex, NodeIndex};
use super::snapshot::{Edge, Snapshot};

/// One call of the path.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which edge of the snapshot.
    pub edge: EdgeIndex,
    /// How much of one such call falls to one request of the service: the product of the shares on the way.
    pub share: f64,
    /// Cost of one call, what it waits for or inherits included.
    pub unit: f64,
}

impl Step {
    /// Cost to a request of the service.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.share * self.unit
    }
}

/// Follows, from the service down, the edge with the greatest product of `share` and `unit`, of several the lexically first,
/// until no edge has a cost or a component is met again. `share` is how much of a call falls to a request of its caller,
/// `unit` what a call costs, both at least 0; `None` where nobody knows.
pub fn critical_path(
    snapshot: &Snapshot,
    service: NodeIndex,
    share: impl Fn(&Edge) -> f64,
    unit: impl Fn(&Edge) -> Option<f64>,
) -> Vec<Step> {
    let mut path: Vec<Step> = Vec::new();
    let mut met = vec![false; snapshot.nodes().len()];
    let (mut node, mut above) = (service, 1.0);
    while !std::mem::replace(&mut met[node as usize], true) {
        let Some(step) = dearest(snapshot, node, above, &share, &unit) else { break };
        (node, above) = (snapshot.edge(step.edge).callee, step.share);
        if !met[node as usize] {
            path.push(step);
        }
    }
    path
}

fn dearest(
    snapshot: &Snapshot,
    caller: NodeIndex,
    above: f64,
    share: &impl Fn(&Edge) -> f64,
    unit: &impl Fn(&Edge) -> Option<f64>,
) -> Option<Step> {
    let mut dearest: Option<Step> = None;
    for &position in snapshot.request_path().out_edges(caller) {
        let edge = snapshot.edge(position);
        let Some(unit) = unit(edge) else { continue };
        let step = Step { edge: position, share: above * share(edge), unit };
        if step.cost() > dearest.as_ref().map_or(0.0, Step::cost) {
            dearest = Some(step);
        }
    }
    dearest
}
