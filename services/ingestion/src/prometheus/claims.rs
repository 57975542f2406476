//! Which mapping measures what, to find what two measure: of two the one that is read later stands. Pure.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, UnixMillis, UtilisationKind};

use crate::domain::ObservationBatch;

/// Most overlaps that are told by name.
const TOLD_MAX: usize = 3;

/// What is measured of a service; `None` for requests.
type Measured = (EntityId, Option<UtilisationKind>);

/// What was measured, and when.
pub(super) type Spans = BTreeMap<Measured, Span>;

/// The time that a mapping measured something in, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    first_ms: UnixMillis,
    last_ms: UnixMillis,
}

/// What each mapping measured since the start, and what two did at the same time.
#[derive(Debug, Default)]
pub(super) struct Claims {
    measured: BTreeMap<Measured, BTreeMap<usize, Span>>,
    overlaps: BTreeMap<Measured, (usize, usize)>,
}

/// What a batch measures.
pub(super) fn spans(batch: &ObservationBatch) -> Spans {
    let requests = batch.buckets.iter().map(|of| ((&of.service, None), of.bucket.start_ms));
    let used = batch.utilisation.iter().map(|of| ((&of.service, Some(of.bucket.kind())), of.bucket.start_ms()));
    let mut spans: BTreeMap<(&EntityId, Option<UtilisationKind>), Span> = BTreeMap::new();
    for (measured, at_ms) in requests.chain(used) {
        let at = Span { first_ms: at_ms, last_ms: at_ms };
        let span = spans.entry(measured).or_insert(at);
        *span = span.and(at);
    }
    spans.into_iter().map(|((service, kind), span)| ((service.clone(), kind), span)).collect()
}

impl Claims {
    /// Takes note of what a mapping measured; how much of it is newly known to be measured by another at the same time.
    pub(super) fn note(&mut self, mapping: usize, spans: Spans) -> usize {
        let known = self.overlaps.len();
        spans.into_iter().for_each(|(measured, span)| self.claim(mapping, measured, span));
        self.overlaps.len() - known
    }

    fn claim(&mut self, mapping: usize, measured: Measured, span: Span) {
        let spans = self.measured.entry(measured.clone()).or_default();
        let other =
            spans.iter().find(|(other, known)| **other != mapping && known.overlaps(span)).map(|(other, _)| *other);
        if let Some(other) = other {
            self.overlaps.entry(measured).or_insert((other.min(mapping), other.max(mapping)));
        }
        let own = spans.entry(mapping).or_insert(span);
        *own = own.and(span);
    }

    /// What two mappings measure, in words; `None` where there is nothing.
    pub(super) fn told(&self, name: impl Fn(usize) -> String) -> Option<String> {
        let told = |((service, kind), (one, other)): (&Measured, &(usize, usize))| {
            let what = kind.map_or_else(|| "requests".to_owned(), |kind| format!("{kind:?}").to_lowercase());
            format!("{what} of {service} are in {} and in {}", name(*one), name(*other))
        };
        let named: Vec<String> = self.overlaps.iter().take(TOLD_MAX).map(told).collect();
        let more = self.overlaps.len().saturating_sub(TOLD_MAX);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        (!named.is_empty())
            .then(|| format!("{}{more}: they do not add up, the one read later stands", named.join(", ")))
    }
}

impl Span {
    fn and(self, other: Self) -> Self {
        Self { first_ms: self.first_ms.min(other.first_ms), last_ms: self.last_ms.max(other.last_ms) }
    }

    fn overlaps(self, other: Self) -> bool {
        self.first_ms <= other.last_ms && other.first_ms <= self.last_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BucketMode, ObservedBucket};
    use attain_vocabulary::{BUCKET_MS, BucketCounts, SliBucket, Source};

    fn requests(service: &str, places: std::ops::Range<i64>) -> Spans {
        let bucket = |place: i64| ObservedBucket {
            service: EntityId::new("id", service).expect("valid"),
            source: Source::Prometheus,
            mode: BucketMode::Replace,
            bucket: SliBucket::new(
                place * BUCKET_MS,
                BucketCounts::new(1, 0, None).expect("valid"),
                BTreeMap::new(),
                None,
            )
            .expect("valid"),
        };
        spans(&ObservationBatch { buckets: places.map(bucket).collect(), ..ObservationBatch::default() })
    }

    #[test]
    fn what_two_mappings_measure_at_the_same_time_is_told() {
        let name = |mapping: usize| ["http", "grpc", "jobs"][mapping].to_owned();
        let mut claims = Claims::default();
        assert_eq!(claims.note(0, requests("shop", 0..10)), 0);
        assert_eq!(claims.note(0, requests("shop", 8..12)), 0, "late samples are read again");
        assert_eq!(claims.note(1, requests("cart", 0..10)), 0);
        // Its metrics were others before.
        assert_eq!(claims.note(2, requests("shop", 12..20)), 0);
        assert_eq!(claims.told(name), None);
        assert_eq!(claims.note(1, requests("shop", 3..5)), 1);
        assert_eq!(claims.note(1, requests("shop", 5..6)), 0, "it is told once");
        let told = claims.told(name).expect("an overlap");
        assert!(told.starts_with("requests of shop are in http and in grpc: "), "{told}");
        for service in ["a", "b", "c", "d"] {
            claims.note(0, requests(service, 0..1));
            claims.note(1, requests(service, 0..1));
        }
        assert!(claims.told(name).expect("overlaps").contains(", and 2 more: "));
    }
}
