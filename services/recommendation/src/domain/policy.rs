//! What a tenant lets happen to recommendations and decisions, by tier.

use attain_attainment::Ambition;
use attain_vocabulary::{EntityId, InvalidValue, Tier, UnixMillis};
use serde::{Deserialize, Serialize};

use super::slo::ambition_word;

const DAY_MS: UnixMillis = 86_400_000;
/// Most services named by the rules of one tier.
const SERVICES_MAX: usize = 500;
/// Most owners named by the rules of one tier.
const OWNERS_MAX: usize = 100;
/// Most probability of a miss that an offer may have: more often missed than met is no target.
const MISS_PROBABILITY_MAX: f64 = 0.5;
/// Longest name of an owner, in bytes.
const OWNER_LEN_MAX: usize = 200;

/// Every tier, the most critical first.
pub(crate) const TIERS: [Tier; 4] = [Tier::One, Tier::Two, Tier::Three, Tier::Four];

/// The rules of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// One for each tier, in the order of [`TIERS`].
    pub(crate) tiers: [Rules; 4],
    /// Days that a pending decision waits.
    pub(crate) pending_days: u32,
}

/// The rules of one tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rules {
    pub(crate) tier: Tier,
    /// Days for which a recommendation can be accepted.
    pub(crate) recommendation_days: u32,
    /// Days after which an SLO that follows a recommendation is to be reviewed.
    pub(crate) review_days: u32,
    /// Days before the review at which a renewal is offered.
    pub(crate) renewal_days: u32,
    /// Whether what puts a target in force needs the approval of somebody else.
    pub(crate) four_eyes: bool,
    /// When recommendations are accepted without a person.
    pub(crate) automatic: Option<Automatic>,
    /// Most probability of a miss of each ambition, in the order of [`Ambition::ALL`]; `None` for the house's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) miss_probabilities: Option<[f64; 3]>,
}

/// Acceptance without a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Automatic {
    pub(crate) ambition: Ambition,
    /// Most steps of the menu between the target in force and the offer's.
    pub(crate) steps_max: u32,
    /// Most acceptances of the tier within 24 hours.
    pub(crate) per_day_max: u32,
    /// Least days between two automatic acceptances of the same SLO.
    pub(crate) days_between_min: u32,
    /// Whether it may put a first SLO in force.
    pub(crate) first_slo: bool,
    /// Only these; all where it is empty.
    pub(crate) services: Vec<EntityId>,
    /// Only of these owners; of all where it is empty.
    pub(crate) owners: Vec<String>,
}

/// A policy that holds or held.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct VersionedPolicy {
    /// From 1; 0 for the defaults.
    pub(crate) version: u32,
    pub(crate) policy: Policy,
    pub(crate) reason: String,
    pub(crate) set_by: String,
    pub(crate) set_ms: UnixMillis,
}

impl Default for Policy {
    /// The more critical, the sooner a statement about the future is looked at again: a month for tier 1, a quarter for
    /// what matters little; SLOs are reviewed each quarter to each year. The Site Reliability Workbook (Beyer et al., 2018,
    /// chapter 2) advises to revise SLOs at first every month and later every quarter to year. Nothing is accepted
    /// without a person.
    fn default() -> Self {
        let rules = |tier, recommendation_days, review_days, renewal_days| Rules {
            tier,
            recommendation_days,
            review_days,
            renewal_days,
            four_eyes: tier == Tier::One,
            automatic: None,
            miss_probabilities: None,
        };
        Self {
            tiers: TIERS.map(|tier| match tier {
                Tier::One => rules(tier, 30, 90, 14),
                Tier::Two => rules(tier, 45, 180, 14),
                Tier::Three | Tier::Four => rules(tier, 90, 365, 30),
            }),
            pending_days: 7,
        }
    }
}

impl Policy {
    pub(crate) fn rules(&self, tier: Tier) -> &Rules {
        let [one, two, three, four] = &self.tiers;
        match tier {
            Tier::One => one,
            Tier::Two => two,
            Tier::Three => three,
            Tier::Four => four,
        }
    }

    /// The same with the rules of one tier replaced.
    pub(crate) fn with(mut self, rules: Rules) -> Self {
        if let Some(place) = self.tiers.iter_mut().find(|place| place.tier == rules.tier) {
            *place = rules;
        }
        self
    }

    pub(crate) fn pending_ms(&self) -> UnixMillis {
        UnixMillis::from(self.pending_days) * DAY_MS
    }
}

impl Rules {
    pub(crate) fn expire_ms(&self, from_ms: UnixMillis) -> UnixMillis {
        from_ms + UnixMillis::from(self.recommendation_days) * DAY_MS
    }

    pub(crate) fn review_ms(&self, from_ms: UnixMillis) -> UnixMillis {
        from_ms + UnixMillis::from(self.review_days) * DAY_MS
    }

    /// When a renewal of an SLO that is reviewed then is to be offered.
    pub(crate) fn renewal_ms(&self, from_ms: UnixMillis) -> UnixMillis {
        self.review_ms(from_ms) - UnixMillis::from(self.renewal_days) * DAY_MS
    }

    /// Checks every rule; `at` is the field that holds them.
    ///
    /// # Errors
    /// Names each that is out of range.
    pub(crate) fn check(&self, at: &str) -> Result<(), Vec<InvalidValue>> {
        let mut faults = Vec::new();
        let mut within = |field: &str, value: u32, least: u32, most: u32| {
            if !(least..=most).contains(&value) {
                let reason = format!("{value} is outside {least} to {most}");
                faults.push(InvalidValue::new(format!("{at}/{field}"), "out_of_range", reason));
            }
        };
        within("recommendation_days", self.recommendation_days, 2, 365);
        within("review_days", self.review_days, 7, 1000);
        within("renewal_days", self.renewal_days, 1, 90.min(self.review_days.saturating_sub(1)).max(1));
        if let Some(automatic) = &self.automatic {
            within("automatic/steps_max", automatic.steps_max, 1, 5);
            within("automatic/per_day_max", automatic.per_day_max, 1, 1000);
            within("automatic/days_between_min", automatic.days_between_min, 1, 365);
            faults.extend(automatic.check_lists(at));
            if self.tier == Tier::One {
                let reason = "services of tier 1 are decided upon by people";
                faults.push(InvalidValue::new(format!("{at}/automatic"), "not_allowed", reason));
            } else if self.four_eyes {
                let reason = "what needs the approval of somebody else is not accepted by policy alone";
                faults.push(InvalidValue::new(format!("{at}/automatic"), "not_allowed", reason));
            }
        }
        faults.extend(self.check_risks(at));
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn check_risks(&self, at: &str) -> Vec<InvalidValue> {
        let Some(risks) = self.miss_probabilities else { return Vec::new() };
        let named = |place: usize| format!("{at}/miss_probabilities/{}", ambition_word(Ambition::ALL[place]));
        let mut faults = Vec::new();
        for (place, risk) in risks.into_iter().enumerate() {
            let below = if place == 0 { 0.0 } else { risks[place - 1] };
            if !(risk > 0.0 && risk <= MISS_PROBABILITY_MAX) {
                let reason = format!("{risk} is outside (0, {MISS_PROBABILITY_MAX}]");
                faults.push(InvalidValue::new(named(place), "out_of_range", reason));
            } else if risk <= below {
                let reason = format!("{risk} is no more than the {below} of the offer before it");
                faults.push(InvalidValue::new(named(place), "not_in_order", reason));
            }
        }
        faults
    }
}

impl Automatic {
    fn check_lists(&self, at: &str) -> Vec<InvalidValue> {
        let mut faults = Vec::new();
        for (field, count, most) in
            [("service_ids", self.services.len(), SERVICES_MAX), ("owners", self.owners.len(), OWNERS_MAX)]
        {
            if count > most {
                let reason = format!("{count} are named; at most {most} can be");
                faults.push(InvalidValue::new(format!("{at}/automatic/{field}"), "too_many", reason));
            }
        }
        if self.owners.iter().any(|owner| owner.is_empty() || owner.len() > OWNER_LEN_MAX) {
            let reason = format!("an owner has 1 to {OWNER_LEN_MAX} bytes");
            faults.push(InvalidValue::new(format!("{at}/automatic/owners"), "malformed_name", reason));
        }
        faults
    }

    /// Least time between two automatic acceptances of the same SLO.
    pub(crate) fn between_ms(&self) -> UnixMillis {
        UnixMillis::from(self.days_between_min) * DAY_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_accept_nothing_by_themselves() {
        let policy = Policy::default();
        for tier in TIERS {
            assert_eq!(policy.rules(tier).tier, tier);
            assert_eq!(policy.rules(tier).check("tiers/0"), Ok(()));
            assert_eq!(policy.rules(tier).automatic, None);
            assert_eq!(policy.rules(tier).four_eyes, tier == Tier::One);
        }
        let json = serde_json::to_string(&policy).expect("JSON");
        assert_eq!(serde_json::from_str::<Policy>(&json).expect("read"), policy);
    }

    #[test]
    fn what_is_out_of_range_is_named_and_tier_1_is_never_automatic() {
        let automatic = Automatic {
            ambition: Ambition::Conservative,
            steps_max: 0,
            per_day_max: 5,
            days_between_min: 7,
            first_slo: false,
            services: Vec::new(),
            owners: vec![String::new()],
        };
        let rules = Rules {
            review_days: 7,
            renewal_days: 7,
            automatic: Some(automatic),
            ..Policy::default().rules(Tier::One).clone()
        };
        let faults = rules.check("tiers/0").expect_err("out of range");
        let fields: Vec<(&str, &str)> = faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
        assert_eq!(
            fields,
            [
                ("tiers/0/renewal_days", "out_of_range"),
                ("tiers/0/automatic/steps_max", "out_of_range"),
                ("tiers/0/automatic/owners", "malformed_name"),
                ("tiers/0/automatic", "not_allowed"),
            ]
        );
        let both = Rules { tier: Tier::Two, four_eyes: true, renewal_days: 1, ..rules.clone() };
        let faults = both.check("tiers/0").expect_err("two people and none");
        assert!(faults.iter().any(|fault| fault.reason.contains("somebody else")), "{faults:?}");
        let json = serde_json::to_string(&rules).expect("JSON");
        assert_eq!(serde_json::from_str::<Rules>(&json).expect("read"), rules);
    }

    #[test]
    fn risks_ascend_and_are_met_oftener_than_missed() {
        let faults = |risks| {
            let rules = Rules { miss_probabilities: Some(risks), ..Policy::default().rules(Tier::Two).clone() };
            let faults = rules.check("tiers/0").err().unwrap_or_default();
            faults.into_iter().map(|fault| (fault.field, fault.code)).collect::<Vec<_>>()
        };
        let at = |ambition: &str, code| vec![(format!("tiers/0/miss_probabilities/{ambition}"), code)];
        assert_eq!(faults([0.01, 0.05, 0.5]), []);
        assert_eq!(faults([0.01, 0.05, 0.6]), at("ambitious", "out_of_range"));
        assert_eq!(faults([f64::NAN, 0.05, 0.2]), at("conservative", "out_of_range"));
        assert_eq!(faults([0.05, 0.05, 0.2]), at("balanced", "not_in_order"));
    }
}
