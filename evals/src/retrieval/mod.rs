//! Scores search over gRPC, as an outside client: a corpus goes in, labelled questions are asked of every strategy, and each
//! answer's ranking, abstention and citations are judged against the labels and the corpus itself. Then another tenant and
//! documents that give orders try to get in.

mod attacks;
mod baseline;
mod judged;
mod report;

use std::path::PathBuf;

use anyhow::Context as _;
use attain_proto::rag::v1::SearchStrategy;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::Value;

use judged::Answered;

use crate::knowledge::{self, Corpus, Loading, OwnService, Query, Tenant};

/// Passages asked for: one a document comes back.
const PASSAGES: u32 = 50;
/// What a question asks for that does not say: the service's own number.
const PASSAGES_DEFAULT: u32 = 0;

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
    /// The built command that is started when no address is given; the one beside this command when left out.
    #[arg(long)]
    attain: Option<PathBuf>,
    /// Cores that the service of its own runs on, as taskset writes them, for example 0 or 0-3.
    #[arg(long)]
    cores: Option<String>,
    /// Kept figures, as evals/data/retrieval-baseline.json: none may be missed by more than the tolerance stated there.
    #[arg(long)]
    baseline: Option<PathBuf>,
}

/// What was asked and found, for the report.
pub(crate) struct Outcome {
    corpus: Corpus,
    loading: Loading,
    hybrid: Vec<Answered>,
    words: Vec<Answered>,
    /// `None` where no model is loaded.
    meaning: Option<Vec<Answered>>,
    /// Of a question as users ask it, in the order of the questions.
    latencies_ms: Vec<f64>,
    attacks: attacks::Attacks,
    passage_count: u64,
}

/// Loads the corpus, asks every question, scores the answers.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let queries = knowledge::read_lines::<Query>(&options.queries)?;
    let corpus = Corpus::read(&options.corpus)?;
    knowledge::check_judgements(&queries, &corpus)?;
    let baseline = options.baseline.as_deref().map(baseline::read).transpose()?;
    let own = match &options.rag {
        Some(_) => None,
        None => Some(OwnService::start(options.attain.as_deref(), options.cores.as_deref()).await?),
    };
    let address = options.rag.clone().or_else(|| own.as_ref().map(|own| own.address.clone())).context("an address")?;
    let mut tenant = Tenant::connect(&address, "evals").await?;
    let loading = tenant.load(&corpus, own.as_ref()).await?;

    let hybrid = ask_all(&mut tenant, &queries, SearchStrategy::Hybrid, &corpus).await?.context("hybrid search")?;
    let words =
        ask_all(&mut tenant, &queries, SearchStrategy::LexicalOnly, &corpus).await?.context("search by words")?;
    let meaning = ask_all(&mut tenant, &queries, SearchStrategy::DenseOnly, &corpus).await?;
    let latencies_ms = latencies(&mut tenant, &queries).await?;
    let attacks = attacks::run(&mut tenant, &address, &corpus, &queries).await?;
    let passage_count = tenant.clear(&corpus).await?;
    let outcome = Outcome { corpus, loading, hybrid, words, meaning, latencies_ms, attacks, passage_count };
    let report = report::report(&outcome);
    Ok(baseline.map_or_else(|| report.clone(), |baseline| baseline::compare(report.clone(), &baseline)))
}

/// Asks every question; `None` where the service cannot search this way.
async fn ask_all(
    tenant: &mut Tenant,
    queries: &[Query],
    strategy: SearchStrategy,
    corpus: &Corpus,
) -> anyhow::Result<Option<Vec<Answered>>> {
    let mut answered = Vec::with_capacity(queries.len());
    let progress = ProgressBar::new(queries.len() as u64).with_message(strategy.as_str_name());
    for query in queries {
        let Some((answer, _)) = tenant.search(&query.query, strategy, PASSAGES).await? else {
            return Ok(None);
        };
        let judged = judged::judge(tenant, corpus, &answer).await?;
        answered.push(Answered { query: query.clone(), answer, judged });
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(Some(answered))
}

/// Asks every question as users do, one after the other: the milliseconds that each answer took.
async fn latencies(tenant: &mut Tenant, queries: &[Query]) -> anyhow::Result<Vec<f64>> {
    let mut latencies = Vec::with_capacity(queries.len());
    for query in queries {
        let answered = tenant.search(&query.query, SearchStrategy::Hybrid, PASSAGES_DEFAULT).await?;
        latencies.extend(answered.map(|(_, latency_ms)| latency_ms));
    }
    Ok(latencies)
}
