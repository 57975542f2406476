//! What to promise outside. Nothing is written.

use attain_attainment::percent;
use attain_attainment::sla::{CreditStep, NoSuggestion, Suggestion, miss_probability_max, suggest};
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, Ratio, SliKind};

use crate::engine::Engine;
use crate::gather::blocking;
use crate::{Error, measured, message};

/// Most steps of a schedule.
const STEPS_MAX: usize = 10;

/// Suggests an agreement below the availability SLO in force.
pub(crate) async fn suggested(
    engine: &Engine,
    context: &CallContext,
    request: &wire::GetSlaSuggestionRequest,
) -> Result<wire::GetSlaSuggestionResponse, Error> {
    let service = EntityId::new("service_id", &request.service_id)?;
    let steps = steps(&request.credit_steps)?;
    let asked = risk(request.miss_probability_max)?;
    let measured = measured::read(engine, context, &service).await?;
    let risk = asked.unwrap_or_else(|| miss_probability_max(measured.facts.tier));
    blocking(move || {
        let slo = measured.slos.iter().find(|slo| slo.kind == SliKind::Availability);
        let objective = slo.map(|slo| slo.target.target_ratio());
        let history = measured.history(SliKind::Availability, None);
        let found = suggest(&measured.constants, &history, measured.as_of_ms, objective, risk, &steps);
        let observed_days = history.series().covered_days();
        let detail = match &found {
            Ok(suggestion) => reasons(suggestion, objective),
            Err(NoSuggestion::NothingMeasured) => "No request was measured: nothing can be promised.".to_owned(),
            Err(NoSuggestion::NoneSafe) => format!(
                "No level on the menu is missed by a calendar month with at most {}, looser than the SLO in force, and told \
                 by the traffic.",
                percent(risk)
            ),
        };
        let suggestion =
            found.ok().map(|suggestion| message::agreement::suggestion(&suggestion, objective, steps.is_empty(), observed_days));
        let as_of_time = Some(timestamp(measured.as_of_ms));
        wire::GetSlaSuggestionResponse { suggestion, detail, as_of_time, notes: measured.notes }
    })
    .await
}

fn risk(asked: f64) -> Result<Option<f64>, InvalidValue> {
    let field = "miss_probability_max";
    match asked {
        0.0 => Ok(None),
        asked if asked > 0.0 && asked < 1.0 => Ok(Some(asked)),
        _ => Err(InvalidValue::new(field, "out_of_range", "a probability lies between 0 and 1")),
    }
}

/// A schedule: levels fall, and what is given back does not.
fn steps(texts: &[String]) -> Result<Vec<CreditStep>, InvalidValue> {
    let field = |place: usize| format!("credit_steps[{place}]");
    if texts.len() > STEPS_MAX {
        let reason = format!("{} steps; at most {STEPS_MAX} are read", texts.len());
        return Err(InvalidValue::new("credit_steps", "too_many", reason));
    }
    let mut steps: Vec<CreditStep> = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let malformed =
            || InvalidValue::new(field(place), "malformed", "say BELOW=SHARE, both fractions, for example 0.999=0.1");
        let (below, share) = text.split_once('=').ok_or_else(malformed)?;
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| malformed());
        let step = CreditStep {
            below_ratio: Ratio::new(&field(place), number(below)?)?.get(),
            credit_ratio: Ratio::new(&field(place), number(share)?)?.get(),
        };
        let descends = steps
            .last()
            .is_none_or(|last| step.below_ratio < last.below_ratio && step.credit_ratio >= last.credit_ratio);
        if !descends {
            let reason = "levels fall from step to step, and what is given back does not";
            return Err(InvalidValue::new(field(place), "not_in_order", reason));
        }
        steps.push(step);
    }
    Ok(steps)
}

fn reasons(suggestion: &Suggestion, objective: Option<f64>) -> String {
    let why = match (suggestion.limited_by_objective, objective) {
        (true, Some(objective)) => {
            format!("A stricter one would be safe, but not looser than the SLO in force of {}.", percent(objective))
        }
        _ => "The next stricter level on the menu would be missed oftener than that, or could not be told.".to_owned(),
    };
    let margin = match (suggestion.margin_ratio, suggestion.budget_multiple) {
        (Some(margin), Some(multiple)) => format!(
            " It lies {} points below the SLO: {multiple:.1} times its error budget.",
            percent(margin).trim_end_matches(" %")
        ),
        _ => " There is no SLO in force that it could be held against.".to_owned(),
    };
    format!(
        "Promise {}: a calendar month misses it with {}, where at most {} is allowed. {why}{margin} By the credit schedule {} of \
         a month's fee is given back on average.",
        percent(suggestion.target_ratio),
        percent(suggestion.miss_probability),
        percent(suggestion.miss_probability_max),
        percent(suggestion.expected_credit_ratio),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_falls_and_names_the_step_that_does_not() {
        let code = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            steps(&texts).map(|steps| steps.len()).map_err(|fault| (fault.field, fault.code))
        };
        assert_eq!(code(&["0.999=0.1", "0.99=0.25", "0.95 = 1"]), Ok(3));
        assert_eq!(code(&[]), Ok(0));
        assert_eq!(code(&["0.99=0.1", "0.999=0.2"]), Err(("credit_steps[1]".into(), "not_in_order")));
        assert_eq!(code(&["0.99=0.3", "0.9=0.2"]), Err(("credit_steps[1]".into(), "not_in_order")));
        assert_eq!(code(&["0.99"]), Err(("credit_steps[0]".into(), "malformed")));
        assert_eq!(code(&["0.99=1.5"]), Err(("credit_steps[0]".into(), "out_of_range")));
        assert_eq!(code(&["0.9=0.1"; 11]), Err(("credit_steps".into(), "too_many")));
        assert!(risk(1.0).is_err() && risk(f64::NAN).is_err() && risk(-0.1).is_err());
        assert_eq!(risk(0.0), Ok(None));
    }
}
