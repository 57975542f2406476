//! The embedding model: where its files are, what names it, and how it is run.

mod engine;
mod files;
pub(crate) mod hub;

pub(crate) use engine::{EmbeddedQuestion, Embedder, environment};
pub(crate) use files::{DIMENSIONS, Model, cache_folder, library_folder, tokenizer_files};
