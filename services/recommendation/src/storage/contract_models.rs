//! What the store promises of drift and of models: part of the contract suite.

use attain_attainment::{Constants, MODEL_VERSION};
use attain_drift::{Change, Detector, Direction, Drift, Signal, State};
use attain_vocabulary::{DAY_MS, EntityId, TenantId, TimeWindow};

use super::contract::{new, service, tenant, verify};
use super::*;
use crate::domain::audit::Entry;
use crate::domain::drift::Watched;
use crate::domain::models::{Content, Registered, registered};
use crate::domain::scores::Stated;

fn watched(change: Option<(i64, i64)>) -> Watched {
    let change = change.map(|(since_ms, detected_ms)| Change {
        direction: Direction::Up,
        since_ms,
        detected_ms,
        before_ratio: 0.1 + 0.2,
        after_ratio: 0.5,
        signals: vec![Signal {
            detector: Detector::Adwin,
            direction: None,
            since_ms,
            detected_ms,
            statistic: 1e-9,
            threshold: 1e-10,
        }],
    });
    let state = if change.is_some() { State::Drifted } else { State::Steady };
    Watched { drift: Drift { state, change, cell_count: 9, lacking_cell_count: 0, cell_ms: 7 }, told_apart: true }
}

pub(in crate::storage) async fn a_drift_is_noted_once_and_shows_at_the_newest_recommendation(store: &Store) {
    store.insert(&tenant(), new("checkout", 1)).await.expect("stored");
    let note = |watched: Watched, now_ms: i64| async move {
        store.note_drift(&tenant(), &service("checkout"), &watched, "tester", now_ms).await.expect("noted")
    };
    let shown = || async {
        let latest = store.latest(&tenant(), &service("checkout"), TimeWindow::default()).await.expect("read");
        latest.expect("there").drift_ms
    };
    assert_eq!(note(watched(None), 1).await, (None, false));
    assert_eq!(shown().await, None);
    assert_eq!(note(watched(Some((10, 20))), 21).await, (Some(20), true));
    assert_eq!(note(watched(Some((12, 25))), 26).await, (Some(20), false), "the same, estimated anew");
    assert_eq!(shown().await, Some(20));
    assert_eq!(note(watched(Some((30, 40))), 41).await, (Some(40), true));
    assert_eq!(note(watched(None), 42).await, (Some(40), false), "out of the history");
    assert_eq!(note(watched(Some((31, 43))), 44).await, (Some(40), false), "and into it again");
    assert_eq!(note(watched(None), 42).await, (Some(40), false));
    let read = store.drift(&tenant(), Some(&service("checkout")), None, "", 10).await.expect("read");
    let expected =
        StoredDrift { service_id: "checkout".into(), check_ms: 42, noted_ms: Some(40), watched: watched(None) };
    assert_eq!(read, [expected]);
    let records = store
        .audit_records(&tenant(), Sought { service_id: Some("checkout"), ..Sought::default() }, 10)
        .await
        .expect("read");
    let actions: Vec<&str> = records.iter().map(|record| record.entry.action.as_str()).collect();
    assert_eq!(actions, ["recommendation.created", "drift.found", "drift.found"]);
    assert_eq!(verify(&records), Ok(()));
}

pub(in crate::storage) async fn drift_is_listed_by_page_and_state(store: &Store) {
    for (name, change) in [("a", None), ("b", Some((10, 20))), ("c", None), ("d", Some((1, 2)))] {
        store.note_drift(&tenant(), &service(name), &watched(change), "tester", 30).await.expect("noted");
    }
    let names = |state: Option<State>, after: &'static str, limit: u32| async move {
        let page = store.drift(&tenant(), None, state, after, limit).await.expect("read");
        page.into_iter().map(|row| row.service_id).collect::<Vec<_>>()
    };
    assert_eq!(names(None, "", 3).await, ["a", "b", "c"]);
    assert_eq!(names(None, "c", 3).await, ["d"]);
    assert_eq!(names(Some(State::Drifted), "", 9).await, ["b", "d"]);
    assert!(names(Some(State::CannotTell), "", 9).await.is_empty());
    let other = TenantId::new("tenant", "other").expect("valid");
    assert_eq!(store.drift(&other, None, None, "", 9).await.expect("read"), []);
    // A watch that was written is read back to the last bit.
    let read = store.drift(&tenant(), Some(&service("b")), None, "", 1).await.expect("read");
    assert_eq!(read[0].watched, watched(Some((10, 20))));
    store.insert(&tenant(), new("b", 1)).await.expect("stored");
    store.insert(&other, new("a", 1)).await.expect("stored");
    assert_eq!(store.windows(&tenant(), &service("b")).await.expect("read"), [TimeWindow::default()]);
    let of = |tenant: &TenantId, name: &str| (tenant.clone(), EntityId::new("id", name).expect("valid"));
    let all = store.recommended(("", ""), 9).await.expect("read");
    assert_eq!(all, [of(&tenant(), "b"), of(&other, "a")]);
    assert_eq!(store.recommended(("default", "b"), 9).await.expect("read"), [of(&other, "a")]);
}

fn model(drift: f64, create_ms: i64) -> Registered {
    let constants = Constants { drift, ..Constants::DEFAULT };
    let content = Content { constants, classes: Vec::new() };
    registered(content, "wider".into(), "why".into(), MODEL_VERSION.into(), "ada".into(), create_ms)
}

fn entry(action: &str) -> Entry {
    Entry {
        time_ms: 7,
        caller: "ada".into(),
        action: action.into(),
        service_id: String::new(),
        detail_json: "{}".into(),
    }
}

pub(in crate::storage) async fn models_are_kept_as_they_were_and_one_is_live(store: &Store) {
    let (a, b) = (model(0.1 + 0.2, 5), model(0.25, 6));
    let empty = store.registry(&tenant()).await.expect("read");
    assert_eq!((empty.models.len(), empty.live()), (1, MODEL_VERSION));
    for new in [&a, &b, &a] {
        store.register_model(&tenant(), new, entry("model.registered")).await.expect("registered");
    }
    let renamed = Registered { name: "other".into(), ..a.clone() };
    store.register_model(&tenant(), &renamed, entry("model.registered")).await.expect("there already");
    let registry = store.registry(&tenant()).await.expect("read");
    assert_eq!(registry.models[1..], [a.clone(), b.clone()], "to the last bit, and unchanged");
    store.insert(&tenant(), new("checkout", 1)).await.expect("stored");
    let (other_build, old) = ("drifting-level-0", "drifting-level-0-0123456789ab");
    let live = || async {
        let latest = store.latest(&tenant(), &service("checkout"), TimeWindow::default()).await.expect("read");
        latest.expect("there").live_model
    };
    assert_eq!(live().await, None);
    let (first, second) = (a.version.as_str(), b.version.as_str());
    store.make_live(&tenant(), first, MODEL_VERSION, entry("model.promoted")).await.expect("made live");
    assert_eq!(live().await.as_deref(), Some(first));
    // Two people at a time: the second one's knowledge is old.
    let refused = store.make_live(&tenant(), second, MODEL_VERSION, entry("model.promoted")).await;
    assert!(matches!(refused, Err(Error::LiveModelChanged { found, .. }) if found == first));
    store.make_live(&tenant(), second, first, entry("model.promoted")).await.expect("made live");
    assert_eq!(store.registry(&tenant()).await.expect("read").lives, [first, second]);
    let other = TenantId::new("tenant", "other").expect("valid");
    assert_eq!(store.registry(&other).await.expect("read"), empty);
    // What an earlier build made live is of other statistics: the compiled one serves, and is who another takes the place of.
    for version in [other_build, old] {
        let before = store.registry(&tenant()).await.expect("read").live().to_owned();
        store.make_live(&tenant(), version, &before, entry("model.promoted")).await.expect("made live");
        assert_eq!(store.registry(&tenant()).await.expect("read").live(), MODEL_VERSION);
    }
    store.make_live(&tenant(), first, MODEL_VERSION, entry("model.promoted")).await.expect("made live");
    let records = store.audit_records(&tenant(), Sought::default(), 10).await.expect("read");
    assert_eq!((records.len(), verify(&records)), (8, Ok(())));
}

fn stated(quantile: f64) -> Stated {
    Stated { quantiles: [quantile; 3], exceed: [0.1 + 0.2; 7] }
}

pub(in crate::storage) async fn forecasts_are_kept_once_a_week_and_closed_once(store: &Store) {
    let window = |start_days: i64| Window { service_id: "cart".into(), days: 28, start_ms: start_days * DAY_MS };
    let said = |version: &str, quantile| NewForecast { version: version.into(), stated: stated(quantile) };
    let keep = |window: Window, forecasts: Vec<NewForecast>| async move {
        store.keep_forecasts(&tenant(), &window, &forecasts).await.expect("kept");
    };
    keep(window(7), vec![said("live", 0.01), said("shadow", 0.02)]).await;
    keep(window(8), vec![said("live", 0.5), said("late", 0.5)]).await;
    keep(window(14), vec![said("live", 0.03), said("shadow", 0.04)]).await;
    let over = |days: i64| async move { store.windows_over(days * DAY_MS, 10).await.expect("read") };
    assert_eq!(over(34).await, []);
    assert_eq!(over(35).await, [(tenant(), window(7))]);
    assert_eq!(over(42).await, [window(7), window(14)].map(|window| (tenant(), window)), "one instant a week");
    assert_eq!(store.open_windows(&tenant(), "live").await.expect("counted"), 2);
    store.close_window(&tenant(), &window(7), Some(0.1 + 0.2)).await.expect("closed");
    store.close_window(&tenant(), &window(7), Some(0.9)).await.expect("closed before");
    store.close_window(&tenant(), &window(14), None).await.expect("closed unmeasured");
    let closed = store.closed_windows(&tenant(), "shadow", "live").await.expect("read");
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].candidate, closed[0].live, closed[0].bad_ratio), (stated(0.02), stated(0.01), 0.1 + 0.2));
    assert_eq!(store.open_windows(&tenant(), "live").await.expect("counted"), 0);
    assert_eq!(store.closed_windows(&tenant(), "late", "live").await.expect("read"), [], "made at another instant");
    let other = TenantId::new("tenant", "other").expect("valid");
    assert_eq!(store.closed_windows(&other, "shadow", "live").await.expect("read"), []);
}

pub(in crate::storage) async fn a_tenant_is_fitted_by_turns_and_sooner_after_a_drift(store: &Store) {
    const WEEK_MS: i64 = 7 * DAY_MS;
    let turn = |now_ms: i64| async move { store.retraining_turn(now_ms, WEEK_MS, DAY_MS).await.expect("read") };
    assert_eq!(turn(WEEK_MS).await, None, "nobody is there");
    store.insert(&tenant(), new("checkout", 1)).await.expect("stored");
    assert_eq!(turn(WEEK_MS).await, None, "it is new");
    assert_eq!(turn(2 * WEEK_MS - 1).await, None);
    assert_eq!(turn(2 * WEEK_MS).await, Some(tenant()));
    assert_eq!(turn(2 * WEEK_MS).await, None, "one gets the turn");
    assert_eq!(store.retraining(&tenant()).await.expect("read"), None);
    store.note_retraining(&tenant(), "as before").await.expect("noted");
    assert_eq!(store.retraining(&tenant()).await.expect("read"), Some((2 * WEEK_MS, "as before".to_owned())));
    // Known before the fit: it was among what was fitted to.
    let change = |detected_ms: i64| watched(Some((detected_ms - 1, detected_ms)));
    let note = |watched: Watched| async move {
        store.note_drift(&tenant(), &service("checkout"), &watched, "tester", 9).await.expect("noted");
    };
    note(change(WEEK_MS)).await;
    assert_eq!(turn(2 * WEEK_MS + DAY_MS).await, None);
    note(change(2 * WEEK_MS + 5)).await;
    assert_eq!(turn(2 * WEEK_MS + DAY_MS - 1).await, None);
    assert_eq!(turn(2 * WEEK_MS + DAY_MS).await, Some(tenant()));
    assert_eq!(turn(2 * WEEK_MS + 3 * DAY_MS).await, None, "it drifted once");
    let other = TenantId::new("tenant", "other").expect("valid");
    assert_eq!(store.retraining(&other).await.expect("read"), None);
}
