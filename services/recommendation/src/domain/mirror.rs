//! What ingestion's stream of changes has told: the newest change of each service by kind, of every tenant, in bounded
//! memory. It holds what the change log holds and can be read from it again at any time.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, TenantId};

use super::freshness::Head;

/// What a change is about, as far as recommendations rest on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Topology,
    Sli,
    Incident,
}

/// One change that recommendations may rest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) tenant: TenantId,
    pub(crate) service: EntityId,
    pub(crate) part: Part,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is held.
    Held,
    /// Its tenant is not mirrored: there is no room.
    LeftOut,
    /// Its tenant is not mirrored any more: there is no room.
    GivenUp,
    /// Its number is not greater than the one before: this is another order than the one that was followed.
    OutOfOrder,
}

/// The newest changes.
#[derive(Debug)]
pub(crate) struct Mirror {
    newest: u64,
    tenants: BTreeMap<TenantId, BTreeMap<EntityId, Head>>,
    /// Services of all tenants.
    services: usize,
    services_max: usize,
    /// Whether a tenant was left out. From then on one that is not here may have changed all the same.
    partial: bool,
    /// By which the log is recognised: the newest change that ingestion can be asked about by name.
    witness: Option<(u64, Change)>,
}

impl Mirror {
    pub(crate) fn new(services_max: usize) -> Self {
        let tenants = BTreeMap::new();
        Self { newest: 0, tenants, services: 0, services_max, partial: false, witness: None }
    }

    /// Number of the last change that was told.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// A change by which to recognise the log, and its number.
    pub(crate) fn witness(&self) -> Option<&(u64, Change)> {
        self.witness.as_ref()
    }

    /// Takes note of the next change; `None` is one that no recommendation rests on.
    pub(crate) fn take(&mut self, sequence: u64, change: Option<Change>) -> Taken {
        if sequence <= self.newest {
            return Taken::OutOfOrder;
        }
        self.newest = sequence;
        let Some(change) = change else { return Taken::Held };
        if change.part != Part::Incident {
            self.witness = Some((sequence, change.clone()));
        }
        if self.partial && !self.tenants.contains_key(&change.tenant) {
            return Taken::LeftOut;
        }
        let services = self.tenants.entry(change.tenant.clone()).or_default();
        if !services.contains_key(&change.service) {
            if self.services >= self.services_max {
                self.give_up(&change.tenant);
                return Taken::GivenUp;
            }
            self.services += 1;
        }
        let head = services.entry(change.service).or_default();
        match change.part {
            Part::Topology => head.topology = sequence,
            Part::Sli => head.sli = sequence,
            Part::Incident => head.incident = sequence,
        }
        Taken::Held
    }

    /// A tenant is mirrored whole or not at all.
    fn give_up(&mut self, tenant: &TenantId) {
        self.partial = true;
        self.services -= self.tenants.remove(tenant).map_or(0, |services| services.len());
    }

    /// The newest changes of services, as ingestion would tell them; `None` for a tenant that is not mirrored.
    pub(crate) fn heads<'a>(
        &self,
        tenant: &TenantId,
        ids: impl Iterator<Item = &'a EntityId>,
    ) -> Option<BTreeMap<EntityId, Head>> {
        let services = self.tenants.get(tenant);
        if services.is_none() && self.partial {
            return None;
        }
        // What only an incident names is no known service.
        let known = |id: &EntityId| services?.get(id).copied().filter(|head| head.topology > 0);
        Some(ids.map(|id| (id.clone(), known(id).unwrap_or_default())).collect())
    }

    /// Forgets everything: the log starts anew.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.services_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(text: &str) -> TenantId {
        TenantId::new("tenant", text).expect("valid")
    }

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn change(tenant_id: &str, service: &str, part: Part) -> Option<Change> {
        Some(Change { tenant: tenant(tenant_id), service: id(service), part })
    }

    fn head(mirror: &Mirror, tenant_id: &str, service: &str) -> Option<Head> {
        let service = id(service);
        mirror.heads(&tenant(tenant_id), [&service].into_iter()).map(|heads| heads[&service])
    }

    #[test]
    fn it_holds_the_newest_change_of_each_kind_tenant_by_tenant() {
        let mut mirror = Mirror::new(10);
        for (sequence, told) in [
            (1, change("acme", "a", Part::Topology)),
            (2, change("acme", "a", Part::Sli)),
            (3, change("other", "a", Part::Topology)),
            (7, change("acme", "a", Part::Sli)),
            (8, change("acme", "a", Part::Incident)),
            (9, None),
        ] {
            assert_eq!(mirror.take(sequence, told), Taken::Held);
        }
        assert_eq!(head(&mirror, "acme", "a"), Some(Head { topology: 1, sli: 7, incident: 8 }));
        assert_eq!(head(&mirror, "other", "a"), Some(Head { topology: 3, sli: 0, incident: 0 }));
        assert_eq!(head(&mirror, "acme", "b"), Some(Head::default()));
        assert_eq!(head(&mirror, "nobody", "a"), Some(Head::default()));
        assert_eq!(mirror.newest(), 9);
        // Incidents of a service that nobody declared or measured leave it unknown, as they do at ingestion.
        mirror.take(10, change("acme", "named-only", Part::Incident));
        assert_eq!(head(&mirror, "acme", "named-only"), Some(Head::default()));
        assert_eq!(mirror.witness().map(|(sequence, _)| *sequence), Some(7));
    }

    #[test]
    fn what_does_not_go_on_is_another_log() {
        let mut mirror = Mirror::new(10);
        mirror.take(5, change("acme", "a", Part::Topology));
        assert_eq!(mirror.take(5, change("acme", "b", Part::Topology)), Taken::OutOfOrder);
        assert_eq!(mirror.take(4, None), Taken::OutOfOrder);
        mirror.forget();
        assert_eq!((mirror.newest(), mirror.witness()), (0, None));
        assert_eq!(mirror.take(1, change("acme", "b", Part::Topology)), Taken::Held);
        assert_eq!(head(&mirror, "acme", "a"), Some(Head::default()));
    }

    #[test]
    fn past_its_bound_tenants_are_left_out_whole_and_never_answered_for() {
        let mut mirror = Mirror::new(3);
        mirror.take(1, change("small", "a", Part::Topology));
        mirror.take(2, change("large", "a", Part::Topology));
        mirror.take(3, change("large", "b", Part::Topology));
        assert_eq!(mirror.take(4, change("large", "c", Part::Topology)), Taken::GivenUp);
        assert_eq!((mirror.services, head(&mirror, "large", "a")), (1, None));
        // It does not come back in part, nor does a tenant of which nothing is known any more.
        assert_eq!(mirror.take(5, change("large", "a", Part::Sli)), Taken::LeftOut);
        assert_eq!(mirror.take(6, change("late", "a", Part::Topology)), Taken::LeftOut);
        assert_eq!((head(&mirror, "large", "a"), head(&mirror, "late", "a")), (None, None));
        // The others are followed as ever, and everything that is told moves the position.
        assert_eq!(mirror.take(7, change("small", "a", Part::Sli)), Taken::Held);
        assert_eq!(head(&mirror, "small", "a"), Some(Head { topology: 1, sli: 7, incident: 0 }));
        for n in 8..1_000 {
            mirror.take(n, change("other", &format!("service-{n}"), Part::Topology));
        }
        assert_eq!((mirror.services, mirror.tenants.len(), mirror.newest()), (1, 1, 999));
    }
}
