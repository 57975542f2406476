//! The audit log over gRPC: who decided what, who read what, and how tampering shows.

use std::collections::BTreeSet;
use std::process::Command;

use attain_proto::convert::unix_millis;
use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::DecisionAction as Action;
use attain_recommendation::audit::{Anchor, BrokenChain, Encoding, Entry, Record, Verified, Verifier};
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::harness::Mesh;
use crate::world::NOW_MS;

fn request(action: Action, recommendation_id: &str) -> wire::DecideSloRequest {
    wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: action as i32,
        recommendation_id: recommendation_id.into(),
        ..wire::DecideSloRequest::default()
    }
}

fn record(wire: wire::AuditRecord) -> Record {
    let entry = Entry {
        time_ms: unix_millis(&wire.time.unwrap()),
        caller: wire.caller,
        action: wire.action,
        service_id: wire.service_id,
        detail_json: wire.detail_json,
    };
    Record {
        tenant_id: wire.tenant_id,
        sequence: wire.sequence,
        entry,
        previous_sha256: wire.previous_sha256,
        sha256: wire.sha256,
        encoding: Encoding::from_number(wire.encoding).unwrap(),
    }
}

async fn whole_log(mesh: &Mesh) -> Vec<Record> {
    mesh.audit_records(false).await.into_iter().map(record).collect()
}

async fn head(mesh: &Mesh) -> Anchor {
    let head = mesh.client.clone().get_audit_head(wire::GetAuditHeadRequest {}).await.unwrap().into_inner();
    assert_eq!(head.tenant_id, "default");
    Anchor { sequence: head.sequence, sha256: head.sha256 }
}

fn verify(records: &[Record], head: Anchor) -> Result<Verified, BrokenChain> {
    let mut verifier = Verifier::new(Anchor::genesis(), vec![head])?;
    records.iter().try_for_each(|record| verifier.check(record))?;
    verifier.finish()
}

fn broken_at(records: &[Record], head: &Anchor) -> Option<u64> {
    verify(records, head.clone()).err().map(|broken| broken.sequence)
}

fn detail(record: &Record) -> Value {
    serde_json::from_str(&record.entry.detail_json).unwrap()
}

#[tokio::test]
async fn the_audit_log_holds_together_and_shows_what_was_changed() {
    let mesh = Mesh::start().await;
    assert_eq!(head(&mesh).await, Anchor::genesis());
    let id = mesh.recommend("checkout").await.id;
    mesh.decide(request(Action::Accept, &id)).await.unwrap();
    mesh.decide(wire::DecideSloRequest { reason: "no".into(), ..request(Action::Reject, &id) }).await.unwrap();
    mesh.declare("auth", 0.99).await;
    let decided: Vec<Record> = mesh.audit().await.into_iter().map(record).collect();
    let actions: Vec<&str> = decided.iter().map(|record| record.entry.action.as_str()).collect();
    assert_eq!(actions, ["recommendation.created", "slo.accepted", "slo.rejected", "slo.declared"]);
    assert_eq!(detail(&decided[1])["recommendation_id"].as_str(), Some(id.as_str()));
    assert_eq!(detail(&decided[1])["slo_version"].as_u64(), Some(1));
    let only = wire::ListAuditRecordsRequest {
        service_id: "auth".into(),
        without_reads: true,
        ..wire::ListAuditRecordsRequest::default()
    };
    assert_eq!(mesh.client.clone().list_audit_records(only).await.unwrap().into_inner().records.len(), 1);
    let end = head(&mesh).await;
    assert!(verify(&whole_log(&mesh).await, end.clone()).is_ok());
    let rejected = decided[2].sequence;
    mesh.tamper(
        "UPDATE audit SET detail_json = replace(detail_json, '\"no\"', '\"yes\"') WHERE action = 'slo.rejected'",
    )
    .await;
    assert_eq!(broken_at(&whole_log(&mesh).await, &end), Some(rejected));
    mesh.tamper("DELETE FROM audit WHERE action = 'slo.rejected'").await;
    assert_eq!(broken_at(&whole_log(&mesh).await, &end), Some(rejected));
}

#[tokio::test]
async fn a_cut_tail_shows_by_the_head_and_by_an_anchor_from_before() {
    let mesh = Mesh::start().await;
    mesh.declare("auth", 0.99).await;
    mesh.declare("auth", 0.98).await;
    let end = head(&mesh).await;
    let records: Vec<Record> = whole_log(&mesh).await.into_iter().take(end.sequence as usize).collect();
    assert!(verify(&records, end.clone()).is_ok());
    assert_eq!(broken_at(&records[..records.len() - 1], &end), Some(end.sequence));
    // Who can change the head as well is told only by what was kept elsewhere.
    mesh.tamper(
        "DELETE FROM audit WHERE action = 'slo.declared' AND sequence = (SELECT MAX(sequence) FROM audit \
                 WHERE action = 'slo.declared')",
    )
    .await;
    let cut = whole_log(&mesh).await;
    assert!(broken_at(&cut, &end).is_some_and(|sequence| sequence <= end.sequence));
}

#[tokio::test]
async fn every_call_leaves_who_asked_what_and_how_it_ended() {
    let mut mesh = Mesh::start().await;
    let recommendation = mesh.recommend("checkout").await;
    let id = recommendation.id.clone();
    let mut client = mesh.client.clone();
    client.get_recommendation(wire::GetRecommendationRequest { recommendation_id: id.clone() }).await.unwrap();
    client.replay_recommendation(wire::ReplayRecommendationRequest { recommendation_id: id.clone() }).await.unwrap();
    let changes = wire::GetRecommendationChangesRequest { recommendation_id: id.clone(), since: id.clone() };
    client.get_recommendation_changes(changes).await.unwrap();
    client.list_slos(wire::ListSlosRequest { service_id: "checkout".into() }).await.unwrap();
    let decisions = wire::ListDecisionsRequest { service_id: "checkout".into(), ..Default::default() };
    client.list_decisions(decisions).await.unwrap();
    let impact = wire::AnalyzeImpactRequest {
        proposals: vec![wire::ProposedSlo { service_id: "auth".into(), target_ratio: 0.9 }],
        window_days: 0,
    };
    client.analyze_impact(impact).await.unwrap();
    client.analyze_what_if(wire::AnalyzeWhatIfRequest::default()).await.unwrap_err();
    client.analyze_consistency(wire::AnalyzeConsistencyRequest { repairs_max: 99 }).await.unwrap_err();
    client.list_audit_records(wire::ListAuditRecordsRequest::default()).await.unwrap();
    client.get_audit_head(wire::GetAuditHeadRequest {}).await.unwrap();
    client.get_learning(wire::GetLearningRequest {}).await.unwrap();
    let feedback = wire::ListFeedbackRequest { service_id: "checkout".into(), ..Default::default() };
    client.list_feedback(feedback).await.unwrap();
    let mut named = Request::new(wire::GetRecommendationRequest { recommendation_id: "jane@mail.example".into() });
    named.metadata_mut().insert("x-attain-caller", "group:payments".parse().unwrap());
    named.metadata_mut().insert("x-attain-role", "reader".parse().unwrap());
    assert_eq!(client.get_recommendation(named).await.unwrap_err().code(), Code::NotFound);
    let refused = wire::DecideSloRequest { version_match: Some(9), ..request(Action::Accept, &id) };
    mesh.decide(refused).await.unwrap_err();

    // What waits is written when the process ends.
    mesh.restart().await;
    let records = whole_log(&mesh).await;
    let end = head(&mesh).await;
    assert!(verify(&records, end).is_ok());
    let outcomes: std::collections::BTreeSet<(String, String, String)> = records
        .iter()
        .filter(|record| record.entry.action != "recommendation.created")
        .map(|record| {
            let detail = detail(record);
            let text = |key: &str| detail[key].as_str().unwrap_or_default().to_owned();
            assert_eq!((text("asked_sha256").len(), detail["count"].as_u64().is_some()), (64, true));
            (record.entry.action.clone(), text("rpc"), text("outcome"))
        })
        .collect();
    let expected = [
        ("read.audit", "GetAuditHead", "OK"),
        ("read.audit", "ListAuditRecords", "OK"),
        ("read.changes", "GetRecommendationChanges", "OK"),
        ("read.consistency", "AnalyzeConsistency", "INVALID_REQUEST"),
        ("read.decisions", "ListDecisions", "OK"),
        ("read.feedback", "ListFeedback", "OK"),
        ("read.impact", "AnalyzeImpact", "OK"),
        ("read.learning", "GetLearning", "OK"),
        ("read.recommendation", "GetRecommendation", "OK"),
        ("read.recommendation", "GetRecommendation", "UNKNOWN_RECOMMENDATION"),
        ("read.recommendation", "GetSloRecommendations", "OK"),
        ("read.replay", "ReplayRecommendation", "OK"),
        ("read.slos", "ListSlos", "OK"),
        ("read.what_if", "AnalyzeWhatIf", "INVALID_REQUEST"),
        ("slo.refused", "DecideSlo", "VERSION_MISMATCH"),
    ];
    for (action, rpc, outcome) in &expected {
        let found = outcomes.contains(&((*action).to_owned(), (*rpc).to_owned(), (*outcome).to_owned()));
        assert!(found, "{action} {rpc} {outcome} in {outcomes:?}");
    }
    assert_eq!(outcomes.len(), expected.len(), "{outcomes:?}");

    let of_rpc = |rpc: &str, outcome: &str| {
        let found = |record: &&Record| detail(record)["rpc"] == rpc && detail(record)["outcome"] == outcome;
        records.iter().find(found).unwrap()
    };
    let read = of_rpc("GetRecommendation", "OK");
    assert_eq!((read.entry.service_id.as_str(), read.entry.time_ms), ("checkout", NOW_MS));
    assert_eq!((detail(read)["recommendation_id"].clone(), detail(read)["version"].clone()), (json!(id), json!(1)));
    let created = records.iter().find(|record| record.entry.action == "recommendation.created").unwrap();
    assert_eq!(detail(read)["answer_sha256"], detail(created)["result_sha256"]);
    // Whatever stands in the place of a name is hashed and not written down.
    let refused = of_rpc("GetRecommendation", "UNKNOWN_RECOMMENDATION");
    assert_eq!((refused.entry.caller.as_str(), detail(refused)["role"].clone()), ("group:payments", json!("reader")));
    assert_eq!(detail(refused)["recommendation_id"], "");
    assert!(!records.iter().any(|record| record.entry.detail_json.contains("jane")));
}

/// Messages as bytes.
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Every RPC that the service answers, as the contract describes it, with the path that it is called by.
fn rpcs() -> Vec<(String, String)> {
    let contract = FileDescriptorSet::decode(attain_proto::DESCRIPTORS).unwrap();
    let own = contract.file.into_iter().filter(|file| file.package() == "attain.recommendation.v1");
    let services = own.flat_map(|file| file.service);
    let rpcs = services.flat_map(|service| {
        let name = service.name().to_owned();
        service.method.into_iter().map(move |method| {
            let path = format!("/attain.recommendation.v1.{name}/{}", method.name());
            (method.name().to_owned(), path)
        })
    });
    rpcs.collect()
}

#[tokio::test]
async fn no_rpc_of_the_contract_goes_by_the_log() {
    let mut mesh = Mesh::start().await;
    let rpcs = rpcs();
    assert!(rpcs.len() > 40, "{rpcs:?}");
    let mut grpc = Grpc::new(mesh.channel.clone());
    let mut expected = BTreeSet::new();
    for (name, path) in &rpcs {
        grpc.ready().await.unwrap();
        // An empty request, which a read answers or refuses, and a write refuses.
        let path = PathAndQuery::try_from(path.as_str()).unwrap();
        let answer = grpc.unary(Request::new(Vec::new()), path, Plain).await;
        let reads = ["Get", "List", "Analyze", "Replay"].iter().any(|verb| name.starts_with(verb));
        assert!(reads || answer.is_err(), "{name} wrote something on request of nothing");
        expected.insert(name.clone());
    }
    mesh.restart().await;
    let records = whole_log(&mesh).await;
    let told: BTreeSet<String> =
        records.iter().filter_map(|record| Some(detail(record)["rpc"].as_str()?.to_owned())).collect();
    assert_eq!(told, expected);
    let abandoned = |record: &&Record| detail(record)["outcome"] == "ABANDONED";
    assert_eq!(records.iter().find(abandoned), None, "nobody went away");
}

#[tokio::test]
async fn another_language_finds_the_same_hashes() {
    let Ok(probed) = Command::new("python3").arg("--version").output() else {
        eprintln!("SKIPPED: there is no python3");
        return;
    };
    assert!(probed.status.success());
    let mesh = Mesh::start().await;
    let id = mesh.recommend("checkout").await.id;
    mesh.decide(wire::DecideSloRequest { reason: "größer \"so\"\n".into(), ..request(Action::Reject, &id) })
        .await
        .unwrap();
    mesh.declare("auth", 0.99).await;
    let end = head(&mesh).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let lines: Vec<String> = whole_log(&mesh).await.iter().map(Record::to_line).collect();
    let verified = |lines: &[String]| {
        std::fs::write(&file, lines.join("\n")).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify_audit.py");
        let output = Command::new("python3").arg(script).arg(&file).arg(end.to_string()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (holds, said) = verified(&lines);
    assert!(holds, "{said}");
    assert!(said.contains(&format!("{} records", lines.len())), "{said}");
    let mut tampered = lines.clone();
    tampered[1] = tampered[1].replace("größer", "kleiner");
    let (holds, said) = verified(&tampered);
    assert!(!holds && said.contains("record 2"), "{said}");
    assert!(!verified(&lines[..lines.len() - 1]).0);
    assert!(!verified(&lines[1..]).0);
}
