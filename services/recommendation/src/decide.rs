//! From inputs to a recommendation. The same inputs give the same bytes.

use std::io::Read as _;

use attain_attainment::{RecommendationResult, ToldApart, recommend, recommend_told};
use attain_proto::recommendation::v1 as wire;

use crate::Error;
use crate::domain::calibration::Evidence;
use crate::domain::drift::{Watched, watched};
use crate::domain::kept::{Kept, sha256_hex};
use crate::message::changes::changes;
use crate::message::drift;
use crate::message::recommendation::{recommendation, result_sha256};
use crate::message::regions::{Regional, regions};
use crate::message::{experiments, feedback, learning};

/// Largest inputs that are read back, in bytes; anything longer is cut off and then does not parse.
const INPUT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A recommendation that is not stored yet: without id, version and time.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) message: wire::Recommendation,
    pub(crate) result_sha256: String,
    /// What it adds to the record of its class.
    pub(crate) evidence: Evidence,
    /// What was decided of single regions.
    pub(crate) regional: Vec<Regional>,
    /// How the service's own failures stand; `None` in what was kept before they were watched.
    pub(crate) watched: Option<Watched>,
}

/// Reads packed inputs, and hashes what was read.
pub(crate) fn unpack(content: &[u8]) -> Result<(Kept, String), Error> {
    let broken = |what: String| Error::Broken(format!("the inputs kept cannot be read: {what}"));
    let decoder = zstd::stream::read::Decoder::new(content).map_err(|error| broken(error.to_string()))?;
    let mut json = Vec::new();
    decoder.take(INPUT_BYTES_MAX).read_to_end(&mut json).map_err(|error| broken(error.to_string()))?;
    let kept = serde_json::from_slice(&json).map_err(|error| broken(error.to_string()))?;
    Ok((kept, sha256_hex(&json)))
}

/// Computes and decides. `previous` is the version before.
pub(crate) fn compute(kept: &Kept, input_sha256: &str, previous: Option<&wire::Recommendation>) -> Computed {
    let told = ToldApart::of(&kept.input);
    decide(kept, (&recommend_told(&kept.input, &told), &told), input_sha256, previous)
}

/// Decides by what the statistics say of the inputs.
pub(crate) fn decide(
    kept: &Kept,
    (result, told): (&RecommendationResult, &ToldApart),
    input_sha256: &str,
    previous: Option<&wire::Recommendation>,
) -> Computed {
    debug_assert_eq!(*result, recommend(&kept.input), "what was computed while gathering is what a replay computes");
    let mut message = recommendation(kept, result, input_sha256, Vec::new());
    if let Some(learned) = &kept.learned {
        message.suggested = learned.suggest(result).iter().map(|drawn| learning::suggested(learned, drawn)).collect();
    }
    let regional = regions(kept, result, &mut message);
    message.experiment = kept.experiment.as_ref().map(experiments::assignment);
    message.missing_inputs.extend(kept.disputed.iter().map(feedback::disputed));
    let watched = kept.drift.map(|settings| watched((&kept.input, told), settings));
    if let Some(watched) = &watched {
        drift::disclose(&mut message, watched);
    }
    if let Some(previous) = previous {
        message.changes = changes(previous, &message);
    }
    let evidence = Evidence::of(&kept.input, result);
    Computed { result_sha256: result_sha256(&message), message, evidence, regional, watched }
}
