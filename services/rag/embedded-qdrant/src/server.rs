//! The server: open the folder, check keys, serve, tidy in the background, close.

use std::future::Future;
use std::sync::Arc;

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::codec::CompressionEncoding;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

use crate::storage::Store;
use crate::transport::Api;
use crate::{Error, Options};

/// An opened data folder, ready to be served.
pub struct EmbeddedQdrant {
    store: Arc<Store>,
    api_key: Arc<str>,
}

impl EmbeddedQdrant {
    /// Locks the folder and opens its collections, on a blocking thread.
    ///
    /// # Errors
    ///
    /// [`Error::FolderLocked`] when another process serves the folder, [`Error::Option`] for a bound of zero,
    /// [`Error::Folder`] or [`Error::CollectionUnreadable`] when something in it cannot be read or written.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let api_key = Arc::from(options.api_key());
        let store =
            tokio::task::spawn_blocking(move || Store::open(&options)).await.unwrap_or(Err(Error::Interrupted))?;
        Ok(Self { store: Arc::new(store), api_key })
    }

    /// Serves until `shutdown` resolves and the calls under way are done; then closes the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Transport`] when the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let Self { store, api_key } = self;
        let (tidy, collections_to_tidy) = mpsc::channel(1);
        let tidying = tokio::spawn(tidy_on_request(Arc::clone(&store), collections_to_tidy));
        let api = Api::new(Arc::clone(&store), tidy);
        let served = route(api.clone(), &store, api_key)
            .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), shutdown)
            .await
            .map_err(Error::Transport);
        api.finished().await;
        // The router is gone and with it the channel's last sender, so this ends once the tidying under way does.
        let tidied = tidying.await.map_err(|_| Error::Interrupted);
        let closed = tokio::task::spawn_blocking(move || drop(store)).await.map_err(|_| Error::Interrupted);
        served.and(tidied).and(closed)
    }
}

/// The three services with their limits; the health check alone needs no key, as on a genuine server.
fn route(api: Api, store: &Store, api_key: Arc<str>) -> tonic::transport::server::Router {
    let request_bytes_max = store.bounds.request_bytes_max;
    let points = PointsServer::new(api.clone())
        .max_decoding_message_size(request_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let collections = CollectionsServer::new(api.clone())
        .max_decoding_message_size(request_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let health =
        QdrantServer::new(api).accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip);
    let key = RequireKey(api_key);
    Server::builder()
        .add_service(InterceptedService::new(points, key.clone()))
        .add_service(InterceptedService::new(collections, key))
        .add_service(health)
}

async fn tidy_on_request(store: Arc<Store>, mut requests: mpsc::Receiver<String>) {
    while let Some(name) = requests.recv().await {
        let store = Arc::clone(&store);
        let collection = name.clone();
        let tidied = tokio::task::spawn_blocking(move || store.collection(&name)?.tidy()).await;
        match tidied.unwrap_or(Err(Error::Interrupted)) {
            Ok(changed) => tracing::debug!(collection, changed, "tidied a collection"),
            // It may have been deleted meanwhile; everything else will show in the next call too.
            Err(error) => {
                tracing::warn!(collection, error = &error as &dyn std::error::Error, "could not tidy a collection")
            }
        }
    }
}

/// Lets calls with the right `api-key` pass.
#[derive(Clone)]
struct RequireKey(Arc<str>);

impl Interceptor for RequireKey {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let sent = request.metadata().get("api-key");
        if sent.is_some_and(|sent| equal_in_constant_time(sent.as_encoded_bytes(), self.0.as_bytes())) {
            return Ok(request);
        }
        Err(Status::unauthenticated("the metadata `api-key` is missing or wrong"))
    }
}

/// Takes as long for a key that is wrong at its start as for one that is wrong at its end.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |difference, (left, right)| difference | (left ^ right)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_are_equal() {
        assert!(equal_in_constant_time(b"key", b"key"));
        for other in [&b"kez"[..], b"ke", b"keyy", b"Key", b""] {
            assert!(!equal_in_constant_time(other, b"key"), "{other:?}");
        }
    }
}
