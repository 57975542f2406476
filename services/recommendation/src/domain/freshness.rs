//! Whether a stored recommendation still holds.

use std::collections::BTreeMap;

use attain_attainment::Record;
use attain_vocabulary::{EntityId, Tier, UnixMillis};
use serde::{Deserialize, Serialize};

use super::policy::Policy;

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

impl Head {
    /// Number of the newest change of any kind.
    pub(crate) fn newest(self) -> u64 {
        self.topology.max(self.sli).max(self.incident)
    }
}

/// Until which changes a recommendation has read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// The service and its closure, as they were no later than when each was read.
    pub(crate) heads: BTreeMap<EntityId, Head>,
    /// Topology version of the snapshot that the closure was walked on; `None` where the graph could not be asked, or by a
    /// version of this service that did not note it.
    #[serde(default)]
    pub(crate) graph_version: Option<u64>,
    /// Versions of the service's SLOs in force, by kind.
    pub(crate) slo_versions: BTreeMap<String, u32>,
    /// Whether nothing was missing. What was missing may be there now, and no change head tells.
    pub(crate) complete: bool,
    /// Statistical model.
    pub(crate) model_version: String,
    /// The record of its class that it was computed with. Others' offers change it all the time; a recommendation follows when an
    /// input of its own changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class_record: Option<Record>,
    /// The risks that its offers take; `None` in what was stored before policy could set them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) risks: Option<Risks>,
    /// When the newest change of the service's own failures was found; `None` where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drift_ms: Option<UnixMillis>,
    /// Position of the newest SLO decision of the tenant that its offers were held against; `None` where that was not noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) promises_up_to: Option<u64>,
    /// Who owns the service; decides the arm of an experiment on teams.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) owner: String,
    /// The arm of an experiment that it was made in; empty outside of any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) arm: String,
}

/// The risks that the policy of a tier allows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Risks {
    pub(crate) tier: Tier,
    /// Most probability of a miss of each ambition; `None` for the house's.
    pub(crate) miss_probabilities: Option<[f64; 3]>,
}

impl Risks {
    pub(crate) fn of(tier: Tier, policy: &Policy) -> Self {
        Self { tier, miss_probabilities: policy.rules(tier).miss_probabilities }
    }
}

impl Basis {
    /// Number of the newest change that it knows of. Whoever has not got so far cannot tell whether it still holds.
    pub(crate) fn newest(&self) -> u64 {
        self.heads.values().map(|head| head.newest()).fold(self.graph_version.unwrap_or_default(), u64::max)
    }

    /// Why what was just computed may be another already.
    pub(crate) fn staleness(&self) -> Option<Staleness> {
        self.behind().then_some(Staleness::GraphBehind)
    }

    /// Whether the graph had not followed the changes of the closure yet when it was walked: an edge may be missing from it
    /// though the change that brought the edge is among the heads.
    /// Where it could not be asked at all the answer says so, and is not complete.
    fn behind(&self) -> bool {
        self.graph_version.map_or(self.complete, |version| version < topology_of(&self.heads))
    }
}

/// The newest change of topology among these.
pub(crate) fn topology_of(heads: &BTreeMap<EntityId, Head>) -> u64 {
    heads.values().map(|head| head.topology).max().unwrap_or_default()
}

/// How things are now.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    /// Heads, SLOs, model and risks; the rest of it says nothing.
    pub(crate) basis: Basis,
    /// Number of the newest change of all that there is; `None` where it is not known.
    pub(crate) newest: Option<u64>,
    /// Whether an SLO was decided since of something that the service needs.
    pub(crate) decided_below: bool,
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
    /// It may be another by now, but is too young to compute again: show it and say so.
    Stale(Staleness),
    /// Compute again.
    Recompute,
    /// Compute again, and until then show it as stale: the level of the service's own failures has changed since.
    Drifted,
}

/// Why a recommendation is shown though it may be another by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staleness {
    /// Measurements changed.
    Measurements,
    /// The level of the service's own failures changed.
    Drift,
    /// An SLO was decided of something that the service needs.
    DecidedBelow,
    /// The graph had not followed the topology that it was computed on.
    GraphBehind,
    /// Nobody could tell whether its inputs changed.
    IngestionUnreachable,
    /// The next one was not ready in time.
    ComputationLate,
}

impl Staleness {
    /// Stable machine-readable word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Measurements => "measurements_changed",
            Self::Drift => "drift",
            Self::DecidedBelow => "decided_below",
            Self::GraphBehind => "graph_behind",
            Self::IngestionUnreachable => "ingestion_unreachable",
            Self::ComputationLate => "computation_late",
        }
    }
}

/// Compares what a recommendation has read with how things are now. Topology, the service's incidents and its SLOs count at
/// once; measurements count once it is older than the shortest interval, because they change every few seconds. So does a
/// graph that was behind: asked again at once it would be behind still. What was decided below is followed without being asked
/// for: until then it is shown, and said.
pub(crate) fn judge(
    service: &EntityId,
    read: &Basis,
    now: &Present,
    checked_ms: UnixMillis,
    now_ms: UnixMillis,
    ages: Ages,
) -> Verdict {
    if now.basis.drift_ms > read.drift_ms {
        return Verdict::Drifted;
    }
    let age_ms = now_ms - checked_ms;
    let head = |basis: &Basis, id: &EntityId| basis.heads.get(id).copied().unwrap_or_default();
    let differs = |part: fn(Head) -> u64, id: &EntityId| part(head(read, id)) != part(head(&now.basis, id));
    let changed = |part: fn(Head) -> u64| read.heads.keys().any(|id| differs(part, id));
    let at_once = changed(|head| head.topology)
        || differs(|head| head.incident, service)
        || read.slo_versions != now.basis.slo_versions
        || read.model_version != now.basis.model_version
        || read.arm != now.basis.arm
        || read.risks != now.basis.risks;
    let measured = changed(|head| head.sli);
    let behind = read.behind();
    // The graph knew of changes that there are not: it still held what another database had told.
    let of_another = now.newest.is_some_and(|newest| read.graph_version > Some(newest));
    let later = measured || behind || of_another || !read.complete;
    if at_once || age_ms >= ages.max_ms || (later && age_ms >= ages.recompute_min_ms) {
        return Verdict::Recompute;
    }
    match (now.decided_below, behind, measured) {
        (true, _, _) => Verdict::Stale(Staleness::DecidedBelow),
        (false, true, _) => Verdict::Stale(Staleness::GraphBehind),
        (false, false, true) => Verdict::Stale(Staleness::Measurements),
        (false, false, false) => Verdict::Fresh,
    }
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
        let heads = BTreeMap::from([(id("a"), head), (id("b"), head)]);
        Basis { heads, graph_version: Some(1), complete: true, ..Basis::default() }
    }

    fn verdict(read: &Basis, basis: Basis, newest: Option<u64>, age_ms: i64) -> Verdict {
        let now = Present { basis, newest, decided_below: false };
        judge(&id("a"), read, &now, 0, age_ms, AGES)
    }

    #[test]
    fn what_was_decided_below_is_said_and_computed_only_with_what_else_changed() {
        let below = |now: Basis, age_ms| {
            let now = Present { basis: now, newest: None, decided_below: true };
            judge(&id("a"), &basis(), &now, 0, age_ms, AGES)
        };
        const STALE: Verdict = Verdict::Stale(Staleness::DecidedBelow);
        assert_eq!(
            (below(basis(), 0), below(basis(), 999_999), below(basis(), 1_000_000)),
            (STALE, STALE, Verdict::Recompute)
        );
        let mut measured = basis();
        measured.heads.get_mut(&id("b")).expect("there").sli = 9;
        assert_eq!((below(measured.clone(), 9_999), below(measured, 10_000)), (STALE, Verdict::Recompute));
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
        const STALE: Verdict = Verdict::Stale(Staleness::Measurements);
        let cases: [(&str, Basis, i64, Verdict); 12] = [
            ("own failures", alter(|b| b.drift_ms = Some(1)), 0, Verdict::Drifted),
            ("nothing", basis(), 500_000, Verdict::Fresh),
            ("too old", basis(), 1_000_000, Verdict::Recompute),
            ("measured, young", alter(|b| b.heads.values_mut().for_each(|h| h.sli = 9)), 9_999, STALE),
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
            ("arm", alter(|b| b.arm = "exp/treatment".into()), 0, Verdict::Recompute),
            (
                "risks",
                alter(|b| b.risks = Some(Risks { tier: Tier::Two, miss_probabilities: Some([0.01, 0.1, 0.2]) })),
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
            assert_eq!(verdict(&basis(), now, None, age_ms), expected, "{name}");
        }
    }

    #[test]
    fn what_was_missing_is_asked_for_again() {
        let read = Basis { complete: false, ..basis() };
        assert_eq!(verdict(&read, basis(), None, 9_999), Verdict::Fresh);
        assert_eq!(verdict(&read, basis(), None, 10_000), Verdict::Recompute);
    }

    #[test]
    fn a_graph_that_had_not_followed_is_asked_again_after_a_while() {
        let mut read = basis();
        read.heads.get_mut(&id("b")).expect("there").topology = 5;
        let now = read.clone();
        assert_eq!(verdict(&read, now.clone(), None, 0), Verdict::Stale(Staleness::GraphBehind));
        assert_eq!(verdict(&read, now.clone(), None, 10_000), Verdict::Recompute);
        // Written before versions were noted: the same.
        let old: Basis = serde_json::from_str(
            r#"{"heads":{"a":{"topology":1,"sli":2,"incident":3}},"slo_versions":{},"complete":true,"model_version":""}"#,
        )
        .expect("the form of before");
        assert_eq!(verdict(&old, old.clone(), None, 10_000), Verdict::Recompute);
        // Where it could not be asked at all that is said in the answer, and tried again as everything that was missing.
        let alone = Basis { complete: false, graph_version: None, ..read };
        assert_eq!(verdict(&alone, now, None, 0), Verdict::Fresh);
    }

    #[test]
    fn a_graph_of_another_database_is_not_believed_for_long() {
        let read = Basis { graph_version: Some(900), ..basis() };
        assert_eq!(verdict(&read, basis(), Some(900), 10_000), Verdict::Fresh);
        assert_eq!(verdict(&read, basis(), Some(899), 0), Verdict::Fresh);
        assert_eq!(verdict(&read, basis(), Some(899), 10_000), Verdict::Recompute);
    }

    #[test]
    fn a_basis_knows_how_far_whoever_judges_it_must_have_come() {
        assert_eq!(basis().newest(), 3);
        assert_eq!(Basis { graph_version: Some(9), ..basis() }.newest(), 9);
        assert_eq!(Basis::default().newest(), 0);
    }
}
