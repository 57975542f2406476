//! Connections: HTTP/1.1 and HTTP/2 in clear on one port, bounded in number, drained at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attain_redaction::shown_address;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::connections::{Accepted, Acceptor};
use axum::body::Body;
use futures::StreamExt as _;
use http::request::Parts;
use http::{Request, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};

use crate::pipeline::Gateway;
use crate::{Config, Error};

const HEADER_BYTES_MAX: usize = 64 * 1024;
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is left of a refused body is read and thrown away up to here, so that the sender gets to read the refusal.
const DRAIN_BYTES_MAX: usize = 128 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until `shutdown`, then lets requests in flight end within the drain time.
///
/// # Errors
/// Before anything is accepted: a setting that is out of range, a listener that is not loopback while `auth` is off, a
/// contract that cannot be served.
pub async fn serve(config: Config, listener: TcpListener, clock: Clock, shutdown: Shutdown) -> Result<(), Error> {
    config.validate()?;
    let address = listener.local_addr().map_err(Error::Listener)?;
    config.validate_auth(address)?;
    let gateway = Arc::new(Gateway::new(&config, &clock)?);
    let server = Server::new(&config, gateway);
    tracing::info!(server.address = %address, "the gateway listens");
    server.accept(Acceptor::new(listener, config.connections_max), shutdown).await;
    server.drain(Duration::from_millis(config.drain_ms)).await;
    Ok(())
}

struct Server {
    gateway: Arc<Gateway>,
    http: Arc<auto::Builder<TokioExecutor>>,
    graceful: GracefulShutdown,
    first_byte_timeout: Duration,
}

impl Server {
    fn new(config: &Config, gateway: Arc<Gateway>) -> Self {
        let header_read = Duration::from_millis(config.header_read_ms);
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(header_read).max_buf_size(HEADER_BYTES_MAX);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .max_header_list_size(HEADER_BYTES_MAX as u32);
        Self { gateway, http: Arc::new(http), graceful: GracefulShutdown::new(), first_byte_timeout: header_read }
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
        let (gateway, http) = (Arc::clone(&self.gateway), Arc::clone(&self.http));
        let (watcher, first_byte_timeout) = (self.graceful.watcher(), self.first_byte_timeout);
        tokio::spawn(async move {
            let _place = place;
            if tokio::time::timeout(first_byte_timeout, stream.readable()).await.is_ok() {
                converse(gateway, http, stream, peer, watcher).await;
            }
        });
    }

    async fn drain(self, within: Duration) {
        if tokio::time::timeout(within, self.graceful.shutdown()).await.is_err() {
            tracing::warn!(
                drain_ms = within.as_millis() as u64,
                "requests in flight were cut off at the end of the drain"
            );
        }
    }
}

async fn converse(
    gateway: Arc<Gateway>,
    http: Arc<auto::Builder<TokioExecutor>>,
    stream: TcpStream,
    peer: SocketAddr,
    watcher: Watcher,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(gateway.handle(peer, request.map(Body::new)).await) }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %error, client.address = shown_address(peer.ip()), "a connection broke off");
    }
}

/// Reads what is left of a body that nobody wanted, within bounds: a sender that is still writing would otherwise see its
/// connection reset before it reads the answer. One that waits for `100 Continue` is not asked for more.
pub(crate) fn drain_body(parts: &Parts, body: Body) {
    let waits = parts.headers.contains_key(header::EXPECT);
    if waits || body.is_end_stream() || parts.version >= Version::HTTP_2 {
        return;
    }
    tokio::spawn(async move {
        let mut chunks = body.into_data_stream();
        let mut left = DRAIN_BYTES_MAX;
        let reading = async {
            while let Some(Ok(chunk)) = chunks.next().await {
                left = left.saturating_sub(chunk.len());
                if left == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, reading).await;
    });
}
