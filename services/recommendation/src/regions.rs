//! Recommendations of single regions: made with that of the whole, of the same inputs, and stored beside it.

use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::InvalidValue;
use prost::Message as _;

use crate::Error;
use crate::engine::Engine;
use crate::gather::REGIONS_MISSING;
use crate::message::regions::Regional;
use crate::recommendations::decode;
use crate::storage::{NewRegional, StoredRecommendation, id_in, parted};

/// The recommendation of a region that was made with that of the whole.
///
/// # Errors
/// Names the field `region` and the regions that there are where it is none of them.
pub(crate) async fn beside(
    engine: &Engine,
    context: &CallContext,
    whole: &StoredRecommendation,
    region: &str,
) -> Result<StoredRecommendation, Error> {
    if let Some(found) = engine.store.regional(&context.tenant, whole, region).await? {
        return Ok(found);
    }
    let message = decode(whole)?;
    if let Some(missing) = message.missing_inputs.iter().find(|missing| missing.name == REGIONS_MISSING) {
        return Err(Error::Unreachable { member: "ingestion", detail: missing.detail.clone() });
    }
    let names: Vec<&str> = message.regions.iter().flat_map(|of| &of.regions).map(|of| of.region.as_str()).collect();
    let reason = match names.is_empty() {
        true => format!("no telemetry of `{}` tells a region", whole.service_id),
        false => format!("`{}` has {}", whole.service_id, names.join(", ")),
    };
    Err(InvalidValue::new("region", "unknown_region", reason).into())
}

/// Refuses a region's recommendation where only one of a whole service can be meant.
///
/// # Errors
/// Names the field `recommendation_id`.
pub(crate) fn of_whole(id: &str) -> Result<(), Error> {
    match parted(id) {
        (_, None) => Ok(()),
        // What was sent is not repeated: it need not be an id at all.
        (_, Some(_)) => {
            let reason = "it is of one region alone, and SLOs, comparisons and feedback are of the whole service: \
                          name the one before the @";
            Err(InvalidValue::new("recommendation_id", "of_a_region", reason).into())
        }
    }
}

/// As they are stored beside the whole, whose id, version and time they have.
pub(crate) fn numbered(regional: Vec<Regional>, whole: &wire::Recommendation) -> Vec<NewRegional> {
    let number = |Regional { region, result_sha256, message }: Regional| {
        let (version, create_time) = (whole.version, whole.create_time);
        let message = wire::Recommendation { id: id_in(&whole.id, &region), version, create_time, ..message };
        NewRegional { region, result_sha256, message: message.encode_to_vec() }
    };
    regional.into_iter().map(number).collect()
}
