//! Whether what is said is what the documents say: the verifier on true and changed sentences of real documents, and the answers of a
//! running service, read again from outside.

mod asked;
mod check;
mod mutations;
mod study;

use std::path::PathBuf;

use attain_proto::rag::v1::DocumentKind;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use study::Study;

use crate::knowledge;

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
    let texts = knowledge::read_texts(&options.corpus)?;
    let study =
        Study::new(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())), options.claims_max, options.seed);
    let verifier = study.run(options.seed)?;
    let mut met = verifier["missed"].as_array().is_some_and(Vec::is_empty);
    let mut report = json!({ "verifier": verifier });
    if let Some(queries) = &options.queries {
        let queries = knowledge::read_lines::<Query>(queries)?;
        let answers = asked::run(&texts, &queries, &study, options.rag.as_deref(), options.attain.as_deref()).await?;
        let whole = |key: &str| answers[key].as_f64() == Some(1.0);
        met &= whole("citation_precision") && whole("offset_validity");
        report["answers"] = answers;
    }
    report["objective_met"] = json!(met);
    Ok(report)
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
