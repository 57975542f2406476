//! Whether a service fails of its own at another level than before.

use attain_attainment::{RecommendationInput, ToldApart};
use attain_drift::{Change, Drift, Settings, State, watch};
use attain_vocabulary::UnixMillis;
use serde::{Deserialize, Serialize};

/// How the own failures of a service stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watched {
    /// What the watch has come to.
    pub(crate) drift: Drift,
    /// Whether own failures could be told from inherited ones at all.
    pub(crate) told_apart: bool,
}

/// Watches the own failures of a history. Those that the service inherited are not among them: a fault further down does not
/// mark its callers.
pub(crate) fn watched((input, told): (&RecommendationInput, &ToldApart), settings: Settings) -> Watched {
    let own = told.own_failures(input);
    let told_apart = own.is_some();
    let points = own.iter().flat_map(|own| own.points()).map(|point| (point.start_ms, point.valid, point.bad));
    Watched { drift: watch(settings, points).state(input.as_of_ms), told_apart }
}

impl Watched {
    /// Whether it tells of a change that was not known when it was last looked at. The same change is found again with a
    /// somewhat other begin as the history moves on: one that began before the last was found (`noted_ms`, or as it was seen at
    /// the last look) is that one.
    pub(crate) fn new_change(&self, before: Option<&Self>, noted_ms: Option<UnixMillis>) -> Option<&Change> {
        let seen_ms = before.and_then(|before| before.drift.change.as_ref()).map(|known| known.detected_ms);
        let change = self.drift.change.as_ref().filter(|_| self.drift.state == State::Drifted)?;
        seen_ms.max(noted_ms).is_none_or(|known_ms| change.since_ms > known_ms).then_some(change)
    }
}

/// Stable machine-readable word.
pub(crate) fn state_word(state: State) -> &'static str {
    match state {
        State::Steady => "steady",
        State::Drifted => "drifted",
        State::CannotTell => "cannot_tell",
    }
}

#[cfg(test)]
mod tests {
    use attain_drift::Direction;

    use super::*;

    fn found(span: Option<(i64, i64)>) -> Watched {
        let change = span.map(|(since_ms, detected_ms)| Change {
            direction: Direction::Up,
            since_ms,
            detected_ms,
            before_ratio: 0.001,
            after_ratio: 0.01,
            signals: Vec::new(),
        });
        let state = if change.is_some() { State::Drifted } else { State::Steady };
        let drift = Drift { state, change, cell_count: 100, lacking_cell_count: 0, cell_ms: 1 };
        Watched { drift, told_apart: true }
    }

    #[test]
    fn the_same_change_is_new_once() {
        let new = |now: Option<(i64, i64)>, before: Option<Option<(i64, i64)>>| {
            found(now).new_change(before.map(found).as_ref(), None).map(|change| change.since_ms)
        };
        assert_eq!(new(None, None), None);
        assert_eq!(new(Some((10, 20)), None), Some(10));
        assert_eq!(new(Some((10, 20)), Some(None)), Some(10));
        assert_eq!(new(Some((12, 24)), Some(Some((10, 20)))), None, "estimated anew");
        assert_eq!(new(Some((30, 40)), Some(Some((10, 20)))), Some(30));
        let again = found(Some((12, 24)));
        assert_eq!(again.new_change(Some(&found(None)), Some(20)), None, "it was not seen at the last look");
    }
}
