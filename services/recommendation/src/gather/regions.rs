//! The histories and the structure of single regions. Only where telemetry of the service tells a region is more asked than
//! that.

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_attainment::{Doubt, Exclusion, MissingInput};
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, SliBucket, TimeRange};
use futures::future::join_all;

use super::structure::facts;
use super::{blocking, from_first_bucket};
use crate::Error;
use crate::domain::components::{Rate, components, counts, rates};
use crate::domain::counted::Counted;
use crate::domain::flow::Component;
use crate::domain::recorded::Recorded;
use crate::domain::regions::{RegionKept, elsewhere, rates_in};
use crate::engine::Engine;
use crate::members::{Closure, History, Refusal};
use crate::message::topology;

/// Histories by service and region.
pub(super) type Regional = BTreeMap<EntityId, BTreeMap<String, History>>;

/// The input that is named as missing where regions could not be read.
pub(crate) const MISSING: &str = "regional_history";

/// What is known of the whole.
pub(super) struct Whole<'a> {
    pub(super) service: &'a EntityId,
    pub(super) closure: &'a Closure,
    pub(super) known: &'a BTreeMap<EntityId, Component>,
    pub(super) range: TimeRange,
    pub(super) exclusions: &'a [Exclusion],
    pub(super) graph_known: bool,
}

/// Reads what the service answered by region and, where that tells any, what those below it did.
pub(super) async fn read(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    below: &[EntityId],
    range: TimeRange,
    missing: &mut Vec<MissingInput>,
) -> Regional {
    let asked = async {
        let own = engine.ingestion.regional(context, std::slice::from_ref(service), range).await?;
        if own.is_empty() {
            return Ok(own);
        }
        let below: Vec<EntityId> = below.iter().filter(|id| *id != service).cloned().collect();
        let mut all =
            if below.is_empty() { Regional::new() } else { engine.ingestion.regional(context, &below, range).await? };
        all.extend(own);
        Ok(all)
    };
    asked.await.unwrap_or_else(|refusal: Refusal| {
        let detail = format!("{}: nothing is said of single regions", refusal.detail());
        missing.push(MissingInput { name: MISSING.to_owned(), detail });
        Regional::new()
    })
}

/// What is kept of each region of the service, in lexical order.
pub(super) async fn regions(
    engine: &Engine,
    context: &CallContext,
    whole: &Whole<'_>,
    regional: Regional,
) -> Result<Vec<RegionKept>, Error> {
    let Some(own) = regional.get(whole.service) else { return Ok(Vec::new()) };
    let mut kept = Vec::with_capacity(own.len());
    let mut rated = Vec::with_capacity(own.len());
    for (region, history) in own {
        let elsewhere = elsewhere(region, &whole.closure.facts, &whole.closure.regions);
        let mut here: BTreeMap<EntityId, &[SliBucket]> = BTreeMap::new();
        for (id, by_region) in &regional {
            here.extend(by_region.get(region).map(|history| (id.clone(), history.buckets.as_slice())));
        }
        let of_callees = here.iter().filter(|(id, _)| *id != whole.service);
        let called =
            |id: &EntityId| whole.closure.edges.iter().any(|edge| edge.caller == *whole.service && edge.callee == *id);
        kept.push(RegionKept {
            region: region.clone(),
            range: from_first_bucket(whole.range, &history.buckets),
            buckets: history.buckets.clone(),
            sources: history.sources.iter().copied().collect(),
            dependencies: of_callees
                .filter(|(id, _)| called(id))
                .map(|(id, buckets)| (id.clone(), counts(buckets)))
                .collect(),
            elsewhere: elsewhere.clone(),
            structure: None,
        });
        rated.push(rates_in(&rates(whole.known, &whole.closure.edges), local_rates(whole, &here).await?, &elsewhere));
    }
    if whole.graph_known {
        let services = std::slice::from_ref(whole.service);
        let evaluated = rated.iter().map(|rates| {
            let rates = topology::rates(rates);
            async move { engine.graph.evaluate(context, services, &rates, Vec::new(), None).await }
        });
        for (of, answer) in kept.iter_mut().zip(join_all(evaluated).await) {
            of.structure = answer.ok().and_then(|present| facts(&present, Doubt::default()));
        }
    }
    Ok(kept)
}

/// How often those fail of their own that tell of the region, by what they and those that they call answered there.
async fn local_rates(whole: &Whole<'_>, here: &BTreeMap<EntityId, &[SliBucket]>) -> Result<Vec<Rate>, Error> {
    let mut records: BTreeMap<EntityId, Arc<Recorded>> =
        here.iter().map(|(id, buckets)| (id.clone(), Recorded::of(Counted::of(buckets)))).collect();
    let facts: BTreeMap<_, _> =
        records.keys().filter_map(|id| Some((id.clone(), whole.closure.facts.get(id)?.clone()))).collect();
    let edges = whole.closure.edges.clone();
    for edge in edges.iter().filter(|edge| facts.contains_key(&edge.caller)) {
        if let (false, Some(known)) = (records.contains_key(&edge.callee), whole.known.get(&edge.callee)) {
            records.insert(edge.callee.clone(), Arc::clone(&known.recorded));
        }
    }
    let (range, exclusions) = (whole.range, BTreeMap::from([(whole.service.clone(), whole.exclusions.to_vec())]));
    blocking(move || rates(&components(range, &facts, &records, &edges, &exclusions), &edges)).await
}
