//! Rolling-origin back-test of the incident predictor.
//!
//! A series is a list of incidents with severity in [0, 1]; its bad amount is severity times duration in days, at most three
//! days each. At each origin (after the history, then a window further each time) the predictor sees what began before, and
//! is scored on the bad share of the window that follows. Nothing is fitted to the series.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use attain_attainment::IncidentForecast;
use clap::Args;
use indicatif::ProgressBar;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::scores;

const DAY_SECONDS: f64 = 86_400.0;
/// Incidents longer than this are status pages left open, not outages.
const AMOUNT_DAYS_MAX: f64 = 3.0;
const ROWS_MIN: usize = 20;
/// What the offers ask: probability of a miss.
const GOALS: [f64; 3] = [0.02, 0.10, 0.25];
/// Budgets at which stated probabilities are scored.
const BUDGETS: [f64; 7] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.02, 0.05];
const SEED: u64 = 7;
const DRAWS: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder of CSV files with the columns start_time, end_time (seconds) and severity or status (0 to 1).
    #[arg(long)]
    incidents: PathBuf,
    /// Days of history before the first origin.
    #[arg(long, default_value_t = 180)]
    history_days: u32,
    /// Days of each forecast window.
    #[arg(long, default_value_t = 30)]
    window_days: u32,
}

struct Series {
    name: String,
    /// Begin in days since the first incident, and bad amount in days.
    incidents: Vec<(f64, f64)>,
}

/// One forecast of one method, and what happened.
struct Forecast {
    /// Bad share that is exceeded with the probability of each goal.
    quantiles: [f64; 3],
    /// Probability to exceed each budget.
    exceed: [f64; 7],
}

type Method = fn(&Series, f64, &Options) -> Forecast;

const METHODS: [(&str, Method); 4] = [
    ("drifting_level", drifting_level),
    ("historical_mean", historical_mean),
    ("percentile_of_daily_values", percentile_of_daily_values),
    ("block_bootstrap", block_bootstrap),
];

/// Scores every method on every series.
pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!(options.history_days > 0 && options.window_days > 0, "history and window are at least a day");
    let series = read_folder(&options.incidents)?;
    ensure!(!series.is_empty(), "{} holds no CSV with at least {ROWS_MIN} rows", options.incidents.display());
    let origins: Vec<Vec<f64>> = series.iter().map(|series| origins(series, options)).collect();
    let forecasts: usize = origins.iter().map(Vec::len).sum();
    ensure!(forecasts > 0, "no series is longer than history and window together");

    let progress = ProgressBar::new((METHODS.len() * forecasts) as u64);
    let mut reports = METHODS.iter().map(|(name, method)| {
        let scored: Vec<Vec<(Forecast, f64)>> = series
            .iter()
            .zip(&origins)
            .map(|(series, origins)| {
                origins
                    .iter()
                    .map(|origin| {
                        progress.inc(1);
                        (method(series, *origin, options), outcome(series, *origin, options))
                    })
                    .collect()
            })
            .collect();
        ((*name).to_owned(), report(&scored))
    });
    let (name, own) = reports.next().context("the first method is our own")?;
    let baselines: Map<String, Value> = reports.collect();
    progress.finish_and_clear();

    let mut answer = json!({
        "method": name,
        "series": series.iter().zip(&origins).filter(|(_, origins)| !origins.is_empty()).count(),
        "series_names": series.iter().map(|series| series.name.as_str()).collect::<Vec<_>>(),
        "forecasts": forecasts,
        "history_days": options.history_days,
        "window_days": options.window_days,
        "brier_climatology": climatology(&series, &origins, options),
        "baselines": baselines,
    });
    if let (Value::Object(answer), Value::Object(own)) = (&mut answer, own) {
        answer.extend(own);
    }
    Ok(answer)
}

fn read_folder(folder: &Path) -> anyhow::Result<Vec<Series>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "csv"));
    files.sort();
    let series: anyhow::Result<Vec<Series>> =
        files.iter().map(|file| read(file).with_context(|| format!("in {}", file.display()))).collect();
    Ok(series?.into_iter().filter(|series| series.incidents.len() >= ROWS_MIN).collect())
}

fn read(file: &Path) -> anyhow::Result<Series> {
    let mut reader = csv::Reader::from_path(file)?;
    let headers = reader.headers()?.clone();
    let column = |names: &[&str]| headers.iter().position(|header| names.contains(&header));
    let start = column(&["start_time"]).context("no column start_time")?;
    let end = column(&["end_time"]).context("no column end_time")?;
    let severity = column(&["severity", "status"]).context("no column severity or status")?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let number = |column: usize| record.get(column).and_then(|text| text.trim().parse::<f64>().ok());
        let (start, end) = (number(start).context("start_time")?, number(end).context("end_time")?);
        // A severity that is not said is a full outage.
        let severity = number(severity).filter(|value| value.is_finite()).unwrap_or(1.0).clamp(0.0, 1.0);
        rows.push((start / DAY_SECONDS, ((end - start) / DAY_SECONDS).clamp(0.0, AMOUNT_DAYS_MAX) * severity));
    }
    let first = rows.iter().map(|(start, _)| *start).fold(f64::INFINITY, f64::min);
    rows.iter_mut().for_each(|(start, _)| *start -= first);
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Series { name, incidents: rows })
}

fn origins(series: &Series, options: &Options) -> Vec<f64> {
    let last = series.incidents.last().map_or(0.0, |(start, _)| *start);
    let (first, step) = (f64::from(options.history_days), f64::from(options.window_days));
    let count = ((last - first) / step).floor().max(0.0) as usize;
    (0..count).map(|i| first + i as f64 * step).collect()
}

/// Bad share of the window after the origin.
fn outcome(series: &Series, origin: f64, options: &Options) -> f64 {
    let window = f64::from(options.window_days);
    let inside = series.incidents.iter().filter(|(start, _)| (origin..origin + window).contains(start));
    inside.map(|(_, amount)| amount).sum::<f64>() / window
}

fn drifting_level(series: &Series, origin: f64, options: &Options) -> Forecast {
    let past = series.incidents.iter().filter(|(start, _)| *start < origin);
    let (ages, amounts): (Vec<f64>, Vec<f64>) = past.map(|(start, amount)| (origin - start, *amount)).unzip();
    let forecast = IncidentForecast::fit(&ages, &amounts, origin, f64::from(options.window_days));
    Forecast {
        quantiles: GOALS.map(|goal| forecast.quantile(1.0 - goal)),
        exceed: BUDGETS.map(|budget| forecast.exceed(budget)),
    }
}

/// Bad share of each day of the history just before the origin.
fn daily(series: &Series, origin: f64, options: &Options) -> Vec<f64> {
    let days = options.history_days as usize;
    let begin = origin - days as f64;
    let mut daily = vec![0.0; days];
    for (start, amount) in series.incidents.iter().filter(|(start, _)| (begin..origin).contains(start)) {
        daily[((start - begin) as usize).min(days - 1)] += amount;
    }
    daily
}

fn historical_mean(series: &Series, origin: f64, options: &Options) -> Forecast {
    let mean = scores::mean(&daily(series, origin, options));
    Forecast { quantiles: [mean; 3], exceed: BUDGETS.map(|budget| f64::from(mean > budget)) }
}

/// What most tools offer: a percentile of daily values as the target of a month.
fn percentile_of_daily_values(series: &Series, origin: f64, options: &Options) -> Forecast {
    let daily = daily(series, origin, options);
    let above = |budget: f64| daily.iter().filter(|value| **value > budget).count() as f64 / daily.len() as f64;
    Forecast { quantiles: GOALS.map(|goal| scores::quantile(&daily, 1.0 - goal)), exceed: BUDGETS.map(above) }
}

/// Stationary bootstrap of daily values, mean block of five days.
fn block_bootstrap(series: &Series, origin: f64, options: &Options) -> Forecast {
    let daily = daily(series, origin, options);
    let mut random = ChaCha8Rng::seed_from_u64(SEED ^ origin.to_bits());
    let draws: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let mut day = random.random_range(0..daily.len());
            let total: f64 = (0..options.window_days)
                .map(|_| {
                    let value = daily[day];
                    day = if random.random_bool(0.2) {
                        random.random_range(0..daily.len())
                    } else {
                        (day + 1) % daily.len()
                    };
                    value
                })
                .sum();
            total / f64::from(options.window_days)
        })
        .collect();
    let above = |budget: f64| draws.iter().filter(|value| **value > budget).count() as f64 / DRAWS as f64;
    Forecast { quantiles: GOALS.map(|goal| scores::quantile(&draws, 1.0 - goal)), exceed: BUDGETS.map(above) }
}

fn report(scored: &[Vec<(Forecast, f64)>]) -> Value {
    let all = || scored.iter().flatten();
    let missed = |goal: usize| -> Vec<Vec<f64>> {
        let by_series = scored.iter().filter(|series| !series.is_empty());
        by_series.map(|series| series.iter().map(|(f, y)| f64::from(*y > f.quantiles[goal])).collect()).collect()
    };
    let stated: Vec<(f64, bool)> = all()
        .flat_map(|(forecast, y)| (0..BUDGETS.len()).map(move |b| (forecast.exceed[b], *y > BUDGETS[b])))
        .collect();
    let by_goal = |value: &dyn Fn(usize) -> Value| -> Map<String, Value> {
        GOALS.iter().enumerate().map(|(index, goal)| (format!("{goal:.2}"), value(index))).collect()
    };
    json!({
        "missed": by_goal(&|goal| json!(scores::mean(&missed(goal).concat()))),
        "intervals": by_goal(&|goal| json!(scores::grouped_interval(&missed(goal), SEED))),
        "pinball": by_goal(&|goal| {
            let losses: Vec<f64> =
                all().map(|(forecast, y)| scores::pinball(*y, forecast.quantiles[goal], 1.0 - GOALS[goal])).collect();
            json!(scores::mean(&losses))
        }),
        "ece": scores::expected_calibration_error(&stated),
        "brier": scores::brier(&stated),
    })
}

/// Brier score of stating, for each budget, how often the other series exceeded it.
fn climatology(series: &[Series], origins: &[Vec<f64>], options: &Options) -> f64 {
    let outcomes: Vec<Vec<f64>> = series
        .iter()
        .zip(origins)
        .map(|(series, origins)| origins.iter().map(|origin| outcome(series, *origin, options)).collect())
        .collect();
    let mut stated = Vec::new();
    for (index, own) in outcomes.iter().enumerate() {
        let others: Vec<f64> =
            outcomes.iter().enumerate().filter(|(other, _)| *other != index).flat_map(|(_, y)| y.clone()).collect();
        for budget in BUDGETS {
            let rate = scores::mean(&others.iter().map(|y| f64::from(*y > budget)).collect::<Vec<_>>());
            stated.extend(own.iter().map(|y| (rate, *y > budget)));
        }
    }
    scores::brier(&stated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { incidents: PathBuf::new(), history_days: 10, window_days: 5 }
    }

    #[test]
    fn a_window_holds_what_begins_in_it() {
        let series = Series {
            name: "x".into(),
            incidents: vec![(9.0, 1.0), (10.0, 0.5), (14.9, 0.5), (15.0, 2.0), (21.0, 0.1)],
        };
        assert_eq!(origins(&series, &options()), [10.0, 15.0]);
        assert_eq!(outcome(&series, 10.0, &options()), 0.2);
        assert_eq!(daily(&series, 10.0, &options()), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_method_that_promises_nothing_bad_is_missed_whenever_something_is() {
        let nothing = || Forecast { quantiles: [0.0; 3], exceed: [0.0; 7] };
        let report = report(&[vec![(nothing(), 0.0), (nothing(), 0.02)]]);
        assert_eq!(report["missed"]["0.02"], 0.5);
        assert!(report["ece"].as_f64().is_some_and(|error| error > 0.3));
    }
}
