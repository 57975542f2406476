//! Critical paths, what all ways lead through, and how much rests on edges of little confidence.

#![allow(clippy::unwrap_used)]

mod fixture;

use attain_graph::domain::chokes::{ChokePoint, choke_points, separated_count};
use attain_graph::domain::confidence::{DOUBTFUL, below, confidence};
use attain_graph::domain::critical::critical_path;
use attain_graph::domain::links::{Links, NodeIndex};
use attain_graph::domain::scenario::{Change, NamedRate};
use attain_graph::domain::sensitivity::without_doubtful;
use attain_graph::domain::snapshot::{Edge, Snapshot, Terms};
use attain_graph::domain::structure::Rate;
use attain_reliability::EvaluationLimits;
use attain_vocabulary::{DAY_MS, DependencyMode};
use fixture::{at, edge, graph, hard, in_background, names, node, shop};
use proptest::prelude::*;

const NOW_MS: i64 = 1_000 * DAY_MS;

fn seen(calls: u64, days_ago: i64) -> Terms {
    Terms {
        traced: true,
        observed_call_count: calls,
        last_seen_ms: Some(NOW_MS - days_ago * DAY_MS),
        ..Terms::of_mode(DependencyMode::Hard)
    }
}

fn declared() -> Terms {
    Terms { declared: true, ..Terms::of_mode(DependencyMode::Hard) }
}

#[test]
fn the_critical_path_follows_the_dearest_call_and_what_falls_to_a_request() {
    let rate = |calls: f64| Terms { call_rate: Some(calls), ..Terms::of_mode(DependencyMode::Hard) };
    let snapshot = graph([
        edge("a", "b", rate(1.0)),
        edge("a", "c", rate(3.0)),
        edge("c", "d", rate(0.5)),
        edge("c", "e", rate(1.0)),
        in_background("c", "slow"),
        edge("d", "a", rate(1.0)),
    ]);
    // b takes 50 ms once, c 20 ms three times; d 30 ms every other time, nobody knows of e.
    let cost = |edge: &Edge| match snapshot.id(edge.callee).as_str() {
        "b" => Some(50.0),
        "c" => Some(20.0),
        "d" => Some(30.0),
        "slow" => Some(1_000.0),
        "a" => Some(7.0),
        _ => None,
    };
    let path = critical_path(&snapshot, at(&snapshot, "a"), |edge| edge.terms.call_rate.unwrap(), cost);
    let steps: Vec<(&str, f64, f64)> = path
        .iter()
        .map(|step| (snapshot.id(snapshot.edge(step.edge).callee).as_str(), step.share, step.cost()))
        .collect();
    // Back at a it ends.
    assert_eq!(steps, [("c", 3.0, 60.0), ("d", 1.5, 45.0)]);
    assert!(critical_path(&snapshot, at(&snapshot, "e"), |_| 1.0, cost).is_empty());
    assert!(critical_path(&snapshot, at(&snapshot, "a"), |_| 1.0, |_| Some(0.0)).is_empty());
}

#[test]
fn all_ways_to_the_provider_lead_through_checkout() {
    let shop = shop();
    let found = choke_points(shop.request_path(), at(&shop, "api-gateway"));
    let found: Vec<(&str, u32)> =
        found.iter().map(|point| (shop.id(point.node).as_str(), point.behind_count)).collect();
    assert_eq!(found, [("checkout-service", 3), ("auth-service", 1), ("payment-service", 1)]);
    assert_eq!(separated_count(shop.all(), at(&shop, "checkout-service")), 3);
    assert_eq!(separated_count(shop.all(), at(&shop, "user-db")), 0);
}

#[test]
fn confidence_grows_with_calls_and_fades_with_time() {
    let sure = |terms: &Terms| confidence(terms, true, NOW_MS);
    assert!(sure(&seen(1_000, 0)) > 0.98 && sure(&seen(1, 0)) < DOUBTFUL);
    assert!((sure(&seen(1_000, 30)) - sure(&seen(1_000, 0)) / 2.0).abs() < 1e-12);
    // A clock that is behind makes nothing surer.
    assert_eq!(sure(&seen(1_000, -5)), sure(&seen(1_000, 0)));
    // Said, yet never seen where calls would be; and where nobody looks.
    assert!(sure(&declared()) < DOUBTFUL && confidence(&declared(), false, NOW_MS) > DOUBTFUL);
    // Who agree are surer than each alone, and one who tells of it long ago does not take away what is declared.
    let both = Terms { declared: true, ..seen(10, 0) };
    assert!(sure(&both) > sure(&seen(10, 0)) && sure(&both) > confidence(&declared(), false, NOW_MS));
    assert!(sure(&Terms { declared: true, ..seen(10, 900) }) > 0.79);
    assert_eq!(confidence(&Terms::of_mode(DependencyMode::Hard), true, NOW_MS), 0.0);
}

#[test]
fn what_rests_on_doubtful_edges_is_told_without_them() {
    let snapshot = graph([
        edge("a", "b", seen(1_000, 0)),
        edge("b", "old", seen(1_000, 90)),
        edge("b", "c", seen(1_000, 0)),
        edge("x", "c", seen(1_000, 0)),
    ]);
    let doubtful = below(&snapshot, DOUBTFUL, NOW_MS);
    let named: Vec<&str> = snapshot
        .edges()
        .iter()
        .zip(&doubtful)
        .filter(|(_, doubtful)| **doubtful)
        .map(|(edge, _)| snapshot.id(edge.callee).as_str())
        .collect();
    assert_eq!(named, ["old"]);
    let rate = |id: &str, failure_ratio| NamedRate {
        entity_id: id.into(),
        rate: Rate { failure_ratio, includes_dependencies: false },
    };
    let rates = [rate("old", 0.2), rate("c", 0.1), rate("b", 0.0), rate("a", 0.0), rate("x", 0.0)];
    let everyone: Vec<NodeIndex> = (0..snapshot.nodes().len() as NodeIndex).collect();
    let ask = |changes: &[Change]| {
        let bound = (DOUBTFUL, NOW_MS);
        let found =
            without_doubtful(&snapshot, bound, (&rates, changes), &everyone, &EvaluationLimits::default(), &|| false);
        found.unwrap()
    };
    let found = ask(&[]);
    assert_eq!(names(&snapshot, found.keys()), ["a", "b"], "nobody else reaches the doubtful edge");
    let (before, after) = found[&at(&snapshot, "a")];
    assert!((before - 0.9).abs() < 1e-12 && after.is_none());
    // What is doubtful cannot be removed once more.
    let remove = Change::Remove { caller_id: "b".into(), callee_id: "old".into() };
    let attained = Change::Attained { entity_id: "c".into(), availability_ratio: 0.5 };
    assert_eq!(ask(std::slice::from_ref(&remove))[&at(&snapshot, "a")], (before, Some(before)));
    let (_, after) = ask(&[remove, attained])[&at(&snapshot, "a")];
    assert!((after.unwrap() - 0.5).abs() < 1e-12);
}

/// Who is reached from a service when another is taken out.
fn reached_without(links: &Links, from: NodeIndex, out: Option<NodeIndex>, both_ways: bool) -> Vec<bool> {
    let mut reached = vec![false; links.node_count()];
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        if Some(node) != out && !std::mem::replace(&mut reached[node as usize], true) {
            open.extend(links.callees(node));
            open.extend(links.callers(node).iter().filter(|_| both_ways));
        }
    }
    reached
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn choke_points_and_articulation_are_what_taking_out_shows(
        edges in proptest::collection::vec((0..9_u32, 0..9_u32), 0..22),
    ) {
        let edges = edges.into_iter().filter(|(from, to)| from != to);
        let edges = edges.map(|(from, to)| hard(&format!("n{from}"), &format!("n{to}")));
        let snapshot = Snapshot::build((0..9).map(|n| node(&format!("n{n}"))).collect(), edges.collect());
        let links = snapshot.request_path();
        let whole = reached_without(links, 0, None, false);
        let mut expected = Vec::new();
        for out in 1..9 {
            let left = reached_without(links, 0, Some(out), false);
            let lost = (0..9_u32).filter(|&n| n != out && whole[n as usize] && !left[n as usize]).count() as u32;
            if lost > 0 {
                expected.push(ChokePoint { node: out, behind_count: lost });
            }
        }
        expected.sort_by_key(|point| (std::cmp::Reverse(point.behind_count), point.node));
        prop_assert_eq!(choke_points(links, 0), expected);

        for service in 0..9 {
            let around = reached_without(links, service, None, true);
            let mut parts: Vec<usize> = Vec::new();
            let mut left: Vec<u32> = (0..9_u32).filter(|&n| n != service && around[n as usize]).collect();
            while let Some(&first) = left.first() {
                let part = reached_without(links, first, Some(service), true);
                let before = left.len();
                left.retain(|&n| !part[n as usize]);
                parts.push(before - left.len());
            }
            let expected = parts.iter().sum::<usize>() - parts.iter().max().copied().unwrap_or_default();
            prop_assert_eq!(separated_count(links, service), expected as u32);
        }
    }
}
