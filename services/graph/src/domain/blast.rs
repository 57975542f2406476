//! Who is hurt when a component is fully down, how much, and by which way.

use attain_reliability::{Component, propagate};

use super::links::NodeIndex;
use super::snapshot::Snapshot;
use super::structure::among;
use super::upstream::Felt;

/// Somebody who needs the component.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Who.
    pub node: NodeIndex,
    /// Probability that a request of theirs fails while the component is down and everything else works, in `[0, 1]`.
    pub impact_ratio: f64,
    /// Edges on the shortest walk.
    pub distance: u32,
    /// The shortest walk from them to the component over what each needs, of several the lexically first.
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

/// Everyone who needs `down` by edges that a request waits for, those included whom a fallback shields entirely. Impacts are
/// those of [`propagate`]; where that would not try to find exact ones, its approximation comes from one pass over the snapshot.
///
/// # Errors
/// More components than a structure holds.
pub fn blast(snapshot: &Snapshot, down: NodeIndex, bounds: Bounds) -> Result<Blast, attain_reliability::Error> {
    let wave = snapshot.upstream().wave(down);
    let is_struck = |(node, felt): (NodeIndex, Felt)| {
        (node != down).then(|| Struck { impact_ratio: felt.impact_ratio, distance: felt.distance(), node })
    };
    let mut struck: Vec<Struck>;
    if wave.crossing().may_be_exact() {
        struck = wave.met().filter_map(is_struck).collect();
        weigh(&mut struck, snapshot, down, bounds.bdd_nodes_max)?;
    } else {
        struck = wave.hardest(bounds.hits_max).into_iter().filter_map(is_struck).collect();
    }
    let mut truncated = struck.len() > bounds.hits_max;
    if truncated {
        struck.select_nth_unstable_by_key(bounds.hits_max, Struck::rank);
        struck.truncate(bounds.hits_max);
    }
    struck.sort_unstable_by_key(Struck::rank);
    let mut path_nodes = 0;
    let fits = struck.iter().take_while(|hit| {
        path_nodes += hit.distance as usize + 1;
        path_nodes <= bounds.path_nodes_max
    });
    let fitting = fits.count();
    truncated |= fitting < struck.len();
    let fitting = &struck[..fitting];
    let nodes: Vec<NodeIndex> = fitting.iter().map(|hit| hit.node).collect();
    let hit = |(&Struck { impact_ratio, distance, node }, path)| Hit { node, impact_ratio, distance, path };
    Ok(Blast { hits: fitting.iter().zip(wave.paths(&nodes)).map(hit).collect(), truncated })
}

/// A hit without its path.
#[derive(Clone, Copy)]
struct Struck {
    impact_ratio: f64,
    distance: u32,
    node: NodeIndex,
}

impl Struck {
    /// Greatest impact first, then the nearest, then in lexical order. Of numbers from 0 on, the greater has the greater bits.
    fn rank(&self) -> u128 {
        u128::from(!self.impact_ratio.to_bits()) << 64 | u128::from(self.distance) << 32 | u128::from(self.node)
    }
}

/// Impacts by the structure function of everybody who is hit.
fn weigh(
    struck: &mut [Struck],
    snapshot: &Snapshot,
    down: NodeIndex,
    bdd_nodes_max: usize,
) -> Result<(), attain_reliability::Error> {
    let mut nodes: Vec<NodeIndex> = struck.iter().map(|hit| hit.node).chain([down]).collect();
    nodes.sort_unstable();
    let structure = among(snapshot.needs(), &nodes)?;
    let position = |node: NodeIndex| nodes.binary_search(&node).expect("everybody who is hit is among them");
    let impacts = propagate(&structure, Component(position(down) as u32), bdd_nodes_max).impact_ratios;
    struck.iter_mut().for_each(|hit| hit.impact_ratio = impacts[position(hit.node)]);
    Ok(())
}
