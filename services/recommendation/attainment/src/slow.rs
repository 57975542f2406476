//! Who makes requests slow: what sampled requests say of the parts that slow ones waited for, and which of them binds the threshold
//! that is offered.

use std::collections::BTreeMap;

use attain_vocabulary::EntityId;
use serde::{Deserialize, Serialize};

use crate::binding::data;
use crate::explain::percent;
use crate::latency::{AtThreshold, Latencies};
use crate::sli::Gathered;
use crate::{Ambition, BindingConstraint, ConstraintKind, LATENCY_MENU_MS};

/// Fewest slow requests among the sampled ones that tell who made them slow: as many as a quantile needs above it.
const SLOW_SAMPLES_MIN: u32 = 10;
/// Most parts that are taken away one by one: each is a history solved again, and those that follow make fewer requests slow.
const PARTS_MAX: usize = 3;

/// Sampled requests of a service, held against thresholds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlowRequests {
    /// Requests that were sampled.
    pub sample_count: u32,
    /// By ascending threshold.
    pub thresholds: Vec<SlowAbove>,
}

/// Sampled requests that took longer than a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlowAbove {
    /// The threshold.
    pub threshold_ms: u32,
    /// How many took longer.
    pub slow_count: u32,
    /// How many of them would have without the time of a part, the service itself among the parts.
    pub without: BTreeMap<EntityId, u32>,
}

impl SlowRequests {
    /// The greatest threshold up to one above which enough of the samples are slow.
    fn told_up_to(&self, threshold_ms: u32) -> Option<&SlowAbove> {
        self.thresholds.iter().filter(|above| above.threshold_ms <= threshold_ms).rfind(|above| above.tells())
    }
}

impl SlowAbove {
    fn tells(&self) -> bool {
        self.slow_count >= SLOW_SAMPLES_MIN
    }

    /// Share of the slow requests that would still be slow without a part: one more than was seen over one more than there are, since
    /// none of a few is not none at all.
    fn left_without(&self, part: &EntityId) -> f64 {
        let left = self.without.get(part).copied().unwrap_or(self.slow_count).min(self.slow_count);
        (f64::from(left) + 1.0) / (f64::from(self.slow_count) + 1.0)
    }

    /// Parts that make requests slow, the one that makes most first, each with its share of the slow ones.
    fn makers(&self) -> Vec<(&EntityId, f64)> {
        let share = |part| 1.0 - self.left_without(part);
        let mut makers: Vec<(&EntityId, f64)> = self.without.keys().map(|part| (part, share(part))).collect();
        makers.retain(|(_, share)| *share > 0.0);
        makers.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        makers
    }
}

impl Gathered<'_> {
    /// What keeps the offered threshold where it is: of the parts that slow requests waited for, the greatest without which a tighter one
    /// could be offered. Where none does alone, the greatest is named, and the sentence says so; where samples do not tell,
    /// everything is listed as the service's own.
    pub(crate) fn latency_binding(&self, at: Option<&AtThreshold>, offered_ms: Option<u32>) -> BindingConstraint {
        let (Some(at), Some(latencies)) = (at, &self.latencies) else {
            return data("No threshold on the menu is long enough.");
        };
        let slow_ratio = 1.0 - at.sums.attained_ratio().unwrap_or(1.0);
        let told = format!("{} of requests take longer than {} ms", percent(slow_ratio), at.threshold_ms);
        let own = |why: &str| BindingConstraint {
            kind: ConstraintKind::Own,
            entity_id: Some(self.input.service.clone()),
            contribution_ratio: slow_ratio,
            ..data(&format!("{told}, {why}."))
        };
        let Some(slow) = self.input.structure.as_ref().and_then(|structure| structure.slow_requests.as_ref()) else {
            return own("waiting for dependencies included");
        };
        let Some(above) = slow.told_up_to(at.threshold_ms) else {
            return own(&format!(
                "waiting for dependencies included: too few of {} sampled requests are slow to tell for whom",
                slow.sample_count
            ));
        };
        let mut makers = above.makers();
        makers.truncate(PARTS_MAX);
        let parts: Vec<&EntityId> = makers.iter().map(|(part, _)| *part).collect();
        let relaxed = match offered_ms {
            Some(offered_ms) => self.thresholds_without(latencies, slow, &parts, offered_ms),
            None => vec![None; parts.len()],
        };
        let solved: Vec<(&EntityId, f64, Option<u32>)> =
            makers.into_iter().zip(relaxed).map(|((part, share), relaxed)| (part, share, relaxed)).collect();
        let binding = solved.iter().find(|(_, _, relaxed)| relaxed.is_some()).or(solved.first());
        let Some((part, share, relaxed)) = binding else {
            return own("and no part alone, gone, would make any of the sampled ones fast enough");
        };
        let itself = **part == self.input.service;
        let whom = if itself { format!("what {part} does itself") } else { format!("waiting for {part}") };
        let gain = match relaxed {
            Some(threshold_ms) => format!("without that {threshold_ms} ms could be offered"),
            None => "but no part, gone alone, would allow a tighter threshold".to_owned(),
        };
        BindingConstraint {
            kind: if itself { ConstraintKind::Own } else { ConstraintKind::Dependency },
            entity_id: Some((*part).clone()),
            contribution_ratio: slow_ratio * *share,
            relaxed_latency_threshold_ms: *relaxed,
            ..data(&format!(
                "{told}; {whom} makes {} of those slow that take longer than {} ms, as {} sampled requests tell; {gain}.",
                percent(*share),
                above.threshold_ms,
                slow.sample_count
            ))
        }
    }

    /// For each part the tightest threshold below the one offered that the balanced risk allows without its time: of the slow requests of
    /// each bucket only the share stays that would stay of the sampled ones. `None` where there is none. The histograms are asked once for
    /// all parts.
    fn thresholds_without(
        &self,
        latencies: &Latencies<'_>,
        slow: &SlowRequests,
        parts: &[&EntityId],
        offered_ms: u32,
    ) -> Vec<Option<u32>> {
        let policy = &self.input.policy;
        let budget = 1.0 - policy.latency_quantile();
        let slow_max = budget * latencies.merged.count() as f64;
        // More than the budget over the whole history is no use to look at: the mean of a forecast would be above it.
        let possible = |above: &SlowAbove, part: &EntityId| {
            above.left_without(part) * latencies.merged.count_above(f64::from(above.threshold_ms)) <= slow_max
        };
        let on_menu = LATENCY_MENU_MS.into_iter().take_while(|threshold_ms| *threshold_ms < offered_ms);
        let told = on_menu.filter_map(|threshold_ms| {
            slow.thresholds.iter().find(|above| above.threshold_ms == threshold_ms).filter(|above| above.tells())
        });
        let told: Vec<&SlowAbove> = told.filter(|above| parts.iter().any(|part| possible(above, part))).collect();
        let thresholds: Vec<u32> = told.iter().map(|above| above.threshold_ms).collect();
        let columns = latencies.slower_than_some(&thresholds);
        let timeline = latencies.timeline(self.input.as_of_ms);
        let (constants, window_days) = (self.input.constants(), self.input.window_ahead().days());
        let allowed = |above: &SlowAbove, slower: &[f64], part: &EntityId| {
            let left = above.left_without(part);
            let slower: Vec<f64> = slower.iter().map(|slower| slower * left).collect();
            AtThreshold::of(&constants, above.threshold_ms, &timeline, &slower, window_days).is_some_and(|at| {
                at.tells(budget)
                    && at.prediction.forecast.miss_probability(budget)
                        <= policy.miss_probability_max(Ambition::Balanced)
            })
        };
        let tightest = |part: &&EntityId| {
            let mut rows = told.iter().zip(&columns);
            let found = rows.find(|(above, (_, slower))| possible(above, part) && allowed(above, slower, part));
            found.map(|(above, _)| above.threshold_ms)
        };
        parts.iter().map(tightest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn above(threshold_ms: u32, slow_count: u32, without: &[(&str, u32)]) -> SlowAbove {
        let without = without.iter().map(|(part, count)| (id(part), *count)).collect();
        SlowAbove { threshold_ms, slow_count, without }
    }

    #[test]
    fn the_greatest_threshold_with_enough_slow_samples_is_read() {
        let thresholds = vec![above(100, 40, &[]), above(200, 10, &[]), above(400, 9, &[])];
        let slow = SlowRequests { sample_count: 100, thresholds };
        let told = |threshold_ms| slow.told_up_to(threshold_ms).map(|above| above.threshold_ms);
        assert_eq!([99, 100, 199, 300, 1000].map(told), [None, Some(100), Some(100), Some(200), Some(200)]);
    }

    #[test]
    fn who_makes_most_slow_comes_first_and_nobody_makes_all() {
        let above = above(100, 19, &[("b", 4), ("c", 19), ("a", 4), ("d", 0), ("e", 30)]);
        let makers: Vec<(&str, f64)> = above.makers().into_iter().map(|(part, share)| (part.as_str(), share)).collect();
        assert_eq!(makers, [("d", 0.95), ("a", 0.75), ("b", 0.75)]);
        assert_eq!(above.left_without(&id("unknown")), 1.0);
    }
}
