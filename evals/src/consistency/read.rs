//! Dependency graphs as GraphML, and a catalogue of services with SLOs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attain_consistency::{Edge, Service};
use attain_vocabulary::{EntityId, Objective, Tier};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Own failures as a share of the target's budget, where nothing was measured.
const OWN_SHARE: f64 = 0.05;
const OWN_FLOOR_WITHOUT_TARGET: f64 = 1e-5;
/// Targets of tiers one to four.
const TIERS: [(Tier, f64); 4] = [(Tier::One, 0.9995), (Tier::Two, 0.999), (Tier::Three, 0.995), (Tier::Four, 0.99)];

#[derive(Debug, Clone)]
pub(super) struct System {
    pub(super) name: String,
    pub(super) services: Vec<Service>,
    /// Without repetitions and calls to oneself.
    pub(super) edges: Vec<Edge>,
}

pub(super) struct Catalogue {
    pub(super) system: System,
    /// Error budgets of caller and callee where both have an SLO, and whether they are the same service.
    pub(super) budget_pairs: Vec<(f64, f64, bool)>,
}

/// Every GraphML file below the folder, by name; none where there is no folder.
pub(super) fn graphs(folder: &Path, seed: u64) -> anyhow::Result<Vec<System>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders: Vec<PathBuf> = folder.is_dir().then(|| folder.to_path_buf()).into_iter().collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "graphml") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|file| graph(file, seed).with_context(|| format!("in {}", file.display()))).collect()
}

fn graph(file: &Path, seed: u64) -> anyhow::Result<System> {
    let text = fs::read_to_string(file)?;
    let document = roxmltree::Document::parse(&text)?;
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let tagged = |tag: &'static str| {
        document.descendants().filter(move |node| node.has_tag_name(("http://graphml.graphdrawing.org/xmlns", tag)))
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ seed_of(&name));
    let mut ids = BTreeSet::new();
    for node in tagged("node") {
        ids.insert(entity(node.attribute("id").context("a node without id")?)?);
    }
    let services = ids.into_iter().map(|id| {
        let (tier, ratio) = TIERS[random.random_range(0..TIERS.len())];
        service(id, Some(tier), Some(ratio))
    });
    let mut pairs = BTreeSet::new();
    for edge in tagged("edge") {
        let end = |field: &str| entity(edge.attribute(field).with_context(|| format!("an edge without {field}"))?);
        pairs.insert((end("source")?, end("target")?));
    }
    Ok(System { services: services.collect::<anyhow::Result<_>>()?, edges: hard(pairs), name })
}

fn seed_of(name: &str) -> u64 {
    Sha256::digest(name.as_bytes()).iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn entity(name: &str) -> anyhow::Result<EntityId> {
    EntityId::from_observed(name).with_context(|| format!("{name:?} names nothing"))
}

fn service(id: EntityId, tier: Option<Tier>, ratio: Option<f64>) -> anyhow::Result<Service> {
    let target = ratio.map(|ratio| Objective::new("target_ratio", ratio)).transpose()?;
    let own_floor = target.map_or(OWN_FLOOR_WITHOUT_TARGET, |target| OWN_SHARE * target.error_budget());
    Ok(Service { id, tier, target, fixed: false, own_floor })
}

fn hard(pairs: BTreeSet<(EntityId, EntityId)>) -> Vec<Edge> {
    let others = pairs.into_iter().filter(|(caller, callee)| caller != callee);
    others.map(|(caller, callee)| Edge { caller, callee, impact: 1.0 }).collect()
}

#[derive(Deserialize)]
struct Row {
    file: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "monitoringThresholds")]
    thresholds: Option<Thresholds>,
    #[serde(rename = "serviceDependencies")]
    dependencies: Vec<String>,
}

#[derive(Deserialize)]
struct Thresholds {
    #[serde(rename = "errorRatio")]
    error_ratio: Option<f64>,
}

/// The catalogue, if it is there. A service is named by its type, else by its file; who is only depended on is added without
/// a target.
pub(super) fn catalogue(file: &Path) -> anyhow::Result<Option<Catalogue>> {
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(file)?;
    let rows: Vec<Row> = serde_json::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    let mut ratios: BTreeMap<EntityId, Option<f64>> = BTreeMap::new();
    let mut declared = Vec::new();
    for row in &rows {
        let stem = row.file.split('.').next().unwrap_or(&row.file);
        let caller = entity(row.kind.as_deref().unwrap_or(stem))?;
        let ratio = row.thresholds.as_ref().and_then(|thresholds| thresholds.error_ratio);
        let known = ratios.entry(caller.clone()).or_default();
        *known = known.or(ratio);
        for callee in &row.dependencies {
            declared.push((caller.clone(), entity(callee)?));
        }
    }
    let budget = |id: &EntityId| ratios.get(id).copied().flatten().map(|ratio| 1.0 - ratio);
    let pair = |(caller, callee): &(EntityId, EntityId)| Some((budget(caller)?, budget(callee)?, caller == callee));
    let budget_pairs = declared.iter().filter_map(pair).collect();
    declared.iter().for_each(|(_, callee)| {
        ratios.entry(callee.clone()).or_default();
    });
    let services = ratios.into_iter().map(|(id, ratio)| service(id, None, ratio)).collect::<anyhow::Result<_>>()?;
    let edges = hard(declared.into_iter().collect());
    Ok(Some(Catalogue { system: System { name: "catalogue".into(), services, edges }, budget_pairs }))
}
