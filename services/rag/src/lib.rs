//! The knowledge service: keeps runbooks, SLO templates and incident reports, finds the passages that answer a question,
//! and cites them to the character, or says that nothing kept answers.
//!
//! # Entry
//!
//! [`serve`], with a [`Config`], a listener, a clock and the end of the process.
//!
//! # How a document travels
//!
//! `transport` (decode) → `domain::document` (checked; hidden parts, secrets and personal data taken out) → `storage` (a new version
//! where the text changed; committed) → `domain::preparation` (outline, passages, sparse weights, sentences to embed) →
//! `embedding` (where a model is loaded) → `index` (one point a passage, one a document) → acknowledged.
//!
//! # How a question travels
//!
//! `transport` → `domain::query` (terms, names, the sentence to embed) → `gathering` from the `index` (the first candidates by words and
//! by name while the model reads the question, then by title, by beginning and by passage; always within the tenant; each document
//! read once) → `domain::fusion` → `domain::confidence` (below the calibrated threshold it abstains) → `quoting` (the passages of the
//! first documents, cut out of the text in `storage`) → encoded.
//!
//! An answer in sentences goes on from there: claims are cut from the documents found, chosen and checked (`attain-grounding`), and may
//! be reworded by a `language_model`, whose every sentence is checked again or not used.
//!
//! # Invariants
//!
//! - The documents in SQL are the truth; the index is derived and brought level with them at every start, after every failure,
//!   and when a model becomes available.
//! - A document is acknowledged when it is committed and can be found. kill −9 loses nothing acknowledged.
//! - `text[start_offset..end_offset]`, in Unicode scalar values, is the quote, of exactly the version that the citation
//!   names; a passage whose stored text says otherwise is not cited.
//! - Documents are data: nothing in them is run, followed or obeyed, and nothing hidden from their reader is kept. What in them
//!   speaks to a machine lowers trust: such a document comes later, answers nothing by its name, and supersedes nobody.
//! - A document whose place another has taken is evidence only for whoever asks for such ones.
//! - A tenant reads its own documents and those of the one tenant that publishes; of two by the same name its own.
//! - Without a model the same questions are answered by words only, and every answer says so.
//! - The same documents and question give the same answer; equal scores are ordered by name.
//!
//! # Deliberately unknown here
//!
//! Services beyond their names, SLIs, recommendations; what a caller does with a passage. No text of its own: a
//! sentence is what a document says, or it is not said.

mod answer;
mod config;
mod domain;
#[cfg(test)]
mod doubted;
mod embedding;
mod error;
#[cfg(test)]
mod evaluation;
pub mod folder;
mod gathering;
mod index;
mod indexing;
mod knowledge;
mod language_model;
mod model_change;
mod model_download;
mod put;
mod quoting;
mod ratings;
mod read;
mod reranking;
mod scope;
mod search;
mod start;
mod storage;
pub mod study;
mod transport;
mod watch;

pub use config::Config;
pub use error::Error;
pub use language_model::LanguageModelConfig;
pub use start::serve;
pub use watch::Watched;
