//! Answers in sentences as their callers meet them: over gRPC, out of the demo's documents, with and without a language model.
#![allow(clippy::unwrap_used)]

mod choice;
mod endpoint;
mod grounded;
mod reworded;
#[path = "../support/mod.rs"]
mod support;

use attain_proto::rag::v1 as wire;
use attain_rag::{Config, LanguageModelConfig};
use tempfile::TempDir;

use support::{Running, demo, words_only};

/// Finds the runbook on errors of the payment provider.
const QUESTION: &str = "how to mitigate errors of the payment provider: circuit breaker and deferred capture";

/// A service with the demo's documents.
struct Scene {
    service: Running,
    _folder: TempDir,
}

async fn start(language_model: LanguageModelConfig) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let service = support::start(Config { language_model, ..words_only(folder.path()) }).await;
    let kept = service.put("acme", demo()).await;
    assert!(kept.rejected.is_empty(), "{:?}", kept.rejected);
    Scene { service, _folder: folder }
}

fn question(text: &str) -> wire::AnswerQuestionRequest {
    wire::AnswerQuestionRequest { question: text.to_owned(), ..Default::default() }
}

impl Scene {
    async fn ask(&self, request: wire::AnswerQuestionRequest) -> Result<wire::AnswerQuestionResponse, tonic::Status> {
        self.service.answer("acme", request).await
    }

    /// Every place of every sentence, read again out of the stored document.
    async fn check(&self, answer: &wire::AnswerQuestionResponse) {
        for sentence in &answer.sentences {
            assert!(!sentence.citations.is_empty(), "{sentence:?}");
            assert!(sentence.citations.iter().all(|cited| cited.score > 0.0), "{sentence:?}");
            let places: Vec<wire::Citation> = sentence.citations.iter().map(place).collect();
            self.service.check_citations("acme", &places).await;
        }
    }

    async fn stop(self) {
        self.service.stop().await;
    }
}

/// A place of a sentence as a passage.
fn place(cited: &wire::SentenceCitation) -> wire::Citation {
    wire::Citation {
        document_id: cited.document_id.clone(),
        document_version: cited.document_version,
        title: cited.title.clone(),
        start_offset: cited.start_offset,
        end_offset: cited.end_offset,
        quote: cited.quote.clone(),
        quote_sha256: cited.quote_sha256.clone(),
        ..Default::default()
    }
}
