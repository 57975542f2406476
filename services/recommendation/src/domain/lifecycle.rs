//! What becomes of recommendations, and of decisions that need an approval.

use attain_vocabulary::{Tier, TimeWindow, UnixMillis};

use super::contradiction::Contradiction;
use super::slo::{Action, Verdict};

/// What became of a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody decided; it is the newest and can be accepted.
    Open,
    Accepted,
    Modified,
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// Nobody decided, and there is a newer one.
    Superseded,
}

/// What is kept of a recommendation beside its content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    pub(crate) recommendation_id: String,
    pub(crate) sequence: u64,
    pub(crate) service_id: String,
    pub(crate) window: TimeWindow,
    pub(crate) version: u32,
    pub(crate) create_ms: UnixMillis,
    pub(crate) expire_ms: UnixMillis,
    /// The newest decision about it.
    pub(crate) decided: Option<Action>,
    /// Whether there is a newer one of the same service and window.
    pub(crate) superseded: bool,
    /// Number of the confidence level on the wire; 0 where it was not recorded.
    pub(crate) confidence: i32,
    pub(crate) fallback: bool,
    pub(crate) tier: Option<Tier>,
    /// What the newest decision about it contradicts.
    pub(crate) contradiction: Option<Contradiction>,
}

impl Standing {
    /// What became of it: what was decided, else whether it is too old, else whether another took its place.
    pub(crate) fn state(&self, now_ms: UnixMillis) -> State {
        match self.decided {
            Some(Action::Accept) => State::Accepted,
            Some(Action::Modify | Action::Declare) => State::Modified,
            Some(Action::Reject) => State::Rejected,
            None if self.is_expired(now_ms) => State::Expired,
            None if self.superseded => State::Superseded,
            None => State::Open,
        }
    }

    /// Whether it can no longer be accepted or modified, whatever was decided about it before.
    pub(crate) fn is_expired(&self, now_ms: UnixMillis) -> bool {
        now_ms >= self.expire_ms
    }
}

/// Where a decision that needs an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PendingState {
    Waiting,
    Approved,
    Refused,
    Withdrawn,
    Expired,
}

impl PendingState {
    pub(crate) const ALL: [Self; 5] = [Self::Waiting, Self::Approved, Self::Refused, Self::Withdrawn, Self::Expired];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// A decision that comes into force when somebody else approves it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pending {
    pub(crate) id: String,
    pub(crate) sequence: u64,
    /// What is to be decided; its `version_match` is the version in force when it was proposed.
    pub(crate) verdict: Verdict,
    pub(crate) expire_ms: UnixMillis,
    /// As it is stored; see [`Pending::state`].
    pub(crate) stored: PendingState,
    pub(crate) closed_by: String,
    pub(crate) close_ms: UnixMillis,
    pub(crate) close_reason: String,
    pub(crate) decision_id: String,
}

/// Why a pending decision cannot be closed as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objection {
    /// It was closed before, or it is too late.
    Closed(PendingState),
    /// Whoever proposed it cannot approve or refuse it.
    OwnProposal,
    /// Only whoever proposed it can take it back.
    OthersProposal,
}

impl Pending {
    /// Where it stands: one that waits expires by itself.
    pub(crate) fn state(&self, now_ms: UnixMillis) -> PendingState {
        if self.stored == PendingState::Waiting && now_ms >= self.expire_ms {
            PendingState::Expired
        } else {
            self.stored
        }
    }

    /// Whether `caller` may close it as `outcome` now.
    pub(crate) fn closable(&self, caller: &str, outcome: PendingState, now_ms: UnixMillis) -> Result<(), Objection> {
        let own = self.verdict.decided_by == caller;
        match (self.state(now_ms), outcome) {
            (PendingState::Waiting, PendingState::Approved | PendingState::Refused) if own => {
                Err(Objection::OwnProposal)
            }
            (PendingState::Waiting, PendingState::Withdrawn) if !own => Err(Objection::OthersProposal),
            (PendingState::Waiting, _) => Ok(()),
            // Only the clock and the stored state disagree: it is put on record.
            (PendingState::Expired, PendingState::Expired) if self.stored == PendingState::Waiting => Ok(()),
            (closed, _) => Err(Objection::Closed(closed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_vocabulary::{EntityId, SliKind};

    fn standing(decided: Option<Action>, superseded: bool) -> Standing {
        Standing {
            recommendation_id: "rec-1".into(),
            sequence: 1,
            service_id: "checkout".into(),
            window: TimeWindow::default(),
            version: 1,
            create_ms: 0,
            expire_ms: 100,
            decided,
            superseded,
            confidence: 3,
            fallback: false,
            tier: Some(Tier::Two),
            contradiction: None,
        }
    }

    #[test]
    fn one_state_holds_at_a_time() {
        assert_eq!(standing(None, false).state(99), State::Open);
        assert_eq!(standing(None, true).state(99), State::Superseded);
        assert_eq!(standing(None, true).state(100), State::Expired);
        for (action, state) in
            [(Action::Accept, State::Accepted), (Action::Modify, State::Modified), (Action::Reject, State::Rejected)]
        {
            assert_eq!(standing(Some(action), true).state(100), state);
        }
    }

    fn pending() -> Pending {
        Pending {
            id: "pending-1".into(),
            sequence: 1,
            verdict: Verdict {
                action: Action::Reject,
                service: EntityId::new("service_id", "checkout").expect("valid"),
                recommendation_id: "rec-1".into(),
                kind: SliKind::Availability,
                ambition: None,
                target: None,
                reason: String::new(),
                decided_by: "ada".into(),
                time_ms: 0,
                version_match: Some(0),
                contradiction: None,
            },
            expire_ms: 100,
            stored: PendingState::Waiting,
            closed_by: String::new(),
            close_ms: 0,
            close_reason: String::new(),
            decision_id: String::new(),
        }
    }

    #[test]
    fn only_somebody_else_approves_and_only_in_time() {
        let closable = |caller, outcome, now_ms| pending().closable(caller, outcome, now_ms);
        for outcome in [PendingState::Approved, PendingState::Refused] {
            assert_eq!(closable("ada", outcome, 99), Err(Objection::OwnProposal));
            assert_eq!(closable("grace", outcome, 99), Ok(()));
            assert_eq!(closable("grace", outcome, 100), Err(Objection::Closed(PendingState::Expired)));
        }
        assert_eq!(closable("ada", PendingState::Withdrawn, 99), Ok(()));
        assert_eq!(closable("grace", PendingState::Withdrawn, 99), Err(Objection::OthersProposal));
        assert_eq!(closable("recommendation", PendingState::Expired, 100), Ok(()));
        let closed = Pending { stored: PendingState::Withdrawn, ..pending() };
        for outcome in PendingState::ALL {
            let objection = Err(Objection::Closed(PendingState::Withdrawn));
            assert_eq!(closed.closable("grace", outcome, 50), objection);
            assert_eq!(closed.closable("grace", outcome, 150), objection);
        }
        for state in PendingState::ALL {
            assert_eq!(PendingState::from_word(state.word()), Some(state));
        }
    }
}
