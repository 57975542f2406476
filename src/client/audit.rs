//! Takes the audit log along and checks that it holds together, as it is served or as it was exported.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use attain_recommendation::audit::{Anchor, BrokenChain, Encoding, Entry, Record, Verified, Verifier};
use clap::Subcommand;
use serde_json::{Value, json};

use super::request::{Gateway, Request};
use crate::cli::Format;
use crate::output;

/// The most that a page may hold.
const PAGE_SIZE: u32 = 500;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AuditCommand {
    /// Writes the log as it is now to standard output, one JSON object a line, oldest first.
    #[command(
        after_help = "Examples:\n  attain audit export > audit.jsonl\n  attain audit export --after-sequence 1200 >> audit.jsonl"
    )]
    Export {
        /// Begin behind this position: that of the last line already there.
        #[arg(long, default_value_t = 0)]
        after_sequence: u64,
    },
    /// Checks that nothing was changed, removed, put in between or cut off; names the first bad record and fails where it was.
    #[command(
        after_help = "Examples:\n  attain audit verify\n  attain audit verify --file audit.jsonl --head 1200:SHA256\n  attain audit \
                            verify --from 1200:SHA256"
    )]
    Verify {
        /// An export to check in place of the log that is served; no gateway is asked. `-` for standard input.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Begin behind this record, SEQUENCE:SHA256, where what was before it is not there any more.
        #[arg(long, value_name = "ANCHOR")]
        from: Option<Anchor>,
        /// Where the log was at some time, SEQUENCE:SHA256, as `attain audit head` or the log of the process said; may be repeated.
        #[arg(long, value_name = "ANCHOR")]
        head: Vec<Anchor>,
    },
    /// Tells where the log ends: kept elsewhere, an anchor that tells a log that was cut or written anew.
    #[command(after_help = "Example:\n  attain audit head --format json")]
    Head,
}

/// Runs what takes more than one question, or none.
pub(super) async fn run(gateway: &Gateway, command: AuditCommand, format: Format) -> anyhow::Result<()> {
    match command {
        AuditCommand::Export { after_sequence } => export(gateway, after_sequence).await,
        AuditCommand::Verify { file, from, head } => {
            let tail_checked = file.is_none() || !head.is_empty();
            let from = from.unwrap_or_else(Anchor::genesis);
            let verified = match file {
                Some(file) => in_file(&file, from, head)?,
                None => served(gateway, from, head).await?,
            };
            let (answer, holds) = told(&verified, tail_checked);
            output::answer(&answer, format);
            if holds { Ok(()) } else { bail!("the audit log does not hold together") }
        }
        AuditCommand::Head => {
            let end = end(gateway).await?;
            output::answer(&json!({"anchor": end.to_string(), "sequence": end.sequence, "sha256": end.sha256}), format);
            Ok(())
        }
    }
}

fn told(verified: &Result<Verified, BrokenChain>, tail_checked: bool) -> (Value, bool) {
    match verified {
        Ok(verified) => {
            let tail = match tail_checked {
                true => "checked by an anchor",
                false => "not checked: without --head nobody can tell whether more was there",
            };
            let answer = json!({
                "verified": true,
                "record_count": verified.record_count,
                "head": verified.head.to_string(),
                "anchor_count": verified.anchor_count,
                "tail": tail,
            });
            (answer, true)
        }
        Err(broken) => (json!({"verified": false, "sequence": broken.sequence, "reason": broken.reason}), false),
    }
}

async fn export(gateway: &Gateway, after_sequence: u64) -> anyhow::Result<()> {
    // Reading the log is written to the log as well: it ends where it ended when this began.
    let end = end(gateway).await?;
    let mut after = after_sequence;
    while after < end.sequence {
        let page = page(gateway, after).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for record in page.iter().filter(|record| record.sequence <= end.sequence) {
            output::lines(&record.to_line());
        }
    }
    Ok(())
}

async fn served(
    gateway: &Gateway,
    from: Anchor,
    mut anchors: Vec<Anchor>,
) -> anyhow::Result<Result<Verified, BrokenChain>> {
    let end = end(gateway).await?;
    if end.sequence < from.sequence {
        let reason = "it is missing, and so is everything up to where the check was to begin: the tail was cut off";
        return Ok(Err(BrokenChain { sequence: end.sequence + 1, reason }));
    }
    let last = end.sequence;
    anchors.push(end);
    let mut verifier = match Verifier::new(from, anchors) {
        Ok(verifier) => verifier,
        Err(broken) => return Ok(Err(broken)),
    };
    while verifier.last().sequence < last {
        let page = page(gateway, verifier.last().sequence).await?;
        if page.is_empty() {
            break;
        }
        for record in page {
            if let Err(broken) = verifier.check(&record) {
                return Ok(Err(broken));
            }
        }
    }
    Ok(verifier.finish())
}

fn in_file(file: &Path, from: Anchor, anchors: Vec<Anchor>) -> anyhow::Result<Result<Verified, BrokenChain>> {
    let reader: Box<dyn std::io::BufRead> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        Box::new(BufReader::new(opened))
    };
    let mut verifier = match Verifier::new(from, anchors) {
        Ok(verifier) => verifier,
        Err(broken) => return Ok(Err(broken)),
    };
    for (number, line) in (1..).zip(reader.lines()) {
        let line = line.with_context(|| format!("cannot read line {number} of {}", file.display()))?;
        let sequence = verifier.last().sequence + 1;
        let Ok(record) = Record::from_line(&line) else {
            return Ok(Err(BrokenChain { sequence, reason: "what stands in its place is no record" }));
        };
        if let Err(broken) = verifier.check(&record) {
            return Ok(Err(broken));
        }
    }
    Ok(verifier.finish())
}

async fn end(gateway: &Gateway) -> anyhow::Result<Anchor> {
    let answer = gateway.send(&Request::get("/api/v1/audit/head")).await?;
    let sha256 = text(&answer, "sha256");
    Ok(Anchor { sequence: number(&answer, "sequence").context("the head has no sequence")?, sha256 })
}

async fn page(gateway: &Gateway, after: u64) -> anyhow::Result<Vec<Record>> {
    let request = Request::get("/api/v1/audit").with("page_size", Some(PAGE_SIZE)).with("page_token", Some(after));
    let answer = gateway.send(&request).await?;
    answer["records"].as_array().into_iter().flatten().map(record).collect()
}

/// A record as the route serves it.
fn record(value: &Value) -> anyhow::Result<Record> {
    let sequence = number(value, "sequence").context("an audit record has no sequence")?;
    let time: jiff::Timestamp =
        text(value, "time").parse().with_context(|| format!("audit record {sequence} has no time"))?;
    let encoding = number(value, "encoding").and_then(|number| Encoding::from_number(number.try_into().ok()?));
    Ok(Record {
        tenant_id: text(value, "tenant_id"),
        sequence,
        entry: Entry {
            time_ms: time.as_millisecond(),
            caller: text(value, "caller"),
            action: text(value, "action"),
            service_id: text(value, "service_id"),
            detail_json: text(value, "detail_json"),
        },
        previous_sha256: text(value, "previous_sha256"),
        sha256: text(value, "sha256"),
        encoding: encoding
            .with_context(|| format!("audit record {sequence} has an encoding that is not known here"))?,
    })
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value, field: &str) -> Option<u64> {
    value[field].as_u64().or_else(|| value[field].as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: u64) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        for sequence in 1..=count {
            let entry = Entry {
                time_ms: 1_700_000_000_123,
                caller: "ci".into(),
                action: "slo.declared".into(),
                service_id: String::new(),
                detail_json: "{}".into(),
            };
            let previous = records.last().map_or(Anchor::genesis().sha256, |record| record.sha256.clone());
            records.push(Record::seal("default", sequence, previous, entry));
        }
        records
    }

    #[test]
    fn a_record_is_read_as_the_route_serves_it() {
        let expected = records(1).remove(0);
        let mut served: Value = serde_json::from_str(&expected.to_line()).expect("JSON");
        served["time"] = "2023-11-14T22:13:20.123Z".into();
        assert_eq!(record(&served).expect("a record"), expected);
        served.as_object_mut().expect("an object").remove("service_id");
        assert_eq!(record(&served).expect("what is empty may be left out"), expected);
        served["encoding"] = 9.into();
        assert!(record(&served).is_err());
    }

    #[test]
    fn an_export_is_checked_line_by_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("audit.jsonl");
        let lines: Vec<String> = records(4).iter().map(Record::to_line).collect();
        let end = Anchor { sequence: 4, sha256: records(4)[3].sha256.clone() };
        let broken_at = |lines: &[String], from: Anchor, anchors: Vec<Anchor>| {
            std::fs::write(&file, lines.join("\n")).expect("written");
            in_file(&file, from, anchors).expect("read").err().map(|broken| broken.sequence)
        };
        let whole = |lines: &[String]| broken_at(lines, Anchor::genesis(), vec![end.clone()]);
        assert_eq!(whole(&lines), None);
        assert_eq!(whole(&lines[..3]), Some(4));
        assert_eq!(broken_at(&lines[..3], Anchor::genesis(), Vec::new()), None, "without an anchor nobody can tell");
        assert_eq!(whole(&lines[1..]), Some(1));
        let second = Anchor { sequence: 2, sha256: records(2)[1].sha256.clone() };
        assert_eq!(broken_at(&lines[2..], second, vec![end.clone()]), None);
        let mut torn = lines.clone();
        torn[2].truncate(20);
        assert_eq!(whole(&torn), Some(3));
        let mut changed = lines;
        changed[1] = changed[1].replace("\"caller\":\"ci\"", "\"caller\":\"me\"");
        assert_eq!(whole(&changed), Some(2));
    }
}
