use attain_redaction::{redact, why_refused};
use attain_vocabulary::{EntityId, InvalidValue};

/// Checks a text that may be left out: `None` when empty or blank. What is returned is redacted.
///
/// # Errors
/// Refuses control characters other than line breaks and tabs, and more than `chars_max` characters.
pub fn optional_text(field: &str, value: &str, chars_max: usize) -> Result<Option<String>, InvalidValue> {
    let value = value.trim();
    let length = value.chars().count();
    if length > chars_max {
        return Err(InvalidValue::new(field, "too_long", format!("{length} characters; at most {chars_max} are kept")));
    }
    if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(InvalidValue::new(field, "malformed_text", "control characters are not allowed"));
    }
    Ok((!value.is_empty()).then(|| redact(value).0.into_owned()))
}

/// Checks a text that has to be there.
///
/// # Errors
/// As [`optional_text`], and refuses an empty one.
pub fn required_text(field: &str, value: &str, chars_max: usize) -> Result<String, InvalidValue> {
    optional_text(field, value, chars_max)?.ok_or_else(|| InvalidValue::new(field, "required", "a text is required"))
}

/// Checks the name of a service that a sender gave. A name is what rows are found by, so one that holds a secret or personal
/// data is refused rather than changed.
///
/// # Errors
/// As [`EntityId::new`], and refuses such a name.
pub fn entity_name(field: &str, value: &str) -> Result<EntityId, InvalidValue> {
    let id = EntityId::new(field, value)?;
    without_secrets(field, value).map(|()| id)
}

/// Refuses a name that holds a secret or personal data.
///
/// # Errors
/// Names the field, and repeats nothing of the value.
pub fn without_secrets(field: &str, value: &str) -> Result<(), InvalidValue> {
    why_refused(value).map_or(Ok(()), |why| Err(InvalidValue::new(field, "secret_in_name", why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_holds_a_secret_is_refused_without_repeating_it() {
        assert!(entity_name("id", "component:default/payment-service").is_ok());
        for name in ["jane@mail.example", "glpat-0123456789abcdefABCD", "a:4111111111111111"] {
            let refused = entity_name("id", name).expect_err(name);
            assert_eq!((refused.field.as_str(), refused.code), ("id", "secret_in_name"));
            assert!(!refused.reason.contains(name));
        }
        assert_eq!(entity_name("id", "a b").map_err(|e| e.code), Err("malformed_name"));
    }

    #[test]
    fn blank_is_nothing_and_control_characters_are_refused() {
        assert_eq!(optional_text("owner", "  ", 5), Ok(None));
        assert_eq!(optional_text("owner", " a\nb ", 5), Ok(Some("a\nb".into())));
        assert_eq!(optional_text("owner", "a\0b", 5).map_err(|e| e.code), Err("malformed_text"));
        assert_eq!(optional_text("owner", "abcdef", 5).map_err(|e| e.code), Err("too_long"));
        assert_eq!(optional_text("owner", "by a@b.example", 20), Ok(Some("by [redacted:email]".into())));
        assert_eq!(required_text("title", "", 5).map_err(|e| e.code), Err("required"));
    }
}
