//! A model fitted to services' own past, as a tenant's is by its schedule, for whoever wants to know what it would recommend.

use attain_attainment::{Constants, Model, RecommendationInput};
use attain_vocabulary::{EntityKind, Tier, UnixMillis};

use super::calibration::Class;
use super::model_classes::Past;
use super::models::{Content, Registered, registered};
use super::retraining::{fitted, past_of};

/// The closed windows of one service, each as it could have been foreseen by the compiled model from what was before it.
#[derive(Debug, Clone)]
pub struct ForeseenPast(Past);

impl ForeseenPast {
    /// Reads the history of an input; windows end at `end_ms` at the latest.
    #[must_use]
    pub fn of(input: &RecommendationInput, end_ms: UnixMillis) -> Self {
        Self(past_of(input, &Constants::DEFAULT, end_ms))
    }
}

/// A version that a fit came to: constants, and what classes of services tell.
#[derive(Debug, Clone)]
pub struct RetrainedModel(Registered);

impl RetrainedModel {
    /// Fits to the pasts of a tenant's services, with the bounds and rules of the schedule (docs/recommendation/models.md).
    ///
    /// # Errors
    /// Says why there is nothing to register: too few windows, or nothing near the compiled model predicts them better.
    pub fn fit(pasts: Vec<ForeseenPast>, now_ms: UnixMillis) -> Result<Self, String> {
        let pasts: Vec<Past> = pasts.into_iter().map(|past| past.0).collect();
        let (content, note) = fitted(&pasts, &Content::compiled())?;
        Ok(Self(registered(content, "retrained".into(), note, String::new(), String::new(), now_ms)))
    }

    /// The model as it is for a class of services.
    #[must_use]
    pub fn of_class(&self, tier: Tier, kind: EntityKind) -> Model {
        self.0.for_class(Class { tier, kind })
    }

    /// What was fitted to how much, in a sentence.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.0.note
    }
}
