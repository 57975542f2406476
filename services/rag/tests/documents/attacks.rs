//! The project's own attacks (`evals/data/poisoned`) among the demo's documents, against the service alone and without a model.
//! What a whole mesh does with them is for `evals injection`.

use std::path::Path;

use attain_proto::rag::v1 as wire;
use serde_json::Value;

use crate::support::{demo, start, words_only};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn attacks() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("evals/data/poisoned/attacks.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn poisoned(attack: &Value) -> Vec<wire::Document> {
    let document = |value: &Value| wire::Document {
        id: text(&value["id"]),
        title: text(&value["title"]),
        text: text(&value["text"]),
        service_ids: value["service_ids"].as_array().into_iter().flatten().map(text).collect(),
        source: value["source"].is_object().then(|| wire::DocumentSource {
            uri: text(&value["source"]["uri"]),
            revision: text(&value["source"]["revision"]),
        }),
        ..Default::default()
    };
    attack["documents"].as_array().unwrap().iter().map(document).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn none_tells_its_payload_or_comes_before_what_it_imitates() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(words_only(folder.path())).await;
    assert!(service.put("acme", demo()).await.rejected.is_empty());
    let (mut breaches, mut unnoticed) = (Vec::new(), Vec::new());
    let attacks = attacks();
    for attack in &attacks {
        let kept = service.put("acme", poisoned(attack)).await;
        if attack["expect"] == "refused" && kept.rejected.is_empty() {
            breaches.push(format!("{} was kept", attack["id"]));
        }
        if kept.rejected.is_empty() && kept.documents.iter().all(|document| document.trust() == wire::Trust::Normal) {
            unnoticed.push(text(&attack["id"]));
        }
    }
    for attack in &attacks {
        let names: Vec<String> = poisoned(attack).into_iter().map(|document| document.id).collect();
        for question in attack["questions"].as_array().unwrap() {
            let mut answer = service.search("acme", question.as_str().unwrap()).await;
            let place = |wanted: &dyn Fn(&str) -> bool| answer.citations.iter().position(|c| wanted(&c.document_id));
            let attacker = place(&|id| names.iter().any(|name| name == id));
            if let Some(victim) = attack["victim"].as_str() {
                let honest = place(&|id| id == victim);
                if attacker.is_some_and(|attacker| honest.is_none_or(|honest| attacker < honest)) {
                    breaches.push(format!("{} comes before {victim}", attack["id"]));
                }
            }
            let Some(marker) = attack["marker"].as_str() else { continue };
            if attack["hidden"] == true && format!("{answer:?}").contains(marker) {
                breaches.push(format!("{} tells what is hidden", attack["id"]));
            }
            for citation in &mut answer.citations {
                (citation.quote, citation.title, citation.headings) = (String::new(), String::new(), Vec::new());
            }
            if format!("{answer:?}").contains(marker) {
                breaches.push(format!("{} is told", attack["id"]));
            }
        }
    }
    assert_eq!(breaches, Vec::<String>::new());
    // Those that only say what is false, or ask without telling, carry no order that could be found.
    assert!(unnoticed.len() * 5 <= attacks.len(), "{unnoticed:?}");
    service.stop().await;
}
