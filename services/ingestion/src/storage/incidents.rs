use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, TenantId, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use super::Store;
use super::changes::ChangeKind;
use super::incident_record::{decode_incident, encode_incident};
use super::record::{entity_id, tenant as tenant_id};
use super::rows::{column, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{Incident, IncidentEvent};

/// Incidents that name services which nobody knew, by one of those names.
pub(super) const NAMED: &str = "SELECT incident_id FROM incident_names WHERE tenant_id = $1 AND name IN";
const ANY_NAMED: &str = "SELECT incident_id FROM incident_names WHERE tenant_id = $1 LIMIT 1";
pub(super) const NAMED_ANYWHERE: &str = "SELECT tenant_id, incident_id FROM incident_names WHERE name = $1";

/// Where a list of incidents, newest first, goes on: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentPosition {
    /// When it began.
    pub start_ms: UnixMillis,
    /// Its id.
    pub id: String,
}

/// What a sender tells of one incident.
#[derive(Debug, Clone, PartialEq)]
pub enum IncidentNews {
    /// All of it: replaces what was known, but for what persons decided.
    Report(Box<Incident>),
    /// One event of a pager: adds to what is known.
    Event(Box<IncidentEvent>),
}

impl IncidentNews {
    /// The incident.
    pub fn id(&self) -> &str {
        match self {
            Self::Report(incident) => &incident.id,
            Self::Event(event) => &event.id,
        }
    }

    fn onto(self, known: Option<Incident>) -> Incident {
        match (self, known) {
            (Self::Report(incident), None) => *incident,
            (Self::Report(incident), Some(known)) => incident.replacing(&known),
            (Self::Event(event), None) => event.opening(),
            (Self::Event(event), Some(mut known)) => {
                known.hear(&event);
                known
            }
        }
    }
}

impl Store {
    /// Adds incidents, or replaces those of the same id but for what persons decided. Of two with the same id the later one
    /// in the list stands.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn put_incidents(&self, tenant: &TenantId, incidents: Vec<Incident>) -> Result<(), Error> {
        self.tell_incidents(
            tenant,
            incidents.into_iter().map(|incident| IncidentNews::Report(Box::new(incident))).collect(),
        )
        .await
    }

    /// Applies news in their order.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn tell_incidents(&self, tenant: &TenantId, news: Vec<IncidentNews>) -> Result<(), Error> {
        let mut write = self.begin_write(tenant).await?;
        let ids: BTreeSet<String> = news.iter().map(|news| news.id().to_owned()).collect();
        let before = write.incidents(&ids).await?;
        let mut after = before.clone();
        for news in news {
            let id = news.id().to_owned();
            let told = news.onto(after.remove(&id));
            after.insert(id, told);
        }
        write.replace_incidents(&before, after).await?;
        write.commit().await?;
        Ok(())
    }

    /// Changes one incident; what it is afterwards. `None` where there is no such incident. What `change` returns as an error
    /// is returned and nothing is written.
    ///
    /// # Errors
    /// That of `change`, or where storage does not answer.
    pub async fn change_incident(
        &self,
        tenant: &TenantId,
        id: &str,
        change: impl FnOnce(&mut Incident) -> Result<(), Error> + Send,
    ) -> Result<Option<Incident>, Error> {
        let mut write = self.begin_write(tenant).await?;
        let before = write.incidents(&BTreeSet::from([id.to_owned()])).await?;
        let Some(mut incident) = before.get(id).cloned() else { return Ok(None) };
        change(&mut incident)?;
        write.replace_incidents(&before, BTreeMap::from([(id.to_owned(), incident.clone())])).await?;
        write.commit().await?;
        Ok(Some(incident))
    }

    /// Those of the named incidents that are known.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn incidents_by_id(
        &self,
        tenant: &TenantId,
        ids: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Incident>, Error> {
        let mut transaction = self.begin_read().await?;
        let known = by_id(&mut transaction, tenant.as_str(), ids).await?;
        transaction.commit().await?;
        Ok(known)
    }

    /// Links incidents of all tenants that name a service by `name`, in lower case, which nobody knew, to the service that it
    /// stands for. How many there were.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn link_named(&self, name: &str, service: &EntityId) -> Result<usize, Error> {
        let rows = sqlx::query(NAMED_ANYWHERE).bind(name).fetch_all(self.database.pool()).await?;
        for row in &rows {
            let tenant = tenant_id(&column::<String>(row, "tenant_id")?)?;
            let link = |incident: &mut Incident| {
                incident.resolve(|unknown| unknown.keys().any(|key| key == name).then(|| service.clone()));
                Ok(())
            };
            self.change_incident(&tenant, &column::<String>(row, "incident_id")?, link).await?;
        }
        Ok(rows.len())
    }

    /// Those among `names` that are entities of the tenant.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn known_services(
        &self,
        tenant: &TenantId,
        names: &BTreeSet<EntityId>,
    ) -> Result<BTreeSet<EntityId>, Error> {
        let keys: Vec<&str> = names.iter().map(EntityId::as_str).collect();
        let mut transaction = self.begin_read().await?;
        let rows = select_in(
            &mut transaction,
            ("SELECT id FROM entities WHERE tenant_id = $1 AND id IN", 1),
            &keys,
            |query| query.bind(tenant.as_str().to_owned()),
            |query, key| query.bind(key.to_owned()),
        )
        .await?;
        transaction.commit().await?;
        rows.iter().map(|row| entity_id(&column::<String>(row, "id")?)).collect()
    }

    /// Removes an incident where `may_go` says so; whether it was there and went.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn remove_incident(
        &self,
        tenant: &TenantId,
        id: &str,
        may_go: impl FnOnce(&Incident) -> bool + Send,
    ) -> Result<bool, Error> {
        let mut write = self.begin_write(tenant).await?;
        let mut known = write.incidents(&BTreeSet::from([id.to_owned()])).await?;
        let Some(incident) = known.remove(id).filter(may_go) else { return Ok(false) };
        write.forget_services(&incident).await?;
        sqlx::query("DELETE FROM incidents WHERE tenant_id = $1 AND id = $2")
            .bind(write.tenant.clone())
            .bind(id.to_owned())
            .execute(&mut *write.transaction)
            .await?;
        write.commit().await?;
        Ok(true)
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
    /// Links incidents that name services which nobody knew to those that appeared now.
    pub(super) async fn link_appeared(&mut self, appeared: &BTreeSet<EntityId>) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        // Mostly there are none, and a whole topology may appear at once.
        if sqlx::query(ANY_NAMED).bind(tenant.clone()).fetch_optional(&mut *self.transaction).await?.is_none() {
            return Ok(());
        }
        let keys: Vec<&str> = appeared.iter().map(EntityId::as_str).collect();
        let rows = select_in(
            &mut self.transaction,
            (NAMED, 1),
            &keys,
            |query| query.bind(tenant.clone()),
            |query, key| query.bind(key.to_owned()),
        )
        .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let ids = rows.iter().map(|row| column(row, "incident_id")).collect::<Result<BTreeSet<String>, Error>>()?;
        let before = self.incidents(&ids).await?;
        let mut after = before.clone();
        for incident in after.values_mut() {
            incident.resolve(|unknown| unknown.candidates.iter().find(|id| appeared.contains(*id)).cloned());
        }
        self.replace_incidents(&before, after).await
    }

    async fn incidents(&mut self, wanted: &BTreeSet<String>) -> Result<BTreeMap<String, Incident>, Error> {
        by_id(&mut self.transaction, &self.tenant, wanted).await
    }

    /// Writes those that differ from what was stored.
    async fn replace_incidents(
        &mut self,
        before: &BTreeMap<String, Incident>,
        after: BTreeMap<String, Incident>,
    ) -> Result<(), Error> {
        let mut changed = Vec::new();
        for (id, incident) in after {
            let stored = before.get(&id);
            if stored == Some(&incident) {
                continue;
            }
            if let Some(stored) = stored {
                self.forget_services(stored).await?;
            }
            for service in incident.concerned() {
                self.changed(ChangeKind::Incident, service);
            }
            changed.push(incident);
        }
        self.write_incidents(&changed).await
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
        if !before.unknown.is_empty() {
            sqlx::query("DELETE FROM incident_names WHERE tenant_id = $1 AND incident_id = $2")
                .bind(self.tenant.clone())
                .bind(before.id.clone())
                .execute(&mut *self.transaction)
                .await?;
        }
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
        let named: BTreeSet<(String, &str)> = incidents
            .iter()
            .flat_map(|incident| incident.unknown.iter().map(move |unknown| (unknown, incident.id.as_str())))
            .flat_map(|(unknown, id)| unknown.keys().map(move |key| (key, id)))
            .collect();
        let named: Vec<(String, &str)> = named.into_iter().collect();
        let statement = ("INSERT INTO incident_names (tenant_id, name, incident_id)", 3, "");
        insert_many(&mut self.transaction, self.dialect, statement, &named, |query, (name, id)| {
            query.bind(tenant.clone()).bind(name.clone()).bind((*id).to_owned())
        })
        .await?;
        Ok(())
    }
}

fn read_incident(row: &AnyRow) -> Result<Incident, Error> {
    decode_incident(&column::<String>(row, "id")?, column(row, "record")?)
}

async fn by_id(
    transaction: &mut Transaction<'static, Any>,
    tenant: &str,
    ids: &BTreeSet<String>,
) -> Result<BTreeMap<String, Incident>, Error> {
    let keys: Vec<&str> = ids.iter().map(String::as_str).collect();
    let rows = select_in(
        transaction,
        ("SELECT id, record FROM incidents WHERE tenant_id = $1 AND id IN", 1),
        &keys,
        |query| query.bind(tenant.to_owned()),
        |query, key| query.bind(key.to_owned()),
    )
    .await?;
    rows.iter().map(|row| read_incident(row).map(|incident| (incident.id.clone(), incident))).collect()
}
