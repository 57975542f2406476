//! The rules of the house, made executable: who may know whom, and what a pure room may not touch.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every crate of the house with the crates of the house that it may use.
const HOUSE: &[(&str, &str, &[&str])] = &[
    ("services/vocabulary", "attain-vocabulary", &[]),
    ("services/redaction", "attain-redaction", &[]),
    ("proto", "attain-proto", &["attain-vocabulary"]),
    ("services/runtime", "attain-runtime", &["attain-proto", "attain-redaction", "attain-vocabulary"]),
    ("services/graph/consistency", "attain-consistency", &["attain-vocabulary"]),
    ("services/graph/composition", "attain-composition", &["attain-vocabulary"]),
    ("services/graph/reliability", "attain-reliability", &["attain-vocabulary"]),
    ("services/recommendation/attainment", "attain-attainment", &["attain-vocabulary"]),
    ("services/recommendation/learning", "attain-learning", &["attain-attainment", "attain-vocabulary"]),
    ("services/recommendation/drift", "attain-drift", &["attain-vocabulary"]),
    ("services/rag/embedded-qdrant", "attain-embedded-qdrant", &[]),
    ("services/rag/grounding", "attain-grounding", &[]),
    (
        "services/ingestion",
        "attain-ingestion",
        &["attain-proto", "attain-redaction", "attain-runtime", "attain-vocabulary"],
    ),
    (
        "services/graph",
        "attain-graph",
        &[
            "attain-composition",
            "attain-consistency",
            "attain-proto",
            "attain-reliability",
            "attain-runtime",
            "attain-vocabulary",
        ],
    ),
    (
        "services/recommendation",
        "attain-recommendation",
        &[
            "attain-attainment",
            "attain-drift",
            "attain-learning",
            "attain-proto",
            "attain-redaction",
            "attain-runtime",
            "attain-vocabulary",
        ],
    ),
    (
        "services/rag",
        "attain-rag",
        &[
            "attain-embedded-qdrant",
            "attain-grounding",
            "attain-proto",
            "attain-redaction",
            "attain-runtime",
            "attain-vocabulary",
        ],
    ),
    ("gateway", "attain-gateway", &["attain-proto", "attain-redaction", "attain-runtime", "attain-vocabulary"]),
    ("evals/simulator", "attain-simulator", &["attain-vocabulary"]),
    (
        "evals",
        "evals",
        &[
            "attain-attainment",
            "attain-composition",
            "attain-consistency",
            "attain-learning",
            "attain-drift",
            "attain-graph",
            "attain-grounding",
            "attain-members",
            "attain-proto",
            // Variants of retrieval are those of the program's own preparation and ranking.
            "attain-rag",
            "attain-recommendation",
            "attain-reliability",
            "attain-simulator",
            "attain-vocabulary",
        ],
    ),
    ("load-tests", "load-tests", &["attain-members", "attain-proto", "attain-vocabulary"]),
    ("load-tests/members", "attain-members", &["attain-proto"]),
];

/// Outside crates that only the named crates may use: one place knows each outside system.
const RESERVED: &[(&str, &[&str])] = &[
    ("axum", &["attain-gateway"]),
    ("clarabel", &["attain-consistency"]),
    ("fastembed", &["attain-rag"]),
    ("opentelemetry-proto", &["attain-ingestion", "evals", "load-tests"]),
    ("petgraph", &["attain-graph"]),
    ("prost-reflect", &["attain-gateway"]),
    ("qdrant-client", &["attain-embedded-qdrant", "attain-rag"]),
    ("qdrant-edge", &["attain-embedded-qdrant"]),
    ("sqlx", &["attain-ingestion", "attain-recommendation", "attain-rag", "attain-runtime"]),
    ("statrs", &["attain-composition", "attain-learning"]),
];

/// What pure crates and every service's `domain` must not touch: transport, storage, tasks, environment, clock.
const IMPURE: &[&str] =
    &["tonic::", "sqlx::", "tokio::", "qdrant", "reqwest::", "std::env", "std::fs", "SystemTime", "Instant::now"];

const PURE_CRATES: &[&str] = &[
    "services/vocabulary",
    "services/redaction",
    "services/graph/consistency",
    "services/graph/composition",
    "services/graph/reliability",
    "services/rag/grounding",
    "services/recommendation/attainment",
    "services/recommendation/learning",
    "services/recommendation/drift",
    "evals/simulator",
];

/// Where RESOURCE_EXHAUSTED is made. It asks whoever reads it to come again, so it says when; the embedded index speaks as
/// Qdrant does, and rag translates what it says.
const EXHAUSTED: &[&str] = &[
    "services/ingestion/src/otlp/log.rs",
    "services/ingestion/src/transport/status.rs",
    "services/runtime/src/admission.rs",
];
const EXHAUSTED_AS_QDRANT: &str = "services/rag/embedded-qdrant";

const LINES_MAX: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn dependencies(folder: &str, table: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    manifest
        .get(table)
        .and_then(|table| table.as_table())
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn sources_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "node_modules", ".git", ".venv"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The part of a source file before its tests.
fn product_code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

#[test]
fn every_crate_uses_only_the_crates_it_may() {
    let members: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let listed: BTreeSet<&str> =
        members["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap()).collect();
    assert_eq!(listed, HOUSE.iter().map(|(folder, _, _)| *folder).collect(), "a crate without a rule, or the reverse");
    for (folder, name, allowed) in HOUSE {
        for used in dependencies(folder, "dependencies") {
            let of_the_house = HOUSE.iter().any(|(_, name, _)| *name == used);
            assert!(!of_the_house || allowed.contains(&used.as_str()), "{name} must not use {used}");
        }
    }
}

#[test]
fn one_place_knows_each_outside_system() {
    for (outside, knowing) in RESERVED {
        for (folder, name, _) in HOUSE {
            let uses = dependencies(folder, "dependencies").contains(*outside);
            assert!(!uses || knowing.contains(name), "{name} must not use {outside}");
        }
    }
}

/// Whether a line names something, and not something longer that ends like it.
fn names(code: &str, path: &str) -> bool {
    let is_of_a_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(path).any(|(at, _)| !code[..at].ends_with(is_of_a_name))
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    let mut pure: Vec<PathBuf> = PURE_CRATES.iter().map(|folder| root().join(folder).join("src")).collect();
    for service in ["ingestion", "graph", "recommendation", "rag"] {
        let domain = root().join("services").join(service).join("src/domain");
        assert!(domain.is_dir(), "{service} has no domain");
        pure.push(domain);
    }
    for path in pure.iter().flat_map(|folder| sources_below(folder)) {
        for (number, line) in product_code(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for forbidden in IMPURE {
                assert!(!names(code, forbidden), "{}:{}: {forbidden}", path.display(), number + 1);
            }
        }
    }
}

/// What a recommendation is computed by: its result is hashed, so nothing may come in the order of a hash map, which differs from
/// process to process.
const HASHED: &[&str] = &[
    "services/vocabulary/src",
    "services/recommendation/attainment/src",
    "services/recommendation/learning/src",
    "services/recommendation/drift/src",
    "services/recommendation/src/domain",
];

#[test]
fn what_is_hashed_knows_no_maps_without_an_order() {
    for path in HASHED.iter().flat_map(|folder| sources_below(&root().join(folder))) {
        for (number, line) in product_code(&path).lines().enumerate() {
            for forbidden in ["HashMap", "HashSet"] {
                assert!(!line.contains(forbidden), "{}:{}: {forbidden}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn rooms_are_named_for_their_job_and_stay_readable() {
    let mut long = BTreeMap::new();
    for path in sources_below(&root()) {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["util", "utils", "common", "helpers", "misc", "core", "types", "manager"].contains(&stem.as_str()),
            "{stem}"
        );
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > LINES_MAX {
            long.insert(path, lines);
        }
    }
    assert!(long.is_empty(), "split by job: {long:?}");
}

#[test]
fn who_is_refused_for_a_while_is_told_for_how_long() {
    let makes = |code: &str| {
        let made = |line: &str| {
            let code = line.split("//").next().unwrap_or_default();
            // What stands before an arrow, after a bar or beside a comparison is looked at, not made.
            let made = code.rsplit("=>").next().unwrap_or_default();
            let compares =
                made.trim_start().starts_with('|') || ["==", "!=", "matches!"].iter().any(|by| made.contains(by));
            (made.contains("Code::ResourceExhausted") && !compares) || made.contains("Status::resource_exhausted")
        };
        code.lines().any(made)
    };
    for service in ["services", "gateway"] {
        for path in sources_below(&root().join(service)) {
            let place = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            if !place.contains("/src/") || place.starts_with(EXHAUSTED_AS_QDRANT) {
                continue;
            }
            let code = product_code(&path);
            assert_eq!(makes(&code), EXHAUSTED.contains(&place.as_str()), "{place}: RESOURCE_EXHAUSTED");
            assert!(!makes(&code) || code.contains("_retry_info("), "{place}: RESOURCE_EXHAUSTED without RetryInfo");
        }
    }
}
