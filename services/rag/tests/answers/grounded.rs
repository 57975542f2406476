//! What is said without a language model.

use attain_proto::rag::v1 as wire;
use attain_rag::LanguageModelConfig;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{QUESTION, question, start};

#[tokio::test]
async fn a_question_is_answered_in_cited_sentences() {
    let service = start(LanguageModelConfig::default()).await;
    let answer = service.ask(question(QUESTION)).await.unwrap();
    service.check(&answer).await;
    assert_ne!(answer.strength(), wire::EvidenceStrength::Abstained);
    assert!((answer.confidence >= answer.threshold) && answer.threshold <= answer.strong_threshold);
    assert!(answer.sentences.len() <= 8 && answer.nearest_titles.is_empty() && !answer.passages.is_empty());
    assert!(answer.sentences.len() >= 3, "{answer:#?}");
    // It asks for both.
    let says = |answer: &wire::AnswerQuestionResponse, part: &str| {
        answer.sentences.iter().any(|sentence| sentence.text.contains(part))
    };
    let few = service.ask(wire::AnswerQuestionRequest { limit: 3, ..question(QUESTION) }).await.unwrap();
    for answer in [&answer, &few] {
        let deferred = "Turn on deferred capture if the outage is expected to last more than 10 minutes";
        assert!(says(answer, deferred), "{answer:#?}");
        assert!(says(answer, "the circuit breaker should open by itself"), "{answer:#?}");
    }
    assert_eq!(answer.mode(), wire::RetrievalMode::LexicalOnly);
    let usage = answer.language_model.clone().unwrap();
    assert!(!usage.asked && !usage.used && usage.reason.contains("not asked for"), "{usage:?}");
    // What one document says stands in its order.
    let mut last: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
    for cited in answer.sentences.iter().map(|sentence| &sentence.citations[0]) {
        let before = last.insert(&cited.document_id, cited.start_offset);
        assert!(before.is_none_or(|before| before <= cited.start_offset), "{answer:#?}");
    }
    assert_eq!(service.ask(question(QUESTION)).await.unwrap(), answer, "the same question, the same answer");
    service.stop().await;
}

#[tokio::test]
async fn an_alert_is_explained_and_few_sentences_are_enough() {
    let service = start(LanguageModelConfig::default()).await;
    let limited = wire::AnswerQuestionRequest { limit: 2, ..question("what does PaymentProviderErrorRateHigh mean") };
    let answer = service.ask(limited).await.unwrap();
    service.check(&answer).await;
    assert!(answer.sentences.len() <= 2);
    let opens = |sentence: &wire::AnswerSentence| {
        sentence.text.starts_with("`PaymentProviderErrorRateHigh` pages when more than 5 %")
    };
    assert!(answer.sentences.iter().any(opens), "{answer:#?}");
    assert_eq!(answer.strength(), wire::EvidenceStrength::Answered);
    service.stop().await;
}

#[tokio::test]
async fn where_nothing_answers_the_nearest_titles_are_not_used() {
    let service = start(LanguageModelConfig::default()).await;
    let answer = service.ask(question("Ceph OSD near full and placement groups degraded")).await.unwrap();
    assert_eq!(answer.strength(), wire::EvidenceStrength::Abstained);
    assert!(answer.sentences.is_empty() && answer.passages.is_empty() && answer.confidence < answer.threshold);
    assert!(answer.nearest_titles.iter().all(|near| !near.used && !near.title.is_empty()));
    let search = wire::SearchKnowledgeRequest {
        query: "Ceph OSD near full and placement groups degraded".into(),
        ..Default::default()
    };
    let found = service.service.search_by("acme", search).await.unwrap();
    assert_eq!((found.strength(), found.abstained), (wire::EvidenceStrength::Abstained, true));
    assert!(found.strong_threshold >= found.threshold);
    service.stop().await;
}

#[tokio::test]
async fn rows_commands_and_files_are_quoted_where_they_stand() {
    let service = start(LanguageModelConfig::default()).await;
    let rules = "groups:\n- name: zebra\n  rules:\n  - alert: ZebraQueueStuck\n    expr: zebra_queue_depth > 5000\n    for: 10m\n";
    let table = "# Zebra retention\n\n| zebra dataset | kept for |\n|---|---|\n| raw stripes | 14 days |\n| zebra herds | 400 days |\n\n\
        ```sh\nzebractl prune --older-than 14d\n```\n";
    service
        .service
        .put(
            "acme",
            vec![
                wire::Document { id: "rules/zebra.yaml".into(), text: rules.into(), ..Default::default() },
                wire::Document {
                    id: "runbooks/ZebraHerdRetention.md".into(),
                    text: table.into(),
                    ..Default::default()
                },
            ],
        )
        .await;
    let answer = service.ask(question("ZebraQueueStuck")).await.unwrap();
    service.check(&answer).await;
    let quoted = answer.sentences.iter().find(|sentence| sentence.text.contains("ZebraQueueStuck")).unwrap();
    assert!(quoted.quoted);
    assert_eq!(quoted.text, "- alert: ZebraQueueStuck\n  expr: zebra_queue_depth > 5000\n  for: 10m");
    let answer = service.ask(question("ZebraHerdRetention: how long are zebra herds kept for")).await.unwrap();
    service.check(&answer).await;
    let row = answer.sentences.iter().find(|sentence| sentence.text.contains("herds")).unwrap();
    assert_eq!(row.text, "zebra dataset: zebra herds; kept for: 400 days");
    assert!(row.table_row);
    let quotes: Vec<&str> = row.citations.iter().map(|cited| cited.quote.as_str()).collect();
    assert_eq!(quotes, ["| zebra dataset | kept for |", "| zebra herds | 400 days |"]);
    service.stop().await;
}

#[tokio::test]
async fn a_bad_question_is_refused_by_field() {
    let service = start(LanguageModelConfig::default()).await;
    for (field, request) in [
        ("question", question(" ")),
        ("limit", wire::AnswerQuestionRequest { limit: 21, ..question("x") }),
        ("phrasing", wire::AnswerQuestionRequest { phrasing: 7, ..question("x") }),
    ] {
        let status = service.ask(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
    }
    service.stop().await;
}
