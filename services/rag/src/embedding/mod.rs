//! The embedding model: where its files are, what names it, and how it is run.

mod engine;
mod files;

pub(crate) use engine::{EmbeddedQuestion, Embedder, environment};
pub(crate) use files::{DIMENSIONS, GRAPH_SHA256, LIBRARY_FILE, Model, WEIGHTS_SHA256, cache_folder, tokenizer_files};
