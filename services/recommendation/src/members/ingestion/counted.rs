//! Histories without latencies, in few bytes each: whole, or what may differ from what was read before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_proto::ingestion::v1 as wire;
use attain_proto::{columns, convert};
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, TimeRange, UnixMillis};

use super::{Ingestion, malformed, sources};
use crate::domain::counted::Taking;
use crate::domain::origin::Origin;
use crate::domain::recorded::Recorded;
use crate::members::Refusal;

/// What was read of a service before.
#[derive(Debug, Clone)]
pub(crate) struct HeldHistory {
    pub(crate) recorded: Arc<Recorded>,
    /// Where the span ends that was read.
    pub(crate) end_ms: UnixMillis,
    /// Number of the newest change that was known before.
    pub(crate) sequence: u64,
}

/// A history on its way.
#[derive(Debug, Default)]
struct Reading {
    taking: Taking,
    origin: Origin,
    /// What is held cannot be gone on with where it has to be: the whole has to be asked for.
    torn: bool,
}

impl Ingestion {
    /// Reads the histories of services without latencies; one without measurements is empty. Of those held, each from the start of the
    /// span on or earlier, what stands is not read again.
    pub(crate) async fn recorded(
        &self,
        context: &CallContext,
        ids: &[EntityId],
        range: TimeRange,
        held: &BTreeMap<EntityId, HeldHistory>,
    ) -> Result<BTreeMap<EntityId, Arc<Recorded>>, Refusal> {
        let (mut records, torn) = self.recorded_once(context, ids, range, held).await?;
        if !torn.is_empty() {
            records.extend(self.recorded_once(context, &torn, range, &BTreeMap::new()).await?.0);
        }
        Ok(records)
    }

    /// The histories, and those among the services whose whole has to be asked for.
    async fn recorded_once(
        &self,
        context: &CallContext,
        ids: &[EntityId],
        range: TimeRange,
        held: &BTreeMap<EntityId, HeldHistory>,
    ) -> Result<(BTreeMap<EntityId, Arc<Recorded>>, Vec<EntityId>), Refusal> {
        let mut reading: BTreeMap<EntityId, Reading> = ids.iter().map(|id| (id.clone(), Reading::default())).collect();
        // Of one part at a time, so that they stay near.
        let mut buckets = Vec::new();
        if !ids.is_empty() {
            let asked = held.iter().map(|(id, held)| wire::HeldHistory {
                service_id: id.to_string(),
                sequence: held.sequence,
                end_time: Some(convert::timestamp(held.end_ms)),
            });
            let mut stream = self.history_parts(context, ids, range, true, asked.collect()).await?;
            while let Some(part) = stream.message().await.map_err(|status| Refusal::from_status(&status))? {
                let id = EntityId::new("service_id", &part.service_id).ok();
                let known = id.as_ref().and_then(|id| Some((held.get(id), reading.get_mut(id)?)));
                let Some((held, reading)) = known else { continue };
                if let Some(until) = &part.held_until_time {
                    reading.go_on(held, range.start_ms(), convert::unix_millis(until), &part)?;
                    continue;
                }
                columns::append(&part, &mut buckets).map_err(|invalid| malformed(&part, &invalid))?;
                reading.take(&mut buckets, &part);
            }
        }
        let torn = reading.iter().filter(|(_, reading)| reading.torn).map(|(id, _)| id.clone()).collect();
        let whole = reading.into_iter().filter(|(_, reading)| !reading.torn);
        Ok((whole.map(|(id, reading)| (id, reading.done())).collect(), torn))
    }
}

impl Reading {
    fn go_on(
        &mut self,
        held: Option<&HeldHistory>,
        start_ms: UnixMillis,
        until_ms: UnixMillis,
        part: &wire::StreamSliHistoryResponse,
    ) -> Result<(), Refusal> {
        let begun = self.taking.taken() != Some(0);
        let Some(held) = held.filter(|held| !begun && until_ms <= held.end_ms) else {
            let reason = "the answer goes on with what is not held";
            return Err(Refusal::Refused(format!("the history of {}: {reason}", part.service_id)));
        };
        match held.recorded.resumed(start_ms, until_ms) {
            Some((taking, origin)) => (self.taking, self.origin) = (taking, origin),
            None => self.torn = true,
        }
        Ok(())
    }

    fn take(&mut self, buckets: &mut Vec<attain_vocabulary::SliBucket>, part: &wire::StreamSliHistoryResponse) {
        let many = buckets.len();
        buckets.drain(..).for_each(|bucket| self.taking.take(&bucket));
        // Ingestion that does not say has perhaps left latencies out.
        self.origin.add(many, sources(part).collect::<BTreeSet<_>>(), part.tells_latency.unwrap_or(true));
    }

    fn done(self) -> Arc<Recorded> {
        let in_order = self.taking.taken().is_some();
        let counted = self.taking.done();
        // Put in order, nobody knows any more which came from where.
        let together = || Origin::of(counted.len(), self.origin.sources(), self.origin.may_have_latency());
        let origin = if in_order { self.origin.clone() } else { together() };
        Recorded::read(counted, origin)
    }
}
