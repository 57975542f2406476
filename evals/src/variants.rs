//! What each part of the retrieval recipe is worth: a folder of documents and judged questions, by the service's own preparation and ranking
//! with one thing changed at a time; and whether weights that are chosen on some of the questions serve the others.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use attain_rag::study::{Ranked, Reach, Study, Variant, variants};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::knowledge::{self, Corpus, Measures, Query};
use crate::scores;
use crate::scratch::Folder;

/// Parts of the cross-validation of the weights.
const FOLDS: usize = 5;
/// Weights that are chosen among: of the words, of the title's vector, of the beginning's.
const WORDS: [f64; 5] = [0.35, 0.45, 0.55, 0.65, 0.75];
const TITLE: [f64; 4] = [0.3, 0.5, 0.7, 1.0];
const BEGINNING: [f64; 4] = [0.0, 0.3, 0.5, 0.8];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder of Markdown, text and YAML files.
    #[arg(long)]
    corpus: PathBuf,
    /// Lines of {id, query, kind, relevant: [{doc, grade}]}; `doc` is a path below the corpus.
    #[arg(long)]
    queries: PathBuf,
    /// Folder of the embedding model; the user's cache when left out.
    #[arg(long)]
    model_dir: Option<PathBuf>,
    /// Threads of one embedding.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How far back variants reach that are measured: those of the ranking share one index, those of the words index everything anew, and
    /// those of the passages embed everything anew.
    #[arg(long, value_enum, default_value_t = UpTo::Passages)]
    up_to: UpTo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum UpTo {
    Ranking,
    Words,
    Passages,
}

/// A variant with what it made of every question.
struct Measured {
    measures: Vec<Measures>,
    confidences: Vec<f64>,
}

/// Measures the recipe, its variants, and weights chosen on four fifths of the questions.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!((1..=64).contains(&options.threads), "threads: {} is outside 1 to 64", options.threads);
    let queries = knowledge::read_lines::<Query>(&options.queries)?;
    let corpus = Corpus::read(&options.corpus)?;
    knowledge::check_judgements(&queries, &corpus)?;
    let folder = Folder::new("evals-variants")?;
    let documents = corpus.documents();
    eprintln!("keeping {} documents", documents.len());
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let model = options.model_dir.as_deref();
    let study = Study::open(folder.path(), documents, model, options.threads, now_ms).await?;
    let asked = Asked { study: &study, corpus: &corpus, queries: &queries };
    let shipped = asked.measure(&Variant::shipped()).await?;
    let reached = |reach: Reach| match reach {
        Reach::Ranking => UpTo::Ranking,
        Reach::Words => UpTo::Words,
        Reach::Passages => UpTo::Passages,
    };
    let chosen: Vec<Variant> =
        variants().into_iter().filter(|variant| reached(variant.reach()) <= options.up_to).collect();
    let progress = ProgressBar::new(chosen.len() as u64).with_message("variants");
    let mut rows = Vec::new();
    for variant in &chosen {
        let measured = asked.measure(variant).await.with_context(|| variant.name().to_owned())?;
        rows.push(row(variant.name(), &measured, &shipped, &queries));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let weights = cross_validated(&asked, &shipped).await?;
    let report = json!({
        "documents": corpus.files.len(),
        "questions": queries.len(),
        "answerable": queries.iter().filter(|query| !query.relevant.is_empty()).count(),
        "shipped": figures(&shipped, &queries),
        "variants": rows,
        "weights": weights,
    });
    study.close().await?;
    Ok(report)
}

/// Whom the questions are asked.
struct Asked<'a> {
    study: &'a Study,
    corpus: &'a Corpus,
    queries: &'a [Query],
}

impl Asked<'_> {
    async fn measure(&self, variant: &Variant) -> anyhow::Result<Measured> {
        let questions: Vec<String> = self.queries.iter().map(|query| query.query.clone()).collect();
        let ranked = self.study.rank(variant, &questions).await?;
        let measures = self.queries.iter().zip(&ranked).map(|(query, ranked)| measures(query, ranked, self.corpus));
        Ok(Measured {
            measures: measures.collect(),
            confidences: ranked.iter().map(|ranked| ranked.confidence).collect(),
        })
    }
}

fn measures(query: &Query, ranked: &Ranked, corpus: &Corpus) -> Measures {
    let paths: Vec<&str> = ranked.documents.iter().map(|name| corpus.path_of(name)).collect();
    query.measures(&paths)
}

impl Measured {
    fn mean(&self, measure: usize) -> f64 {
        scores::mean(&self.measures.iter().filter_map(|measures| measures[measure]).collect::<Vec<_>>())
    }

    fn auroc(&self, queries: &[Query]) -> Option<f64> {
        let confidences = |answerable: bool| -> Vec<f64> {
            let asked = self.confidences.iter().zip(queries);
            asked.filter(|(_, query)| query.relevant.is_empty() != answerable).map(|(value, _)| *value).collect()
        };
        scores::area_under_roc(&confidences(true), &confidences(false))
    }

    /// nDCG@10 of each answerable question.
    fn gains(&self) -> Vec<f64> {
        self.measures.iter().filter_map(|measures| measures[0]).collect()
    }
}

fn figures(measured: &Measured, queries: &[Query]) -> Value {
    json!({
        "ndcg_at_10": measured.mean(0),
        "recall_at_5": measured.mean(1),
        "mrr": measured.mean(2),
        "abstention_auroc": measured.auroc(queries),
    })
}

/// A variant beside what is shipped: its figures, what it gains by nDCG@10 on the same questions, and the standard error of that.
fn row(name: &str, measured: &Measured, shipped: &Measured, queries: &[Query]) -> Value {
    let mut row = figures(measured, queries);
    let (gain, error) = gain(&measured.gains(), &shipped.gains());
    row["variant"] = json!(name);
    row["gain_ndcg_at_10"] = json!(gain);
    row["gain_standard_error"] = json!(error);
    row
}

/// The mean of the differences between two lists, and its standard error; 0 where fewer than two are given.
fn gain(new: &[f64], old: &[f64]) -> (f64, f64) {
    let differences: Vec<f64> = new.iter().zip(old).map(|(new, old)| new - old).collect();
    let count = differences.len() as f64;
    let mean = scores::mean(&differences);
    let squares: f64 = differences.iter().map(|difference| (difference - mean) * (difference - mean)).sum();
    let error = if differences.len() < 2 { 0.0 } else { (squares / (count - 1.0) / count).sqrt() };
    (mean, error)
}

/// Weights chosen by nDCG@10 on four fifths of the answerable questions and asked of the last, each fifth in turn.
async fn cross_validated(asked: &Asked<'_>, shipped: &Measured) -> anyhow::Result<Value> {
    let mut combinations = Vec::new();
    for words in WORDS {
        for title in TITLE {
            combinations.extend(BEGINNING.map(|beginning| Variant::weighted(words, title, beginning)));
        }
    }
    let progress = ProgressBar::new(combinations.len() as u64).with_message("weights");
    let mut gains: Vec<Vec<f64>> = Vec::with_capacity(combinations.len());
    for variant in &combinations {
        gains.push(asked.measure(variant).await?.gains());
        progress.inc(1);
    }
    progress.finish_and_clear();
    let shipped = shipped.gains();
    let (chosen, held_out) = held_out(&gains, shipped.len());
    let (gained, error) = gain(&held_out, &shipped);
    let best = best_of(&gains, |_| true)
        .map(|(place, mean)| json!({"weights": combinations[place].name(), "ndcg_at_10": mean}));
    Ok(json!({
        "combinations": combinations.len(),
        "folds": FOLDS,
        "chosen": chosen.iter().map(|place| combinations[*place].name()).collect::<Vec<_>>(),
        "held_out_ndcg_at_10": scores::mean(&held_out),
        "shipped_ndcg_at_10": scores::mean(&shipped),
        "held_out_gain": gained,
        "held_out_gain_standard_error": error,
        "best_on_all": best,
    }))
}

/// For each fold the combination that is best on the others; and what each question gets by the one that was chosen without it.
fn held_out(gains: &[Vec<f64>], questions: usize) -> (Vec<usize>, Vec<f64>) {
    let chosen: Vec<usize> = (0..FOLDS)
        .map(|fold| best_of(gains, |question| question % FOLDS != fold).map_or(0, |(place, _)| place))
        .collect();
    let held_out = (0..questions).map(|question| gains[chosen[question % FOLDS]][question]).collect();
    (chosen, held_out)
}

/// The first of the best on average over the questions that count.
fn best_of(gains: &[Vec<f64>], counts: impl Fn(usize) -> bool) -> Option<(usize, f64)> {
    let mean = |gains: &Vec<f64>| {
        let counted: Vec<f64> = gains.iter().enumerate().filter(|(at, _)| counts(*at)).map(|(_, gain)| *gain).collect();
        scores::mean(&counted)
    };
    let means = gains.iter().map(mean).enumerate();
    means.fold(None, |best, (place, mean)| match best {
        Some((_, highest)) if highest >= mean => best,
        _ => Some((place, mean)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::Judgement;

    #[test]
    fn a_ranking_is_measured_by_its_grades() {
        let judgement = |doc: &str, grade| Judgement { doc: doc.to_owned(), grade };
        let query = Query {
            id: "q".into(),
            query: "?".into(),
            kind: "easy".into(),
            relevant: vec![judgement("b", 2), judgement("c", 1)],
        };
        let ranked = Ranked { documents: ["a", "b"].map(str::to_owned).to_vec(), confidence: 1.0 };
        let found = measures(&query, &ranked, &Corpus::default());
        let expected = (2.0 / 3f64.log2()) / (2.0 + 1.0 / 3f64.log2());
        assert!((found[0].expect("relevant") - expected).abs() < 1e-12, "{found:?}");
        assert_eq!((found[1], found[2]), (Some(1.0), Some(0.5)));
        let unanswerable = Query { relevant: Vec::new(), ..query };
        assert_eq!(measures(&unanswerable, &ranked, &Corpus::default()), [None; 3]);
    }

    #[test]
    fn a_gain_comes_with_its_error() {
        let (mean, error) = gain(&[1.0, 0.5, 0.0], &[0.5, 0.5, 0.5]);
        // Differences 0.5, 0, -0.5: deviation 0.5, over the root of three.
        assert!(mean.abs() < 1e-12 && (error - 0.5 / 3f64.sqrt()).abs() < 1e-12, "{mean} {error}");
        assert_eq!(gain(&[1.0], &[0.5]), (0.5, 0.0));
    }

    #[test]
    fn nobody_is_judged_by_what_was_chosen_on_it() {
        // The second serves question 0 alone, so no other fold chooses it.
        let mut second = vec![0.0; 10];
        second[0] = 1.0;
        let (chosen, held_out) = held_out(&[vec![0.05; 10], second], 10);
        assert_eq!(chosen, [0, 1, 1, 1, 1]);
        assert_eq!(held_out, [0.05, 0.0, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.0]);
    }
}
