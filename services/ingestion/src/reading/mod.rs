//! What is read in several steps: histories streamed in chunks, changes as they come, sums over days. Each chunk is read
//! when the reader has taken the one before, so a slow reader costs no memory.

mod changes;
mod history;
mod utilisation;

pub(crate) use changes::{FollowFrom, follow_changes};
pub(crate) use history::{HistoryChunk, HistoryQuestion, stream_history};
pub(crate) use utilisation::utilisation_summaries;
