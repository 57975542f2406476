//! The same fleet with the model that its own past would have been fitted: what a tenant's retraining gains and costs.

use attain_attainment::Ambition;
use attain_recommendation::domain::retrained::{ForeseenPast, RetrainedModel};
use serde_json::{Value, json};

use super::{Run, Scored, calibration, ratio_of_sums, recommended, scored};
use crate::fleet::{END_MS, Known, View, each};

/// What became of a fit, as if its model had become live.
pub(super) struct Retrained {
    /// What was fitted, or why nothing was.
    note: String,
    /// None where nothing was.
    scored: Vec<Scored>,
}

impl Retrained {
    /// Fits a model to the past of the fleet, as the schedule does, and has it recommend.
    pub(super) fn of(view: &View<'_>, known: &Known, drawn: &[Vec<f64>], threads: usize) -> Self {
        let past = |at| ForeseenPast::of(&view.input(at, known, Vec::new()), END_MS);
        let pasts = each(view.fleet.components.len(), threads, |at| view.is_measured(at).then(|| past(at)));
        match RetrainedModel::fit(pasts.into_iter().flatten().collect(), END_MS) {
            Ok(model) => {
                let results = recommended(view, known, Some(&model), threads);
                Self { note: model.note().to_owned(), scored: scored(view.fleet, &results, drawn) }
            }
            Err(why) => Self { note: why, scored: Vec::new() },
        }
    }
}

/// How the fleets' own models do; a fleet to which nothing could be fitted is not among the figures.
pub(super) fn report(runs: &[&Run]) -> Value {
    let by_fleet = runs.iter().map(|run| run.retrained.scored.iter().collect::<Vec<&Scored>>());
    let by_fleet: Vec<Vec<&Scored>> = by_fleet.filter(|of| !of.is_empty()).collect();
    let mut report = json!({ "fitted": runs.iter().map(|run| run.retrained.note.as_str()).collect::<Vec<_>>() });
    if let (Value::Object(report), false) = (&mut report, by_fleet.is_empty()) {
        let budget = ratio_of_sums(&by_fleet.concat(), Ambition::Balanced);
        report.insert("budget_ratio".to_owned(), json!(budget));
        if let Value::Object(of_all) = calibration(&by_fleet) {
            report.extend(of_all);
        }
    }
    report
}
