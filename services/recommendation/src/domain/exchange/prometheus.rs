//! Recording rules and multi-window burn-rate alerts of Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use attain_attainment::alerts::{BurnRule, Severity, words};
use serde::Serialize;

use super::metrics::{Queries, SLICE, oldest};
use super::selector::quoted;
use super::{Export, File, Subject, rule_tests, tidy, yaml};
use crate::Error;

/// What the rules record.
const ERROR_RATIO: &str = "attain:sli_error:ratio_rate";
const REMAINING: &str = "attain:error_budget_remaining:ratio";
const OBJECTIVE: &str = "attain:objective:ratio";
/// 1 where nothing of the last slice was older than it may be, else 0.
const FRESH: &str = "attain:fresh:bool";
/// The remaining budget looks back over a whole window: it is asked for less often.
const BUDGET_INTERVAL: &str = "5m";

#[derive(Serialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<&'static str>,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Rule {
    Record { record: String, expr: String, labels: BTreeMap<&'static str, String> },
    Alert(Alert),
}

/// An alert of one severity; its tests expect exactly this.
#[derive(Serialize)]
pub(super) struct Alert {
    pub(super) alert: &'static str,
    pub(super) expr: String,
    pub(super) labels: BTreeMap<&'static str, String>,
    pub(super) annotations: BTreeMap<&'static str, String>,
}

pub(super) fn export(subjects: &[Subject<'_>]) -> Result<Export, Error> {
    let service = super::service_label(&subjects[0].slo.service);
    let (rules_name, tests_name) = (format!("{service}.rules.yaml"), format!("{service}.tests.yaml"));
    let mut groups = Vec::new();
    let mut notes = Vec::new();
    for subject in subjects {
        groups.extend(slices(subject));
        groups.push(Group { name: format!("attain-{}-sli", subject.name), interval: None, rules: recordings(subject) });
        groups.push(Group {
            name: format!("attain-{}-budget", subject.name),
            interval: Some(BUDGET_INTERVAL),
            rules: budget(subject),
        });
        let alerts = alerts(subject).into_iter().map(|(_, alert)| Rule::Alert(alert)).collect();
        groups.push(Group { name: format!("attain-{}-alerts", subject.name), interval: None, rules: alerts });
        notes.extend(subject.alerts.notes.iter().cloned());
    }
    notes.dedup();
    let mut files = vec![File { name: rules_name.clone(), content: yaml(&Rules { groups })? }];
    let (tests, untested) = rule_tests::tests(subjects, &rules_name);
    if let Some(tests) = tests {
        files.push(File { name: tests_name, content: yaml(&tests)? });
    }
    notes.extend(untested);
    notes.push(
        "`rate` does not see the first failures of a series that was not there before: few failures are counted too low."
            .to_owned(),
    );
    Ok(Export { files, notes })
}

/// Rules that record whether each slice was fresh, of those SLOs that count slices; `None` where none does.
pub(super) fn recorded_slices(subjects: &[Subject<'_>]) -> Result<Option<String>, Error> {
    let groups: Vec<Group> = subjects.iter().filter_map(slices).collect();
    if groups.is_empty() { Ok(None) } else { yaml(&Rules { groups }).map(Some) }
}

/// A rule that runs once a slice. Over a long window its series is a few thousand samples, and the gauge of the age a million.
fn slices(subject: &Subject<'_>) -> Option<Group> {
    let Queries::Ages { ages, limit } = &subject.queries else { return None };
    let rule = Rule::Record {
        record: FRESH.to_owned(),
        expr: format!("{} <= bool {limit}", oldest(ages)),
        labels: labels(subject),
    };
    Some(Group { name: format!("attain-{}-slices", subject.name), interval: Some(SLICE), rules: vec![rule] })
}

/// The series that [`recorded_slices`] has of an SLO.
pub(super) fn fresh(subject: &Subject<'_>) -> String {
    format!("{FRESH}{{attain_slo={}}}", quoted(&subject.name))
}

fn error_ratio(subject: &Subject<'_>, window: &str) -> String {
    match &subject.queries {
        Queries::Ages { .. } => format!("1 - avg_over_time({}[{window}])", fresh(subject)),
        queries => queries.error_ratio(window),
    }
}

fn labels(subject: &Subject<'_>) -> BTreeMap<&'static str, String> {
    [("attain_service", subject.slo.service.to_string()), ("attain_slo", subject.name.clone())].into()
}

/// The error ratio over each window that a rule looks at.
fn recordings(subject: &Subject<'_>) -> Vec<Rule> {
    let windows: BTreeSet<i64> = subject.alerts.rules.iter().flat_map(|rule| [rule.short_ms, rule.long_ms]).collect();
    windows
        .into_iter()
        .map(|window_ms| {
            let window = words(window_ms);
            Rule::Record {
                record: format!("{ERROR_RATIO}{window}"),
                expr: error_ratio(subject, &window),
                labels: labels(subject),
            }
        })
        .collect()
}

fn budget(subject: &Subject<'_>) -> Vec<Rule> {
    let window = format!("{}d", subject.slo.window.days());
    let budget = tidy(subject.slo.target.error_budget());
    vec![
        Rule::Record {
            record: OBJECTIVE.to_owned(),
            expr: format!("vector({})", subject.slo.target.target_ratio()),
            labels: labels(subject),
        },
        Rule::Record {
            record: REMAINING.to_owned(),
            expr: format!("1 - ({}) / {budget}", error_ratio(subject, &window)),
            labels: labels(subject),
        },
    ]
}

/// One alert for each severity that has a rule.
pub(super) fn alerts(subject: &Subject<'_>) -> Vec<(Severity, Alert)> {
    let of = |severity: Severity| {
        let rules: Vec<&BurnRule> = subject.alerts.rules.iter().filter(|rule| rule.severity == severity).collect();
        let (alert, word) = match severity {
            Severity::Page => ("ErrorBudgetBurnPage", "page"),
            Severity::Ticket => ("ErrorBudgetBurnTicket", "ticket"),
        };
        let mut labels = labels(subject);
        labels.insert("severity", word.to_owned());
        let expr: Vec<String> = rules.iter().map(|rule| condition(subject, rule)).collect();
        (!rules.is_empty()).then(|| {
            (severity, Alert { alert, expr: expr.join("\nor\n"), labels, annotations: annotations(subject, &rules) })
        })
    };
    [Severity::Page, Severity::Ticket].into_iter().filter_map(of).collect()
}

/// Both windows burn, and where traffic is low enough failed.
fn condition(subject: &Subject<'_>, rule: &BurnRule) -> String {
    let threshold = format!("({} * {})", tidy(rule.burn_rate), tidy(subject.slo.target.error_budget()));
    let name = quoted(&subject.name);
    let burns = |window_ms| format!("{ERROR_RATIO}{}{{attain_slo={name}}} > {threshold}", words(window_ms));
    let guard = match rule.bad_count_min {
        Some(least) => {
            format!(" and on() ({} >= {least})", subject.queries.bad("increase", &words(rule.long_ms)))
        }
        None => String::new(),
    };
    format!("({} and {}{guard})", burns(rule.long_ms), burns(rule.short_ms))
}

fn annotations(subject: &Subject<'_>, rules: &[&BurnRule]) -> BTreeMap<&'static str, String> {
    let share = |rule: &&BurnRule| {
        format!("{} % of it within {}", tidy((rule.budget_share * 1e4).round() / 100.0), words(rule.long_ms))
    };
    let shares: Vec<String> = rules.iter().map(share).collect();
    let spends = format!("{} spends its error budget too fast: {}.", subject.slo.service, shares.join(", or "));
    [("summary", spends), ("description", subject.description())].into()
}
