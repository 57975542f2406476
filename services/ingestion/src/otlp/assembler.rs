//! Spans of one tenant gathered into traces, in memory, until each trace is as whole as it will get. Pure: time is an
//! argument.
//!
//! A trace is due when no span of it arrived for the idle time and none of its spans lacks a parent; when a parent is
//! missing (it may end later, or come in a later batch), after three times the idle time; at the latest at its greatest
//! age; and earlier when memory is short. One that has as many spans as are joined together is cut: they are a part that is
//! due at once, and what comes later is another one, so that however many spans of one trace a sender makes, none takes long
//! to join. Rows of the span log stay until every span of theirs is settled.
//!
//! A span that was settled already, as far as that is remembered, is dropped when it comes again. A span that is new to a
//! trace that was settled is late: it is joined with whatever else comes late, and counts once like every other span.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use attain_vocabulary::UnixMillis;

use super::hashing::{NumberMap, NumberSet};
use super::join::{Joined, Joiner, Surroundings};
use super::names::{Names, Symbol};
use super::recent::{Producers, Settled, fingerprint};
use super::sampler::Sampler;
use super::span::{Span, Spans};
use super::waiting::Waiting;
use crate::domain::SettledSpans;

/// How much longer than the idle time a trace with missing parents is waited for.
const INCOMPLETE_FACTOR: i64 = 3;
/// From how many spans on those of a trace are found by a table.
const TABLE_FROM: usize = 32;

/// When traces are settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) idle_ms: i64,
    pub(super) max_ms: i64,
    /// Most spans of one trace that are joined together.
    pub(super) spans_per_trace_max: usize,
    /// Most spans settled in one transaction, those of one trace or part more.
    pub(super) spans_per_settlement_max: usize,
    /// Most settled spans that are remembered.
    pub(super) settled_max: usize,
    /// How long settled spans are remembered at least, where their number allows.
    pub(super) settled_ms: i64,
    /// Most senders of messages that are remembered.
    pub(super) producers_max: usize,
}

/// A row of the span log as it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowState<'a> {
    pub(super) sequence: i64,
    pub(super) revision: i64,
    /// What a settlement left of it; `None` before the first.
    pub(super) remaining: Option<&'a [u8]>,
}

/// What became of the spans of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Taken {
    /// Were in memory already.
    pub(super) duplicate_count: usize,
    /// Were settled already.
    pub(super) settled_count: usize,
    /// Are new to a trace that was settled.
    pub(super) late_count: usize,
}

#[derive(Debug)]
pub(super) struct Assembler {
    patience: Patience,
    rows: BTreeMap<i64, Row>,
    traces: NumberMap<u128, Trace>,
    /// When to look at each trace, earliest first; each has exactly one entry.
    agenda: BTreeSet<(UnixMillis, u128)>,
    /// What was cut off traces that are too long; due at once, oldest first.
    parts: VecDeque<(u128, Trace)>,
    /// Fingerprints of the spans of parts.
    in_parts: NumberSet<u64>,
    /// Row and place of each span that was settled already.
    dropped: Vec<(i64, u32)>,
    /// Tells this tenant's fingerprints from others'.
    salt: u64,
    span_count: usize,
    link_count: usize,
}

/// What the assemblers of all tenants share.
#[derive(Debug)]
pub(super) struct Workbench {
    pub(super) names: Names,
    pub(super) settled: Settled,
    pub(super) producers: Producers,
    pub(super) sampler: Sampler,
    joiner: Joiner,
}

impl Workbench {
    pub(super) fn new(patience: &Patience) -> Self {
        Self {
            names: Names::default(),
            settled: Settled::new(patience.settled_max, patience.settled_ms),
            producers: Producers::new(patience.producers_max),
            sampler: Sampler::default(),
            joiner: Joiner::default(),
        }
    }
}

/// Traces that are due, and the rows that they account for.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) joined: Joined,
    pub(super) rows: Vec<SettledSpans>,
    pub(super) span_count: usize,
    /// Traces settled before their time because a bound was reached.
    pub(super) early_count: usize,
    /// Of every span and every trace.
    pub(super) fingerprints: Vec<u64>,
    /// Row and place of each span.
    places: Vec<(i64, u32)>,
    part_count: usize,
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
    /// Span id of a consumer, and the fingerprint of the span that sent what it consumed.
    links: Vec<(u64, u64)>,
    /// Span ids, where there are many.
    table: NumberSet<u64>,
    /// Spans of it were settled: each that comes is looked up.
    settled_before: bool,
    /// Row and place of each span, duplicates included.
    places: Vec<(i64, u32)>,
    first_ms: UnixMillis,
    last_ms: UnixMillis,
    agenda_ms: UnixMillis,
}

impl Assembler {
    /// `salt` is a number of the tenant's own.
    pub(super) fn new(patience: Patience, salt: u64) -> Self {
        Self {
            patience,
            rows: BTreeMap::new(),
            traces: NumberMap::default(),
            agenda: BTreeSet::new(),
            parts: VecDeque::new(),
            in_parts: NumberSet::default(),
            dropped: Vec::new(),
            salt,
            span_count: 0,
            link_count: 0,
        }
    }

    /// Takes the spans of a row that are not settled; what became of them. `None` where the row's state does not fit its
    /// spans.
    pub(super) fn accept(
        &mut self,
        row: RowState<'_>,
        spans: &Spans,
        now_ms: UnixMillis,
        bench: &mut Workbench,
    ) -> Option<Taken> {
        let waiting = match row.remaining {
            None => Waiting::all(spans.spans.len()),
            Some(bits) => Waiting::read(bits, spans.spans.len())?,
        };
        let mut taken = Taken::default();
        let mut links = spans.links.as_slice();
        for (index, span) in spans.spans.iter().enumerate() {
            let of_span = links.iter().take_while(|(place, _)| *place as usize == index).count();
            let (own_links, rest) = links.split_at(of_span);
            links = rest;
            if waiting.contains(index) {
                let taking = (&mut taken, &mut *bench);
                self.take(span, own_links, (row.sequence, index as u32), now_ms, taking);
            }
        }
        self.rows.insert(row.sequence, Row { revision: row.revision, waiting });
        Some(taken)
    }

    fn take(
        &mut self,
        span: &Span,
        links: &[(u32, u64)],
        place: (i64, u32),
        now_ms: UnixMillis,
        (taken, bench): (&mut Taken, &mut Workbench),
    ) {
        let trace_id = span.trace_id;
        let print = self.salt ^ fingerprint(trace_id, span.span_id);
        if self.in_parts.contains(&print) {
            taken.duplicate_count += 1;
            self.dropped.push(place);
            return;
        }
        let trace = self.traces.entry(trace_id).or_insert_with(|| {
            let agenda_ms = now_ms + self.patience.idle_ms;
            self.agenda.insert((agenda_ms, trace_id));
            let settled_before = bench.settled.contains(self.salt ^ fingerprint(trace_id, 0));
            Trace { settled_before, ..Trace::new(now_ms, agenda_ms) }
        });
        if trace.settled_before && bench.settled.contains(print) {
            taken.settled_count += 1;
            self.dropped.push(place);
            return;
        }
        trace.last_ms = now_ms;
        trace.places.push(place);
        if !trace.add(span) {
            taken.duplicate_count += 1;
            return;
        }
        taken.late_count += usize::from(trace.settled_before);
        trace.links.extend(links.iter().map(|(_, to)| (span.span_id, self.salt ^ *to)));
        if span.sends {
            bench.producers.insert(print, span.service);
        }
        self.span_count += 1;
        self.link_count += links.len();
        if trace.spans.len() >= self.patience.spans_per_trace_max {
            self.cut(trace_id);
        }
    }

    /// What there is of a trace is as much as is joined together.
    fn cut(&mut self, trace_id: u128) {
        if let Some(part) = self.traces.remove(&trace_id) {
            self.agenda.remove(&(part.agenda_ms, trace_id));
            self.in_parts.extend(part.fingerprints(trace_id, self.salt));
            self.parts.push_back((trace_id, part));
        }
    }

    /// Spans in memory, and what they link to.
    pub(super) fn held_count(&self) -> usize {
        self.span_count + self.link_count
    }

    /// Whether nothing waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.span_count == 0 && self.dropped.is_empty()
    }

    /// The names in use.
    pub(super) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        let all = self.traces.values().chain(self.parts.iter().map(|(_, part)| part));
        let of_spans = all.flat_map(|trace| &trace.spans);
        of_spans.flat_map(|span| [span.service, span.peer, span.operation, span.protocol])
    }

    /// What to settle next; `None` when nothing is due. With `pressed`, the traces that would be due first go now. Ends
    /// with [`Self::settled`], or nothing happened.
    pub(super) fn due(&mut self, now_ms: UnixMillis, pressed: bool, bench: &mut Workbench) -> Option<Settlement> {
        let spans_max = self.patience.spans_per_settlement_max;
        let (mut part_count, mut trace_ids, mut span_count) = (0, Vec::new(), 0);
        while let Some((_, part)) = self.parts.get(part_count).filter(|_| span_count < spans_max) {
            span_count += part.spans.len();
            part_count += 1;
        }
        let mut early_count = part_count;
        let mut later = Vec::new();
        for (agenda_ms, trace_id) in &self.agenda {
            if (*agenda_ms > now_ms && !pressed) || span_count >= spans_max {
                break;
            }
            let Some(trace) = self.traces.get(trace_id) else { continue };
            let due_ms = trace.due_ms(&self.patience);
            if due_ms > now_ms && !pressed {
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
        let nothing = part_count == 0 && trace_ids.is_empty() && self.dropped.is_empty();
        (!nothing).then(|| self.settlement((part_count, trace_ids), span_count, early_count, bench))
    }

    fn look_again(&mut self, trace_id: u128, at_ms: UnixMillis) {
        if let Some(trace) = self.traces.get_mut(&trace_id) {
            self.agenda.remove(&(trace.agenda_ms, trace_id));
            trace.agenda_ms = at_ms;
            self.agenda.insert((at_ms, trace_id));
        }
    }

    fn settlement(
        &mut self,
        (part_count, trace_ids): (usize, Vec<u128>),
        span_count: usize,
        early_count: usize,
        bench: &mut Workbench,
    ) -> Settlement {
        let fingerprints = Vec::with_capacity(span_count + part_count + trace_ids.len());
        let places = self.dropped.clone();
        let (joined, rows) = (Joined::default(), Vec::new());
        let mut settlement = Settlement {
            joined,
            rows,
            span_count,
            early_count,
            fingerprints,
            places,
            part_count,
            trace_ids: Vec::new(),
        };
        let mut in_parts = NumberSet::default();
        for (trace_id, part) in self.parts.iter_mut().take(part_count) {
            settlement.add((*trace_id, part), true, self.salt, bench);
            in_parts.insert(*trace_id);
        }
        for trace_id in &trace_ids {
            if let Some(trace) = self.traces.get_mut(trace_id) {
                let is_part = trace.settled_before || in_parts.contains(trace_id);
                settlement.add((*trace_id, trace), is_part, self.salt, bench);
            }
        }
        settlement.places.sort_unstable();
        let by_row = settlement.places.chunk_by(|a, b| a.0 == b.0);
        settlement.rows = by_row.filter_map(|of_row| self.row_without(of_row)).collect();
        Settlement { trace_ids, ..settlement }
    }

    /// What is left of a row without the spans at some places.
    fn row_without(&self, places: &[(i64, u32)]) -> Option<SettledSpans> {
        let sequence = places.first()?.0;
        let row = self.rows.get(&sequence)?;
        let mut waiting = row.waiting.clone();
        places.iter().for_each(|(_, index)| waiting.remove(*index as usize));
        Some(SettledSpans { sequence, revision: row.revision, remaining: waiting.stored() })
    }

    /// A settlement is durable: forgets what it accounts for.
    pub(super) fn settled(&mut self, settlement: &Settlement, now_ms: UnixMillis, bench: &mut Workbench) {
        self.dropped.clear();
        for (trace_id, part) in self.parts.drain(..settlement.part_count) {
            for print in part.fingerprints(trace_id, self.salt) {
                self.in_parts.remove(&print);
            }
            (self.span_count, self.link_count) =
                (self.span_count - part.spans.len(), self.link_count - part.links.len());
            // What came of it since looks up what was settled.
            self.traces.get_mut(&trace_id).into_iter().for_each(|rest| rest.settled_before = true);
        }
        for trace_id in &settlement.trace_ids {
            if let Some(trace) = self.traces.remove(trace_id) {
                self.agenda.remove(&(trace.agenda_ms, *trace_id));
                (self.span_count, self.link_count) =
                    (self.span_count - trace.spans.len(), self.link_count - trace.links.len());
            }
        }
        for settled in &settlement.rows {
            let Some(row) = self.rows.get_mut(&settled.sequence) else { continue };
            let left = settled.remaining.as_ref().and_then(|bits| Waiting::read(bits, row.waiting.length()));
            match left {
                Some(waiting) => (row.revision, row.waiting) = (row.revision + 1, waiting),
                None => drop(self.rows.remove(&settled.sequence)),
            }
        }
        settlement.fingerprints.iter().for_each(|fingerprint| bench.settled.insert(*fingerprint, now_ms));
    }
}

impl Settlement {
    /// Joins what there is of a trace, perhaps only a part of it.
    fn add(&mut self, (trace_id, trace): (u128, &mut Trace), is_part: bool, salt: u64, bench: &mut Workbench) {
        self.places.extend_from_slice(&trace.places);
        self.fingerprints.extend(trace.fingerprints(trace_id, salt));
        // After its spans, so that it is not forgotten before them.
        self.fingerprints.push(salt ^ fingerprint(trace_id, 0));
        let surroundings = Surroundings { names: &bench.names, producers: &bench.producers, is_part };
        bench.joiner.join(&mut trace.spans, &mut trace.links, surroundings, &mut self.joined);
    }
}

impl Trace {
    fn new(now_ms: UnixMillis, agenda_ms: UnixMillis) -> Self {
        Self {
            spans: Vec::new(),
            links: Vec::new(),
            table: NumberSet::default(),
            settled_before: false,
            places: Vec::new(),
            first_ms: now_ms,
            last_ms: now_ms,
            agenda_ms,
        }
    }

    fn due_ms(&self, patience: &Patience) -> UnixMillis {
        let factor = if self.is_whole() { 1 } else { INCOMPLETE_FACTOR };
        (self.last_ms + factor * patience.idle_ms).min(self.first_ms + patience.max_ms)
    }

    fn fingerprints(&self, trace_id: u128, salt: u64) -> impl Iterator<Item = u64> {
        self.spans.iter().map(move |span| salt ^ fingerprint(trace_id, span.span_id))
    }

    /// Whether every span's parent is there.
    fn is_whole(&self) -> bool {
        let lacks = |span: &Span| span.parent_id != 0 && !self.contains(span.parent_id);
        !self.spans.iter().any(lacks)
    }

    fn contains(&self, span_id: u64) -> bool {
        if self.table.is_empty() {
            self.spans.iter().any(|span| span.span_id == span_id)
        } else {
            self.table.contains(&span_id)
        }
    }

    /// Adds a span; `false` when it is there already.
    fn add(&mut self, span: &Span) -> bool {
        if self.contains(span.span_id) {
            return false;
        }
        self.spans.push(*span);
        if self.spans.len() == TABLE_FROM {
            self.table = self.spans.iter().map(|span| span.span_id).collect();
        } else if self.spans.len() > TABLE_FROM {
            self.table.insert(span.span_id);
        }
        true
    }
}
