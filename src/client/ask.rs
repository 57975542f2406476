//! A question to the documents, answered in sentences.

use clap::Args;
use serde_json::json;

use super::request::Request;
use super::words::{DocumentKind, word};

#[derive(Debug, Clone, Args)]
pub(crate) struct Ask {
    /// The question.
    question: String,
    /// A service whose documents count for more; may be repeated.
    #[arg(long = "service-id", value_name = "SERVICE")]
    service_ids: Vec<String>,
    /// Only documents of this kind; may be repeated.
    #[arg(long = "kind", value_enum)]
    kinds: Vec<DocumentKind>,
    /// At most this many sentences, 1 to 20.
    #[arg(long)]
    limit: Option<u32>,
    /// Let the language model word the sentences, where one is configured; what it changes is not used.
    #[arg(long)]
    rephrase: bool,
}

impl Ask {
    /// The request that the question becomes.
    pub(crate) fn request(self) -> Request {
        let kinds: Vec<String> = self.kinds.into_iter().filter_map(word).collect();
        let mut asked = json!({
            "question": self.question,
            "service_ids": self.service_ids,
            "kinds": kinds,
            "phrasing": if self.rephrase { "rephrased" } else { "deterministic" },
        });
        if let Some(limit) = self.limit {
            asked["limit"] = limit.into();
        }
        Request::post("/api/v1/knowledge/answers", &asked)
    }
}
