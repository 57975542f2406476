//! Single points of failure: components `x` with `f | x = 0` identically false, `f` the structure function of the root.
//!
//! `f` is monotone, so that holds exactly when the root is down with `x` down and everything else up, fallbacks and calls
//! that are not made included. A requirement whose failure spares some requests is therefore never part of it.

use super::links::NodeIndex;
use super::needs::{Need, Needs};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinglePoints {
    /// In lexical order, the root itself left out.
    pub nodes: Vec<NodeIndex>,
    /// False where the bound on work ended the search: then there may be more.
    pub complete: bool,
}

/// Finds every single point of failure of `root` with at most `steps_max` requirements looked at.
///
/// What certain requirements without redundancy lead to is one. Anything else can only be one by taking a redundancy
/// group along; each such candidate is tried.
#[must_use]
pub fn single_points(needs: &Needs, root: NodeIndex, steps_max: usize) -> SinglePoints {
    let certain = closure(needs, root, |need| need.members.len() == 1);
    let reachable = closure(needs, root, |_| true);
    let mut trial = Trial::new(needs, &reachable, &certain, steps_max);
    let mut nodes = Vec::new();
    for node in 0..needs.node_count() as NodeIndex {
        let takes_root = certain[node as usize] || (reachable[node as usize] && trial.takes_root(node));
        if takes_root && node != root {
            nodes.push(node);
        }
    }
    SinglePoints { nodes, complete: !trial.exhausted }
}

fn closure(needs: &Needs, root: NodeIndex, follow: impl Fn(&Need) -> bool) -> Vec<bool> {
    let mut inside = vec![false; needs.node_count()];
    let mut open = vec![root];
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut inside[node as usize], true) {
            let certain = needs.of_caller(node).iter().filter(|need| need.is_certain() && follow(need));
            open.extend(certain.flat_map(|need| &need.members));
        }
    }
    inside
}

/// Takes one component down after another and sees who follows.
struct Trial<'a> {
    /// Down with any of them, the root is down.
    certain: &'a [bool],
    /// Requirements: who has them and how many more failures than `0` they bear.
    requirements: Vec<(NodeIndex, u32)>,
    /// Requirements that name a node, by node.
    named_in: Vec<Vec<usize>>,
    /// Failed members by requirement, in the present trial.
    failed: Vec<u32>,
    steps_left: usize,
    exhausted: bool,
}

impl<'a> Trial<'a> {
    fn new(needs: &Needs, reachable: &[bool], certain: &'a [bool], steps_max: usize) -> Self {
        let mut requirements = Vec::new();
        let mut named_in = vec![Vec::new(); needs.node_count()];
        for caller in (0..needs.node_count() as NodeIndex).filter(|&node| reachable[node as usize]) {
            for need in needs.of_caller(caller).iter().filter(|need| need.is_certain()) {
                for &member in &need.members {
                    named_in[member as usize].push(requirements.len());
                }
                requirements.push((caller, need.members.len() as u32 - need.required_count));
            }
        }
        Self {
            certain,
            failed: vec![0; requirements.len()],
            requirements,
            named_in,
            steps_left: steps_max,
            exhausted: false,
        }
    }

    fn takes_root(&mut self, node: NodeIndex) -> bool {
        let mut touched = Vec::new();
        let mut down = vec![node];
        let mut is_down = std::collections::BTreeSet::from([node]);
        let mut takes_root = false;
        while let Some(node) = down.pop() {
            takes_root = self.certain[node as usize];
            self.exhausted |= !takes_root && self.steps_left < self.named_in[node as usize].len();
            if takes_root || self.exhausted {
                break;
            }
            self.steps_left -= self.named_in[node as usize].len();
            for &requirement in &self.named_in[node as usize] {
                touched.push(requirement);
                self.failed[requirement] += 1;
                let (caller, spare) = self.requirements[requirement];
                if self.failed[requirement] > spare && is_down.insert(caller) {
                    down.push(caller);
                }
            }
        }
        for requirement in touched {
            self.failed[requirement] = 0;
        }
        takes_root
    }
}
