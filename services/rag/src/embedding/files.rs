//! The files of a model. Those of the model that Attain ships with are fetched by `scripts/fetch_model.py`, and its graph is part of
//! this crate; another model describes itself in a file beside its own.

use std::path::{Path, PathBuf};

use fastembed::{Pooling, TokenizerFiles};
use serde::Deserialize;

use crate::domain::document::sha256_hex;

/// The published name of the model that Attain ships with.
pub(crate) const MODEL_NAME: &str = "all-MiniLM-L6-v2";
/// The weights that its graph points into. With others its offsets would read garbage.
pub(crate) const WEIGHTS_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
/// Its graph, for the record of the calibration.
pub(crate) const GRAPH_SHA256: &str = "d6f957c8e8ab95c32169a7af25af271e8974471f9da49b13ad96ce3348f8290a";
/// Numbers of one of its vectors.
pub(crate) const DIMENSIONS: usize = 384;
/// Word pieces of a text that it reads; it was trained on 256.
const MAX_LENGTH: usize = 256;

/// Written by `model/export_graph.py`.
pub(super) const GRAPH: &[u8] = include_bytes!("../../model/all-MiniLM-L6-v2.onnx");
/// The name by which its graph knows the weights.
const WEIGHTS_FILE: &str = "model.safetensors";
const TOKENIZER_FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "config.json";
const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
pub(crate) const LIBRARY_FILE: &str = "libonnxruntime.so";
/// Describes a model other than the shipped one.
const MANIFEST_FILE: &str = "attain-model.toml";

const FILES: [&str; 5] = [WEIGHTS_FILE, TOKENIZER_FILE, CONFIG_FILE, SPECIAL_TOKENS_FILE, TOKENIZER_CONFIG_FILE];
/// Those of the shipped model as they were published, the weights last. `scripts/fetch_model.py` expects the same.
pub(crate) const PUBLISHED: [Published; 5] = [
    Published {
        name: TOKENIZER_FILE,
        bytes: 466_247,
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
    Published {
        name: CONFIG_FILE,
        bytes: 612,
        sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    },
    Published {
        name: SPECIAL_TOKENS_FILE,
        bytes: 112,
        sha256: "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    },
    Published {
        name: TOKENIZER_CONFIG_FILE,
        bytes: 350,
        sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    },
    Published { name: WEIGHTS_FILE, bytes: 90_868_376, sha256: WEIGHTS_SHA256 },
];
/// Characters of a hash in a model's name.
const HASH_CHARS: usize = 12;

/// A published file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    pub(crate) sha256: &'static str,
}

/// A model on disk: where its files are and how it is read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) folder: PathBuf,
    /// The folder with ONNX Runtime: the same, else the configured one, else the cache's.
    pub(super) library: PathBuf,
    manifest: Manifest,
}

/// How a model is read, as its folder says in `attain-model.toml`; without that file it is the shipped one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    /// SHA-256 of `model.safetensors`.
    weights_sha256: String,
    /// ONNX file in the folder; empty for the graph of the shipped model.
    #[serde(default)]
    graph: String,
    #[serde(default)]
    pooling: PoolingWord,
    /// Most word pieces of a text that are read.
    max_length: usize,
    /// The first numbers of a vector that are kept, 1 to what the graph gives.
    dimensions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PoolingWord {
    #[default]
    Mean,
    Cls,
}

impl Model {
    /// The model in the configured folder, else in the user's cache (`$XDG_CACHE_HOME`, else `~/.cache`).
    ///
    /// # Errors
    /// Says which folders were looked in and what each lacks.
    pub(crate) fn locate(configured: Option<&Path>) -> Result<Self, String> {
        let Some(folder) = configured else { return Self::in_cache(configured) };
        Self::in_folder(folder, configured).or_else(|reason| {
            let cached = Self::in_cache(configured).map_err(|cache| format!("{reason}; {cache}"))?;
            tracing::warn!(reason, "the configured model folder cannot be used; the cache's is");
            Ok(cached)
        })
    }

    fn in_cache(configured: Option<&Path>) -> Result<Self, String> {
        let folder = cache_folder().ok_or("no model folder is configured and there is no home folder")?;
        Self::in_folder(&folder, configured)
    }

    /// The model in a folder, with ONNX Runtime out of it, the configured folder or the cache.
    ///
    /// # Errors
    /// Says what the folder lacks, or what is wrong with its description.
    pub(crate) fn in_folder(folder: &Path, configured: Option<&Path>) -> Result<Self, String> {
        if let Some(file) = FILES.iter().find(|file| !folder.join(file).is_file()) {
            return Err(format!(
                "no embedding model in {}: there is no {file}; scripts/fetch_model.py fetches it",
                folder.display()
            ));
        }
        let library = library_folder(folder, configured)?;
        let path = folder.join(MANIFEST_FILE);
        let manifest = if path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let manifest: Manifest = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            manifest.check().map_err(|reason| format!("{}: {reason}", path.display()))?;
            manifest
        } else {
            Manifest::shipped()
        };
        Ok(Self { folder: folder.to_owned(), library, manifest })
    }

    /// Names the model, its weights and how it is read: stored with every vector, so that vectors of two are never compared.
    pub(crate) fn identity(&self) -> Result<String, String> {
        let Manifest { name, weights_sha256, .. } = &self.manifest;
        let graph = self.graph_sha256()?;
        Ok(format!("{name}@{}+{}", &weights_sha256[..HASH_CHARS], &graph[..HASH_CHARS]))
    }

    /// Whether the thresholds that the crate ships were chosen with this model.
    pub(crate) fn is_calibrated(&self, weights_sha256: &str, graph_sha256: &str) -> bool {
        self.manifest.weights_sha256 == weights_sha256 && self.graph_sha256().is_ok_and(|graph| graph == graph_sha256)
    }

    /// The hash of the graph; of a model that is read otherwise than the shipped one, also of how it is read.
    fn graph_sha256(&self) -> Result<String, String> {
        let shipped = Manifest::shipped();
        let Manifest { pooling, max_length, dimensions, .. } = &self.manifest;
        let graph = match self.manifest.graph.as_str() {
            "" => GRAPH_SHA256.to_owned(),
            _ => sha256_hex(&self.graph()?),
        };
        let read_alike =
            (*pooling, *max_length, *dimensions) == (shipped.pooling, shipped.max_length, shipped.dimensions);
        if read_alike {
            return Ok(graph);
        }
        Ok(sha256_hex(format!("{graph} {pooling:?} {max_length} {dimensions}").as_bytes()))
    }

    pub(super) fn graph(&self) -> Result<Vec<u8>, String> {
        if self.manifest.graph.is_empty() { Ok(GRAPH.to_vec()) } else { read(&self.folder, &self.manifest.graph) }
    }

    pub(super) fn pooling(&self) -> Pooling {
        match self.manifest.pooling {
            PoolingWord::Mean => Pooling::Mean,
            PoolingWord::Cls => Pooling::Cls,
        }
    }

    pub(super) fn max_length(&self) -> usize {
        self.manifest.max_length
    }

    /// Numbers of one of its vectors.
    pub(crate) fn dimensions(&self) -> usize {
        self.manifest.dimensions
    }

    /// The weights under the name by which the graph knows them, held against the expected hash.
    pub(super) fn weights(&self) -> Result<(String, Vec<u8>), String> {
        let weights = read(&self.folder, WEIGHTS_FILE)?;
        let (found, expected) = (sha256_hex(&weights), &self.manifest.weights_sha256);
        if found != *expected {
            let path = self.folder.join(WEIGHTS_FILE);
            return Err(format!("{} has SHA-256 {found}, expected {expected}", path.display()));
        }
        Ok((WEIGHTS_FILE.to_owned(), weights))
    }
}

impl Manifest {
    fn shipped() -> Self {
        Self {
            name: MODEL_NAME.to_owned(),
            weights_sha256: WEIGHTS_SHA256.to_owned(),
            graph: String::new(),
            pooling: PoolingWord::Mean,
            max_length: MAX_LENGTH,
            dimensions: DIMENSIONS,
        }
    }

    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.len() > 100 || !self.name.chars().all(plain) {
            return Err("name is 1 to 100 ASCII letters, digits, . _ and -".to_owned());
        }
        let is_hash = self.weights_sha256.len() == 64 && self.weights_sha256.chars().all(|c| c.is_ascii_hexdigit());
        if !is_hash {
            return Err("weights_sha256 is 64 hexadecimal digits".to_owned());
        }
        if self.graph.is_empty() && self.weights_sha256 != WEIGHTS_SHA256 {
            return Err("graph is needed: the shipped graph reads the shipped weights only".to_owned());
        }
        if self.graph.contains(['/', '\\']) {
            return Err("graph is a file of the folder".to_owned());
        }
        if !(8..=8192).contains(&self.max_length) || !(1..=4096).contains(&self.dimensions) {
            return Err("max_length is 8 to 8192 and dimensions 1 to 4096".to_owned());
        }
        Ok(())
    }
}

/// The folder with ONNX Runtime: a model's own, else the configured one, else the cache's.
///
/// # Errors
/// Names the folders where it is not.
pub(crate) fn library_folder(folder: &Path, configured: Option<&Path>) -> Result<PathBuf, String> {
    let cache = cache_folder();
    let mut folders: Vec<&Path> = [Some(folder), configured, cache.as_deref()].into_iter().flatten().collect();
    if let Some(found) = folders.iter().find(|folder| folder.join(LIBRARY_FILE).is_file()) {
        return Ok((*found).to_owned());
    }
    folders.sort();
    folders.dedup();
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(format!("there is no {LIBRARY_FILE} in {}; scripts/fetch_model.py fetches it", folders.join(" or ")))
}

/// The tokeniser of a model in a folder.
pub(crate) fn tokenizer_files(folder: &Path) -> Result<TokenizerFiles, String> {
    Ok(TokenizerFiles {
        tokenizer_file: read(folder, TOKENIZER_FILE)?,
        config_file: read(folder, CONFIG_FILE)?,
        special_tokens_map_file: read(folder, SPECIAL_TOKENS_FILE)?,
        tokenizer_config_file: read(folder, TOKENIZER_CONFIG_FILE)?,
    })
}

/// Where the shipped model is cached; `None` without a home folder.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("attain").join("models").join(MODEL_NAME))
}

fn read(folder: &Path, file: &str) -> Result<Vec<u8>, String> {
    let path = folder.join(file);
    std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    impl Model {
        fn alone_in(folder: &Path) -> Result<Self, String> {
            Self::in_folder(folder, None)
        }
    }

    fn folder_with(manifest: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in FILES.into_iter().chain([LIBRARY_FILE]) {
            std::fs::write(folder.path().join(file), "wrong").expect("written");
        }
        if !manifest.is_empty() {
            std::fs::write(folder.path().join(MANIFEST_FILE), manifest).expect("written");
        }
        folder
    }

    #[test]
    fn the_graph_is_the_one_that_was_calibrated() {
        assert_eq!(sha256_hex(GRAPH), GRAPH_SHA256);
    }

    #[test]
    fn a_folder_without_the_model_says_what_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(WEIGHTS_FILE), "wrong").expect("written");
        let reason = Model::alone_in(folder.path()).expect_err("incomplete");
        assert!(reason.contains(TOKENIZER_FILE) && reason.contains("fetch_model"), "{reason}");
        let reason = Model::alone_in(folder_with("").path()).expect("complete").weights().expect_err("wrong weights");
        assert!(reason.contains("expected 53aa51172d"), "{reason}");
    }

    #[test]
    fn what_was_published_is_what_a_folder_needs() {
        let names: Vec<&str> = PUBLISHED.iter().map(|file| file.name).collect();
        assert_eq!(BTreeSet::from(FILES), names.iter().copied().collect());
        assert_eq!(names.last(), Some(&WEIGHTS_FILE), "a folder with weights is a whole one");
        let script = include_str!("../../../../scripts/fetch_model.py");
        for file in PUBLISHED {
            assert!(script.contains(&format!("\"{}\": \"{}\"", file.name, file.sha256)), "{}", file.name);
        }
    }

    #[test]
    fn the_library_may_stand_in_the_configured_folder() {
        let (model, configured) = (folder_with(""), tempfile::tempdir().expect("a folder"));
        std::fs::rename(model.path().join(LIBRARY_FILE), configured.path().join(LIBRARY_FILE)).expect("moved");
        let found = Model::in_folder(model.path(), Some(configured.path())).expect("a model");
        assert_eq!(found.library, configured.path());
    }

    #[test]
    fn another_way_to_read_the_same_weights_is_another_model() {
        let shipped = Model::alone_in(folder_with("").path()).expect("a model");
        assert_eq!(shipped.identity().as_deref(), Ok("all-MiniLM-L6-v2@53aa51172d14+d6f957c8e8ab"));
        assert!(shipped.is_calibrated(WEIGHTS_SHA256, GRAPH_SHA256));
        let manifest = |pooling: &str, dimensions: usize| {
            format!(
                "name = \"small\"\nweights_sha256 = \"{WEIGHTS_SHA256}\"\npooling = \"{pooling}\"\nmax_length = 256\n\
                 dimensions = {dimensions}\n"
            )
        };
        let identity =
            |manifest: &str| Model::alone_in(folder_with(manifest).path()).and_then(|model| model.identity());
        let (mean, cls, short) = (manifest("mean", 384), manifest("cls", 384), manifest("mean", 256));
        let found: Vec<String> = [mean, cls, short].iter().map(|text| identity(text).expect("a model")).collect();
        assert!(found[0].ends_with("+d6f957c8e8ab") && found.iter().all(|name| name.starts_with("small@53aa")));
        assert!(found[0] != found[1] && found[1] != found[2] && found[0] != found[2], "{found:?}");
    }

    #[test]
    fn a_description_that_makes_no_sense_is_refused() {
        let other = "0".repeat(64);
        for (manifest, expected) in [
            ("name = 1", "attain-model.toml"),
            (
                &*format!("name = \"a b\"\nweights_sha256 = \"{WEIGHTS_SHA256}\"\nmax_length = 256\ndimensions = 384"),
                "name is",
            ),
            ("name = \"a\"\nweights_sha256 = \"x\"\nmax_length = 256\ndimensions = 384", "hexadecimal"),
            (
                &*format!("name = \"a\"\nweights_sha256 = \"{other}\"\nmax_length = 256\ndimensions = 384"),
                "graph is needed",
            ),
            (
                &*format!("name = \"a\"\nweights_sha256 = \"{WEIGHTS_SHA256}\"\nmax_length = 256\ndimensions = 0"),
                "dimensions",
            ),
        ] {
            let reason = Model::alone_in(folder_with(manifest).path()).expect_err(expected);
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
