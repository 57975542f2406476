use std::sync::Arc;

use attain_runtime::context::CallContext;

use super::{Bounds, Engine};
use crate::domain::betweenness::betweenness;
use crate::domain::blast::{self, Blast, blast};
use crate::domain::cuts::{Cut, cut};
use crate::domain::cycles::Cycle;
use crate::domain::findings::{Finding, findings};
use crate::domain::links::{Links, NodeIndex};
use crate::domain::single_points::{SinglePoints, single_points};
use crate::domain::snapshot::Snapshot;
use crate::error::Error;
use crate::storage::held::Held;

/// Most findings in one answer.
const FINDINGS_MAX: usize = 200;
/// Most names on all paths of one blast radius together: 5,000 callers 40 calls away.
const PATH_NODES_MAX: usize = 200_000;
/// Most requirements looked at in search of single points of failure: a fifth of a second.
const SINGLE_POINT_STEPS_MAX: usize = 20_000_000;

/// Structure around one service.
#[derive(Debug)]
pub(crate) struct Analysis {
    pub(crate) fan_in_count: u32,
    pub(crate) fan_out_count: u32,
    pub(crate) downstream_count: u32,
    pub(crate) depth: u32,
    pub(crate) longest_chain: Vec<NodeIndex>,
    pub(crate) blast: Blast,
    /// Each with what to give up so that it is none.
    pub(crate) cycles: Vec<(Cycle, Cut)>,
    pub(crate) single_points: SinglePoints,
    pub(crate) findings: Vec<Finding>,
    /// Ratio, and whether it is an estimate.
    pub(crate) betweenness: Option<(f64, bool)>,
}

impl Engine {
    /// Fan-in and fan-out, depth, cycles, blast radius, single points of failure, findings and, where it is asked for, betweenness.
    pub(crate) async fn analyse(
        &self,
        context: &CallContext,
        (service_id, version): (&str, u64),
        with_betweenness: bool,
    ) -> Result<(Arc<Held>, Analysis), Error> {
        let (held, node) = self.gather_service(context, service_id, version).await?;
        let (graph, bounds) = (Arc::clone(&held), self.bounds);
        let job = move |give_up: &dyn Fn() -> bool| {
            let mut analysis = analyse(&graph.snapshot, node, bounds, give_up)?;
            if with_betweenness {
                let of_all = betweenness(graph.snapshot.request_path(), give_up).ok_or(Error::Deadline)?;
                analysis.betweenness = Some((of_all.ratios[node as usize], of_all.sampled));
            }
            Ok(analysis)
        };
        let analysis = self.workers.run(context.deadline, job).await?;
        Ok((held, analysis))
    }
}

fn analyse(
    snapshot: &Snapshot,
    node: NodeIndex,
    bounds: Bounds,
    give_up: &dyn Fn() -> bool,
) -> Result<Analysis, Error> {
    let downstream = reached(snapshot.request_path(), node, Links::callees);
    let bounds = blast::Bounds {
        hits_max: bounds.entities_max,
        path_nodes_max: PATH_NODES_MAX,
        bdd_nodes_max: bounds.bdd_nodes_max,
    };
    let with_cut = |cycle: &Cycle| {
        let cut = (!give_up()).then(|| cut(snapshot, &cycle.members)).ok_or(Error::Deadline)?;
        Ok((cycle.clone(), cut))
    };
    let mut analysis = Analysis {
        fan_in_count: snapshot.all().callers(node).len() as u32,
        fan_out_count: snapshot.all().callees(node).len() as u32,
        downstream_count: downstream.iter().filter(|&&reached| reached).count() as u32 - 1,
        depth: snapshot.chains().depth(node),
        longest_chain: snapshot.chains().longest(node),
        blast: blast(snapshot, node, bounds)?,
        cycles: near(snapshot, node).map(with_cut).collect::<Result<_, Error>>()?,
        single_points: single_points(snapshot.needs(), node, SINGLE_POINT_STEPS_MAX),
        findings: findings(snapshot, node, FINDINGS_MAX),
        betweenness: None,
    };
    analysis.confess(node);
    Ok(analysis)
}

impl Analysis {
    /// Says what bounds cut off.
    fn confess(&mut self, node: NodeIndex) {
        let mut add = |code, detail: String| self.findings.push(Finding { code, nodes: vec![node], detail });
        if self.blast.truncated {
            let kept = self.blast.hits.len();
            add(
                "blast_radius_truncated",
                format!("more services need this one than the {kept} that are listed, which are the hardest hit"),
            );
        }
        if !self.single_points.complete {
            add(
                "single_points_incomplete",
                "there may be more single points of failure than are listed: the search was too long".to_owned(),
            );
        }
    }
}

/// Cycles with a member that the service reaches, or that reaches it.
fn near(snapshot: &Snapshot, node: NodeIndex) -> impl Iterator<Item = &Cycle> {
    let down = reached(snapshot.all(), node, Links::callees);
    let up = reached(snapshot.all(), node, Links::callers);
    let is_near =
        move |cycle: &&Cycle| cycle.members.iter().any(|&member| down[member as usize] || up[member as usize]);
    snapshot.cycles().iter().filter(is_near)
}

fn reached(links: &Links, start: NodeIndex, neighbours: impl Fn(&Links, NodeIndex) -> &[NodeIndex]) -> Vec<bool> {
    let mut reached = vec![false; links.node_count()];
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut reached[node as usize], true) {
            open.extend(neighbours(links, node));
        }
    }
    reached
}
