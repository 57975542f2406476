//! Policies on the wire.

use attain_attainment::Ambition;
use attain_proto::convert::{self, timestamp};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_redaction::redact;
use attain_vocabulary::{EntityId, InvalidValue, Tier};

use super::slo::{ambition, ambition_of};
use crate::domain::policy::{Automatic, Rules, VersionedPolicy};

const ID: &str = "policy";

pub(crate) fn policy(versioned: &VersionedPolicy) -> wire::DecisionPolicy {
    wire::DecisionPolicy {
        id: ID.to_owned(),
        version: versioned.version,
        tiers: versioned.policy.tiers.iter().map(rules).collect(),
        pending_days: versioned.policy.pending_days,
        reason: versioned.reason.clone(),
        set_by: versioned.set_by.clone(),
        set_time: (versioned.version > 0).then(|| timestamp(versioned.set_ms)),
    }
}

fn rules(rules: &Rules) -> wire::TierRules {
    wire::TierRules {
        tier: vocabulary::Tier::from(rules.tier) as i32,
        recommendation_days: rules.recommendation_days,
        review_days: rules.review_days,
        renewal_days: rules.renewal_days,
        four_eyes: Some(rules.four_eyes),
        automatic: rules.automatic.as_ref().map(|automatic| wire::AutomaticAcceptance {
            ambition: ambition(automatic.ambition) as i32,
            steps_max: automatic.steps_max,
            per_day_max: automatic.per_day_max,
            days_between_min: automatic.days_between_min,
            first_slo: automatic.first_slo,
            service_ids: automatic.services.iter().map(ToString::to_string).collect(),
            owners: automatic.owners.clone(),
        }),
        miss_probabilities: Some(risks(rules.miss_probabilities.unwrap_or_else(house_risks))),
    }
}

fn house_risks() -> [f64; 3] {
    Ambition::ALL.map(Ambition::miss_probability_max)
}

fn risks([conservative, balanced, ambitious]: [f64; 3]) -> wire::MissProbabilities {
    wire::MissProbabilities { conservative, balanced, ambitious }
}

fn risks_of(message: &wire::MissProbabilities) -> [f64; 3] {
    [message.conservative, message.balanced, message.ambitious]
}

/// The rules of the tiers that are named, each checked.
///
/// # Errors
/// Every field that is wrong, and a tier that is named twice.
pub(crate) fn rules_of(tiers: &[wire::TierRules]) -> Result<Vec<Rules>, Vec<InvalidValue>> {
    let mut read: Vec<Rules> = Vec::new();
    let mut faults = Vec::new();
    for (index, tier) in tiers.iter().enumerate() {
        let at = format!("tiers/{index}");
        match one(tier, &at) {
            Err(of_this) => faults.extend(of_this),
            Ok(rules) if read.iter().any(|other| other.tier == rules.tier) => {
                let reason = "the rules of this tier are there twice";
                faults.push(InvalidValue::new(format!("{at}/tier"), "named_twice", reason));
            }
            Ok(rules) => read.push(rules),
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

fn one(message: &wire::TierRules, at: &str) -> Result<Rules, Vec<InvalidValue>> {
    let field = format!("{at}/tier");
    let tier = convert::word::<vocabulary::Tier, Tier>(&field, message.tier).map_err(|fault| vec![fault])?;
    let unsaid = || vec![InvalidValue::new(field, "required", "say of which tier these are the rules")];
    let unsaid_eyes = || {
        let reason = "say whether decisions about this tier need somebody else";
        vec![InvalidValue::new(format!("{at}/four_eyes"), "required", reason)]
    };
    let rules = Rules {
        tier: tier.ok_or_else(unsaid)?,
        recommendation_days: message.recommendation_days,
        review_days: message.review_days,
        renewal_days: message.renewal_days,
        four_eyes: message.four_eyes.ok_or_else(unsaid_eyes)?,
        automatic: message.automatic.as_ref().map(|automatic| self::automatic(automatic, at)).transpose()?,
        miss_probabilities: message.miss_probabilities.as_ref().map(risks_of).filter(|risks| *risks != house_risks()),
    };
    rules.check(at)?;
    Ok(rules)
}

fn automatic(message: &wire::AutomaticAcceptance, at: &str) -> Result<Automatic, Vec<InvalidValue>> {
    for (list, names) in [("service_ids", &message.service_ids), ("owners", &message.owners)] {
        if names.iter().any(|name| redact(name).1 > 0) {
            let reason = "a name holds a secret or personal data";
            return Err(vec![InvalidValue::new(format!("{at}/automatic/{list}"), "secret_in_name", reason)]);
        }
    }
    let named = |name: &String| EntityId::new(format!("{at}/automatic/service_ids").as_str(), name);
    let services: Result<Vec<EntityId>, InvalidValue> = message.service_ids.iter().map(named).collect();
    let ambition = ambition_of(message.ambition).map_err(|fault| vec![fault.within(&format!("{at}/automatic"))])?;
    Ok(Automatic {
        ambition,
        steps_max: message.steps_max,
        per_day_max: message.per_day_max,
        days_between_min: message.days_between_min,
        first_slo: message.first_slo,
        services: services.map_err(|fault| vec![fault])?,
        owners: message.owners.clone(),
    })
}
