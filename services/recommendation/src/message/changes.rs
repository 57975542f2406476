//! What changed between two versions of a recommendation, in sentences. Read from the messages themselves, which are kept for
//! ever, so that the sentences can be written again.

use std::collections::BTreeMap;

use attain_proto::convert::unix_millis;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind;

use super::experiments;

/// Smallest relative change of a failure ratio that is worth a sentence.
const RATIO_CHANGE_MIN: f64 = 0.1;

type Slis<'a> = BTreeMap<i32, &'a wire::SliRecommendation>;

/// Sentences on everything that differs, the targets first; never empty, because a version is only made when something did.
pub(crate) fn changes(before: &wire::Recommendation, after: &wire::Recommendation) -> Vec<String> {
    let (was, is) = (slis(before), slis(after));
    let mut sentences = Vec::new();
    for (kind, sli) in &is {
        match was.get(kind) {
            None => sentences.push(format!("{} is new", kind_name(*kind))),
            Some(old) => {
                offers(*kind, old, sli, &mut sentences);
                prospects(*kind, old, sli, &mut sentences);
            }
        }
    }
    let gone = was.keys().filter(|kind| !is.contains_key(kind));
    sentences.extend(gone.map(|kind| format!("{} is gone", kind_name(*kind))));
    certainty(before, after, &mut sentences);
    inputs(before, after, &mut sentences);
    if sentences.is_empty() {
        sentences.push("newer measurements or evidence; no target moved".to_owned());
    }
    sentences
}

fn slis(recommendation: &wire::Recommendation) -> Slis<'_> {
    recommendation.slis.iter().map(|sli| (sli.kind, sli)).collect()
}

fn offers(kind: i32, before: &wire::SliRecommendation, after: &wire::SliRecommendation, out: &mut Vec<String>) {
    for ambition in [wire::Ambition::Conservative, wire::Ambition::Balanced, wire::Ambition::Ambitious] {
        let find = |sli: &wire::SliRecommendation| {
            sli.offers
                .iter()
                .find(|offer| offer.ambition == ambition as i32)
                .map(|offer| (offer.target_ratio, offer.latency_threshold_ms))
        };
        let name = format!("the {} {} offer", ambition_name(ambition), kind_name(kind));
        match (find(before), find(after)) {
            (Some(was), Some(is)) if was != is => out.push(format!("{name} is {}, before {}", target(is), target(was))),
            (None, Some(is)) => out.push(format!("{name} is new: {}", target(is))),
            (Some(was), None) => out.push(format!("{name} is gone; it was {}", target(was))),
            _ => {}
        }
    }
}

fn prospects(kind: i32, before: &wire::SliRecommendation, after: &wire::SliRecommendation, out: &mut Vec<String>) {
    let name = kind_name(kind);
    let slo = |sli: &wire::SliRecommendation| {
        sli.current_slo
            .as_ref()
            .and_then(|assessment| assessment.slo.as_ref())
            .map(|slo| (slo.target_ratio, slo.latency_threshold_ms, slo.version))
    };
    match (slo(before), slo(after)) {
        (was, Some((ratio, threshold_ms, version))) if was != slo(after) => {
            out.push(format!("the {name} SLO in force is {} (version {version})", target((ratio, threshold_ms))));
        }
        _ => {}
    }
    let attained = |sli: &wire::SliRecommendation| sli.measured.as_ref().and_then(|measured| measured.attained_ratio);
    if let (Some(was), Some(is)) = (attained(before), attained(after))
        && (was - is).abs() > RATIO_CHANGE_MIN * (1.0 - was)
    {
        out.push(format!("measured {name} is {is:.6}, before {was:.6}"));
    }
    let binding = |sli: &wire::SliRecommendation| {
        sli.binding_constraint.as_ref().map(|binding| (binding.kind, binding.entity_id.clone()))
    };
    let (was, is) = (binding(before), binding(after));
    if was != is {
        let words = |binding: Option<(i32, String)>| match binding {
            Some((_, id)) if !id.is_empty() => id,
            Some((kind, _)) => constraint_name(kind).to_owned(),
            None => "nothing".to_owned(),
        };
        out.push(format!("what binds {name} is {}, before {}", words(is), words(was)));
    }
}

fn certainty(before: &wire::Recommendation, after: &wire::Recommendation, out: &mut Vec<String>) {
    let level = |recommendation: &wire::Recommendation| recommendation.confidence.as_ref().map(wire::Confidence::level);
    if let (Some(was), Some(is)) = (level(before), level(after))
        && was != is
    {
        out.push(format!("confidence is {}, before {}", level_name(is), level_name(was)));
    }
    if before.fallback != after.fallback {
        let text =
            if after.fallback { "the data no longer carries an estimate" } else { "the data now carries an estimate" };
        out.push(text.to_owned());
    }
    match (&before.experiment, &after.experiment) {
        (was, Some(is)) if was.as_ref() != Some(is) => {
            out.push(format!("it is part of experiment {}", experiments::named(is)))
        }
        (Some(was), None) => out.push(format!("experiment {} is over", was.experiment_id)),
        _ => {}
    }
    if before.model_version != after.model_version {
        out.push(format!("the statistical model is {}, before {}", after.model_version, before.model_version));
    }
}

fn inputs(before: &wire::Recommendation, after: &wire::Recommendation, out: &mut Vec<String>) {
    let regime = |recommendation: &wire::Recommendation| {
        recommendation.data.as_ref().and_then(|data| data.regime_start_time.as_ref()).map(unix_millis)
    };
    if regime(before) != regime(after) {
        out.push("the level of failure is read from another point in time on".to_owned());
    }
    let snapshot = |recommendation: &wire::Recommendation| {
        recommendation.data.as_ref().and_then(|data| data.snapshot.as_ref()).map(|snapshot| snapshot.version)
    };
    if let (Some(was), Some(is)) = (snapshot(before), snapshot(after))
        && was != is
    {
        out.push(format!("the dependency graph has version {is}, before {was}"));
    }
    let lacks = |recommendation: &wire::Recommendation, name: &str| {
        recommendation.missing_inputs.iter().any(|missing| missing.name == name)
    };
    for missing in after.missing_inputs.iter().filter(|missing| !lacks(before, &missing.name)) {
        out.push(format!("the input `{}` is missing now", missing.name));
    }
    for missing in before.missing_inputs.iter().filter(|missing| !lacks(after, &missing.name)) {
        out.push(format!("the input `{}` is there again", missing.name));
    }
}

pub(super) fn target((ratio, threshold_ms): (f64, u32)) -> String {
    if threshold_ms > 0 { format!("{ratio} below {threshold_ms} ms") } else { ratio.to_string() }
}

pub(super) fn kind_name(kind: i32) -> &'static str {
    match SliKind::try_from(kind) {
        Ok(SliKind::Latency) => "latency",
        Ok(SliKind::Freshness) => "freshness",
        Ok(SliKind::Availability | SliKind::Unspecified) | Err(_) => "availability",
    }
}

pub(super) fn ambition_name(ambition: wire::Ambition) -> &'static str {
    match ambition {
        wire::Ambition::Conservative => "conservative",
        wire::Ambition::Unspecified | wire::Ambition::Balanced => "balanced",
        wire::Ambition::Ambitious => "ambitious",
    }
}

pub(super) fn level_name(level: wire::ConfidenceLevel) -> &'static str {
    match level {
        wire::ConfidenceLevel::Unspecified | wire::ConfidenceLevel::Low => "low",
        wire::ConfidenceLevel::Medium => "medium",
        wire::ConfidenceLevel::High => "high",
    }
}

pub(super) fn constraint_name(kind: i32) -> &'static str {
    match wire::ConstraintKind::try_from(kind) {
        Ok(wire::ConstraintKind::Own) => "its own failures",
        Ok(wire::ConstraintKind::Dependency) => "a dependency",
        Ok(wire::ConstraintKind::Volume) => "too little traffic",
        Ok(wire::ConstraintKind::Policy) => "policy",
        Ok(wire::ConstraintKind::Data) => "too little data",
        Ok(wire::ConstraintKind::Unspecified) | Err(_) => "nothing named",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recommendation(target_ratio: f64) -> wire::Recommendation {
        let offer = wire::Offer { ambition: wire::Ambition::Balanced as i32, target_ratio, ..wire::Offer::default() };
        let sli = wire::SliRecommendation {
            kind: SliKind::Availability as i32,
            offers: vec![offer],
            ..wire::SliRecommendation::default()
        };
        wire::Recommendation { slis: vec![sli], ..wire::Recommendation::default() }
    }

    #[test]
    fn each_difference_has_a_sentence() {
        let before = recommendation(0.999);
        type Change = fn(&mut wire::Recommendation);
        let cases: [(Change, &str); 6] = [
            (|r| r.slis[0].offers[0].target_ratio = 0.99, "the balanced availability offer is 0.99, before 0.999"),
            (|r| r.slis[0].offers.clear(), "the balanced availability offer is gone; it was 0.999"),
            (|r| r.fallback = true, "the data no longer carries an estimate"),
            (|r| r.model_version = "next".into(), "the statistical model is next, before "),
            (
                |r| r.missing_inputs.push(wire::MissingInput { name: "graph".into(), detail: String::new() }),
                "the input `graph` is missing now",
            ),
            (|_| {}, "newer measurements or evidence; no target moved"),
        ];
        for (change, expected) in cases {
            let mut after = before.clone();
            change(&mut after);
            assert_eq!(changes(&before, &after), [expected]);
        }
    }
}
