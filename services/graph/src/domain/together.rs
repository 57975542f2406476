//! Several services of one question: exact where that is cheap, the others estimated from the same samples.
//!
//! Services are tried one by one, callees first. Whoever cannot do without a part that has no exact value within the limits has
//! none either, as a rule; so as soon as one has none, nobody who reaches it is tried any more. All of those are estimated
//! jointly, before and after the changes from the same samples, so that what is told of a change is not told apart by chance.

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_reliability::{
    Component, Evaluation, EvaluationLimits, JointQuestion, evaluate as evaluate_root, evaluate_exactly,
    evaluate_jointly,
};

use super::cycles::strongly_connected;
use super::links::{Links, NodeIndex};
use super::routes::Routes;
use super::structure::Model;

/// Nodes of diagrams, and components reached, that the exact values of one question may take, each service having an equal
/// share: less than a second on one core. Past 5 services each has less than the 200,000 nodes that one alone has by default.
const EXACT_TOTAL: usize = 1_000_000;

/// A service in both states.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) before: Arc<Evaluation>,
    /// None without changes; the same where they do not reach the service.
    pub(super) after: Option<Arc<Evaluation>>,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) before: &'a Model,
    pub(super) after: Option<&'a Model>,
    /// To the changes.
    pub(super) routes: &'a Routes,
    /// Whose importances are estimated.
    pub(super) contributing: &'a [NodeIndex],
    /// Services of the whole question: one alone is evaluated without regard to others.
    pub(super) asked_count: usize,
}

impl Question<'_> {
    /// As many of the services as can be had before `give_up` says so between two pieces of work.
    pub(super) fn evaluate(
        &self,
        services: &[NodeIndex],
        limits: &EvaluationLimits,
        give_up: &dyn Fn() -> bool,
    ) -> BTreeMap<NodeIndex, Pair> {
        if self.asked_count == 1 {
            let alone = |model: &Model, node| Some(evaluate_root(&model.structure, Component(node), limits));
            let found = services.iter().take_while(|_| !give_up());
            return found.filter_map(|&node| Some((node, self.pair(node, alone)?))).collect();
        }
        let (mut known, jointly) = self.exactly(services, limits, give_up);
        known.extend(self.jointly(&jointly, limits, give_up).into_iter().flatten());
        known
    }

    /// Those with an exact value, and those without.
    fn exactly(
        &self,
        services: &[NodeIndex],
        limits: &EvaluationLimits,
        give_up: &dyn Fn() -> bool,
    ) -> (BTreeMap<NodeIndex, Pair>, Vec<NodeIndex>) {
        let links = self.before.links();
        let mut asked = vec![false; links.node_count()];
        services.iter().for_each(|&node| asked[node as usize] = true);
        let mut resting = vec![false; links.node_count()];
        let (mut known, mut jointly) = (BTreeMap::new(), Vec::new());
        let share = EXACT_TOTAL / self.asked_count.max(1);
        let limits = EvaluationLimits { bdd_nodes_max: limits.bdd_nodes_max.min(share), ..*limits };
        let mut reach = Reach::new(links.node_count());
        let mut exact = |model: &Model, node| {
            let small = reach.is_at_most(share, model.links(), node);
            small.then(|| evaluate_exactly(&model.structure, Component(node), &limits)).flatten()
        };
        let callees_first = strongly_connected(links).into_iter().flatten();
        for node in callees_first.filter(|&node| asked[node as usize]) {
            if resting[node as usize] {
                jointly.push(node);
                continue;
            }
            if give_up() {
                break;
            }
            match self.pair(node, &mut exact) {
                Some(pair) => {
                    known.insert(node, pair);
                }
                None => {
                    jointly.push(node);
                    self.mark_above(node, &mut resting);
                }
            }
        }
        (known, jointly)
    }

    /// One service in both states; nothing where one of them has no value.
    fn pair(&self, node: NodeIndex, mut value: impl FnMut(&Model, NodeIndex) -> Option<Evaluation>) -> Option<Pair> {
        let before = Arc::new(value(self.before, node)?);
        let after = match self.after {
            Some(after) if self.routes.distance(node).is_some() => Some(Arc::new(value(after, node)?)),
            after => after.map(|_| Arc::clone(&before)),
        };
        Some(Pair { before, after })
    }

    /// Everybody who reaches the node in one of the states.
    fn mark_above(&self, node: NodeIndex, marked: &mut [bool]) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if !std::mem::replace(&mut marked[node as usize], true) {
                let models = std::iter::once(self.before).chain(self.after);
                open.extend(models.flat_map(|model| model.links().callers(node)));
            }
        }
    }

    fn jointly(
        &self,
        services: &[NodeIndex],
        limits: &EvaluationLimits,
        give_up: &dyn Fn() -> bool,
    ) -> Option<Vec<(NodeIndex, Pair)>> {
        if services.is_empty() {
            return None;
        }
        let components = |nodes: &[NodeIndex]| nodes.iter().map(|&node| Component(node)).collect::<Vec<_>>();
        let (roots, important) = (components(services), components(self.contributing));
        let question = JointQuestion {
            before: &self.before.structure,
            after: self.after.map(|after| &after.structure),
            roots: &roots,
            important: &important,
        };
        let found = evaluate_jointly(&question, limits, give_up)?;
        let pair = |(&node, found): (&NodeIndex, attain_reliability::JointEvaluation)| {
            let before = Arc::new(found.before);
            let after = found
                .after
                .map(|after| if self.routes.distance(node).is_some() { Arc::new(after) } else { Arc::clone(&before) });
            (node, Pair { before, after })
        };
        Some(services.iter().zip(found).map(pair).collect())
    }
}

/// How many components services reach, told one after the other.
struct Reach {
    /// By node: the search that met it last.
    met: Vec<u32>,
    search: u32,
}

impl Reach {
    fn new(node_count: usize) -> Self {
        Self { met: vec![0; node_count], search: 0 }
    }

    /// Whether a service reaches so few, itself included. Looks at no more.
    fn is_at_most(&mut self, most: usize, links: &Links, from: NodeIndex) -> bool {
        self.search += 1;
        let mut open = vec![from];
        let mut count = 0;
        while let Some(node) = open.pop() {
            if std::mem::replace(&mut self.met[node as usize], self.search) == self.search {
                continue;
            }
            count += 1;
            if count > most {
                return false;
            }
            open.extend(links.callees(node));
        }
        true
    }
}
