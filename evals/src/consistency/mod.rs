//! Fleet consistency on public systems: contradictions before, none after, how far targets move.
//!
//! The dependency graphs are GraphML and say nothing of targets: each service draws a tier, from a seed and the system's
//! name, and has that tier's target. The catalogue has targets that people set; they are its error-ratio SLOs. Neither says
//! how hard a dependency is or how often a service fails by itself: every edge counts as hard, and own failures are a
//! twentieth of the target's budget, or 1e-5 where there is no target.

mod read;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::ensure;
use attain_consistency::{
    Contradiction, Edge, Fleet, Limits, Method, Plan, Problem, Violation, Weights, solve, violations,
};
use attain_reliability::{Component, EdgeEffect, EvaluationLimits, StructureBuilder, evaluate};
use clap::Args;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use read::{Catalogue, System};

const DELETED_SHARES: [f64; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];
const CANDIDATES_MAX: usize = 12;
const REPAIRS_SHOWN: usize = 3;
/// Relative: budgets are differences from 1.
const TOLERANCE: f64 = 1e-8;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder with microdepgraph (GraphML below it) and gitlab-slos/gitlab_slos.json; either may be missing.
    #[arg(long)]
    graphs: PathBuf,
    /// Draws tiers and which edges are deleted.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// Solves every system, whole and with edges missing.
pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    let mut systems = read::graphs(&options.graphs.join("microdepgraph"), options.seed)?;
    let catalogue = read::catalogue(&options.graphs.join("gitlab-slos/gitlab_slos.json"))?;
    let published = catalogue.as_ref().map(published_rules);
    systems.extend(catalogue.map(|catalogue| catalogue.system));
    ensure!(!systems.is_empty(), "{} holds neither GraphML nor the catalogue", options.graphs.display());
    let mut reports = Vec::new();
    for system in &systems {
        eprintln!("{}: {} services, {} edges", system.name, system.services.len(), system.edges.len());
        reports.push(report(system, options.seed)?);
    }
    let total = |field: &str| reports.iter().filter_map(|report| report[field].as_u64()).sum::<u64>();
    let partial = reports.iter().filter_map(|report| report["edges_deleted"].as_array()).flatten();
    let after_on_known: u64 = partial.filter_map(|solved| solved["violations_after_on_known"].as_u64()).sum();
    let after = total("violations_after") + total("exact_over_budget_after") + after_on_known;
    Ok(json!({
        "systems": reports.len(),
        "services": total("services"),
        "edges": total("edges"),
        "promises_broken_before": total("promises_broken_before"),
        "ceilings_broken_before": total("ceilings_broken_before"),
        "violations_after": total("violations_after"),
        "exact_over_budget_after": total("exact_over_budget_after"),
        "violations_after_on_known_parts": after_on_known,
        "moved_nines_sum": reports.iter().filter_map(|report| report["moved_nines_sum"].as_f64()).sum::<f64>(),
        "catalogue_rules": published,
        "seed": options.seed,
        "reports": reports,
        "objective_met": after == 0,
    }))
}

/// Edges of the catalogue whose two ends have an error-ratio SLO, calls to oneself included as they are declared.
fn published_rules(catalogue: &Catalogue) -> Value {
    let pairs = &catalogue.budget_pairs;
    let count = |breaks: &dyn Fn(f64, f64) -> bool| pairs.iter().filter(|(a, b, _)| breaks(*a, *b)).count();
    json!({
        "rule": "declared edges, to oneself included, whose ends both have an error-ratio SLO",
        "edges": pairs.len(),
        "edges_to_oneself": pairs.iter().filter(|(_, _, oneself)| *oneself).count(),
        "promise_less_than_caller": count(&|caller, callee| callee > caller * (1.0 + TOLERANCE)),
        "break_the_extra_nine": count(&|caller, callee| callee > 0.1 * caller * (1.0 + TOLERANCE)),
    })
}

fn report(system: &System, seed: u64) -> anyhow::Result<Value> {
    let fleet = Fleet::new(system.services.clone(), &system.edges, &[])?;
    let began = Instant::now();
    let problem = Problem::of(&fleet, &Weights::default(), &Limits::default())?;
    let plan = problem.solve(None, None)?;
    let milliseconds = began.elapsed().as_secs_f64() * 1e3;
    let repairs = problem.repairs(CANDIDATES_MAX, &|| false);
    let shown = repairs.ranked.iter().take(REPAIRS_SHOWN);
    let shown = shown.map(|repair| {
        json!({
            "change": format!("{:?}", repair.change),
            "cost": repair.cost,
            "contradictions_left": repair.contradictions_left,
        })
    });
    let (promises, ceilings) = kinds(&plan.contradictions);
    let deleted: anyhow::Result<Vec<Value>> =
        DELETED_SHARES.iter().map(|share| with_edges_deleted(system, *share, seed)).collect();
    let mut answer = json!({
        "system": system.name,
        "services": fleet.services().len(),
        "services_with_target": fleet.budgets_in_force().iter().flatten().count(),
        "edges": fleet.edges().len(),
        "promises_broken_before": promises,
        "ceilings_broken_before": ceilings,
        "violations_after": violations(&fleet, &plan.budgets, &plan.own_budgets).len(),
        "exact_over_budget_after": exact_over_budget(&fleet, &plan)?,
        "method": method(plan.method),
        "cost": plan.cost,
        "repairs_suggested": repairs.suggested_count,
        "repairs_solved_again": repairs.considered_count,
        "repairs": shown.collect::<Vec<_>>(),
        "milliseconds": milliseconds,
        "edges_deleted": deleted?,
    });
    if let (Value::Object(answer), Value::Object(moved)) = (&mut answer, movement(&fleet, &plan)) {
        answer.extend(moved);
    }
    Ok(answer)
}

fn kinds(contradictions: &[Contradiction]) -> (usize, usize) {
    let promises = contradictions.iter().filter(|found| matches!(found, Contradiction::Promise { .. })).count();
    (promises, contradictions.len() - promises)
}

fn method(method: Method) -> &'static str {
    match method {
        Method::AsTheyAre => "as_they_are",
        Method::Program => "program",
        Method::ProgramOfLargestTerms => "program_of_largest_terms",
        Method::Loosening => "loosening",
        Method::TightenedAlike => "tightened_alike",
    }
}

/// How far targets in force moved, in nines: the absolute difference of the logarithms of error budgets to base ten.
fn movement(fleet: &Fleet, plan: &Plan) -> Value {
    let in_force = fleet.budgets_in_force();
    let both = in_force.iter().zip(&plan.budgets).filter_map(|(before, after)| Some(((*before)?, *after)));
    let nines: Vec<f64> = both.map(|(before, after)| (before / after).log10()).collect();
    json!({
        "moved": nines.iter().filter(|nines| **nines != 0.0).count(),
        "tightened": nines.iter().filter(|nines| **nines > 0.0).count(),
        "moved_nines_sum": nines.iter().map(|nines| nines.abs()).sum::<f64>(),
        "moved_nines_max": nines.iter().map(|nines| nines.abs()).fold(0.0, f64::max),
    })
}

/// Services that fail more than their budget when own budgets are used up, by exact evaluation of the structure.
fn exact_over_budget(fleet: &Fleet, plan: &Plan) -> anyhow::Result<usize> {
    let mut builder = StructureBuilder::new();
    let components: Result<Vec<Component>, _> =
        plan.own_budgets.iter().map(|own| builder.add_component(*own, false)).collect();
    let components = components?;
    for (caller, callee, impact) in fleet.edges() {
        builder.add_edge(components[*caller], components[*callee], EdgeEffect::partial(*impact))?;
    }
    let structure = builder.build();
    let fails = |at: &usize| {
        let evaluation = evaluate(&structure, components[*at], &EvaluationLimits::default());
        evaluation.unavailability_ratio > plan.budgets[*at] * (1.0 + TOLERANCE)
    };
    Ok((0..components.len()).filter(fails).count())
}

/// What is lost when a share of the edges is not known: contradictions found, and those left of the whole graph when only
/// the known part was solved.
fn with_edges_deleted(system: &System, share: f64, seed: u64) -> anyhow::Result<Value> {
    let known = System { edges: known_edges(&system.edges, share, seed), ..system.clone() };
    let (weights, limits) = (Weights::default(), Limits::default());
    let partial = Fleet::new(known.services.clone(), &known.edges, &[])?;
    let plan = solve(&partial, &weights, &limits, None, None)?;
    let left_on_known = violations(&partial, &plan.budgets, &plan.own_budgets).len();
    let whole = Fleet::new(system.services.clone(), &system.edges, &[])?;
    let broken = violations(&whole, &plan.budgets, &plan.own_budgets);
    let promises = broken.iter().filter(|broken| matches!(broken, Violation::Promise { .. })).count();
    let ceilings = broken.iter().filter(|broken| matches!(broken, Violation::Ceiling { .. })).count();
    let (found_promises, found_ceilings) = kinds(&plan.contradictions);
    Ok(json!({
        "share": share,
        "edges_known": partial.edges().len(),
        "promises_found": found_promises,
        "ceilings_found": found_ceilings,
        "violations_after_on_known": left_on_known,
        "promises_left_on_whole": promises,
        "ceilings_left_on_whole": ceilings,
    }))
}

fn known_edges(edges: &[Edge], share: f64, seed: u64) -> Vec<Edge> {
    let mut known = edges.to_vec();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..(edges.len() as f64 * share).round() as usize {
        known.swap_remove(random.random_range(0..known.len()));
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_consistency::Service;

    fn data() -> Options {
        Options { graphs: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/consistency")), seed: 7 }
    }

    #[test]
    fn the_fixture_is_read_and_nothing_is_violated_after() {
        let report = run(&data()).expect("a report");
        assert_eq!(report["systems"], 2);
        assert_eq!(report["violations_after"], 0);
        assert_eq!(report["objective_met"], true);
        let catalogue = &report["reports"][1];
        assert_eq!((&catalogue["services"], &catalogue["edges"]), (&json!(4), &json!(3)));
        assert_eq!(catalogue["services_with_target"], 3);
        let rules = &report["catalogue_rules"];
        assert_eq!((&rules["edges"], &rules["edges_to_oneself"]), (&json!(3), &json!(1)));
        assert_eq!((&rules["promise_less_than_caller"], &rules["break_the_extra_nine"]), (&json!(1), &json!(2)));
    }

    #[test]
    fn deleting_edges_is_repeatable_and_removes_the_share() {
        let system = &read::graphs(&data().graphs.join("microdepgraph"), 7).expect("graphs")[0];
        let known = known_edges(&system.edges, 0.5, 7);
        assert_eq!(known, known_edges(&system.edges, 0.5, 7));
        assert_eq!((system.edges.len(), known.len()), (4, 2));
    }

    #[test]
    fn tiers_are_drawn_from_the_seed_and_the_name() {
        let folder = data().graphs.join("microdepgraph");
        let tiers = |seed| -> Vec<_> {
            read::graphs(&folder, seed).expect("graphs")[0]
                .services
                .iter()
                .map(|service: &Service| service.tier)
                .collect()
        };
        assert_eq!(tiers(7), tiers(7));
        assert!((8..20).any(|seed| tiers(seed) != tiers(7)));
    }
}
