//! Fleets in circumstances that bring every kind of constraint about.

use attain_attainment::{CurrentSlo, RecommendationInput, recommend};
use attain_recommendation::domain::components::Rate;
use attain_recommendation::domain::fallbacks::fallbacks;
use attain_simulator::fleet::{Fleet, Seen};
use attain_vocabulary::{DAY_MS, Objective, SliKind, TimeRange, TimeWindow};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Case, bind, counterfactuals, graph, paragraph, slow, versions};
use crate::fleet::{END_MS, View};

/// Components of one case.
const COMPONENTS: [usize; 4] = [6, 8, 10, 13];
/// Days of history of one case.
const DAYS: [u32; 3] = [45, 60, 90];
/// Days that a short history has.
const SHORT_DAYS: [i64; 6] = [2, 4, 7, 10, 13, 16];
/// Strictest targets of a modest policy.
const MODEST: [f64; 6] = [0.9, 0.95, 0.97, 0.98, 0.99, 0.993];

/// Every so many cases have latencies.
const SLOW_EVERY: u64 = 4;

/// What a case is made to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Circumstance {
    AsDrawn,
    /// Of a service that is seldom called, in a fleet that seldom fails.
    LittleTraffic,
    /// The tier asks for less than could be met.
    ModestPolicy,
    /// Of a service that is new.
    ShortHistory,
    /// Nothing has failed yet.
    NoFailure,
}

/// Whose turn it is.
const TURNS: [Circumstance; 10] = {
    use Circumstance::{AsDrawn, LittleTraffic, ModestPolicy, NoFailure, ShortHistory};
    [AsDrawn, LittleTraffic, AsDrawn, ModestPolicy, AsDrawn, ShortHistory, AsDrawn, NoFailure, AsDrawn, LittleTraffic]
};

impl Circumstance {
    fn name(self) -> &'static str {
        match self {
            Self::AsDrawn => "as_drawn",
            Self::LittleTraffic => "little_traffic",
            Self::ModestPolicy => "modest_policy",
            Self::ShortHistory => "short_history",
            Self::NoFailure => "no_failure",
        }
    }

    /// Makes a fleet, and the service that is looked at, be like that.
    fn alter(self, fleet: &mut Fleet, at: usize, random: &mut ChaCha8Rng) {
        let (chronic, incidents) = match self {
            Self::LittleTraffic => (0.01, 0.02),
            Self::NoFailure => (0.0, 0.0),
            Self::AsDrawn | Self::ModestPolicy | Self::ShortHistory => return,
        };
        for component in &mut fleet.components {
            component.law.chronic_ratio *= chronic;
            component.law.incidents_per_day *= incidents;
        }
        fleet.domains.iter_mut().for_each(|domain| domain.incidents_per_day *= incidents);
        if self == Self::LittleTraffic {
            fleet.components[at].requests_per_second = 10f64.powf(random.random_range(-3.3..-0.3));
        }
    }
}

/// Draws a case and checks it; none where the fleet has no such service.
pub(super) fn case(seed: u64, index: u64) -> Option<Case> {
    let own_seed = seed.wrapping_mul(1_000_003).wrapping_add(index);
    let mut random = ChaCha8Rng::seed_from_u64(own_seed);
    let circumstance = TURNS[index as usize % TURNS.len()];
    let mut fleet = Fleet::draw(own_seed, COMPONENTS[random.random_range(0..COMPONENTS.len())]);
    let leaves_too = random.random_bool(0.2);
    let measured = (0..fleet.components.len()).filter(|at| fleet.components[*at].seen != Seen::Nothing);
    let looked_at: Vec<usize> = measured.filter(|at| leaves_too || fleet.calls_of(*at).next().is_some()).collect();
    let at = *looked_at.get(random.random_range(0..looked_at.len().max(1)))?;
    circumstance.alter(&mut fleet, at, &mut random);
    let past = fleet.past(index, DAYS[random.random_range(0..DAYS.len())]);
    let view = View::new(&fleet, &past, vec![false; fleet.calls.len()]);
    let (mut input, rates) = gathered(&view, at, index);
    let mut case = Case { circumstance: circumstance.name(), ..Case::default() };
    versions::changed(&mut case, (&fleet, &past), (at, index), &input, &mut random);
    graph::asked(&mut case, &view, &rates, &mut input, &mut random);
    if circumstance == Circumstance::ModestPolicy {
        input.policy.target_ratio_max = MODEST[random.random_range(0..MODEST.len())];
    }
    let whole = (circumstance == Circumstance::ShortHistory).then(|| input.clone());
    if whole.is_some() {
        shorten(&mut input, SHORT_DAYS[random.random_range(0..SHORT_DAYS.len())]);
    }
    let result = recommend(&input);
    let sli = result.slis.first()?;
    case.estimated = !sli.fallback;
    case.kind = bind::word(sli.binding_constraint.kind);
    case.unknown_numbers = paragraph::unknown_numbers(&result);
    graph::told(&mut case, &input, &result);
    if case.estimated {
        bind::taken_away(&mut case, &view, at, &input, &result);
        counterfactuals(&mut case, &input, sli);
        if index.is_multiple_of(SLOW_EVERY) {
            slow::gone(&mut case, &input, own_seed);
        }
    } else if let Some(whole) = whole {
        bind::given_history(&mut case, &whole, &result);
    }
    Some(case)
}

/// As the service makes it, with the fallbacks that would help most, and in every other case an SLO in force.
pub(crate) fn input(view: &View<'_>, at: usize, index: u64) -> RecommendationInput {
    gathered(view, at, index).0
}

/// The same with the rates that the graph was asked with.
fn gathered(view: &View<'_>, at: usize, index: u64) -> (RecommendationInput, Vec<Rate>) {
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
    (input, known.rates)
}

/// Leaves only the last days of what was measured.
fn shorten(input: &mut RecommendationInput, days: i64) {
    let start_ms = END_MS - days * DAY_MS;
    let range = TimeRange::new("range", start_ms.max(input.history.range.start_ms()), END_MS);
    input.history.range = range.expect("ascending");
    input.history.buckets.retain(|bucket| bucket.start_ms >= start_ms);
    for dependency in &mut input.dependencies {
        dependency.buckets.retain(|bucket| bucket.start_ms >= start_ms);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_constraint_comes_about_and_a_case_is_drawn_the_same_again() {
        let drawn = |index| case(4, index);
        let cases: Vec<Case> = (0..60).filter_map(drawn).collect();
        let kinds: BTreeSet<&str> = cases.iter().filter(|case| case.estimated).map(|case| case.kind).collect();
        assert_eq!(kinds, BTreeSet::from(["data", "dependency", "own", "policy", "volume"]));
        assert!(cases.iter().any(|case| !case.estimated && case.checks.contains_key("history_given")));
        assert_eq!(format!("{:?}", drawn(7)), format!("{:?}", drawn(7)));
    }
}
