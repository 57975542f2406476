//! Presets: mappings under names that everybody knows, from `presets.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use attain_vocabulary::EntityKind;
use serde::Deserialize;

use super::entry::{Entry, OneOrMany, Refusal};

static PRESETS: LazyLock<BTreeMap<String, Preset>> =
    LazyLock::new(|| toml::from_str(include_str!("presets.toml")).expect("presets.toml is checked by a test"));

const SELECTOR_CHARS_MAX: usize = 500;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Preset {
    /// Where the names are documented.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the file and its test"))]
    source: String,
    /// The label that names the service where the mapping does not say; of several the first that a series has.
    label: OneOrMany,
    #[serde(default)]
    strip_namespace: bool,
    entity_kind: Option<EntityKind>,
    mapping: Vec<Entry>,
}

/// The mappings that a preset stands for, with what the entry that names it says, each with its part's name.
pub(super) fn expand(name: &str, entry: Entry) -> Result<Vec<(String, Entry)>, Refusal> {
    let Some(preset) = PRESETS.get(name) else {
        let known: Vec<&str> = PRESETS.keys().map(String::as_str).collect();
        return Err(("preset", format!("there is no preset `{name}`; there are {}", known.join(", "))));
    };
    if let Some(key) = entry.written_out() {
        return Err((key, "is what the preset decides; leave out `preset` to write the queries yourself".to_owned()));
    }
    if entry.region_label.is_some() && preset.mapping.iter().all(|template| template.valid_counter.is_none()) {
        return Err(("region_label", format!("has a meaning for requests alone, and `{name}` reads none")));
    }
    let selector = entry.selector.clone().unwrap_or_default();
    if selector.chars().count() > SELECTOR_CHARS_MAX || selector.contains('\n') {
        return Err(("selector", format!("is more than {SELECTOR_CHARS_MAX} characters or a line")));
    }
    let part = |entry: &Entry| entry.name.clone().unwrap_or_default();
    let parts: Vec<String> = preset.mapping.iter().map(part).collect();
    if let Some(unknown) = entry.parts.iter().flatten().find(|part| !parts.contains(part)) {
        return Err(("parts", format!("`{name}` has no part `{unknown}`; it has {}", parts.join(", "))));
    }
    let wanted = |part: &String| entry.parts.as_ref().is_none_or(|parts| parts.contains(part));
    let expanded = parts.iter().zip(&preset.mapping).filter(|(part, _)| wanted(part));
    Ok(expanded.map(|(part, template)| (part.clone(), filled(preset, template, &entry, &selector))).collect())
}

/// A preset's mapping with what the entry says and the placeholders replaced.
fn filled(preset: &Preset, template: &Entry, entry: &Entry, selector: &str) -> Entry {
    let label = entry.label.clone().unwrap_or_else(|| preset.label.clone());
    let labels = label.as_slice().join(", ");
    let window = entry.window.clone().unwrap_or_else(|| "5m".to_owned());
    let fill = |text: String| {
        let text = match selector.trim().trim_end_matches(',') {
            "" => text.replace(",$selector", "").replace("$selector", ""),
            selector => text.replace("$selector", selector),
        };
        text.replace("$label", &labels).replace("$window", &window)
    };
    let template = template.clone();
    let of_edges = template.calls_counter.is_some();
    let of_requests = template.valid_counter.is_some();
    Entry {
        name: None,
        service: entry.service.clone().filter(|_| !of_edges),
        label: (!of_edges && entry.service.is_none()).then_some(label),
        strip_namespace: Some(entry.strip_namespace.unwrap_or(preset.strip_namespace)),
        entity_kind: entry.entity_kind.or(preset.entity_kind),
        window: Some(window.clone()),
        region_label: entry.region_label.clone().filter(|_| of_requests),
        target_labels: entry.target_labels.clone(),
        native_histograms: entry.native_histograms,
        client_label: entry.client_label.clone().filter(|_| of_edges).or(template.client_label),
        server_label: entry.server_label.clone().filter(|_| of_edges).or(template.server_label),
        valid_counter: template.valid_counter.map(|counter| counter.map(fill)),
        bad_counter: template.bad_counter.map(|counter| counter.map(fill)),
        calls_counter: template.calls_counter.map(|counter| counter.map(fill)),
        failures_counter: template.failures_counter.map(|counter| counter.map(fill)),
        latency_histogram: template.latency_histogram.map(fill),
        average: template.average.map(fill),
        maximum: template.maximum.map(fill),
        ..template
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::{Reading, parse};
    use super::*;

    #[test]
    fn every_preset_is_whole_and_says_where_its_names_come_from() {
        assert!(PRESETS.len() >= 21, "{:?}", PRESETS.keys());
        for (name, preset) in PRESETS.iter() {
            assert!(preset.source.starts_with("https://"), "{name}");
            for extra in ["", "selector = 'cluster=\"eu\"'\n", "native_histograms = true\n", "label = 'app'\n"] {
                let mappings = parse(&format!("[[mapping]]\npreset = '{name}'\n{extra}")).expect(name);
                assert_eq!(mappings.len(), preset.mapping.len(), "{name}");
                for mapping in &mappings {
                    for (what, query) in mapping.reading.queries() {
                        let left = ["$selector", "$label", "$window", ",}"].iter().any(|left| query.contains(left));
                        assert!(!left, "{name} {what}: {query}");
                        assert_eq!(query.matches('(').count(), query.matches(')').count(), "{name} {what}: {query}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_mapping_says_stands_before_what_the_preset_says() {
        let text = "[[mapping]]\nname = 'mesh'\npreset = 'istio'\nselector = 'cluster=\"eu\"'\nlabel = 'destination_app'\n\
                    client_label = 'source_app'\ntarget_labels = ['pod']\n";
        let mappings = parse(text).expect("valid");
        assert_eq!(
            mappings.iter().map(|mapping| mapping.name.as_str()).collect::<Vec<_>>(),
            ["mesh/requests", "mesh/edges"]
        );
        let queries = mappings[0].reading.queries();
        assert!(queries[0].1.starts_with("sum by (destination_app) "), "{}", queries[0].1);
        assert!(queries[0].1.contains(r#"istio_requests_total{reporter="destination",cluster="eu"}"#));
        assert!(queries[0].1.contains("and on (pod)"), "{}", queries[0].1);
        let edges = mappings[1].reading.queries();
        assert!(edges[0].1.starts_with("sum by (source_app, destination_canonical_service) "), "{}", edges[0].1);

        let text = "[[mapping]]\npreset = 'istio'\nregion_label = ['region', 'cluster']\n";
        let by_region = parse(text).expect("valid");
        let queries = by_region[0].reading.queries();
        for (what, labels) in [(0, ", region, cluster) "), (1, ", region, cluster) "), (2, "service, le) ")] {
            let begins = format!("sum by (destination_canonical_service{}", labels.trim_start_matches("service"));
            assert!(queries[what].1.starts_with(&begins), "{}", queries[what].1);
        }
        assert!(!by_region[1].reading.queries()[0].1.contains("region"), "edges have none");

        let only = parse("[[mapping]]\npreset = 'istio'\nparts = ['edges']\n").expect("valid");
        assert!(matches!(only[..], [ref mapping] if matches!(mapping.reading, Reading::Edges(_))));
    }
}
