//! The error budgets of a service's SLOs in force. Nothing is written.

use attain_attainment::budget::{self, Period};
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, TimeWindow, UnixMillis};

use crate::engine::Engine;
use crate::gather::blocking;
use crate::members::SEED;
use crate::{Error, measured, message};

/// Tells each of them as it is now.
pub(crate) async fn now(
    engine: &Engine,
    context: &CallContext,
    service_id: &str,
) -> Result<wire::GetErrorBudgetsResponse, Error> {
    let service = EntityId::new("service_id", service_id)?;
    let measured = measured::read(engine, context, &service).await?;
    blocking(move || {
        let mut notes = measured.notes.clone();
        if measured.slos.is_empty() {
            notes.push("There is no SLO in force: accept a recommendation or declare one.".to_owned());
        }
        let budgets = measured.slos.iter().map(|slo| {
            let history = measured.history(slo.kind, slo.latency_threshold_ms);
            let (budget, as_of_ms) = (slo.target.error_budget(), measured.as_of_ms);
            let status =
                budget::status(&measured.constants, &history, budget, period(slo.window, as_of_ms), as_of_ms, SEED);
            message::budget::budget(slo, &status)
        });
        wire::GetErrorBudgetsResponse {
            budgets: budgets.collect(),
            as_of_time: Some(timestamp(measured.as_of_ms)),
            notes,
        }
    })
    .await
}

/// Which requests the budget of a window is for at an instant.
fn period(window: TimeWindow, now_ms: UnixMillis) -> Period {
    if !window.is_calendar() {
        return Period::Rolling { days: window.days() };
    }
    let around = window.in_force_at(now_ms);
    Period::Fixed { start_ms: around.start_ms(), end_ms: around.end_ms() }
}
