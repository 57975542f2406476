//! SLOs out and in over gRPC; the rules are judged by a genuine promtool where `ATTAIN_TEST_PROMETHEUS` names its Prometheus.

use std::path::Path;

use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::{SliBucket, SliKind};
use attain_vocabulary::BUCKET_MS;
use tokio::process::Command;

use crate::harness::{Mesh, fault};
use crate::world::first_ms;

async fn export(mesh: &Mesh, request: wire::GetSloExportRequest) -> wire::GetSloExportResponse {
    mesh.client.clone().get_slo_export(request).await.unwrap().into_inner()
}

async fn import(mesh: &Mesh, text: &str) -> wire::ImportSlosResponse {
    let request = wire::ImportSlosRequest { text: text.into() };
    mesh.client.clone().import_slos(request).await.unwrap().into_inner()
}

fn asked(service_id: &str, format: &str) -> wire::GetSloExportRequest {
    wire::GetSloExportRequest { service_id: service_id.into(), format: format.into(), ..Default::default() }
}

async fn declare(mesh: &Mesh, service_id: &str, target: f64, threshold: Option<u32>, window_days: u32) {
    let kind = if threshold.is_some() { SliKind::Latency } else { SliKind::Availability };
    declare_sli(mesh, service_id, kind, target, threshold, window_days).await;
}

async fn declare_sli(
    mesh: &Mesh,
    service_id: &str,
    kind: SliKind,
    target: f64,
    threshold: Option<u32>,
    window_days: u32,
) {
    let declare = wire::DecideSloRequest {
        service_id: service_id.into(),
        action: wire::DecisionAction::Declare as i32,
        kind: kind as i32,
        target_ratio: Some(target),
        latency_threshold_ms: threshold,
        window_days,
        ..wire::DecideSloRequest::default()
    };
    mesh.decide(declare).await.unwrap();
}

async fn slos(mesh: &Mesh, service_id: &str) -> Vec<wire::Slo> {
    let request = wire::ListSlosRequest { service_id: service_id.into() };
    mesh.client.clone().list_slos(request).await.unwrap().into_inner().slos
}

#[tokio::test]
async fn what_is_exported_is_in_force_already_and_elsewhere_once() {
    let mesh = Mesh::start().await;
    declare(&mesh, "checkout", 0.1 + 0.2, None, 30).await;
    declare(&mesh, "checkout", 0.95, Some(300), 7).await;
    let before = slos(&mesh, "checkout").await;
    let text = export(&mesh, asked("checkout", "openslo")).await.files.remove(0).content;
    let written = mesh.audit().await.len();
    let again = import(&mesh, &text).await;
    assert_eq!((again.imported_count, again.unchanged_count, again.refused_count), (0, 2, 0));
    assert_eq!(mesh.audit().await.len(), written, "what is in force already is no decision");

    let other = Mesh::start().await;
    let taken = import(&other, &text).await;
    assert_eq!((taken.imported_count, taken.documents.len()), (2, 3));
    assert_eq!(taken.documents[0].outcome(), wire::ImportOutcome::Read);
    let without_time = |slos: Vec<wire::Slo>| -> Vec<wire::Slo> {
        slos.into_iter().map(|slo| wire::Slo { update_time: None, ..slo }).collect()
    };
    assert_eq!(without_time(slos(&other, "checkout").await), without_time(before));
    let audit = other.audit().await;
    let declared: Vec<&str> = audit.iter().map(|record| record.action.as_str()).collect();
    assert_eq!(declared, ["slo.declared", "slo.declared"]);
    assert!(audit[0].detail_json.contains("imported from the OpenSLO document checkout-availability"), "{audit:?}");
    assert_eq!(import(&other, &text).await.unchanged_count, 2);
    assert_eq!(other.audit().await.len(), 2);
}

#[tokio::test]
async fn what_is_right_is_kept_and_what_is_wrong_is_said() {
    let mesh = Mesh::start().await;
    declare(&mesh, "checkout", 0.99, None, 28).await;
    let right = export(&mesh, asked("checkout", "openslo")).await.files.remove(0).content;
    let unknown = right.replace("attain/service-id: checkout", "attain/service-id: nobody");
    let stricter = right.replace("target: 0.99\n", "target: 0.995\n");
    let text = format!("{unknown}---\n: : :\n---\n{stricter}");
    let taken = import(&mesh, &text).await;
    assert_eq!((taken.imported_count, taken.refused_count), (1, 2), "{taken:?}");
    let errors: Vec<(u32, &str, &str)> = taken
        .documents
        .iter()
        .flat_map(|document| document.errors.iter().map(|e| (document.position, e.field.as_str(), e.code.as_str())))
        .collect();
    assert_eq!(errors, [(2, "spec.service", "unknown_service"), (3, "", "malformed")]);
    let in_force = slos(&mesh, "checkout").await.remove(0);
    assert_eq!((in_force.target_ratio, in_force.version), (0.995, 2));
    let empty = wire::ImportSlosRequest { text: "\n".into() };
    let refused = mesh.client.clone().import_slos(empty).await.unwrap_err();
    assert_eq!(fault(&refused), ("text".into(), "required".into()));
}

#[tokio::test]
async fn formats_and_metrics_are_checked() {
    let mesh = Mesh::start().await;
    declare(&mesh, "checkout", 0.99, None, 28).await;
    let refused = async |request| fault(&mesh.client.clone().get_slo_export(request).await.unwrap_err());
    assert_eq!(refused(asked("checkout", "yaml")).await, ("format".into(), "unknown_value".into()));
    let alone = wire::GetSloExportRequest { valid_counter: "a".into(), ..asked("checkout", "sloth") };
    assert_eq!(refused(alone).await, ("bad_counter".into(), "required".into()));
    let no_selector = wire::GetSloExportRequest {
        valid_counter: "sum(a)".into(),
        bad_counter: vec!["b".into()],
        ..asked("checkout", "sloth")
    };
    assert_eq!(refused(no_selector).await, ("valid_counter".into(), "malformed".into()));
    let none = export(&mesh, asked("inventory", "prometheus")).await;
    assert!(none.files.is_empty() && none.notes[0].contains("no SLO in force"), "{none:?}");
}

/// promtool beside the Prometheus named; `None`, and a line that says so, where none is.
fn promtool() -> Option<std::path::PathBuf> {
    let program = std::env::var("ATTAIN_TEST_PROMETHEUS").ok().filter(|program| !program.is_empty());
    if program.is_none() {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "ATTAIN_TEST_PROMETHEUS is required and not set");
        eprintln!("SKIPPED: ATTAIN_TEST_PROMETHEUS is not set");
    }
    program.map(|program| Path::new(&program).with_file_name("promtool"))
}

async fn judged(promtool: &Path, exported: &wire::GetSloExportResponse) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    for file in &exported.files {
        std::fs::write(folder.path().join(&file.name), &file.content).unwrap();
    }
    let checks = [("check", 0), ("test", 1)];
    for (command, file) in checks.into_iter().filter(|(_, file)| *file < exported.files.len()) {
        let name = &exported.files[file].name;
        let ran =
            Command::new(promtool).args([command, "rules", name]).current_dir(folder.path()).output().await.unwrap();
        if !ran.status.success() {
            let said = [ran.stdout, ran.stderr].concat();
            return Err(format!("{command} {name}: {}", String::from_utf8_lossy(&said)));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_genuine_promtool_accepts_the_rules_and_their_tests() {
    let Some(promtool) = promtool() else { return };
    let mesh = Mesh::start().await;
    for (target, window_days, threshold) in
        [(0.99, 28, 300), (0.9995, 30, 1000), (0.99999, 90, 300), (0.95, 7, 1000), (0.5, 28, 250)]
    {
        declare(&mesh, "checkout", target, None, window_days).await;
        declare(&mesh, "checkout", 0.95, Some(threshold), window_days).await;
        let exported = export(&mesh, asked("checkout", "prometheus")).await;
        assert_eq!(exported.files.len(), 2, "{:?}", exported.notes);
        judged(&promtool, &exported).await.unwrap();
    }
    // Other names, another unit, and failures that are counted apart.
    for (valid, bad, histogram) in [
        (
            "requests_total{service=\"$service\"}",
            "errors_total{service=\"$service\"}",
            "latency_ms_bucket{service='$service'}",
        ),
        ("a:b{x!~\"y.*\",job=~\"(.+/)?$service\"}", "a:b{code=~\"5..\",job=~\"(.+/)?$service\"}", "h_bucket"),
    ] {
        let with = wire::GetSloExportRequest {
            valid_counter: valid.into(),
            bad_counter: vec![bad.into()],
            latency_histogram: histogram.into(),
            latency_unit: "ms".into(),
            ..asked("checkout", "prometheus")
        };
        let exported = export(&mesh, with).await;
        assert_eq!(exported.files.len(), 2, "{:?}", exported.notes);
        judged(&promtool, &exported).await.unwrap();
    }
    // So few requests that rules are guarded.
    let few = (0..20 * 288).map(|i| SliBucket {
        start_time: Some(timestamp(first_ms() + (10 * 288 + i) * BUCKET_MS)),
        valid_count: 1,
        ..SliBucket::default()
    });
    mesh.world.histories.lock().unwrap().insert("young".into(), few.collect());
    declare(&mesh, "young", 0.999, None, 28).await;
    let exported = export(&mesh, asked("young", "prometheus")).await;
    assert!(exported.files[0].content.contains(">= 3"), "{}", exported.files[0].content);
    judged(&promtool, &exported).await.unwrap();
}

#[tokio::test]
async fn a_genuine_promtool_judges_slices_of_time_too() {
    let Some(promtool) = promtool() else { return };
    let mesh = Mesh::start().await;
    for (target, window_days, age_ms, unit) in
        [(0.95, 28, 300_000, "s"), (0.99, 30, 1_500, "s"), (0.999, 90, 86_400_000, "ms"), (0.5, 7, 1, "ms")]
    {
        declare_sli(&mesh, "checkout", SliKind::Freshness, target, Some(age_ms), window_days).await;
        let with = |format| wire::GetSloExportRequest {
            age_gauge: "outbox_age{service=\"$service\",shard!=\"\"}".into(),
            age_unit: unit.into(),
            ..asked("checkout", format)
        };
        let exported = export(&mesh, with("prometheus")).await;
        assert_eq!(exported.files.len(), 2, "{:?}", exported.notes);
        judged(&promtool, &exported).await.unwrap();
        // A limit that was changed is found: what is exactly as old as it may be is fresh.
        let mut changed = exported.clone();
        changed.files[0].content = changed.files[0].content.replace("<= bool", "< bool");
        assert_ne!(changed, exported);
        assert!(judged(&promtool, &changed).await.is_err_and(|said| said.contains("FAILED")));
        // Of what Pyrra gets the second file is rules.
        let mut of_pyrra = export(&mesh, with("pyrra")).await;
        assert_eq!(of_pyrra.files.len(), 2, "{:?}", of_pyrra.notes);
        of_pyrra.files.remove(0);
        judged(&promtool, &of_pyrra).await.unwrap();
    }
}

#[tokio::test]
async fn the_generated_tests_find_a_rule_that_was_changed() {
    let Some(promtool) = promtool() else { return };
    let mesh = Mesh::start().await;
    declare(&mesh, "checkout", 0.99, None, 28).await;
    let right = export(&mesh, asked("checkout", "prometheus")).await;
    for (from, to) in
        [("(13.44 * 0.01)", "(134.4 * 0.01)"), ("(13.44 * 0.01)", "(0.1 * 0.01)"), ("severity: page", "severity: none")]
    {
        let mut changed = right.clone();
        changed.files[0].content = changed.files[0].content.replace(from, to);
        assert_ne!(changed, right, "{from}");
        // The slower page stands in for a fast one that never fires; so both have to be blunt.
        changed.files[0].content = changed.files[0]
            .content
            .replace("(5.6 * 0.01)", if to.starts_with("(134") { "(134.4 * 0.01)" } else { "(5.6 * 0.01)" });
        assert!(judged(&promtool, &changed).await.is_err_and(|said| said.contains("FAILED")), "{from} → {to}");
    }
}
