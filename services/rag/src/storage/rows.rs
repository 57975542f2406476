//! Rows of the database as the words of the domain; a row that cannot be read is named.

use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, InvalidValue, TenantId};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Place;
use crate::Error;
use crate::domain::about::{About, Source, Visibility};
use crate::domain::document::{DocumentId, Entry, Kind, Stored};
use crate::domain::instructions::Finding;
use crate::domain::terms::TermId;

pub(super) fn stored(row: &AnyRow) -> Result<Stored, Error> {
    let Entry { id, kind, title, service_ids, version, text_sha256, update_ms, about } = entry(row)?;
    Ok(Stored { id, kind, title, text: row.try_get("text")?, service_ids, version, text_sha256, update_ms, about })
}

pub(super) fn entry(row: &AnyRow) -> Result<Entry, Error> {
    let kind: String = row.try_get("kind")?;
    let services: String = row.try_get("service_ids")?;
    Ok(Entry {
        id: document_id(row, "document_id")?,
        kind: Kind::parse(&kind).ok_or_else(|| Error::Corrupt(format!("kind `{kind}`")))?,
        title: row.try_get("title")?,
        service_ids: decode_services(&services)?,
        version: version(row, "version")?,
        text_sha256: row.try_get("text_sha256")?,
        update_ms: row.try_get("update_ms")?,
        about: about(row)?,
    })
}

fn about(row: &AnyRow) -> Result<About, Error> {
    let (supersedes, superseded_by): (String, String) = (row.try_get("supersedes")?, row.try_get("superseded_by")?);
    let (visibility, findings): (String, String) = (row.try_get("visibility")?, row.try_get("findings")?);
    let objectives: String = row.try_get("objectives")?;
    let id = |name: &str| DocumentId::new("supersedes", name).map_err(corrupt);
    Ok(About {
        owner: row.try_get("owner")?,
        licence: row.try_get("licence")?,
        reviewed_ms: row.try_get("reviewed_ms")?,
        review_due_ms: row.try_get("review_due_ms")?,
        supersedes: supersedes.split(' ').filter(|name| !name.is_empty()).map(id).collect::<Result<_, _>>()?,
        superseded_by: Some(superseded_by).filter(|name| !name.is_empty()).map(|name| id(&name)).transpose()?,
        visibility: Visibility::parse(&visibility)
            .ok_or_else(|| Error::Corrupt(format!("visibility `{visibility}`")))?,
        source: Source { uri: row.try_get("source_uri")?, revision: row.try_get("source_revision")? },
        findings: decode_findings(&findings)?,
        hidden_count: version(row, "hidden_count")?,
        redacted_count: version(row, "redacted_count")?,
        objectives: objectives.lines().map(str::to_owned).collect(),
    })
}

/// A line a finding: its line and its code.
pub(super) fn encode_findings(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{} {}", finding.line, finding.code)).collect::<Vec<_>>().join("\n")
}

fn decode_findings(text: &str) -> Result<Vec<Finding>, Error> {
    let finding = |line: &str| {
        let (number, code) = line.split_once(' ')?;
        Some(Finding { line: number.parse().ok()?, code: code.to_owned() })
    };
    text.lines().map(|line| finding(line).ok_or_else(|| Error::Corrupt(format!("finding `{line}`")))).collect()
}

/// Names as they are stored: separated by blanks, which no name has.
pub(super) fn encode_ids(ids: &BTreeSet<DocumentId>) -> String {
    ids.iter().map(DocumentId::as_str).collect::<Vec<_>>().join(" ")
}

pub(super) fn place(row: &AnyRow) -> Result<Place, Error> {
    let tenant: String = row.try_get("tenant_id")?;
    Ok(Place { tenant: TenantId::new("tenant_id", &tenant).map_err(corrupt)?, id: document_id(row, "document_id")? })
}

pub(super) fn version<I: sqlx::ColumnIndex<AnyRow>>(row: &AnyRow, column: I) -> Result<u32, Error> {
    number(row.try_get(column)?)
}

pub(super) fn term(row: &AnyRow, column: usize) -> Result<TermId, Error> {
    number(row.try_get(column)?)
}

pub(super) fn count(row: &AnyRow, column: usize) -> Result<u64, Error> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| Error::Corrupt(format!("count {value}")))
}

/// Service names as they are stored: separated by blanks, which no name has.
pub(super) fn encode_services(services: &BTreeSet<EntityId>) -> String {
    services.iter().map(EntityId::as_str).collect::<Vec<_>>().join(" ")
}

fn decode_services(text: &str) -> Result<BTreeSet<EntityId>, Error> {
    text.split(' ')
        .filter(|name| !name.is_empty())
        .map(|name| EntityId::new("service_ids", name).map_err(corrupt))
        .collect()
}

pub(super) fn document_id(row: &AnyRow, column: &str) -> Result<DocumentId, Error> {
    let id: String = row.try_get(column)?;
    DocumentId::new("document_id", &id).map_err(corrupt)
}

fn number(value: i64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::Corrupt(format!("number {value}")))
}

fn corrupt(invalid: InvalidValue) -> Error {
    Error::Corrupt(invalid.to_string())
}
