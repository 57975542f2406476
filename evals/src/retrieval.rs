//! Scores search over gRPC, as an outside client: a corpus goes in, labelled questions are asked, and every answer's ranking,
//! abstention and citations are judged against the labels and the corpus itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_proto::rag::v1::{
    Citation, Document, DocumentKind, GetDocumentRequest, PutDocumentsRequest, RetrievalMode, SearchKnowledgeRequest,
    SearchKnowledgeResponse,
};
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::{Child, Command};
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::scores;

/// Passages asked for: enough for ten documents.
const PASSAGES: u32 = 50;
const READY_WITHIN: Duration = Duration::from_secs(120);
const TENANT: &str = "evals";
const UNANSWERABLE: &str = "unanswerable";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder of Markdown, text and YAML files.
    #[arg(long)]
    corpus: PathBuf,
    /// Lines of {id, query, kind, relevant: [{doc, grade}]}; `doc` is a path below the corpus.
    #[arg(long)]
    queries: PathBuf,
    /// gRPC address of a running rag service; a service of its own is started when left out.
    #[arg(long)]
    rag: Option<String>,
    /// The built command that is started when no address is given.
    #[arg(long, default_value = "target/debug/attain")]
    attain: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Query {
    id: String,
    query: String,
    kind: String,
    #[serde(default)]
    relevant: Vec<Judgement>,
}

#[derive(Debug, Deserialize)]
struct Judgement {
    doc: String,
    grade: u32,
}

/// What one question got.
struct Answered {
    query: Query,
    answer: SearchKnowledgeResponse,
    latency_ms: f64,
    valid_citations: usize,
}

/// Loads the corpus, asks every question, scores the answers.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let queries = read_queries(&options.queries)?;
    let documents = read_corpus(&options.corpus)?;
    let known: BTreeSet<&str> = documents.keys().map(String::as_str).collect();
    for judgement in queries.iter().flat_map(|query| &query.relevant) {
        ensure!(known.contains(judgement.doc.as_str()), "{} is judged, but not in the corpus", judgement.doc);
    }
    let own = match &options.rag {
        Some(_) => None,
        None => Some(OwnService::start(&options.attain).await?),
    };
    let address = options.rag.clone().or_else(|| own.as_ref().map(|own| own.address.clone())).context("an address")?;
    let channel = Channel::from_shared(address)?.connect().await?;
    let mut client = KnowledgeServiceClient::new(channel);

    let index_seconds = load(&mut client, &documents).await?;
    let mut answered = Vec::new();
    let progress = ProgressBar::new(queries.len() as u64).with_message("asking");
    for query in queries {
        answered.push(ask(&mut client, query).await?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(report(&answered, documents.len(), index_seconds))
}

/// A rag service that lives as long as the evaluation.
struct OwnService {
    address: String,
    _process: Child,
    _folder: Folder,
}

impl OwnService {
    async fn start(attain: &Path) -> anyhow::Result<Self> {
        ensure!(attain.is_file(), "{} is not built; or name a running service with --rag", attain.display());
        let folder = Folder::new()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new(attain)
            .args(["serve", "rag", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--set", &format!("rag.database_url=sqlite:{}/rag.db", folder.0.display())])
            .args(["--set", &format!("rag.index_dir={}/index", folder.0.display())])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", attain.display()))?;
        let address = format!("http://127.0.0.1:{port}");
        wait_for_model(&address).await?;
        Ok(Self { address, _process: process, _folder: folder })
    }
}

/// Waits until the service is ready and its model is loaded, or known to be missing.
async fn wait_for_model(address: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let channel = Channel::from_shared(address.to_owned())?.connect_lazy();
    while began.elapsed() < READY_WITHIN {
        if let Ok(status) = StatusServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await {
            let status = status.into_inner();
            let model = status.conditions.iter().find(|condition| condition.name == "embedding_model");
            let settled = model.is_none_or(|model| model.holds || !model.detail.contains("not loaded yet"));
            if status.ready && settled {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the rag service at {address} did not become ready within {READY_WITHIN:?}")
}

/// A folder that goes with the evaluation.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("attain-evals-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary folder that stays is the system's to clear.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read_queries(file: &Path) -> anyhow::Result<Vec<Query>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| serde_json::from_str(line).with_context(|| format!("line {}", number + 1))).collect()
}

/// Every file below the folder by its path; licences and the notes on sources are not part of a corpus.
fn read_corpus(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut documents = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            let of_the_corpus = ["md", "markdown", "txt", "yaml", "yml"].contains(&extension.as_str())
                && !["LICENSE.md", "SOURCE.md"].contains(&name.as_str());
            if path.is_dir() {
                folders.push(path);
            } else if of_the_corpus {
                let id = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                documents.insert(id, String::from_utf8_lossy(&std::fs::read(&path)?).into_owned());
            }
        }
    }
    ensure!(!documents.is_empty(), "{} holds no documents", root.display());
    Ok(documents)
}

fn kind_of(id: &str) -> DocumentKind {
    if id.contains("incident") || id.contains("postmortem") {
        DocumentKind::Incident
    } else if id.contains("slo") {
        DocumentKind::SloTemplate
    } else {
        DocumentKind::Runbook
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-attain-tenant", MetadataValue::from_static(TENANT));
    request
}

async fn load(
    client: &mut KnowledgeServiceClient<Channel>,
    documents: &BTreeMap<String, String>,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let progress = ProgressBar::new(documents.len() as u64).with_message("indexing");
    for (id, text) in documents {
        let document = Document { id: id.clone(), kind: kind_of(id).into(), text: text.clone(), ..Document::default() };
        let answer =
            client.put_documents(request(PutDocumentsRequest { documents: vec![document] })).await?.into_inner();
        if let Some(rejected) = answer.rejected.first() {
            eprintln!("{id} was refused: {}", rejected.reason);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(began.elapsed().as_secs_f64())
}

async fn ask(client: &mut KnowledgeServiceClient<Channel>, query: Query) -> anyhow::Result<Answered> {
    let search = SearchKnowledgeRequest { query: query.query.clone(), limit: PASSAGES, ..Default::default() };
    let began = Instant::now();
    let answer = client.search_knowledge(request(search)).await.with_context(|| query.id.clone())?.into_inner();
    let latency_ms = began.elapsed().as_secs_f64() * 1000.0;
    let mut valid_citations = 0;
    for citation in &answer.citations {
        valid_citations += usize::from(is_valid(client, citation).await?);
    }
    Ok(Answered { query, answer, latency_ms, valid_citations })
}

/// Whether the quote is what stands between the offsets of the stored text, and its hash agrees.
async fn is_valid(client: &mut KnowledgeServiceClient<Channel>, citation: &Citation) -> anyhow::Result<bool> {
    let asked = GetDocumentRequest { document_id: citation.document_id.clone(), version: citation.document_version };
    let document = client.get_document(request(asked)).await?.into_inner().document.context("a document")?;
    let span = (citation.end_offset - citation.start_offset) as usize;
    let passage: String = document.text.chars().skip(citation.start_offset as usize).take(span).collect();
    let hash: String = Sha256::digest(citation.quote.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(passage == citation.quote && hash == citation.quote_sha256)
}

/// Documents in the order of their best passage.
fn ranking(answer: &SearchKnowledgeResponse) -> Vec<&str> {
    let mut ranked: Vec<&str> = Vec::new();
    for citation in &answer.citations {
        if !ranked.contains(&citation.document_id.as_str()) {
            ranked.push(&citation.document_id);
        }
    }
    ranked
}

/// nDCG@10, recall of grade 2 among the first five, reciprocal rank of the first relevant one.
fn measures(answered: &Answered) -> [Option<f64>; 3] {
    let grades: BTreeMap<&str, u32> =
        answered.query.relevant.iter().map(|judgement| (judgement.doc.as_str(), judgement.grade)).collect();
    let ranked = ranking(&answered.answer);
    let got: Vec<u32> = ranked.iter().map(|doc| grades.get(doc).copied().unwrap_or(0)).collect();
    let all: Vec<u32> = grades.values().copied().collect();
    let answers = all.iter().filter(|grade| **grade >= 2).count();
    let found = got.iter().take(5).filter(|grade| **grade >= 2).count();
    let reciprocal = got.iter().position(|grade| *grade > 0).map_or(0.0, |rank| 1.0 / (rank as f64 + 1.0));
    [
        scores::ndcg(&got, &all, 10),
        (answers > 0).then(|| found as f64 / answers as f64),
        (!all.is_empty()).then_some(reciprocal),
    ]
}

fn report(answered: &[Answered], documents: usize, index_seconds: f64) -> Value {
    let (unanswerable, answerable): (Vec<&Answered>, Vec<&Answered>) =
        answered.iter().partition(|answered| answered.query.kind == UNANSWERABLE);
    let confidence = |group: &[&Answered]| -> Vec<f64> { group.iter().map(|a| a.answer.confidence).collect() };
    let share = |group: &[&Answered], holds: fn(&Answered) -> bool| {
        scores::mean(&group.iter().map(|answered| f64::from(holds(answered))).collect::<Vec<_>>())
    };
    let at_95 = scores::quantile(&confidence(&answerable), 0.05);
    let rejected_at_95 =
        scores::mean(&unanswerable.iter().map(|a| f64::from(a.answer.confidence < at_95)).collect::<Vec<_>>());
    let citations: usize = answered.iter().map(|answered| answered.answer.citations.len()).sum();
    let valid: usize = answered.iter().map(|answered| answered.valid_citations).sum();
    let latencies: Vec<f64> = answered.iter().map(|answered| answered.latency_ms).collect();
    let mode = answered.first().map_or(RetrievalMode::Unspecified, |answered| answered.answer.mode());
    let mut kinds: BTreeMap<&str, Vec<&Answered>> = BTreeMap::new();
    answerable.iter().for_each(|answered| kinds.entry(&answered.query.kind).or_default().push(answered));
    let by_kind: Map<String, Value> = kinds.iter().map(|(kind, group)| ((*kind).to_owned(), ranked(group))).collect();

    let mut report = json!({
        "documents": documents,
        "questions": answered.len(),
        "mode": mode.as_str_name(),
        "index_seconds": index_seconds,
        "abstention_auroc": scores::area_under_roc(&confidence(&answerable), &confidence(&unanswerable)),
        "unanswerable_rejected": share(&unanswerable, |answered| answered.answer.abstained),
        "answerable_answered": share(&answerable, |answered| !answered.answer.abstained),
        "unanswerable_rejected_at_95": rejected_at_95,
        "offset_validity": if citations == 0 { Value::Null } else { json!(valid as f64 / citations as f64) },
        "citations": citations,
        "latency_ms_p50": scores::quantile(&latencies, 0.5),
        "latency_ms_p95": scores::quantile(&latencies, 0.95),
        "by_kind": by_kind,
    });
    if let (Value::Object(report), Value::Object(overall)) = (&mut report, ranked(&answerable)) {
        report.extend(overall);
    }
    report
}

fn ranked(group: &[&Answered]) -> Value {
    let all: Vec<[Option<f64>; 3]> = group.iter().map(|answered| measures(answered)).collect();
    let mean = |index: usize| scores::mean(&all.iter().filter_map(|measures| measures[index]).collect::<Vec<_>>());
    json!({"answerable": group.len(), "ndcg_at_10": mean(0), "recall_at_5": mean(1), "mrr": mean(2)})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(documents: &[&str], relevant: &[(&str, u32)]) -> Answered {
        let citation = |id: &&str| Citation { document_id: (*id).to_owned(), ..Citation::default() };
        let judgement = |(doc, grade): &(&str, u32)| Judgement { doc: (*doc).to_owned(), grade: *grade };
        Answered {
            query: Query {
                id: "q".into(),
                query: "?".into(),
                kind: "alert".into(),
                relevant: relevant.iter().map(judgement).collect(),
            },
            answer: SearchKnowledgeResponse {
                citations: documents.iter().map(citation).collect(),
                ..Default::default()
            },
            latency_ms: 1.0,
            valid_citations: 0,
        }
    }

    #[test]
    fn passages_of_one_document_count_once() {
        let [ndcg, recall, reciprocal] = measures(&answered(&["a", "a", "b"], &[("b", 2)]));
        assert_eq!((recall, reciprocal), (Some(1.0), Some(0.5)));
        assert!((ndcg.expect("relevant") - 1.0 / 3f64.log2()).abs() < 1e-12);
    }

    #[test]
    fn what_was_not_found_scores_nothing() {
        assert_eq!(measures(&answered(&["x"], &[("b", 2)])), [Some(0.0), Some(0.0), Some(0.0)]);
    }
}
