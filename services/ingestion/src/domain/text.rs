use attain_vocabulary::InvalidValue;

/// Checks a text that may be left out: `None` when empty or blank.
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
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

/// Checks a text that has to be there.
///
/// # Errors
/// As [`optional_text`], and refuses an empty one.
pub fn required_text(field: &str, value: &str, chars_max: usize) -> Result<String, InvalidValue> {
    optional_text(field, value, chars_max)?.ok_or_else(|| InvalidValue::new(field, "required", "a text is required"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_is_nothing_and_control_characters_are_refused() {
        assert_eq!(optional_text("owner", "  ", 5), Ok(None));
        assert_eq!(optional_text("owner", " a\nb ", 5), Ok(Some("a\nb".into())));
        assert_eq!(optional_text("owner", "a\0b", 5).map_err(|e| e.code), Err("malformed_text"));
        assert_eq!(optional_text("owner", "abcdef", 5).map_err(|e| e.code), Err("too_long"));
        assert_eq!(required_text("title", "", 5).map_err(|e| e.code), Err("required"));
    }
}
