//! Who feels a failure, in one pass over everybody from callees to callers.
//!
//! What each caller needs is kept flat and in an order in which callees come first, once a snapshot: a pass then reads memory
//! from one end to the other, and allocates nothing but its result.

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
    /// What of the callee's mark the caller may take over.
    passes: u32,
}

impl Effect {
    fn new(impact_ratio: f64) -> Self {
        let reached = if impact_ratio > 0.0 { Mark::REACHED | Mark::IN_DOUBT } else { 0 };
        let more = if impact_ratio >= 1.0 { Mark::CERTAIN } else { Mark::SPARED_IN_DOUBT };
        Self { impact_ratio, passes: if reached == 0 { 0 } else { reached | more } }
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

/// Calls on the shortest walk to whoever is down, and bits of what is felt. Whether somebody is in doubt follows from the
/// other two, and stands twice: for the calls that may be counted as in doubt, and for those of them that may be spared.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark(u32);

impl Mark {
    /// A failure can be felt at all.
    const REACHED: u32 = 1;
    /// It is felt for certain.
    const CERTAIN: u32 = 1 << 1;
    const DISTANCE_SHIFT: u32 = 2;
    const DISTANCE: u32 = NO_WAY << Self::DISTANCE_SHIFT;
    const IN_DOUBT: u32 = 1 << 30;
    const SPARED_IN_DOUBT: u32 = 1 << 31;

    fn new(distance: u32, is_reached: bool, is_certain: bool) -> Self {
        let doubt = if is_reached && !is_certain { Self::IN_DOUBT | Self::SPARED_IN_DOUBT } else { 0 };
        Self(distance << Self::DISTANCE_SHIFT | doubt | u32::from(is_certain) << 1 | u32::from(is_reached))
    }

    fn distance(self) -> u32 {
        (self.0 & Self::DISTANCE) >> Self::DISTANCE_SHIFT
    }

    fn is_reached(self) -> bool {
        self.0 & Self::REACHED != 0
    }

    fn is_certain(self) -> bool {
        self.0 & Self::CERTAIN != 0
    }

    fn is_in_doubt(self) -> bool {
        self.0 & Self::IN_DOUBT != 0
    }
}

impl Doubtful {
    /// Of sums of bits of marks.
    fn of_calls(in_doubt: u64, spared_in_doubt: u64) -> Self {
        let count = |sum: u64, bit: u32| (sum / u64::from(bit)) as usize;
        Self { calls: count(in_doubt, Mark::IN_DOUBT), partial_calls: count(spared_in_doubt, Mark::SPARED_IN_DOUBT) }
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
const NOTHING: Felt = Felt { impact_ratio: 0.0, mark: Mark(Mark::DISTANCE) };
const DOWN: Felt = Felt { impact_ratio: 1.0, mark: Mark(Mark::REACHED | Mark::CERTAIN) };

/// Calls of one node whose callees are in doubt.
#[derive(Debug, Clone, Copy, Default)]
struct Doubtful {
    calls: usize,
    partial_calls: usize,
}

/// What everybody feels.
#[derive(Debug)]
pub struct Wave<'a> {
    upstream: &'a Upstream,
    felt: Vec<Felt>,
    /// What of it could be told more exactly.
    pub crossing: Crossing,
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
            let (apart, others): (Vec<&Need>, Vec<&Need>) =
                needs.of_caller(node).iter().partition(|need| is_apart(need));
            others.into_iter().for_each(|need| upstream.add(need, &mut effects));
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
        let mut crossing = Crossing::default();
        let mut cycles = self.cycles[self.cycles.partition_point(|cycle| cycle.end <= down)..].iter();
        let mut cycle = cycles.next();
        let mut rank = cycle.map_or(down, |cycle| cycle.start.min(down));
        while (rank as usize) < felt.len() {
            match cycle {
                Some(of_cycle) if of_cycle.start == rank => {
                    self.settle(of_cycle.clone(), down, &mut felt);
                    for member in of_cycle.clone().filter(|member| felt[*member as usize].mark.is_in_doubt()) {
                        count(&mut crossing, self.feel(member, &felt).1);
                    }
                    rank = of_cycle.end;
                    cycle = cycles.next();
                }
                _ => {
                    if rank != down {
                        let (own, doubtful) = self.feel(rank, &felt);
                        felt[rank as usize] = own;
                        if own.mark.is_in_doubt() {
                            count(&mut crossing, doubtful);
                        }
                    }
                    rank += 1;
                }
            }
        }
        Wave { upstream: self, felt, crossing }
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

    /// What somebody feels by what is known of the callees, and which of its calls are in doubt.
    fn feel(&self, rank: Rank, felt: &[Felt]) -> (Felt, Doubtful) {
        let mut nearest = Mark::DISTANCE;
        // Bits of all that calls pass on, and how often each bit of doubt is passed on, times its value: a pass over many
        // calls is bound by how little is done for each.
        let (mut passed_on, mut in_doubt, mut spared_in_doubt) = (0, 0_u64, 0_u64);
        let mut failing = AtLeastOne::default();
        for call in self.calls(rank) {
            let callee = felt[call.callee as usize];
            let effect = self.effects[call.effect as usize];
            let passed = callee.mark.0 & effect.passes;
            nearest = nearest.min(callee.mark.0 & Mark::DISTANCE);
            passed_on |= passed;
            in_doubt += u64::from(passed & Mark::IN_DOUBT);
            spared_in_doubt += u64::from(passed & Mark::SPARED_IN_DOUBT);
            failing.add(effect.impact_ratio * callee.impact_ratio);
        }
        let mut doubtful = Doubtful::of_calls(in_doubt, spared_in_doubt);
        for group in self.groups(rank) {
            let members = || self.members(group).iter().map(|&member| felt[member as usize]);
            nearest = members().map(|member| member.mark.0 & Mark::DISTANCE).fold(nearest, u32::min);
            if self.matters(group, felt) {
                passed_on |= members().fold(0, |all, member| all | member.mark.0 & Mark::REACHED);
                doubtful.calls += members().filter(|member| member.mark.is_in_doubt()).count();
            }
            if members().filter(|member| member.mark.is_certain()).count() > group.spare {
                passed_on |= Mark::CERTAIN;
            }
            failing.add(more_than(group.spare, members().map(|member| member.impact_ratio)));
        }
        (self.felt(rank, failing.failure_ratio(), Mark(nearest | passed_on)), doubtful)
    }

    /// What somebody feels whose nearest callee and all that is passed on to it are in `mark`.
    fn felt(&self, rank: Rank, impact_ratio: f64, mark: Mark) -> Felt {
        let distance = (mark.distance() + self.step(rank)).min(NO_WAY);
        Felt { impact_ratio, mark: Mark::new(distance, mark.is_reached(), mark.is_certain()) }
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
            let now = self.feel(rank, felt).0.mark;
            let known = &mut felt[rank as usize].mark;
            if (known.is_reached(), known.is_certain()) != (now.is_reached(), now.is_certain()) {
                *known = Mark::new(known.distance(), now.is_reached(), now.is_certain());
                open.extend(callers(rank));
            }
        }
        for members in self.cycles_within(&cycle, down, felt) {
            let impact_of = |felt: &&mut [Felt], rank| self.feel(rank, felt).0.impact_ratio;
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

/// Components in another order in which callees come first: by the calls on the longest walk down from them. Whom many call is
/// mostly low, so that what a pass looks up most often lies together.
fn by_height<'a>(needs: &Needs, components: &'a [Vec<NodeIndex>]) -> Vec<&'a [NodeIndex]> {
    let mut component_of = vec![0; needs.node_count()];
    let mut ordered: Vec<(u32, &[NodeIndex])> = Vec::with_capacity(components.len());
    for (number, members) in components.iter().enumerate() {
        members.iter().for_each(|&node| component_of[node as usize] = number);
        let callees = members.iter().flat_map(|&node| needs.of_caller(node)).flat_map(|need| &need.members);
        let below = callees.map(|&callee| component_of[callee as usize]).filter(|&below| below != number);
        let height = below.map(|below| ordered[below].0 + 1).max();
        ordered.push((height.unwrap_or(0), members));
    }
    ordered.sort_by_key(|&(height, _)| height);
    ordered.into_iter().map(|(_, members)| members).collect()
}

/// Adds somebody in doubt, as the structure function has it.
fn count(crossing: &mut Crossing, doubtful: Doubtful) {
    crossing.component_count += 1;
    crossing.call_count += doubtful.calls;
    crossing.partial_call_count += doubtful.partial_calls;
}
