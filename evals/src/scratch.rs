//! Folders that go with the evaluation.

use std::path::{Path, PathBuf};

/// A temporary folder that goes when this does.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A folder of this process for this purpose.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn new(purpose: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("attain-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary folder that stays is the system's to clear.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
