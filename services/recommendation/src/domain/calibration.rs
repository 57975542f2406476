//! What is kept of offers so that it can be told how often they are missed.

use std::collections::BTreeMap;

use attain_attainment::{Ambition, Backtest, OfferBasis, RecommendationInput, RecommendationResult, Record};
use attain_vocabulary::{EntityKind, SliKind, Tier, TimeWindow, UnixMillis};

/// Services that are judged together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) tier: Tier,
    pub(crate) kind: EntityKind,
}

/// Which services, SLI and window a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub(crate) class: Class,
    pub(crate) sli: SliKind,
    pub(crate) window: TimeWindow,
}

/// An offer with a claim that its window will prove or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Claim {
    pub(crate) sli: SliKind,
    pub(crate) ambition: Ambition,
    pub(crate) target_ratio: f64,
    /// `None` for availability.
    pub(crate) latency_threshold_ms: Option<u32>,
    pub(crate) miss_probability: f64,
}

/// What one recommendation adds to the record of its class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) class: Class,
    pub(crate) window: TimeWindow,
    /// When the window that is offered for begins and ends.
    pub(crate) start_ms: UnixMillis,
    pub(crate) end_ms: UnixMillis,
    pub(crate) backtests: BTreeMap<SliKind, Backtest>,
    pub(crate) claims: Vec<Claim>,
}

/// What became of the offers of one scope.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Published {
    pub(crate) backtest_service_count: u32,
    pub(crate) backtest: Records,
    pub(crate) lived_service_count: u32,
    pub(crate) lived: Records,
    pub(crate) open_count: u64,
    pub(crate) unjudged_count: u64,
}

/// One record for each ambition, in the order of [`Ambition::ALL`].
pub(crate) type Records = [Record; Ambition::ALL.len()];

/// Place of an ambition in [`Records`].
pub(crate) fn place(ambition: Ambition) -> usize {
    match ambition {
        Ambition::Conservative => 0,
        Ambition::Balanced => 1,
        Ambition::Ambitious => 2,
    }
}

impl Evidence {
    /// Templates claim nothing: only estimates are held against what follows.
    pub(crate) fn of(input: &RecommendationInput, result: &RecommendationResult) -> Self {
        let backtests =
            result.slis.iter().filter_map(|sli| Some((sli.kind, sli.backtest.clone()?))).collect::<BTreeMap<_, _>>();
        let estimated = |sli: SliKind, offer: &attain_attainment::Offer| {
            let miss_probability = offer.miss_probability.filter(|_| offer.basis == OfferBasis::Estimate)?;
            Some(Claim {
                sli,
                ambition: offer.ambition,
                target_ratio: offer.target_ratio,
                latency_threshold_ms: offer.latency_threshold_ms,
                miss_probability,
            })
        };
        let of_sli = |sli: &attain_attainment::SliResult| {
            sli.offers.iter().filter_map(|offer| estimated(sli.kind, offer)).collect::<Vec<_>>()
        };
        let ahead = input.window_ahead();
        Self {
            class: Class { tier: input.tier, kind: input.kind },
            window: input.window,
            start_ms: ahead.start_ms(),
            end_ms: ahead.end_ms(),
            backtests,
            claims: result.slis.iter().flat_map(of_sli).collect(),
        }
    }
}

/// Number of a tier in storage.
pub(crate) fn tier_number(tier: Tier) -> i64 {
    match tier {
        Tier::One => 1,
        Tier::Two => 2,
        Tier::Three => 3,
        Tier::Four => 4,
    }
}

/// The tier behind a stored number.
pub(crate) fn tier_from_number(number: i64) -> Option<Tier> {
    [Tier::One, Tier::Two, Tier::Three, Tier::Four].into_iter().find(|tier| tier_number(*tier) == number)
}

/// Word of a kind of node in storage.
pub(crate) fn entity_kind_word(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::Service => "service",
        EntityKind::Datastore => "datastore",
        EntityKind::Cache => "cache",
        EntityKind::Queue => "queue",
        EntityKind::Infrastructure => "infrastructure",
        EntityKind::External => "external",
        EntityKind::NodePool => "node_pool",
        EntityKind::Zone => "zone",
        EntityKind::Region => "region",
        EntityKind::Api => "api",
        EntityKind::System => "system",
    }
}

/// The kind of node behind a stored word.
pub(crate) fn entity_kind_from_word(word: &str) -> Option<EntityKind> {
    EntityKind::ALL.into_iter().find(|kind| entity_kind_word(*kind) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_storage_read_back() {
        for kind in EntityKind::ALL {
            assert_eq!(entity_kind_from_word(entity_kind_word(kind)), Some(kind));
        }
        for tier in [Tier::One, Tier::Two, Tier::Three, Tier::Four] {
            assert_eq!(tier_from_number(tier_number(tier)), Some(tier));
        }
        assert_eq!((tier_from_number(0), entity_kind_from_word("planet")), (None, None));
        for (i, ambition) in Ambition::ALL.into_iter().enumerate() {
            assert_eq!(place(ambition), i);
        }
    }
}
