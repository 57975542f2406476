use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, TenantId, UnixMillis};
use sqlx::any::AnyRow;

use super::Store;
use super::changes::ChangeKind;
use super::record::{decode_incident, encode_incident};
use super::rows::{column, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::Incident;

/// Where a list of incidents, newest first, goes on: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentPosition {
    /// When it began.
    pub start_ms: UnixMillis,
    /// Its id.
    pub id: String,
}

impl Store {
    /// Adds incidents, or replaces those of the same id. Of two with the same id the later one in the list stands.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn put_incidents(&self, tenant: &TenantId, incidents: Vec<Incident>) -> Result<(), Error> {
        let incidents: BTreeMap<String, Incident> =
            incidents.into_iter().map(|incident| (incident.id.clone(), incident)).collect();
        let mut write = self.begin_write(tenant).await?;
        let stored = write.incidents(&incidents).await?;
        let mut changed = Vec::new();
        for (id, incident) in incidents {
            let before = stored.get(&id);
            if before == Some(&incident) {
                continue;
            }
            if let Some(before) = before {
                write.forget_services(before).await?;
            }
            for service in incident.concerned() {
                write.changed(ChangeKind::Incident, service);
            }
            changed.push(incident);
        }
        write.write_incidents(&changed).await?;
        write.commit().await?;
        Ok(())
    }

    /// Incidents, newest first, at most `limit`, of one service or of all.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn incidents(
        &self,
        tenant: &TenantId,
        service: Option<&EntityId>,
        after: Option<&IncidentPosition>,
        limit: usize,
    ) -> Result<Vec<Incident>, Error> {
        let start_ms = after.map_or(i64::MAX, |position| position.start_ms);
        let id = after.map_or("", |position| position.id.as_str());
        let query = match service {
            None => sqlx::query(
                "SELECT id, record FROM incidents WHERE tenant_id = $1 AND (start_ms < $2 OR (start_ms = $2 AND id > $3)) \
                 ORDER BY start_ms DESC, id LIMIT $4",
            )
            .bind(tenant.as_str())
            .bind(start_ms)
            .bind(id)
            .bind(stored(limit as u64)),
            Some(service) => sqlx::query(
                "SELECT i.id, i.record FROM incident_services s \
                 JOIN incidents i ON i.tenant_id = s.tenant_id AND i.id = s.incident_id \
                 WHERE s.tenant_id = $1 AND s.service_id = $5 \
                 AND (s.start_ms < $2 OR (s.start_ms = $2 AND s.incident_id > $3)) \
                 ORDER BY s.start_ms DESC, s.incident_id LIMIT $4",
            )
            .bind(tenant.as_str())
            .bind(start_ms)
            .bind(id)
            .bind(stored(limit as u64))
            .bind(service.as_str()),
        };
        let rows = query.fetch_all(self.database.pool()).await?;
        rows.iter().map(read_incident).collect()
    }
}

impl Write {
    async fn incidents(&mut self, wanted: &BTreeMap<String, Incident>) -> Result<BTreeMap<String, Incident>, Error> {
        let keys: Vec<&str> = wanted.keys().map(String::as_str).collect();
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            ("SELECT id, record FROM incidents WHERE tenant_id = $1 AND id IN", 1),
            &keys,
            |query| query.bind(tenant.clone()),
            |query, key| query.bind(key.to_owned()),
        )
        .await?;
        rows.iter().map(|row| read_incident(row).map(|incident| (incident.id.clone(), incident))).collect()
    }

    /// Before an incident is replaced: those it concerned are concerned by the change.
    async fn forget_services(&mut self, before: &Incident) -> Result<(), Error> {
        for service in before.concerned() {
            self.changed(ChangeKind::Incident, service);
        }
        sqlx::query("DELETE FROM incident_services WHERE tenant_id = $1 AND incident_id = $2")
            .bind(self.tenant.clone())
            .bind(before.id.clone())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn write_incidents(&mut self, incidents: &[Incident]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO incidents (tenant_id, id, start_ms, record)",
            4,
            "ON CONFLICT (tenant_id, id) DO UPDATE SET start_ms = excluded.start_ms, record = excluded.record",
        );
        insert_many(&mut self.transaction, self.dialect, statement, incidents, |query, incident| {
            query.bind(tenant.clone()).bind(incident.id.clone()).bind(incident.start_ms).bind(encode_incident(incident))
        })
        .await?;
        let concerned: Vec<(&Incident, &EntityId)> = incidents
            .iter()
            .flat_map(|incident| incident.concerned().into_iter().map(move |service| (incident, service)))
            .collect();
        let statement = ("INSERT INTO incident_services (tenant_id, service_id, start_ms, incident_id)", 4, "");
        insert_many(&mut self.transaction, self.dialect, statement, &concerned, |query, (incident, service)| {
            query.bind(tenant.clone()).bind(service.to_string()).bind(incident.start_ms).bind(incident.id.clone())
        })
        .await?;
        Ok(())
    }
}

fn read_incident(row: &AnyRow) -> Result<Incident, Error> {
    decode_incident(&column::<String>(row, "id")?, column(row, "record")?)
}
