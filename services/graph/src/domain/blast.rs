//! Who is hurt when a component is fully down, how much, and by which way.

use attain_reliability::{Component, propagate};

use super::links::NodeIndex;
use super::snapshot::Snapshot;
use super::structure::among;

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
    /// Nodes of a decision diagram, and what stands for them where components are eliminated (see
    /// [`attain_reliability::propagate`]); past them the impact is an approximation from above.
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
    let Reached { nodes, distances } = Reached::of(snapshot, down);
    let structure = among(snapshot.needs(), &nodes)?;
    let down = nodes.binary_search(&down).expect("whoever is down is reached by no step");
    let impact = propagate(&structure, Component(down as u32), bounds.bdd_nodes_max).impact_ratios;
    let mut hits: Vec<Hit> = nodes
        .iter()
        .zip(impact)
        .filter_map(|(&node, impact_ratio)| {
            let distance = distances[node as usize].filter(|&distance| distance > 0)?;
            Some(Hit { node, impact_ratio, distance, path: Vec::new() })
        })
        .collect();
    let hardest_first = |a: &Hit, b: &Hit| {
        let by_impact = b.impact_ratio.total_cmp(&a.impact_ratio);
        by_impact.then((a.distance, a.node).cmp(&(b.distance, b.node)))
    };
    let mut truncated = hits.len() > bounds.hits_max;
    if truncated {
        hits.select_nth_unstable_by(bounds.hits_max, hardest_first);
        hits.truncate(bounds.hits_max);
    }
    hits.sort_unstable_by(hardest_first);
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

/// Everybody from whom a walk leads to somebody, that one included.
struct Reached {
    /// In lexical order.
    nodes: Vec<NodeIndex>,
    /// Edges on the shortest walk, by node; `None` for whom no walk leads there.
    distances: Vec<Option<u32>>,
}

impl Reached {
    fn of(snapshot: &Snapshot, target: NodeIndex) -> Self {
        let links = snapshot.request_path();
        let mut distances = vec![None; links.node_count()];
        distances[target as usize] = Some(0);
        let mut nodes = vec![target];
        let mut next = 0;
        while let Some(&node) = nodes.get(next) {
            next += 1;
            let distance = distances[node as usize].map(|distance: u32| distance + 1);
            for &caller in links.callers(node) {
                if distances[caller as usize].is_none() {
                    distances[caller as usize] = distance;
                    nodes.push(caller);
                }
            }
        }
        nodes.sort_unstable();
        Self { nodes, distances }
    }
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
