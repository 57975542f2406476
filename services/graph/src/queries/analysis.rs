use std::sync::Arc;

use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityKind, LatencyHistogram, Ratio};

use super::{Bounds, Engine};
use crate::domain::betweenness::betweenness;
use crate::domain::blast::{self, Blast, blast};
use crate::domain::chokes::{ChokePoint, choke_points, separated_count};
use crate::domain::confidence::{DOUBTFUL, below, of_caller};
use crate::domain::critical::{Step, critical_path};
use crate::domain::cuts::{Cut, cut};
use crate::domain::cycles::Cycle;
use crate::domain::findings::{Finding, findings};
use crate::domain::links::{EdgeIndex, Links, NodeIndex, reached};
use crate::domain::needs::{calls_per_request, passes_on};
use crate::domain::single_points::{SinglePoints, single_points};
use crate::domain::snapshot::{Edge, Snapshot};
use crate::error::Error;
use crate::storage::held::Held;

/// Most findings in one answer.
const FINDINGS_MAX: usize = 200;
/// Most names on all paths of one blast radius together: 5,000 callers 40 calls away.
const PATH_NODES_MAX: usize = 200_000;
/// Most requirements looked at in search of single points of failure: a fifth of a second.
const SINGLE_POINT_STEPS_MAX: usize = 20_000_000;

/// Most choke points and most doubtful edges in one answer.
const CHOKE_POINTS_MAX: usize = 50;
const DOUBTFUL_MAX: usize = 100;

/// What to analyse.
#[derive(Debug)]
pub(crate) struct AnalysisQuestion<'a> {
    pub(crate) service_id: &'a str,
    /// 0 for the newest.
    pub(crate) version: u64,
    pub(crate) with_betweenness: bool,
    /// Edges below it are left out; 0 for none.
    pub(crate) confidence_min: f64,
}

/// A call on the critical path of latency.
#[derive(Debug)]
pub(crate) struct SlowCall {
    pub(crate) ends: (NodeIndex, NodeIndex),
    pub(crate) calls_per_request: f64,
    pub(crate) mean_ms: f64,
    pub(crate) p95_ms: f64,
}

/// A call on the critical path of availability.
#[derive(Debug)]
pub(crate) struct FailingCall {
    pub(crate) ends: (NodeIndex, NodeIndex),
    pub(crate) passes_on_ratio: f64,
    pub(crate) failure_ratio: f64,
}

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
    pub(crate) slow_calls: Vec<SlowCall>,
    pub(crate) failing_calls: Vec<FailingCall>,
    pub(crate) choke_points: Vec<ChokePoint>,
    pub(crate) separated_count: u32,
    /// Edges of the whole graph below the service, with how sure they are, the least first.
    pub(crate) doubtful: Vec<(EdgeIndex, f64)>,
}

impl Engine {
    /// Everything that the structure says of a service; its betweenness where it is asked for.
    pub(crate) async fn analyse(
        &self,
        context: &CallContext,
        question: AnalysisQuestion<'_>,
    ) -> Result<(Arc<Held>, Analysis), Error> {
        let confidence_min = Ratio::new("confidence_min", question.confidence_min)?.get();
        let with_betweenness = question.with_betweenness;
        let (held, node) = self.gather_service(context, question.service_id, question.version).await?;
        let (graph, bounds) = (Arc::clone(&held), self.bounds);
        let job = move |give_up: &dyn Fn() -> bool| {
            let as_of_ms = graph.asked.time_ms;
            let sure = || graph.snapshot.without(&below(&graph.snapshot, confidence_min, as_of_ms));
            let without = (confidence_min > 0.0).then(sure);
            let snapshot = without.as_ref().unwrap_or(&graph.snapshot);
            let mut analysis = analyse(snapshot, node, bounds, give_up)?;
            analysis.slow_calls = slow_calls(snapshot, node, &graph);
            analysis.doubtful = doubtful(&graph, node, confidence_min.max(DOUBTFUL));
            if with_betweenness {
                let calls = snapshot.calls_among(snapshot.request_path());
                let of_all = betweenness(&calls, give_up).ok_or(Error::Deadline)?;
                analysis.betweenness = Some((of_all.ratios[node as usize], of_all.sampled));
            }
            Ok(analysis)
        };
        let analysis = self.workers.run(context.deadline, job).await?;
        Ok((held, analysis))
    }
}

fn slow_calls(snapshot: &Snapshot, node: NodeIndex, held: &Held) -> Vec<SlowCall> {
    // The snapshot may be one without doubtful edges: rows stand at the positions of the whole graph.
    let latency = |edge: &Edge| held.latency(held.snapshot.edge_between(edge.caller, edge.callee)?);
    let mean = |edge: &Edge| latency(edge).as_ref().and_then(LatencyHistogram::mean);
    let path = critical_path(snapshot, node, |edge| calls_per_request(&edge.terms), mean);
    let calls = path.into_iter().filter_map(|step| {
        let edge = snapshot.edge(step.edge);
        let p95_ms = latency(edge)?.quantile(0.95)?;
        let ends = (edge.caller, edge.callee);
        Some(SlowCall { ends, calls_per_request: step.share, mean_ms: step.unit, p95_ms })
    });
    calls.collect()
}

fn failing_calls(snapshot: &Snapshot, node: NodeIndex) -> Vec<FailingCall> {
    let failing = |edge: &Edge| {
        let (calls, failures) = (edge.terms.observed_call_count, edge.terms.observed_failure_count);
        let counted = failures.filter(|_| calls > 0).map(|failures| (failures as f64 / calls as f64).min(1.0));
        let callee = &snapshot.nodes()[edge.callee as usize];
        let contract = callee.published_availability_ratio.filter(|_| callee.kind == EntityKind::External);
        counted.or(contract.map(|published| 1.0 - published))
    };
    let path = critical_path(snapshot, node, |edge| passes_on(&edge.terms), failing);
    let call = |step: Step| {
        let edge = snapshot.edge(step.edge);
        FailingCall { ends: (edge.caller, edge.callee), passes_on_ratio: step.share, failure_ratio: step.unit }
    };
    path.into_iter().map(call).collect()
}

/// Edges of the whole graph below the service whose confidence is below a bound.
fn doubtful(held: &Held, node: NodeIndex, confidence_min: f64) -> Vec<(EdgeIndex, f64)> {
    let snapshot = &held.snapshot;
    let below = downstream(snapshot.request_path(), node);
    let callers = (0..).zip(below).filter(|(_, reached)| *reached).map(|(caller, _)| caller);
    let all = callers.flat_map(|caller| of_caller(snapshot, caller, held.asked.time_ms));
    let mut doubtful: Vec<(EdgeIndex, f64)> = all.filter(|(_, confidence)| *confidence < confidence_min).collect();
    doubtful.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    doubtful.truncate(DOUBTFUL_MAX);
    doubtful
}

fn analyse(
    snapshot: &Snapshot,
    node: NodeIndex,
    bounds: Bounds,
    give_up: &dyn Fn() -> bool,
) -> Result<Analysis, Error> {
    let below = downstream(snapshot.request_path(), node);
    let bounds = blast::Bounds {
        hits_max: bounds.entities_max,
        path_nodes_max: PATH_NODES_MAX,
        bdd_nodes_max: bounds.bdd_nodes_max,
    };
    let with_cut = |cycle: &Cycle| {
        let cut = (!give_up()).then(|| cut(snapshot, &cycle.members)).ok_or(Error::Deadline)?;
        Ok((cycle.clone(), cut))
    };
    let calls = snapshot.calls_among(snapshot.all());
    let mut analysis = Analysis {
        fan_in_count: calls.callers(node).len() as u32,
        fan_out_count: snapshot.all().callees(node).len() as u32,
        downstream_count: below.iter().filter(|&&reached| reached).count() as u32 - 1,
        depth: snapshot.chains().depth(node),
        longest_chain: snapshot.chains().longest(node),
        blast: blast(snapshot, node, bounds)?,
        cycles: near(snapshot, node).map(with_cut).collect::<Result<_, Error>>()?,
        single_points: single_points(snapshot.needs(), node, SINGLE_POINT_STEPS_MAX),
        findings: findings(snapshot, node, FINDINGS_MAX),
        betweenness: None,
        slow_calls: Vec::new(),
        failing_calls: failing_calls(snapshot, node),
        choke_points: choke_points(snapshot.request_path(), node),
        separated_count: separated_count(&calls, node),
        doubtful: Vec::new(),
    };
    analysis.choke_points.truncate(CHOKE_POINTS_MAX);
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
    let all = snapshot.all();
    let down = downstream(all, node);
    let up = reached(all.node_count(), [node], |node| all.callers(node).iter().copied());
    let is_near =
        move |cycle: &&Cycle| cycle.members.iter().any(|&member| down[member as usize] || up[member as usize]);
    snapshot.cycles().iter().filter(is_near)
}

fn downstream(links: &Links, node: NodeIndex) -> Vec<bool> {
    reached(links.node_count(), [node], |node| links.callees(node).iter().copied())
}
