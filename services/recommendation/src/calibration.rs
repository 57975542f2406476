//! How often offers are missed, as it is published.

use attain_attainment::Record;
use attain_proto::convert::word;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityKind, Tier};

use crate::Error;
use crate::domain::calibration::{Published, Scope};
use crate::engine::Engine;
use crate::message::record::records;
use crate::message::window;
use crate::storage::Filter;

/// Reads the record of every class that the question names.
pub(crate) async fn read(
    engine: &Engine,
    context: &CallContext,
    request: &wire::GetCalibrationRequest,
) -> Result<wire::GetCalibrationResponse, Error> {
    let filter = Filter {
        tier: word::<vocabulary::Tier, Tier>("tier", request.tier)?,
        kind: word::<vocabulary::EntityKind, EntityKind>("kind", request.kind)?,
    };
    let published = engine.store.published(&context.tenant, filter).await?;
    Ok(wire::GetCalibrationResponse { classes: published.iter().map(class).collect() })
}

fn class((scope, published): (&Scope, &Published)) -> wire::CalibrationClass {
    let any = |of: &[Record]| of.iter().any(|record| record.forecast_count > 0);
    wire::CalibrationClass {
        tier: vocabulary::Tier::from(scope.class.tier) as i32,
        kind: vocabulary::EntityKind::from(scope.class.kind) as i32,
        sli_kind: vocabulary::SliKind::from(scope.sli) as i32,
        window_days: scope.window.days(),
        backtest_service_count: published.backtest_service_count,
        backtest: any(&published.backtest).then(|| records(&published.backtest)),
        lived_service_count: published.lived_service_count,
        lived: any(&published.lived).then(|| records(&published.lived)),
        open_count: published.open_count,
        unjudged_count: published.unjudged_count,
        calendar_window: window::calendar(scope.window),
    }
}
