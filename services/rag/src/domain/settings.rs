//! The numbers of the retrieval recipe and the calibrated thresholds, read from the cited data files of the crate.

use serde::Deserialize;

use super::{passage, tokens};

const RETRIEVAL: &str = include_str!("../../data/retrieval.toml");
const CALIBRATION: &str = include_str!("../../data/calibration.toml");

/// How passages are found and weighed; see `data/retrieval.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) lexical_weight: f64,
    pub(crate) title_weight: f64,
    pub(crate) lead_weight: f64,
    pub(crate) exact_name_boost: f64,
    pub(crate) service_boost: f64,
    pub(crate) objective_boost: f64,
    pub(crate) tier_boost: f64,
    pub(crate) freshness: Freshness,
    pub(crate) twins: Twins,
    pub(crate) copies: Copies,
    pub(crate) doubted_penalty: f64,
    pub(crate) standing_boost: f64,
    pub(crate) standing: StandingWeights,
    pub(crate) synonym_weight: f64,
    pub(crate) candidates_max: u64,
    pub(crate) document: FieldWeights,
    pub(crate) passage: FieldWeights,
    pub(crate) confidence: ConfidenceWeights,
    #[serde(skip)]
    pub(crate) reading: Reading,
}

/// How texts are read and candidates fused. Part of the code and not of the data file, so that nobody changes it but a study of what it
/// is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Most word pieces of a passage. With its title and headings before it, it stays below the 256 that the embedding model reads.
    pub(crate) word_pieces_max: usize,
    /// Whether the parts of an identifier are terms beside the whole.
    pub(crate) splits_identifiers: bool,
    /// Whether what the names in a title stand for is embedded with it.
    pub(crate) embeds_glosses: bool,
    /// Whether title and headings are embedded with a passage.
    pub(crate) embeds_headings: bool,
    /// Characters of the text before a passage that are embedded with it.
    pub(crate) neighbour_chars: usize,
    /// Whether words and meaning are fused by reciprocal ranks in place of their distance from the mean.
    pub(crate) fuses_ranks: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            word_pieces_max: passage::WORD_PIECES_MAX,
            splits_identifiers: true,
            embeds_glosses: true,
            embeds_headings: true,
            neighbour_chars: 0,
            fuses_ranks: false,
        }
    }
}

/// How much a document counts for being new.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Freshness {
    /// Added to a document that was reviewed today.
    pub(crate) boost: f64,
    /// Days after which half of it is left.
    pub(crate) half_life_days: f64,
}

/// How documents about the same thing lift one another.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Twins {
    /// Share of the terms of two titles that they must have in common.
    pub(crate) similarity_min: f64,
    /// How far a document is lifted towards a better one, times the similarity.
    pub(crate) lift: f64,
    /// Documents, best first, that lift others.
    pub(crate) first: usize,
}

/// How copies of one text are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Copies {
    /// Share of runs of words that two texts must have in common to be copies.
    pub(crate) resemblance_min: f64,
    /// Among so many first documents there is one of each text.
    pub(crate) first: usize,
}

/// BM25F over the fields of a document or passage.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldWeights {
    /// k1.
    pub(crate) saturation: f64,
    pub(crate) title: FieldWeight,
    pub(crate) headings: FieldWeight,
    pub(crate) path: FieldWeight,
    pub(crate) gloss: FieldWeight,
    pub(crate) body: FieldWeight,
}

/// One field of BM25F.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldWeight {
    pub(crate) weight: f64,
    /// b, in [0, 1].
    pub(crate) share: f64,
    /// Reference length in terms.
    pub(crate) length: f64,
}

/// How ratings of citations become the standing of a document; see `domain::standing`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StandingWeights {
    /// Ratings that nobody gave, all of them neutral.
    pub(crate) prior_weight: f64,
    /// After so many days a rating counts half.
    pub(crate) half_life_days: f64,
    /// Weights of a rating.
    pub(crate) helpful: f64,
    pub(crate) unhelpful: f64,
    pub(crate) wrong: f64,
    /// Most that one caller's ratings of one document weigh together.
    pub(crate) caller_weight_max: f64,
}

/// How confidence is put together.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfidenceWeights {
    pub(crate) coverage_weight: f64,
    pub(crate) capital_weight: f64,
    pub(crate) coverage_documents: usize,
    pub(crate) named_confidence: f64,
    pub(crate) specificity_floor: f64,
}

/// Below which confidence the service abstains; see `data/calibration.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calibration {
    /// SHA-256 of the weights that the hybrid threshold holds for.
    pub(crate) model_sha256: String,
    /// SHA-256 of the graph that the hybrid threshold holds for.
    pub(crate) graph_sha256: String,
    pub(crate) hybrid: Threshold,
    pub(crate) lexical: Threshold,
}

/// A threshold and what it did on the questions it was chosen on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Threshold {
    pub(crate) threshold: f64,
    /// Share of the answerable questions that are answered.
    pub(crate) answered_ratio: f64,
    /// Share of the unanswerable questions that are turned down.
    pub(crate) rejected_ratio: f64,
    /// From here on the evidence is not weak; at least `threshold`.
    pub(crate) strong_threshold: f64,
}

impl Reading {
    /// How a text becomes terms.
    pub(crate) fn tokens(&self) -> fn(&str) -> Vec<String> {
        if self.splits_identifiers { tokens::tokens } else { tokens::whole_words }
    }
}

impl Settings {
    /// The settings that the crate ships.
    ///
    /// # Errors
    /// Says what is wrong with the data file.
    pub(crate) fn shipped() -> Result<Self, String> {
        let settings: Self = toml::from_str(RETRIEVAL).map_err(|error| format!("retrieval.toml: {error}"))?;
        settings.check().map_err(|reason| format!("retrieval.toml: {reason}"))?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        let positive = [
            ("title_weight", self.title_weight),
            ("lead_weight", self.lead_weight),
            ("exact_name_boost", self.exact_name_boost),
            ("service_boost", self.service_boost),
            ("objective_boost", self.objective_boost),
            ("tier_boost", self.tier_boost),
            ("freshness.boost", self.freshness.boost),
            ("doubted_penalty", self.doubted_penalty),
            ("standing_boost", self.standing_boost),
            ("standing.prior_weight", self.standing.prior_weight),
            ("standing.half_life_days", self.standing.half_life_days),
            ("standing.helpful", self.standing.helpful),
            ("standing.unhelpful", self.standing.unhelpful),
            ("standing.wrong", self.standing.wrong),
            ("standing.caller_weight_max", self.standing.caller_weight_max),
            ("document.saturation", self.document.saturation),
            ("passage.saturation", self.passage.saturation),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            return Err(format!("{name} must be at least 0"));
        }
        if self.standing.prior_weight <= 0.0 || self.standing.half_life_days <= 0.0 {
            return Err("standing.prior_weight and standing.half_life_days must be above 0".to_owned());
        }
        let shares = [
            ("lexical_weight", self.lexical_weight),
            ("synonym_weight", self.synonym_weight),
            ("twins.similarity_min", self.twins.similarity_min),
            ("twins.lift", self.twins.lift),
            ("copies.resemblance_min", self.copies.resemblance_min),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name} must be in [0, 1]"));
            }
        }
        let fields =
            [self.document, self.passage].into_iter().flat_map(|f| [f.title, f.headings, f.path, f.gloss, f.body]);
        for field in fields {
            if !(0.0..=1.0).contains(&field.share) || field.weight < 0.0 || field.length <= 0.0 {
                return Err("a field needs weight >= 0, share in [0, 1] and length > 0".to_owned());
            }
        }
        if !self.freshness.half_life_days.is_finite() || self.freshness.half_life_days <= 0.0 {
            return Err("freshness.half_life_days must be above 0".to_owned());
        }
        if self.candidates_max == 0 || self.confidence.coverage_documents == 0 {
            return Err("candidates_max and coverage_documents must be at least 1".to_owned());
        }
        Ok(())
    }
}

impl Calibration {
    /// The thresholds that the crate ships.
    ///
    /// # Errors
    /// Says what is wrong with the data file.
    pub(crate) fn shipped() -> Result<Self, String> {
        let calibration: Self = toml::from_str(CALIBRATION).map_err(|error| format!("calibration.toml: {error}"))?;
        for threshold in [&calibration.hybrid, &calibration.lexical] {
            let ratios = [threshold.answered_ratio, threshold.rejected_ratio];
            if !threshold.strong_threshold.is_finite() || threshold.strong_threshold < threshold.threshold {
                return Err("calibration.toml: a strong_threshold is at least its threshold".to_owned());
            }
            if !threshold.threshold.is_finite() || ratios.iter().any(|ratio| !(0.0..=1.0).contains(ratio)) {
                return Err("calibration.toml: a threshold needs a finite number and ratios in [0, 1]".to_owned());
            }
        }
        Ok(calibration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_files_are_valid() {
        Settings::shipped().expect("valid settings");
        Calibration::shipped().expect("valid thresholds");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong = |change: fn(&mut Settings)| {
            let mut settings = Settings::shipped().expect("valid");
            change(&mut settings);
            settings.check().expect_err("refused")
        };
        assert!(wrong(|s| s.lexical_weight = 1.5).contains("lexical_weight"));
        assert!(wrong(|s| s.title_weight = f64::NAN).contains("title_weight"));
        assert!(wrong(|s| s.document.body.length = 0.0).contains("length"));
        assert!(wrong(|s| s.twins.lift = 2.0).contains("twins.lift"));
        assert!(wrong(|s| s.freshness.half_life_days = 0.0).contains("half_life"));
    }
}
