//! What a failure of each component does to each service above it: a valid bound, every component once.
//!
//! `c_ij` bounds the probability that `i` fails given that `j` alone fails. With edges that pass a failure on independently,
//! the events "callee `m` fails and the edge to it passes that on" are positively associated (Harris, FKG), so
//! `c_ij ≤ 1 − Π_m (1 − impact_im · c_mj)`: at most 1, and 1 along hard chains, however many paths there are. A group that
//! breaks when `r = members − required + 1` members fail has `c ≤ min(1, Σ_m c_mj / r)`: the broken group holds at least `r`
//! failed members, and Jensen. With them `P(i fails) ≤ o_i + Σ_j c_ij · o_j` by the union bound, whatever own failures have
//! to do with each other.
//!
//! A strongly connected component is bounded from outside: a failure inside reaches another member only through an inner
//! edge that leaves the one and an inner edge that enters the other; a failure below reaches a member through its own exits,
//! or through an inner edge and any exit. Among hard edges both are 1: the AND of its members.

use crate::components::strongly_connected;
use crate::{Error, Fleet};

/// Sparse rows `c_ij > 0`, `j ≠ i`, sorted by `j`; single precision rounded up, so that the bound stays one.
pub(crate) struct Closure {
    pub(crate) rows: Vec<Vec<(u32, f32)>>,
    /// Every service once, callees before callers.
    pub(crate) order: Vec<usize>,
    /// Strongly connected components with more than one member.
    pub(crate) has_cycles: bool,
}

enum Way<'a> {
    Edge { callee: usize, impact: f64 },
    Group { members: &'a [usize], broken_at: f64 },
}

impl Closure {
    pub(crate) fn of(fleet: &Fleet, entries_max: usize) -> Result<Self, Error> {
        let count = fleet.services().len();
        let components = strongly_connected(&callees(fleet));
        let mut component_of = vec![0; count];
        for (number, members) in components.iter().enumerate() {
            members.iter().for_each(|member| component_of[*member] = number);
        }
        let ways = ways(fleet, &component_of);
        let mut rows: Vec<Vec<(u32, f32)>> = vec![Vec::new(); count];
        let mut survival = Survival::new(count);
        let mut entries = 0;
        for (number, members) in components.iter().enumerate() {
            let inside = |callee: usize| component_of[callee] == number;
            let solved = if let [single] = members[..] {
                vec![(single, survival.through(&ways[single], &rows))]
            } else {
                knot(members, &inside, &ways, &rows, &mut survival)
            };
            for (member, row) in solved {
                entries += row.len();
                if entries > entries_max {
                    return Err(Error::ClosureTooLarge { service_count: count, limit: entries_max });
                }
                rows[member] =
                    row.into_iter().filter(|(_, c)| *c > 0.0).map(|(j, c)| (j as u32, rounded_up(c))).collect();
            }
        }
        let has_cycles = components.iter().any(|members| members.len() > 1);
        Ok(Self { rows, order: components.concat(), has_cycles })
    }

    /// `c_ij`; 1 for the service itself.
    pub(crate) fn impact(&self, service: usize, component: usize) -> f64 {
        if service == component {
            return 1.0;
        }
        let row = &self.rows[service];
        row.binary_search_by_key(&(component as u32), |(j, _)| *j).map_or(0.0, |found| f64::from(row[found].1))
    }
}

fn callees(fleet: &Fleet) -> Vec<Vec<usize>> {
    let mut callees = vec![Vec::new(); fleet.services().len()];
    for (caller, callee, impact) in &fleet.edges {
        if *impact > 0.0 {
            callees[*caller].push(*callee);
        }
    }
    for group in &fleet.groups {
        callees[group.caller].extend(group.members.iter().filter(|member| **member != group.caller));
    }
    callees
}

/// What each service rests on. A group with a member in its caller's own cycle counts as hard edges, which is no less strict.
fn ways<'a>(fleet: &'a Fleet, component_of: &[usize]) -> Vec<Vec<Way<'a>>> {
    let mut ways: Vec<Vec<Way<'a>>> = (0..component_of.len()).map(|_| Vec::new()).collect();
    for (caller, callee, impact) in &fleet.edges {
        if *impact > 0.0 {
            ways[*caller].push(Way::Edge { callee: *callee, impact: *impact });
        }
    }
    for group in &fleet.groups {
        let caller = group.caller;
        let knotted = group.members.iter().any(|member| component_of[*member] == component_of[caller]);
        if knotted {
            let others = group.members.iter().filter(|member| **member != caller);
            ways[caller].extend(others.map(|member| Way::Edge { callee: *member, impact: 1.0 }));
        } else {
            let broken_at = (group.members.len() - group.required_count + 1) as f64;
            ways[caller].push(Way::Group { members: &group.members, broken_at });
        }
    }
    ways
}

/// Rows of the members of one cycle.
fn knot(
    members: &[usize],
    inside: &dyn Fn(usize) -> bool,
    ways: &[Vec<Way<'_>>],
    rows: &[Vec<(u32, f32)>],
    survival: &mut Survival,
) -> Vec<(usize, Vec<(usize, f64)>)> {
    let inner = |way: &Way<'_>| match way {
        Way::Edge { callee, impact } if inside(*callee) => Some((*callee, *impact)),
        _ => None,
    };
    let (mut leaving, mut entering) = (vec![1.0; members.len()], vec![1.0; members.len()]);
    for (position, member) in members.iter().enumerate() {
        for (callee, impact) in ways[*member].iter().filter_map(inner) {
            leaving[position] *= 1.0 - impact;
            if let Ok(callee) = members.binary_search(&callee) {
                entering[callee] *= 1.0 - impact;
            }
        }
    }
    let exits = |member: usize| ways[member].iter().filter(|way| inner(way).is_none());
    let own: Vec<Vec<(usize, f64)>> = members.iter().map(|member| survival.through(exits(*member), rows)).collect();
    let any = survival.through(members.iter().flat_map(|member| exits(*member)), rows);
    let row = |position: usize| {
        let out = 1.0 - leaving[position];
        let below = any.iter().map(|(component, through_any)| {
            let found = own[position].binary_search_by_key(component, |(j, _)| *j);
            let through_own = found.map_or(0.0, |at| own[position][at].1);
            (*component, 1.0 - (1.0 - through_own) * (1.0 - out * through_any))
        });
        let beside = members.iter().enumerate().filter(|(other, _)| *other != position);
        let beside = beside.map(|(other, member)| (*member, out.min(1.0 - entering[other])));
        let mut row: Vec<(usize, f64)> = below.chain(beside).collect();
        row.sort_unstable_by_key(|(component, _)| *component);
        (members[position], row)
    };
    (0..members.len()).map(row).collect()
}

/// Scratch space: for each component, the probability that its failure passes none of the ways looked at.
struct Survival {
    none: Vec<f64>,
    group: Vec<f64>,
}

impl Survival {
    fn new(count: usize) -> Self {
        Self { none: vec![1.0; count], group: vec![0.0; count] }
    }

    /// `1 − Π_ways (1 − c_way,j)` for every `j` below the ways, sorted.
    fn through<'a, 'b: 'a>(
        &mut self,
        ways: impl IntoIterator<Item = &'a Way<'b>>,
        rows: &[Vec<(u32, f32)>],
    ) -> Vec<(usize, f64)> {
        let below = |callee: usize| {
            let beneath = rows[callee].iter().map(|(j, c)| (*j as usize, f64::from(*c)));
            std::iter::once((callee, 1.0)).chain(beneath)
        };
        let mut touched: Vec<usize> = Vec::new();
        for way in ways {
            match way {
                Way::Edge { callee, impact } => {
                    for (component, c) in below(*callee) {
                        touched.push(component);
                        self.none[component] *= 1.0 - impact * c;
                    }
                }
                Way::Group { members, broken_at } => {
                    let mut grouped: Vec<usize> = Vec::new();
                    for (component, c) in members.iter().flat_map(|member| below(*member)) {
                        grouped.push(component);
                        self.group[component] += c;
                    }
                    grouped.sort_unstable();
                    grouped.dedup();
                    for component in &grouped {
                        let c = (std::mem::take(&mut self.group[*component]) / broken_at).min(1.0);
                        self.none[*component] *= 1.0 - c;
                    }
                    touched.extend(grouped);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        touched
            .into_iter()
            .map(|component| (component, 1.0 - std::mem::replace(&mut self.none[component], 1.0)))
            .collect()
    }
}

fn rounded_up(c: f64) -> f32 {
    let near = c as f32;
    if f64::from(near) < c { near.next_up().min(1.0) } else { near }
}
