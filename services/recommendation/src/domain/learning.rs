//! What a recommendation keeps of what was learned, and what can be learned from.

use attain_attainment::{Ambition, OfferBasis, RecommendationResult, SliResult};
use attain_learning::{Arms, Cell, State, Suggestion, suggest, suggest_always};
use attain_vocabulary::{EntityKind, SliKind, Tier, UnixMillis};
use serde::{Deserialize, Serialize};

use super::feedback::FeedbackKind;
use super::kept::sha256_hex;
use super::slo::Action;

/// An entry of the log that something may be learned from, with the recommendation that it is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) time_ms: UnixMillis,
    pub(crate) kind: SliKind,
    pub(crate) learnable: Learnable,
    /// The recommendation as it was stored.
    pub(crate) recommendation: Vec<u8>,
}

/// What somebody did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Learnable {
    Decision { action: Action, ambition: Option<Ambition>, target_ratio: f64, threshold_ms: u32 },
    Feedback(FeedbackKind),
}

/// What was learned, as far as one recommendation needs it: kept with its inputs, so that the suggestion can be drawn again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// Position in the log of the newest entry learned from.
    pub(crate) version: u64,
    /// SHA-256 in hex of the whole state at that version.
    pub(crate) sha256: String,
    pub(crate) tier: Tier,
    pub(crate) kind: EntityKind,
    /// What is known for each SLI at the instant of the recommendation.
    pub(crate) arms: Vec<(SliKind, Arms)>,
    /// Whether anything but balanced may be suggested.
    pub(crate) explores: bool,
    /// Seed of the first SLI's draw; the next ones' follow.
    pub(crate) seed: u64,
    /// What is suggested whatever was learned: an arm of an experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) always: Option<Ambition>,
}

/// A suggestion for one SLI and the seed that it was drawn with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Suggested<'a> {
    pub(crate) kind: SliKind,
    pub(crate) arms: &'a Arms,
    pub(crate) suggestion: Suggestion,
    pub(crate) seed: u64,
}

impl Learned {
    /// `subject` names the recommendation apart from its version: the seed is made of it and of the instant.
    pub(crate) fn of(
        state: &State,
        sha256: &str,
        (tier, kind): (Tier, EntityKind),
        time_ms: UnixMillis,
        explores: bool,
        subject: &str,
    ) -> Self {
        let known = |sli| (sli, state.arms(Cell { tier, kind, sli }, time_ms));
        let digest = sha256_hex(format!("suggestion\n{subject}\n{time_ms}").as_bytes());
        Self {
            version: state.version,
            sha256: sha256.to_owned(),
            tier,
            kind,
            arms: [SliKind::Availability, SliKind::Latency, SliKind::Freshness].map(known).to_vec(),
            explores,
            seed: u64::from_str_radix(&digest[..16], 16).unwrap_or_default(),
            always: None,
        }
    }

    /// One suggestion for each SLI that has an estimate. A template is never suggested: a person has to look at it.
    pub(crate) fn suggest(&self, result: &RecommendationResult) -> Vec<Suggested<'_>> {
        let suggested = |sli: &SliResult| {
            let (place, (kind, arms)) = self.arms.iter().enumerate().find(|(_, (kind, _))| *kind == sli.kind)?;
            let estimated = sli.offers.iter().filter(|offer| offer.basis == OfferBasis::Estimate);
            let offered: Vec<Ambition> = estimated.map(|offer| offer.ambition).collect();
            let seed = self.seed.wrapping_add(place as u64);
            let suggestion = match self.always {
                Some(ambition) => suggest_always(arms, &offered, ambition)?,
                None => suggest(arms, &offered, self.explores, seed)?,
            };
            Some(Suggested { kind: *kind, arms, suggestion, seed })
        };
        result.slis.iter().filter_map(suggested).collect()
    }
}

/// SHA-256 in hex of a state: of its JSON, whose fields and cells have one order.
pub(crate) fn state_sha256(state: &State) -> Result<String, serde_json::Error> {
    Ok(sha256_hex(&serde_json::to_vec(state)?))
}
