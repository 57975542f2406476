//! Offers are missed about as often as they say, over services that differ in rate, size and level.

mod simulated;

use attain_attainment::{Ambition, CountSeries, TierPolicy, predict, strictest_target};
use attain_vocabulary::Tier;
use simulated::{Dice, PER_DAY, counts, end_of, incidents, severities};

const SERVICES: u64 = 200;
const HISTORY_DAYS: usize = 90;
const WINDOW_DAYS: usize = 28;

/// Shares of the services, by ambition.
#[derive(Debug, Default)]
struct Shares {
    /// Whose offer was missed.
    missed: [f64; 3],
    /// That the offers themselves expected: the menu's steps leave them safer than the ambition asks.
    claimed: [f64; 3],
    /// Whose bad fraction was above the forecast's exact quantile.
    above_quantile: [f64; 3],
}

/// Two-hour incidents of 30 % severity in the median at rates that differ tenfold, over levels that differ a hundredfold.
fn measure(seed: u64) -> Shares {
    let mut policy = TierPolicy::for_tier(Tier::One);
    policy.target_ratio_max = 0.99999;
    let mut shares = Shares::default();
    for service in 0..SERVICES {
        let mut dice = Dice(seed * 1000 + service);
        let days = HISTORY_DAYS + WINDOW_DAYS;
        let rate = 0.12 * libm::exp(dice.normal());
        let all = incidents(&mut dice, days, rate, 16.0, 0.3);
        let chronic = 0.0002 * libm::exp(1.5 * dice.normal());
        let points = counts(&mut dice, 500.0, chronic, &severities(days * PER_DAY, &all));
        let (past, next) = points.split_at(HISTORY_DAYS * PER_DAY);
        let past = CountSeries::new(past.to_vec());
        let prediction = predict(&past, WINDOW_DAYS as f64, end_of(HISTORY_DAYS)).expect("requests were counted");
        let next = CountSeries::new(next.to_vec());
        let bad = 1.0 - next.attained_ratio().expect("requests were counted");
        for (i, goal) in Ambition::ALL.map(Ambition::miss_probability_max).into_iter().enumerate() {
            let target = strictest_target(&prediction, &policy, goal).expect("half of the requests can be promised");
            let count = |happened: bool| f64::from(u8::from(happened)) / SERVICES as f64;
            shares.missed[i] += count(bad > 1.0 - target);
            shares.claimed[i] += prediction.forecast.miss_probability(1.0 - target) / SERVICES as f64;
            shares.above_quantile[i] += count(bad > prediction.forecast.quantile(1.0 - goal));
        }
    }
    shares
}

#[test]
fn offers_are_missed_about_as_often_as_they_say() {
    let shares = measure(1);
    assert!((0.03..=0.20).contains(&shares.missed[1]), "balanced: {shares:?}");
    // Three standard errors of 200 services.
    for i in 0..3 {
        let error = 3.0 * (shares.claimed[i] * (1.0 - shares.claimed[i]) / SERVICES as f64).sqrt();
        assert!((shares.missed[i] - shares.claimed[i]).abs() < error, "{i}: {shares:?}");
    }
    for (above, (least, most)) in shares.above_quantile.into_iter().zip([(0.0, 0.05), (0.04, 0.16), (0.16, 0.34)]) {
        assert!((least..=most).contains(&above), "{shares:?}");
    }
}
