use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};

use super::{AlertPolicy, BurnRule, Severity};
use crate::{SliHistory, episodes, regimes};

/// Share of a window's budget from which on an episode counts as worth an alert: what the fastest page stands for.
const EPISODE_BUDGET_SHARE: f64 = 0.02;
/// Alerts of one severity that end and begin within this are one: nobody is called twice for it.
const JOIN_MS: i64 = 2 * BUCKET_MS;
const WEEK_DAYS: f64 = 7.0;

/// A span of time `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Its start.
    pub start_ms: UnixMillis,
    /// Its end.
    pub end_ms: UnixMillis,
}

/// What alerts are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// Incidents on record: what people and pagers said.
    Incidents,
    /// Episodes of the history itself that spent at least 2 % of a window's budget beyond the chronic level.
    Episodes,
}

/// What a policy would have done.
#[derive(Debug, Clone, PartialEq)]
pub struct BackTest {
    /// Days of buckets that it ran over.
    pub covered_days: f64,
    /// By severity, pages first; only those that the policy has.
    pub severities: Vec<SeverityScore>,
    /// One for each rule, in its order.
    pub rules: Vec<RuleScore>,
}

/// What one rule did by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RuleScore {
    /// Times that it began to fire.
    pub alert_count: u32,
    /// Share of the buckets that it fired in.
    pub firing_ratio: f64,
}

/// What the rules of one severity did together.
#[derive(Debug, Clone, PartialEq)]
pub struct SeverityScore {
    /// Which.
    pub severity: Severity,
    /// Times that somebody would have been called.
    pub alerts: Vec<Interval>,
    /// The same a week of buckets present.
    pub alerts_per_week: f64,
    /// Against each reference.
    pub scores: Vec<Score>,
}

/// Alerts against what they should find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// What they are held against.
    pub reference: Reference,
    /// How many there were in the span.
    pub reference_count: u32,
    /// How many of them an alert was raised for.
    pub detected_count: u32,
    /// Alerts that belong to one.
    pub matched_alert_count: u32,
    /// Share of alerts that belong to one; `None` without an alert.
    pub precision: Option<f64>,
    /// Share of them that were found; `None` where there were none.
    pub recall: Option<f64>,
    /// From the start to the first alert, the middle of those found, in milliseconds: 0 where it fired before.
    pub detection_ms_median: Option<i64>,
    /// The longest.
    pub detection_ms_max: Option<i64>,
    /// From the end to the end of the last alert, the middle of those found: 0 where it ended before.
    pub reset_ms_median: Option<i64>,
}

/// Runs a policy over a history, bucket by bucket, and holds what it raises against the incidents handed in and against
/// the episodes of the history itself.
///
/// A rule fires at the end of a bucket when both windows up to there exceed its error ratio (a window without requests never does).
/// An alert belongs to an incident when it fires within it, or begins no later after it than the short window of its severity's
/// slowest rule reaches back. Incidents outside the span, and those that lie in time without buckets as a whole, are not counted:
/// nobody could have seen them here. The windows have no fitted constants, so nothing is tested on what it was fitted to.
#[must_use]
pub fn back_test(history: &SliHistory, policy: &AlertPolicy, incidents: &[Interval]) -> BackTest {
    let fired: Vec<Vec<Interval>> = policy.rules.iter().map(|rule| fire(history, rule)).collect();
    let covered_days = history.series().covered_days();
    let of_rule = |alerts: &Vec<Interval>| RuleScore {
        alert_count: alerts.len() as u32,
        firing_ratio: if covered_days > 0.0 {
            let firing: i64 = alerts.iter().map(|alert| alert.end_ms - alert.start_ms).sum();
            (firing as f64 / DAY_MS as f64 / covered_days).min(1.0)
        } else {
            0.0
        },
    };
    let incidents = seen(history, incidents);
    let episodes = significant(history, policy);
    let severities = [Severity::Page, Severity::Ticket].into_iter().filter_map(|severity| {
        let of = || policy.rules.iter().zip(&fired).filter(move |(rule, _)| rule.severity == severity);
        let slack_ms = of().map(|(rule, _)| rule.short_ms).max()?;
        let alerts = union(of().flat_map(|(_, alerts)| alerts.iter().copied()).collect());
        let weeks = covered_days / WEEK_DAYS;
        Some(SeverityScore {
            severity,
            alerts_per_week: if weeks > 0.0 { alerts.len() as f64 / weeks } else { 0.0 },
            scores: vec![
                score(Reference::Incidents, &alerts, &incidents, slack_ms),
                score(Reference::Episodes, &alerts, &episodes, slack_ms),
            ],
            alerts,
        })
    });
    BackTest { covered_days, severities: severities.collect(), rules: fired.iter().map(of_rule).collect() }
}

/// When a rule fires: from the end of the first bucket that both windows exceed to that of the first that they no longer do.
fn fire(history: &SliHistory, rule: &BurnRule) -> Vec<Interval> {
    let mut alerts: Vec<Interval> = Vec::new();
    for point in history.series().points() {
        let at_ms = point.start_ms + BUCKET_MS;
        // Where nothing fails the short window may still burn; where the long one cannot, the short one need not be asked.
        let long = history.tally(at_ms - rule.long_ms, at_ms);
        let burns = |tally: crate::Tally| tally.error_ratio().is_some_and(|ratio| ratio > rule.error_ratio);
        let enough = rule.bad_count_min.is_none_or(|least| long.bad >= f64::from(least));
        if !enough || !burns(long) || !burns(history.tally(at_ms - rule.short_ms.max(BUCKET_MS), at_ms)) {
            continue;
        }
        match alerts.last_mut() {
            Some(last) if last.end_ms == at_ms => last.end_ms = at_ms + BUCKET_MS,
            _ => alerts.push(Interval { start_ms: at_ms, end_ms: at_ms + BUCKET_MS }),
        }
    }
    alerts
}

/// Alerts of several rules as the one that somebody is called for.
fn union(mut alerts: Vec<Interval>) -> Vec<Interval> {
    alerts.sort_by_key(|alert| (alert.start_ms, alert.end_ms));
    let mut joined: Vec<Interval> = Vec::new();
    for alert in alerts {
        match joined.last_mut() {
            Some(last) if alert.start_ms <= last.end_ms + JOIN_MS => last.end_ms = last.end_ms.max(alert.end_ms),
            _ => joined.push(alert),
        }
    }
    joined
}

/// Incidents that the history could show, those that overlap taken as one.
fn seen(history: &SliHistory, incidents: &[Interval]) -> Vec<Interval> {
    let visible = |incident: &Interval| {
        let from_ms = incident.start_ms - incident.start_ms.rem_euclid(BUCKET_MS);
        history.tally(from_ms, incident.end_ms.max(incident.start_ms + 1)).coverage_ratio > 0.0
    };
    let mut seen: Vec<Interval> = incidents.iter().copied().filter(visible).collect();
    seen.sort_by_key(|incident| (incident.start_ms, incident.end_ms));
    let mut apart: Vec<Interval> = Vec::new();
    for incident in seen {
        match apart.last_mut() {
            Some(last) if incident.start_ms <= last.end_ms => last.end_ms = last.end_ms.max(incident.end_ms),
            _ => apart.push(incident),
        }
    }
    apart
}

/// Episodes of the history that were worth an alert.
fn significant(history: &SliHistory, policy: &AlertPolicy) -> Vec<Interval> {
    let series = history.series();
    let budget = policy.budget_ratio * history.valid_per_day() * policy.window_days;
    episodes(series, &regimes(series.points()))
        .into_iter()
        .filter(|episode| budget > 0.0 && episode.excess_bad >= EPISODE_BUDGET_SHARE * budget)
        .map(|episode| Interval { start_ms: episode.start_ms, end_ms: episode.end_ms })
        .collect()
}

fn score(reference: Reference, alerts: &[Interval], wanted: &[Interval], slack_ms: i64) -> Score {
    let belongs = |alert: &Interval, incident: &Interval| {
        alert.start_ms <= incident.end_ms + slack_ms && alert.end_ms > incident.start_ms
    };
    let matched = alerts.iter().filter(|alert| wanted.iter().any(|incident| belongs(alert, incident))).count();
    let (mut detection, mut reset) = (Vec::new(), Vec::new());
    for incident in wanted {
        let mut of = alerts.iter().filter(|alert| belongs(alert, incident));
        let Some(first) = of.next() else { continue };
        let last = of.next_back().unwrap_or(first);
        detection.push((first.start_ms - incident.start_ms).max(0));
        reset.push((last.end_ms - incident.end_ms).max(0));
    }
    let share = |part: usize, all: usize| (all > 0).then(|| part as f64 / all as f64);
    Score {
        reference,
        reference_count: wanted.len() as u32,
        detected_count: detection.len() as u32,
        matched_alert_count: matched as u32,
        precision: share(matched, alerts.len()),
        recall: share(detection.len(), wanted.len()),
        detection_ms_median: median(&mut detection),
        detection_ms_max: detection.last().copied(),
        reset_ms_median: median(&mut reset),
    }
}

/// The middle one, the later of two; sorts.
fn median(values: &mut [i64]) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
