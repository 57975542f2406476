//! What differs between two recommendations as they were sent, and differences on the wire.

use std::collections::{BTreeMap, BTreeSet};

use attain_attainment::percent;
use attain_proto::convert::unix_millis;
use attain_proto::recommendation::v1 as wire;
use attain_vocabulary::{DAY_MS, UnixMillis};

use super::changes::{ambition_name, constraint_name, kind_name, level_name, target};
use crate::domain::differences::{Difference, Part, moved};

/// Differences of what the recommendations themselves say.
pub(crate) fn differences(before: &wire::Recommendation, after: &wire::Recommendation) -> Vec<Difference> {
    let mut differences = Vec::new();
    let slis = |recommendation: &'_ wire::Recommendation| -> BTreeMap<i32, wire::SliRecommendation> {
        recommendation.slis.iter().map(|sli| (sli.kind, sli.clone())).collect()
    };
    let (was, is) = (slis(before), slis(after));
    let none = wire::SliRecommendation::default();
    let kinds: BTreeSet<i32> = was.keys().chain(is.keys()).copied().collect();
    for kind in kinds {
        sli(kind, was.get(&kind).unwrap_or(&none), is.get(&kind).unwrap_or(&none), &mut differences);
    }
    certainty(before, after, &mut differences);
    method(before, after, &mut differences);
    let none = wire::DataUsed::default();
    data(before.data.as_ref().unwrap_or(&none), after.data.as_ref().unwrap_or(&none), &mut differences);
    missing(before, after, &mut differences);
    citations(before, after, &mut differences);
    differences
}

/// On the wire.
pub(crate) fn difference(difference: Difference) -> wire::RecommendationDifference {
    let Difference { part, subject, field, before, after, detail } = difference;
    let part = match part {
        Part::Effect => wire::RecommendationPart::Effect,
        Part::Dependency => wire::RecommendationPart::Dependency,
        Part::Component => wire::RecommendationPart::Component,
        Part::Service => wire::RecommendationPart::Service,
        Part::History => wire::RecommendationPart::History,
        Part::Method => wire::RecommendationPart::Method,
        Part::Input => wire::RecommendationPart::Input,
    };
    wire::RecommendationDifference { part: part as i32, subject, field: field.to_owned(), before, after, detail }
}

/// Which recommendation.
pub(crate) fn version(recommendation: &wire::Recommendation) -> wire::RecommendationVersion {
    wire::RecommendationVersion {
        recommendation_id: recommendation.id.clone(),
        service_id: recommendation.service_id.clone(),
        version: recommendation.version,
        window_days: recommendation.window_days,
        calendar_window: recommendation.calendar_window,
        create_time: recommendation.create_time,
        input_sha256: recommendation.input_sha256.clone(),
    }
}

fn sli(kind: i32, before: &wire::SliRecommendation, after: &wire::SliRecommendation, out: &mut Vec<Difference>) {
    offers(kind, before, after, out);
    let name = kind_name(kind);
    let effect = |field| (Part::Effect, name, field);
    if let (Some(was), Some(is)) = (before.ceiling_ratio, after.ceiling_ratio)
        && moved(1.0 - was, 1.0 - is)
    {
        let advice = if is < was {
            "what the service needs allows less; the components below say where"
        } else {
            "what the service needs allows more"
        };
        let detail = format!("the structure allows {} of {name}, before {}: {advice}", percent(is), percent(was));
        out.push(Difference::of(effect("ceiling_ratio"), Some(was), Some(is), detail));
    } else if before.ceiling_ratio.is_some() != after.ceiling_ratio.is_some() {
        let detail = "the ceiling is known only in one of the two: see which inputs are missing".to_owned();
        out.push(Difference::of(effect("ceiling_ratio"), before.ceiling_ratio, after.ceiling_ratio, detail));
    }
    let attained = |sli: &wire::SliRecommendation| sli.measured.as_ref().and_then(|measured| measured.attained_ratio);
    if let (Some(was), Some(is)) = (attained(before), attained(after))
        && moved(1.0 - was, 1.0 - is)
    {
        let detail = format!("measured {name} is {}, before {}", percent(is), percent(was));
        out.push(Difference::of(effect("attained_ratio"), Some(was), Some(is), detail));
    }
    let binding = |sli: &wire::SliRecommendation| {
        let binding = sli.binding_constraint.as_ref()?;
        Some(if binding.entity_id.is_empty() {
            constraint_name(binding.kind).to_owned()
        } else {
            binding.entity_id.clone()
        })
    };
    let (was, is) = (binding(before), binding(after));
    if was != is {
        let told = |binding: &Option<String>| binding.clone().unwrap_or_else(|| "nothing".to_owned());
        let detail = format!("what binds {name} is {}, before {}: work there moves the target", told(&is), told(&was));
        out.push(Difference::of(effect("binding_constraint"), was, is, detail));
    }
    promise(name, before, after, out);
}

fn offers(kind: i32, before: &wire::SliRecommendation, after: &wire::SliRecommendation, out: &mut Vec<Difference>) {
    for ambition in [wire::Ambition::Conservative, wire::Ambition::Balanced, wire::Ambition::Ambitious] {
        let offer = |sli: &wire::SliRecommendation| {
            let offer = sli.offers.iter().find(|offer| offer.ambition == ambition as i32)?;
            Some((offer.target_ratio, offer.latency_threshold_ms))
        };
        let (was, is) = (offer(before), offer(after));
        if was == is {
            continue;
        }
        let name = format!("{} {}", ambition_name(ambition), kind_name(kind));
        let detail = match (was, is) {
            (Some(was), Some(is)) if is.0 < was.0 || (is.0 == was.0 && is.1 > was.1) => format!(
                "the {name} offer is {}, before {}: whoever promises the earlier one takes more risk than it said",
                target(is),
                target(was)
            ),
            (Some(was), Some(is)) => {
                format!("the {name} offer is {}, before {}: as much can be promised now", target(is), target(was))
            }
            (None, Some(is)) => format!("the {name} offer is new: {}", target(is)),
            (Some(was), None) => format!("the {name} offer is gone; it was {}", target(was)),
            (None, None) => continue,
        };
        out.push(Difference::of((Part::Effect, &name, "offer"), was.map(target), is.map(target), detail));
    }
}

/// The SLO in force.
fn promise(name: &str, before: &wire::SliRecommendation, after: &wire::SliRecommendation, out: &mut Vec<Difference>) {
    let promise = |sli: &wire::SliRecommendation| {
        let slo = sli.current_slo.as_ref()?.slo.as_ref()?;
        Some(target((slo.target_ratio, slo.latency_threshold_ms)))
    };
    let (was, is) = (promise(before), promise(after));
    if was != is {
        let told = |promise: &Option<String>| promise.clone().unwrap_or_else(|| "none".to_owned());
        let detail = format!("the {name} SLO in force is {}, before {}", told(&is), told(&was));
        out.push(Difference::of((Part::Service, name, "slo_in_force"), was, is, detail));
    }
    let risk = |sli: &wire::SliRecommendation| sli.current_slo.as_ref().and_then(|assessed| assessed.miss_probability);
    if let (Some(was), Some(is)) = (risk(before), risk(after))
        && moved(was, is)
    {
        let detail =
            format!("the next window misses the {name} SLO in force with {}, before {}", percent(is), percent(was));
        out.push(Difference::of((Part::Effect, name, "miss_probability"), Some(was), Some(is), detail));
    }
}

fn certainty(before: &wire::Recommendation, after: &wire::Recommendation, out: &mut Vec<Difference>) {
    let level = |recommendation: &wire::Recommendation| {
        recommendation.confidence.as_ref().map(|confidence| level_name(confidence.level()))
    };
    let (was, is) = (level(before), level(after));
    if was != is {
        let raise = after.confidence.as_ref().and_then(|confidence| confidence.raise_with.first());
        let advice = raise.map_or_else(String::new, |with| format!("; to raise it: {with}"));
        let detail = format!("confidence is {}, before {}{advice}", is.unwrap_or("unknown"), was.unwrap_or("unknown"));
        out.push(Difference::of((Part::Effect, "", "confidence"), was, is, detail));
    }
    if before.fallback != after.fallback {
        let detail = if after.fallback {
            "the data no longer carries an estimate: what is offered is the tier's template"
        } else {
            "the data carries an estimate now, in place of the tier's template"
        };
        let (was, is) = (Some(before.fallback), Some(after.fallback));
        out.push(Difference::of((Part::Effect, "", "fallback"), was, is, detail.to_owned()));
    }
}

fn method(before: &wire::Recommendation, after: &wire::Recommendation, out: &mut Vec<Difference>) {
    if before.model_version != after.model_version {
        let (was, is) = (&before.model_version, &after.model_version);
        let detail = format!("the statistical model is {is}, before {was}: a target may move though nothing else did");
        out.push(Difference::of((Part::Method, "", "model_version"), Some(was), Some(is), detail));
    }
    // One month is longer than another, and yet they are the same window.
    let same_calendar = before.calendar_window == after.calendar_window && after.calendar_window != 0;
    if before.window_days != after.window_days && !same_calendar {
        let (was, is) = (before.window_days, after.window_days);
        let detail = format!(
            "the window is {is} days, before {was}: compare recommendations of one window to see what else moved"
        );
        out.push(Difference::of((Part::Method, "", "window_days"), Some(was), Some(is), detail));
    }
    if before.seed != after.seed {
        let detail = "the seed of everything random is another one".to_owned();
        out.push(Difference::of((Part::Method, "", "seed"), Some(before.seed), Some(after.seed), detail));
    }
}

fn data(before: &wire::DataUsed, after: &wire::DataUsed, out: &mut Vec<Difference>) {
    let history = |field| (Part::History, "", field);
    let days = |data: &wire::DataUsed| {
        let range = data.range.as_ref()?;
        let (start, end) = (range.start_time.as_ref()?, range.end_time.as_ref()?);
        Some((unix_millis(end) - unix_millis(start)).div_euclid(DAY_MS))
    };
    let (was, is) = (days(before), days(after));
    if was != is {
        let told = |days: Option<i64>| days.map_or_else(|| "unknown".to_owned(), |days| format!("{days} days"));
        let detail = format!("the history that was read is {} long, before {}", told(is), told(was));
        out.push(Difference::of(history("history_days"), was, is, detail));
    }
    if moved(1.0 - before.coverage_ratio, 1.0 - after.coverage_ratio) {
        let detail = format!(
            "buckets cover {} of the span, before {}: what is missing is not known to be good",
            percent(after.coverage_ratio),
            percent(before.coverage_ratio)
        );
        let (was, is) = (Some(before.coverage_ratio), Some(after.coverage_ratio));
        out.push(Difference::of(history("coverage_ratio"), was, is, detail));
    }
    let regime = |data: &wire::DataUsed| data.regime_start_time.as_ref().map(unix_millis);
    regime_changes(regime(before), regime(after), before, after, out);
    let exclusions =
        |data: &wire::DataUsed| data.exclusions.iter().map(|left_out| left_out.reason.clone()).collect::<BTreeSet<_>>();
    let (was, is) = (exclusions(before), exclusions(after));
    for reason in is.difference(&was) {
        let detail = format!("a span of time is left out now: {reason}");
        out.push(Difference::of((Part::History, reason, "exclusion"), None, Some(reason), detail));
    }
    for reason in was.difference(&is) {
        let detail = format!("a span of time counts again: {reason}");
        out.push(Difference::of((Part::History, reason, "exclusion"), Some(reason), None, detail));
    }
    let snapshot = |data: &wire::DataUsed| data.snapshot.as_ref().map(|snapshot| snapshot.version);
    if snapshot(before) != snapshot(after) {
        let detail = match (snapshot(before), snapshot(after)) {
            (Some(was), Some(is)) => format!("the dependency graph has version {is}, before {was}"),
            (None, _) => "the dependency graph could be asked now".to_owned(),
            (_, None) => "the dependency graph could not be asked".to_owned(),
        };
        out.push(Difference::of((Part::Input, "", "graph_version"), snapshot(before), snapshot(after), detail));
    }
}

fn regime_changes(
    was: Option<UnixMillis>,
    is: Option<UnixMillis>,
    before: &wire::DataUsed,
    after: &wire::DataUsed,
    out: &mut Vec<Difference>,
) {
    if was == is {
        return;
    }
    let days = |data: &wire::DataUsed| (data.regime_days * 10.0).round() / 10.0;
    let detail = match (was, is) {
        (_, Some(_)) => format!(
            "the level of failure changed {} days before the end of the history: look at what was released then",
            days(after)
        ),
        (_, None) => "the level of failure is the same over the whole history again".to_owned(),
    };
    out.push(Difference::of((Part::History, "", "regime_days"), Some(days(before)), Some(days(after)), detail));
}

fn missing(before: &wire::Recommendation, after: &wire::Recommendation, out: &mut Vec<Difference>) {
    let names = |recommendation: &wire::Recommendation| -> BTreeMap<String, String> {
        recommendation.missing_inputs.iter().map(|missing| (missing.name.clone(), missing.detail.clone())).collect()
    };
    let (was, is) = (names(before), names(after));
    for (name, why) in is.iter().filter(|(name, _)| !was.contains_key(*name)) {
        let detail = format!("the input `{name}` is missing now: {why}");
        out.push(Difference::of((Part::Input, name, "missing_input"), None, Some(why), detail));
    }
    for (name, why) in was.iter().filter(|(name, _)| !is.contains_key(*name)) {
        let detail = format!("the input `{name}` is there again");
        out.push(Difference::of((Part::Input, name, "missing_input"), Some(why), None, detail));
    }
}

fn citations(before: &wire::Recommendation, after: &wire::Recommendation, out: &mut Vec<Difference>) {
    let documents = |recommendation: &wire::Recommendation| -> BTreeMap<String, u32> {
        let cited = recommendation.citations.iter();
        cited.map(|citation| (citation.document_id.clone(), citation.document_version)).collect()
    };
    let (was, is) = (documents(before), documents(after));
    let ids: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for id in ids {
        let (old, new) = (was.get(id), is.get(id));
        let detail = match (old, new) {
            (None, _) => format!("{id} is cited now: read what it says of the risk"),
            (_, None) => format!("{id} is no longer cited"),
            (Some(old), Some(new)) if old != new => format!("{id} is cited in version {new}, before {old}"),
            _ => continue,
        };
        out.push(Difference::of((Part::Input, id, "document_version"), old, new, detail));
    }
}

#[cfg(test)]
mod tests {
    use attain_proto::convert::timestamp;
    use attain_proto::graph::v1::SnapshotInfo;
    use attain_proto::rag::v1::Citation;
    use attain_proto::vocabulary::v1::{SliKind, TimeRange};

    use super::*;

    fn recommendation() -> wire::Recommendation {
        let offer =
            wire::Offer { ambition: wire::Ambition::Balanced as i32, target_ratio: 0.999, ..Default::default() };
        let slo = wire::Slo { target_ratio: 0.995, ..Default::default() };
        let sli = wire::SliRecommendation {
            kind: SliKind::Availability as i32,
            offers: vec![offer],
            ceiling_ratio: Some(0.9995),
            measured: Some(wire::Measurement { attained_ratio: Some(0.9993), ..Default::default() }),
            current_slo: Some(wire::SloAssessment {
                slo: Some(slo),
                miss_probability: Some(0.04),
                ..Default::default()
            }),
            binding_constraint: Some(wire::BindingConstraint { entity_id: "db".into(), ..Default::default() }),
            ..Default::default()
        };
        let range = TimeRange { start_time: Some(timestamp(0)), end_time: Some(timestamp(30 * DAY_MS)) };
        wire::Recommendation {
            slis: vec![sli],
            data: Some(wire::DataUsed { range: Some(range), coverage_ratio: 0.99, ..Default::default() }),
            confidence: Some(wire::Confidence { level: wire::ConfidenceLevel::High as i32, ..Default::default() }),
            window_days: 28,
            ..Default::default()
        }
    }

    fn data(recommendation: &mut wire::Recommendation) -> &mut wire::DataUsed {
        recommendation.data.get_or_insert_default()
    }

    #[test]
    fn each_field_that_differs_is_told_once_with_both_values() {
        type Change = fn(&mut wire::Recommendation);
        type Expected = (Part, &'static str, &'static str, Option<&'static str>, Option<&'static str>);
        let cases: [(Change, Expected); 19] = [
            (
                |r| r.slis[0].offers[0].target_ratio = 0.99,
                (Part::Effect, "balanced availability", "offer", Some("0.999"), Some("0.99")),
            ),
            (|r| r.slis[0].offers.clear(), (Part::Effect, "balanced availability", "offer", Some("0.999"), None)),
            (
                |r| r.slis[0].ceiling_ratio = Some(0.99),
                (Part::Effect, "availability", "ceiling_ratio", Some("0.9995"), Some("0.99")),
            ),
            (|r| r.slis[0].ceiling_ratio = None, (Part::Effect, "availability", "ceiling_ratio", Some("0.9995"), None)),
            (
                |r| r.slis[0].measured = Some(wire::Measurement { attained_ratio: Some(0.99), ..Default::default() }),
                (Part::Effect, "availability", "attained_ratio", Some("0.9993"), Some("0.99")),
            ),
            (
                |r| {
                    r.slis[0].binding_constraint =
                        Some(wire::BindingConstraint { entity_id: "provider".into(), ..Default::default() })
                },
                (Part::Effect, "availability", "binding_constraint", Some("db"), Some("provider")),
            ),
            (|r| r.slis[0].current_slo = None, (Part::Service, "availability", "slo_in_force", Some("0.995"), None)),
            (
                |r| r.slis[0].current_slo.get_or_insert_default().miss_probability = Some(0.4),
                (Part::Effect, "availability", "miss_probability", Some("0.04"), Some("0.4")),
            ),
            (|r| r.confidence = None, (Part::Effect, "", "confidence", Some("high"), None)),
            (|r| r.fallback = true, (Part::Effect, "", "fallback", Some("false"), Some("true"))),
            (|r| r.model_version = "next".into(), (Part::Method, "", "model_version", Some(""), Some("next"))),
            (|r| r.window_days = 7, (Part::Method, "", "window_days", Some("28"), Some("7"))),
            (
                |r| {
                    data(r).range =
                        Some(TimeRange { start_time: Some(timestamp(0)), end_time: Some(timestamp(90 * DAY_MS)) })
                },
                (Part::History, "", "history_days", Some("30"), Some("90")),
            ),
            (|r| data(r).coverage_ratio = 0.5, (Part::History, "", "coverage_ratio", Some("0.99"), Some("0.5"))),
            (
                |r| (data(r).regime_start_time, data(r).regime_days) = (Some(timestamp(5)), 2.04),
                (Part::History, "", "regime_days", Some("0"), Some("2")),
            ),
            (
                |r| data(r).exclusions.push(wire::Exclusion { reason: "maintenance 7".into(), range: None }),
                (Part::History, "maintenance 7", "exclusion", None, Some("maintenance 7")),
            ),
            (
                |r| data(r).snapshot = Some(SnapshotInfo { version: 9, ..Default::default() }),
                (Part::Input, "", "graph_version", None, Some("9")),
            ),
            (
                |r| r.missing_inputs.push(wire::MissingInput { name: "graph".into(), detail: "down".into() }),
                (Part::Input, "graph", "missing_input", None, Some("down")),
            ),
            (
                |r| {
                    r.citations.push(Citation {
                        document_id: "runbook".into(),
                        document_version: 3,
                        ..Default::default()
                    })
                },
                (Part::Input, "runbook", "document_version", None, Some("3")),
            ),
        ];
        let before = recommendation();
        for (change, expected) in cases {
            let mut after = before.clone();
            change(&mut after);
            let found = differences(&before, &after);
            let [difference] = &found[..] else { panic!("{expected:?} alone should differ: {found:#?}") };
            let Difference { part, subject, field, before: was, after: is, .. } = difference;
            assert_eq!((*part, subject.as_str(), *field, was.as_deref(), is.as_deref()), expected);
        }
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn drift_is_no_difference() {
        let before = recommendation();
        let mut after = before.clone();
        after.slis[0].ceiling_ratio = Some(0.99951);
        after.slis[0].current_slo.get_or_insert_default().miss_probability = Some(0.041);
        data(&mut after).coverage_ratio = 0.9901;
        assert_eq!(differences(&before, &after), []);
    }

    #[test]
    fn a_harder_promise_is_told_from_an_easier_one() {
        let before = recommendation();
        let detail = |target_ratio: f64| {
            let mut after = before.clone();
            after.slis[0].offers[0].target_ratio = target_ratio;
            differences(&before, &after).remove(0).detail
        };
        assert!(detail(0.99).contains("more risk"), "{}", detail(0.99));
        assert!(detail(0.9999).contains("can be promised"), "{}", detail(0.9999));
    }
}
