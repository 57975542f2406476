//! Whether what is said is what the documents say: the verifier on true and changed sentences of real documents, and the answers of a
//! running service, read again from outside.

mod asked;
mod check;
mod mutations;
mod study;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use attain_proto::rag::v1::DocumentKind;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use study::Study;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder of Markdown, text and YAML files.
    #[arg(long, default_value = "src/demo/knowledge")]
    corpus: PathBuf,
    /// Lines of {id, query, kind, relevant: [{doc, grade}]}, asked of a service; without them only the verifier is studied.
    #[arg(long)]
    queries: Option<PathBuf>,
    /// gRPC address of a running rag service; a service of its own is started when left out.
    #[arg(long)]
    rag: Option<String>,
    /// The built command that is started when no address is given; the one beside this command when left out.
    #[arg(long)]
    attain: Option<PathBuf>,
    /// Seed of everything drawn by lot.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Most claims that sentences are made of, chosen by lot.
    #[arg(long, default_value_t = 2_000)]
    claims_max: usize,
}

/// A labelled question.
#[derive(Debug, Clone, Deserialize)]
struct Query {
    id: String,
    query: String,
    #[serde(default)]
    relevant: Vec<Judgement>,
}

/// A document that answers a question.
#[derive(Debug, Clone, Deserialize)]
struct Judgement {
    doc: String,
}

/// Studies the verifier, and the answers where there are questions.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let texts = read_corpus(&options.corpus)?;
    let study =
        Study::new(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())), options.claims_max, options.seed);
    let verifier = study.run(options.seed)?;
    let mut met = verifier["missed"].as_array().is_some_and(Vec::is_empty);
    let mut report = json!({ "verifier": verifier });
    if let Some(queries) = &options.queries {
        let queries = read_queries(queries)?;
        let answers = asked::run(&texts, &queries, &study, options.rag.as_deref(), options.attain.as_deref()).await?;
        let whole = |key: &str| answers[key].as_f64() == Some(1.0);
        met &= whole("citation_precision") && whole("offset_validity");
        report["answers"] = answers;
    }
    report["objective_met"] = json!(met);
    Ok(report)
}

fn read_queries(file: &Path) -> anyhow::Result<Vec<Query>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", file.display(), number + 1))
        })
        .collect()
}

/// Every text below the folder by its path; licences and the notes on sources are not part of a corpus.
fn read_corpus(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if path.is_dir() {
                folders.push(path);
            } else if ["md", "markdown", "txt", "yaml", "yml"].contains(&extension.as_str())
                && !["LICENSE.md", "SOURCE.md"].contains(&name.as_str())
            {
                let id = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                texts.insert(id, String::from_utf8_lossy(&std::fs::read(&path)?).into_owned());
            }
        }
    }
    ensure!(!texts.is_empty(), "{} holds no documents", root.display());
    Ok(texts)
}

/// A path as a document name.
fn document_name(path: &str) -> String {
    path.chars().map(|c| if c.is_ascii_alphanumeric() || "._:/@-".contains(c) { c } else { '-' }).collect()
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
