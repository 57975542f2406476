//! Nezha's files of spans: CSV, packed, a minute each. Times are start and end; the column of durations disagrees with them
//! for some spans and is not read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use serde::Deserialize;

/// What stands in place of a parent for a root.
pub(crate) const NO_PARENT: &str = "root";

/// One line of a file of spans.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    #[serde(rename = "TraceID")]
    pub(crate) trace: String,
    #[serde(rename = "SpanID")]
    pub(crate) span: String,
    #[serde(rename = "ParentID")]
    pub(crate) parent: String,
    #[serde(rename = "PodName")]
    pub(crate) pod: String,
    #[serde(rename = "OperationName")]
    pub(crate) operation: String,
    #[serde(rename = "StartTimeUnixNano")]
    pub(crate) start_ns: u64,
    #[serde(rename = "EndTimeUnixNano")]
    pub(crate) end_ns: u64,
}

/// `frontend` of the pod `frontend-579b9bff58-t2dbm`.
pub(crate) fn service(pod: &str) -> &str {
    pod.rsplitn(3, '-').nth(2).unwrap_or(pod)
}

/// All spans of a folder of `.csv.gz` files.
pub(crate) fn read_rows(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in files(folder, ".csv.gz")? {
        let text = text(&path)?;
        for row in csv::Reader::from_reader(text.as_bytes()).deserialize() {
            rows.push(row.with_context(|| format!("{} cannot be read", path.display()))?);
        }
    }
    Ok(rows)
}

/// A packed text.
pub(crate) fn text(path: &Path) -> anyhow::Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    std::io::read_to_string(GzDecoder::new(file)).with_context(|| format!("cannot unpack {}", path.display()))
}

/// Files of a folder whose names end so, in lexical order.
fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    ensure!(!files.is_empty(), "{} has no file that ends with {ending}", folder.display());
    Ok(files)
}
