//! A Qdrant that a test can look into.

use std::path::Path;

use attain_embedded_qdrant::{EmbeddedQdrant, Options, random_api_key};
use attain_runtime::Shutdown;
use tokio::task::JoinHandle;

use super::{LOOK_INTERVAL, PATIENCE};

/// A Qdrant of the test's own: embedded, or the genuine server that `QDRANT_URL` names.
pub struct Qdrant {
    pub url: String,
    pub api_key: Option<String>,
    /// Begins the names of this test's collections.
    pub prefix: String,
    pub client: qdrant_client::Qdrant,
    embedded: Option<(Shutdown, JoinHandle<()>)>,
}

impl Qdrant {
    pub async fn start(folder: &Path) -> Self {
        let prefix = folder.file_name().unwrap().to_string_lossy().replace('.', "test");
        let client = |url: &str, key: Option<&String>| {
            let builder = qdrant_client::Qdrant::from_url(url).skip_compatibility_check();
            match key {
                Some(key) => builder.api_key(key.as_str()),
                None => builder,
            }
            .build()
            .unwrap()
        };
        if let Ok(url) = std::env::var("QDRANT_URL") {
            let api_key = std::env::var("QDRANT_API_KEY").ok();
            return Self { client: client(&url, api_key.as_ref()), url, api_key, prefix, embedded: None };
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = random_api_key();
        let options = Options::new(folder.join("index"), key.clone()).unwrap();
        let server = EmbeddedQdrant::open(options).await.unwrap();
        let stop = Shutdown::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            server.serve(listener, async move { stopped.cancelled().await }).await.unwrap();
        });
        Self { client: client(&url, Some(&key)), url, api_key: Some(key), prefix, embedded: Some((stop, serving)) }
    }

    /// The ends of the names of this test's collections, in order.
    pub async fn collections(&self) -> Vec<String> {
        let listed = self.client.list_collections().await.unwrap().collections;
        let mut ends: Vec<String> =
            listed.iter().filter_map(|c| c.name.strip_prefix(&self.prefix).map(str::to_owned)).collect();
        ends.sort();
        ends
    }

    pub async fn until_collections(&self, wanted: &[&str]) {
        let looking = async {
            while self.collections().await != wanted {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("collections as wanted in time");
    }

    pub async fn stop(self) {
        for end in self.collections().await {
            self.client.delete_collection(format!("{}{end}", self.prefix)).await.unwrap();
        }
        if let Some((stop, serving)) = self.embedded {
            stop.cancel();
            serving.await.unwrap();
        }
    }
}
