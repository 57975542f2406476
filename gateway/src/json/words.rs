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
        format!("`{}` is none of {}", super::echo::shorten(text), known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;

    fn enumeration(name: &str) -> EnumDescriptor {
        let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("valid");
        pool.get_enum_by_name(&format!("attain.{name}")).expect(name)
    }

    #[test]
    fn words_lose_their_prefix_and_are_read_in_three_spellings() {
        for (name, number, word, spellings) in [
            ("vocabulary.v1.DependencyMode", 1, "hard", vec!["hard", "DEPENDENCY_MODE_HARD"]),
            ("vocabulary.v1.Tier", 1, "tier_1", vec!["tier_1", "tier-1", "TIER_1"]),
            (
                "rag.v1.DocumentKind",
                2,
                "slo_template",
                vec!["slo_template", "slo-template", "DOCUMENT_KIND_SLO_TEMPLATE"],
            ),
            ("graph.v1.EvaluationMethod", 0, "unspecified", vec!["unspecified"]),
        ] {
            let enumeration = enumeration(name);
            assert_eq!(word_of(&enumeration, number).as_deref(), Some(word));
            for spelling in spellings {
                assert_eq!(number_of(&enumeration, spelling), Ok(number), "{spelling}");
            }
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let reason = number_of(&enumeration("vocabulary.v1.Tier"), "platinum").expect_err("unknown");
        assert_eq!(reason, "`platinum` is none of tier_1, tier_2, tier_3, tier_4");
        number_of(&enumeration("vocabulary.v1.Tier"), "").expect_err("nothing is no word");
        assert_eq!(word_of(&enumeration("vocabulary.v1.Tier"), 99), None);
    }

    #[test]
    fn no_two_values_share_a_word() {
        let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("valid");
        for enumeration in pool.all_enums().filter(|known| known.package_name().starts_with("attain.")) {
            let words = all(&enumeration);
            let distinct: std::collections::BTreeSet<_> = words.iter().collect();
            assert_eq!(distinct.len(), words.len(), "{}", enumeration.full_name());
        }
    }
}
