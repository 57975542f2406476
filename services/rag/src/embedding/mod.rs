//! The embedding model: where its files are, what names it, and how it is run.

mod engine;
mod files;

pub(crate) use engine::{EmbeddedQuestion, Embedder, environment};
pub(crate) use files::{DIMENSIONS, LIBRARY_FILE, Model, cache_folder, tokenizer_files};
