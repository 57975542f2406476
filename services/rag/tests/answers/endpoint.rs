//! An endpoint that speaks chat completions as a script says: it lies, stalls, breaks off.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use attain_rag::LanguageModelConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What it answers to the sentences that it is sent.
pub(crate) enum Reply {
    /// A chat completion with every sentence turned by this.
    Sentences(fn(&str) -> String),
    /// A chat completion with this content.
    Content(String),
    /// A status and a body.
    Raw(u16, String),
    /// A head that promises more than comes.
    Cut(String),
    /// Nothing, for as long as anybody waits.
    Silence,
}

/// What was sent to it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Received {
    /// The sentences in it.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let content: Value = serde_json::from_str(self.body["messages"][1]["content"].as_str().unwrap()).unwrap();
        let text = |sentence: &Value| sentence["text"].as_str().unwrap().to_owned();
        content["sentences"].as_array().unwrap().iter().map(text).collect()
    }
}

pub(crate) struct Endpoint {
    pub(crate) config: LanguageModelConfig,
    received: Arc<Mutex<Vec<Received>>>,
    reply: Arc<Mutex<Arc<Reply>>>,
}

impl Endpoint {
    pub(crate) async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let reply = Arc::new(Mutex::new(Arc::new(reply)));
        let (kept, script) = (Arc::clone(&received), Arc::clone(&reply));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (kept, reply) = (Arc::clone(&kept), Arc::clone(&script.lock().unwrap()));
                // One that goes away does not matter.
                tokio::spawn(async move { drop(serve(socket, &kept, &reply).await) });
            }
        });
        let config = LanguageModelConfig {
            url: Some(url),
            model: "scripted".into(),
            api_key: Some("key-of-the-test".into()),
            timeout_ms: 2_000,
            failures_max: 3,
            pause_seconds: 30,
            ..LanguageModelConfig::default()
        };
        Self { config, received, reply }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn answers(&self, reply: Reply) {
        *self.reply.lock().unwrap() = Arc::new(reply);
    }
}

async fn serve(mut socket: TcpStream, kept: &Mutex<Vec<Received>>, reply: &Reply) -> std::io::Result<()> {
    let received = read(&mut socket).await?;
    kept.lock().unwrap().push(received.clone());
    let completion =
        |content: &str| json!({"choices": [{"message": {"role": "assistant", "content": content}}]}).to_string();
    let (status, body, promised) = match reply {
        Reply::Sentences(turn) => {
            let turned: Vec<Value> = received
                .sentences()
                .iter()
                .enumerate()
                .map(|(place, text)| json!({"id": place + 1, "text": turn(text)}))
                .collect();
            (200, completion(&json!({ "sentences": turned }).to_string()), 0)
        }
        Reply::Content(content) => (200, completion(content), 0),
        Reply::Raw(status, body) => (*status, body.clone(), 0),
        Reply::Cut(body) => (200, body.clone(), 500),
        Reply::Silence => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            return Ok(());
        }
    };
    let length = body.len() + promised;
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}

async fn read(socket: &mut TcpStream) -> std::io::Result<Received> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Ok(Received { head: head.to_owned(), body: serde_json::from_str(body).unwrap() });
            }
        }
        let mut part = [0; 4096];
        let count = socket.read(&mut part).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&part[..count]);
    }
}
