//! A latency threshold split over the stages of a critical path.
//!
//! If every part keeps its budget and the budgets of the stages sum to the threshold, the root keeps the threshold. So
//! `P(miss) ≤ Σ over parts P(part > budget of its stage)`, whatever the dependence. Units go where they lower that sum most:
//! after Parslo (Mirhosseini, Elnikety and Wenisch, SoCC 2021). A part that is never faster than several units gains nothing
//! from the first; so the gain looked at is the greatest mean gain over any number of units that are left.

use crate::{Distribution, Error};

/// A threshold split over stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Milliseconds by stage; they sum to at most the threshold. What no stage gains from is not given.
    pub stages_ms: Vec<f64>,
    /// At most this probability, in `[0, 1]`, that the root misses the threshold.
    pub miss_probability_max: f64,
}

/// Splits a threshold in milliseconds into `unit_count` equal units over stages, each a group of parts that are waited for
/// together.
///
/// # Errors
/// Refuses no stages, a stage without parts, a threshold that is not a positive number, and units that are not 1 to 1,000.
pub fn split_budget(stages: &[Vec<Distribution>], threshold_ms: f64, unit_count: usize) -> Result<Budget, Error> {
    if stages.is_empty() || stages.iter().any(Vec::is_empty) {
        return Err(Error::Empty { field: "stages" });
    }
    if !(threshold_ms.is_finite() && threshold_ms > 0.0) {
        return Err(Error::OutOfRange { field: "threshold_ms", expected: "a positive number", value: threshold_ms });
    }
    if !(1..=1_000).contains(&unit_count) {
        let value = unit_count as f64;
        return Err(Error::OutOfRange { field: "unit_count", expected: "from 1 to 1000", value });
    }
    let unit_ms = threshold_ms / unit_count as f64;
    let miss_of = |stage: &[Distribution], units: usize| {
        stage.iter().map(|part| part.share_above(units as f64 * unit_ms)).sum::<f64>()
    };
    let misses: Vec<Vec<f64>> =
        stages.iter().map(|stage| (0..=unit_count).map(|units| miss_of(stage, units)).collect()).collect();
    let mut given = vec![0; stages.len()];
    let mut left = unit_count;
    while left > 0 {
        let steps = (0..stages.len()).map(|stage| (stage, best_step(&misses[stage][given[stage]..], left)));
        let best = steps.max_by(|(a_stage, a), (b_stage, b)| a.gain.total_cmp(&b.gain).then(b_stage.cmp(a_stage)));
        let Some((stage, step)) = best.filter(|(_, step)| step.gain > 0.0) else { break };
        given[stage] += step.units;
        left -= step.units;
    }
    let miss: f64 = misses.iter().zip(&given).map(|(misses, units)| misses[*units]).sum();
    let stages_ms = given.into_iter().map(|units| units as f64 * unit_ms).collect();
    Ok(Budget { stages_ms, miss_probability_max: miss.min(1.0) })
}

struct Step {
    units: usize,
    /// Probability that each of the units takes away on average.
    gain: f64,
}

/// The number of further units with the greatest mean gain, the fewest of equals.
fn best_step(misses: &[f64], left: usize) -> Step {
    let gain = |units: usize| (misses[0] - misses[units]) / units as f64;
    let longest = left.min(misses.len() - 1);
    (1..=longest).fold(Step { units: 1, gain: 0.0 }, |best, units| {
        if gain(units) > best.gain { Step { units, gain: gain(units) } } else { best }
    })
}
