use crate::menu::targets_allowed;
use crate::{Ambition, ConsistentTarget, Forecast, Offer, OfferBasis, Prediction, StructureFacts, TierPolicy};

/// The strictest target that policy allows, the window's traffic can tell, and the forecast misses no oftener than
/// `miss_probability_max`. `None` when even the loosest is missed oftener or cannot be told.
#[must_use]
pub fn strictest_target(prediction: &Prediction, policy: &TierPolicy, miss_probability_max: f64) -> Option<f64> {
    Asked::of(prediction, policy).strictest(miss_probability_max).map(|(target, _)| target)
}

/// The same with another forecast than the prediction's own.
pub(crate) fn strictest_target_with(
    forecast: &Forecast,
    prediction: &Prediction,
    policy: &TierPolicy,
    miss_probability_max: f64,
) -> Option<f64> {
    Asked::with(forecast, prediction, policy).strictest(miss_probability_max).map(|(target, _)| target)
}

/// Targets that policy allows and the window's traffic tells, strictest first, with what the forecast said of each: it is asked
/// once.
struct Asked<'a> {
    forecast: &'a Forecast,
    steps: Vec<(f64, Option<f64>)>,
}

impl<'a> Asked<'a> {
    fn of(prediction: &'a Prediction, policy: &TierPolicy) -> Self {
        Self::with(&prediction.forecast, prediction, policy)
    }

    fn with(forecast: &'a Forecast, prediction: &Prediction, policy: &TierPolicy) -> Self {
        let told = targets_allowed(policy).filter(|target| prediction.distinguishes(1.0 - target));
        Self { forecast, steps: told.map(|target| (target, None)).collect() }
    }

    /// The strictest target that is missed no oftener than allowed, and how often: found by halves, for a stricter one is never
    /// missed less.
    fn strictest(&mut self, miss_probability_max: f64) -> Option<(f64, f64)> {
        let (mut low, mut high) = (0, self.steps.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.missed(middle) <= miss_probability_max { high = middle } else { low = middle + 1 }
        }
        let target = self.steps.get(low)?.0;
        Some((target, self.missed(low)))
    }

    fn missed(&mut self, at: usize) -> f64 {
        let (target, missed) = &mut self.steps[at];
        *missed.get_or_insert_with(|| self.forecast.miss_probability(1.0 - *target))
    }
}

/// The strictest target of each ambition, in the order of [`Ambition::ALL`], with its probability of a miss. The forecast is asked
/// about each step of the menu at most once: stricter ones are missed no less.
pub(crate) fn strictest_targets(prediction: &Prediction, policy: &TierPolicy) -> [Option<(f64, f64)>; 3] {
    let mut asked = Asked::of(prediction, policy);
    Ambition::ALL.map(|ambition| asked.strictest(policy.miss_probability_max(ambition)))
}

/// One offer for each ambition that a target can be found for.
pub(crate) fn availability_offers(prediction: &Prediction, policy: &TierPolicy) -> Vec<Offer> {
    let range = UseRange::of(&prediction.forecast, policy);
    let offer = |(ambition, found): (Ambition, Option<(f64, f64)>)| {
        let (target, _) = found?;
        Some(range.offer(&prediction.forecast, ambition, OfferBasis::Estimate, target, None))
    };
    Ambition::ALL.into_iter().zip(strictest_targets(prediction, policy)).filter_map(offer).collect()
}

/// A forecast's mean and its 5 % and 95 % quantiles: what each offer says of its budget, computed once; and the policy whose
/// risks the offers take.
pub(crate) struct UseRange {
    policy: TierPolicy,
    mean: f64,
    low: f64,
    high: f64,
}

impl UseRange {
    pub(crate) fn of(forecast: &Forecast, policy: &TierPolicy) -> Self {
        Self { policy: *policy, mean: forecast.mean(), low: forecast.quantile(0.05), high: forecast.quantile(0.95) }
    }

    pub(crate) fn offer(
        &self,
        forecast: &Forecast,
        ambition: Ambition,
        basis: OfferBasis,
        target: f64,
        threshold: Option<u32>,
    ) -> Offer {
        let budget = 1.0 - target;
        Offer {
            miss_probability: Some(forecast.miss_probability(budget)),
            expected_budget_use: Some(self.mean / budget),
            budget_use_low: Some(self.low / budget),
            budget_use_high: Some(self.high / budget),
            ..blank(&self.policy, ambition, basis, target, threshold)
        }
    }
}

/// The template's target, or the strictest looser one that the traffic tells: what cannot be told is not offered, template or
/// not. Without a request nothing speaks against the template.
pub(crate) fn template_target(prediction: Option<&Prediction>, policy: &TierPolicy) -> f64 {
    let Some(prediction) = prediction else {
        return policy.template_target_ratio;
    };
    targets_allowed(policy)
        .filter(|target| *target <= policy.template_target_ratio)
        .find(|target| prediction.distinguishes(1.0 - target))
        .unwrap_or(policy.template_target_ratio)
}

/// The template's offer: with the forecast's view of it where there is one.
pub(crate) fn template_offer(
    forecast: Option<&Forecast>,
    policy: &TierPolicy,
    target: f64,
    threshold: Option<u32>,
) -> Offer {
    match forecast {
        Some(forecast) => {
            UseRange::of(forecast, policy).offer(forecast, Ambition::Balanced, OfferBasis::Template, target, threshold)
        }
        None => blank(policy, Ambition::Balanced, OfferBasis::Template, target, threshold),
    }
}

fn blank(policy: &TierPolicy, ambition: Ambition, basis: OfferBasis, target: f64, threshold: Option<u32>) -> Offer {
    Offer {
        ambition,
        basis,
        target_ratio: target,
        latency_threshold_ms: threshold,
        miss_probability: None,
        miss_probability_max: policy.miss_probability_max(ambition),
        error_budget_ratio: 1.0 - target,
        expected_budget_use: None,
        budget_use_low: None,
        budget_use_high: None,
        in_force_miss_probability: None,
        consistent_target_ratio: None,
        limited_by: None,
        agreement: None,
    }
}

/// Marks the offers that contradict the targets of the services below.
pub(crate) fn held_against_fleet(mut offers: Vec<Offer>, structure: Option<&StructureFacts>) -> Vec<Offer> {
    let known = structure.map(|structure| structure.consistent_targets.as_slice()).unwrap_or_default();
    for offer in &mut offers {
        let about = |target: &&ConsistentTarget| {
            target.ambition == offer.ambition && target.offered_ratio == offer.target_ratio
        };
        let Some(found) = known.iter().find(about) else { continue };
        offer.limited_by = found.limited_by.clone();
        offer.consistent_target_ratio = found.target_ratio.filter(|_| offer.limited_by.is_some());
    }
    offers
}

/// Why there are fewer offers than three; empty when there are.
pub(crate) fn note(ambitions: &[Ambition], prediction: &Prediction) -> String {
    if ambitions.len() == Ambition::ALL.len() {
        return String::new();
    }
    if !prediction.distinguishes(0.5) {
        return "The traffic expected in a window is too little to tell any target from none.".into();
    }
    let found = |ambition| ambitions.contains(&ambition);
    let lacking: Vec<&str> = [
        (Ambition::Conservative, "conservative"),
        (Ambition::Balanced, "balanced"),
        (Ambition::Ambitious, "ambitious"),
    ]
    .into_iter()
    .filter(|(ambition, _)| !found(*ambition))
    .map(|(_, name)| name)
    .collect();
    format!("No target on the menu is safe enough, and told by the traffic expected, for: {}.", lacking.join(", "))
}
