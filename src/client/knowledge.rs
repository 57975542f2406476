//! Folders of documents, ratings of citations and the state of the index on the command line.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::request::Request;
use super::words::word;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KnowledgeCommand {
    /// Brings the documents level with a folder or a checkout: sends what changed and, where asked to, removes what is gone.
    #[command(after_help = "Example:\n  attain knowledge sync ./runbooks --prefix shop/ --delete-missing")]
    Sync {
        /// The folder.
        folder: PathBuf,
        /// Put before the names of its files.
        #[arg(long, default_value = "")]
        prefix: String,
        /// Remove documents whose files are gone; never most of them at once.
        #[arg(long)]
        delete_missing: bool,
        /// Remove them even if they are most of all.
        #[arg(long, requires = "delete_missing")]
        allow_emptied: bool,
        /// Go on looking until stopped.
        #[arg(long)]
        watch: bool,
        /// Seconds between two looks, 1 to 86,400.
        #[arg(long, default_value_t = 10, requires = "watch", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        interval_seconds: u64,
    },
    /// Compares the index with the documents and puts right what differs.
    #[command(after_help = "Example:\n  attain knowledge reconcile")]
    Reconcile,
    /// Says whether a citation helped; document, version, offsets and hash are those of the citation.
    #[command(
        after_help = "Example:\n  attain knowledge rate runbooks/retry-storm.md unhelpful --version 2 --start 120 --end 480 --quote-sha256 HASH --reason \"the breaker is gone\""
    )]
    Rate {
        /// The document cited.
        document_id: String,
        /// How good it was.
        #[arg(value_enum)]
        rating: Rating,
        /// Its version.
        #[arg(long)]
        version: u32,
        /// First character of the passage.
        #[arg(long)]
        start: u32,
        /// One past the last character.
        #[arg(long)]
        end: u32,
        /// SHA-256 of the quote.
        #[arg(long)]
        quote_sha256: String,
        /// Why; needed unless it was helpful.
        #[arg(long, default_value = "")]
        reason: String,
        /// The question that it was cited for; kept as a hash only.
        #[arg(long, default_value = "")]
        question: String,
    },
    /// Lists what was said of citations, oldest first.
    #[command(after_help = "Example:\n  attain knowledge ratings --document-id runbooks/retry-storm.md")]
    Ratings {
        /// Only of this document.
        #[arg(long)]
        document_id: Option<String>,
        /// At most this many.
        #[arg(long)]
        page_size: Option<u32>,
        /// Where the previous page ended.
        #[arg(long)]
        page_token: Option<String>,
    },
}

/// How good a citation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rating {
    Helpful,
    Unhelpful,
    Wrong,
}

impl KnowledgeCommand {
    /// The request that it becomes. A synchronisation is many; see `sync`.
    pub(super) fn request(self) -> anyhow::Result<Request> {
        Ok(match self {
            Self::Sync { .. } => anyhow::bail!("a synchronisation is not one request"),
            Self::Reconcile => Request::post("/api/v1/knowledge/reconciliation", &json!({})),
            Self::Rate { document_id, rating, version, start, end, quote_sha256, reason, question } => {
                let body = json!({
                    "document_id": document_id,
                    "document_version": version,
                    "start_offset": start,
                    "end_offset": end,
                    "quote_sha256": quote_sha256,
                    "rating": word(rating).map(Value::from),
                    "reason": reason,
                    "question": question,
                });
                Request::post("/api/v1/knowledge/ratings", &body)
            }
            Self::Ratings { document_id, page_size, page_token } => Request::get("/api/v1/knowledge/ratings")
                .with("document_id", document_id)
                .with("page_size", page_size)
                .with("page_token", page_token),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rating_sends_the_whole_citation() {
        let command = KnowledgeCommand::Rate {
            document_id: "a/b".into(),
            rating: Rating::Wrong,
            version: 2,
            start: 3,
            end: 9,
            quote_sha256: "ab".into(),
            reason: "gone".into(),
            question: String::new(),
        };
        let request = command.request().expect("one request");
        assert_eq!(request.path, "/api/v1/knowledge/ratings");
        let body: Value = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
        assert_eq!(
            (&body["rating"], &body["document_version"], &body["end_offset"]),
            (&json!("wrong"), &json!(2), &json!(9))
        );
    }
}
