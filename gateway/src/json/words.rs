//! Enums as words: `DEPENDENCY_MODE_HARD` is `hard`, `TIER_1` stays `tier_1` because no word begins with a digit.

use std::borrow::Cow;

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

/// Every word, in the order of the contract.
pub(crate) fn all(enumeration: &EnumDescriptor) -> Vec<String> {
    enumeration.values().map(|value| word(enumeration, value.name())).collect()
}

/// The values of an enum, with what they are called.
#[derive(Debug)]
pub(crate) struct Words(Vec<Word>);

#[derive(Debug)]
struct Word {
    full_name: Box<str>,
    word: Box<str>,
    number: i32,
}

impl Words {
    pub(crate) fn of(enumeration: &EnumDescriptor) -> Self {
        let values = enumeration.values().map(|value| Word {
            full_name: value.name().into(),
            word: word(enumeration, value.name()).into(),
            number: value.number(),
        });
        Self(values.collect())
    }

    /// Reads a word, with hyphens for underscores, or a full name.
    ///
    /// # Errors
    /// A sentence that lists the words.
    pub(crate) fn number_of(&self, text: &str) -> Result<i32, String> {
        let spelled = if text.contains('-') { Cow::Owned(text.replace('-', "_")) } else { Cow::Borrowed(text) };
        let fits = |value: &&Word| *value.word == *spelled || *value.full_name == *text;
        self.0.iter().find(fits).map(|value| value.number).ok_or_else(|| {
            let known = self.0.iter().map(|value| &*value.word).filter(|word| !word.eq_ignore_ascii_case(UNSPECIFIED));
            format!("`{}` is none of {}", super::echo::shorten(text), known.collect::<Vec<_>>().join(", "))
        })
    }

    /// The word for a number; `None` where this version of the contract does not know it.
    pub(crate) fn word_of(&self, number: i32) -> Option<&str> {
        self.0.iter().find(|value| value.number == number).map(|value| &*value.word)
    }
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
            let words = Words::of(&enumeration(name));
            assert_eq!(words.word_of(number), Some(word));
            for spelling in spellings {
                assert_eq!(words.number_of(spelling), Ok(number), "{spelling}");
            }
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let tiers = Words::of(&enumeration("vocabulary.v1.Tier"));
        let reason = tiers.number_of("platinum").expect_err("unknown");
        assert_eq!(reason, "`platinum` is none of tier_1, tier_2, tier_3, tier_4");
        tiers.number_of("").expect_err("nothing is no word");
        assert_eq!(tiers.word_of(99), None);
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
