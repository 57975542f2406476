//! The gRPC methods: decode, run on a blocking thread, encode.

mod collections;
mod points;

use std::sync::Arc;
use std::time::{Duration, Instant};

use qdrant_client::qdrant::qdrant_server::Qdrant;
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status};

use crate::Error;
use crate::storage::Store;
use crate::storage::collection::AfterWrite;

/// The version whose messages this server reads and writes: that of the client crate it is built from. A client holds its
/// own version against it.
const API_VERSION: &str = "1.20.0";

/// What names this server apart from a genuine one.
const TITLE: &str = "attain embedded qdrant";

/// The services' shared state; cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    store: Arc<Store>,
    in_flight: Arc<Semaphore>,
    /// Names of collections to tidy. Full means that one is waiting already; the next write asks again.
    tidy: mpsc::Sender<String>,
}

/// An answer with the seconds it took, as the client expects them.
pub(crate) struct Timed<T> {
    pub(crate) value: T,
    pub(crate) seconds: f64,
}

impl Api {
    pub(crate) fn new(store: Arc<Store>, tidy: mpsc::Sender<String>) -> Self {
        let in_flight = Arc::new(Semaphore::new(store.bounds.in_flight_max));
        Self { store, in_flight, tidy }
    }

    /// Runs `work` on a blocking thread, unless too many calls are under way.
    ///
    /// With `timeout_seconds` the caller waits no longer than that; the work itself cannot be stopped and keeps its
    /// place among the calls under way until it is done.
    async fn run<T: Send + 'static>(
        &self,
        timeout_seconds: Option<u64>,
        work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<Timed<T>, Status> {
        let started = Instant::now();
        let Ok(place) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            return Err(Status::from(Error::Overloaded { in_flight_max: self.store.bounds.in_flight_max }));
        };
        let store = Arc::clone(&self.store);
        let task = tokio::task::spawn_blocking(move || {
            let outcome = work(&store);
            drop(store);
            drop(place);
            outcome
        });
        let joined = match timeout_seconds {
            None => task.await,
            Some(seconds) => match tokio::time::timeout(Duration::from_secs(seconds), task).await {
                Ok(joined) => joined,
                Err(_) => return Err(Status::from(Error::TimedOut { seconds })),
            },
        };
        let value = joined.unwrap_or(Err(Error::Interrupted))?;
        Ok(Timed { value, seconds: started.elapsed().as_secs_f64() })
    }

    /// Returns once no work is under way: it goes on when its caller has gone or waits no longer.
    pub(crate) async fn finished(self) {
        let all = u32::try_from(self.store.bounds.in_flight_max).unwrap_or(u32::MAX);
        // Fails only where it is closed, and nobody closes it.
        let _ = self.in_flight.acquire_many(all).await;
    }

    fn after_write(&self, collection: String, after: AfterWrite) {
        if after == AfterWrite::Tidy {
            // Full: somebody is waiting to be tidied, and this collection asks again after its next write.
            let _ = self.tidy.try_send(collection);
        }
    }
}

#[tonic::async_trait]
impl Qdrant for Api {
    async fn health_check(&self, _request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        Ok(Response::new(HealthCheckReply { title: TITLE.to_owned(), version: API_VERSION.to_owned(), commit: None }))
    }
}

/// Implements methods that answer UNIMPLEMENTED. (Spelt out as `async_trait` would: it does not see into a macro.)
macro_rules! unimplemented_methods {
    ($($method:ident: $request:ty => $response:ty;)*) => {$(
        fn $method<'life0, 'async_trait>(
            &'life0 self,
            _request: tonic::Request<$request>,
        ) -> std::pin::Pin<
            Box<
                dyn std::future::Future<Output = Result<tonic::Response<$response>, tonic::Status>>
                    + Send
                    + 'async_trait,
            >,
        >
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(std::future::ready(Err(tonic::Status::unimplemented(concat!(
                "the embedded Qdrant server does not implement `",
                stringify!($method),
                "`; a Qdrant server does"
            )))))
        }
    )*};
}
pub(crate) use unimplemented_methods;
