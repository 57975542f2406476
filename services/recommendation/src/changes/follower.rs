//! Follows ingestion's stream of changes for as long as the process lives: opened again, after the last change that was seen,
//! whenever it ends; from the beginning where the change log is another one than before.
//!
//! The stream says nothing while nothing changes, so ingestion is asked every turn how far its log goes. Once the mirror has
//! come that far it is known to hold everything that was acknowledged before the question.

use std::sync::Arc;
use std::time::{Duration, Instant};

use attain_proto::ingestion::v1::{ChangeKind, StreamChangesResponse};
use attain_runtime::Shutdown;
use attain_runtime::count::Count;
use attain_runtime::readiness::Condition;
use attain_vocabulary::{EntityId, TenantId};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::{Code, Status, Streaming};

use super::Changes;
use crate::domain::mirror::{Change, Part, Taken};
use crate::members::{Ingestion, LogEnd, Refusal};

/// Between attempts to open the stream, doubled after each.
const REOPEN_DELAY: Duration = Duration::from_millis(50);
const REOPEN_DELAY_MAX: Duration = Duration::from_secs(2);
/// Longest that opening the stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

type Answer = (Instant, Result<LogEnd, Refusal>);

/// Keeps the mirror until it is told to stop.
pub(crate) struct Follower {
    changes: Arc<Changes>,
    ingestion: Ingestion,
    condition: Condition,
    turn: Duration,
    counts: Counts,
    reopen_delay: Duration,
    /// The epoch that came with the last change: by it ingestion notices that its database was put back.
    epoch: String,
    /// How far the log went when ingestion was asked, and when that was; until the mirror has come so far.
    awaited: Option<(Instant, u64)>,
    /// Whether the present stream was ever confirmed.
    current: bool,
}

struct Counts {
    /// Streams that began with the first change …
    begun: Count,
    /// … and after the last one that was seen.
    resumed: Count,
    lost: Count,
    /// Logs that turned out to be another one than before.
    restarted: Count,
    /// Tenants that the mirror has no room for.
    left_out: Count,
}

impl Counts {
    fn new() -> Self {
        let of = |what| {
            let description = "What happened to the stream of changes that is followed";
            Count::new("attain.recommendation.changes", description, what)
        };
        Self {
            begun: of("stream.begun"),
            resumed: of("stream.resumed"),
            lost: of("stream.lost"),
            restarted: of("stream.restarted"),
            left_out: of("mirror.tenants_left_out"),
        }
    }
}

impl Follower {
    /// `turn` is the time between two questions how far the log goes.
    pub(crate) fn new(changes: Arc<Changes>, ingestion: Ingestion, condition: Condition, turn: Duration) -> Self {
        let (counts, reopen_delay) = (Counts::new(), Duration::ZERO);
        Self {
            changes,
            ingestion,
            condition,
            turn,
            counts,
            reopen_delay,
            epoch: String::new(),
            awaited: None,
            current: false,
        }
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let following = async {
            loop {
                let stream = self.open().await;
                let end = self.follow(stream).await;
                self.lost(&end);
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = following => {}
        }
    }

    /// Opens the stream, however long it takes.
    async fn open(&mut self) -> Streaming<StreamChangesResponse> {
        loop {
            sleep(self.reopen_delay).await;
            self.reopen_delay = longer(self.reopen_delay);
            let after = self.changes.newest();
            let opening = timeout(OPEN_TIMEOUT, self.attempt(after)).await;
            match opening.unwrap_or_else(|_| Err(Status::deadline_exceeded("the stream did not open in time"))) {
                Ok(stream) => {
                    if after == 0 {
                        self.counts.begun.add(1)
                    } else {
                        self.counts.resumed.add(1)
                    }
                    return stream;
                }
                Err(status) => self.refused(&status),
            }
        }
    }

    /// One that goes on where another ended must be of the same log: a change of another would pass for the next one.
    async fn attempt(&self, after: u64) -> Result<Streaming<StreamChangesResponse>, Status> {
        let stream = self.ingestion.changes(after, self.epoch.clone()).await?;
        if after > 0 {
            match self.ask().await {
                (_, Ok(LogEnd::At(_))) => {}
                (_, Ok(LogEnd::OfAnother)) => return Err(Status::out_of_range("the log is another one than before")),
                (_, Err(refusal)) => return Err(Status::unavailable(refusal.detail())),
            }
        }
        Ok(stream)
    }

    fn refused(&mut self, status: &Status) {
        self.condition.unmet(format!("ingestion does not stream its changes: {}", status.message()));
        if status.code() == Code::OutOfRange {
            // Another database than before: its log is read from its beginning.
            self.epoch.clear();
            self.changes.forget();
            self.counts.restarted.add(1);
        }
    }

    /// Follows one stream to its end, and says why it ended.
    async fn follow(&mut self, mut stream: Streaming<StreamChangesResponse>) -> Status {
        let mut turns = interval(self.turn);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut question: Option<BoxFuture<'static, Answer>> = None;
        loop {
            let told = tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(change)) => self.take(change),
                    Ok(None) => Err(Status::unavailable("ingestion ended it")),
                    Err(status) => Err(status),
                },
                _ = turns.tick(), if question.is_none() => {
                    question = Some(self.ask());
                    Ok(())
                }
                answer = answered(&mut question) => {
                    question = None;
                    self.heard(answer)
                }
            };
            if let Err(end) = told {
                return end;
            }
            self.settle();
        }
    }

    fn take(&mut self, change: StreamChangesResponse) -> Result<(), Status> {
        self.epoch.clone_from(&change.epoch);
        let sequence = change.sequence;
        match self.changes.take(sequence, read(change)) {
            Taken::Held | Taken::LeftOut => Ok(()),
            Taken::GivenUp => {
                self.counts.left_out.add(1);
                tracing::warn!(
                    sequence,
                    "recommendation.mirrored_services_max is reached: ingestion is asked about a tenant's changes at each read"
                );
                Ok(())
            }
            Taken::OutOfOrder => Err(Status::out_of_range("changes came out of order: another log than before")),
        }
    }

    fn ask(&self) -> BoxFuture<'static, Answer> {
        let (ingestion, asked) = (self.ingestion.clone(), Instant::now());
        let witness = self.changes.witness();
        let known = self.changes.newest();
        async move { (asked, ingestion.log_end(known, witness.as_ref()).await) }.boxed()
    }

    fn heard(&mut self, (asked, answer): Answer) -> Result<(), Status> {
        match answer {
            Ok(LogEnd::At(newest)) => {
                self.awaited.get_or_insert((asked, newest));
                Ok(())
            }
            Ok(LogEnd::OfAnother) => Err(Status::out_of_range("the log is another one than before")),
            Err(refusal) => {
                // What is known grows old, and then ingestion is asked at each read.
                tracing::debug!(reason = refusal.detail(), "ingestion did not say how far its log of changes goes");
                Ok(())
            }
        }
    }

    fn settle(&mut self) {
        let Some((asked, _)) = self.awaited.take_if(|(_, newest)| *newest <= self.changes.newest()) else { return };
        self.changes.confirm(asked);
        if !self.current {
            self.current = true;
            self.reopen_delay = Duration::ZERO;
            self.condition.met("follows ingestion's changes");
        }
    }

    fn lost(&mut self, end: &Status) {
        self.changes.lose();
        (self.awaited, self.current) = (None, false);
        self.counts.lost.add(1);
        self.refused(end);
        tracing::warn!(reason = %end, "the stream of changes ended; it is opened again");
    }
}

fn longer(delay: Duration) -> Duration {
    (delay * 2).clamp(REOPEN_DELAY, REOPEN_DELAY_MAX)
}

/// The answer to the question, where one was asked.
async fn answered(question: &mut Option<BoxFuture<'static, Answer>>) -> Answer {
    match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    }
}

/// The change, where recommendations rest on its kind. A kind that this version does not know is one that they do not.
fn read(change: StreamChangesResponse) -> Option<Change> {
    let part = match change.kind() {
        ChangeKind::Topology => Part::Topology,
        // Both are measurements that an estimate rests on, and ingestion counts them as one.
        ChangeKind::Sli | ChangeKind::Utilisation => Part::Sli,
        ChangeKind::Incident => Part::Incident,
        ChangeKind::Unspecified => return None,
    };
    let names = TenantId::new("tenant_id", &change.tenant_id)
        .and_then(|tenant| Ok((tenant, EntityId::new("service_id", &change.service_id)?)));
    match names {
        Ok((tenant, service)) => Some(Change { tenant, service, part }),
        Err(invalid) => {
            tracing::warn!(sequence = change.sequence, reason = %invalid, "a change names nothing that can be right");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_up_to_a_bound() {
        let delays: Vec<u128> = std::iter::successors(Some(Duration::ZERO), |delay| Some(longer(*delay)))
            .take(8)
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [0, 50, 100, 200, 400, 800, 1_600, 2_000]);
    }

    #[test]
    fn only_what_recommendations_rest_on_is_read() {
        let change = |kind: i32, tenant: &str| StreamChangesResponse {
            sequence: 1,
            tenant_id: tenant.into(),
            kind,
            service_id: "a".into(),
            ..StreamChangesResponse::default()
        };
        let part = |kind: i32| read(change(kind, "default")).map(|change| change.part);
        assert_eq!((part(1), part(2), part(3)), (Some(Part::Topology), Some(Part::Sli), Some(Part::Incident)));
        // Utilisation: ages are among it.
        assert_eq!((part(4), part(0), part(99)), (Some(Part::Sli), None, None));
        assert_eq!(read(change(1, "Not A Tenant")), None);
    }
}
