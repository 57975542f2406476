//! From checked values to the wire; cannot fail.

use attain_proto::columns::columns;
use attain_proto::convert::{rejection, timestamp};
use attain_proto::day;
use attain_proto::ingestion::v1 as wire;
use attain_proto::vocabulary::v1 as words;
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, Ratio, Source};

use crate::catalogue::Attempt;
use crate::domain::{
    Dependency, Entity, Exemplar, Incident, IncidentKind, MeasuredUtilisation, MergedBucket, ObservedOperation,
    RequestSample, SampledCall, UtilisationSummary,
};
use crate::imports::{Complaint, Imported};
use crate::intake::Refused;
use crate::reading::{HistoryChunk, RegionalChunk};
use crate::storage::{AppliedSweep, CatalogueProblem, Change, ChangeHead, ChangeKind, DataSummary, KeptDay, NextDays};

pub(super) fn entity(entity: Entity) -> words::Entity {
    let catalogue = entity.catalogue.clone().unwrap_or_default();
    words::Entity {
        kind: words::EntityKind::from(entity.kind()).into(),
        tier: entity.tier().map_or(words::Tier::Unspecified, Into::into).into(),
        published_availability_ratio: entity.published_availability.map(Ratio::get),
        sources: sources(entity.sources.iter().copied()),
        display_name: entity.display_name().unwrap_or_default().to_owned(),
        owner: entity.owner().unwrap_or_default().to_owned(),
        id: entity.id.into(),
        region: entity.region.unwrap_or_default(),
        system: catalogue.system.unwrap_or_default(),
        lifecycle: catalogue.lifecycle.unwrap_or_default(),
        catalogue_ref: catalogue.reference,
    }
}

pub(super) fn dependency(dependency: Dependency) -> words::Dependency {
    let (terms, seen) = (dependency.terms, dependency.sightings);
    words::Dependency {
        caller_id: dependency.key.caller().as_str().to_owned(),
        callee_id: dependency.key.callee().as_str().to_owned(),
        mode: terms.mode.map_or(words::DependencyMode::Unspecified, Into::into).into(),
        call_rate: terms.call_rate,
        call_fraction: terms.call_fraction.map(Ratio::get),
        fallback_success_ratio: terms.fallback_success.map(Ratio::get),
        retry_count: terms.retry_count,
        timeout_ms: terms.timeout_ms,
        protocol: terms.protocol.unwrap_or_default(),
        redundancy_group: terms.redundancy_group.unwrap_or_default(),
        redundancy_required_count: terms.redundancy_required_count,
        sources: sources(dependency.sources.iter()),
        first_seen_time: seen.first_seen_ms.map(timestamp),
        last_seen_time: seen.last_seen_ms.map(timestamp),
        observed_call_count: seen.call_count,
        observed_failure_count: seen.failure_count,
        observed_rescued_count: seen.rescued_count,
        observed_retry_count: seen.retry_count,
        observed_latency: seen.latency.as_ref().map(|latency| Box::new(latency.into())),
    }
}

pub(super) fn operation(operation: ObservedOperation) -> wire::OperationDay {
    let ObservedOperation { key, seen } = operation;
    wire::OperationDay {
        operation: key.name,
        callee_id: key.callee.map(Into::into).unwrap_or_default(),
        day_start_time: Some(timestamp(key.day.saturating_mul(DAY_MS))),
        request_count: seen.request_count,
        bad_count: seen.bad_count,
        latency: Some((&seen.latency).into()),
    }
}

pub(super) fn incident(incident: Incident) -> wire::Incident {
    let (excluded, exclusion_reason) = incident.exclusion();
    let kind = match incident.kind {
        IncidentKind::Incident => wire::IncidentKind::Incident,
        IncidentKind::Maintenance => wire::IncidentKind::Maintenance,
    };
    wire::Incident {
        service_ids: incident.hurt().iter().map(ToString::to_string).collect(),
        end_time: incident.ended_ms().map(timestamp),
        excluded,
        exclusion_reason: exclusion_reason.unwrap_or_default().to_owned(),
        kind: kind.into(),
        exclusion_by: match &incident.decision {
            Some(decision) => decision.by.clone(),
            None => incident.excluded_by.clone().unwrap_or_default(),
        },
        exclusion_time: incident.decision.as_ref().map(|decision| timestamp(decision.time_ms)),
        services_by: incident.link.as_ref().map(|link| link.by.clone()).unwrap_or_default(),
        services_time: incident.link.as_ref().map(|link| timestamp(link.time_ms)),
        dismissed: incident.dismissed,
        unknown_services: incident.unknown.iter().filter_map(|unknown| unknown.names.first().cloned()).collect(),
        id: incident.id,
        title: incident.title,
        cause_service_id: incident.cause.map(Into::into).unwrap_or_default(),
        start_time: Some(timestamp(incident.start_ms)),
        severity_ratio: incident.severity.map(Ratio::get),
        summary: incident.summary.unwrap_or_default(),
        origin: incident.origin.unwrap_or_default(),
        priority: incident.priority.unwrap_or_default(),
    }
}

pub(super) fn imported(imported: Imported) -> wire::ImportDocumentResponse {
    wire::ImportDocumentResponse {
        accepted_incident_count: row_count(imported.incident_count),
        accepted_dependency_count: row_count(imported.dependency_count),
        accepted_span_count: imported.span_count as u64,
        ignored_count: row_count(imported.ignored_count),
        rejected: imported.rejected.into_iter().map(complaint).collect(),
        warnings: imported.warnings.into_iter().map(complaint).collect(),
    }
}

fn complaint(complaint: Complaint) -> words::Rejection {
    words::Rejection {
        index: row_count(complaint.index),
        pointer: complaint.pointer,
        code: complaint.code.to_owned(),
        reason: complaint.reason,
    }
}

pub(super) fn exemplar(exemplar: &Exemplar) -> wire::Exemplar {
    wire::Exemplar {
        trace_id: format!("{:032x}", exemplar.trace_id),
        span_id: if exemplar.span_id == 0 { String::new() } else { format!("{:016x}", exemplar.span_id) },
        time: Some(timestamp(exemplar.time_ms)),
        latency_ms: exemplar.latency_us as f64 / 1_000.0,
        failed: exemplar.failed,
    }
}

pub(super) fn request_samples(found: Vec<(EntityId, Vec<RequestSample>)>) -> wire::ListRequestSamplesResponse {
    let of_service = |(service, samples): (EntityId, Vec<RequestSample>)| wire::ServiceRequestSamples {
        service_id: service.into(),
        samples: samples.into_iter().map(request_sample).collect(),
    };
    wire::ListRequestSamplesResponse { services: found.into_iter().map(of_service).collect() }
}

fn request_sample(sample: RequestSample) -> wire::RequestSample {
    let call = |call: SampledCall| wire::SampledCall {
        callee_id: call.callee.into(),
        start_us: call.offset_us,
        duration_us: call.duration_us,
        failed: call.failed,
    };
    wire::RequestSample {
        start_time: Some(prost_types::Timestamp {
            seconds: sample.start_time_us.div_euclid(1_000_000),
            nanos: (sample.start_time_us.rem_euclid(1_000_000) * 1_000) as i32,
        }),
        duration_us: sample.duration_us,
        failed: sample.failed,
        calls: sample.calls.into_iter().map(call).collect(),
        truncated: sample.truncated,
    }
}

pub(super) fn buckets(merged: Vec<MergedBucket>) -> Vec<words::SliBucket> {
    merged.iter().map(|merged| (&merged.bucket).into()).collect()
}

pub(super) fn history_chunk(chunk: HistoryChunk) -> wire::StreamSliHistoryResponse {
    let (buckets, days) = match chunk.days {
        NextDays::Unpacked(buckets) if buckets.is_empty() => (None, Vec::new()),
        NextDays::Unpacked(buckets) => (Some(columns(buckets.iter().map(|merged| &merged.bucket))), Vec::new()),
        NextDays::Kept(days) => (None, days.into_iter().map(kept_day).collect()),
    };
    let sources = sources(chunk.sources.iter());
    let held_until_time = chunk.held_until_ms.map(timestamp);
    let tells_latency = held_until_time.is_none().then_some(chunk.tells_latency);
    let service_id = chunk.service.into();
    wire::StreamSliHistoryResponse { service_id, buckets, sources, days, tells_latency, held_until_time }
}

pub(super) fn regional_chunk(chunk: RegionalChunk) -> wire::StreamRegionalHistoryResponse {
    wire::StreamRegionalHistoryResponse {
        service_id: chunk.service.into(),
        region: chunk.region.as_str().to_owned(),
        buckets: Some(columns(chunk.buckets.iter().map(|merged| &merged.bucket))),
        sources: sources(chunk.sources.iter()),
    }
}

fn kept_day(day: KeptDay) -> words::SliDay {
    words::SliDay { version: day::VERSION, counts: day.counts, latency: day.latency.unwrap_or_default() }
}

pub(super) fn sources(sources: impl IntoIterator<Item = Source>) -> Vec<i32> {
    sources.into_iter().map(|source| words::Source::from(source).into()).collect()
}

pub(super) fn data_health(summary: &DataSummary, utilisation: Vec<UtilisationSummary>) -> wire::DataHealth {
    let could_hold = summary.first_and_last_ms.map(|(first, last)| (last - first) / BUCKET_MS + 1);
    wire::DataHealth {
        first_bucket_time: summary.first_and_last_ms.map(|(first, _)| timestamp(first)),
        last_bucket_time: summary.first_and_last_ms.map(|(_, last)| timestamp(last)),
        bucket_count: summary.bucket_count,
        coverage_ratio: could_hold.map_or(0.0, |could_hold| summary.bucket_count as f64 / could_hold as f64),
        sources: sources(summary.sources.iter().copied()),
        dependency_count: u32::try_from(summary.dependency_count).unwrap_or(u32::MAX),
        dependent_count: u32::try_from(summary.dependent_count).unwrap_or(u32::MAX),
        utilisation: utilisation.into_iter().map(utilisation_summary).collect(),
    }
}

pub(super) fn utilisation(measured: MeasuredUtilisation) -> wire::UtilisationBucket {
    let bucket = measured.bucket;
    wire::UtilisationBucket {
        start_time: Some(timestamp(bucket.start_ms())),
        kind: words::UtilisationKind::from(bucket.kind()).into(),
        average: bucket.average(),
        maximum: bucket.maximum(),
        sample_count: bucket.sample_count(),
        source: words::Source::from(measured.source).into(),
    }
}

pub(super) fn utilisation_summary(summary: UtilisationSummary) -> wire::UtilisationSummary {
    wire::UtilisationSummary {
        kind: words::UtilisationKind::from(summary.kind).into(),
        average_p50: summary.average_p50,
        average_p95: summary.average_p95,
        maximum: summary.maximum,
        newest_average: summary.newest.average(),
        newest_time: Some(timestamp(summary.newest.start_ms())),
        bucket_count: row_count(summary.bucket_count),
    }
}

/// `attempt` is `None` where no catalogue is followed, `applied` where none ever was.
pub(super) fn catalogue_status(
    attempt: Option<Attempt>,
    applied: Option<AppliedSweep>,
) -> wire::GetCatalogueStatusResponse {
    let configured = attempt.is_some();
    let attempt = attempt.unwrap_or_default();
    let mut status = wire::GetCatalogueStatusResponse {
        configured,
        current: configured && attempt.code.is_empty(),
        attempt_time: attempt.time_ms.map(timestamp),
        detail: attempt.detail,
        code: attempt.code.to_owned(),
        ..Default::default()
    };
    if let Some(applied) = applied {
        let problem = |problem: CatalogueProblem| wire::CatalogueProblem {
            code: problem.code,
            count: problem.count,
            examples: problem.examples,
        };
        status.applied_time = Some(timestamp(applied.applied_ms));
        status.entity_count = applied.entity_count;
        status.service_count = applied.service_count;
        status.dependency_count = applied.dependency_count;
        status.problems = applied.problems.into_iter().map(problem).collect();
    }
    status
}

pub(super) fn change_head(head: ChangeHead) -> wire::ChangeHead {
    wire::ChangeHead {
        service_id: head.service.into(),
        topology_sequence: head.topology_sequence,
        sli_sequence: head.sli_sequence,
        incident_sequence: head.incident_sequence,
    }
}

pub(super) fn change(change: Change) -> wire::StreamChangesResponse {
    let kind = match change.kind {
        ChangeKind::Topology => wire::ChangeKind::Topology,
        ChangeKind::Sli => wire::ChangeKind::Sli,
        ChangeKind::Incident => wire::ChangeKind::Incident,
        ChangeKind::Utilisation => wire::ChangeKind::Utilisation,
    };
    wire::StreamChangesResponse {
        sequence: change.sequence,
        tenant_id: change.tenant.into(),
        kind: kind.into(),
        service_id: change.service.into(),
        epoch: change.epoch,
    }
}

pub(super) fn rejections(refused: &[Refused]) -> Vec<words::Rejection> {
    refused.iter().map(|refused| rejection(refused.list, refused.index, &refused.invalid)).collect()
}

/// A number of rows of one request.
pub(super) fn row_count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::reading::wire_bytes;

    #[test]
    fn sampled_requests_take_no_more_bytes_than_are_counted() {
        let id = |n: usize| EntityId::new("id", &format!("{n:0>128}")).expect("valid");
        for (call_count, time_us) in [(0, 0), (1, -1), (64, i64::MAX), (64, 1_793_000_000_000_001)] {
            let call = |n| SampledCall { callee: id(n), offset_us: u64::MAX, duration_us: u64::MAX, failed: true };
            let sample = RequestSample {
                service: id(0),
                rank: 1,
                start_time_us: time_us,
                duration_us: u64::MAX,
                failed: true,
                calls: (0..call_count).map(call).collect(),
                truncated: true,
            };
            let counted = wire_bytes(&sample);
            let alone = request_samples(vec![(id(0), Vec::new())]).encoded_len();
            let taken = request_samples(vec![(id(0), vec![sample])]).encoded_len() - alone;
            // The length of the list before it grows by up to four bytes.
            assert!(taken <= counted + 4 && counted <= taken + 48 + 3 * call_count, "{taken} of {counted}");
        }
    }

    #[test]
    fn a_time_is_told_to_the_microsecond() {
        let sample = RequestSample {
            service: EntityId::new("id", "shop").expect("valid"),
            rank: 1,
            start_time_us: 1_793_000_000_123_456,
            duration_us: 1,
            failed: false,
            calls: Vec::new(),
            truncated: false,
        };
        let time = request_sample(sample).start_time.expect("there");
        assert_eq!((time.seconds, time.nanos), (1_793_000_000, 123_456_000));
        assert_eq!(super::super::decode::unix_micros(&time), 1_793_000_000_123_456);
    }
}
