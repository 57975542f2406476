//! Connections of a port: as many as there are places for. Those on top wait in the system's queue; one on which nothing comes
//! at first is closed, so that silence takes no place for long.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long the first byte may take.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that was accepted, and its place.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Until the first byte has come.
    overdue: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

/// A port that is listened on, with as many places for connections as it has; at least one.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// A connection, and the place that it takes until that is dropped.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Its place.
    pub place: OwnedSemaphorePermit,
}

impl Acceptor {
    /// Accepts at most `most` connections at a time; those on top wait in the system's queue.
    #[must_use]
    pub fn new(listener: TcpListener, most: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// The next connection, as soon as there is one and a place for it. What the system refuses is logged and tried again.
    ///
    /// Cancel safe: a connection that was accepted is always returned.
    pub async fn next(&self) -> Accepted {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return std::future::pending().await };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // An answer in several parts must not wait until the caller has acknowledged the first. Fails only for a
                    // connection that is gone already.
                    let _ = stream.set_nodelay(true);
                    return Accepted { stream, peer, place };
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Accepts connections, at most `most` at a time and at least one, for as long as somebody takes them.
pub(crate) fn accept(listener: TcpListener, most: usize) -> ReceiverStream<io::Result<Connection>> {
    let acceptor = Acceptor::new(listener, most);
    let (sender, accepted) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = acceptor.next() => Connection::new(next, FIRST_BYTE_WITHIN),
                () = sender.closed() => return,
            };
            if sender.send(Ok(next)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(accepted)
}

impl Connection {
    fn new(Accepted { stream, place, .. }: Accepted, first_byte_within: Duration) -> Self {
        Self { stream, overdue: Some(Box::pin(tokio::time::sleep(first_byte_within))), _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.overdue = None;
            return Poll::Ready(read);
        }
        match this.overdue.as_mut().map(|overdue| overdue.as_mut().poll(context)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    #[tokio::test]
    async fn a_connection_on_top_waits_until_another_one_ends() {
        let (listener, address) = listener().await;
        let mut accepted = accept(listener, 2);
        let _clients: Vec<TcpStream> = {
            let mut clients = Vec::new();
            for _ in 0..3 {
                clients.push(TcpStream::connect(address).await.expect("queued"));
            }
            clients
        };
        let first = accepted.next().await.expect("a place").expect("accepted");
        let _second = accepted.next().await.expect("a place").expect("accepted");
        let early = tokio::time::timeout(Duration::from_millis(100), accepted.next()).await;
        assert!(early.is_err(), "there was no place");
        drop(first);
        let third = tokio::time::timeout(PATIENCE, accepted.next()).await.expect("a place came free");
        assert!(third.is_some_and(|third| third.is_ok()));
    }

    async fn connected(first_byte_within: Duration) -> (TcpStream, Connection) {
        let (listener, address) = listener().await;
        let client = TcpStream::connect(address).await.expect("connected");
        (client, Connection::new(Acceptor::new(listener, 1).next().await, first_byte_within))
    }

    #[tokio::test]
    async fn silence_ends_a_connection_and_a_pause_after_the_first_byte_does_not() {
        let wait = Duration::from_millis(50);
        let (_client, mut silent) = connected(wait).await;
        let error = silent.read_u8().await.expect_err("nothing came");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut client, mut speaking) = connected(PATIENCE).await;
        client.write_u8(1).await.expect("written");
        assert_eq!(speaking.read_u8().await.expect("read"), 1);
        assert!(speaking.overdue.is_none());
        speaking.write_u8(2).await.expect("written");
        assert_eq!(client.read_u8().await.expect("read"), 2);
    }
}
