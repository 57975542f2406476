//! A plain HTTP client: one connection a request, so that tests own every byte.

use std::net::SocketAddr;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value as JsonValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> JsonValue {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Checks what every problem document has, and returns it.
    pub fn problem(&self) -> JsonValue {
        let json = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json", "{json}");
        assert_eq!(json["status"], self.status.as_u16());
        assert_eq!(json["request_id"], self.header("x-request-id"));
        assert_eq!(json["type"], format!("urn:attain:problem:{}", json["code"].as_str().expect("a code")));
        for member in ["title", "detail", "instance"] {
            assert!(json[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {json}");
        }
        json
    }
}

/// A request under construction.
#[derive(Debug, Clone)]
pub struct Ask {
    verb: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

pub fn get(path: &str) -> Ask {
    ask("GET", path)
}

pub fn post(path: &str, body: impl ToString) -> Ask {
    let mut ask = ask("POST", path).header("content-type", "application/json");
    ask.body = body.to_string().into_bytes();
    ask
}

pub fn ask(verb: &str, path: &str) -> Ask {
    Ask { verb: verb.parse().expect("a verb"), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
}

impl Ask {
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    fn request(self, uri: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.verb).uri(uri).header("host", "gateway");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Full::from(self.body)).expect("a request")
    }

    /// Sends over HTTP/1.1.
    pub async fn send(self, address: SocketAddr) -> Answer {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        let running = tokio::spawn(connection);
        let uri = self.path.clone();
        let response = sender.send_request(self.request(&uri)).await.expect("an answer");
        let answer = collect(response).await;
        running.abort();
        answer
    }

    /// Sends over HTTP/2 with prior knowledge.
    pub async fn send_http2(self, address: SocketAddr) -> Answer {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
        let running = tokio::spawn(connection);
        let uri = format!("http://gateway{}", self.path);
        let response = sender.send_request(self.request(&uri)).await.expect("an answer");
        let answer = collect(response).await;
        running.abort();
        answer
    }
}

async fn collect(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Writes `head`, `count` times `chunk` and `end`, as a client does that reads nothing before it has written all; returns
/// all that came back.
pub async fn write_then_read(address: SocketAddr, head: &str, chunk: &[u8], count: usize, end: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("written");
    for _ in 0..count {
        stream.write_all(chunk).await.expect("the whole body can be written");
    }
    stream.write_all(end).await.expect("the end can be written");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.expect("read");
    String::from_utf8_lossy(&text).into_owned()
}
