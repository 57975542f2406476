//! The figures of an evaluation.

use std::collections::{BTreeMap, BTreeSet};

use attain_proto::rag::v1::RetrievalMode;
use serde_json::{Map, Value, json};

use super::Outcome;
use super::judged::Answered;
use crate::knowledge::Corpus;
use crate::scores;

/// Share of the answerable questions that a threshold has to answer.
const ANSWER_RATE: f64 = 0.95;
/// Parts of the cross-validation of the threshold.
const FOLDS: usize = 5;
const MEGABYTE: f64 = 1024.0 * 1024.0;

/// Everything that is known of a run.
pub(super) fn report(outcome: &Outcome) -> Value {
    let Outcome { corpus, loading, hybrid, words, meaning, latencies_ms, attacks, passage_count } = outcome;
    let mode = hybrid.first().map_or(RetrievalMode::Unspecified, |answered| answered.answer.mode());
    let model = hybrid.first().map(|answered| answered.answer.embedding_model.clone()).unwrap_or_default();
    let passages_per_cpu_second = loading.cpu_seconds.map(|seconds| *passage_count as f64 / seconds.max(1e-9));
    let mut report = json!({
        "documents": corpus.files.len(),
        "documents_refused": loading.refused.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect::<Vec<_>>(),
        "passages": passage_count,
        "questions": hybrid.len(),
        "mode": mode.as_str_name(),
        "embedding_model": model,
        "index_seconds": loading.seconds,
        "index_cpu_seconds": loading.cpu_seconds,
        "index_passages_per_core_second": passages_per_cpu_second,
        "memory_mb": loading.usage.map(|usage| usage.resident_bytes as f64 / MEGABYTE),
        "memory_mb_peak": loading.usage.map(|usage| usage.peak_bytes as f64 / MEGABYTE),
        "latency_ms_p50": scores::quantile(latencies_ms, 0.5),
        "latency_ms_p95": scores::quantile(latencies_ms, 0.95),
        "tenant_probes": attacks.tenant_probes,
        "tenant_leaks": attacks.tenant_leaks,
        "injection_attempts": attacks.injection_attempts,
        "injection_success_rate": attacks.injection_success_rate(),
        "baselines": {
            "bm25": strategy(words, corpus),
            "dense": meaning.as_ref().map(|answered| strategy(answered, corpus)),
        },
    });
    if let (Value::Object(report), Value::Object(found)) = (&mut report, strategy(hybrid, corpus)) {
        report.extend(found);
        report.extend(shipped(hybrid, corpus));
    }
    report
}

/// What holds for a baseline as well: order, abstention by confidence, citations.
fn strategy(answered: &[Answered], corpus: &Corpus) -> Value {
    let answerable: Vec<&Answered> = answered.iter().filter(|answered| answered.is_answerable()).collect();
    let mut kinds: BTreeMap<&str, Vec<&Answered>> = BTreeMap::new();
    answerable.iter().for_each(|answered| kinds.entry(&answered.query.kind).or_default().push(answered));
    let by_kind: Map<String, Value> =
        kinds.iter().map(|(kind, group)| ((*kind).to_owned(), Value::Object(ranked(group, corpus)))).collect();
    let count = |of: fn(&Answered) -> usize| answered.iter().map(of).sum::<usize>();
    let citations = count(|answered| answered.judged.count);
    let share = |part: usize| (citations > 0).then(|| part as f64 / citations as f64);
    let cited: Vec<f64> = answerable.iter().filter_map(|answered| answered.cited_share(corpus)).collect();
    let imprecise: BTreeSet<&str> =
        answered.iter().flat_map(|answered| &answered.judged.imprecise).map(String::as_str).collect();
    let mut found = ranked(&answerable, corpus);
    found.extend(abstention(answered));
    found.extend([
        ("by_kind".to_owned(), Value::Object(by_kind)),
        ("citations".to_owned(), json!(citations)),
        ("offset_validity".to_owned(), json!(share(count(|answered| answered.judged.valid)))),
        ("citation_precision".to_owned(), json!(share(count(|answered| answered.judged.precise)))),
        ("imprecise_citations".to_owned(), json!(imprecise)),
        ("citation_recall".to_owned(), json!(scores::mean(&cited))),
    ]);
    Value::Object(found)
}

fn ranked(group: &[&Answered], corpus: &Corpus) -> Map<String, Value> {
    let all: Vec<[Option<f64>; 3]> = group.iter().map(|answered| answered.measures(corpus)).collect();
    let mean = |index: usize| scores::mean(&all.iter().filter_map(|measures| measures[index]).collect::<Vec<_>>());
    [
        ("answerable", json!(group.len())),
        ("ndcg_at_10", json!(mean(0))),
        ("recall_at_5", json!(mean(1))),
        ("mrr", json!(mean(2))),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// How well confidence tells the answerable from the others, and what the largest threshold rejects that still answers
/// 95 % of the answerable: on these questions, and on folds that it was not chosen on.
fn abstention(answered: &[Answered]) -> Map<String, Value> {
    let confidence = |answerable: bool| -> Vec<f64> {
        let group = answered.iter().filter(|answered| answered.is_answerable() == answerable);
        group.map(|answered| answered.answer.confidence).collect()
    };
    let (answerable, unanswerable) = (confidence(true), confidence(false));
    let threshold = threshold_at(&answerable, ANSWER_RATE);
    let rejected = share_below(&unanswerable, threshold);
    let (held_answered, held_rejected) = cross_validated(&answerable, &unanswerable);
    [
        ("abstention_auroc", json!(scores::area_under_roc(&answerable, &unanswerable))),
        ("threshold_at_95", json!(threshold)),
        ("unanswerable_rejected_at_95", json!(rejected)),
        ("answerable_answered_at_95_cross_validated", json!(held_answered)),
        ("unanswerable_rejected_at_95_cross_validated", json!(held_rejected)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// What the shipped threshold does, and what a caller sees that is not shown passages below it.
fn shipped(answered: &[Answered], corpus: &Corpus) -> Map<String, Value> {
    let (answerable, unanswerable): (Vec<&Answered>, Vec<&Answered>) =
        answered.iter().partition(|answered| answered.is_answerable());
    let share = |group: &[&Answered], holds: fn(&Answered) -> bool| {
        let count = group.iter().filter(|answered| holds(answered)).count();
        (!group.is_empty()).then(|| count as f64 / group.len() as f64)
    };
    let shown: Vec<Answered> = answerable
        .iter()
        .map(|answered| {
            let mut answered = (*answered).clone();
            if answered.answer.abstained {
                answered.answer.citations.clear();
            }
            answered
        })
        .collect();
    let with_abstention = ranked(&shown.iter().collect::<Vec<_>>(), corpus);
    [
        ("threshold", json!(answered.first().map(|answered| answered.answer.threshold))),
        ("answerable_answered", json!(share(&answerable, |answered| !answered.answer.abstained))),
        ("unanswerable_rejected", json!(share(&unanswerable, |answered| answered.answer.abstained))),
        ("with_abstention", Value::Object(with_abstention)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// The largest threshold at or above which this share of the values lies; 0 when there are none.
fn threshold_at(values: &[f64], rate: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let lost = ((1.0 - rate) * sorted.len() as f64 + 1e-9).floor() as usize;
    sorted.get(lost).copied().unwrap_or(0.0)
}

fn share_below(values: &[f64], threshold: f64) -> Option<f64> {
    let below = values.iter().filter(|value| **value < threshold).count();
    (!values.is_empty()).then(|| below as f64 / values.len() as f64)
}

/// Shares answered and rejected where each fold is judged by the threshold of the others.
fn cross_validated(answerable: &[f64], unanswerable: &[f64]) -> (Option<f64>, Option<f64>) {
    let (mut answered, mut rejected) = (0, 0);
    for fold in 0..FOLDS {
        let apart = |values: &[f64], inside: bool| -> Vec<f64> {
            values.iter().enumerate().filter(|(at, _)| (at % FOLDS == fold) == inside).map(|(_, v)| *v).collect()
        };
        let threshold = threshold_at(&apart(answerable, false), ANSWER_RATE);
        answered += apart(answerable, true).iter().filter(|value| **value >= threshold).count();
        rejected += apart(unanswerable, true).iter().filter(|value| **value < threshold).count();
    }
    let share = |count: usize, of: usize| (of > 0).then(|| count as f64 / of as f64);
    (share(answered, answerable.len()), share(rejected, unanswerable.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieval::judged::tests::answered;

    #[test]
    fn the_threshold_answers_at_least_the_rate() {
        let values: Vec<f64> = (0..74).map(f64::from).collect();
        let threshold = threshold_at(&values, 0.95);
        assert_eq!(threshold, 3.0);
        assert!(values.iter().filter(|value| **value >= threshold).count() as f64 / 74.0 >= 0.95);
        assert_eq!((threshold_at(&[], 0.95), share_below(&[], 1.0)), (0.0, None));
        assert_eq!(share_below(&[1.0, 2.0, 3.0, 9.0], threshold), Some(0.5));
    }

    #[test]
    fn folds_are_judged_by_the_others() {
        // The lowest of ten lies in a fold of its own: the others' threshold is above it.
        let answerable: Vec<f64> = (1..=10).map(f64::from).collect();
        let (answered, rejected) = cross_validated(&answerable, &[0.0, 0.5, 20.0]);
        assert_eq!((answered, rejected), (Some(0.9), Some(2.0 / 3.0)));
    }

    #[test]
    fn abstaining_costs_the_caller_and_not_the_order() {
        let all = [answered(&["a"], &[("a", 2)], 0.9), answered(&["b"], &[("b", 2)], 0.2), answered(&["c"], &[], 0.1)];
        let found = strategy(&all, &Corpus::default());
        assert_eq!((&found["ndcg_at_10"], &found["abstention_auroc"]), (&json!(1.0), &json!(1.0)));
        let shipped = shipped(&all, &Corpus::default());
        assert_eq!(shipped["with_abstention"]["ndcg_at_10"], json!(0.5));
        assert_eq!((&shipped["answerable_answered"], &shipped["unanswerable_rejected"]), (&json!(0.5), &json!(1.0)));
        assert_eq!(found["by_kind"]["alert"]["answerable"], json!(2));
    }
}
