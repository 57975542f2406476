use attain_vocabulary::SliKind;

use crate::backtest::backtest_from;
use crate::binding::{binding, data};
use crate::budgeting::budgetings;
use crate::cells::Cells;
use crate::counterfactual::Today;
use crate::in_force::InProgress;
use crate::latency::{AtThreshold, Latencies, LatencyOffers};
use crate::menu::targets_allowed;
use crate::offers::{availability_offers, held_against_fleet, note, template_offer, template_target};
use crate::sanity::Usable;
use crate::series::{Sums, fraction};
use crate::sla::{self, Months, Suggestion};
use crate::split::Split;
use crate::timeline::Timeline;
use crate::{
    Ambition, Backtest, BindingConstraint, Budgeting, Confidence, ConfidenceLevel, ConstraintKind, CountSeries,
    CurrentSlo, Importance, Measurement, Offer, Prediction, RecommendationInput, SliResult, SloAssessment, explain,
    predict_with,
};

/// Least share of a window whose days must have latencies before a threshold is estimated: a week of four. Below it
/// weekdays alone would decide.
pub(crate) const LATENCY_HISTORY_MIN: f64 = 0.25;

/// What has been found about a service before its offers are made.
pub(crate) struct Gathered<'a> {
    pub(crate) input: &'a RecommendationInput,
    pub(crate) usable: &'a Usable<'a>,
    pub(crate) timeline: &'a Timeline,
    /// Failures of each row of the timeline.
    pub(crate) bad: &'a [f64],
    pub(crate) cells: &'a Cells,
    pub(crate) prediction: Option<&'a Prediction>,
    pub(crate) split: &'a Split,
    pub(crate) confidence: &'a Confidence,
    pub(crate) latencies: Option<Latencies<'a>>,
    /// The back-test of availability.
    pub(crate) backtest: Option<Backtest>,
    /// The calendar window that has begun.
    pub(crate) in_progress: Option<InProgress>,
    /// Calendar months ahead, which agreements are for.
    pub(crate) months: Option<Months>,
}

impl Gathered<'_> {
    /// Offers of availability: the estimate's, or the template's when confidence is low.
    pub(crate) fn availability(&self) -> SliResult {
        let found = match self.prediction.filter(|_| self.confidence.level != ConfidenceLevel::Low) {
            Some(prediction) => self.estimated(prediction),
            None => self.template(),
        };
        SliResult { offers: held_against_fleet(found.offers, self.input.structure.as_ref()), ..found }
    }

    fn estimated(&self, prediction: &Prediction) -> SliResult {
        let mut offers = availability_offers(prediction, &self.input.policy);
        for offer in &mut offers {
            let in_force = self.in_progress.as_ref();
            offer.in_force_miss_probability =
                in_force.map(|in_force| in_force.miss_probability(1.0 - offer.target_ratio));
            offer.agreement = self.agreement_below(offer.target_ratio);
        }
        let ambitions: Vec<Ambition> = offers.iter().map(|offer| offer.ambition).collect();
        let today = Today {
            input: self.input,
            usable: self.usable,
            timeline: self.timeline,
            bad: self.bad,
            cells: self.cells,
            split: self.split,
            prediction,
            balanced: balanced(&offers).map(|offer| offer.target_ratio),
        };
        SliResult {
            binding_constraint: binding(&today),
            counterfactuals: today.counterfactuals(),
            offer_note: note(&ambitions, prediction),
            offers,
            backtest: self.backtest.clone(),
            budgetings: self.by_time(prediction),
            ..self.blank_availability()
        }
    }

    /// What could be promised outside if this were the objective inside.
    fn agreement_below(&self, target_ratio: f64) -> Option<Suggestion> {
        let risk = sla::miss_probability_max(self.input.tier);
        self.months.as_ref()?.suggest(Some(target_ratio), risk, &[]).ok()
    }

    /// The budget counted by slices of time.
    fn by_time(&self, prediction: &Prediction) -> Vec<Budgeting> {
        let input = self.input;
        budgetings(
            &prediction.constants,
            self.timeline,
            self.bad,
            input.quiet_slices_good,
            prediction.window_days,
            input.as_of_ms,
            &input.policy,
        )
    }

    fn template(&self) -> SliResult {
        if let Some(ceiling_ratio) = self.ceiling_of_parts() {
            return self.within_parts(ceiling_ratio);
        }
        let target = template_target(self.prediction, &self.input.policy);
        let forecast = self.prediction.map(|prediction| &prediction.forecast);
        let offer_note = match self.prediction {
            Some(_) => TEMPLATE_NOTE,
            None => "No request was measured: this is the tier's template.",
        };
        SliResult {
            offers: vec![template_offer(forecast, &self.input.policy, target, None)],
            offer_note: offer_note.to_owned(),
            fallback: true,
            ..self.blank_availability()
        }
    }

    /// What the parts of an API or a system without requests of its own allow, where failures of any of them are known.
    fn ceiling_of_parts(&self) -> Option<f64> {
        let structure = self.input.structure.as_ref();
        let made_of_parts = self.input.kind.is_composite() && self.prediction.is_none();
        structure.and_then(|structure| fraction(structure.ceiling_ratio)).filter(|ratio| made_of_parts && *ratio < 1.0)
    }

    /// The template as far as the parts allow it.
    fn within_parts(&self, ceiling_ratio: f64) -> SliResult {
        let policy = &self.input.policy;
        let within = policy.template_target_ratio.min(ceiling_ratio);
        let target = targets_allowed(policy).find(|target| *target <= within);
        let blank = self.blank_availability();
        let most = blank.importances.first().filter(|most| most.contribution_ratio > 0.0);
        let binding_constraint = match most {
            Some(most) if ceiling_ratio < policy.template_target_ratio => by_part(most),
            _ => data(
                "The tier's template is within what its parts allow; a stricter target needs measurements of its own.",
            ),
        };
        let allowed = explain::percent(ceiling_ratio);
        let offer_note = match target {
            Some(_) => format!(
                "It has no requests of its own. Its parts allow {allowed} at most: this is the tier's template as far as that goes, not a forecast."
            ),
            None => {
                format!("It has no requests of its own, and its parts allow {allowed} at most: no target on the menu.")
            }
        };
        let offers = target.map(|target| template_offer(None, &self.input.policy, target, None)).into_iter().collect();
        SliResult { binding_constraint, offers, offer_note, fallback: true, ..blank }
    }

    fn blank_availability(&self) -> SliResult {
        let structure = self.input.structure.as_ref();
        let slo = current(self.input, SliKind::Availability);
        SliResult {
            measured: measured(self.usable.series.sums(), self.latencies.as_ref()),
            current_slo: slo.map(|slo| assess(self.input, slo, &self.usable.series, self.prediction)),
            failure_split: Some(self.split.ratios.clone()),
            ceiling_ratio: structure.and_then(|structure| fraction(structure.ceiling_ratio)),
            importances: importances(self.input),
            forecast: self.prediction.map(|prediction| prediction.forecast.clone()),
            ..blank(SliKind::Availability)
        }
    }

    /// Offers of latency where there are histograms, or an SLO in force that asks for them; the template's when `fallback`, or
    /// when there are too few.
    pub(crate) fn latency(&self, fallback: bool) -> Option<SliResult> {
        let slo = current(self.input, SliKind::Latency);
        if self.latencies.is_none() && slo.is_none() {
            return None;
        }
        let window = self.input.window_ahead().days();
        let enough = |latencies: &&Latencies<'_>| latencies.days() >= LATENCY_HISTORY_MIN * window && !fallback;
        let quantile = self.input.policy.latency_quantile();
        let found = self
            .latencies
            .as_ref()
            .filter(enough)
            .map(|latencies| latencies.offers(&self.input.policy, quantile, window, self.input.as_of_ms));
        let refused = found.as_ref().is_some_and(|found| found.refused);
        let estimated = found.filter(|_| !refused);
        let current_slo = slo.map(|slo| self.assess_latency(slo));
        let sli = match estimated {
            Some(found) => self.estimated_latency(found),
            None => self.template_latency(quantile, if refused { REFUSED_NOTE } else { TEMPLATE_NOTE }),
        };
        Some(SliResult { current_slo, ..sli })
    }

    fn estimated_latency(&self, found: LatencyOffers) -> SliResult {
        let LatencyOffers { offers, mut looked_at, .. } = found;
        let chosen = balanced(&offers).or(offers.first());
        let threshold = chosen.and_then(|offer| offer.latency_threshold_ms);
        let offered_ms = balanced(&offers).and_then(|offer| offer.latency_threshold_ms);
        let at = looked_at
            .iter()
            .position(|at| Some(at.threshold_ms) == threshold)
            .map(|i| looked_at.swap_remove(i))
            .or_else(|| looked_at.pop());
        let offer_note = match offers.len() {
            3 => "",
            _ => "Requests are too slow too often for a threshold on the menu at every ambition.",
        };
        SliResult {
            latency_threshold_ms: threshold,
            binding_constraint: self.latency_binding(at.as_ref(), offered_ms),
            offer_note: offer_note.to_owned(),
            offers,
            backtest: at.as_ref().and_then(|at| self.backtest_of(at)),
            ..self.blank_latency(at)
        }
    }

    /// The same machinery on the ratio of requests faster than the threshold that is offered today.
    fn backtest_of(&self, at: &AtThreshold) -> Option<Backtest> {
        backtest_from(
            &at.prediction.constants,
            &at.cells,
            at.prediction.window_days,
            self.input.as_of_ms,
            &self.input.policy,
        )
    }

    fn template_latency(&self, quantile: f64, offer_note: &str) -> SliResult {
        let threshold = self.input.policy.template_latency_threshold_ms;
        let window = self.input.window_ahead().days();
        let at = self.latencies.as_ref().and_then(|latencies| latencies.at(threshold, window, self.input.as_of_ms));
        let forecast = at.as_ref().map(|at| &at.prediction.forecast);
        SliResult {
            latency_threshold_ms: Some(threshold),
            offers: vec![template_offer(forecast, &self.input.policy, quantile, Some(threshold))],
            binding_constraint: data("Too little is known of its latency for an estimate."),
            offer_note: offer_note.to_owned(),
            fallback: true,
            ..self.blank_latency(at)
        }
    }

    fn blank_latency(&self, at: Option<AtThreshold>) -> SliResult {
        let latencies = self.latencies.as_ref();
        SliResult {
            measured: at.as_ref().map_or_else(Measurement::default, |at| measured(at.sums, latencies)),
            forecast: at.map(|at| at.prediction.forecast),
            ..blank(SliKind::Latency)
        }
    }

    fn assess_latency(&self, slo: &CurrentSlo) -> SloAssessment {
        let latencies = self.latencies.as_ref().zip(slo.latency_threshold_ms);
        let series = latencies.map(|(latencies, threshold)| latencies.slower_than(threshold));
        assess(self.input, slo, &series.unwrap_or_default(), None)
    }
}

/// The part that an API or a system owes most of its failures to.
fn by_part(most: &Importance) -> BindingConstraint {
    let detail = format!(
        "{} contributes {} to what its parts fail together.",
        most.entity_id,
        explain::percent(most.contribution_ratio)
    );
    BindingConstraint {
        kind: ConstraintKind::Dependency,
        entity_id: Some(most.entity_id.clone()),
        contribution_ratio: most.contribution_ratio,
        ..data(&detail)
    }
}

const TEMPLATE_NOTE: &str =
    "Too little is known for an estimate: this is the tier's template, not to be accepted before a person has looked.";

const REFUSED_NOTE: &str = "Too few requests count as independent to tell the quantile: this is the tier's template.";

pub(crate) fn blank(kind: SliKind) -> SliResult {
    SliResult {
        kind,
        latency_threshold_ms: None,
        measured: Measurement::default(),
        current_slo: None,
        offers: Vec::new(),
        fallback: false,
        failure_split: None,
        ceiling_ratio: None,
        binding_constraint: data("Too little is known for an estimate; the confidence says what would raise it."),
        importances: Vec::new(),
        counterfactuals: Vec::new(),
        offer_note: String::new(),
        forecast: None,
        backtest: None,
        budgetings: Vec::new(),
    }
}

pub(crate) fn balanced(offers: &[Offer]) -> Option<&Offer> {
    offers.iter().find(|offer| offer.ambition == Ambition::Balanced)
}

pub(crate) fn current(input: &RecommendationInput, kind: SliKind) -> Option<&CurrentSlo> {
    input.current_slos.iter().find(|slo| slo.kind == kind)
}

/// An SLO in force against the history and the forecast of its own window: the next one where it rolls, the one that has begun
/// where it follows the calendar.
pub(crate) fn assess(
    input: &RecommendationInput,
    slo: &CurrentSlo,
    series: &CountSeries,
    prediction: Option<&Prediction>,
) -> SloAssessment {
    let budget = slo.target.error_budget();
    let window = f64::from(slo.window.days());
    let (constants, now_ms) = (input.constants(), input.as_of_ms);
    let miss_probability = match prediction.filter(|prediction| prediction.window_days == window) {
        _ if slo.window.is_calendar() => {
            InProgress::of(&constants, series, slo.window, now_ms).map(|in_force| in_force.miss_probability(budget))
        }
        Some(prediction) => Some(prediction.forecast.miss_probability(budget)),
        None => predict_with(&constants, series, window, now_ms)
            .map(|prediction| prediction.forecast.miss_probability(budget)),
    };
    let attained_ratio = series.attained_ratio();
    SloAssessment {
        target_ratio: slo.target.target_ratio(),
        latency_threshold_ms: slo.latency_threshold_ms,
        window: slo.window,
        miss_probability,
        attained_ratio,
        attained: attained_ratio.map(|attained| attained >= slo.target.target_ratio()),
    }
}

fn measured(sums: Sums, latencies: Option<&Latencies<'_>>) -> Measurement {
    let at = |quantile| latencies.and_then(|latencies| latencies.merged.quantile(quantile));
    Measurement {
        attained_ratio: sums.attained_ratio(),
        valid_count: sums.valid as u64,
        bad_count: sums.bad.round() as u64,
        latency_ms_p50: at(0.5),
        latency_ms_p95: at(0.95),
        latency_ms_p99: at(0.99),
    }
}

fn importances(input: &RecommendationInput) -> Vec<Importance> {
    let mut importances = input.structure.as_ref().map(|structure| structure.importances.clone()).unwrap_or_default();
    importances.retain(|importance| importance.contribution_ratio.is_finite() && importance.birnbaum.is_finite());
    importances.sort_by(|a, b| {
        b.contribution_ratio.total_cmp(&a.contribution_ratio).then_with(|| a.entity_id.cmp(&b.entity_id))
    });
    importances
}
