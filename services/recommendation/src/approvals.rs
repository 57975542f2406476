//! Who has to agree before a target comes into force, and what becomes of proposals.

use attain_runtime::context::CallContext;
use attain_vocabulary::Tier;

use crate::Error;
use crate::contradictions;
use crate::decisions::Came;
use crate::domain::lifecycle::PendingState;
use crate::domain::policy::Rules;
use crate::domain::slo::{Action, Verdict, checked_note};
use crate::engine::Engine;
use crate::members::Refusal;
use crate::message::topology;
use crate::storage::{Closed, Closing, Review, ServiceFacts, Terms};

/// Refuses a recommendation that is too old to put anything in force.
pub(crate) async fn acceptable(engine: &Engine, context: &CallContext, id: &str) -> Result<(), Error> {
    let Some(standing) = engine.store.standing(&context.tenant, id).await? else { return Ok(()) };
    if !standing.is_expired(engine.clock.now_ms()) {
        return Ok(());
    }
    let newest = engine.store.newest_standing(&context.tenant, &standing.service_id, standing.window).await?;
    let newest = newest.map_or_else(|| id.to_owned(), |newest| newest.recommendation_id);
    Err(Error::RecommendationExpired { id: id.to_owned(), newest })
}

/// Puts a target in force, or lets it wait for somebody else where the policy of the service's tier asks for that and callers
/// are told apart.
pub(crate) async fn decide_or_propose(engine: &Engine, context: &CallContext, verdict: Verdict) -> Result<Came, Error> {
    let policy = engine.store.policy(&context.tenant).await?.policy;
    let facts = facts(engine, context, &verdict).await?;
    let rules = policy.rules(facts.tier);
    let mut verdict = verdict;
    let needs_two = rules.four_eyes && context.names_somebody();
    if needs_two && replaces_or_follows(engine, context, &verdict).await? {
        let expire_ms = verdict.time_ms + policy.pending_ms();
        let (service, kind) = (verdict.service.clone(), verdict.kind);
        let pending = engine.store.propose(&context.tenant, verdict, expire_ms).await?;
        let in_force = engine.store.slos(&context.tenant, &service).await?;
        return Ok(Came::Pending(Box::new(pending), in_force.into_iter().find(|slo| slo.kind == kind)));
    }
    if needs_two {
        // The first statement of what is in force: nothing that came into force meanwhile is replaced.
        verdict.version_match.get_or_insert(0);
    }
    let terms = terms(rules, &verdict, facts);
    Ok(Came::Decided(Box::new(engine.store.decide(&context.tenant, verdict, &terms).await?)))
}

/// Whether a decision changes something: all but the first statement of what is in force already.
async fn replaces_or_follows(engine: &Engine, context: &CallContext, verdict: &Verdict) -> Result<bool, Error> {
    if verdict.action != Action::Declare {
        return Ok(true);
    }
    let in_force = engine.store.slos(&context.tenant, &verdict.service).await?;
    Ok(in_force.iter().any(|slo| slo.kind == verdict.kind))
}

/// Approves, refuses or withdraws a pending decision.
pub(crate) async fn close(
    engine: &Engine,
    context: &CallContext,
    id: &str,
    outcome: PendingState,
    reason: &str,
) -> Result<Closed, Error> {
    if !context.names_somebody() {
        return Err(Error::Anonymous);
    }
    let reason = checked_note(reason, outcome == PendingState::Refused)?;
    let closing =
        Closing { id: id.to_owned(), outcome, caller: context.caller.clone(), reason, time_ms: engine.clock.now_ms() };
    let terms = if outcome == PendingState::Approved {
        let pending = engine.store.pending(&context.tenant, id).await?;
        let pending = pending.ok_or_else(|| Error::UnknownPending(id.to_owned()))?;
        if !pending.verdict.recommendation_id.is_empty() {
            acceptable(engine, context, &pending.verdict.recommendation_id).await?;
        }
        contradictions::still_holds(engine, context, &pending.verdict).await?;
        let policy = engine.store.policy(&context.tenant).await?.policy;
        let facts = facts(engine, context, &pending.verdict).await?;
        let verdict = Verdict { time_ms: closing.time_ms, ..pending.verdict };
        terms(policy.rules(facts.tier), &verdict, facts)
    } else {
        Terms::default()
    };
    engine.store.close_pending(&context.tenant, closing, terms).await
}

/// What a decision brings with it under the rules of the tier.
pub(crate) fn terms(rules: &Rules, verdict: &Verdict, facts: ServiceFacts) -> Terms {
    // What was declared follows no recommendation: there is nothing to renew.
    let review = (verdict.action != Action::Declare)
        .then(|| Review { review_ms: rules.review_ms(verdict.time_ms), renewal_ms: rules.renewal_ms(verdict.time_ms) });
    Terms { review, facts: Some(facts), ..Terms::default() }
}

/// Tier and owner of the service: as ingestion knows them now, else as they were last.
async fn facts(engine: &Engine, context: &CallContext, verdict: &Verdict) -> Result<ServiceFacts, Error> {
    let refusal = match engine.ingestion.entity(context, &verdict.service).await {
        Ok(entity) => {
            let (_, facts) = topology::entity(&entity).map_err(|invalid| {
                Error::Broken(format!("ingestion's {} cannot be read: {invalid}", verdict.service))
            })?;
            return Ok(ServiceFacts { tier: facts.tier, owner: entity.owner });
        }
        Err(refusal) => refusal,
    };
    if let Some(known) = engine.store.service_facts(&context.tenant, &verdict.service).await? {
        return Ok(known);
    }
    match refusal {
        // Whoever ingestion forgot is as critical as those of whom nobody says anything.
        Refusal::Unknown => Ok(ServiceFacts { tier: Tier::Three, owner: String::new() }),
        other => Err(other.fatal("ingestion")),
    }
}
