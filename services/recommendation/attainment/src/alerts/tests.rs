use attain_vocabulary::TimeRange;
use proptest::prelude::*;

use super::*;
use crate::{CountPoint, CountSeries, SliHistory};

const PER_DAY: usize = 288;

fn history(days: usize, valid: f64, bad: impl Fn(usize) -> f64) -> SliHistory {
    let point = |i: usize| CountPoint { start_ms: i as i64 * BUCKET_MS, valid, bad: bad(i) };
    let range = TimeRange::new("range", 0, days as i64 * DAY_MS).expect("ascending");
    SliHistory::of(CountSeries::new((0..days * PER_DAY).map(point).collect()), range)
}

fn rates(policy: &AlertPolicy) -> Vec<(String, f64)> {
    policy.rules.iter().map(|rule| (words(rule.long_ms), (rule.burn_rate * 1e6).round() / 1e6)).collect()
}

fn named(rates: &[(&str, f64)]) -> Vec<(String, f64)> {
    rates.iter().map(|(window, rate)| ((*window).to_owned(), *rate)).collect()
}

#[test]
fn thirty_days_have_the_published_rates_and_other_windows_the_same_shares() {
    let of = |days| policy(0.001, days, Counted::Requests(Some(1e6)));
    assert_eq!(rates(&of(30.0)), named(&[("1h", 14.4), ("6h", 6.0), ("1d", 3.0), ("3d", 1.0)]));
    assert_eq!(rates(&of(90.0)), named(&[("1h", 43.2), ("6h", 18.0), ("1d", 9.0), ("3d", 3.0)]));
    assert_eq!(rates(&of(28.0)), named(&[("1h", 13.44), ("6h", 5.6), ("1d", 2.8), ("3d", 1.0)]));
    let week = of(7.0);
    assert_eq!(rates(&week), named(&[("1h", 3.36), ("6h", 1.4), ("1d", 1.0)]));
    assert!((week.rules[2].budget_share - 1.0 / 7.0).abs() < 1e-12);
    assert!(week.notes.iter().any(|note| note.contains("over 3d")), "{:?}", week.notes);
}

#[test]
fn a_rate_that_cannot_come_is_left_out_and_said() {
    let loose = policy(0.1, 30.0, Counted::Requests(Some(1e6)));
    assert_eq!(rates(&loose), named(&[("6h", 6.0), ("1d", 3.0), ("3d", 1.0)]));
    assert!(loose.notes[0].contains("over 1h") && loose.notes[0].contains("14.4"), "{:?}", loose.notes);
}

#[test]
fn low_traffic_is_guarded_and_advised() {
    let low = policy(0.001, 30.0, Counted::Requests(Some(240.0)));
    assert!(low.low_traffic);
    // Ten requests an hour: one failure is a burn rate of 100.
    assert!((low.rules[0].failures_to_fire.expect("measured") - 0.144).abs() < 1e-9);
    assert!(low.rules.iter().all(|rule| rule.bad_count_min == Some(3)));
    assert!(low.notes.iter().any(|note| note.contains("Probes")));
    let enough = policy(0.001, 30.0, Counted::Requests(Some(low.sufficient_valid_per_day * 1.001)));
    assert!(!enough.low_traffic && enough.rules.iter().all(|rule| rule.bad_count_min.is_none()));
    let one_failure = history(10, 1.0, |i| f64::from(u8::from(i == 1000)));
    let raised = |policy: &AlertPolicy| back_test(&one_failure, policy, &[]).severities[0].alerts.len();
    let unguarded = policy(0.001, 30.0, Counted::Requests(None));
    assert_eq!((raised(&unguarded), raised(&policy(0.001, 30.0, Counted::Requests(Some(288.0))))), (1, 0));
}

#[test]
fn slices_are_never_too_few() {
    // 288 a day: two of twelve trip the first rule, which says that something was too old for ten minutes.
    let fresh = policy(0.01, 28.0, Counted::Slices(Some(288.0)));
    assert!(!fresh.low_traffic && fresh.sufficient_valid_per_day == 0.0);
    assert!(fresh.rules[0].failures_to_fire.expect("measured") < 2.0);
    assert!(fresh.rules.iter().all(|rule| rule.bad_count_min.is_none()));
    let loose = policy(0.1, 30.0, Counted::Slices(None));
    let notes = fresh.notes.iter().chain(&loose.notes);
    assert!(notes.clone().all(|note| !note.contains("request") && !note.contains("Counts")), "{notes:?}");
    assert!(loose.notes[0].contains("every slice being bad"), "{:?}", loose.notes);
    let requests = policy(0.01, 28.0, Counted::Requests(Some(288.0)));
    assert!(requests.low_traffic && rates(&requests) == rates(&fresh));
}

#[test]
fn an_outage_is_found_in_time_and_let_go() {
    // Half of all requests for an hour at 99.9 % over 30 days: 2 % of the budget, 1.44 % of the hour, is reached within ten minutes.
    let start = 2000;
    let history = history(14, 1000.0, |i| if (start..start + 12).contains(&i) { 500.0 } else { 0.0 });
    let policy = policy(0.001, 30.0, Counted::Requests(Some(288_000.0)));
    let incident = Interval { start_ms: start as i64 * BUCKET_MS, end_ms: (start as i64 + 12) * BUCKET_MS };
    let tested = back_test(&history, &policy, &[incident]);
    let pages = &tested.severities[0];
    assert_eq!((pages.severity, pages.alerts.len()), (Severity::Page, 1));
    assert_eq!(pages.alerts_per_week, 0.5);
    for score in &pages.scores {
        assert_eq!((score.precision, score.recall), (Some(1.0), Some(1.0)), "{score:?}");
        assert_eq!(score.detection_ms_median, Some(BUCKET_MS), "one bucket of half is above 1.44 % of an hour");
        // The slow page's short window of half an hour holds it.
        assert_eq!(score.reset_ms_median, Some(6 * BUCKET_MS));
    }
}

#[test]
fn what_nobody_could_see_here_is_not_held_against_it() {
    let mut points: Vec<CountPoint> =
        (0..14 * PER_DAY).map(|i| CountPoint { start_ms: i as i64 * BUCKET_MS, valid: 10.0, bad: 0.0 }).collect();
    points.drain(1000..1100);
    let range = TimeRange::new("range", 0, 14 * DAY_MS).expect("ascending");
    let history = SliHistory::of(CountSeries::new(points), range);
    let hidden = Interval { start_ms: 1010 * BUCKET_MS, end_ms: 1050 * BUCKET_MS };
    let later = Interval { start_ms: 20 * DAY_MS, end_ms: 21 * DAY_MS };
    let quiet = Interval { start_ms: 500 * BUCKET_MS, end_ms: 510 * BUCKET_MS };
    let score = back_test(&history, &policy(0.01, 28.0, Counted::Requests(None)), &[hidden, later, quiet]).severities
        [0]
    .scores[0];
    assert_eq!((score.reference_count, score.recall, score.precision), (1, Some(0.0), None));
}

fn buckets() -> impl Strategy<Value = Vec<(usize, usize, f64)>> {
    prop::collection::vec((0_usize..10 * PER_DAY, 1_usize..60, 0.0f64..1.0), 0..6)
}

fn share(outages: &[(usize, usize, f64)], i: usize) -> f64 {
    outages.iter().filter(|(start, length, _)| (*start..start + length).contains(&i)).map(|o| o.2).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Worse never fires less; figures are shares; no failure raises nothing.
    #[test]
    fn worse_never_fires_less(outages in buckets(), more in buckets(), budget in 1e-4f64..0.2, days in prop::sample::select(vec![7.0, 28.0, 30.0, 90.0])) {
        let policy = policy(budget, days, Counted::Requests(Some(288_000.0)));
        let less = history(10, 1000.0, |i| 1000.0 * share(&outages, i));
        let worse = history(10, 1000.0, |i| 1000.0 * share(&outages, i).max(share(&more, i)));
        let (less, worse) = (back_test(&less, &policy, &[]), back_test(&worse, &policy, &[]));
        for (less, worse) in less.rules.iter().zip(&worse.rules) {
            prop_assert!(less.firing_ratio <= worse.firing_ratio + 1e-12);
        }
        for severity in &worse.severities {
            for score in &severity.scores {
                prop_assert!(score.detected_count <= score.reference_count);
                prop_assert!(score.matched_alert_count as usize <= severity.alerts.len());
                prop_assert!(score.precision.is_none_or(|ratio| (0.0..=1.0).contains(&ratio)));
                prop_assert!(score.detection_ms_median <= score.detection_ms_max);
            }
        }
        let quiet = back_test(&history(10, 1000.0, |_| 0.0), &policy, &[]);
        prop_assert!(quiet.severities.iter().all(|severity| severity.alerts.is_empty()));
    }

    /// Ten times the traffic at the same ratios changes nothing.
    #[test]
    fn only_ratios_count(outages in buckets(), budget in 1e-4f64..0.2) {
        let policy = policy(budget, 28.0, Counted::Requests(Some(1e7)));
        let of = |valid: f64| back_test(&history(10, valid, |i| valid * share(&outages, i)), &policy, &[]);
        let alerts = |tested: BackTest| tested.severities.into_iter().map(|severity| severity.alerts).collect::<Vec<_>>();
        prop_assert_eq!(alerts(of(1024.0)), alerts(of(10240.0)));
    }

    /// An outage that spends a rule's share of the budget within its long window is found by the time that it has.
    #[test]
    fn a_total_outage_is_found_within_the_share_of_its_rule(
        start in 3 * PER_DAY..7 * PER_DAY, budget in 1e-4f64..0.06, days in prop::sample::select(vec![28.0, 30.0, 90.0]),
    ) {
        let policy = policy(budget, days, Counted::Requests(Some(288_000.0)));
        let rule = policy.rules[0];
        let needed = (rule.error_ratio * rule.long_ms as f64 / BUCKET_MS as f64).floor() as usize + 1;
        let down = history(10, 1000.0, |i| if (start..start + needed).contains(&i) { 1000.0 } else { 0.0 });
        let incident = Interval { start_ms: start as i64 * BUCKET_MS, end_ms: (start + needed) as i64 * BUCKET_MS };
        let score = back_test(&down, &policy, &[incident]).severities[0].scores[0];
        prop_assert_eq!((score.recall, score.precision), (Some(1.0), Some(1.0)));
        prop_assert!(score.detection_ms_max.is_some_and(|found| found <= needed as i64 * BUCKET_MS), "{:?}", score);
    }
}
