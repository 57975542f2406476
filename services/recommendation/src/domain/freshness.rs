//! Whether a stored recommendation still holds.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, UnixMillis};
use serde::{Deserialize, Serialize};

/// Newest changes of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Entity or outgoing dependencies.
    pub(crate) topology: u64,
    /// Measurements.
    pub(crate) sli: u64,
    /// Incidents.
    pub(crate) incident: u64,
}

/// Until which changes a recommendation has read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// The service and its closure.
    pub(crate) heads: BTreeMap<EntityId, Head>,
    /// Versions of the service's SLOs in force, by kind.
    pub(crate) slo_versions: BTreeMap<String, u32>,
    /// Whether nothing was missing. What was missing may be there now, and no change head tells.
    pub(crate) complete: bool,
    /// Statistical model.
    pub(crate) model_version: String,
}

/// How long what holds may be shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    /// New measurements alone do not recompute anything younger.
    pub(crate) recompute_min_ms: i64,
    /// Anything older is computed again.
    pub(crate) max_ms: i64,
}

/// What to do with a stored recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing changed: show it.
    Fresh,
    /// Measurements changed, but it is too young to compute again: show it and say so.
    Stale,
    /// Compute again.
    Recompute,
}

/// Compares what a recommendation has read with how things are now. Topology, the service's incidents and its SLOs count at
/// once; measurements count once it is older than the shortest interval, because they change every few seconds.
pub(crate) fn judge(
    service: &EntityId,
    read: &Basis,
    now: &Basis,
    checked_ms: UnixMillis,
    now_ms: UnixMillis,
    ages: Ages,
) -> Verdict {
    let age_ms = now_ms - checked_ms;
    let head = |basis: &Basis, id: &EntityId| basis.heads.get(id).copied().unwrap_or_default();
    let changed = |part: fn(Head) -> u64| read.heads.keys().any(|id| part(head(read, id)) != part(head(now, id)));
    let at_once = changed(|head| head.topology)
        || head(read, service).incident != head(now, service).incident
        || read.slo_versions != now.slo_versions
        || read.model_version != now.model_version;
    let measured = changed(|head| head.sli);
    if at_once || age_ms >= ages.max_ms || ((measured || !read.complete) && age_ms >= ages.recompute_min_ms) {
        return Verdict::Recompute;
    }
    if measured { Verdict::Stale } else { Verdict::Fresh }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGES: Ages = Ages { recompute_min_ms: 10_000, max_ms: 1_000_000 };

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn basis() -> Basis {
        let head = Head { topology: 1, sli: 2, incident: 3 };
        Basis { heads: BTreeMap::from([(id("a"), head), (id("b"), head)]), complete: true, ..Basis::default() }
    }

    #[test]
    fn what_changed_and_how_old_it_is_decide() {
        let alter = |change: fn(&mut Basis)| {
            let mut now = basis();
            change(&mut now);
            now
        };
        let head = |basis: &mut Basis, name: &str, change: fn(&mut Head)| {
            change(basis.heads.get_mut(&id(name)).expect("there"))
        };
        let cases: [(&str, Basis, i64, Verdict); 9] = [
            ("nothing", basis(), 500_000, Verdict::Fresh),
            ("too old", basis(), 1_000_000, Verdict::Recompute),
            ("measured, young", alter(|b| b.heads.values_mut().for_each(|h| h.sli = 9)), 9_999, Verdict::Stale),
            ("measured, old", alter(|b| b.heads.values_mut().for_each(|h| h.sli = 9)), 10_000, Verdict::Recompute),
            ("topology", alter(|b| b.heads.values_mut().for_each(|h| h.topology = 9)), 0, Verdict::Recompute),
            (
                "slo",
                alter(|b| {
                    b.slo_versions.insert("availability".into(), 1);
                }),
                0,
                Verdict::Recompute,
            ),
            ("model", alter(|b| b.model_version = "2".into()), 0, Verdict::Recompute),
            (
                "own incident",
                {
                    let mut b = basis();
                    head(&mut b, "a", |h| h.incident = 9);
                    b
                },
                0,
                Verdict::Recompute,
            ),
            (
                "a dependency's incident",
                {
                    let mut b = basis();
                    head(&mut b, "b", |h| h.incident = 9);
                    b
                },
                0,
                Verdict::Fresh,
            ),
        ];
        for (name, now, age_ms, expected) in cases {
            assert_eq!(judge(&id("a"), &basis(), &now, 0, age_ms, AGES), expected, "{name}");
        }
    }

    #[test]
    fn what_was_missing_is_asked_for_again() {
        let read = Basis { complete: false, ..basis() };
        assert_eq!(judge(&id("a"), &read, &basis(), 0, 9_999, AGES), Verdict::Fresh);
        assert_eq!(judge(&id("a"), &read, &basis(), 0, 10_000, AGES), Verdict::Recompute);
    }
}
