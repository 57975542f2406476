//! Whether a recommendation may be accepted without a person. Every condition has to hold; the first that does not is named.

use attain_attainment::{LATENCY_MENU_MS, TARGET_MENU};
use attain_vocabulary::{EntityId, Tier, TimeWindow, UnixMillis};

use super::policy::Rules;

/// Rounding of targets on the way through JSON and databases is far below this.
const TARGET_TOLERANCE: f64 = 1e-12;

/// What is known of the recommendation, the offer that policy chooses and the SLO in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case<'a> {
    pub(crate) service: &'a EntityId,
    pub(crate) owner: &'a str,
    pub(crate) high_confidence: bool,
    pub(crate) fallback: bool,
    pub(crate) window: TimeWindow,
    /// The offer of the policy's ambition; `None` where there is none.
    pub(crate) offer: Option<Aim>,
    /// How the offer stands beside what is promised below.
    pub(crate) beside: Beside,
    pub(crate) in_force: Option<InForce>,
    pub(crate) now_ms: UnixMillis,
}

/// How an offer stands beside what is promised below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    Holds,
    Contradicts,
    /// That could not be asked, or something was decided below since.
    Unknown,
}

/// What a target asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Aim {
    pub(crate) target_ratio: f64,
    /// `None` for availability.
    pub(crate) latency_threshold_ms: Option<u32>,
}

/// The SLO in force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct InForce {
    pub(crate) aim: Aim,
    pub(crate) window: TimeWindow,
    /// When policy last decided about it; `None` where it never did.
    pub(crate) automatic_ms: Option<UnixMillis>,
}

/// Why a recommendation waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Objection {
    #[error("services of tier 1 are decided upon by people")]
    TierOne,
    #[error("decisions about the tier need the approval of somebody else")]
    FourEyes,
    #[error("the policy of the tier accepts nothing by itself")]
    Off,
    #[error("the policy names other services or owners")]
    NotNamed,
    #[error("the confidence is not high")]
    Confidence,
    #[error("the targets are the tier's template")]
    Fallback,
    #[error("there is no offer of the policy's ambition")]
    NoOffer,
    #[error("the offer contradicts what is promised below")]
    Contradiction,
    #[error("the offer was not held against what is promised below now")]
    NotHeld,
    #[error("there is no SLO in force yet")]
    FirstSlo,
    #[error("the SLO in force covers another window")]
    OtherWindow,
    #[error("the offer is what is in force")]
    NothingChanges,
    #[error("the offer is further from what is in force than the policy allows")]
    TooFar,
    #[error("policy decided about this SLO not long ago")]
    TooSoon,
}

/// The reasons for which the offer is accepted.
///
/// # Errors
/// The first condition that does not hold.
pub(crate) fn judge(rules: &Rules, case: &Case<'_>) -> Result<String, Objection> {
    if rules.tier == Tier::One {
        return Err(Objection::TierOne);
    }
    let automatic = rules.automatic.as_ref().ok_or(Objection::Off)?;
    // Policies of before allowed both.
    if rules.four_eyes {
        return Err(Objection::FourEyes);
    }
    let named = automatic.services.is_empty() || automatic.services.contains(case.service);
    let owned = automatic.owners.is_empty() || automatic.owners.iter().any(|owner| owner == case.owner);
    if !named || !owned {
        return Err(Objection::NotNamed);
    }
    if !case.high_confidence {
        return Err(Objection::Confidence);
    }
    if case.fallback {
        return Err(Objection::Fallback);
    }
    let offer = case.offer.ok_or(Objection::NoOffer)?;
    match case.beside {
        Beside::Holds => {}
        Beside::Contradicts => return Err(Objection::Contradiction),
        Beside::Unknown => return Err(Objection::NotHeld),
    }
    let Some(in_force) = case.in_force else {
        return if automatic.first_slo {
            Ok("high confidence; no SLO was in force".into())
        } else {
            Err(Objection::FirstSlo)
        };
    };
    if in_force.window != case.window {
        return Err(Objection::OtherWindow);
    }
    if same(offer, in_force.aim) {
        return Err(Objection::NothingChanges);
    }
    let steps = steps_between(offer, in_force.aim);
    if steps > automatic.steps_max as usize {
        return Err(Objection::TooFar);
    }
    if in_force.automatic_ms.is_some_and(|last| case.now_ms - last < automatic.between_ms()) {
        return Err(Objection::TooSoon);
    }
    Ok(format!("high confidence; {steps} of at most {} steps of the menu", automatic.steps_max))
}

fn same(one: Aim, other: Aim) -> bool {
    (one.target_ratio - other.target_ratio).abs() <= TARGET_TOLERANCE
        && one.latency_threshold_ms == other.latency_threshold_ms
}

/// Steps of the menus between two aims: those of the target and those of the threshold together. What is not on a menu
/// counts as the entry before it, and one step more.
fn steps_between(one: Aim, other: Aim) -> usize {
    let targets = distance(&TARGET_MENU, one.target_ratio, other.target_ratio, TARGET_TOLERANCE);
    let thresholds = match (one.latency_threshold_ms, other.latency_threshold_ms) {
        (Some(one), Some(other)) => {
            let menu = LATENCY_MENU_MS.map(f64::from);
            distance(&menu, f64::from(one), f64::from(other), 0.0)
        }
        _ => 0,
    };
    targets + thresholds
}

fn distance(menu: &[f64], one: f64, other: f64, tolerance: f64) -> usize {
    let place = |value: f64| {
        let at = menu.iter().rposition(|entry| *entry <= value + tolerance).map_or(0, |index| index + 1);
        let on_menu = menu.iter().any(|entry| (entry - value).abs() <= tolerance);
        (at, usize::from(!on_menu))
    };
    let ((one_at, one_off), (other_at, other_off)) = (place(one), place(other));
    one_at.abs_diff(other_at) + one_off + other_off
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{Automatic, Policy};
    use attain_attainment::Ambition;
    use proptest::prelude::*;

    fn rules(tier: Tier) -> Rules {
        let automatic = Automatic {
            ambition: Ambition::Balanced,
            steps_max: 1,
            per_day_max: 10,
            days_between_min: 7,
            first_slo: false,
            services: Vec::new(),
            owners: vec!["team-a".into()],
        };
        Rules { automatic: Some(automatic), ..Policy::default().rules(tier).clone() }
    }

    fn availability(target_ratio: f64) -> Aim {
        Aim { target_ratio, latency_threshold_ms: None }
    }

    fn service() -> EntityId {
        EntityId::new("service_id", "cart").expect("valid")
    }

    fn case(service: &EntityId) -> Case<'_> {
        Case {
            service,
            owner: "team-a",
            high_confidence: true,
            fallback: false,
            window: TimeWindow::default(),
            offer: Some(availability(0.9995)),
            beside: Beside::Holds,
            in_force: Some(InForce { aim: availability(0.9993), window: TimeWindow::default(), automatic_ms: Some(0) }),
            now_ms: 7 * 86_400_000,
        }
    }

    #[test]
    fn every_condition_has_to_hold() {
        let service = service();
        let case = || case(&service);
        let in_force = || case().in_force.expect("there");
        assert_eq!(judge(&rules(Tier::Two), &case()), Ok("high confidence; 1 of at most 1 steps of the menu".into()));
        let cases = [
            (Case { owner: "team-b", ..case() }, Objection::NotNamed),
            (Case { high_confidence: false, ..case() }, Objection::Confidence),
            (Case { fallback: true, ..case() }, Objection::Fallback),
            (Case { offer: None, ..case() }, Objection::NoOffer),
            (Case { beside: Beside::Contradicts, ..case() }, Objection::Contradiction),
            (Case { beside: Beside::Unknown, ..case() }, Objection::NotHeld),
            (Case { beside: Beside::Contradicts, in_force: None, ..case() }, Objection::Contradiction),
            (Case { in_force: None, ..case() }, Objection::FirstSlo),
            (Case { window: TimeWindow::MONTH, ..case() }, Objection::OtherWindow),
            (Case { offer: Some(availability(0.9993)), ..case() }, Objection::NothingChanges),
            (Case { offer: Some(availability(0.9997)), ..case() }, Objection::TooFar),
            (Case { offer: Some(availability(0.998)), ..case() }, Objection::TooFar),
            (Case { in_force: Some(InForce { aim: availability(0.9994), ..in_force() }), ..case() }, Objection::TooFar),
            (Case { now_ms: 7 * 86_400_000 - 1, ..case() }, Objection::TooSoon),
        ];
        for (case, objection) in cases {
            assert_eq!(judge(&rules(Tier::Two), &case), Err(objection), "{case:?}");
        }
        assert_eq!(judge(&rules(Tier::One), &case()), Err(Objection::TierOne));
        assert_eq!(judge(Policy::default().rules(Tier::Two), &case()), Err(Objection::Off));
        let both = Rules { four_eyes: true, ..rules(Tier::Two) };
        assert_eq!(judge(&both, &case()), Err(Objection::FourEyes));
        let mut named = rules(Tier::Two);
        let automatic = named.automatic.as_mut().expect("there");
        automatic.services = vec![EntityId::new("service_id", "other").expect("valid")];
        automatic.first_slo = true;
        assert_eq!(judge(&named, &case()), Err(Objection::NotNamed));
        named.automatic.as_mut().expect("there").services.push(service.clone());
        assert!(judge(&named, &Case { in_force: None, ..case() }).is_ok());
    }

    #[test]
    fn thresholds_count_their_steps_too() {
        let aim = |target_ratio, threshold| Aim { target_ratio, latency_threshold_ms: Some(threshold) };
        assert_eq!(steps_between(aim(0.95, 200), aim(0.95, 250)), 1);
        assert_eq!(steps_between(aim(0.95, 200), aim(0.97, 300)), 3);
        assert_eq!(steps_between(aim(0.95, 210), aim(0.95, 200)), 1);
        assert_eq!(steps_between(aim(0.95, 5), aim(0.95, 10)), 2);
    }

    proptest! {
        #[test]
        fn no_accepted_change_is_further_than_the_policy_allows(
            from in 0..TARGET_MENU.len(), to in 0..TARGET_MENU.len(), steps_max in 1u32..=5,
        ) {
            let mut rules = rules(Tier::Three);
            rules.automatic.as_mut().expect("there").steps_max = steps_max;
            let service = service();
            let in_force = InForce { aim: availability(TARGET_MENU[from]), window: TimeWindow::default(), automatic_ms: None };
            let case =
                Case { offer: Some(availability(TARGET_MENU[to])), in_force: Some(in_force), ..case(&service) };
            prop_assert_eq!(judge(&rules, &case).is_ok(), from != to && from.abs_diff(to) <= steps_max as usize);
        }
    }
}
