//! Spans of one tenant gathered into traces, in memory, until each trace is as whole as it will get. Pure: time is an
//! argument.
//!
//! A trace is due when no span of it arrived for the idle time and none of its spans lacks a parent; when a parent is
//! missing (it may end later, or come in a later batch), after three times the idle time; at the latest at its greatest
//! age; and at once when it has as many spans as are kept, or when memory is short. Rows of the span log stay until every
//! span of theirs is settled.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use attain_vocabulary::UnixMillis;

use super::join::{Joined, join};
use super::span::{Span, Waiting};
use crate::domain::SettledSpans;

/// How much longer than the idle time a trace with missing parents is waited for.
const INCOMPLETE_FACTOR: i64 = 3;

/// When traces are settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) idle_ms: i64,
    pub(super) max_ms: i64,
    /// Most spans of one trace.
    pub(super) spans_per_trace_max: usize,
    /// Most spans settled in one transaction, those of one trace more.
    pub(super) spans_per_settlement_max: usize,
}

/// A row of the span log as it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowState<'a> {
    pub(super) sequence: i64,
    pub(super) revision: i64,
    /// What a settlement left of it; `None` before the first.
    pub(super) remaining: Option<&'a [u8]>,
}

#[derive(Debug)]
pub(super) struct Assembler {
    patience: Patience,
    rows: BTreeMap<i64, Row>,
    traces: HashMap<u128, Trace>,
    /// When to look at each trace, earliest first; each has exactly one entry.
    agenda: BTreeSet<(UnixMillis, u128)>,
    span_count: usize,
}

/// Traces that are due, and the rows that they account for.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) traces: Vec<Joined>,
    pub(super) rows: Vec<SettledSpans>,
    pub(super) span_count: usize,
    /// Traces settled before their time because a bound was reached.
    pub(super) early_count: usize,
    trace_ids: Vec<u128>,
}

#[derive(Debug)]
struct Row {
    revision: i64,
    waiting: Waiting,
}

#[derive(Debug)]
struct Trace {
    spans: Vec<Span>,
    /// Row and place of each span, duplicates included.
    places: Vec<(i64, usize)>,
    first_ms: UnixMillis,
    last_ms: UnixMillis,
    agenda_ms: UnixMillis,
}

impl Assembler {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, rows: BTreeMap::new(), traces: HashMap::new(), agenda: BTreeSet::new(), span_count: 0 }
    }

    /// Takes the spans of a row that are not settled; how many of them were there already. `None` where the row's state
    /// does not fit its spans.
    pub(super) fn accept(&mut self, row: RowState<'_>, spans: Vec<Span>, now_ms: UnixMillis) -> Option<usize> {
        let waiting = match row.remaining {
            None => Waiting::all(spans.len()),
            Some(bits) => Waiting::read(bits, spans.len())?,
        };
        let mut duplicate_count = 0;
        for (index, span) in spans.into_iter().enumerate().filter(|(index, _)| waiting.contains(*index)) {
            duplicate_count += usize::from(!self.take(span, (row.sequence, index), now_ms));
        }
        self.rows.insert(row.sequence, Row { revision: row.revision, waiting });
        Some(duplicate_count)
    }

    /// Adds a span to its trace; `false` when it was there already.
    fn take(&mut self, span: Span, place: (i64, usize), now_ms: UnixMillis) -> bool {
        let trace_id = span.trace_id;
        let trace = self.traces.entry(trace_id).or_insert_with(|| {
            let agenda_ms = now_ms + self.patience.idle_ms;
            self.agenda.insert((agenda_ms, trace_id));
            Trace { spans: Vec::new(), places: Vec::new(), first_ms: now_ms, last_ms: now_ms, agenda_ms }
        });
        trace.last_ms = now_ms;
        trace.places.push(place);
        if trace.spans.iter().any(|known| known.span_id == span.span_id) {
            return false;
        }
        trace.spans.push(span);
        self.span_count += 1;
        if trace.spans.len() == self.patience.spans_per_trace_max {
            self.agenda.remove(&(trace.agenda_ms, trace_id));
            trace.agenda_ms = now_ms;
            self.agenda.insert((now_ms, trace_id));
        }
        true
    }

    /// Spans in memory.
    pub(super) fn span_count(&self) -> usize {
        self.span_count
    }

    /// What to settle next; `None` when nothing is due. With `pressed`, the traces that would be due first go now. Ends
    /// with [`Self::settled`], or nothing happened.
    pub(super) fn due(&mut self, now_ms: UnixMillis, pressed: bool) -> Option<Settlement> {
        let (mut trace_ids, mut span_count, mut early_count) = (Vec::new(), 0, 0);
        let mut later = Vec::new();
        for (agenda_ms, trace_id) in &self.agenda {
            if (*agenda_ms > now_ms && !pressed) || span_count >= self.patience.spans_per_settlement_max {
                break;
            }
            let Some(trace) = self.traces.get(trace_id) else { continue };
            let due_ms = trace.due_ms(&self.patience);
            let full = trace.spans.len() >= self.patience.spans_per_trace_max;
            if due_ms > now_ms && !pressed && !full {
                later.push((*trace_id, due_ms));
                continue;
            }
            span_count += trace.spans.len();
            early_count += usize::from(due_ms > now_ms);
            trace_ids.push(*trace_id);
        }
        for (trace_id, due_ms) in later {
            self.look_again(trace_id, due_ms);
        }
        (!trace_ids.is_empty()).then(|| self.settlement(trace_ids, span_count, early_count))
    }

    fn look_again(&mut self, trace_id: u128, at_ms: UnixMillis) {
        if let Some(trace) = self.traces.get_mut(&trace_id) {
            self.agenda.remove(&(trace.agenda_ms, trace_id));
            trace.agenda_ms = at_ms;
            self.agenda.insert((at_ms, trace_id));
        }
    }

    fn settlement(&self, trace_ids: Vec<u128>, span_count: usize, early_count: usize) -> Settlement {
        let mut touched: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut traces = Vec::with_capacity(trace_ids.len());
        for trace in trace_ids.iter().filter_map(|trace_id| self.traces.get(trace_id)) {
            trace.places.iter().for_each(|(row, index)| touched.entry(*row).or_default().push(*index));
            traces.push(join(trace.spans.clone()));
        }
        let rows = touched.into_iter().filter_map(|(sequence, indexes)| {
            let row = self.rows.get(&sequence)?;
            let mut waiting = row.waiting.clone();
            indexes.into_iter().for_each(|index| waiting.remove(index));
            Some(SettledSpans { sequence, revision: row.revision, remaining: waiting.stored() })
        });
        Settlement { traces, rows: rows.collect(), span_count, early_count, trace_ids }
    }

    /// A settlement is durable: forgets what it accounts for.
    pub(super) fn settled(&mut self, settlement: &Settlement) {
        for trace_id in &settlement.trace_ids {
            if let Some(trace) = self.traces.remove(trace_id) {
                self.agenda.remove(&(trace.agenda_ms, *trace_id));
                self.span_count -= trace.spans.len();
                for (sequence, index) in trace.places {
                    if let Some(row) = self.rows.get_mut(&sequence) {
                        row.waiting.remove(index);
                    }
                }
            }
        }
        for settled in &settlement.rows {
            match self.rows.get_mut(&settled.sequence) {
                Some(row) if settled.remaining.is_some() => row.revision += 1,
                _ => drop(self.rows.remove(&settled.sequence)),
            }
        }
    }
}

impl Trace {
    fn due_ms(&self, patience: &Patience) -> UnixMillis {
        let factor = if self.is_whole() { 1 } else { INCOMPLETE_FACTOR };
        (self.last_ms + factor * patience.idle_ms).min(self.first_ms + patience.max_ms)
    }

    /// Whether every span's parent is there.
    fn is_whole(&self) -> bool {
        let ids: HashSet<u64> = self.spans.iter().map(|span| span.span_id).collect();
        self.spans.iter().all(|span| span.parent_id == 0 || ids.contains(&span.parent_id))
    }
}
