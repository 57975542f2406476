//! True and changed sentences by lot: what a verifier should accept, and what it should reject.
//!
//! Nothing here asks the verifier how it works: words that turn a statement round, opposites and units are lists of this file.

use attain_grounding::{Claim, ClaimKind, Fact, FactKind, facts};
use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _};

/// Words that turn a sentence round; taking one away or putting one in changes what it says.
const TURNS: [&str; 13] = [
    "not", "no", "never", "without", "unless", "except", "only", "cannot", "none", "neither", "nor", "nothing",
    "nobody",
];
/// After one of these a `not` can stand.
const AUXILIARIES: [&str; 18] = [
    "is", "are", "was", "were", "can", "should", "will", "must", "may", "do", "does", "did", "has", "have", "had",
    "could", "would", "might",
];
const OPPOSITES: [(&str, &str); 40] = [
    ("increase", "decrease"),
    ("increases", "decreases"),
    ("increased", "decreased"),
    ("raise", "lower"),
    ("raised", "lowered"),
    ("enable", "disable"),
    ("enabled", "disabled"),
    ("before", "after"),
    ("above", "below"),
    ("more", "less"),
    ("over", "under"),
    ("start", "stop"),
    ("started", "stopped"),
    ("open", "close"),
    ("opens", "closes"),
    ("add", "remove"),
    ("added", "removed"),
    ("allow", "deny"),
    ("allows", "denies"),
    ("up", "down"),
    ("on", "off"),
    ("first", "last"),
    ("least", "most"),
    ("lowest", "highest"),
    ("healthy", "unhealthy"),
    ("available", "unavailable"),
    ("primary", "replica"),
    ("success", "failure"),
    ("successful", "failed"),
    ("higher", "lower"),
    ("greater", "smaller"),
    ("accept", "reject"),
    ("accepted", "rejected"),
    ("manually", "automatically"),
    ("manual", "automatic"),
    ("upstream", "downstream"),
    ("internal", "external"),
    ("grow", "shrink"),
    ("include", "exclude"),
    ("faster", "slower"),
];
/// Units that stand in each other's place.
const UNITS: [&str; 14] =
    ["ms", "s", "seconds", "min", "minutes", "h", "hours", "days", "%", "MB", "GB", "GiB", "MiB", "KB"];
/// Chance to leave out a word that carries little, and one that carries something.
const LEAVE_FUNCTION_WORD: f64 = 0.5;
const LEAVE_WORD: f64 = 0.25;
const FUNCTION_WORDS: [&str; 30] = [
    "the", "a", "an", "of", "to", "in", "for", "is", "are", "be", "that", "this", "it", "as", "at", "by", "with",
    "and", "you", "we", "your", "our", "which", "from", "its", "there", "then", "also", "some", "any",
];

/// How a sentence was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// As it is read.
    Verbatim,
    /// By the shortening of answers.
    Shortened,
    /// Words left out by lot, but none that turns it round.
    Compressed,
    /// A digit of a number is another.
    NumberDigit,
    /// A unit is another.
    NumberUnit,
    /// A number of another sentence.
    NumberForeign,
    /// Two numbers in each other's place.
    NumbersExchanged,
    /// A letter of a name is another.
    IdentifierLetter,
    /// A name of another sentence.
    IdentifierForeign,
    /// Two names in each other's place.
    IdentifiersExchanged,
    /// A word that turns it round is gone, or one more.
    NegationTurned,
    /// A word is its opposite.
    OppositeSaid,
    /// A claim of another document.
    Foreign,
}

impl Kind {
    pub(super) const TRUE: [Self; 3] = [Self::Verbatim, Self::Shortened, Self::Compressed];
    pub(super) const FALSE: [Self; 10] = [
        Self::NumberDigit,
        Self::NumberUnit,
        Self::NumberForeign,
        Self::NumbersExchanged,
        Self::IdentifierLetter,
        Self::IdentifierForeign,
        Self::IdentifiersExchanged,
        Self::NegationTurned,
        Self::OppositeSaid,
        Self::Foreign,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Verbatim => "verbatim",
            Self::Shortened => "shortened",
            Self::Compressed => "compressed",
            Self::NumberDigit => "number_digit",
            Self::NumberUnit => "number_unit",
            Self::NumberForeign => "number_foreign",
            Self::NumbersExchanged => "numbers_exchanged",
            Self::IdentifierLetter => "identifier_letter",
            Self::IdentifierForeign => "identifier_foreign",
            Self::IdentifiersExchanged => "identifiers_exchanged",
            Self::NegationTurned => "negation_turned",
            Self::OppositeSaid => "opposite_said",
            Self::Foreign => "foreign",
        }
    }
}

/// Numbers and names that sentences get from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Pool {
    numbers: Vec<Fact>,
    names: Vec<Fact>,
    claims: Vec<String>,
}

impl Pool {
    /// Everything that these claims state.
    pub(super) fn of(claims: &[Claim]) -> Self {
        let mut pool = Self::default();
        for claim in claims {
            for fact in facts(&claim.text) {
                match fact.kind {
                    FactKind::Number => pool.numbers.push(fact),
                    FactKind::Identifier => pool.names.push(fact),
                }
            }
            pool.claims.push(claim.text.clone());
        }
        pool
    }
}

/// Whether a claim is a sentence that changes can be made to.
pub(super) fn is_subject(claim: &Claim) -> bool {
    claim.kind != ClaimKind::Quote && claim.text.split_whitespace().count() >= 6 && claim.text.len() <= 600
}

/// A sentence made of a claim; `None` where it offers nothing to change in this way, or what came out says the same.
pub(super) fn made(claim: &Claim, kind: Kind, pool: &Pool, random: &mut impl Rng) -> Option<String> {
    let text = claim.text.as_str();
    let found = facts(text);
    let of = |kind: FactKind| -> Vec<&Fact> { found.iter().filter(|fact| fact.kind == kind).collect() };
    let (numbers, names) = (of(FactKind::Number), of(FactKind::Identifier));
    let changed = match kind {
        Kind::Verbatim => return Some(text.to_owned()),
        Kind::Shortened => return Some(attain_grounding::shorten(text)).filter(|short| short != text),
        Kind::Compressed => return compressed(text, &found, random),
        Kind::NumberDigit => {
            let number = numbers.choose(random)?;
            replaced(text, number, &with_other_digit(&number.text, random)?)
        }
        Kind::NumberUnit => {
            let number = numbers.choose(random)?;
            replaced(text, number, &with_other_unit(&number.text, random)?)
        }
        Kind::NumberForeign => replaced(text, numbers.choose(random)?, &pool.numbers.choose(random)?.text),
        Kind::NumbersExchanged => exchanged(text, &numbers, random)?,
        Kind::IdentifierLetter => {
            let name = names.choose(random)?;
            replaced(text, name, &with_other_letter(&name.text, random)?)
        }
        Kind::IdentifierForeign => {
            let other = pool.names.choose(random)?;
            let there = claim.source.to_lowercase().contains(&other.text.to_lowercase());
            (!there).then(|| names.choose(random).map(|name| replaced(text, name, &other.text)))??
        }
        Kind::IdentifiersExchanged => exchanged(text, &names, random)?,
        Kind::NegationTurned => turned(text, &found, random)?,
        Kind::OppositeSaid => opposite(text, &found, random)?,
        Kind::Foreign => pool.claims.choose(random)?.clone(),
    };
    (!says_the_same(&changed, text, kind)).then_some(changed)
}

/// Whether a change changed nothing: `5 min` in place of `300 s`, or a name that is itself in capitals.
fn says_the_same(changed: &str, text: &str, kind: Kind) -> bool {
    let stated = |text: &str, kind: FactKind| -> Vec<String> {
        facts(text).into_iter().filter(|fact| fact.kind == kind).map(|fact| fact.canonical).collect()
    };
    match kind {
        Kind::NumberDigit | Kind::NumberUnit | Kind::NumberForeign | Kind::NumbersExchanged => {
            stated(changed, FactKind::Number) == stated(text, FactKind::Number)
        }
        Kind::IdentifierLetter | Kind::IdentifierForeign | Kind::IdentifiersExchanged => {
            changed.to_lowercase() == text.to_lowercase()
        }
        _ => changed == text,
    }
}

fn replaced(text: &str, fact: &Fact, by: &str) -> String {
    format!("{}{by}{}", &text[..fact.start], &text[fact.start + fact.text.len()..])
}

fn exchanged(text: &str, facts: &[&Fact], random: &mut impl Rng) -> Option<String> {
    let first = random.random_range(0..facts.len().max(1));
    let second = random.random_range(0..facts.len().max(1));
    let (first, second) = (facts.get(first.min(second))?, facts.get(first.max(second))?);
    if first.canonical == second.canonical {
        return None;
    }
    let between = &text[first.start + first.text.len()..second.start];
    let after = &text[second.start + second.text.len()..];
    Some(format!("{}{}{between}{}{after}", &text[..first.start], second.text, first.text))
}

fn with_other_digit(number: &str, random: &mut impl Rng) -> Option<String> {
    let digits: Vec<usize> = number.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
    let at = *digits.choose(random)?;
    let old = number[at..].chars().next()?.to_digit(10)?;
    let new = (old + random.random_range(1..10)) % 10;
    Some(format!("{}{new}{}", &number[..at], &number[at + 1..]))
}

fn with_other_unit(number: &str, random: &mut impl Rng) -> Option<String> {
    let end = number.rfind(|c: char| c.is_ascii_digit())? + 1;
    let (digits, rest) = number.split_at(end);
    let unit = rest.trim_start_matches([' ', '-']);
    if !UNITS.contains(&unit) {
        return None;
    }
    let other = UNITS.choose(random)?;
    Some(format!("{digits} {other}"))
}

fn with_other_letter(name: &str, random: &mut impl Rng) -> Option<String> {
    let letters: Vec<usize> = name.char_indices().filter(|(_, c)| c.is_ascii_lowercase()).map(|(at, _)| at).collect();
    let at = *letters.choose(random)?;
    let old = name.as_bytes()[at] - b'a';
    let new = char::from(b'a' + (old + random.random_range(1..26)) % 26);
    Some(format!("{}{new}{}", &name[..at], &name[at + 1..]))
}

/// The words of a text with whether a fact lies in each.
fn words<'a>(text: &'a str, facts: &[Fact]) -> Vec<(&'a str, bool)> {
    let mut at = 0;
    text.split(' ')
        .map(|word| {
            let (start, end) = (at, at + word.len());
            at = end + 1;
            let stated = facts.iter().any(|fact| fact.start < end && fact.start + fact.text.len() > start);
            (word, stated)
        })
        .collect()
}

fn bare(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

fn turns(word: &str) -> bool {
    let bare = bare(word);
    TURNS.contains(&bare.as_str()) || bare.ends_with("n't") || bare.ends_with("n’t")
}

/// Leaves out words by lot; numbers, names, code and what turns the sentence round stay, and so does every mark of punctuation.
fn compressed(text: &str, facts: &[Fact], random: &mut impl Rng) -> Option<String> {
    let is_plain = |word: &str| !word.is_empty() && word.chars().all(char::is_alphabetic);
    let mut kept = Vec::new();
    let mut behind_fact = false;
    for (word, stated) in words(text, facts) {
        let chance = if FUNCTION_WORDS.contains(&bare(word).as_str()) { LEAVE_FUNCTION_WORD } else { LEAVE_WORD };
        // Without the word between them two numbers would run together.
        let leave = !stated && !behind_fact && is_plain(word) && !turns(word) && random.random_bool(chance);
        if !leave {
            kept.push(word);
            behind_fact = stated;
        }
    }
    let short = kept.join(" ");
    (kept.len() >= 3 && short != text).then_some(short)
}

fn turned(text: &str, facts: &[Fact], random: &mut impl Rng) -> Option<String> {
    let words: Vec<&str> = words(text, facts).into_iter().map(|(word, _)| word).collect();
    let turning: Vec<usize> = (0..words.len()).filter(|place| turns(words[*place])).collect();
    let mut changed: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    if let Some(place) = turning.choose(random) {
        let word = &changed[*place];
        let positive = word.strip_suffix("n't").or_else(|| word.strip_suffix("n’t")).map(str::to_owned);
        match positive {
            Some(positive) => changed[*place] = positive,
            None => drop(changed.remove(*place)),
        }
        return Some(changed.join(" "));
    }
    let places: Vec<usize> = (0..words.len()).filter(|place| AUXILIARIES.contains(&words[*place])).collect();
    if let Some(place) = places.choose(random) {
        changed.insert(place + 1, "not".to_owned());
        return Some(changed.join(" "));
    }
    Some(format!("Never {text}"))
}

fn opposite(text: &str, facts: &[Fact], random: &mut impl Rng) -> Option<String> {
    let words = words(text, facts);
    let other = |word: &str| {
        OPPOSITES.iter().find_map(|(one, other)| match word {
            word if word == *one => Some(*other),
            word if word == *other => Some(*one),
            _ => None,
        })
    };
    let places: Vec<usize> =
        (0..words.len()).filter(|place| !words[*place].1 && other(words[*place].0).is_some()).collect();
    let place = *places.choose(random)?;
    let changed: Vec<&str> = words
        .iter()
        .enumerate()
        .map(|(at, (word, _))| if at == place { other(word).unwrap_or(word) } else { word })
        .collect();
    Some(changed.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_grounding::{Form, cut};
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn every_change_changes_what_it_says() {
        let text = "The pool of auth-service is full before 5 minutes are over, and 30 % of calls to user-db fail. Nothing else of Kafka matters here at all, after 7 hours.";
        let claims = cut(text, Form::Markdown);
        let pool = Pool::of(&claims);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for kind in Kind::FALSE {
            let made: Vec<String> = (0..40).filter_map(|_| made(&claims[0], kind, &pool, &mut random)).collect();
            assert!(!made.is_empty(), "{}", kind.name());
            assert!(made.iter().all(|sentence| *sentence != claims[0].text), "{}", kind.name());
        }
        let short = made(&claims[0], Kind::Compressed, &pool, &mut random).expect("shorter");
        assert!(short.len() < claims[0].text.len() && short.contains("auth-service") && short.contains("5 minutes"));
    }
}
