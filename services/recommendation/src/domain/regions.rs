//! What differs between the regions of a service: each is predicted by itself and held against the whole.
//!
//! A region is decided on from what it answered, from what its dependencies answered there as far as they tell, and from the
//! structure without what runs in other regions. Latency is not kept by region, so only availability is offered.

use std::collections::{BTreeMap, BTreeSet};

use attain_attainment::{
    Ambition, CounterfactualStructure, DependencyBucket, DependencyHistory, Offer, Reach, RecommendationInput,
    RecommendationResult, ServiceHistory, SliResult, StructureFacts, UtilisationFacts, percent,
};
use attain_vocabulary::{EntityId, EntityKind, SliBucket, SliKind, Source, TimeRange};
use serde::{Deserialize, Serialize};

use super::components::{Facts, Rate};

/// What is kept of one region beside what is kept of the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegionKept {
    /// Its name.
    pub(crate) region: String,
    /// From the first bucket on.
    pub(crate) range: TimeRange,
    /// What the service answered there, by ascending start.
    pub(crate) buckets: Vec<SliBucket>,
    /// Where these buckets came from.
    pub(crate) sources: Vec<Source>,
    /// What direct dependencies answered there; of the others the history of the whole stands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) dependencies: BTreeMap<EntityId, Vec<DependencyBucket>>,
    /// What runs in other regions.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) elsewhere: BTreeSet<EntityId>,
    /// What the graph says of the region; `None` where it could not be asked.
    pub(crate) structure: Option<StructureFacts>,
}

impl RegionKept {
    /// The input of the region: that of the whole with the region's own history, dependencies and structure.
    pub(crate) fn input(&self, whole: &RecommendationInput) -> RecommendationInput {
        let here = |id: &EntityId| !self.elsewhere.contains(id);
        let dependency = |of: &DependencyHistory| DependencyHistory {
            id: of.id.clone(),
            mode: of.mode,
            call_fraction: of.call_fraction,
            fallback_success_ratio: of.fallback_success_ratio,
            buckets: self.dependencies.get(&of.id).unwrap_or(&of.buckets).clone(),
        };
        // Shares further down and ceilings are those of the whole.
        let direct = |change: &&CounterfactualStructure| change.reach == Reach::Direct && here(&change.callee);
        let unevaluated =
            |change: &CounterfactualStructure| CounterfactualStructure { ceiling_after_ratio: None, ..change.clone() };
        RecommendationInput {
            service: whole.service.clone(),
            tier: whole.tier,
            kind: whole.kind,
            window: whole.window,
            as_of_ms: whole.as_of_ms,
            history: ServiceHistory { range: self.range, buckets: self.buckets.clone() },
            dependencies: whole.dependencies.iter().filter(|of| here(&of.id)).map(dependency).collect(),
            exclusions: whole.exclusions.clone(),
            incident_ids: whole.incident_ids.clone(),
            structure: self.structure.clone(),
            counterfactuals: whole.counterfactuals.iter().filter(direct).map(unevaluated).collect(),
            current_slos: whole.current_slos.iter().filter(|slo| slo.kind == SliKind::Availability).cloned().collect(),
            missing_inputs: whole.missing_inputs.clone(),
            policy: whole.policy,
            class_record: whole.class_record,
            quiet_slices_good: whole.quiet_slices_good,
            // Utilisation is measured of the whole.
            utilisation: UtilisationFacts::default(),
            seed: whole.seed,
            model: whole.model.clone(),
        }
    }
}

/// Infrastructure that is said to run in another region than this one.
pub(crate) fn elsewhere(
    region: &str,
    facts: &BTreeMap<EntityId, Facts>,
    regions: &BTreeMap<EntityId, String>,
) -> BTreeSet<EntityId> {
    let of = |id: &EntityId, kind: EntityKind| match kind {
        // A region stands for the region of its name.
        EntityKind::Region => Some(id.to_string()),
        kind if kind.is_infrastructure() => regions.get(id).cloned(),
        _ => None,
    };
    let other = |(id, facts): &(&EntityId, &Facts)| of(id, facts.kind).is_some_and(|of| of != region);
    facts.iter().filter(other).map(|(id, _)| id.clone()).collect()
}

/// The rates of the whole with those of the region in their place; what runs elsewhere never fails here.
pub(crate) fn rates_in(whole: &[Rate], here: Vec<Rate>, elsewhere: &BTreeSet<EntityId>) -> Vec<Rate> {
    let never = |id: &EntityId| Rate { id: id.clone(), own_failure_ratio: 0.0, includes_dependencies: true };
    let mut rates: BTreeMap<EntityId, Rate> = whole.iter().map(|rate| (rate.id.clone(), rate.clone())).collect();
    rates.extend(here.into_iter().map(|rate| (rate.id.clone(), rate)));
    rates.extend(elsewhere.iter().map(|id| (id.clone(), never(id))));
    rates.into_values().collect()
}

/// The regions of a service beside the whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outlook {
    /// In lexical order; at least one.
    pub(crate) regions: Vec<Summary>,
    pub(crate) worst: String,
    /// The balanced target of the whole, and the most probability of a miss that it may have.
    pub(crate) whole: Option<(f64, f64)>,
    /// Regions that would miss that target more often, the most likely first.
    pub(crate) hidden: Vec<String>,
    /// Share of the requests of the whole that are counted in a region, in `[0, 1]`.
    pub(crate) counted_share: f64,
}

/// One region in short.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub(crate) region: String,
    pub(crate) attained_ratio: Option<f64>,
    pub(crate) valid_count: u64,
    /// Share of the requests that are counted in any region, in `[0, 1]`.
    pub(crate) request_share: f64,
    pub(crate) balanced_target_ratio: Option<f64>,
    /// Probability that it misses the balanced target of the whole.
    pub(crate) whole_miss_probability: Option<f64>,
    pub(crate) ceiling_ratio: Option<f64>,
    pub(crate) confidence_score: f64,
    pub(crate) fallback: bool,
}

/// Holds regions against the whole; `None` where there are none. Regions come in lexical order.
pub(crate) fn outlook(whole: &RecommendationResult, regions: &[(&str, &RecommendationResult)]) -> Option<Outlook> {
    let offered = availability(whole).filter(|sli| !sli.fallback).and_then(balanced);
    let whole_target = offered.map(|offer| (offer.target_ratio, offer.miss_probability_max));
    let in_regions: u64 = regions.iter().map(|(_, result)| valid(result)).fold(0, u64::saturating_add);
    let summaries: Vec<Summary> =
        regions.iter().map(|(name, result)| summary(name, result, whole_target, in_regions)).collect();
    let worst = summaries.iter().max_by(|a, b| badness(a, b))?.region.clone();
    let mut hidden: Vec<&Summary> = summaries
        .iter()
        .filter(|of| of.whole_miss_probability.zip(whole_target).is_some_and(|(missed, (_, max))| missed > max))
        .collect();
    hidden.sort_by(|a, b| badness(b, a));
    let hidden = hidden.into_iter().map(|of| of.region.clone()).collect();
    let counted_share = share(in_regions, valid(whole));
    Some(Outlook { worst, whole: whole_target, hidden, counted_share, regions: summaries })
}

fn summary(name: &str, result: &RecommendationResult, whole: Option<(f64, f64)>, in_regions: u64) -> Summary {
    let sli = availability(result);
    let estimated = sli.filter(|sli| !sli.fallback).and_then(|sli| sli.forecast.as_ref());
    Summary {
        region: name.to_owned(),
        attained_ratio: sli.and_then(|sli| sli.measured.attained_ratio),
        valid_count: valid(result),
        request_share: share(valid(result), in_regions),
        balanced_target_ratio: sli.and_then(balanced).map(|offer| offer.target_ratio),
        whole_miss_probability: whole.zip(estimated).map(|((target, _), sli)| sli.miss_probability(1.0 - target)),
        ceiling_ratio: sli.and_then(|sli| sli.ceiling_ratio),
        confidence_score: result.confidence.score,
        fallback: result.fallback,
    }
}

/// The worse region is greater: by the probability of missing what the whole is offered, then by what it attained, then the
/// first in lexical order.
fn badness(a: &Summary, b: &Summary) -> std::cmp::Ordering {
    let missed = |of: &Summary| of.whole_miss_probability.unwrap_or(-1.0);
    let attained = |of: &Summary| of.attained_ratio.unwrap_or(2.0);
    missed(a)
        .total_cmp(&missed(b))
        .then_with(|| attained(b).total_cmp(&attained(a)))
        .then_with(|| b.region.cmp(&a.region))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
}

fn availability(result: &RecommendationResult) -> Option<&SliResult> {
    result.slis.iter().find(|sli| sli.kind == SliKind::Availability)
}

fn balanced(sli: &SliResult) -> Option<&Offer> {
    sli.offers.iter().find(|offer| offer.ambition == Ambition::Balanced)
}

fn valid(result: &RecommendationResult) -> u64 {
    availability(result).map_or(0, |sli| sli.measured.valid_count)
}

impl Outlook {
    /// The worst region and what the total hides; each number is a field.
    pub(crate) fn paragraph(&self) -> String {
        let Some(worst) = self.regions.iter().find(|of| of.region == self.worst) else { return String::new() };
        if self.regions.len() == 1 {
            return format!(
                "All that tells a region ({} of its requests) was answered in {}.",
                percent(self.counted_share),
                worst.region
            );
        }
        let mut sentences = vec![self.of_worst(worst)];
        if let (Some((target, max)), false) = (self.whole, self.hidden.is_empty()) {
            sentences.push(format!(
                "The total hides {}: a balanced offer of {} may be missed with a probability of {} at most.",
                listed(&self.hidden),
                percent(target),
                percent(max)
            ));
        }
        sentences.join(" ")
    }

    fn of_worst(&self, worst: &Summary) -> String {
        let mut said = Vec::new();
        if let Some(attained) = worst.attained_ratio {
            said.push(format!("answered {} of its requests well", percent(attained)));
        }
        match worst.balanced_target_ratio {
            Some(target) if !worst.fallback => {
                said.push(format!("alone can promise {} at balanced risk", percent(target)))
            }
            _ => said.push("has too little data for an estimate".to_owned()),
        }
        if let (Some(missed), Some((target, _))) = (worst.whole_miss_probability, self.whole) {
            let (target, missed) = (percent(target), percent(missed));
            said.push(format!("misses the {target} offered to the whole with a probability of {missed}"));
        }
        format!("Of its regions {} is the worst: it {}.", worst.region, listed(&said))
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests;
