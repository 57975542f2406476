//! Models and their scores, as they are sent.

use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;

use crate::domain::models::{Registered, Use, by_name};
use crate::domain::scores::{Comparison, Scores};

pub(crate) fn model(of: &Registered, used: Use) -> wire::Model {
    let state = match used {
        Use::Live => wire::ModelState::Live,
        Use::Shadow => wire::ModelState::Shadow,
        Use::Retired => wire::ModelState::Retired,
    };
    wire::Model {
        version: of.model.version.clone(),
        name: of.name.clone(),
        state: state as i32,
        parent_version: of.parent_version.clone(),
        constants: by_name(&of.model.constants).into_iter().collect(),
        content_sha256: of.content_sha256.clone(),
        create_time: of.create_ms.map(timestamp),
        created_by: of.created_by.clone(),
        note: of.note.clone(),
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
