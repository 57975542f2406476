//! Offers for a simulated fleet whose laws are known.
//!
//! Each service is recommended targets from its past alone; then many windows are drawn that may follow that past, by the
//! laws that the past was drawn from. How often they miss an offer is its true probability of a miss, and their quantile is
//! what somebody who knows the laws would offer. A second answer is whether offers hold beside one another, a third what
//! becomes of all this when a part of the calls is seen by nobody.

mod kinds;
mod retrained;

use std::collections::BTreeMap;

use anyhow::ensure;
use attain_attainment::{
    Ambition, ConstraintKind, FailureSplit, OfferBasis, RecommendationInput, RecommendationResult, SliResult,
    SplitMethod, TARGET_MENU, recommend,
};
use attain_recommendation::domain::retrained::RetrainedModel;
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
use retrained::Retrained;

const PAST_DAYS: u32 = 90;
const WINDOW_DAYS: u32 = 28;
/// Shares of the calls that nobody sees.
const HIDDEN: [f64; 6] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5];
/// A ceiling holds where its unavailability is within this factor of the truth, or within this share of requests.
const CEILING_FACTOR: f64 = 1.25;
const CEILING_RATIO: f64 = 1e-5;
/// Objectives: how far the shares missed may be from what was asked for, conservative first; the balanced budget over the oracle's; how
/// far coverage may be from what is said, or may fall when calls are hidden.
const MISSED_POINTS_MAX: [f64; 3] = [0.015, 0.03, 0.04];
const BUDGET_MAX: f64 = 1.3;
const COVERAGE_POINTS_MAX: f64 = 0.03;

/// What to simulate.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Seed of the first fleet, its past and the windows after it; the same seed gives the same report but for the seconds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fleets, each of its own seed: the one given, the next one, and so on; at most 100. Intervals of several fleets tell how much
    /// the draw of the fleet matters, which those of one cannot.
    #[arg(long, default_value_t = 1)]
    fleets: u32,
    /// Components of each fleet, external parties and datastores among them; 5 to 5000.
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
    kinds: Vec<&'static str>,
    result: SliResult,
    /// What the forecast allows at each ambition, neither rounded nor bounded.
    budgets: [f64; Ambition::ALL.len()],
    /// Bad share of each window, ascending.
    windows: Vec<f64>,
}

/// Everything that one fleet shows.
struct Run {
    seed: u64,
    measured: usize,
    fallbacks: usize,
    scored: Vec<Scored>,
    retrained: Retrained,
    consistency: BTreeMap<&'static str, Consistency>,
    /// By share of hidden calls.
    hidden: Vec<Hidden>,
    split: SplitErrors,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!((5..=5000).contains(&options.services), "services: {} is outside 5 to 5000", options.services);
    ensure!((1..=100).contains(&options.fleets), "fleets: {} is outside 1 to 100", options.fleets);
    ensure!(options.futures >= 50, "futures: {} are too few to tell 2 %; draw 50 at least", options.futures);
    let progress = ProgressBar::new(u64::from(options.fleets) * STEPS);
    let seeds = (0..u64::from(options.fleets)).map(|fleet| options.seed.wrapping_add(fleet));
    let runs = seeds.map(|seed| one(options, seed, &progress)).collect::<anyhow::Result<Vec<Run>>>()?;
    progress.finish_and_clear();
    let mut report = pooled(&runs.iter().collect::<Vec<_>>());
    let head = json!({
        "seed": options.seed,
        "fleets": options.fleets,
        "services": options.services,
        "history_days": PAST_DAYS,
        "window_days": WINDOW_DAYS,
        "futures": options.futures,
    });
    if let (Value::Object(report), Value::Object(head)) = (&mut report, head) {
        report.extend(head);
        if runs.len() > 1 {
            report.insert("by_seed".to_owned(), runs.iter().map(in_short).collect());
        }
    }
    Ok(report)
}

/// Steps of one fleet that the progress shows.
const STEPS: u64 = 6;

fn one(options: &Options, seed: u64, progress: &ProgressBar) -> anyhow::Result<Run> {
    let fleet = Fleet::draw(seed, options.services);
    let past = fleet.past(seed, PAST_DAYS);
    progress.inc(1);
    let drawn = each(options.futures as usize, options.threads, |index| {
        fleet.future(&past.origin, (seed, index as u64), (PAST_DAYS, WINDOW_DAYS))
    });
    progress.inc(1);
    let view = View::new(&fleet, &past, vec![false; fleet.calls.len()]);
    let known = known(&view, options.threads);
    progress.inc(1);
    let results = recommended(&view, &known, None, options.threads);
    let scored = scored(&fleet, &results, &drawn);
    ensure!(!scored.is_empty(), "seed {seed}: no service has an estimate");
    progress.inc(1);
    let retrained = Retrained::of(&view, &known, &drawn, options.threads);
    progress.inc(1);
    let truth = true_ceilings(&view);
    let consistency = consistency(&view, &known, &results)?;
    let hidden = hidden(&fleet, &past, (options, seed), &truth, &drawn);
    progress.inc(1);
    Ok(Run {
        seed,
        measured: results.iter().flatten().count(),
        fallbacks: results.iter().flatten().filter(|result| result.fallback).count(),
        scored,
        retrained,
        consistency,
        hidden,
        split: split_errors(&view, &known),
    })
}

/// What the fleets show together.
fn pooled(runs: &[&Run]) -> Value {
    let by_fleet = |of: &dyn Fn(&Scored) -> bool| -> Vec<Vec<&Scored>> {
        runs.iter().map(|run| run.scored.iter().filter(|scored| of(scored)).collect()).collect()
    };
    let all = by_fleet(&|_| true);
    let by_class = Class::ALL.iter().filter_map(|class| {
        let of = by_fleet(&|scored| scored.class == *class);
        of.iter().any(|of| !of.is_empty()).then(|| (class.name().to_owned(), calibration(&of)))
    });
    let by_kind = kinds::ALL.iter().filter_map(|kind| {
        let of = by_fleet(&|scored| scored.kinds.contains(kind));
        of.iter().any(|of| !of.is_empty()).then(|| ((*kind).to_owned(), kinds::report(&of)))
    });
    let budget = ratio_of_sums(&all.concat(), Ambition::Balanced);
    let hidden: Vec<HiddenInAll> = (0..HIDDEN.len()).map(|at| HiddenInAll::of(runs, at)).collect();
    let mut consistency: BTreeMap<&str, Consistency> = BTreeMap::new();
    let mut split = SplitErrors::new();
    for run in runs {
        run.consistency.iter().for_each(|(name, of)| consistency.entry(name).or_default().add(of));
        run.split.iter().for_each(|(method, of)| split.entry(method).or_default().extend(of));
    }
    let violations = consistency.values().map(|of| of.violations).sum::<usize>();
    let objectives = objectives(&all, &hidden, violations);
    let mut report = json!({
        "measured": runs.iter().map(|run| run.measured).sum::<usize>(),
        "fallbacks": runs.iter().map(|run| run.fallbacks).sum::<usize>(),
        "estimated": all.concat().len(),
        "by_class": by_class.collect::<Map<String, Value>>(),
        "by_kind": by_kind.collect::<Map<String, Value>>(),
        "budget_ratio": budget,
        "budget_ratio_interval": scores::clustered_interval(&all, 1, |of| ratio_of_sums(of, Ambition::Balanced)),
        "consistency_violations": violations,
        "consistency": consistency.iter().map(|(name, of)| ((*name).to_owned(), of.report())).collect::<Map<_, _>>(),
        "hidden_edges": hidden.iter().map(HiddenInAll::report).collect::<Vec<_>>(),
        "split": split_report(&split),
        "retrained": retrained::report(runs),
        "objective_met": objectives.values().all(|met| *met == json!(true)),
        "objectives": objectives,
    });
    if let (Value::Object(report), Value::Object(of_all)) = (&mut report, calibration(&all)) {
        report.extend(of_all);
    }
    report
}

/// What is asked for, and whether it is so.
fn objectives(by_fleet: &[Vec<&Scored>], hidden: &[HiddenInAll<'_>], violations: usize) -> Map<String, Value> {
    let all = by_fleet.concat();
    let near = |shares: &dyn Fn(&Scored, Ambition) -> Option<f64>, above_only: bool| {
        Ambition::ALL.iter().zip(MISSED_POINTS_MAX).all(|(goal, most)| {
            let shares: Vec<f64> = all.iter().filter_map(|one| shares(one, *goal)).collect();
            let off = scores::mean(&shares) - goal.miss_probability_max();
            (if above_only { off } else { off.abs() }) <= most
        })
    };
    let ceiling_falls = |hidden: &HiddenInAll<'_>, whole: &HiddenInAll<'_>| {
        whole.ceilings(Ceiling::spans) - hidden.ceilings(Ceiling::spans) > COVERAGE_POINTS_MAX
    };
    let met = [
        ("missed", near(&|one, goal| Some(one.missed(one.unrounded(goal))), false)),
        // The menu rounds towards safety: an offer may be missed less often.
        ("missed_offers", near(&|one, goal| Some(one.missed(one.offer(goal)?)), true)),
        ("budget_ratio", ratio_of_sums(&all, Ambition::Balanced) <= BUDGET_MAX),
        ("consistency", violations == 0),
        ("interval_coverage", hidden.iter().all(HiddenInAll::within)),
        ("ceiling_span_coverage", !hidden.iter().any(|share| ceiling_falls(share, &hidden[0]))),
    ];
    met.into_iter().map(|(name, met)| (name.to_owned(), json!(met))).collect()
}

/// One of several fleets.
fn in_short(run: &Run) -> Value {
    let whole = pooled(&[run]);
    let kept = ["estimated", "missed", "missed_offers", "budget_ratio", "consistency_violations", "objective_met"];
    let mut short: Map<String, Value> = kept.iter().map(|key| ((*key).to_owned(), whole[*key].clone())).collect();
    short.insert("seed".to_owned(), json!(run.seed));
    short.insert("interval_coverage".to_owned(), json!(run.hidden.iter().map(Hidden::coverage).collect::<Vec<_>>()));
    Value::Object(short)
}

fn known(view: &View<'_>, threads: usize) -> Known {
    view.known(each(view.fleet.components.len(), threads, |at| view.component(at, false)))
}

/// With the compiled model, or with one that was fitted.
fn recommended(
    view: &View<'_>,
    known: &Known,
    model: Option<&RetrainedModel>,
    threads: usize,
) -> Vec<Option<RecommendationResult>> {
    each(view.fleet.components.len(), threads, |at| {
        let input = || {
            let input = view.input(at, known, Vec::new());
            RecommendationInput { model: model.map(|model| model.of_class(input.tier, input.kind)), ..input }
        };
        view.is_measured(at).then(|| recommend(&input()))
    })
}

/// Results with an estimate, each with the windows that followed.
fn scored(fleet: &Fleet, results: &[Option<RecommendationResult>], drawn: &[Vec<f64>]) -> Vec<Scored> {
    let scored = |(at, result): (usize, &Option<RecommendationResult>)| {
        let whole = result.as_ref().filter(|result| !result.fallback)?;
        let result = whole.slis.first()?.clone();
        let mut windows: Vec<f64> = drawn.iter().map(|window| window[at]).collect();
        windows.sort_by(f64::total_cmp);
        let kinds = kinds::of(fleet, at, whole, &result);
        let forecast = result.forecast.as_ref();
        let budgets = Ambition::ALL
            .map(|ambition| forecast.map_or(1.0, |forecast| forecast.quantile(1.0 - ambition.miss_probability_max())));
        Some(Scored { at, class: fleet.components[at].class, kinds, result, budgets, windows })
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
        let at = Ambition::ALL.iter().position(|other| *other == ambition);
        at.map_or(1.0, |at| self.budgets[at])
    }

    /// Share of windows within the 90 % interval of what an offer says of its budget; `None` without an offer.
    fn covered(&self) -> Option<f64> {
        let offer = self.result.offers.first()?;
        let (low, high) =
            (offer.budget_use_low? * offer.error_budget_ratio, offer.budget_use_high? * offer.error_budget_ratio);
        let within = |window: &&f64| **window >= low * (1.0 - 1e-6) && **window <= high * (1.0 + 1e-6);
        Some(self.windows.iter().filter(within).count() as f64 / self.windows.len() as f64)
    }

    /// What somebody who knows the laws would allow.
    fn oracle(&self, ambition: Ambition) -> f64 {
        scores::sorted_quantile(&self.windows, 1.0 - ambition.miss_probability_max())
    }
}

/// How often offers are missed: as they are made, from the menu; and as the forecast alone would have them. By fleet.
fn calibration(by_fleet: &[Vec<&Scored>]) -> Value {
    let scored = by_fleet.concat();
    let by_goal = |value: &dyn Fn(Ambition) -> Value| -> Map<String, Value> {
        Ambition::ALL.iter().map(|goal| (format!("{:.2}", goal.miss_probability_max()), value(*goal))).collect()
    };
    let unrounded = |goal: Ambition| -> Vec<Vec<f64>> {
        let of = |fleet: &Vec<&Scored>| fleet.iter().map(|one| one.missed(one.unrounded(goal))).collect();
        by_fleet.iter().map(of).collect()
    };
    let offered = |goal: Ambition, free: bool| -> Vec<f64> {
        let of = scored.iter().filter(|one| !free || one.is_free());
        of.filter_map(|one| Some(one.missed(one.offer(goal)?))).collect()
    };
    json!({
        "estimates": scored.len(),
        "free_offers": scored.iter().filter(|one| one.is_free()).count(),
        "missed": by_goal(&|goal| json!(scores::mean(&unrounded(goal).concat()))),
        "intervals": by_goal(&|goal| json!(scores::clustered_interval(&unrounded(goal), 1, scores::mean))),
        "missed_offers": by_goal(&|goal| json!(scores::mean(&offered(goal, false)))),
        "missed_free_offers": by_goal(&|goal| json!(scores::mean(&offered(goal, true)))),
        "budget_ratio_by_goal": by_goal(&|goal| json!(ratio_of_sums(&scored, goal))),
        "budget_ratio_median": by_goal(&|goal| json!(median_ratio(&scored, goal))),
        "budget_ratio_free_offers": by_goal(&|goal| json!(ratio_on_menu(&scored, goal))),
    })
}

/// Budgets over the oracle's, as sums: budgets are spent where they are large.
fn ratio_of_sums(scored: &[&Scored], goal: Ambition) -> f64 {
    let sum = |value: &dyn Fn(&Scored) -> f64| scored.iter().map(|one| value(one)).sum::<f64>();
    sum(&|one| one.unrounded(goal)) / sum(&|one| one.oracle(goal))
}

/// Budgets of offers that neither policy nor traffic cuts over those that the oracle would offer from the same menu.
fn ratio_on_menu(scored: &[&Scored], goal: Ambition) -> f64 {
    let on_menu = |budget: f64| {
        let step = TARGET_MENU.iter().rev().find(|step| **step <= 1.0 - budget + 1e-12);
        1.0 - step.unwrap_or(&TARGET_MENU[0])
    };
    let free = scored.iter().filter(|one| one.is_free());
    let pairs = free.filter_map(|one| Some((one.offer(goal)?, on_menu(one.oracle(goal)))));
    let (own, oracle) = pairs.fold((0.0, 0.0), |(own, oracle), pair| (own + pair.0, oracle + pair.1));
    if oracle > 0.0 { own / oracle } else { 0.0 }
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

/// How offers of one ambition hold beside one another.
#[derive(Default)]
struct Consistency {
    offers: usize,
    contradictions_alone: usize,
    limited: usize,
    without_target: usize,
    /// Steps of the menu that offers gave way by.
    moved: Vec<f64>,
    violations: usize,
}

impl Consistency {
    fn add(&mut self, other: &Self) {
        self.offers += other.offers;
        self.contradictions_alone += other.contradictions_alone;
        self.limited += other.limited;
        self.without_target += other.without_target;
        self.moved.extend(&other.moved);
        self.violations += other.violations;
    }

    fn report(&self) -> Value {
        json!({
            "offers": self.offers,
            "contradictions_alone": self.contradictions_alone,
            "limited": self.limited,
            "without_target": self.without_target,
            "menu_steps_given_way": scores::mean(&self.moved),
            "violations": self.violations,
        })
    }
}

/// For each ambition: contradictions among offers as each service alone has them, and among those that hold beside the others.
fn consistency(
    view: &View<'_>,
    known: &Known,
    results: &[Option<RecommendationResult>],
) -> anyhow::Result<BTreeMap<&'static str, Consistency>> {
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
        let steps = |target: f64| TARGET_MENU.iter().rposition(|step| *step <= target + 1e-12).unwrap_or(0);
        let moved: Vec<f64> = targets()
            .filter(|target| target.limited_by.is_some())
            .filter_map(|target| Some(steps(target.offered_ratio).saturating_sub(steps(target.target_ratio?)) as f64))
            .collect();
        let value = Consistency {
            offers: targets().count(),
            contradictions_alone: accepted.contradictions_before,
            limited: targets().filter(|target| target.limited_by.is_some()).count(),
            without_target: targets().filter(|target| target.target_ratio.is_none()).count(),
            moved,
            violations: accepted.violations_after,
        };
        found.insert(name, value);
    }
    Ok(found)
}

/// What the structure allows, every call known and every component at the share that it truly failed of its own, whether anybody
/// saw it or not.
fn true_ceilings(view: &View<'_>) -> Vec<Option<f64>> {
    let split = (0..view.fleet.components.len()).map(|at| {
        let mut component = view.component(at, false);
        let counts = &view.past.counts[at];
        let (bad, by_callee) = counts.failed();
        let valid: u64 = counts.valid.iter().map(|valid| u64::from(*valid)).sum();
        let own_failure_ratio = if valid > 0 {
            (bad - by_callee.values().sum::<u64>()) as f64 / valid as f64
        } else {
            view.past.own_failure_ratio[at]
        };
        component.split = Some(FailureSplit {
            own_failure_ratio,
            inherited_failure_ratio: 0.0,
            unattributed_ratio: 0.0,
            method: SplitMethod::Traces,
            inherited: Vec::new(),
        });
        component
    });
    let known = view.known(split.collect());
    known.structures.iter().map(|structure| structure.as_ref().map(|structure| structure.ceiling_ratio)).collect()
}

/// How well the answers of one fleet hold while a share of the calls is seen by nobody.
struct Hidden {
    edges: usize,
    /// Share of windows within the interval that is said, service by service.
    intervals: Vec<f64>,
    ceilings: Vec<Ceiling>,
}

/// A ceiling as it was said, beside the true one.
struct Ceiling {
    /// True unavailability.
    truth: f64,
    /// Unavailability by the structure.
    said: f64,
    /// What else the answer says of it: what was measured of the service itself, and the structure with what is unknown failing.
    others: [Option<f64>; 2],
}

impl Ceiling {
    fn holds(&self) -> bool {
        self.is_at_least(self.truth) && self.is_at_most(self.truth)
    }

    fn is_at_least(&self, truth: f64) -> bool {
        truth <= self.said * CEILING_FACTOR || truth <= self.said + CEILING_RATIO
    }

    fn is_at_most(&self, truth: f64) -> bool {
        self.said <= truth * CEILING_FACTOR || self.said <= truth + CEILING_RATIO
    }

    /// Whether the truth is within what is said in all.
    fn spans(&self) -> bool {
        let each = || self.others.iter().flatten().copied().chain([self.said]);
        let (low, high) = (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max));
        Self { said: high, ..*self }.is_at_least(self.truth) && Self { said: low, ..*self }.is_at_most(self.truth)
    }
}

impl Hidden {
    fn coverage(&self) -> f64 {
        scores::mean(&self.intervals)
    }
}

/// The same over all fleets, for one share.
struct HiddenInAll<'a> {
    share: f64,
    by_fleet: Vec<&'a Hidden>,
}

impl<'a> HiddenInAll<'a> {
    fn of(runs: &[&'a Run], at: usize) -> Self {
        Self { share: HIDDEN[at], by_fleet: runs.iter().map(|run| &run.hidden[at]).collect() }
    }

    fn intervals(&self) -> Vec<Vec<f64>> {
        self.by_fleet.iter().map(|hidden| hidden.intervals.clone()).collect()
    }

    fn within(&self) -> bool {
        (scores::mean(&self.intervals().concat()) - 0.9).abs() <= COVERAGE_POINTS_MAX
    }

    /// Share of the services whose ceiling is so.
    fn ceilings(&self, is: fn(&Ceiling) -> bool) -> f64 {
        let all = self.by_fleet.iter().flat_map(|hidden| &hidden.ceilings);
        scores::mean(&all.map(|ceiling| f64::from(is(ceiling))).collect::<Vec<_>>())
    }

    fn report(&self) -> Value {
        json!({
            "share": self.share,
            "edges": self.by_fleet.iter().map(|hidden| hidden.edges).sum::<usize>(),
            "services": self.by_fleet.iter().map(|hidden| hidden.intervals.len()).sum::<usize>(),
            "interval_coverage": scores::mean(&self.intervals().concat()),
            "interval_coverage_interval": scores::clustered_interval(&self.intervals(), 1, scores::mean),
            "ceiling_coverage": self.ceilings(Ceiling::holds),
            "ceiling_too_low": self.ceilings(|ceiling| !ceiling.is_at_most(ceiling.truth)),
            "ceiling_too_high": self.ceilings(|ceiling| !ceiling.is_at_least(ceiling.truth)),
            "ceiling_span_coverage": self.ceilings(Ceiling::spans),
        })
    }
}

fn hidden(
    fleet: &Fleet,
    past: &Past,
    (options, seed): (&Options, u64),
    truth: &[Option<f64>],
    drawn: &[Vec<f64>],
) -> Vec<Hidden> {
    let mut order: Vec<usize> =
        (0..fleet.calls.len()).filter(|at| fleet.calls[*at].mode != DependencyMode::Async).collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for at in (1..order.len()).rev() {
        order.swap(at, random.random_range(0..=at));
    }
    let of_share = |share: f64| {
        let mut hidden = vec![false; fleet.calls.len()];
        let edges = (share * order.len() as f64).round() as usize;
        order[..edges].iter().for_each(|call| hidden[*call] = true);
        let view = View::new(fleet, past, hidden);
        let known = known(&view, options.threads);
        let results = recommended(&view, &known, None, options.threads);
        let scored = scored(fleet, &results, drawn);
        let ceiling = |one: &Scored| {
            let unknown = known.structures[one.at].as_ref().and_then(|of| of.doubt.ceiling_with_unknown_ratio);
            Some(Ceiling {
                truth: 1.0 - truth[one.at]?,
                said: 1.0 - one.result.ceiling_ratio?,
                others: [one.result.measured.attained_ratio, unknown].map(|ratio| ratio.map(|ratio| 1.0 - ratio)),
            })
        };
        Hidden {
            edges,
            intervals: scored.iter().filter_map(Scored::covered).collect(),
            ceilings: scored.iter().filter_map(ceiling).collect(),
        }
    };
    HIDDEN.map(of_share).into()
}

/// By how it was told apart: the own share of failure as told and as drawn, and the share of requests that failed.
type SplitErrors = BTreeMap<&'static str, Vec<(f64, f64, f64)>>;

/// Own and inherited failure as they were told apart, against what was drawn.
fn split_errors(view: &View<'_>, known: &Known) -> SplitErrors {
    let mut by_method = SplitErrors::new();
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
    by_method
}

fn split_report(by_method: &SplitErrors) -> Map<String, Value> {
    let report = |(method, of): (&&str, &Vec<(f64, f64, f64)>)| {
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
        ((*method).to_owned(), value)
    };
    by_method.iter().map(report).collect()
}
