//! Birnbaum importances, ranked by what they contribute.

use crate::equations::{Source, System};
use crate::structure::{Component, Structure};
use std::cmp::Ordering;

/// What one component does to the availability of the root.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Importance {
    /// The component.
    pub component: Component,
    /// Birnbaum 1969: `∂A/∂p = P(works | component up) − P(works | component down)`, in `[0, 1]`; what retries leave of
    /// edges is held fixed.
    pub birnbaum: f64,
    /// `birnbaum` × the component's own failure ratio: the unavailability that it contributes, to first order.
    pub contribution: f64,
}

/// What a shock common to the members of a redundancy group does to the availability of the root.
#[derive(Debug, Clone, PartialEq)]
pub struct CommonCauseImportance {
    /// The members that it takes together, by index.
    pub members: Vec<Component>,
    /// Probability of the shock, in `[0, 1]`.
    pub failure_ratio: f64,
    /// As for a component.
    pub birnbaum: f64,
    /// As for a component.
    pub contribution: f64,
}

/// Importances of everything the root reaches.
pub(crate) struct Ranking {
    /// Greatest contribution first.
    pub(crate) components: Vec<Importance>,
    /// Greatest contribution first.
    pub(crate) common_causes: Vec<CommonCauseImportance>,
    /// Whether nothing was left out.
    pub(crate) complete: bool,
}

/// Joins what is in series with what the steady state says of the rest, `birnbaum` by variable.
pub(crate) fn rank(structure: &Structure, system: &System, steady_up: f64, birnbaum: &[Option<f64>]) -> Ranking {
    let series = SeriesProduct::of(system);
    let mut of_variable: Vec<Option<f64>> =
        birnbaum.iter().map(|share| share.map(|share| share * series.all())).collect();
    for &variable in &system.series {
        let up = 1.0 - system.variables[variable as usize].failure_ratio;
        of_variable[variable as usize] = Some(series.all_but(up) * steady_up);
    }
    let mut ranking = Ranking { components: Vec::new(), common_causes: Vec::new(), complete: true };
    for (variable, birnbaum) in system.variables.iter().zip(of_variable) {
        let Some(birnbaum) = birnbaum else {
            ranking.complete &= variable.source == Source::Fallback;
            continue;
        };
        let contribution = birnbaum * variable.failure_ratio;
        match variable.source {
            Source::Own(component) => ranking.components.push(Importance { component, birnbaum, contribution }),
            Source::CommonCause(cause) => ranking.common_causes.push(CommonCauseImportance {
                members: structure.cause(cause).members.clone(),
                failure_ratio: variable.failure_ratio,
                birnbaum,
                contribution,
            }),
            Source::Fallback => {}
        }
    }
    ranking.sort();
    ranking
}

impl Ranking {
    fn sort(&mut self) {
        self.components.sort_by(greatest_first);
        self.common_causes.sort_by(|a, b| {
            let by_contribution = b.contribution.total_cmp(&a.contribution);
            by_contribution.then_with(|| a.members.cmp(&b.members))
        });
    }
}

/// By contribution, then by importance, then in the order of components.
pub(crate) fn greatest_first(a: &Importance, b: &Importance) -> Ordering {
    let by_contribution = b.contribution.total_cmp(&a.contribution);
    let by_birnbaum = || b.birnbaum.total_cmp(&a.birnbaum);
    by_contribution.then_with(by_birnbaum).then(a.component.cmp(&b.component))
}

/// A product from which one factor can be taken out again, zeros included.
struct SeriesProduct {
    of_positive: f64,
    zero_count: usize,
}

impl SeriesProduct {
    fn of(system: &System) -> Self {
        let up = |&v: &u32| 1.0 - system.variables[v as usize].failure_ratio;
        let positive = |up: &f64| *up > 0.0;
        let factors: Vec<f64> = system.series.iter().map(up).collect();
        Self {
            of_positive: factors.iter().copied().filter(positive).product(),
            zero_count: factors.len() - factors.iter().filter(|up| positive(up)).count(),
        }
    }

    fn all(&self) -> f64 {
        if self.zero_count == 0 { self.of_positive } else { 0.0 }
    }

    fn all_but(&self, factor: f64) -> f64 {
        match (self.zero_count, factor > 0.0) {
            (0, _) => self.of_positive / factor,
            (1, false) => self.of_positive,
            _ => 0.0,
        }
    }
}
