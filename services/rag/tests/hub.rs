//! The embedding model from a hub: a scripted one on this machine that serves the genuine published files, lies, stalls, breaks off.
//!
//! The service runs in a process of its own, with a cache folder of its own in which only ONNX Runtime stands.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use attain_proto::rag::v1 as wire;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use support::{ChildService, document, model_folder};

const WEIGHTS: &str = "model.safetensors";
const LIBRARY: &str = "libonnxruntime.so";
const REPOSITORY: &str = "/sentence-transformers/all-MiniLM-L6-v2/resolve/1110a243fdf4706b3f48f1d95db1a4f5529b4d41/";
const MODEL: &str = "all-MiniLM-L6-v2@53aa51172d14+d6f957c8e8ab";
/// Bytes after which a connection breaks or stalls.
const MIDDLE: usize = 20_000_000;

/// What the hub does when it is asked for the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Script {
    Serve,
    /// As many bytes, one of them another.
    Wrong,
    Missing,
    /// Nothing comes after the middle, for as long as anybody waits.
    Stall,
    /// The connection ends in the middle, the first time.
    Break,
    /// Wherever the caller was, it gets the whole file.
    Whole,
}

/// A path that was asked for, and from which byte on.
type Asked = (String, u64);

struct Hub {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: watch::Sender<Script>,
}

impl Hub {
    async fn start(published: PathBuf, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let script = watch::Sender::new(script);
        let (noted, told) = (Arc::clone(&asked), script.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (published, noted, script) = (published.clone(), Arc::clone(&noted), told.clone());
                // One that goes away does not matter.
                tokio::spawn(async move { drop(serve(socket, &published, &noted, &script).await) });
            }
        });
        Self { url, asked, script }
    }

    /// Bytes from which the weights were asked for, by order.
    fn weights_asked_from(&self) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(path, _)| path.starts_with("/store/")).map(|(_, from)| *from).collect()
    }

    fn is_untouched(&self) -> bool {
        self.asked.lock().unwrap().is_empty()
    }
}

async fn serve(
    mut socket: TcpStream,
    published: &Path,
    noted: &Mutex<Vec<Asked>>,
    script: &watch::Sender<Script>,
) -> std::io::Result<()> {
    let head = read_head(&mut socket).await?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let from = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let from: u64 = from.unwrap_or(0);
    noted.lock().unwrap().push((path.clone(), from));
    let now = *script.borrow();
    let Some(name) = path.strip_prefix(REPOSITORY).or_else(|| path.strip_prefix("/store/")) else {
        return answer(&mut socket, "404 Not Found", "", b"").await;
    };
    if now == Script::Missing {
        return answer(&mut socket, "404 Not Found", "", b"").await;
    }
    if name == WEIGHTS && path.starts_with(REPOSITORY) {
        // Large files stand elsewhere.
        return answer(&mut socket, "302 Found", &format!("location: /store/{WEIGHTS}\r\n"), b"").await;
    }
    let mut bytes = tokio::fs::read(published.join(name)).await?;
    if name != WEIGHTS {
        return answer(&mut socket, "200 OK", "", &bytes).await;
    }
    if now == Script::Wrong {
        bytes[MIDDLE] ^= 1;
    }
    let from = if now == Script::Whole { 0 } else { from as usize };
    let range = format!("content-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    let (status, range) = if from > 0 { ("206 Partial Content", range) } else { ("200 OK", String::new()) };
    if !matches!(now, Script::Stall | Script::Break) {
        return answer(&mut socket, status, &range, &bytes[from..]).await;
    }
    let head =
        format!("HTTP/1.1 {status}\r\n{range}content-length: {}\r\nconnection: close\r\n\r\n", bytes.len() - from);
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&bytes[from..MIDDLE]).await?;
    if now == Script::Stall {
        std::future::pending::<()>().await;
    }
    script.send_replace(Script::Serve);
    socket.shutdown().await
}

async fn answer(socket: &mut TcpStream, status: &str, more: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body).await?;
    socket.shutdown().await
}

async fn read_head(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(socket.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A machine without the model: a home, documents, and a hub.
struct Scene {
    folder: TempDir,
    hub: Hub,
}

impl Scene {
    /// `None`, said aloud, where the published files are not on this machine.
    async fn set(script: Script) -> Option<Self> {
        let published = model_folder()?;
        let scene = Self { folder: tempfile::tempdir().unwrap(), hub: Hub::start(published.clone(), script).await };
        std::fs::create_dir_all(scene.cached()).unwrap();
        std::os::unix::fs::symlink(published.join(LIBRARY).canonicalize().unwrap(), scene.cached().join(LIBRARY))
            .unwrap();
        Some(scene)
    }

    fn cached(&self) -> PathBuf {
        self.folder.path().join("cache/attain/models/all-MiniLM-L6-v2")
    }

    fn start(&self, more: &str) -> ChildService {
        let folder = self.folder.path();
        let settings = format!(
            "database_url = \"sqlite:{}\"\nindex_dir = {:?}\nembedding_threads = 1\n{more}\n",
            folder.join("rag.db").display(),
            folder.join("index")
        );
        let hub = Path::new(&self.hub.url);
        let environment = [("XDG_CACHE_HOME", &*folder.join("cache")), ("HF_ENDPOINT", hub)];
        ChildService::start(&folder.join("rag.toml"), &settings, &environment)
    }

    /// Starts it, keeps a document and has it found by its words.
    async fn start_and_search(&self, more: &str) -> ChildService {
        let service = self.start(more);
        service.wait_for(|status| status.ready).await;
        let text = "# Promotion\n\nThe replica is promoted by hand when the primary is gone.\n";
        service.put("acme", vec![document("a/b", wire::DocumentKind::Runbook, text, &[])]).await;
        finds_by(&service, wire::RetrievalMode::LexicalOnly).await;
        service
    }
}

async fn finds_by(service: &ChildService, mode: wire::RetrievalMode) {
    let answer = service.search("acme", "who promotes the replica when the primary is gone").await;
    assert_eq!((answer.mode(), answer.citations[0].document_id.as_str()), (mode, "a/b"));
    let expected = if mode == wire::RetrievalMode::Hybrid { MODEL } else { "" };
    assert_eq!(answer.embedding_model, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_answer_until_the_model_is_there_and_it_comes_once() {
    let Some(scene) = Scene::set(Script::Stall).await else { return };
    let service = scene.start_and_search("").await;
    service
        .until_model_says(&format!(
            "search is by words only: the embedding model is being downloaded from {}",
            scene.hub.url
        ))
        .await;
    service.until_model_says("20 % are there").await;
    finds_by(&service, wire::RetrievalMode::LexicalOnly).await;
    assert!(!scene.cached().join(WEIGHTS).exists(), "it has no name yet");
    service.kill();

    // Broken off by SIGKILL, it goes on where it was.
    scene.hub.script.send_replace(Script::Serve);
    let service = scene.start("");
    service.until_model(MODEL).await;
    finds_by(&service, wire::RetrievalMode::Hybrid).await;
    let asked = scene.hub.weights_asked_from();
    assert!(asked.len() == 2 && asked[0] == 0 && asked[1] > 0 && asked[1] <= MIDDLE as u64, "{asked:?}");
    service.kill();

    // And from then on it is in the cache.
    scene.hub.asked.lock().unwrap().clear();
    let service = scene.start("");
    service.until_model(MODEL).await;
    assert!(scene.hub.is_untouched());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_taken_up_again() {
    let Some(scene) = Scene::set(Script::Break).await else { return };
    let service = scene.start_and_search("").await;
    service.until_model(MODEL).await;
    assert_eq!(scene.hub.weights_asked_from(), [0, MIDDLE as u64]);
    service.kill();
    // One that cannot go on begins again.
    let weights = scene.cached().join(WEIGHTS);
    let part = scene.cached().join(format!(".{WEIGHTS}.part"));
    std::fs::write(&part, &std::fs::read(&weights).unwrap()[..1000]).unwrap();
    std::fs::remove_file(&weights).unwrap();
    scene.hub.script.send_replace(Script::Whole);
    let service = scene.start("");
    service.until_model(MODEL).await;
    assert!(!part.exists());
    assert_eq!(scene.hub.weights_asked_from().last(), Some(&1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_hash_is_not_kept() {
    let Some(scene) = Scene::set(Script::Wrong).await else { return };
    let service = scene.start_and_search("").await;
    service.until_model_says("model.safetensors from http://127.0.0.1").await;
    service.until_model_says("has another SHA-256 than 53aa5117").await;
    let left: Vec<_> = std::fs::read_dir(scene.cached()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(WEIGHTS)), "{left:?}");
    finds_by(&service, wire::RetrievalMode::LexicalOnly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_is_given_up_and_said() {
    let Some(scene) = Scene::set(Script::Stall).await else { return };
    let service = scene.start_and_search("model_download_timeout_seconds = 3").await;
    service.until_model_says("could not be downloaded: not all of it came within 3 s").await;
    finds_by(&service, wire::RetrievalMode::LexicalOnly).await;
    service.kill();
    scene.hub.script.send_replace(Script::Missing);
    let service = scene.start_and_search("").await;
    service.until_model_says("status 404").await;
    service.kill();
    // Nobody there: tried again a few times, then given up.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let service = scene.start_and_search(&format!("model_hub = \"http://{nobody}\"")).await;
    service.until_model_says("could not be downloaded: model.safetensors from http://127.0.0.1").await;
    finds_by(&service, wire::RetrievalMode::LexicalOnly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_where_it_is_off_or_of_no_use() {
    let Some(scene) = Scene::set(Script::Serve).await else { return };
    let service = scene.start_and_search("model_download = false").await;
    service.until_model_says("rag.model_download is off").await;
    service.kill();
    std::fs::remove_file(scene.cached().join(LIBRARY)).unwrap();
    let service = scene.start_and_search("").await;
    service.until_model_says("there is no libonnxruntime.so in").await;
    service.until_model_says("no hub has it").await;
    assert!(scene.hub.is_untouched());
}
