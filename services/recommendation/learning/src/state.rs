use std::collections::BTreeMap;

use attain_attainment::Ambition;
use attain_vocabulary::{EntityKind, SliKind, Tier, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::Arms;
use crate::arms::place;
use crate::off_policy::{Policy, PolicyEstimate, Tally};

/// Weight of an accepted offer, and of an edited target on either side: it says what was wanted and what was not.
const SAID: f64 = 1.0;
/// Weight of an edited target that lies nearest to the suggested offer itself.
const EDITED_NEARBY: f64 = 0.5;
/// Weight of a reject: it says that the suggestion was not wanted, or not now, and not what was.
const REJECTED: f64 = 0.5;
/// Weight of a person's word that the suggestion is too strict or too loose: nobody had to act on it.
const TOLD: f64 = 0.25;

/// Services that are taken to share a taste: of a tier and a class, for one SLI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// How much depends on them.
    pub tier: Tier,
    /// What they are.
    pub kind: EntityKind,
    /// What is measured.
    pub sli: SliKind,
}

/// What was suggested.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// The suggested offer.
    pub suggested: Ambition,
    /// Probability of each in the order of [`Ambition::ALL`]; `None` where there was no such offer.
    pub propensities: [Option<f64>; 3],
}

impl Shown {
    /// The offers that there were, the least risk first.
    pub fn offered(&self) -> impl Iterator<Item = Ambition> {
        Ambition::ALL.into_iter().filter(|ambition| self.propensity(*ambition).is_some())
    }

    pub(crate) fn propensity(&self, ambition: Ambition) -> Option<f64> {
        self.propensities[place(ambition)].filter(|propensity| *propensity > 0.0)
    }
}

/// What a person did with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Took this offer as it was.
    Accepted(Ambition),
    /// Put another target in force, which lies nearest to this offer.
    Edited(Ambition),
    /// Refused.
    Rejected,
}

/// In which way a suggestion was said to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Too strict: more caution is wanted.
    TooStrict,
    /// Too loose: more ambition is wanted.
    TooLoose,
}

/// What was observed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observed {
    /// The first decision on a recommendation and SLI.
    Decision(Shown, Outcome),
    /// Feedback on the suggestion.
    Feedback(Shown, Direction),
}

/// One entry of the log that something is learned from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Its position in the log.
    pub sequence: u64,
    /// When.
    pub time_ms: UnixMillis,
    /// Of which services and SLI.
    pub cell: Cell,
    /// What was observed.
    pub observed: Observed,
}

/// What was learned of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CellState {
    /// Evidence as of the newest of it.
    pub arms: Arms,
    /// Decisions that accepted an offer.
    pub accept_count: u32,
    /// Decisions that put another target in force.
    pub modify_count: u32,
    /// Decisions that refused.
    pub reject_count: u32,
    /// Feedback that a suggestion was too strict or too loose.
    pub feedback_count: u32,
}

/// What was learned from a log up to a position: a versioned artefact that the log gives again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Position of the newest entry learned from; 0 for none.
    pub version: u64,
    /// When that was.
    pub time_ms: UnixMillis,
    /// By cell, in order; as a list because JSON has only texts for keys.
    #[serde(with = "listed")]
    pub cells: BTreeMap<Cell, CellState>,
    tallies: [Tally; Policy::ALL.len()],
}

impl State {
    /// Learns from the next entry. One at or before [`State::version`] was learned from already and changes nothing.
    pub fn learn(&mut self, evidence: &Evidence) {
        if evidence.sequence <= self.version {
            return;
        }
        self.version = evidence.sequence;
        self.time_ms = self.time_ms.max(evidence.time_ms);
        let cell = self.cells.entry(evidence.cell).or_default();
        cell.arms = cell.arms.at(evidence.time_ms);
        match evidence.observed {
            Observed::Decision(shown, outcome) => {
                let accepted = outcome == Outcome::Accepted(shown.suggested);
                for (policy, tally) in Policy::ALL.into_iter().zip(&mut self.tallies) {
                    tally.add(policy, &cell.arms, &shown, accepted);
                }
                decided(cell, &shown, outcome);
            }
            Observed::Feedback(shown, direction) => told(cell, &shown, direction),
        }
    }

    /// What is known of a cell at an instant; the prior alone where nobody decided.
    #[must_use]
    pub fn arms(&self, cell: Cell, time_ms: UnixMillis) -> Arms {
        let untold = Arms { time_ms, ..Arms::default() };
        self.cells.get(&cell).map_or(untold, |state| state.arms.at(time_ms))
    }

    /// What each policy would have got.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyEstimate> {
        Policy::ALL.into_iter().zip(&self.tallies).map(|(policy, tally)| tally.estimate(policy)).collect()
    }
}

fn decided(cell: &mut CellState, shown: &Shown, outcome: Outcome) {
    let arms = &mut cell.arms;
    arms.arm_mut(shown.suggested).suggested_count += 1;
    match outcome {
        Outcome::Accepted(taken) => {
            cell.accept_count += 1;
            arms.arm_mut(taken).success += SAID;
            if taken == shown.suggested {
                arms.arm_mut(taken).accepted_count += 1;
            } else {
                arms.arm_mut(shown.suggested).failure += SAID;
            }
        }
        Outcome::Edited(nearest) => {
            cell.modify_count += 1;
            if nearest == shown.suggested {
                arms.arm_mut(nearest).success += EDITED_NEARBY;
            } else {
                arms.arm_mut(nearest).success += SAID;
                arms.arm_mut(shown.suggested).failure += SAID;
            }
        }
        Outcome::Rejected => {
            cell.reject_count += 1;
            arms.arm_mut(shown.suggested).failure += REJECTED;
        }
    }
}

fn told(cell: &mut CellState, shown: &Shown, direction: Direction) {
    cell.feedback_count += 1;
    cell.arms.arm_mut(shown.suggested).failure += TOLD;
    let suggested = place(shown.suggested);
    let wanted = match direction {
        Direction::TooStrict => shown.offered().filter(|ambition| place(*ambition) < suggested).last(),
        Direction::TooLoose => shown.offered().find(|ambition| place(*ambition) > suggested),
    };
    if let Some(wanted) = wanted {
        cell.arms.arm_mut(wanted).success += TOLD;
    }
}

/// The offer that a target lies nearest to: by the ratio of error budgets and, for latency, of thresholds. Each offer is its
/// ambition, target and threshold in milliseconds (any equal number for availability). `None` without offers.
#[must_use]
pub fn nearest(offers: &[(Ambition, f64, u32)], target_ratio: f64, threshold_ms: u32) -> Option<Ambition> {
    let log = |target: f64, threshold: u32| {
        (libm::log((1.0 - target).max(f64::EPSILON)), libm::log(f64::from(threshold.max(1))))
    };
    let (budget, threshold) = log(target_ratio, threshold_ms);
    let distance = |(_, target, threshold_ms): &(Ambition, f64, u32)| {
        let (other_budget, other_threshold) = log(*target, *threshold_ms);
        (budget - other_budget).abs() + (threshold - other_threshold).abs()
    };
    offers.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).map(|(ambition, _, _)| *ambition)
}

/// A map as a list of pairs.
mod listed {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{Cell, CellState};

    pub(super) fn serialize<S: Serializer>(cells: &BTreeMap<Cell, CellState>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(cells)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Cell, CellState>, D::Error> {
        Ok(Vec::<(Cell, CellState)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_vocabulary::DAY_MS;
    use proptest::prelude::*;

    const CELL: Cell = Cell { tier: Tier::One, kind: EntityKind::Service, sli: SliKind::Availability };

    fn shown(suggested: Ambition) -> Shown {
        Shown { suggested, propensities: [Some(0.2), Some(0.6), Some(0.2)] }
    }

    fn learned(observed: &[Observed]) -> State {
        let mut state = State::default();
        for (sequence, observed) in (1..).zip(observed) {
            state.learn(&Evidence { sequence, time_ms: 0, cell: CELL, observed: *observed });
        }
        state
    }

    fn mean(state: &State, ambition: Ambition) -> f64 {
        state.arms(CELL, 0).belief(ambition).mean()
    }

    #[test]
    fn an_edited_target_says_more_than_a_reject_and_a_reject_more_than_a_word() {
        let before = mean(&State::default(), Ambition::Balanced);
        let after = |observed| mean(&learned(&[observed]), Ambition::Balanced);
        let edited = after(Observed::Decision(shown(Ambition::Balanced), Outcome::Edited(Ambition::Conservative)));
        let rejected = after(Observed::Decision(shown(Ambition::Balanced), Outcome::Rejected));
        let told = after(Observed::Feedback(shown(Ambition::Balanced), Direction::TooStrict));
        assert!(edited < rejected && rejected < told && told < before, "{edited} {rejected} {told} {before}");
    }

    #[test]
    fn what_was_wanted_gains() {
        let before = mean(&State::default(), Ambition::Conservative);
        for observed in [
            Observed::Decision(shown(Ambition::Balanced), Outcome::Edited(Ambition::Conservative)),
            Observed::Decision(shown(Ambition::Balanced), Outcome::Accepted(Ambition::Conservative)),
            Observed::Feedback(shown(Ambition::Balanced), Direction::TooStrict),
        ] {
            let state = learned(&[observed]);
            assert!(mean(&state, Ambition::Conservative) > before, "{observed:?}");
            assert_eq!(mean(&state, Ambition::Ambitious), mean(&State::default(), Ambition::Ambitious));
        }
        let strictest = learned(&[Observed::Feedback(shown(Ambition::Ambitious), Direction::TooLoose)]);
        assert!(mean(&strictest, Ambition::Ambitious) < mean(&State::default(), Ambition::Ambitious));
    }

    #[test]
    fn cells_do_not_learn_from_each_other() {
        let state = learned(&[Observed::Decision(shown(Ambition::Balanced), Outcome::Rejected)]);
        let other = Cell { tier: Tier::Two, ..CELL };
        assert_eq!(state.arms(other, 5), State::default().arms(other, 5));
        assert_eq!(state.cells[&CELL].reject_count, 1);
    }

    #[test]
    fn a_target_belongs_to_the_offer_nearest_to_it() {
        let offers =
            [(Ambition::Conservative, 0.99, 0), (Ambition::Balanced, 0.995, 0), (Ambition::Ambitious, 0.999, 0)];
        for (target, expected) in [
            (0.9, Ambition::Conservative),
            (0.992, Ambition::Conservative),
            (0.994, Ambition::Balanced),
            (0.9999, Ambition::Ambitious),
            (1.0, Ambition::Ambitious),
        ] {
            assert_eq!(nearest(&offers, target, 0), Some(expected), "{target}");
        }
        let latency = [(Ambition::Conservative, 0.95, 500), (Ambition::Ambitious, 0.95, 200)];
        assert_eq!(nearest(&latency, 0.95, 250), Some(Ambition::Ambitious));
        assert_eq!(nearest(&[], 0.9, 0), None);
    }

    fn evidence() -> impl Strategy<Value = Vec<Evidence>> {
        let ambition = || prop::sample::select(Ambition::ALL.to_vec());
        let observed = prop_oneof![
            (ambition(), ambition()).prop_map(|(s, a)| Observed::Decision(shown(s), Outcome::Accepted(a))),
            (ambition(), ambition()).prop_map(|(s, a)| Observed::Decision(shown(s), Outcome::Edited(a))),
            ambition().prop_map(|s| Observed::Decision(shown(s), Outcome::Rejected)),
            ambition().prop_map(|s| Observed::Feedback(shown(s), Direction::TooStrict)),
            ambition().prop_map(|s| Observed::Feedback(shown(s), Direction::TooLoose)),
        ];
        let tiers = prop::sample::select(vec![Tier::One, Tier::Four]);
        let entry = (observed, tiers, 0..400 * DAY_MS, 1..4_u64);
        prop::collection::vec(entry, 0..40).prop_map(|entries| {
            let mut sequence = 0;
            let next = |(observed, tier, time_ms, step)| {
                sequence += step;
                Evidence { sequence, time_ms, cell: Cell { tier, ..CELL }, observed }
            };
            entries.into_iter().map(next).collect()
        })
    }

    proptest! {
        #[test]
        fn a_state_is_the_same_however_often_it_was_stored_and_read_on_the_way(
            evidence in evidence(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut whole = State::default();
            evidence.iter().for_each(|evidence| whole.learn(evidence));
            let mut parts = State::default();
            let cut = cut.index(evidence.len() + 1);
            evidence[..cut].iter().for_each(|evidence| parts.learn(evidence));
            let mut parts: State =
                serde_json::from_str(&serde_json::to_string(&parts).expect("JSON")).expect("the same");
            // From the beginning again: what was learned is not learned twice.
            evidence.iter().for_each(|evidence| parts.learn(evidence));
            prop_assert_eq!(&parts, &whole);
            let weights = whole.cells.values().flat_map(|cell| cell.arms.arms);
            for arm in weights {
                prop_assert!(arm.success >= 0.0 && arm.failure >= 0.0 && arm.accepted_count <= arm.suggested_count);
            }
            for estimate in whole.policies() {
                for share in [estimate.ips, estimate.snips, estimate.doubly_robust].into_iter().flatten() {
                    prop_assert!(0.0 <= share.low && share.low <= share.high && share.high <= 1.0);
                    prop_assert!(share.low <= share.ratio && share.ratio <= share.high);
                }
            }
        }
    }
}
