//! Another embedding model: the old one answers until the vectors of the new one are all there, whatever breaks off in between.
//!
//! Both models are genuine: the published weights, read in two ways. Against an embedded Qdrant that the test owns, so that it sees the
//! collections; with `QDRANT_URL` against that server.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use attain_proto::rag::v1 as wire;
use attain_rag::Config;
use tempfile::TempDir;

use support::{ChildService, Gate, Hold, PATIENCE, Qdrant, Running, document, model_folder, start};

/// Enough for a change to take a while.
const DOCUMENTS: usize = 24;
const QUERY: &str = "card charges are rejected by our external vendor";
const FIRST: &str = "all-MiniLM-L6-v2@53aa51172d14+d6f957c8e8ab";
const SECOND: &str = "first-token-256@53aa51172d14+";

/// A folder with the same weights, read by the first word piece alone and cut to 256 numbers.
fn second_model(published: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(published).unwrap() {
        let path = entry.unwrap().path();
        let link = folder.path().join(path.file_name().unwrap());
        std::os::unix::fs::symlink(path.canonicalize().unwrap(), link).unwrap();
    }
    let manifest = "name = \"first-token-256\"\n\
         weights_sha256 = \"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db\"\n\
         pooling = \"cls\"\nmax_length = 256\ndimensions = 256\n";
    std::fs::write(folder.path().join("attain-model.toml"), manifest).unwrap();
    folder
}

fn corpus() -> Vec<wire::Document> {
    let topics =
        ["payment provider", "user database", "product cache", "gateway certificate", "name resolution", "stock lock"];
    let text = |place: usize| {
        let topic = topics[place % topics.len()];
        format!(
            "# Runbook {place}: {topic} fails\n\nThe {topic} of cell {place} answers with errors and customers notice it.\n\n\
             ## Mitigation\n\nRestart replica {place} of the {topic}, then watch its error ratio for ten minutes.\n"
        )
    };
    (0..DOCUMENTS)
        .map(|place| document(&format!("runbooks/cell-{place}"), wire::DocumentKind::Runbook, &text(place), &[]))
        .collect()
}

struct Scene {
    qdrant: Qdrant,
    folder: TempDir,
    published: PathBuf,
    second: TempDir,
}

impl Scene {
    /// Documents with vectors of the published model.
    async fn set(published: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let second = second_model(&published);
        let scene = Self { qdrant: Qdrant::start(folder.path()).await, folder, published, second };
        let service = scene.serve(&scene.published.clone()).await;
        service.put("acme", corpus()).await;
        service.until_model(FIRST).await;
        service.stop().await;
        scene
    }

    async fn serve(&self, model_dir: &Path) -> Running {
        let config = Config {
            database_url: format!("sqlite:{}", self.folder.path().join("rag.db").display()),
            model_dir: Some(model_dir.to_owned()),
            qdrant_url: Some(self.qdrant.url.clone()),
            qdrant_api_key: self.qdrant.api_key.clone(),
            collection_prefix: self.qdrant.prefix.clone(),
            embedding_threads: 1,
            ..Config::default()
        };
        start(config).await
    }

    /// In a process of its own, with the second model wanted.
    fn child(&self, gate: &Gate) -> ChildService {
        let mut settings = format!(
            "database_url = \"sqlite:{}\"\nmodel_dir = {:?}\nqdrant_url = {:?}\ncollection_prefix = {:?}\nembedding_threads = 1\n",
            self.folder.path().join("rag.db").display(),
            self.second.path(),
            gate.url,
            self.qdrant.prefix
        );
        if let Some(key) = &self.qdrant.api_key {
            settings.push_str(&format!("qdrant_api_key = {key:?}\n"));
        }
        ChildService::start(&self.folder.path().join("rag.toml"), &settings, &[])
    }

    async fn changing(&self) -> Running {
        let service = self.serve(self.second.path()).await;
        service
            .wait_for(|status| status.conditions.iter().any(|c| c.detail.contains("being embedded by first-token")))
            .await;
        service
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_model_answers_until_the_new_one_can() {
    let Some(published) = model_folder() else { return };
    let scene = Scene::set(published).await;
    assert_eq!(scene.qdrant.collections().await, ["_documents", "_passages"]);
    let service = scene.changing().await;

    // While vectors are being made, documents come and go.
    let late = "# Carrier pigeons\n\nThe pigeons carry the nightly report when the fibre is cut.\n";
    service.put("acme", vec![document("runbooks/pigeons", wire::DocumentKind::Runbook, late, &[])]).await;
    service.delete("acme", "runbooks/cell-0").await.unwrap();
    let (mut by_first, mut by_second) = (0, 0);
    while by_second == 0 {
        let answer = service.search("acme", QUERY).await;
        assert_eq!(answer.mode(), wire::RetrievalMode::Hybrid, "{answer:?}");
        match answer.embedding_model.as_str() {
            FIRST => by_first += 1,
            name if name.starts_with(SECOND) => by_second += 1,
            other => panic!("{other}"),
        }
    }
    assert!(by_first > 0, "the old model answered meanwhile");
    service.until_model(SECOND).await;
    scene.qdrant.until_collections(&["_g2_documents", "_g2_passages"]).await;
    let found = service.ids("acme", "who carries the nightly report when the fibre is cut").await;
    assert_eq!(found.first().map(String::as_str), Some("runbooks/pigeons"));
    let all = service.ids("acme", "Runbook 0: payment provider fails, cell 0").await;
    assert!(!all.contains(&"runbooks/cell-0".to_owned()), "{all:?}");
    service.stop().await;

    // And it stays so.
    let service = scene.serve(scene.second.path()).await;
    service.until_model(SECOND).await;
    assert_eq!(scene.qdrant.collections().await, ["_g2_documents", "_g2_passages"]);
    service.stop().await;
    scene.qdrant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_breaks_off_goes_on_or_back() {
    let Some(published) = model_folder() else { return };
    let scene = Scene::set(published).await;
    // Broken off in the middle, and taken up again.
    scene.changing().await.abort().await;
    let service = scene.changing().await;
    assert!(service.search("acme", QUERY).await.mode() == wire::RetrievalMode::Hybrid);
    // Broken off again; now the old model is wanted after all.
    service.abort().await;
    let service = scene.serve(&scene.published.clone()).await;
    service.until_model(FIRST).await;
    scene.qdrant.until_collections(&["_documents", "_passages"]).await;
    assert_eq!(service.search("acme", QUERY).await.embedding_model, FIRST);
    service.stop().await;
    // And at last the new one.
    let service = scene.serve(scene.second.path()).await;
    service.until_model(SECOND).await;
    scene.qdrant.until_collections(&["_g2_documents", "_g2_passages"]).await;
    assert!(service.search("acme", QUERY).await.embedding_model.starts_with(SECOND));
    service.stop().await;
    scene.qdrant.stop().await;
}

/// Models that answered until the collections are as wanted; questions meet one at a time.
async fn models_until(service: &ChildService, scene: &Scene, wanted: &[&str]) -> BTreeSet<String> {
    let mut models = BTreeSet::new();
    let asking = async {
        while scene.qdrant.collections().await != wanted {
            if let Ok(answer) = service
                .search_by("acme", wire::SearchKnowledgeRequest { query: QUERY.into(), ..Default::default() })
                .await
            {
                models.insert(answer.embedding_model);
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("collections as wanted in time");
    models
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_either_side_of_the_swap_it_goes_on_without_embedding_again() {
    const UPSERT: &str = "/qdrant.Points/Upsert";
    let both = ["_documents", "_g2_documents", "_g2_passages", "_passages"];
    let Some(published) = model_folder() else { return };
    let scene = Scene::set(published).await;
    let gate = Gate::to(&scene.qdrant.url, scene.qdrant.client.clone()).await;

    // Everything has its new vectors and the last pass begins: killed before the swap.
    let filled = format!("{}_g2_documents", scene.qdrant.prefix);
    gate.hold(Hold::Filled("/qdrant.Points/Scroll", filled, DOCUMENTS as u64));
    let service = scene.child(&gate);
    gate.until_held(PATIENCE).await;
    assert!(gate.taken(UPSERT) > 0);
    assert_eq!(scene.qdrant.collections().await, both);
    service.kill();

    // Started again, it swaps, and is killed when it begins to drop.
    gate.hold(Hold::Path("/qdrant.Collections/Delete"));
    let service = scene.child(&gate);
    gate.until_held(PATIENCE).await;
    let answer = service.search("acme", QUERY).await;
    assert!(answer.embedding_model.starts_with(SECOND), "{answer:?}");
    assert_eq!(scene.qdrant.collections().await, both);
    assert_eq!(gate.taken(UPSERT), 0, "what was filled is not filled again");
    service.kill();

    // Started once more, the new model alone answers, and the old collections go.
    gate.open();
    let service = scene.child(&gate);
    let models = models_until(&service, &scene, &["_g2_documents", "_g2_passages"]).await;
    assert!(models.iter().all(|model| model.is_empty() || model.starts_with(SECOND)), "{models:?}");
    service.until_model(SECOND).await;
    assert!(service.search("acme", QUERY).await.embedding_model.starts_with(SECOND));
    assert_eq!(gate.taken(UPSERT), 0);
    service.kill();
    gate.stop().await;
    scene.qdrant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_old_model_is_gone_words_answer_until_the_new_one_can() {
    let Some(published) = model_folder() else { return };
    let scene = Scene::set(published.clone()).await;
    let gone = second_model(&published);
    let service = scene.serve(gone.path()).await;
    service.until_model(SECOND).await;
    service.stop().await;
    drop(gone);
    let service = scene.serve(&published).await;
    let mut modes = Vec::new();
    loop {
        let answer = service.search("acme", "restart the replica of the payment provider").await;
        assert!(!answer.citations.is_empty(), "{answer:?}");
        modes.push(answer.mode());
        if answer.embedding_model == FIRST {
            break;
        }
        assert_eq!(answer.mode(), wire::RetrievalMode::LexicalOnly, "{answer:?}");
    }
    assert!(modes.contains(&wire::RetrievalMode::LexicalOnly));
    service.stop().await;
    scene.qdrant.stop().await;
}
