//! What changed between two recommendations of a service, from what is kept of both.

use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::InvalidValue;

use crate::Error;
use crate::decide::unpack;
use crate::domain::differences::inputs;
use crate::engine::Engine;
use crate::gather::blocking;
use crate::message::differences::{difference, differences, version};
use crate::recommendations::{decode, previous, stored};
use crate::regions::of_whole;

/// Compares a recommendation with an earlier one, or with the version before where none is named.
pub(crate) async fn compare(
    engine: &Engine,
    context: &CallContext,
    id: &str,
    since: &str,
) -> Result<wire::GetRecommendationChangesResponse, Error> {
    of_whole(id)?;
    of_whole(since)?;
    let after = decode(&stored(engine, context, id).await?)?;
    let before = match since {
        "" => previous(engine, context, &after).await?.ok_or_else(|| {
            let reason = format!("`{id}` is the first of its service and window; name one to compare it with");
            InvalidValue::new("since", "no_version_before", reason)
        })?,
        since => decode(&stored(engine, context, since).await?)?,
    };
    if before.service_id != after.service_id {
        let reason = format!("`{since}` is of {}, and `{id}` of {}", before.service_id, after.service_id);
        return Err(InvalidValue::new("since", "another_service", reason).into());
    }
    let contents = [
        engine.store.inputs(&context.tenant, &before.id).await?,
        engine.store.inputs(&context.tenant, &after.id).await?,
    ];
    let without_inputs = [&before, &after].into_iter().zip(&contents).filter(|(_, content)| content.is_none());
    let without_inputs = without_inputs.map(|(recommendation, _)| recommendation.id.clone()).collect();
    blocking(move || {
        let mut found = differences(&before, &after);
        if let [Some(was), Some(is)] = &contents {
            found.extend(inputs(&unpack(was)?.0.input, &unpack(is)?.0.input));
        }
        found.sort_by_key(|difference| difference.part);
        Ok(wire::GetRecommendationChangesResponse {
            before: Some(version(&before)),
            after: Some(version(&after)),
            differences: found.into_iter().map(difference).collect(),
            without_inputs,
        })
    })
    .await?
}
