//! Who belongs to the closure of a service, and until which changes that holds.
//!
//! The graph follows ingestion at a distance, so a closure may lack what ingestion has acknowledged. A closure is right when
//! the snapshot that it was walked on holds every change of topology of its members: it can only grow by an edge out of a
//! member, which is a change of that member.

use std::collections::BTreeMap;
use std::time::Duration;

use attain_attainment::MissingInput;
use attain_runtime::context::CallContext;
use attain_vocabulary::EntityId;

use crate::Error;
use crate::domain::components::Facts;
use crate::domain::freshness::{Head, topology_of};
use crate::engine::Engine;
use crate::members::{Closure, Direction, Refusal};

/// Most walks for one answer; each after the first waits for the graph.
const WALKS_MAX: usize = 3;

/// A closure and the newest changes of its members.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) closure: Closure,
    /// Whether the graph was asked; otherwise the closure is the service alone.
    pub(super) graph_known: bool,
    /// Read before anything else of the members is.
    pub(super) heads: BTreeMap<EntityId, Head>,
}

/// Walks until the graph holds the changes of whoever was met, within bounds: whose changes were read before the last walk
/// counts as met before it, so a change in between makes the closure look older than it is and never newer.
pub(super) async fn walk(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
) -> Result<(Result<Closure, Refusal>, BTreeMap<EntityId, Head>), Error> {
    let wait = Duration::from_millis(engine.config.graph_wait_ms_max);
    let mut heads = BTreeMap::new();
    let mut walks = 1;
    loop {
        let closure = engine.graph.closure(context, service, Direction::Downstream).await;
        let members = closure.as_ref().map_or(&[][..], |closure| &closure.order);
        let members = if members.is_empty() { std::slice::from_ref(service) } else { members };
        read_heads(engine, context, members, &mut heads).await?;
        let newest = topology_of(&heads);
        let behind = closure.as_ref().is_ok_and(|closure| !closure.order.is_empty() && closure.version < newest);
        if !behind || walks == WALKS_MAX || !follow(engine, context, service, newest, wait).await {
            return Ok((closure, heads));
        }
        walks += 1;
    }
}

/// Reads the heads of members that were not met before, and forgets those that are members no more.
async fn read_heads(
    engine: &Engine,
    context: &CallContext,
    members: &[EntityId],
    heads: &mut BTreeMap<EntityId, Head>,
) -> Result<(), Error> {
    let mut known: BTreeMap<EntityId, Head> =
        members.iter().filter_map(|id| Some((id.clone(), *heads.get(id)?))).collect();
    let unread: Vec<EntityId> = members.iter().filter(|id| !known.contains_key(*id)).cloned().collect();
    if !unread.is_empty() {
        let read = engine.ingestion.heads(context, &unread).await.map_err(|refusal| refusal.fatal("ingestion"))?;
        known.extend(read.services);
    }
    *heads = known;
    Ok(())
}

/// Waits for the graph to hold a version; whether it does.
async fn follow(engine: &Engine, context: &CallContext, service: &EntityId, version: u64, wait: Duration) -> bool {
    match engine.graph.follow(context, service, version, wait).await {
        Ok(held) => held >= version,
        Err(refusal) => {
            tracing::debug!(version, reason = refusal.detail(), "the graph was not waited for");
            false
        }
    }
}

/// The closure; without the graph, the service alone.
pub(super) fn or_alone(
    service: &EntityId,
    facts: &Facts,
    (closure, heads): (Result<Closure, Refusal>, BTreeMap<EntityId, Head>),
    missing: &mut Vec<MissingInput>,
) -> Walked {
    match closure {
        Ok(closure) if !closure.order.is_empty() => {
            if closure.truncated {
                let detail = format!(
                    "the walk stopped at {} components; what lies further down is left out",
                    closure.order.len()
                );
                missing.push(MissingInput { name: "closure".to_owned(), detail });
            }
            Walked { closure, graph_known: true, heads }
        }
        other => {
            let reason = other.err().map_or_else(|| "its answer was empty".to_owned(), |refusal| refusal.detail());
            let detail = format!(
                "the dependency graph could not be asked ({reason}): no ceiling, and inherited failure only where traces show it"
            );
            missing.push(MissingInput { name: "graph".to_owned(), detail });
            let alone = Closure {
                order: vec![service.clone()],
                facts: BTreeMap::from([(service.clone(), facts.clone())]),
                ..Closure::default()
            };
            Walked { closure: alone, graph_known: false, heads }
        }
    }
}
