//! Experiments as they are sent and asked for.

use attain_attainment::{Ambition, number};
use attain_learning::{Interval, Side};
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind;
use attain_vocabulary::{InvalidValue, UnixMillis};

use super::slo;
use crate::domain::experiments::{
    Arm, ArmResult, Assigned, Conclusion, Experiment, Metric, Plan, State, UnitKind, side_word,
};

pub(crate) fn experiment(experiment: &Experiment, now_ms: UnixMillis) -> wire::Experiment {
    let plan = &experiment.plan;
    let stop = experiment.stop.as_ref();
    let state = match experiment.state(now_ms) {
        State::Running => wire::ExperimentState::Running,
        State::Complete => wire::ExperimentState::Complete,
        State::Stopped => wire::ExperimentState::Stopped,
    };
    let unit = match plan.unit {
        UnitKind::Team => wire::ExperimentUnit::Team,
        UnitKind::Component => wire::ExperimentUnit::Component,
    };
    let metric = match plan.metric {
        Metric::ExcessMisses => wire::ExperimentMetric::ExcessMisses,
        Metric::Tightness => wire::ExperimentMetric::Tightness,
        Metric::Acceptance => wire::ExperimentMetric::Acceptance,
    };
    let told = |arm: &Arm| wire::ExperimentArm {
        model_version: arm.model_version.clone(),
        ambition: arm.ambition.map_or(wire::Ambition::Unspecified, slo::ambition) as i32,
    };
    wire::Experiment {
        id: plan.id.clone(),
        name: plan.name.clone(),
        unit: unit as i32,
        control: Some(told(&plan.control)),
        treatment: Some(told(&plan.treatment)),
        metric: metric as i32,
        state: state as i32,
        start_time: Some(timestamp(plan.start_ms)),
        horizon_time: Some(timestamp(plan.horizon_ms)),
        started_by: plan.started_by.clone(),
        note: plan.note.clone(),
        salt: plan.salt.clone(),
        stop_time: stop.map(|stop| timestamp(stop.time_ms)),
        stopped_by: stop.map(|stop| stop.by.clone()).unwrap_or_default(),
        stop_reason: stop.map(|stop| stop.reason.clone()).unwrap_or_default(),
    }
}

pub(crate) fn assignment(assigned: &Assigned) -> wire::ExperimentAssignment {
    wire::ExperimentAssignment {
        experiment_id: assigned.experiment_id.clone(),
        arm: arm_name(assigned.side) as i32,
        unit: assigned.unit.clone(),
        propensity: assigned.propensity,
    }
}

fn arm_name(side: Side) -> wire::ExperimentArmName {
    match side {
        Side::Control => wire::ExperimentArmName::Control,
        Side::Treatment => wire::ExperimentArmName::Treatment,
    }
}

pub(crate) fn arm_result(side: Side, result: &ArmResult) -> wire::ExperimentArmResult {
    let sums = &result.sums;
    wire::ExperimentArmResult {
        arm: arm_name(side) as i32,
        unit_count: result.units,
        service_count: sums.services,
        recommendation_count: sums.recommendations,
        window_count: sums.windows,
        missed_ratio: result.missed_ratio.map(estimate),
        stated_miss_ratio: result.stated_ratio,
        allowed_over_observed: result.tightness.map(estimate),
        decision_count: sums.decisions,
        acceptance_ratio: result.acceptance.map(estimate),
    }
}

fn estimate(interval: Interval) -> wire::ExperimentEstimate {
    let (low, high) = interval.ends.unzip();
    wire::ExperimentEstimate { value: interval.value, low, high }
}

pub(crate) fn verdict(plan: &Plan, conclusion: &Conclusion) -> wire::ExperimentVerdict {
    use wire::ExperimentConclusion as Word;
    let figure = match plan.metric {
        Metric::ExcessMisses => "the share of windows that missed, less what was stated,",
        Metric::Tightness => "the budget allowed over what was observed",
        Metric::Acceptance => "the share of suggestions that was accepted",
    };
    let (word, detail) = match conclusion {
        Conclusion::TooEarly { open: 0 } => {
            (Word::TooEarly, "The horizon is not reached: nothing may be concluded from these figures.".to_owned())
        }
        Conclusion::TooEarly { open } => {
            (Word::TooEarly, format!("{open} windows are still to be judged: nothing may be concluded until then."))
        }
        Conclusion::Stopped => {
            (Word::Stopped, "It was stopped before its horizon: nothing is concluded from it.".to_owned())
        }
        Conclusion::TooLittle(few) => (
            Word::TooLittle,
            format!(
                "{} units of the control and {} of the treatment have what {figure} is made of; {} of each are needed.",
                few.control,
                few.treatment,
                attain_learning::UNITS_MIN
            ),
        ),
        Conclusion::Compared { differs, difference } => {
            let (value, p_value) = (difference.interval.value, number(difference.p_value));
            let word = match (differs, value < 0.0) {
                (false, _) => Word::NoDifference,
                (true, true) => Word::Lower,
                (true, false) => Word::Higher,
            };
            let by = number(value.abs());
            let way = if value < 0.0 { "lower" } else { "higher" };
            let what = if *differs { "" } else { ", which chance alone may do" };
            (word, format!("In the treatment {figure} is {way} by {by} (p = {p_value}){what}."))
        }
    };
    let compared = match conclusion {
        Conclusion::Compared { difference, .. } => Some(difference),
        _ => None,
    };
    wire::ExperimentVerdict {
        conclusion: word as i32,
        difference: compared.map(|difference| estimate(difference.interval)),
        p_value: compared.map(|difference| difference.p_value),
        detail,
    }
}

/// The availability offer that a recommendation suggests; `None` where it has none.
pub(crate) fn suggested_availability(recommendation: &wire::Recommendation) -> Option<Ambition> {
    let kind = SliKind::Availability as i32;
    let suggested = recommendation.suggested.iter().find(|suggested| suggested.kind == kind)?;
    slo::ambition_of(suggested.ambition).ok()
}

pub(crate) fn unit_kind(number: i32) -> Result<UnitKind, InvalidValue> {
    match wire::ExperimentUnit::try_from(number) {
        Ok(wire::ExperimentUnit::Team) => Ok(UnitKind::Team),
        Ok(wire::ExperimentUnit::Component) => Ok(UnitKind::Component),
        Ok(wire::ExperimentUnit::Unspecified) => {
            Err(InvalidValue::new("unit", "required", "say what is drawn as one: a team or a component"))
        }
        Err(_) => Err(InvalidValue::new("unit", "unknown", format!("{number} is no unit of an experiment"))),
    }
}

pub(crate) fn metric(number: i32) -> Result<Metric, InvalidValue> {
    match wire::ExperimentMetric::try_from(number) {
        Ok(wire::ExperimentMetric::ExcessMisses) => Ok(Metric::ExcessMisses),
        Ok(wire::ExperimentMetric::Tightness) => Ok(Metric::Tightness),
        Ok(wire::ExperimentMetric::Acceptance) => Ok(Metric::Acceptance),
        Ok(wire::ExperimentMetric::Unspecified) => {
            Err(InvalidValue::new("metric", "required", "say what the verdict is about, before anything is seen"))
        }
        Err(_) => Err(InvalidValue::new("metric", "unknown", format!("{number} is no metric of an experiment"))),
    }
}

/// An arm as it was asked for: an empty version is the live one still.
pub(crate) fn arm(asked: Option<&wire::ExperimentArm>, field: &str) -> Result<Arm, InvalidValue> {
    let asked = asked.cloned().unwrap_or_default();
    let ambition = match asked.ambition {
        0 => None,
        number => Some(slo::ambition_of(number).map_err(|invalid| invalid.within(field))?),
    };
    Ok(Arm { model_version: asked.model_version, ambition })
}

/// A change of arm, as the list of what changed since the version before names it.
pub(crate) fn named(assigned: &wire::ExperimentAssignment) -> String {
    let side = if assigned.arm() == wire::ExperimentArmName::Treatment { Side::Treatment } else { Side::Control };
    format!("{} ({})", assigned.experiment_id, side_word(side))
}
