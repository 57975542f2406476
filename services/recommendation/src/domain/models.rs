//! Versions of the statistical model: what each consists of, and what its name is.

use std::collections::BTreeMap;

use attain_attainment::{Constants, MODEL_VERSION, Model};
use attain_redaction::{redact, redact_name};
use attain_vocabulary::{InvalidValue, UnixMillis};
use serde_json::{Map, Value, json};

use super::kept::sha256_hex;

/// How far a constant may be from the compiled one, as a factor.
const FACTOR_MAX: f64 = 100.0;
/// Characters of its content's hash in a version's name.
const HASH_CHARS: usize = 12;
const NAME_CHARS_MAX: usize = 80;
const NOTE_CHARS_MAX: usize = 500;

/// A version as it was registered; never changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Registered {
    pub(crate) model: Model,
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

/// The compiled model: the first entry of every registry.
pub(crate) fn compiled() -> Registered {
    Registered {
        model: Model { version: MODEL_VERSION.to_owned(), constants: Constants::DEFAULT },
        name: "compiled".to_owned(),
        parent_version: String::new(),
        content_sha256: content_sha256(&Constants::DEFAULT),
        create_ms: None,
        created_by: String::new(),
        note: "The constants that the program was built with.".to_owned(),
    }
}

/// A new version. Its name is of what it consists: the same constants have the same name, whoever registers them.
pub(crate) fn registered(
    constants: Constants,
    name: String,
    note: String,
    parent_version: String,
    created_by: String,
    create_ms: UnixMillis,
) -> Registered {
    let content_sha256 = content_sha256(&constants);
    let version = format!("{MODEL_VERSION}-{}", &content_sha256[..HASH_CHARS]);
    let model = Model { version, constants };
    Registered { model, name, parent_version, content_sha256, create_ms: Some(create_ms), created_by, note }
}

/// Whether a version consists of the statistics that this program computes with, whatever its constants.
pub(crate) fn is_of_present_statistics(version: &str) -> bool {
    let constants = version.strip_prefix(MODEL_VERSION);
    constants.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_hash))
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn content_sha256(constants: &Constants) -> String {
    sha256_hex(json!({"constants": constants, "statistics": MODEL_VERSION}).to_string().as_bytes())
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
    let (least, most) = (of / FACTOR_MAX, of * FACTOR_MAX);
    if !(least..=most).contains(&value) {
        return Err(format!("{value} is outside {least} to {most}"));
    }
    if compiled.is_u64() {
        if value.fract() != 0.0 {
            return Err(format!("{value} is not a whole number"));
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
            registered(constants, "x".into(), String::new(), String::new(), "me".into(), 5)
        };
        assert_eq!(of(0.3).model.version, of(0.3).model.version);
        assert_ne!(of(0.3).model.version, of(0.31).model.version);
        assert!(is_of_present_statistics(&of(0.3).model.version) && is_of_present_statistics(MODEL_VERSION));
        assert!(
            !is_of_present_statistics("drifting-level-0") && !is_of_present_statistics(&format!("{MODEL_VERSION}0"))
        );
        assert!(of(0.3).model.version.starts_with(MODEL_VERSION) && of(0.3).model.version != MODEL_VERSION);
    }

    #[test]
    fn constants_are_replaced_by_name_and_within_bounds() {
        let base = Constants::DEFAULT;
        let altered_to = |pairs: &[(&str, f64)]| altered(&base, &changes(pairs));
        let field = |pairs: &[(&str, f64)]| altered_to(pairs).expect_err("refused")[0].field.clone();
        assert_eq!(altered_to(&[("drift", 0.3)]), Ok(Constants { drift: 0.3, ..base }));
        let whole = altered_to(&[("degrees_of_freedom", 8.0)]).expect("in range");
        assert_eq!(whole.degrees_of_freedom, 8);
        assert_eq!(field(&[("degrees_of_freedom", 8.5)]), "constants/degrees_of_freedom");
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
