//! Enums as words: `DEPENDENCY_MODE_HARD` is `hard`, `TIER_1` stays `tier_1` because no word begins with a digit.

use prost_reflect::EnumDescriptor;

const UNSPECIFIED: &str = "UNSPECIFIED";

/// The word for a value's full name.
pub(crate) fn word(enumeration: &EnumDescriptor, full_name: &str) -> String {
    let zero = enumeration.default_value();
    let prefix = zero.name().strip_suffix(UNSPECIFIED).unwrap_or_default();
    match full_name.strip_prefix(prefix) {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => rest.to_ascii_lowercase(),
        _ => full_name.to_ascii_lowercase(),
    }
}

/// The word for a number; `None` where this version of the contract does not know it.
pub(crate) fn word_of(enumeration: &EnumDescriptor, number: i32) -> Option<String> {
    enumeration.get_value(number).map(|value| word(enumeration, value.name()))
}

/// Every word, in the order of the contract.
pub(crate) fn all(enumeration: &EnumDescriptor) -> Vec<String> {
    enumeration.values().map(|value| word(enumeration, value.name())).collect()
}

/// Reads a word, with hyphens for underscores, or a full name.
///
/// # Errors
/// A sentence that lists the words.
pub(crate) fn number_of(enumeration: &EnumDescriptor, text: &str) -> Result<i32, String> {
    let spelled = text.replace('-', "_");
    let fits = |name: &str| name == text || word(enumeration, name) == spelled;
    enumeration.values().find(|value| fits(value.name())).map(|value| value.number()).ok_or_else(|| {
        let known: Vec<_> =
            all(enumeration).into_iter().filter(|word| !word.eq_ignore_ascii_case(UNSPECIFIED)).collect();
        format!("`{}` is none of {}", crate::json::echo::shorten(text), known.join(", "))
    })
}
