//! Requests as values of the domain.

use std::time::Duration;

use attain_proto::graph::v1::latency_change::Change as WireLatency;
use attain_proto::graph::v1::outage::Place as WirePlace;
use attain_proto::graph::v1::scenario_change::Change as WireChange;
use attain_proto::graph::v1::{
    AnalyzeLatencyRequest, ComponentRate, Direction, EvaluateAvailabilityRequest, EvaluateLatencyRequest,
    LatencyChange, LatencyThreshold, MeasuredLatency, ScenarioChange, SolveTargetsRequest, TargetInForce,
};
use attain_vocabulary::{InvalidValue, LatencyHistogram, Objective, Ratio};

use crate::domain::fleet::{NamedPromise, Promise};
use crate::domain::scenario::{Change, NamedRate, Place};
use crate::domain::slowdown;
use crate::domain::structure::Rate;
use crate::domain::walk::Heading;
use crate::error::Error;
use crate::queries::{LatencyQuestion, Question, SlowdownQuestion, TargetsQuestion};
use crate::topology;

/// Most times as long, and most milliseconds longer, that something can get.
const FACTOR_MAX: f64 = 1e6;
const ADDED_MS_MAX: f64 = 1e9;
/// Most thresholds that sampled requests are held against.
const SLOW_THRESHOLDS_MAX: usize = 64;

pub(crate) fn heading(direction: i32) -> Result<Heading, Error> {
    match Direction::try_from(direction) {
        Ok(Direction::Unspecified | Direction::Downstream) => Ok(Heading::Downstream),
        Ok(Direction::Upstream) => Ok(Heading::Upstream),
        Ok(Direction::Both) => Ok(Heading::Both),
        Err(_) => {
            let reason = format!("{direction} is no direction that this version knows");
            Err(InvalidValue::new("direction", "unknown_value", reason).into())
        }
    }
}

pub(crate) fn wait(wait_ms: i64) -> Result<Duration, Error> {
    u64::try_from(wait_ms)
        .map(Duration::from_millis)
        .map_err(|_| InvalidValue::new("wait", "out_of_range", "nobody can wait for less than no time").into())
}

pub(crate) fn question(request: EvaluateAvailabilityRequest) -> Result<Question, Error> {
    let rates = each("rates", &request.rates, rate)?;
    let changes = each("changes", &request.changes, change)?;
    let confidence_min = Ratio::new("confidence_min", request.confidence_min)?.get();
    Ok(Question { service_ids: request.service_ids, rates, changes, seed: request.seed, confidence_min })
}

pub(crate) fn targets(request: &SolveTargetsRequest) -> Result<TargetsQuestion, Error> {
    Ok(TargetsQuestion {
        promises: each("targets", &request.targets, promise)?,
        rates: each("rates", &request.rates, rate)?,
        menu: each("menu_ratios", &request.menu_ratios, |ratio| Objective::new("", *ratio))?,
        repairs_max: request.repairs_max as usize,
        scope: request.scope_ids.clone(),
    })
}

pub(crate) fn latency(request: AnalyzeLatencyRequest) -> Result<LatencyQuestion, Error> {
    let threshold_ms = match request.threshold_ms {
        0.0 => None,
        threshold_ms => Some(positive("threshold_ms", threshold_ms)?),
    };
    let slower = match (request.slower_callee_id, request.slower_factor) {
        (id, 0.0) if id.is_empty() => None,
        (id, _) if id.is_empty() => {
            return Err(InvalidValue::new("slower_callee_id", "required", "say who is to be slower").into());
        }
        (id, factor) => Some((id, positive("slower_factor", factor)?)),
    };
    if request.slow_thresholds_ms.len() > SLOW_THRESHOLDS_MAX {
        let reason = format!("{} thresholds; at most {SLOW_THRESHOLDS_MAX} are read", request.slow_thresholds_ms.len());
        return Err(InvalidValue::new("slow_thresholds_ms", "too_long", reason).into());
    }
    let slow_thresholds_ms = each("slow_thresholds_ms", &request.slow_thresholds_ms, |ms| positive("", *ms))?;
    let sampled_only = request.sampled_only;
    Ok(LatencyQuestion { service_id: request.service_id, threshold_ms, slower, slow_thresholds_ms, sampled_only })
}

pub(crate) fn slowdown(request: EvaluateLatencyRequest) -> Result<SlowdownQuestion, Error> {
    Ok(SlowdownQuestion {
        service_ids: request.service_ids,
        changes: each("changes", &request.changes, latency_effect)?,
        measured: each("measured", &request.measured, measured)?,
        thresholds_ms: each("thresholds", &request.thresholds, threshold)?.into_iter().collect(),
    })
}

fn measured(row: &MeasuredLatency) -> Result<(String, LatencyHistogram), InvalidValue> {
    let required = || InvalidValue::new("latency", "required", "say how long requests took");
    let latency = LatencyHistogram::try_from(row.latency.as_ref().ok_or_else(required)?)?;
    if latency.count() == 0 {
        return Err(required());
    }
    Ok((row.service_id.clone(), latency))
}

fn threshold(row: &LatencyThreshold) -> Result<(String, f64), InvalidValue> {
    Ok((row.service_id.clone(), positive("threshold_ms", row.threshold_ms)?))
}

fn positive(field: &str, value: f64) -> Result<f64, InvalidValue> {
    let wrong = || InvalidValue::new(field, "out_of_range", format!("{value} is no positive number"));
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(wrong()) }
}

/// What a change means for latency; a change that no other question would take is refused as there.
fn latency_effect(row: &ScenarioChange) -> Result<slowdown::Change, InvalidValue> {
    if let Some(WireChange::Latency(latency)) = &row.change {
        return pace(latency);
    }
    Ok(match change(row)? {
        Change::Outage(place) => slowdown::Change::Outage(place),
        Change::Remove { caller_id, callee_id } => slowdown::Change::Remove { caller_id, callee_id },
        Change::Set(amendment) => slowdown::Change::Set(amendment),
        _ => slowdown::Change::Other,
    })
}

fn pace(row: &LatencyChange) -> Result<slowdown::Change, InvalidValue> {
    let entity_id = row.entity_id.clone();
    let out_of_range = |field, reason| Err(InvalidValue::new(field, "out_of_range", reason).within("latency"));
    match row.change {
        None => {
            let reason = "say by how much: factor or added_ms";
            Err(InvalidValue::new("change", "required", reason).within("latency"))
        }
        Some(WireLatency::Factor(factor)) if !(f64::MIN_POSITIVE..=FACTOR_MAX).contains(&factor) => {
            out_of_range("factor", format!("{factor} is not above 0 and at most {FACTOR_MAX}"))
        }
        Some(WireLatency::AddedMs(added_ms)) if !(-ADDED_MS_MAX..=ADDED_MS_MAX).contains(&added_ms) => {
            out_of_range("added_ms", format!("{added_ms} is not between -{ADDED_MS_MAX} and {ADDED_MS_MAX}"))
        }
        Some(WireLatency::Factor(factor)) => Ok(slowdown::Change::Times { entity_id, factor }),
        Some(WireLatency::AddedMs(added_ms)) => Ok(slowdown::Change::Plus { entity_id, added_ms }),
    }
}

fn promise(target: &TargetInForce) -> Result<NamedPromise, InvalidValue> {
    let promise = Promise { target: Objective::new("target_ratio", target.target_ratio)?, fixed: target.fixed };
    Ok(NamedPromise { service_id: target.service_id.clone(), promise })
}

fn each<Row, Value>(
    list: &str,
    rows: &[Row],
    read: impl Fn(&Row) -> Result<Value, InvalidValue>,
) -> Result<Vec<Value>, Error> {
    let rows = rows.iter().enumerate();
    let read = rows.map(|(index, row)| read(row).map_err(|invalid| invalid.within(&format!("{list}/{index}"))));
    Ok(read.collect::<Result<_, _>>()?)
}

fn rate(rate: &ComponentRate) -> Result<NamedRate, InvalidValue> {
    let failure_ratio = Ratio::new("own_failure_ratio", rate.own_failure_ratio)?.get();
    Ok(NamedRate {
        entity_id: rate.entity_id.clone(),
        rate: Rate { failure_ratio, includes_dependencies: rate.includes_dependencies },
    })
}

fn change(change: &ScenarioChange) -> Result<Change, InvalidValue> {
    match &change.change {
        None => Err(InvalidValue::new("change", "required", "a change of a kind that this version knows is required")),
        Some(WireChange::AttainedRatio(attained)) => {
            let ratio = Ratio::new("availability_ratio", attained.availability_ratio);
            let availability_ratio = ratio.map_err(|invalid| invalid.within("attained_ratio"))?.get();
            Ok(Change::Attained { entity_id: attained.entity_id.clone(), availability_ratio })
        }
        Some(WireChange::SetDependency(row)) => {
            let amendment = topology::amendment(row, |_| None).map_err(|invalid| invalid.within("set_dependency"))?;
            Ok(Change::Set(Box::new(amendment)))
        }
        Some(WireChange::RemoveDependency(ends)) => {
            Ok(Change::Remove { caller_id: ends.caller_id.clone(), callee_id: ends.callee_id.clone() })
        }
        Some(WireChange::OwnFailure(own)) => {
            let ratio = Ratio::new("own_failure_ratio", own.own_failure_ratio);
            let failure_ratio = ratio.map_err(|invalid| invalid.within("own_failure"))?.get();
            Ok(Change::OwnFailure { entity_id: own.entity_id.clone(), failure_ratio })
        }
        Some(WireChange::Latency(latency)) => {
            pace(latency).map(|_| Change::Pace { entity_id: latency.entity_id.clone() })
        }
        Some(WireChange::Outage(outage)) => match &outage.place {
            Some(WirePlace::EntityId(id)) => Ok(Change::Outage(Place::Entity(id.clone()))),
            Some(WirePlace::Region(region)) => Ok(Change::Outage(Place::Region(region.clone()))),
            None => Err(InvalidValue::new("outage/place", "required", "say what is down: entity_id or region")),
        },
    }
}
