//! How far each mapping is, and what is the matter with it.

use std::time::Duration;

use attain_vocabulary::UnixMillis;
use tokio::time::Instant;

use super::mapping::Mapping;
use super::marks::Identities;
use super::pace::{Pace, Place};

/// First and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A mapping and how far it was read.
pub(super) struct Followed {
    pub(super) mapping: Mapping,
    pub(super) key: String,
    /// Where the cursor of edges was kept by former versions.
    pub(super) former_key: Option<String>,
    /// Of a mapping of edges.
    pub(super) identities: Identities,
    /// `None` before it was looked up.
    pub(super) place: Option<Place>,
    /// Whether the next piece begins with what may have come late.
    pub(super) rereads: bool,
    pub(super) pace: Pace,
    pub(super) passed_over: Option<PassedOver>,
    /// Where the past that is being read begins; `None` while it is not.
    past_from_ms: Option<UnixMillis>,
    trouble: Option<Trouble>,
}

/// Buckets that are too large by themselves.
pub(super) struct PassedOver {
    pub(super) count: usize,
    pub(super) last_end_ms: UnixMillis,
    pub(super) reason: String,
}

struct Trouble {
    what: String,
    pause: Duration,
    until: Instant,
}

impl Followed {
    pub(super) fn new(mapping: Mapping, server: &str) -> Self {
        let own = mapping.edge_identity();
        Self {
            key: mapping.cursor_key(server),
            former_key: mapping.former_cursor_key(server),
            identities: Identities { own: own.unwrap_or_default(), all: own.into_iter().collect() },
            mapping,
            place: None,
            rereads: false,
            pace: Pace::default(),
            passed_over: None,
            past_from_ms: None,
            trouble: None,
        }
    }

    /// How far it is behind; nothing where it is not known yet, so that it is looked up first.
    pub(super) fn behind_ms(&self, newest_ms: UnixMillis) -> i64 {
        self.place.map_or(0, |place| newest_ms - place.end_ms)
    }

    /// Whether there is something to read.
    pub(super) fn is_behind(&self, newest_ms: UnixMillis) -> bool {
        self.place.is_none_or(|place| place.end_ms < newest_ms)
    }

    /// How long it is left alone after a failure.
    pub(super) fn pauses(&self) -> Duration {
        self.trouble.as_ref().map_or(Duration::ZERO, |trouble| trouble.until.saturating_duration_since(Instant::now()))
    }

    /// Takes note of a failure; whether it is the first in a row.
    pub(super) fn failed(&mut self, what: String) -> bool {
        let former = self.trouble.take().map(|trouble| trouble.pause);
        let pause = former.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX));
        self.trouble = Some(Trouble { what, pause, until: Instant::now() + pause });
        former.is_none()
    }

    /// Takes note of a piece that was read; a past that takes several is told of.
    pub(super) fn went_on(&mut self, from_ms: UnixMillis, newest_ms: UnixMillis) {
        self.trouble = None;
        if self.is_behind(newest_ms) {
            self.past_from_ms.get_or_insert(from_ms);
        } else {
            self.past_from_ms = None;
            self.rereads = true;
        }
    }

    /// What keeps it from being read to now, in words.
    pub(super) fn hindrance(&self, newest_ms: UnixMillis) -> Option<String> {
        let name = &self.mapping.name;
        if let Some(trouble) = &self.trouble {
            return Some(format!("{name}: {}", trouble.what));
        }
        let (from_ms, place) = (self.past_from_ms?, self.place?);
        let done = 100 * (place.end_ms - from_ms) / (newest_ms - from_ms).max(1);
        Some(format!("{name}: read to {} ({done} %)", told(place.end_ms)))
    }

    /// What could not be read at all, in words.
    pub(super) fn lack(&self) -> Option<String> {
        let PassedOver { count, last_end_ms, reason } = self.passed_over.as_ref()?;
        let name = &self.mapping.name;
        Some(format!("{name}: {count} buckets were passed over, the last to {}: {reason}", told(*last_end_ms)))
    }
}

pub(super) fn told(time_ms: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(time_ms).map_or_else(|_| time_ms.to_string(), |time| time.to_string())
}
