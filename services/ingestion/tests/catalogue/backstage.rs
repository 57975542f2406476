//! A catalogue that answers as the recorded one did: page by page, with entity tags and 304, and with whatever is to go
//! wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) const PARCELS: &str = include_str!("../recorded/parcels.json");
pub(crate) const LATER: &str = include_str!("../recorded/parcels-later.json");
pub(crate) const TOKEN: &str = "canary-token-of-the-catalogue";

/// What a page answers instead of itself.
#[derive(Debug, Clone)]
pub(crate) enum Mishap {
    /// A status, more headers, and a body.
    Answer(u16, &'static str, String),
    /// The connection ends after the head and half of the body.
    CutOff,
    /// Nothing, for as long as the client waits.
    Silence,
}

/// One request as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Which page, from 0.
    pub(crate) page: usize,
    /// Whether an entity tag came with it.
    pub(crate) conditional: bool,
    pub(crate) status: u16,
}

#[derive(Debug)]
struct Script {
    pages: Vec<Value>,
    mishaps: BTreeMap<usize, Mishap>,
    token: String,
    asked: Vec<Asked>,
    malformed: Vec<String>,
}

/// A catalogue behind a port of its own.
#[derive(Debug, Clone)]
pub(crate) struct Backstage {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    /// Counts answers, so that a test can wait for them.
    answered: watch::Sender<usize>,
}

pub(crate) fn pages(recorded: &str) -> Vec<Value> {
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    recorded["pages"].as_array().unwrap().clone()
}

/// What the recorded catalogue answered without a token, to a wrong one, and to a wrong cursor.
pub(crate) fn refusals() -> Vec<(u16, String)> {
    let recorded: Value = serde_json::from_str(PARCELS).unwrap();
    let refusals = recorded["refusals"].as_array().unwrap().iter();
    refusals.map(|refusal| (refusal["status"].as_u64().unwrap() as u16, refusal["body"].to_string())).collect()
}

impl Backstage {
    pub(crate) async fn start(recorded: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let script = Script {
            pages: pages(recorded),
            mishaps: BTreeMap::new(),
            token: TOKEN.to_owned(),
            asked: Vec::new(),
            malformed: Vec::new(),
        };
        let url = format!("http://{}", listener.local_addr().unwrap());
        let this = Self { url, script: Arc::new(Mutex::new(script)), answered: watch::Sender::new(0) };
        let serving = this.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serving.clone().answer(socket));
            }
        });
        this
    }

    /// From now on it holds something else.
    pub(crate) fn holds(&self, pages: Vec<Value>) {
        self.script.lock().unwrap().pages = pages;
    }

    /// From now on this page, and only it, goes wrong.
    pub(crate) fn fails(&self, page: usize, mishap: Mishap) {
        self.script.lock().unwrap().mishaps = BTreeMap::from([(page, mishap)]);
    }

    pub(crate) fn heals(&self) {
        self.script.lock().unwrap().mishaps.clear();
    }

    /// From now on only this token is good.
    pub(crate) fn accepts(&self, token: &str) {
        self.script.lock().unwrap().token = token.to_owned();
    }

    /// What was asked since the last time; every question was one that Backstage understands.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let mut script = self.script.lock().unwrap();
        assert_eq!(script.malformed, Vec::<String>::new());
        std::mem::take(&mut script.asked)
    }

    /// Waits for so many more answers.
    pub(crate) async fn answers(&self, more: usize) {
        let mut answered = self.answered.subscribe();
        let goal = *answered.borrow_and_update() + more;
        let reached = answered.wait_for(|count| *count >= goal);
        drop(tokio::time::timeout(Duration::from_secs(30), reached).await.expect("it is asked again").unwrap());
    }

    async fn answer(self, mut socket: TcpStream) {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let reply = self.reply(&request);
        // A client that went away does not matter.
        let _ = match reply {
            Some((head, body)) => socket.write_all(format!("{head}{body}").as_bytes()).await,
            // Whoever waits is let wait until it gives up.
            None => socket.read_u8().await.map(drop),
        };
        self.answered.send_modify(|count| *count += 1);
    }

    /// Head and body; `None` for silence.
    fn reply(&self, request: &str) -> Option<(String, String)> {
        let mut script = self.script.lock().unwrap();
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        let url = reqwest::Url::parse(&format!("{}{path}", self.url)).unwrap();
        let header = |name: &str| {
            let lines = request.lines().filter_map(|line| line.split_once(": "));
            lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        if header("authorization") != Some(format!("Bearer {}", script.token)) {
            let (status, body) = refusals().remove(if header("authorization").is_none() { 0 } else { 1 });
            script.asked.push(Asked { page: 0, conditional: false, status });
            return Some((head(status, "", body.len()), body));
        }
        if let Err(malformed) = check(&url) {
            script.malformed.push(malformed);
        }
        let cursor = url.query_pairs().find(|(key, _)| key == "cursor").map(|(_, cursor)| cursor.into_owned());
        let found = script.pages.iter().position(|page| page["cursor"].as_str() == cursor.as_deref());
        let Some(index) = found else {
            let (status, body) = refusals().remove(2);
            return Some((head(status, "", body.len()), body));
        };
        let page = script.pages[index].clone();
        let (etag, body) = (page["etag"].as_str().unwrap().to_owned(), page["body"].to_string());
        let sent = header("if-none-match");
        let (status, reply) = match script.mishaps.get(&index) {
            Some(Mishap::Silence) => (0, None),
            Some(Mishap::CutOff) => (200, Some((head(200, "", body.len()), body[..body.len() / 2].to_owned()))),
            Some(Mishap::Answer(status, more, body)) => {
                (*status, Some((head(*status, more, body.len()), body.clone())))
            }
            None if sent.as_ref() == Some(&etag) => {
                (304, Some((head(304, &format!("ETag: {etag}\r\n"), 0), String::new())))
            }
            None => (200, Some((head(200, &format!("ETag: {etag}\r\n"), body.len()), body))),
        };
        script.asked.push(Asked { page: index, conditional: sent.is_some(), status });
        reply
    }
}

/// Whether the question is one that a page is recorded for.
fn check(url: &reqwest::Url) -> Result<(), String> {
    let mut asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in url.query_pairs() {
        asked.entry(key.into_owned()).or_default().push(value.into_owned());
    }
    let fields = asked.remove("fields").unwrap_or_default().join(",");
    let limit = asked.remove("limit").unwrap_or_default();
    let rest_is_right = match asked.remove("cursor") {
        Some(_) => asked.is_empty(),
        None => {
            let kinds = ["kind=component", "kind=resource", "kind=api", "kind=system"].map(str::to_owned).to_vec();
            let order = vec!["metadata.uid,asc".to_owned()];
            asked == BTreeMap::from([("filter".to_owned(), kinds), ("orderField".to_owned(), order)])
        }
    };
    let whole = fields.contains("relations") && fields.contains("metadata.annotations.attain.dev/tier");
    if url.path() == "/api/catalog/entities/by-query" && limit == ["5"] && whole && rest_is_right {
        return Ok(());
    }
    Err(url.to_string())
}

fn head(status: u16, more: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n"
    )
}

/// A page of nothing.
pub(crate) fn empty(total: usize) -> String {
    json!({ "items": [], "totalItems": total, "pageInfo": {} }).to_string()
}
