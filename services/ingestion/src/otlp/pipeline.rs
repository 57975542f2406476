//! The way of an export of spans from its bytes to what storage keeps, without a transport: for measurements.

use std::sync::Arc;
use std::time::Duration;

use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::{TenantId, UnixMillis};
use prost::Message as _;
use tonic::Status;

use super::backlog::Backlog;
use super::counts::Counts;
use super::log::SpanLog;
use super::receivers::TraceReceiver;
use super::sent::SentSpans;
use super::settler::Settler;
use crate::storage::{SpanLogSize, Store};
use crate::{Config, Error};

/// Longest that an export may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A receiver and a settler as they are served, driven by hand.
pub struct Pipeline {
    store: Store,
    receiver: TraceReceiver,
    settler: Settler,
    counts: Arc<Counts>,
}

impl Pipeline {
    /// Opens the database of the configuration.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn open(config: Config, clock: Clock) -> Result<Self, Error> {
        let store = Store::open(&config.database_url, config.capacity()).await?;
        let (counts, backlog) = (Arc::new(Counts::default()), Arc::new(Backlog::default()));
        let settler = Settler::new(store.clone(), Arc::clone(&backlog), super::settling(&config), Arc::clone(&counts));
        let log = SpanLog::start(store.clone(), clock.clone(), backlog, config.span_log_bytes_max);
        let config = Arc::new(config);
        let known = Arc::default();
        let receiver = TraceReceiver { config, clock, log, known, counts: Arc::clone(&counts), tenants: None };
        Ok(Self { store, receiver, settler, counts })
    }

    /// Takes an export as its bytes; durable when it returns.
    ///
    /// # Errors
    /// As the protocol answers.
    pub async fn accept(&self, bytes: &[u8]) -> Result<(), Status> {
        let sent =
            SentSpans::decode(bytes).map_err(|error| Status::invalid_argument(format!("not an export: {error}")))?;
        let context = CallContext::new(TenantId::default(), "measurement", TIMEOUT);
        self.receiver.accept(context, sent).await.map(drop)
    }

    /// Takes what was accepted, and settles what is due.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn settle(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        self.settler.step(now_ms).await
    }

    /// Spans that were accepted, and spans that were settled.
    #[must_use]
    pub fn accepted_and_settled(&self) -> (u64, u64) {
        (self.counts.spans_accepted.value(), self.counts.spans_settled.value())
    }

    /// How much waits.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn waiting(&self) -> Result<SpanLogSize, Error> {
        self.store.span_log_size().await
    }
}
