//! Runs the model on a thread of its own: `embed` needs the model to itself and takes milliseconds of pure computation.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use fastembed::{InitOptionsUserDefined, TextEmbedding, UserDefinedEmbeddingModel};
use ort::environment::Environment;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::files::{self, Model};
use crate::Error;

/// Questions that may wait for the model.
const QUESTIONS_MAX: usize = 128;
/// Questions whose vectors are at hand: whoever searches asks for an answer to the same question, at nearly the same time.
const RECENT_MAX: usize = 8;
/// Texts to keep that may wait for the model.
const TEXTS_MAX: usize = 4;
/// Threads of the model that wait for more work keep a core busy and let nobody else use it. A question leaves them idle for longer than
/// it keeps them at work.
const SPINNING: (&str, &str) = ("session.intra_op.allow_spinning", "0");

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
    texts: mpsc::Sender<Text>,
    name: String,
    dimensions: usize,
    /// Texts that were embedded before, where they are remembered.
    texts_before: Option<Mutex<HashMap<String, Vec<f32>>>>,
}

/// The model as its thread has it.
struct Loaded {
    run: TextEmbedding,
    dimensions: usize,
    recent: Recent,
}

/// Vectors of the last questions, newest last. A vector is made of the sentence and of nothing else.
#[derive(Debug, Default)]
struct Recent(VecDeque<(String, Vec<f32>)>);

impl Recent {
    fn vector(&self, sentence: &str) -> Option<Vec<f32>> {
        self.0.iter().find(|(asked, _)| asked == sentence).map(|(_, vector)| vector.clone())
    }

    fn keep(&mut self, sentence: &str, vector: &[f32]) {
        if self.0.len() == RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((sentence.to_owned(), vector.to_vec()));
    }
}

#[derive(Debug)]
struct Question {
    sentence: String,
    words: Vec<String>,
    answer: oneshot::Sender<Result<EmbeddedQuestion, String>>,
}

#[derive(Debug)]
struct Text {
    text: String,
    answer: oneshot::Sender<Result<Vec<f32>, String>>,
}

impl Embedder {
    /// Loads a model and starts its thread, which ends with the last handle. The runtime waits for that
    /// thread when it ends: a process that exits while the library still works is torn down under it, and crashes.
    ///
    /// # Errors
    /// Says what is wrong with the files or the library.
    pub(crate) async fn load(model: &Model, threads: usize) -> Result<Self, String> {
        let name = model.identity()?;
        let dimensions = model.dimensions();
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (texts, handed) = mpsc::channel(TEXTS_MAX);
        let (ready, loaded) = oneshot::channel();
        let model = model.clone();
        let handle = Handle::current();
        let run = move || match load(&model, threads) {
            Ok(loaded) => {
                if ready.send(Ok(())).is_ok() {
                    handle.block_on(work(loaded, asked, handed));
                }
            }
            // Nobody waits any more: nothing to tell.
            Err(reason) => drop(ready.send(Err(reason))),
        };
        tokio::task::spawn_blocking(run);
        // A library that breaks off takes its thread with it, and only that.
        loaded.await.map_err(|_| "the ONNX Runtime library broke off while loading".to_owned())??;
        Ok(Self { questions, texts, name, dimensions, texts_before: None })
    }

    /// The same that remembers every text for as long as it lives: for whoever indexes the same texts again and again.
    pub(crate) fn remembering(self) -> Self {
        Self { texts_before: Some(Mutex::default()), ..self }
    }

    fn before(&self, text: &str) -> Option<Vec<f32>> {
        let texts = self.texts_before.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        texts.get(text).cloned()
    }

    fn remember(&self, text: &str, vector: &[f32]) {
        if let Some(texts) = &self.texts_before {
            let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
            texts.insert(text.to_owned(), vector.to_vec());
        }
    }

    /// Names the model, its weights and how it is read.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Numbers of a vector.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Embeds a question and looks up its words.
    pub(crate) async fn question(&self, sentence: String, words: Vec<String>) -> Result<EmbeddedQuestion, Error> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { sentence, words, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(Error::Model)
    }

    /// Embeds texts, in order, each by itself: in one batch the shorter ones would be padded to the longest, which on passages as they
    /// are cut costs as much again as the texts themselves. A question that comes in between waits for one text at most.
    pub(crate) async fn texts(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, Error> {
        let mut vectors = Vec::with_capacity(texts.len());
        for text in texts {
            let vector = match self.before(&text) {
                Some(vector) => vector,
                None => {
                    let (answer, answered) = oneshot::channel();
                    self.texts.send(Text { text: text.clone(), answer }).await.map_err(|_| gone())?;
                    answered.await.map_err(|_| gone())?.map_err(Error::Model)?
                }
            };
            self.remember(&text, &vector);
            vectors.push(vector);
        }
        Ok(vectors)
    }
}

fn gone() -> Error {
    Error::Model("its thread has ended".to_owned())
}

/// Answers questions before texts, until nobody can ask any more.
async fn work(mut model: Loaded, mut questions: mpsc::Receiver<Question>, mut texts: mpsc::Receiver<Text>) {
    loop {
        // An answer that nobody waits for any more is dropped.
        tokio::select! {
            biased;
            Some(asked) = questions.recv() => drop(asked.answer.send(answer(&mut model, &asked.sentence, &asked.words))),
            Some(handed) = texts.recv() => drop(handed.answer.send(embed(&mut model, &handed.text))),
            else => return,
        }
    }
}

fn answer(model: &mut Loaded, sentence: &str, words: &[String]) -> Result<EmbeddedQuestion, String> {
    let vector = match model.recent.vector(sentence) {
        Some(vector) => vector,
        None => {
            let vector = embed(model, sentence)?;
            model.recent.keep(sentence, &vector);
            vector
        }
    };
    let specificities = words.iter().map(|word| specificity(model.run.tokenizer.token_to_id(word))).collect();
    Ok(EmbeddedQuestion { vector, specificities })
}

fn embed(model: &mut Loaded, text: &str) -> Result<Vec<f32>, String> {
    let mut vectors = model.run.embed([text], None).map_err(|error| error.to_string())?;
    let mut vector = vectors.pop().ok_or("the model gave no vector")?;
    shorten(&mut vector, model.dimensions)?;
    Ok(vector)
}

/// Keeps the first numbers of a vector, at length 1 again.
fn shorten(vector: &mut Vec<f32>, dimensions: usize) -> Result<(), String> {
    match vector.len() {
        length if length == dimensions => Ok(()),
        length if length < dimensions => Err(format!("the model gives {length} numbers, {dimensions} are wanted")),
        _ => {
            vector.truncate(dimensions);
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            vector.iter_mut().for_each(|x| *x /= length);
            Ok(())
        }
    }
}

/// How specific a word is, by its logarithmic rank in the vocabulary: 0 for the most frequent, 1 for those it does not hold.
fn specificity(rank: Option<u32>) -> f64 {
    let rank = rank.map_or(VOCABULARY, f64::from).max(COMMON_RANK);
    (libm::log(rank / COMMON_RANK) / libm::log(VOCABULARY / COMMON_RANK)).clamp(0.0, 1.0)
}

fn load(model: &Model, threads: usize) -> Result<Loaded, String> {
    let environment = environment(&model.library)?;
    let (weights_name, weights) = model.weights()?;
    let defined = UserDefinedEmbeddingModel::new(model.graph()?, files::tokenizer_files(&model.folder)?)
        .with_pooling(model.pooling())
        .with_external_initializer(weights_name, weights);
    let options = InitOptionsUserDefined::new()
        .with_environment(environment)
        .with_max_length(model.max_length())
        .with_intra_threads(threads)
        .with_session_config(SPINNING.0, SPINNING.1);
    let run = TextEmbedding::try_new_from_user_defined(defined, options).map_err(|error| error.to_string())?;
    Ok(Loaded { run, dimensions: model.dimensions(), recent: Recent::default() })
}

/// The process's environment, made from the library in `folder` the first time. Asking the library for anything before it
/// is known to load would make it break off.
pub(crate) fn environment(folder: &Path) -> Result<Environment, String> {
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
    fn model() -> Option<Model> {
        Model::locate(None).inspect_err(|reason| println!("SKIPPED: {reason}")).ok()
    }

    #[test]
    fn the_last_questions_are_at_hand_and_no_more() {
        let mut recent = Recent::default();
        (0..RECENT_MAX).for_each(|number| recent.keep(&number.to_string(), &[number as f32]));
        assert_eq!(
            (recent.vector("0"), recent.vector("7"), recent.vector("x")),
            (Some(vec![0.0]), Some(vec![7.0]), None)
        );
        recent.keep("x", &[0.5]);
        assert_eq!((recent.vector("0"), recent.vector("x"), recent.0.len()), (None, Some(vec![0.5]), RECENT_MAX));
    }

    #[test]
    fn a_shortened_vector_has_length_one() {
        let mut vector = vec![3.0, 4.0, 12.0];
        shorten(&mut vector, 2).expect("long enough");
        assert_eq!(vector, [0.6, 0.8]);
        assert!(shorten(&mut vector, 3).is_err());
    }

    #[test]
    fn the_library_is_not_left_at_work_when_the_runtime_ends() {
        let Some(model) = model() else { return };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                biased;
                loaded = Embedder::load(&model, 1) => panic!("loaded at once: {loaded:?}"),
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
        let Some(model) = model() else { return };
        let embedder = Embedder::load(&model, 1).await.expect("a model");
        // A longer neighbour must change nothing, and is itself cut to what the model reads.
        let texts: Vec<String> = SENTENCES.iter().map(ToString::to_string).chain(["word ".repeat(400)]).collect();
        let vectors = embedder.texts(texts).await.expect("embedded");
        let alone =
            embedder.question(SENTENCES[0].to_owned(), vec!["the".into(), "kafka".into()]).await.expect("embedded");
        let again = embedder.question(SENTENCES[0].to_owned(), Vec::new()).await.expect("at hand");
        assert_eq!(again.vector, alone.vector);
        for vector in [&vectors[0], &alone.vector] {
            assert_eq!(vector.len(), files::DIMENSIONS);
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
