//! Experiments: what each consists of, who gets which arm, and what may be said of it.

use std::collections::{BTreeMap, BTreeSet};

use attain_attainment::Ambition;
use attain_learning::{Difference, Interval, Side, TooFewUnits, UNITS_MIN, UnitOutcome, difference, ratio};
use attain_vocabulary::{DAY_MS, EntityId, InvalidValue, UnixMillis};
use serde::{Deserialize, Serialize};

use super::kept::sha256_hex;

/// Days from the start of an experiment to its horizon.
const DURATION_DAYS: std::ops::RangeInclusive<u32> = 7..=365;
/// Greatest p-value at which two arms count as different.
const P_VALUE_MAX: f64 = 0.05;
/// Ways to draw that are tried until both arms have enough units for a verdict.
const SALTS_MAX: u32 = 1_000;
/// Probability of each arm. It is exact for the units that were known at the start as well, of which as many are asked for in both arms:
/// whatever is asked, both arms are alike to a unit.
const PROPENSITY: f64 = 0.5;

/// What is drawn as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UnitKind {
    Team,
    Component,
}

/// What the verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    ExcessMisses,
    Tightness,
    Acceptance,
}

/// One way to recommend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arm {
    pub(crate) model_version: String,
    /// The offer that is suggested always; `None` as it is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ambition: Option<Ambition>,
}

/// What an experiment consists of; never changed once it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) note: String,
    pub(crate) unit: UnitKind,
    pub(crate) control: Arm,
    pub(crate) treatment: Arm,
    pub(crate) metric: Metric,
    pub(crate) start_ms: UnixMillis,
    pub(crate) horizon_ms: UnixMillis,
    pub(crate) started_by: String,
    pub(crate) salt: String,
}

/// Who ended an experiment before its horizon, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) time_ms: UnixMillis,
    pub(crate) by: String,
    pub(crate) reason: String,
}

/// An experiment as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Experiment {
    /// Position of its begin in the tenant's audit log.
    pub(crate) sequence: u64,
    pub(crate) plan: Plan,
    pub(crate) stop: Option<Stop>,
}

/// How far an experiment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Complete,
    Stopped,
}

/// What an experiment does with one recommendation; kept with its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Assigned {
    pub(crate) experiment_id: String,
    pub(crate) side: Side,
    pub(crate) unit: String,
    pub(crate) propensity: f64,
    pub(crate) arm: Arm,
}

/// What became of the recommendations of one unit: sums.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Lived {
    pub(crate) services: u32,
    pub(crate) recommendations: u32,
    /// Windows of suggested availability offers that were judged.
    pub(crate) windows: u32,
    pub(crate) missed: u32,
    /// Sum of the stated probabilities of a miss.
    pub(crate) stated: f64,
    /// Sum of the error budgets.
    pub(crate) allowed: f64,
    /// Sum of the bad fractions.
    pub(crate) observed: f64,
    /// Decisions of people on availability.
    pub(crate) decisions: u32,
    /// Those that accepted the suggested offer.
    pub(crate) accepted: u32,
}

/// What became of one arm.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ArmResult {
    pub(crate) units: u32,
    pub(crate) sums: Lived,
    pub(crate) missed_ratio: Option<Interval>,
    pub(crate) stated_ratio: Option<f64>,
    pub(crate) tightness: Option<Interval>,
    pub(crate) acceptance: Option<Interval>,
}

/// What may be said of an experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Conclusion {
    /// The horizon is not reached, or this many windows are still to be judged.
    TooEarly {
        open: u32,
    },
    Stopped,
    TooLittle(TooFewUnits),
    /// Whether the arms differ, and by how much.
    Compared {
        differs: bool,
        difference: Difference,
    },
}

impl Plan {
    /// Which arm a unit gets: by the first bit of the hash of the salt and its name.
    pub(crate) fn side(&self, unit: &str) -> Side {
        let digest = sha256_hex(format!("arm\n{}\n{unit}", self.salt).as_bytes());
        match digest.as_bytes()[0] {
            b'0'..=b'7' => Side::Control,
            _ => Side::Treatment,
        }
    }

    pub(crate) fn assigned(&self, unit: String) -> Assigned {
        let side = self.side(&unit);
        let arm = match side {
            Side::Control => &self.control,
            Side::Treatment => &self.treatment,
        };
        Assigned { experiment_id: self.id.clone(), side, unit, propensity: PROPENSITY, arm: arm.clone() }
    }

    /// Whether units get arms at an instant, as long as nobody stops it.
    pub(crate) fn lasts(&self, now_ms: UnixMillis) -> bool {
        now_ms < self.horizon_ms
    }

    /// The same plan with a salt that draws enough units of those known for each arm.
    ///
    /// # Errors
    /// Says how many units there are where they are too few.
    pub(crate) fn salted(mut self, units: &BTreeSet<String>) -> Result<Self, InvalidValue> {
        let needed = 2 * UNITS_MIN;
        if units.len() < needed {
            let reason = format!("{} are known; with fewer than {needed} there can be no verdict", units.len());
            return Err(InvalidValue::new("unit", "too_few_units", reason));
        }
        for number in 0..SALTS_MAX {
            self.salt = sha256_hex(format!("salt\n{}\n{number}", self.id).as_bytes());
            let treated = units.iter().filter(|unit| self.side(unit) == Side::Treatment).count();
            if treated >= UNITS_MIN && units.len() - treated >= UNITS_MIN {
                break;
            }
        }
        Ok(self)
    }
}

impl Assigned {
    /// What a stored recommendation is held against: another experiment, or another arm, is another recommendation.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.experiment_id, side_word(self.side))
    }
}

impl Experiment {
    pub(crate) fn state(&self, now_ms: UnixMillis) -> State {
        match &self.stop {
            Some(_) => State::Stopped,
            None if self.plan.lasts(now_ms) => State::Running,
            None => State::Complete,
        }
    }
}

/// The team's unit: a service without an owner is one of its own.
pub(crate) fn team(service: &str, owner: &str) -> String {
    if owner.is_empty() { format!("service {service}") } else { format!("team {owner}") }
}

/// Services that hang together by edges, whichever way: the first name of each one's component, by name.
pub(crate) fn connected<'a>(
    services: impl IntoIterator<Item = &'a EntityId>,
    edges: impl IntoIterator<Item = (&'a EntityId, &'a EntityId)>,
) -> BTreeMap<EntityId, String> {
    let mut next: BTreeMap<&EntityId, Vec<&EntityId>> = services.into_iter().map(|id| (id, Vec::new())).collect();
    for (a, b) in edges {
        next.entry(a).or_default().push(b);
        next.entry(b).or_default().push(a);
    }
    let mut found: BTreeMap<EntityId, String> = BTreeMap::new();
    for first in next.keys() {
        let mut waiting = vec![*first];
        while let Some(id) = waiting.pop() {
            if found.contains_key(id) {
                continue;
            }
            // Names are walked in their order: the first one of a component is met first.
            found.insert(id.clone(), first.to_string());
            waiting.extend(&next[id]);
        }
    }
    found
}

/// The instant of the horizon.
pub(crate) fn horizon(start_ms: UnixMillis, duration_days: u32) -> Result<UnixMillis, InvalidValue> {
    if DURATION_DAYS.contains(&duration_days) {
        return Ok(start_ms + i64::from(duration_days) * DAY_MS);
    }
    let (least, most) = (DURATION_DAYS.start(), DURATION_DAYS.end());
    let reason = format!("{duration_days} is outside {least} to {most} days");
    Err(InvalidValue::new("duration_days", "out_of_range", reason))
}

/// Adds up one arm.
pub(crate) fn arm_result(units: &[(Side, Lived)], side: Side) -> ArmResult {
    let of = units.iter().filter(|(of, _)| *of == side);
    let mut result = ArmResult { units: of.clone().count() as u32, ..ArmResult::default() };
    for (_, lived) in of {
        let sums = &mut result.sums;
        sums.services += lived.services;
        sums.recommendations += lived.recommendations;
        sums.windows += lived.windows;
        sums.missed += lived.missed;
        sums.stated += lived.stated;
        sums.allowed += lived.allowed;
        sums.observed += lived.observed;
        sums.decisions += lived.decisions;
        sums.accepted += lived.accepted;
    }
    let windows = result.sums.windows;
    let missed = |lived: &Lived| (f64::from(lived.missed), f64::from(lived.windows));
    result.missed_ratio = ratio(&outcomes(units, missed), side);
    result.stated_ratio = (windows > 0).then(|| result.sums.stated / f64::from(windows));
    result.tightness = ratio(&outcomes(units, of_metric(Metric::Tightness)), side);
    result.acceptance = ratio(&outcomes(units, of_metric(Metric::Acceptance)), side);
    result
}

/// What may be said. `open` windows are still to be judged.
pub(crate) fn conclude(experiment: &Experiment, units: &[(Side, Lived)], open: u32, now_ms: UnixMillis) -> Conclusion {
    match experiment.state(now_ms) {
        State::Stopped => return Conclusion::Stopped,
        State::Running => return Conclusion::TooEarly { open },
        State::Complete if open > 0 => return Conclusion::TooEarly { open },
        State::Complete => {}
    }
    let plan = &experiment.plan;
    let seed = u64::from_str_radix(&plan.salt[..16.min(plan.salt.len())], 16).unwrap_or_default();
    match difference(&outcomes(units, of_metric(plan.metric)), seed) {
        Ok(difference) => Conclusion::Compared { differs: difference.p_value <= P_VALUE_MAX, difference },
        Err(few) => Conclusion::TooLittle(few),
    }
}

fn outcomes(units: &[(Side, Lived)], of: impl Fn(&Lived) -> (f64, f64)) -> Vec<UnitOutcome> {
    let outcome = |(side, lived): &(Side, Lived)| {
        let (numerator, denominator) = of(lived);
        UnitOutcome { side: *side, numerator, denominator }
    };
    units.iter().map(outcome).collect()
}

/// Numerator and denominator of a metric.
fn of_metric(metric: Metric) -> fn(&Lived) -> (f64, f64) {
    match metric {
        Metric::ExcessMisses => |lived| (f64::from(lived.missed) - lived.stated, f64::from(lived.windows)),
        Metric::Tightness => |lived| (lived.allowed, lived.observed),
        Metric::Acceptance => |lived| (f64::from(lived.accepted), f64::from(lived.decisions)),
    }
}

/// Word of an arm in storage.
pub(crate) fn side_word(side: Side) -> &'static str {
    match side {
        Side::Control => "control",
        Side::Treatment => "treatment",
    }
}

/// The arm behind a stored word.
pub(crate) fn side_from_word(word: &str) -> Option<Side> {
    Side::ALL.into_iter().find(|side| side_word(*side) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(ambition: Option<Ambition>) -> Arm {
        Arm { model_version: "m".into(), ambition }
    }

    fn plan() -> Plan {
        Plan {
            id: "exp-1".into(),
            name: "bolder".into(),
            note: String::new(),
            unit: UnitKind::Team,
            control: arm(None),
            treatment: arm(Some(Ambition::Ambitious)),
            metric: Metric::Acceptance,
            start_ms: 0,
            horizon_ms: 56 * DAY_MS,
            started_by: "ada".into(),
            salt: "abcdef0123456789".into(),
        }
    }

    fn id(name: &str) -> EntityId {
        EntityId::new("id", name).expect("valid")
    }

    #[test]
    fn a_unit_keeps_its_arm_and_half_of_them_get_each() {
        let plan = plan();
        let units: Vec<String> = (0..4_000).map(|i| team("x", &format!("team-{i}"))).collect();
        let treated = units.iter().filter(|unit| plan.side(unit) == Side::Treatment).count();
        // Three standard deviations of a fair draw.
        assert!((treated as i64 - 2_000).abs() < 95, "{treated}");
        assert!(units.iter().all(|unit| plan.assigned(unit.clone()) == plan.assigned(unit.clone())));
        let other = Plan { salt: "another".into(), ..plan.clone() };
        let moved = units.iter().filter(|unit| plan.side(unit) != other.side(unit)).count();
        assert!((moved as i64 - 2_000).abs() < 95, "another salt is another draw: {moved}");
        let assigned = plan.assigned("team-a".into());
        assert_eq!(assigned.arm.ambition.is_some(), assigned.side == Side::Treatment);
    }

    #[test]
    fn a_salt_draws_enough_for_both_arms_or_says_what_is_lacking() {
        for count in 8..30 {
            let units: BTreeSet<String> = (0..count).map(|i| format!("team {i}")).collect();
            let salted = plan().salted(&units).expect("enough");
            let treated = units.iter().filter(|unit| salted.side(unit) == Side::Treatment).count();
            assert!(treated >= UNITS_MIN && units.len() - treated >= UNITS_MIN, "{treated} of {count}");
        }
        let few = (0..7).map(|i| format!("team {i}")).collect();
        let refused = plan().salted(&few).expect_err("too few");
        assert_eq!((refused.field.as_str(), refused.code), ("unit", "too_few_units"));
    }

    #[test]
    fn what_hangs_together_is_one_component() {
        let ids = ["a", "b", "c", "d", "e", "f"].map(id);
        let edges = [(&ids[1], &ids[0]), (&ids[2], &ids[1]), (&ids[4], &ids[3])];
        let found = connected(&ids, edges);
        let of: Vec<&str> = found.values().map(String::as_str).collect();
        assert_eq!(of, ["a", "a", "a", "d", "d", "f"]);
    }

    fn lived(windows: u32, missed: u32, decisions: u32, accepted: u32) -> Lived {
        Lived {
            services: 1,
            recommendations: 2,
            windows,
            missed,
            stated: 0.1 * f64::from(windows),
            allowed: 0.02 * f64::from(windows),
            observed: 0.01 * f64::from(windows),
            decisions,
            accepted,
        }
    }

    #[test]
    fn nothing_is_concluded_before_the_horizon_and_once_after_it() {
        let units: Vec<(Side, Lived)> = (0..12)
            .map(|i| {
                let side = if i < 6 { Side::Control } else { Side::Treatment };
                (side, lived(10, 1, 10, if i < 6 { 3 } else { 8 }))
            })
            .collect();
        let of = |stop: Option<Stop>| Experiment { sequence: 1, plan: plan(), stop };
        let horizon = plan().horizon_ms;
        assert_eq!(conclude(&of(None), &units, 0, horizon - 1), Conclusion::TooEarly { open: 0 });
        assert_eq!(conclude(&of(None), &units, 3, horizon), Conclusion::TooEarly { open: 3 });
        let Conclusion::Compared { differs: true, difference } = conclude(&of(None), &units, 0, horizon) else {
            panic!("five of ten accept more")
        };
        assert!((difference.interval.value - 0.5).abs() < 1e-12);
        assert_eq!(conclude(&of(None), &units, 0, i64::MAX), conclude(&of(None), &units, 0, horizon));
        let stop = Stop { time_ms: 5, by: "ada".into(), reason: "why".into() };
        assert_eq!(conclude(&of(Some(stop)), &units, 0, horizon), Conclusion::Stopped);
        let few = conclude(&of(None), &units[..8], 0, horizon);
        assert_eq!(few, Conclusion::TooLittle(TooFewUnits { control: 6, treatment: 2 }));
    }

    #[test]
    fn an_arm_is_the_sum_of_its_units() {
        let units = [(Side::Control, lived(10, 1, 4, 1)), (Side::Control, lived(30, 5, 0, 0))];
        let result = arm_result(&units, Side::Control);
        assert_eq!((result.units, result.sums.windows, result.sums.recommendations), (2, 40, 4));
        assert_eq!(result.missed_ratio.map(|ratio| ratio.value), Some(0.15));
        assert_eq!(result.acceptance.map(|ratio| ratio.value), Some(0.25));
        assert!((result.tightness.expect("failures").value - 2.0).abs() < 1e-12);
        assert!((result.stated_ratio.expect("windows") - 0.1).abs() < 1e-12);
        assert_eq!(arm_result(&units, Side::Treatment), ArmResult::default());
    }

    #[test]
    fn horizons_are_bounded() {
        assert_eq!(horizon(1, 7).ok(), Some(1 + 7 * DAY_MS));
        assert_eq!(horizon(0, 6).expect_err("too soon").field, "duration_days");
        assert!(horizon(0, 366).is_err());
        for side in Side::ALL {
            assert_eq!(side_from_word(side_word(side)), Some(side));
        }
    }
}
