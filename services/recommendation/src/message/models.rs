//! Models and their scores, as they are sent.

use attain_attainment::calibration::Layer;
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_vocabulary::UnixMillis;

use crate::domain::model_classes::ClassPart;
use crate::domain::models::{Registered, Use, by_name};
use crate::domain::scores::{Comparison, Scores};

pub(crate) fn model(of: &Registered, used: Use) -> wire::Model {
    let state = match used {
        Use::Live => wire::ModelState::Live,
        Use::Shadow => wire::ModelState::Shadow,
        Use::Retired => wire::ModelState::Retired,
    };
    wire::Model {
        version: of.version.clone(),
        name: of.name.clone(),
        state: state as i32,
        parent_version: of.parent_version.clone(),
        constants: by_name(&of.content.constants).into_iter().collect(),
        content_sha256: of.content_sha256.clone(),
        create_time: of.create_ms.map(timestamp),
        created_by: of.created_by.clone(),
        note: of.note.clone(),
        classes: of.content.classes.iter().map(class).collect(),
    }
}

/// Probabilities at which a layer is shown: the offers' and a half.
const SHOWN: [f64; 4] = [0.02, 0.1, 0.25, 0.5];

/// When the model was fitted anew last, and what came of it; unset where it never was.
pub(crate) fn retraining(fit_ms: UnixMillis, outcome: String) -> wire::Retraining {
    wire::Retraining { time: Some(timestamp(fit_ms)), outcome }
}

fn class(part: &ClassPart) -> wire::ModelClass {
    let point = |layer: &Layer, stated: f64| wire::LayerPoint { stated, said: layer.probability(stated) };
    let layer = part.layer.as_ref().map(|layer| wire::ModelLayer {
        brier_gain: layer.gain(),
        brier_gain_standard_error: layer.gain_standard_error(),
        points: SHOWN.map(|stated| point(layer, stated)).to_vec(),
    });
    wire::ModelClass {
        tier: vocabulary::Tier::from(part.tier) as i32,
        kind: vocabulary::EntityKind::from(part.kind) as i32,
        service_count: part.service_count,
        window_count: part.window_count,
        prior_weight: part.prior.as_ref().map_or(0.0, |prior| prior.weight()),
        layer,
    }
}

/// `shadow` is whether the model may be promoted at all.
pub(crate) fn comparison(comparison: &Comparison, live_version: &str, shadow: bool) -> wire::ModelComparison {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    wire::ModelComparison {
        live_version: live_version.to_owned(),
        window_count: count(comparison.window_count),
        service_count: count(comparison.service_count),
        candidate: Some(scores(&comparison.candidate)),
        live: Some(scores(&comparison.live)),
        log_pinball_difference: comparison.log_pinball_difference,
        p_value: comparison.p_value,
        promotable: shadow && comparison.lacking.is_empty(),
        lacking: comparison.lacking.clone(),
    }
}

fn scores(scores: &Scores) -> wire::ModelScores {
    wire::ModelScores {
        log_pinball: scores.log_pinball,
        brier: scores.brier,
        calibration_error: scores.calibration_error,
        missed_ratios: scores.missed.to_vec(),
    }
}
