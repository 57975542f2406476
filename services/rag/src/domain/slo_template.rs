//! What the SLOs in a YAML text promise: OpenSLO `v1` and `v1alpha`, Sloth and Pyrra, several documents in one text.
//!
//! Only what a reader looks for is read: service, name, target, window, kind of indicator. Whether such a document can be put in
//! force is not judged here.

use serde_yaml_ng::Value;

/// Marks without which no text is parsed.
const MARKS: [&str; 4] = ["openslo/v1", "sloth.slok.dev/", "prometheus/v1", "pyrra.dev/"];
/// Most SLOs that are told of one text.
const OBJECTIVES_MAX: usize = 100;
/// Longest name that is told, in characters.
const NAME_CHARS_MAX: usize = 120;
/// Sloth promises over this window where a file does not say.
const SLOTH_WINDOW: &str = "30d";

/// What the SLOs of a text promise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Template {
    /// A line an SLO, for example `checkout requests-availability: 99.9 % availability over 30d (OpenSLO)`.
    pub(crate) objectives: Vec<String>,
    /// `service: name` of the first SLO.
    first: Option<String>,
}

impl Template {
    /// A title for the text: service and name of its first SLO, and how many there are.
    pub(crate) fn title(&self) -> Option<String> {
        let more = self.objectives.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.first.as_ref().map(|first| format!("{first}{more}"))
    }
}

/// Reads the SLOs of a text; `None` where it is none of the three formats, or cannot be read as YAML.
pub(crate) fn read(text: &str) -> Option<Template> {
    if !MARKS.iter().any(|mark| text.contains(mark)) {
        return None;
    }
    let mut template = Template::default();
    let mut known = false;
    for part in parts(text) {
        let Ok(document) = serde_yaml_ng::from_str::<Value>(&part) else { continue };
        if let Some(slos) = slos(&document) {
            known = true;
            slos.into_iter().for_each(|slo| template.take(slo));
        }
    }
    known.then_some(template)
}

/// One SLO as it is told.
struct Slo {
    service: String,
    name: String,
    target: Option<f64>,
    kind: String,
    window: String,
    format: &'static str,
}

impl Template {
    fn take(&mut self, slo: Slo) {
        if self.objectives.len() >= OBJECTIVES_MAX {
            return;
        }
        let Slo { service, name, target, kind, window, format } = slo;
        self.first.get_or_insert_with(|| match service.is_empty() || name.contains(&service) {
            true => name.clone(),
            false => format!("{service}: {name}"),
        });
        let target = target.map_or_else(String::new, |percent| format!("{percent} % "));
        let over = if window.is_empty() { String::new() } else { format!(" over {window}") };
        let who = format!("{service} {name}");
        self.objectives.push(format!("{}: {target}{kind}{over} ({format})", who.trim()));
    }
}

/// The documents of a text, cut at lines that are `---`.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        match (line.trim_end() == "---", parts.last_mut()) {
            (false, Some(part)) => {
                part.push_str(line);
                part.push('\n');
            }
            _ => parts.push(String::new()),
        }
    }
    parts.retain(|part| MARKS.iter().any(|mark| part.contains(mark)));
    parts
}

/// The SLOs of one document; `None` where it is of no format that is known.
fn slos(document: &Value) -> Option<Vec<Slo>> {
    let (version, kind) = (text(document, &["apiVersion"]), text(document, &["kind"]));
    if version.starts_with("openslo/v1") {
        return Some(if kind == "SLO" { openslo(document) } else { Vec::new() });
    }
    if version.starts_with("sloth.slok.dev/") {
        return Some(sloth(at(document, &["spec"]).unwrap_or(&Value::Null)));
    }
    if text(document, &["version"]) == "prometheus/v1" {
        return Some(sloth(document));
    }
    (version.starts_with("pyrra.dev/") && kind == "ServiceLevelObjective").then(|| pyrra(document))
}

fn openslo(document: &Value) -> Vec<Slo> {
    let name = named(document, &[&["metadata", "displayName"], &["metadata", "name"]]);
    let window = list(document, &["spec", "timeWindow"])
        .or_else(|| list(document, &["spec", "timeWindows"]))
        .and_then(|windows| windows.first())
        .map(|window| match (text(window, &["duration"]), number(window, &["count"])) {
            (duration, _) if !duration.is_empty() => duration,
            (_, Some(count)) => format!("{count} {}", text(window, &["unit"]).to_lowercase()),
            _ => String::new(),
        });
    let indicator = at(document, &["spec", "indicator", "spec"]);
    let threshold = indicator.is_some_and(|spec| at(spec, &["thresholdMetric"]).is_some());
    let described = format!(
        "{name} {} {} {}",
        text(document, &["spec", "description"]),
        text(document, &["spec", "indicator", "metadata", "name"]),
        text(document, &["spec", "indicatorRef"])
    );
    let slo = |objective: &Value| Slo {
        service: text(document, &["spec", "service"]),
        name: match text(objective, &["displayName"]) {
            own if own.is_empty() || own == name => name.clone(),
            own => format!("{name} {own}"),
        },
        target: number(objective, &["targetPercent"])
            .or_else(|| number(objective, &["target"]).map(|ratio| percent(ratio * 100.0))),
        kind: indicator_kind(&described, threshold),
        window: window.clone().unwrap_or_default(),
        format: "OpenSLO",
    };
    list(document, &["spec", "objectives"]).map(|all| all.iter().map(slo).collect()).unwrap_or_default()
}

fn sloth(spec: &Value) -> Vec<Slo> {
    let slo = |slo: &Value| {
        let described = format!("{} {}", text(slo, &["name"]), text(slo, &["description"]));
        Slo {
            service: text(spec, &["service"]),
            name: named(slo, &[&["name"]]),
            target: number(slo, &["objective"]),
            kind: indicator_kind(&described, false),
            window: SLOTH_WINDOW.to_owned(),
            format: "Sloth",
        }
    };
    list(spec, &["slos"]).map(|all| all.iter().map(slo).collect()).unwrap_or_default()
}

fn pyrra(document: &Value) -> Vec<Slo> {
    let latency = ["latency", "latencyNative"].iter().any(|kind| at(document, &["spec", "indicator", kind]).is_some());
    let name = named(document, &[&["metadata", "name"]]);
    let described = format!("{name} {}", text(document, &["spec", "description"]));
    vec![Slo {
        service: text(document, &["metadata", "labels", "pyrra.dev/service"]),
        kind: if latency { "latency".to_owned() } else { indicator_kind(&described, false) },
        name,
        target: number(document, &["spec", "target"]),
        window: text(document, &["spec", "window"]),
        format: "Pyrra",
    }]
}

/// The kind of indicator that words tell of.
fn indicator_kind(described: &str, threshold: bool) -> String {
    let described = described.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| described.contains(word));
    if has(&["latency", "duration", "response time", "slow"]) {
        "latency"
    } else if has(&["freshness", "staleness", "lag"]) {
        "freshness"
    } else if threshold {
        "threshold"
    } else {
        "availability"
    }
    .to_owned()
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(*key))
}

fn list<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Vec<Value>> {
    at(value, path).and_then(Value::as_sequence)
}

/// A text in one line, short enough to be told.
fn text(value: &Value, path: &[&str]) -> String {
    let found = at(value, path).and_then(Value::as_str).unwrap_or_default();
    found.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(NAME_CHARS_MAX).collect()
}

fn named(value: &Value, paths: &[&[&str]]) -> String {
    paths.iter().map(|path| text(value, path)).find(|name| !name.is_empty()).unwrap_or_default()
}

/// A number, also where it is written as a text.
fn number(value: &Value, path: &[&str]) -> Option<f64> {
    let found = at(value, path)?;
    let number = found.as_f64().or_else(|| found.as_str()?.trim().trim_end_matches('%').trim().parse().ok());
    number.filter(|number| number.is_finite())
}

/// Without what a ratio times a hundred leaves behind the eighth digit.
fn percent(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENSLO: &str = "apiVersion: openslo/v1\nkind: Service\nmetadata:\n  name: checkout\n---\napiVersion: openslo/v1\nkind: SLO\n\
        metadata:\n  name: checkout-availability\nspec:\n  service: checkout\n  indicator:\n    metadata:\n      name: requests\n    spec:\n      \
        ratioMetric: {}\n  timeWindow:\n    - duration: 28d\n      isRolling: true\n  objectives:\n    - target: 0.999\n    - targetPercent: 99.5\n      displayName: soft\n";
    const SLOTH: &str = "version: \"prometheus/v1\"\nservice: cart\nslos:\n  - name: requests-latency\n    objective: 99.9\n  - name: requests-availability\n    objective: 99.95\n";
    const PYRRA: &str = "apiVersion: pyrra.dev/v1alpha1\nkind: ServiceLevelObjective\nmetadata:\n  name: api-errors\n  labels:\n    pyrra.dev/service: api\nspec:\n  \
        target: \"99.5\"\n  window: 4w\n  indicator:\n    ratio: {}\n";

    #[test]
    fn the_three_formats_are_told() {
        let told = |text: &str| read(text).expect("a template");
        let openslo = told(OPENSLO);
        assert_eq!(
            openslo.objectives,
            [
                "checkout checkout-availability: 99.9 % availability over 28d (OpenSLO)",
                "checkout checkout-availability soft: 99.5 % availability over 28d (OpenSLO)"
            ]
        );
        assert_eq!(openslo.title().as_deref(), Some("checkout-availability and 1 more"));
        let sloth = told(SLOTH);
        assert_eq!(sloth.objectives[0], "cart requests-latency: 99.9 % latency over 30d (Sloth)");
        assert_eq!(sloth.title().as_deref(), Some("cart: requests-latency and 1 more"));
        assert_eq!(told(PYRRA).objectives, ["api api-errors: 99.5 % availability over 4w (Pyrra)"]);
        assert_eq!(told(&format!("{PYRRA}---\n{OPENSLO}")).objectives.len(), 3);
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "",
            "groups: []",
            "see openslo/v1 for more",
            "apiVersion: openslo/v1\n  kind: [",
            "apiVersion: v1\nkind: ConfigMap\nx: prometheus/v1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_no_template() {
        let mut text = "apiVersion: openslo/v1\nkind: SLO\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let before = n - 1;
            let refs = vec![format!("*a{before}"); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
        }
        assert_eq!(read(&text), None);
    }
}
