//! Agreements on the wire.

use attain_attainment::sla::{ExpectedCredit, Suggestion};
use attain_proto::recommendation::v1 as wire;

pub(crate) fn suggestion(
    suggestion: &Suggestion,
    objective: Option<f64>,
    default_schedule: bool,
    observed_days: f64,
) -> wire::SlaSuggestion {
    let credit = |credit: &ExpectedCredit| wire::CreditExpectation {
        below_ratio: credit.step.below_ratio,
        credit_ratio: credit.step.credit_ratio,
        probability: credit.probability,
    };
    wire::SlaSuggestion {
        target_ratio: suggestion.target_ratio,
        miss_probability: suggestion.miss_probability,
        miss_probability_max: suggestion.miss_probability_max,
        slo_target_ratio: objective,
        margin_ratio: suggestion.margin_ratio,
        budget_multiple: suggestion.budget_multiple,
        limited_by_slo: suggestion.limited_by_objective,
        credits: suggestion.credits.iter().map(credit).collect(),
        expected_credit_ratio: suggestion.expected_credit_ratio,
        default_schedule,
        observed_days,
    }
}
