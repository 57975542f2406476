//! The tree that the spans of one trace make, as lists of places: who is above whom, and to which request each belongs.

use super::effort;
use super::span::Span;

/// Place of a span in its trace.
pub(super) type Place = usize;

const NONE: u32 = u32::MAX;
/// Most call spans that wrap one another; nobody wraps more deeply.
const WRAPPERS_MAX: usize = 8;

/// Kept from one trace to the next, so that its lists are allocated once.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Parents within the trace; never the span itself.
    parents: Vec<u32>,
    /// The first child of each span, and after each child the next.
    first_children: Vec<u32>,
    next_siblings: Vec<u32>,
    /// The counted request that each span belongs to.
    owners: Vec<u32>,
    seen: Vec<bool>,
    /// Whether there is a call span below in the same service.
    calls_below: Vec<bool>,
    /// Whether there is a request directly below.
    answered: Vec<bool>,
    way: Vec<usize>,
}

impl Tree {
    /// Reads the spans of a trace, in the order of their ids.
    pub(super) fn plant(&mut self, spans: &[Span]) {
        let length = spans.len();
        for list in [&mut self.parents, &mut self.first_children, &mut self.next_siblings, &mut self.owners] {
            list.clear();
            list.resize(length, NONE);
        }
        for list in [&mut self.seen, &mut self.calls_below, &mut self.answered] {
            list.clear();
            list.resize(length, false);
        }
        for place in (0..length).rev() {
            let parent_id = spans[place].parent_id;
            let found = if parent_id == 0 { None } else { find(spans, parent_id) };
            if let Some(parent) = found.filter(|parent| *parent != place) {
                self.parents[place] = parent as u32;
                self.next_siblings[place] = self.first_children[parent];
                self.first_children[parent] = place as u32;
                self.answered[parent] |= spans[place].kind.is_request();
            }
        }
        self.find_owners(spans);
        self.find_calls_below(spans);
    }

    pub(super) fn parent(&self, place: Place) -> Option<Place> {
        some(self.parents[place])
    }

    /// The counted request that a span belongs to.
    pub(super) fn owner(&self, place: Place) -> Option<Place> {
        some(self.owners[place])
    }

    pub(super) fn calls_below(&self, place: Place) -> bool {
        self.calls_below[place]
    }

    /// The parent, where it belongs to the same service.
    fn parent_within(&self, spans: &[Span], place: Place) -> Option<Place> {
        self.parent(place).filter(|parent| spans[*parent].service == spans[place].service)
    }

    pub(super) fn counts_as_request(&self, spans: &[Span], place: Place) -> bool {
        let kind = spans[place].kind;
        kind.is_request() && self.parent_within(spans, place).is_none_or(|parent| spans[parent].kind != kind)
    }

    /// A request and its layers directly below.
    pub(super) fn layers<'a>(&'a self, spans: &'a [Span], place: Place) -> impl Iterator<Item = Place> + 'a {
        let alike = move |child: &Place| {
            (spans[*child].kind, spans[*child].service) == (spans[place].kind, spans[place].service)
        };
        std::iter::once(place).chain(self.children(place).filter(alike))
    }

    fn children(&self, place: Place) -> impl Iterator<Item = Place> {
        let children =
            std::iter::successors(some(self.first_children[place]), |child| some(self.next_siblings[*child]));
        children.inspect(|_| effort::step())
    }

    /// Walks up from every span once; what was found for a span holds for all on the way to it.
    fn find_owners(&mut self, spans: &[Span]) {
        let mut way = std::mem::take(&mut self.way);
        for start in 0..spans.len() {
            let mut at = start;
            let owner = loop {
                if self.seen[at] {
                    break self.owners[at];
                }
                // Marks the span as seen, so that parents in a circle end the walk.
                self.seen[at] = true;
                if self.counts_as_request(spans, at) {
                    self.owners[at] = at as u32;
                    break at as u32;
                }
                way.push(at);
                match self.parent_within(spans, at) {
                    Some(parent) => at = parent,
                    None => break NONE,
                }
            };
            way.drain(..).for_each(|place| self.owners[place] = owner);
        }
        self.way = way;
    }

    /// Each span is marked once, so walks are short and circles end.
    fn find_calls_below(&mut self, spans: &[Span]) {
        for start in (0..spans.len()).filter(|place| spans[*place].kind.is_call()) {
            let mut at = start;
            while let Some(parent) = self.parent_within(spans, at).filter(|parent| !spans[*parent].kind.is_request()) {
                if std::mem::replace(&mut self.calls_below[parent], true) {
                    break;
                }
                at = parent;
            }
        }
    }

    /// Call spans of the same service directly above, from below to above.
    pub(super) fn wrappers<'a>(&'a self, spans: &'a [Span], place: Place) -> impl Iterator<Item = Place> + 'a {
        let above = move |at: &Place| self.parent_within(spans, *at).filter(|parent| spans[*parent].kind.is_call());
        std::iter::successors(above(&place), above).take(WRAPPERS_MAX)
    }

    /// Requests directly below.
    pub(super) fn answers<'a>(&'a self, spans: &'a [Span], place: Place) -> impl Iterator<Item = Place> + 'a {
        self.children(place).filter(|child| spans[*child].kind.is_request())
    }

    pub(super) fn is_answered(&self, place: Place) -> bool {
        self.answered[place]
    }
}

fn find(spans: &[Span], span_id: u64) -> Option<Place> {
    spans.binary_search_by_key(&span_id, |span| span.span_id).ok()
}

fn some(place: u32) -> Option<Place> {
    (place != NONE).then_some(place as usize)
}
