//! The recommendation as it is stored and sent.

use attain_attainment as words;
use attain_proto::convert::{duration, timestamp};
use attain_proto::graph::v1 as graph;
use attain_proto::rag::v1 as rag;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_vocabulary::SliKind;
use prost::Message as _;

use super::{agreement, budgeting, freshness, record, slo, topology, window};
use crate::domain::kept::{Citation, Kept, Place, Sentence, sha256_hex};
use crate::domain::slo::Slo;

/// The recommendation without what only storing gives it: id, version, time.
pub(crate) fn recommendation(
    kept: &Kept,
    result: &words::RecommendationResult,
    input_sha256: &str,
    changes: Vec<String>,
) -> wire::Recommendation {
    wire::Recommendation {
        id: String::new(),
        service_id: result.service.to_string(),
        version: 0,
        create_time: None,
        window_days: result.window_days,
        slis: result.slis.iter().map(|sli| sli_recommendation(kept, result, sli)).collect(),
        explanation: result.explanation.clone(),
        confidence: Some(confidence(&result.confidence)),
        data: Some(data_used(kept, &result.data)),
        citations: kept.evidence.citations.iter().map(citation).collect(),
        evidence_note: kept.evidence.note.clone(),
        missing_inputs: result.missing_inputs.iter().map(missing_input).collect(),
        fallback: result.fallback,
        model_version: result.model_version.clone(),
        seed: result.seed,
        input_sha256: input_sha256.to_owned(),
        changes,
        calendar_window: window::calendar(kept.input.window),
        window_in_force: result.window_in_force.as_ref().map(window_in_force),
        suggested: Vec::new(),
        asynchronous: kept.input.utilisation.asynchronous.iter().map(freshness::edge).collect(),
        region: String::new(),
        regions: None,
        experiment: None,
        evidence_strength: kept.evidence.strength,
        evidence: kept.evidence.sentences.iter().map(sentence).collect(),
    }
}

/// SHA-256 in hex of the encoded recommendation without id, version and time.
pub(crate) fn result_sha256(recommendation: &wire::Recommendation) -> String {
    let stripped = wire::Recommendation { id: String::new(), version: 0, create_time: None, ..recommendation.clone() };
    sha256_hex(&stripped.encode_to_vec())
}

pub(crate) fn missing_input(missing: &words::MissingInput) -> wire::MissingInput {
    wire::MissingInput { name: missing.name.clone(), detail: missing.detail.clone() }
}

fn window_in_force(window: &words::WindowInForce) -> wire::WindowInForce {
    wire::WindowInForce {
        range: Some(window.range.into()),
        remaining_days: window.remaining_days,
        request_share: window.request_share,
        bad_ratio: window.bad_ratio,
    }
}

fn sli_recommendation(
    kept: &Kept,
    result: &words::RecommendationResult,
    sli: &words::SliResult,
) -> wire::SliRecommendation {
    let of_class = kept.input.class_record.as_ref().filter(|_| sli.kind == SliKind::Availability);
    wire::SliRecommendation {
        kind: vocabulary::SliKind::from(sli.kind) as i32,
        latency_threshold_ms: sli.latency_threshold_ms.unwrap_or(0),
        measured: Some(wire::Measurement {
            attained_ratio: sli.measured.attained_ratio,
            valid_count: sli.measured.valid_count,
            latency_ms_p50: sli.measured.latency_ms_p50,
            latency_ms_p95: sli.measured.latency_ms_p95,
            latency_ms_p99: sli.measured.latency_ms_p99,
        }),
        current_slo: sli.current_slo.as_ref().map(|assessment| slo_assessment(in_force(kept, sli.kind), assessment)),
        offers: sli.offers.iter().map(|one| offer(one, result)).collect(),
        failure_split: sli.failure_split.as_ref().map(failure_split),
        ceiling_ratio: sli.ceiling_ratio,
        binding_constraint: Some(binding_constraint(&sli.binding_constraint)),
        importances: sli.importances.iter().map(importance).collect(),
        counterfactuals: sli.counterfactuals.iter().map(|change| counterfactual(kept, change)).collect(),
        offer_note: sli.offer_note.clone(),
        backtest: sli.backtest.as_ref().map(record::backtest),
        class_record: of_class.map(record::record),
        budgetings: sli.budgetings.iter().map(budgeting::budgeting).collect(),
        drift: None,
        doubt: doubt(kept).filter(|_| sli.kind == SliKind::Availability),
        fallback: sli.fallback,
    }
}

fn in_force(kept: &Kept, kind: SliKind) -> Option<&Slo> {
    kept.slos.iter().find(|slo| slo.kind == kind)
}

fn slo_assessment(in_force: Option<&Slo>, assessment: &words::SloAssessment) -> wire::SloAssessment {
    wire::SloAssessment {
        slo: in_force.map(slo::slo),
        miss_probability: assessment.miss_probability,
        attained: assessment.attained,
    }
}

fn offer(offer: &words::Offer, result: &words::RecommendationResult) -> wire::Offer {
    wire::Offer {
        ambition: slo::ambition(offer.ambition) as i32,
        target_ratio: offer.target_ratio,
        latency_threshold_ms: offer.latency_threshold_ms.unwrap_or(0),
        miss_probability: offer.miss_probability,
        miss_probability_max: offer.miss_probability_max,
        error_budget_ratio: offer.error_budget_ratio,
        expected_budget_use: offer.expected_budget_use,
        budget_use_low: offer.budget_use_low,
        budget_use_high: offer.budget_use_high,
        in_force_miss_probability: offer.in_force_miss_probability,
        consistent_target_ratio: offer.consistent_target_ratio,
        limited_by: offer.limited_by.as_ref().map(limit),
        conditions: result.conditions.as_ref().map(freshness::conditions),
        agreement: offer
            .agreement
            .as_ref()
            .map(|found| agreement::suggestion(found, Some(offer.target_ratio), true, result.data.covered_days)),
    }
}

fn limit(limit: &words::FleetLimit) -> wire::FleetLimit {
    wire::FleetLimit {
        callee_id: limit.callee.as_ref().map(ToString::to_string).unwrap_or_default(),
        needed_ratio: limit.needed_ratio,
        chain: limit.chain.iter().map(ToString::to_string).collect(),
    }
}

/// What is doubtful in the structure; unset where the graph was not asked, or nothing is.
fn doubt(kept: &Kept) -> Option<wire::StructureDoubt> {
    let doubt = &kept.input.structure.as_ref()?.doubt;
    let edge = |edge: &words::DoubtfulEdge| wire::DoubtfulEdge {
        caller_id: edge.caller.to_string(),
        callee_id: edge.callee.to_string(),
        confidence: edge.confidence,
    };
    (!doubt.is_none()).then(|| wire::StructureDoubt {
        edges: doubt.edges.iter().map(edge).collect(),
        ceiling_without_edges_ratio: doubt.ceiling_without_edges_ratio,
        unknown_failure_ratio: doubt.unknown_failure_ratio,
        ceiling_with_unknown_ratio: doubt.ceiling_with_unknown_ratio,
    })
}

fn failure_split(split: &words::FailureSplit) -> wire::FailureSplit {
    let method = match split.method {
        words::SplitMethod::Traces => wire::SplitMethod::Traces,
        words::SplitMethod::Regression => wire::SplitMethod::Regression,
        words::SplitMethod::NoDependencies => wire::SplitMethod::NoDependencies,
        words::SplitMethod::Unknown => wire::SplitMethod::Unspecified,
    };
    let share = |share: &words::InheritedShare| wire::InheritedShare {
        dependency_id: share.dependency.to_string(),
        failure_ratio: share.failure_ratio,
        hardness: share.hardness,
        hardness_standard_error: share.hardness_standard_error,
    };
    wire::FailureSplit {
        own_failure_ratio: split.own_failure_ratio,
        inherited_failure_ratio: split.inherited_failure_ratio,
        method: method as i32,
        inherited: split.inherited.iter().map(share).collect(),
    }
}

fn binding_constraint(binding: &words::BindingConstraint) -> wire::BindingConstraint {
    let kind = match binding.kind {
        words::ConstraintKind::Own => wire::ConstraintKind::Own,
        words::ConstraintKind::Dependency => wire::ConstraintKind::Dependency,
        words::ConstraintKind::Volume => wire::ConstraintKind::Volume,
        words::ConstraintKind::Policy => wire::ConstraintKind::Policy,
        words::ConstraintKind::Data => wire::ConstraintKind::Data,
    };
    wire::BindingConstraint {
        kind: kind as i32,
        entity_id: binding.entity_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        contribution_ratio: binding.contribution_ratio,
        detail: binding.detail.clone(),
        relaxed_target_ratio: binding.relaxed_target_ratio,
        relaxed_latency_threshold_ms: binding.relaxed_latency_threshold_ms,
        volume_need: binding.volume_need.as_ref().map(|need| wire::VolumeNeed {
            target_ratio: need.target_ratio,
            window_request_count: need.window_request_count,
            window_days_needed: need.window_days_needed,
            probes_per_minute: need.probes_per_minute,
        }),
    }
}

fn importance(importance: &words::Importance) -> graph::Importance {
    graph::Importance {
        entity_id: importance.entity_id.to_string(),
        birnbaum: importance.birnbaum,
        contribution_ratio: importance.contribution_ratio,
    }
}

fn counterfactual(kept: &Kept, counterfactual: &words::Counterfactual) -> wire::Counterfactual {
    // Failing half as often is no change of structure; to its callers it is a better availability.
    let change = match kept.changes.get(&counterfactual.key) {
        Some(change) => Some(topology::scenario(change)),
        None => counterfactual.ceiling_ratio.map(|ceiling| topology::attained(&kept.input.service, ceiling)),
    };
    wire::Counterfactual {
        description: counterfactual.description.clone(),
        change,
        ceiling_ratio: counterfactual.ceiling_ratio,
        balanced_target_ratio: counterfactual.balanced_target_ratio,
        miss_probability: counterfactual.miss_probability,
        attained_ratio: counterfactual.attained_ratio,
    }
}

fn confidence(confidence: &words::Confidence) -> wire::Confidence {
    let level = match confidence.level {
        words::ConfidenceLevel::Low => wire::ConfidenceLevel::Low,
        words::ConfidenceLevel::Medium => wire::ConfidenceLevel::Medium,
        words::ConfidenceLevel::High => wire::ConfidenceLevel::High,
    };
    let part = |part: &words::ConfidencePart| wire::ConfidencePart {
        name: part.name.clone(),
        score: part.score,
        detail: part.detail.clone(),
    };
    wire::Confidence {
        level: level as i32,
        score: confidence.score,
        parts: confidence.parts.iter().map(part).collect(),
        raise_with: confidence.raise_with.clone(),
    }
}

fn data_used(kept: &Kept, data: &words::DataUsed) -> wire::DataUsed {
    let exclusion = |exclusion: &words::Exclusion| wire::Exclusion {
        range: Some(exclusion.range.into()),
        reason: exclusion.reason.clone(),
    };
    let snapshot = data.snapshot_version.map(|version| graph::SnapshotInfo {
        version,
        age: data.snapshot_age_ms.map(duration),
        entity_count: kept.snapshot.map_or(0, |size| size.entity_count),
        dependency_count: kept.snapshot.map_or(0, |size| size.dependency_count),
    });
    wire::DataUsed {
        range: Some(data.range.into()),
        bucket_count: data.bucket_count,
        coverage_ratio: data.coverage_ratio,
        sources: kept.sources.iter().map(|source| vocabulary::Source::from(*source) as i32).collect(),
        exclusions: data.exclusions.iter().map(exclusion).collect(),
        regime_start_time: data.regime_start_ms.map(timestamp),
        regime_days: data.regime_days,
        snapshot,
        data_age: data.data_age_ms.map(duration),
        incident_count: data.incident_count,
        covered_days: data.covered_days,
    }
}

fn sentence(sentence: &Sentence) -> rag::AnswerSentence {
    rag::AnswerSentence {
        text: sentence.text.clone(),
        citations: sentence.places.iter().map(place).collect(),
        rephrased: false,
        original: String::new(),
        quoted: sentence.quoted,
        table_row: sentence.table_row,
    }
}

fn place(place: &Place) -> rag::SentenceCitation {
    rag::SentenceCitation {
        document_id: place.document_id.clone(),
        document_version: place.document_version,
        title: place.title.clone(),
        start_offset: place.start_offset,
        end_offset: place.end_offset,
        quote: place.quote.clone(),
        quote_sha256: place.quote_sha256.clone(),
        score: place.score,
    }
}

fn citation(citation: &Citation) -> rag::Citation {
    rag::Citation {
        document_id: citation.document_id.clone(),
        document_version: citation.document_version,
        title: citation.title.clone(),
        kind: citation.kind,
        start_offset: citation.start_offset,
        end_offset: citation.end_offset,
        quote: citation.quote.clone(),
        quote_sha256: citation.quote_sha256.clone(),
        score: citation.score,
        headings: citation.headings.clone(),
        trust: citation.trust,
        visibility: citation.visibility,
        // What is due is of the moment of the answer; what is stored stays as it is.
        review_is_due: false,
    }
}
