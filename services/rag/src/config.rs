//! Settings of the service, checked before a port opens.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use attain_runtime::Error;
use attain_runtime::admission::Limits;
use attain_vocabulary::TenantId;
use serde::Deserialize;

use crate::domain::document::DocumentId;
use crate::embedding::hub;
use crate::language_model::LanguageModelConfig;
use crate::watch::Watched;

/// Settings of the section `[rag]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the service listens.
    pub listen: SocketAddr,
    /// Where the documents are kept: `sqlite:path` or `postgres://…`.
    pub database_url: String,
    /// A Qdrant server's gRPC address, for example `http://127.0.0.1:6334`. Without it an embedded one is started.
    pub qdrant_url: Option<String>,
    /// The key of that server.
    pub qdrant_api_key: Option<String>,
    /// Begins the names of the collections, so that installations can share a Qdrant server.
    pub collection_prefix: String,
    /// The folder of the embedded Qdrant.
    pub index_dir: PathBuf,
    /// The folder with the embedding model; without it the user's cache folder is looked in.
    pub model_dir: Option<PathBuf>,
    /// Whether the shipped model may be downloaded into that cache where it is in neither: from `model_hub`, else from the hub
    /// that the environment names in `HF_ENDPOINT`. Where nothing names one, nobody is asked.
    pub model_download: bool,
    /// Address of that hub, for example `https://hub.example`.
    pub model_hub: Option<String>,
    /// Longest that the download may take, in seconds, 1 to 86,400.
    pub model_download_timeout_seconds: u64,
    /// A folder with a cross-encoder (`model.onnx` and its tokeniser) that orders the first passages; off without one.
    pub reranker_dir: Option<PathBuf>,
    /// Passages that the cross-encoder reads.
    pub reranker_passages: usize,
    /// Longest that a question waits for the cross-encoder, in milliseconds; after that the fused order stands.
    pub reranker_timeout_ms: u64,
    /// Whether to embed at all; without it search is by words only.
    pub embeddings: bool,
    /// Threads that one embedding may use.
    pub embedding_threads: usize,
    /// A language model that may reword sentences of answers; off by default.
    pub language_model: LanguageModelConfig,
    /// Folders of documents that are followed.
    pub watch: Vec<Watched>,
    /// Seconds between two looks at them, 1 to 86,400.
    pub watch_interval_seconds: u64,
    /// The tenant whose documents every tenant reads; without it none are public.
    pub public_tenant: Option<String>,
    /// Seconds that calls in flight may take to end after the stop.
    pub drain_seconds: u64,
    /// Most calls in flight, by class.
    pub limits: Limits,
}

impl Default for Config {
    /// One machine, embedded storage and index.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7104)),
            database_url: "sqlite:attain-data/rag.db".to_owned(),
            qdrant_url: None,
            qdrant_api_key: None,
            collection_prefix: "attain".to_owned(),
            index_dir: PathBuf::from("attain-data/rag-index"),
            model_dir: None,
            model_download: true,
            model_hub: None,
            // 91 MB at 50 kB/s.
            model_download_timeout_seconds: 1800,
            reranker_dir: None,
            reranker_passages: 20,
            reranker_timeout_ms: 500,
            embeddings: true,
            embedding_threads: 2,
            language_model: LanguageModelConfig::default(),
            watch: Vec::new(),
            watch_interval_seconds: 30,
            public_tenant: None,
            drain_seconds: 10,
            // A write embeds, and writes wait for one another: more of them would only wait longer.
            limits: Limits { reads_max: 64, writes_max: 8, ingests_max: 8, ..Limits::default() },
        }
    }
}

impl Config {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |key: &str, reason: &str| Err(Error::Config(format!("rag.{key}: {reason}")));
        if self.database_url.is_empty() {
            return wrong("database_url", "is needed, for example sqlite:attain-data/rag.db");
        }
        if let Some(url) = &self.qdrant_url {
            let address = tonic::transport::Endpoint::from_shared(url.clone());
            if !address.is_ok_and(|address| address.uri().host().is_some() && address.uri().scheme().is_some()) {
                return wrong("qdrant_url", "is no address such as http://127.0.0.1:6334");
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.collection_prefix.is_empty()
            || self.collection_prefix.len() > 64
            || !self.collection_prefix.chars().all(plain)
        {
            return wrong("collection_prefix", "is 1 to 64 ASCII letters, digits, - and _");
        }
        if self.qdrant_url.is_none() && self.index_dir.as_os_str().is_empty() {
            return wrong("index_dir", "is needed unless qdrant_url names a server");
        }
        if self.model_hub.as_deref().is_some_and(|address| !hub::is_address(address)) {
            return wrong("model_hub", "is no address such as https://hub.example");
        }
        if !(1..=86_400).contains(&self.model_download_timeout_seconds) {
            return wrong("model_download_timeout_seconds", "is outside 1 to 86400");
        }
        if !(1..=64).contains(&self.embedding_threads) {
            return wrong("embedding_threads", "is outside 1 to 64");
        }
        if !(1..=50).contains(&self.reranker_passages) {
            return wrong("reranker_passages", "is outside 1 to 50");
        }
        if !(1..=10_000).contains(&self.reranker_timeout_ms) {
            return wrong("reranker_timeout_ms", "is outside 1 to 10000");
        }
        if !(1..=86_400).contains(&self.watch_interval_seconds) {
            return wrong("watch_interval_seconds", "is outside 1 to 86400");
        }
        self.watched()?;
        self.public_tenant()?;
        self.language_model.validate()
    }

    /// The folders that are followed, each with its tenant.
    ///
    /// # Errors
    /// Names the first that makes no sense.
    pub(crate) fn watched(&self) -> Result<Vec<(TenantId, Watched)>, Error> {
        let checked = |(index, watched): (usize, &Watched)| {
            let wrong = |key: &str, reason: &str| Error::Config(format!("rag.watch[{index}].{key}: {reason}"));
            if watched.folder.as_os_str().is_empty() {
                return Err(wrong("folder", "is needed"));
            }
            if !watched.prefix.is_empty() && DocumentId::new("prefix", &watched.prefix).is_err() {
                return Err(wrong("prefix", "begins no name of a document"));
            }
            let tenant = TenantId::new("tenant", &watched.tenant).map_err(|fault| wrong("tenant", &fault.reason))?;
            Ok((tenant, watched.clone()))
        };
        self.watch.iter().enumerate().map(checked).collect()
    }

    /// The tenant whose documents every tenant reads.
    ///
    /// # Errors
    /// Where the setting is no name of a tenant.
    pub(crate) fn public_tenant(&self) -> Result<Option<TenantId>, Error> {
        let named = self.public_tenant.as_deref().map(|name| TenantId::new("rag.public_tenant", name));
        named.transpose().map_err(|invalid| Error::Config(invalid.to_string()))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("database_url", &attain_runtime::database::without_credentials(&self.database_url))
            .field("qdrant_url", &self.qdrant_url.as_deref().map(attain_runtime::database::without_credentials))
            .field("qdrant_api_key", &self.qdrant_api_key.as_ref().map(|_| "[hidden]"))
            .field("collection_prefix", &self.collection_prefix)
            .field("index_dir", &self.index_dir)
            .field("model_dir", &self.model_dir)
            .field("model_download", &self.model_download)
            .field("model_hub", &self.model_hub.as_deref().map(attain_runtime::database::without_credentials))
            .field("model_download_timeout_seconds", &self.model_download_timeout_seconds)
            .field("reranker_dir", &self.reranker_dir)
            .field("reranker_passages", &self.reranker_passages)
            .field("reranker_timeout_ms", &self.reranker_timeout_ms)
            .field("embeddings", &self.embeddings)
            .field("embedding_threads", &self.embedding_threads)
            .field("language_model", &self.language_model)
            .field("watch", &self.watch)
            .field("watch_interval_seconds", &self.watch_interval_seconds)
            .field("public_tenant", &self.public_tenant)
            .field("drain_seconds", &self.drain_seconds)
            .field("limits", &self.limits)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Config);

    #[test]
    fn the_defaults_are_valid_and_a_bad_setting_is_named() {
        Config::default().validate().expect("valid");
        let cases: [(&str, Change); 12] = [
            ("rag.reranker_passages", |c| c.reranker_passages = 0),
            ("rag.reranker_timeout_ms", |c| c.reranker_timeout_ms = 0),
            ("rag.watch_interval_seconds", |c| c.watch_interval_seconds = 0),
            ("rag.watch[0].tenant", |c| {
                let (tenant, folder) = ("No Tenant".into(), "docs".into());
                c.watch = vec![Watched { tenant, folder, prefix: String::new(), delete_missing: false }];
            }),
            ("rag.public_tenant", |c| c.public_tenant = Some("No Tenant".into())),
            ("rag.model_hub", |c| c.model_hub = Some("hub.example".into())),
            ("rag.model_download_timeout_seconds", |c| c.model_download_timeout_seconds = 0),
            ("rag.qdrant_url", |c| c.qdrant_url = Some("no address".into())),
            ("rag.collection_prefix", |c| c.collection_prefix = "a/b".into()),
            ("rag.embedding_threads", |c| c.embedding_threads = 0),
            ("rag.language_model.url", |c| c.language_model.url = Some("no address".into())),
            ("rag.index_dir", |c| c.index_dir = PathBuf::new()),
        ];
        for (name, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let config = Config {
            qdrant_api_key: Some("key-to-hide".into()),
            database_url: "postgres://me:word-to-hide@db/x".into(),
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("to-hide"));
    }
}
