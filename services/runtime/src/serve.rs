//! Serves one member until it is told to stop, then drains.

use std::net::SocketAddr;
use std::time::Duration;

use attain_proto::status::v1::status_service_server::{StatusService, StatusServiceServer};
use attain_proto::status::v1::{GetStatusRequest, GetStatusResponse};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::admission::{AdmissionLayer, Class, Limits};
use crate::connections;
use crate::readiness::Readiness;
use crate::telemetry::CallLayer;
use crate::{Error, Shutdown};

/// Most calls that one connection may have open.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Longest that any unary call may take; callers set shorter deadlines.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Most bytes that callers may send before they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// On one call.
    pub call_bytes: u32,
    /// On all calls of one connection.
    pub connection_bytes: u32,
}

impl Default for Windows {
    /// Large messages come in few round trips.
    fn default() -> Self {
        Self { call_bytes: 1024 * 1024, connection_bytes: 1024 * 1024 }
    }
}

/// How one member serves.
#[derive(Debug)]
pub struct Member {
    /// What it needs and says of itself.
    pub readiness: Readiness,
    /// The gRPC services by full name whose health is reported, beside the member as a whole.
    pub service_names: &'static [&'static str],
    /// Where it listens.
    pub listener: TcpListener,
    /// Most calls in flight, and connections.
    pub limits: Limits,
    /// What a path costs.
    pub classify: fn(&str) -> Class,
    /// How long calls in flight may take to end after the stop.
    pub drain: Duration,
    /// Most bytes that callers may send before they are read.
    pub windows: Windows,
}

impl Member {
    /// Serves `routes` beside health, status and reflection until `shutdown`, then lets calls in flight end within the
    /// drain time.
    ///
    /// # Errors
    /// Where the transport fails by itself.
    pub async fn serve(self, routes: Routes, shutdown: Shutdown) -> Result<(), Error> {
        let service = self.readiness.service();
        let (reporter, health) = tonic_health::server::health_reporter();
        let mirror =
            tokio::spawn(mirror_health(self.readiness.clone(), self.service_names, reporter, shutdown.clone()));
        let routes = routes.add_service(health).add_service(StatusServiceServer::new(StatusOf(self.readiness.clone())));
        let routes = with_reflection(routes);

        let stop = shutdown.clone();
        let incoming = connections::accept(self.listener, self.limits.connections_max);
        let serving = server(CALL_TIMEOUT, self.windows)
            .layer(CallLayer::new(service))
            .layer(AdmissionLayer::new(self.limits, self.classify))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async move { stop.cancelled().await });
        let result = drain(service, serving, shutdown, self.drain).await;
        mirror.abort();
        result
    }
}

/// A server whose calls end in time, answered or not: one whose body never comes must not keep its place for ever.
fn server(call_timeout: Duration, windows: Windows) -> Server {
    Server::builder()
        .initial_stream_window_size(windows.call_bytes)
        .initial_connection_window_size(windows.connection_bytes)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .timeout(call_timeout)
}

/// Longest that a call without a deadline of its own may take.
#[must_use]
pub fn call_timeout() -> Duration {
    CALL_TIMEOUT
}

/// Opens a port.
///
/// # Errors
/// Names the address that cannot be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

async fn drain(
    service: &'static str,
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    shutdown: Shutdown,
    within: Duration,
) -> Result<(), Error> {
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(within).await;
    };
    tokio::select! {
        result = serving => result.map_err(|source| Error::Serve { service, source }),
        () = overdue => {
            tracing::warn!(service, drain_ms = within.as_millis() as u64, "calls in flight were cut off at the end of the drain");
            Ok(())
        }
    }
}

fn with_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(attain_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Both versions: common clients still ask for v1alpha.
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(error = %error, "reflection is off: the descriptors do not load");
            routes
        }
    }
}

async fn mirror_health(
    readiness: Readiness,
    names: &'static [&'static str],
    reporter: HealthReporter,
    shutdown: Shutdown,
) {
    let mut ready = readiness.watch();
    loop {
        let serving = *ready.borrow_and_update() && !shutdown.is_cancelled();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in std::iter::once(&"").chain(names) {
            reporter.set_service_status(*name, status).await;
        }
        if shutdown.is_cancelled() {
            return;
        }
        tokio::select! {
            changed = ready.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => {}
        }
    }
}

struct StatusOf(Readiness);

#[tonic::async_trait]
impl StatusService for StatusOf {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::name_deadline;
    use attain_proto::status::v1::status_service_client::StatusServiceClient;
    use tonic::Code;
    use tonic::transport::Channel;
    use tonic::transport::server::TcpIncoming;

    struct Never;

    #[tonic::async_trait]
    impl StatusService for Never {
        async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_call_without_a_deadline_of_its_own_ends_in_time() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = server(Duration::from_millis(50), Windows::default())
            .add_service(StatusServiceServer::new(Never))
            .serve_with_incoming(TcpIncoming::from(listener));
        let serving = tokio::spawn(serving);
        let channel = Channel::from_shared(url).expect("an address").connect().await.expect("connected");
        let mut client = StatusServiceClient::new(channel);
        let refused = client.get_status(GetStatusRequest {}).await.expect_err("nobody answers");
        assert_eq!(name_deadline(refused).code(), Code::DeadlineExceeded);
        serving.abort();
    }
}
