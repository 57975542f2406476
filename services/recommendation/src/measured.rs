//! What was measured of one service, and the SLOs that it is held against.

use attain_attainment::alerts::Interval;
use attain_attainment::{AgeBucket, Constants, Exclusion, SliHistory, SliMeasured};
use attain_proto::convert;
use attain_proto::ingestion::v1 as ingestion;
use attain_runtime::context::CallContext;
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, SliBucket, SliKind, TimeRange, UnixMillis, bucket_start};

use tokio::sync::OwnedSemaphorePermit;

use crate::domain::calibration::Class;
use crate::domain::components::Facts;
use crate::domain::slo::Slo;
use crate::engine::Engine;
use crate::gather::{from_first_bucket, incidents, known};
use crate::message::topology;
use crate::{Error, models};

/// Most exclusions that are listed one by one.
const LISTED_MAX: usize = 5;

/// A service's own history.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) facts: Facts,
    /// In force, availability first.
    pub(crate) slos: Vec<Slo>,
    /// Until when it was read.
    pub(crate) as_of_ms: UnixMillis,
    /// Incidents that hurt the service and count.
    pub(crate) incidents: Vec<Interval>,
    /// What could not be read and what was left out, in sentences.
    pub(crate) notes: Vec<String>,
    /// What the live model predicts with.
    pub(crate) constants: Constants,
    range: TimeRange,
    buckets: Vec<SliBucket>,
    ages: Vec<AgeBucket>,
    exclusions: Vec<Exclusion>,
    /// Held as long as the history is.
    _place: OwnedSemaphorePermit,
}

impl Measured {
    /// The history as an SLO reads it.
    pub(crate) fn history(&self, kind: SliKind, latency_threshold_ms: Option<u32>) -> SliHistory {
        let sli = match (kind, latency_threshold_ms) {
            (SliKind::Freshness, threshold) => {
                let threshold = threshold.unwrap_or(0);
                return SliHistory::of_ages(self.range, self.as_of_ms, &self.ages, &self.exclusions, threshold);
            }
            (SliKind::Latency, Some(threshold)) => SliMeasured::SlowerThanMs(threshold),
            _ => SliMeasured::Availability,
        };
        SliHistory::read(self.range, self.as_of_ms, &self.buckets, &self.exclusions, sli)
    }
}

/// Reads what is known of a service, once there is a place for its history. Only that is indispensable: incidents that cannot be
/// had become a note.
pub(crate) async fn read(engine: &Engine, context: &CallContext, service: &EntityId) -> Result<Measured, Error> {
    let (entity, slos) =
        futures::join!(engine.ingestion.entity(context, service), engine.store.slos(&context.tenant, service));
    let (entity, slos) = (known(service, entity)?, slos?);
    let (_, facts) = topology::entity(&entity)
        .map_err(|invalid| Error::Broken(format!("ingestion's {service} cannot be read: {invalid}")))?;
    let model = models::live(engine, context, Class { tier: facts.tier, kind: facts.kind }).await?;

    let bucket_ms = bucket_start(engine.clock.now_ms());
    let back_to = |slo: &Slo| (bucket_ms - slo.window.in_force_at(bucket_ms).start_ms()) / DAY_MS + 1;
    let longest = slos.iter().map(back_to).fold(i64::from(engine.config.history_days), i64::max);
    let range = TimeRange::new("range", bucket_ms - longest * DAY_MS, bucket_ms + BUCKET_MS)?;
    let place = engine.place(context).await?;
    let without_latency = slos.iter().all(|slo| slo.kind != SliKind::Latency);
    let ages = async {
        match slos.iter().any(|slo| slo.kind == SliKind::Freshness) {
            true => engine.ingestion.ages(context, service, range).await,
            false => Ok(Vec::new()),
        }
    };
    let (histories, told, ages) = futures::join!(
        engine.ingestion.histories(context, std::slice::from_ref(service), range, without_latency),
        engine.ingestion.incidents(context, service),
        ages,
    );
    let ages = ages.map_err(|refusal| refusal.fatal("ingestion"))?;
    let mut histories = histories.map_err(|refusal| refusal.fatal("ingestion"))?;
    let buckets = histories.remove(service).unwrap_or_default().buckets;
    let mut notes = Vec::new();
    let told = told.unwrap_or_else(|refusal| {
        let detail = refusal.detail();
        notes.push(format!("Incidents could not be read ({detail}): none is counted and no span of time is left out."));
        Vec::new()
    });
    let newest_ms = buckets.last().map(|last| last.start_ms).max(ages.last().map(|last| last.start_ms));
    // A bucket that nothing came for yet is not a gap yet.
    let as_of_ms = bucket_ms + if newest_ms == Some(bucket_ms) { BUCKET_MS } else { 0 };
    let (_, exclusions) = incidents(service, &told, from_first_bucket(range, &buckets));
    notes.extend(left_out(&exclusions));
    let incidents = counted(service, &told, as_of_ms);
    let constants = model.map_or(Constants::DEFAULT, |model| model.constants);
    Ok(Measured { facts, slos, as_of_ms, incidents, notes, constants, range, buckets, ages, exclusions, _place: place })
}

fn left_out(exclusions: &[Exclusion]) -> Option<String> {
    let listed: Vec<&str> = exclusions.iter().take(LISTED_MAX).map(|exclusion| exclusion.reason.as_str()).collect();
    let more = match exclusions.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!listed.is_empty()).then(|| format!("Spans of time are left out for {}{more}.", listed.join("; ")))
}

/// When incidents hurt the service: planned work, what a person excluded and what was none are no such.
fn counted(service: &EntityId, incidents: &[ingestion::Incident], as_of_ms: UnixMillis) -> Vec<Interval> {
    let hurt = |incident: &&ingestion::Incident| {
        let planned = incident.kind() == ingestion::IncidentKind::Maintenance;
        !planned
            && !incident.excluded
            && !incident.dismissed
            && incident.service_ids.iter().any(|id| id == service.as_str())
    };
    let interval = |incident: &ingestion::Incident| {
        let start_ms = incident.start_time.as_ref().map(convert::unix_millis)?;
        let end_ms = incident.end_time.as_ref().map_or(as_of_ms, convert::unix_millis).max(start_ms);
        Some(Interval { start_ms, end_ms })
    };
    incidents.iter().filter(hurt).filter_map(interval).collect()
}
