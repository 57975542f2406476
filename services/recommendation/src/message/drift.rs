//! How own failures stand, as it is sent.

use attain_attainment::number;
use attain_drift as words;
use attain_proto::convert::{duration, timestamp};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind;
use attain_vocabulary::InvalidValue;

use crate::domain::drift::Watched;

/// Puts it into the availability part of a recommendation.
pub(crate) fn disclose(recommendation: &mut wire::Recommendation, watched: &Watched) {
    let availability = recommendation.slis.iter_mut().find(|sli| sli.kind == SliKind::Availability as i32);
    if let Some(sli) = availability {
        sli.drift = Some(drift(watched));
    }
}

pub(crate) fn drift(watched: &Watched) -> wire::Drift {
    let seen = &watched.drift;
    let change = seen.change.as_ref();
    wire::Drift {
        state: state(seen.state) as i32,
        since_time: change.map(|change| timestamp(change.since_ms)),
        detect_time: change.map(|change| timestamp(change.detected_ms)),
        direction: direction(change.map(|change| change.direction)) as i32,
        before_failure_ratio: change.map(|change| change.before_ratio),
        after_failure_ratio: change.map(|change| change.after_ratio),
        signals: change.map(|change| change.signals.iter().map(signal).collect()).unwrap_or_default(),
        cell_count: seen.cell_count,
        lacking_cell_count: seen.lacking_cell_count,
        cell_length: Some(duration(seen.cell_ms)),
        detail: detail(watched),
    }
}

/// The state asked for; `None` for any.
pub(crate) fn asked_state(number: i32) -> Result<Option<words::State>, InvalidValue> {
    match wire::DriftState::try_from(number) {
        Ok(wire::DriftState::Unspecified) => Ok(None),
        Ok(wire::DriftState::Steady) => Ok(Some(words::State::Steady)),
        Ok(wire::DriftState::Drifted) => Ok(Some(words::State::Drifted)),
        Ok(wire::DriftState::CannotTell) => Ok(Some(words::State::CannotTell)),
        Err(_) => Err(InvalidValue::new("state", "unknown", format!("{number} is no state of a drift"))),
    }
}

fn state(state: words::State) -> wire::DriftState {
    match state {
        words::State::Steady => wire::DriftState::Steady,
        words::State::Drifted => wire::DriftState::Drifted,
        words::State::CannotTell => wire::DriftState::CannotTell,
    }
}

fn direction(direction: Option<words::Direction>) -> wire::DriftDirection {
    match direction {
        Some(words::Direction::Up) => wire::DriftDirection::Worse,
        Some(words::Direction::Down) => wire::DriftDirection::Better,
        None => wire::DriftDirection::Unspecified,
    }
}

fn signal(signal: &words::Signal) -> wire::DriftSignal {
    let detector = match signal.detector {
        words::Detector::PageHinkley => wire::DriftDetector::PageHinkley,
        words::Detector::Adwin => wire::DriftDetector::Adwin,
        words::Detector::Psi => wire::DriftDetector::Psi,
    };
    wire::DriftSignal {
        detector: detector as i32,
        direction: direction(signal.direction) as i32,
        since_time: Some(timestamp(signal.since_ms)),
        detect_time: Some(timestamp(signal.detected_ms)),
        statistic: signal.statistic,
        threshold: signal.threshold,
    }
}

fn detail(watched: &Watched) -> String {
    let seen = &watched.drift;
    if !watched.told_apart {
        return "Own failures cannot be told from inherited ones; traces, or the histories of what it calls, would allow it."
            .to_owned();
    }
    let change = seen.change.as_ref().map(|change| {
        let way = match change.direction {
            words::Direction::Up => "rose",
            words::Direction::Down => "fell",
        };
        let (before, after) = (number(change.before_ratio), number(change.after_ratio));
        let who = match change.signals.len() {
            1 => "one detector".to_owned(),
            count => format!("{count} detectors"),
        };
        format!("own failures {way} from {before} to {after} of requests, found by {who}")
    });
    match (seen.state, change) {
        (words::State::Drifted, Some(change)) => format!("The level changed lately: {change}."),
        (words::State::Steady, Some(change)) => format!("Steady since it changed: {change}."),
        (words::State::CannotTell, _) => format!(
            "Too little to tell: {} more stretches with enough requests are needed, {} were seen.",
            seen.lacking_cell_count, seen.cell_count
        ),
        (words::State::Steady | words::State::Drifted, _) => {
            format!("Steady over {} stretches of time.", seen.cell_count)
        }
    }
}
