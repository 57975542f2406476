//! An index that hangs, vanishes or comes back: every call is answered within its deadline, by the code that callers act on.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use attain_proto::rag::v1 as wire;
use attain_rag::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use support::{Qdrant, Running, context, document, start};

const DEADLINE: Duration = Duration::from_millis(1_500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Bytes pass.
    Open,
    /// Bytes wait.
    Stalled,
    /// Connections end.
    Cut,
}

/// A line to the index that can be stalled and cut.
struct Proxy {
    url: String,
    line: watch::Sender<Line>,
}

impl Proxy {
    async fn to(url: &str) -> Self {
        let target = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (line, state) = watch::channel(Line::Open);
        let own = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, state) = (target.clone(), state.clone());
                tokio::spawn(async move {
                    if *state.borrow() == Line::Cut {
                        return;
                    }
                    let far = TcpStream::connect(target).await.unwrap();
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    tokio::select! {
                        () = pass(near_read, far_write, state.clone()) => {}
                        () = pass(far_read, near_write, state.clone()) => {}
                        () = until(state, Line::Cut) => {}
                    }
                });
            }
        });
        Self { url: own, line }
    }

    fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn until(mut state: watch::Receiver<Line>, wanted: Line) {
    // The sender lives as long as the test.
    let _ = state.wait_for(|line| *line == wanted).await;
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    state: watch::Receiver<Line>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        until(state.clone(), Line::Open).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn ask(service: &Running) -> Result<wire::SearchKnowledgeResponse, Status> {
    let message = wire::SearchKnowledgeRequest { query: "who promotes the replica".into(), ..Default::default() };
    let mut request = context("acme").request(message);
    request.set_timeout(DEADLINE);
    let began = Instant::now();
    let answer = service.client().search_knowledge(request).await;
    assert!(began.elapsed() < DEADLINE + SLACK, "answered after {:?}", began.elapsed());
    answer.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_hangs_or_vanishes_costs_no_more_than_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let qdrant = Qdrant::start(folder.path()).await;
    let proxy = Proxy::to(&qdrant.url).await;
    let service = start(Config {
        database_url: format!("sqlite:{}", folder.path().join("rag.db").display()),
        qdrant_url: Some(proxy.url.clone()),
        qdrant_api_key: qdrant.api_key.clone(),
        collection_prefix: qdrant.prefix.clone(),
        embeddings: false,
        ..Config::default()
    })
    .await;
    let text = "# Promotion\n\nThe replica is promoted by hand when the primary is gone.\n";
    service.put("acme", vec![document("a/b", wire::DocumentKind::Runbook, text, &[])]).await;
    assert!(!ask(&service).await.unwrap().citations.is_empty());

    proxy.set(Line::Stalled);
    let late = ask(&service).await.unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");

    proxy.set(Line::Cut);
    let gone = ask(&service).await.unwrap_err();
    assert!(matches!(gone.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled), "{gone:?}");
    if gone.code() == Code::Unavailable {
        let details = gone.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INDEX_UNAVAILABLE");
        assert!(details.retry_info().is_some());
    }
    // What is stored can be read all the same.
    let request = wire::GetDocumentRequest { document_id: "a/b".into(), version: 0 };
    service.client().get_document(context("acme").request(request)).await.unwrap();

    proxy.set(Line::Open);
    let back = async {
        while ask(&service).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, back).await.expect("answers again");
    assert_eq!(ask(&service).await.unwrap().citations[0].document_id, "a/b");
    service.stop().await;
    qdrant.stop().await;
}
