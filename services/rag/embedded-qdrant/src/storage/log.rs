//! The engine's write-ahead log, which the engine appends to and never cuts.
//!
//! `qdrant-edge` numbers operations by their place in the log and does not replay it, so the log's only use here is the
//! number of the next operation. Every acknowledged operation is in the flushed segments; all but the newest closed file
//! can go. The engine's own log library cuts a log in the same way, file by file from the front.

use std::fs;
use std::path::{Path, PathBuf};

use qdrant_edge::WalOptions;

use super::folder::failed;
use crate::Error;

/// Prefix of a full file of the log; the number of its first operation follows.
const CLOSED: &str = "closed-";

/// Bytes that a file of the log takes from the start. The engine's default of 32 MiB is more than most collections here
/// hold altogether; a single larger write gets a larger file.
const FILE_BYTES: usize = 4 * 1024 * 1024;

/// How the log of a new collection is laid out.
pub(super) fn options() -> WalOptions {
    WalOptions { segment_capacity: FILE_BYTES, ..WalOptions::default() }
}

/// Removes all closed files but the newest. The shard must be closed. Returns how many were removed.
pub(super) fn cut(collection: &Path) -> Result<usize, Error> {
    let folder = collection.join("wal");
    if !folder.is_dir() {
        return Ok(0);
    }
    let mut closed = closed_files(&folder)?;
    closed.pop();
    // From the front, so that an interruption leaves a log without a gap.
    for (_, path) in &closed {
        fs::remove_file(path).map_err(|source| failed("remove", path, source))?;
    }
    Ok(closed.len())
}

/// Closed files by the number of their first operation.
fn closed_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut closed = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| failed("list", folder, source))? {
        let path = entry.map_err(|source| failed("list", folder, source))?.path();
        let first = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(CLOSED))
            .and_then(|number| number.parse::<u64>().ok());
        if let Some(first) = first {
            closed.push((first, path));
        }
    }
    closed.sort();
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_closed_file_and_the_open_ones_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(cut(folder.path()).expect("no log yet"), 0);
        let wal = folder.path().join("wal");
        fs::create_dir(&wal).expect("the log's folder");
        for name in ["closed-0", "closed-9", "closed-10", "open-4", "first-index", "closed-x"] {
            fs::write(wal.join(name), name).expect("a file");
        }
        assert_eq!(cut(folder.path()).expect("cut"), 2);
        let mut left: Vec<_> =
            fs::read_dir(&wal).expect("the log's folder").map(|entry| entry.expect("an entry").file_name()).collect();
        left.sort();
        assert_eq!(left, ["closed-10", "closed-x", "first-index", "open-4"]);
    }
}
