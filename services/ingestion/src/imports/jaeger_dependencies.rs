//! Dependencies as Jaeger's query service answers them: `{"data": [{"parent": …, "child": …, "callCount": …}]}`.
//!
//! Source: Jaeger documentation, HTTP JSON of the query service (`/api/dependencies`).

use std::collections::BTreeMap;

use attain_vocabulary::InvalidValue;
use serde_json::Value;

use super::node::Node;
use super::{Complaint, Contents, CountedEdge, Reading, observed_name};
use crate::domain::DependencyKey;

pub(super) fn read(document: &Value, reading: &Reading) -> Result<Contents, InvalidValue> {
    let whole = |complaint: Complaint| InvalidValue::new("document", complaint.code, complaint.reason);
    let top = Node::top(document);
    let data = top.get("data");
    let rows = data.as_ref().unwrap_or(&top);
    let rows = rows.elements().map_err(|_| {
        InvalidValue::new("document", "wrong_type", "a list of dependencies is expected, under `data` or by itself")
    })?;
    if rows.len() > reading.rows_max {
        let reason = format!("{} dependencies; at most {} a document", rows.len(), reading.rows_max);
        return Err(whole(top.complain("too_many", reason)));
    }
    let mut contents = Contents::default();
    let mut counts: BTreeMap<DependencyKey, u64> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        match edge(row) {
            Ok(edge) => {
                let count = counts.entry(edge.key).or_default();
                *count = count.saturating_add(edge.call_count);
            }
            Err(complaint) => contents.rejected.push(complaint.at(index)),
        }
    }
    contents.edges = counts.into_iter().map(|(key, call_count)| CountedEdge { key, call_count }).collect();
    Ok(contents)
}

fn edge(row: &Node<'_>) -> Result<CountedEdge, Complaint> {
    let end = |name: &str| {
        let text = row.required_text(name)?;
        observed_name(&text).ok_or_else(|| {
            Complaint::new(format!("{}/{name}", row.pointer()), "malformed_name", "no letter or digit is in the name")
        })
    };
    let key = DependencyKey::new(end("parent")?, end("child")?)
        .map_err(|invalid| Complaint::new(format!("{}/child", row.pointer()), invalid.code, invalid.reason))?;
    Ok(CountedEdge { key, call_count: row.require("callCount")?.whole()? })
}
