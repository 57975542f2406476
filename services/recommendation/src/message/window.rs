//! Windows on the wire.

use attain_proto::recommendation::v1 as wire;
use attain_vocabulary::{InvalidValue, TimeWindow};

/// Number of a calendar window; that of none for a rolling one.
pub(crate) fn calendar(window: TimeWindow) -> i32 {
    let word = match window {
        TimeWindow::MONTH => wire::CalendarWindow::Month,
        TimeWindow::QUARTER => wire::CalendarWindow::Quarter,
        _ => wire::CalendarWindow::Unspecified,
    };
    word as i32
}

/// The window that a request names: days of a rolling one or a calendar one, never both; 28 days where it names none.
pub(crate) fn asked(window_days: u32, calendar_window: i32) -> Result<TimeWindow, InvalidValue> {
    match named_calendar(calendar_window)? {
        None => TimeWindow::from_days("window_days", window_days),
        Some(window) if window_days == 0 => Ok(window),
        Some(window) => {
            let reason = format!("a calendar {window} has no days to choose; leave one of the two out");
            Err(InvalidValue::new("window_days", "not_allowed", reason))
        }
    }
}

/// The window of a recommendation.
pub(crate) fn of(recommendation: &wire::Recommendation) -> Result<TimeWindow, InvalidValue> {
    match named_calendar(recommendation.calendar_window)? {
        Some(window) => Ok(window),
        None => TimeWindow::from_days("window_days", recommendation.window_days),
    }
}

fn named_calendar(number: i32) -> Result<Option<TimeWindow>, InvalidValue> {
    match wire::CalendarWindow::try_from(number) {
        Ok(wire::CalendarWindow::Unspecified) => Ok(None),
        Ok(wire::CalendarWindow::Month) => Ok(Some(TimeWindow::MONTH)),
        Ok(wire::CalendarWindow::Quarter) => Ok(Some(TimeWindow::QUARTER)),
        Err(_) => {
            let reason = format!("{number} is no value that this version knows");
            Err(InvalidValue::new("calendar_window", "unknown_value", reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_window() {
        let month = wire::CalendarWindow::Month as i32;
        assert_eq!(asked(0, 0), Ok(TimeWindow::default()));
        assert_eq!(asked(90, 0).map(TimeWindow::code), Ok(90));
        assert_eq!(asked(0, month), Ok(TimeWindow::MONTH));
        for (days, calendar, field) in [(28, month, "window_days"), (0, 9, "calendar_window"), (13, 0, "window_days")] {
            assert_eq!(asked(days, calendar).map_err(|invalid| invalid.field), Err(field.to_owned()));
        }
        for window in [TimeWindow::MONTH, TimeWindow::QUARTER, TimeWindow::default()] {
            let days = if window.is_calendar() { 31 } else { window.days() };
            let message =
                wire::Recommendation { window_days: days, calendar_window: calendar(window), ..Default::default() };
            assert_eq!(of(&message), Ok(window));
        }
    }
}
