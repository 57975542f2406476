//! What is streamed: histories in chunks, changes as they come. Each chunk is read when the reader has taken the one
//! before, so a slow reader costs no memory.

mod changes;
mod history;

pub(crate) use changes::follow_changes;
pub(crate) use history::{HistoryChunk, HistoryQuestion, stream_history};
