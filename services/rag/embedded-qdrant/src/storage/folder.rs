//! Files and folders, with errors that name them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Error;

const MANIFEST: &str = "collection.json";

/// What the manifest says today; a later layout gets another number.
const MANIFEST_TEXT: &str = "{\"layout\":1}\n";

/// Creates the folder where needed and takes its lock for as long as the returned file lives.
pub(super) fn lock(data_dir: &Path) -> Result<File, Error> {
    create(data_dir)?;
    let path = data_dir.join("LOCK");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| failed("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::FolderLocked { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path, source)),
    }
}

pub(super) fn create(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| failed("create", path, source))
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_dir_all(path).map_err(|source| failed("remove", path, source))
}

/// Folders in a folder with their names, sorted.
pub(super) fn sub_folders(path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|source| failed("list", path, source))? {
        let entry = entry.map_err(|source| failed("list", path, source))?.path();
        if !entry.is_dir() {
            continue;
        }
        // A name that is not text was not made by this crate.
        if let Some(name) = entry.file_name().and_then(|name| name.to_str()) {
            found.push((name.to_owned(), entry.clone()));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn has_manifest(collection: &Path) -> bool {
    collection.join(MANIFEST).is_file()
}

/// Makes a collection exist: from here on it is opened at every start.
pub(super) fn write_manifest(collection: &Path) -> Result<(), Error> {
    let path = collection.join(MANIFEST);
    let draft = collection.join("collection.json.draft");
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(MANIFEST_TEXT.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        sync(collection)?;
        collection.parent().map_or(Ok(()), sync)
    };
    write().map_err(|source| failed("write", &path, source))
}

/// Makes a collection not exist: what is left of it is removed at the next start at the latest.
pub(super) fn remove_manifest(collection: &Path) -> Result<(), Error> {
    let path = collection.join(MANIFEST);
    fs::remove_file(&path).and_then(|()| sync(collection)).map_err(|source| failed("remove", &path, source))
}

/// Makes the names in a folder durable, not only the files' contents.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Folder { action, path: path.to_owned(), source }
}
