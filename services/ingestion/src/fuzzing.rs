//! The decoders of this crate, open to `fuzz/`: each takes any bytes and must neither panic nor break its promise. Only
//! behind the feature `fuzzing`.

pub use crate::catalogue::fuzzing::catalogue_page;
pub use crate::imports::fuzzing::{import, webhook_signature};
pub use crate::otlp::fuzzing::{metrics, metrics_json, span_row, traces, traces_json};
pub use crate::prometheus::fuzzing::{prometheus_answer, prometheus_mapping};
pub use crate::storage::fuzzing::{block, stored_records};
pub use crate::transport::fuzzing::page_tokens;
