//! compose.yaml names only what the members read, and its topology runs: here as processes on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_yaml_ng::Value;

use crate::harness::{attain, folder, provided};

/// Values that compose takes from its environment.
pub(crate) const KEY: &str = "a key for the test";
/// SHA-256 of [`KEY`].
pub(crate) const KEY_SHA256: &str = "e35efe0858c06ecd7083d88844662434b869dcce853f6f7482977ec64e1105e9";

/// One member as compose.yaml describes it.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) ports: BTreeSet<u16>,
}

fn compose() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml");
    let mut value: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    value.apply_merge().unwrap();
    value
}

fn strings(value: &Value) -> Vec<String> {
    value.as_sequence().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// `${NAME:?message}` as compose replaces it.
fn substituted(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, value) in
        [("POSTGRES_PASSWORD", "secret"), ("ATTAIN_KEY_SHA256", KEY_SHA256), ("ATTAIN_WEBHOOK_KEY", KEY_SHA256)]
    {
        while let Some(start) = text.find(&format!("${{{name}")) {
            let end = start + text[start..].find('}').expect("a closed variable");
            text.replace_range(start..=end, value);
        }
    }
    assert!(!text.contains("${"), "a variable that nobody explains: {text}");
    text
}

/// The members of the mesh, in the order of the file.
pub(crate) fn members() -> Vec<Container> {
    let compose = compose();
    let services = compose["services"].as_mapping().unwrap();
    services
        .iter()
        .filter(|(_, service)| service["image"].as_str() == Some("attain:latest"))
        .map(|(name, service)| {
            let environment = service["environment"].as_mapping().unwrap();
            let published =
                strings(&service["ports"]).into_iter().map(|port| port.rsplit(':').next().unwrap().to_owned());
            Container {
                name: name.as_str().unwrap().to_owned(),
                command: strings(&service["command"]),
                environment: environment
                    .iter()
                    .map(|(key, value)| (key.as_str().unwrap().to_owned(), substituted(value.as_str().unwrap())))
                    .collect(),
                ports: strings(&service["expose"])
                    .into_iter()
                    .chain(published)
                    .map(|port| port.parse().unwrap())
                    .collect(),
            }
        })
        .collect()
}

/// Every `name:port` of a container that a value speaks of.
pub(crate) fn addresses(value: &str, names: &BTreeSet<String>) -> Vec<(String, u16)> {
    let host_and_port = |part: &str| {
        let part = part.rsplit('@').next().unwrap();
        let (host, port) = part.split('/').next().unwrap().rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?))
    };
    value.split("://").skip(1).filter_map(host_and_port).filter(|(host, _)| names.contains(host)).collect()
}

#[tokio::test]
async fn every_variable_is_one_that_the_member_reads() {
    for member in members() {
        let check = |environment: BTreeMap<String, String>| {
            attain().args(&member.command).arg("--check").envs(environment).output()
        };
        let output = check(member.environment.clone()).await.unwrap();
        assert!(output.status.success(), "{}: {}", member.name, String::from_utf8_lossy(&output.stderr));
        // The check can fail: a misspelt variable is refused by name.
        let mut misspelt = member.environment.clone();
        misspelt.insert(format!("ATTAIN_{}__LISTNE", member.name.to_uppercase()), "x".into());
        let output = check(misspelt).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("listne"), "{}: {said}", member.name);
    }
}

#[test]
fn every_port_named_is_one_that_somebody_opens() {
    let compose = compose();
    let services = compose["services"].as_mapping().unwrap();
    let names: BTreeSet<String> = services.keys().map(|name| name.as_str().unwrap().to_owned()).collect();
    let open: BTreeMap<String, BTreeSet<u16>> = services
        .iter()
        .map(|(name, service)| {
            let ports = strings(&service["expose"]).into_iter().chain(strings(&service["ports"]));
            let ports = ports.map(|port| port.rsplit(':').next().unwrap().parse().unwrap()).collect();
            (name.as_str().unwrap().to_owned(), ports)
        })
        .collect();
    let mut seen = 0;
    for member in members() {
        for (name, value) in &member.environment {
            for (host, port) in addresses(value, &names) {
                assert!(
                    open[&host].contains(&port),
                    "{}: {name} names {host}:{port}, which {host} does not open",
                    member.name
                );
                seen += 1;
            }
            if name.ends_with("LISTEN") {
                let port: u16 = value.rsplit(':').next().unwrap().parse().unwrap();
                assert!(member.ports.contains(&port), "{}: {name} opens {port}, which compose does not", member.name);
            }
        }
        let dependencies = services[member.name.as_str()]["depends_on"].as_mapping().unwrap();
        assert!(dependencies.keys().all(|name| names.contains(name.as_str().unwrap())), "{}", member.name);
    }
    assert!(seen >= 12, "only {seen} addresses were found");
}

#[tokio::test]
async fn the_schema_of_compose_files_is_kept() {
    let Some(judge) = provided("ATTAIN_TEST_COMPOSE") else { return };
    let dir = folder();
    let judged = async |text: &str| {
        let file = dir.path().join("compose.yaml");
        std::fs::write(&file, text).unwrap();
        let mut command = tokio::process::Command::new(&judge);
        command.arg("-f").arg(&file).args(["config", "-q"]);
        let output = command
            .env("POSTGRES_PASSWORD", "x")
            .env("ATTAIN_KEY_SHA256", "x")
            .env("ATTAIN_WEBHOOK_KEY", "x")
            .output()
            .await
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml")).unwrap();
    let (valid, said) = judged(&text).await;
    assert!(valid, "{said}");
    // The judge can refuse.
    let (valid, said) = judged(&text.replace("healthcheck:", "helthcheck:")).await;
    assert!(!valid && said.contains("helthcheck"), "{said}");
}

#[test]
fn files_that_compose_mounts_exist() {
    let compose = compose();
    for (_, service) in compose["services"].as_mapping().unwrap() {
        for volume in strings(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            if source.starts_with("./") {
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(source).is_file(), "{source}");
            }
        }
    }
}
