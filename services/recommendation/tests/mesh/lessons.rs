use std::sync::atomic::Ordering;

use attain_proto::convert::timestamp;
use attain_proto::ingestion::v1::Incident;
use attain_proto::rag::v1::{Document, DocumentSource};
use attain_proto::recommendation::v1 as wire;

use crate::harness::{Mesh, PATIENCE};
use crate::world::{INCIDENT, NOW_MS};

fn outage(summary: &str) -> Incident {
    Incident {
        id: "INC-7".into(),
        title: "Provider is down".into(),
        service_ids: vec!["payment".into()],
        start_time: Some(timestamp(NOW_MS - 7_200_000)),
        end_time: Some(timestamp(NOW_MS - 3_600_000)),
        summary: summary.into(),
        exclusion_by: "jane".into(),
        ..Incident::default()
    }
}

/// Waits until the documents are as expected.
async fn until(mesh: &Mesh, expected: impl Fn(&std::collections::BTreeMap<String, Document>) -> bool) {
    let reached = async {
        while !expected(&mesh.world.documents.lock().unwrap()) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the documents get there");
}

fn tell(mesh: &Mesh, incidents: Vec<Incident>) {
    *mesh.world.incidents.lock().unwrap() = incidents;
    mesh.world.touch("default", "payment", INCIDENT);
}

#[tokio::test]
async fn incidents_become_documents_and_follow_what_ingestion_tells() {
    let mut mesh = Mesh::keeping_lessons().await;
    let by_hand = Document { id: "incidents/by-hand".into(), text: "mine".into(), ..Document::default() };
    mesh.world.documents.lock().unwrap().insert(by_hand.id.clone(), by_hand.clone());
    tell(&mesh, vec![outage("It answered 503."), Incident { id: "by-hand".into(), ..outage("no") }]);
    until(&mesh, |kept| kept.get("incidents/INC-7").is_some_and(|document| document.text.contains("answered 503")))
        .await;
    let kept = mesh.world.documents.lock().unwrap().clone();
    assert_eq!(kept["incidents/by-hand"], by_hand, "what a person wrote is left alone");
    assert!(!kept["incidents/INC-7"].text.contains("jane"));

    tell(&mesh, vec![outage("It answered 504.")]);
    until(&mesh, |kept| kept["incidents/INC-7"].text.contains("answered 504")).await;
    // What is said while knowledge is away, and before a new start, is made good.
    mesh.world.knowledge_down.store(true, Ordering::SeqCst);
    tell(&mesh, Vec::new());
    mesh.restart().await;
    mesh.world.knowledge_down.store(false, Ordering::SeqCst);
    until(&mesh, |kept| !kept.contains_key("incidents/INC-7") && kept.contains_key("incidents/by-hand")).await;
}

#[tokio::test]
async fn reasons_of_decisions_become_lessons() {
    let mesh = Mesh::keeping_lessons().await;
    let stray = Document {
        id: "lessons/decision-of-nobody".into(),
        source: Some(DocumentSource { uri: "attain:decisions/decision-of-nobody".into(), revision: "1".into() }),
        ..Document::default()
    };
    mesh.world.documents.lock().unwrap().insert(stray.id.clone(), stray);
    let recommendation = mesh.recommend("checkout").await;
    let reject = wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: wire::DecisionAction::Reject as i32,
        recommendation_id: recommendation.id,
        reason: "too loose for the contract".into(),
        ..wire::DecideSloRequest::default()
    };
    let decided = mesh.decide(reject).await.unwrap().decision.unwrap();
    let id = format!("lessons/{}", decided.id);
    until(&mesh, |kept| kept.contains_key(&id) && !kept.contains_key("lessons/decision-of-nobody")).await;
    let lesson = mesh.world.documents.lock().unwrap()[&id].clone();
    assert!(lesson.text.contains("was rejected") && lesson.text.contains("too loose for the contract"), "{lesson:?}");
    assert_eq!(lesson.service_ids, ["checkout"]);
    assert!(decided.decided_by.is_empty() || !lesson.text.contains(&decided.decided_by), "{lesson:?}");
}
