//! Own failures of simulated services: traffic with a day and a week and a trend, a level of failure that wanders, incidents,
//! and in four of five a change of level at a known instant.

use attain_drift::Settings;
use attain_vocabulary::DAY_MS;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, Gamma, Normal, Poisson};

use super::{Reader, Reading, Span, Stream};

const CELL_MS: i64 = Settings::OWN_FAILURES.cell_ms;
const CELLS_A_DAY: i64 = DAY_MS / CELL_MS;
const DAYS: i64 = 120;
/// A change that is not found within four weeks is missed: by then the next window is over.
const FOUND_WITHIN_DAYS: i64 = 28;
/// What the level is multiplied by; 1 is no change.
const FACTORS: [f64; 5] = [1.0, 2.0, 4.0, 10.0, 0.25];
/// Incidents a day, and their mean length in days.
const INCIDENTS_A_DAY: f64 = 0.05;
const INCIDENT_DAYS: f64 = 1.0 / 24.0;

/// One false alarm in ten months of a service.
pub(super) const READER: Reader = Reader { settings: Settings::OWN_FAILURES, false_alarms_max: 0.1 };

/// Twice as many services as are asked for: one half to choose on, one to score.
pub(super) fn streams(services: u32, seed: u64) -> Vec<Stream> {
    (0..2 * services).map(|i| stream(i, &mut ChaCha8Rng::seed_from_u64(seed ^ (u64::from(i) << 20)))).collect()
}

fn stream(number: u32, random: &mut ChaCha8Rng) -> Stream {
    // Neighbours in number go to different halves.
    let factor = FACTORS[(number / 2) as usize % FACTORS.len()];
    let a_day = 10f64.powf(random.random_range(2.0..6.5));
    let level = 10f64.powf(random.random_range(-4.0..-1.7));
    let trend = random.random_range(-0.01..0.01);
    let change_day = random.random_range(45..75);
    let mut wander = 0.0;
    let mut cells: Vec<Reading> = (0..DAYS * CELLS_A_DAY)
        .map(|i| {
            let (day, part) = (i / CELLS_A_DAY, (i % CELLS_A_DAY) as usize);
            let busy = [0.4, 1.2, 1.5, 0.9][part] * if day % 7 >= 5 { 0.6 } else { 1.0 };
            let requests = a_day / CELLS_A_DAY as f64 * busy * (trend * day as f64).exp();
            let valid = sample(Poisson::new(requests), random).max(1.0);
            // Days resemble one another; hours differ by the work that is done in them.
            wander = 0.7 * wander + sample(Normal::new(0.0, 0.15), random);
            let working = if part == 1 || part == 2 { 1.15 } else { 0.85 };
            let changed = if day >= change_day { factor } else { 1.0 };
            // Failures come in clusters: a gamma variable of mean 1 and variance 0.1 over the counting.
            let cluster = sample(Gamma::new(10.0, 0.1), random);
            let ratio = (level * changed * working * cluster * f64::exp(wander)).min(1.0);
            let bad = sample(Poisson::new(valid * ratio), random).min(valid);
            Reading { start_ms: i * CELL_MS, known_ms: (i + 1) * CELL_MS, valid, value: bad }
        })
        .collect();
    incidents(&mut cells, random);
    let expected = a_day * level.min(level * factor);
    let traffic = if expected < 10.0 { "under 10 failures a day" } else { "10 failures a day and more" };
    let change = Span {
        start_ms: change_day * DAY_MS,
        end_ms: (change_day + FOUND_WITHIN_DAYS) * DAY_MS,
        kind: format!("times {factor}, {traffic}"),
    };
    let changes = if factor == 1.0 { Vec::new() } else { vec![change] };
    Stream { name: format!("service-{number}"), cells, changes }
}

/// Adds outages that last an hour on average and fail a share of what comes.
fn incidents(cells: &mut [Reading], random: &mut ChaCha8Rng) {
    let mut day = sample(Exp::new(INCIDENTS_A_DAY), random);
    while day < DAYS as f64 {
        let mut left = sample(Exp::new(1.0 / INCIDENT_DAYS), random).min(1.0) * CELLS_A_DAY as f64;
        let severity: f64 = random.random_range(0.05..1.0);
        let first = (day * CELLS_A_DAY as f64) as usize;
        for cell in cells.iter_mut().skip(first) {
            if left <= 0.0 {
                break;
            }
            cell.value = (cell.value + (cell.valid - cell.value) * severity * left.min(1.0)).floor();
            left -= 1.0;
        }
        day += sample(Exp::new(INCIDENTS_A_DAY), random);
    }
}

/// A draw; the parameters above are all in range.
fn sample<D: Distribution<f64>, E: std::fmt::Debug>(law: Result<D, E>, random: &mut ChaCha8Rng) -> f64 {
    law.expect("parameters in range").sample(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_the_same_again_and_change_as_they_say() {
        let (a, b) = (streams(10, 3), streams(10, 3));
        let values = |streams: &[Stream]| -> Vec<f64> {
            streams.iter().flat_map(|stream| stream.cells.iter().map(|cell| cell.value)).collect()
        };
        assert_eq!(values(&a), values(&b));
        assert_ne!(values(&a), values(&streams(10, 4)));
        let changed = a.iter().filter(|stream| !stream.changes.is_empty()).count();
        assert_eq!(changed, 16, "four of five");
        assert!(a.iter().flat_map(|stream| &stream.cells).all(|cell| cell.value <= cell.valid && cell.value >= 0.0));
    }
}
