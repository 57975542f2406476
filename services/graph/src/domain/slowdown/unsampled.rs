//! A service of which no requests were sampled: a range from the latencies of its calls.

use super::effect::{Effect, Unknown};
use super::ranged::Term;
use super::{Composed, Known, at_ranks, spread};
use crate::domain::links::NodeIndex;

pub(super) fn compose(known: &Known<'_>, node: NodeIndex) -> Result<Composed, Unknown> {
    let mut terms = known.terms_of_alterations(node)?;
    for &callee in known.inputs.snapshot.request_path().callees(node) {
        let Some(wait) = known.wait(node, callee) else { continue };
        let Some(effect) = known.effect(node, callee, Some(wait))? else { continue };
        let spread = spread(&effect, wait.fraction * effect.kept);
        let others = match (effect.constant_ms(), known.of_calls(node, callee)) {
            (Some(added_ms), _) => vec![Term::new(wait.fraction, [(added_ms, added_ms)])],
            (None, Some(calls_ms)) => with_calls(&calls_ms, &effect, wait.fraction),
            (None, None) => return Err(Unknown),
        };
        let each = others.into_iter().chain(spread);
        terms.extend(each.flat_map(|term| std::iter::repeat_n(term, wait.count as usize)));
    }
    let base = known.latency(node).map(|before| [before.clone(), before.clone(), before]);
    Ok(Composed { base, points: Vec::new(), terms })
}

/// What becomes of calls: those that are made, and those that are not made any more.
fn with_calls(calls_ms: &[f64], effect: &Effect<'_>, fraction: f64) -> Vec<Term> {
    let mut terms = Vec::new();
    if effect.kept > 0.0 {
        let change = |(ms, rank): (f64, f64)| {
            let (low, high) = effect.after(ms, rank);
            (low - ms, high - ms)
        };
        terms.push(Term::new(fraction * effect.kept, at_ranks(calls_ms).map(change)));
    }
    if effect.kept < 1.0 {
        terms.push(Term::new(fraction * (1.0 - effect.kept), calls_ms.iter().map(|ms| (-ms, 0.0))));
    }
    terms
}
