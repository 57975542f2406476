use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use attain_reliability::EvaluationLimits;
use attain_runtime::context::CallContext;
use attain_vocabulary::InvalidValue;

use super::Engine;
use crate::domain::availability::{Availabilities, Interruption, evaluate};
use crate::domain::links::NodeIndex;
use crate::domain::scenario::{Change, NamedRate, Place, Scenario};
use crate::domain::sensitivity::{self, Pair};
use crate::domain::snapshot::Snapshot;
use crate::error::Error;
use crate::storage::held::Held;

/// What is asked, by names.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) service_ids: Vec<String>,
    pub(crate) rates: Vec<NamedRate>,
    pub(crate) changes: Vec<Change>,
    pub(crate) seed: u64,
    /// Below it edges are doubtful; 0 for none.
    pub(crate) confidence_min: f64,
}

/// What the structure allows, and what is left of it without doubtful edges, by service.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) availabilities: Availabilities,
    pub(crate) without_doubtful: BTreeMap<NodeIndex, Pair>,
}

impl Question {
    fn is_understood_by(&self, snapshot: &Snapshot) -> bool {
        let known = |id: &str| snapshot.find(id).is_some();
        let names_known = |change: &Change| match change {
            Change::Attained { entity_id, .. }
            | Change::OwnFailure { entity_id, .. }
            | Change::Pace { entity_id }
            | Change::Outage(Place::Entity(entity_id)) => known(entity_id),
            Change::Outage(Place::Region(region)) => snapshot.in_region(region).next().is_some(),
            Change::Set(edge) => known(edge.caller.as_str()) && known(edge.callee.as_str()),
            Change::Remove { caller_id, callee_id } => known(caller_id) && known(callee_id),
        };
        self.service_ids.iter().all(|id| known(id))
            && self.rates.iter().all(|rate| known(&rate.entity_id))
            && self.changes.iter().all(names_known)
    }
}

impl Engine {
    /// What the structure allows the services to attain, as far as four fifths of the time allow; services that the graph does
    /// not hold are left out.
    pub(crate) async fn availability(
        &self,
        context: &CallContext,
        question: Question,
    ) -> Result<(Arc<Held>, Answer), Error> {
        self.check_size(&question)?;
        let held = self.gather(context, |snapshot| question.is_understood_by(snapshot)).await?;
        let graph = Arc::clone(&held);
        let limits = EvaluationLimits {
            bdd_nodes_max: self.bounds.bdd_nodes_max,
            samples: self.bounds.samples,
            seed: question.seed,
        };
        let enough_at = Instant::now() + context.remaining() * 4 / 5;
        let job = move |give_up: &dyn Fn() -> bool| {
            let give_up = &|| give_up() || Instant::now() >= enough_at;
            let snapshot = &graph.snapshot;
            let scenario = Scenario::resolve(snapshot, &question.rates, &question.changes).map_err(Error::Invalid)?;
            let services: Vec<_> = question.service_ids.iter().filter_map(|id| snapshot.find(id)).collect();
            let availabilities = evaluate(&scenario, &services, &limits, give_up)?;
            let mut without_doubtful = BTreeMap::new();
            if question.confidence_min > 0.0 {
                let bound = (question.confidence_min, graph.asked.time_ms);
                let asked = (&question.rates[..], &question.changes[..]);
                let found = sensitivity::without_doubtful(snapshot, bound, asked, &services, &limits, give_up);
                without_doubtful = match found {
                    Err(Interruption::GivenUp) => BTreeMap::new(),
                    found => found?,
                };
            }
            Ok(Answer { availabilities, without_doubtful })
        };
        let answer = self.workers.run(context.deadline, job).await?;
        Ok((held, answer))
    }

    fn check_size(&self, question: &Question) -> Result<(), Error> {
        let limit = self.bounds.evaluation_services_max;
        for (field, count) in [("service_ids", question.service_ids.len()), ("changes", question.changes.len())] {
            if count > limit {
                let reason = format!("{count} are too many for one call; send at most {limit}");
                return Err(InvalidValue::new(field, "too_many", reason).into());
            }
        }
        Ok(())
    }
}
