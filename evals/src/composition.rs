//! The latency of roots composed from the self times below them, against traces that were set aside.
//!
//! A system is a folder with `trace`. Some traces of each root train, the others are set aside. What is scored is composing,
//! not forecasting: of the set-aside traces are known the self times of each part and how many requests of which kind
//! each minute had, as pools of at least eight requests; which self times belong together, and how long a root took, is
//! not. Plans and dependence are those of training. The baselines know the same, where they can use it.
//!
//! `parts_alone` knows the self times of each part over the whole period and nothing else of the set-aside traces. `forecast`
//! knows nothing of them: `replay` is the training roots themselves, so that its error is what changed between the two
//! sets, and chance.
//!
//! Errors are absolute, as a fraction of the measured quantile; `bias` has their sign, negative where too little was
//! predicted. `noise` is the bootstrap standard deviation of the measured quantile, as a fraction of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use attain_composition::{
    Change, Changes, Distribution, Draws, Learned, Oddities, Period, Span, Together, Trace, predict, predict_in,
    sum_of_quantiles,
};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::scores;
use crate::spans::{NO_PARENT, read_rows, service};

const QUANTILES: [f64; 4] = [0.50, 0.90, 0.95, 0.99];
const NAMES: [&str; 4] = ["p50", "p90", "p95", "p99"];
/// Largest error that meets the objective, or the noise where that is larger; nothing is asked of p50 and p90.
const ERRORS_MAX: [f64; 4] = [f64::INFINITY, f64::INFINITY, 0.06, 0.15];
/// Draws of the bootstrap.
const RESAMPLES: usize = 1_000;
const NS_PER_MS: f64 = 1e6;
/// A pause between traces that parts one recording from the next.
const PAUSE_NS: u64 = 120_000_000_000;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder of days; each holds a folder `trace` of packed CSV files, at most two levels down.
    #[arg(long, value_name = "DIR")]
    spans: PathBuf,
    /// Which traces are set aside.
    #[arg(long, value_enum, default_value_t = Split::Recording)]
    split: Split,
    /// The same seed gives the same report.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Split {
    /// The later half of each recording without a pause of two minutes.
    Recording,
    /// The later half of the day.
    Day,
    /// Every second trace in the order of time.
    Alternate,
    /// Half of the traces, drawn with the seed.
    Random,
}

/// By quantile.
type Errors = [f64; 4];

/// One root of one system, scored.
struct Scored {
    system: String,
    root: String,
    training_count: usize,
    set_aside_count: usize,
    kind_count: usize,
    share_unseen: f64,
    rho: Option<f64>,
    measured_ms: Errors,
    noise: Errors,
    bias: Errors,
    baselines: BTreeMap<&'static str, Errors>,
    parts_alone: Errors,
    forecast: BTreeMap<&'static str, Errors>,
}

/// Scores every root of every system.
pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    let folders = systems(&options.spans)?;
    let progress = ProgressBar::new(folders.len() as u64).with_message("systems");
    let mut scored = Vec::new();
    let mut oddities = Map::new();
    for folder in &folders {
        let name = folder.strip_prefix(&options.spans)?.display().to_string();
        let (traces, found) = read(&folder.join("trace"))?;
        oddities.insert(name.clone(), found);
        for (root, traces) in traces {
            scored.extend(score(&name, &root, traces, options));
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    ensure!(!scored.is_empty(), "{}: no root has two traces", options.spans.display());
    Ok(report(&scored, oddities, options))
}

/// Folders with spans, in lexical order.
fn systems(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut level = vec![folder.to_path_buf()];
    for _ in 0..=2 {
        let mut next = Vec::new();
        for folder in level {
            if folder.join("trace").is_dir() {
                found.push(folder);
                continue;
            }
            let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
            for entry in entries {
                next.extend(Some(entry?.path()).filter(|path| path.is_dir()));
            }
        }
        level = next;
    }
    found.sort();
    ensure!(!found.is_empty(), "{} holds no folder with a folder trace", folder.display());
    Ok(found)
}

/// Traces by root, and what did not fit.
fn read(folder: &Path) -> anyhow::Result<(BTreeMap<String, Vec<Trace>>, Value)> {
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for row in read_rows(folder)? {
        let part = format!("{} {}", service(&row.pod), row.operation);
        let parent_id = Some(row.parent).filter(|parent| parent != NO_PARENT);
        let span = Span { id: row.span, parent_id, part, start_ns: row.start_ns, end_ns: row.end_ns };
        spans.entry(row.trace).or_default().push(span);
    }
    let (trace_count, span_count) = (spans.len(), spans.values().map(Vec::len).sum::<usize>());
    let mut oddities = Oddities::default();
    let mut traces: BTreeMap<String, Vec<Trace>> = BTreeMap::new();
    for trace in spans.values().filter_map(|spans| Trace::build(spans, &mut oddities)) {
        traces.entry(trace.root().to_owned()).or_default().push(trace);
    }
    let found = json!({
        "traces": trace_count,
        "spans": span_count,
        "duplicate": oddities.duplicate,
        "negative": oddities.negative,
        "orphaned": oddities.orphaned,
        "cyclic": oddities.cyclic,
        "moved": oddities.moved,
        "not_waited_for": oddities.not_waited_for,
        "traces_without_root": oddities.traces_without_root,
        "traces_with_several_roots": oddities.traces_with_several_roots,
    });
    Ok((traces, found))
}

/// Training and set-aside traces.
fn split(mut traces: Vec<Trace>, by: Split, seed: u64) -> (Vec<Trace>, Vec<Trace>) {
    traces.sort();
    match by {
        Split::Day => {
            let later = traces.split_off(traces.len() / 2);
            (traces, later)
        }
        Split::Alternate => {
            let mut training = false;
            traces.into_iter().partition(|_| {
                training = !training;
                training
            })
        }
        Split::Random => {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut drawn: Vec<bool> = (0..traces.len()).map(|place| place % 2 == 0).collect();
            drawn.shuffle(&mut random);
            let mut drawn = drawn.into_iter();
            traces.into_iter().partition(|_| drawn.next().unwrap_or_default())
        }
        Split::Recording => {
            let (mut training, mut set_aside) = (Vec::new(), Vec::new());
            for recording in traces.chunk_by(|a, b| b.start_ns() - a.start_ns() < PAUSE_NS) {
                let (earlier, later) = recording.split_at(recording.len() / 2);
                training.extend_from_slice(earlier);
                set_aside.extend_from_slice(later);
            }
            (training, set_aside)
        }
    }
}

fn score(system: &str, root: &str, traces: Vec<Trace>, options: &Options) -> Option<Scored> {
    let (training, set_aside) = split(traces, options.split, options.seed);
    let (learned, period) = (Learned::from_traces(&training)?, Period::from_traces(&set_aside)?);
    let measured: Vec<f64> = set_aside.iter().map(|trace| trace.duration_ns() as f64 / NS_PER_MS).collect();
    let measured_ms = QUANTILES.map(|quantile| scores::quantile(&measured, quantile));
    let bias = |predicted: Errors| {
        std::array::from_fn(|at| (predicted[at] - measured_ms[at]) / measured_ms[at].max(f64::MIN_POSITIVE))
    };
    let errors = |predicted: Errors| bias(predicted).map(f64::abs);
    let quantiles = |distribution: Distribution| QUANTILES.map(|quantile| distribution.quantile(quantile));
    let draws = Draws { seed: options.seed, ..Draws::default() };
    let composed = |together| quantiles(predict_in(&learned, &period, together, draws));
    let forecast = |together| quantiles(predict(&learned, together, &Changes::default(), draws));
    let parts_alone = predict(&learned, Together::AsMeasured, &parts_of(&set_aside), draws);
    Some(Scored {
        system: system.to_owned(),
        root: root.to_owned(),
        training_count: training.len(),
        set_aside_count: set_aside.len(),
        kind_count: learned.kind_count(),
        share_unseen: period.share_unseen(&learned),
        rho: learned.rho(),
        measured_ms,
        noise: noise(&measured, measured_ms, options.seed),
        bias: bias(composed(Together::AsMeasured)),
        baselines: BTreeMap::from([
            ("sum_of_quantiles", errors(QUANTILES.map(|quantile| period.sum_of_quantiles(quantile)))),
            ("independent", errors(composed(Together::Independent))),
            ("one_factor", errors(composed(Together::OneFactor))),
        ]),
        parts_alone: errors(quantiles(parts_alone)),
        forecast: BTreeMap::from([
            ("replay", errors(forecast(Together::AsMeasured))),
            ("sum_of_quantiles", errors(QUANTILES.map(|quantile| sum_of_quantiles(&learned, quantile)))),
            ("independent", errors(forecast(Together::Independent))),
            ("one_factor", errors(forecast(Together::OneFactor))),
        ]),
    })
}

/// Every part with the self times that it has in these traces.
fn parts_of(traces: &[Trace]) -> Changes {
    let mut parts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (part, self_ns) in traces.iter().flat_map(Trace::self_times_ns) {
        parts.entry(part).or_default().push(self_ns as f64 / NS_PER_MS);
    }
    parts.into_iter().fold(Changes::default(), |changes, (part, self_times)| {
        let distribution = Distribution::from_samples(self_times).expect("self times are not negative");
        changes.with(part, Change::Replace(distribution)).expect("a distribution is no number to refuse")
    })
}

/// Standard deviation of each quantile over resamples of the measured durations, as a fraction of the quantile.
fn noise(measured: &[f64], measured_ms: Errors, seed: u64) -> Errors {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let resampled: Vec<Errors> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<f64> =
                (0..measured.len()).map(|_| measured[random.random_range(0..measured.len())]).collect();
            QUANTILES.map(|quantile| scores::quantile(&drawn, quantile))
        })
        .collect();
    std::array::from_fn(|at| {
        let values: Vec<f64> = resampled.iter().map(|quantiles| quantiles[at]).collect();
        let mean = scores::mean(&values);
        let squares: Vec<f64> = values.iter().map(|value| (value - mean).powi(2)).collect();
        scores::mean(&squares).sqrt() / measured_ms[at].max(f64::MIN_POSITIVE)
    })
}

impl Scored {
    fn error(&self) -> Errors {
        self.bias.map(f64::abs)
    }

    fn meets_objective(&self) -> bool {
        (0..QUANTILES.len()).all(|at| self.error()[at] <= ERRORS_MAX[at].max(self.noise[at]))
    }

    fn report(&self) -> Value {
        json!({
            "system": self.system,
            "root": self.root,
            "traces_training": self.training_count,
            "traces_set_aside": self.set_aside_count,
            "kinds": self.kind_count,
            "share_of_unseen_kinds": self.share_unseen,
            "rho": self.rho,
            "measured_ms": named(self.measured_ms),
            "error": named(self.error()),
            "bias": named(self.bias),
            "noise": named(self.noise),
            "baselines": each_named(&self.baselines),
            "parts_alone": named(self.parts_alone),
            "forecast": each_named(&self.forecast),
            "objective_met": self.meets_objective(),
        })
    }
}

fn report(scored: &[Scored], oddities: Map<String, Value>, options: &Options) -> Value {
    let weighted = |errors: &dyn Fn(&Scored) -> Errors| {
        let all: usize = scored.iter().map(|of| of.set_aside_count).sum();
        let mean =
            |at: usize| scored.iter().map(|of| errors(of)[at] * of.set_aside_count as f64).sum::<f64>() / all as f64;
        named(std::array::from_fn(mean))
    };
    let each = |of: &dyn Fn(&Scored) -> &BTreeMap<&'static str, Errors>| -> Map<String, Value> {
        of(&scored[0]).keys().map(|name| ((*name).to_owned(), weighted(&|scored| of(scored)[name]))).collect()
    };
    let worst = scored.iter().max_by(|a, b| a.error()[2].total_cmp(&b.error()[2]));
    json!({
        "objective": "on every system, error of p95 at most 0.06 and of p99 at most 0.15, or the noise where it is larger",
        "objective_met": scored.iter().all(Scored::meets_objective),
        "method": "as measured, in a period whose parts and mix of requests are known",
        "split": options.split.to_possible_value().map(|value| value.get_name().to_owned()),
        "seed": options.seed,
        "error": weighted(&Scored::error),
        "worst_root": worst.map(|of| json!({ "system": of.system, "root": of.root, "error": named(of.error()) })),
        "baselines": each(&|of| &of.baselines),
        "noise": weighted(&|of| of.noise),
        "parts_alone": weighted(&|of| of.parts_alone),
        "forecast": each(&|of| &of.forecast),
        "roots": scored.iter().map(Scored::report).collect::<Vec<_>>(),
        "oddities": oddities,
    })
}

fn named(errors: Errors) -> Value {
    NAMES.iter().zip(errors).map(|(name, error)| ((*name).to_owned(), json!(error))).collect::<Map<_, _>>().into()
}

fn each_named(errors: &BTreeMap<&'static str, Errors>) -> Map<String, Value> {
    errors.iter().map(|(name, errors)| ((*name).to_owned(), named(*errors))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root of 10 ms and its call of 4 ms, a second after the other, with a pause in the middle.
    fn traces() -> Vec<Trace> {
        let one = |at: u64| {
            let start_ns = at * 1_000_000_000 + if at < 10 { 0 } else { PAUSE_NS };
            let span = |id: &str, parent_id: Option<&str>, from: u64, to: u64| Span {
                id: id.into(),
                parent_id: parent_id.map(str::to_owned),
                part: id.into(),
                start_ns: start_ns + from,
                end_ns: start_ns + to,
            };
            Trace::build(
                &[span("root", None, 0, 10_000_000), span("call", Some("root"), 1_000_000, 5_000_000)],
                &mut Oddities::default(),
            )
        };
        (0..20).filter_map(one).collect()
    }

    #[test]
    fn the_later_half_of_each_recording_is_set_aside() {
        let seconds = |traces: &[Trace]| -> Vec<u64> { traces.iter().map(|t| t.start_ns() / 1_000_000_000).collect() };
        let (training, set_aside) = split(traces(), Split::Recording, 7);
        assert_eq!(seconds(&training), [0, 1, 2, 3, 4, 130, 131, 132, 133, 134]);
        assert_eq!(seconds(&set_aside), [5, 6, 7, 8, 9, 135, 136, 137, 138, 139]);
        let (training, _) = split(traces(), Split::Day, 7);
        assert_eq!(seconds(&training), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let (training, _) = split(traces(), Split::Alternate, 7);
        assert_eq!(seconds(&training)[..3], [0, 2, 4]);
        let (training, set_aside) = split(traces(), Split::Random, 7);
        assert_eq!((training.len(), set_aside.len()), (10, 10));
    }

    #[test]
    fn what_never_varies_is_predicted_exactly_and_adding_quantiles_too() {
        let options = Options { spans: PathBuf::new(), split: Split::Recording, seed: 7 };
        let scored = score("system", "root", traces(), &options).expect("traces on both sides");
        for errors in [scored.error(), scored.noise, scored.baselines["sum_of_quantiles"], scored.forecast["replay"]] {
            assert!(errors.iter().all(|error| *error < 1e-9), "{errors:?}");
        }
        assert!(scored.meets_objective());
        let worse = Scored { bias: [0.0, 0.0, -0.07, 0.0], ..scored };
        assert!(!worse.meets_objective());
    }
}
