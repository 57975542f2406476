//! Whether explanations hold: what is said to bind is really taken away, and the target is solved again.
//!
//! A case is a small simulated fleet and one service of it, in circumstances that bring every kind of constraint about. The
//! failures that the explanation blames are taken out of the counts, and the recommendation is computed anew from what is left;
//! for traced services a second time by the simulator, which knows the cause of every failure. Policies are lifted, traffic and
//! history are given. The graph is asked again without the edges it doubts and with the fallbacks that were thought of. The
//! paragraph is read word by word: each number has to be a field of the answer.

mod bind;
mod cases;
mod graph;
mod paragraph;
mod slow;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use attain_attainment::{Ambition, RecommendationInput, RecommendationResult, SliResult, recommend, with_change};
use clap::Parser;
use indicatif::ProgressBar;
use serde_json::{Value, json};

pub(crate) use cases::input;

use crate::fleet::{cores, each};

/// Most cases that are drawn for each that is asked for: some have no estimate.
const DRAWN_MAX: usize = 8;
/// Failures that are told in full.
const TOLD_MAX: usize = 10;

/// How many cases.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Seed of the cases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cases with an estimate, so that something is said to bind; at least 1. Those without one are checked beside.
    #[arg(long, default_value_t = 1000)]
    cases: usize,
    /// Threads; the report does not depend on them.
    #[arg(long, default_value_t = cores())]
    threads: usize,
}

/// How many were checked, and how many held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    checked: usize,
    held: usize,
}

impl Tally {
    fn one(holds: bool) -> Self {
        Self { checked: 1, held: usize::from(holds) }
    }

    fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.held += other.held;
    }

    fn holds(self) -> bool {
        self.checked == self.held
    }

    fn json(self) -> Value {
        json!({"checked": self.checked, "held": self.held})
    }
}

/// What is checked of every case, by name.
type Checks = BTreeMap<&'static str, Tally>;

/// What was found in one case.
#[derive(Debug, Default)]
struct Case {
    /// Whether the answer has an estimate.
    estimated: bool,
    /// What was said to bind.
    kind: &'static str,
    circumstance: &'static str,
    /// Whether anything was said to move.
    relaxes: bool,
    checks: Checks,
    /// Numbers of the paragraph that are no field.
    unknown_numbers: Vec<String>,
    /// In words, what does not hold.
    complaints: Vec<String>,
}

impl Case {
    /// Counts a check, and complains where it failed.
    fn check(&mut self, name: &'static str, holds: bool, complaint: impl FnOnce() -> String) {
        self.checks.entry(name).or_default().add(Tally::one(holds));
        if !holds {
            self.complaints.push(format!("{name}, {} ({}): {}", self.circumstance, self.kind, complaint()));
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!(options.cases > 0, "cases: ask for at least one");
    let progress = ProgressBar::new(options.cases as u64);
    let (mut cases, mut drawn): (Vec<Case>, usize) = (Vec::new(), 0);
    let estimated = |cases: &[Case]| cases.iter().filter(|case| case.estimated).count();
    while estimated(&cases) < options.cases && drawn < DRAWN_MAX * options.cases {
        let batch = options.cases - estimated(&cases);
        let found = each(batch, options.threads, |at| {
            let found = cases::case(options.seed, (drawn + at) as u64);
            progress.inc(u64::from(found.as_ref().is_some_and(|case| case.estimated)));
            found
        });
        drawn += batch;
        cases.extend(found.into_iter().flatten());
    }
    progress.finish_and_clear();
    let found = estimated(&cases);
    ensure!(found == options.cases, "only {found} of {drawn} cases have an estimate");
    Ok(report(options.seed, drawn, &cases))
}

fn report(seed: u64, drawn: usize, cases: &[Case]) -> Value {
    let mut checks = Checks::new();
    for (name, tally) in cases.iter().flat_map(|case| &case.checks) {
        checks.entry(*name).or_default().add(*tally);
    }
    let unknown: BTreeSet<&String> = cases.iter().flat_map(|case| &case.unknown_numbers).collect();
    let complaints: Vec<&String> = cases.iter().flat_map(|case| &case.complaints).collect();
    let estimated = || cases.iter().filter(|case| case.estimated);
    let binding = checks.get(bind::CHECK).copied().unwrap_or_default();
    let met =
        checks.values().all(|tally| tally.holds()) && unknown.is_empty() && binding.checked == estimated().count();
    json!({
        "seed": seed,
        "drawn": drawn,
        "cases": estimated().count(),
        "held": binding.held,
        "relaxing": estimated().filter(|case| case.relaxes).count(),
        "without_estimate": cases.len() - estimated().count(),
        "by_kind": grouped(estimated(), |case| case.kind),
        "by_circumstance": grouped(estimated(), |case| case.circumstance),
        "checks": checks.into_iter().map(|(name, tally)| (name, tally.json())).collect::<BTreeMap<_, _>>(),
        "numbers_that_are_no_field": unknown,
        "complaint_count": complaints.len(),
        "complaints": complaints.iter().take(TOLD_MAX).collect::<Vec<_>>(),
        "objective_met": met,
    })
}

/// Cases, those that relax the target and those whose constraint holds, by a word.
fn grouped<'a>(
    cases: impl Iterator<Item = &'a Case>,
    word: impl Fn(&Case) -> &'static str,
) -> BTreeMap<&'static str, Value> {
    let mut groups: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for case in cases {
        let held = case.checks.get(bind::CHECK).is_some_and(|tally| tally.holds());
        let group = groups.entry(word(case)).or_default();
        for (count, counts) in group.iter_mut().zip([true, case.relaxes, held]) {
            *count += usize::from(counts);
        }
    }
    let value = |[cases, relaxing, held]: [usize; 3]| json!({"cases": cases, "relaxing": relaxing, "held": held});
    groups.into_iter().map(|(word, group)| (word, value(group))).collect()
}

/// Every counterfactual of the answer, done to the data.
fn counterfactuals(case: &mut Case, input: &RecommendationInput, sli: &SliResult) {
    let today = balanced(sli);
    for counterfactual in &sli.counterfactuals {
        let changed = with_change(input, &counterfactual.key).unwrap_or_else(|| input.clone());
        let found = recommend(&changed);
        let attained = found.slis[0].measured.attained_ratio.unwrap_or(f64::NAN);
        let same_history = (attained - counterfactual.attained_ratio).abs() < 1e-12;
        let (said, again) = (counterfactual.balanced_target_ratio, offered(&found));
        case.check("counterfactuals", same_history && moves_as_said(today, said, again), || {
            format!("{}: {today:?} today, {said:?} was said, {again:?} is found ({attained})", counterfactual.key)
        });
    }
}

fn balanced(sli: &SliResult) -> Option<f64> {
    sli.offers.iter().find(|offer| offer.ambition == Ambition::Balanced).map(|offer| offer.target_ratio)
}

/// The balanced target of a recommendation that has an estimate.
fn offered(result: &RecommendationResult) -> Option<f64> {
    result.slis.first().filter(|sli| !sli.fallback).and_then(balanced)
}

/// To what was said; where nothing was said to move, to nothing stricter than today.
fn moves_as_said(today: Option<f64>, said: Option<f64>, found: Option<f64>) -> bool {
    if said.unwrap_or(0.0) > today.unwrap_or(0.0) {
        found == said
    } else {
        found.unwrap_or(0.0) <= today.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_nothing_gained() {
        assert!(moves_as_said(Some(0.99), Some(0.995), Some(0.995)));
        assert!(!moves_as_said(Some(0.99), Some(0.995), Some(0.997)));
        assert!(moves_as_said(Some(0.99), Some(0.99), Some(0.98)));
        assert!(!moves_as_said(Some(0.99), Some(0.99), Some(0.995)));
        assert!(!moves_as_said(None, Some(0.9), None));
    }

    #[test]
    fn a_check_that_fails_is_counted_told_and_misses_the_objective() {
        let mut case = Case { estimated: true, kind: "own", circumstance: "as_drawn", ..Case::default() };
        case.check(bind::CHECK, true, String::new);
        assert_eq!(report(1, 1, std::slice::from_ref(&case))["objective_met"], true);
        case.check("graph", false, || "0.9 was said".to_owned());
        let report = report(1, 1, &[case]);
        assert_eq!(report["objective_met"], false);
        assert_eq!(report["checks"]["graph"], json!({"checked": 1, "held": 0}));
        assert_eq!(report["complaints"], json!(["graph, as_drawn (own): 0.9 was said"]));
        assert_eq!(report["by_kind"]["own"], json!({"cases": 1, "relaxing": 0, "held": 1}));
    }

    #[test]
    fn a_case_without_its_constraint_checked_misses_the_objective() {
        let case = Case { estimated: true, ..Case::default() };
        assert_eq!(report(1, 1, &[case])["objective_met"], false);
    }
}
