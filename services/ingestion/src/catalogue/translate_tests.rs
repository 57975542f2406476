//! What the recorded answers of a genuine Backstage mean, and entities that it had not.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{DependencyMode, EntityId, EntityKind, Tier};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::pages::{CatalogueEntity, read_page};
use super::settings::CatalogueConfig;
use super::translate::{Rules, Translation, translate};
use crate::domain::CatalogueWords;

const PARCELS: &str = include_str!("../../tests/recorded/parcels.json");

fn config(more: Value) -> CatalogueConfig {
    let mut settings = json!({ "url": "https://backstage.example.com" });
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let config: CatalogueConfig = serde_json::from_value(settings).expect("settings");
    config.validate().expect("valid");
    config
}

fn read(items: Value, config: &CatalogueConfig) -> Vec<CatalogueEntity> {
    let marks = [&config.name_annotations, &config.tier_annotations, &config.lifecycle_annotations];
    let marks: BTreeSet<String> = marks.into_iter().flatten().cloned().collect();
    let body = json!({ "items": items, "pageInfo": {} });
    let page = read_page(body.to_string().as_bytes(), &marks).expect("a page");
    assert!(page.malformed.is_empty(), "{:?}", page.malformed);
    page.entities
}

fn meaning(items: Value, config: &CatalogueConfig) -> Translation {
    translate(&Rules::new(config), &read(items, config), &[])
}

fn recorded() -> Value {
    let recorded: Value = serde_json::from_str(PARCELS).expect("JSON");
    let pages = recorded["pages"].as_array().expect("pages");
    pages.iter().flat_map(|page| page["body"]["items"].as_array().expect("items").clone()).collect()
}

fn edges(translation: &Translation) -> Vec<(String, String)> {
    let ends = |key: &crate::domain::DependencyKey| (key.caller().to_string(), key.callee().to_string());
    translation.snapshot.edges.keys().map(ends).collect()
}

/// Without what APIs and systems are made of.
fn calls(translation: &Translation) -> Vec<(String, String)> {
    let is_composite = |id: &str| words(translation, id).kind.is_some_and(EntityKind::is_composite);
    edges(translation).into_iter().filter(|(caller, _)| !is_composite(caller)).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(caller, callee)| ((*caller).to_owned(), (*callee).to_owned())).collect()
}

fn words<'t>(translation: &'t Translation, id: &str) -> &'t CatalogueWords {
    translation.snapshot.words.get(&EntityId::new("id", id).expect("valid")).expect(id)
}

fn counts(translation: &Translation) -> BTreeMap<&'static str, usize> {
    translation.problems.counts().collect()
}

fn component(name: &str, relations: &[(&str, &str)]) -> Value {
    entity("Component", name, "service", relations)
}

fn entity(kind: &str, name: &str, entity_type: &str, relations: &[(&str, &str)]) -> Value {
    let relations: Vec<Value> = relations.iter().map(|(t, r)| json!({ "type": t, "targetRef": r })).collect();
    json!({
        "kind": kind,
        "metadata": { "name": name, "namespace": "default", "etag": "1" },
        "spec": { "type": entity_type, "owner": "team" },
        "relations": relations,
    })
}

#[test]
fn a_genuine_catalogue_becomes_a_graph() {
    let translation = meaning(recorded(), &config(json!({})));
    let expected = [
        ("api:default/labels-api", "labels"),
        ("api:default/tracking-api", "tracking"),
        ("api:depot/scans", "scanner-svc"),
        ("depot/sorter", "scanner-svc"),
        ("labels", "fonts"),
        ("labels", "resource:default/labels"),
        ("system:default/parcels", "labels"),
        ("system:default/parcels", "resource:default/labels"),
        ("system:default/parcels", "tracking"),
        ("system:default/parcels", "tracking-db"),
        ("system:default/parcels", "tracking-site"),
        ("tracking", "labels"),
        ("tracking", "scanner-svc"),
        ("tracking", "tracking-cache"),
        ("tracking", "tracking-db"),
        ("tracking-db", "cluster"),
        ("tracking-site", "tracking"),
    ];
    assert_eq!(edges(&translation), pairs(&expected));
    let tracking = words(&translation, "tracking");
    let told = CatalogueWords {
        reference: "component:default/tracking".into(),
        display_name: Some("Tracking".into()),
        kind: Some(EntityKind::Service),
        tier: Some(Tier::One),
        owner: Some("dispatch".into()),
        system: Some("parcels".into()),
        lifecycle: Some("production".into()),
    };
    assert_eq!(tracking, &told);
    assert_eq!(words(&translation, "tracking-site").owner.as_deref(), Some("user:default/ida"));
    assert_eq!(words(&translation, "scanner-svc").owner.as_deref(), Some("depot/crew"));
    assert_eq!(words(&translation, "scanner-svc").reference, "component:depot/scanner");
    for (id, kind) in [
        ("tracking-db", Some(EntityKind::Datastore)),
        ("tracking-cache", Some(EntityKind::Cache)),
        ("resource:default/labels", Some(EntityKind::Datastore)),
        ("cluster", Some(EntityKind::Infrastructure)),
        ("system:default/parcels", Some(EntityKind::System)),
        ("api:default/tracking-api", Some(EntityKind::Api)),
        ("api:default/customs-api", Some(EntityKind::Api)),
        ("depot/beacon", None),
        ("fonts", None),
    ] {
        assert_eq!(words(&translation, id).kind, kind, "{id}");
    }
    let protocols = translation
        .snapshot
        .edges
        .iter()
        .map(|(key, terms)| (key.callee().to_string(), terms.protocol.clone(), terms.mode));
    let said: Vec<_> = protocols.filter(|(_, protocol, mode)| protocol.is_some() || mode.is_some()).collect();
    assert_eq!(
        said,
        [
            ("labels".to_owned(), Some("grpc".to_owned()), None),
            ("scanner-svc".to_owned(), None, Some(DependencyMode::Async)),
            ("tracking".to_owned(), Some("http".to_owned()), None),
        ]
    );
    // The library is neither node nor edge; fonts exists only as a wish; sixteen entities and the wish are remembered.
    assert!(!translation.snapshot.words.keys().any(|id| id.as_str() == "barcode"));
    assert_eq!(translation.snapshot.entries.len(), 17);
    assert_eq!(translation.snapshot.entries["resource:default/fonts"].etag, "");
    assert_eq!(translation.snapshot.entries["component:default/barcode"].service, None);
    let parcels = EntityId::new("id", "system:default/parcels").expect("valid");
    assert_eq!(translation.snapshot.entries["system:default/parcels"].service, Some(parcels));
    assert_eq!(words(&translation, "api:default/tracking-api").system.as_deref(), Some("parcels"));
    assert_eq!(
        counts(&translation),
        BTreeMap::from([
            ("api_without_provider", 1),
            ("name_collision", 1),
            ("not_in_catalogue", 1),
            ("tier_unknown", 1),
            ("type_ignored", 1),
            ("type_unknown", 1),
        ])
    );
}

#[test]
fn either_side_of_a_relation_is_enough() {
    let config = config(json!({}));
    let provider = [("providesApi", "api:default/x")];
    let sides = [
        (json!([component("a", &[("dependsOn", "component:default/b")])]), true),
        (json!([component("b", &[("dependencyOf", "component:default/a")])]), true),
        (json!([component("a", &[("consumesApi", "api:default/x")]), component("b", &provider)]), true),
        (
            json!([entity(
                "API",
                "x",
                "grpc",
                &[("apiConsumedBy", "component:default/a"), ("apiProvidedBy", "component:default/b")]
            )]),
            true,
        ),
        (
            json!([component("b", &provider), entity("API", "x", "grpc", &[("apiConsumedBy", "component:default/a")])]),
            true,
        ),
        (json!([component("a", &[("partOf", "component:default/b"), ("ownedBy", "component:default/b")])]), false),
        (json!([component("a", &[("consumesApi", "api:default/x")])]), false),
    ];
    for (items, connected) in sides {
        let found = calls(&meaning(items.clone(), &config));
        assert_eq!(found == [("a".to_owned(), "b".to_owned())], connected, "{items}: {found:?}");
    }
}

#[test]
fn apis_and_systems_are_made_of_whom_the_catalogue_holds() {
    let api = |relations: &[(&str, &str)]| entity("API", "orders", "grpc", relations);
    let system = |relations: &[(&str, &str)]| entity("System", "orders", "", relations);
    let told = json!([
        api(&[("apiProvidedBy", "component:default/filtered-out"), ("partOf", "system:default/orders")]),
        component("orders", &[("providesApi", "api:default/orders"), ("partOf", "system:default/orders")]),
        component("other", &[("providesApi", "api:default/orders"), ("partOf", "system:default/unheard-of")]),
        component("part", &[("partOf", "component:default/orders"), ("partOf", "no reference")]),
        entity("Component", "lib", "library", &[("partOf", "system:default/orders")]),
        entity("Resource", "db", "database", &[]),
        system(&[("hasPart", "resource:default/db"), ("hasPart", "component:default/filtered-out")]),
    ]);
    let translation = meaning(told, &config(json!({})));
    // Three entities of one name, and nobody has to give way.
    assert_eq!(
        edges(&translation),
        pairs(&[
            ("api:default/orders", "orders"),
            ("api:default/orders", "other"),
            ("system:default/orders", "db"),
            ("system:default/orders", "orders"),
        ])
    );
    assert_eq!(counts(&translation), BTreeMap::from([("type_ignored", 1)]));
    let unconditional =
        |terms: &crate::domain::DependencyTerms| terms.mode.is_none() && terms.redundancy_group.is_none();
    assert!(translation.snapshot.edges.values().all(unconditional));
    let names: Vec<&str> = translation.snapshot.words.keys().map(EntityId::as_str).collect();
    assert_eq!(names, ["api:default/orders", "db", "orders", "other", "part", "system:default/orders"]);
}

#[test]
fn whoever_depends_on_an_api_consumes_it_and_a_system_may_be_depended_on() {
    let items = json!([
        component("a", &[("dependsOn", "api:default/x"), ("dependsOn", "system:default/s")]),
        component("b", &[("providesApi", "api:default/x"), ("dependsOn", "system:default/named-only")]),
        entity("API", "x", "grpc", &[("dependsOn", "resource:default/gateway"), ("dependsOn", "api:default/x")]),
        entity("System", "s", "", &[("hasPart", "component:default/b")]),
        entity("Resource", "gateway", "load-balancer", &[]),
    ]);
    let translation = meaning(items, &config(json!({})));
    assert_eq!(
        edges(&translation),
        pairs(&[
            ("a", "b"),
            ("a", "system:default/s"),
            ("api:default/x", "b"),
            ("api:default/x", "gateway"),
            ("b", "system:default/named-only"),
            ("system:default/s", "b"),
        ])
    );
    assert_eq!(words(&translation, "system:default/named-only").kind, Some(EntityKind::System));
    assert_eq!(counts(&translation), BTreeMap::from([("not_in_catalogue", 1)]));
}

#[test]
fn a_name_that_somebody_chose_is_not_taken_by_an_api() {
    let mut chosen = component("a", &[]);
    chosen["metadata"]["annotations"] = json!({ "attain.dev/service-id": "api:default/x" });
    let mut annotated = entity("API", "y", "grpc", &[]);
    annotated["metadata"]["annotations"] = json!({ "attain.dev/service-id": "traced-service" });
    let translation = meaning(json!([entity("API", "x", "grpc", &[]), chosen, annotated]), &config(json!({})));
    assert_eq!(words(&translation, "api:default/x").reference, "component:default/a");
    assert_eq!(words(&translation, "api:default/y").kind, Some(EntityKind::Api));
    assert_eq!(counts(&translation), BTreeMap::from([("name_collision", 1)]));
}

#[test]
fn infrastructure_is_told_apart_by_its_sort() {
    for (said, kind) in [
        ("Node Pool", EntityKind::NodePool),
        ("nodegroup", EntityKind::NodePool),
        ("availability_zone", EntityKind::Zone),
        ("zone", EntityKind::Zone),
        ("region", EntityKind::Region),
        ("dns-zone", EntityKind::Infrastructure),
        ("load-balancer", EntityKind::Infrastructure),
    ] {
        let translation = meaning(json!([entity("Resource", "r", said, &[])]), &config(json!({})));
        assert_eq!(words(&translation, "r").kind, Some(kind), "{said}");
        assert!(kind.is_infrastructure() && !kind.is_called(), "{said}");
    }
    let config = config(json!({ "kinds": { "cell": "zone", "rack": "node_pool" } }));
    let translation = meaning(json!([entity("Resource", "r", "rack", &[])]), &config);
    assert_eq!(words(&translation, "r").kind, Some(EntityKind::NodePool));
}

#[test]
fn what_cannot_be_taken_over_is_counted_by_reason_and_the_rest_is_kept() {
    let config = config(json!({ "kinds": { "Neo4J": "datastore" }, "ignored_types": [] }));
    let mut overlong = component("overlong", &[]);
    overlong["metadata"]["title"] = json!("t".repeat(500));
    overlong["metadata"]["annotations"] = json!({ "attain.dev/service-id": "no blanks allowed" });
    let mut secret = component("secret", &[("dependsOn", "nonsense")]);
    secret["metadata"]["title"] = json!("mail me at jo@example.com");
    secret["spec"]["owner"] = json!("a b");
    let items = json!([
        overlong,
        secret,
        component("self", &[("dependsOn", "component:default/self"), ("dependsOn", "user:default/jo")]),
        component("twice", &[]),
        component("twice", &[("dependsOn", "resource:default/graph")]),
        entity("Resource", "graph", "neo4j", &[]),
        entity("Component", "lib", "library", &[]),
        entity("Component", "proxy", "database-proxy", &[]),
    ]);
    let translation = meaning(items, &config);
    assert_eq!(
        counts(&translation),
        BTreeMap::from([
            ("entity_twice", 1),
            ("name_refused", 1),
            ("reference_malformed", 2),
            ("relation_ignored", 1),
            ("relation_to_itself", 1),
        ])
    );
    assert_eq!(words(&translation, "secret").display_name.as_deref(), Some("mail me at [redacted:email]"));
    assert_eq!(words(&translation, "graph").kind, Some(EntityKind::Datastore));
    assert_eq!(words(&translation, "proxy").kind, Some(EntityKind::Service));
    assert_eq!(words(&translation, "lib").kind, Some(EntityKind::Service));
    assert_eq!(edges(&translation), [("twice".to_owned(), "graph".to_owned())]);
    let listed = &translation.snapshot.problems;
    assert!(listed.iter().all(|problem| problem.examples.len() == problem.count as usize), "{listed:?}");
}

#[test]
fn a_name_with_a_secret_is_refused_and_told_without_it() {
    // Put together here so that no scanner takes this file for a leak; longer than what an example shows of it.
    let key = format!("{}_{}", "ghp", "0123456789abcdef".repeat(3));
    let mut annotated = component("annotated", &[("dependsOn", &format!("component:default/{key}"))]);
    annotated["metadata"]["annotations"] = json!({"attain.dev/service": "jane.doe@mail.example"});
    let mut typed = entity("Resource", "typed", &format!("{}-{key}", "x".repeat(30)), &[]);
    typed["metadata"]["etag"] = json!(key.clone());
    let config = config(json!({"name_annotations": ["attain.dev/service"]}));
    let marks = config.name_annotations.iter().cloned().collect();
    let items = json!([annotated, typed, component(&key, &[])]);
    let page = read_page(json!({ "items": items, "pageInfo": {} }).to_string().as_bytes(), &marks).expect("a page");
    assert_eq!((page.entities.len(), page.malformed.len()), (2, 1));
    let translation = translate(&Rules::new(&config), &page.entities, &page.malformed);
    assert_eq!(
        counts(&translation),
        BTreeMap::from([("entity_malformed", 1), ("name_refused", 1), ("reference_malformed", 1), ("type_unknown", 1)])
    );
    let kept = format!("{:?}", translation.snapshot);
    assert!(!kept.contains("jane") && !kept.contains("0123456789"), "{kept}");
    assert!(kept.contains("looks like a secret"), "{kept}");
}

#[test]
fn names_follow_rule_and_annotation_and_a_taken_name_is_reported() {
    let annotated = |name: &str, namespace: &str, telemetry: Option<&str>| {
        let mut item = component(name, &[]);
        item["metadata"]["namespace"] = json!(namespace);
        if let Some(telemetry) = telemetry {
            item["metadata"]["labels"] = json!({ "app": telemetry });
        }
        item
    };
    let items = json!([
        annotated("Cart", "default", None),
        annotated("cart", "shop", None),
        annotated("pay", "shop", Some("payd")),
        annotated("pay", "till", Some("payd")),
    ]);
    for (naming, expected) in [
        ("default_namespace_omitted", ["Cart", "component:till/pay", "payd", "shop/cart"]),
        ("name", ["Cart", "cart", "component:till/pay", "payd"]),
        ("namespaced", ["component:till/pay", "default/Cart", "payd", "shop/cart"]),
    ] {
        let config = config(json!({ "naming": naming, "name_annotations": ["absent", "app"] }));
        let translation = meaning(items.clone(), &config);
        let names: Vec<&str> = translation.snapshot.words.keys().map(EntityId::as_str).collect();
        assert_eq!(names, expected, "{naming}");
        assert_eq!(counts(&translation), BTreeMap::from([("name_collision", 1)]));
    }
}

#[test]
fn tiers_are_read_as_organisations_write_them() {
    for (said, tier) in [
        ("1", Some(Tier::One)),
        ("Tier 2", Some(Tier::Two)),
        ("TIER_3", Some(Tier::Three)),
        ("t4", Some(Tier::Four)),
        ("Critical", Some(Tier::One)),
        ("low", Some(Tier::Four)),
        ("0", None),
        ("tier", None),
        ("gold", None),
    ] {
        let mut item = component("a", &[]);
        item["metadata"]["annotations"] = json!({ "attain.dev/tier": said });
        assert_eq!(words(&meaning(json!([item]), &config(json!({}))), "a").tier, tier, "{said}");
    }
}

#[test]
fn an_edge_is_asynchronous_only_where_all_that_is_said_of_it_is() {
    let consume = [("consumesApi", "api:default/events"), ("consumesApi", "api:default/calls")];
    let items = json!([
        component("a", &consume),
        component("b", &consume[..1]),
        component("c", &[("providesApi", "api:default/events"), ("providesApi", "api:default/calls")]),
        entity("API", "events", "asyncapi", &[]),
        entity("API", "calls", "openapi", &[]),
    ]);
    let translation = meaning(items, &config(json!({})));
    let mode = |caller: &str| {
        let (_, terms) =
            translation.snapshot.edges.iter().find(|(key, _)| key.caller().as_str() == caller).expect(caller);
        terms.mode
    };
    assert_eq!((mode("a"), mode("b")), (None, Some(DependencyMode::Async)));
    // Whoever sends the events has to work for there to be any.
    assert_eq!(mode("api:default/events"), None);
}

#[test]
fn other_settings_are_another_understanding() {
    let understanding = |more| Rules::new(&config(more));
    let said = |more| meaning(json!([]), &config(more)).snapshot.understanding;
    assert_eq!(said(json!({})), said(json!({ "interval_seconds": 7 })));
    for more in [json!({ "naming": "name" }), json!({ "kinds": { "x": "cache" } }), json!({ "tier_annotations": [] })] {
        assert_ne!(said(more.clone()), said(json!({})), "{:?}", understanding(more));
    }
}

proptest! {
    #[test]
    fn every_edge_has_both_ends_and_the_order_of_entities_does_not_matter(
        relations in proptest::collection::vec((0u8..6, 0u8..8, 0usize..6), 0..30),
        rotate in 0usize..8,
    ) {
        let kinds = ["dependsOn", "dependencyOf", "consumesApi", "providesApi", "partOf", "oddity"];
        let targets = ["component:default/e0", "component:default/e1", "resource:default/e1", "api:default/x",
            "component:default/gone", "system:default/s", "resource:other/e2", "user:default/u"];
        let mut items: Vec<Value> = (0..6).map(|i| {
            let own: Vec<(&str, &str)> = relations.iter().filter(|relation| relation.2 == i)
                .map(|relation| (kinds[relation.0 as usize], targets[relation.1 as usize])).collect();
            entity(if i % 2 == 0 { "Component" } else { "Resource" }, &format!("e{}", i / 2), "service", &own)
        }).collect();
        let config = config(json!({}));
        let without = meaning(json!(items), &config);
        items.push(entity("API", "x", "grpc", &[]));
        items.push(entity("System", "s", "", &[("hasPart", "component:default/e1")]));
        let one = meaning(json!(items), &config);
        // What is made of others moves nobody else.
        prop_assert_eq!(calls(&one), calls(&without));
        for key in one.snapshot.edges.keys() {
            prop_assert!(one.snapshot.words.contains_key(key.caller()) && one.snapshot.words.contains_key(key.callee()));
        }
        items.rotate_left(rotate);
        prop_assert_eq!(one.snapshot, meaning(json!(items), &config).snapshot);
    }
}
