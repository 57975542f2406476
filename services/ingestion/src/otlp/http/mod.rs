//! OTLP/HTTP in: the same exports as over gRPC, as protobuf or JSON, whole or compressed.
//!
//! A request is read, admitted and decoded as over gRPC (`way_in`; `json` for JSON), taken by the same receivers (`door`), and
//! answered in the sender's own encoding (`reply`).

mod door;
pub(super) mod json;
mod reply;

#[cfg(test)]
mod json_tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::connections::{Accepted, Acceptor};
use attain_runtime::readiness::Readiness;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};

use super::WINDOWS;
use super::counts::Counts;
use super::receivers::{MetricsReceiver, TraceReceiver};
use crate::Config;
use door::Door;

const HEADER_BYTES_MAX: usize = 64 * 1024;
/// How long a connection may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Receives OTLP/HTTP on `listener` until `shutdown`; exports in flight end within the drain time.
pub(super) async fn serve(
    config: &Config,
    listener: TcpListener,
    receivers: (Arc<TraceReceiver>, Arc<MetricsReceiver>),
    counts: Arc<Counts>,
    readiness: Readiness,
    shutdown: Shutdown,
) {
    let door = Arc::new(Door::new(config, receivers, counts, readiness));
    let server = Server::new(door);
    server.accept(Acceptor::new(listener, config.otlp_http_connections_max), shutdown).await;
    if tokio::time::timeout(config.drain(), server.graceful.shutdown()).await.is_err() {
        tracing::warn!("OTLP/HTTP exports in flight were cut off at the end of the drain");
    }
}

struct Server {
    door: Arc<Door>,
    http: Arc<auto::Builder<TokioExecutor>>,
    graceful: GracefulShutdown,
}

impl Server {
    fn new(door: Arc<Door>) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .initial_stream_window_size(WINDOWS.call_bytes)
            .initial_connection_window_size(WINDOWS.connection_bytes)
            .max_header_list_size(HEADER_BYTES_MAX as u32);
        Self { door, http: Arc::new(http), graceful: GracefulShutdown::new() }
    }

    async fn accept(&self, acceptor: Acceptor, shutdown: Shutdown) {
        loop {
            tokio::select! {
                accepted = acceptor.next() => self.spawn(accepted),
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn spawn(&self, Accepted { stream, peer, place }: Accepted) {
        let (door, http, watcher) = (Arc::clone(&self.door), Arc::clone(&self.http), self.graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            // HTTP/1.1 or 2 shows in the first bytes; the timeouts of both begin after them.
            if tokio::time::timeout(HEADER_TIMEOUT, stream.readable()).await.is_ok() {
                converse(door, http, stream, peer, watcher).await;
            }
        });
    }
}

async fn converse(
    door: Arc<Door>,
    http: Arc<auto::Builder<TokioExecutor>>,
    stream: TcpStream,
    peer: SocketAddr,
    watcher: Watcher,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %error, client.address = attain_redaction::shown_address(peer.ip()), "a connection broke off");
    }
}
