//! Which PromQL means what: a TOML file of `[[mapping]]` entries, checked when it is loaded.

use std::collections::BTreeSet;
use std::path::Path;

use attain_runtime::Error;
use attain_vocabulary::{EntityId, EntityKind, Source, UtilisationKind};
use sha2::{Digest as _, Sha256};

use super::entry::{Entry, Refusal};
use super::presets;

const MAPPINGS_MAX: usize = 200;

/// One thing to read, with a cursor of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mapping {
    /// For people.
    pub(super) name: String,
    pub(super) reading: Reading,
}

/// What is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// SLI buckets.
    Sli(SliQueries),
    /// Edges of the dependency graph.
    Edges(EdgeQueries),
    /// Utilisation.
    Utilisation(UtilisationQueries),
}

/// Requests of services.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SliQueries {
    pub(super) service: Naming,
    /// Labels that name the region that answered, of several the first that a series has; none where regions are not read.
    pub(super) region_labels: Vec<String>,
    /// Requests of the five minutes before each instant.
    pub(super) valid: String,
    /// Failed requests among them.
    pub(super) bad: String,
    pub(super) latency: Option<LatencyQuery>,
}

/// Calls from one service to another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EdgeQueries {
    pub(super) client: Naming,
    pub(super) server: Naming,
    /// Label that tells messaging, databases and parties that send no traces.
    pub(super) connection_type: Option<String>,
    /// Calls of the five minutes before each instant.
    pub(super) calls: String,
    /// Failed ones among them.
    pub(super) failures: String,
    pub(super) latency: Option<LatencyQuery>,
    /// Who counted: of several observers of one edge one stands.
    pub(super) source: Source,
}

/// How much of something services use.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct UtilisationQueries {
    pub(super) service: Naming,
    pub(super) kind: UtilisationKind,
    /// What is measured, where it tells.
    pub(super) entity_kind: Option<EntityKind>,
    /// Mean of the five minutes before each instant.
    pub(super) average: String,
    /// Largest value in them; the mean where nothing is asked.
    pub(super) maximum: Option<String>,
}

/// Whose numbers a series has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Naming {
    /// Always those of this service.
    Fixed(EntityId),
    /// The value of a label.
    Label {
        /// Which; of several the first that a series has.
        labels: Vec<String>,
        /// Only what follows the last `/`: OpenTelemetry's `job` is `namespace/name`.
        strip_namespace: bool,
    },
}

/// Latencies of the five minutes before each instant: by upper bound (`le`), cumulative, or as native histograms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LatencyQuery {
    pub(super) query: String,
    /// The unit of the bounds.
    pub(super) unit_ms: f64,
}

/// A query that a mapping file leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedQuery {
    /// Name of the mapping.
    pub mapping: String,
    /// What the answer is: `valid`, `bad`, `calls`, `failures`, `latency`, `average` or `maximum`.
    pub what: &'static str,
    /// PromQL.
    pub query: String,
}

/// Loads and checks a mapping file.
///
/// # Errors
/// Names the file and the key that cannot be right.
pub(crate) fn read_mappings(file: &Path) -> Result<Vec<Mapping>, Error> {
    let refuse =
        |reason: String| Error::Config(format!("ingestion.prometheus.mapping_file: {}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
    parse(&text).map_err(refuse)
}

/// Every query that a mapping file leads to, in its order.
///
/// # Errors
/// Names the file and the key that cannot be right.
pub fn planned_queries(file: &Path) -> Result<Vec<PlannedQuery>, Error> {
    let plan = |mapping: &Mapping| {
        let query = |(what, query): (&'static str, &str)| PlannedQuery {
            mapping: mapping.name.clone(),
            what,
            query: query.to_owned(),
        };
        mapping.reading.queries().into_iter().map(query).collect::<Vec<_>>()
    };
    Ok(read_mappings(file)?.iter().flat_map(plan).collect())
}

pub(super) fn parse(text: &str) -> Result<Vec<Mapping>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    if let Some(key) = table.keys().find(|key| *key != "mapping") {
        return Err(format!("there is no key `{key}`; a mapping begins with [[mapping]]"));
    }
    let entries = match table.get("mapping") {
        Some(toml::Value::Array(entries)) if !entries.is_empty() => entries,
        _ => return Err("mapping: there is none; each begins with [[mapping]]".to_owned()),
    };
    if entries.len() > MAPPINGS_MAX {
        return Err(format!("mapping: {} entries; at most {MAPPINGS_MAX} are read", entries.len()));
    }
    let mut names = BTreeSet::new();
    let mut mappings = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("mapping[{index}]");
        let entry: Entry =
            entry.clone().try_into().map_err(|error: toml::de::Error| format!("{at}: {}", error.message()))?;
        let refused = |(key, reason): Refusal| format!("{at}.{key}: {reason}");
        for mapping in read_entry(entry, &at).map_err(refused)? {
            if !names.insert(mapping.name.clone()) {
                return Err(format!("{at}.name: there are two called `{}`", mapping.name));
            }
            mappings.push(mapping);
        }
    }
    Ok(mappings)
}

/// One mapping as it is written, or those that a preset stands for.
fn read_entry(entry: Entry, unnamed: &str) -> Result<Vec<Mapping>, Refusal> {
    match entry.preset.clone() {
        None => {
            let name = entry.name.clone().unwrap_or_else(|| unnamed.to_owned());
            Ok(vec![Mapping { name, reading: entry.check()? }])
        }
        Some(preset) => {
            let called = entry.name.clone().unwrap_or_else(|| preset.clone());
            let entries = presets::expand(&preset, entry)?;
            let mapping = |(part, entry): (String, Entry)| {
                Ok(Mapping { name: format!("{called}/{part}"), reading: entry.check()? })
            };
            entries.into_iter().map(mapping).collect()
        }
    }
}

impl Reading {
    /// What is asked, in the order in which the answers are wanted.
    pub(super) fn queries(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Sli(sli) => {
                let counts = [("valid", sli.valid.as_str()), ("bad", sli.bad.as_str())];
                counts.into_iter().chain(asked(&sli.latency)).collect()
            }
            Self::Edges(edges) => {
                let counts = [("calls", edges.calls.as_str()), ("failures", edges.failures.as_str())];
                counts.into_iter().chain(asked(&edges.latency)).collect()
            }
            Self::Utilisation(used) => {
                let maximum = used.maximum.as_deref().map(|maximum| ("maximum", maximum));
                [("average", used.average.as_str())].into_iter().chain(maximum).collect()
            }
        }
    }

    /// Whether reading the same time again replaces what was read before; calls of edges are added up.
    pub(super) fn replaces(&self) -> bool {
        !matches!(self, Self::Edges(_))
    }
}

fn asked(latency: &Option<LatencyQuery>) -> Option<(&'static str, &str)> {
    latency.as_ref().map(|latency| ("latency", latency.query.as_str()))
}

impl Mapping {
    /// Names what is read, whatever it is called. Another query begins again: what was read is replaced, and calls of edges
    /// that were counted count no second time. So does another server, but for edges: the same calls have another address.
    pub(super) fn cursor_key(&self, server: &str) -> String {
        let unit = |latency: &Option<LatencyQuery>| {
            latency.as_ref().map(|latency| format!("{} {}", latency.unit_ms, latency.query)).unwrap_or_default()
        };
        let server = server.trim_end_matches('/').to_owned();
        let parts = match &self.reading {
            Reading::Sli(sli) => {
                let mut parts =
                    vec![server, sli.service.told(), sli.valid.clone(), sli.bad.clone(), unit(&sli.latency)];
                parts.extend((!sli.region_labels.is_empty()).then(|| format!("by {}", sli.region_labels.join(", "))));
                parts
            }
            Reading::Edges(edges) => {
                let between = edges.connection_type.clone().unwrap_or_default();
                let ends = [edges.client.told(), edges.server.told(), between].into_iter();
                let asked = [edges.calls.clone(), edges.failures.clone(), unit(&edges.latency)];
                std::iter::once("edges".to_owned()).chain(ends).chain(asked).collect()
            }
            Reading::Utilisation(used) => {
                let maximum = used.maximum.clone().unwrap_or_default();
                vec![server, format!("{:?}", used.kind), used.service.told(), used.average.clone(), maximum]
            }
        };
        key_of(parts.iter().map(String::as_str))
    }

    /// Under which key the cursor of edges was kept before it named what is read: by the address and the mapping's name.
    pub(super) fn former_cursor_key(&self, server: &str) -> Option<String> {
        (!self.reading.replaces()).then(|| key_of([server, "edges", &self.name]))
    }

    /// Tells a mapping of edges from others; never 0.
    pub(super) fn edge_identity(&self) -> Option<u64> {
        if self.reading.replaces() {
            return None;
        }
        let digest = Sha256::digest(self.cursor_key(""));
        Some(u64::from_be_bytes(*digest.first_chunk::<8>()?).max(1))
    }
}

fn key_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut identity = Sha256::new();
    for part in parts {
        identity.update((part.len() as u64).to_be_bytes());
        identity.update(part);
    }
    format!("prometheus/{}", &format!("{:x}", identity.finalize())[..32])
}

impl Naming {
    /// Labels that name the service, which queries keep.
    pub(super) fn labels(&self) -> &[String] {
        match self {
            Self::Fixed(_) => &[],
            Self::Label { labels, .. } => labels,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Fixed(id) => format!("service {id}"),
            Self::Label { labels, strip_namespace: false } => format!("label {}", labels.join(", ")),
            Self::Label { labels, strip_namespace: true } => format!("label {} without namespace", labels.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: &str =
        "[[mapping]]\ncalls_counter = 'c'\nfailures_counter = 'f'\nclient_label = 'a'\nserver_label = 'b'\n";
    const MINIMAL: &str = "[[mapping]]\nvalid = 'up'\nbad = 'down'\n";

    fn sli(mapping: &Mapping) -> &SliQueries {
        match &mapping.reading {
            Reading::Sli(sli) => sli,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_has_a_meaning() {
        let mappings = parse(&format!("{MINIMAL}latency_buckets = 'le'\n")).expect("valid");
        assert_eq!(mappings[0].name, "mapping[0]");
        let label = Naming::Label { labels: vec!["service".into()], strip_namespace: false };
        assert_eq!(sli(&mappings[0]).service, label);
        assert_eq!(sli(&mappings[0]).latency, Some(LatencyQuery { query: "le".into(), unit_ms: 1_000.0 }));
        let fixed =
            parse(&format!("{MINIMAL}service = 'cart'\nlatency_buckets = 'le'\nlatency_unit = 'ms'\n")).expect("valid");
        assert_eq!(sli(&fixed[0]).service, Naming::Fixed(EntityId::new("id", "cart").expect("valid")));
        assert_eq!(sli(&fixed[0]).latency.as_ref().map(|latency| latency.unit_ms), Some(1.0));
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        for (text, named) in [
            (String::new(), "mapping"),
            ("mapping = 3".into(), "mapping"),
            ("[[mappings]]\nvalid = 'a'\nbad = 'b'".into(), "`mappings`"),
            ("[[mapping]]\nbad = 'b'".into(), "mapping[0].valid"),
            ("[[mapping]]\nvalid = ' '\nbad = 'b'".into(), "mapping[0].valid"),
            ("[[mapping]]\nvalid = 'a'\nvalid_counter = 'b'\nbad = 'b'".into(), "mapping[0].valid_counter"),
            (format!("{MINIMAL}{MINIMAL}service = 'a b'"), "mapping[1].service"),
            (format!("{MINIMAL}service = 'a'\nlabel = 'b'"), "mapping[0].label"),
            (format!("{MINIMAL}label = '1b'"), "mapping[0].label"),
            (format!("{MINIMAL}latency_unit = 'ms'"), "mapping[0].latency_unit"),
            (format!("{MINIMAL}latency_buckets = 'x'\nlatency_unit = 'minutes'"), "minutes"),
            (format!("{MINIMAL}valud = 'x'"), "valud"),
            (format!("{MINIMAL}name = 'a'\n{MINIMAL}name = 'a'"), "mapping[1].name"),
            (format!("{MINIMAL}utilisation = 'cpu'"), "mapping[0].utilisation"),
            (format!("{MINIMAL}calls_counter = 'x'"), "mapping[0].calls_counter"),
            ("[[mapping]]\nutilisation = 'cpu'".into(), "mapping[0].average"),
            ("[[mapping]]\nutilisation = 'luck'\naverage = 'x'".into(), "luck"),
            ("[[mapping]]\ncalls_counter = 'x'".into(), "mapping[0].failures_counter"),
            ("[[mapping]]\ncalls_counter = 'x'\nfailures_counter = 'y'".into(), "mapping[0].client_label"),
            ("[[mapping]]\npreset = 'isto'".into(), "mapping[0].preset"),
            ("[[mapping]]\npreset = 'istio'\nvalid = 'x'".into(), "mapping[0].valid"),
            ("[[mapping]]\npreset = 'istio'\ncounted_by = 'linkerd'".into(), "mapping[0].counted_by"),
            (format!("{MINIMAL}counted_by = 'istio'"), "mapping[0].counted_by"),
            (format!("{EDGES}counted_by = 'traces'"), "mapping[0].counted_by"),
            (format!("{EDGES}region_label = 'region'"), "mapping[0].region_label"),
            (format!("{MINIMAL}region_label = 'a b'"), "mapping[0].region_label"),
            (format!("{MINIMAL}region_label = []"), "mapping[0].region_label"),
            ("[[mapping]]\npreset = 'node'\nregion_label = 'region'".into(), "mapping[0].region_label"),
            ("[[mapping]]\npreset = 'istio'\nparts = ['edgs']".into(), "mapping[0].parts"),
            ("[[mapping]]\npreset = 'istio'\nwindow = '5 min'".into(), "mapping[0].window"),
            ("[[mapping]]\npreset = 'istio'\ntarget_labels = ['a b']".into(), "mapping[0].target_labels"),
            ("[[mapping".into(), "mapping"),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn the_shipped_example_is_valid() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus-mapping.toml");
        assert!(!planned_queries(&file).expect("valid").is_empty());
    }

    #[test]
    fn another_query_or_server_has_another_cursor() {
        let text = format!("{MINIMAL}{MINIMAL}label = 'job'\n{MINIMAL}region_label = 'region'\n");
        let mappings = parse(&text).expect("valid");
        let keys = [
            mappings[0].cursor_key("http://a"),
            mappings[1].cursor_key("http://a"),
            mappings[0].cursor_key("http://b"),
            mappings[2].cursor_key("http://a"),
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(mappings[0].cursor_key("http://a"), keys[0]);
        assert_eq!(mappings[0].cursor_key("http://a/"), keys[0]);
    }

    #[test]
    fn edges_are_known_by_what_is_read() {
        let edges =
            |text: &str| parse(&format!("[[mapping]]\npreset = 'service-graph'\n{text}")).expect("valid").remove(0);
        let plain = edges("");
        for same in [edges("name = 'another'\n"), edges("window = '15m'\n"), edges("parts = ['edges']\n")] {
            assert_eq!(same.cursor_key("https://b/prom"), plain.cursor_key("http://a"), "{same:?}");
            assert_eq!(same.edge_identity(), plain.edge_identity());
        }
        let other = edges("selector = 'cluster=\"a\"'\n");
        assert_ne!(other.cursor_key("http://a"), plain.cursor_key("http://a"));
        assert_ne!(other.edge_identity(), plain.edge_identity());
        assert_eq!(parse(MINIMAL).expect("valid")[0].edge_identity(), None);
    }

    #[test]
    fn counts_are_of_five_minutes_whatever_the_window() {
        for preset in ["otel-http", "istio", "service-graph"] {
            for native in [false, true] {
                let asked = |window: &str| {
                    let text = format!("[[mapping]]\npreset = '{preset}'\nnative_histograms = {native}\n{window}");
                    let mappings = parse(&text).expect("valid");
                    mappings.iter().map(|mapping| mapping.reading.clone()).collect::<Vec<_>>()
                };
                assert_eq!(asked("window = '15m'\n"), asked(""), "{preset}");
            }
        }
        let mappings = parse("[[mapping]]\npreset = 'node'\nwindow = '15m'\n").expect("valid");
        assert!(mappings[0].reading.queries()[0].1.contains("[15m]"), "what is used looks back as far as is said");
    }
}
