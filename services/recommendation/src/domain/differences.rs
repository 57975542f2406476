//! What differs between the inputs of two recommendations of a service, each in a sentence with what can be done about it.

use std::collections::{BTreeMap, BTreeSet};

use attain_attainment::{Ambition, DependencyHistory, Importance, RecommendationInput, StructureFacts, percent};
use attain_vocabulary::{EntityId, Tier};
use serde::Serialize;

use super::slo::ambition_word;

/// Smallest relative change of a measured ratio that is told: others are drift between two looks.
pub(crate) const RATIO_CHANGE_MIN: f64 = 0.1;
/// Smallest share of requests by which a component is told to count more or less.
const CONTRIBUTION_CHANGE_MIN: f64 = 1e-6;
/// Most components that are told of, those first that count most for the change.
const COMPONENTS_MAX: usize = 20;

/// Fields of the policy's risks, in the order of [`Ambition::ALL`].
const MISS_PROBABILITIES: [&str; 3] =
    ["miss_probabilities/conservative", "miss_probabilities/balanced", "miss_probabilities/ambitious"];

/// What a difference is part of; in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What is offered, and how sure that is.
    Effect,
    /// A direct dependency.
    Dependency,
    /// A component that is needed, directly or not.
    Component,
    /// The service itself.
    Service,
    /// What was measured, and what is left out of it.
    History,
    /// How it was computed.
    Method,
    /// An input that could not be had, or can be again.
    Input,
}

/// One thing that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is part of.
    pub part: Part,
    /// Empty for the recommendation or its service as a whole.
    pub subject: String,
    /// What differs, in the words of the contract.
    pub field: &'static str,
    /// `None` where it was not there.
    pub before: Option<String>,
    /// `None` where it is not there any more.
    pub after: Option<String>,
    /// In a sentence, with what can be done about it.
    pub detail: String,
}

impl Difference {
    /// A field of which at least one side is there.
    pub(crate) fn of<T: ToString>(
        (part, subject, field): (Part, &str, &'static str),
        before: Option<T>,
        after: Option<T>,
        detail: String,
    ) -> Self {
        let [before, after] = [before, after].map(|value| value.map(|value| value.to_string()));
        Self { part, subject: subject.to_owned(), field, before, after, detail }
    }
}

/// Whether a measured ratio moved by more than drift.
pub(crate) fn moved(before: f64, after: f64) -> bool {
    (before - after).abs() > RATIO_CHANGE_MIN * before.abs().max(after.abs())
}

/// Differences of what two recommendations were computed from, part by part; the measurements themselves apart.
#[must_use]
pub fn inputs(before: &RecommendationInput, after: &RecommendationInput) -> Vec<Difference> {
    let mut differences = Vec::new();
    dependencies(before, after, &mut differences);
    if let (Some(before), Some(after)) = (&before.structure, &after.structure) {
        components(before, after, &mut differences);
        method_of_structure(before, after, &mut differences);
    }
    service(before, after, &mut differences);
    incidents(before, after, &mut differences);
    policy(before, after, &mut differences);
    differences
}

fn dependencies(before: &RecommendationInput, after: &RecommendationInput, out: &mut Vec<Difference>) {
    let service = &after.service;
    let by_id = |input: &RecommendationInput| -> BTreeMap<EntityId, Edge> {
        input.dependencies.iter().map(|dependency| (dependency.id.clone(), Edge::of(dependency))).collect()
    };
    let (was, is) = (by_id(before), by_id(after));
    for (id, edge) in &is {
        match was.get(id) {
            Some(old) => edge_changes(id, old, edge, out),
            None => {
                let detail = format!(
                    "{service} calls {id} now ({}): its failures count; a fallback for the call would keep them away",
                    edge.mode
                );
                out.push(Difference::of((Part::Dependency, id.as_str(), "mode"), None, Some(&edge.mode), detail));
            }
        }
    }
    for (id, edge) in was.iter().filter(|(id, _)| !is.contains_key(*id)) {
        let detail = format!(
            "{service} is no longer known to call {id}: its failures no longer count; declare the dependency if it is still there"
        );
        out.push(Difference::of((Part::Dependency, id.as_str(), "mode"), Some(&edge.mode), None, detail));
    }
}

/// What is kept of a direct dependency beside its history.
struct Edge {
    mode: String,
    call_fraction: Option<f64>,
    fallback_success_ratio: Option<f64>,
}

impl Edge {
    fn of(dependency: &DependencyHistory) -> Self {
        let DependencyHistory { mode, call_fraction, fallback_success_ratio, .. } = dependency;
        Self { mode: word(mode), call_fraction: *call_fraction, fallback_success_ratio: *fallback_success_ratio }
    }
}

fn edge_changes(id: &EntityId, before: &Edge, after: &Edge, out: &mut Vec<Difference>) {
    let of = |field| (Part::Dependency, id.as_str(), field);
    if before.mode != after.mode {
        let detail = format!(
            "the dependency on {id} is {}, before {}: declare what it is where that is wrong",
            after.mode, before.mode
        );
        out.push(Difference::of(of("mode"), Some(&before.mode), Some(&after.mode), detail));
    }
    if ratio_moved(before.call_fraction, after.call_fraction) {
        let detail = format!(
            "{} of the requests call {id}, before {}: that many a failure of it can reach",
            told(after.call_fraction),
            told(before.call_fraction)
        );
        out.push(Difference::of(of("call_fraction"), before.call_fraction, after.call_fraction, detail));
    }
    if ratio_moved(before.fallback_success_ratio, after.fallback_success_ratio) {
        let detail = format!(
            "the fallback for {id} saves {} of the failed calls, before {}: exercise it, so that the figure can be relied on",
            told(after.fallback_success_ratio),
            told(before.fallback_success_ratio)
        );
        let (was, is) = (before.fallback_success_ratio, after.fallback_success_ratio);
        out.push(Difference::of(of("fallback_success_ratio"), was, is, detail));
    }
}

fn ratio_moved(before: Option<f64>, after: Option<f64>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => moved(before, after),
        (before, after) => before.is_some() != after.is_some(),
    }
}

fn told(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "an unknown share".to_owned(), percent)
}

fn components(before: &StructureFacts, after: &StructureFacts, out: &mut Vec<Difference>) {
    let by_id = |facts: &StructureFacts| -> BTreeMap<EntityId, Importance> {
        facts.importances.iter().map(|importance| (importance.entity_id.clone(), importance.clone())).collect()
    };
    let (was, is) = (by_id(before), by_id(after));
    let ids: BTreeSet<&EntityId> = was.keys().chain(is.keys()).collect();
    let mut found: Vec<(f64, Vec<Difference>)> = Vec::new();
    for id in ids {
        let (old, new) = (was.get(id), is.get(id));
        let contribution = |importance: Option<&Importance>| importance.map_or(0.0, |found| found.contribution_ratio);
        let change = (contribution(new) - contribution(old)).abs();
        let differences = component(id, old, new);
        if !differences.is_empty() {
            found.push((change, differences));
        }
    }
    // Of components that change as much the first by name.
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let left_out = found.len().saturating_sub(COMPONENTS_MAX);
    out.extend(found.into_iter().take(COMPONENTS_MAX).flat_map(|(_, differences)| differences));
    if left_out > 0 {
        let detail =
            format!("{left_out} more components count otherwise than before, each for less than those told of");
        out.push(Difference::of((Part::Component, "", "left_out_count"), None, Some(left_out), detail));
    }
    assumed(before, after, out);
}

fn component(id: &EntityId, before: Option<&Importance>, after: Option<&Importance>) -> Vec<Difference> {
    let of = |field| (Part::Component, id.as_str(), field);
    let contribution = |importance: &Importance| importance.contribution_ratio;
    match (before, after) {
        (None, Some(new)) => {
            let detail =
                format!("{id} is among what is needed now and costs {} of the requests", percent(contribution(new)));
            vec![Difference::of(of("contribution_ratio"), None, Some(contribution(new)), detail)]
        }
        (Some(old), None) => {
            let detail = format!(
                "{id} is no longer among what is needed; it cost {} of the requests",
                percent(contribution(old))
            );
            vec![Difference::of(of("contribution_ratio"), Some(contribution(old)), None, detail)]
        }
        (Some(old), Some(new)) if (contribution(old) - contribution(new)).abs() >= CONTRIBUTION_CHANGE_MIN => {
            let mut differences = Vec::new();
            if let (Some(was), Some(is)) = (own_failure_ratio(old), own_failure_ratio(new))
                && moved(was, is)
            {
                let advice = if is > was { "look at what went wrong with it" } else { "what was done there helps" };
                let detail =
                    format!("{id} fails {} of its requests of its own, before {}: {advice}", percent(is), percent(was));
                differences.push(Difference::of(of("own_failure_ratio"), Some(was), Some(is), detail));
            }
            if moved(old.birnbaum, new.birnbaum) {
                let detail = format!(
                    "a failure of {id} reaches {} of the requests, before {}: see which calls, fallbacks or redundancy between changed",
                    percent(new.birnbaum),
                    percent(old.birnbaum)
                );
                differences.push(Difference::of(of("birnbaum"), Some(old.birnbaum), Some(new.birnbaum), detail));
            }
            differences
        }
        _ => Vec::new(),
    }
}

/// `None` where its failures reach nothing, so that they cannot be told from what it contributes.
fn own_failure_ratio(importance: &Importance) -> Option<f64> {
    (importance.birnbaum > 0.0).then(|| importance.contribution_ratio / importance.birnbaum)
}

fn assumed(before: &StructureFacts, after: &StructureFacts, out: &mut Vec<Difference>) {
    let ids = |facts: &StructureFacts| facts.assumed_perfect_ids.iter().cloned().collect::<BTreeSet<_>>();
    let (was, is) = (ids(before), ids(after));
    for id in is.difference(&was) {
        let detail = format!(
            "nothing is known of how often {id} fails, so it counts as never failing: send its telemetry, or say what its contract promises"
        );
        out.push(Difference::of((Part::Component, id.as_str(), "assumed_perfect"), None, Some(true), detail));
    }
    for id in was.difference(&is) {
        let detail = format!("{id} no longer counts as never failing: it was measured, or is not needed any more");
        out.push(Difference::of((Part::Component, id.as_str(), "assumed_perfect"), Some(true), None, detail));
    }
}

fn method_of_structure(before: &StructureFacts, after: &StructureFacts, out: &mut Vec<Difference>) {
    if before.exact != after.exact {
        let detail = if after.exact {
            "the ceiling is computed exactly again"
        } else {
            "the ceiling is estimated by sampling: the structure is too tangled for the exact value"
        };
        let of = (Part::Method, "", "exact");
        out.push(Difference::of(of, Some(before.exact), Some(after.exact), detail.to_owned()));
    }
}

fn service(before: &RecommendationInput, after: &RecommendationInput, out: &mut Vec<Difference>) {
    let service = &after.service;
    let mut said = |field, was: String, is: String, consequence: &str| {
        if was != is {
            let detail = format!("the {field} of {service} is {is}, before {was}: {consequence}");
            out.push(Difference::of((Part::Service, "", field), Some(was), Some(is), detail));
        }
    };
    said("tier", tier(before.tier), tier(after.tier), "the strictest target on offer follows from it");
    said("kind", word(&before.kind), word(&after.kind), "it says which documents bear on it");
}

fn incidents(before: &RecommendationInput, after: &RecommendationInput, out: &mut Vec<Difference>) {
    let ids = |input: &RecommendationInput| input.incident_ids.iter().cloned().collect::<BTreeSet<_>>();
    let (was, is) = (ids(before), ids(after));
    for id in is.difference(&was) {
        let detail = format!(
            "incident {id} is on record for the span now: exclude it where it will not happen again, with a reason"
        );
        out.push(Difference::of((Part::History, id, "incident"), None, Some(id), detail));
    }
    for id in was.difference(&is) {
        let detail = format!("incident {id} is no longer on record for the span that was read");
        out.push(Difference::of((Part::History, id, "incident"), Some(id), None, detail));
    }
}

fn policy(before: &RecommendationInput, after: &RecommendationInput, out: &mut Vec<Difference>) {
    let (was, is) = (&before.policy, &after.policy);
    let fields = [
        ("target_ratio_max", was.target_ratio_max, is.target_ratio_max, "no stricter target is offered"),
        (
            "template_target_ratio",
            was.template_target_ratio,
            is.template_target_ratio,
            "offered where the data carries no estimate",
        ),
        (
            "latency_quantile",
            was.latency_quantile,
            is.latency_quantile,
            "the share of requests that a latency target speaks of",
        ),
    ];
    for (field, was, is, meaning) in fields.into_iter().filter(|(_, was, is, _)| was != is) {
        let detail = format!("the policy's {field} is {is}, before {was}: {meaning}");
        out.push(Difference::of((Part::Method, "policy", field), Some(was), Some(is), detail));
    }
    for (ambition, field) in Ambition::ALL.into_iter().zip(MISS_PROBABILITIES) {
        let (was, is) = (was.miss_probability_max(ambition), is.miss_probability_max(ambition));
        if was != is {
            let word = ambition_word(ambition);
            let detail =
                format!("by policy the {word} offer may be missed with {}, before {}", percent(is), percent(was));
            out.push(Difference::of((Part::Method, "policy", field), Some(was), Some(is), detail));
        }
    }
    if was.template_latency_threshold_ms != is.template_latency_threshold_ms {
        let (was, is) = (was.template_latency_threshold_ms, is.template_latency_threshold_ms);
        let detail = format!("the policy's template latency is {is} ms, before {was} ms");
        out.push(Difference::of(
            (Part::Method, "policy", "template_latency_threshold_ms"),
            Some(was),
            Some(is),
            detail,
        ));
    }
}

/// As JSON spells it over REST, like [`word`].
fn tier(tier: Tier) -> String {
    match tier {
        Tier::One => "tier_1",
        Tier::Two => "tier_2",
        Tier::Three => "tier_3",
        Tier::Four => "tier_4",
    }
    .to_owned()
}

/// A word of the vocabulary.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use attain_attainment::{Doubt, ServiceHistory, TierPolicy, UtilisationFacts};
    use attain_vocabulary::{DependencyMode, EntityKind, TimeRange, TimeWindow};

    use super::*;

    fn id(name: &str) -> EntityId {
        EntityId::new("id", name).expect("valid")
    }

    fn importance(name: &str, birnbaum: f64, own_failure_ratio: f64) -> Importance {
        Importance { entity_id: id(name), birnbaum, contribution_ratio: birnbaum * own_failure_ratio }
    }

    fn structure(importances: Vec<Importance>) -> StructureFacts {
        StructureFacts {
            ceiling_ratio: 0.999,
            exact: true,
            importances,
            assumed_perfect_ids: vec![id("queue")],
            snapshot_version: 3,
            snapshot_age_ms: 0,
            doubt: Doubt::default(),
            consistent_targets: Vec::new(),
            slow_requests: None,
        }
    }

    fn known() -> RecommendationInput {
        let range = TimeRange::new("range", 0, 1).expect("ascending");
        let dependency = DependencyHistory {
            id: id("db"),
            mode: DependencyMode::Hard,
            call_fraction: Some(0.5),
            fallback_success_ratio: None,
            buckets: Vec::new(),
        };
        RecommendationInput {
            service: id("shop"),
            tier: Tier::Two,
            kind: EntityKind::Service,
            window: TimeWindow::default(),
            as_of_ms: 1,
            history: ServiceHistory { range, buckets: Vec::new() },
            dependencies: vec![dependency],
            exclusions: Vec::new(),
            incident_ids: vec!["INC-1".to_owned()],
            structure: Some(structure(vec![importance("db", 0.5, 0.001), importance("shop", 1.0, 0.0002)])),
            counterfactuals: Vec::new(),
            current_slos: Vec::new(),
            missing_inputs: Vec::new(),
            policy: TierPolicy::for_tier(Tier::Two),
            class_record: None,
            quiet_slices_good: false,
            utilisation: UtilisationFacts::default(),
            seed: 1,
            model: None,
        }
    }

    fn facts(input: &mut RecommendationInput) -> &mut StructureFacts {
        input.structure.as_mut().expect("there")
    }

    #[test]
    fn each_input_that_differs_is_told_once_with_both_values() {
        type Change = fn(&mut RecommendationInput);
        type Expected = (Part, &'static str, &'static str, Option<&'static str>, Option<&'static str>);
        let cases: [(Change, Expected); 14] = [
            (|input| input.dependencies.clear(), (Part::Dependency, "db", "mode", Some("hard"), None)),
            (
                |input| input.dependencies[0].mode = DependencyMode::Async,
                (Part::Dependency, "db", "mode", Some("hard"), Some("async")),
            ),
            (
                |input| input.dependencies[0].call_fraction = Some(0.25),
                (Part::Dependency, "db", "call_fraction", Some("0.5"), Some("0.25")),
            ),
            (
                |input| input.dependencies[0].fallback_success_ratio = Some(0.9),
                (Part::Dependency, "db", "fallback_success_ratio", None, Some("0.9")),
            ),
            (
                |input| facts(input).importances[0] = importance("db", 0.5, 0.25),
                (Part::Component, "db", "own_failure_ratio", Some("0.001"), Some("0.25")),
            ),
            (
                |input| facts(input).importances[0] = importance("db", 0.25, 0.001),
                (Part::Component, "db", "birnbaum", Some("0.5"), Some("0.25")),
            ),
            (
                |input| facts(input).importances.truncate(1),
                (Part::Component, "shop", "contribution_ratio", Some("0.0002"), None),
            ),
            (
                |input| facts(input).assumed_perfect_ids.clear(),
                (Part::Component, "queue", "assumed_perfect", Some("true"), None),
            ),
            (|input| facts(input).exact = false, (Part::Method, "", "exact", Some("true"), Some("false"))),
            (|input| input.tier = Tier::One, (Part::Service, "", "tier", Some("tier_2"), Some("tier_1"))),
            (
                |input| input.kind = EntityKind::Datastore,
                (Part::Service, "", "kind", Some("service"), Some("datastore")),
            ),
            (|input| input.incident_ids.clear(), (Part::History, "INC-1", "incident", Some("INC-1"), None)),
            (
                |input| input.policy.target_ratio_max = 0.999,
                (Part::Method, "policy", "target_ratio_max", Some("0.9999"), Some("0.999")),
            ),
            (
                |input| input.policy.miss_probabilities = Some([0.02, 0.05, 0.25]),
                (Part::Method, "policy", "miss_probabilities/balanced", Some("0.1"), Some("0.05")),
            ),
        ];
        let before = known();
        for (change, expected) in cases {
            let mut after = before.clone();
            change(&mut after);
            for (was, is, mirrored) in [(&before, &after, false), (&after, &before, true)] {
                let found = inputs(was, is);
                let [Difference { part, subject, field, before, after, .. }] = &found[..] else {
                    panic!("{expected:?} alone should differ: {found:#?}")
                };
                let values = (before.as_deref(), after.as_deref());
                let (was, is) = if mirrored { (values.1, values.0) } else { values };
                assert_eq!((*part, subject.as_str(), *field, was, is), expected);
            }
        }
        assert_eq!(inputs(&before, &before), []);
    }

    #[test]
    fn drift_is_no_difference() {
        let (before, mut after) = (known(), known());
        facts(&mut after).importances = vec![importance("db", 0.51, 0.00105), importance("shop", 1.0, 0.00021)];
        after.dependencies[0].call_fraction = Some(0.52);
        assert_eq!(inputs(&before, &after), []);
    }

    #[test]
    fn of_many_components_those_that_changed_most_are_told_and_the_rest_counted() {
        let (mut before, mut after) = (known(), known());
        let many =
            |factor: f64| (1..=30).map(move |n| importance(&format!("c{n:02}"), 1.0, 0.001 * f64::from(n) * factor));
        facts(&mut before).importances = many(1.0).collect();
        facts(&mut after).importances = many(2.0).collect();
        let found = inputs(&before, &after);
        let told: Vec<&str> = found.iter().map(|difference| difference.subject.as_str()).collect();
        assert_eq!((told.len(), told[0], told[19]), (21, "c30", "c11"));
        assert_eq!((found[20].field, found[20].after.as_deref()), ("left_out_count", Some("10")));
    }
}
