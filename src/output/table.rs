//! Tables of plain text, and a readable form of any JSON answer.

use serde_json::{Map, Value};

/// A table of plain text: columns as wide as their widest cell, two spaces apart.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Self::default();
        table.row(headings.iter().map(ToString::to_string).collect());
        table
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, each line ended.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

/// Lists of objects become tables of their plain fields; the rest becomes indented `name: value` lines.
pub(crate) fn readable(answer: &Value) -> String {
    let mut text = String::new();
    write(answer, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| write_field(name, value, depth, text)),
        Value::Array(items) => write_list(items, depth, text),
        plain => text.push_str(&format!("{}{}\n", indent(depth), cell(plain))),
    }
}

fn write_field(name: &str, value: &Value, depth: usize, text: &mut String) {
    if is_empty(value) {
        return;
    }
    match value {
        Value::Object(_) | Value::Array(_) => {
            text.push_str(&format!("{}{name}:\n", indent(depth)));
            write(value, depth + 1, text);
        }
        plain => text.push_str(&format!("{}{name}: {}\n", indent(depth), cell(plain))),
    }
}

fn write_list(items: &[Value], depth: usize, text: &mut String) {
    let objects: Vec<Map<String, Value>> = items.iter().filter_map(Value::as_object).map(flattened).collect();
    if objects.len() < items.len() {
        items.iter().for_each(|item| write(item, depth, text));
        return;
    }
    let mut columns: Vec<&String> = Vec::new();
    for (name, value) in objects.iter().flat_map(|object| object.iter()) {
        if !is_empty(value) && !columns.contains(&name) {
            columns.push(name);
        }
    }
    let mut table = Table::new(&columns.iter().map(|name| name.as_str()).collect::<Vec<_>>());
    for object in &objects {
        table.row(columns.iter().map(|name| object.get(*name).map(cell).unwrap_or_default()).collect());
    }
    table.render().lines().for_each(|line| text.push_str(&format!("{}{line}\n", indent(depth))));
}

/// The fields of inner objects beside the outer ones, as `outer.inner`.
fn flattened(object: &Map<String, Value>) -> Map<String, Value> {
    let mut flat = Map::new();
    for (name, value) in object {
        match value {
            Value::Object(inner) => {
                flat.extend(flattened(inner).into_iter().map(|(below, value)| (format!("{name}.{below}"), value)));
            }
            plain => {
                flat.insert(name.clone(), plain.clone());
            }
        }
    }
    flat
}

fn cell(value: &Value) -> String {
    const CELL_CHARS_MAX: usize = 100;
    let text = match value {
        Value::String(text) => text.replace('\n', " "),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_of_objects_become_tables() {
        let answer = json!({"services": [{"id": "a", "sources": ["declared", "traces"], "tier": 1}, {"id": "bb"}], "next_page_token": ""});
        assert_eq!(readable(&answer), "services:\n  id  sources          tier\n  a   declared traces  1\n  bb\n");
    }

    #[test]
    fn inner_objects_are_columns_too() {
        let answer = json!([{"distance": 1, "entity": {"id": "a"}}]);
        assert_eq!(readable(&answer), "distance  entity.id\n1         a\n");
    }
}
