//! Runs the model on a thread of its own: `embed` needs the model to itself and takes milliseconds of pure computation.

use std::path::Path;
use std::sync::Mutex;

use fastembed::{InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use ort::environment::Environment;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::files::{self, GRAPH, MODEL_NAME, WEIGHTS_SHA256};
use crate::Error;

/// Word pieces of a text that the model reads; it was trained on 256.
const MAX_LENGTH: usize = 256;
/// Questions that may wait for the model.
const QUESTIONS_MAX: usize = 128;
/// Batches of texts that may wait for the model.
const BATCHES_MAX: usize = 4;
/// Texts of one batch: a question that comes in between waits for one batch at most.
const BATCH: usize = 8;

/// The first entries of the model's vocabulary are marks and single letters, then come words by falling frequency (`the` is
/// entry 1996): rank beyond this tells how specific a word is.
const COMMON_RANK: f64 = 1000.0;
/// Entries of the vocabulary.
const VOCABULARY: f64 = 30_522.0;

/// One environment a process is all that ONNX Runtime allows; it is kept for as long as the process lives.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// A question for the signals that compare meanings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EmbeddedQuestion {
    pub(crate) vector: Vec<f32>,
    /// How specific each of the given words is in general language, 0 to 1.
    pub(crate) specificities: Vec<f64>,
}

/// A loaded model.
#[derive(Debug)]
pub(crate) struct Embedder {
    questions: mpsc::Sender<Question>,
    batches: mpsc::Sender<Batch>,
    name: String,
}

#[derive(Debug)]
struct Question {
    sentence: String,
    words: Vec<String>,
    answer: oneshot::Sender<Result<EmbeddedQuestion, String>>,
}

#[derive(Debug)]
struct Batch {
    texts: Vec<String>,
    answer: oneshot::Sender<Result<Vec<Vec<f32>>, String>>,
}

impl Embedder {
    /// Loads the model from a folder and starts its thread, which ends with the last handle. The runtime waits for that
    /// thread when it ends: a process that exits while the library still works is torn down under it, and crashes.
    ///
    /// # Errors
    /// Says what is wrong with the files or the library.
    pub(crate) async fn load(folder: &Path, threads: usize) -> Result<Self, String> {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (batches, handed) = mpsc::channel(BATCHES_MAX);
        let (ready, loaded) = oneshot::channel();
        let folder = folder.to_owned();
        let handle = Handle::current();
        let run = move || match load(&folder, threads) {
            Ok(model) => {
                if ready.send(Ok(())).is_ok() {
                    handle.block_on(work(model, asked, handed));
                }
            }
            // Nobody waits any more: nothing to tell.
            Err(reason) => drop(ready.send(Err(reason))),
        };
        tokio::task::spawn_blocking(run);
        // A library that breaks off takes its thread with it, and only that.
        loaded.await.map_err(|_| "the ONNX Runtime library broke off while loading".to_owned())??;
        Ok(Self { questions, batches, name: format!("{MODEL_NAME}@{}", &WEIGHTS_SHA256[..12]) })
    }

    /// Names the model and its weights.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Embeds a question and looks up its words.
    pub(crate) async fn question(&self, sentence: String, words: Vec<String>) -> Result<EmbeddedQuestion, Error> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { sentence, words, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(Error::Model)
    }

    /// Embeds texts, in order.
    pub(crate) async fn texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Error> {
        let mut vectors = Vec::with_capacity(texts.len());
        for part in texts.chunks(BATCH) {
            let (answer, answered) = oneshot::channel();
            self.batches.send(Batch { texts: part.to_vec(), answer }).await.map_err(|_| gone())?;
            vectors.extend(answered.await.map_err(|_| gone())?.map_err(Error::Model)?);
        }
        Ok(vectors)
    }
}

fn gone() -> Error {
    Error::Model("its thread has ended".to_owned())
}

/// Answers questions before batches, until nobody can ask any more.
async fn work(mut model: TextEmbedding, mut questions: mpsc::Receiver<Question>, mut batches: mpsc::Receiver<Batch>) {
    loop {
        // An answer that nobody waits for any more is dropped.
        tokio::select! {
            biased;
            Some(asked) = questions.recv() => drop(asked.answer.send(answer(&mut model, &asked.sentence, &asked.words))),
            Some(handed) = batches.recv() => drop(handed.answer.send(embed(&mut model, &handed.texts))),
            else => return,
        }
    }
}

fn answer(model: &mut TextEmbedding, sentence: &str, words: &[String]) -> Result<EmbeddedQuestion, String> {
    let vector = embed(model, &[sentence.to_owned()])?.pop().ok_or("the model gave no vector")?;
    let specificities = words.iter().map(|word| specificity(model.tokenizer.token_to_id(word))).collect();
    Ok(EmbeddedQuestion { vector, specificities })
}

fn embed(model: &mut TextEmbedding, texts: &[String]) -> Result<Vec<Vec<f32>>, String> {
    model.embed(texts, None).map_err(|error| error.to_string())
}

/// How specific a word is, by its logarithmic rank in the vocabulary: 0 for the most frequent, 1 for those it does not hold.
fn specificity(rank: Option<u32>) -> f64 {
    let rank = rank.map_or(VOCABULARY, f64::from).max(COMMON_RANK);
    (libm::log(rank / COMMON_RANK) / libm::log(VOCABULARY / COMMON_RANK)).clamp(0.0, 1.0)
}

fn load(folder: &Path, threads: usize) -> Result<TextEmbedding, String> {
    let environment = environment(folder)?;
    let tokenizer = TokenizerFiles {
        tokenizer_file: files::read(folder, files::TOKENIZER_FILE)?,
        config_file: files::read(folder, files::CONFIG_FILE)?,
        special_tokens_map_file: files::read(folder, files::SPECIAL_TOKENS_FILE)?,
        tokenizer_config_file: files::read(folder, files::TOKENIZER_CONFIG_FILE)?,
    };
    let model = UserDefinedEmbeddingModel::new(GRAPH.to_vec(), tokenizer)
        .with_pooling(Pooling::Mean)
        .with_external_initializer(files::WEIGHTS_FILE.to_owned(), files::read_weights(folder)?);
    let options = InitOptionsUserDefined::new()
        .with_environment(environment)
        .with_max_length(MAX_LENGTH)
        .with_intra_threads(threads);
    TextEmbedding::try_new_from_user_defined(model, options).map_err(|error| error.to_string())
}

/// The process's environment, made from the library in `folder` the first time. Asking the library for anything before it
/// is known to load would make it break off.
fn environment(folder: &Path) -> Result<Environment, String> {
    let mut kept = ENVIRONMENT.lock().map_err(|_| "the ONNX Runtime library broke off before".to_owned())?;
    if let Some(environment) = &*kept {
        return Ok(environment.clone());
    }
    let library = folder.join(files::LIBRARY_FILE);
    let library = library.canonicalize().map_err(|error| format!("cannot find {}: {error}", library.display()))?;
    let environment = ort::init_from(&library)
        .map_err(|error| format!("{} cannot be used: {error}", library.display()))?
        .with_telemetry(false)
        .build()
        .map_err(|error| error.to_string())?;
    *kept = Some(environment.clone());
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_are_specific() {
        assert_eq!((specificity(Some(5)), specificity(None)), (0.0, 1.0));
        assert!(specificity(Some(2000)) < specificity(Some(20_000)));
    }

    /// Where the model is; `None`, said aloud, where there is none.
    #[allow(clippy::print_stdout)]
    fn model_folder() -> Option<std::path::PathBuf> {
        files::locate(None).inspect_err(|reason| println!("SKIPPED: {reason}")).ok()
    }

    #[test]
    fn the_library_is_not_left_at_work_when_the_runtime_ends() {
        let Some(folder) = model_folder() else { return };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                biased;
                loaded = Embedder::load(&folder, 1) => panic!("loaded at once: {loaded:?}"),
                () = tokio::task::yield_now() => {}
            }
        });
        drop(runtime);
        // Set by the loading itself: were it still to come, the library would be used from now on.
        assert!(ENVIRONMENT.lock().expect("not poisoned").is_some());
    }

    /// Computed with numpy in double precision straight from the published weights, without ONNX.
    const SENTENCES: [&str; 3] = [
        "The payment provider answers every call with an error.",
        "External card processor is down and rejects all requests.",
        "Our certificate for the gateway expires in three days.",
    ];
    const FIRST: [f32; 12] = [
        -0.024_388, 0.007_936, -0.005_917, 0.013_27, -0.068_856, -0.050_875, -0.003_314, -0.013_46, 0.055_693,
        -0.027_446, -0.001_451, 0.037_626,
    ];
    const LAST: [f32; 4] = [0.039_607, -0.018_888, 0.088_548, -0.012_157];
    const COSINES: (f32, f32) = (0.449_978, 0.325_113);

    #[tokio::test]
    async fn embeddings_are_those_of_the_published_model() {
        let Some(folder) = model_folder() else { return };
        let embedder = Embedder::load(&folder, 1).await.expect("a model");
        // A longer neighbour in the batch pads the others: that must change nothing.
        let texts: Vec<String> = SENTENCES.iter().map(ToString::to_string).chain(["word ".repeat(400)]).collect();
        let vectors = embedder.texts(&texts).await.expect("embedded");
        let alone =
            embedder.question(SENTENCES[0].to_owned(), vec!["the".into(), "kafka".into()]).await.expect("embedded");
        for vector in [&vectors[0], &alone.vector] {
            assert_eq!(vector.len(), crate::index::DIMENSIONS);
            let expected = FIRST.iter().chain(&LAST);
            let found = vector[..FIRST.len()].iter().chain(&vector[vector.len() - LAST.len()..]);
            for (expected, found) in expected.zip(found) {
                assert!((expected - found).abs() < 1e-4, "{expected} {found}");
            }
        }
        assert!(alone.specificities[0] < 0.25 && alone.specificities[1] > 0.5, "{:?}", alone.specificities);
        let cosine = |other: &Vec<f32>| -> f32 { vectors[0].iter().zip(other).map(|(a, b)| a * b).sum() };
        assert!((cosine(&vectors[1]) - COSINES.0).abs() < 1e-4 && (cosine(&vectors[2]) - COSINES.1).abs() < 1e-4);
    }
}
