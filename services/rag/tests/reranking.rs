//! A genuine cross-encoder, small enough to be kept here (`tests/data/reranker`), puts the first passages into its own order; where it
//! cannot, the fused order stands and the answer says why.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use attain_proto::rag::v1 as wire;
use attain_rag::Config;
use tempfile::TempDir;

use support::{Running, document, model_folder, start_unready, words_only};

const QUERY: &str = "standby promotion after the primary disk is lost";

/// The kept graph beside the published model's tokeniser and library.
fn reranker(published: &Path) -> TempDir {
    let folder = tempfile::Builder::new().prefix("overlap-").tempdir().unwrap();
    for file in
        ["tokenizer.json", "config.json", "special_tokens_map.json", "tokenizer_config.json", "libonnxruntime.so"]
    {
        let target = published.join(file).canonicalize().unwrap();
        std::os::unix::fs::symlink(target, folder.path().join(file)).unwrap();
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reranker/model.onnx");
    std::fs::copy(kept, folder.path().join("model.onnx")).unwrap();
    folder
}

/// The fused order likes the title that repeats the question's rarest word; only the other says all that is asked.
fn corpus() -> Vec<wire::Document> {
    let named = "# Standby\n\nStandby, standby, standby: the standby of the standby.\n";
    let saying = "# Database notes\n\nPromotion of the standby after the disk of the primary is lost takes a minute.\n";
    let far = "# Cache\n\nThe cache is emptied at night.\n";
    [("a/standby", named), ("b/notes", saying), ("c/cache", far)]
        .map(|(id, text)| document(id, wire::DocumentKind::Runbook, text, &[]))
        .into()
}

async fn started(folder: &Path, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = words_only(folder);
    change(&mut config);
    let service = start_unready(config).await;
    service
        .wait_for(|status| status.conditions.iter().any(|c| c.name == "embedding_model" && c.detail.contains("off")))
        .await;
    service.put("acme", corpus()).await;
    service
}

async fn ask(service: &Running, limit: u32) -> wire::SearchKnowledgeResponse {
    let request =
        wire::SearchKnowledgeRequest { query: QUERY.into(), limit, include_unsure: true, ..Default::default() };
    service.search_by("acme", request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_unless_configured() {
    let folder = tempfile::tempdir().unwrap();
    let service = started(folder.path(), |_| {}).await;
    let answer = ask(&service, 5).await;
    assert_eq!((answer.reranking(), answer.reranking_model.as_str()), (wire::Reranking::Off, ""));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cross_encoder_orders_the_first_passages() {
    let Some(published) = model_folder() else { return };
    let model = reranker(&published);
    let folder = tempfile::tempdir().unwrap();
    let service = started(folder.path(), |config| {
        config.reranker_dir = Some(model.path().to_owned());
        config.reranker_timeout_ms = 10_000;
    })
    .await;
    let answer = ask(&service, 5).await;
    assert_eq!(answer.reranking(), wire::Reranking::Applied);
    assert!(answer.reranking_model.starts_with("overlap-"), "{}", answer.reranking_model);
    assert_eq!(answer.citations[0].document_id, "b/notes");
    assert!(answer.citations.windows(2).all(|pair| pair[0].score >= pair[1].score), "{answer:?}");
    // It reads more than is asked for.
    assert_eq!(ask(&service, 1).await.citations[0].document_id, "b/notes");
    // A baseline stays a baseline.
    let words = wire::SearchKnowledgeRequest {
        query: QUERY.into(),
        strategy: wire::SearchStrategy::LexicalOnly.into(),
        include_unsure: true,
        ..Default::default()
    };
    assert_eq!(service.search_by("acme", words).await.unwrap().reranking(), wire::Reranking::Off);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_loaded_is_named_and_the_fused_order_stands() {
    let folder = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let service = started(folder.path(), |config| config.reranker_dir = Some(empty.path().to_owned())).await;
    let answer = ask(&service, 5).await;
    assert_eq!((answer.reranking(), answer.reranking_model.as_str()), (wire::Reranking::Failed, ""));
    let plain = tempfile::tempdir().unwrap();
    let without = started(plain.path(), |_| {}).await;
    let ids = |answer: wire::SearchKnowledgeResponse| -> Vec<String> {
        answer.citations.into_iter().map(|citation| citation.document_id).collect()
    };
    assert_eq!(ids(answer), ids(ask(&without, 5).await));
    service.stop().await;
    without.stop().await;
}
