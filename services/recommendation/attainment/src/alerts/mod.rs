//! Alerts on the burn rate of an error budget, and what they would have done on a service's own history.
//!
//! Entry points: [`policy`] gives the rules for an SLO and the traffic it has, [`back_test()`] runs them over a history.
//! The rules are those of *The Site Reliability Workbook* (Beyer et al., 2018), chapter 5, "Alerting on SLOs", method 6: a long
//! window says that the budget burns, a short one that it still does.

mod back_test;

pub use back_test::{BackTest, Interval, Reference, RuleScore, Score, SeverityScore, back_test};

use attain_vocabulary::{BUCKET_MS, DAY_MS};

use crate::explain::percent;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Windows and shares of the budget, most urgent first: long window, short window, share of the whole budget that is spent
/// within the long one when the rule fires, severity.
///
/// Source: *The Site Reliability Workbook*, chapter 5, table 5-8 (2 % in 1 h and 5 % in 6 h page, 10 % in 3 d opens a ticket;
/// short windows of a twelfth); 10 % in 1 d as Sloth adds it. For 30 days they are burn rates of 14.4, 6, 3 and 1.
const RULES: [(i64, i64, f64, Severity); 4] = [
    (HOUR_MS, 5 * MINUTE_MS, 0.02, Severity::Page),
    (6 * HOUR_MS, 30 * MINUTE_MS, 0.05, Severity::Page),
    (DAY_MS, 2 * HOUR_MS, 0.10, Severity::Ticket),
    (3 * DAY_MS, 6 * HOUR_MS, 0.10, Severity::Ticket),
];

/// A rule that fewer failures than this would trip asks for at least so many besides: one failed request says nothing of a
/// service, and two may be one user who tried again. A choice of the house.
const FAILURES_MIN: f64 = 3.0;

/// How soon somebody has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// At once, at any hour.
    Page,
    /// Within the next working days.
    Ticket,
}

/// One pair of windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurnRule {
    /// Who is called.
    pub severity: Severity,
    /// Long window, in milliseconds.
    pub long_ms: i64,
    /// Short window, in milliseconds.
    pub short_ms: i64,
    /// Burn rate that both windows have to exceed: error ratio over budget.
    pub burn_rate: f64,
    /// Error ratio that both windows have to exceed: burn rate times budget, below 1.
    pub error_ratio: f64,
    /// Share of the whole budget that the long window spends at this rate.
    pub budget_share: f64,
    /// Failures in the long window that trip it, at the traffic measured; `None` without any.
    pub failures_to_fire: Option<f64>,
    /// Failures that the long window has to hold besides; `None` where traffic is enough.
    pub bad_count_min: Option<u32>,
}

/// What an SLO counts, and how many of it come a day; `None` where none was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Counted {
    /// Requests.
    Requests(Option<f64>),
    /// Slices of five minutes, as freshness has them. One that is bad is no accident of a single request, and no traffic makes more of
    /// them: no rule is guarded.
    Slices(Option<f64>),
}

impl Counted {
    fn per_day(self) -> Option<f64> {
        let (Self::Requests(per_day) | Self::Slices(per_day)) = self;
        per_day.filter(|per_day| *per_day > 0.0)
    }
}

/// Rules for one SLO.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertPolicy {
    /// `1 - target`.
    pub budget_ratio: f64,
    /// Length of the SLO's window, in days.
    pub window_days: f64,
    /// Requests, or slices, a day that the volume was judged by; `None` where none was measured.
    pub valid_per_day: Option<f64>,
    /// The rules, most urgent first.
    pub rules: Vec<BurnRule>,
    /// Whether a rule had to be guarded: traffic is too low for it alone.
    pub low_traffic: bool,
    /// Requests a day from which on no rule needs a guard; 0 for slices, which need none.
    pub sufficient_valid_per_day: f64,
    /// What was left out or changed and why, and what chapter 5 advises for low traffic; sentences.
    pub notes: Vec<String>,
}

/// The rules for a budget of a window, and for the traffic it has.
///
/// Windows keep their lengths and burn rates follow the SLO's window: the same share of the budget in the same time is `share x
/// window / long window`. What cannot be asked is left out, and said: an error ratio of 1 and more never comes; and a rate below
/// 1 never spends the budget, so the first rule that a short window leaves below 1 is at 1, and longer ones fall away.
#[must_use]
pub fn policy(budget_ratio: f64, window_days: f64, counted: Counted) -> AlertPolicy {
    let valid_per_day = counted.per_day();
    let by_slices = matches!(counted, Counted::Slices(_));
    let mut notes = Vec::new();
    let mut rules: Vec<BurnRule> = Vec::new();
    for (long_ms, short_ms, share, severity) in RULES {
        let long_days = long_ms as f64 / DAY_MS as f64;
        let scaled = share * window_days / long_days;
        if scaled < 1.0 && rules.iter().any(|rule| rule.burn_rate <= 1.0) {
            notes.push(format!(
                "No rule over {}: {} of the budget in that time is a burn rate below 1, which never spends it, and a shorter rule \
                 is at 1 already.",
                words(long_ms),
                percent(share)
            ));
            continue;
        }
        let burn_rate = scaled.max(1.0);
        let error_ratio = burn_rate * budget_ratio;
        if error_ratio >= 1.0 {
            let everything = if by_slices { "every slice being bad" } else { "every request failing" };
            notes.push(format!(
                "No rule over {}: a burn rate of {} is more than {everything}.",
                words(long_ms),
                rounded(burn_rate)
            ));
            continue;
        }
        let failures_to_fire = valid_per_day.map(|valid| valid * long_days * error_ratio);
        let guarded = !by_slices && failures_to_fire.is_some_and(|failures| failures < FAILURES_MIN);
        rules.push(BurnRule {
            severity,
            long_ms,
            short_ms,
            burn_rate,
            error_ratio,
            budget_share: burn_rate * long_days / window_days,
            failures_to_fire,
            bad_count_min: guarded.then_some(FAILURES_MIN as u32),
        });
    }
    let sufficient = |rule: &BurnRule| FAILURES_MIN / (rule.error_ratio * rule.long_ms as f64 / DAY_MS as f64);
    let sufficient_valid_per_day = if by_slices { 0.0 } else { rules.iter().map(sufficient).fold(0.0, f64::max) };
    let low_traffic = rules.iter().any(|rule| rule.bad_count_min.is_some());
    if low_traffic {
        notes.extend(low_traffic_advice(sufficient_valid_per_day));
    }
    if let Some(rule) = rules.iter().find(|rule| rule.short_ms <= BUCKET_MS) {
        let short = words(rule.short_ms);
        notes.push(if by_slices {
            format!("A slice is five minutes: the short window of {short} is one of them, so it burns as long as the newest slice is bad.")
        } else {
            format!(
                "Counts come in buckets of five minutes: the short window of {short} is one of them, so a back-test sees neither a \
                 failure shorter than that by itself nor when within it a rule would have fired."
            )
        });
    }
    AlertPolicy { budget_ratio, window_days, valid_per_day, rules, low_traffic, sufficient_valid_per_day, notes }
}

/// What *The Site Reliability Workbook* advises where a handful of failures spends the budget (chapter 5, "Low-Traffic Services and
/// Error Budget Alerting"), in our words.
fn low_traffic_advice(sufficient_valid_per_day: f64) -> Vec<String> {
    vec![
        format!(
            "So few requests come that fewer than {FAILURES_MIN} failures trip a rule: such rules ask for at least \
             {FAILURES_MIN} failures besides, and so find small outages later. From {} requests a day on none would need to.",
            sufficient_valid_per_day.ceil()
        ),
        "Probes can make up the missing requests, as far as they go the ways that users go; what they do not touch they hide."
            .to_owned(),
        "Services that fail together, or that one team looks after, can share one SLO, and so their traffic.".to_owned(),
        "A caller that retries with back-off, or falls back, makes a single failed request harmless; then count what its user \
         sees."
            .to_owned(),
        "Where one failure does no harm, a looser target or a longer window says so.".to_owned(),
    ]
}

/// A length of time in its largest whole unit: `5m`, `6h`, `3d`.
#[must_use]
pub fn words(length_ms: i64) -> String {
    match length_ms {
        length if length % DAY_MS == 0 => format!("{}d", length / DAY_MS),
        length if length % HOUR_MS == 0 => format!("{}h", length / HOUR_MS),
        length => format!("{}m", length / MINUTE_MS),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
