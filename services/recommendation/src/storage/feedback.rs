use attain_vocabulary::{EntityId, TenantId, UnixMillis};

use super::{Store, audit, number, word};
use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::feedback::{Dispute, Feedback, FeedbackKind, NewFeedback, Said};
use crate::domain::slo::{kind_from_word, kind_word};

type Row = (i64, String, String, String, String, String, String, String, String, i64, String);

impl Store {
    /// Writes feedback and its audit record, or nothing of it.
    pub(crate) async fn submit(&self, tenant: &TenantId, new: NewFeedback) -> Result<Feedback, Error> {
        let mut transaction = self.database.begin_write().await?;
        let head = audit::lock(&mut transaction, tenant).await?;
        let feedback = Feedback { id: format!("feedback-{}", head.sequence), new };
        let new = &feedback.new;
        sqlx::query(
            "INSERT INTO feedback (tenant_id, sequence, id, recommendation_id, service_id, feedback_kind, kind, \
             dependency_id, text, submitted_by, create_ms, edges_sha256) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(tenant.as_str())
        .bind(head.sequence as i64)
        .bind(&feedback.id)
        .bind(&new.recommendation_id)
        .bind(new.service.as_str())
        .bind(new.said.feedback_kind.word())
        .bind(new.said.kind.map_or("", kind_word))
        .bind(new.said.dependency.as_ref().map_or("", EntityId::as_str))
        .bind(&new.said.text)
        .bind(&new.submitted_by)
        .bind(new.time_ms)
        .bind(&new.edges_sha256)
        .execute(&mut *transaction)
        .await?;
        let entry = audit_entry(&feedback);
        audit::append(&mut transaction, tenant, head, entry).await?;
        transaction.commit().await?;
        Ok(feedback)
    }

    /// At most `limit` of a service before a position, newest first, each with its position.
    pub(crate) async fn feedback(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        before_sequence: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Feedback)>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT sequence, id, recommendation_id, service_id, feedback_kind, kind, dependency_id, text, submitted_by, \
             create_ms, edges_sha256 FROM feedback WHERE tenant_id = $1 AND service_id = $2 AND sequence < $3 \
             ORDER BY sequence DESC LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(i64::try_from(before_sequence).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        rows.into_iter().map(read).collect()
    }

    /// How often each kind was given in the tenant; those never given are left out.
    pub(crate) async fn feedback_counts(&self, tenant: &TenantId) -> Result<Vec<(FeedbackKind, u32)>, Error> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT feedback_kind, COUNT(*) FROM feedback WHERE tenant_id = $1 GROUP BY feedback_kind ORDER BY feedback_kind",
        )
        .bind(tenant.as_str())
        .fetch_all(self.database.pool())
        .await?;
        let count = |(kind, count): (String, i64)| {
            Ok((word("feedback_kind", &kind, FeedbackKind::from_word)?, number("count", count)?))
        };
        rows.into_iter().map(count).collect()
    }

    /// What callers said since an instant of dependencies of a service that are wrong, the newest of each caller and each state
    /// of the edges; by name.
    pub(crate) async fn disputes(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        since_ms: UnixMillis,
    ) -> Result<Vec<Dispute>, Error> {
        let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
            "SELECT dependency_id, edges_sha256, submitted_by, MAX(create_ms) FROM feedback \
             WHERE tenant_id = $1 AND service_id = $2 AND feedback_kind = $3 AND create_ms >= $4 \
             GROUP BY dependency_id, edges_sha256, submitted_by ORDER BY dependency_id, edges_sha256, submitted_by",
        )
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(FeedbackKind::WrongDependency.word())
        .bind(since_ms)
        .fetch_all(self.database.pool())
        .await?;
        let dispute = |(dependency_id, edges_sha256, submitted_by, time_ms): (String, String, String, i64)| {
            Ok(Dispute { dependency: entity("dependency_id", &dependency_id)?, edges_sha256, submitted_by, time_ms })
        };
        rows.into_iter().map(dispute).collect()
    }
}

fn audit_entry(feedback: &Feedback) -> Entry {
    let Feedback { id, new } = feedback;
    let detail = serde_json::json!({
        "feedback_id": id,
        "recommendation_id": new.recommendation_id,
        "feedback_kind": new.said.feedback_kind.word(),
        "kind": new.said.kind.map(kind_word),
        "dependency_id": new.said.dependency,
        "text": new.said.text,
    });
    Entry {
        time_ms: new.time_ms,
        caller: new.submitted_by.clone(),
        action: "feedback.submitted".to_owned(),
        service_id: new.service.to_string(),
        detail_json: detail.to_string(),
    }
}

fn read(row: Row) -> Result<(u64, Feedback), Error> {
    let (
        sequence,
        id,
        recommendation_id,
        service_id,
        feedback_kind,
        kind,
        dependency_id,
        text,
        submitted_by,
        time_ms,
        edges_sha256,
    ) = row;
    let said = Said {
        feedback_kind: word("feedback_kind", &feedback_kind, FeedbackKind::from_word)?,
        kind: if kind.is_empty() { None } else { Some(word("kind", &kind, kind_from_word)?) },
        dependency: if dependency_id.is_empty() { None } else { Some(entity("dependency_id", &dependency_id)?) },
        text,
    };
    let service = entity("service_id", &service_id)?;
    let new = NewFeedback { recommendation_id, service, said, edges_sha256, submitted_by, time_ms };
    Ok((number("sequence", sequence)?, Feedback { id, new }))
}

fn entity(column: &'static str, id: &str) -> Result<EntityId, Error> {
    EntityId::new(column, id).map_err(|invalid| Error::Broken(format!("stored feedback cannot be read: {invalid}")))
}
