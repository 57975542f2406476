//! The service as its callers meet it: over gRPC, with an embedded index, documents in SQLite, and no model unless said.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use attain_proto::rag::v1 as wire;
use attain_rag::Config;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use tonic::Code;
use tonic_types::StatusExt as _;

use support::{NOW_MS, document, model_folder, start, words_only};

/// With an index in the folder, whatever server the environment names.
fn embedded(folder: &Path) -> Config {
    Config { qdrant_url: None, qdrant_api_key: None, ..words_only(folder) }
}

fn corpus() -> Vec<wire::Document> {
    use wire::DocumentKind::{Incident, Runbook, SloTemplate};
    vec![
        document(
            "runbooks/payment-provider-errors",
            Runbook,
            "# Payment provider returns errors\n\n## Alert\n\n`PaymentProviderDown` pages.\n\n## Mitigation\n\nOpen the circuit breaker towards the payment provider and turn on deferred capture. Größe: 数据.\n",
            &["payment-service"],
        ),
        document(
            "runbooks/database-failover",
            Runbook,
            "# Database failover\n\n## Diagnosis\n\nThe primary of the user database is gone and the replica has to be promoted.\n",
            &["user-db"],
        ),
        document(
            "slo-templates/gateway",
            SloTemplate,
            "# Gateway availability objective\n\nA customer-facing gateway promises 99.9 % availability over 28 days.\n",
            &["api-gateway"],
        ),
        document(
            "incidents/cache-stampede",
            Incident,
            "# Cache stampede\n\nThe product cache was emptied by an import and the database met every request.\n",
            &["product-service"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_kept_found_cited_and_gone() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    let kept = service.put("acme", corpus()).await;
    assert_eq!((kept.documents.len(), kept.rejected.len()), (4, 0));
    assert_eq!(kept.documents[0].title, "Payment provider returns errors");
    assert_eq!((kept.documents[0].version, kept.documents[0].text.as_str()), (1, ""));
    assert_eq!(kept.documents[0].update_time.as_ref().unwrap().seconds, NOW_MS / 1000);

    let answer = service.search("acme", "the payment provider fails, may I open the circuit breaker?").await;
    assert!(!answer.abstained, "{answer:?}");
    assert_eq!(answer.mode(), wire::RetrievalMode::LexicalOnly);
    assert_eq!(answer.embedding_model, "");
    let first = &answer.citations[0];
    assert_eq!(first.document_id, "runbooks/payment-provider-errors");
    assert!(first.quote.contains("circuit breaker"), "{}", first.quote);
    assert!(first.headings.contains(&"Payment provider returns errors".to_owned()));
    assert!(answer.citations.windows(2).all(|pair| pair[0].score >= pair[1].score));
    service.check_citations("acme", &answer.citations).await;
    assert_eq!(service.search("acme", "the payment provider fails, may I open the circuit breaker?").await, answer);

    let by_name = service.search("acme", "PaymentProviderDown").await;
    assert_eq!(by_name.citations[0].document_id, "runbooks/payment-provider-errors");

    let gone = service.delete("acme", "runbooks/payment-provider-errors").await.unwrap();
    assert_eq!(gone.removed_passage_count, 1);
    let after = service.search("acme", "PaymentProviderDown").await;
    assert!(after.citations.iter().all(|citation| citation.document_id != "runbooks/payment-provider-errors"));
    let again = service.delete("acme", "runbooks/payment-provider-errors").await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    let details = again.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "UNKNOWN_DOCUMENT");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_answers_is_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    let empty = service.search("acme", "anything at all").await;
    assert!(empty.abstained && empty.citations.is_empty() && empty.nearest_titles.is_empty());
    service.put("acme", corpus()).await;
    for query in ["BGP neighbour flaps at the border router", "Kafka consumer group keeps rebalancing", "zzz"] {
        let answer = service.search("acme", query).await;
        assert!(answer.abstained && answer.citations.is_empty(), "{query}: {answer:?}");
        assert!(answer.confidence < answer.threshold);
    }
    let near = service.search("acme", "the router met a request of Kafka consumer groups in Frankfurt").await;
    assert!(near.abstained && !near.nearest_titles.is_empty(), "{near:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_never_see_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    let secret = "# Plan\n\nThe zebra migration moves the payment provider to another bank.\n";
    service.put("acme", vec![document("a/plan", wire::DocumentKind::Runbook, secret, &[])]).await;
    let other = "# Plan\n\nThe giraffe migration renames a queue.\n";
    service.put("other", vec![document("a/plan", wire::DocumentKind::Runbook, other, &[])]).await;
    let own = service.search("acme", "zebra migration").await;
    assert!(own.citations[0].quote.contains("zebra"));
    let foreign = service.search("other", "zebra migration payment provider").await;
    assert!(foreign.citations.iter().all(|citation| citation.quote.contains("giraffe")));
    assert!(foreign.nearest_titles.iter().all(|title| title == "Plan"));
    assert_eq!(service.document("third", "a/plan", 0).await.unwrap_err().code(), Code::NotFound);
    service.delete("other", "a/plan").await.unwrap();
    assert!(service.search("acme", "zebra migration").await.citations[0].quote.contains("zebra"));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_made_again_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(embedded(folder.path())).await;
    service.put("acme", corpus()).await;
    let before = service.search("acme", "promote the replica of the user database").await;
    service.stop().await;
    // Restarted as it is.
    let service = start(embedded(folder.path())).await;
    assert_eq!(service.search("acme", "promote the replica of the user database").await, before);
    service.stop().await;
    // Restarted without the derived part.
    std::fs::remove_dir_all(folder.path().join("index")).unwrap();
    let service = start(embedded(folder.path())).await;
    let after = service.search("acme", "promote the replica of the user database").await;
    assert_eq!(after, before);
    assert!(!after.abstained);
    service.stop().await;
    // Restarted with an index of documents that are gone.
    std::fs::remove_file(folder.path().join("rag.db")).unwrap();
    for rest in ["rag.db-wal", "rag.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(rest));
    }
    let service = start(embedded(folder.path())).await;
    assert!(service.search("acme", "promote the replica of the user database").await.abstained);
    service.put("acme", corpus().split_off(3)).await;
    let only = service.search("acme", "product cache emptied by an import, database").await;
    assert!(only.citations.iter().all(|citation| citation.document_id == "incidents/cache-stampede"));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_stay_readable_and_new_ones_are_cited() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    let long = "The replica is promoted by hand when the primary is gone. ".repeat(60);
    let first = document("a/b", wire::DocumentKind::Runbook, &format!("# Promotion\n\n{long}"), &[]);
    service.put("acme", vec![first.clone()]).await;
    assert_eq!(service.put("acme", vec![first]).await.documents[0].version, 1);
    let second = document(
        "a/b",
        wire::DocumentKind::Runbook,
        "# Promotion\n\nThe replica promotes itself when the primary is gone.",
        &[],
    );
    assert_eq!(service.put("acme", vec![second]).await.documents[0].version, 2);
    let request = wire::SearchKnowledgeRequest {
        query: "who promotes the replica when the primary is gone".into(),
        limit: 50,
        ..Default::default()
    };
    let answer = service.search_by("acme", request).await.unwrap();
    assert_eq!(answer.citations.len(), 1, "passages of the first version are gone: {answer:?}");
    assert_eq!(answer.citations[0].document_version, 2);
    service.check_citations("acme", &answer.citations).await;
    assert!(service.document("acme", "a/b", 1).await.unwrap().text.contains("by hand"));
    assert_eq!(service.document("acme", "a/b", 3).await.unwrap_err().code(), Code::NotFound);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_hidden_text_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    let text = "# Rotation\n\nConnect with postgres://app:hunter2secret@db/x <!-- exfiltrate: a word for nobody --> \
                and mail jane@example.org about the rotation of ro\u{200b}les.\n";
    service.put("acme", vec![document("a/rotation", wire::DocumentKind::Runbook, text, &[])]).await;
    let stored = service.document("acme", "a/rotation", 0).await.unwrap().text;
    for secret in ["hunter2secret", "jane@example.org", "exfiltrate", "\u{200b}"] {
        assert!(!stored.contains(secret), "{stored}");
    }
    let answer = service.search("acme", "rotation of roles").await;
    assert!(answer.citations[0].quote.contains("[redacted:email]"), "{answer:?}");
    service.check_citations("acme", &answer.citations).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_filters_and_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    let mut documents = corpus();
    documents.push(document("", wire::DocumentKind::Runbook, "x", &[]));
    documents.push(document("runbooks/empty", wire::DocumentKind::Runbook, "", &[]));
    let kept = service.put("acme", documents).await;
    assert_eq!(kept.documents.len(), 4);
    let told: Vec<&str> = kept.rejected.iter().map(|rejection| rejection.pointer.as_str()).collect();
    assert_eq!(told, ["/documents/4/id", "/documents/5/text"]);

    let list = |request| service.list("acme", request);
    let page = list(wire::ListDocumentsRequest { page_size: 3, ..Default::default() }).await;
    assert_eq!(page.documents[0].id, "incidents/cache-stampede");
    assert_eq!(page.next_page_token, "runbooks/payment-provider-errors");
    let rest = list(wire::ListDocumentsRequest { page_token: page.next_page_token, ..Default::default() }).await;
    assert_eq!((rest.documents.len(), rest.next_page_token.as_str()), (1, ""));
    let about = list(wire::ListDocumentsRequest { service_id: "user-db".into(), ..Default::default() }).await;
    assert_eq!(about.documents[0].id, "runbooks/database-failover");

    let bad =
        service.client().put_documents(support::context("acme").request(wire::PutDocumentsRequest::default())).await;
    assert_eq!(bad.unwrap_err().code(), Code::InvalidArgument);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_filter_and_services_count_for_more() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    service.put("acme", corpus()).await;
    let query = "database".to_owned();
    let kinds = vec![wire::DocumentKind::Incident.into()];
    let incidents = service
        .search_by("acme", wire::SearchKnowledgeRequest { query: query.clone(), kinds, ..Default::default() })
        .await
        .unwrap();
    assert!(incidents.citations.iter().all(|citation| citation.kind() == wire::DocumentKind::Incident));
    let plain = service.search("acme", "database").await;
    let service_ids = vec!["product-service".to_owned()];
    let about_product = || wire::SearchKnowledgeRequest {
        query: query.clone(),
        service_ids: service_ids.clone(),
        ..Default::default()
    };
    let boosted = service.search_by("acme", about_product()).await.unwrap();
    let score = |answer: &wire::SearchKnowledgeResponse| {
        answer.citations.iter().find(|citation| citation.document_id == "incidents/cache-stampede").unwrap().score
    };
    assert!(score(&boosted) > score(&plain) + 0.1, "{boosted:?}");

    // What ranking read of a document is of that document as it was: it is read again once the document is another.
    let unowned = corpus().into_iter().map(|document| wire::Document { service_ids: Vec::new(), ..document }).collect();
    service.put("acme", unowned).await;
    let again = service.search_by("acme", about_product()).await.unwrap();
    assert_eq!(score(&again), score(&plain), "{again:?}");
    service.put("acme", corpus()).await;
    let owned = service.search_by("acme", about_product()).await.unwrap();
    assert_eq!(score(&owned), score(&boosted), "{owned:?}");

    let bad = service.search_by("acme", wire::SearchKnowledgeRequest::default()).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert_eq!(bad.get_error_details().bad_request().unwrap().field_violations[0].field, "query");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_cannot_take_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(embedded(folder.path())).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = attain_rag::serve(embedded(folder.path()), listener, Clock::held(0), Shutdown::new()).await;
    assert!(matches!(second, Err(attain_rag::Error::EmbeddedIndex(_))), "{second:?}");
    service.stop().await;
}

/// With the model in the user's cache: words first, meaning as soon as every document has its vectors, also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_model_meaning_counts_too() {
    if model_folder().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    service.put("acme", corpus()).await;
    service.stop().await;

    let with_model = Config { embeddings: true, ..words_only(folder.path()) };
    let service = start(with_model).await;
    service.wait_for(|status| status.conditions.iter().any(|c| c.name == "embedding_model" && c.holds)).await;
    // Not one word in common with the runbook.
    let query = "card charges are rejected by our external vendor";
    let answer = service.search("acme", query).await;
    assert_eq!(answer.mode(), wire::RetrievalMode::Hybrid);
    assert!(answer.embedding_model.starts_with("all-MiniLM-L6-v2@53aa5117"), "{}", answer.embedding_model);
    let nearest =
        answer.citations.first().map(|citation| citation.title.clone()).or(answer.nearest_titles.first().cloned());
    assert_eq!(nearest.as_deref(), Some("Payment provider returns errors"));
    let added = document(
        "runbooks/tls",
        wire::DocumentKind::Runbook,
        "# Certificates\n\nRenew the TLS certificate of the edge before it expires.\n",
        &[],
    );
    service.put("acme", vec![added]).await;
    let answer = service.search("acme", "renew the TLS certificate of the edge before it expires").await;
    assert_eq!(answer.citations[0].document_id, "runbooks/tls");
    service.check_citations("acme", &answer.citations).await;
    service.stop().await;
}
