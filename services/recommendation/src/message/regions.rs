//! Regions on the wire.

use attain_attainment::recommend;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;

use super::recommendation::{recommendation, result_sha256};
use crate::domain::kept::Kept;
use crate::domain::regions::{Outlook, RegionKept, Summary, outlook};

/// The recommendation of one region, without id, version and time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Regional {
    pub(crate) region: String,
    pub(crate) result_sha256: String,
    pub(crate) message: wire::Recommendation,
}

/// Decides each region by itself, and tells the whole's recommendation of them.
pub(crate) fn regions(
    kept: &Kept,
    whole: &attain_attainment::RecommendationResult,
    message: &mut wire::Recommendation,
) -> Vec<Regional> {
    let results: Vec<_> = kept.regions.iter().map(|of| (of, recommend(&of.input(&kept.input)))).collect();
    let beside: Vec<_> = results.iter().map(|(of, result)| (of.region.as_str(), result)).collect();
    let Some(outlook) = outlook(whole, &beside) else { return Vec::new() };
    let regional: Vec<Regional> =
        results.iter().map(|(of, result)| one(kept, of, result, &message.input_sha256)).collect();
    message.explanation = format!("{} {}", message.explanation, outlook.paragraph());
    message.regions = Some(told(&outlook, &regional));
    regional
}

fn one(kept: &Kept, of: &RegionKept, result: &attain_attainment::RecommendationResult, input_sha256: &str) -> Regional {
    let mut message = recommendation(kept, result, input_sha256, Vec::new());
    message.region.clone_from(&of.region);
    message.explanation = format!("In {}: {} Latency is not kept by region.", of.region, message.explanation);
    if let Some(data) = &mut message.data {
        data.sources = of.sources.iter().map(|source| vocabulary::Source::from(*source) as i32).collect();
    }
    // What is doubtful was solved for the whole.
    message.slis.iter_mut().for_each(|sli| sli.doubt = None);
    Regional { region: of.region.clone(), result_sha256: result_sha256(&message), message }
}

fn told(outlook: &Outlook, regional: &[Regional]) -> wire::RegionOutlook {
    let summary = |(summary, regional): (&Summary, &Regional)| wire::RegionSummary {
        region: summary.region.clone(),
        attained_ratio: summary.attained_ratio,
        valid_count: summary.valid_count,
        request_share: summary.request_share,
        balanced_target_ratio: summary.balanced_target_ratio,
        whole_miss_probability: summary.whole_miss_probability,
        ceiling_ratio: summary.ceiling_ratio,
        confidence_score: summary.confidence_score,
        fallback: summary.fallback,
        result_sha256: regional.result_sha256.clone(),
    };
    wire::RegionOutlook {
        regions: outlook.regions.iter().zip(regional).map(summary).collect(),
        worst_region: outlook.worst.clone(),
        whole_target_ratio: outlook.whole.map(|(target, _)| target),
        miss_probability_max: outlook.whole.map(|(_, max)| max),
        hidden_regions: outlook.hidden.clone(),
        counted_share: outlook.counted_share,
    }
}
