//! The files of the model: the graph is part of this crate, weights, tokeniser and the ONNX Runtime library are fetched
//! by `scripts/fetch_model.py`.

use std::path::{Path, PathBuf};

use crate::domain::document::sha256_hex;

/// The model's published name.
pub(crate) const MODEL_NAME: &str = "all-MiniLM-L6-v2";
/// The weights that the graph points into. With others its offsets would read garbage.
pub(crate) const WEIGHTS_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
/// The graph, for the record of the calibration.
pub(crate) const GRAPH_SHA256: &str = "d6f957c8e8ab95c32169a7af25af271e8974471f9da49b13ad96ce3348f8290a";

/// Written by `model/export_graph.py`.
pub(super) const GRAPH: &[u8] = include_bytes!("../../model/all-MiniLM-L6-v2.onnx");
/// The name by which the graph knows the weights.
pub(super) const WEIGHTS_FILE: &str = "model.safetensors";
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";
pub(super) const CONFIG_FILE: &str = "config.json";
pub(super) const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
pub(super) const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
pub(super) const LIBRARY_FILE: &str = "libonnxruntime.so";

const FILES: [&str; 6] =
    [WEIGHTS_FILE, TOKENIZER_FILE, CONFIG_FILE, SPECIAL_TOKENS_FILE, TOKENIZER_CONFIG_FILE, LIBRARY_FILE];

/// The folder with the model: the configured one, or the user's cache (`$XDG_CACHE_HOME`, else `~/.cache`).
///
/// # Errors
/// Says which folder was looked in and what it lacks.
pub(crate) fn locate(configured: Option<&Path>) -> Result<PathBuf, String> {
    let cache = cache_folder();
    let folder = match (configured, &cache) {
        (Some(folder), _) => folder,
        (None, Some(folder)) => folder.as_path(),
        (None, None) => return Err("no model folder is configured and there is no home folder".to_owned()),
    };
    match FILES.iter().find(|file| !folder.join(file).is_file()) {
        None => Ok(folder.to_owned()),
        Some(file) => Err(format!(
            "no embedding model in {}: there is no {file}; scripts/fetch_model.py fetches it",
            folder.display()
        )),
    }
}

fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("attain").join("models").join(MODEL_NAME))
}

/// Reads the weights and holds them against the expected hash.
pub(super) fn read_weights(folder: &Path) -> Result<Vec<u8>, String> {
    let weights = read(folder, WEIGHTS_FILE)?;
    let found = sha256_hex(&weights);
    if found != WEIGHTS_SHA256 {
        return Err(format!("{} has SHA-256 {found}, expected {WEIGHTS_SHA256}", folder.join(WEIGHTS_FILE).display()));
    }
    Ok(weights)
}

pub(super) fn read(folder: &Path, file: &str) -> Result<Vec<u8>, String> {
    let path = folder.join(file);
    std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_graph_is_the_one_that_was_calibrated() {
        assert_eq!(sha256_hex(GRAPH), GRAPH_SHA256);
    }

    #[test]
    fn a_folder_without_the_model_says_what_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(WEIGHTS_FILE), "wrong").expect("written");
        let reason = locate(Some(folder.path())).expect_err("incomplete");
        assert!(reason.contains(TOKENIZER_FILE) && reason.contains("fetch_model"), "{reason}");
        let reason = read_weights(folder.path()).expect_err("wrong weights");
        assert!(reason.contains("expected 53aa51172d"), "{reason}");
    }
}
