//! What the store promises of endpoints and messages to them, run on SQLite and on PostgreSQL.

use std::sync::LazyLock;

use futures::future::join_all;

use super::contract::{Fresh, contract, new, tenant, verdict, verify};
use super::*;
use crate::domain::slo::Action;
use crate::webhooks::vault::Vault;

contract!(
    messages_are_written_with_what_they_tell_of,
    an_attempt_is_taken_by_one,
    a_message_is_settled_dead_and_sent_again,
    secrets_rotate_and_endpoints_go,
    secrets_are_encrypted_with_the_newest_key,
    old_messages_are_forgotten,
);

/// A newer key before the one that [`create`] encrypts with.
static NEWER: LazyLock<Vault> = LazyLock::new(|| vault(&["b", "a"]));

fn endpoint(event_types: &[&str]) -> NewWebhook {
    NewWebhook {
        url: "https://hooks.example.com/".into(),
        event_types: event_types.iter().map(ToString::to_string).collect(),
        secret: vec![0, 255, 7],
        created_by: "root".into(),
        create_ms: 1,
    }
}

fn vault(names: &[&str]) -> Vault {
    let key = |name: &&str| format!("{name}:{}", name.repeat(64));
    Vault::parse(&names.iter().map(key).collect::<Vec<_>>().join(",")).expect("keys")
}

async fn create(store: &Store, event_types: &[&str]) -> Webhook {
    store.create_webhook(&tenant(), endpoint(event_types), 3, &vault(&["a"])).await.expect("created")
}

fn opened(vault: &Vault, due: &Due, now_ms: i64) -> Vec<Vec<u8>> {
    let open = |sealed| vault.open(&due.tenant, &due.webhook_id, sealed).expect("opens");
    due.secrets.held(now_ms).into_iter().map(open).collect()
}

async fn declare(store: &Store) {
    store.decide(&tenant(), verdict(Action::Declare, Some(0.9), None), &Terms::default()).await.expect("declared");
}

async fn waiting(store: &Store, webhook: &Webhook) -> usize {
    let state = Some(DeliveryState::Waiting);
    store.deliveries(&tenant(), &webhook.id, state, u64::MAX, 100).await.expect("read").len()
}

async fn due(store: &Store, webhook: &Webhook, now_ms: i64) -> Option<Due> {
    store.next_due(&tenant(), &webhook.id, now_ms).await.expect("read")
}

fn failed(state: DeliveryState, next_ms: i64) -> Outcome {
    Outcome { status: 500, error: "the endpoint answered 500".into(), state, next_ms }
}

mod promises {
    use super::*;

    pub(super) async fn messages_are_written_with_what_they_tell_of(store: &Store) {
        declare(store).await;
        let (all, some) = (create(store, &[]).await, create(store, &["slo.rejected"]).await);
        assert_eq!(store.webhooks(&tenant()).await.expect("read"), [all.clone(), some.clone()]);
        // What happened before is told to nobody; what did not happen neither.
        assert_eq!(waiting(store, &all).await, 0);
        declare(store).await;
        let refused = store.decide(&tenant(), verdict(Action::Declare, Some(0.8), Some(9)), &Terms::default()).await;
        assert!(refused.is_err());
        assert_eq!(store.insert(&tenant(), new("checkout", 2)).await.expect("answered"), Inserted::Overtaken);
        store.decide(&tenant(), verdict(Action::Reject, None, None), &Terms::default()).await.expect("rejected");
        assert_eq!((waiting(store, &all).await, waiting(store, &some).await), (2, 1));
        let records = store.audit_records(&tenant(), Sought::default(), 100).await.expect("read");
        assert_eq!(verify(&records), Ok(()));
        let told = store.deliveries(&tenant(), &all.id, None, u64::MAX, 1).await.expect("read");
        assert_eq!((told[0].sequence, told[0].event_type.as_str()), (records.len() as u64, "slo.rejected"));
        let older = store.deliveries(&tenant(), &all.id, None, told[0].sequence, 10).await.expect("read");
        assert_eq!(older.iter().map(|one| one.event_type.as_str()).collect::<Vec<_>>(), ["slo.declared"]);
        // The oldest goes first, with the endpoint's secret and the record's own words.
        let first = due(store, &all, 100).await.expect("due");
        assert_eq!((first.sequence, opened(&vault(&["a"]), &first, 0)), (older[0].sequence, vec![vec![0u8, 255, 7]]));
        let record = &records[first.sequence as usize - 1];
        assert_eq!(first.body, crate::domain::webhook::body(&tenant(), record));
        let other = attain_vocabulary::TenantId::new("tenant", "other").expect("valid");
        assert_eq!(store.webhooks(&other).await.expect("read"), []);
        create(store, &[]).await;
        let fourth = store.create_webhook(&tenant(), endpoint(&[]), 3, &vault(&["a"])).await;
        assert!(matches!(fourth, Err(Error::TooManyWebhooks(3))), "{fourth:?}");
    }

    pub(super) async fn an_attempt_is_taken_by_one(store: &Store) {
        let webhook = create(store, &[]).await;
        declare(store).await;
        assert_eq!(store.due_endpoints(4, 10).await.expect("read"), []);
        assert_eq!(store.due_endpoints(5, 10).await.expect("read"), [(tenant(), webhook.id.clone())]);
        let message = due(store, &webhook, 5).await.expect("due");
        let claims = (0..8).map(|_| {
            let (store, message) = (store.clone(), message.clone());
            tokio::spawn(async move { store.claim(&message, 1_000).await })
        });
        let taken: Vec<_> =
            join_all(claims).await.into_iter().filter_map(|claim| claim.expect("no panic").expect("read")).collect();
        assert_eq!(taken.len(), 1);
        // While it is under way it is nobody else's; a process that ended with it gives it back by and by.
        assert_eq!(due(store, &webhook, 999).await, None);
        let again = due(store, &webhook, 1_000).await.expect("due again");
        assert_eq!((again.attempt.attempt_count, again.event_id()), (1, message.event_id()));
        let second = store.claim(&again, 2_000).await.expect("read").expect("taken");
        // What the first one found out no longer counts.
        let delivered = Outcome { status: 200, error: String::new(), state: DeliveryState::Delivered, next_ms: 0 };
        store.settle(&message, taken[0], &delivered).await.expect("ignored");
        assert_eq!(waiting(store, &webhook).await, 1);
        store.settle(&again, second, &delivered).await.expect("settled");
        assert_eq!((waiting(store, &webhook).await, due(store, &webhook, 9_999).await), (0, None));
    }

    pub(super) async fn a_message_is_settled_dead_and_sent_again(store: &Store) {
        let webhook = create(store, &[]).await;
        declare(store).await;
        let message = due(store, &webhook, 5).await.expect("due");
        let taken = store.claim(&message, 50).await.expect("read").expect("taken");
        store.settle(&message, taken, &failed(DeliveryState::Waiting, 700)).await.expect("settled");
        assert_eq!(due(store, &webhook, 699).await, None);
        let message = due(store, &webhook, 700).await.expect("due");
        let taken = store.claim(&message, 900).await.expect("read").expect("taken");
        assert_eq!((taken.attempt_count, taken.round_count), (2, 2));
        store.settle(&message, taken, &failed(DeliveryState::Dead, 0)).await.expect("settled");
        assert_eq!(due(store, &webhook, 9_999).await, None);
        let dead =
            store.deliveries(&tenant(), &webhook.id, Some(DeliveryState::Dead), u64::MAX, 9).await.expect("read");
        assert_eq!((dead.len(), dead[0].last_status, dead[0].attempt_count), (1, 500, 2));
        let again = store.redeliver(&tenant(), &webhook.id, message.sequence, ("root", 800)).await.expect("waits");
        assert_eq!((again.state, again.attempt_count), (DeliveryState::Waiting, 2));
        let message = due(store, &webhook, 800).await.expect("due");
        assert_eq!((message.attempt.round_count, message.attempt.attempt_count), (0, 2));
        let unknown = store.redeliver(&tenant(), &webhook.id, 99, ("root", 800)).await;
        assert!(matches!(unknown, Err(Error::UnknownDelivery(_))), "{unknown:?}");
    }

    pub(super) async fn secrets_rotate_and_endpoints_go(store: &Store) {
        let webhook = create(store, &[]).await;
        declare(store).await;
        let new = || (vec![9], &*NEWER);
        let rotated = store.rotate_secret(&tenant(), &webhook.id, new(), 60, ("root", 10)).await.expect("rotated");
        assert_eq!(rotated.previous_expire_ms, Some(60));
        let message = due(store, &webhook, 10).await.expect("due");
        assert_eq!(opened(&NEWER, &message, 59), [vec![9u8], vec![0, 255, 7]]);
        assert_eq!(opened(&NEWER, &message, 60), [vec![9u8]]);
        let unknown = store.rotate_secret(&tenant(), "webhook-99", new(), 60, ("root", 10)).await;
        assert!(matches!(unknown, Err(Error::UnknownWebhook(_))), "{unknown:?}");
        store.delete_webhook(&tenant(), &webhook.id, "root", 20).await.expect("deleted");
        assert_eq!(store.due_endpoints(9_999, 10).await.expect("read"), []);
        assert!(matches!(store.webhook(&tenant(), &webhook.id).await, Err(Error::UnknownWebhook(_))));
        assert!(store.delete_webhook(&tenant(), &webhook.id, "root", 20).await.is_err());
        let records = store.audit_records(&tenant(), Sought::default(), 100).await.expect("read");
        let actions: Vec<&str> = records.iter().map(|record| record.entry.action.as_str()).collect();
        assert_eq!(actions, ["webhook.created", "slo.declared", "webhook.secret_rotated", "webhook.deleted"]);
        assert!(records.iter().all(|record| !record.entry.detail_json.contains("secret\"")));
    }

    pub(super) async fn secrets_are_encrypted_with_the_newest_key(store: &Store) {
        assert_eq!(store.seal_secrets(None).await.expect("looked"), 0, "no endpoint needs no key");
        let (one, two) = (create(store, &[]).await, create(store, &[]).await);
        declare(store).await;
        store.rotate_secret(&tenant(), &two.id, (vec![9], &vault(&["a"])), 60, ("root", 10)).await.expect("rotated");
        // One as it was stored before there were keys.
        sqlx::query("UPDATE webhooks SET secret = $1, secret_key_id = '' WHERE id = $2")
            .bind(vec![0u8, 255, 7])
            .bind(&one.id)
            .execute(store.database.pool())
            .await
            .expect("written");
        let refused = store.seal_secrets(None).await.expect_err("endpoints need a key").to_string();
        assert!(refused.contains("2 webhooks and no key"), "{refused}");
        for (keys, said) in [
            (vault(&["b"]), "with the key `a`"),
            (Vault::parse(&format!("a:{}", "c".repeat(64))).expect("a key"), "cannot be opened"),
        ] {
            let refused = store.seal_secrets(Some(&keys)).await.expect_err(said).to_string();
            assert!(refused.contains(said) && refused.contains(&two.id), "{refused}");
        }
        let newest = &*NEWER;
        store.seal_secrets(Some(newest)).await.expect("encrypted");
        assert_eq!(store.seal_secrets(Some(newest)).await.expect("looked"), 0, "all are under the newest key");
        let alone = vault(&["b"]);
        assert_eq!(store.seal_secrets(Some(&alone)).await.expect("looked"), 0, "the older key is not needed any more");
        assert_eq!(opened(&alone, &due(store, &one, 10).await.expect("due"), 10), [vec![0u8, 255, 7]]);
        assert_eq!(opened(&alone, &due(store, &two, 10).await.expect("due"), 10), [vec![9u8], vec![0, 255, 7]]);
        let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as("SELECT secret, previous_secret FROM webhooks")
            .fetch_all(store.database.pool())
            .await
            .expect("read");
        let holds = |bytes: &[u8]| bytes.windows(3).any(|part| part == [0, 255, 7]);
        assert!(rows.iter().all(|(secret, previous)| !holds(secret) && !holds(previous)));
    }

    pub(super) async fn old_messages_are_forgotten(store: &Store) {
        let webhook = create(store, &[]).await;
        declare(store).await;
        declare(store).await;
        let message = due(store, &webhook, 5).await.expect("due");
        let taken = store.claim(&message, 50).await.expect("read").expect("taken");
        store.settle(&message, taken, &failed(DeliveryState::Dead, 0)).await.expect("settled");
        store.forget_deliveries(5).await.expect("nothing is so old");
        assert_eq!(store.deliveries(&tenant(), &webhook.id, None, u64::MAX, 9).await.expect("read").len(), 2);
        // What waits is kept however old it is.
        store.forget_deliveries(6).await.expect("forgotten");
        let left = store.deliveries(&tenant(), &webhook.id, None, u64::MAX, 9).await.expect("read");
        assert_eq!((left.len(), left[0].state), (1, DeliveryState::Waiting));
        let (events,): (i64,) = sqlx::query_as("SELECT CAST(COUNT(*) AS BIGINT) FROM events")
            .fetch_one(store.database.pool())
            .await
            .expect("read");
        assert_eq!(events, 1);
    }
}
