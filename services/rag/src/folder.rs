//! A folder of documents, as a team keeps it in a repository: which files there are, and what has to be sent and removed so that
//! what is kept is what the folder holds.
//!
//! Files are found by their endings, below the folder, without following links and without what begins with a dot. A file's name
//! below the folder, after a prefix, is the document's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::document::sha256_hex;

/// Begins the source of a document that was taken from a folder.
pub const SOURCE_SCHEME: &str = "folder:";
/// Endings of the files that are documents.
pub const ENDINGS: [&str; 5] = ["md", "markdown", "txt", "yaml", "yml"];
/// Largest file, in bytes: what a document may hold at four bytes a character.
const FILE_BYTES_MAX: u64 = 800_000;
/// Most files of one folder.
const FILES_MAX: usize = 20_000;
/// Deepest folder below the first.
const DEPTH_MAX: usize = 32;
/// More than this share of the documents is not removed at once …
const GONE_SHARE_MAX: f64 = 0.5;
/// … unless there are only so few.
const GONE_FEW: usize = 3;

/// A file that is a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path below the folder, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
    /// SHA-256 of that, in hex.
    pub sha256: String,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// Documents by their names.
    pub files: BTreeMap<String, File>,
    /// Paths that cannot be documents, with the reason. Their documents, if there are any, are left alone.
    pub faults: BTreeMap<String, String>,
    /// The commit that is checked out, where the folder is part of a git repository.
    pub commit: Option<String>,
}

/// What is kept of a document, as far as it tells where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Address of its source.
    pub uri: String,
    /// Revision there.
    pub revision: String,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Names of documents that are new or changed.
    pub send: Vec<String>,
    /// Names of documents whose files are gone.
    pub remove: Vec<String>,
    /// Why nothing is removed although files are gone; empty otherwise.
    pub withheld: String,
    /// Documents that are as their files are.
    pub unchanged_count: usize,
}

impl Scan {
    /// Reads a folder. `prefix` is put before the names of its documents.
    ///
    /// # Errors
    /// Where the folder itself cannot be read; what cannot be read below it is a fault of its own.
    pub fn of(root: &Path, prefix: &str) -> io::Result<Self> {
        let mut scan = Self { commit: commit(root), ..Self::default() };
        let mut folders = vec![(root.to_path_buf(), 0)];
        let mut first = true;
        while let Some((folder, depth)) = folders.pop() {
            match entries(&folder) {
                Ok(entries) => entries.into_iter().for_each(|path| scan.visit(root, prefix, path, depth, &mut folders)),
                Err(error) if first => return Err(error),
                Err(error) => drop(scan.faults.insert(below(root, &folder), error.to_string())),
            }
            first = false;
        }
        Ok(scan)
    }

    fn visit(&mut self, root: &Path, prefix: &str, path: PathBuf, depth: usize, folders: &mut Vec<(PathBuf, usize)>) {
        let told = below(root, &path);
        let Ok(kind) = fs::symlink_metadata(&path) else { return };
        if kind.is_dir() {
            if depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else {
                self.faults.insert(told, format!("deeper than {DEPTH_MAX} folders"));
            }
            return;
        }
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase).unwrap_or_default();
        if !kind.is_file() || !ENDINGS.contains(&ending.as_str()) {
            return;
        }
        match self.read(&path, kind.len()) {
            Ok(text) => self.take(prefix, told, text),
            Err(reason) => drop(self.faults.insert(told, reason)),
        }
    }

    fn read(&self, path: &Path, bytes: u64) -> Result<String, String> {
        if self.files.len() >= FILES_MAX {
            return Err(format!("a folder has at most {FILES_MAX} documents"));
        }
        if bytes > FILE_BYTES_MAX {
            return Err(format!("{bytes} bytes; a document has at most {FILE_BYTES_MAX}"));
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())
    }

    fn take(&mut self, prefix: &str, path: String, text: String) {
        let name = name(prefix, &path);
        if let Some(other) = self.files.get(&name) {
            let reason = format!("the document would be named `{name}` as that of {} is", other.path);
            self.faults.insert(path, reason);
            return;
        }
        let sha256 = sha256_hex(text.as_bytes());
        self.files.insert(name, File { path, text, sha256 });
    }

    /// The source of a document of this folder: its file, and the commit and the hash of what it held.
    #[must_use]
    pub fn source(&self, file: &File) -> Known {
        let commit = self.commit.as_ref().map(|commit| format!("{commit} ")).unwrap_or_default();
        Known { uri: format!("{SOURCE_SCHEME}{}", file.path), revision: format!("{commit}sha256:{}", file.sha256) }
    }

    /// What has to be sent and removed, given what is kept under the prefix. Only documents that came from a folder are
    /// removed, and not most of them at once unless `emptied` allows it: a checkout that failed looks like an emptied folder.
    #[must_use]
    pub fn plan(&self, known: &BTreeMap<String, Known>, removes: bool, emptied: bool) -> Plan {
        let mut plan = Plan::default();
        for (name, file) in &self.files {
            let same = known.get(name).is_some_and(|known| {
                known.uri == format!("{SOURCE_SCHEME}{}", file.path)
                    && known.revision.ends_with(&format!("sha256:{}", file.sha256))
            });
            if same { plan.unchanged_count += 1 } else { plan.send.push(name.clone()) }
        }
        let ours = known.iter().filter(|(_, known)| known.uri.starts_with(SOURCE_SCHEME));
        let faulty = |known: &Known| {
            let path = known.uri.trim_start_matches(SOURCE_SCHEME);
            self.faults.keys().any(|fault| fault == path || path.starts_with(&format!("{fault}/")))
        };
        let all = ours.clone().count();
        let gone: Vec<String> = ours
            .filter(|(name, known)| !self.files.contains_key(*name) && !faulty(known))
            .map(|(name, _)| name.clone())
            .collect();
        if !removes || gone.is_empty() {
            return plan;
        }
        let most = gone.len() > GONE_FEW && gone.len() as f64 > GONE_SHARE_MAX * all as f64;
        if (most || self.files.is_empty()) && !emptied {
            plan.withheld = format!("{} of {all} documents have no file any more; nothing is removed", gone.len());
        } else {
            plan.remove = gone;
        }
        plan
    }
}

/// The name of the document of a file: what no name may have becomes `-`.
fn name(prefix: &str, path: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._:/@-".contains(c) { c } else { '-' };
    format!("{prefix}{path}").chars().map(allowed).collect()
}

fn below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// What is in a folder in the order of names, without what begins with a dot.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
    paths.sort();
    Ok(paths)
}

/// The commit that is checked out in the repository that a folder is part of. Read from git's files; git is not run.
fn commit(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let git = folder.ancestors().map(|above| above.join(".git")).find(|git| git.exists())?;
    let git = if git.is_file() {
        let named = fs::read_to_string(&git).ok()?;
        git.parent()?.join(named.strip_prefix("gitdir:")?.trim())
    } else {
        git
    };
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(reference) = head.strip_prefix("ref:").map(str::trim) else { return hash(&head) };
    // The references of a worktree are kept in the repository that it belongs to.
    let common = fs::read_to_string(git.join("commondir")).map(|common| git.join(common.trim())).unwrap_or(git);
    let loose = fs::read_to_string(common.join(reference)).ok().and_then(|text| hash(&text));
    loose.or_else(|| {
        let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
        packed.lines().find_map(|line| hash(line.strip_suffix(reference)?))
    })
}

fn hash(text: &str) -> Option<String> {
    let text = text.trim();
    ([40, 64].contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("made");
            fs::write(path, text).expect("written");
        }
        folder
    }

    fn kept(scan: &Scan) -> BTreeMap<String, Known> {
        scan.files.iter().map(|(name, file)| (name.clone(), scan.source(file))).collect()
    }

    #[test]
    fn files_become_documents_and_the_rest_is_told() {
        let folder =
            folder(&[("a/b c.md", "x"), ("a/b-c.md", "y"), ("d.yaml", "z"), (".git/x.md", "no"), ("e.png", "no")]);
        fs::write(folder.path().join("f.txt"), [0xff, 0xfe]).expect("written");
        let scan = Scan::of(folder.path(), "shop/").expect("read");
        assert_eq!(scan.files.keys().collect::<Vec<_>>(), ["shop/a/b-c.md", "shop/d.yaml"]);
        assert_eq!(scan.faults.keys().collect::<Vec<_>>(), ["a/b-c.md", "f.txt"]);
        assert!(Scan::of(&folder.path().join("none"), "").is_err());
    }

    #[test]
    fn only_what_changed_is_sent() {
        let folder = folder(&[("a.md", "one"), ("b.md", "two")]);
        let before = Scan::of(folder.path(), "").expect("read");
        let known = kept(&before);
        fs::write(folder.path().join("a.md"), "other").expect("written");
        fs::write(folder.path().join("c.md"), "new").expect("written");
        let plan = Scan::of(folder.path(), "").expect("read").plan(&known, true, false);
        assert_eq!(
            (plan.send, plan.unchanged_count, plan.remove.len()),
            (vec!["a.md".to_owned(), "c.md".into()], 1, 0)
        );
    }

    #[test]
    fn what_is_gone_is_removed_but_not_most_of_it() {
        let files: Vec<(String, &str)> = (0..10).map(|n| (format!("{n}.md"), "x")).collect();
        let folder = folder(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
        let mut known = kept(&Scan::of(folder.path(), "").expect("read"));
        let by_hand = Known { uri: String::new(), revision: String::new() };
        known.insert("written-by-hand".to_owned(), by_hand);
        let plan = |removes, emptied| Scan::of(folder.path(), "").expect("read").plan(&known, removes, emptied);
        fs::remove_file(folder.path().join("3.md")).expect("removed");
        assert_eq!(plan(true, false).remove, ["3.md"]);
        assert_eq!(plan(false, false), Plan { unchanged_count: 9, ..Plan::default() });
        for n in 4..10 {
            fs::remove_file(folder.path().join(format!("{n}.md"))).expect("removed");
        }
        assert!(plan(true, false).remove.is_empty() && plan(true, false).withheld.contains("7 of 10"));
        assert_eq!(plan(true, true).remove.len(), 7);
        // A file that cannot be read is not gone.
        fs::write(folder.path().join("3.md"), [0xff]).expect("written");
        assert_eq!(plan(true, true).remove.len(), 6);
    }

    #[test]
    fn the_commit_is_read_from_git() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let folder =
            folder(&[(".git/HEAD", "ref: refs/heads/main\n"), (".git/refs/heads/main", commit), ("docs/a.md", "x")]);
        let scan = Scan::of(&folder.path().join("docs"), "").expect("read");
        assert_eq!(scan.commit.as_deref(), Some(commit));
        assert!(scan.source(&scan.files["a.md"]).revision.starts_with(&format!("{commit} sha256:")));
        fs::remove_file(folder.path().join(".git/refs/heads/main")).expect("removed");
        fs::write(folder.path().join(".git/packed-refs"), format!("# pack-refs\n{commit} refs/heads/main\n"))
            .expect("written");
        assert_eq!(Scan::of(folder.path(), "").expect("read").commit.as_deref(), Some(commit));
    }
}
