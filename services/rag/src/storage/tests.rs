//! The promises of the store, held against SQLite and, where there is one, PostgreSQL.

use super::*;
use crate::domain::document::Written;

fn tenant(name: &str) -> TenantId {
    TenantId::new("tenant", name).expect("valid")
}

fn id(name: &str) -> DocumentId {
    DocumentId::new("id", name).expect("valid")
}

fn draft(id: &str, text: &str, services: &[&str]) -> Draft {
    let service_ids: Vec<String> = services.iter().map(ToString::to_string).collect();
    Draft::new(Written { id, kind: Kind::Incident, title: "T", text, service_ids: &service_ids }).expect("valid")
}

async fn versions_grow_with_the_text_only(store: &Store) {
    let acme = tenant("acme");
    let first = store.put(&acme, &[draft("a/b", "one", &["db"])], 10).await.expect("stored");
    assert_eq!((first[0].version, first[0].update_ms), (1, 10));
    let again = store.put(&acme, &[draft("a/b", "one", &["db"])], 20).await.expect("stored");
    assert_eq!(again, first);
    let moved = store.put(&acme, &[draft("a/b", "one", &["cache"])], 30).await.expect("stored");
    assert_eq!((moved[0].version, moved[0].update_ms), (1, 30));
    let second = store.put(&acme, &[draft("a/b", "two ж", &["cache"])], 40).await.expect("stored");
    assert_eq!(second[0].version, 2);
    assert_eq!(store.get(&acme, &id("a/b"), None).await.expect("read"), Some(second[0].clone()));
    let old = store.get(&acme, &id("a/b"), Some(1)).await.expect("read").expect("kept");
    assert_eq!((old.text.as_str(), old.version, old.kind), ("one", 1, Kind::Incident));
    assert_eq!(store.get(&acme, &id("a/b"), Some(3)).await.expect("read"), None);
    assert!(store.remove(&acme, &id("a/b")).await.expect("removed"));
    assert!(!store.remove(&acme, &id("a/b")).await.expect("nothing left"));
    assert_eq!(store.get(&acme, &id("a/b"), Some(1)).await.expect("read"), None);
    let back = store.put(&acme, &[draft("a/b", "two ж", &[])], 50).await.expect("stored");
    assert_eq!(back[0].version, 3, "a version number never returns");
}

async fn lists_page_in_order_and_filter(store: &Store) {
    let acme = tenant("acme");
    let drafts = [
        draft("b/B", "x", &["db"]),
        draft("a/z", "x", &["db", "web"]),
        draft("b/a", "x", &["web"]),
        draft("c", "x", &[]),
    ];
    store.put(&acme, &drafts, 1).await.expect("stored");
    let names = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>();
    let all = Selection { limit: 10, ..Selection::default() };
    assert_eq!(names(store.list(&acme, &all).await.expect("listed")), ["a/z", "b/B", "b/a", "c"]);
    let page = Selection { limit: 2, after: Some(id("a/z")), ..Selection::default() };
    assert_eq!(names(store.list(&acme, &page).await.expect("listed")), ["b/B", "b/a"]);
    let about = Selection { service: Some(EntityId::new("s", "web").expect("valid")), ..all.clone() };
    assert_eq!(names(store.list(&acme, &about).await.expect("listed")), ["a/z", "b/a"]);
    let runbooks = Selection { kind: Some(Kind::Runbook), ..all.clone() };
    assert!(store.list(&acme, &runbooks).await.expect("listed").is_empty());
    let incidents = Selection { kind: Some(Kind::Incident), ..about };
    assert_eq!(store.list(&acme, &incidents).await.expect("listed").len(), 2);
    assert!(store.list(&tenant("other"), &all).await.expect("listed").is_empty());
    assert_eq!(store.places().await.expect("listed").len(), 4);
}

async fn frequencies_follow_the_newest_version(store: &Store) {
    let (acme, other) = (tenant("acme"), tenant("other"));
    store.put(&acme, &[draft("a", "x", &[]), draft("b", "x", &[])], 1).await.expect("stored");
    store.put(&other, &[draft("a", "x", &[])], 1).await.expect("stored");
    let big = u32::MAX;
    let many: BTreeSet<TermId> = (0..1200).chain([big]).collect();
    for (tenant, name, terms) in [(&acme, "a", &many), (&acme, "b", &BTreeSet::from([big])), (&other, "a", &many)] {
        store.set_terms(tenant, &[(&id(name), 1, terms)], "r1").await.expect("stored");
    }
    let found = store.frequencies(&acme, &many).await.expect("counted");
    assert_eq!((found.document_count, found.by_term[&big], found.by_term[&7]), (2, 2, 1));
    let held = store.held_terms(&acme, &[id("b"), id("a"), id("none")], &BTreeSet::from([big, 7])).await.expect("read");
    assert_eq!(held, [BTreeSet::from([big]), BTreeSet::from([7, big]), BTreeSet::new()]);
    assert_eq!(store.recipe(&acme, &id("a")).await.expect("read").as_deref(), Some("r1"));
    store.put(&acme, &[draft("b", "x", &["db"])], 2).await.expect("stored");
    let recipe = store.recipe(&acme, &id("b")).await.expect("read");
    assert_eq!(recipe.as_deref(), Some(""), "a title may have changed: the terms are found again");
    // Terms of a version that is no longer the newest are not noted.
    store.put(&acme, &[draft("a", "new", &[])], 2).await.expect("stored");
    assert_eq!(store.recipe(&acme, &id("a")).await.expect("read").as_deref(), Some(""));
    store.set_terms(&acme, &[(&id("a"), 1, &BTreeSet::from([5]))], "r1").await.expect("ignored");
    assert_eq!(store.recipe(&acme, &id("a")).await.expect("read").as_deref(), Some(""));
    store.remove(&acme, &id("a")).await.expect("removed");
    let found = store.frequencies(&acme, &many).await.expect("counted");
    assert_eq!((found.document_count, found.by_term.get(&7), found.by_term[&big]), (1, None, 1));
}

async fn writers_of_one_document_queue_up(store: &Store) {
    let acme = tenant("acme");
    let puts = (0..8).map(|n| {
        let (store, acme) = (store.clone(), acme.clone());
        tokio::spawn(async move { store.put(&acme, &[draft("a", &format!("text {n}"), &["db"])], n).await })
    });
    let mut versions = BTreeSet::new();
    for put in puts.collect::<Vec<_>>() {
        versions.insert(put.await.expect("ended").expect("stored")[0].version);
    }
    assert_eq!(versions, (1..=8).collect());
}

macro_rules! contract {
    ($($promise:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $promise() {
                let folder = tempfile::tempdir().expect("a folder");
                let url = format!("sqlite:{}", folder.path().join("rag.db").display());
                super::$promise(&super::Store::open(&url).await.expect("opened")).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $promise() {
                if let Some(url) = super::fresh_postgres(stringify!($promise)).await {
                    super::$promise(&super::Store::open(&url).await.expect("opened")).await;
                }
            })+
        }
    };
}

contract!(
    versions_grow_with_the_text_only,
    lists_page_in_order_and_filter,
    frequencies_follow_the_newest_version,
    writers_of_one_document_queue_up,
);

/// A database of its own on the server that the environment names.
#[allow(clippy::print_stdout)]
async fn fresh_postgres(name: &str) -> Option<String> {
    use sqlx::Connection as _;
    let Ok(server) = std::env::var("ATTAIN_TEST_POSTGRES_URL") else {
        println!("SKIPPED: ATTAIN_TEST_POSTGRES_URL is not set");
        return None;
    };
    sqlx::any::install_default_drivers();
    let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let database =
        format!("test_rag_{}_{}_{}", &name[..name.len().min(20)], std::process::id(), unique % 1_000_000_000);
    let mut connection = sqlx::AnyConnection::connect(&server).await.expect("a server");
    let create = AssertSqlSafe(format!("CREATE DATABASE {database}"));
    sqlx::query(create).execute(&mut connection).await.expect("created");
    let (base, _) = server.rsplit_once('/').expect("a database in the address");
    Some(format!("{base}/{database}"))
}
