//! What holds of the detectors whatever they are fed.

use attain_drift::{Adwin, Direction, PageHinkley, Psi, Settings, State, Watch, watch};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

const CELL_MS: i64 = Settings::OWN_FAILURES.cell_ms;

/// Roughly normal values of mean 0 and deviation 1: the sum of twelve uniform ones less six.
fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (0..12).map(|_| random.random_range(0.0..1.0)).sum::<f64>() - 6.0).collect()
}

/// Failures of 10,000 requests in each of some cells: 100 on average, give or take a tenth.
fn failures(seed: u64, levels: &[(usize, f64)]) -> Vec<(i64, f64, f64)> {
    let count = levels.iter().map(|(count, _)| count).sum();
    let factors = levels.iter().flat_map(|(count, factor)| std::iter::repeat_n(*factor, *count));
    let cell = |(i, (noise, factor)): (usize, (f64, f64))| {
        (i as i64 * CELL_MS, 10_000.0, (100.0 * factor * (1.0 + 0.1 * noise)).max(0.0))
    };
    noise(seed, count).into_iter().zip(factors).enumerate().map(cell).collect()
}

/// Share of streams without a change on which a detector finds one.
fn false_share(find: impl Fn(&[f64]) -> bool) -> f64 {
    (0..200).filter(|seed| find(&noise(*seed, 400))).count() as f64 / 200.0
}

#[test]
fn without_a_change_alarms_are_rare() {
    let page_hinkley = false_share(|values| {
        let mut test = PageHinkley::new(0.5, 10.0);
        values.iter().any(|value| test.push(*value).is_some())
    });
    let adwin = false_share(|values| {
        let mut adwin = Adwin::new(0.05, 400);
        values.iter().any(|value| adwin.push((value / 3.0 + 1.0) / 2.0).is_some())
    });
    let psi = false_share(|values| {
        let mut psi = Psi::new(5, 28, 224, 3.5);
        values.iter().any(|value| psi.push(*value).is_some())
    });
    let together = (0..200)
        .filter(|seed| {
            let mut watch = Watch::new(Settings::OWN_FAILURES);
            failures(*seed, &[(400, 1.0)]).into_iter().any(|(at, valid, bad)| watch.push(at, valid, bad).is_some())
        })
        .count();
    // 400 cells are a hundred days. ADWIN is conservative: its bound holds for every law, and the normal one is tame.
    assert!(page_hinkley <= 0.05 && adwin <= 0.05, "{page_hinkley} {adwin}");
    assert!(psi <= 0.25, "{psi}");
    assert!(together <= 4, "{together} of 200");
}

#[test]
fn detectors_sum_up_the_past_in_bounded_memory() {
    let size = |count: usize| {
        let stream = failures(1, &[(count, 1.0)]);
        serde_json::to_string(&watch(Settings::OWN_FAILURES, stream)).expect("JSON").len()
    };
    assert!(size(20_000) < size(2_000) * 3 / 2, "{} {}", size(2_000), size(20_000));
}

#[test]
fn a_step_is_found_soon_and_with_its_direction() {
    const STREAMS: u64 = 400;
    let (mut soon, mut near) = (0, 0);
    for seed in 0..STREAMS {
        let at = 60 + (seed as usize * 7) % 140;
        let up = seed % 2 == 0;
        let mut watch = Watch::new(Settings::OWN_FAILURES);
        let mut found = None;
        for (start_ms, valid, bad) in failures(seed, &[(at, 1.0), (60, if up { 2.0 } else { 0.5 })]) {
            found = found.or(watch.push(start_ms, valid, bad).cloned());
        }
        let change = found.expect("five deviations");
        let direction = if up { Direction::Up } else { Direction::Down };
        let after = (change.detected_ms - at as i64 * CELL_MS) / CELL_MS;
        soon += u64::from(change.direction == direction && (0..=28).contains(&after));
        near += u64::from((change.since_ms / CELL_MS - at as i64).abs() <= 28);
    }
    // Chance gives a false alarm before the step, or a dip that its start is put at, now and then.
    assert!(soon * 100 >= STREAMS * 97, "{soon} of {STREAMS} were found within a week");
    assert!(near * 100 >= STREAMS * 97, "{near} of {STREAMS} were put within a week of the step");
}

proptest! {
    #[test]
    fn a_state_that_was_written_goes_on_as_if_it_had_not_been(seed in 0u64..1_000_000, cut in 1usize..250) {
        let stream = failures(seed, &[(150, 1.0), (100, 3.0)]);
        let whole = watch(Settings::OWN_FAILURES, stream.clone());
        let half = watch(Settings::OWN_FAILURES, stream[..cut].to_vec());
        let json = serde_json::to_string(&half).expect("JSON");
        let mut read: Watch = serde_json::from_str(&json).expect("read back");
        for (start_ms, valid, bad) in &stream[cut..] {
            read.push(*start_ms, *valid, *bad);
        }
        prop_assert_eq!(read, whole);
    }

    #[test]
    fn the_mirrored_stream_is_found_alike(seed in 0u64..1_000_000, step in 0.0f64..4.0) {
        let values: Vec<f64> =
            noise(seed, 200).iter().enumerate().map(|(i, value)| value + if i >= 100 { step } else { 0.0 }).collect();
        let (mut test, mut mirrored) = (PageHinkley::new(0.5, 6.0), PageHinkley::new(0.5, 6.0));
        let (mut adwin, mut adwin_mirrored) = (Adwin::new(0.1, 400), Adwin::new(0.1, 400));
        let opposite = |direction| match direction {
            Some(Direction::Up) => Some(Direction::Down),
            Some(Direction::Down) => Some(Direction::Up),
            None => None,
        };
        for value in values {
            let (found, other) = (test.push(value), mirrored.push(-value));
            prop_assert_eq!(found.map(|f| (opposite(f.direction), f.values_since)), other.map(|f| (f.direction, f.values_since)));
            // Powers of two, so that the mirror image is exact.
            let unit = ((value / 8.0 + 1.0) * 1024.0).round() / 2048.0;
            let (found, other) = (adwin.push(unit), adwin_mirrored.push(1.0 - unit));
            prop_assert_eq!(found.map(|f| opposite(f.direction)), other.map(|f| f.direction));
        }
    }

    #[test]
    fn nothing_panics_and_little_is_said_to_be_little(
        buckets in prop::collection::vec((any::<i64>(), any::<f64>(), any::<f64>()), 0..100)
    ) {
        let state = watch(Settings::OWN_FAILURES, buckets).state(0);
        prop_assert!(state.cell_count >= 28 || state.state == State::CannotTell);
    }
}
