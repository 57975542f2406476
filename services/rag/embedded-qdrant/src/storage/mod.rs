//! The data folder: its lock, its collections, and what one of them can do.
//!
//! ```text
//! DIR/LOCK                                held by the process that owns the folder
//! DIR/collections/NAME/collection.json    the manifest: present exactly while the collection exists
//! DIR/collections/NAME/…                  the shard of qdrant-edge (edge_config.json, segments/, wal/)
//! ```

pub(crate) mod collection;
mod folder;
mod log;
pub(crate) mod search;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use qdrant_edge::EdgeConfig;

use crate::Error;
use crate::options::{Bounds, Options};
use collection::Collection;

/// Longest name of a collection; it is a folder's name too.
const NAME_LENGTH_MAX: usize = 128;

/// All collections of one folder, which this value owns until it is dropped.
pub(crate) struct Store {
    collections_dir: PathBuf,
    collections: RwLock<BTreeMap<String, Arc<Collection>>>,
    pub(crate) bounds: Bounds,
    /// Dropped last, when every shard is closed.
    _lock: File,
}

impl Store {
    /// Locks the folder, removes what interrupted creates and deletes left behind, and opens every collection.
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        options.bounds.check()?;
        let lock = folder::lock(options.data_dir())?;
        let collections_dir = options.data_dir().join("collections");
        folder::create(&collections_dir)?;
        let mut collections = BTreeMap::new();
        for (name, path) in folder::sub_folders(&collections_dir)? {
            if folder::has_manifest(&path) {
                let collection = Collection::open(name.clone(), path)?;
                collections.insert(name, Arc::new(collection));
            } else {
                tracing::info!(collection = name, "removing an unfinished collection");
                folder::remove(&path)?;
            }
        }
        Ok(Self { collections_dir, collections: RwLock::new(collections), bounds: options.bounds, _lock: lock })
    }

    /// The collection of this name.
    pub(crate) fn collection(&self, name: &str) -> Result<Arc<Collection>, Error> {
        self.collections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
            .ok_or_else(|| Error::CollectionNotFound { name: name.to_owned() })
    }

    /// Names of all collections, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.collections.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Creates a collection; when this returns, it survives the process.
    pub(crate) fn create(&self, name: &str, config: EdgeConfig) -> Result<(), Error> {
        check_name(name)?;
        let mut collections = self.collections.write().unwrap_or_else(PoisonError::into_inner);
        if collections.contains_key(name) {
            return Err(Error::CollectionExists { name: name.to_owned() });
        }
        let max = self.bounds.collection_count_max;
        if collections.len() >= max {
            return Err(Error::invalid(
                "collection_name",
                format!("there are {max} collections already, which is the most allowed"),
            ));
        }
        let path = self.collections_dir.join(name);
        if path.exists() {
            // A create that failed earlier in this process; there is no manifest, so nothing was acknowledged.
            folder::remove(&path)?;
        }
        let collection = Collection::create(name.to_owned(), path, config)?;
        collections.insert(name.to_owned(), Arc::new(collection));
        Ok(())
    }

    /// Deletes a collection; false when there is none of this name.
    pub(crate) fn delete(&self, name: &str) -> Result<bool, Error> {
        let mut collections = self.collections.write().unwrap_or_else(PoisonError::into_inner);
        let Some(collection) = collections.remove(name) else {
            return Ok(false);
        };
        collection.delete()?;
        Ok(true)
    }
}

/// A name must be a plain folder name on every system.
fn check_name(name: &str) -> Result<(), Error> {
    let reason = if name.is_empty() || name.len() > NAME_LENGTH_MAX {
        format!("must have 1 to {NAME_LENGTH_MAX} characters")
    } else if name.starts_with('.') {
        "must not start with a dot".to_owned()
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')) {
        "may hold ASCII letters, digits, `_`, `-` and `.`".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::invalid("collection_name", reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_api_key;
    use qdrant_edge::{Distance, EdgeVectorParams};
    use std::fs;
    use std::path::Path;

    fn options(path: &Path) -> Options {
        Options::new(path, random_api_key()).expect("good options")
    }

    fn one_vector() -> EdgeConfig {
        EdgeConfig::builder().vector("", EdgeVectorParams::builder(2, Distance::Dot).build()).build()
    }

    #[test]
    fn a_name_that_could_leave_the_folder_is_refused() {
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "ä", "a b", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "chunks_v1", "Chunks-2.1"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Store::open(&options(folder.path())).expect("the first owner");
        let refusal = Store::open(&options(folder.path())).err().expect("a second owner");
        assert!(matches!(refusal, Error::FolderLocked { .. }), "{refusal}");
        drop(first);
        assert!(Store::open(&options(folder.path())).is_ok());
    }

    #[test]
    fn what_an_interrupted_create_left_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("collections/half");
        {
            let store = Store::open(&options(folder.path())).expect("a store");
            store.create("half", one_vector()).expect("created");
            store.create("whole", one_vector()).expect("created");
        }
        fs::remove_file(path.join("collection.json")).expect("the manifest");
        let store = Store::open(&options(folder.path())).expect("a store");
        assert_eq!(store.names(), ["whole"]);
        assert!(!path.exists());
        store.create("half", one_vector()).expect("the name is free again");
    }

    #[test]
    fn collections_are_counted_against_the_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = options(folder.path());
        options.bounds.collection_count_max = 1;
        let store = Store::open(&options).expect("a store");
        store.create("one", one_vector()).expect("the first");
        assert!(matches!(store.create("one", one_vector()), Err(Error::CollectionExists { .. })));
        assert!(matches!(store.create("two", one_vector()), Err(Error::InvalidArgument { .. })));
        assert!(store.delete("one").expect("deleted"));
        assert!(!store.delete("one").expect("gone already"));
        store.create("two", one_vector()).expect("there is room again");
    }
}
