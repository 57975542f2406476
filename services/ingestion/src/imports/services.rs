//! From the names that pagers have for services to the services that are known here.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, TenantId};

use super::{Complaint, Complaints, NamedService, Told, observed_name};
use crate::Error;
use crate::storage::{IncidentNews, Store};

/// Names that settings translate.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceNames {
    /// In lower case.
    mapped: BTreeMap<String, EntityId>,
}

/// What a name may stand for.
enum Meaning {
    /// The settings say so.
    Mapped(EntityId),
    /// The first of these that is known.
    AnyOf(Vec<EntityId>),
}

impl ServiceNames {
    /// Reads the setting `ingestion.incidents.services`.
    ///
    /// # Errors
    /// Names the entry whose service has no name that a service can have.
    pub(crate) fn new(settings: &BTreeMap<String, String>) -> Result<Self, attain_runtime::Error> {
        let read = settings.iter().map(|(name, service)| {
            let id = EntityId::new("service", service).map_err(|invalid| {
                let detail = format!("ingestion.incidents.services.\"{name}\": {}", invalid.reason);
                attain_runtime::Error::Config(detail)
            })?;
            Ok((name.trim().to_lowercase(), id))
        });
        Ok(Self { mapped: read.collect::<Result<_, attain_runtime::Error>>()? })
    }

    /// Puts the services into what was told: by the settings, else the service of that name that is known. An incident without
    /// one is kept without, and a warning says so.
    pub(crate) async fn link(
        &self,
        store: &Store,
        tenant: &TenantId,
        told: &mut [Told],
        warnings: &mut Complaints,
    ) -> Result<(), Error> {
        let wanted = told.iter().flat_map(|told| self.wanted(told)).collect();
        let known = store.known_services(tenant, &wanted).await?;
        for told in told {
            match &mut told.news {
                IncidentNews::Event(event) => {
                    let (services, unknown) = self.meant(&told.named, &known);
                    for name in &unknown {
                        warnings.push(unknown_service(&told.pointer, told.index, name));
                    }
                    if services.is_empty() && unknown.is_empty() && event.end_ms == Some(None) {
                        warnings.push(no_service(&told.pointer, told.index));
                    }
                    event.services = (!told.named.is_empty()).then_some(services);
                }
                IncidentNews::Report(incident) => {
                    for service in incident.services.difference(&known) {
                        warnings.push(unknown_service(&told.pointer, told.index, service.as_str()));
                    }
                }
            }
        }
        Ok(())
    }

    fn wanted(&self, told: &Told) -> BTreeSet<EntityId> {
        match &told.news {
            IncidentNews::Report(incident) => incident.services.clone(),
            IncidentNews::Event(_) => {
                let meanings = told.named.iter().map(|service| self.meaning(service));
                meanings
                    .flat_map(|meaning| match meaning {
                        Meaning::Mapped(_) => Vec::new(),
                        Meaning::AnyOf(ids) => ids,
                    })
                    .collect()
            }
        }
    }

    /// The services that are meant, and the names that mean none.
    fn meant(&self, named: &[NamedService], known: &BTreeSet<EntityId>) -> (BTreeSet<EntityId>, Vec<String>) {
        let mut services = BTreeSet::new();
        let mut unknown = Vec::new();
        for service in named {
            let found = match self.meaning(service) {
                Meaning::Mapped(id) => Some(id),
                Meaning::AnyOf(ids) => ids.into_iter().find(|id| known.contains(id)),
            };
            match found {
                Some(id) => {
                    services.insert(id);
                }
                None if service.perhaps => {}
                None => unknown.extend(service.names.first().cloned()),
            }
        }
        (services, unknown)
    }

    fn meaning(&self, service: &NamedService) -> Meaning {
        let mapped = service.names.iter().find_map(|name| self.mapped.get(&name.trim().to_lowercase()));
        if let Some(id) = mapped {
            return Meaning::Mapped(id.clone());
        }
        let spelled = service.names.iter().flat_map(|name| {
            let lower = name.to_lowercase();
            [observed_name(name), observed_name(&lower), observed_name(&lower.replace([' ', '-'], "_"))]
        });
        Meaning::AnyOf(spelled.flatten().collect())
    }
}

fn unknown_service(pointer: &str, index: usize, name: &str) -> Complaint {
    let name: String = attain_redaction::redact(name).0.chars().take(128).collect();
    let reason =
        format!("no service is known as `{name}`; the incident is kept, and can be linked by hand or by the settings");
    Complaint::new(pointer.to_owned(), "unknown_service", reason).at(index)
}

fn no_service(pointer: &str, index: usize) -> Complaint {
    let reason = "no service is named; the incident is kept, and can be linked by hand";
    Complaint::new(pointer.to_owned(), "no_service", reason).at(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_settings_say_or_what_is_known() {
        let settings = BTreeMap::from([("API Service".to_owned(), "gateway".to_owned())]);
        let names = ServiceNames::new(&settings).expect("valid");
        let id = |name: &str| EntityId::new("id", name).expect("valid");
        let known = BTreeSet::from([id("checkout-service"), id("Cart"), id("user_db")]);
        for (given, perhaps, expected, unknown) in [
            (vec!["api service"], false, vec!["gateway"], 0),
            (vec!["Checkout Service", "PF9KMXH"], false, vec!["checkout-service"], 0),
            (vec!["Cart"], false, vec!["Cart"], 0),
            (vec!["User DB"], false, vec!["user_db"], 0),
            (vec!["nobody"], false, vec![], 1),
            (vec!["host-17"], true, vec![], 0),
            (vec!["***"], false, vec![], 1),
        ] {
            let named = NamedService { names: given.iter().map(ToString::to_string).collect(), perhaps };
            let (services, missing) = names.meant(std::slice::from_ref(&named), &known);
            let services: Vec<&str> = services.iter().map(EntityId::as_str).collect();
            assert_eq!((services, missing.len()), (expected, unknown), "{given:?}");
        }
        let bad = BTreeMap::from([("x".to_owned(), "a b".to_owned())]);
        assert!(ServiceNames::new(&bad).expect_err("no name").to_string().contains("ingestion.incidents.services"));
    }
}
