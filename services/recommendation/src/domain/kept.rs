//! Everything that a recommendation was made from, kept beside it so that it can be made again.

use std::collections::BTreeMap;

use attain_attainment::RecommendationInput;
use attain_vocabulary::{DependencyMode, EntityId, Source};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::experiments::Assigned;
use super::feedback::Disputed;
use super::learning::Learned;
use super::regions::RegionKept;
use super::slo::Slo;

/// The inputs of one recommendation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// What the statistics read.
    pub(crate) input: RecommendationInput,
    /// The edge that each counterfactual puts in place of the one there is, by key.
    pub(crate) changes: BTreeMap<String, EdgeChange>,
    /// What the knowledge service said.
    pub(crate) evidence: Evidence,
    /// Size of the graph snapshot; `None` when the graph could not be asked.
    pub(crate) snapshot: Option<SnapshotSize>,
    /// Where the service's buckets came from.
    pub(crate) sources: Vec<Source>,
    /// SLOs in force of the service.
    pub(crate) slos: Vec<Slo>,
    /// What was learned from decisions; not there in what was made before anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) learned: Option<Learned>,
    /// Dependencies that people said are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) disputed: Vec<Disputed>,
    /// How own failures are watched; `None` in what was kept before they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drift: Option<attain_drift::Settings>,
    /// Its regions in lexical order; none where no telemetry tells any, and in what was kept before they were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) regions: Vec<RegionKept>,
    /// The arm of an experiment that it was made in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) experiment: Option<Assigned>,
}

/// Passages found, or why there are none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// The question that was asked.
    pub(crate) query: String,
    /// Best first.
    pub(crate) citations: Vec<Citation>,
    /// Empty when passages were found by embedding and by words.
    pub(crate) note: String,
    /// How far it answers, by its number on the wire; 0 in what was kept before that was told.
    #[serde(default, skip_serializing_if = "is_untold")]
    pub(crate) strength: i32,
    /// What the documents say, in sentences that were checked against their places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sentences: Vec<Sentence>,
}

fn is_untold(strength: &i32) -> bool {
    *strength == 0
}

/// A sentence with the places that say it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sentence {
    pub(crate) text: String,
    pub(crate) places: Vec<Place>,
    pub(crate) quoted: bool,
    pub(crate) table_row: bool,
}

/// A place in a version of a document, to the character.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) document_id: String,
    pub(crate) document_version: u32,
    pub(crate) title: String,
    pub(crate) start_offset: u32,
    pub(crate) end_offset: u32,
    pub(crate) quote: String,
    pub(crate) quote_sha256: String,
    pub(crate) score: f64,
}

/// A passage, to the character.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Citation {
    pub(crate) document_id: String,
    pub(crate) document_version: u32,
    pub(crate) title: String,
    /// Number of the document kind on the wire.
    pub(crate) kind: i32,
    pub(crate) start_offset: u32,
    pub(crate) end_offset: u32,
    pub(crate) quote: String,
    pub(crate) quote_sha256: String,
    pub(crate) score: f64,
    pub(crate) headings: Vec<String>,
    /// Numbers on the wire of how far the document is believed and of who may read it; 0 in what was stored before they were told.
    #[serde(default, skip_serializing_if = "is_unspecified")]
    pub(crate) trust: i32,
    #[serde(default, skip_serializing_if = "is_unspecified")]
    pub(crate) visibility: i32,
}

fn is_unspecified(number: &i32) -> bool {
    *number == 0
}

/// Nodes and edges of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotSize {
    pub(crate) entity_count: u32,
    pub(crate) dependency_count: u32,
}

/// An edge as a counterfactual would have it: what people declare of it, without what was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EdgeChange {
    pub(crate) caller: EntityId,
    pub(crate) callee: EntityId,
    pub(crate) mode: DependencyMode,
    pub(crate) call_rate: Option<f64>,
    pub(crate) call_fraction: Option<f64>,
    pub(crate) fallback_success_ratio: Option<f64>,
    pub(crate) retry_count: Option<u32>,
    pub(crate) timeout_ms: Option<u32>,
    pub(crate) protocol: String,
    pub(crate) redundancy_group: String,
    pub(crate) redundancy_required_count: Option<u32>,
}

impl Kept {
    /// Canonical JSON: fields in the order of their declaration, maps in the order of their keys, floats in the shortest
    /// form that reads back to the same bits.
    pub(crate) fn canonical_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
