use attain_vocabulary::{TenantId, UnixMillis};

use super::{Store, number, word};
use crate::Error;
use crate::domain::feedback::FeedbackKind;
use crate::domain::learning::{Entry, Learnable};
use crate::domain::slo::{Action, ambition_from_word, kind_from_word};

/// Rows read at a time: each brings the recommendation that it is about.
const PAGE: usize = 200;

type DecisionRow = (i64, i64, String, String, String, f64, i64, Vec<u8>);
type FeedbackRow = (i64, i64, String, String, Vec<u8>);

impl Store {
    /// What something can be learned from after a position and up to another, in the order of the log: the first decision on
    /// each recommendation and SLI where a person made it (what a policy accepted is its setting, not taste), and the first time that a caller said of it that it is too strict or too loose.
    pub(crate) async fn learnable(&self, tenant: &TenantId, after: u64, up_to: u64) -> Result<Vec<Entry>, Error> {
        let mut entries = self.decided(tenant, after, up_to).await?;
        entries.extend(self.told(tenant, after, up_to).await?);
        entries.sort_by_key(|entry| entry.sequence);
        Ok(entries)
    }

    async fn decided(&self, tenant: &TenantId, after: u64, up_to: u64) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map_or(after, |entry| entry.sequence);
            let rows: Vec<DecisionRow> = sqlx::query_as(
                "SELECT d.sequence, d.create_ms, d.action, d.kind, d.ambition, d.target_ratio, d.latency_threshold_ms, \
                 r.message FROM decisions d \
                 JOIN recommendations r ON r.tenant_id = d.tenant_id AND r.id = d.recommendation_id \
                 WHERE d.tenant_id = $1 AND d.sequence > $2 AND d.sequence <= $3 AND d.policy_version = 0 AND NOT EXISTS (\
                 SELECT 1 FROM decisions e WHERE e.tenant_id = d.tenant_id AND e.recommendation_id = d.recommendation_id \
                 AND e.kind = d.kind AND e.policy_version = 0 AND e.sequence < d.sequence) ORDER BY d.sequence LIMIT $4",
            )
            .bind(tenant.as_str())
            .bind(position(after))
            .bind(position(up_to))
            .bind(PAGE as i64)
            .fetch_all(self.database.pool())
            .await?;
            let count = rows.len();
            for row in rows {
                entries.push(decision(row)?);
            }
            if count < PAGE {
                return Ok(entries);
            }
        }
    }

    async fn told(&self, tenant: &TenantId, after: u64, up_to: u64) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map_or(after, |entry| entry.sequence);
            let rows: Vec<FeedbackRow> = sqlx::query_as(
                "SELECT f.sequence, f.create_ms, f.feedback_kind, f.kind, r.message FROM feedback f \
                 JOIN recommendations r ON r.tenant_id = f.tenant_id AND r.id = f.recommendation_id \
                 WHERE f.tenant_id = $1 AND f.sequence > $2 AND f.sequence <= $3 AND f.feedback_kind IN ($4, $5) \
                 AND NOT EXISTS (SELECT 1 FROM feedback e WHERE e.tenant_id = f.tenant_id AND e.service_id = f.service_id \
                 AND e.recommendation_id = f.recommendation_id AND e.kind = f.kind AND e.submitted_by = f.submitted_by \
                 AND e.feedback_kind IN ($4, $5) AND e.sequence < f.sequence) ORDER BY f.sequence LIMIT $6",
            )
            .bind(tenant.as_str())
            .bind(position(after))
            .bind(position(up_to))
            .bind(FeedbackKind::TooStrict.word())
            .bind(FeedbackKind::TooLoose.word())
            .bind(PAGE as i64)
            .fetch_all(self.database.pool())
            .await?;
            let count = rows.len();
            for row in rows {
                entries.push(feedback(row)?);
            }
            if count < PAGE {
                return Ok(entries);
            }
        }
    }
}

fn position(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

fn decision(row: DecisionRow) -> Result<Entry, Error> {
    let (sequence, time_ms, action, kind, ambition, target_ratio, threshold_ms, message) = row;
    let learnable = Learnable::Decision {
        action: word("action", &action, Action::from_word)?,
        ambition: if ambition.is_empty() { None } else { Some(word("ambition", &ambition, ambition_from_word)?) },
        target_ratio,
        threshold_ms: number("latency_threshold_ms", threshold_ms)?,
    };
    entry(sequence, time_ms, &kind, learnable, message)
}

fn feedback(row: FeedbackRow) -> Result<Entry, Error> {
    let (sequence, time_ms, feedback_kind, kind, message) = row;
    let learnable = Learnable::Feedback(word("feedback_kind", &feedback_kind, FeedbackKind::from_word)?);
    entry(sequence, time_ms, &kind, learnable, message)
}

fn entry(
    sequence: i64,
    time_ms: UnixMillis,
    kind: &str,
    learnable: Learnable,
    recommendation: Vec<u8>,
) -> Result<Entry, Error> {
    let sequence = number("sequence", sequence)?;
    Ok(Entry { sequence, time_ms, kind: word("kind", kind, kind_from_word)?, learnable, recommendation })
}
