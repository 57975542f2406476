//! Scores what Attain answers, from outside: predictions against what happened, passages against what was asked.
//!
//! One module an evaluation; [`scores`] holds the measures, free of input and output. JSON alone goes to standard output,
//! progress to standard error. Data comes by path and is never changed.
#![allow(clippy::print_stdout)]

mod calibration;
mod composition;
mod consistency;
mod drift;
mod experiments;
mod explanations;
mod fleet;
mod grounding;
mod import;
mod injection;
mod knowledge;
mod learning;
mod replay;
mod retrieval;
mod scores;
mod scratch;
mod seasons;
mod simulate;
mod spans;
mod variants;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Scores what Attain answers.
#[derive(Debug, Parser)]
#[command(
    name = "evals",
    after_help = "Example:\n  cargo run --release -p evals -- calibration --incidents DIR --format json"
)]
struct Cli {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Json)]
    format: Format,
    #[command(subcommand)]
    evaluation: Evaluation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON document.
    Json,
    /// The same, indented.
    Text,
}

#[derive(Debug, Subcommand)]
enum Evaluation {
    /// How often offers are missed on incident series, by rolling-origin back-test, beside simple baselines.
    #[command(
        after_help = "Example:\n  cargo run --release -p evals -- calibration --incidents DIR --history-days 180 --window-days 30"
    )]
    Calibration(calibration::Options),
    /// Whether failures that follow the clock or the calendar mislead the predictor, on simulated services.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- seasons --seed 7 --services 200 --format json")]
    Seasons(seasons::Options),
    /// Whether the targets of public systems hold together: contradictions before, none after, how far targets move.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- consistency --graphs DIR --format json")]
    Consistency(consistency::Options),
    /// How well the latency of a root is composed from the self times below it, beside simple baselines.
    #[command(
        after_help = "Example:\n  cargo run --release -p evals -- composition --spans ../data/nezha --format json"
    )]
    Composition(composition::Options),
    /// How soon changes of level are found and how often none is called one: on labelled series and on simulated own failures,
    /// by each detector, by their agreement, and by simple baselines.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- drift --series ../data/nab --format json")]
    Drift(drift::Options),
    /// How well passages answer labelled questions, asked over gRPC.
    #[command(
        after_help = "Example:\n  cargo run --release -p evals -- retrieval --corpus src/demo/knowledge --queries evals/queries/demo.jsonl --attain target/debug/attain"
    )]
    Retrieval(retrieval::Options),
    /// What each part of the retrieval recipe is worth on a folder and its questions, one thing changed at a time.
    #[command(
        after_help = "Example:\n  cargo run --release -p evals -- variants --corpus src/demo/knowledge --queries evals/queries/demo.jsonl --format text"
    )]
    Variants(variants::Options),
    /// Whether what is said is what documents say: the verifier on changed sentences, and answers of a service read again from outside.
    #[command(
        after_help = "Example:\n  cargo run --release -p evals -- grounding --corpus src/demo/knowledge --queries evals/queries/demo.jsonl --format json"
    )]
    Grounding(grounding::Options),
    /// Whether poisoned documents change a target, tell another tenant's text or put words into an answer.
    #[command(after_help = "Example:\n  cargo run -p evals -- injection --attain target/debug/attain --format json")]
    Injection(injection::Options),
    /// What learning which offer to suggest costs against teams of known taste, and whether off-policy estimates tell the truth.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- learning --seed 1 --format json")]
    Learning(learning::Options),
    /// How often arms of an experiment that are alike are called different, at the horizon and by weekly looks, and how often others are.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- experiments --seed 1 --teams 24 --format json")]
    Experiments(experiments::Options),
    /// Whether what is said to bind does: it is taken away from simulated cases, and the target solved again.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- explanations --seed 1 --cases 1000")]
    Explanations(explanations::Options),
    /// Whether recommendations are computed again bit for bit: from kept inputs, in other processes, with other threads.
    #[command(after_help = "Example:\n  cargo run --release -p evals -- replay --cases 1000")]
    Replay(replay::Options),
    /// Offers for a simulated fleet whose laws are known: how often they are missed, how tight they are, whether they hold together.
    #[command(
        after_help = "Example:\n  cargo run --release -p evals -- simulate --seed 1 --services 400 --format json"
    )]
    Simulate(simulate::Options),
    /// Public traces and metrics sent to a real member: is the graph found the one that comes with them?
    Import(import::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.evaluation {
        Evaluation::Calibration(options) => calibration::run(&options),
        Evaluation::Seasons(options) => seasons::run(&options),
        Evaluation::Consistency(options) => consistency::run(&options),
        Evaluation::Composition(options) => composition::run(&options),
        Evaluation::Drift(options) => drift::run(&options),
        Evaluation::Retrieval(options) => retrieval::run(&options).await,
        Evaluation::Variants(options) => variants::run(&options).await,
        Evaluation::Grounding(options) => grounding::run(&options).await,
        Evaluation::Injection(options) => injection::run(&options).await,
        Evaluation::Learning(options) => learning::run(&options),
        Evaluation::Experiments(options) => experiments::run(&options),
        Evaluation::Explanations(options) => explanations::run(&options),
        Evaluation::Replay(options) => replay::run(&options),
        Evaluation::Simulate(options) => simulate::run(&options),
        Evaluation::Import(options) => import::run(&options).await,
    };
    match result {
        Ok(report) => {
            match cli.format {
                Format::Json => println!("{report}"),
                Format::Text => println!("{report:#}"),
            }
            // An evaluation without an objective only measures.
            let missed = report["objective_met"] == serde_json::Value::Bool(false);
            if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("evals: {error:#}");
            ExitCode::FAILURE
        }
    }
}
