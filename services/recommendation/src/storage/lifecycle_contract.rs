//! What the store promises of states, pending decisions, policies and the registry, run on SQLite and on PostgreSQL.

use attain_vocabulary::{Tier, TimeWindow};
use futures::future::join_all;

use super::contract::{Fresh, contract, new, service, tenant, verdict, verify};
use super::decisions::Review;
use super::*;
use crate::domain::audit::Entry;
use crate::domain::lifecycle::{PendingState, State};
use crate::domain::policy::{Policy, VersionedPolicy};
use crate::domain::slo::{Action, Verdict};

contract!(
    states_follow_what_happens,
    what_was_there_before_gets_its_state_and_versions,
    a_proposal_waits_and_puts_nothing_in_force,
    an_approval_puts_exactly_the_proposal_in_force,
    of_many_closings_one_wins,
    an_approval_of_something_overtaken_is_refused_and_leaves_it_waiting,
    lapsed_proposals_are_found_and_closed_once,
    policies_have_versions,
    the_registry_lists_filters_and_remembers,
    a_renewal_is_offered_once,
    policy_decides_within_its_rate,
);

const DAY_MS: i64 = 86_400_000;

fn closing(id: &str, outcome: PendingState, caller: &str, time_ms: i64) -> Closing {
    Closing { id: id.to_owned(), outcome, caller: caller.to_owned(), reason: "seen".into(), time_ms }
}

fn reviewed(renewal_ms: i64) -> Terms {
    Terms { review: Some(Review { review_ms: renewal_ms + DAY_MS, renewal_ms }), ..Terms::default() }
}

async fn states(store: &Store, now_ms: i64) -> Vec<State> {
    let standings = store.standings(&tenant(), None, None, now_ms, u64::MAX, 10).await.expect("read");
    standings.iter().map(|standing| standing.state(now_ms)).collect()
}

async fn actions(store: &Store) -> Vec<String> {
    let records = store.audit_records(&tenant(), Sought::default(), 100).await.expect("read");
    assert_eq!(verify(&records), Ok(()));
    records.into_iter().map(|record| record.entry.action).collect()
}

mod promises {
    use super::*;

    pub(super) async fn states_follow_what_happens(store: &Store) {
        for version in 1..=3 {
            store.insert(&tenant(), new("checkout", version)).await.expect("stored");
        }
        store.insert(&tenant(), new("cart", 1)).await.expect("stored");
        let (open, superseded) = (State::Open, State::Superseded);
        assert_eq!(states(store, 0).await, [open, open, superseded, superseded]);
        assert_eq!(states(store, 1_000_000).await, [State::Expired; 4]);
        let decide = |action, target, id: &str| {
            let verdict = Verdict { recommendation_id: id.into(), ..verdict(action, target, None) };
            async move { store.decide(&tenant(), verdict, &Terms::default()).await.expect("decided") }
        };
        decide(Action::Accept, Some(0.99), "rec-checkout-1").await;
        decide(Action::Reject, None, "rec-checkout-2").await;
        decide(Action::Modify, Some(0.9), "rec-checkout-3").await;
        let decided = [open, State::Modified, State::Rejected, State::Accepted];
        assert_eq!(states(store, 0).await, decided);
        // The newest decision counts, and what was decided never expires.
        decide(Action::Reject, None, "rec-checkout-1").await;
        assert_eq!(states(store, 1_000_000).await, [State::Expired, State::Modified, State::Rejected, State::Rejected]);
        for (now_ms, state) in [0, 1_000_000].into_iter().flat_map(|now_ms| {
            [open, superseded, State::Expired, State::Accepted, State::Modified, State::Rejected]
                .map(|state| (now_ms, state))
        }) {
            let some = store.standings(&tenant(), Some(state), None, now_ms, u64::MAX, 10).await.expect("read");
            let all = store.standings(&tenant(), None, None, now_ms, u64::MAX, 10).await.expect("read");
            let expected: Vec<_> = all.into_iter().filter(|standing| standing.state(now_ms) == state).collect();
            assert_eq!(some, expected, "{state:?} at {now_ms}");
        }
        let cart = service("cart");
        let of_cart = store.standings(&tenant(), None, Some(&cart), 0, u64::MAX, 10).await.expect("read");
        assert_eq!(of_cart.len(), 1);
        assert_eq!((of_cart[0].tier, of_cart[0].confidence, of_cart[0].version), (Some(Tier::Two), 3, 1));
        // One that is found to hold can be accepted for longer, and never for less.
        let held = new("cart", 1).recommendation;
        store.confirm(&tenant(), &held, 5, "again", 3_000_000).await.expect("confirmed");
        store.confirm(&tenant(), &held, 6, "again", 2_000_000).await.expect("confirmed");
        let standing = store.standing(&tenant(), &held.id).await.expect("read").expect("there");
        assert_eq!(standing.expire_ms, 3_000_000);
        let open = store.open_recommendation(&tenant(), &cart, TimeWindow::default(), 2_999_999).await.expect("read");
        assert_eq!(open.as_deref(), Some("rec-cart-1"));
        let late = store.open_recommendation(&tenant(), &cart, TimeWindow::default(), 3_000_000).await.expect("read");
        assert_eq!(late, None);
    }

    pub(super) async fn what_was_there_before_gets_its_state_and_versions(store: &Store) {
        for version in 1..=3 {
            store.insert(&tenant(), new("checkout", version)).await.expect("stored");
        }
        for (action, target, id) in [
            (Action::Accept, Some(0.99), "rec-checkout-1"),
            (Action::Reject, None, "rec-checkout-2"),
            (Action::Modify, Some(1.0 / 3.0), "rec-checkout-1"),
        ] {
            let verdict = Verdict { recommendation_id: id.into(), ..verdict(action, target, None) };
            store.decide(&tenant(), verdict, &Terms::default()).await.expect("decided");
        }
        let before = states(store, 0).await;
        let versions = || async {
            let kind = attain_vocabulary::SliKind::Availability;
            store.slo_versions(&tenant(), &service("checkout"), kind, u64::MAX, 10).await.expect("read")
        };
        let kept = versions().await;
        assert_eq!(kept.len(), 2);
        // As a database of before: the migration's own statements fill the tables again.
        for table in ["recommendation_states", "slo_versions"] {
            sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}")))
                .execute(store.database.pool())
                .await
                .expect("emptied");
        }
        let migration = include_str!("../../migrations/sqlite/0004_lifecycle.sql");
        let mut filled = 0;
        for statement in migration.split(";\n") {
            let statement: String =
                statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
            if statement.trim_start().starts_with("INSERT INTO") {
                sqlx::query(sqlx::AssertSqlSafe(statement)).execute(store.database.pool()).await.expect("filled");
                filled += 1;
            }
        }
        assert_eq!(filled, 2);
        assert_eq!(states(store, 0).await, before);
        assert_eq!(versions().await, kept);
        // New ones come after the old ones.
        store.insert(&tenant(), new("checkout", 4)).await.expect("stored");
        assert_eq!(states(store, 0).await[0], State::Open);
    }

    pub(super) async fn a_proposal_waits_and_puts_nothing_in_force(store: &Store) {
        store.decide(&tenant(), verdict(Action::Declare, Some(0.9), None), &Terms::default()).await.expect("declared");
        let stale = store.propose(&tenant(), verdict(Action::Accept, Some(0.99), Some(0)), 100).await;
        assert!(matches!(stale, Err(Error::VersionMismatch { expected: 0, found: 1 })), "{stale:?}");
        let pending =
            store.propose(&tenant(), verdict(Action::Accept, Some(0.1 + 0.2), None), 100).await.expect("kept");
        assert_eq!(pending.verdict.version_match, Some(1));
        assert_eq!(store.pending(&tenant(), &pending.id).await.expect("read"), Some(pending.clone()));
        assert_eq!(store.pending(&tenant(), "pending-99").await.expect("read"), None);
        let slos = store.slos(&tenant(), &service("checkout")).await.expect("read");
        assert_eq!((slos.len(), slos[0].version), (1, 1));
        let listed = |state, now_ms| {
            let pending = pending.clone();
            async move {
                let found = store.pending_decisions(&tenant(), state, None, now_ms, u64::MAX, 10).await.expect("read");
                assert!(found.iter().all(|one| *one == pending));
                found.len()
            }
        };
        assert_eq!((listed(PendingState::Waiting, 99).await, listed(PendingState::Waiting, 100).await), (1, 0));
        assert_eq!((listed(PendingState::Expired, 99).await, listed(PendingState::Expired, 100).await), (0, 1));
        assert_eq!(listed(PendingState::Approved, 99).await, 0);
        // What may be decided upon can be replayed then.
        for version in 1..=4 {
            store.insert(&tenant(), new("checkout", version)).await.expect("stored");
        }
        assert!(store.inputs(&tenant(), "rec-checkout-1").await.expect("read").is_some());
        assert!(store.inputs(&tenant(), "rec-checkout-2").await.expect("read").is_none());
        let cart = service("cart");
        let of_cart = store.pending_decisions(&tenant(), PendingState::Waiting, Some(&cart), 0, u64::MAX, 10).await;
        assert_eq!(of_cart.expect("read"), []);
        assert_eq!(actions(store).await[..2], ["slo.declared", "decision.proposed"]);
    }

    pub(super) async fn an_approval_puts_exactly_the_proposal_in_force(store: &Store) {
        let proposal = verdict(Action::Accept, Some(0.1 + 0.2), None);
        let pending = store.propose(&tenant(), proposal, 100).await.expect("kept");
        let close = |outcome, caller: &str| closing(&pending.id, outcome, caller, 50);
        let own = store.close_pending(&tenant(), close(PendingState::Approved, "ada"), Terms::default()).await;
        assert!(matches!(own, Err(Error::SameIdentity(_))), "{own:?}");
        let other = store.close_pending(&tenant(), close(PendingState::Withdrawn, "grace"), Terms::default()).await;
        assert!(matches!(other, Err(Error::NotTheProposer(_))), "{other:?}");
        let unknown = closing("pending-99", PendingState::Approved, "grace", 50);
        let unknown = store.close_pending(&tenant(), unknown, Terms::default()).await;
        assert!(matches!(unknown, Err(Error::UnknownPending(_))), "{unknown:?}");
        let closed = store.close_pending(&tenant(), close(PendingState::Approved, "grace"), reviewed(900)).await;
        let closed = closed.expect("closed");
        let decided = closed.decided.expect("decided");
        let slo = decided.slo.expect("in force");
        assert_eq!(
            (slo.target.target_ratio().to_bits(), slo.version, slo.update_ms),
            ((0.1f64 + 0.2).to_bits(), 1, 50)
        );
        assert_eq!((decided.decision.decided_by.as_str(), decided.decision.approved_by.as_str()), ("ada", "grace"));
        assert_eq!(closed.pending.decision_id, decided.decision.id);
        assert_eq!(store.pending(&tenant(), &pending.id).await.expect("read"), Some(closed.pending));
        let kept = store.decisions(&tenant(), &service("checkout"), u64::MAX, 10).await.expect("read");
        assert_eq!(kept[0].1, decided.decision);
        let again = store.close_pending(&tenant(), close(PendingState::Approved, "grace"), Terms::default()).await;
        assert!(matches!(again, Err(Error::DecisionClosed { state: "approved", .. })), "{again:?}");
        assert_eq!(actions(store).await, ["decision.proposed", "slo.accepted"]);
        let records = store.audit_records(&tenant(), Sought::default(), 10).await.expect("read");
        assert_eq!(records[1].entry.caller, "grace");
        assert!(records[1].entry.detail_json.contains("\"proposed_by\":\"ada\""), "{}", records[1].entry.detail_json);
    }

    pub(super) async fn of_many_closings_one_wins(store: &Store) {
        let pending = store.propose(&tenant(), verdict(Action::Accept, Some(0.99), None), 100).await.expect("kept");
        let closings = (0..8).map(|i| {
            let (store, id) = (store.clone(), pending.id.clone());
            let outcome = [PendingState::Approved, PendingState::Refused][i % 2];
            tokio::spawn(async move {
                let closing = closing(&id, outcome, &format!("caller-{i}"), 50);
                store.close_pending(&tenant(), closing, Terms::default()).await
            })
        });
        let closed: Vec<_> = join_all(closings).await.into_iter().map(|answer| answer.expect("no panic")).collect();
        let (won, lost): (Vec<_>, Vec<_>) = closed.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 7));
        assert!(lost.iter().all(|lost| matches!(lost, Err(Error::DecisionClosed { .. }))), "{lost:?}");
        assert_eq!(actions(store).await.len(), 2);
    }

    pub(super) async fn an_approval_of_something_overtaken_is_refused_and_leaves_it_waiting(store: &Store) {
        let pending = store.propose(&tenant(), verdict(Action::Accept, Some(0.99), None), 100).await.expect("kept");
        store.decide(&tenant(), verdict(Action::Declare, Some(0.9), None), &Terms::default()).await.expect("declared");
        let approval = closing(&pending.id, PendingState::Approved, "grace", 50);
        let refused = store.close_pending(&tenant(), approval, Terms::default()).await;
        assert!(matches!(refused, Err(Error::VersionMismatch { expected: 0, found: 1 })), "{refused:?}");
        assert_eq!(store.pending(&tenant(), &pending.id).await.expect("read"), Some(pending.clone()));
        let refusal = closing(&pending.id, PendingState::Refused, "grace", 60);
        let closed = store.close_pending(&tenant(), refusal, Terms::default()).await.expect("closed");
        assert_eq!((closed.decided, closed.pending.state(60)), (None, PendingState::Refused));
        assert_eq!(actions(store).await, ["decision.proposed", "slo.declared", "decision.refused"]);
    }

    pub(super) async fn lapsed_proposals_are_found_and_closed_once(store: &Store) {
        let pending = store.propose(&tenant(), verdict(Action::Accept, Some(0.99), None), 100).await.expect("kept");
        assert_eq!(store.lapsed(99, 10).await.expect("read"), []);
        assert_eq!(store.lapsed(100, 10).await.expect("read"), [(tenant(), pending.id.clone())]);
        let lapse = || closing(&pending.id, PendingState::Expired, "recommendation", 100);
        store.close_pending(&tenant(), lapse(), Terms::default()).await.expect("closed");
        assert_eq!(store.lapsed(200, 10).await.expect("read"), []);
        let again = store.close_pending(&tenant(), lapse(), Terms::default()).await;
        assert!(matches!(again, Err(Error::DecisionClosed { state: "expired", .. })), "{again:?}");
        let late = closing(&pending.id, PendingState::Approved, "grace", 50);
        assert!(store.close_pending(&tenant(), late, Terms::default()).await.is_err());
        assert_eq!(actions(store).await, ["decision.proposed", "decision.expired"]);
    }

    pub(super) async fn policies_have_versions(store: &Store) {
        assert_eq!(store.policy(&tenant()).await.expect("read"), VersionedPolicy::default());
        let set = |days: u32, version_match| async move {
            let by = ("why".to_owned(), "root".to_owned(), 7);
            let change = move |policy: Policy| Policy { pending_days: days, ..policy };
            store.set_policy(&tenant(), version_match, by, change).await
        };
        assert_eq!(set(3, Some(0)).await.expect("set").version, 1);
        let stale = set(4, Some(0)).await;
        assert!(matches!(stale, Err(Error::PolicyMismatch { expected: 0, found: 1 })), "{stale:?}");
        assert_eq!(set(5, None).await.expect("set").version, 2);
        let newest = store.policy(&tenant()).await.expect("read");
        assert_eq!((newest.version, newest.policy.pending_days, newest.set_by.as_str()), (2, 5, "root"));
        let all = store.policies(&tenant(), u64::MAX, 10).await.expect("read");
        assert_eq!(all.iter().map(|one| (one.version, one.policy.pending_days)).collect::<Vec<_>>(), [(2, 5), (1, 3)]);
        assert_eq!(actions(store).await, ["policy.set", "policy.set"]);
        let other = attain_vocabulary::TenantId::new("tenant", "other").expect("valid");
        assert_eq!(store.policy(&other).await.expect("read").version, 0);
    }

    pub(super) async fn the_registry_lists_filters_and_remembers(store: &Store) {
        let at = |name: &str, target: f64, time_ms: i64| Verdict {
            service: service(name),
            time_ms,
            ..verdict(Action::Accept, Some(target), None)
        };
        for (name, tier, owner) in [("a", Tier::One, "team-a"), ("b", Tier::Two, "team-b"), ("c", Tier::Two, "team-a")]
        {
            let facts = Some(ServiceFacts { tier, owner: owner.into() });
            let terms = Terms { facts, ..reviewed(if name == "c" { 5_000 } else { 9_000 }) };
            store.decide(&tenant(), at(name, 0.99, 10), &terms).await.expect("decided");
        }
        let list = |filter: RegistryFilter, after: (&'static str, &'static str), limit| async move {
            let found = store.registered(&tenant(), &filter, 5_000, after, limit).await.expect("read");
            found.iter().map(|one| one.slo.service.to_string()).collect::<Vec<_>>()
        };
        let all = RegistryFilter::default();
        assert_eq!(list(all.clone(), ("", ""), 10).await, ["a", "b", "c"]);
        assert_eq!(list(all.clone(), ("", ""), 2).await, ["a", "b"]);
        assert_eq!(list(all.clone(), ("b", "availability"), 2).await, ["c"]);
        assert_eq!(list(RegistryFilter { tier: Some(Tier::Two), ..all.clone() }, ("", ""), 9).await, ["b", "c"]);
        assert_eq!(list(RegistryFilter { owner: "team-a".into(), ..all.clone() }, ("", ""), 9).await, ["a", "c"]);
        assert_eq!(list(RegistryFilter { expiring: true, ..all.clone() }, ("", ""), 9).await, ["c"]);
        assert_eq!(list(RegistryFilter { service: Some(service("b")), ..all.clone() }, ("", ""), 9).await, ["b"]);
        let kind = Some(attain_vocabulary::SliKind::Latency);
        assert!(list(RegistryFilter { kind, ..all.clone() }, ("", ""), 9).await.is_empty());
        let declared = Verdict { action: Action::Declare, ..at("a", 1.0 / 3.0, 20) };
        store.decide(&tenant(), declared, &Terms::default()).await.expect("declared");
        let found = store.registered(&tenant(), &all, 0, ("", ""), 1).await.expect("read");
        assert_eq!((found[0].review_ms, found[0].renewal_ms, found[0].tier), (None, None, Some(Tier::One)));
        let versions = store
            .slo_versions(&tenant(), &service("a"), attain_vocabulary::SliKind::Availability, u64::MAX, 10)
            .await
            .expect("read");
        let told: Vec<_> = versions.iter().map(|one| (one.version, one.action, one.create_ms, one.end_ms)).collect();
        assert_eq!(told, [(2, Action::Declare, 20, None), (1, Action::Accept, 10, Some(20))]);
        assert_eq!(versions[0].target_ratio.to_bits(), (1.0f64 / 3.0).to_bits());
        let older = store
            .slo_versions(&tenant(), &service("a"), attain_vocabulary::SliKind::Availability, 2, 10)
            .await
            .expect("read");
        assert_eq!(older, versions[1..]);
        // What was recommended since is what could take its place.
        store.insert(&tenant(), new("c", 1)).await.expect("stored");
        let expiring = RegistryFilter { expiring: true, ..all };
        let found = store.registered(&tenant(), &expiring, 5_000, ("", ""), 9).await.expect("read");
        assert_eq!(found[0].open_recommendation_id.as_deref(), Some("rec-c-1"));
    }

    pub(super) async fn a_renewal_is_offered_once(store: &Store) {
        store.decide(&tenant(), verdict(Action::Accept, Some(0.99), None), &reviewed(500)).await.expect("decided");
        assert_eq!(store.renewals_due(499, 10).await.expect("read"), []);
        let due = store.renewals_due(500, 10).await.expect("read");
        assert_eq!((due.len(), due[0].review_ms, due[0].slo.version), (1, 500 + DAY_MS, 1));
        let entry = || Entry {
            time_ms: 500,
            caller: "recommendation".into(),
            action: "slo.renewal_offered".into(),
            service_id: "checkout".into(),
            detail_json: "{}".into(),
        };
        assert!(store.offer_renewal(&due[0], entry()).await.expect("written"));
        assert!(!store.offer_renewal(&due[0], entry()).await.expect("read"));
        assert_eq!(store.renewals_due(500, 10).await.expect("read"), []);
        // The next version has a review of its own.
        store.decide(&tenant(), verdict(Action::Accept, Some(0.98), None), &reviewed(400)).await.expect("decided");
        assert_eq!(store.renewals_due(500, 10).await.expect("read").len(), 1);
        assert!(!store.offer_renewal(&due[0], entry()).await.expect("read"), "that version is in force no longer");
        assert_eq!(actions(store).await, ["slo.accepted", "slo.renewal_offered", "slo.accepted"]);
    }

    pub(super) async fn policy_decides_within_its_rate(store: &Store) {
        let facts = Some(ServiceFacts { tier: Tier::Three, owner: String::new() });
        let terms = Terms { facts, policy_version: 4, ..Terms::default() };
        let availability = attain_vocabulary::SliKind::Availability;
        let last = async || store.last_automatic(&tenant(), &service("s0"), availability).await;
        assert_eq!(last().await.expect("read"), None);
        let decisions = (0..6).map(|i| {
            let (store, terms) = (store.clone(), terms.clone());
            tokio::spawn(async move {
                let verdict =
                    Verdict { service: service(&format!("s{i}")), ..verdict(Action::Accept, Some(0.99), None) };
                store.decide_within(&tenant(), verdict, &terms, 4).await
            })
        });
        let made = join_all(decisions).await.into_iter().filter(|made| matches!(made, Ok(Ok(Some(_))))).count();
        assert_eq!(made, 4);
        let later = Verdict { service: service("s0"), time_ms: 6 + DAY_MS, ..verdict(Action::Accept, Some(0.9), None) };
        let decided = store.decide_within(&tenant(), later, &terms, 4).await.expect("read").expect("a day later");
        assert_eq!(decided.decision.policy_version, 4);
        assert_eq!(last().await.expect("read"), Some(6 + DAY_MS));
        assert_eq!(actions(store).await.len(), 5);
    }
}
