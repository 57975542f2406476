//! Longest call chains over the condensation: strongly connected components count as one node.

use super::links::{Links, NodeIndex};

/// Longest chains from every node, computed once a snapshot.
#[derive(Debug, Clone)]
pub struct Chains {
    /// Component of each node.
    component_of: Vec<u32>,
    components: Vec<Component>,
}

#[derive(Debug, Clone)]
struct Component {
    /// First member in lexical order, which stands for the component.
    first: NodeIndex,
    /// Edges on the longest chain below.
    depth: u32,
    /// Where that chain goes on; of several, the component whose first member comes first.
    next: Option<u32>,
}

impl Chains {
    /// `components` are the strongly connected components of `links`, callees before callers.
    #[must_use]
    pub fn of(links: &Links, components: &[Vec<NodeIndex>]) -> Self {
        let mut component_of = vec![0; links.node_count()];
        for (number, members) in (0..).zip(components) {
            for &member in members {
                component_of[member as usize] = number;
            }
        }
        let mut chains = Self { component_of, components: Vec::with_capacity(components.len()) };
        for (number, members) in (0..).zip(components) {
            let component = chains.extend(links, number, members);
            chains.components.push(component);
        }
        chains
    }

    fn extend(&self, links: &Links, number: u32, members: &[NodeIndex]) -> Component {
        let below = members
            .iter()
            .flat_map(|&member| links.callees(member))
            .map(|&callee| self.component_of[callee as usize])
            .filter(|&component| component != number);
        let next = below.max_by_key(|&component| {
            let Component { depth, first, .. } = self.components[component as usize];
            (depth, std::cmp::Reverse(first))
        });
        let depth = next.map_or(0, |component| self.components[component as usize].depth + 1);
        Component { first: members[0], depth, next }
    }

    /// Edges on the longest chain below a node.
    #[must_use]
    pub fn depth(&self, node: NodeIndex) -> u32 {
        self.of_node(node).depth
    }

    /// The longest chain from a node down, of equally long ones the lexically first. The node itself stands for its own
    /// cycle, the first member for any other.
    #[must_use]
    pub fn longest(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let mut chain = vec![node];
        let mut next = self.of_node(node).next;
        while let Some(component) = next {
            let component = &self.components[component as usize];
            chain.push(component.first);
            next = component.next;
        }
        chain
    }

    fn of_node(&self, node: NodeIndex) -> &Component {
        &self.components[self.component_of[node as usize] as usize]
    }
}
