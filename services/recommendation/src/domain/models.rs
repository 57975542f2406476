//! Versions of the statistical model: what each consists of, and what its name is.

use std::collections::BTreeMap;

use attain_attainment::{Constants, MODEL_VERSION, Model};
use attain_redaction::{redact, redact_name};
use attain_vocabulary::{InvalidValue, UnixMillis};
use serde_json::{Map, Value, json};

use super::calibration::Class;
use super::kept::sha256_hex;
use super::model_classes::{ClassPart, of_class};

/// How far a constant may be from the compiled one, as a factor.
const FACTOR_MAX: f64 = 100.0;
/// Greatest value of a constant that is 0 as compiled: `prior_exposure_days`, a year.
const NOTHING_MAX: f64 = 365.0;
const NAME_CHARS_MAX: usize = 80;
const NOTE_CHARS_MAX: usize = 500;

/// What a version consists of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    pub(crate) constants: Constants,
    /// What it says of classes; empty where nothing earned its place.
    pub(crate) classes: Vec<ClassPart>,
}

/// A version as it was registered; never changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Registered {
    pub(crate) version: String,
    pub(crate) content: Content,
    pub(crate) name: String,
    pub(crate) parent_version: String,
    pub(crate) content_sha256: String,
    /// `None` for the compiled one.
    pub(crate) create_ms: Option<UnixMillis>,
    pub(crate) created_by: String,
    pub(crate) note: String,
}

/// What a version is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    Live,
    Shadow,
    Retired,
}

/// The version that serves where one is noted to be live: itself where it is of these statistics, else the compiled one. A version of
/// other statistics, which an earlier build registered or was, would be another model under the same name.
pub(crate) fn serving(version: &str) -> &str {
    if of_these_statistics(version) { version } else { MODEL_VERSION }
}

/// Whether a version's constants were registered for the statistics that are compiled.
pub(crate) fn of_these_statistics(version: &str) -> bool {
    version.strip_prefix(MODEL_VERSION).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The compiled model: the first entry of every registry.
pub(crate) fn compiled() -> Registered {
    Registered {
        version: MODEL_VERSION.to_owned(),
        content: Content::compiled(),
        name: "compiled".to_owned(),
        parent_version: String::new(),
        content_sha256: Content::compiled().sha256(),
        create_ms: None,
        created_by: String::new(),
        note: "The constants that the program was built with.".to_owned(),
    }
}

impl Content {
    /// What the program was built with.
    pub(super) fn compiled() -> Self {
        Self { constants: Constants::DEFAULT, classes: Vec::new() }
    }

    /// Without classes it is that of the constants alone, as it was before there were classes.
    fn sha256(&self) -> String {
        let mut content = json!({"constants": self.constants, "statistics": MODEL_VERSION});
        if !self.classes.is_empty() {
            content["classes"] = json!(self.classes);
        }
        sha256_hex(content.to_string().as_bytes())
    }
}

impl Registered {
    /// The model as it is for one class.
    pub(crate) fn for_class(&self, class: Class) -> Model {
        of_class(&self.version, &self.content.constants, &self.content.classes, class)
    }
}

/// A new version. Its name is of what it consists: the same content has the same name, whoever registers it.
pub(crate) fn registered(
    content: Content,
    name: String,
    note: String,
    parent_version: String,
    created_by: String,
    create_ms: UnixMillis,
) -> Registered {
    let content_sha256 = content.sha256();
    let version = format!("{MODEL_VERSION}-{}", &content_sha256[..12]);
    Registered { version, content, name, parent_version, content_sha256, create_ms: Some(create_ms), created_by, note }
}

/// The constants by name.
pub(crate) fn by_name(constants: &Constants) -> BTreeMap<String, f64> {
    object(constants).iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}

fn object(constants: &Constants) -> Map<String, Value> {
    match json!(constants) {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// Constants with some of them replaced.
///
/// # Errors
/// Names each one that there is not or that is out of range, and says so where nothing would change.
pub(crate) fn altered(base: &Constants, changes: &BTreeMap<String, f64>) -> Result<Constants, Vec<InvalidValue>> {
    let (mut object, compiled) = (object(base), object(&Constants::DEFAULT));
    let mut faults = Vec::new();
    for (name, value) in changes {
        match replacement(compiled.get(name), *value) {
            Ok(value) => {
                object.insert(name.clone(), value);
            }
            Err(reason) => {
                faults.push(InvalidValue::new(format!("constants/{}", redact_name(name)), "out_of_range", reason))
            }
        }
    }
    let altered: Option<Constants> = serde_json::from_value(Value::Object(object)).ok();
    match altered {
        _ if !faults.is_empty() => Err(faults),
        Some(altered) if altered == *base => Err(vec![InvalidValue::new(
            "constants",
            "required",
            "name at least one constant with another value than the live model's",
        )]),
        Some(altered) => match altered.check() {
            Ok(()) => Ok(altered),
            Err(reason) => Err(vec![InvalidValue::new("constants", "out_of_range", reason)]),
        },
        None => Err(vec![InvalidValue::new("constants", "malformed", "they are no constants of this model")]),
    }
}

/// The number as the constant is written: whole where the compiled one is.
fn replacement(compiled: Option<&Value>, value: f64) -> Result<Value, String> {
    let Some(compiled) = compiled else { return Err("the model has no such constant".to_owned()) };
    let of = compiled.as_f64().unwrap_or_default();
    // Of nothing there are no multiples: days that a class was observed for, which the compiled model does not count on.
    let (least, most) = if of == 0.0 { (0.0, NOTHING_MAX) } else { (of / FACTOR_MAX, of * FACTOR_MAX) };
    if !(least..=most).contains(&value) {
        return Err(format!("{value} is outside {least} to {most}"));
    }
    if compiled.is_u64() {
        // Odd degrees of freedom have no closed form, and each forecast asks for the tail thousands of times.
        if value.fract() != 0.0 || value % 2.0 != 0.0 {
            return Err(format!("{value} is not a whole even number"));
        }
        return Ok(Value::from(value as u64));
    }
    Ok(Value::from(value))
}

/// Checks the name and the note that people write beside the constants, and redacts them.
pub(crate) fn checked_texts(name: &str, note: &str) -> Result<(String, String), Vec<InvalidValue>> {
    let mut faults = Vec::new();
    let chars = name.trim().chars().count();
    if chars == 0 || chars > NAME_CHARS_MAX {
        faults.push(InvalidValue::new(
            "name",
            "out_of_range",
            format!("{chars} characters; 1 to {NAME_CHARS_MAX} are kept"),
        ));
    }
    let chars = note.chars().count();
    if chars > NOTE_CHARS_MAX {
        faults.push(InvalidValue::new(
            "note",
            "too_long",
            format!("{chars} characters; at most {NOTE_CHARS_MAX} are kept"),
        ));
    }
    let redacted = |text: &str| redact(text.trim()).0.into_owned();
    if faults.is_empty() { Ok((redacted(name), redacted(note))) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_name_is_of_what_a_model_consists() {
        let of = |drift| {
            let constants = Constants { drift, ..Constants::DEFAULT };
            let content = Content { constants, classes: Vec::new() };
            registered(content, "x".into(), String::new(), String::new(), "me".into(), 5)
        };
        assert_eq!(of(0.3).version, of(0.3).version);
        assert_ne!(of(0.3).version, of(0.31).version);
        assert!(of(0.3).version.starts_with(MODEL_VERSION) && of(0.3).version != MODEL_VERSION);
        // What it says of classes is a part of it.
        let part = ClassPart {
            tier: attain_vocabulary::Tier::Two,
            kind: attain_vocabulary::EntityKind::Service,
            service_count: 10,
            window_count: 40,
            prior: None,
            layer: None,
        };
        let content = Content { classes: vec![part], ..of(0.3).content };
        let with = registered(content, "x".into(), String::new(), String::new(), "me".into(), 5);
        assert_ne!(with.version, of(0.3).version);
    }

    #[test]
    fn a_version_of_other_statistics_does_not_serve() {
        let ours = format!("{MODEL_VERSION}-0123456789ab");
        assert_eq!((serving(&ours), serving(MODEL_VERSION)), (ours.as_str(), MODEL_VERSION));
        for other in ["drifting-level-0", "drifting-level-0-0123456789ab", &format!("{MODEL_VERSION}0-01"), ""] {
            assert_eq!(serving(other), MODEL_VERSION, "{other}");
        }
    }

    #[test]
    fn constants_are_replaced_by_name_and_within_bounds() {
        let base = Constants::DEFAULT;
        let altered_to = |pairs: &[(&str, f64)]| altered(&base, &changes(pairs));
        let field = |pairs: &[(&str, f64)]| altered_to(pairs).expect_err("refused")[0].field.clone();
        assert_eq!(altered_to(&[("drift", 0.3)]), Ok(Constants { drift: 0.3, ..base }));
        let whole = altered_to(&[("degrees_of_freedom", 8.0)]).expect("in range");
        assert_eq!(whole.degrees_of_freedom, 8);
        for odd in [8.5, 9.0] {
            assert_eq!(field(&[("degrees_of_freedom", odd)]), "constants/degrees_of_freedom");
        }
        assert!(altered_to(&[("prior_exposure_days", 10.0)]).is_ok(), "0 as compiled");
        assert_eq!(field(&[("prior_exposure_days", 366.0)]), "constants/prior_exposure_days");
        assert_eq!(field(&[("drift", f64::NAN)]), "constants/drift");
        assert_eq!(field(&[("drift", 1e9)]), "constants/drift");
        assert_eq!(field(&[("nothing", 1.0)]), "constants/nothing");
        assert_eq!(field(&[("drift", base.drift)]), "constants");
        assert_eq!(field(&[]), "constants");
        // In range one by one, and impossible together.
        assert_eq!(field(&[("half_life_days_min", 500.0)]), "constants");
        assert_eq!(field(&[("mean_max", 2.0)]), "constants");
    }

    #[test]
    fn texts_are_bounded_and_redacted() {
        let texts = checked_texts(" steady ", "asked by jane@example.com").expect("kept");
        assert_eq!(texts, ("steady".to_owned(), "asked by [redacted:email]".to_owned()));
        assert_eq!(checked_texts(" ", &"x".repeat(501)).expect_err("refused").len(), 2);
    }
}
