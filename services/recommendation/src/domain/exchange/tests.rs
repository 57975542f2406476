use attain_vocabulary::{Objective, TimeWindow};
use proptest::prelude::*;
use serde_yaml_ng::Value;

use super::import::{Content, Declared, Document, read};
use super::*;

fn slo(service: &str, kind: SliKind, target: f64, threshold: Option<u32>, window: i64) -> Slo {
    Slo {
        service: EntityId::new("service_id", service).expect("a name"),
        kind,
        target: Objective::new("target_ratio", target).expect("in range"),
        latency_threshold_ms: threshold,
        window: TimeWindow::from_code("window", window).expect("offered"),
        version: 1,
        recommendation_id: String::new(),
        as_recommended: false,
        update_ms: 0,
    }
}

fn written(format: Format, slos: &[Slo]) -> Export {
    export(format, slos, &MetricNames::default(), Some(1e6)).expect("default metrics")
}

fn documents(text: &str) -> Vec<Document> {
    read(text).expect("documents")
}

/// The one SLO of a text, or field and code of what is wrong with its last document.
fn one(text: &str) -> Result<Declared, Vec<(String, &'static str)>> {
    match documents(text).pop().expect("a document").content {
        Content::Slo(declared) => Ok(declared),
        Content::Other => Err(Vec::new()),
        Content::Wrong(faults) => Err(faults.into_iter().map(|fault| (fault.field, fault.code)).collect()),
    }
}

const FOREIGN: &str = "
apiVersion: openslo/v1
kind: Service
metadata: {name: shop, annotations: {attain/service-id: 'component:default/Shop'}}
spec: {description: sells}
---
# an indicator that several may share
apiVersion: openslo/v1
kind: SLI
metadata: {name: shop-fast}
spec:
  ratioMetric:
    counter: true
    good: {metricSource: {type: Prometheus, spec: {query: 'sum(request_duration_seconds_bucket{le=\"0.25\"})'}}}
    total: {metricSource: {type: Prometheus, spec: {query: 'sum(request_duration_seconds_count)'}}}
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: shop-latency}
spec:
  service: shop
  indicatorRef: shop-fast
  timeWindow: [{duration: 4w, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{targetPercent: 99.9}]
";

#[test]
fn an_slo_of_another_tool_is_read_by_its_references() {
    let expected = slo("component:default/Shop", SliKind::Latency, 0.999, Some(250), 28);
    assert_eq!(one(FOREIGN), Ok(declared(&expected)));
    let kinds: Vec<String> = documents(FOREIGN).into_iter().map(|document| document.kind).collect();
    assert_eq!(kinds, ["Service", "SLI", "SLO"]);
    let threshold = FOREIGN.replace("indicatorRef: shop-fast", "indicator: {metadata: {name: x}, spec: {thresholdMetric: {metricSource: {type: Prometheus, spec: {query: latency_milliseconds}}}}}")
        .replace("{targetPercent: 99.9}", "{target: 0.95, op: lte, value: 300}");
    assert_eq!(one(&threshold).map(|read| (read.kind, read.latency_threshold_ms)), Ok((SliKind::Latency, Some(300))));
}

#[test]
fn what_is_wrong_is_named_by_its_field() {
    for (from, to, field, code) in [
        ("budgetingMethod: Occurrences", "budgetingMethod: Timeslices", "spec.budgetingMethod", "not_offered"),
        ("  budgetingMethod: Occurrences\n", "", "spec.budgetingMethod", "required"),
        ("isRolling: true", "isRolling: false", "spec.timeWindow[0].calendar", "required"),
        ("isRolling: true", "isRolling: true, calendar: {timeZone: UTC}", "spec.timeWindow[0].calendar", "not_allowed"),
        (
            "4w, isRolling: true",
            "1M, isRolling: false, calendar: {startTime: 2020-01-01 00:00:00, timeZone: Europe/Oslo}",
            "spec.timeWindow[0].calendar.timeZone",
            "not_offered",
        ),
        (
            "4w, isRolling: true",
            "1Q, isRolling: false, calendar: {startTime: 2020-02-01 00:00:00, timeZone: UTC}",
            "spec.timeWindow[0].calendar.startTime",
            "not_offered",
        ),
        ("duration: 4w", "duration: 5d", "spec.timeWindow[0].duration", "not_offered"),
        ("duration: 4w", "duration: a month", "spec.timeWindow[0].duration", "malformed"),
        ("targetPercent: 99.9", "targetPercent: 100", "spec.objectives[0].targetPercent", "out_of_range"),
        ("targetPercent: 99.9", "target: 0.9, targetPercent: 90", "spec.objectives[0].target", "not_allowed"),
        ("[{targetPercent: 99.9}]", "[]", "spec.objectives", "required"),
        ("[{targetPercent: 99.9}]", "[{target: 0.9}, {target: 0.99}]", "spec.objectives", "too_many"),
        ("indicatorRef: shop-fast", "indicatorRef: shop-quick", "spec.indicatorRef", "unknown_reference"),
        ("  indicatorRef: shop-fast\n", "", "spec.indicator", "required"),
        ("_seconds_bucket", "_bucket", "spec.indicatorRef.ratioMetric.good", "unknown_unit"),
        ("  service: shop\n", "", "spec.service", "required"),
        ("name: shop-latency", "name: Shop latency", "metadata.name", "malformed_name"),
        ("openslo/v1\nkind: SLO", "openslo/v2alpha\nkind: SLO", "apiVersion", "not_offered"),
        ("kind: SLO", "kind: Slo", "kind", "unknown_value"),
    ] {
        let changed = FOREIGN.replace(from, to);
        assert_ne!(changed, FOREIGN, "{from}");
        assert_eq!(one(&changed), Err(vec![(field.to_owned(), code)]), "{from} → {to}");
    }
}

#[test]
fn a_broken_document_takes_no_other_along() {
    let text = format!("a: [b\n---\n{FOREIGN}---\n---\njust a word");
    let read = documents(&text);
    let faults: Vec<Option<&str>> = read
        .iter()
        .map(|document| match &document.content {
            Content::Wrong(faults) => Some(faults[0].code),
            _ => None,
        })
        .collect();
    assert_eq!(faults, [Some("malformed"), None, None, None, Some("malformed")]);
    assert_eq!(read.iter().map(|document| document.position).collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
    assert_eq!(super::import::read(" \n---\n").map_err(|fault| fault.code), Err("required"));
    assert_eq!(super::import::read(&"a\n".repeat(600_000)).map_err(|fault| fault.code), Err("too_long"));
}

#[test]
fn two_targets_for_one_sli_are_a_conflict_and_twice_the_same_is_none() {
    let other = FOREIGN.split("---").last().expect("the SLO").replace("shop-latency", "shop-again");
    assert!(one(&format!("{FOREIGN}---{other}")).is_ok());
    let stricter = other.replace("99.9", "99.95");
    assert_eq!(one(&format!("{FOREIGN}---{stricter}")), Err(vec![("spec.objectives".into(), "conflict")]));
}

#[test]
fn nothing_that_a_document_says_is_repeated_unredacted() {
    let text = FOREIGN.replace("name: shop-latency", "name: jane.doe@mail.example");
    let last = documents(&text).pop().expect("a document");
    assert_eq!(last.name, "[redacted:email]");
    let broken = documents("- [jane.doe@mail.example").remove(0);
    assert!(!format!("{broken:?}").contains("jane"), "{broken:?}");
}

#[test]
fn aliases_that_multiply_are_refused_in_time() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let last = i - 1;
        bomb.push_str(&format!(
            "a{i}: &a{i} [*a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}]\n"
        ));
    }
    assert_eq!(one(&bomb), Err(vec![(String::new(), "malformed")]));
}

fn declared(slo: &Slo) -> Declared {
    Declared {
        service: slo.service.clone(),
        kind: slo.kind,
        target: slo.target,
        latency_threshold_ms: slo.latency_threshold_ms,
        window: slo.window,
    }
}

#[test]
fn other_tools_get_their_own_fields() {
    let slos = [
        slo("checkout", SliKind::Availability, 0.999, None, 28),
        slo("checkout", SliKind::Latency, 0.95, Some(300), 30),
    ];
    let sloth: Value = serde_yaml_ng::from_str(&written(Format::Sloth, &slos).files[0].content).expect("YAML");
    assert_eq!(sloth["version"], Value::from("prometheus/v1"));
    assert_eq!(sloth["slos"][0]["objective"], Value::from(99.9));
    let query = sloth["slos"][0]["sli"]["events"]["total_query"].as_str().expect("a query").to_owned();
    assert_eq!(query, "sum(rate(http_server_request_duration_seconds_count{job=~\"(.+/)?checkout\"}[{{.window}}]))");
    assert_eq!(written(Format::Sloth, &slos).notes.len(), 4, "two windows, separate runs, the bound");

    let pyrra = written(Format::Pyrra, &slos);
    let parts: Vec<Value> =
        pyrra.files[0].content.split("---\n").map(|part| serde_yaml_ng::from_str(part).expect("YAML")).collect();
    assert_eq!(parts[0]["apiVersion"], Value::from("pyrra.dev/v1alpha1"));
    assert_eq!((&parts[0]["spec"]["target"], &parts[0]["spec"]["window"]), (&Value::from("99.9"), &Value::from("28d")));
    let latency = &parts[1]["spec"]["indicator"]["latency"];
    assert!(
        latency["success"]["metric"]
            .as_str()
            .expect("a metric")
            .contains("_bucket{job=~\"(.+/)?checkout\",le=\"0.3\"}")
    );
    assert!(latency["total"]["metric"].as_str().expect("a metric").contains("_count{job=~"));
    assert!(pyrra.notes[0].contains("one selector"), "{:?}", pyrra.notes);
}

#[test]
fn freshness_counts_slices_in_every_format() {
    let slos = [slo("order-mailer", SliKind::Freshness, 0.95, Some(90_000), 28)];
    let age = r#"kafka_consumergroup_group_max_lag_seconds{group="order-mailer"}"#;
    let oldest = format!("max(max_over_time({age}[5m]))");

    let openslo = written(Format::OpenSlo, &slos).files.remove(0).content;
    let document: Value = serde_yaml_ng::from_str(openslo.split("---\n").last().expect("the SLO")).expect("YAML");
    let objective = &document["spec"]["objectives"][0];
    assert_eq!((&objective["op"], objective["value"].as_f64()), (&Value::from("lte"), Some(90.0)));
    assert_eq!(one(&openslo), Ok(declared(&slos[0])));
    // Other slices than those that are counted here, and a part of one.
    let in_seconds = openslo.replace("timeSliceWindow: 5m", "timeSliceWindow: 300");
    assert_eq!(one(&in_seconds), Ok(declared(&slos[0])));
    for (from, to, field) in [
        ("timeSliceWindow: 5m", "timeSliceWindow: 1m", "spec.objectives[0].timeSliceWindow"),
        ("timeSliceTarget: 1.0", "timeSliceTarget: 0.9", "spec.objectives[0].timeSliceTarget"),
        ("Timeslices", "RatioTimeslices", "spec.budgetingMethod"),
    ] {
        let changed = openslo.replace(from, to);
        assert_ne!(changed, openslo, "{from}");
        assert_eq!(one(&changed), Err(vec![(field.to_owned(), "not_offered")]), "{from} → {to}");
    }

    let sloth: Value = serde_yaml_ng::from_str(&written(Format::Sloth, &slos).files[0].content).expect("YAML");
    let events = &sloth["slos"][0]["sli"]["events"];
    assert_eq!(events["error_query"], Value::from(format!("sum_over_time(({oldest} > bool 90)[{{{{.window}}}}:5m])")));
    assert_eq!(events["total_query"], Value::from(format!("count_over_time({oldest}[{{{{.window}}}}:5m])")));

    let pyrra = written(Format::Pyrra, &slos);
    let [resource, rules] =
        [0, 1].map(|file| -> Value { serde_yaml_ng::from_str(&pyrra.files[file].content).expect("YAML") });
    let series = "attain:fresh:bool{attain_slo=\"order-mailer-freshness\"}";
    assert_eq!(resource["spec"]["indicator"]["bool_gauge"]["metric"], Value::from(series));
    assert_eq!(rules["groups"][0]["rules"][0]["expr"], Value::from(format!("{oldest} <= bool 90")));
    let notes = pyrra.notes.join(" ");
    assert!(notes.contains(&pyrra.files[1].name) && notes.contains(age), "{notes}");
}

#[test]
fn a_format_and_a_metric_that_are_none_are_refused() {
    assert_eq!(Format::from_word("yaml").map_err(|fault| fault.code), Err("unknown_value"));
    assert_eq!(Format::from_word("").map_err(|fault| fault.code), Err("required"));
    let with = |edit: fn(&mut MetricNames)| {
        let mut metrics = MetricNames::default();
        edit(&mut metrics);
        metrics.validate().map_err(|fault| (fault.field, fault.code))
    };
    assert_eq!(with(|_| ()), Ok(()));
    assert_eq!(with(|metrics| metrics.bad_counter.clear()), Err(("bad_counter".into(), "required")));
    assert_eq!(with(|metrics| metrics.latency_unit = "h".into()), Err(("latency_unit".into(), "unknown_value")));
    assert_eq!(with(|metrics| metrics.age_unit = "min".into()), Err(("age_unit".into(), "unknown_value")));
    assert_eq!(with(|metrics| metrics.age_gauge = "max(a)".into()), Err(("age_gauge".into(), "malformed")));
    let private = |metrics: &mut MetricNames| metrics.valid_counter = r#"a{u="jane.doe@mail.example"}"#.into();
    assert_eq!(with(private), Err(("valid_counter".into(), "private")));
}

/// Names of fields, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_mapping().expect("fields").keys().filter_map(Value::as_str).collect();
    keys.sort_unstable();
    keys
}

fn services() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,127}"
}

fn slos() -> impl Strategy<Value = Vec<Slo>> {
    let days = || prop::sample::select(vec![7_i64, 28, 30, 90, -1, -3]);
    let target =
        || prop_oneof![0.0001f64..0.99999, prop::sample::select(vec![0.9, 0.95, 0.99, 0.999, 0.9995, 0.99999])];
    let within = |ms_max: u32| prop::option::of((target(), 1..ms_max, days()));
    (services(), prop::option::of((target(), days())), within(3_600_000), within(604_800_000)).prop_map(
        |(service, availability, latency, freshness)| {
            let availability =
                availability.map(|(target, days)| slo(&service, SliKind::Availability, target, None, days));
            let within = |kind, found: Option<(f64, u32, i64)>| {
                found.map(|(target, ms, days)| slo(&service, kind, target, Some(ms), days))
            };
            let (latency, freshness) = (within(SliKind::Latency, latency), within(SliKind::Freshness, freshness));
            availability.into_iter().chain(latency).chain(freshness).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What is written is read back as it was, to the last bit.
    #[test]
    fn export_and_import_are_identity(slos in slos()) {
        let exported = written(Format::OpenSlo, &slos);
        prop_assert_eq!(exported.files.len(), usize::from(!slos.is_empty()));
        let Some(file) = exported.files.first() else { return Ok(()) };
        let read: Vec<Declared> = documents(&file.content)
            .into_iter()
            .filter_map(|document| match document.content {
                Content::Slo(declared) => Some(declared),
                Content::Other => None,
                Content::Wrong(faults) => panic!("{faults:?} in {}", file.content),
            })
            .collect();
        prop_assert_eq!(&read, &slos.iter().map(declared).collect::<Vec<_>>());
        for (read, slo) in read.iter().zip(&slos) {
            prop_assert_eq!(read.target.target_ratio().to_bits(), slo.target.target_ratio().to_bits());
        }
    }

    /// The field rules of OpenSLO v1, written here once more: what is there, of which form, and nothing else.
    #[test]
    fn openslo_documents_keep_the_field_rules(slos in slos()) {
        let exported = written(Format::OpenSlo, &slos);
        let text = exported.files.first().map(|file| file.content.as_str()).unwrap_or_default();
        let rfc_1123 = regex::Regex::new("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$").expect("a pattern");
        for part in text.split("---\n").filter(|part| !part.is_empty()) {
            let document: Value = serde_yaml_ng::from_str(part).expect("YAML");
            prop_assert_eq!(keys(&document), ["apiVersion", "kind", "metadata", "spec"]);
            prop_assert_eq!(&document["apiVersion"], &Value::from("openslo/v1"));
            let named = |metadata: &Value| {
                let name = metadata["name"].as_str().expect("a name");
                rfc_1123.is_match(name)
            };
            prop_assert!(named(&document["metadata"]));
            for value in document["metadata"]["annotations"].as_mapping().expect("annotations").values() {
                prop_assert!(value.is_string(), "{:?}", value);
            }
            let spec = &document["spec"];
            if document["kind"] == "Service" {
                prop_assert_eq!(keys(spec), ["description"]);
                continue;
            }
            prop_assert_eq!(&document["kind"], &Value::from("SLO"));
            prop_assert_eq!(
                keys(spec),
                ["budgetingMethod", "description", "indicator", "objectives", "service", "timeWindow"]
            );
            prop_assert!(spec["description"].as_str().is_some_and(|text| text.chars().count() <= 1050));
            prop_assert!(named(&spec["indicator"]["metadata"]));
            let by_slices = document["metadata"]["annotations"]["attain/sli-kind"] == "freshness";
            let indicator = &spec["indicator"]["spec"];
            let (method, objective, metrics): (_, &[&str], Vec<&Value>) = if by_slices {
                let fields = &["displayName", "op", "target", "timeSliceTarget", "timeSliceWindow", "value"];
                ("Timeslices", fields, vec![&indicator["thresholdMetric"]])
            } else {
                let ratio = &indicator["ratioMetric"];
                prop_assert!(ratio["counter"].is_bool() && ratio.get("good").is_some() != ratio.get("bad").is_some());
                let metrics = ["good", "bad", "total"].into_iter().filter_map(|name| ratio.get(name)).collect();
                ("Occurrences", &["displayName", "target"], metrics)
            };
            prop_assert_eq!(&spec["budgetingMethod"], &Value::from(method));
            prop_assert_eq!(indicator.as_mapping().map(|fields| fields.len()), Some(1));
            for metric in metrics {
                prop_assert!(metric["metricSource"]["type"].is_string());
                prop_assert!(metric["metricSource"]["spec"]["query"].is_string());
            }
            let window = &spec["timeWindow"][0];
            prop_assert_eq!(spec["timeWindow"].as_sequence().map(Vec::len), Some(1));
            let duration = window["duration"].as_str().expect("a duration");
            let calendar = &window["calendar"];
            let is_known = match window["isRolling"].as_bool() {
                Some(true) => ["7d", "28d", "30d", "90d"].contains(&duration) && calendar.is_null(),
                _ => ["1M", "1Q"].contains(&duration) && calendar["timeZone"] == "UTC" && calendar["startTime"].is_string(),
            };
            prop_assert!(is_known, "{duration}");
            prop_assert_eq!(keys(&spec["objectives"][0]), objective);
            prop_assert!(spec["objectives"][0]["target"].as_f64().is_some_and(|target| target > 0.0 && target < 1.0));
        }
    }

    /// Names are labels, and two services never share one.
    #[test]
    fn names_are_labels_apart(one in services(), other in services()) {
        prop_assert!(is_label(&label(&one)), "{}", label(&one));
        prop_assert_eq!(label(&one) == label(&other), one == other);
    }

    /// Whatever is sent is read or refused, and never breaks anything.
    #[test]
    fn any_text_is_answered(text in "(?s)[ -~\n]{0,300}", place in 0_usize..1200) {
        let _ = read(&text);
        let mut torn = FOREIGN.to_owned();
        torn.insert_str(torn.char_indices().nth(place % FOREIGN.len()).map_or(0, |(at, _)| at), &text);
        let _ = read(&torn);
    }
}

proptest! {
    // Patterns are compiled anew for each of them: that takes a while without optimisation.
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Every format takes every SLO.
    #[test]
    fn every_slo_is_written_in_every_format(slos in slos(), traffic in prop::option::of(0.1f64..1e7)) {
        for format in Format::ALL {
            let exported = export(format, &slos, &MetricNames::default(), traffic).expect("default metrics");
            for file in &exported.files {
                prop_assert!(!file.name.contains('/') && file.name.ends_with(".yaml"));
                for part in file.content.split("---\n") {
                    prop_assert!(serde_yaml_ng::from_str::<Value>(part).is_ok_and(|value| value.is_mapping()));
                }
            }
        }
    }
}
