//! A cross-encoder that reads question and passage together and puts the first passages into its own order. Off unless a folder with
//! one is configured; late or broken, the fused order stands and the answer says so.

use std::path::Path;
use std::time::Duration;

use fastembed::{RerankInitOptionsUserDefined, TextRerank, UserDefinedRerankingModel};
use tokio::sync::{mpsc, oneshot};

use crate::domain::document::sha256_hex;
use crate::embedding::{environment, library_folder, tokenizer_files};

/// Word pieces of question and passage that are read.
const MAX_LENGTH: usize = 384;
/// Questions that may wait for the model; one more is late already.
const QUESTIONS_MAX: usize = 8;
/// Passages that the model reads at once: in a batch of several the shorter ones would be padded to the longest.
const BATCH: usize = 1;
const GRAPH_FILE: &str = "model.onnx";
/// Characters of the graph's hash in the model's name.
const HASH_CHARS: usize = 12;

/// How the first passages came by their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Reranking {
    /// No cross-encoder is configured.
    #[default]
    Off,
    /// By the cross-encoder of this name.
    Applied(String),
    /// It took too long.
    TimedOut,
    /// It could not be loaded, or failed.
    Failed,
}

/// A cross-encoder on a thread of its own, or the statement that the configured one cannot be had.
#[derive(Debug)]
pub(crate) struct Reranker {
    /// `None` where loading failed.
    loaded: Option<Loaded>,
    /// Longest that a question waits for it.
    timeout: Duration,
    /// Passages that it reads.
    pub(crate) passages: usize,
}

#[derive(Debug)]
struct Loaded {
    asked: mpsc::Sender<Asked>,
    name: String,
}

#[derive(Debug)]
struct Asked {
    question: String,
    passages: Vec<String>,
    answer: oneshot::Sender<Result<Vec<f32>, String>>,
}

impl Reranker {
    /// Loads the model in a folder: `model.onnx` with inputs `input_ids`, `attention_mask` and perhaps `token_type_ids` and an output
    /// `logits`, beside the files of its tokeniser. ONNX Runtime is taken from that folder or from the embedding model's.
    pub(crate) async fn load(
        folder: &Path,
        embedding_folder: Option<&Path>,
        passages: usize,
        timeout: Duration,
    ) -> Self {
        let loaded = match Loaded::start(folder, embedding_folder).await {
            Ok(loaded) => Some(loaded),
            Err(reason) => {
                tracing::error!(reason, "the configured cross-encoder cannot be used; the fused order stands");
                None
            }
        };
        Self { loaded, timeout, passages }
    }

    /// A score for each passage, comparable with one another only, or why there is none.
    pub(crate) async fn scores(&self, question: &str, passages: Vec<String>) -> (Reranking, Option<Vec<f32>>) {
        let Some(loaded) = &self.loaded else { return (Reranking::Failed, None) };
        let count = passages.len();
        let (answer, answered) = oneshot::channel();
        match loaded.asked.try_send(Asked { question: question.to_owned(), passages, answer }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return (Reranking::TimedOut, None),
            Err(mpsc::error::TrySendError::Closed(_)) => return (Reranking::Failed, None),
        }
        match tokio::time::timeout(self.timeout, answered).await {
            Err(_) => (Reranking::TimedOut, None),
            Ok(Ok(Ok(scores))) if scores.len() == count && scores.iter().all(|score| score.is_finite()) => {
                (Reranking::Applied(loaded.name.clone()), Some(scores))
            }
            Ok(Ok(Ok(_))) => (Reranking::Failed, None),
            Ok(Ok(Err(reason))) => {
                tracing::error!(reason, "the cross-encoder failed; the fused order stands");
                (Reranking::Failed, None)
            }
            Ok(Err(_)) => (Reranking::Failed, None),
        }
    }
}

impl Loaded {
    async fn start(folder: &Path, embedding_folder: Option<&Path>) -> Result<Self, String> {
        let (folder, library) = (folder.to_owned(), library_folder(folder, embedding_folder)?);
        let (asked, mut questions) = mpsc::channel::<Asked>(QUESTIONS_MAX);
        let (ready, loaded) = oneshot::channel();
        tokio::task::spawn_blocking(move || match load(&folder, &library) {
            Ok((mut model, name)) => {
                if ready.send(Ok(name)).is_err() {
                    return;
                }
                while let Some(Asked { question, passages, answer }) = questions.blocking_recv() {
                    // Nobody waits for a late question any more.
                    if !answer.is_closed() {
                        drop(answer.send(scores(&mut model, question, passages)));
                    }
                }
            }
            Err(reason) => drop(ready.send(Err(reason))),
        });
        let name = loaded.await.map_err(|_| "the ONNX Runtime library broke off while loading".to_owned())??;
        Ok(Self { asked, name })
    }
}

fn load(folder: &Path, library: &Path) -> Result<(TextRerank, String), String> {
    let path = folder.join(GRAPH_FILE);
    let graph = std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let hash = sha256_hex(&graph);
    let folder_name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // From the file, so that weights beside the graph are found.
    let defined = UserDefinedRerankingModel::new(path, tokenizer_files(folder)?);
    let options = RerankInitOptionsUserDefined::new()
        .with_environment(environment(library)?)
        .with_max_length(MAX_LENGTH)
        .with_intra_threads(1);
    let model = TextRerank::try_new_from_user_defined(defined, options).map_err(|error| error.to_string())?;
    Ok((model, format!("{folder_name}@{}", &hash[..HASH_CHARS])))
}

fn scores(model: &mut TextRerank, question: String, passages: Vec<String>) -> Result<Vec<f32>, String> {
    let count = passages.len();
    let ranked = model.rerank(question, passages, false, Some(BATCH)).map_err(|error| error.to_string())?;
    let mut scores = vec![f32::NAN; count];
    for result in ranked {
        scores[result.index] = result.score;
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reranker(asked: mpsc::Sender<Asked>) -> Reranker {
        let loaded = Some(Loaded { asked, name: "m".to_owned() });
        Reranker { loaded, timeout: Duration::from_millis(30), passages: 2 }
    }

    #[tokio::test]
    async fn a_late_answer_is_not_waited_for() {
        let (asked, mut questions) = mpsc::channel(1);
        let reranker = reranker(asked);
        assert_eq!(reranker.scores("q", vec!["p".into()]).await, (Reranking::TimedOut, None));
        // The place in the queue is still taken: the next one is late at once.
        assert_eq!(reranker.scores("q", vec!["p".into()]).await, (Reranking::TimedOut, None));
        assert!(questions.recv().await.expect("the first").answer.is_closed());
    }

    #[tokio::test]
    async fn what_it_answers_is_checked() {
        for (answer, expected) in [
            (Ok(vec![1.0]), (Reranking::Applied("m".to_owned()), Some(vec![1.0]))),
            (Ok(vec![1.0, 2.0]), (Reranking::Failed, None)),
            (Ok(vec![f32::NAN]), (Reranking::Failed, None)),
            (Err("broken".to_owned()), (Reranking::Failed, None)),
        ] {
            let (asked, mut questions) = mpsc::channel::<Asked>(1);
            let model = tokio::spawn(async move { questions.recv().await.expect("a question").answer.send(answer) });
            let patient = Reranker { timeout: Duration::from_secs(20), ..reranker(asked) };
            assert_eq!(patient.scores("q", vec!["p".into()]).await, expected);
            model.await.expect("ended").expect("sent");
        }
        let (asked, questions) = mpsc::channel::<Asked>(1);
        drop(questions);
        assert_eq!(reranker(asked).scores("q", vec![]).await.0, Reranking::Failed);
    }
}
