//! The spans of one trace as a tree of self times and stages, in integer nanoseconds.
//!
//! `T(span) = self + Σ over stages max over members (lag + T(member))`. Children whose times overlap, directly or through
//! others, are one stage; stages follow each other. `lag` is how long after its stage a member begins. `self` is the
//! rest: what no child that the span waits for covers. With the measured values this is the measured duration, exactly.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A child may seem to outlive its parent by this much before it counts as not waited for: clocks of two hosts, and
/// exporters that round to milliseconds, differ by less.
const SKEW_NS_MAX: i128 = 1_000_000;
/// Latest nanosecond whose differences are whole numbers in an `f64`: 104 days. Longer spans are refused as malformed.
const DURATION_NS_MAX: u64 = 1 << 53;

/// One span as measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Unique within the trace.
    pub id: String,
    /// Nothing for the root.
    pub parent_id: Option<String>,
    /// What the time is counted under: service and operation.
    pub part: String,
    /// Nanoseconds since any epoch.
    pub start_ns: u64,
    /// Nanoseconds since the same epoch.
    pub end_ns: u64,
}

/// What was found in traces besides what is composed; counts of spans unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities {
    /// An id that came before; the earliest of them is kept.
    pub duplicate: u64,
    /// An end before the start, or longer than 104 days: left out.
    pub negative: u64,
    /// No way up to the root, because a parent is missing or was left out: left out.
    pub orphaned: u64,
    /// Below themselves: left out.
    pub cyclic: u64,
    /// Outside their parent by less than clocks differ, or before it: moved inside.
    pub moved: u64,
    /// Begun after the parent's end, outliving it or longer than it: nobody waits for them. Their own children are not
    /// counted again.
    pub not_waited_for: u64,
    /// Traces without a root: left out.
    pub traces_without_root: u64,
    /// Traces with more than one root: left out, because nothing says which one is meant.
    pub traces_with_several_roots: u64,
}

/// A child within its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) node: usize,
    pub(crate) lag_ns: u64,
}

/// One span of the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) part: String,
    pub(crate) self_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) stages: Vec<Vec<Member>>,
}

/// A trace as a tree; every node stands before its children.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trace {
    pub(crate) start_ns: u64,
    pub(crate) nodes: Vec<Node>,
}

impl Trace {
    /// Builds the tree, whatever the order of the spans; nothing where there is not exactly one root. What does not fit
    /// is added to `oddities`.
    #[must_use]
    pub fn build(spans: &[Span], oddities: &mut Oddities) -> Option<Self> {
        let kept = distinct(spans, oddities);
        let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        let mut roots = Vec::new();
        for span in &kept {
            match &span.parent_id {
                Some(parent) => children.entry(parent).or_default().push(span),
                None => roots.push(*span),
            }
        }
        let &[root] = roots.as_slice() else {
            match roots.len() {
                0 => oddities.traces_without_root += 1,
                _ => oddities.traces_with_several_roots += 1,
            }
            return None;
        };
        let unreached = count_unreached(&kept, root, &children);
        oddities.cyclic += unreached.cyclic;
        oddities.orphaned += unreached.orphaned;
        let mut nodes = vec![Node::of(root)];
        let mut waiting = VecDeque::from([(0, root)]);
        while let Some((place, span)) = waiting.pop_front() {
            let below = children.get(span.id.as_str()).map_or(&[][..], Vec::as_slice);
            for stage in stages(span, below, oddities) {
                let members = stage.iter().map(|child| {
                    let node = nodes.len();
                    nodes.push(Node::of(child.span));
                    waiting.push_back((node, child.span));
                    Member { node, lag_ns: child.start_ns - stage[0].start_ns }
                });
                let members: Vec<Member> = members.collect();
                let length = stage.iter().map(|child| child.end_ns).max().unwrap_or(0) - stage[0].start_ns;
                nodes[place].self_ns -= length;
                nodes[place].stages.push(members);
            }
        }
        Some(Self { start_ns: root.start_ns, nodes })
    }

    /// The part of the root.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.nodes[0].part
    }

    /// Start of the root, in nanoseconds of the spans' epoch.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// Measured duration of the root in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.nodes[0].duration_ns
    }

    /// The root's duration in nanoseconds, composed again from self times, lags and stages.
    #[must_use]
    pub fn recomposed_ns(&self) -> u64 {
        let mut totals = vec![0; self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate().rev() {
            let stage = |members: &Vec<Member>| members.iter().map(|m| m.lag_ns + totals[m.node]).max().unwrap_or(0);
            totals[place] = node.self_ns + node.stages.iter().map(stage).sum::<u64>();
        }
        totals[0]
    }

    /// The calls that the root itself waits for, by stage and then by beginning: part and measured nanoseconds.
    pub fn calls(&self) -> impl Iterator<Item = (&str, u64)> {
        let members = self.nodes[0].stages.iter().flatten().map(|member| &self.nodes[member.node]);
        members.map(|call| (call.part.as_str(), call.duration_ns))
    }

    /// Self time of the root in nanoseconds: what it does while it waits for nobody.
    #[must_use]
    pub fn self_ns(&self) -> u64 {
        self.nodes[0].self_ns
    }

    /// The root's duration in nanoseconds if its calls took these times, in the order of [`Self::calls`]: self time and lags
    /// stay, and stages decide anew who is waited for. Calls past the end of the list stay as measured.
    #[must_use]
    pub fn duration_with_ns(&self, calls_ns: &[u64]) -> u64 {
        let mut given = calls_ns.iter().copied();
        let mut end =
            |member: &Member| member.lag_ns.saturating_add(given.next().unwrap_or(self.nodes[member.node].duration_ns));
        let root = &self.nodes[0];
        let stage = |members: &Vec<Member>| members.iter().map(&mut end).max().unwrap_or(0);
        root.stages.iter().map(stage).fold(root.self_ns, u64::saturating_add)
    }

    /// The root and its calls with these times, as [`Self::duration_with_ns`] has it. What a call waits for itself is left
    /// out.
    #[must_use]
    pub fn with_calls_ns(&self, calls_ns: &[u64]) -> Self {
        let root = &self.nodes[0];
        let mut nodes = vec![Node { duration_ns: self.duration_with_ns(calls_ns), stages: Vec::new(), ..root.clone() }];
        let mut given = calls_ns.iter().copied();
        for stage in &root.stages {
            let mut members = Vec::with_capacity(stage.len());
            for member in stage {
                let call = &self.nodes[member.node];
                let duration_ns = given.next().unwrap_or(call.duration_ns);
                members.push(Member { node: nodes.len(), lag_ns: member.lag_ns });
                nodes.push(Node { part: call.part.clone(), self_ns: duration_ns, duration_ns, stages: Vec::new() });
            }
            nodes[0].stages.push(members);
        }
        Self { start_ns: self.start_ns, nodes }
    }

    /// Self times in nanoseconds by part, of the spans that the root waits for.
    pub fn self_times_ns(&self) -> impl Iterator<Item = (&str, u64)> {
        self.nodes.iter().map(|node| (node.part.as_str(), node.self_ns))
    }
}

impl Node {
    fn of(span: &Span) -> Self {
        let duration_ns = span.end_ns - span.start_ns;
        Self { part: span.part.clone(), self_ns: duration_ns, duration_ns, stages: Vec::new() }
    }
}

/// Spans in one order, each id once, none with a negative duration.
fn distinct<'a>(spans: &'a [Span], oddities: &mut Oddities) -> Vec<&'a Span> {
    let usable = |span: &&Span| span.end_ns.checked_sub(span.start_ns).is_some_and(|ns| ns <= DURATION_NS_MAX);
    let mut kept: Vec<&Span> = spans.iter().filter(usable).collect();
    oddities.negative += (spans.len() - kept.len()) as u64;
    kept.sort_by(|a, b| {
        let order = |s: &'a Span| (s.id.as_str(), s.start_ns, s.end_ns, s.parent_id.as_deref(), s.part.as_str());
        order(a).cmp(&order(b))
    });
    let all = kept.len();
    kept.dedup_by(|later, earlier| later.id == earlier.id);
    oddities.duplicate += (all - kept.len()) as u64;
    kept.sort_by(|a, b| (a.start_ns, a.end_ns, &a.id).cmp(&(b.start_ns, b.end_ns, &b.id)));
    kept
}

struct Unreached {
    cyclic: u64,
    orphaned: u64,
}

fn count_unreached<'a>(kept: &[&'a Span], root: &'a Span, children: &BTreeMap<&'a str, Vec<&'a Span>>) -> Unreached {
    let ids: BTreeSet<&str> = kept.iter().map(|span| span.id.as_str()).collect();
    let lost: Vec<&str> = kept
        .iter()
        .filter(|span| span.parent_id.as_deref().is_some_and(|parent| !ids.contains(parent)))
        .map(|span| span.id.as_str())
        .collect();
    let (connected, orphaned) = (reach(vec![root.id.as_str()], children), reach(lost, children));
    Unreached { orphaned: orphaned as u64, cyclic: (kept.len() - connected - orphaned) as u64 }
}

/// Spans at or below those that are given.
fn reach<'a>(mut waiting: Vec<&'a str>, children: &BTreeMap<&'a str, Vec<&'a Span>>) -> usize {
    let mut reached: BTreeSet<&str> = waiting.iter().copied().collect();
    while let Some(id) = waiting.pop() {
        for child in children.get(id).into_iter().flatten() {
            if reached.insert(&child.id) {
                waiting.push(&child.id);
            }
        }
    }
    reached.len()
}

/// A child with its times since its parent's start.
struct Child<'a> {
    span: &'a Span,
    start_ns: u64,
    end_ns: u64,
}

/// Children that the parent waits for, grouped by overlap, in the order of time.
fn stages<'a>(parent: &Span, below: &[&'a Span], oddities: &mut Oddities) -> Vec<Vec<Child<'a>>> {
    let mut children: Vec<Child<'a>> = below.iter().filter_map(|span| place(parent, span, oddities)).collect();
    children.sort_by(|a, b| (a.start_ns, a.end_ns, &a.span.id).cmp(&(b.start_ns, b.end_ns, &b.span.id)));
    let mut stages: Vec<Vec<Child<'a>>> = Vec::new();
    let mut end_ns = 0;
    for child in children {
        let reached = end_ns.max(child.end_ns);
        match stages.last_mut() {
            Some(stage) if child.start_ns < end_ns => stage.push(child),
            _ => stages.push(vec![child]),
        }
        end_ns = reached;
    }
    stages
}

/// Where a child lies within its parent; nothing where the parent does not wait for it.
fn place<'a>(parent: &Span, span: &'a Span, oddities: &mut Oddities) -> Option<Child<'a>> {
    let whole = i128::from(parent.end_ns - parent.start_ns);
    let duration = i128::from(span.end_ns - span.start_ns);
    let start = i128::from(span.start_ns) - i128::from(parent.start_ns);
    let outlives = start >= 0 && start + duration > whole + SKEW_NS_MAX;
    if start > whole || outlives || duration > whole {
        oddities.not_waited_for += 1;
        return None;
    }
    let inside = start.clamp(0, whole - duration);
    oddities.moved += u64::from(inside != start);
    let inside = u64::try_from(inside).ok()?;
    Some(Child { span, start_ns: inside, end_ns: inside + (span.end_ns - span.start_ns) })
}
