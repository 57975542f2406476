//! Accepts recommendations without a person, where the policy of the tier says so.

use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;
use attain_runtime::context::{CallContext, POLICY_CALLER};
use attain_vocabulary::{EntityId, Objective, SliKind};

use crate::approvals::terms;
use crate::domain::automatic::{Aim, Beside, Case, InForce, judge};
use crate::domain::policy::VersionedPolicy;
use crate::domain::slo::{Action, NewTarget, Slo, Verdict};
use crate::engine::Engine;
use crate::message::slo::ambition;
use crate::message::window;
use crate::storage::{ServiceFacts, Terms};
use crate::{Error, recommendations};

/// Looks at a recommendation that was just stored, and accepts of it what policy allows. Nothing of this keeps the
/// recommendation from being given: a failure is logged, and a person can still decide.
pub(crate) async fn consider(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    recommendation: &wire::Recommendation,
    facts: &ServiceFacts,
) {
    if let Err(error) = accept(engine, context, service, recommendation, facts).await {
        tracing::warn!(recommendation.id = recommendation.id, error = %error, "policy could not be applied");
    }
}

async fn accept(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    recommendation: &wire::Recommendation,
    facts: &ServiceFacts,
) -> Result<(), Error> {
    let policy = engine.store.policy(&context.tenant).await?;
    if policy.policy.rules(facts.tier).automatic.is_none() {
        return Ok(());
    }
    let in_force = engine.store.slos(&context.tenant, service).await?;
    for sli in &recommendation.slis {
        let kind: Option<SliKind> = WireKind::try_from(sli.kind).ok().and_then(Into::into);
        let Some(kind) = kind else { continue };
        let slo = in_force.iter().find(|slo| slo.kind == kind);
        let considered = Considered { policy: &policy, service, recommendation, facts, sli, kind, slo };
        considered.settle(engine, context).await?;
    }
    Ok(())
}

/// One SLI of a recommendation under a policy.
struct Considered<'a> {
    policy: &'a VersionedPolicy,
    service: &'a EntityId,
    recommendation: &'a wire::Recommendation,
    facts: &'a ServiceFacts,
    sli: &'a wire::SliRecommendation,
    kind: SliKind,
    slo: Option<&'a Slo>,
}

impl Considered<'_> {
    async fn settle(&self, engine: &Engine, context: &CallContext) -> Result<(), Error> {
        let rules = self.policy.policy.rules(self.facts.tier);
        let Some(automatic) = &rules.automatic else { return Ok(()) };
        let number = ambition(automatic.ambition) as i32;
        let offer = self.sli.offers.iter().find(|offer| offer.ambition == number);
        let now_ms = engine.clock.now_ms();
        let automatic_ms = engine.store.last_automatic(&context.tenant, self.service, self.kind).await?;
        let confidence = self.recommendation.confidence.as_ref().map_or(0, |confidence| confidence.level);
        let case = Case {
            service: self.service,
            owner: &self.facts.owner,
            high_confidence: confidence == wire::ConfidenceLevel::High as i32,
            fallback: self.recommendation.fallback || self.sli.fallback,
            window: window::of(self.recommendation)?,
            offer: offer.map(|offer| Aim {
                target_ratio: offer.target_ratio,
                latency_threshold_ms: threshold(offer.latency_threshold_ms),
            }),
            beside: self.beside(engine, context, offer).await?,
            in_force: self.slo.map(|slo| InForce {
                aim: Aim { target_ratio: slo.target.target_ratio(), latency_threshold_ms: slo.latency_threshold_ms },
                window: slo.window,
                automatic_ms,
            }),
            now_ms,
        };
        let reason = match judge(rules, &case) {
            Ok(reason) => reason,
            Err(objection) => {
                tracing::debug!(recommendation.id = self.recommendation.id, why = %objection, "a recommendation waits for a person");
                return Ok(());
            }
        };
        let Some(offer) = offer else { return Ok(()) };
        let target = NewTarget {
            target: Objective::new("target_ratio", offer.target_ratio)?,
            latency_threshold_ms: threshold(offer.latency_threshold_ms),
            window: window::of(self.recommendation)?,
            as_recommended: true,
        };
        let verdict = Verdict {
            action: Action::Accept,
            service: self.service.clone(),
            recommendation_id: self.recommendation.id.clone(),
            kind: self.kind,
            ambition: Some(automatic.ambition),
            target: Some(target),
            reason,
            decided_by: POLICY_CALLER.to_owned(),
            time_ms: now_ms,
            version_match: Some(self.slo.map_or(0, |slo| slo.version)),
            contradiction: None,
        };
        let terms = Terms { policy_version: self.policy.version, ..terms(rules, &verdict, self.facts.clone()) };
        let decided = engine.store.decide_within(&context.tenant, verdict, &terms, automatic.per_day_max).await;
        match decided {
            Ok(None) => tracing::debug!("policy accepted as much within a day as it may"),
            // Somebody decided meanwhile: theirs stands.
            Ok(Some(_)) | Err(Error::VersionMismatch { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Considered<'_> {
    /// How the offer stands beside what is promised below, as the recommendation knows it.
    async fn beside(
        &self,
        engine: &Engine,
        context: &CallContext,
        offer: Option<&wire::Offer>,
    ) -> Result<Beside, Error> {
        if self.kind != SliKind::Availability {
            return Ok(Beside::Holds);
        }
        if offer.is_some_and(|offer| offer.limited_by.is_some()) {
            return Ok(Beside::Contradicts);
        }
        let unasked = |missing: &wire::MissingInput| ["fleet", "graph"].contains(&missing.name.as_str());
        if self.recommendation.missing_inputs.iter().any(unasked)
            || !recommendations::knows_what_is_promised(engine, context, self.recommendation).await?
        {
            return Ok(Beside::Unknown);
        }
        Ok(Beside::Holds)
    }
}

fn threshold(stored_ms: u32) -> Option<u32> {
    Some(stored_ms).filter(|threshold| *threshold > 0)
}
