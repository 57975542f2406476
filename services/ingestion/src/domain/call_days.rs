use std::collections::BTreeMap;

use attain_vocabulary::{DAY_MS, Ratio, UnixMillis};

use super::{DependencyTerms, Sightings};

/// Requests without a single call that must have been seen before "never" is said: by the rule of three the share that
/// calls is then below 0.3 % with 95 % confidence.
const REQUESTS_WITHOUT_CALL_MIN: u64 = 1_000;

/// Requests that a service answered, by day; days since the Unix epoch, in UTC.
pub type RequestDays = BTreeMap<i64, u64>;

/// Calls by an edge, by day.
pub type CallDays = BTreeMap<i64, DayCalls>;

/// What one day showed of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DayCalls {
    /// Calls.
    pub call_count: u64,
    /// Requests of the caller that called at least once.
    pub calling_request_count: u64,
}

/// The day on which an edge was first seen, and how many requests of the caller came before that on the same day: they say
/// nothing of how often it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstDay {
    /// Days since the Unix epoch.
    pub day: i64,
    /// Requests of the caller before the edge was seen.
    pub earlier_request_count: u64,
}

/// What calls of an edge are measured against.
#[derive(Debug, Clone, Copy)]
pub struct CallerRequests<'a> {
    /// Requests that traces showed of the caller.
    pub days: &'a RequestDays,
    /// How many days count, up to the newest on which it answered one.
    pub window_days: u32,
}

impl DayCalls {
    fn add(&mut self, more: Self) {
        self.call_count = self.call_count.saturating_add(more.call_count);
        self.calling_request_count = self.calling_request_count.saturating_add(more.calling_request_count);
    }
}

/// The day of a time.
#[must_use]
pub fn day_of(time_ms: UnixMillis) -> i64 {
    time_ms.div_euclid(DAY_MS)
}

/// Adds calls of the same days.
pub(super) fn add_calls(kept: &mut CallDays, more: &CallDays) {
    more.iter().for_each(|(day, calls)| kept.entry(*day).or_default().add(*calls));
}

/// Adds requests of the same days.
pub(super) fn add_requests(kept: &mut RequestDays, more: &RequestDays) {
    for (day, count) in more {
        let kept = kept.entry(*day).or_default();
        *kept = kept.saturating_add(*count);
    }
}

/// Forgets what is older than the window that ends with the newest day.
pub fn keep_newest<T>(days: &mut BTreeMap<i64, T>, window_days: u32) {
    let Some(newest) = days.last_key_value().map(|(day, _)| *day) else { return };
    days.retain(|day, _| *day > newest.saturating_sub(i64::from(window_days)));
}

/// Calls for each request of the caller, and the share of its requests that call, in the days of the window since the edge
/// was first seen.
///
/// The window ends with the newest day on which the caller answered a request, not now: what is stored alone decides, and a
/// caller that rests says nothing of its edges. An edge that is not used any more falls day by day. Nothing is said where no
/// request was seen, or too few of them to say that none calls.
pub(super) fn rates(seen: &Sightings, caller: CallerRequests<'_>) -> DependencyTerms {
    let nothing = DependencyTerms::default();
    let (Some(first_ms), Some((newest, _))) = (seen.first_seen_ms, caller.days.last_key_value()) else {
        return nothing;
    };
    let oldest = newest.saturating_sub(i64::from(caller.window_days) - 1);
    let since = oldest.max(day_of(first_ms));
    let in_all = caller.days.range(since..).fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
    let earlier = seen.first_day.filter(|first| first.day == since).map_or(0, |first| first.earlier_request_count);
    let requests = in_all.saturating_sub(earlier);
    let mut calls = DayCalls::default();
    seen.days.range(since..).for_each(|(_, of_day)| calls.add(*of_day));
    if requests == 0 || (calls.call_count == 0 && requests < REQUESTS_WITHOUT_CALL_MIN) {
        return nothing;
    }
    let fraction = (calls.calling_request_count as f64 / requests as f64).min(1.0);
    // Calls outside of any request that was seen tell nothing of the share of requests.
    let told = calls.calling_request_count > 0 || calls.call_count == 0;
    DependencyTerms {
        call_rate: Some(calls.call_count as f64 / requests as f64),
        call_fraction: told.then(|| Ratio::new("call_fraction", fraction).ok()).flatten(),
        ..nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An edge that was first seen at the start of a day, with so many calls on each day from there on, all by different
    /// requests.
    fn used(first_day: i64, calls: &[u64]) -> Sightings {
        let of_day = |count: &u64| DayCalls { call_count: *count, calling_request_count: *count };
        Sightings {
            first_seen_ms: Some(first_day * DAY_MS),
            call_count: calls.iter().sum(),
            days: (first_day..).zip(calls.iter().map(of_day)).collect(),
            ..Sightings::default()
        }
    }

    fn requests(first_day: i64, counts: &[u64]) -> RequestDays {
        (first_day..).zip(counts.iter().copied()).collect()
    }

    fn fraction(seen: &Sightings, days: &RequestDays) -> Option<f64> {
        rates(seen, CallerRequests { days, window_days: 28 }).call_fraction.map(Ratio::get)
    }

    #[test]
    fn a_new_edge_of_an_old_caller_is_measured_against_the_requests_since() {
        let busy = requests(0, &[1_000; 400]);
        assert_eq!(fraction(&used(399, &[1_000]), &busy), Some(1.0));
        assert_eq!(fraction(&used(398, &[500, 500]), &busy), Some(0.5));
        let mut at_noon = used(399, &[400]);
        at_noon.first_seen_ms = Some(399 * DAY_MS + DAY_MS / 2);
        at_noon.first_day = Some(FirstDay { day: 399, earlier_request_count: 600 });
        assert_eq!(fraction(&at_noon, &busy), Some(1.0), "the morning says nothing of it");
        at_noon.first_day = Some(FirstDay { day: 398, earlier_request_count: 600 });
        assert_eq!(fraction(&at_noon, &busy), Some(0.4), "of another day");
    }

    #[test]
    fn an_edge_that_is_not_used_any_more_falls_to_nothing() {
        let busy = requests(0, &[1_000; 100]);
        let left = |last_day: usize| fraction(&used(0, &vec![1_000; last_day]), &busy);
        assert_eq!([left(100), left(86), left(72)], [Some(1.0), Some(0.5), Some(0.0)]);
        let few = requests(0, &[3; 100]);
        assert_eq!(fraction(&used(0, &[3]), &few), None, "84 requests do not prove that none calls");
    }

    #[test]
    fn only_the_window_counts_and_only_the_window_is_kept() {
        // Every request calls from day 72 on; before that one of ten did.
        let mut calls = vec![100; 72];
        calls.extend([1_000; 28]);
        assert_eq!(fraction(&used(0, &calls), &requests(0, &[1_000; 100])), Some(1.0));
        let mut days = requests(0, &[1; 100]);
        keep_newest(&mut days, 28);
        assert_eq!((days.len(), days.first_key_value()), (28, Some((&72, &1))));
        days.insert(5, 1);
        keep_newest(&mut days, 28);
        assert_eq!(days.len(), 28, "what comes from before the window is not kept");
    }

    #[test]
    fn without_requests_nothing_is_said() {
        assert_eq!(fraction(&used(0, &[5]), &RequestDays::new()), None);
        assert_eq!(fraction(&used(50, &[5]), &requests(0, &[9; 20])), None, "none since the edge was seen");
        let mut outside = used(0, &[5]);
        outside.days.values_mut().for_each(|day| day.calling_request_count = 0);
        let days = requests(0, &[10]);
        let terms = rates(&outside, CallerRequests { days: &days, window_days: 28 });
        assert_eq!((terms.call_rate, terms.call_fraction), (Some(0.5), None));
    }

    proptest! {
        #[test]
        fn days_add_up_in_any_order(days in prop::collection::vec((0i64..60, 0u64..100), 0..40), window_days in 1u32..40) {
            let (mut forward, mut backward) = (RequestDays::new(), RequestDays::new());
            days.iter().for_each(|(day, count)| add_requests(&mut forward, &RequestDays::from([(*day, *count)])));
            days.iter().rev().for_each(|(day, count)| add_requests(&mut backward, &RequestDays::from([(*day, *count)])));
            keep_newest(&mut forward, window_days);
            keep_newest(&mut backward, window_days);
            prop_assert!(forward.len() <= window_days as usize);
            prop_assert_eq!(forward, backward);
        }

        #[test]
        fn a_share_is_one(calls in 0u64..1_000, calling in 0u64..1_000, requests in 0u64..1_000, earlier in 0u64..1_000) {
            let mut seen = used(3, &[calls]);
            seen.days.values_mut().for_each(|day| day.calling_request_count = calling);
            seen.first_day = Some(FirstDay { day: 3, earlier_request_count: earlier });
            let days = RequestDays::from([(3, requests)]);
            let terms = rates(&seen, CallerRequests { days: &days, window_days: 28 });
            prop_assert!(terms.call_rate.is_none_or(|rate| rate.is_finite() && rate >= 0.0));
            prop_assert_eq!(terms.call_rate.is_some(), requests > earlier && calls > 0);
        }
    }
}
