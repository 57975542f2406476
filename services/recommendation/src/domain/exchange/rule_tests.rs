//! Tests for the rules, as `promtool test rules` runs them: each alert fires where it should, and nothing does where it should not.

use std::collections::BTreeMap;

use attain_attainment::alerts::Severity;
use serde::Serialize;

use super::Subject;
use super::metrics::Samples;
use super::prometheus::{Alert, alerts};
use super::selector::Series;

/// Times the limit that something waits in a test.
const LATE: f64 = 2.0;
/// Requests a minute in a test: enough that a failure ratio of a millionth is a whole number.
const VALID: u64 = 10_000_000;
/// How far above the threshold a failure ratio is that has to be found, where there is room.
const ABOVE: f64 = 1.5;
/// A part of the budget's own rate that nobody is called for.
const BELOW: f64 = 0.5;
const MINUTES: u64 = 150;
/// When failures end, for the page that has to end as well.
const CALM_FROM: u64 = 60;

#[derive(Serialize)]
pub(super) struct Tests {
    rule_files: Vec<String>,
    evaluation_interval: &'static str,
    tests: Vec<Test>,
}

#[derive(Serialize)]
struct Test {
    name: String,
    interval: &'static str,
    input_series: Vec<Input>,
    alert_rule_test: Vec<Expectation>,
}

#[derive(Serialize)]
struct Input {
    series: String,
    values: String,
}

#[derive(Serialize)]
struct Expectation {
    eval_time: String,
    alertname: &'static str,
    exp_alerts: Vec<Raised>,
}

#[derive(Serialize)]
struct Raised {
    exp_labels: BTreeMap<&'static str, String>,
    exp_annotations: BTreeMap<&'static str, String>,
}

/// How much fails in a span of a test.
#[derive(Clone, Copy)]
enum Failing {
    /// This share of requests, and every slice of time.
    Share(f64),
    /// This share of requests, and no slice: half a slice cannot be late.
    Quietly(f64),
    Nothing,
}

impl Failing {
    fn share(self) -> f64 {
        match self {
            Self::Share(share) | Self::Quietly(share) => share,
            Self::Nothing => 0.0,
        }
    }

    fn is_late(self) -> bool {
        matches!(self, Self::Share(_))
    }
}

/// Tests of every SLO whose selectors can be told apart, and a sentence for each whose cannot.
pub(super) fn tests(subjects: &[Subject<'_>], rules_name: &str) -> (Option<Tests>, Vec<String>) {
    let mut tests = Vec::new();
    let mut notes = Vec::new();
    for subject in subjects {
        match subject.queries.samples(subject.slo) {
            Some(samples) => tests.extend(of(subject, &samples)),
            None => notes.push(format!(
                "There are no tests for {}: no series could be made up that its selectors for good and for failed requests tell \
                 apart.",
                subject.name
            )),
        }
    }
    let rule_files = vec![rules_name.to_owned()];
    ((!tests.is_empty()).then_some(Tests { rule_files, evaluation_interval: "1m", tests }), notes)
}

fn of(subject: &Subject<'_>, samples: &Samples) -> Vec<Test> {
    let alerts = alerts(subject);
    let budget = subject.slo.target.error_budget();
    let fastest = subject.alerts.rules.iter().map(|rule| rule.error_ratio).fold(0.0, f64::max);
    // Half way to every request failing where there is no room above.
    let burning = (fastest * ABOVE).min((1.0 + fastest) / 2.0);
    let name = |what: &str| format!("{}: {what}", subject.name);
    let calm = match samples {
        Samples::Requests { .. } => "nobody is called at half the rate that spends the budget",
        Samples::Ages { .. } => "nobody is called while the oldest is exactly as old as it may be",
    };
    let (burning, quiet) = (Failing::Share(burning), Failing::Quietly(budget * BELOW));
    let mut all = vec![
        Test {
            name: name("everybody is called where it burns above every rate"),
            interval: "1m",
            input_series: series(samples, &[(burning, MINUTES)]),
            alert_rule_test: alerts.iter().map(|(_, alert)| expectation(alert, 120, true)).collect(),
        },
        Test {
            name: name(calm),
            interval: "1m",
            input_series: series(samples, &[(quiet, MINUTES)]),
            alert_rule_test: alerts.iter().map(|(_, alert)| expectation(alert, 120, false)).collect(),
        },
    ];
    if let Some((_, page)) = alerts.iter().find(|(severity, _)| *severity == Severity::Page) {
        all.push(Test {
            name: name("the page ends when failures do"),
            interval: "1m",
            input_series: series(samples, &[(burning, CALM_FROM), (Failing::Nothing, MINUTES - CALM_FROM)]),
            alert_rule_test: vec![expectation(page, CALM_FROM, true), expectation(page, CALM_FROM + 45, false)],
        });
    }
    all
}

fn expectation(alert: &Alert, minute: u64, raised: bool) -> Expectation {
    let raised =
        raised.then(|| Raised { exp_labels: alert.labels.clone(), exp_annotations: alert.annotations.clone() });
    Expectation { eval_time: format!("{minute}m"), alertname: alert.alert, exp_alerts: raised.into_iter().collect() }
}

/// What is put in for spans of minutes in which so much fails.
fn series(samples: &Samples, spans: &[(Failing, u64)]) -> Vec<Input> {
    match samples {
        Samples::Requests { good, all, bad } => counters([good, all, bad], spans),
        Samples::Ages { gauge, limit } => {
            let value = |failing: Failing| if failing.is_late() { limit * LATE } else { *limit };
            let values = spans.iter().map(|(failing, minutes)| format!("{}+0x{}", value(*failing), minutes - 1));
            vec![Input { series: gauge.render(), values: values.collect::<Vec<_>>().join(" ") }]
        }
    }
}

/// Counters of good requests, of all and of bad ones, which grow so that of the requests of each span so many fail.
fn counters([good, all, bad]: [&Vec<Series>; 3], spans: &[(Failing, u64)]) -> Vec<Input> {
    let failed = |ratio: f64| ((VALID as f64 * ratio).ceil() as u64).min(VALID);
    let counter = |of: &dyn Fn(f64) -> u64| {
        let mut value = 0;
        let mut parts = Vec::new();
        for (failing, minutes) in spans {
            let step = of(failing.share());
            // `a+bxn` is n + 1 values: a span begins one step after the one before ended.
            let (start, times) = if parts.is_empty() { (0, *minutes) } else { (value + step, minutes - 1) };
            parts.push(format!("{start}+{step}x{times}"));
            value = start + step * times;
        }
        parts.join(" ")
    };
    let values = [counter(&|ratio| VALID - failed(ratio)), counter(&|_| VALID), counter(&failed)];
    [good, all, bad]
        .into_iter()
        .zip(values)
        .flat_map(|(group, values)| {
            group.iter().map(move |series| Input { series: series.render(), values: values.clone() })
        })
        .collect()
}
