//! What tells a service's own failures from those that it inherits, and nothing more: for whoever only watches them.

use std::time::Instant;

use attain_attainment::RecommendationInput;
use attain_runtime::context::CallContext;
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, TimeRange, bucket_start};

use super::{Subject, blocking, from_first_bucket, incidents, subject};
use crate::Error;
use crate::domain::components::{dependencies, failures};
use crate::engine::Engine;
use crate::histories::Since;
use crate::members::Refusal;
use crate::message::topology;

/// Reads the service's history and those of what it calls directly, without latencies; exclusions are left out.
pub(crate) async fn failures_of(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
) -> Result<RecommendationInput, Error> {
    let unbroken = engine.changes.unbroken(Instant::now());
    let Subject { walked, .. } = subject(engine, context, service, &mut Vec::new()).await?;
    let since = Since { unbroken, heads: &walked.heads };
    let as_of_ms = bucket_start(engine.clock.now_ms()) + BUCKET_MS;
    let range = TimeRange::new("range", as_of_ms - i64::from(engine.config.history_days) * DAY_MS, as_of_ms)?;
    let called = walked.closure.edges.iter().filter(|edge| edge.caller == *service).map(|edge| &edge.callee);
    let mut called: Vec<EntityId> = called.filter(|callee| *callee != service).cloned().collect();
    called.sort();
    called.dedup();
    let (own, called, hurt) = futures::join!(
        engine.records(context, std::slice::from_ref(service), range, &since),
        engine.records(context, &called, range, &since),
        engine.ingestion.incidents(context, service),
    );
    let mut own = own.map_err(|refusal| refusal.fatal("ingestion"))?;
    let records = called.map_err(|refusal| refusal.fatal("ingestion"))?;
    let hurt = hurt.map_err(|refusal| refusal.fatal("ingestion"))?;
    let (service, edges, graph_known) = (service.clone(), walked.closure.edges, walked.graph_known);
    blocking(move || {
        let own = own.remove(&service).unwrap_or_default().counted().buckets();
        let range = from_first_bucket(range, &own);
        let (_, exclusions) = incidents(&service, &hurt, range);
        let called = dependencies(&service, &edges, &records);
        let mut input = failures(&service, range, own, called, exclusions);
        if !graph_known {
            // Nobody knows that it calls nothing.
            input.structure = None;
        }
        input
    })
    .await
}

/// Reads the service's own history of a span with its tier and kind, without latencies and without what it calls.
pub(crate) async fn counts_of(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    range: TimeRange,
) -> Result<RecommendationInput, Refusal> {
    let (entity, histories, hurt) = futures::join!(
        engine.ingestion.entity(context, service),
        engine.ingestion.histories(context, std::slice::from_ref(service), range, true),
        engine.ingestion.incidents(context, service),
    );
    let (_, facts) = topology::entity(&entity?)
        .map_err(|invalid| Refusal::Refused(format!("ingestion's {service} cannot be read: {invalid}")))?;
    let own = histories?.remove(service).unwrap_or_default().buckets;
    let (_, exclusions) = incidents(service, &hurt?, range);
    let input = failures(service, range, own, Vec::new(), exclusions);
    Ok(RecommendationInput { tier: facts.tier, kind: facts.kind, ..input })
}
