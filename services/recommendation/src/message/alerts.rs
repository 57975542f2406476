//! Alerts on the wire.

use attain_attainment::alerts::{AlertPolicy, BackTest, BurnRule, Interval, Reference, RuleScore, Score, Severity};
use attain_proto::convert::{duration, timestamp};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;
use attain_vocabulary::{Objective, SliKind, TimeWindow, UnixMillis};

use super::window;

/// Most alerts of a severity that are listed.
const NEWEST_MAX: usize = 20;

/// The SLO that alerts are for; without an id where it is only asked about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AboutSlo {
    pub(crate) slo_id: String,
    pub(crate) kind: SliKind,
    pub(crate) target: Objective,
    pub(crate) latency_threshold_ms: Option<u32>,
    pub(crate) window: TimeWindow,
}

pub(crate) fn policy(
    about: &AboutSlo,
    policy: AlertPolicy,
    tested: Option<(UnixMillis, BackTest)>,
) -> wire::AlertPolicy {
    let scores = tested.as_ref().map(|(_, tested)| tested.rules.as_slice()).unwrap_or_default();
    let rules = policy.rules.iter().enumerate().map(|(place, of)| rule(of, scores.get(place))).collect();
    wire::AlertPolicy {
        slo_id: about.slo_id.clone(),
        kind: WireKind::from(about.kind) as i32,
        target_ratio: about.target.target_ratio(),
        latency_threshold_ms: about.latency_threshold_ms.unwrap_or(0),
        window_days: about.window.days(),
        rules,
        valid_per_day: policy.valid_per_day,
        low_traffic: policy.low_traffic,
        sufficient_valid_per_day: policy.sufficient_valid_per_day,
        notes: policy.notes,
        back_test: tested.map(|(first_ms, tested)| back_test(first_ms, &tested)),
        calendar_window: window::calendar(about.window),
    }
}

fn rule(rule: &BurnRule, score: Option<&RuleScore>) -> wire::BurnRateRule {
    wire::BurnRateRule {
        severity: severity(rule.severity) as i32,
        long_window: Some(duration(rule.long_ms)),
        short_window: Some(duration(rule.short_ms)),
        burn_rate: rule.burn_rate,
        error_ratio: rule.error_ratio,
        budget_share: rule.budget_share,
        failures_to_fire: rule.failures_to_fire,
        bad_count_min: rule.bad_count_min.unwrap_or(0),
        alert_count: score.map_or(0, |score| score.alert_count),
        firing_ratio: score.map_or(0.0, |score| score.firing_ratio),
    }
}

fn back_test(first_ms: UnixMillis, tested: &BackTest) -> wire::AlertBackTest {
    let raised = |alert: &Interval| wire::RaisedAlert {
        start_time: Some(timestamp(alert.start_ms)),
        end_time: Some(timestamp(alert.end_ms)),
    };
    let severities = tested.severities.iter().map(|of| wire::AlertSeverityScore {
        severity: severity(of.severity) as i32,
        alert_count: of.alerts.len() as u32,
        alerts_per_week: of.alerts_per_week,
        newest: of.alerts.iter().rev().take(NEWEST_MAX).map(raised).collect(),
        scores: of.scores.iter().map(score).collect(),
    });
    wire::AlertBackTest {
        covered_days: tested.covered_days,
        start_time: Some(timestamp(first_ms)),
        severities: severities.collect(),
    }
}

fn score(score: &Score) -> wire::AlertScore {
    let reference = match score.reference {
        Reference::Incidents => wire::AlertReference::Incidents,
        Reference::Episodes => wire::AlertReference::Episodes,
    };
    wire::AlertScore {
        reference: reference as i32,
        reference_count: score.reference_count,
        detected_count: score.detected_count,
        matched_alert_count: score.matched_alert_count,
        precision: score.precision,
        recall: score.recall,
        detection_median: score.detection_ms_median.map(duration),
        detection_max: score.detection_ms_max.map(duration),
        reset_median: score.reset_ms_median.map(duration),
    }
}

fn severity(severity: Severity) -> wire::AlertSeverity {
    match severity {
        Severity::Page => wire::AlertSeverity::Page,
        Severity::Ticket => wire::AlertSeverity::Ticket,
    }
}
