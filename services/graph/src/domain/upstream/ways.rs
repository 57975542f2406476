//! The shortest walks by which a failure gets to somebody.

use super::{Call, GROUP, NodeIndex, Rank, Wave};

/// No next step is known yet.
const UNKNOWN: Rank = Rank::MAX;
/// It is being looked for.
const SEARCHED: Rank = Rank::MAX - 1;

impl Wave<'_> {
    /// The shortest walks from several who are met to whoever is down, both ends included, in their order: over what each of them
    /// needs, of several walks the lexically first.
    #[must_use]
    pub fn paths(&self, from: &[NodeIndex]) -> Vec<Vec<NodeIndex>> {
        let starts: Vec<Rank> = from.iter().map(|&node| self.upstream.ranks[node as usize]).collect();
        let next = self.steps(starts.clone());
        let path = |start: Rank| {
            let distance = self.distance(start);
            let mut path = Vec::with_capacity(distance as usize + 1);
            path.push(self.upstream.nodes[start as usize]);
            path.extend((0..distance).scan(start, |rank, _| {
                *rank = next[*rank as usize];
                Some(self.upstream.nodes[*rank as usize])
            }));
            path
        };
        starts.into_iter().map(path).collect()
    }

    fn distance(&self, rank: Rank) -> u32 {
        self.felt[rank as usize].distance()
    }

    /// By rank, whom all who are on the ways come to next. Many ways lead over the same ones, from each of which the next is
    /// looked for once; and for all of a round before those they lead to, by the same steps whatever is found, as no search
    /// then waits for what another reads.
    fn steps(&self, mut open: Vec<Rank>) -> Vec<Rank> {
        let mut next = vec![UNKNOWN; self.felt.len()];
        let mut searches: Vec<(u32, &[Call])> = Vec::new();
        loop {
            open.retain(|&rank| {
                let next = &mut next[rank as usize];
                let is_new = *next == UNKNOWN && self.distance(rank) > 0;
                if is_new {
                    *next = SEARCHED;
                }
                is_new
            });
            if open.is_empty() {
                return next;
            }
            searches.clear();
            searches.extend(open.iter().map(|&rank| (self.distance(rank) - 1, self.upstream.calls(rank))));
            for (rank, &(left, calls)) in open.iter_mut().zip(&searches) {
                let step = if self.has_groups(*rank) { self.past_groups(*rank, left) } else { self.first(calls, left) };
                next[*rank as usize] = step;
                *rank = step;
            }
        }
    }

    fn has_groups(&self, rank: Rank) -> bool {
        let is_group = |call: &Call| self.upstream.nodes[call.callee as usize] == GROUP;
        !self.upstream.groups(rank).is_empty() || self.upstream.calls(rank).last().is_some_and(is_group)
    }

    /// The first callee so far away; one there is.
    fn first(&self, calls: &[Call], left: u32) -> Rank {
        calls.iter().rev().fold(UNKNOWN, |first, call| {
            let is_nearer = self.distance(call.callee) == left;
            if is_nearer { call.callee } else { first }
        })
    }

    /// The same among callees and members of groups.
    fn past_groups(&self, rank: Rank, left: u32) -> Rank {
        let upstream = self.upstream;
        let (groups, nodes): (Vec<Rank>, Vec<Rank>) =
            upstream.callees(rank).partition(|&callee| upstream.nodes[callee as usize] == GROUP);
        let members = groups.into_iter().flat_map(|group| upstream.callees(group));
        let nearer = nodes.into_iter().chain(members).filter(|&callee| self.distance(callee) == left);
        nearer.min_by_key(|&callee| upstream.nodes[callee as usize]).expect("a distance comes from a nearer callee")
    }
}
