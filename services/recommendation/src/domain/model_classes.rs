//! What a model says of classes of services beside its constants: a prior that other services of a class tell, and a layer that mends
//! what was stated. Both are learned on past windows alone, and are there only where they earned their place.

use std::collections::BTreeMap;

use attain_attainment::calibration::{Layer, Stated};
use attain_attainment::{ClassPrior, Constants, Model, Peer, Prediction};
use attain_vocabulary::{DAY_MS, EntityKind, Tier};
use serde::{Deserialize, Serialize};

use super::calibration::Class;
use super::scores::BUDGETS;

/// Fewest services and windows of a class that anything is learned from. The layers' own bound is four services; with as few one service
/// that is unlike the others decides.
pub(crate) const SERVICES_MIN: usize = 10;
pub(crate) const WINDOWS_MIN: usize = 40;

/// A window of the past, as it could have been foreseen, and what came.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) prediction: Prediction,
    pub(crate) bad_ratio: f64,
}

/// One service's past.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    pub(crate) class: Class,
    pub(crate) cases: Vec<Case>,
    /// Its incidents up to now; `None` without a request.
    pub(crate) peer: Option<Peer>,
}

/// What a model says of one class; only where something of it applies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassPart {
    pub(crate) tier: Tier,
    pub(crate) kind: EntityKind,
    /// Services and windows that it was learned from.
    pub(crate) service_count: u32,
    pub(crate) window_count: u32,
    /// `None` where the class tells nothing of its members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prior: Option<ClassPrior>,
    /// `None` where no layer earned its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<Layer>,
}

/// The past of a service as others of its class may know it.
pub(crate) fn peer(prediction: &Prediction) -> Peer {
    let age = |start_ms: i64| (prediction.now_ms - start_ms).max(0) as f64 / DAY_MS as f64;
    Peer {
        ages_days: prediction.episodes.iter().map(|episode| age(episode.start_ms)).collect(),
        amounts: prediction.episodes.iter().map(|episode| episode.amount_days).collect(),
        observed_days: prediction.observed_days,
    }
}

/// Learns what classes tell at constants, by class.
///
/// The prior first, then the layer over what is stated with it. Of the layer each service is scored under a fit to the others; the prior is
/// learned with each member left out and used for all of them.
pub(crate) fn learn(pasts: &[Past], constants: &Constants, window_days: f64) -> Vec<ClassPart> {
    let mut classes: BTreeMap<Class, Vec<&Past>> = BTreeMap::new();
    for past in pasts.iter().filter(|past| !past.cases.is_empty()) {
        classes.entry(past.class).or_default().push(past);
    }
    classes.into_iter().filter_map(|(class, pasts)| learn_class(class, &pasts, constants, window_days)).collect()
}

fn learn_class(class: Class, pasts: &[&Past], constants: &Constants, window_days: f64) -> Option<ClassPart> {
    let window_count: usize = pasts.iter().map(|past| past.cases.len()).sum();
    if pasts.len() < SERVICES_MIN || window_count < WINDOWS_MIN {
        return None;
    }
    let peers: Vec<Peer> = pasts.iter().filter_map(|past| past.peer.clone()).collect();
    let prior = Some(ClassPrior::learn(&peers, window_days)).filter(|prior| prior.weight() > 0.0);
    let effective = with_prior(constants, prior.as_ref());
    let stated: Vec<Vec<Stated>> = pasts.iter().map(|past| stated(past, &effective)).collect();
    let layer = Some(Layer::learn(&stated)).filter(Layer::applies);
    let (service_count, window_count) = (pasts.len() as u32, window_count as u32);
    let part = ClassPart { tier: class.tier, kind: class.kind, service_count, window_count, prior, layer };
    (part.prior.is_some() || part.layer.is_some()).then_some(part)
}

/// What would have been stated of each window at the ladder of budgets, and what happened.
fn stated(past: &Past, constants: &Constants) -> Vec<Stated> {
    let of = |case: &Case| {
        let forecast = case.prediction.forecast_with(constants);
        BUDGETS
            .map(|budget| Stated { probability: forecast.miss_probability(budget), happened: case.bad_ratio > budget })
    };
    past.cases.iter().flat_map(of).collect()
}

/// The constants with those of the class in place of the prior ones.
fn with_prior(constants: &Constants, prior: Option<&ClassPrior>) -> Constants {
    let Some(class) = prior.map(ClassPrior::constants) else { return *constants };
    Constants {
        prior_incidents: class.prior_incidents,
        prior_exposure_days: class.prior_exposure_days,
        prior_size: class.prior_size,
        prior_size_weight: class.prior_size_weight,
        prior_size_variation: class.prior_size_variation,
        prior_size_variation_weight: class.prior_size_variation_weight,
        ..*constants
    }
}

/// The model as it is for one class.
pub(crate) fn of_class(version: &str, constants: &Constants, parts: &[ClassPart], class: Class) -> Model {
    let part = parts.iter().find(|part| part.tier == class.tier && part.kind == class.kind);
    Model {
        version: version.to_owned(),
        constants: with_prior(constants, part.and_then(|part| part.prior.as_ref())),
        layer: part.and_then(|part| part.layer.clone()),
    }
}

#[cfg(test)]
mod tests {
    use attain_attainment::{CountPoint, CountSeries, predict_with};
    use attain_vocabulary::BUCKET_MS;

    use super::*;
    use crate::domain::retraining::cases;

    const CLASS: Class = Class { tier: Tier::Two, kind: EntityKind::Service };

    /// Ninety days that fail a share of requests evenly, and a share of all in an hour every so many days.
    pub(crate) fn past(chronic_every: i64, outage_days: i64, shift: i64) -> Past {
        let point = |i: i64| {
            let hour = i / 12 + shift;
            let down = outage_days > 0 && hour % (24 * outage_days) == 0;
            let bad = if down { 500.0 } else { f64::from(u8::from(i % chronic_every == 0)) };
            CountPoint { start_ms: i * BUCKET_MS, valid: 1_000.0, bad }
        };
        let series = CountSeries::new((0..90 * 288).map(point).collect());
        let now_ms = 90 * DAY_MS;
        let peer = predict_with(&Constants::DEFAULT, &series, 14.0, now_ms).map(|prediction| peer(&prediction));
        Past { class: CLASS, cases: cases(&series, &Constants::DEFAULT, now_ms), peer }
    }

    #[test]
    fn few_services_teach_nothing() {
        let pasts: Vec<Past> = (0..9).map(|i| past(10, 6, i * 7)).collect();
        assert_eq!(learn(&pasts, &Constants::DEFAULT, 14.0), []);
    }

    #[test]
    fn alike_services_mend_what_was_stated_of_them() {
        // An outage every six days: the next fortnight is foretold too well or too badly for all of them alike.
        let pasts: Vec<Past> = (0..14).map(|i| past(10, 6, i * 11)).collect();
        let learned = learn(&pasts, &Constants::DEFAULT, 14.0);
        assert_eq!(learned.len(), 1, "{learned:?}");
        let part = &learned[0];
        assert_eq!((part.service_count, part.window_count), (14, 56));
        let model = of_class("m", &Constants::DEFAULT, &learned, CLASS);
        let loss = |constants: &Constants, layer: Option<&Layer>| {
            let of = |past: &Past| {
                let said = |one: &Stated| layer.map_or(one.probability, |layer| layer.probability(one.probability));
                stated(past, constants)
                    .iter()
                    .map(|one| said(one) - f64::from(u8::from(one.happened)))
                    .map(|off| off * off)
                    .sum::<f64>()
            };
            pasts.iter().map(of).sum::<f64>()
        };
        let (before, after) = (loss(&Constants::DEFAULT, None), loss(&model.constants, model.layer.as_ref()));
        assert!(after < before, "{after} {before}");
        // Another class is as it was.
        let other = Class { tier: Tier::One, ..CLASS };
        assert_eq!(of_class("m", &Constants::DEFAULT, &learned, other).constants, Constants::DEFAULT);
        assert_eq!(learn(&pasts, &Constants::DEFAULT, 14.0), learned, "deterministic");
        let written = serde_json::to_string(&learned).expect("JSON");
        assert_eq!(serde_json::from_str::<Vec<ClassPart>>(&written).expect("read"), learned, "to the last bit");
    }
}
