//! Rolling-origin back-test of the incident predictor.
//!
//! A series is a list of incidents with severity in [0, 1]; its bad amount is severity times duration in days, at most three
//! days each, and moments that several incidents cover count once. At each origin (after the history, then a window further each
//! time) a method sees what began before, and is scored on the bad share of the window that follows. Nothing is fitted to the series.
//!
//! [`read`] turns files into [`series`], [`methods`] predict, [`report`] scores.

mod choose;
mod methods;
mod read;
mod report;
mod series;
mod variants;

use std::path::PathBuf;

use anyhow::ensure;
use attain_attainment::Constants;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use methods::{BASELINES, Predictive};
use report::{BUDGETS, Backtest, GOALS, Resamples, Scored, Summary};
use series::{Case, Past, Series};

/// Objectives: how far the shares missed may be from what was asked for, conservative first, and the greatest calibration error.
const MISSED_POINTS_MAX: [f64; 3] = [0.015, 0.03, 0.04];
const ECE_MAX: f64 = 0.03;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder of CSV files with the columns start_time, end_time (seconds or RFC 3339) and severity or status (0 to 1; a full outage where
    /// empty), in any order of columns and rows. Files with fewer than 20 usable rows are left out; what cannot be read is named.
    #[arg(long)]
    incidents: PathBuf,
    /// Days of history before the first origin.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    history_days: u32,
    /// Days before each origin that are remembered, at least the days of history; what is older is forgotten, as if the service were
    /// that young. All of them where it is not said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    remembered_days: Option<u32>,
    /// Days of each forecast window; several separated by commas are reported one by one.
    #[arg(long, default_value = "30", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=365))]
    window_days: Vec<u32>,
    /// Also choose the predictor's constants on one half of the series and score them on the other, both ways round.
    #[arg(long)]
    choose: bool,
    /// Also score what else was tried: ensembles, tails, joined incidents, a class prior, calibration layers.
    #[arg(long)]
    variants: bool,
}

/// Scores every method on every series.
pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    let folder = read::folder(&options.incidents)?;
    for refused in &folder.refused {
        let at = refused.row.map(|row| format!(" row {row}")).unwrap_or_default();
        let field = refused.field.map(|field| format!(" {field}")).unwrap_or_default();
        eprintln!("evals: {}{at}{field}: {}", refused.file, refused.reason);
    }
    ensure!(
        !folder.series.is_empty(),
        "{} holds no CSV with at least {} usable rows",
        options.incidents.display(),
        read::ROWS_MIN
    );
    let remembered_days = options.remembered_days.unwrap_or(u32::MAX);
    ensure!(
        remembered_days >= options.history_days,
        "remembered_days: {remembered_days} is less than the {} days of history",
        options.history_days
    );
    let names: Vec<&str> = folder.series.iter().map(|series| series.name.as_str()).collect();
    let mut reports = Vec::new();
    for window_days in &options.window_days {
        let days = (options.history_days, remembered_days);
        let cases: Vec<Vec<Case>> = folder.series.iter().map(|series| series.cases(days, *window_days)).collect();
        ensure!(cases.iter().any(|cases| !cases.is_empty()), "no series is longer than history and window together");
        let mut answer = json!({
            "method": "drifting_level",
            "history_days": options.history_days,
            "remembered_days": options.remembered_days,
            "window_days": window_days,
            "series_names": names,
            "files_left_out": folder.left_out,
            "errors": folder.refused,
        });
        extend(&mut answer, scored(options, &folder.series, &cases));
        if options.choose {
            answer["choose"] = choose::choose(&names, &cases);
        }
        reports.push(answer);
    }
    Ok(if reports.len() == 1 { reports.swap_remove(0) } else { json!({ "windows": reports }) })
}

fn extend(answer: &mut Value, with: Value) {
    if let (Value::Object(answer), Value::Object(with)) = (answer, with) {
        answer.extend(with);
    }
}

fn backtest(cases: &[Vec<Case>], method: impl Fn(&Past) -> Predictive) -> Backtest {
    cases.iter().map(|cases| cases.iter().map(|case| Scored::of(&method(&case.past), case)).collect()).collect()
}

fn scored(options: &Options, series: &[Series], cases: &[Vec<Case>]) -> Value {
    let names: Vec<&str> = series.iter().map(|series| series.name.as_str()).collect();
    let progress = ProgressBar::new(BASELINES.len() as u64 + 1);
    let resamples = Resamples::new(&cases.iter().map(Vec::len).collect::<Vec<_>>());
    let own = backtest(cases, |past| methods::drifting_level(&Constants::DEFAULT, past));
    let own_resampled = resamples.summaries(&own);
    progress.inc(1);
    let mut answer = json!({
        "series": cases.iter().filter(|cases| !cases.is_empty()).count(),
        "forecasts": cases.iter().map(Vec::len).sum::<usize>(),
        "brier_climatology": climatology(cases),
    });
    extend(&mut answer, report::report(&own, &own_resampled));
    let beside = |theirs: &Backtest| {
        let resampled = resamples.summaries(theirs);
        let mut value = report::report(theirs, &resampled);
        extend(&mut value, json!({ "own_less_this": difference(&own_resampled, &resampled) }));
        value
    };
    let theirs: Vec<(&str, Backtest)> = BASELINES
        .iter()
        .map(|(name, method)| {
            progress.inc(1);
            (*name, backtest(cases, method))
        })
        .collect();
    progress.finish_and_clear();
    answer["objectives"] = objectives(&own, theirs.iter().map(|(_, theirs)| theirs));
    answer["baselines"] = theirs.iter().map(|(name, theirs)| ((*name).to_owned(), beside(theirs))).collect();
    answer["per_series"] = json!(report::per_series(&names, &own));
    if options.variants {
        let variants: Map<String, Value> = variants::backtests(series, cases, &own)
            .iter()
            .map(|(name, theirs)| ((*name).to_owned(), beside(theirs)))
            .collect();
        answer["variants"] = Value::Object(variants);
    }
    answer
}

/// What is asked for, and whether it is so. The exit code does not depend on it: somebody's series are measured, not passed.
fn objectives<'a>(own: &Backtest, baselines: impl Iterator<Item = &'a Backtest>) -> Value {
    let own = Summary::of(own.iter().flatten());
    let theirs: Vec<Summary> = baselines.map(|theirs| Summary::of(theirs.iter().flatten())).collect();
    let mut near = own.missed.iter().zip(GOALS).zip(MISSED_POINTS_MAX);
    json!({
        "missed": near.all(|((missed, goal), most)| (missed - goal).abs() <= most),
        "ece": own.ece <= ECE_MAX,
        "brier": theirs.iter().all(|theirs| own.brier < theirs.brier),
        "log_pinball": theirs.iter().all(|theirs| own.log_pinball_mean() <= theirs.log_pinball_mean()),
    })
}

/// 90 % intervals of our scores less theirs on the same windows: below zero where ours is better.
fn difference(own: &[Summary], theirs: &[Summary]) -> Value {
    let of = |value: fn(&Summary) -> f64| {
        json!(report::interval(own.iter().zip(theirs).map(|(own, theirs)| value(own) - value(theirs))))
    };
    json!({
        "brier": of(|summary| summary.brier),
        "ece": of(|summary| summary.ece),
        "log_pinball": of(Summary::log_pinball_mean),
        "pinball_0.10": of(|summary| summary.pinball[1]),
    })
}

/// Brier score of stating, for each budget, how often the other series exceeded it.
fn climatology(cases: &[Vec<Case>]) -> f64 {
    let exceeded = |cases: &[Case], budget: f64| cases.iter().filter(|case| case.outcome > budget).count() as f64;
    let total: usize = cases.iter().map(Vec::len).sum();
    let mut stated = Vec::new();
    for own in cases {
        let others = (total - own.len()).max(1) as f64;
        for budget in BUDGETS {
            let rate = cases.iter().map(|cases| exceeded(cases, budget)).sum::<f64>() - exceeded(own, budget);
            stated.extend(own.iter().map(|case| (rate / others, case.outcome > budget)));
        }
    }
    crate::scores::brier(&stated)
}
