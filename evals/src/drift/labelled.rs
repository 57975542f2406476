//! Series of the Numenta Anomaly Benchmark: values by the minute, and the windows that people labelled as odd.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use attain_drift::Settings;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Reader, Reading, Span, Stream};

const HOUR_MS: i64 = 3_600_000;

/// Hourly means: the series are two weeks long. Labels are of anomalies, about one a week, and not all of them are changes of
/// level, so a false alarm a week is borne.
pub(super) const READER: Reader = Reader {
    settings: Settings {
        cell_ms: HOUR_MS,
        warm_cells: 24,
        spread_cells: 168,
        psi_bins: 4,
        psi_cells: 24,
        psi_reference_cells: 168,
        agreement_cells: 24,
        ..Settings::OWN_FAILURES
    },
    false_alarms_max: 4.0,
};

/// Reads every labelled series of a folder that has both a file and labels.
pub(super) fn read(folder: &Path) -> anyhow::Result<Vec<Stream>> {
    let file = folder.join("labels/combined_windows.json");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let labels: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    let mut streams = Vec::new();
    for (name, windows) in labels {
        let path: PathBuf = folder.join("data").join(&name);
        if path.is_file() {
            streams.push(stream(name, &windows, &path).with_context(|| format!("in {}", path.display()))?);
        }
    }
    ensure!(!streams.is_empty(), "{} holds no series that its labels name", folder.display());
    Ok(streams)
}

fn stream(name: String, windows: &[[String; 2]], path: &Path) -> anyhow::Result<Stream> {
    let mut hours: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for row in csv::Reader::from_path(path)?.deserialize() {
        let (time, value): (String, f64) = row?;
        let hour = hours.entry(instant(&time)?.div_euclid(HOUR_MS)).or_default();
        *hour = (hour.0 + value, hour.1 + 1.0);
    }
    let cell = |(hour, (sum, count)): (i64, (f64, f64))| {
        let start_ms = hour * HOUR_MS;
        Reading { start_ms, known_ms: start_ms + HOUR_MS, valid: 0.0, value: sum / count }
    };
    let change = |[start, end]: &[String; 2]| {
        Ok(Span { start_ms: instant(start)?, end_ms: instant(end)?, kind: "labelled".to_owned() })
    };
    let changes: anyhow::Result<Vec<Span>> = windows.iter().map(change).collect();
    Ok(Stream { name, cells: hours.into_iter().map(cell).collect(), changes: changes? })
}

/// Milliseconds since 1970 of a time without a zone, read as UTC.
fn instant(text: &str) -> anyhow::Result<i64> {
    let time: DateTime = text.parse().with_context(|| format!("`{text}` is no time"))?;
    Ok(time.to_zoned(TimeZone::UTC)?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_read_by_the_hour_with_its_windows() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("data/x")).expect("made");
        std::fs::create_dir_all(folder.path().join("labels")).expect("made");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("data/x/a.csv", "timestamp,value\n2014-02-14 14:30:00,1\n2014-02-14 14:35:00,3\n2014-02-14 15:00:00,7\n");
        write(
            "labels/combined_windows.json",
            r#"{"x/a.csv": [["2014-02-14 15:00:00.000000", "2014-02-14 16:00:00.000000"]], "x/none.csv": []}"#,
        );
        let streams = read(folder.path()).expect("read");
        assert_eq!(streams.len(), 1);
        let values: Vec<(i64, f64)> =
            streams[0].cells.iter().map(|cell| (cell.start_ms / HOUR_MS, cell.value)).collect();
        let first = values[0].0;
        assert_eq!(values, [(first, 2.0), (first + 1, 7.0)]);
        assert_eq!(streams[0].changes[0].start_ms, streams[0].cells[1].start_ms);
    }
}
