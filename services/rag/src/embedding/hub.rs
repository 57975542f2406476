//! The shipped model's published files from a hub that the settings name: resumed where a process broke off, bounded in time, held
//! against their hashes before they get their names.
//!
//! ONNX Runtime's library is none of them: no hub has it.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::files::{PUBLISHED, Published};

/// Where the publisher keeps the model; the revision fixes every byte of it.
const REPOSITORY: &str = "sentence-transformers/all-MiniLM-L6-v2";
const REVISION: &str = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41";
/// What names a hub where the settings do not: the variable that the hub's own tools read.
const HUB_VARIABLE: &str = "HF_ENDPOINT";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that nothing may come.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Tries of one file without a byte more.
const TRIES_MAX: u32 = 4;
/// Pause before the second try; doubled with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A hub hands large files over to others.
const REDIRECTS_MAX: usize = 5;
/// Pause between two looks at whether another process is done.
const LOCK_PAUSE: Duration = Duration::from_millis(500);
const LOCK_FILE: &str = ".download.lock";
/// Bytes that are hashed at a time.
const BLOCK: usize = 1 << 16;

/// A hub that has the model.
#[derive(Debug)]
pub(crate) struct Hub {
    http: reqwest::Client,
    /// Its address.
    base: String,
    /// The same for people: without user and password.
    address: String,
    limit: Duration,
}

/// Why a file did not come.
enum Fault {
    /// It may come yet.
    Passing(String),
    /// It will not come from there.
    Lasting(String),
}

/// The hub that a setting or else the environment names; `None` where neither does.
pub(crate) fn named(setting: Option<&str>) -> Option<String> {
    let set = setting.map(str::to_owned).or_else(|| std::env::var(HUB_VARIABLE).ok());
    set.map(|address| address.trim_end_matches('/').to_owned()).filter(|address| !address.is_empty())
}

/// Whether this is the address of a web server.
pub(crate) fn is_address(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

impl Hub {
    /// A client of the hub at `address`, with `limit` for everything together.
    ///
    /// # Errors
    /// Where the address is none.
    pub(crate) fn new(address: &str, limit: Duration) -> Result<Self, String> {
        if !is_address(address) {
            return Err(format!("`{address}` is no address of a hub, such as https://hub.example"));
        }
        // Every client of the process needs a provider, even for plain HTTP; a second call finds one installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::limited(REDIRECTS_MAX))
            .referer(false)
            .user_agent(concat!("attain/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        let shown = attain_runtime::database::without_credentials(address);
        Ok(Self { http, base: address.to_owned(), address: shown, limit })
    }

    /// Its address, for people.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Brings the published files into a folder: those that are there and right stay, the weights come last, so that a folder
    /// with weights is a whole one. `told` hears how many bytes are there, of all.
    ///
    /// # Errors
    /// Says which file did not come, and why. What has come of it stays, under a name of its own, for the next time.
    pub(crate) async fn fetch(&self, folder: &Path, told: impl Fn(u64, u64)) -> Result<(), String> {
        let fetched = tokio::time::timeout(self.limit, self.fetch_all(folder, &told)).await;
        fetched.unwrap_or_else(|_| Err(format!("not all of it came within {} s", self.limit.as_secs())))
    }

    async fn fetch_all(&self, folder: &Path, told: &impl Fn(u64, u64)) -> Result<(), String> {
        std::fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
        let _alone = lock(&folder.join(LOCK_FILE)).await?;
        let all: u64 = PUBLISHED.iter().map(|file| file.bytes).sum();
        let mut before = 0;
        for file in &PUBLISHED {
            if !is_right(&folder.join(file.name), file).await? {
                self.fetch_file(folder, file, &|bytes| told(before + bytes, all)).await?;
            }
            before += file.bytes;
            told(before, all);
        }
        Ok(())
    }

    async fn fetch_file(&self, folder: &Path, file: &Published, told: &impl Fn(u64)) -> Result<(), String> {
        let (target, part) = (folder.join(file.name), folder.join(format!(".{}.part", file.name)));
        let (mut tries, mut pause) = (0, FIRST_PAUSE);
        loop {
            let before = length(&part);
            match self.try_file(&part, file, told).await {
                Ok(()) => return std::fs::rename(&part, &target).map_err(|error| cannot("write", &target, &error)),
                Err(Fault::Lasting(reason)) => return Err(reason),
                Err(Fault::Passing(reason)) => {
                    tries = if length(&part) > before { 1 } else { tries + 1 };
                    if tries >= TRIES_MAX {
                        return Err(reason);
                    }
                    tracing::warn!(
                        reason,
                        file = file.name,
                        "a file of the embedding model did not come; it is tried again"
                    );
                }
            }
            tokio::time::sleep(pause).await;
            pause = if tries <= 1 { FIRST_PAUSE } else { pause * 2 };
        }
    }

    /// Goes on with what has come of a file, until it is whole and right.
    async fn try_file(&self, part: &Path, file: &Published, told: &impl Fn(u64)) -> Result<(), Fault> {
        let passing = |what: &str| Fault::Passing(format!("{} from {}: {what}", file.name, self.address));
        let have = length(part);
        if have == file.bytes && is_right(part, file).await.map_err(Fault::Lasting)? {
            return Ok(());
        }
        let have = if have < file.bytes { have } else { 0 };
        let url = format!("{}/{REPOSITORY}/resolve/{REVISION}/{}", self.base, file.name);
        let mut request = self.http.get(url);
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let answer =
            tokio::time::timeout(STALL_MAX, request.send()).await.map_err(|_| passing("it does not answer"))?;
        let answer = answer.map_err(|error| passing(&causes(&error)))?;
        let goes_on = have > 0 && goes_on_at(&answer, have);
        if !goes_on && [StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE].contains(&answer.status()) {
            remove(part)?;
            return Err(passing(&format!("it does not go on at byte {have}")));
        }
        if let Some(fault) = self.refusal(&answer, file) {
            return Err(fault);
        }
        let start = if goes_on { have } else { 0 };
        self.receive(answer, part, file, start, told).await?;
        if is_right(part, file).await.map_err(Fault::Lasting)? {
            return Ok(());
        }
        let reason = format!("{} from {} has another SHA-256 than {}", file.name, self.address, file.sha256);
        remove(part)?;
        // Half of it may have been left by something else.
        Err(if goes_on { Fault::Passing(reason) } else { Fault::Lasting(reason) })
    }

    fn refusal(&self, answer: &Response, file: &Published) -> Option<Fault> {
        let status = answer.status();
        let reason = || format!("{} from {}: status {}", file.name, self.address, status.as_u16());
        let comes_back = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => None,
            _ if status.is_server_error() || comes_back.contains(&status) => Some(Fault::Passing(reason())),
            _ => Some(Fault::Lasting(reason())),
        }
    }

    /// Writes what comes, from byte `start` of the file on.
    async fn receive(
        &self,
        mut answer: Response,
        part: &Path,
        file: &Published,
        start: u64,
        told: &impl Fn(u64),
    ) -> Result<(), Fault> {
        let of = |what: String| format!("{} from {}: {what}", file.name, self.address);
        let wrong = |error: io::Error| Fault::Lasting(cannot("write", part, &error));
        let mut options = File::options();
        let options = options.create(true).write(true).append(start > 0).truncate(start == 0);
        let mut written = options.open(part).map_err(wrong)?;
        let mut have = start;
        loop {
            let next = tokio::time::timeout(STALL_MAX, answer.chunk()).await;
            let next = next.map_err(|_| Fault::Passing(of(format!("nothing came for {} s", STALL_MAX.as_secs()))))?;
            let Some(bytes) = next.map_err(|error| Fault::Passing(of(causes(&error))))? else { break };
            have += bytes.len() as u64;
            if have > file.bytes {
                return Err(Fault::Lasting(of(format!("is larger than its {} bytes", file.bytes))));
            }
            written.write_all(&bytes).map_err(wrong)?;
            told(have);
        }
        written.sync_all().map_err(wrong)?;
        if have < file.bytes {
            return Err(Fault::Passing(of(format!("ended after {have} of {} bytes", file.bytes))));
        }
        Ok(())
    }
}

/// Whether an answer begins at this byte.
fn goes_on_at(answer: &Response, byte: u64) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    answer.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {byte}-")))
}

/// Waits until no other process is at it. The lock ends with its holder, however that ends.
async fn lock(path: &Path) -> Result<File, String> {
    let file = File::create(path).map_err(|error| cannot("make", path, &error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(error)) => return Err(cannot("lock", path, &error)),
        }
    }
}

/// Whether a file is there, with the expected hash.
async fn is_right(path: &Path, file: &Published) -> Result<bool, String> {
    let (path, expected): (PathBuf, _) = (path.to_owned(), file.sha256);
    let hashed = tokio::task::spawn_blocking(move || match sha256(&path) {
        Ok(found) => Ok(found == expected),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(cannot("read", &path, &error)),
    });
    hashed.await.map_err(|error| error.to_string())?
}

fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut block) = (File::open(path)?, Sha256::new(), vec![0; BLOCK]);
    loop {
        match io::Read::read(&mut file, &mut block)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&block[..count]),
        }
    }
}

fn remove(part: &Path) -> Result<(), Fault> {
    match std::fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Fault::Lasting(cannot("remove", part, &error))),
        _ => Ok(()),
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

/// An error with what caused it, without the address, which is named already.
fn causes(error: &reqwest::Error) -> String {
    let mut text = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push(cause.to_string());
        next = cause.source();
    }
    if text.is_empty() { "the connection failed".to_owned() } else { text.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_needed() {
        for wrong in ["hub.example", "ftp://hub.example", "https://"] {
            assert!(Hub::new(wrong, STALL_MAX).expect_err(wrong).contains("no address"), "{wrong}");
        }
        let hub = Hub::new(&named(Some("http://127.0.0.1:9/")).expect("named"), STALL_MAX).expect("an address");
        assert_eq!((hub.address(), named(Some(""))), ("http://127.0.0.1:9", None));
    }

    #[tokio::test]
    async fn a_file_is_right_by_its_hash() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let file = Published {
            name: "a",
            bytes: 3,
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        };
        assert_eq!(is_right(&path, &file).await, Ok(false));
        std::fs::write(&path, "abc").expect("written");
        assert_eq!(is_right(&path, &file).await, Ok(true));
        std::fs::write(&path, "abd").expect("written");
        assert_eq!(is_right(&path, &file).await, Ok(false));
    }

    #[tokio::test]
    async fn one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(LOCK_FILE);
        let held = lock(&path).await.expect("locked");
        assert!(tokio::time::timeout(LOCK_PAUSE / 10, lock(&path)).await.is_err());
        drop(held);
        lock(&path).await.expect("locked");
    }
}
