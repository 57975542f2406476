//! What the store promises of experiments: part of the contract suite.

use std::collections::BTreeMap;

use attain_attainment::Ambition;
use attain_vocabulary::{DAY_MS, TenantId, TimeWindow};

use super::contract::calibration::on_day;
use super::contract::{new, service, tenant, verdict, verify};
use super::*;
use crate::domain::audit::Entry;
use crate::domain::experiments::{Arm, Experiment, Lived, Metric, Plan, Stop, UnitKind};
use crate::domain::slo::{Action, Verdict};

fn plan(id: &str, start_ms: i64) -> Plan {
    let arm = |ambition| Arm { model_version: "m".into(), ambition };
    Plan {
        id: id.into(),
        name: "bolder".into(),
        note: "why".into(),
        unit: UnitKind::Component,
        control: arm(None),
        treatment: arm(Some(Ambition::Ambitious)),
        metric: Metric::Acceptance,
        start_ms,
        horizon_ms: start_ms + 100 * DAY_MS,
        started_by: "ada".into(),
        salt: "0123456789abcdef".into(),
    }
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

async fn start(store: &Store, of: &TenantId, plan: &Plan) -> Result<u64, Error> {
    let units =
        BTreeMap::from([(service("cart"), "component a".to_owned()), (service("checkout"), "component b".to_owned())]);
    store.start_experiment(of, plan, &units, entry("experiment.started")).await
}

pub(in crate::storage) async fn one_experiment_runs_until_it_is_stopped_or_over(store: &Store) {
    let (first, second) = (plan("exp-1", 1), plan("exp-2", 50));
    let sequence = start(store, &tenant(), &first).await.expect("begun");
    let refused = start(store, &tenant(), &second).await;
    assert!(matches!(refused, Err(Error::ExperimentRunning(id)) if id == "exp-1"));
    let other = TenantId::new("tenant", "other").expect("valid");
    assert_eq!(store.running_experiment(&other, 5).await.expect("read"), None, "of another tenant");
    assert_eq!(store.experiment(&other, "exp-1").await.expect("read"), None);
    assert_eq!(store.running_experiment(&tenant(), 5).await.expect("read"), Some(first.clone()));
    assert_eq!(store.running_experiment(&tenant(), first.horizon_ms).await.expect("read"), None, "over");
    let unit = |name: &'static str| async move {
        store.experiment_unit(&tenant(), "exp-1", &service(name)).await.expect("read")
    };
    assert_eq!((unit("cart").await.as_deref(), unit("later").await), (Some("component a"), None));
    store.insert(&tenant(), new("cart", 1)).await.expect("stored");
    let shown = || async {
        let latest = store.latest(&tenant(), &service("cart"), TimeWindow::default()).await.expect("read");
        latest.expect("there").experiment
    };
    assert_eq!(shown().await, Some(first.clone()));
    let stop = Stop { time_ms: 60, by: "bob".into(), reason: "too bold".into() };
    let stopped = || async {
        store.stop_experiment(&tenant(), "exp-1", &stop, entry("experiment.stopped")).await.expect("answered")
    };
    assert_eq!((stopped().await, stopped().await), (true, false), "once");
    assert_eq!(shown().await, None);
    let experiment = Experiment { sequence, plan: first, stop: Some(stop) };
    assert_eq!(store.experiment(&tenant(), "exp-1").await.expect("read"), Some(experiment.clone()));
    let next = start(store, &tenant(), &second).await.expect("begun");
    let page = |before: Option<u64>| async move {
        let page = store.experiments(&tenant(), before, 1).await.expect("read");
        page.into_iter().map(|experiment| experiment.sequence).collect::<Vec<_>>()
    };
    assert_eq!(
        (page(None).await, page(Some(next)).await, page(Some(sequence)).await),
        (vec![next], vec![sequence], vec![])
    );
    assert_eq!(store.experiments(&other, None, 9).await.expect("read"), []);
    // Another model becomes live: what is compared with is no longer what serves.
    store.make_live(&tenant(), "m2", attain_attainment::MODEL_VERSION, entry("model.promoted")).await.expect("live");
    let read = store.experiment(&tenant(), "exp-2").await.expect("read").expect("there");
    let stop = Stop { time_ms: 7, by: "ada".into(), reason: "the model m2 became live".into() };
    assert_eq!(read.stop, Some(stop));
    let records = store.audit_records(&tenant(), Sought::default(), 10).await.expect("read");
    let actions: Vec<&str> = records.iter().map(|record| record.entry.action.as_str()).collect();
    let expected =
        ["experiment.started", "recommendation.created", "experiment.stopped", "experiment.started", "model.promoted"];
    assert_eq!((actions.as_slice(), verify(&records)), (expected.as_slice(), Ok(())));
}

pub(in crate::storage) async fn what_became_of_units_is_added_up_by_arm(store: &Store) {
    let plan = plan("exp-1", 1);
    start(store, &tenant(), &plan).await.expect("begun");
    let exposed = |name: &str, unit: &str, version: u32, suggested: Ambition| {
        let mut made = new(name, version);
        let assigned = plan.assigned(unit.to_owned());
        made.exposure = Some(NewExposure { assigned, suggested: Some(suggested) });
        made.evidence = on_day(i64::from(version) * 7);
        made
    };
    for version in [1, 2] {
        let made = exposed("cart", "team a", version, Ambition::Balanced);
        assert_eq!(store.insert(&tenant(), made).await.expect("stored"), Inserted::Stored);
    }
    store.insert(&tenant(), exposed("checkout", "team a", 1, Ambition::Ambitious)).await.expect("stored");
    store.insert(&tenant(), exposed("user-db", "team b", 1, Ambition::Balanced)).await.expect("stored");
    // Out of the experiment.
    store.insert(&tenant(), new("auth", 1)).await.expect("stored");
    let (_, open) = store.lived(&tenant(), &plan).await.expect("read");
    assert_eq!(open, 4, "one window each, of the suggested offer");
    let due = store.due_offers(None, i64::MAX, 100).await.expect("read");
    let judged: Vec<(DueOffer, Judgement)> = due
        .into_iter()
        .filter(|offer| offer.start_ms == 7 * DAY_MS)
        .map(|offer| {
            let missed = offer.service.as_str() == "cart";
            (offer, if missed { Judgement::Missed(0.25) } else { Judgement::Met(0.125) })
        })
        .collect();
    store.judge(&judged, 9).await.expect("judged");
    // The suggested offer as it is; then once more, which is not the first word.
    for action in [Action::Accept, Action::Reject] {
        let verdict = Verdict {
            service: service("user-db"),
            recommendation_id: "rec-user-db-1".into(),
            ..verdict(action, (action == Action::Accept).then_some(0.99), None)
        };
        store.decide(&tenant(), verdict, &Terms::default()).await.expect("decided");
    }
    let (units, open) = store.lived(&tenant(), &plan).await.expect("read");
    assert_eq!(open, 1);
    let of = |unit: &str, recommendations: u32| {
        let found = units.iter().find(|(_, lived)| lived.recommendations == recommendations).expect("there");
        assert_eq!(found.0, plan.side(unit));
        found.1.clone()
    };
    let a = Lived {
        services: 2,
        recommendations: 3,
        windows: 2,
        missed: 1,
        stated: 0.28,
        allowed: 0.002,
        observed: 0.375,
        ..Lived::default()
    };
    let b = Lived {
        services: 1,
        recommendations: 1,
        windows: 1,
        missed: 0,
        stated: 0.08,
        allowed: 0.001,
        observed: 0.125,
        decisions: 1,
        accepted: 1,
    };
    let near = |found: &Lived, expected: &Lived| {
        let rounded = |lived: &Lived| {
            let round = |value: f64| (value * 1e9).round() / 1e9;
            Lived {
                stated: round(lived.stated),
                allowed: round(lived.allowed),
                observed: round(lived.observed),
                ..lived.clone()
            }
        };
        assert!(rounded(found) == rounded(expected), "{found:?} is not {expected:?}");
    };
    assert_eq!(units.len(), 2);
    near(&of("team a", 3), &a);
    near(&of("team b", 1), &b);
    assert_eq!(
        store.teams(&tenant()).await.expect("read"),
        std::collections::BTreeSet::from(["team team-a".to_owned()])
    );
    let other = TenantId::new("tenant", "other").expect("valid");
    assert_eq!(store.lived(&other, &plan).await.expect("read"), (Vec::new(), 0));
}
