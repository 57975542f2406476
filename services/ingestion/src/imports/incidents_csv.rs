//! Incidents as comma- or semicolon-separated values (RFC 4180), the first line naming the columns.

use std::collections::BTreeMap;

use attain_vocabulary::{InvalidValue, UnixMillis};

use super::{Complaint, Contents, Reading, Told};
use crate::domain::{Bounds, IncidentDraft, IncidentKind};
use crate::storage::IncidentNews;

const ORIGIN: &str = "incidents-csv";
const REQUIRED: [&str; 3] = ["id", "title", "start_time"];
const OPTIONAL: [&str; 9] = [
    "end_time",
    "service_ids",
    "cause_service_id",
    "severity_ratio",
    "priority",
    "summary",
    "excluded",
    "exclusion_reason",
    "kind",
];

pub(super) fn read(bytes: &[u8], reading: &Reading) -> Result<Contents, InvalidValue> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter(bytes)).has_headers(false).flexible(true).from_reader(bytes);
    let mut contents = Contents::default();
    let mut row = csv::ByteRecord::new();
    let more = |reader: &mut csv::Reader<&[u8]>, row: &mut csv::ByteRecord| {
        reader.read_byte_record(row).map_err(|error| InvalidValue::new("document", "malformed_csv", error.to_string()))
    };
    if !more(&mut reader, &mut row)? {
        return Err(InvalidValue::new(
            "document",
            "required",
            "the document is empty; its first line names the columns",
        ));
    }
    let columns = columns(&row, &mut contents)?;
    let bounds = Bounds { now_ms: reading.limits.now_ms, skew_ms: reading.limits.future_skew_ms };
    let mut read_count = 0;
    let mut lines = Lines { bytes, counted: 0, line: 1 };
    while more(&mut reader, &mut row)? {
        read_count += 1;
        if read_count > reading.rows_max {
            let reason = format!("more than {} lines a document", reading.rows_max);
            return Err(InvalidValue::new("document", "too_many", reason));
        }
        let line = lines.of(&row);
        let pointer = format!("/lines/{line}");
        let checked = draft(&columns, &row).and_then(|draft| draft.admit(&reading.sender, bounds));
        match checked {
            Ok(incident) => {
                contents.incidents.push(Told {
                    news: IncidentNews::Report(Box::new(incident)),
                    named: Vec::new(),
                    index: line,
                    pointer,
                });
            }
            Err(invalid) => contents.rejected.push(placed(invalid, line)),
        }
    }
    Ok(contents)
}

/// Counts lines by their ends: the reader's own count is late by one where they end as they do on Windows.
struct Lines<'a> {
    bytes: &'a [u8],
    counted: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line on which a row begins; rows come in their order.
    fn of(&mut self, row: &csv::ByteRecord) -> usize {
        let start = row.position().and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0);
        let blank = self.bytes.iter().skip(start).take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let until = (start + blank).clamp(self.counted, self.bytes.len());
        self.line += self.bytes[self.counted..until].iter().filter(|byte| **byte == b'\n').count();
        self.counted = until;
        self.line
    }
}

/// Whichever stands more often in the first line.
fn delimiter(bytes: &[u8]) -> u8 {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| first.iter().filter(|byte| **byte == wanted).count();
    if count(b';') > count(b',') { b';' } else { b',' }
}

/// The names of the columns in their order; those that are not known are told and not read.
fn columns(row: &csv::ByteRecord, contents: &mut Contents) -> Result<Vec<String>, InvalidValue> {
    let names: Vec<String> = row.iter().map(|name| String::from_utf8_lossy(name).trim().to_lowercase()).collect();
    for required in REQUIRED {
        if !names.iter().any(|name| name == required) {
            let reason = format!("line 1 names no column `{required}`; there have to be {}", REQUIRED.join(", "));
            return Err(InvalidValue::new("document", "missing_column", reason));
        }
    }
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            let reason = format!("line 1 names the column `{}` twice", shortened(name));
            return Err(InvalidValue::new("document", "repeated_column", reason));
        }
        if !REQUIRED.iter().chain(&OPTIONAL).any(|known| known == name) {
            let reason = format!(
                "line 1: the column `{}` is not read; there are {}, {}",
                shortened(name),
                REQUIRED.join(", "),
                OPTIONAL.join(", ")
            );
            let pointer = format!("/lines/1/{}", shortened(name));
            contents.warnings.push(Complaint::new(pointer, "unknown_column", reason).at(1));
        }
    }
    Ok(names)
}

fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

fn placed(invalid: InvalidValue, line: usize) -> Complaint {
    let column = invalid.field.split('/').next().unwrap_or_default();
    if column.is_empty() {
        return Complaint::new(format!("/lines/{line}"), invalid.code, format!("line {line}: {}", invalid.reason))
            .at(line);
    }
    let reason = format!("line {line}, column {column}: {}", invalid.reason);
    Complaint::new(format!("/lines/{line}/{column}"), invalid.code, reason).at(line)
}

fn draft(columns: &[String], row: &csv::ByteRecord) -> Result<IncidentDraft, InvalidValue> {
    if row.len() != columns.len() {
        let reason = format!("{} values for {} columns", row.len(), columns.len());
        return Err(InvalidValue::new("", "wrong_column_count", reason));
    }
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for (column, value) in columns.iter().zip(row) {
        let text = std::str::from_utf8(value)
            .map_err(|_| InvalidValue::new(column, "invalid_utf8", "the text is no UTF-8"))?;
        values.insert(column, text.trim());
    }
    let text = |column: &str| values.get(column).copied().unwrap_or_default();
    let start_ms = time("start_time", text("start_time"))?
        .ok_or_else(|| InvalidValue::new("start_time", "required", "a time is required"))?;
    Ok(IncidentDraft {
        id: text("id").to_owned(),
        title: text("title").to_owned(),
        service_ids: services(text("service_ids")),
        cause_service_id: text("cause_service_id").to_owned(),
        start_ms,
        end_ms: time("end_time", text("end_time"))?,
        severity_ratio: ratio(text("severity_ratio"))?,
        summary: text("summary").to_owned(),
        excluded: truth("excluded", text("excluded"))?,
        exclusion_reason: text("exclusion_reason").to_owned(),
        kind: kind(text("kind"))?,
        priority: text("priority").to_owned(),
        origin: Some(ORIGIN),
    })
}

/// Names divided by blanks, commas, semicolons or bars, none of which a name can have.
fn services(text: &str) -> Vec<String> {
    text.split([' ', ',', ';', '|']).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn time(column: &str, text: &str) -> Result<Option<UnixMillis>, InvalidValue> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed.map(|time| Some(time.as_millisecond())).map_err(|_| {
        let reason = "a time as RFC 3339 has it is expected, such as 2026-11-01T00:00:00Z";
        InvalidValue::new(column, "malformed_time", reason)
    })
}

fn ratio(text: &str) -> Result<Option<f64>, InvalidValue> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| InvalidValue::new("severity_ratio", "not_a_number", "a fraction is expected, such as 0.25"))
}

fn truth(column: &str, text: &str) -> Result<bool, InvalidValue> {
    match text.to_lowercase().as_str() {
        "" | "false" | "no" | "0" => Ok(false),
        "true" | "yes" | "1" => Ok(true),
        _ => Err(InvalidValue::new(column, "unknown_value", "true or false is expected")),
    }
}

fn kind(text: &str) -> Result<IncidentKind, InvalidValue> {
    match text.to_lowercase().as_str() {
        "" | "incident" => Ok(IncidentKind::Incident),
        "maintenance" => Ok(IncidentKind::Maintenance),
        _ => Err(InvalidValue::new("kind", "unknown_value", "incident or maintenance is expected")),
    }
}
