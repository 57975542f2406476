//! Alerts for a service's SLOs, tested on its own history. Nothing is written.

use attain_attainment::alerts::{Counted, back_test, policy};
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, Objective, SliKind, TimeWindow};

use crate::domain::slo::Slo;
use crate::engine::Engine;
use crate::gather::blocking;
use crate::measured::Measured;
use crate::message::alerts::AboutSlo;
use crate::{Error, measured, message};

/// Recommends alerts for each SLO in force, or for an availability target that is only asked about.
pub(crate) async fn recommended(
    engine: &Engine,
    context: &CallContext,
    request: &wire::GetAlertsRequest,
) -> Result<wire::GetAlertsResponse, Error> {
    let service = EntityId::new("service_id", &request.service_id)?;
    let asked = asked(request)?;
    let measured = measured::read(engine, context, &service).await?;
    blocking(move || {
        let mut notes = measured.notes.clone();
        let about = match asked {
            Some(asked) => vec![asked],
            None => measured.slos.iter().map(in_force).collect(),
        };
        if about.is_empty() {
            notes.push("There is no SLO in force: ask with target_ratio, or declare one.".to_owned());
        }
        let policies = about.into_iter().map(|about| tested(&measured, &about)).collect();
        wire::GetAlertsResponse { policies, as_of_time: Some(timestamp(measured.as_of_ms)), notes }
    })
    .await
}

fn asked(request: &wire::GetAlertsRequest) -> Result<Option<AboutSlo>, Error> {
    let window = TimeWindow::from_days("window_days", request.window_days)?;
    if request.target_ratio == 0.0 {
        return match request.window_days {
            0 => Ok(None),
            _ => Err(InvalidValue::new("window_days", "not_allowed", "a window goes with a target_ratio").into()),
        };
    }
    let target = Objective::new("target_ratio", request.target_ratio)?;
    let kind = SliKind::Availability;
    Ok(Some(AboutSlo { slo_id: String::new(), kind, target, latency_threshold_ms: None, window }))
}

fn in_force(slo: &Slo) -> AboutSlo {
    AboutSlo {
        slo_id: slo.id(),
        kind: slo.kind,
        target: slo.target,
        latency_threshold_ms: slo.latency_threshold_ms,
        window: slo.window,
    }
}

fn tested(measured: &Measured, about: &AboutSlo) -> wire::AlertPolicy {
    let history = measured.history(about.kind, about.latency_threshold_ms);
    let valid_per_day = Some(history.valid_per_day());
    let counted = match about.kind {
        SliKind::Freshness => Counted::Slices(valid_per_day),
        SliKind::Availability | SliKind::Latency => Counted::Requests(valid_per_day),
    };
    let policy = policy(about.target.error_budget(), f64::from(about.window.days()), counted);
    let first_ms = history.series().points().first().map(|point| point.start_ms);
    let tested = first_ms.map(|first_ms| (first_ms, back_test(&history, &policy, &measured.incidents)));
    message::alerts::policy(about, policy, tested)
}
