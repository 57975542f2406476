//! Bounds the calls in flight by class; what does not fit is refused at once, with the time after which to try again. Under
//! overload the bounds give way (`gate`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use serde::Deserialize;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{Layer, Service};

use crate::gate::{Gate, Place};

/// When a refused caller should try again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Fewest calls of a class in flight that a bound gives way to: enough to keep the processors busy while storage waits.
const PLACES_MIN: usize = 6;

/// Fewest ingests in flight that a bound gives way to: one is worked on while storage makes another durable.
const INGESTS_PER_CORE_MIN: usize = 2;

/// How long a call that somebody waits for may take inside, on average, while others wait: with the wait at the door 99 of 100
/// answers come within 50 ms.
pub const ASKED_INSIDE: Duration = Duration::from_millis(12);

/// The same for ingests. An export changes hands several times on its way (its body, its turn, the durable write), and waits for
/// the processor each time, so that its slowest are slower against their average.
const INGEST_INSIDE: Duration = Duration::from_millis(4);

/// Ingests in flight to begin with: they come by themselves and in masses, and are answered quickly or not at all.
const INGESTS_FIRST: usize = 16;

/// The bound on ingests in flight, for ways in beside gRPC.
#[must_use]
pub fn ingests_gate(calls_max: usize) -> Gate {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Gate::new(INGEST_INSIDE, (INGESTS_PER_CORE_MIN * cores, INGESTS_FIRST, calls_max))
}

/// The bound on calls in flight that somebody waits for: masses of them meet the gateway's bound first, and some take long by
/// nature, so it begins half-way.
fn asked_gate(calls_max: usize) -> Gate {
    Gate::new(ASKED_INSIDE, (PLACES_MIN, calls_max / 2, calls_max))
}

/// A place that is free now or becomes free in a moment.
///
/// # Errors
/// RESOURCE_EXHAUSTED with the time after which to try again.
pub async fn enter(gate: &Gate) -> Result<Place, Status> {
    gate.enter().await.ok_or_else(overloaded)
}

/// What a call costs and how much it matters under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Health, status, reflection, and streams that last: never refused.
    Vital,
    /// Answers a question.
    Read,
    /// Changes what a person decided.
    Write,
    /// Takes telemetry in.
    Ingest,
}

/// Most calls in flight, by class, and most connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Reads.
    pub reads_max: usize,
    /// Writes.
    pub writes_max: usize,
    /// Ingests.
    pub ingests_max: usize,
    /// Connections of a port; those on top wait in the system's queue.
    pub connections_max: usize,
}

impl Default for Limits {
    /// Enough to keep two cores busy while storage waits, few enough that nobody waits long.
    fn default() -> Self {
        Self { reads_max: 128, writes_max: 64, ingests_max: 64, connections_max: 2_048 }
    }
}

/// Admits calls within the limits of their class.
#[derive(Debug, Clone)]
pub struct AdmissionLayer {
    gates: Arc<Gates>,
    classify: fn(&str) -> Class,
}

#[derive(Debug)]
struct Gates {
    reads: Gate,
    writes: Gate,
    ingests: Gate,
}

impl AdmissionLayer {
    /// `classify` maps a gRPC path (`/package.Service/Method`) of the service's own package to its class; health, status
    /// and reflection are vital in every service.
    #[must_use]
    pub fn new(limits: Limits, classify: fn(&str) -> Class) -> Self {
        let gates = Gates {
            reads: asked_gate(limits.reads_max),
            writes: asked_gate(limits.writes_max),
            ingests: ingests_gate(limits.ingests_max),
        };
        Self { gates: Arc::new(gates), classify }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission { inner, layer: self.clone() }
    }
}

/// See [`AdmissionLayer`].
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    layer: AdmissionLayer,
}

impl<S, B> Service<Request<B>> for Admission<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone takes over the readiness that was polled.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let gate = self.layer.gate(request.uri().path());
        Box::pin(async move {
            let _place = match gate {
                None => None,
                Some(gate) => match enter(&gate).await {
                    Ok(place) => Some(place),
                    Err(refused) => return Ok(refused.into_http()),
                },
            };
            inner.call(request).await
        })
    }
}

impl AdmissionLayer {
    fn gate(&self, path: &str) -> Option<Gate> {
        let vital = ["/grpc.", "/attain.status."].iter().any(|prefix| path.starts_with(prefix));
        match if vital { Class::Vital } else { (self.classify)(path) } {
            Class::Vital => None,
            Class::Read => Some(self.gates.reads.clone()),
            Class::Write => Some(self.gates.writes.clone()),
            Class::Ingest => Some(self.gates.ingests.clone()),
        }
    }
}

/// RESOURCE_EXHAUSTED with the time after which to try again.
#[must_use]
pub fn overloaded() -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
    details.set_error_info("OVERLOADED", "attain", std::collections::HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, "too many calls in flight; try again shortly", details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn the_call_that_does_not_fit_is_refused_with_retry_info() {
        let limits = Limits { reads_max: 1, ..Limits::default() };
        let never = tower::service_fn(|_: Request<()>| {
            std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
        });
        let service = AdmissionLayer::new(limits, |_| Class::Read).layer(never);
        let request =
            || Request::builder().uri("/attain.graph.v1.GraphService/AnalyzeService").body(()).expect("valid");
        let first = tokio::spawn(service.clone().oneshot(request()));
        tokio::task::yield_now().await;
        let refused = service.clone().oneshot(request()).await.expect("infallible");
        let status = Status::from_header_map(refused.headers()).expect("a status");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_error_details().retry_info().and_then(|info| info.retry_delay), Some(RETRY_DELAY));
        first.abort();
    }

    #[test]
    fn health_is_never_refused() {
        let layer = AdmissionLayer::new(Limits::default(), |_| Class::Read);
        assert!(layer.gate("/grpc.health.v1.Health/Check").is_none());
        assert!(layer.gate("/attain.status.v1.StatusService/GetStatus").is_none());
        assert!(layer.gate("/attain.graph.v1.GraphService/AnalyzeService").is_some());
    }
}
