//! Offers for a simulated fleet whose laws are known.
//!
//! Each service is recommended targets from its past alone; then many windows are drawn that may follow that past, by the
//! laws that the past was drawn from. How often they miss an offer is its true probability of a miss, and their quantile is
//! what somebody who knows the laws would offer. A second answer is whether offers hold beside one another, a third what
//! becomes of all this when a part of the calls is seen by nobody.

use std::collections::BTreeMap;

use anyhow::ensure;
use attain_attainment::{
    Ambition, ConstraintKind, OfferBasis, RecommendationResult, SliResult, SplitMethod, TARGET_MENU, recommend,
};
use attain_simulator::fleet::{Class, Fleet, Past};
use attain_vocabulary::DependencyMode;
use clap::Parser;
use indicatif::ProgressBar;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::fleet::accepted::accept;
use crate::fleet::{Known, View, cores, each};
use crate::scores;

const PAST_DAYS: u32 = 90;
const WINDOW_DAYS: u32 = 28;
/// Shares of the calls that nobody sees.
const HIDDEN: [f64; 6] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5];
/// A ceiling holds where its unavailability is within this factor of the truth, or within this share of requests.
const CEILING_FACTOR: f64 = 1.25;
const CEILING_RATIO: f64 = 1e-5;
/// Objectives, where there are some.
const BUDGET_MAX: f64 = 1.3;
const COVERAGE_POINTS_MAX: f64 = 0.03;

/// What to simulate.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Seed of the fleet, its past and the windows after it; the same seed gives the same report but for the seconds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Components of the fleet, external parties and datastores among them; 5 to 5000.
    #[arg(long, default_value_t = 400)]
    services: usize,
    /// Windows drawn after the past.
    #[arg(long, default_value_t = 400)]
    futures: u32,
    /// Threads; the report does not depend on them.
    #[arg(long, default_value_t = cores())]
    threads: usize,
}

/// One service with an estimate: what was offered, and what the windows after it were.
struct Scored {
    at: usize,
    class: Class,
    result: SliResult,
    /// Bad share of each window, ascending.
    windows: Vec<f64>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!((5..=5000).contains(&options.services), "services: {} is outside 5 to 5000", options.services);
    ensure!(options.futures >= 50, "futures: {} are too few to tell 2 %; draw 50 at least", options.futures);
    let progress = ProgressBar::new(5).with_message("drawing");
    let fleet = Fleet::draw(options.seed, options.services);
    let past = fleet.past(options.seed, PAST_DAYS);
    progress.inc(1);
    let drawn = each(options.futures as usize, options.threads, |index| {
        fleet.future(&past.origin, (options.seed, index as u64), (PAST_DAYS, WINDOW_DAYS))
    });
    progress.inc(1);
    let view = View::new(&fleet, &past, vec![false; fleet.calls.len()]);
    let known = known(&view, options.threads);
    progress.inc(1);
    let results = recommended(&view, &known, options.threads);
    let scored = scored(&fleet, &results, &drawn);
    ensure!(!scored.is_empty(), "no service has an estimate");
    progress.inc(1);
    let truth = true_ceilings(&view);
    let (fallbacks, measured) =
        (results.iter().flatten().filter(|result| result.fallback).count(), results.iter().flatten().count());
    let consistency = consistency(&view, &known, &results)?;
    let hidden = hidden(&fleet, &past, options, &truth, &drawn);
    progress.finish_and_clear();

    let by_class = Class::ALL.iter().filter_map(|class| {
        let of: Vec<&Scored> = scored.iter().filter(|scored| scored.class == *class).collect();
        (!of.is_empty()).then(|| (class.name().to_owned(), calibration(&of)))
    });
    let all: Vec<&Scored> = scored.iter().collect();
    let budget = budget_ratio(&all);
    let covered = hidden.iter().all(|hidden| hidden.within());
    let violations = consistency.values().map(|of| of["violations"].as_u64().unwrap_or(u64::MAX)).sum::<u64>();
    let mut report = json!({
        "seed": options.seed,
        "services": options.services,
        "history_days": PAST_DAYS,
        "window_days": WINDOW_DAYS,
        "futures": options.futures,
        "measured": measured,
        "fallbacks": fallbacks,
        "estimated": scored.len(),
        "by_class": by_class.collect::<Map<String, Value>>(),
        "budget_ratio": budget,
        "consistency_violations": violations,
        "consistency": consistency,
        "hidden_edges": hidden.iter().map(Hidden::report).collect::<Vec<_>>(),
        "split": split_errors(&view, &known),
        "objective_met": budget <= BUDGET_MAX && violations == 0 && covered,
    });
    if let (Value::Object(report), Value::Object(of_all)) = (&mut report, calibration(&all)) {
        report.extend(of_all);
    }
    Ok(report)
}

fn known(view: &View<'_>, threads: usize) -> Known {
    view.known(each(view.fleet.components.len(), threads, |at| view.component(at, false)))
}

fn recommended(view: &View<'_>, known: &Known, threads: usize) -> Vec<Option<RecommendationResult>> {
    each(view.fleet.components.len(), threads, |at| {
        view.is_measured(at).then(|| recommend(&view.input(at, known, Vec::new())))
    })
}

/// Results with an estimate, each with the windows that followed.
fn scored(fleet: &Fleet, results: &[Option<RecommendationResult>], drawn: &[Vec<f64>]) -> Vec<Scored> {
    let scored = |(at, result): (usize, &Option<RecommendationResult>)| {
        let result = result.as_ref().filter(|result| !result.fallback)?.slis.first()?.clone();
        let mut windows: Vec<f64> = drawn.iter().map(|window| window[at]).collect();
        windows.sort_by(f64::total_cmp);
        Some(Scored { at, class: fleet.components[at].class, result, windows })
    };
    results.iter().enumerate().filter_map(scored).collect()
}

impl Scored {
    /// Share of windows in which more fails than a budget.
    fn missed(&self, budget: f64) -> f64 {
        // A hair of tolerance: 1 - target is not exact.
        let met = self.windows.partition_point(|window| *window <= budget * (1.0 + 1e-9));
        1.0 - met as f64 / self.windows.len() as f64
    }

    fn offer(&self, ambition: Ambition) -> Option<f64> {
        self.result.offers.iter().find(|offer| offer.ambition == ambition).map(|offer| 1.0 - offer.target_ratio)
    }

    /// Whether the forecast decides what is offered, rather than policy or what traffic can tell.
    fn is_free(&self) -> bool {
        !matches!(self.result.binding_constraint.kind, ConstraintKind::Policy | ConstraintKind::Volume)
    }

    fn unrounded(&self, ambition: Ambition) -> f64 {
        self.result.forecast.as_ref().map_or(1.0, |forecast| forecast.quantile(1.0 - ambition.miss_probability_max()))
    }

    /// What somebody who knows the laws would allow.
    fn oracle(&self, ambition: Ambition) -> f64 {
        scores::quantile(&self.windows, 1.0 - ambition.miss_probability_max())
    }
}

/// How often offers are missed: as they are made, from the menu; and as the forecast alone would have them.
fn calibration(scored: &[&Scored]) -> Value {
    let by_goal = |value: &dyn Fn(Ambition) -> Value| -> Map<String, Value> {
        Ambition::ALL.iter().map(|goal| (format!("{:.2}", goal.miss_probability_max()), value(*goal))).collect()
    };
    let unrounded = |goal: Ambition| -> Vec<f64> { scored.iter().map(|one| one.missed(one.unrounded(goal))).collect() };
    let offered = |goal: Ambition, free: bool| -> Vec<f64> {
        let of = scored.iter().filter(|one| !free || one.is_free());
        of.filter_map(|one| Some(one.missed(one.offer(goal)?))).collect()
    };
    json!({
        "estimates": scored.len(),
        "free_offers": scored.iter().filter(|one| one.is_free()).count(),
        "missed": by_goal(&|goal| json!(scores::mean(&unrounded(goal)))),
        "intervals": by_goal(&|goal| json!(scores::mean_interval(&unrounded(goal), 1))),
        "missed_offers": by_goal(&|goal| json!(scores::mean(&offered(goal, false)))),
        "missed_free_offers": by_goal(&|goal| json!(scores::mean(&offered(goal, true)))),
        "budget_ratio_by_goal": by_goal(&|goal| json!(ratio_of_sums(scored, goal))),
        "budget_ratio_median": by_goal(&|goal| json!(median_ratio(scored, goal))),
    })
}

/// Balanced budgets over the oracle's, as sums: budgets are spent where they are large.
fn budget_ratio(scored: &[&Scored]) -> f64 {
    ratio_of_sums(scored, Ambition::Balanced)
}

fn ratio_of_sums(scored: &[&Scored], goal: Ambition) -> f64 {
    let sum = |value: &dyn Fn(&Scored) -> f64| scored.iter().map(|one| value(one)).sum::<f64>();
    sum(&|one| one.unrounded(goal)) / sum(&|one| one.oracle(goal))
}

fn median_ratio(scored: &[&Scored], goal: Ambition) -> f64 {
    let ratios: Vec<f64> = scored
        .iter()
        .map(|one| (one.unrounded(goal), one.oracle(goal)))
        .filter(|(_, oracle)| *oracle > 0.0)
        .map(|(own, oracle)| own / oracle)
        .collect();
    scores::quantile(&ratios, 0.5)
}

/// For each ambition: contradictions among offers as each service alone has them, and among those that hold beside the others.
fn consistency(
    view: &View<'_>,
    known: &Known,
    results: &[Option<RecommendationResult>],
) -> anyhow::Result<BTreeMap<&'static str, Value>> {
    let names = [
        (Ambition::Conservative, "conservative"),
        (Ambition::Balanced, "balanced"),
        (Ambition::Ambitious, "ambitious"),
    ];
    let estimated = |result: &Option<RecommendationResult>| result.clone().filter(|result| !result.fallback);
    let slis: Vec<Option<SliResult>> =
        results.iter().map(|result| estimated(result).and_then(|result| result.slis.into_iter().next())).collect();
    let forecasts: Vec<_> = slis.iter().map(|sli| sli.as_ref().and_then(|sli| sli.forecast.as_ref())).collect();
    let mut found = BTreeMap::new();
    for (ambition, name) in names {
        let offer = |sli: &SliResult| {
            let offer =
                sli.offers.iter().find(|offer| offer.ambition == ambition && offer.basis == OfferBasis::Estimate)?;
            Some(offer.target_ratio)
        };
        let offers: Vec<Option<f64>> = slis.iter().map(|sli| sli.as_ref().and_then(offer)).collect();
        let accepted = accept(view, known, ambition, &offers, &forecasts)?;
        let targets = || accepted.targets.iter().flatten();
        let limited = targets().filter(|target| target.limited_by.is_some()).count();
        let steps = |target: f64| TARGET_MENU.iter().rposition(|step| *step <= target + 1e-12).unwrap_or(0);
        let moved: Vec<f64> = targets()
            .filter(|target| target.limited_by.is_some())
            .filter_map(|target| Some(steps(target.offered_ratio).saturating_sub(steps(target.target_ratio?)) as f64))
            .collect();
        let value = json!({
            "offers": targets().count(),
            "contradictions_alone": accepted.contradictions_before,
            "limited": limited,
            "without_target": targets().filter(|target| target.target_ratio.is_none()).count(),
            "menu_steps_given_way": scores::mean(&moved),
            "violations": accepted.violations_after,
        });
        found.insert(name, value);
    }
    Ok(found)
}

/// What the structure allows, every call known and every component at the share that it truly failed of its own.
fn true_ceilings(view: &View<'_>) -> Vec<Option<f64>> {
    let split = (0..view.fleet.components.len()).map(|at| {
        let mut component = view.component(at, false);
        let counts = &view.past.counts[at];
        let (bad, by_callee) = counts.failed();
        let valid: u64 = counts.valid.iter().map(|valid| u64::from(*valid)).sum();
        if let Some(split) = component.split.as_mut().filter(|_| valid > 0) {
            split.own_failure_ratio = (bad - by_callee.values().sum::<u64>()) as f64 / valid as f64;
            split.method = SplitMethod::Traces;
        }
        component
    });
    let known = view.known(split.collect());
    known.structures.iter().map(|structure| structure.as_ref().map(|structure| structure.ceiling_ratio)).collect()
}

/// How well answers hold while a share of the calls is seen by nobody.
struct Hidden {
    share: f64,
    edges: usize,
    /// Share of windows within the 90 % interval of what an offer says of its budget.
    interval: f64,
    /// Share of services whose ceiling holds.
    ceiling: f64,
    services: usize,
}

impl Hidden {
    fn within(&self) -> bool {
        (self.interval - 0.9).abs() <= COVERAGE_POINTS_MAX
    }

    fn report(&self) -> Value {
        json!({
            "share": self.share,
            "edges": self.edges,
            "services": self.services,
            "interval_coverage": self.interval,
            "ceiling_coverage": self.ceiling,
        })
    }
}

fn hidden(fleet: &Fleet, past: &Past, options: &Options, truth: &[Option<f64>], drawn: &[Vec<f64>]) -> Vec<Hidden> {
    let mut order: Vec<usize> =
        (0..fleet.calls.len()).filter(|at| fleet.calls[*at].mode != DependencyMode::Async).collect();
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    for at in (1..order.len()).rev() {
        order.swap(at, random.random_range(0..=at));
    }
    let of_share = |share: f64| {
        let mut hidden = vec![false; fleet.calls.len()];
        let edges = (share * order.len() as f64).round() as usize;
        order[..edges].iter().for_each(|call| hidden[*call] = true);
        let view = View::new(fleet, past, hidden);
        let known = known(&view, options.threads);
        let results = recommended(&view, &known, options.threads);
        let scored = scored(fleet, &results, drawn);
        let inside = |one: &Scored| {
            let offer = one.result.offers.first()?;
            let (low, high) =
                (offer.budget_use_low? * offer.error_budget_ratio, offer.budget_use_high? * offer.error_budget_ratio);
            let within = |window: &&f64| **window >= low * (1.0 - 1e-6) && **window <= high * (1.0 + 1e-6);
            Some(one.windows.iter().filter(within).count() as f64 / one.windows.len() as f64)
        };
        let intervals: Vec<f64> = scored.iter().filter_map(inside).collect();
        let holds = |one: &Scored| {
            let (ceiling, truth) = (1.0 - one.result.ceiling_ratio?, 1.0 - truth[one.at]?);
            let near = (ceiling - truth).abs() <= CEILING_RATIO;
            Some(f64::from(near || (ceiling <= truth * CEILING_FACTOR && truth <= ceiling * CEILING_FACTOR)))
        };
        let ceilings: Vec<f64> = scored.iter().filter_map(holds).collect();
        Hidden {
            share,
            edges,
            interval: scores::mean(&intervals),
            ceiling: scores::mean(&ceilings),
            services: scored.len(),
        }
    };
    HIDDEN.map(of_share).into()
}

/// Own and inherited failure as they were told apart, against what was drawn.
fn split_errors(view: &View<'_>, known: &Known) -> Map<String, Value> {
    let mut by_method: BTreeMap<&str, Vec<(f64, f64, f64)>> = BTreeMap::new();
    for (at, component) in view.fleet.components.iter().enumerate() {
        let Some(split) = known.components[&component.id].split.as_ref() else { continue };
        let (bad, by_callee) = view.past.counts[at].failed();
        let valid: u64 = view.past.counts[at].valid.iter().map(|valid| u64::from(*valid)).sum();
        let inherited: u64 = by_callee.values().sum();
        if bad == 0 || view.edges_of(at).is_empty() {
            continue;
        }
        let method = match split.method {
            SplitMethod::Traces => "traces",
            SplitMethod::Regression => "regression",
            SplitMethod::NoDependencies => "no_dependencies",
            SplitMethod::Unknown => "unknown",
        };
        let told = split.own_failure_ratio / (split.own_failure_ratio + split.inherited_failure_ratio);
        let truth = (bad - inherited) as f64 / bad as f64;
        by_method.entry(method).or_default().push((told, truth, bad as f64 / valid as f64));
    }
    let report = |(method, of): (&str, Vec<(f64, f64, f64)>)| {
        let errors: Vec<f64> = of.iter().map(|(told, truth, _)| (told - truth).abs()).collect();
        let bias: Vec<f64> = of.iter().map(|(told, truth, _)| told - truth).collect();
        let amount: f64 = of.iter().map(|(.., bad)| bad).sum();
        let weighted = of.iter().map(|(told, truth, bad)| (told - truth).abs() * bad).sum::<f64>() / amount;
        let value = json!({
            "services": of.len(),
            "own_share_error": scores::mean(&errors),
            "own_share_error_median": scores::quantile(&errors, 0.5),
            "own_share_error_by_failure": weighted,
            "own_share_bias": scores::mean(&bias),
        });
        (method.to_owned(), value)
    };
    by_method.into_iter().map(report).collect()
}
