//! What is read in several steps: histories streamed in chunks, changes as they come, sampled requests of many services, sums over days. Each chunk is read
//! when the reader has taken the one before, so a slow reader costs no memory.

mod changes;
mod history;
mod regions;
mod request_samples;
mod utilisation;

pub(crate) use changes::{FollowFrom, follow_changes};
pub(crate) use history::{Held, HistoryChunk, HistoryQuestion, stream_history};
pub(crate) use regions::{RegionalChunk, region_page, stream_regional};
pub(crate) use request_samples::sampled_requests;
#[cfg(test)]
pub(crate) use request_samples::wire_bytes;
pub(crate) use utilisation::utilisation_summaries;
