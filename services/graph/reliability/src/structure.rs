//! Components, edges and redundancy groups, checked when they are added.

use crate::Error;
use crate::draws::name_of;

/// Most components that a structure holds; bounds memory, an order of magnitude above the graphs it is meant for.
pub const COMPONENTS_MAX: usize = 4_000_000;

/// First parts of the names of what is random, see [`name_of`].
const NAMED: u64 = 0;
const SHIELDED: u64 = 1;
const CALL: u64 = 2;
const SHOCK: u64 = 3;

/// Index of a component (a service, datastore, external party …), from 0 in the order of addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component(pub u32);

impl Component {
    /// The index as a position in a slice.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a failed callee does to a request of its caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeEffect {
    /// Probability in `[0, 1]` that a failed callee fails the request: call fraction × (1 − fallback success ratio).
    /// 1 is a hard edge; an edge of 0 changes nothing.
    pub impact_ratio: f64,
    /// Further attempts after a failed one.
    pub retry_count: u32,
    /// Share in `[0, 1]` of the callee's failures that last longer than all attempts together; 1 makes retries useless.
    pub persistent_share: f64,
}

impl EdgeEffect {
    /// An edge whose callee's every failure fails the request; no retries.
    #[must_use]
    pub fn hard() -> Self {
        Self::partial(1.0)
    }

    /// An edge whose callee's failure fails the request with this probability; no retries.
    #[must_use]
    pub fn partial(impact_ratio: f64) -> Self {
        Self { impact_ratio, retry_count: 0, persistent_share: 1.0 }
    }

    /// Whether further attempts can save anything.
    pub(crate) fn is_retried(self) -> bool {
        self.impact_ratio > 0.0 && self.retry_count > 0 && self.persistent_share < 1.0
    }
}

/// Collects components, edges and groups.
#[derive(Debug, Clone, Default)]
pub struct StructureBuilder {
    components: Vec<Own>,
    edges: Vec<Edge>,
    groups: Vec<Group>,
}

/// An immutable structure, independent of the order in which its edges and groups were added.
#[derive(Debug, Clone)]
pub struct Structure {
    components: Vec<Own>,
    edges: Vec<Edge>,
    edge_starts: Vec<usize>,
    groups: Vec<Group>,
    group_starts: Vec<usize>,
    causes: Vec<CommonCause>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) failure_ratio: f64,
    pub(crate) black_box: bool,
    /// What it is called by samples: the same in every structure that holds it.
    pub(crate) name: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) caller: Component,
    pub(crate) callee: Component,
    pub(crate) effect: EdgeEffect,
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) caller: Component,
    /// Sorted, distinct.
    pub(crate) members: Vec<Component>,
    pub(crate) required: usize,
    common_cause_share: f64,
    /// Index into [`Structure::causes`].
    pub(crate) cause: Option<usize>,
}

/// What one component reaches, renumbered in the same order: what is asked of it costs what is reached, however large the
/// rest.
pub(crate) struct Part {
    pub(crate) structure: Structure,
    pub(crate) root: Component,
    /// By component of the part: which one it is of the whole.
    pub(crate) origins: Vec<Component>,
}

/// One shock that takes all members of a group at once, whoever calls the group.
#[derive(Debug, Clone)]
pub(crate) struct CommonCause {
    pub(crate) members: Vec<Component>,
    pub(crate) failure_ratio: f64,
}

impl StructureBuilder {
    /// A builder without components.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component that fails `own_failure_ratio` of the requests of its own. For a `black_box` that ratio includes
    /// its dependencies, which are then ignored.
    ///
    /// # Errors
    /// A ratio outside `[0, 1]`; more than [`COMPONENTS_MAX`] components.
    pub fn add_component(&mut self, own_failure_ratio: f64, black_box: bool) -> Result<Component, Error> {
        check_ratio("own_failure_ratio", own_failure_ratio)?;
        let name = name_of([NAMED, self.components.len() as u64]);
        self.add_named(Own { failure_ratio: own_failure_ratio, black_box, name })
    }

    fn add_named(&mut self, own: Own) -> Result<Component, Error> {
        if self.components.len() >= COMPONENTS_MAX {
            return Err(Error::TooManyComponents { limit: COMPONENTS_MAX });
        }
        let component = Component(self.components.len() as u32);
        self.components.push(own);
        Ok(component)
    }

    /// Adds an edge. Several edges between the same two components are as many separate calls, each with a fallback of
    /// its own.
    ///
    /// # Errors
    /// An unknown component, an edge to itself, a ratio outside `[0, 1]`.
    pub fn add_edge(&mut self, caller: Component, callee: Component, effect: EdgeEffect) -> Result<(), Error> {
        self.check_component("caller", caller)?;
        self.check_component("callee", callee)?;
        if caller == callee {
            return Err(Error::SelfDependency { index: caller.index() });
        }
        check_ratio("impact_ratio", effect.impact_ratio)?;
        check_ratio("persistent_share", effect.persistent_share)?;
        self.edges.push(Edge { caller, callee, effect });
        Ok(())
    }

    /// Adds a group: the caller works only while at least `required_count` of the distinct `members` do.
    ///
    /// With a `common_cause_share` β, one more component stands in series with the group and fails
    /// β · min(own failure ratio of the members); members keep their own ratio, so that their other callers see no
    /// difference. For two equal members that is Q = βq + (1 − βq)q²: above the β-factor formula of
    /// [`crate::formulas::common_cause_failure`] by less than a share of 2q. Groups of the same members share the
    /// component, with the largest β. A group that needs all of its members has no redundancy to lose, hence no common
    /// cause.
    ///
    /// # Errors
    /// An unknown component, the caller among its members, a count outside `1..=members`, a share outside `[0, 1]`.
    pub fn add_group(
        &mut self,
        caller: Component,
        members: &[Component],
        required_count: u32,
        common_cause_share: Option<f64>,
    ) -> Result<(), Error> {
        self.check_component("caller", caller)?;
        for &member in members {
            self.check_component("members", member)?;
        }
        if members.contains(&caller) {
            return Err(Error::SelfDependency { index: caller.index() });
        }
        let common_cause_share = common_cause_share.unwrap_or(0.0);
        check_ratio("common_cause_share", common_cause_share)?;
        let mut members = members.to_vec();
        members.sort_unstable();
        members.dedup();
        if required_count == 0 || required_count as usize > members.len() {
            return Err(Error::RequiredCountOutOfRange { required_count, member_count: members.len() });
        }
        self.groups.push(Group { caller, members, required: required_count as usize, common_cause_share, cause: None });
        Ok(())
    }

    /// Adds a group whose failure does to a request of the caller what the effect says: a fallback stands behind the group as a
    /// whole, and not behind each member. The group becomes one more component, which never fails of its own.
    ///
    /// # Errors
    /// As [`Self::add_group`] and [`Self::add_edge`]; more than [`COMPONENTS_MAX`] components.
    pub fn add_shielded_group(
        &mut self,
        caller: Component,
        members: &[Component],
        required_count: u32,
        common_cause_share: Option<f64>,
        effect: EdgeEffect,
    ) -> Result<(), Error> {
        self.check_component("caller", caller)?;
        if members.contains(&caller) {
            return Err(Error::SelfDependency { index: caller.index() });
        }
        let ends = std::iter::once(caller).chain(members.iter().copied()).map(|component| u64::from(component.0));
        let name = name_of(std::iter::once(SHIELDED).chain(ends));
        let group = self.add_named(Own { failure_ratio: 0.0, black_box: false, name })?;
        self.add_group(group, members, required_count, common_cause_share)?;
        self.add_edge(caller, group, effect)
    }

    /// The finished structure.
    #[must_use]
    pub fn build(mut self) -> Structure {
        self.edges.sort_by(|a, b| {
            (a.caller, a.callee, a.effect.retry_count)
                .cmp(&(b.caller, b.callee, b.effect.retry_count))
                .then(a.effect.impact_ratio.total_cmp(&b.effect.impact_ratio))
                .then(a.effect.persistent_share.total_cmp(&b.effect.persistent_share))
        });
        self.groups.sort_by(|a, b| {
            (a.caller, &a.members, a.required)
                .cmp(&(b.caller, &b.members, b.required))
                .then(a.common_cause_share.total_cmp(&b.common_cause_share))
        });
        let causes = assign_causes(&self.components, &mut self.groups);
        let count = self.components.len();
        Structure {
            edge_starts: starts(count, self.edges.iter().map(|edge| edge.caller)),
            group_starts: starts(count, self.groups.iter().map(|group| group.caller)),
            components: self.components,
            edges: self.edges,
            groups: self.groups,
            causes,
        }
    }

    fn check_component(&self, field: &'static str, component: Component) -> Result<(), Error> {
        if component.index() < self.components.len() {
            return Ok(());
        }
        Err(Error::UnknownComponent { field, index: component.index(), component_count: self.components.len() })
    }
}

impl Structure {
    /// Number of components.
    #[must_use]
    pub fn component_count(&self) -> usize {
        self.components.len()
    }

    /// Number of edges, those inside groups not counted.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.edges.len()
    }

    /// Share of requests in `[0, 1]` that the component fails of its own.
    ///
    /// # Panics
    /// When the component is of another, larger structure.
    #[must_use]
    pub fn own_failure_ratio(&self, component: Component) -> f64 {
        self.own(component).failure_ratio
    }

    /// Whether the component's ratio includes its dependencies.
    ///
    /// # Panics
    /// When the component is of another, larger structure.
    #[must_use]
    pub fn is_black_box(&self, component: Component) -> bool {
        self.own(component).black_box
    }

    pub(crate) fn own(&self, component: Component) -> Own {
        self.components[component.index()]
    }

    pub(crate) fn edge(&self, index: usize) -> &Edge {
        &self.edges[index]
    }

    /// Indices of the edges that matter to a request of the caller: none for a black box.
    pub(crate) fn edges_of(&self, caller: Component) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let range = self.edge_starts[caller.index()]..self.edge_starts[caller.index() + 1];
        let open = !self.own(caller).black_box;
        range.filter(move |&index| open && self.edges[index].effect.impact_ratio > 0.0)
    }

    /// Groups that matter to a request of the caller: none for a black box.
    pub(crate) fn groups_of(&self, caller: Component) -> &[Group] {
        if self.own(caller).black_box {
            return &[];
        }
        &self.groups[self.group_starts[caller.index()]..self.group_starts[caller.index() + 1]]
    }

    pub(crate) fn cause(&self, index: usize) -> &CommonCause {
        &self.causes[index]
    }

    /// What the edges of a caller that matter are called by samples, in their order: by their ends, and where several have the
    /// same ends by the order among those.
    pub(crate) fn call_names(&self, caller: Component) -> impl Iterator<Item = (usize, u64)> + '_ {
        let caller_name = self.own(caller).name;
        let mut last = None;
        let mut turn = 0;
        self.edges_of(caller).map(move |index| {
            let callee = self.edges[index].callee;
            turn = if last.replace(callee) == Some(callee) { turn + 1 } else { 0 };
            (index, name_of([CALL, caller_name, self.own(callee).name, turn]))
        })
    }

    /// What a common cause is called by samples.
    pub(crate) fn cause_name(&self, index: usize) -> u64 {
        let members = self.causes[index].members.iter().map(|&member| self.own(member).name);
        name_of(std::iter::once(SHOCK).chain(members))
    }

    pub(crate) fn components(&self) -> impl Iterator<Item = Component> + use<> {
        (0..self.components.len() as u32).map(Component)
    }

    /// The part that the root reaches.
    pub(crate) fn reached_from(&self, root: Component) -> Part {
        let origins = self.reached(root);
        let position = |component: Component| {
            let found = origins.binary_search(&component);
            Component(found.expect("whatever a reached component calls is reached") as u32)
        };
        let edges = origins.iter().flat_map(|&caller| self.edges_of(caller)).map(|index| {
            let Edge { caller, callee, effect } = self.edges[index];
            Edge { caller: position(caller), callee: position(callee), effect }
        });
        let edges: Vec<Edge> = edges.collect();
        let whole = origins.iter().flat_map(|&caller| self.groups_of(caller));
        let mut cause_indices: Vec<usize> = whole.clone().filter_map(|group| group.cause).collect();
        cause_indices.sort_unstable();
        cause_indices.dedup();
        let positions = |members: &[Component]| members.iter().map(|&member| position(member)).collect();
        let groups: Vec<Group> = whole
            .map(|group| Group {
                caller: position(group.caller),
                members: positions(&group.members),
                cause: group.cause.and_then(|cause| cause_indices.binary_search(&cause).ok()),
                ..*group
            })
            .collect();
        let causes = cause_indices.iter().map(|&cause| CommonCause {
            members: positions(&self.causes[cause].members),
            failure_ratio: self.causes[cause].failure_ratio,
        });
        let structure = Structure {
            edge_starts: starts(origins.len(), edges.iter().map(|edge| edge.caller)),
            group_starts: starts(origins.len(), groups.iter().map(|group| group.caller)),
            components: origins.iter().map(|&component| self.own(component)).collect(),
            causes: causes.collect(),
            edges,
            groups,
        };
        Part { root: position(root), structure, origins }
    }

    /// Whom a request of the root may come to, the root included, sorted.
    fn reached(&self, root: Component) -> Vec<Component> {
        let mut seen = std::collections::HashSet::from([root]);
        let mut open = vec![root];
        while let Some(component) = open.pop() {
            open.extend(self.callees(component).filter(|&callee| seen.insert(callee)));
        }
        let mut reached: Vec<Component> = seen.into_iter().collect();
        reached.sort_unstable();
        reached
    }

    /// Everything that a request of the caller may call, in order, with repetitions.
    pub(crate) fn callees(&self, caller: Component) -> impl Iterator<Item = Component> + '_ {
        let edges = self.edges_of(caller).map(|index| self.edges[index].callee);
        let members = self.groups_of(caller).iter().flat_map(|group| group.members.iter().copied());
        edges.chain(members)
    }
}

fn check_ratio(field: &'static str, value: f64) -> Result<(), Error> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::RatioOutOfRange { field, value })
}

/// Where each caller's items start in a list sorted by caller, with an end marker.
fn starts(count: usize, callers: impl Iterator<Item = Component>) -> Vec<usize> {
    let mut starts = vec![0; count + 1];
    for caller in callers {
        starts[caller.index() + 1] += 1;
    }
    for index in 0..count {
        starts[index + 1] += starts[index];
    }
    starts
}

fn assign_causes(components: &[Own], groups: &mut [Group]) -> Vec<CommonCause> {
    let mut shares = std::collections::BTreeMap::<Vec<Component>, f64>::new();
    for group in groups.iter().filter(|group| group.can_share_a_cause()) {
        let share = shares.entry(group.members.clone()).or_default();
        *share = share.max(group.common_cause_share);
    }
    let causes: Vec<CommonCause> = shares
        .into_iter()
        .map(|(members, share)| CommonCause {
            failure_ratio: share
                * members.iter().map(|member| components[member.index()].failure_ratio).fold(1.0, f64::min),
            members,
        })
        .collect();
    for group in groups.iter_mut() {
        group.cause = causes
            .binary_search_by(|cause| cause.members.cmp(&group.members))
            .ok()
            .filter(|_| group.can_share_a_cause());
    }
    causes
}

impl Group {
    fn can_share_a_cause(&self) -> bool {
        self.common_cause_share > 0.0 && self.required < self.members.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn two() -> (StructureBuilder, Component, Component) {
        let mut builder = StructureBuilder::new();
        let a = builder.add_component(0.1, false).unwrap();
        let b = builder.add_component(0.2, false).unwrap();
        (builder, a, b)
    }

    #[test]
    fn ratios_outside_their_range_are_refused_by_name() {
        for value in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let (mut builder, a, b) = two();
            let field = |result: Result<(), Error>| match result {
                Err(Error::RatioOutOfRange { field, .. }) => field,
                other => panic!("{value} gave {other:?}"),
            };
            let own = builder.add_component(value, false).map(|_| ());
            assert_eq!(field(own), "own_failure_ratio");
            let impact = builder.add_edge(a, b, EdgeEffect::partial(value));
            assert_eq!(field(impact), "impact_ratio");
            let persistent = EdgeEffect { persistent_share: value, ..EdgeEffect::hard() };
            assert_eq!(field(builder.add_edge(a, b, persistent)), "persistent_share");
            let group = builder.add_group(a, &[b], 1, Some(value));
            assert_eq!(field(group), "common_cause_share");
        }
    }

    #[test]
    fn edges_and_groups_must_name_other_known_components() {
        let (mut builder, a, b) = two();
        assert_eq!(builder.add_edge(a, a, EdgeEffect::hard()), Err(Error::SelfDependency { index: 0 }));
        assert_eq!(builder.add_group(a, &[a, b], 1, None), Err(Error::SelfDependency { index: 0 }));
        let unknown = builder.add_edge(a, Component(2), EdgeEffect::hard());
        assert!(matches!(unknown, Err(Error::UnknownComponent { field: "callee", index: 2, .. })));
        for (members, required_count) in [(vec![b], 0), (vec![b], 2), (vec![b, b], 2), (vec![], 1)] {
            let refused = builder.add_group(a, &members, required_count, None);
            assert!(matches!(refused, Err(Error::RequiredCountOutOfRange { .. })));
        }
    }

    #[test]
    fn groups_of_the_same_members_share_one_cause() {
        let (mut builder, a, b) = two();
        let c = builder.add_component(0.05, false).unwrap();
        let d = builder.add_component(0.05, false).unwrap();
        builder.add_group(a, &[c, d], 1, Some(0.1)).unwrap();
        builder.add_group(b, &[d, c], 1, Some(0.2)).unwrap();
        builder.add_group(b, &[d, c], 2, Some(0.9)).unwrap();
        let structure = builder.build();
        assert_eq!(structure.causes.len(), 1);
        assert!((structure.cause(0).failure_ratio - 0.01).abs() < 1e-15);
        let causes: Vec<_> = structure.groups_of(b).iter().map(|g| g.cause).collect();
        assert_eq!(causes, [Some(0), None]);
    }
}
