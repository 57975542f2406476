//! Rows of the wire as values of the domain.

use attain_proto::convert::{unix_millis, word};
use attain_proto::vocabulary::v1 as wire;
use attain_vocabulary::{DependencyMode, EntityId, EntityKind, InvalidValue, Ratio, Source, Tier};

use crate::domain::scenario::{Amendment, SaidTerms};
use crate::domain::snapshot::{Dependency, Node, Terms};

const RETRIES_MAX: u32 = 10;

/// A node. Unspecified kinds are services.
///
/// # Errors
/// Names the field that cannot be right.
pub(crate) fn node(entity: &wire::Entity) -> Result<Node, InvalidValue> {
    Ok(Node {
        id: EntityId::new("id", &entity.id)?,
        kind: word::<wire::EntityKind, EntityKind>("kind", entity.kind)?.unwrap_or(EntityKind::Service),
        tier: word::<wire::Tier, Tier>("tier", entity.tier)?,
        region: (!entity.region.is_empty()).then(|| entity.region.as_str().into()),
        published_availability_ratio: ratio("published_availability_ratio", entity.published_availability_ratio)?,
        traced: sources(&entity.sources)?.contains(&Source::Traces),
    })
}

/// An edge between nodes of which `named` has the ids of some. Unspecified modes are hard.
///
/// # Errors
/// Names the field that cannot be right.
pub(crate) fn dependency(
    row: &wire::Dependency,
    named: impl Fn(&str) -> Option<EntityId>,
) -> Result<Dependency, InvalidValue> {
    let Amendment { caller, callee, said } = amendment(row, named)?;
    let sources = sources(&row.sources)?;
    let terms = Terms {
        declared: [Source::Declared, Source::Catalogue].iter().any(|source| sources.contains(source)),
        traced: sources.contains(&Source::Traces) || row.observed_call_count > 0,
        observed_call_count: row.observed_call_count,
        observed_failure_count: row.observed_failure_count,
        observed_rescued_count: row.observed_rescued_count,
        last_seen_ms: row.last_seen_time.as_ref().map(unix_millis),
        ..said.over(None)
    };
    Ok(Dependency { caller, callee, terms })
}

/// What is said of an edge, but for what was observed.
///
/// # Errors
/// Names the field that cannot be right.
pub(crate) fn amendment(
    row: &wire::Dependency,
    named: impl Fn(&str) -> Option<EntityId>,
) -> Result<Amendment, InvalidValue> {
    let id = |field: &str, name: &str| named(name).map_or_else(|| EntityId::new(field, name), Ok);
    let caller = id("caller_id", &row.caller_id)?;
    let callee = id("callee_id", &row.callee_id)?;
    if caller == callee {
        let reason = format!("`{caller}` cannot depend on itself");
        return Err(InvalidValue::new("callee_id", "self_dependency", reason));
    }
    let said = SaidTerms {
        mode: word::<wire::DependencyMode, DependencyMode>("mode", row.mode)?,
        call_rate: call_rate(row.call_rate)?,
        call_fraction: ratio("call_fraction", row.call_fraction)?,
        fallback_success_ratio: ratio("fallback_success_ratio", row.fallback_success_ratio)?,
        retry_count: retry_count(row.retry_count)?,
        timeout_ms: row.timeout_ms.filter(|&timeout_ms| timeout_ms > 0),
        group: (!row.redundancy_group.is_empty()).then(|| row.redundancy_group.clone()),
        group_required_count: required_count(row.redundancy_required_count)?,
    };
    Ok(Amendment { caller, callee, said })
}

fn sources(numbers: &[i32]) -> Result<Vec<Source>, InvalidValue> {
    let words = numbers.iter().map(|&number| word::<wire::Source, Source>("sources", number));
    Ok(words.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn ratio(field: &str, value: Option<f64>) -> Result<Option<f64>, InvalidValue> {
    value.map(|value| Ratio::new(field, value).map(Ratio::get)).transpose()
}

fn call_rate(value: Option<f64>) -> Result<Option<f64>, InvalidValue> {
    match value {
        Some(rate) if !rate.is_finite() || rate < 0.0 => {
            let reason = format!("{rate} is no number of calls a request");
            Err(InvalidValue::new("call_rate", "out_of_range", reason))
        }
        other => Ok(other),
    }
}

fn retry_count(value: Option<u32>) -> Result<Option<u32>, InvalidValue> {
    match value {
        Some(count) if count > RETRIES_MAX => {
            let reason = format!("{count} further attempts; at most {RETRIES_MAX} make sense");
            Err(InvalidValue::new("retry_count", "out_of_range", reason))
        }
        other => Ok(other),
    }
}

fn required_count(value: Option<u32>) -> Result<Option<u32>, InvalidValue> {
    match value {
        Some(0) => {
            let reason = "at least one member of a group must work";
            Err(InvalidValue::new("redundancy_required_count", "out_of_range", reason))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> wire::Dependency {
        wire::Dependency { caller_id: "a".into(), callee_id: "b".into(), ..Default::default() }
    }

    #[test]
    fn what_is_not_said_is_read_as_the_contract_says() {
        let dependency = dependency(&row(), |_| None).expect("valid");
        assert_eq!(dependency.terms, Terms::of_mode(DependencyMode::Hard));
        let entity = wire::Entity { id: "a".into(), ..Default::default() };
        assert_eq!(node(&entity).map(|node| node.kind), Ok(EntityKind::Service));
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        type Spoil = fn(&mut wire::Dependency);
        let cases: [(&str, Spoil); 8] = [
            ("caller_id", |row| row.caller_id = String::new()),
            ("callee_id", |row| row.callee_id = "a".into()),
            ("mode", |row| row.mode = 99),
            ("call_rate", |row| row.call_rate = Some(f64::NAN)),
            ("call_fraction", |row| row.call_fraction = Some(1.5)),
            ("fallback_success_ratio", |row| row.fallback_success_ratio = Some(-0.1)),
            ("retry_count", |row| row.retry_count = Some(11)),
            ("redundancy_required_count", |row| row.redundancy_required_count = Some(0)),
        ];
        for (field, spoil) in cases {
            let mut row = row();
            spoil(&mut row);
            assert_eq!(dependency(&row, |_| None).map_err(|invalid| invalid.field), Err(field.to_owned()));
        }
    }
}
