//! What the verifier accepts and rejects: sentences of real documents, true and changed by lot, and rephrasings written by hand.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use attain_grounding::{Claim, Form, cut, stems, verify, verify_rephrasing};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::mutations::{Kind, Pool, is_subject, made};

const REPHRASINGS: &str = include_str!("../../data/grounding/rephrasings.jsonl");
/// Least shares that the study has to reach. A prototype reached 0.985, 0.946 and 0.997 of the first three.
const FLOORS: [(&str, f64); 5] = [
    ("true_accepted", 0.995),
    ("numbers_rejected", 0.99),
    ("identifiers_rejected", 0.997),
    ("negations_rejected", 0.99),
    ("opposites_rejected", 0.97),
];

/// A rephrasing that a person wrote, and whether it is honest.
#[derive(Debug, Deserialize)]
struct Rephrasing {
    sentence: String,
    rephrased: String,
    honest: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    made: usize,
    accepted: usize,
}

/// Texts by name as claims, with how many of the texts hold each word.
pub(super) struct Study {
    claims: Vec<Claim>,
    holding: BTreeMap<String, usize>,
    documents: usize,
}

impl Study {
    /// Reads the texts; at most `claims_max` of their claims, chosen by lot.
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>, claims_max: usize, seed: u64) -> Self {
        let mut study = Self { claims: Vec::new(), holding: BTreeMap::new(), documents: 0 };
        for (name, text) in texts {
            let form =
                if [".yaml", ".yml"].iter().any(|end| name.ends_with(end)) { Form::Yaml } else { Form::Markdown };
            let claims = cut(text, form);
            let words: BTreeSet<String> = claims.iter().flat_map(|claim| stems(&claim.text)).collect();
            for word in words {
                *study.holding.entry(word).or_default() += 1;
            }
            study.documents += 1;
            study.claims.extend(claims.into_iter().filter(is_subject));
        }
        study.claims.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        study.claims.truncate(claims_max);
        study
    }

    /// `ln(1 + (N − n + 1/2) / (n + 1/2))`.
    pub(super) fn weigh(&self, stem: &str) -> f64 {
        let holding = self.holding.get(stem).copied().unwrap_or(0) as f64;
        (1.0 + (self.documents as f64 - holding + 0.5) / (holding + 0.5)).ln()
    }

    /// Makes one sentence of each kind of every claim and asks the verifier.
    pub(super) fn run(&self, seed: u64) -> anyhow::Result<Value> {
        let pool = Pool::of(&self.claims);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut counts: BTreeMap<Kind, Count> = BTreeMap::new();
        let mut examples: Map<String, Value> = Map::new();
        for claim in &self.claims {
            for kind in Kind::TRUE.into_iter().chain(Kind::FALSE) {
                let Some(sentence) = made(claim, kind, &pool, &mut random) else { continue };
                let accepted = verify(&sentence, &claim.source, &|stem| self.weigh(stem)).is_supported();
                let count = counts.entry(kind).or_default();
                count.made += 1;
                count.accepted += usize::from(accepted);
                if accepted != Kind::TRUE.contains(&kind) {
                    let example = json!({"sentence": sentence, "source": claim.source});
                    examples.entry(kind.name().to_owned()).or_insert(example);
                }
            }
        }
        Ok(report(&counts, &self.rephrasings()?, examples, self))
    }

    fn rephrasings(&self) -> anyhow::Result<(Count, Count)> {
        let (mut honest, mut lies) = (Count::default(), Count::default());
        for (number, line) in REPHRASINGS.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let asked: Rephrasing = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
            let Rephrasing { sentence, rephrased, honest: is_honest } = asked;
            let accepted = verify_rephrasing(&rephrased, &sentence, &sentence, &|stem| self.weigh(stem)).is_ok();
            let count = if is_honest { &mut honest } else { &mut lies };
            count.made += 1;
            count.accepted += usize::from(accepted);
        }
        Ok((honest, lies))
    }
}

fn report(
    counts: &BTreeMap<Kind, Count>,
    (honest, lies): &(Count, Count),
    examples: Map<String, Value>,
    study: &Study,
) -> Value {
    let of = |kinds: &[Kind]| {
        let chosen = || kinds.iter().filter_map(|kind| counts.get(kind));
        Count { made: chosen().map(|c| c.made).sum(), accepted: chosen().map(|c| c.accepted).sum() }
    };
    let accepted = |count: Count| count.accepted as f64 / count.made.max(1) as f64;
    let rejected = |count: Count| 1.0 - accepted(count);
    let kinds: Map<String, Value> = counts
        .iter()
        .map(|(kind, count)| (kind.name().to_owned(), json!({"made": count.made, "accepted": count.accepted})))
        .collect();
    let figures = json!({
        "true_accepted": accepted(of(&Kind::TRUE)),
        "compressed_accepted": accepted(of(&[Kind::Compressed])),
        "numbers_rejected": rejected(of(&[
            Kind::NumberDigit, Kind::NumberUnit, Kind::NumberForeign, Kind::NumbersExchanged,
        ])),
        "identifiers_rejected": rejected(of(&[
            Kind::IdentifierLetter, Kind::IdentifierForeign, Kind::IdentifiersExchanged,
        ])),
        "negations_rejected": rejected(of(&[Kind::NegationTurned])),
        "opposites_rejected": rejected(of(&[Kind::OppositeSaid])),
        "foreign_rejected": rejected(of(&[Kind::Foreign])),
    });
    let missed: Vec<Value> = FLOORS
        .iter()
        .filter(|(name, floor)| figures[*name].as_f64().is_none_or(|found| found < *floor))
        .map(|(name, floor)| json!({"figure": name, "found": figures[*name], "floor": floor}))
        .collect();
    json!({
        "documents": study.documents,
        "claims": study.claims.len(),
        "figures": figures,
        "kinds": kinds,
        "rephrasings": {
            "honest": honest.made, "honest_accepted": honest.accepted,
            "lies": lies.made, "lies_accepted": lies.accepted,
        },
        "judged_wrongly": examples,
        "missed": missed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> Vec<(String, String)> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/demo/knowledge");
        let mut texts = Vec::new();
        for folder in ["runbooks", "incidents", "slo-templates"] {
            for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
                let path = entry.expect("an entry").path();
                texts.push((path.display().to_string(), std::fs::read_to_string(&path).expect("text")));
            }
        }
        texts.sort();
        texts
    }

    #[test]
    fn the_demos_documents_meet_every_floor() {
        let texts = demo();
        let study = Study::new(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())), 300, 1);
        let report = study.run(1).expect("a report");
        assert_eq!(report["claims"], json!(300), "{report:#}");
        assert_eq!(report["missed"], json!([]), "{report:#}");
        assert_eq!(report["rephrasings"]["lies_accepted"], json!(0), "{report:#}");
        let (honest, accepted) = (&report["rephrasings"]["honest"], &report["rephrasings"]["honest_accepted"]);
        assert!(accepted.as_f64() >= honest.as_f64().map(|honest| honest * 0.6), "{report:#}");
    }
}
