//! Who is hurt when a component is fully down, how much, and by which way.

use attain_reliability::{Component, propagate};

use super::links::NodeIndex;
use super::snapshot::Snapshot;
use super::structure::{Model, Rate};

/// Somebody who needs the component.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Who.
    pub node: NodeIndex,
    /// Probability that a request of theirs fails while the component is down and everything else works, in `[0, 1]`.
    pub impact_ratio: f64,
    /// Edges on the shortest walk.
    pub distance: u32,
    /// The shortest walk from them to the component, of several the lexically first.
    pub path: Vec<NodeIndex>,
}

/// How much an answer may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Hits.
    pub hits_max: usize,
    /// Nodes on all paths together.
    pub path_nodes_max: usize,
    /// Nodes of the decision diagram; past them the impact is an approximation from above.
    pub bdd_nodes_max: usize,
}

/// Everyone who is hurt.
#[derive(Debug, Clone, PartialEq)]
pub struct Blast {
    /// Greatest impact first, then the nearest, then in lexical order.
    pub hits: Vec<Hit>,
    /// Whether a bound cut something off.
    pub truncated: bool,
}

/// Everyone who needs `down` by edges that a request waits for, those included whom a fallback shields entirely.
///
/// # Errors
/// More components than a structure holds.
pub fn blast(snapshot: &Snapshot, down: NodeIndex, bounds: Bounds) -> Result<Blast, attain_reliability::Error> {
    let distances = distances(snapshot, down);
    let model = Model::new(snapshot.needs(), &vec![Rate::default(); snapshot.nodes().len()])?;
    let impact = propagate(&model.structure, Component(down), bounds.bdd_nodes_max).impact_ratios;
    let mut hits: Vec<Hit> = (0..)
        .zip(&distances)
        .filter_map(|(node, distance)| distance.filter(|&distance| distance > 0).map(|distance| (node, distance)))
        .map(|(node, distance)| Hit { node, impact_ratio: impact[node as usize], distance, path: Vec::new() })
        .collect();
    hits.sort_by(|a, b| {
        let by_impact = b.impact_ratio.total_cmp(&a.impact_ratio);
        by_impact.then((a.distance, a.node).cmp(&(b.distance, b.node)))
    });
    let mut truncated = hits.len() > bounds.hits_max;
    hits.truncate(bounds.hits_max);
    let mut path_nodes = 0;
    hits.retain_mut(|hit| {
        path_nodes += hit.distance as usize + 1;
        let fits = path_nodes <= bounds.path_nodes_max;
        if fits {
            hit.path = path(snapshot, hit.node, &distances);
        }
        truncated |= !fits;
        fits
    });
    Ok(Blast { hits, truncated })
}

/// Edges on the shortest walk to `target`, by node; `None` for whom no walk leads there.
fn distances(snapshot: &Snapshot, target: NodeIndex) -> Vec<Option<u32>> {
    let links = snapshot.request_path();
    let mut distances = vec![None; links.node_count()];
    distances[target as usize] = Some(0);
    let mut front = vec![target];
    for distance in 1.. {
        let mut next = Vec::new();
        for &caller in front.iter().flat_map(|&node| links.callers(node)) {
            if distances[caller as usize].is_none() {
                distances[caller as usize] = Some(distance);
                next.push(caller);
            }
        }
        if next.is_empty() {
            break;
        }
        front = next;
    }
    distances
}

fn path(snapshot: &Snapshot, from: NodeIndex, distances: &[Option<u32>]) -> Vec<NodeIndex> {
    let mut path = vec![from];
    let mut node = from;
    while let Some(left @ 1..) = distances[node as usize] {
        let nearer = |callee: &&NodeIndex| distances[**callee as usize] == Some(left - 1);
        match snapshot.request_path().callees(node).iter().find(nearer) {
            Some(&callee) => node = callee,
            None => break,
        }
        path.push(node);
    }
    path
}
