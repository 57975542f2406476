//! Whether what is said is what the documents say: the verifier on true and changed sentences of real documents, and the answers of a
//! running service, read again from outside.

mod asked;
mod check;
mod mutations;
mod study;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use study::Study;

use crate::knowledge::{self, Corpus, Query};

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

/// Studies the verifier, and the answers where there are questions.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let corpus = Corpus::read(&options.corpus)?;
    let texts = corpus.files.values().map(|file| (file.path.as_str(), file.text.as_str()));
    let study = Study::new(texts, options.claims_max, options.seed);
    let verifier = study.run(options.seed)?;
    let mut met = verifier["missed"].as_array().is_some_and(Vec::is_empty);
    let mut report = json!({ "verifier": verifier });
    if let Some(queries) = &options.queries {
        let queries = knowledge::read_lines::<Query>(queries)?;
        let answers = asked::run(&corpus, &queries, &study, options.rag.as_deref(), options.attain.as_deref()).await?;
        let whole = |key: &str| answers[key].as_f64() == Some(1.0);
        met &= whole("citation_precision") && whole("offset_validity");
        report["answers"] = answers;
    }
    report["objective_met"] = json!(met);
    Ok(report)
}
