//! The knowledge service as an outside client meets it: a service of the evaluation's own, folders of texts, questions, and whether a
//! citation is what is stored. One reading of a folder, one client, and one guess of what a document is, for every evaluation that asks.

mod corpus;
mod measures;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use attain_members::{Attain, Process, Usage};
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;

use crate::scratch::Folder;

#[cfg(test)]
pub(crate) use corpus::Judgement;
pub(crate) use corpus::{Corpus, Query};
pub(crate) use measures::Measures;
pub(crate) use service::{Loading, Tenant};

const READY_WITHIN: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A rag service that lives as long as the evaluation.
pub(crate) struct OwnService {
    pub(crate) address: String,
    process: Process,
    _folder: Folder,
}

impl OwnService {
    pub(crate) async fn start(attain: Option<&Path>, cores: Option<&str>) -> anyhow::Result<Self> {
        let attain = Attain::find(attain)?.on_cores(cores);
        let folder = Folder::new("evals")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let database = format!("rag.database_url=sqlite:{}/rag.db", folder.path().display());
        let index = format!("rag.index_dir={}/index", folder.path().display());
        let arguments = ["serve", "rag", "--listen", &listen, "--set", &database, "--set", &index].map(str::to_owned);
        let process = attain.start(&arguments)?;
        let address = format!("http://{listen}");
        wait_for_vectors(&address, READY_WITHIN).await?;
        Ok(Self { address, process, _folder: folder })
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage()
    }
}

/// Waits until the service is ready and every document has its vectors, or it is known that none will come.
async fn wait_for_vectors(address: &str, within: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let channel = Channel::from_shared(address.to_owned())?.connect_lazy();
    while began.elapsed() < within {
        if let Ok(status) = StatusServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await {
            let status = status.into_inner();
            let model = status.conditions.iter().find(|condition| condition.name == "embedding_model");
            if status.ready && model.is_none_or(|model| model.holds || model.detail.contains("by words only")) {
                return Ok(());
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    bail!("the rag service at {address} did not become ready within {within:?}")
}

/// Every text below the folder by its path; licences and the notes on sources are not part of a corpus.
fn read_texts(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut paths = Vec::new();
    collect(root, &mut paths)?;
    let mut texts = BTreeMap::new();
    for path in paths {
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        texts.insert(name, String::from_utf8_lossy(&text).into_owned());
    }
    ensure!(!texts.is_empty(), "{} holds no documents", root.display());
    Ok(texts)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if ["md", "markdown", "txt", "yaml", "yml"].contains(&extension.as_str())
            && !["LICENSE.md", "SOURCE.md"].contains(&name.as_str())
        {
            paths.push(path);
        }
    }
    Ok(())
}

/// Lines of JSON, empty ones left out.
pub(crate) fn read_lines<T: DeserializeOwned>(file: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", file.display(), number + 1))
        })
        .collect()
}

/// Refuses judgements of documents that the corpus does not have, and files without a question.
pub(crate) fn check_judgements(queries: &[Query], corpus: &Corpus) -> anyhow::Result<()> {
    ensure!(!queries.is_empty(), "there is no question");
    for query in queries {
        for judgement in &query.relevant {
            ensure!(
                corpus.holds(&judgement.doc),
                "question {}: {} is judged, but not in the corpus",
                query.id,
                judgement.doc
            );
        }
    }
    Ok(())
}

/// Whether a quote of this hash is what stands between two places of a stored text.
pub(crate) fn is_stored(quote: &str, quote_sha256: &str, (start, end): (u32, u32), text: &str) -> bool {
    between(text, start, end).as_deref() == Some(quote) && sha256_hex(quote) == quote_sha256
}

/// What stands between two places of a text, counted in characters; `None` where the places are none of it.
pub(crate) fn between(text: &str, start: u32, end: u32) -> Option<String> {
    let (start, end) = (start as usize, end as usize);
    let found: String = text.chars().skip(start).take(end.checked_sub(start)?).collect();
    (found.chars().count() == end - start && end > start).then_some(found)
}

/// SHA-256 in hex.
pub(crate) fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_to_be_in_the_text() {
        assert_eq!(between("äöü", 1, 3).as_deref(), Some("öü"));
        assert_eq!((between("äöü", 1, 4), between("äöü", 2, 2), between("äöü", 2, 1)), (None, None, None));
    }
}
