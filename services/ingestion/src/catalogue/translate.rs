//! What the entities of a catalogue mean for the graph. Pure: the same entities and rules, the same meaning.

use std::collections::{BTreeMap, BTreeSet};

use attain_redaction::{redact, redact_name, shown_address};
use attain_vocabulary::{DependencyMode, EntityId, EntityKind, InvalidValue};
use sha2::{Digest as _, Sha256};

use super::kinds::{KINDS, hyphenated, read_tier};
use super::pages::CatalogueEntity;
use super::problems::{Problems, shown};
use super::reference::{Naming, Reference};
use super::settings::CatalogueConfig;
use crate::domain::{CatalogueWords, DependencyKey, DependencyTerms, entity_name, optional_text};
use crate::storage::{CatalogueEntry, CatalogueSnapshot};

/// Counted up whenever the same entities come to mean something else.
const VERSION: u32 = 3;
const NAME_CHARS_MAX: usize = 200;
const WORD_CHARS_MAX: usize = 64;

/// How entities are understood.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    naming: Naming,
    name_marks: Vec<String>,
    tier_marks: Vec<String>,
    lifecycle_marks: Vec<String>,
    /// Of resources.
    kinds: BTreeMap<String, EntityKind>,
    /// Of components: only what the operator said, for a `cache-warmer` is no cache.
    component_kinds: BTreeMap<String, EntityKind>,
    ignored_types: BTreeSet<String>,
    /// Digest of all that.
    understanding: String,
}

/// What a sweep means, and what of it could not be taken over as it stands.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) snapshot: CatalogueSnapshot,
    pub(super) problems: Problems,
}

impl Rules {
    pub(super) fn new(config: &CatalogueConfig) -> Self {
        let mut kinds: BTreeMap<String, EntityKind> =
            KINDS.iter().map(|(word, kind)| ((*word).to_owned(), *kind)).collect();
        let said: BTreeMap<String, EntityKind> =
            config.kinds.iter().map(|(word, kind)| (hyphenated(word), *kind)).collect();
        kinds.extend(said.clone());
        let mut rules = Self {
            naming: config.naming,
            name_marks: config.name_annotations.clone(),
            tier_marks: config.tier_annotations.clone(),
            lifecycle_marks: config.lifecycle_annotations.clone(),
            kinds,
            component_kinds: said,
            ignored_types: config.ignored_types.iter().map(|word| word.to_lowercase()).collect(),
            understanding: String::new(),
        };
        // By another key, or none, addresses have other names.
        let address = shown_address(std::net::Ipv4Addr::new(192, 0, 2, 1).into());
        let digest = Sha256::digest(format!("{VERSION} {address} {rules:?}"));
        rules.understanding = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        rules
    }

    fn resource_kind(&self, entity_type: &str) -> Option<EntityKind> {
        let word = hyphenated(entity_type);
        let first = word.split('-').next().unwrap_or_default();
        self.kinds.get(&word).or_else(|| self.kinds.get(first)).copied()
    }
}

/// Says what entities mean.
pub(super) fn translate<'a>(
    rules: &Rules,
    entities: impl IntoIterator<Item = &'a CatalogueEntity>,
    malformed: impl IntoIterator<Item = &'a String>,
) -> Translation {
    let mut translator =
        Translator { rules, problems: Problems::default(), nodes: BTreeMap::new(), left: BTreeSet::new() };
    for reason in malformed {
        translator.problems.add("entity_malformed", || reason.clone());
    }
    let mut by_reference: BTreeMap<&Reference, &CatalogueEntity> = BTreeMap::new();
    for entity in entities {
        // Taken away and put back in between: the later one stands.
        if by_reference.insert(&entity.reference, entity).is_some() {
            translator.problems.add("entity_twice", || entity.reference.to_string());
        }
    }
    let words = translator.name_nodes(&by_reference);
    translator.snapshot(&by_reference, words)
}

struct Translator<'r> {
    rules: &'r Rules,
    problems: Problems,
    /// Names in the graph of everything that is a node of it.
    nodes: BTreeMap<Reference, EntityId>,
    /// What is in the catalogue and, on purpose, no node.
    left: BTreeSet<Reference>,
}

type Words = BTreeMap<EntityId, CatalogueWords>;
type Edges = BTreeMap<DependencyKey, DependencyTerms>;

impl Translator<'_> {
    /// Entities get their names: components first, then resources, then what is made of them, each in the order of the
    /// catalogue's names, so that the same entities always get the same.
    fn name_nodes(&mut self, entities: &BTreeMap<&Reference, &CatalogueEntity>) -> Words {
        let mut words = Words::new();
        let is_composite = |entity: &&&CatalogueEntity| composite_kind(&entity.reference).is_some();
        let nodes = || entities.values().filter(|entity| is_node(&entity.reference));
        let others = nodes().filter(|entity| !is_composite(entity));
        for entity in others.chain(nodes().filter(is_composite)) {
            let entity_type = entity.entity_type.as_deref().unwrap_or_default().to_lowercase();
            if entity.reference.kind == "component" && self.rules.ignored_types.contains(&entity_type) {
                self.problems.add("type_ignored", || format!("{} is a {entity_type}", entity.reference));
                self.left.insert(entity.reference.clone());
                continue;
            }
            if let Some(id) = self.name(&entity.reference, self.wanted_name(entity), &words) {
                self.nodes.insert(entity.reference.clone(), id.clone());
                let said = self.words(entity);
                words.insert(id, said);
            } else {
                self.left.insert(entity.reference.clone());
            }
        }
        words
    }

    /// An API or a system has the catalogue's full name: telemetry knows neither, and a service that it knows by the same short
    /// name is something else.
    fn wanted_name(&self, entity: &CatalogueEntity) -> String {
        if composite_kind(&entity.reference).is_some() {
            return entity.reference.to_string();
        }
        let named = self.rules.name_marks.iter().find_map(|mark| entity.marks.get(mark));
        let (namespace, name) = &entity.spelled;
        named.map_or_else(|| self.rules.naming.of(namespace, name), |name| name.trim().to_owned())
    }

    /// The wanted name, or, where somebody has it, the catalogue's full one.
    fn name(&mut self, reference: &Reference, wanted: String, taken: &Words) -> Option<EntityId> {
        let id = match graph_name(&wanted) {
            Ok(id) => id,
            Err(invalid) => {
                self.problems.add("name_refused", || format!("{reference} as `{wanted}`: {}", invalid.reason));
                return None;
            }
        };
        let Some(holder) = taken.get(&id) else { return Some(id) };
        let full = EntityId::new("name", &reference.to_string()).ok().filter(|full| !taken.contains_key(full));
        let instead = full.as_ref().map_or("left out".to_owned(), |full| format!("called {full}"));
        self.problems.add("name_collision", || {
            format!("{reference} would be called {id}, as {} is; it is {instead}", holder.reference)
        });
        full
    }

    fn words(&mut self, entity: &CatalogueEntity) -> CatalogueWords {
        let reference = &entity.reference;
        let first_mark = |marks: &[String]| marks.iter().find_map(|mark| entity.marks.get(mark)).cloned();
        let related = |kind: &str| {
            entity
                .relations
                .iter()
                .find(|(found, target)| found == kind && (kind != "partOf" || target.starts_with("system:")))
        };
        let owner = related("ownedBy").map(|(_, target)| target).or(entity.owner.as_ref());
        let owner = owner.and_then(|owner| self.shown("owner", reference, owner, "group"));
        let system = related("partOf").map(|(_, target)| target).or(entity.system.as_ref());
        let system = system.and_then(|system| self.shown("system", reference, system, "system"));
        let tier = first_mark(&self.rules.tier_marks).and_then(|said| {
            let tier = read_tier(&said);
            if tier.is_none() {
                self.problems.add("tier_unknown", || format!("{reference}: `{}`", shown(&said, 50)));
            }
            tier
        });
        let lifecycle = first_mark(&self.rules.lifecycle_marks).or_else(|| entity.lifecycle.clone());
        CatalogueWords {
            display_name: self.text("title", reference, entity.title.as_deref(), NAME_CHARS_MAX),
            kind: self.kind(entity),
            tier,
            owner,
            system,
            lifecycle: self.text("lifecycle", reference, lifecycle.as_deref(), WORD_CHARS_MAX),
            reference: reference.to_string(),
        }
    }

    fn kind(&mut self, entity: &CatalogueEntity) -> Option<EntityKind> {
        let (reference, said) = (&entity.reference, entity.entity_type.as_deref().unwrap_or_default());
        if reference.kind == "component" {
            return Some(self.rules.component_kinds.get(&hyphenated(said)).copied().unwrap_or(EntityKind::Service));
        }
        if let Some(kind) = composite_kind(reference) {
            return Some(kind);
        }
        let kind = self.rules.resource_kind(said);
        if kind.is_none() {
            self.problems.add("type_unknown", || format!("{reference} is of type `{}`", shown(said, 50)));
        }
        kind
    }

    /// A reference as people write it; relative ones are of the entity's own namespace.
    fn shown(&mut self, field: &str, of: &Reference, said: &str, usual_kind: &str) -> Option<String> {
        let full = match (said.split_once(':'), said.split_once('/')) {
            (Some(_), _) => Reference::parse(said),
            (None, Some((namespace, name))) => Reference::new(usual_kind, namespace, name),
            (None, None) => Reference::new(usual_kind, &of.namespace, said),
        };
        if full.is_none() {
            self.problems.add("reference_malformed", || format!("{of}: {field} `{}`", shown(said, 100)));
        }
        full.map(|full| full.short(usual_kind)).filter(|short| short.len() <= NAME_CHARS_MAX)
    }

    fn text(&mut self, field: &str, of: &Reference, said: Option<&str>, chars_max: usize) -> Option<String> {
        match optional_text(field, &redact(said?).0, chars_max) {
            Ok(text) => text,
            Err(invalid) => {
                self.problems.add("text_refused", || format!("{of}: {field}: {}", invalid.reason));
                None
            }
        }
    }

    fn snapshot(mut self, entities: &BTreeMap<&Reference, &CatalogueEntity>, mut words: Words) -> Translation {
        let mut edges = Edges::new();
        let mut wholes = Wholes::default();
        for entity in entities.values() {
            if entity.reference.kind == "api" {
                wholes.api(entity.reference.clone()).entity_type = entity.entity_type.clone();
            }
            if entity.relations_left_count > 0 {
                self.problems.add("relations_too_many", || {
                    format!("{}: {} are left out", entity.reference, entity.relations_left_count)
                });
            }
            self.relate(entity, &mut words, &mut edges, &mut wholes);
        }
        for (api, of) in &wholes.apis {
            self.connect(api, of, &mut words, &mut edges);
        }
        let parts = wholes.apis.iter().map(|(api, of)| (api, &of.providers)).chain(&wholes.members);
        for (whole, parts) in parts {
            self.compose(whole, parts, &mut edges);
        }
        let entries = entities.iter().map(|(reference, entity)| {
            let service = self.nodes.get(*reference).cloned();
            (reference.to_string(), CatalogueEntry { etag: entity.etag.clone(), service })
        });
        let mut entries: BTreeMap<String, CatalogueEntry> = entries.collect();
        for (reference, id) in &self.nodes {
            let named_only = || CatalogueEntry { etag: String::new(), service: Some(id.clone()) };
            entries.entry(reference.to_string()).or_insert_with(named_only);
        }
        let problems = self.problems.listed();
        let understanding = self.rules.understanding.clone();
        let snapshot = CatalogueSnapshot { understanding, entries, words, edges, problems };
        Translation { snapshot, problems: self.problems }
    }

    /// Each relation stands on both of its entities; either is enough, for the other may be filtered out.
    fn relate(&mut self, entity: &CatalogueEntity, words: &mut Words, edges: &mut Edges, wholes: &mut Wholes) {
        for (kind, target) in &entity.relations {
            let Some((relation, reversed)) = Relation::read(kind) else { continue };
            let Some(target) = Reference::parse(target) else {
                if kind == "partOf" {
                    // Told already where the word for the system is read.
                    continue;
                }
                self.problems
                    .add("reference_malformed", || format!("{}: {kind} `{}`", entity.reference, shown(target, 100)));
                continue;
            };
            let this = entity.reference.clone();
            let (from, to) = if reversed { (target, this) } else { (this, target) };
            match relation {
                // To depend on an API is to consume it: it is its providers who are called.
                Relation::DependsOn if to.kind == "api" => drop(wholes.api(to).consumers.insert(from)),
                Relation::DependsOn => self.depend(&from, &to, DependencyTerms::default(), words, edges),
                Relation::Consumes => drop(wholes.api(to).consumers.insert(from)),
                Relation::Provides => drop(wholes.api(to).providers.insert(from)),
                Relation::PartOf => wholes.member(to, from),
            }
        }
    }

    /// Whoever consumes an API depends on each who provides it.
    fn connect(&mut self, api: &Reference, of: &Api, words: &mut Words, edges: &mut Edges) {
        if of.providers.is_empty() {
            for consumer in &of.consumers {
                self.problems.add("api_without_provider", || format!("{consumer} consumes {api}"));
            }
        }
        for consumer in &of.consumers {
            for provider in of.providers.iter().filter(|provider| *provider != consumer) {
                self.depend(consumer, provider, of.terms(), words, edges);
            }
        }
    }

    /// What is made of others needs them. Only what is there anyway is connected: nobody who is part of something says that it is
    /// needed.
    fn compose(&self, whole: &Reference, parts: &BTreeSet<Reference>, edges: &mut Edges) {
        let Some(whole) = self.nodes.get(whole) else { return };
        for part in parts.iter().filter_map(|part| self.nodes.get(part)) {
            if let Ok(key) = DependencyKey::new(whole.clone(), part.clone()) {
                edges.entry(key).or_default();
            }
        }
    }

    fn depend(
        &mut self,
        caller: &Reference,
        callee: &Reference,
        terms: DependencyTerms,
        words: &mut Words,
        edges: &mut Edges,
    ) {
        let Some(ends) = self.node(caller, words).zip(self.node(callee, words)) else { return };
        match DependencyKey::new(ends.0, ends.1) {
            Ok(key) => {
                let earlier = edges.remove(&key);
                edges.insert(key, together(earlier, terms));
            }
            Err(_) => self.problems.add("relation_to_itself", || caller.to_string()),
        }
    }

    /// The node of a reference. One that the sweep did not bring, because it is filtered out or does not exist, becomes a
    /// node all the same: whoever names it says that it is needed.
    fn node(&mut self, reference: &Reference, words: &mut Words) -> Option<EntityId> {
        if let Some(id) = self.nodes.get(reference) {
            return Some(id.clone());
        }
        if self.left.contains(reference) {
            return None;
        }
        if !is_node(reference) {
            self.problems.add("relation_ignored", || format!("{reference} is no component, resource, API or system"));
            self.left.insert(reference.clone());
            return None;
        }
        self.problems.add("not_in_catalogue", || reference.to_string());
        let kind = composite_kind(reference);
        let wanted = match kind {
            Some(_) => reference.to_string(),
            None => self.rules.naming.of(&reference.namespace, &reference.name),
        };
        let Some(id) = self.name(reference, wanted, words) else {
            self.left.insert(reference.clone());
            return None;
        };
        self.nodes.insert(reference.clone(), id.clone());
        let said = CatalogueWords { kind, reference: reference.to_string(), ..CatalogueWords::default() };
        words.insert(id.clone(), said);
        Some(id)
    }
}

/// How two entities are related, as far as it matters.
#[derive(Debug, Clone, Copy)]
enum Relation {
    DependsOn,
    Consumes,
    Provides,
    PartOf,
}

impl Relation {
    /// The relation, and whether it is told from its other end.
    fn read(kind: &str) -> Option<(Self, bool)> {
        Some(match kind {
            "dependsOn" => (Self::DependsOn, false),
            "dependencyOf" => (Self::DependsOn, true),
            "consumesApi" => (Self::Consumes, false),
            "apiConsumedBy" => (Self::Consumes, true),
            "providesApi" => (Self::Provides, false),
            "apiProvidedBy" => (Self::Provides, true),
            "partOf" => (Self::PartOf, false),
            "hasPart" => (Self::PartOf, true),
            _ => return None,
        })
    }
}

/// What is made of others, and of whom.
#[derive(Debug, Default)]
struct Wholes {
    apis: BTreeMap<Reference, Api>,
    /// Members by system.
    members: BTreeMap<Reference, BTreeSet<Reference>>,
}

impl Wholes {
    fn api(&mut self, reference: Reference) -> &mut Api {
        self.apis.entry(reference).or_default()
    }

    /// Components and resources are members of systems; the APIs of a system are offered by them.
    fn member(&mut self, of: Reference, member: Reference) {
        if of.kind == "system" && matches!(member.kind.as_str(), "component" | "resource") {
            self.members.entry(of).or_default().insert(member);
        }
    }
}

/// Who consumes an API and who provides it.
#[derive(Debug, Default)]
struct Api {
    entity_type: Option<String>,
    consumers: BTreeSet<Reference>,
    providers: BTreeSet<Reference>,
}

impl Api {
    /// What the type of an API says of its calls; messages (`asyncapi`) are taken outside the request.
    fn terms(&self) -> DependencyTerms {
        let (protocol, mode) = match self.entity_type.as_deref().unwrap_or_default().to_lowercase().as_str() {
            "openapi" | "graphql" | "trpc" => (Some("http"), None),
            "grpc" => (Some("grpc"), None),
            "asyncapi" => (None, Some(DependencyMode::Async)),
            _ => (None, None),
        };
        DependencyTerms { protocol: protocol.map(str::to_owned), mode, ..DependencyTerms::default() }
    }
}

/// What several relations say of one edge: it is asynchronous only where all of them are.
fn together(earlier: Option<DependencyTerms>, later: DependencyTerms) -> DependencyTerms {
    let Some(earlier) = earlier else { return later };
    let mode = if earlier.mode == later.mode { later.mode } else { None };
    DependencyTerms { mode, ..earlier.or(later) }
}

/// What an entity is called in the graph: addresses of machines by their pseudonyms, where they are kept out of names. A
/// secret makes the name be refused, as in a request: a mark in its place would be the name of all that have one.
fn graph_name(wanted: &str) -> Result<EntityId, InvalidValue> {
    EntityId::new("name", &redact_name(wanted)).map_err(|invalid| entity_name("name", wanted).err().unwrap_or(invalid))
}

fn is_node(reference: &Reference) -> bool {
    matches!(reference.kind.as_str(), "component" | "resource") || composite_kind(reference).is_some()
}

/// What an entity is that others make.
fn composite_kind(reference: &Reference) -> Option<EntityKind> {
    match reference.kind.as_str() {
        "api" => Some(EntityKind::Api),
        "system" => Some(EntityKind::System),
        _ => None,
    }
}
