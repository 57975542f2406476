//! Whether explanations hold: what is said to bind is really taken away, and the target is solved again.
//!
//! A case is a small simulated fleet and one service of it. The failures that the explanation blames are taken out of the
//! counts, and the recommendation is computed anew from what is left; for traced services a second time by the simulator, which
//! knows the cause of every failure. The paragraph is read word by word: each number has to be a field of the answer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use attain_attainment::{
    Ambition, BindingConstraint, ConstraintKind, CountPoint, CountSeries, CurrentSlo, RecommendationInput,
    RecommendationResult, SliResult, number, percent, predict, recommend, strictest_target, with_change, without_cause,
};
use attain_recommendation::domain::fallbacks::{FALLBACK_SUCCESS_RATIO, fallbacks};
use attain_simulator::fleet::{Fleet, Past, Seen};
use attain_vocabulary::{Objective, SliBucket, SliKind, TimeWindow};
use clap::Parser;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::fleet::{END_MS, View, cores, each};

/// Components of one case.
const COMPONENTS: [usize; 4] = [6, 8, 10, 13];
/// Days of history of one case.
const DAYS: [u32; 3] = [45, 60, 90];
/// Most cases that are drawn for each that is asked for: some have too little data for an estimate, or nothing that binds.
const DRAWN_MAX: usize = 8;
/// Failures that are told in full.
const TOLD_MAX: usize = 10;

/// How many cases.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Seed of the cases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cases with something that binds; at least 1.
    #[arg(long, default_value_t = 1000)]
    cases: usize,
    /// Threads; the report does not depend on them.
    #[arg(long, default_value_t = cores())]
    threads: usize,
}

/// What was found in one case.
#[derive(Debug)]
struct Case {
    kind: &'static str,
    /// Whether the target moves as was said when what binds is taken away.
    holds: bool,
    /// Whether anything was said to move.
    relaxes: bool,
    /// Whether the simulator, taking the same failures away, finds the same counts; `None` where it was not asked.
    truth: Option<bool>,
    counterfactuals: usize,
    counterfactuals_held: usize,
    /// Numbers of the paragraph that are no field.
    unknown_numbers: Vec<String>,
    /// In words, where something does not hold.
    complaint: String,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!(options.cases > 0, "cases: ask for at least one");
    let progress = ProgressBar::new(options.cases as u64);
    let (mut cases, mut drawn) = (Vec::new(), 0);
    while cases.len() < options.cases && drawn < DRAWN_MAX * options.cases {
        let batch = options.cases - cases.len();
        let found = each(batch, options.threads, |at| {
            let found = case(options.seed, (drawn + at) as u64);
            progress.inc(u64::from(found.is_some()));
            found
        });
        drawn += batch;
        cases.extend(found.into_iter().flatten());
    }
    progress.finish_and_clear();
    ensure!(cases.len() == options.cases, "only {} of {drawn} cases have something that binds", cases.len());

    let count = |wanted: &dyn Fn(&Case) -> bool| cases.iter().filter(|case| wanted(case)).count();
    let mut by_kind: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    for case in &cases {
        let of = by_kind.entry(case.kind).or_default();
        *of = (of.0 + 1, of.1 + usize::from(case.relaxes), of.2 + usize::from(case.holds));
    }
    let by_kind: BTreeMap<&str, Value> = by_kind
        .into_iter()
        .map(|(kind, (cases, relaxing, held))| (kind, json!({"cases": cases, "relaxing": relaxing, "held": held})))
        .collect();
    let sum = |of: &dyn Fn(&Case) -> usize| cases.iter().map(of).sum::<usize>();
    let held = count(&|case| case.holds);
    let truth = (count(&|case| case.truth.is_some()), count(&|case| case.truth == Some(true)));
    let counterfactuals = (sum(&|case| case.counterfactuals), sum(&|case| case.counterfactuals_held));
    let unknown: BTreeSet<&String> = cases.iter().flat_map(|case| &case.unknown_numbers).collect();
    let complaints = cases.iter().map(|case| &case.complaint).filter(|complaint| !complaint.is_empty());
    Ok(json!({
        "seed": options.seed,
        "cases": cases.len(),
        "drawn": drawn,
        "held": held,
        "relaxing": count(&|case| case.relaxes),
        "by_kind": by_kind,
        "taken_away_by_the_simulator": truth.0,
        "same_counts": truth.1,
        "counterfactuals": counterfactuals.0,
        "counterfactuals_held": counterfactuals.1,
        "numbers_that_are_no_field": unknown,
        "complaints": complaints.take(TOLD_MAX).collect::<Vec<_>>(),
        "objective_met": held == cases.len()
            && truth.0 == truth.1
            && counterfactuals.0 == counterfactuals.1
            && unknown.is_empty(),
    }))
}

fn case(seed: u64, index: u64) -> Option<Case> {
    let of = |from: &[usize]| from[index as usize % from.len()];
    let fleet = Fleet::draw(seed.wrapping_mul(1_000_003).wrapping_add(index), of(&COMPONENTS));
    let past = fleet.past(index, DAYS[index as usize % DAYS.len()]);
    let view = View::new(&fleet, &past, vec![false; fleet.calls.len()]);
    let calling: Vec<usize> = (0..fleet.components.len())
        .filter(|at| view.is_measured(*at) && fleet.calls_of(*at).next().is_some())
        .collect();
    let at = *calling.get(index as usize % calling.len().max(1))?;
    let input = input(&view, at, index);
    let result = recommend(&input);
    let sli = result.slis.first().filter(|sli| !sli.fallback)?;
    let binding = &sli.binding_constraint;
    let kind = match binding.kind {
        ConstraintKind::Own => "own",
        ConstraintKind::Dependency => "dependency",
        ConstraintKind::Volume => "volume",
        ConstraintKind::Policy => "policy",
        ConstraintKind::Data => return None,
    };
    let today = balanced(sli);
    let (again, truth) = taken_away(&view, at, &input, binding);
    let said = binding.relaxed_target_ratio;
    let holds = again.is_some_and(|again| moves_as_said(today, said, again));
    let (mut counterfactuals, mut counterfactuals_held) = (0, 0);
    let mut complaint = String::new();
    if !holds {
        complaint = format!("case {index}, {kind}: {today:?} today, {said:?} was said, {again:?} is found");
    }
    for counterfactual in &sli.counterfactuals {
        counterfactuals += 1;
        let changed = with_change(&input, &counterfactual.key).unwrap_or_else(|| input.clone());
        let found = recommend(&changed);
        let same_history = found.slis[0]
            .measured
            .attained_ratio
            .is_some_and(|found| (found - counterfactual.attained_ratio).abs() < 1e-12);
        if same_history && moves_as_said(today, counterfactual.balanced_target_ratio, offered(&found)) {
            counterfactuals_held += 1;
        } else if complaint.is_empty() {
            complaint = format!(
                "case {index}, {}: {today:?} today, {:?} was said, {:?} is found (fallback: {}, same history: {same_history})",
                counterfactual.key,
                counterfactual.balanced_target_ratio,
                offered(&found),
                found.fallback,
            );
        }
    }
    Some(Case {
        kind,
        holds,
        relaxes: said.unwrap_or(0.0) > today.unwrap_or(0.0),
        truth,
        counterfactuals,
        counterfactuals_held,
        unknown_numbers: unknown_numbers(&result),
        complaint,
    })
}

/// As the service makes it, with the fallbacks that would help most, and in every other case an SLO in force.
pub(crate) fn input(view: &View<'_>, at: usize, index: u64) -> RecommendationInput {
    let components = (0..view.fleet.components.len()).map(|at| view.component(at, true));
    let known = view.known(components.collect());
    let mut input = view.input(at, &known, Vec::new());
    let found = fallbacks(&input.service, &view.facts, &view.edges, &known.components);
    input.counterfactuals = found.into_iter().map(|fallback| fallback.structure).collect();
    if index % 2 == 1 {
        input.current_slos.push(CurrentSlo {
            kind: SliKind::Availability,
            target: Objective::new("target", 0.999).expect("a target"),
            latency_threshold_ms: None,
            window: TimeWindow::default(),
        });
    }
    input
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

/// The balanced target with the constraint taken away; `None` where it could not be. And whether the simulator agrees.
fn taken_away(
    view: &View<'_>,
    at: usize,
    input: &RecommendationInput,
    binding: &BindingConstraint,
) -> (Option<Option<f64>>, Option<bool>) {
    match binding.kind {
        ConstraintKind::Own | ConstraintKind::Dependency => {
            let Some(changed) = without_cause(input, binding) else { return (None, None) };
            let truth = by_the_simulator(view, at, binding).map(|buckets| buckets == changed.history.buckets);
            (Some(offered(&recommend(&changed))), truth)
        }
        ConstraintKind::Policy => {
            let mut changed = input.clone();
            changed.policy.target_ratio_max = 1.0;
            (Some(offered(&recommend(&changed))), None)
        }
        // Whatever the traffic is: as if any budget could be told.
        ConstraintKind::Volume => {
            let point = |bucket: &SliBucket| CountPoint {
                start_ms: bucket.start_ms,
                valid: bucket.counts.valid() as f64,
                bad: bucket.counts.bad() as f64,
            };
            let series = CountSeries::new(input.history.buckets.iter().map(point).collect());
            let told = predict(&series, f64::from(input.window.days()), END_MS).map(|mut prediction| {
                let need = binding.volume_need.map_or(1.0, |need| 1.0 - need.target_ratio);
                // As much traffic as was said tells exactly that budget.
                prediction.smallest_distinguishable_budget = need;
                strictest_target(&prediction, &input.policy, Ambition::Balanced.miss_probability_max())
            });
            (told, None)
        }
        ConstraintKind::Data => (None, None),
    }
}

/// The history without the failures blamed, as the simulator has it: for a traced service, where the service itself is blamed
/// or one that it calls.
fn by_the_simulator(view: &View<'_>, at: usize, binding: &BindingConstraint) -> Option<Vec<SliBucket>> {
    let Past { counts, .. } = view.past;
    if view.fleet.components[at].seen != Seen::Traced {
        return None;
    }
    let without = match binding.kind {
        ConstraintKind::Own => counts[at].without_own(),
        _ => {
            let id = binding.entity_id.as_ref()?;
            let call = view.fleet.calls_of(at).find(|call| view.fleet.components[call.callee].id == *id)?;
            counts[at].without(call.callee)
        }
    };
    Some(without.buckets(view.fleet, true, END_MS, |_| true))
}

/// Numbers in the paragraph that are no field of the answer. Digits in names are no numbers.
fn unknown_numbers(result: &RecommendationResult) -> Vec<String> {
    let mut fields = BTreeSet::new();
    let mut answer = serde_json::to_value(result).expect("results are JSON");
    if let Value::Object(answer) = &mut answer {
        answer.remove("explanation");
    }
    texts(&answer, &mut fields);
    // On the wire, a field of the change that a counterfactual carries.
    fields.insert(percent(FALLBACK_SUCCESS_RATIO));
    let words: Vec<&str> = result.explanation.split_whitespace().collect();
    let of = |(at, word): (usize, &&str)| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_digit());
        let is_number = !bare.is_empty() && !word.chars().any(char::is_alphabetic);
        let percent = words.get(at + 1).is_some_and(|next| next.starts_with('%'));
        let text = if percent { format!("{bare} %") } else { bare.to_owned() };
        (is_number && !fields.contains(&text)).then_some(text)
    };
    words.iter().enumerate().filter_map(of).collect()
}

/// Every number below a value, in each way in which a paragraph writes numbers; the forecast is no part of the answer.
fn texts(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Number(number_) => {
            let ratio = number_.as_f64().unwrap_or(f64::NAN);
            out.insert(percent(ratio));
            out.insert(number(ratio));
            if let Some(count) = number_.as_u64() {
                out.insert(grouped(count));
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, out)),
        Value::Object(fields) => {
            fields.iter().filter(|(name, _)| *name != "forecast").for_each(|(_, value)| texts(value, out));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap_or_default()).collect();
    parts.join(",")
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
    fn a_number_that_is_no_field_is_found() {
        let mut result = (0..).find_map(|index| {
            let fleet = Fleet::draw(index, 6);
            let past = fleet.past(index, 45);
            let view = View::new(&fleet, &past, vec![false; fleet.calls.len()]);
            let at = (0..6).find(|at| view.is_measured(*at))?;
            let result = recommend(&input(&view, at, index));
            (!result.fallback).then_some(result)
        });
        let result = result.as_mut().expect("a fleet with an estimate");
        assert_eq!(unknown_numbers(result), Vec::<String>::new(), "{}", result.explanation);
        result.explanation += " It fails 12.3456 % of requests.";
        assert_eq!(unknown_numbers(result), ["12.3456 %"]);
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
