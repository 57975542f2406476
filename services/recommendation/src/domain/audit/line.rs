use serde::{Deserialize, Serialize};

use super::{Encoding, Entry, Record};

/// A record as a line of an export: a JSON object of exactly these fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tenant_id: String,
    sequence: u64,
    time_ms: i64,
    caller: String,
    action: String,
    service_id: String,
    detail_json: String,
    previous_sha256: String,
    sha256: String,
    encoding: u32,
}

impl Record {
    /// The record as a line of an export, without the end of the line: a JSON object with the texts, `sequence` and `time_ms` that
    /// its hash is made of, `sha256` and `encoding`.
    #[must_use]
    pub fn to_line(&self) -> String {
        let Self { tenant_id, sequence, entry, previous_sha256, sha256, encoding } = self.clone();
        let Entry { time_ms, caller, action, service_id, detail_json } = entry;
        let encoding = encoding.number();
        let line = Line {
            tenant_id,
            sequence,
            time_ms,
            caller,
            action,
            service_id,
            detail_json,
            previous_sha256,
            sha256,
            encoding,
        };
        serde_json::to_string(&line).expect("texts and numbers become JSON")
    }

    /// Reads a line of an export. What it says has to be verified.
    ///
    /// # Errors
    /// Says in which way it is no record: no JSON, a field too few or too many, an encoding that there is not.
    pub fn from_line(text: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let encoding =
            Encoding::from_number(line.encoding).ok_or_else(|| format!("there is no encoding {}", line.encoding))?;
        let entry = Entry {
            time_ms: line.time_ms,
            caller: line.caller,
            action: line.action,
            service_id: line.service_id,
            detail_json: line.detail_json,
        };
        let Line { tenant_id, sequence, previous_sha256, sha256, .. } = line;
        Ok(Self { tenant_id, sequence, entry, previous_sha256, sha256, encoding })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_line_reads_back(
            time_ms in any::<i64>(),
            sequence in any::<u64>(),
            texts in prop::array::uniform4(any::<String>()),
        ) {
            let [caller, action, service_id, detail_json] = texts;
            let entry = Entry { time_ms, caller, action, service_id, detail_json };
            let record = Record::seal("acme", sequence, "00".repeat(32), entry);
            let line = record.to_line();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(Record::from_line(&line), Ok(record));
        }
    }

    #[test]
    fn a_line_with_more_or_less_is_none() {
        let entry = Entry {
            time_ms: 0,
            caller: String::new(),
            action: String::new(),
            service_id: String::new(),
            detail_json: String::new(),
        };
        let line = Record::seal("acme", 1, "00".repeat(32), entry).to_line();
        for malformed in [
            line.replacen('{', "{\"note\":1,", 1),
            line.replacen('{', "{\"sequence\":2,", 1),
            line.replace("\"caller\":\"\",", ""),
            line.replace("\"encoding\":2", "\"encoding\":3"),
            line.replace("\"sequence\":1", "\"sequence\":\"1\""),
            format!("{line} {line}"),
            String::new(),
        ] {
            assert!(Record::from_line(&malformed).is_err(), "{malformed}");
        }
    }
}
