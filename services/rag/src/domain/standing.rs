//! What people said of citations, and what follows for a document's place among others.

use std::collections::BTreeMap;

use attain_vocabulary::{InvalidValue, UnixMillis};

use super::cleaning::clean;
use super::document::{DocumentId, Stored, sha256_hex};
use super::passage::slice_chars;
use super::settings::StandingWeights;

const DAY_MS: f64 = 86_400_000.0;
/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;
/// Longest question, in characters.
const QUESTION_CHARS_MAX: usize = 2000;

/// How good a citation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rating {
    Helpful,
    Unhelpful,
    /// What it says is wrong.
    Wrong,
}

/// A rating as it is handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) place: Place,
    pub(crate) quote_sha256: String,
    pub(crate) rating: Rating,
    /// Cleaned.
    pub(crate) reason: String,
    /// Empty where no question was named.
    pub(crate) question_sha256: String,
    pub(crate) by: String,
}

/// A passage, to the character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) document: DocumentId,
    pub(crate) version: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A rating as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rated {
    /// From 1, without a gap.
    pub(crate) sequence: u64,
    pub(crate) rate: Rate,
    pub(crate) time_ms: UnixMillis,
    /// Hash of this entry and of the one before.
    pub(crate) entry_sha256: String,
}

/// Weights of one document's ratings by caller: with their signs, and without.
type ByCaller<'a> = BTreeMap<&'a str, (f64, f64)>;

/// Standing of documents in [-1, 1] by name and version.
pub(crate) type Standings = BTreeMap<(DocumentId, u32), f64>;

impl Rating {
    const ALL: [Self; 3] = [Self::Helpful, Self::Unhelpful, Self::Wrong];

    /// The word under which it is stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Helpful => "helpful",
            Self::Unhelpful => "unhelpful",
            Self::Wrong => "wrong",
        }
    }

    /// The rating behind a stored word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rating| rating.as_str() == word)
    }

    fn weight(self, weights: &StandingWeights) -> f64 {
        match self {
            Self::Helpful => weights.helpful,
            Self::Unhelpful => -weights.unhelpful,
            Self::Wrong => -weights.wrong,
        }
    }
}

impl Rate {
    /// Checks a rating. The reason is cleaned as documents are; of the question only a hash is kept.
    pub(crate) fn new(
        place: Place,
        quote_sha256: String,
        rating: Rating,
        (reason, question): (&str, &str),
        by: String,
    ) -> Result<Self, InvalidValue> {
        if place.start >= place.end {
            return Err(InvalidValue::new("end_offset", "out_of_range", "a passage ends after its first character"));
        }
        let (reason_chars, question_chars) = (reason.chars().count(), question.chars().count());
        if reason_chars > REASON_CHARS_MAX {
            let told = format!("{reason_chars} characters; at most {REASON_CHARS_MAX} are kept");
            return Err(InvalidValue::new("reason", "too_long", told));
        }
        if question_chars > QUESTION_CHARS_MAX {
            let told = format!("{question_chars} characters; at most {QUESTION_CHARS_MAX} are read");
            return Err(InvalidValue::new("question", "too_long", told));
        }
        let reason = clean(reason.trim()).text;
        if reason.is_empty() && rating != Rating::Helpful {
            return Err(InvalidValue::new("reason", "required", "say what is wrong with it"));
        }
        let question_sha256 = if question.is_empty() { String::new() } else { sha256_hex(question.as_bytes()) };
        Ok(Self { place, quote_sha256, rating, reason, question_sha256, by })
    }

    /// Refuses a rating of a passage that the document does not have.
    pub(crate) fn check(&self, document: &Stored) -> Result<(), InvalidValue> {
        let quote = slice_chars(&document.text, self.place.start as usize..self.place.end as usize);
        if sha256_hex(quote.as_bytes()) != self.quote_sha256 {
            let reason = "between these characters of this version stands another text";
            return Err(InvalidValue::new("quote_sha256", "mismatch", reason));
        }
        Ok(())
    }

    /// Hash of the entry that follows the one with the hash `before`: SHA-256 of the fields in order, each after its length in
    /// bytes as eight bytes, most significant first.
    pub(crate) fn entry_sha256(&self, before: &str, sequence: u64, time_ms: UnixMillis) -> String {
        let Place { document, version, start, end } = &self.place;
        let numbers =
            [sequence.to_string(), version.to_string(), start.to_string(), end.to_string(), time_ms.to_string()];
        let texts = [
            before,
            document.as_str(),
            &self.quote_sha256,
            self.rating.as_str(),
            &self.reason,
            &self.question_sha256,
            &self.by,
        ];
        let mut bytes = Vec::new();
        for field in texts.into_iter().chain(numbers.iter().map(String::as_str)) {
            bytes.extend((field.len() as u64).to_be_bytes());
            bytes.extend(field.as_bytes());
        }
        sha256_hex(&bytes)
    }
}

/// Standing of every document that somebody rated: `Σ w / (Σ |w| + prior)`, with `w` the weight of a rating halved every
/// half-life. Of one caller the newest rating of a passage counts, and all of them on one document at most so much together. A
/// changed text starts anew.
pub(crate) fn standings<'a>(
    ratings: impl Iterator<Item = &'a Rated>,
    now_ms: UnixMillis,
    weights: &StandingWeights,
) -> Standings {
    let mut newest: BTreeMap<(&str, &Place), &Rated> = BTreeMap::new();
    for rated in ratings {
        let key = (rated.rate.by.as_str(), &rated.rate.place);
        let held = newest.entry(key).or_insert(rated);
        if rated.sequence > held.sequence {
            *held = rated;
        }
    }
    let mut by_caller: BTreeMap<(&DocumentId, u32), ByCaller<'_>> = BTreeMap::new();
    for ((caller, place), rated) in newest {
        let age_days = (now_ms - rated.time_ms).max(0) as f64 / DAY_MS;
        let weight = rated.rate.rating.weight(weights) * libm::pow(0.5, age_days / weights.half_life_days);
        let sums = by_caller.entry((&place.document, place.version)).or_default().entry(caller).or_default();
        *sums = (sums.0 + weight, sums.1 + weight.abs());
    }
    let standing = |callers: ByCaller<'_>| {
        let (mut signed, mut total) = (0.0, weights.prior_weight);
        for (sum, magnitude) in callers.into_values() {
            let scale = if magnitude > weights.caller_weight_max { weights.caller_weight_max / magnitude } else { 1.0 };
            signed += sum * scale;
            total += magnitude * scale;
        }
        signed / total
    };
    by_caller
        .into_iter()
        .map(|((document, version), callers)| ((document.clone(), version), standing(callers)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::settings::Settings;
    use proptest::prelude::*;

    fn rated(sequence: u64, by: &str, start: u32, rating: Rating, time_ms: i64) -> Rated {
        let document = DocumentId::new("id", "a/b").expect("valid");
        let place = Place { document, version: 1, start, end: start + 5 };
        let rate = Rate::new(place, "00".into(), rating, ("why", ""), by.into()).expect("valid");
        Rated { sequence, entry_sha256: rate.entry_sha256("", sequence, time_ms), rate, time_ms }
    }

    fn standing(ratings: &[Rated], now_ms: i64) -> f64 {
        let weights = Settings::shipped().expect("valid").standing;
        standings(ratings.iter(), now_ms, &weights).into_values().next().unwrap_or(0.0)
    }

    #[test]
    fn the_formula_by_hand() {
        let near = |left: f64, right: f64| assert!((left - right).abs() < 1e-12, "{left} {right}");
        near(standing(&[rated(1, "a", 0, Rating::Helpful, 0)], 0), 1.0 / 5.0);
        near(standing(&[rated(1, "a", 0, Rating::Wrong, 0)], 0), -2.0 / 6.0);
        near(standing(&[rated(1, "a", 0, Rating::Helpful, 0)], 90 * 86_400_000), 0.5 / 4.5);
        // The later word of one caller counts.
        near(standing(&[rated(1, "a", 0, Rating::Helpful, 0), rated(2, "a", 0, Rating::Wrong, 0)], 0), -2.0 / 6.0);
        let two = [rated(1, "a", 0, Rating::Helpful, 0), rated(2, "b", 0, Rating::Unhelpful, 0)];
        near(standing(&two, 0), 0.0);
    }

    #[test]
    fn one_caller_moves_only_so_much() {
        let many: Vec<Rated> = (1..=50).map(|n| rated(n, "a", n as u32 * 10, Rating::Helpful, 0)).collect();
        assert!((standing(&many, 0) - 2.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn what_no_rating_can_have_is_named() {
        let document = DocumentId::new("id", "a/b").expect("valid");
        let place = |end| Place { document: document.clone(), version: 1, start: 3, end };
        let rate = |end, rating, reason: &str, question: &str| {
            Rate::new(place(end), String::new(), rating, (reason, question), "a".into()).map_err(|fault| fault.field)
        };
        assert_eq!(rate(3, Rating::Helpful, "", ""), Err("end_offset".into()));
        assert_eq!(rate(4, Rating::Wrong, " ", ""), Err("reason".into()));
        assert_eq!(rate(4, Rating::Wrong, &"x".repeat(501), ""), Err("reason".into()));
        assert_eq!(rate(4, Rating::Helpful, "", &"x".repeat(2001)), Err("question".into()));
        assert_eq!(rate(4, Rating::Wrong, "ask a@b.example", "q").expect("valid").reason, "ask [redacted:email]");
    }

    #[test]
    fn an_entry_is_bound_to_the_one_before() {
        let rate = rated(1, "a", 0, Rating::Helpful, 0).rate;
        assert_ne!(rate.entry_sha256("", 1, 0), rate.entry_sha256("x", 1, 0));
        assert_ne!(rate.entry_sha256("", 1, 0), rate.entry_sha256("", 2, 0));
        assert_eq!(rate.entry_sha256("", 1, 0).len(), 64);
    }

    proptest! {
        #[test]
        fn a_standing_is_bounded(said in proptest::collection::vec((0_u8..6, 0_u32..9, 0_usize..3, 0_i64..1_000_000_000), 0..60)) {
            let ratings: Vec<Rated> = said
                .iter()
                .zip(1..)
                .map(|((by, start, rating, time), n)| rated(n, &by.to_string(), *start, Rating::ALL[*rating], *time))
                .collect();
            let standing = standing(&ratings, 2_000_000_000);
            prop_assert!((-1.0..=1.0).contains(&standing));
        }
    }
}
