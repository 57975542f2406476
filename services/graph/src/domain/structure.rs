//! Requirements and failure ratios as a structure function.

use attain_reliability::{Component, Error, Structure, StructureBuilder};

use super::links::{Links, NodeIndex, reached};
use super::needs::{Need, Needs};

/// Share β of a redundant part's failures that take its companions along. Generic value for redundant equipment without
/// data of its own: 0.1 (Mosleh et al., NUREG/CR-4780, 1988).
pub const COMMON_CAUSE_SHARE_PRIOR: f64 = 0.1;

/// How often a component fails.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Share of requests that it fails, in `[0, 1]`.
    pub failure_ratio: f64,
    /// Whether that includes its dependencies, which are then ignored.
    pub includes_dependencies: bool,
}

/// A structure function over the nodes of a snapshot; node `i` is component `i`.
#[derive(Debug, Clone)]
pub struct Model {
    /// Components beyond the nodes stand for redundancy groups behind a fallback.
    pub structure: Structure,
    links: Links,
}

impl Model {
    /// Joins requirements with one rate for each node.
    ///
    /// # Errors
    /// A ratio outside `[0, 1]`; too many components.
    pub fn new(needs: &Needs, rates: &[Rate]) -> Result<Self, Error> {
        let mut builder = StructureBuilder::new();
        for rate in rates {
            builder.add_component(rate.failure_ratio, rate.includes_dependencies)?;
        }
        let mut edges = Vec::new();
        for (caller, rate) in (0..).zip(rates) {
            let start = edges.len();
            for need in needs.of_caller(caller).iter().filter(|need| need.matters()) {
                add(&mut builder, Component(caller), need)?;
                if !rate.includes_dependencies {
                    edges.extend(need.members.iter().map(|&callee| (caller, callee, 0)));
                }
            }
            edges[start..].sort_unstable();
        }
        edges.dedup();
        Ok(Self { structure: builder.build(), links: Links::new(rates.len(), &edges) })
    }

    /// Number of nodes; the structure may have more components.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.links.node_count()
    }

    /// Who can feel whose failure.
    #[must_use]
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Whose failure can fail a request of the node, in lexical order.
    #[must_use]
    pub fn callees(&self, node: NodeIndex) -> &[NodeIndex] {
        self.links.callees(node)
    }

    /// Nodes whose failure can reach one of the roots, the roots themselves included; by position.
    #[must_use]
    pub fn reached(&self, roots: impl IntoIterator<Item = NodeIndex>) -> Vec<bool> {
        reached(self.node_count(), roots, |node| self.callees(node).iter().copied())
    }
}

/// What some nodes, sorted, need of each other, everybody healthy and nobody's dependencies included; the component of each is
/// its position. Who is not among them is taken to work.
///
/// # Errors
/// Too many components.
pub fn among(needs: &Needs, nodes: &[NodeIndex]) -> Result<Structure, Error> {
    const ELSEWHERE: u32 = u32::MAX;
    let mut positions = vec![ELSEWHERE; needs.node_count()];
    (0..).zip(nodes).for_each(|(position, &node)| positions[node as usize] = position);
    let position = |node: &NodeIndex| Some(positions[*node as usize]).filter(|&position| position != ELSEWHERE);
    let mut builder = StructureBuilder::new();
    for _ in nodes {
        builder.add_component(0.0, false)?;
    }
    for (caller, &node) in (0..).zip(nodes) {
        for need in needs.of_caller(node).iter().filter(|need| need.matters()) {
            if let [callee] = &need.members[..] {
                if let Some(callee) = position(callee) {
                    builder.add_edge(Component(caller), Component(callee), need.effect)?;
                }
                continue;
            }
            let members: Vec<NodeIndex> = need.members.iter().filter_map(position).collect();
            let spared = need.members.len() - members.len();
            let required_count = need.required_count.saturating_sub(spared as u32);
            if required_count > 0 {
                add(&mut builder, Component(caller), &Need { members, required_count, effect: need.effect })?;
            }
        }
    }
    Ok(builder.build())
}

fn add(builder: &mut StructureBuilder, caller: Component, need: &Need) -> Result<(), Error> {
    if let [callee] = need.members[..] {
        return builder.add_edge(caller, Component(callee), need.effect);
    }
    let members: Vec<Component> = need.members.iter().map(|&member| Component(member)).collect();
    let share = Some(COMMON_CAUSE_SHARE_PRIOR);
    if need.is_certain() && need.effect.retry_count == 0 {
        return builder.add_group(caller, &members, need.required_count, share);
    }
    builder.add_shielded_group(caller, &members, need.required_count, share, need.effect)
}
