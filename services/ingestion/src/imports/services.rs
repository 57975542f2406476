//! From the names that pagers have for services to the services that are known here.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, TenantId};

use super::{Complaint, Complaints, NamedService, Told, observed_name};
use crate::Error;
use crate::domain::{IncidentEvent, UnknownService};
use crate::storage::{IncidentNews, Store};

/// Most names of one service, and the longest one, that are remembered until somebody knows the service.
const UNKNOWN_NAMES_MAX: usize = 4;
const UNKNOWN_NAME_CHARS_MAX: usize = 200;
/// Most services under unknown names that one event tells of.
const UNKNOWN_MAX: usize = 20;

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

    /// Every name that the settings translate, in lower case, and the service that it means.
    pub(crate) fn translations(&self) -> impl Iterator<Item = (&str, &EntityId)> {
        self.mapped.iter().map(|(name, service)| (name.as_str(), service))
    }

    /// Puts the services into what was told: by the settings, else the service of that name that is known. An incident without
    /// one is kept without, with the names that nobody knows, and a warning says so.
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
                    let surely = unknown.iter().filter(|service| !service.perhaps);
                    for name in surely.clone().filter_map(|service| service.names.first()) {
                        warnings.push(unknown_service(&told.pointer, told.index, name));
                    }
                    if services.is_empty() && surely.count() == 0 && event.end_ms == Some(None) {
                        warnings.push(no_service(&told.pointer, told.index));
                    }
                    self.tell(event, &told.named, services, &unknown);
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

    /// An event that names nothing but what may well be no service says nothing of the services that earlier ones named.
    fn tell(
        &self,
        event: &mut IncidentEvent,
        named: &[NamedService],
        services: BTreeSet<EntityId>,
        unknown: &[&NamedService],
    ) {
        event.unknown = unknown.iter().take(UNKNOWN_MAX).map(|service| self.unknown(service)).collect();
        let says = !services.is_empty() || named.iter().any(|service| !service.perhaps);
        event.services = says.then_some(services);
    }

    /// What is remembered of a service that nobody knows.
    fn unknown(&self, service: &NamedService) -> UnknownService {
        let kept = |name: &String| attain_redaction::redact(name).0.chars().take(UNKNOWN_NAME_CHARS_MAX).collect();
        let mut candidates = Vec::new();
        if let Meaning::AnyOf(ids) = self.meaning(service) {
            for id in ids {
                if !candidates.contains(&id) {
                    candidates.push(id);
                }
            }
        }
        candidates.truncate(3 * UNKNOWN_NAMES_MAX);
        UnknownService { names: service.names.iter().take(UNKNOWN_NAMES_MAX).map(kept).collect(), candidates }
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

    /// The services that are meant, and those that nobody knows.
    fn meant<'n>(
        &self,
        named: &'n [NamedService],
        known: &BTreeSet<EntityId>,
    ) -> (BTreeSet<EntityId>, Vec<&'n NamedService>) {
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
                None => unknown.push(service),
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
    let reason = format!(
        "no service is known as `{name}`; the incident is kept, and is linked when one is, or by the settings, or by hand"
    );
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
            (vec!["host-17"], true, vec![], 1),
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

    #[test]
    fn what_may_be_no_service_takes_none_away_and_unknown_names_are_remembered() {
        let names = ServiceNames::new(&BTreeMap::new()).expect("valid");
        let known = BTreeSet::from([EntityId::new("id", "cart").expect("valid")]);
        let sure = |name: &str| NamedService { names: vec![name.to_owned()], perhaps: false };
        let perhaps = |name: &str| NamedService { perhaps: true, ..sure(name) };
        for (named, says, remembered) in [
            (vec![], None, vec![]),
            (vec![perhaps("host-17")], None, vec!["host-17"]),
            (vec![perhaps("cart")], Some(1), vec![]),
            (vec![sure("Mail Service")], Some(0), vec!["Mail Service"]),
            (vec![sure("cart"), perhaps("host-17")], Some(1), vec!["host-17"]),
            (vec![sure("token=hunter2hunter2")], Some(0), vec!["token=[REDACTED]"]),
        ] {
            let mut event = crate::domain::IncidentEvent {
                id: "opsgenie:1".into(),
                origin: "opsgenie",
                time_ms: 1,
                title: None,
                services: None,
                unknown: BTreeSet::new(),
                dismissed: None,
                start_ms: None,
                end_ms: None,
                priority: None,
                summary: None,
            };
            let (services, unknown) = names.meant(&named, &known);
            names.tell(&mut event, &named, services, &unknown);
            assert_eq!(event.services.as_ref().map(BTreeSet::len), says, "{named:?}");
            let kept: Vec<&str> = event.unknown.iter().map(|unknown| unknown.names[0].as_str()).collect();
            if remembered.iter().any(|name| name.contains("REDACTED")) {
                assert!(!kept[0].contains("hunter2"), "{kept:?}");
            } else {
                assert_eq!(kept, remembered, "{named:?}");
            }
        }
        let unknown = names.unknown(&sure("Mail Service"));
        let candidates: Vec<&str> = unknown.candidates.iter().map(EntityId::as_str).collect();
        assert_eq!(candidates, ["Mail-Service", "mail-service", "mail_service"]);
    }
}
