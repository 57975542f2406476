//! `attain check-mapping`: which queries a mapping file leads to, without asking any server.

use std::path::Path;

use attain_ingestion::prometheus::{PlannedQuery, planned_queries};
use serde_json::{Value, json};

use crate::cli::Format;
use crate::output;

/// Prints every query; an error names the key that cannot be right.
pub(crate) fn run(file: &Path, format: Format) -> anyhow::Result<()> {
    let planned = planned_queries(file)?;
    match format {
        Format::Json => output::answer(&json!({"queries": planned.iter().map(as_json).collect::<Vec<_>>()}), format),
        Format::Text => output::lines(&planned.iter().map(as_text).collect::<Vec<_>>().join("\n")),
    }
    Ok(())
}

fn as_json(planned: &PlannedQuery) -> Value {
    json!({"mapping": planned.mapping, "what": planned.what, "query": planned.query})
}

/// Queries are too long for a table.
fn as_text(planned: &PlannedQuery) -> String {
    format!("{}  {}\n  {}", planned.mapping, planned.what, planned.query)
}
