//! Scores drift detectors: on labelled series of the Numenta Anomaly Benchmark, and on simulated own failures of services with
//! known changes.
//!
//! Each method has one threshold. It is chosen on one half of the streams (most changes found among those thresholds whose
//! false alarms stay within a bound) and scored on the other half.

mod labelled;
mod simulated;

use std::path::PathBuf;

use attain_drift::{Settings, Spread, Watch};
use attain_vocabulary::UnixMillis;
use clap::Args;
use serde_json::{Value, json};

use crate::scores;

const MONTH_MS: f64 = 30.0 * 86_400_000.0;
/// Weight of the newest value in the exponentially weighted mean, as in textbooks of process control.
const EWMA_WEIGHT: f64 = 0.2;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder with `data/*/*.csv` (columns timestamp and value) and `labels/combined_windows.json`; left out, only simulated
    /// streams are scored.
    #[arg(long)]
    series: Option<PathBuf>,
    /// Simulated services that thresholds are chosen on, and as many that are scored.
    #[arg(long, default_value_t = 400)]
    services: u32,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// What a detector reads: cells in order, each with the instant at which it is known.
pub(crate) struct Stream {
    name: String,
    cells: Vec<Reading>,
    /// Spans in which an alarm is right.
    changes: Vec<Span>,
}

/// One cell.
#[derive(Clone, Copy)]
struct Reading {
    start_ms: UnixMillis,
    known_ms: UnixMillis,
    /// Requests, or 0 where the stream counts nothing.
    valid: f64,
    /// Failures, or the value.
    value: f64,
}

/// A change that is there to be found.
#[derive(Clone)]
struct Span {
    start_ms: UnixMillis,
    end_ms: UnixMillis,
    /// What it is counted under.
    kind: String,
}

/// Who raises alarms.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    PageHinkley,
    Adwin,
    Psi,
    /// Two of the three.
    Agreement,
    ThreeSigma,
    Ewma,
    None,
}

const METHODS: [(&str, Method); 7] = [
    ("page_hinkley", Method::PageHinkley),
    ("adwin", Method::Adwin),
    ("psi", Method::Psi),
    ("agreement_of_two", Method::Agreement),
    ("k_sigma", Method::ThreeSigma),
    ("ewma", Method::Ewma),
    ("none", Method::None),
];

/// Thresholds that are tried, the loosest first: one row a step, the same step for all three where they have to agree.
const STEPS: [Step; 7] = [
    Step { page_hinkley: 4.0, adwin: 0.5, psi: 1.5, sigma: 2.5, ewma: 2.0 },
    Step { page_hinkley: 6.0, adwin: 0.2, psi: 2.0, sigma: 3.0, ewma: 3.0 },
    Step { page_hinkley: 8.0, adwin: 0.1, psi: 2.5, sigma: 4.0, ewma: 4.0 },
    Step { page_hinkley: 10.0, adwin: 0.05, psi: 3.0, sigma: 5.0, ewma: 5.0 },
    Step { page_hinkley: 14.0, adwin: 0.01, psi: 4.0, sigma: 7.0, ewma: 7.0 },
    Step { page_hinkley: 20.0, adwin: 0.001, psi: 5.0, sigma: 10.0, ewma: 10.0 },
    Step { page_hinkley: 30.0, adwin: 1e-5, psi: 7.0, sigma: 20.0, ewma: 20.0 },
];

#[derive(Clone, Copy)]
struct Step {
    page_hinkley: f64,
    adwin: f64,
    psi: f64,
    sigma: f64,
    ewma: f64,
}

/// How streams of one kind are read.
struct Reader {
    settings: Settings,
    /// False alarms that are borne in a month of one service when a threshold is chosen.
    false_alarms_max: f64,
}

/// What a method did on streams.
#[derive(Default)]
struct Score {
    /// Delay in hours of each change that was found, by kind.
    delays: Vec<(String, f64)>,
    missed: Vec<String>,
    false_alarms: usize,
    months: f64,
}

/// Scores every method.
pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    let mut table = Vec::new();
    let simulated = simulated::streams(options.services, options.seed);
    let mut report = json!({ "simulated": evaluate("simulated", &simulated, &simulated::READER, &mut table) });
    if let Some(folder) = &options.series {
        let labelled = labelled::read(folder)?;
        report["labelled"] = evaluate("labelled", &labelled, &labelled::READER, &mut table);
        report["labelled"]["series_names"] = labelled.iter().map(|stream| stream.name.as_str()).collect();
    }
    let head = [
        "| streams | method | found | delay h (median / p90) | false alarms a service-month |",
        "|---|---|---|---|---|",
    ];
    report["table"] = head.into_iter().map(str::to_owned).chain(table).collect();
    report["product"] = json!({
        "settings": Settings::OWN_FAILURES,
        "simulated": score(&halves(&simulated).1, &|stream| watched(stream, Settings::OWN_FAILURES)).report(),
    });
    Ok(report)
}

/// Every other stream to choose on, the rest to score.
fn halves(streams: &[Stream]) -> (Vec<&Stream>, Vec<&Stream>) {
    let of =
        |rest: usize| streams.iter().enumerate().filter(|(i, _)| i % 2 == rest).map(|(_, stream)| stream).collect();
    (of(0), of(1))
}

fn evaluate(name: &str, streams: &[Stream], reader: &Reader, table: &mut Vec<String>) -> Value {
    let (choosing, scored) = halves(streams);
    let mut report = json!({
        "streams": streams.len(),
        "scored": scored.len(),
        "false_alarms_max_when_chosen": reader.false_alarms_max,
    });
    for (method_name, method) in METHODS {
        let alarms = |step: usize| move |stream: &Stream| alarms(method, &STEPS[step], reader, stream);
        let tried: Vec<Score> = (0..STEPS.len()).map(|step| score(&choosing, &alarms(step))).collect();
        let step = chosen(&tried, reader.false_alarms_max);
        let result = score(&scored, &alarms(step));
        table.push(result.row(name, method_name));
        let mut told = result.report();
        told["step"] = json!(step);
        told["when_chosen"] =
            json!({"found": tried[step].found(), "false_alarms_a_service_month": tried[step].false_rate()});
        report[method_name] = told;
    }
    report
}

/// The threshold that finds most with false alarms in bounds; where none is, the one with the fewest.
fn chosen(tried: &[Score], false_alarms_max: f64) -> usize {
    let steps = 0..tried.len();
    let within = steps.clone().filter(|step| tried[*step].false_rate() <= false_alarms_max);
    let best = within.min_by(|a, b| {
        let (a, b) = (&tried[*a], &tried[*b]);
        b.found().total_cmp(&a.found()).then(a.false_rate().total_cmp(&b.false_rate()))
    });
    best.or_else(|| steps.min_by(|a, b| tried[*a].false_rate().total_cmp(&tried[*b].false_rate()))).unwrap_or(0)
}

/// Instants at which a method raises an alarm.
fn alarms(method: Method, step: &Step, reader: &Reader, stream: &Stream) -> Vec<UnixMillis> {
    let none = Settings {
        page_hinkley_threshold: f64::INFINITY,
        adwin_delta: 0.0,
        psi_deviate: f64::INFINITY,
        agreement: 1,
        alone: None,
        ..reader.settings
    };
    match method {
        Method::PageHinkley => watched(stream, Settings { page_hinkley_threshold: step.page_hinkley, ..none }),
        Method::Adwin => watched(stream, Settings { adwin_delta: step.adwin, ..none }),
        Method::Psi => watched(stream, Settings { psi_deviate: step.psi, ..none }),
        Method::Agreement => {
            let settings = Settings {
                page_hinkley_threshold: step.page_hinkley,
                adwin_delta: step.adwin,
                psi_deviate: step.psi,
                agreement: 2,
                ..none
            };
            watched(stream, settings)
        }
        Method::ThreeSigma => charted(stream, &reader.settings, 1.0, step.sigma),
        Method::Ewma => charted(stream, &reader.settings, EWMA_WEIGHT, step.ewma),
        Method::None => Vec::new(),
    }
}

fn watched(stream: &Stream, settings: Settings) -> Vec<UnixMillis> {
    let mut watch = Watch::new(settings);
    let take = |cell: &Reading| {
        let change = if cell.valid > 0.0 {
            watch.push(cell.start_ms, cell.valid, cell.value)
        } else {
            watch.push_value(cell.start_ms, cell.known_ms, cell.value)
        };
        change.map(|change| change.detected_ms)
    };
    stream.cells.iter().filter_map(take).collect()
}

/// A control chart: an alarm when the weighted mean of distances leaves its limits, and again once it came back.
fn charted(stream: &Stream, settings: &Settings, weight: f64, limit: f64) -> Vec<UnixMillis> {
    let mut spread = Spread::new(settings.warm_cells, settings.spread_cells);
    let deviation = (weight / (2.0 - weight)).sqrt();
    let (mut mean, mut outside) = (0.0, false);
    let mut found = Vec::new();
    for cell in &stream.cells {
        let (level, noise) = if cell.valid > 0.0 {
            (attain_drift::transform(cell.value / cell.valid), 0.25 / cell.valid)
        } else {
            (cell.value, 0.0)
        };
        let Some(distance) = spread.push(level, noise, f64::MAX) else { continue };
        mean += weight * (distance - mean);
        let leaves = mean.abs() > limit * deviation;
        if leaves && !outside {
            found.push(cell.known_ms);
        }
        outside = leaves;
    }
    found
}

fn score(streams: &[&Stream], alarms: &dyn Fn(&Stream) -> Vec<UnixMillis>) -> Score {
    let mut score = Score::default();
    for stream in streams {
        let raised = alarms(stream);
        let inside = |at: UnixMillis, span: &Span| (span.start_ms..=span.end_ms).contains(&at);
        for span in &stream.changes {
            match raised.iter().find(|at| inside(**at, span)) {
                Some(at) => score.delays.push((span.kind.clone(), (at - span.start_ms) as f64 / 3_600_000.0)),
                None => score.missed.push(span.kind.clone()),
            }
        }
        let right = |at: &&UnixMillis| stream.changes.iter().any(|span| inside(**at, span));
        score.false_alarms += raised.iter().filter(|at| !right(at)).count();
        let whole = stream.cells.last().map_or(0, |last| last.known_ms - stream.cells[0].start_ms);
        let labelled: i64 = stream.changes.iter().map(|span| span.end_ms - span.start_ms).sum();
        score.months += (whole - labelled).max(0) as f64 / MONTH_MS;
    }
    score
}

impl Score {
    /// Share of the changes that were found.
    fn found(&self) -> f64 {
        self.delays.len() as f64 / (self.delays.len() + self.missed.len()).max(1) as f64
    }

    fn false_rate(&self) -> f64 {
        self.false_alarms as f64 / self.months.max(1e-9)
    }

    fn report(&self) -> Value {
        let mut kinds: Vec<&String> = self.delays.iter().map(|(kind, _)| kind).chain(&self.missed).collect();
        kinds.sort();
        kinds.dedup();
        let of = |kind: &String| {
            let delays: Vec<f64> = self.delays.iter().filter(|(of, _)| of == kind).map(|(_, delay)| *delay).collect();
            let missed = self.missed.iter().filter(|of| *of == kind).count();
            let value = json!({
                "changes": delays.len() + missed,
                "found": delays.len() as f64 / (delays.len() + missed) as f64,
                "delay_hours_median": scores::quantile(&delays, 0.5),
            });
            (kind.clone(), value)
        };
        let delays: Vec<f64> = self.delays.iter().map(|(_, delay)| *delay).collect();
        json!({
            "changes": self.delays.len() + self.missed.len(),
            "found": self.found(),
            "delay_hours_median": scores::quantile(&delays, 0.5),
            "delay_hours_p90": scores::quantile(&delays, 0.9),
            "false_alarms": self.false_alarms,
            "service_months": self.months,
            "false_alarms_a_service_month": self.false_rate(),
            "by_kind": kinds.into_iter().map(of).collect::<serde_json::Map<String, Value>>(),
        })
    }

    /// A row of the table in the documents.
    fn row(&self, streams: &str, method: &str) -> String {
        let delays: Vec<f64> = self.delays.iter().map(|(_, delay)| *delay).collect();
        let delay = if delays.is_empty() {
            "–".to_owned()
        } else {
            format!("{:.0} / {:.0}", scores::quantile(&delays, 0.5), scores::quantile(&delays, 0.9))
        };
        let (found, all) = (self.delays.len(), self.delays.len() + self.missed.len());
        let share = 100.0 * self.found();
        format!("| {streams} | {method} | {found} of {all} ({share:.0} %) | {delay} | {:.2} |", self.false_rate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(changes: &[(i64, i64)]) -> Stream {
        let cell = |i: i64| Reading { start_ms: i, known_ms: i + 1, valid: 0.0, value: 0.0 };
        let span = |(start_ms, end_ms): &(i64, i64)| Span { start_ms: *start_ms, end_ms: *end_ms, kind: "x".into() };
        Stream { name: "s".into(), cells: (0..100).map(cell).collect(), changes: changes.iter().map(span).collect() }
    }

    #[test]
    fn an_alarm_counts_where_a_change_is_and_against_where_none_is() {
        let stream = stream(&[(10, 20), (60, 70)]);
        let score = score(&[&stream], &|_| vec![5, 12, 14, 30]);
        assert_eq!((score.found(), score.false_alarms), (0.5, 2));
        assert_eq!(score.delays, [("x".to_owned(), 2.0 / 3_600_000.0)]);
        assert!((score.months * MONTH_MS - 80.0).abs() < 1e-6);
    }

    #[test]
    fn a_threshold_is_chosen_for_what_it_finds_within_bounds() {
        let tried = |found: usize, false_alarms: usize| Score {
            delays: vec![("x".into(), 1.0); found],
            missed: vec!["x".into(); 10 - found],
            false_alarms,
            months: 10.0,
        };
        assert_eq!(chosen(&[tried(9, 20), tried(7, 1), tried(8, 1), tried(8, 0)], 0.1), 3);
        assert_eq!(chosen(&[tried(9, 20), tried(2, 5)], 0.1), 1);
    }

    #[test]
    fn a_chart_alarms_once_an_excursion() {
        let mut stream = stream(&[]);
        for (i, cell) in stream.cells.iter_mut().enumerate() {
            cell.value = (i % 3) as f64;
        }
        (60..63).for_each(|i| stream.cells[i].value = 50.0);
        let settings = Settings { warm_cells: 20, ..Settings::OWN_FAILURES };
        assert_eq!(charted(&stream, &settings, 1.0, 4.0), [61]);
    }
}
