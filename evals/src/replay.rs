//! Whether recommendations are computed again bit for bit.
//!
//! Inputs of simulated services are kept as files, and their results hashed. Other processes, with other numbers of threads and
//! of other builds, read the files and hash what they find; each process has another order of hash maps. A folder of kept inputs
//! with the hashes that belong to them is part of the repository: a machine or a build that computes otherwise is found by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use attain_attainment::{
    Constants, Exclusion, LATENCY_MENU_MS, MODEL_VERSION, Model, RecommendationInput, Record, SlowAbove, SlowRequests,
    StructureFacts, recommend,
};
use attain_simulator::fleet::Fleet;
use attain_vocabulary::{DAY_MS, EntityId, LatencyHistogram, TimeRange, TimeWindow};
use clap::Parser;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::explanations::input;
use crate::fleet::{END_MS, View, cores, each};

const COMPONENTS: usize = 6;
const DAYS: u32 = 30;
/// Every so many inputs have latencies: they are most of what is kept.
const LATENCIES_EVERY: u64 = 4;
/// Latencies that a bucket is told by: enough for a shape, few enough for a thousand files.
const LATENCIES: usize = 12;
/// File of a folder of kept inputs that says what belongs to them.
const HASHES: &str = "hashes.json";

/// What to compute again.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Seed of the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Recommendations that are computed again.
    #[arg(long, default_value_t = 1000)]
    cases: usize,
    /// Threads of the first computation; those of the other processes are one and three more.
    #[arg(long, default_value_t = cores())]
    threads: usize,
    /// Another build of this program that computes the same inputs; may be given several times.
    #[arg(long)]
    with: Vec<PathBuf>,
    /// Computes the inputs kept in this folder again, and nothing else.
    #[arg(long, conflicts_with_all = ["keep", "with"])]
    kept: Option<PathBuf>,
    /// Keeps the inputs and their hashes in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What belongs to one kept input, by the name of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hashes {
    input_sha256: String,
    result_sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    model_version: String,
    by_file: BTreeMap<String, Hashes>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    if let Some(folder) = &options.kept {
        return again(folder, options.threads);
    }
    ensure!(options.cases > 0, "cases: ask for at least one");
    let own = std::env::temp_dir().join(format!("attain-replay-{}", std::process::id()));
    let folder = options.keep.as_ref().unwrap_or(&own);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let done = keep(folder, options).and_then(|()| elsewhere(folder, options));
    if options.keep.is_none() {
        fs::remove_dir_all(&own).with_context(|| format!("cannot remove {}", own.display()))?;
    }
    done
}

/// Keeps inputs, and the hashes that this process finds.
fn keep(folder: &Path, options: &Options) -> anyhow::Result<()> {
    let kept: anyhow::Result<Vec<(String, Hashes)>> = each(options.cases, options.threads, |index| {
        let input = drawn(options.seed, index as u64);
        let name = format!("{index:04}.json.gz");
        let json = serde_json::to_vec(&input)?;
        let mut file = GzEncoder::new(fs::File::create(folder.join(&name))?, Compression::fast());
        file.write_all(&json)?;
        file.finish()?;
        Ok((name, hashes(&json, &input)?))
    })
    .into_iter()
    .collect();
    let kept = Kept { model_version: MODEL_VERSION.to_owned(), by_file: kept?.into_iter().collect() };
    fs::write(folder.join(HASHES), serde_json::to_string_pretty(&kept)? + "\n")?;
    Ok(())
}

/// A service in whatever a recommendation may be asked with: each window, latencies, exclusions, a record of its class, another
/// model.
fn drawn(seed: u64, index: u64) -> RecommendationInput {
    let own_seed = seed.wrapping_mul(1_000_003).wrapping_add(index);
    let fleet = Fleet::draw(own_seed, COMPONENTS);
    let past = fleet.past(index, DAYS);
    let view = View::new(&fleet, &past, vec![false; fleet.calls.len()]);
    let measured: Vec<usize> = (0..fleet.components.len()).filter(|at| view.is_measured(*at)).collect();
    let mut input = input(&view, measured[index as usize % measured.len()], index);
    let mut random = ChaCha8Rng::seed_from_u64(own_seed);
    let rolling = TimeWindow::DAYS.map(|days| TimeWindow::from_days("window", days).expect("one of them"));
    let windows: Vec<TimeWindow> = rolling.into_iter().chain([TimeWindow::MONTH, TimeWindow::QUARTER]).collect();
    input.window = windows[index as usize % windows.len()];
    input.quiet_slices_good = random.random_bool(0.5);
    if random.random_bool(0.3) {
        let start_ms = END_MS - random.random_range(2..20) * DAY_MS;
        let range = TimeRange::new("range", start_ms, start_ms + DAY_MS / 4).expect("ascending");
        input.exclusions.push(Exclusion { range, reason: "declared maintenance".to_owned() });
    }
    if random.random_bool(0.3) {
        let forecast_count = random.random_range(1..400);
        let missed_count = random.random_range(0..=forecast_count / 5);
        let (window_count, probability_sum) = (forecast_count as f64 / 3.0, forecast_count as f64 / 10.0);
        input.class_record =
            Some(Record { forecast_count, missed_count, window_count, probability_sum, ..Record::default() });
    }
    if random.random_bool(0.3) {
        let constants = Constants { drift: random.random_range(0.05..0.5), ..Constants::DEFAULT };
        input.model = Some(Model { version: format!("{MODEL_VERSION}-drawn"), constants, layer: None });
    }
    if index.is_multiple_of(LATENCIES_EVERY) {
        for bucket in input.history.buckets.iter_mut().filter(|bucket| bucket.counts.valid() > 0) {
            bucket.latency = Some(latencies(bucket.counts.valid(), &mut random));
        }
        let parts: Vec<EntityId> = input.dependencies.iter().map(|dependency| dependency.id.clone()).collect();
        let slow_requests = Some(slow_requests(&input.service, parts, &mut random));
        input.structure = input.structure.map(|structure| StructureFacts { slow_requests, ..structure });
    }
    input
}

/// Fewer samples above each threshold than above the one before, and some of those left without each part.
fn slow_requests(service: &EntityId, mut parts: Vec<EntityId>, random: &mut ChaCha8Rng) -> SlowRequests {
    parts.push(service.clone());
    let sample_count = 576;
    let mut slow_count = sample_count;
    let above = |threshold_ms: u32| {
        slow_count = random.random_range(slow_count / 2..=slow_count);
        let without = parts.iter().map(|part| (part.clone(), random.random_range(0..=slow_count))).collect();
        SlowAbove { threshold_ms, slow_count, without }
    };
    SlowRequests { sample_count, thresholds: LATENCY_MENU_MS.map(above).to_vec() }
}

/// As many latencies as requests, most of them short.
fn latencies(count: u64, random: &mut ChaCha8Rng) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::empty();
    for at in 0..LATENCIES as u64 {
        let of = count / LATENCIES as u64 + u64::from(at < count % LATENCIES as u64);
        histogram.record_many(20.0 * 100f64.powf(random.random::<f64>().powi(2)), of);
    }
    histogram
}

fn hashes(json: &[u8], input: &RecommendationInput) -> anyhow::Result<Hashes> {
    let result = serde_json::to_vec(&recommend(input))?;
    Ok(Hashes { input_sha256: sha256(json), result_sha256: sha256(&result) })
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Other processes, and other builds, compute the same folder.
fn elsewhere(folder: &Path, options: &Options) -> anyhow::Result<Value> {
    let own = std::env::current_exe()?;
    let mut processes = Vec::new();
    let others = options.with.iter().map(|program| (program, options.threads));
    for (program, threads) in [(&own, 1), (&own, options.threads + 3)].into_iter().chain(others) {
        let output = Command::new(program)
            .args(["replay", "--threads", &threads.to_string(), "--kept"])
            .arg(folder)
            .output()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("another process failed: {}", String::from_utf8_lossy(&output.stderr)))?;
        processes.push(report);
    }
    let met = processes.iter().all(|report| report["objective_met"] == Value::Bool(true));
    let builds: BTreeSet<&str> = processes.iter().filter_map(|report| report["program_sha256"].as_str()).collect();
    Ok(json!({
        "seed": options.seed,
        "cases": options.cases,
        "builds": builds.len(),
        "processes": processes,
        "objective_met": met && builds.len() > usize::from(!options.with.is_empty()),
    }))
}

/// Computes what is kept in a folder again.
fn again(folder: &Path, threads: usize) -> anyhow::Result<Value> {
    let hashes_file = folder.join(HASHES);
    let text = fs::read_to_string(&hashes_file).with_context(|| format!("cannot read {}", hashes_file.display()))?;
    let kept: Kept = serde_json::from_str(&text).with_context(|| format!("in {}", hashes_file.display()))?;
    let files: Vec<(&String, &Hashes)> = kept.by_file.iter().collect();
    let found: anyhow::Result<Vec<Hashes>> = each(files.len(), threads, |at| {
        let path = folder.join(files[at].0);
        let mut json = Vec::new();
        let file = fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        GzDecoder::new(file).read_to_end(&mut json)?;
        let input: RecommendationInput =
            serde_json::from_slice(&json).with_context(|| format!("in {}", path.display()))?;
        // What was read is written again: a field that was lost on the way would be found here.
        hashes(&serde_json::to_vec(&input)?, &input)
    })
    .into_iter()
    .collect();
    let found = found?;
    let differing: Vec<&String> =
        files.iter().zip(&found).filter(|((_, kept), found)| *kept != *found).map(|((name, _), _)| *name).collect();
    Ok(json!({
        "threads": threads,
        "program_sha256": sha256(&fs::read(std::env::current_exe()?)?),
        "checked_arithmetic": cfg!(debug_assertions),
        "model_version": MODEL_VERSION,
        "kept_by": kept.model_version,
        "recomputed": found.len(),
        "identical": found.len() - differing.len(),
        "differing": differing,
        "objective_met": differing.is_empty() && !found.is_empty(),
    }))
}
