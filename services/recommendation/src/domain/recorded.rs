//! What is on record of a component, shared by all computations that need it, and what was computed from it already: which of
//! its failures are its own, and how its next window is predicted, are the same for each of its callers.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use attain_attainment::{Constants, FailureSplit, Forecast};
use attain_vocabulary::{DependencyMode, EntityId, SliBucket, TimeRange, TimeWindow, UnixMillis};

use super::counted::{Counted, Taking};
use super::origin::Origin;

/// Answers of each kind that are remembered: models, windows and spans differ between callers, but few do at a time.
const ANSWERS_MAX: usize = 4;

/// Buckets that never change, and answers about them.
#[derive(Debug, Default)]
pub struct Recorded {
    counted: Counted,
    origin: Origin,
    splits: Answers<SplitQuestion, FailureSplit>,
    forecasts: Answers<ForecastQuestion, Option<Forecast>>,
    kept: OnceLock<KeptHistory>,
}

/// A history as it is kept with the inputs of whoever calls the component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHistory {
    /// Bytes of its JSON.
    pub json_bytes: usize,
    /// The JSON, compressed, as a frame of its own.
    pub frame: Vec<u8>,
}

/// What a split depends on beside the component's own buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitQuestion {
    /// The span that is read.
    pub range: TimeRange,
    /// Whom it calls, as far as that bears on its failures.
    pub called: Vec<Called>,
}

/// A callee and the record of it.
#[derive(Debug, Clone)]
pub struct Called {
    /// Who is called.
    pub id: EntityId,
    /// What its failure does to the caller.
    pub mode: DependencyMode,
    /// Share of the caller's requests that call it.
    pub call_fraction: Option<f64>,
    /// Share of failed calls that a fallback saves.
    pub fallback_success_ratio: Option<f64>,
    /// Its record, told apart from every other by where it is: a place is not given to another record while this points to it.
    pub recorded: Option<Weak<Recorded>>,
}

/// To the bit, so that a remembered answer is the one that would be computed.
impl PartialEq for Called {
    fn eq(&self, other: &Self) -> bool {
        let bits = |ratio: Option<f64>| ratio.map(f64::to_bits);
        let same_record = match (&self.recorded, &other.recorded) {
            (Some(one), Some(another)) => Weak::ptr_eq(one, another),
            (one, another) => one.is_none() && another.is_none(),
        };
        same_record
            && self.id == other.id
            && self.mode == other.mode
            && bits(self.call_fraction) == bits(other.call_fraction)
            && bits(self.fallback_success_ratio) == bits(other.fallback_success_ratio)
    }
}

/// What a forecast depends on beside the buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForecastQuestion {
    /// What the model predicts with.
    pub constants: Constants,
    /// The window that is predicted.
    pub window: TimeWindow,
    /// When it is.
    pub now_ms: UnixMillis,
}

impl Recorded {
    /// A record of these.
    #[must_use]
    pub fn of(counted: Counted) -> Arc<Self> {
        Arc::new(Self { counted, ..Self::default() })
    }

    /// A record of what was read.
    #[must_use]
    pub fn read(counted: Counted, origin: Origin) -> Arc<Self> {
        Arc::new(Self { counted, origin, ..Self::default() })
    }

    /// Whether the other has the same buckets from the same sources.
    #[must_use]
    pub fn tells_the_same(&self, other: &Self) -> bool {
        self.counted == other.counted && self.origin == other.origin
    }

    /// Where the buckets came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The buckets that start in a span, to be gone on with, and where they came from; `None` where that cannot be told.
    #[must_use]
    pub fn resumed(&self, start_ms: UnixMillis, until_ms: UnixMillis) -> Option<(Taking, Origin)> {
        let (from, to) = (self.counted.place_from(start_ms), self.counted.place_from(until_ms));
        let to = to.max(from);
        Some((self.counted.resumed(from, to), self.origin.part(from, to)?))
    }

    /// The buckets.
    #[must_use]
    pub fn counted(&self) -> &Counted {
        &self.counted
    }

    /// The history as it is kept, where somebody kept it already.
    #[must_use]
    pub fn kept(&self) -> Option<&KeptHistory> {
        self.kept.get()
    }

    /// Remembers how the history is kept; of two who do the first.
    pub fn keep(&self, kept: KeptHistory) {
        // The other is the same.
        let _ = self.kept.set(kept);
    }

    /// Bytes that the buckets take, as they are read and as they are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.counted.bytes() + self.kept().map_or(0, |kept| kept.frame.len())
    }

    /// Own and inherited failures; computed where that was not asked yet.
    #[must_use]
    pub fn split(&self, question: SplitQuestion, compute: impl FnOnce() -> FailureSplit) -> FailureSplit {
        self.splits.answer(question, compute)
    }

    /// How the next window is predicted; computed where that was not asked yet. `None` without requests.
    #[must_use]
    pub fn forecast(&self, question: ForecastQuestion, compute: impl FnOnce() -> Option<Forecast>) -> Option<Forecast> {
        self.forecasts.answer(question, compute)
    }
}

impl From<Vec<SliBucket>> for Recorded {
    fn from(buckets: Vec<SliBucket>) -> Self {
        Self { counted: Counted::of(&buckets), ..Self::default() }
    }
}

/// The same buckets; what was asked about them says nothing.
impl PartialEq for Recorded {
    fn eq(&self, other: &Self) -> bool {
        self.counted == other.counted
    }
}

/// The last few answers, the newest at the end.
#[derive(Debug)]
struct Answers<Q, A>(Mutex<Vec<(Q, A)>>);

impl<Q, A> Default for Answers<Q, A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Q: PartialEq, A: Clone> Answers<Q, A> {
    /// Two who ask at the same time both compute: the same.
    fn answer(&self, question: Q, compute: impl FnOnce() -> A) -> A {
        let known = self.lock().iter().find(|(known, _)| *known == question).map(|(_, answer)| answer.clone());
        known.unwrap_or_else(|| {
            let answer = compute();
            let mut answers = self.lock();
            if answers.len() == ANSWERS_MAX {
                answers.remove(0);
            }
            answers.push((question, answer.clone()));
            answer
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Q, A)>> {
        // Nothing that is done under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_attainment::SplitMethod;
    use attain_vocabulary::BUCKET_MS;

    fn split(own_failure_ratio: f64) -> FailureSplit {
        FailureSplit {
            own_failure_ratio,
            inherited_failure_ratio: 0.0,
            unattributed_ratio: 0.0,
            method: SplitMethod::Unknown,
            inherited: Vec::new(),
        }
    }

    fn question(end: i64, callee: &Arc<Recorded>) -> SplitQuestion {
        let called = Called {
            id: EntityId::new("id", "db").expect("valid"),
            mode: DependencyMode::Hard,
            call_fraction: Some(1.0),
            fallback_success_ratio: None,
            recorded: Some(Arc::downgrade(callee)),
        };
        SplitQuestion { range: TimeRange::new("range", 0, end * BUCKET_MS).expect("ascending"), called: vec![called] }
    }

    #[test]
    fn an_answer_stands_for_its_own_question_alone() {
        let (recorded, callee) = (Recorded::of(Counted::default()), Recorded::of(Counted::default()));
        let ask = |question, ratio| recorded.split(question, || split(ratio)).own_failure_ratio;
        assert_eq!(ask(question(9, &callee), 0.1), 0.1);
        assert_eq!(ask(question(9, &callee), 0.2), 0.1, "remembered");
        assert_eq!(ask(question(8, &callee), 0.3), 0.3, "another span");
        let mut softer = question(9, &callee);
        softer.called[0].call_fraction = Some(0.5);
        assert_eq!(ask(softer, 0.4), 0.4, "another edge");
        let unrecorded = {
            let mut question = question(9, &callee);
            question.called[0].recorded = None;
            question
        };
        assert_eq!(ask(unrecorded, 0.5), 0.5, "nothing is on record of the callee");
        // The same buckets on another record, which was read after a change, are not the same callee.
        assert_eq!(ask(question(9, &Recorded::of(Counted::default())), 0.6), 0.6);
        assert_eq!(ask(question(9, &callee), 0.7), 0.7, "the oldest answer went");
    }

    #[test]
    fn a_record_that_is_gone_is_never_taken_for_another() {
        let recorded = Recorded::of(Counted::default());
        let ask = |question, ratio| recorded.split(question, || split(ratio)).own_failure_ratio;
        for round in 0..100 {
            let callee = Recorded::of(Counted::default());
            assert_eq!(ask(question(9, &callee), f64::from(round)), f64::from(round));
        }
    }
}
