use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, EntityKind, InvalidValue, Ratio, Source, Tier};

use super::call_days::add_requests;
use super::{RequestDays, keep_newest};

/// What is known of a node of the dependency graph. What was declared stands before what was observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// Stable name.
    pub id: EntityId,
    /// What people call it.
    pub display_name: Option<String>,
    /// What its owner says it is.
    pub declared_kind: Option<EntityKind>,
    /// What it looked like when it was observed.
    pub observed_kind: Option<EntityKind>,
    /// How much depends on it.
    pub tier: Option<Tier>,
    /// The team that answers for it.
    pub owner: Option<String>,
    /// Where it runs.
    pub region: Option<String>,
    /// Availability that a contract promises, in (0, 1].
    pub published_availability: Option<Ratio>,
    /// Where it is known from.
    pub sources: BTreeSet<Source>,
    /// Requests to it that traces ever showed.
    pub request_count: u64,
    /// The same by day, of the days that call rates are measured in.
    pub request_days: RequestDays,
    /// What the service catalogue says of it; `None` where it does not know it.
    pub catalogue: Option<CatalogueWords>,
}

/// What the service catalogue says of a node. It is replaced as a whole, and stands behind what was declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogueWords {
    /// The catalogue's own name of it, for example `component:default/checkout`.
    pub reference: String,
    /// What people call it.
    pub display_name: Option<String>,
    /// What it is.
    pub kind: Option<EntityKind>,
    /// How much depends on it.
    pub tier: Option<Tier>,
    /// The team or person that answers for it.
    pub owner: Option<String>,
    /// The system that it is part of.
    pub system: Option<String>,
    /// For example `production` or `deprecated`.
    pub lifecycle: Option<String>,
}

/// One service as its owner describes it; what is left out keeps its stored value.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityDeclaration {
    /// Stable name.
    pub id: EntityId,
    /// What people call it.
    pub display_name: Option<String>,
    /// What it is.
    pub kind: Option<EntityKind>,
    /// How much depends on it.
    pub tier: Option<Tier>,
    /// The team that answers for it.
    pub owner: Option<String>,
    /// Where it runs.
    pub region: Option<String>,
    /// Availability that a contract promises, in (0, 1].
    pub published_availability: Option<Ratio>,
}

impl Entity {
    /// A name of which nothing else is known.
    #[must_use]
    pub fn named(id: EntityId) -> Self {
        Self {
            id,
            display_name: None,
            declared_kind: None,
            observed_kind: None,
            tier: None,
            owner: None,
            region: None,
            published_availability: None,
            sources: BTreeSet::new(),
            request_count: 0,
            request_days: RequestDays::new(),
            catalogue: None,
        }
    }

    /// What it is: as declared, else as the catalogue says, else as observed, else a service; but what the catalogue calls a
    /// resource is infrastructure.
    #[must_use]
    pub fn kind(&self) -> EntityKind {
        let said = self.catalogue.as_ref().and_then(|words| words.kind);
        let resource = self.catalogue.as_ref().is_some_and(|words| words.reference.starts_with("resource:"));
        let otherwise = if resource { EntityKind::Infrastructure } else { EntityKind::Service };
        self.declared_kind.or(said).or(self.observed_kind).unwrap_or(otherwise)
    }

    /// What people call it: as declared, else as the catalogue says.
    #[must_use]
    pub fn display_name(&self) -> Option<&str> {
        let said = self.catalogue.as_ref().and_then(|words| words.display_name.as_deref());
        self.display_name.as_deref().or(said)
    }

    /// How much depends on it: as declared, else as the catalogue says.
    #[must_use]
    pub fn tier(&self) -> Option<Tier> {
        self.tier.or(self.catalogue.as_ref().and_then(|words| words.tier))
    }

    /// The team that answers for it: as declared, else as the catalogue says.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        let said = self.catalogue.as_ref().and_then(|words| words.owner.as_deref());
        self.owner.as_deref().or(said)
    }

    /// Whether nobody knows it, or nobody but the catalogue: then whoever names it from now on is noted as its source.
    #[must_use]
    pub fn known_from_catalogue_at_most(&self) -> bool {
        self.sources.iter().all(|source| *source == Source::Catalogue)
    }

    /// Takes over what the catalogue says now.
    pub fn catalogued(&mut self, words: CatalogueWords) {
        self.catalogue = Some(words);
        self.sources.insert(Source::Catalogue);
    }

    /// The catalogue does not know it any more.
    pub fn uncatalogued(&mut self) {
        self.catalogue = None;
        self.sources.remove(&Source::Catalogue);
    }

    /// Takes over what its owner says now.
    pub fn declare(&mut self, said: EntityDeclaration) {
        fn keep<T>(stored: &mut Option<T>, said: Option<T>) {
            if said.is_some() {
                *stored = said;
            }
        }
        keep(&mut self.display_name, said.display_name);
        keep(&mut self.declared_kind, said.kind);
        keep(&mut self.tier, said.tier);
        keep(&mut self.owner, said.owner);
        keep(&mut self.region, said.region);
        keep(&mut self.published_availability, said.published_availability);
        self.sources.insert(Source::Declared);
    }

    /// Takes over what was seen: what it looks like, requests since the last time, and who saw it.
    pub fn observe(&mut self, kind: Option<EntityKind>, request_count: u64, sources: &BTreeSet<Source>) {
        self.observed_kind = most_certain(self.observed_kind, kind);
        self.request_count = self.request_count.saturating_add(request_count);
        self.sources.extend(sources);
    }

    /// Takes over requests by day; of the newest `window_days` days they are kept.
    pub fn count_requests(&mut self, days: &RequestDays, window_days: u32) {
        add_requests(&mut self.request_days, days);
        keep_newest(&mut self.request_days, window_days);
    }

    /// What a search looks through: id, display name and owner in lower case.
    #[must_use]
    pub fn search_text(&self) -> String {
        let parts = [Some(self.id.as_str()), self.display_name(), self.owner()];
        parts.into_iter().flatten().map(str::to_lowercase).collect::<Vec<_>>().join("\n")
    }
}

/// Of two guesses the more certain one. Whoever was seen to answer requests of its own is a service; otherwise the first
/// stays, so that two observers who disagree do not make it change back and forth.
#[must_use]
pub fn most_certain(stored: Option<EntityKind>, seen: Option<EntityKind>) -> Option<EntityKind> {
    match (stored, seen) {
        (_, Some(EntityKind::Service)) => Some(EntityKind::Service),
        (stored, seen) => stored.or(seen),
    }
}

impl EntityDeclaration {
    /// A declaration that says nothing but the name.
    #[must_use]
    pub fn named(id: EntityId) -> Self {
        let (display_name, owner, region) = (None, None, None);
        Self { id, display_name, kind: None, tier: None, owner, region, published_availability: None }
    }

    /// Adds the promise of a contract.
    ///
    /// # Errors
    /// Refuses NaN and anything outside (0, 1].
    pub fn publish(mut self, availability_ratio: Option<f64>) -> Result<Self, InvalidValue> {
        const FIELD: &str = "published_availability_ratio";
        self.published_availability = availability_ratio.map(|value| Ratio::new(FIELD, value)).transpose()?;
        if self.published_availability.is_some_and(|ratio| ratio.get() == 0.0) {
            return Err(InvalidValue::new(FIELD, "out_of_range", "nobody promises an availability of 0"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity() -> Entity {
        Entity::named(EntityId::new("id", "db").expect("valid"))
    }

    #[test]
    fn what_was_declared_stands_before_what_was_seen() {
        let mut db = entity();
        assert_eq!(db.kind(), EntityKind::Service);
        let traces = BTreeSet::from([Source::Traces]);
        db.observe(Some(EntityKind::Cache), 0, &traces);
        db.observe(Some(EntityKind::External), 2, &traces);
        assert_eq!(db.kind(), EntityKind::Cache);
        db.observe(Some(EntityKind::Service), 1, &traces);
        db.observe(Some(EntityKind::Cache), 0, &traces);
        assert_eq!((db.kind(), db.request_count), (EntityKind::Service, 3));
        db.declare(EntityDeclaration { kind: Some(EntityKind::Datastore), ..EntityDeclaration::named(db.id.clone()) });
        db.declare(EntityDeclaration::named(db.id.clone()));
        assert_eq!(db.kind(), EntityKind::Datastore);
        assert_eq!(db.sources, BTreeSet::from([Source::Declared, Source::Traces]));
    }

    #[test]
    fn the_catalogue_stands_between_what_was_declared_and_what_was_seen() {
        let mut db = entity();
        db.observe(Some(EntityKind::Cache), 0, &BTreeSet::from([Source::Traces]));
        let words = CatalogueWords {
            reference: "resource:default/db".into(),
            tier: Some(Tier::Two),
            owner: Some("storage".into()),
            ..CatalogueWords::default()
        };
        db.catalogued(words.clone());
        assert_eq!((db.kind(), db.tier(), db.owner()), (EntityKind::Cache, Some(Tier::Two), Some("storage")));
        db.catalogued(CatalogueWords { kind: Some(EntityKind::Datastore), ..words.clone() });
        assert_eq!(db.kind(), EntityKind::Datastore);
        db.declare(EntityDeclaration { tier: Some(Tier::One), ..EntityDeclaration::named(db.id.clone()) });
        assert_eq!((db.tier(), db.owner()), (Some(Tier::One), Some("storage")));
        assert!(db.search_text().contains("storage"));
        db.uncatalogued();
        assert_eq!((db.kind(), db.tier(), db.owner()), (EntityKind::Cache, Some(Tier::One), None));
        assert_eq!(db.sources, BTreeSet::from([Source::Declared, Source::Traces]));

        let mut unseen = entity();
        assert!(unseen.known_from_catalogue_at_most());
        unseen.catalogued(words);
        assert!(unseen.known_from_catalogue_at_most());
        assert_eq!(unseen.kind(), EntityKind::Infrastructure);
    }

    #[test]
    fn a_promise_is_above_zero_and_at_most_one() {
        for (value, code) in [(0.0, "out_of_range"), (1.1, "out_of_range"), (f64::NAN, "not_a_number")] {
            let refused = EntityDeclaration::named(entity().id).publish(Some(value));
            assert_eq!(refused.map_err(|e| e.code), Err(code), "{value}");
        }
        assert!(EntityDeclaration::named(entity().id).publish(Some(1.0)).is_ok());
    }
}
