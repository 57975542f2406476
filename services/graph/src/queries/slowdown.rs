use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use attain_runtime::context::CallContext;
use attain_vocabulary::{InvalidValue, LatencyHistogram};

use super::Engine;
use crate::domain::links::NodeIndex;
use crate::domain::scenario::Place;
use crate::domain::slowdown::{Alterations, Change, Inputs, Outcome, Scope, evaluate};
use crate::domain::snapshot::Snapshot;
use crate::error::Error;
use crate::storage::held::Held;

/// What is asked, by names.
#[derive(Debug)]
pub(crate) struct SlowdownQuestion {
    /// Everybody whom a change reaches when empty.
    pub(crate) service_ids: Vec<String>,
    pub(crate) changes: Vec<Change>,
    pub(crate) measured: Vec<(String, LatencyHistogram)>,
    /// Milliseconds by service.
    pub(crate) thresholds_ms: BTreeMap<String, f64>,
}

/// What changes do to latencies.
#[derive(Debug)]
pub(crate) struct Slowdown {
    /// Each with the walk to a change, and the threshold asked for.
    pub(crate) services: Vec<(Outcome, Vec<NodeIndex>, Option<f64>)>,
    pub(crate) unknown: Vec<NodeIndex>,
    pub(crate) unevaluated: Vec<NodeIndex>,
    pub(crate) without_samples_count: usize,
}

impl SlowdownQuestion {
    fn is_understood_by(&self, snapshot: &Snapshot) -> bool {
        let known = |id: &str| snapshot.find(id).is_some();
        let names_known = |change: &Change| match change {
            Change::Times { entity_id, .. }
            | Change::Plus { entity_id, .. }
            | Change::Outage(Place::Entity(entity_id)) => known(entity_id),
            Change::Set(edge) => known(edge.caller.as_str()) && known(edge.callee.as_str()),
            Change::Remove { caller_id, callee_id } => known(caller_id) && known(callee_id),
            Change::Outage(Place::Region(_)) | Change::Other => true,
        };
        self.service_ids.iter().all(|id| known(id)) && self.changes.iter().all(names_known)
    }
}

impl Engine {
    /// What changes do to the latencies of services, as far as four fifths of the time allow; services that the graph does not
    /// hold are left out.
    pub(crate) async fn slowdown(
        &self,
        context: &CallContext,
        question: SlowdownQuestion,
    ) -> Result<(Arc<Held>, Slowdown), Error> {
        let limit = self.bounds.evaluation_services_max;
        for (field, count) in [("service_ids", question.service_ids.len()), ("changes", question.changes.len())] {
            if count > limit {
                let reason = format!("{count} are too many for one call; send at most {limit}");
                return Err(InvalidValue::new(field, "too_many", reason).into());
            }
        }
        let held = self.gather(context, |snapshot| question.is_understood_by(snapshot)).await?;
        let graph = Arc::clone(&held);
        let asked: Vec<NodeIndex> = question.service_ids.iter().filter_map(|id| held.snapshot.find(id)).collect();
        let nothing_known = asked.is_empty() && !question.service_ids.is_empty();
        let (of_everybody, changes) = (question.service_ids.is_empty(), question.changes);
        let scoped = {
            let asked = asked.clone();
            move |_: &dyn Fn() -> bool| {
                let alterations = Alterations::resolve(&graph.snapshot, &changes).map_err(Error::Invalid)?;
                let alterations = if nothing_known { Alterations::default() } else { alterations };
                let scope = Scope::of(&graph.snapshot, &alterations, &asked, limit);
                Ok((alterations, scope))
            }
        };
        let (alterations, scope) = self.workers.run(context.deadline, scoped).await?;
        let samples = self.samples(context, &held, &scope.nearest_first()).await;
        let graph = Arc::clone(&held);
        let enough_at = Instant::now() + context.remaining() * 4 / 5;
        let job = move |give_up: &dyn Fn() -> bool| {
            let give_up = &|| give_up() || Instant::now() >= enough_at;
            let snapshot = &graph.snapshot;
            let of_name = |(id, latency): (String, LatencyHistogram)| Some((snapshot.find(&id)?, latency));
            let own: BTreeMap<NodeIndex, LatencyHistogram> =
                question.measured.into_iter().filter_map(of_name).collect();
            let inputs = Inputs {
                snapshot,
                alterations: &alterations,
                requests: &samples.requests,
                own: &own,
                of_calls: &|edge| graph.latency(edge),
            };
            let found = evaluate(&inputs, &scope, give_up);
            let is_asked = |node: &NodeIndex| of_everybody || asked.contains(node);
            let of_asked = |mut nodes: Vec<NodeIndex>| {
                nodes.retain(is_asked);
                nodes
            };
            let told = found.services.into_iter().filter(|outcome| is_asked(&outcome.node)).map(|outcome| {
                let threshold_ms = question.thresholds_ms.get(snapshot.id(outcome.node).as_str()).copied();
                (scope.path(outcome.node).to_vec(), threshold_ms, outcome)
            });
            Ok(Slowdown {
                services: told.map(|(path, threshold_ms, outcome)| (outcome, path, threshold_ms)).collect(),
                unknown: of_asked(found.unknown),
                unevaluated: of_asked(found.unevaluated),
                without_samples_count: samples.missing_count,
            })
        };
        let answer = self.workers.run(context.deadline, job).await?;
        Ok((held, answer))
    }
}
