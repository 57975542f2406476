//! Conditions of offers, and what is called asynchronously, on the wire.

use attain_attainment as words;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::UtilisationKind;

/// The conditions of each offer; they are the same for all offers of a recommendation.
pub(crate) fn conditions(conditions: &words::Conditions) -> wire::OfferConditions {
    let used = |used: &words::Used| wire::UtilisationCondition {
        kind: UtilisationKind::from(used.kind) as i32,
        average_p95: used.average_p95,
        maximum: used.maximum,
        bucket_count: used.bucket_count,
    };
    wire::OfferConditions {
        request_rate_max: conditions.request_rate_max,
        request_rate_p95: conditions.request_rate_p95,
        busiest_bad_ratio: conditions.busiest_bad_ratio,
        other_bad_ratio: conditions.other_bad_ratio,
        utilisation: conditions.utilisation.iter().map(used).collect(),
    }
}

pub(crate) fn edge(edge: &words::AsynchronousEdge) -> wire::AsynchronousEdge {
    wire::AsynchronousEdge {
        callee_id: edge.callee.to_string(),
        age_measured: edge.age_measured,
        age_threshold_ms: edge.age_threshold_ms,
        target_ratio: edge.target_ratio,
    }
}
