//! Whether a target that is to come into force holds beside what is promised below.
//!
//! The recommendation that was decided upon says so where it is the newest and nobody decided anything below since; otherwise
//! the target is held against the promises as they are now.

use attain_attainment::{Ambition, FleetLimit};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, SliKind};

use crate::domain::contradiction::Contradiction;
use crate::domain::slo::{Action, Verdict, checked_text};
use crate::engine::Engine;
use crate::gather::held_now;
use crate::message::{slo, window};
use crate::{Error, recommendations};

/// What a decision contradicts, with the reason that was given for it; `None` where it contradicts nothing.
///
/// # Errors
/// [`Error::Contradiction`] where it contradicts something and no reason was given.
pub(crate) async fn taken(
    engine: &Engine,
    context: &CallContext,
    recommendation: &wire::Recommendation,
    verdict: &Verdict,
    reason: &str,
) -> Result<Option<Contradiction>, Error> {
    let reason = checked_text("contradiction_reason", reason)?;
    let Some(found) = find(engine, context, recommendation, verdict).await? else { return Ok(None) };
    if reason.is_empty() {
        return Err(Error::Contradiction(Box::new((verdict.service.clone(), found))));
    }
    Ok(Some(Contradiction { reason, ..found }))
}

/// Looks at a proposal again before it comes into force: what was decided below meanwhile may be too little for it.
///
/// # Errors
/// [`Error::Contradiction`] where it contradicts something, and whoever proposed it did not know.
pub(crate) async fn still_holds(engine: &Engine, context: &CallContext, verdict: &Verdict) -> Result<(), Error> {
    if verdict.contradiction.is_some() || !matches!(verdict.action, Action::Accept | Action::Modify) {
        return Ok(());
    }
    let recommendation = recommendations::one(engine, context, &verdict.recommendation_id).await?;
    match find(engine, context, &recommendation, verdict).await? {
        None => Ok(()),
        Some(found) => Err(Error::Contradiction(Box::new((verdict.service.clone(), found)))),
    }
}

/// Refuses a reason where nothing of the kind can be decided.
pub(crate) fn misplaced_reason(action: Action, reason: &str) -> Option<InvalidValue> {
    let decides = matches!(action, Action::Accept | Action::Modify);
    (!decides && !reason.is_empty()).then(|| {
        let text = "only what is accepted or modified is held against what is promised below";
        InvalidValue::new("contradiction_reason", "not_allowed", text)
    })
}

async fn find(
    engine: &Engine,
    context: &CallContext,
    recommendation: &wire::Recommendation,
    verdict: &Verdict,
) -> Result<Option<Contradiction>, Error> {
    let Some(target) = verdict.target.filter(|_| verdict.kind == SliKind::Availability) else { return Ok(None) };
    let ratio = target.target.target_ratio();
    let ambition = verdict.ambition.unwrap_or(Ambition::Balanced);
    let told = told(recommendation, ambition, ratio);
    let asked_of_the_fleet = !recommendation.missing_inputs.iter().any(|missing| missing.name == "fleet");
    if verdict.action == Action::Accept
        && asked_of_the_fleet
        && recommendations::knows_what_is_promised(engine, context, recommendation).await?
    {
        return Ok(told);
    }
    let window = window::of(recommendation)?;
    match held_now(engine, context, &verdict.service, window, (ambition, ratio)).await {
        Ok(held) => Ok(Contradiction::of(held)),
        // Without the graph what the recommendation says stands: a decision waits for nobody.
        Err(Error::Unreachable { member, detail }) => {
            tracing::warn!(member, detail, "a decision could not be held against what is promised below");
            Ok(told)
        }
        Err(Error::Deadline) => Ok(told),
        Err(error) => Err(error),
    }
}

/// What the recommendation says of its offer of this ambition, for a target that is at least as strict as what would hold.
fn told(recommendation: &wire::Recommendation, ambition: Ambition, ratio: f64) -> Option<Contradiction> {
    let number = slo::ambition(ambition) as i32;
    let of_availability = recommendation.slis.iter().filter(|sli| sli.kind() == WireKind::Availability);
    let mut offers = of_availability.flat_map(|sli| &sli.offers);
    let offer = offers.find(|offer| offer.ambition == number)?;
    let limit = offer.limited_by.as_ref()?;
    if offer.consistent_target_ratio.is_some_and(|holds| ratio <= holds) {
        return None;
    }
    let id = |text: &String| EntityId::new("service_id", text).ok();
    let limit = FleetLimit {
        callee: id(&limit.callee_id),
        needed_ratio: limit.needed_ratio,
        chain: limit.chain.iter().filter_map(id).collect(),
    };
    Some(Contradiction {
        callee: limit.callee,
        chain: limit.chain,
        target_ratio: ratio,
        consistent_target_ratio: offer.consistent_target_ratio,
        needed_ratio: limit.needed_ratio,
        reason: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_recommendation_says_counts_for_its_offer_and_what_is_stricter() {
        let limit = wire::FleetLimit { callee_id: "db".into(), needed_ratio: 0.01, chain: vec!["shop".into()] };
        let offer = |ambition: wire::Ambition, limited_by, consistent_target_ratio| wire::Offer {
            ambition: ambition as i32,
            target_ratio: 0.999,
            limited_by,
            consistent_target_ratio,
            ..wire::Offer::default()
        };
        let sli = wire::SliRecommendation {
            kind: WireKind::Availability as i32,
            offers: vec![
                offer(wire::Ambition::Conservative, None, None),
                offer(wire::Ambition::Balanced, Some(limit.clone()), Some(0.99)),
                offer(wire::Ambition::Ambitious, Some(limit), None),
            ],
            ..wire::SliRecommendation::default()
        };
        let recommendation = wire::Recommendation { slis: vec![sli], ..wire::Recommendation::default() };
        let told = |ambition, ratio| told(&recommendation, ambition, ratio);
        assert_eq!(told(Ambition::Conservative, 0.999), None);
        let found = told(Ambition::Balanced, 0.999).expect("limited");
        assert_eq!((found.callee_in_words(), found.consistent_target_ratio), ("db", Some(0.99)));
        assert_eq!(told(Ambition::Balanced, 0.99), None);
        assert_eq!(told(Ambition::Balanced, 0.995).expect("stricter than what holds").target_ratio, 0.995);
        assert!(told(Ambition::Ambitious, 0.9).is_some(), "none on the menu holds");
    }

    #[test]
    fn a_reason_belongs_to_what_is_held_against_others() {
        let code = |action, reason| misplaced_reason(action, reason).map(|fault| fault.code);
        assert_eq!(code(Action::Declare, "so"), Some("not_allowed"));
        assert_eq!((code(Action::Accept, "so"), code(Action::Reject, "")), (None, None));
    }
}
