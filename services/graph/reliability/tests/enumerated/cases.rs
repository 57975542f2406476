//! Random structures whose states can all be enumerated: cycles, redundancy, fallbacks, common causes and black boxes.

use attain_reliability::{Component, EdgeEffect, Structure, StructureBuilder};
use proptest::prelude::*;
use std::collections::BTreeMap;

const GROUP_MEMBERS_MAX: usize = 5;

#[derive(Debug, Clone)]
pub struct Case {
    /// Failure ratio, and whether it includes dependencies.
    pub own: Vec<(f64, bool)>,
    pub edges: Vec<Edge>,
    pub groups: Vec<Group>,
}

#[derive(Debug, Clone)]
pub struct Edge {
    pub caller: u32,
    pub callee: u32,
    pub effect: EdgeEffect,
}

#[derive(Debug, Clone)]
pub struct Group {
    pub caller: u32,
    pub members: Vec<u32>,
    required: u32,
    beta: f64,
}

/// How large cases are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub components: (u32, u32),
    /// Everything random together: components, fallbacks and causes.
    pub variables_max: usize,
    pub with_retries: bool,
}

impl Edge {
    pub fn is_retried(&self) -> bool {
        self.effect.impact_ratio > 0.0 && self.effect.retry_count > 0 && self.effect.persistent_share < 1.0
    }

    fn is_random(&self) -> bool {
        self.is_retried() || (self.effect.impact_ratio > 0.0 && self.effect.impact_ratio < 1.0)
    }
}

impl Group {
    /// Smallest sets of members that are enough, as bits.
    pub fn sufficient_subsets(&self) -> Vec<u32> {
        (0..1_u32 << self.members.len()).filter(|subset| subset.count_ones() == self.required).collect()
    }

    pub fn is_redundant(&self) -> bool {
        (self.required as usize) < self.members.len() && self.beta > 0.0
    }
}

impl Case {
    pub fn build(&self) -> Structure {
        let mut builder = StructureBuilder::new();
        for &(q, black_box) in &self.own {
            builder.add_component(q, black_box).unwrap();
        }
        for edge in &self.edges {
            builder.add_edge(Component(edge.caller), Component(edge.callee), edge.effect).unwrap();
        }
        for group in &self.groups {
            let members: Vec<Component> = group.members.iter().map(|&m| Component(m)).collect();
            builder.add_group(Component(group.caller), &members, group.required, Some(group.beta)).unwrap();
        }
        builder.build()
    }

    /// Distinct member sets that share a cause, with its probability.
    pub fn causes(&self) -> BTreeMap<Vec<u32>, f64> {
        let mut causes = BTreeMap::<Vec<u32>, f64>::new();
        for group in self.groups.iter().filter(|group| group.is_redundant()) {
            let rarest = group.members.iter().map(|&m| self.own[m as usize].0).fold(1.0, f64::min);
            let cause = causes.entry(group.members.clone()).or_default();
            *cause = cause.max(group.beta * rarest);
        }
        causes
    }

    /// Whether one component's request may come to another, by caller and callee, over at least one call.
    pub fn reaches(&self) -> Vec<Vec<bool>> {
        let count = self.own.len();
        let mut reaches = vec![vec![false; count]; count];
        let open = |caller: u32| !self.own[caller as usize].1;
        for edge in self.edges.iter().filter(|edge| edge.effect.impact_ratio > 0.0 && open(edge.caller)) {
            reaches[edge.caller as usize][edge.callee as usize] = true;
        }
        for group in self.groups.iter().filter(|group| open(group.caller)) {
            for &member in &group.members {
                reaches[group.caller as usize][member as usize] = true;
            }
        }
        for middle in 0..count {
            for from in 0..count {
                for to in 0..count {
                    reaches[from][to] |= reaches[from][middle] && reaches[middle][to];
                }
            }
        }
        reaches
    }

    /// The same with the calls alone that lead to a greater number.
    pub fn without_cycles(&self) -> Self {
        let mut case = self.clone();
        case.edges.retain(|edge| edge.caller < edge.callee);
        case.groups.retain(|group| group.members.iter().all(|&member| member > group.caller));
        case
    }

    fn variable_count(&self) -> usize {
        let between = |q: &f64| *q > 0.0 && *q < 1.0;
        self.own.iter().filter(|own| between(&own.0)).count()
            + self.edges.iter().filter(|edge| edge.is_random()).count()
            + self.causes().values().filter(|q| between(q)).count()
    }
}

pub fn case(size: Size) -> impl Strategy<Value = Case> {
    let (least, most) = size.components;
    (least..=most).prop_flat_map(move |count| {
        let members =
            prop::sample::subsequence((1..count).collect::<Vec<u32>>(), 1..=GROUP_MEMBERS_MAX.min(count as usize - 1));
        let beta = prop_oneof![Just(0.0), 0.0..1.0_f64];
        (
            prop::collection::vec((ratio(), prop::bool::weighted(0.05)), count as usize),
            prop::collection::vec((0..count, 1..count, effect(size.with_retries)), 0..=2 * count as usize),
            prop::collection::vec((0..count, members, any::<prop::sample::Index>(), beta), 0..4),
        )
            .prop_map(move |(own, edges, groups)| assemble(size, own, edges, groups))
    })
}

fn ratio() -> impl Strategy<Value = f64> {
    prop_oneof![5 => 0.0..0.5_f64, 2 => Just(0.0), 1 => Just(1.0), 1 => Just(1e-9)]
}

fn effect(with_retries: bool) -> impl Strategy<Value = EdgeEffect> {
    let impact = prop_oneof![4 => Just(1.0), 3 => 0.01..0.99_f64, 1 => Just(0.0)];
    let retries = if with_retries { prop_oneof![1 => Just(0), 2 => 1..=3_u32].boxed() } else { Just(0).boxed() };
    let persistent = prop_oneof![1 => Just(0.0), 3 => 0.0..=1.0_f64];
    (impact, retries, persistent).prop_map(|(impact_ratio, retry_count, persistent_share)| EdgeEffect {
        impact_ratio,
        retry_count,
        persistent_share,
    })
}

type DrawnGroup = (u32, Vec<u32>, prop::sample::Index, f64);

/// Turns offsets from the caller into callees, so that nobody calls itself, and keeps the enumeration small: components,
/// then groups, then edges, as long as there is room for what they make random.
fn assemble(size: Size, own: Vec<(f64, bool)>, edges: Vec<(u32, u32, EdgeEffect)>, groups: Vec<DrawnGroup>) -> Case {
    let count = own.len() as u32;
    let mut case = Case { own, edges: Vec::new(), groups: Vec::new() };
    for (caller, offsets, required, beta) in groups {
        let mut members: Vec<u32> = offsets.iter().map(|offset| (caller + offset) % count).collect();
        members.sort_unstable();
        let required = required.index(members.len()) as u32 + 1;
        case.groups.push(Group { caller, members, required, beta });
        if case.variable_count() > size.variables_max {
            case.groups.pop();
        }
    }
    let mut room = size.variables_max.saturating_sub(case.variable_count());
    for (caller, offset, effect) in edges {
        let edge = Edge { caller, callee: (caller + offset) % count, effect };
        if !edge.is_random() || room > 0 {
            room -= usize::from(edge.is_random());
            case.edges.push(edge);
        }
    }
    case
}
