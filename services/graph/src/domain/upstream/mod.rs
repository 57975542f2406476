//! Who feels a failure, in one pass over everybody from callees to callers.
//!
//! What each caller needs is kept flat and in an order in which callees come first, once a snapshot: a pass then reads memory
//! from one end to the other, and allocates nothing but its result.

mod ways;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use attain_reliability::propagation::{AtLeastOne, Crossing, more_than, settle_cycle};

use super::cycles::tarjan;
use super::links::NodeIndex;
use super::needs::{Need, Needs};

/// Position of a node in the order: callees come before callers, cycles apart, whose members follow each other.
type Rank = u32;

/// The needs of everybody, callees first. A group behind a fallback or retries has a rank of its own, as it is a component of its
/// own in the structure function.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// By rank; [`GROUP`] for a group.
    nodes: Vec<NodeIndex>,
    /// By node.
    ranks: Vec<Rank>,
    /// By rank: where its calls and its groups start; with an end marker.
    starts: Vec<(u32, u32)>,
    /// Of each caller in lexical order, and then those of its groups that have a rank of their own.
    calls: Vec<Call>,
    /// What calls do to their callers; few differ.
    effects: Vec<Effect>,
    groups: Vec<Group>,
    members: Vec<Rank>,
    /// Those of more than one node, in order.
    cycles: Vec<Range<Rank>>,
}

/// A need of one callee. Half as long as with the effect itself: a pass reads all of them.
#[derive(Debug, Clone, Copy)]
struct Call {
    callee: Rank,
    /// Position among the effects.
    effect: u32,
}

/// What a call does to its caller.
#[derive(Debug, Clone, Copy)]
struct Effect {
    impact_ratio: f64,
    /// What of the callee's mark the caller takes over.
    passes: u32,
}

impl Effect {
    fn new(impact_ratio: f64) -> Self {
        let passes = match impact_ratio {
            certain if certain >= 1.0 => Mark::REACHED | Mark::CERTAIN,
            partial if partial > 0.0 => Mark::REACHED,
            _ => 0,
        };
        Self { impact_ratio, passes }
    }
}

/// A certain need of several of which some may fail.
#[derive(Debug, Clone)]
struct Group {
    members: Range<u32>,
    spare: usize,
}

/// Stands for a group among nodes.
const GROUP: NodeIndex = NodeIndex::MAX;

/// What one node feels while somebody is down. Small, since a pass over many services is as fast as the cache it fits into.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Felt {
    /// Probability that a request fails, in `[0, 1]`: noisy-or, callees taken as failing independently of each other.
    pub impact_ratio: f64,
    mark: Mark,
}

/// Calls on the shortest walk to whoever is down, and below them bits of what is felt: the least mark is the nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark(u32);

impl Mark {
    /// A failure can be felt at all.
    const REACHED: u32 = 1;
    /// It is felt for certain.
    const CERTAIN: u32 = 1 << 1;
    const DISTANCE_SHIFT: u32 = 2;

    fn new(distance: u32, is_reached: bool, is_certain: bool) -> Self {
        Self(distance << Self::DISTANCE_SHIFT | u32::from(is_certain) << 1 | u32::from(is_reached))
    }

    fn distance(self) -> u32 {
        self.0 >> Self::DISTANCE_SHIFT
    }

    fn is_reached(self) -> bool {
        self.0 & Self::REACHED != 0
    }

    fn is_certain(self) -> bool {
        self.0 & Self::CERTAIN != 0
    }

    fn is_in_doubt(self) -> bool {
        self.0 & (Self::REACHED | Self::CERTAIN) == Self::REACHED
    }
}

impl Felt {
    /// Calls on the shortest walk to whoever is down; [`NO_WAY`] where there is none.
    #[must_use]
    pub fn distance(self) -> u32 {
        self.mark.distance()
    }

    fn is_met(self) -> bool {
        self.distance() != NO_WAY
    }
}

/// No distance.
pub const NO_WAY: u32 = (1 << 28) - 1;
const NOTHING: Felt = Felt { impact_ratio: 0.0, mark: Mark(NO_WAY << Mark::DISTANCE_SHIFT) };
const DOWN: Felt = Felt { impact_ratio: 1.0, mark: Mark(Mark::REACHED | Mark::CERTAIN) };

/// One of so many is looked at to find out how hard the hardest are hit.
const SAMPLED: usize = 64;

/// What everybody feels.
#[derive(Debug)]
pub struct Wave<'a> {
    upstream: &'a Upstream,
    felt: Vec<Felt>,
}

impl Wave<'_> {
    /// What a node feels.
    #[must_use]
    pub fn felt(&self, node: NodeIndex) -> Felt {
        self.felt[self.upstream.ranks[node as usize] as usize]
    }

    /// Everybody from whom a walk leads to whoever is down, that one included, in no particular order.
    pub fn met(&self) -> impl Iterator<Item = (NodeIndex, Felt)> + '_ {
        let all = self.upstream.nodes.iter().copied().zip(self.felt.iter().copied());
        all.filter(|(node, felt)| felt.is_met() && *node != GROUP)
    }

    /// More than the `count` hardest hit besides whoever is down, and that one; where there are no more, all of [`Self::met`].
    #[must_use]
    pub fn hardest(&self, count: usize) -> Vec<(NodeIndex, Felt)> {
        let floor = self.floor(count);
        let hard: Vec<_> = self.met().filter(|(_, felt)| felt.impact_ratio >= floor).collect();
        if hard.len() > count.saturating_add(1) { hard } else { self.met().collect() }
    }

    /// The impact that somewhat more than `count` have at least, as a sample has it: by four standard deviations more, so that it
    /// is hardly ever too high.
    fn floor(&self, count: usize) -> f64 {
        let mut sample: Vec<f64> = self.felt.iter().step_by(SAMPLED).map(|felt| felt.impact_ratio).collect();
        let expected = count / SAMPLED;
        let enough = expected + 4 * expected.isqrt() + 4;
        if enough >= sample.len() {
            return 0.0;
        }
        *sample.select_nth_unstable_by(enough, |a, b| b.total_cmp(a)).1
    }

    /// How much of what is felt could be told more exactly. Calls are no longer counted once they are so many that nothing
    /// exact would be tried, whatever the others are.
    #[must_use]
    pub fn crossing(&self) -> Crossing {
        let in_doubt = || (0..).zip(&self.felt).filter(|(_, felt)| felt.mark.is_in_doubt()).map(|(rank, _)| rank);
        let mut crossing = Crossing { component_count: in_doubt().count(), ..Crossing::default() };
        for rank in in_doubt() {
            self.upstream.count_in_doubt(rank, &self.felt, &mut crossing);
            if !crossing.may_be_exact() {
                break;
            }
        }
        crossing
    }
}

/// Whether a group of which some may fail stands behind a fallback or retries.
fn is_apart(need: &Need) -> bool {
    need.members.len() > 1 && need.matters() && !(need.is_certain() && need.effect.retry_count == 0)
}

impl Upstream {
    /// `components` are the strongly connected components of the request path, callees before callers.
    #[must_use]
    pub fn of(needs: &Needs, components: &[Vec<NodeIndex>]) -> Self {
        let mut upstream = Self { ranks: vec![0; needs.node_count()], ..Self::default() };
        let mut groups = vec![0; needs.node_count()];
        let mut apart: Vec<Option<&Need>> = Vec::new();
        for members in by_height(needs, components) {
            let start = upstream.nodes.len() as Rank;
            // A group comes before its caller, but inside a cycle after all nodes, as in the structure function: whoever is hit
            // equally hard is settled in this order.
            let is_cycle = members.len() > 1;
            if is_cycle {
                members.iter().for_each(|&node| upstream.enter(node, &mut apart));
            }
            for &node in members {
                groups[node as usize] = upstream.nodes.len() as Rank;
                for need in needs.of_caller(node).iter().filter(|need| is_apart(need)) {
                    upstream.nodes.push(GROUP);
                    apart.push(Some(need));
                }
            }
            if is_cycle {
                upstream.cycles.push(start..upstream.nodes.len() as Rank);
            } else {
                members.iter().for_each(|&node| upstream.enter(node, &mut apart));
            }
        }
        let mut effects = Effects::default();
        for (rank, group) in apart.into_iter().enumerate() {
            upstream.begin();
            if let Some(group) = group {
                upstream.add_group(group);
                continue;
            }
            let node = upstream.nodes[rank];
            let first = upstream.calls.len();
            let (apart, others): (Vec<&Need>, Vec<&Need>) =
                needs.of_caller(node).iter().partition(|need| is_apart(need));
            others.into_iter().for_each(|need| upstream.add(need, &mut effects));
            upstream.calls[first..].sort_by_key(|call| upstream.nodes[call.callee as usize]);
            for (callee, need) in (groups[node as usize]..).zip(apart) {
                upstream.calls.push(Call { callee, effect: effects.number(need.effect.impact_ratio) });
            }
        }
        upstream.begin();
        upstream.effects = effects.numbered;
        upstream
    }

    fn enter(&mut self, node: NodeIndex, apart: &mut Vec<Option<&Need>>) {
        self.ranks[node as usize] = self.nodes.len() as Rank;
        self.nodes.push(node);
        apart.push(None);
    }

    /// What is added from now on is of the next rank.
    fn begin(&mut self) {
        self.starts.push((self.calls.len() as u32, self.groups.len() as u32));
    }

    fn add(&mut self, need: &Need, effects: &mut Effects) {
        if need.members.len() > 1 && need.matters() {
            self.add_group(need);
            return;
        }
        let effect = effects.number(need.effect.impact_ratio);
        let call = |&member: &NodeIndex| Call { callee: self.ranks[member as usize], effect };
        self.calls.extend(need.members.iter().map(call));
    }

    fn add_group(&mut self, need: &Need) {
        let start = self.members.len() as u32;
        self.members.extend(need.members.iter().map(|&member| self.ranks[member as usize]));
        let spare = need.members.len() - need.required_count as usize;
        self.groups.push(Group { members: start..self.members.len() as u32, spare });
    }

    /// What everybody feels while one node is fully down and everything else works, as [`noisy_or`] has it.
    ///
    /// [`noisy_or`]: attain_reliability::propagation::noisy_or
    #[must_use]
    pub fn wave(&self, down: NodeIndex) -> Wave<'_> {
        let down = self.ranks[down as usize];
        let mut felt = vec![NOTHING; self.nodes.len()];
        felt[down as usize] = DOWN;
        let mut cycles = self.cycles[self.cycles.partition_point(|cycle| cycle.end <= down)..].iter();
        let mut cycle = cycles.next();
        let mut rank = cycle.map_or(down, |cycle| cycle.start.min(down));
        while (rank as usize) < felt.len() {
            match cycle {
                Some(of_cycle) if of_cycle.start == rank => {
                    self.settle(of_cycle.clone(), down, &mut felt);
                    rank = of_cycle.end;
                    cycle = cycles.next();
                }
                _ => {
                    if rank != down {
                        felt[rank as usize] = self.feel(rank, &felt);
                    }
                    rank += 1;
                }
            }
        }
        Wave { upstream: self, felt }
    }

    fn calls(&self, rank: Rank) -> &[Call] {
        &self.calls[self.starts[rank as usize].0 as usize..self.starts[rank as usize + 1].0 as usize]
    }

    fn groups(&self, rank: Rank) -> &[Group] {
        &self.groups[self.starts[rank as usize].1 as usize..self.starts[rank as usize + 1].1 as usize]
    }

    fn members(&self, group: &Group) -> &[Rank] {
        &self.members[group.members.start as usize..group.members.end as usize]
    }

    /// Whom a request of somebody may come to next.
    fn callees(&self, rank: Rank) -> impl Iterator<Item = Rank> + '_ {
        let members = self.groups(rank).iter().flat_map(|group| self.members(group));
        self.calls(rank).iter().map(|call| call.callee).chain(members.copied())
    }

    /// What somebody feels by what is known of the callees. A pass over many calls is bound by how little is done for each.
    fn feel(&self, rank: Rank, felt: &[Felt]) -> Felt {
        let mut nearest = NOTHING.mark.0;
        let mut passed_on = 0;
        let mut failing = AtLeastOne::default();
        for call in self.calls(rank) {
            let callee = felt[call.callee as usize];
            let effect = self.effects[call.effect as usize];
            nearest = nearest.min(callee.mark.0);
            passed_on |= callee.mark.0 & effect.passes;
            failing.add(effect.impact_ratio * callee.impact_ratio);
        }
        for group in self.groups(rank) {
            let members = || self.members(group).iter().map(|&member| felt[member as usize]);
            nearest = members().map(|member| member.mark.0).fold(nearest, u32::min);
            if self.matters(group, felt) {
                passed_on |= members().fold(0, |all, member| all | member.mark.0 & Mark::REACHED);
            }
            if members().filter(|member| member.mark.is_certain()).count() > group.spare {
                passed_on |= Mark::CERTAIN;
            }
            failing.add(more_than(group.spare, members().map(|member| member.impact_ratio)));
        }
        let distance = (Mark(nearest).distance() + self.step(rank)).min(NO_WAY);
        let passed_on = Mark(passed_on);
        let mark = Mark::new(distance, passed_on.is_reached(), passed_on.is_certain());
        Felt { impact_ratio: failing.failure_ratio(), mark }
    }

    /// Adds the calls of somebody whose callees are in doubt. The steps are the same for every call, so that no guess is wrong.
    fn count_in_doubt(&self, rank: Rank, felt: &[Felt], crossing: &mut Crossing) {
        let is_in_doubt = |callee: Rank| felt[callee as usize].mark.is_in_doubt();
        for call in self.calls(rank) {
            let passes = self.effects[call.effect as usize].passes;
            let is_felt = is_in_doubt(call.callee) & (passes & Mark::REACHED != 0);
            crossing.call_count += usize::from(is_felt);
            crossing.partial_call_count += usize::from(is_felt & (passes & Mark::CERTAIN == 0));
        }
        for group in self.groups(rank).iter().filter(|group| self.matters(group, felt)) {
            crossing.call_count += self.members(group).iter().filter(|&&member| is_in_doubt(member)).count();
        }
    }

    /// Calls from somebody to its callees: a group adds none to those of whom it is part.
    fn step(&self, rank: Rank) -> u32 {
        u32::from(self.nodes[rank as usize] != GROUP)
    }

    /// Whether enough members can feel the failure for the group to do so.
    fn matters(&self, group: &Group, felt: &[Felt]) -> bool {
        let met = self.members(group).iter().filter(|&&member| felt[member as usize].is_met());
        met.count() > group.spare
    }

    /// The members of a cycle. Whoever is down among them stays as it is.
    fn settle(&self, cycle: Range<Rank>, down: Rank, felt: &mut [Felt]) {
        let members: Vec<Rank> = cycle.clone().filter(|&rank| rank != down).collect();
        let inside = |rank: &Rank| cycle.contains(rank);
        let mut callers = vec![Vec::new(); cycle.len()];
        for &caller in &members {
            for callee in self.callees(caller).filter(inside) {
                callers[(callee - cycle.start) as usize].push(caller);
            }
        }
        let callers = |rank: Rank| &callers[(rank - cycle.start) as usize][..];
        self.measure(&members, callers, felt);
        // Whether somebody is reached and fails for certain, each from nobody on.
        let mut open = members.clone();
        while let Some(rank) = open.pop() {
            let now = self.feel(rank, felt).mark;
            let known = &mut felt[rank as usize].mark;
            if (known.is_reached(), known.is_certain()) != (now.is_reached(), now.is_certain()) {
                *known = Mark::new(known.distance(), now.is_reached(), now.is_certain());
                open.extend(callers(rank));
            }
        }
        for members in self.cycles_within(&cycle, down, felt) {
            let impact_of = |felt: &&mut [Felt], rank| self.feel(rank, felt).impact_ratio;
            let set = |felt: &mut &mut [Felt], rank: Rank, impact| felt[rank as usize].impact_ratio = impact;
            settle_cycle(&members, callers, &mut { &mut *felt }, impact_of, set);
        }
    }

    /// What is left of a cycle without calls by which nothing is felt: cycles and single members, callees before callers.
    fn cycles_within(&self, cycle: &Range<Rank>, down: Rank, felt: &[Felt]) -> Vec<Vec<Rank>> {
        let is_open = |rank: &Rank| cycle.contains(rank) && *rank != down && felt[*rank as usize].mark.is_reached();
        let felt_by = |caller: Rank| {
            let calls = self
                .calls(caller)
                .iter()
                .filter(|call| self.effects[call.effect as usize].passes != 0)
                .map(|call| call.callee);
            let groups = self.groups(caller).iter().filter(|group| self.matters(group, felt));
            let members = groups.flat_map(|group| self.members(group)).copied();
            let callees = calls.chain(members).filter(is_open).map(|callee| callee - cycle.start);
            if is_open(&caller) { callees.collect() } else { Vec::new() }
        };
        let callees: Vec<Vec<u32>> = cycle.clone().map(felt_by).collect();
        let components = tarjan(callees.len(), |node| &callees[node as usize]);
        let ranks = |members: Vec<u32>| members.into_iter().map(|node| node + cycle.start).filter(is_open).collect();
        components.into_iter().map(ranks).collect()
    }

    /// Distances inside a cycle, the nearest first (Dijkstra 1959).
    fn measure<'a>(&self, members: &[Rank], callers: impl Fn(Rank) -> &'a [Rank], felt: &mut [Felt]) {
        let distance = |rank: Rank, felt: &[Felt]| {
            let nearest = self.callees(rank).map(|callee| felt[callee as usize].distance()).min();
            nearest.unwrap_or(NO_WAY).saturating_add(self.step(rank)).min(NO_WAY)
        };
        let known = members.iter().map(|&rank| Reverse((distance(rank, felt), rank)));
        let mut open: BinaryHeap<_> = known.filter(|Reverse((distance, _))| *distance != NO_WAY).collect();
        while let Some(Reverse((distance, rank))) = open.pop() {
            let known = &mut felt[rank as usize].mark;
            if known.distance() <= distance {
                continue;
            }
            *known = Mark::new(distance, known.is_reached(), known.is_certain());
            open.extend(callers(rank).iter().map(|&caller| Reverse((distance + self.step(caller), caller))));
        }
    }
}

/// Effects by their impact.
#[derive(Default)]
struct Effects {
    numbered: Vec<Effect>,
    /// By the bits of the impact.
    numbers: HashMap<u64, u32>,
}

impl Effects {
    fn number(&mut self, impact_ratio: f64) -> u32 {
        *self.numbers.entry(impact_ratio.to_bits()).or_insert_with(|| {
            self.numbered.push(Effect::new(impact_ratio));
            self.numbered.len() as u32 - 1
        })
    }
}

/// Components in another order in which callees come first: by the calls on the longest walk down from them, so that whom many
/// call is mostly low and lies together with others that a pass looks up often; of as many, by the number of callees, so that a
/// pass finds as many calls of one as of the one before, which a processor guesses right.
fn by_height<'a>(needs: &Needs, components: &'a [Vec<NodeIndex>]) -> Vec<&'a [NodeIndex]> {
    let mut component_of = vec![0; needs.node_count()];
    let mut ordered: Vec<(u32, usize, &[NodeIndex])> = Vec::with_capacity(components.len());
    for (number, members) in components.iter().enumerate() {
        members.iter().for_each(|&node| component_of[node as usize] = number);
        let callees = || members.iter().flat_map(|&node| needs.of_caller(node)).flat_map(|need| &need.members);
        let below = callees().map(|&callee| component_of[callee as usize]).filter(|&below| below != number);
        let height = below.map(|below| ordered[below].0 + 1).max();
        ordered.push((height.unwrap_or(0), callees().count(), members));
    }
    ordered.sort_by_key(|&(height, callee_count, _)| (height, callee_count));
    ordered.into_iter().map(|(_, _, members)| members).collect()
}
