//! All pages of the catalogue, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_redaction::redact;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::client::{Authorization, Client, Fetched, Trouble};
use super::problems::shown;
use super::reference::{DEFAULT_NAMESPACE, Reference};
use super::settings::CatalogueConfig;

/// What is asked of each entity, besides the named annotations and labels: no more than is understood, so that nothing else
/// reaches this process. Answers without `fields` are streamed by Backstage and have no entity tag.
const FIELDS: [&str; 10] = [
    "kind",
    "metadata.namespace",
    "metadata.name",
    "metadata.title",
    "metadata.etag",
    "spec.type",
    "spec.lifecycle",
    "spec.owner",
    "spec.system",
    "relations",
];
/// In the order of a field that never changes, an entity that others come before or after is neither skipped nor read twice.
const ORDER: &str = "metadata.uid,asc";
/// Most relations of one entity.
const RELATIONS_MAX: usize = 10_000;

/// An entity as the catalogue tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CatalogueEntity {
    pub(super) reference: Reference,
    /// Namespace and name in the spelling of whoever wrote them.
    pub(super) spelled: (String, String),
    /// Changes with everything else.
    pub(super) etag: String,
    pub(super) title: Option<String>,
    /// Those annotations and labels that were asked for.
    pub(super) marks: BTreeMap<String, String>,
    pub(super) entity_type: Option<String>,
    pub(super) lifecycle: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) system: Option<String>,
    /// Type and target.
    pub(super) relations: Vec<(String, String)>,
    /// Relations beyond those that are read.
    pub(super) relations_left_count: usize,
}

/// One page.
#[derive(Debug, PartialEq)]
pub(super) struct Page {
    pub(super) entities: Vec<CatalogueEntity>,
    /// Why entities of it cannot be read, one text each.
    pub(super) malformed: Vec<String>,
    /// Entities of all pages together, where the catalogue says so.
    total: Option<usize>,
    /// Where the next page is.
    next: Option<String>,
}

impl Page {
    fn len(&self) -> usize {
        self.entities.len() + self.malformed.len()
    }
}

/// Every page of the catalogue at about one time.
#[derive(Debug, Clone)]
pub(super) struct Sweep {
    pub(super) pages: Vec<Arc<Page>>,
    /// Whether no page is different from the last complete sweep.
    pub(super) unchanged: bool,
}

/// Reads sweep after sweep, and asks only for what is different from the last complete one.
#[derive(Debug)]
pub(super) struct Sweeper {
    client: Client,
    filter: Vec<String>,
    fields: String,
    marks: BTreeSet<String>,
    page_size: String,
    entities_max: usize,
    bytes_max: usize,
    /// The last complete sweep, by the cursor of each page; empty for the first.
    kept: BTreeMap<String, Kept>,
}

#[derive(Debug, Clone)]
struct Kept {
    etag: Option<String>,
    page: Arc<Page>,
}

impl Sweeper {
    pub(super) fn new(config: &CatalogueConfig) -> Result<Self, String> {
        let marks: BTreeSet<String> = config
            .name_annotations
            .iter()
            .chain(&config.tier_annotations)
            .chain(&config.lifecycle_annotations)
            .cloned()
            .collect();
        let marked =
            marks.iter().flat_map(|mark| [format!("metadata.annotations.{mark}"), format!("metadata.labels.{mark}")]);
        let fields: Vec<String> = FIELDS.iter().map(ToString::to_string).chain(marked).collect();
        Ok(Self {
            client: Client::new(config)?,
            filter: config.filter.clone(),
            fields: fields.join(","),
            marks,
            page_size: config.page_size.to_string(),
            entities_max: config.entities_max,
            bytes_max: config.bytes_max,
            kept: BTreeMap::new(),
        })
    }

    /// Reads all pages.
    ///
    /// # Errors
    /// Whatever keeps a page from being read: then there is no sweep, and the next one begins anew.
    pub(super) async fn sweep(&mut self) -> Result<Sweep, Trouble> {
        let authorization = self.client.authorization().await?;
        let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
        let mut sweep = Sweep { pages: Vec::new(), unchanged: true };
        let (mut cursor, mut entity_count, mut bytes_left) = (String::new(), 0, self.bytes_max);
        loop {
            let (page, known) = self.page(&authorization, &cursor, &mut bytes_left).await?;
            sweep.unchanged &= known;
            entity_count += page.page.len();
            let next = page.page.next.clone();
            let total = kept.values().next().map_or(page.page.total, |first: &Kept| first.page.total).unwrap_or(0);
            if entity_count.max(total) > self.entities_max {
                let reason = format!("{} entities; at most {} are read", entity_count.max(total), self.entities_max);
                return Err(Trouble::TooLarge(reason));
            }
            if page.page.len() == 0 && next.is_some() {
                return Err(Trouble::Incomplete("a page is empty, and another is to follow it".to_owned()));
            }
            sweep.pages.push(Arc::clone(&page.page));
            kept.insert(std::mem::take(&mut cursor), page);
            match next {
                Some(next) if kept.contains_key(&next) => {
                    return Err(Trouble::Incomplete("a page names itself or an earlier one as the next".to_owned()));
                }
                Some(next) => cursor = next,
                None if entity_count < total => {
                    let reason = format!("{entity_count} entities came of {total} that were announced");
                    return Err(Trouble::Incomplete(reason));
                }
                None => break,
            }
        }
        sweep.unchanged &= kept.len() == self.kept.len();
        self.kept = kept;
        Ok(sweep)
    }

    /// One page, and whether it is that of the last complete sweep.
    async fn page(
        &self,
        authorization: &Authorization,
        cursor: &str,
        bytes_left: &mut usize,
    ) -> Result<(Kept, bool), Trouble> {
        let mut asked = vec![("fields", self.fields.as_str()), ("limit", self.page_size.as_str())];
        if cursor.is_empty() {
            asked.extend(self.filter.iter().map(|filter| ("filter", filter.as_str())));
            asked.push(("orderField", ORDER));
        } else {
            asked.push(("cursor", cursor));
        }
        let known = self.kept.get(cursor);
        let etag = known.and_then(|known| known.etag.as_deref());
        match (self.client.fetch(authorization, &asked, etag, *bytes_left).await?, known) {
            (Fetched::Unchanged, Some(known)) => Ok((known.clone(), true)),
            (Fetched::Unchanged, None) => Err(Trouble::Malformed("nothing is unchanged yet".to_owned())),
            (Fetched::Changed { etag, body }, known) => {
                *bytes_left -= body.len();
                let page = read_page(&body, &self.marks).map_err(Trouble::Malformed)?;
                let same = known.is_some_and(|known| *known.page == page);
                Ok((Kept { etag, page: Arc::new(page) }, same))
            }
        }
    }
}

pub(super) fn read_page(body: &[u8], marks: &BTreeSet<String>) -> Result<Page, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| format!("it is not JSON: {error}"))?;
    let items = answer.get("items").and_then(Value::as_array).ok_or("it has no list `items`")?;
    let info = answer.get("pageInfo").and_then(Value::as_object).ok_or("it has no object `pageInfo`")?;
    let next = match info.get("nextCursor") {
        None | Some(Value::Null) => None,
        Some(Value::String(cursor)) if !cursor.is_empty() => Some(cursor.clone()),
        Some(_) => return Err("`nextCursor` is no text".to_owned()),
    };
    let total =
        answer.get("totalItems").and_then(Value::as_u64).map(|total| usize::try_from(total).unwrap_or(usize::MAX));
    let (mut entities, mut malformed) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items {
        match read_entity(item, marks) {
            Ok(entity) => entities.push(entity),
            Err(reason) => malformed.push(reason),
        }
    }
    Ok(Page { entities, malformed, total, next })
}

fn read_entity(item: &Value, marks: &BTreeSet<String>) -> Result<CatalogueEntity, String> {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let kind = text("/kind").ok_or("an entity has no kind")?;
    let name = text("/metadata/name").ok_or_else(|| format!("an entity of kind {} has no name", shown(&kind, 50)))?;
    let namespace = text("/metadata/namespace").unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let reference = Reference::new(&kind, &namespace, &name).ok_or_else(|| {
        let parts = [&kind, &namespace, &name].map(|part| shown(part, 50));
        format!("{}:{}/{} is no name of the catalogue", parts[0], parts[1], parts[2])
    })?;
    let mut found = BTreeMap::new();
    for folder in ["labels", "annotations"] {
        let here = item.pointer(&format!("/metadata/{folder}")).and_then(Value::as_object);
        for (key, value) in here.into_iter().flatten().filter(|(key, _)| marks.contains(*key)) {
            found.extend(value.as_str().map(|value| (key.clone(), value.to_owned())));
        }
    }
    let relations = item.get("relations").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let word = |relation: &Value, key: &str| relation.get(key).and_then(Value::as_str).map(str::to_owned);
    let read = relations.iter().take(RELATIONS_MAX);
    Ok(CatalogueEntity {
        reference,
        spelled: (namespace, name),
        // Every Backstage gives one; what imitates it may not.
        etag: text("/metadata/etag").filter(|etag| is_plain(etag)).unwrap_or_else(|| digest(item)),
        title: text("/metadata/title"),
        marks: found,
        entity_type: text("/spec/type"),
        lifecycle: text("/spec/lifecycle"),
        owner: text("/spec/owner"),
        system: text("/spec/system"),
        relations: read.filter_map(|relation| word(relation, "type").zip(word(relation, "targetRef"))).collect(),
        relations_left_count: relations.len().saturating_sub(RELATIONS_MAX),
    })
}

/// Whether it is kept as it is: what is told apart by it may not be changed.
fn is_plain(etag: &str) -> bool {
    !etag.is_empty() && redact(etag).1 == 0
}

fn digest(item: &Value) -> String {
    let digest = Sha256::digest(item.to_string());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn marks() -> BTreeSet<String> {
        BTreeSet::from(["attain.dev/tier".to_owned()])
    }

    #[test]
    fn a_page_that_is_none_is_refused_and_an_entity_that_is_none_alone() {
        for (body, named) in [
            ("<html>", "not JSON"),
            (r#"{"error":{}}"#, "items"),
            (r#"{"items":{},"pageInfo":{}}"#, "items"),
            (r#"{"items":[]}"#, "pageInfo"),
            (r#"{"items":[],"pageInfo":{"nextCursor":7}}"#, "nextCursor"),
        ] {
            let error = read_page(body.as_bytes(), &marks()).expect_err(body);
            assert!(error.contains(named), "{body}: {error}");
        }
        let body = json!({
            "items": [
                { "kind": "Component" },
                { "metadata": { "name": "a" } },
                { "kind": "Component", "metadata": { "name": "a/b" } },
                { "kind": "Component", "metadata": { "name": "A", "labels": { "attain.dev/tier": "2", "x": "y" },
                  "annotations": { "attain.dev/tier": "1" } }, "spec": { "type": 3, "owner": "o" },
                  "relations": [{ "type": "dependsOn", "targetRef": "resource:default/db" }, { "type": "x" }, 5] },
                null,
            ],
            "totalItems": 5,
            "pageInfo": {},
        });
        let page = read_page(body.to_string().as_bytes(), &marks()).expect("a page");
        assert_eq!((page.malformed.len(), page.entities.len(), page.total, page.next.clone()), (4, 1, Some(5), None));
        let entity = &page.entities[0];
        assert_eq!(entity.reference.to_string(), "component:default/a");
        assert_eq!((entity.spelled.1.as_str(), entity.entity_type.clone()), ("A", None));
        assert_eq!(entity.marks, BTreeMap::from([("attain.dev/tier".to_owned(), "1".to_owned())]));
        assert_eq!(entity.relations, [("dependsOn".to_owned(), "resource:default/db".to_owned())]);
        assert_eq!(entity.etag.len(), 32);
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_page(&body, &marks());
        }

        #[test]
        fn no_entity_makes_reading_panic(kind in ".{0,80}", name in ".{0,80}", relation in ".{0,40}") {
            let item = json!({ "kind": kind, "metadata": { "name": name }, "relations": [{ "type": relation, "targetRef": relation }] });
            let _ = read_entity(&item, &marks());
        }
    }
}
