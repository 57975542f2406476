//! Reads the catalogue again and again, and takes over what is new.

use std::collections::BTreeMap;
use std::time::Duration;

use attain_runtime::clock::Clock;
use attain_runtime::readiness::Condition;
use attain_vocabulary::TenantId;

use super::client::Trouble;
use super::pages::{Sweep, Sweeper};
use super::settings::CatalogueConfig;
use super::status::CatalogueStatus;
use super::translate::{Rules, translate};
use crate::Error;
use crate::count::{Count, observed};
use crate::storage::{CatalogueOutcome, Store};

/// First and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

pub(super) struct Follower {
    pub(super) store: Store,
    pub(super) tenant: TenantId,
    pub(super) sweeper: Sweeper,
    pub(super) rules: Rules,
    pub(super) settings: CatalogueConfig,
    pub(super) clock: Clock,
    pub(super) condition: Condition,
    pub(super) status: CatalogueStatus,
    pub(super) counts: Counts,
    /// What came of the last sweep that was looked at; `None` before the first.
    pub(super) outcome: Option<CatalogueOutcome>,
}

/// What was taken and refused since the start.
#[derive(Default)]
pub(super) struct Counts(BTreeMap<&'static str, Count>);

impl Counts {
    fn add(&mut self, what: &'static str, count: usize) {
        self.0.entry(what).or_insert_with(|| observed("catalogue", what)).add(count);
    }
}

/// Why what is kept is not what the catalogue holds.
#[derive(Debug, thiserror::Error)]
enum Unapplied {
    #[error(transparent)]
    Unread(#[from] Trouble),
    #[error(
        "{gone_count} of {known_count} entities are gone, more than the share of {share_max} that is believed; nothing was \
         applied (ingestion.catalogue.gone_share_max = 1 lets them go)"
    )]
    Shrunken { gone_count: usize, known_count: usize, share_max: f64 },
    #[error(transparent)]
    Unkept(#[from] Error),
}

impl Unapplied {
    fn code(&self) -> &'static str {
        match self {
            Self::Unread(trouble) => trouble.code(),
            Self::Shrunken { .. } => "shrunken",
            Self::Unkept(Error::TenantFull { .. }) => "tenant_full",
            Self::Unkept(_) => "storage",
        }
    }
}

impl Follower {
    pub(super) async fn run(mut self) {
        let interval = Duration::from_secs(self.settings.interval_seconds);
        let mut pause = PAUSE_MIN;
        let mut told = "";
        loop {
            let wait = match self.round().await {
                Ok(detail) => {
                    if !told.is_empty() {
                        tracing::info!(detail, "the catalogue is followed again");
                    }
                    (told, pause) = ("", PAUSE_MIN);
                    self.status.attempted(self.clock.now_ms(), "", &detail);
                    self.condition.met(detail);
                    interval
                }
                Err(unapplied) => {
                    let (code, detail) = (unapplied.code(), unapplied.to_string());
                    self.counts.add(code, 1);
                    // Once for each kind of trouble, not at each attempt.
                    if told != code {
                        tracing::warn!(code, detail, "the catalogue was not taken over; it is asked again");
                        told = code;
                    }
                    self.status.attempted(self.clock.now_ms(), code, &detail);
                    self.condition.unmet(detail);
                    let wait = wait_after(&unapplied, pause, interval);
                    pause = (pause * 2).min(PAUSE_MAX);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads the catalogue and takes it over; what came of it, for people.
    async fn round(&mut self) -> Result<String, Unapplied> {
        let sweep = self.sweeper.sweep().await?;
        self.counts.add("sweeps", 1);
        let looked_at = matches!(self.outcome, Some(CatalogueOutcome::Unchanged | CatalogueOutcome::Applied { .. }));
        if !(sweep.unchanged && looked_at) {
            self.outcome = None;
            self.outcome = Some(self.take_over(&sweep).await?);
        }
        let share_max = self.settings.gone_share_max;
        if let Some(CatalogueOutcome::Shrunken { gone_count, known_count }) = self.outcome {
            return Err(Unapplied::Shrunken { gone_count, known_count, share_max });
        }
        let entity_count: usize = sweep.pages.iter().map(|page| page.entities.len()).sum();
        Ok(format!("{entity_count} entities, read at {}", told(self.clock.now_ms())))
    }

    async fn take_over(&mut self, sweep: &Sweep) -> Result<CatalogueOutcome, Error> {
        let entities = sweep.pages.iter().flat_map(|page| &page.entities);
        let malformed = sweep.pages.iter().flat_map(|page| &page.malformed);
        let translation = translate(&self.rules, entities, malformed);
        let (snapshot, share_max) = (&translation.snapshot, self.settings.gone_share_max);
        let outcome = self.store.apply_catalogue(&self.tenant, snapshot, share_max, self.clock.now_ms()).await?;
        if let CatalogueOutcome::Applied { added_count, gone_count } = outcome {
            self.counts.add("applied", 1);
            let mut problems = Vec::new();
            for (code, count) in translation.problems.counts() {
                self.counts.add(code, count);
                problems.push(format!("{code}={count}"));
            }
            tracing::info!(
                entity.count = snapshot.entries.len(),
                service.count = snapshot.words.len(),
                dependency.count = snapshot.edges.len(),
                service.added_count = added_count,
                service.gone_count = gone_count,
                problems = problems.join(" "),
                "the catalogue was taken over"
            );
        }
        Ok(outcome)
    }
}

/// A server that says when to come back is believed; what will not mend itself soon is not asked about in haste.
fn wait_after(unapplied: &Unapplied, pause: Duration, interval: Duration) -> Duration {
    match unapplied {
        Unapplied::Unread(Trouble::Busy { retry_after: Some(wait), .. }) => (*wait).max(pause),
        Unapplied::Shrunken { .. } | Unapplied::Unkept(Error::TenantFull { .. }) => interval,
        _ => pause,
    }
}

fn told(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms).map_or_else(|_| time_ms.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_time_gets_it() {
        let (pause, interval) = (Duration::from_secs(2), Duration::from_secs(300));
        let busy = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            Unapplied::Unread(Trouble::Busy { status: 429, reason: String::new(), retry_after })
        };
        let shrunken = Unapplied::Shrunken { gone_count: 3, known_count: 4, share_max: 0.5 };
        for (unapplied, seconds) in [
            (busy(30), 30),
            (busy(1), 2),
            (Unapplied::Unread(Trouble::Unreachable(String::new())), 2),
            (shrunken, 300),
            (Unapplied::Unkept(Error::TenantFull { what: "entities", max: 5 }), 300),
        ] {
            assert_eq!(wait_after(&unapplied, pause, interval).as_secs(), seconds, "{unapplied}");
        }
    }
}
