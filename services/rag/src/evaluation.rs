//! How well passages are found: the whole service without its transport on judged questions. The floors below are what the
//! demo's documents must reach; `ATTAIN_TEST_KNOWLEDGE` (a folder) and `ATTAIN_TEST_QUERIES` (a file) name others to measure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use attain_embedded_qdrant::{EmbeddedQdrant, Options, random_api_key};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::Readiness;
use attain_vocabulary::TenantId;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::domain::document::{Draft, Kind, Written};
use crate::domain::query::Question;
use crate::domain::settings::Threshold;
use crate::embedding::{DIMENSIONS, Embedder, Model};
use crate::index::Index;
use crate::knowledge::{Knowledge, Serving};
use crate::search::{Asked, Strategy};
use crate::storage::Store;

/// A judged question.
#[derive(Debug, Deserialize)]
struct Judged {
    query: String,
    #[serde(default)]
    relevant: Vec<Relevant>,
}

#[derive(Debug, Deserialize)]
struct Relevant {
    doc: String,
    grade: u32,
}

/// What a mode reached.
#[derive(Debug, Clone, Default)]
struct Reached {
    ndcg_10: f64,
    recall_5: f64,
    mrr: f64,
    /// Area under the ROC curve of the confidence.
    auroc: f64,
    /// The largest threshold that still answers 95 % of the answerable questions.
    largest_threshold: f64,
    /// What the shipped threshold answers of the answerable questions, and rejects of the others.
    answered_ratio: f64,
    rejected_ratio: f64,
    /// What the largest threshold rejects of the unanswerable questions.
    rejected_at_95_ratio: f64,
    /// The smallest cut, rounded up to two digits, below which 95 % of the unanswerable questions lie.
    smallest_strong_threshold: f64,
    strong_answered_ratio: f64,
    strong_rejected_ratio: f64,
    /// Half of the rankings take at most this long, without the transport.
    latency_ms_p50: f64,
}

fn demo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[tokio::test]
#[allow(clippy::print_stdout)]
async fn judged_questions_find_their_documents() {
    let own = std::env::var_os("ATTAIN_TEST_KNOWLEDGE").map(PathBuf::from);
    let corpus = own.clone().unwrap_or_else(|| demo("src/demo/knowledge"));
    let queries =
        std::env::var_os("ATTAIN_TEST_QUERIES").map_or_else(|| demo("evals/queries/demo.jsonl"), PathBuf::from);
    let judged = read_judged(&queries);
    let folder = tempfile::tempdir().expect("a folder");
    let (knowledge, index, stop) = open(folder.path()).await;
    let tenant = TenantId::default();
    let started = Instant::now();
    for drafts in read_documents(&corpus).chunks(100) {
        knowledge.put(tenant.clone(), drafts.to_vec()).await.expect("kept");
    }
    println!("kept in {:.1?}", started.elapsed());

    let lexical = measure(&knowledge, &judged, &knowledge.calibration.lexical).await;
    println!("words only: {lexical:.3?}");
    let hybrid = match Model::locate(None) {
        Ok(model) => {
            let embedder = Arc::new(Embedder::load(&model, 2).await.expect("a model"));
            let started = Instant::now();
            let serving = knowledge.serving();
            knowledge.reconcile(&serving.index, Some(&embedder)).await.expect("embedded");
            println!("embedded in {:.1?}", started.elapsed());
            serving.set_loaded(embedder);
            knowledge.model_is_usable(&serving);
            let hybrid = measure(&knowledge, &judged, &knowledge.calibration.hybrid).await;
            println!("hybrid: {hybrid:.3?}");
            Some(hybrid)
        }
        Err(reason) => {
            println!("SKIPPED: {reason}");
            None
        }
    };
    stop.cancel();
    index.await.expect("ended").expect("served");
    if own.is_none() {
        check(&lexical, (0.70, 0.70, 0.75, 0.80), &knowledge.calibration.lexical);
        if let Some(hybrid) = hybrid {
            check(&hybrid, (0.80, 0.80, 0.85, 0.90), &knowledge.calibration.hybrid);
        }
    }
}

/// Floors for nDCG@10, Recall@5, MRR and AUROC; what the shipped threshold does must be what its data file says.
fn check(reached: &Reached, (ndcg_10, recall_5, mrr, auroc): (f64, f64, f64, f64), shipped: &Threshold) {
    assert!(reached.ndcg_10 >= ndcg_10, "{reached:?}");
    assert!(reached.recall_5 >= recall_5, "{reached:?}");
    assert!(reached.mrr >= mrr, "{reached:?}");
    assert!(reached.auroc >= auroc, "{reached:?}");
    assert!(reached.answered_ratio >= shipped.answered_ratio - 0.005, "{reached:?} {shipped:?}");
    assert!(reached.rejected_ratio >= shipped.rejected_ratio - 0.005, "{reached:?} {shipped:?}");
    // A cut that calls everything weak, or nothing that cannot be answered, tells nothing.
    assert!(reached.strong_answered_ratio >= 0.25, "{reached:?} {shipped:?}");
    assert!(reached.strong_rejected_ratio >= 0.95, "{reached:?} {shipped:?}");
}

async fn open(folder: &Path) -> (Arc<Knowledge>, JoinHandle<Result<(), attain_embedded_qdrant::Error>>, Shutdown) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let key = random_api_key();
    let options = Options::new(folder.join("index"), key.clone()).expect("valid");
    let embedded = EmbeddedQdrant::open(options).await.expect("opened");
    let stop = Shutdown::new();
    let stopped = stop.clone();
    let serving = tokio::spawn(embedded.serve(listener, async move { stopped.cancelled().await }));
    let store = Store::open(&format!("sqlite:{}", folder.join("rag.db").display())).await.expect("opened");
    let index = Index::connect(&url, Some(&key), "test").expect("valid");
    let model = Readiness::new("rag", 0).prefer("embedding_model", "");
    let generation = store.generations(DIMENSIONS as u32).await.expect("a record").serving;
    let first = Serving::new(index.sibling(&generation), generation);
    let knowledge = Arc::new(Knowledge::new(store, first, model, Clock::held(0)).expect("valid"));
    knowledge.reconcile(&knowledge.serving().index, None).await.expect("reconciled");
    knowledge.set_level();
    (knowledge, serving, stop)
}

/// Every text file below a folder, named by its path; the front matter says which kind it is.
fn read_documents(folder: &Path) -> Vec<Draft> {
    let mut files = Vec::new();
    collect(folder, &mut files);
    files.sort();
    let read = |path: &PathBuf| {
        let text = String::from_utf8_lossy(&std::fs::read(path).expect("readable")).into_owned();
        let name = path.strip_prefix(folder).expect("below").to_string_lossy().replace('\\', "/");
        let says = |key: &str| {
            text.lines().take(12).find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
        };
        let kind = says("kind:").and_then(|word| Kind::parse(&word)).unwrap_or_default();
        let services: Vec<String> = says("services:")
            .map(|list| list.trim_matches(['[', ']']).split(',').map(|id| id.trim().to_owned()).collect())
            .unwrap_or_default();
        let title = says("title:").unwrap_or_default();
        Draft::new(Written { id: &bent(&name), kind, title: &title, text: &text, service_ids: &services }).ok()
    };
    files.iter().filter_map(read).collect()
}

/// A path as a document name.
fn bent(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._:/@-".contains(c) { c } else { '-' }).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text =
            [".md", ".markdown", ".yaml", ".yml", ".txt"].iter().any(|ending| name.to_lowercase().ends_with(ending));
        if path.is_dir() {
            collect(&path, files);
        } else if text && !["LICENSE", "SOURCE.md", "LICENSE.md", "NOTICE"].contains(&name.as_str()) {
            files.push(path);
        }
    }
}

fn read_judged(path: &Path) -> Vec<Judged> {
    let text = std::fs::read_to_string(path).expect("readable");
    let judged =
        text.lines().filter(|line| !line.trim().is_empty()).map(|line| serde_json::from_str(line).expect("valid"));
    judged.collect()
}

async fn measure(knowledge: &Knowledge, judged: &[Judged], cuts: &Threshold) -> Reached {
    let mut reached = Reached::default();
    let (mut answerable, mut unanswerable) = (Vec::new(), Vec::new());
    let mut times = Vec::new();
    for question in judged {
        let asked = Asked {
            tenant: TenantId::default(),
            question: Question::new(&question.query, &knowledge.settings).expect("valid"),
            services: BTreeSet::new(),
            kinds: BTreeSet::new(),
            limit: 10,
            strategy: Strategy::Hybrid,
            include_unsure: false,
            tier: None,
            include_superseded: false,
        };
        let started = Instant::now();
        let ranking = knowledge.rank(&knowledge.serving(), &asked).await.expect("ranked");
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        let ids: Vec<&str> = ranking.documents.iter().map(|(id, _)| id.as_str()).collect();
        if question.relevant.is_empty() {
            unanswerable.push(ranking.confidence);
        } else {
            answerable.push(ranking.confidence);
            let grades: BTreeMap<String, u32> = question.relevant.iter().map(|r| (bent(&r.doc), r.grade)).collect();
            reached.ndcg_10 += ndcg(&ids, &grades);
            reached.recall_5 += recall(&ids, &grades);
            reached.mrr += reciprocal_rank(&ids, &grades);
        }
    }
    times.sort_by(f64::total_cmp);
    reached.latency_ms_p50 = times[times.len() / 2];
    let count = answerable.len() as f64;
    for value in [&mut reached.ndcg_10, &mut reached.recall_5, &mut reached.mrr] {
        *value /= count;
    }
    separate(&mut reached, &mut answerable, &mut unanswerable, cuts);
    reached
}

fn separate(reached: &mut Reached, answerable: &mut [f64], unanswerable: &mut [f64], cuts: &Threshold) {
    answerable.sort_by(f64::total_cmp);
    let lost = (answerable.len() as f64 * 0.05 + 1e-9).floor() as usize;
    reached.largest_threshold = answerable[lost];
    unanswerable.sort_by(|a, b| b.total_cmp(a));
    let through = (unanswerable.len() as f64 * 0.05 + 1e-9).floor() as usize;
    let highest = unanswerable.get(through).copied().unwrap_or(0.0);
    reached.smallest_strong_threshold = ((highest * 100.0).floor() + 1.0) / 100.0;
    let share = |values: &[f64], below: bool, threshold: f64| {
        let held = values.iter().filter(|value| (**value < threshold) == below).count();
        held as f64 / values.len().max(1) as f64
    };
    reached.rejected_at_95_ratio = share(unanswerable, true, reached.largest_threshold);
    reached.answered_ratio = share(answerable, false, cuts.threshold);
    reached.rejected_ratio = share(unanswerable, true, cuts.threshold);
    reached.strong_answered_ratio = share(answerable, false, cuts.strong_threshold);
    reached.strong_rejected_ratio = share(unanswerable, true, cuts.strong_threshold);
    let pairs = answerable.iter().flat_map(|good| unanswerable.iter().map(move |bad| (good, bad)));
    let won: f64 = pairs
        .map(|(good, bad)| {
            if good > bad {
                1.0
            } else if good == bad {
                0.5
            } else {
                0.0
            }
        })
        .sum();
    reached.auroc = won / (answerable.len() * unanswerable.len()).max(1) as f64;
}

fn ndcg(ids: &[&str], grades: &BTreeMap<String, u32>) -> f64 {
    let discounted = |grades: &mut dyn Iterator<Item = u32>| -> f64 {
        grades.take(10).enumerate().map(|(place, grade)| f64::from(grade) / libm::log2(place as f64 + 2.0)).sum()
    };
    let mut ideal: Vec<u32> = grades.values().copied().collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = discounted(&mut ideal.into_iter());
    discounted(&mut ids.iter().map(|id| grades.get(*id).copied().unwrap_or(0))) / best
}

/// Over the documents that answer by themselves (grade 2).
fn recall(ids: &[&str], grades: &BTreeMap<String, u32>) -> f64 {
    let wanted: BTreeSet<&str> = grades.iter().filter(|(_, grade)| **grade >= 2).map(|(id, _)| id.as_str()).collect();
    let found = ids.iter().take(5).filter(|id| wanted.contains(*id)).count();
    if wanted.is_empty() { 1.0 } else { found as f64 / wanted.len() as f64 }
}

fn reciprocal_rank(ids: &[&str], grades: &BTreeMap<String, u32>) -> f64 {
    ids.iter().position(|id| grades.contains_key(*id)).map_or(0.0, |place| 1.0 / (place as f64 + 1.0))
}
