//! What is known of queues and limits: the ages of what the service has still to process, and those of what it sends on.

use attain_attainment::{AsynchronousEdge, MissingInput, Used, UtilisationFacts};
use attain_runtime::context::CallContext;
use attain_vocabulary::{DependencyMode, EntityId, SliKind, TimeRange, UtilisationKind};

use crate::Error;
use crate::domain::slo::Slo;
use crate::engine::Engine;
use crate::members::Closure;

/// Most services called asynchronously that are asked about; the others count as not measured.
const ASYNCHRONOUS_MAX: usize = 20;

/// Asks for the ages where ingestion told that there are any.
pub(super) async fn utilisation(
    engine: &Engine,
    context: &CallContext,
    (service, used): (&EntityId, Vec<Used>),
    closure: &Closure,
    (range, slos): (TimeRange, &[Slo]),
) -> Result<(UtilisationFacts, Option<MissingInput>), Error> {
    let measured = used.iter().any(|used| used.kind == UtilisationKind::MessageAge);
    let asked_for = slos.iter().any(|slo| slo.kind == SliKind::Freshness);
    let ages = async {
        match measured || asked_for {
            true => engine.ingestion.ages(context, service, range).await,
            false => Ok(Vec::new()),
        }
    };
    let (ages, asynchronous) = futures::join!(ages, asynchronous(engine, context, service, closure));
    let (ages, missing) = match ages {
        Ok(ages) => (ages, None),
        Err(refusal) => {
            let detail = format!("{}: no freshness SLO is offered", refusal.detail());
            (Vec::new(), Some(MissingInput { name: "message_age".to_owned(), detail }))
        }
    };
    Ok((UtilisationFacts { ages, used, asynchronous: asynchronous? }, missing))
}

async fn asynchronous(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    closure: &Closure,
) -> Result<Vec<AsynchronousEdge>, Error> {
    let mut callees: Vec<&EntityId> = closure
        .edges
        .iter()
        .filter(|edge| edge.caller == *service && edge.mode == DependencyMode::Async)
        .map(|edge| &edge.callee)
        .collect();
    callees.sort();
    callees.dedup();
    callees.truncate(ASYNCHRONOUS_MAX);
    let asked: Vec<_> = callees.into_iter().map(|callee| edge(engine, context, callee)).collect();
    futures::future::try_join_all(asked).await
}

/// A callee that ingestion cannot tell about counts as not measured: that is what is known.
async fn edge(engine: &Engine, context: &CallContext, callee: &EntityId) -> Result<AsynchronousEdge, Error> {
    let (known, slos) =
        futures::join!(engine.ingestion.known(context, callee), engine.store.slos(&context.tenant, callee));
    let freshness = slos?.into_iter().find(|slo| slo.kind == SliKind::Freshness);
    Ok(AsynchronousEdge {
        callee: callee.clone(),
        age_measured: known.is_ok_and(|known| known.has_age()),
        age_threshold_ms: freshness.as_ref().and_then(|slo| slo.latency_threshold_ms),
        target_ratio: freshness.map(|slo| slo.target.target_ratio()),
    })
}
