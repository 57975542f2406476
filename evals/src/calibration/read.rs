//! Incident series from CSV files: what is usable is read, what is not is named.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::series::{Incident, Series, told_once};

const DAY_SECONDS: f64 = 86_400.0;
/// Fewer usable rows say nothing of a rate.
pub(super) const ROWS_MIN: usize = 20;
/// The year 5138: beyond it a time is meant in another unit, and would make a history of millennia.
const SECONDS_MAX: f64 = 1e11;
/// Rounding that a severity may be beyond its ends by.
const SEVERITY_TOLERANCE: f64 = 1e-6;

const START: [&str; 8] =
    ["start_time", "start", "started_at", "start_timestamp", "starttime", "begin", "begin_time", "started"];
const END: [&str; 9] =
    ["end_time", "end", "ended_at", "end_timestamp", "endtime", "finish_time", "resolved_at", "ended", "stop_time"];
const SEVERITY: [&str; 4] = ["severity", "status", "impact", "severity_ratio"];

/// A row, a column or a file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refused {
    pub(super) file: String,
    /// Line in the file, the header being the first; `None` for the file as a whole.
    pub(super) row: Option<u64>,
    pub(super) field: Option<&'static str>,
    pub(super) reason: String,
}

/// A file with too few usable rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LeftOut {
    pub(super) file: String,
    pub(super) rows: usize,
    pub(super) reason: String,
}

#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) series: Vec<Series>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) refused: Vec<Refused>,
}

/// Reads every CSV of a folder, by name. Fails only when the folder itself cannot be read.
pub(super) fn folder(path: &Path) -> anyhow::Result<Folder> {
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| {
        file.is_file() && file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
    });
    files.sort();
    let mut folder = Folder::default();
    for file in files {
        let name = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let file_name = name(file.file_name()).unwrap_or_default();
        let rows = match csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_path(&file) {
            Ok(reader) => rows(reader, &file_name, &mut folder.refused),
            Err(error) => {
                folder.refused.push(Refused { file: file_name, row: None, field: None, reason: error.to_string() });
                continue;
            }
        };
        let Some(rows) = rows else { continue };
        if rows.len() < ROWS_MIN {
            let reason = format!("fewer than {ROWS_MIN} usable rows");
            folder.left_out.push(LeftOut { file: file_name, rows: rows.len(), reason });
            continue;
        }
        let name = name(file.file_stem()).unwrap_or_default();
        folder.series.push(Series { name, incidents: told_once(&rows) });
    }
    Ok(folder)
}

/// The usable rows; `None` when a column is missing.
fn rows<R: std::io::Read>(mut reader: csv::Reader<R>, file: &str, refused: &mut Vec<Refused>) -> Option<Vec<Incident>> {
    let mut refuse = |row: Option<u64>, field: Option<&'static str>, reason: String| {
        refused.push(Refused { file: file.to_owned(), row, field, reason });
    };
    let headers: Vec<String> = match reader.headers() {
        Ok(headers) => {
            headers.iter().map(|header| header.trim_start_matches('\u{feff}').to_ascii_lowercase()).collect()
        }
        Err(error) => {
            refuse(None, None, format!("header cannot be read: {error}"));
            return None;
        }
    };
    // By its whole name, else by how it begins.
    let column = |names: &[&str], beginnings: &[&str]| {
        names
            .iter()
            .find_map(|name| headers.iter().position(|header| header == name))
            .or_else(|| beginnings.iter().find_map(|begin| headers.iter().position(|header| header.starts_with(begin))))
    };
    let columns = (
        column(&START, &["start", "begin", "open"]),
        column(&END, &["end_", "ended", "finish", "stop", "close", "resolve"]),
        column(&SEVERITY, &["severity", "status", "impact"]),
    );
    let (Some(start), Some(end), Some(severity)) = columns else {
        for (found, field, names) in [
            (columns.0, "start_time", START.as_slice()),
            (columns.1, "end_time", END.as_slice()),
            (columns.2, "severity", SEVERITY.as_slice()),
        ] {
            if found.is_none() {
                refuse(None, Some(field), format!("no such column; it may be called {}", names.join(", ")));
            }
        }
        return None;
    };
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let row = match &record {
            Ok(record) => record.position().map_or(index as u64 + 2, csv::Position::line),
            Err(_) => index as u64 + 2,
        };
        let parsed = record.map_err(|error| (None, error.to_string())).and_then(|record| {
            let text = |column: usize| record.get(column).unwrap_or_default();
            incident(text(start), text(end), text(severity)).map_err(|(field, reason)| (Some(field), reason))
        });
        match parsed {
            Ok(incident) => rows.push(incident),
            Err((field, reason)) => refuse(Some(row), field, reason),
        }
    }
    Some(rows)
}

fn incident(start: &str, end: &str, severity: &str) -> Result<Incident, (&'static str, String)> {
    let start_days = instant(start).map_err(|reason| ("start_time", reason))? / DAY_SECONDS;
    let end_days = instant(end).map_err(|reason| ("end_time", reason))? / DAY_SECONDS;
    if end_days < start_days {
        return Err(("end_time", format!("{end} is before the start {start}")));
    }
    let severity = severity_of(severity).map_err(|reason| ("severity", reason))?;
    Ok(Incident { start_days, end_days, severity })
}

/// Seconds: a number, or a timestamp of RFC 3339.
fn instant(text: &str) -> Result<f64, String> {
    if text.is_empty() {
        return Err("is empty; seconds or an RFC 3339 timestamp are needed".to_owned());
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return match seconds {
            _ if !seconds.is_finite() => Err(format!("{text} is not a finite number")),
            _ if seconds.abs() > SECONDS_MAX => Err(format!("{text} is no time in seconds; milliseconds are not read")),
            _ => Ok(seconds),
        };
    }
    let timestamp: Result<Timestamp, _> = text.parse();
    timestamp
        .map(|timestamp| timestamp.as_millisecond() as f64 / 1e3)
        .map_err(|_| format!("{text:?} is neither a number of seconds nor an RFC 3339 timestamp"))
}

/// A severity that is not said is a full outage.
fn severity_of(text: &str) -> Result<f64, String> {
    if text.is_empty() || text.eq_ignore_ascii_case("nan") {
        return Ok(1.0);
    }
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if !(-SEVERITY_TOLERANCE..=1.0 + SEVERITY_TOLERANCE).contains(&value) {
        return Err(format!("{text} is outside 0 to 1"));
    }
    Ok(value.clamp(0.0, 1.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Vec<Incident>>, Vec<Refused>) {
        let mut refused = Vec::new();
        let reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
        let rows = rows(reader, "x.csv", &mut refused);
        (rows, refused)
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let (rows, refused) =
            read("service,Severity,END, start_time\na,0.5,86400,0\nb,,2026-01-02T00:00:00Z,2026-01-01T00:00:00Z\n");
        assert!(refused.is_empty(), "{refused:?}");
        let rows = rows.unwrap();
        assert_eq!(rows[0], Incident { start_days: 0.0, end_days: 1.0, severity: 0.5 });
        assert_eq!((rows[1].severity, rows[1].end_days - rows[1].start_days), (1.0, 1.0));
    }

    #[test]
    fn a_bad_row_is_named_and_the_others_go_on() {
        let text = "start_time,end_time,severity\n0,10,1\nx,10,1\n5,,1\n9,3,1\n1,2,1.5\n1,2,high\n1,inf,1\n1767225600000,1767225660000,1\n3,4,0.2\n";
        let (rows, refused) = read(text);
        assert_eq!(rows.unwrap().len(), 2);
        let named: Vec<(Option<u64>, Option<&str>)> =
            refused.iter().map(|refused| (refused.row, refused.field)).collect();
        let expected = [
            (3, "start_time"),
            (4, "end_time"),
            (5, "end_time"),
            (6, "severity"),
            (7, "severity"),
            (8, "end_time"),
            (9, "start_time"),
        ];
        assert_eq!(named, expected.map(|(row, field)| (Some(row), Some(field))));
    }

    #[test]
    fn a_file_without_a_column_is_named_with_the_column() {
        let (rows, refused) = read("start_of_it,severity\n0,1\n");
        assert_eq!(rows, None);
        assert_eq!((refused.len(), refused[0].field, refused[0].row), (1, Some("end_time"), None));
    }

    #[test]
    fn a_folder_gives_what_is_usable_and_says_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let rows: String = (0..25).map(|i| format!("{},{},0.5\n", i * 1000, i * 1000 + 500)).collect();
        std::fs::write(folder.path().join("b.csv"), format!("start,end,status\n{rows}")).unwrap();
        std::fs::write(folder.path().join("a.csv"), "start,end,status\n0,1,1\n").unwrap();
        std::fs::write(folder.path().join("c.csv"), "what\n1\n").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not a series").unwrap();
        let read = super::folder(folder.path()).unwrap();
        assert_eq!(read.series.iter().map(|series| series.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!((read.left_out.len(), read.left_out[0].rows), (1, 1));
        assert_eq!(read.refused.len(), 3, "three columns of c.csv");
        assert!(super::folder(&folder.path().join("none")).is_err());
    }
}
