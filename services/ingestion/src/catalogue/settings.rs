use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use attain_runtime::Error;
use attain_vocabulary::{EntityKind, TenantId};
use serde::Deserialize;

use super::reference::Naming;

/// A Backstage catalogue to follow: the section `[ingestion.catalogue]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueConfig {
    /// Base address of the Backstage backend, for example `https://backstage.example.com`; the catalogue is below
    /// `/api/catalog` of it.
    pub url: String,
    /// File that holds the bearer token; read before each sweep, so that it may be replaced.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The bearer token itself, for `ATTAIN_INGESTION__CATALOGUE__TOKEN`; not beside `token_file`.
    #[serde(default)]
    pub token: Option<Token>,
    /// File with certificates (PEM) of authorities that are trusted besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How often the catalogue is read, in seconds.
    #[serde(default = "default_interval_seconds")]
    pub interval_seconds: u64,
    /// How long one page may take, in seconds.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: u64,
    /// Whose catalogue it is.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Which entities are read: an entity that any of these lets pass, each as the catalogue's parameter `filter` takes it.
    #[serde(default = "default_filter")]
    pub filter: Vec<String>,
    /// Which name in the graph an entity gets.
    #[serde(default)]
    pub naming: Naming,
    /// Annotations or labels that give the name that telemetry uses; the first that is there counts.
    #[serde(default = "default_name_annotations")]
    pub name_annotations: Vec<String>,
    /// Annotations or labels that give the tier.
    #[serde(default = "default_tier_annotations")]
    pub tier_annotations: Vec<String>,
    /// Annotations or labels that give the lifecycle where `spec.lifecycle` is not to count.
    #[serde(default = "default_lifecycle_annotations")]
    pub lifecycle_annotations: Vec<String>,
    /// What an entity of a `spec.type` is, besides what is known already; for example `{ neo4j = "datastore" }`.
    #[serde(default)]
    pub kinds: BTreeMap<String, EntityKind>,
    /// Components of these `spec.type`s are no nodes of the graph.
    #[serde(default = "default_ignored_types")]
    pub ignored_types: Vec<String>,
    /// A sweep in which more than this share of the entities is gone is not applied, in [0, 1]; 1 lets everything go.
    #[serde(default = "default_gone_share_max")]
    pub gone_share_max: f64,
    /// Entities a page.
    #[serde(default = "default_page_size")]
    pub page_size: usize,
    /// Most entities of the catalogue; one with more is not read.
    #[serde(default = "default_entities_max")]
    pub entities_max: usize,
    /// Most bytes of a sweep.
    #[serde(default = "default_bytes_max")]
    pub bytes_max: usize,
}

/// A secret that no log and no debugging output shows.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a token)")
    }
}

fn default_interval_seconds() -> u64 {
    300
}

/// The first page of a catalogue under load takes half a minute.
fn default_timeout_seconds() -> u64 {
    60
}

fn default_tenant() -> String {
    TenantId::default().as_str().to_owned()
}

fn default_filter() -> Vec<String> {
    ["component", "resource", "api", "system"].map(|kind| format!("kind={kind}")).to_vec()
}

fn default_name_annotations() -> Vec<String> {
    vec!["attain.dev/service-id".to_owned()]
}

fn default_tier_annotations() -> Vec<String> {
    vec!["attain.dev/tier".to_owned()]
}

fn default_lifecycle_annotations() -> Vec<String> {
    vec!["attain.dev/lifecycle".to_owned()]
}

fn default_ignored_types() -> Vec<String> {
    vec!["library".to_owned()]
}

fn default_gone_share_max() -> f64 {
    0.5
}

fn default_page_size() -> usize {
    500
}

fn default_entities_max() -> usize {
    50_000
}

fn default_bytes_max() -> usize {
    256 * 1024 * 1024
}

impl CatalogueConfig {
    /// Checks what the types do not.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |key: &str, reason: &str| Err(Error::Config(format!("ingestion.catalogue.{key}: {reason}")));
        if let Err(reason) = check_address(&self.url) {
            return refuse("url", &reason);
        }
        if self.token.is_some() && self.token_file.is_some() {
            return refuse("token_file", "is not given beside token");
        }
        let files = [("token_file", &self.token_file), ("ca_file", &self.ca_file)];
        for (key, file) in files {
            if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
                return refuse(key, &format!("there is no file {}", file.display()));
            }
        }
        TenantId::new("ingestion.catalogue.tenant", &self.tenant).map_err(|error| Error::Config(error.to_string()))?;
        let within = [
            ("interval_seconds", self.interval_seconds as usize, 1, 86_400),
            ("timeout_seconds", self.timeout_seconds as usize, 1, 600),
            ("page_size", self.page_size, 1, 10_000),
            ("entities_max", self.entities_max, 1, 1_000_000),
            ("bytes_max", self.bytes_max, 1024, 4 << 30),
        ];
        for (key, value, least, most) in within {
            if !(least..=most).contains(&value) {
                return refuse(key, &format!("is {least} to {most}"));
            }
        }
        if !(0.0..=1.0).contains(&self.gone_share_max) {
            return refuse("gone_share_max", "is 0 to 1");
        }
        Ok(())
    }
}

/// No message repeats the address: it may hold what it must not.
fn check_address(url: &str) -> Result<(), String> {
    let refuse = |reason: &str| Err(reason.to_owned());
    match reqwest::Url::parse(url) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            refuse("is an http or https address")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refuse("holds no credentials; use token_file")
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => refuse("is a base address, without ? and #"),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
