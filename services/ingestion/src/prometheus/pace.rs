//! How much time is asked for at once, and where to go on. Pure.

use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};

/// Most buckets of a service asked for at a time: a day.
const POINTS_MAX: i64 = DAY_MS / BUCKET_MS;
/// After so many answers twice as much is asked for again: one query in nine may then be in vain.
const ANSWERS_TO_GROW: u32 = 8;
/// How often one bucket may be too large before it is passed over.
const TRIES_MAX: u32 = 3;

/// How far a mapping was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// End of the newest bucket that was read.
    pub(super) end_ms: UnixMillis,
    /// Whether that is stored; not before the first piece.
    pub(super) is_stored: bool,
    /// End of the bucket that was read last: before the newest while samples that came late are read again.
    pub(super) read_ms: UnixMillis,
}

/// A piece of time to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// End of its first bucket.
    pub(super) first_end_ms: UnixMillis,
    /// End of its last bucket.
    pub(super) last_end_ms: UnixMillis,
}

/// How many buckets of a service to ask for at a time: half after a question that was too much, twice after some answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    points: i64,
    answers: u32,
    tries: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { points: POINTS_MAX, answers: 0, tries: 0 }
    }
}

impl Pace {
    pub(super) fn answered(&mut self) {
        self.tries = 0;
        self.answers += 1;
        if self.answers >= ANSWERS_TO_GROW {
            *self = Self { points: (self.points * 2).min(POINTS_MAX), answers: 0, tries: 0 };
        }
    }

    /// Asks for half of a piece next; false where it is one bucket.
    pub(super) fn halve(&mut self, piece: Piece) -> bool {
        self.answers = 0;
        self.points = (piece.buckets() / 2).max(1);
        piece.buckets() > 1
    }

    /// Whether a bucket by itself was too large often enough to be passed over; those after it are at once, until one is
    /// answered.
    pub(super) fn gives_up(&mut self) -> bool {
        self.tries = self.tries.saturating_add(1);
        self.tries >= TRIES_MAX
    }

    /// What comes next after `read_ms`.
    pub(super) fn next_piece(self, read_ms: UnixMillis, newest_ms: UnixMillis) -> Piece {
        let last_end_ms = newest_ms.min(read_ms + self.points * BUCKET_MS);
        Piece { first_end_ms: read_ms + BUCKET_MS, last_end_ms }
    }
}

impl Piece {
    fn buckets(self) -> i64 {
        (self.last_end_ms - self.first_end_ms) / BUCKET_MS + 1
    }
}

impl Place {
    /// After a piece was read and stored.
    pub(super) fn after(self, piece: Piece) -> Self {
        Self { end_ms: self.end_ms.max(piece.last_end_ms), is_stored: true, read_ms: piece.last_end_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: UnixMillis = 1_793_000_100_000;

    #[test]
    fn what_was_halved_grows_back() {
        let mut pace = Pace::default();
        let piece = |pace: Pace| pace.next_piece(START, START + DAY_MS);
        for buckets in [288, 144, 72, 36, 18, 9, 4, 2, 1] {
            assert_eq!(piece(pace).buckets(), buckets);
            assert_eq!(pace.halve(piece(pace)), buckets > 1);
        }
        for _ in 0..9 * ANSWERS_TO_GROW {
            pace.answered();
        }
        assert_eq!(pace, Pace::default());
        // A short piece is halved itself, not what could have been asked for.
        assert!(pace.halve(pace.next_piece(START, START + 4 * BUCKET_MS)));
        assert_eq!(piece(pace).buckets(), 2);
    }

    #[test]
    fn one_bucket_is_tried_some_times_and_those_after_it_once() {
        let mut pace = Pace::default();
        assert_eq!([pace.gives_up(), pace.gives_up(), pace.gives_up(), pace.gives_up()], [false, false, true, true]);
        pace.answered();
        assert!(!pace.gives_up());
    }

    proptest! {
        #[test]
        fn pieces_cover_every_bucket_up_to_now(buckets in 1i64..2_000, reread in 0i64..10, halvings in 0u32..9) {
            let newest_ms = START + buckets * BUCKET_MS;
            let mut pace = Pace::default();
            for _ in 0..halvings {
                pace.halve(pace.next_piece(START, START + DAY_MS));
            }
            let mut place = Place { end_ms: START, is_stored: true, read_ms: START - reread * BUCKET_MS };
            let mut next_ms = place.read_ms + BUCKET_MS;
            while place.end_ms < newest_ms {
                let piece = pace.next_piece(place.read_ms, newest_ms);
                prop_assert_eq!(piece.first_end_ms, next_ms, "nothing is skipped and nothing comes twice");
                prop_assert!((1..=POINTS_MAX).contains(&piece.buckets()) && piece.last_end_ms <= newest_ms);
                let before = place;
                place = place.after(piece);
                prop_assert!(place.end_ms >= before.end_ms, "what is stored never goes back");
                next_ms = piece.last_end_ms + BUCKET_MS;
                pace.answered();
            }
            prop_assert_eq!(place.read_ms, newest_ms);
        }
    }
}
