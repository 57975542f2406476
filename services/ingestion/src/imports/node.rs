//! A place in a JSON document: what stands there, and how to point at it.

use attain_vocabulary::UnixMillis;
use serde_json::Value;

use super::Complaint;

/// A value and the way to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    value: &'a Value,
    way: Way<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    Top,
    Field(&'a Node<'a>, &'a str),
    Index(&'a Node<'a>, usize),
}

impl<'a> Node<'a> {
    pub(super) fn top(value: &'a Value) -> Self {
        Self { value, way: Way::Top }
    }

    /// JSON pointer (RFC 6901).
    pub(super) fn pointer(&self) -> String {
        match self.way {
            Way::Top => String::new(),
            Way::Field(node, name) => format!("{}/{}", node.pointer(), name.replace('~', "~0").replace('/', "~1")),
            Way::Index(node, index) => format!("{}/{index}", node.pointer()),
        }
    }

    pub(super) fn complain(&self, code: &'static str, reason: impl Into<String>) -> Complaint {
        Complaint::new(self.pointer(), code, reason)
    }

    /// The field of an object; `None` where there is none, or null.
    pub(super) fn get<'n>(&'n self, name: &'n str) -> Option<Node<'n>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Node { value, way: Way::Field(self, name) })
    }

    pub(super) fn require<'n>(&'n self, name: &'n str) -> Result<Node<'n>, Complaint> {
        if !self.value.is_object() {
            return Err(self.complain("wrong_type", "an object is expected here"));
        }
        let missing =
            || Complaint::new(format!("{}/{name}", self.pointer()), "required", format!("`{name}` is required"));
        self.get(name).ok_or_else(missing)
    }

    pub(super) fn elements<'n>(&'n self) -> Result<Vec<Node<'n>>, Complaint> {
        let list = self.value.as_array().ok_or_else(|| self.complain("wrong_type", "a list is expected here"))?;
        Ok(list.iter().enumerate().map(|(i, value)| Node { value, way: Way::Index(self, i) }).collect())
    }

    /// The elements of the list at a field; none where there is no such field.
    pub(super) fn list(&self, name: &str) -> Vec<&'a Value> {
        self.value.get(name).and_then(Value::as_array).map(|list| list.iter().collect()).unwrap_or_default()
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn text(&self) -> Result<String, Complaint> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.complain("wrong_type", "a text is expected here"))
    }

    pub(super) fn required_text(&self, name: &str) -> Result<String, Complaint> {
        let node = self.require(name)?;
        let text = node.text()?;
        if text.trim().is_empty() {
            return Err(node.complain("required", format!("`{name}` is empty")));
        }
        Ok(text)
    }

    /// The text of a field, where there is one.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<String>, Complaint> {
        self.get(name).map(|node| node.text()).transpose()
    }

    /// An RFC 3339 time, in milliseconds.
    pub(super) fn time(&self) -> Result<UnixMillis, Complaint> {
        let text = self.text()?;
        let parsed: Result<jiff::Timestamp, _> = text.parse();
        parsed.map(|time| time.as_millisecond()).map_err(|_| {
            self.complain("malformed_time", "a time as RFC 3339 has it is expected, such as 2026-11-01T00:00:00Z")
        })
    }

    pub(super) fn required_time(&self, name: &str) -> Result<UnixMillis, Complaint> {
        self.require(name)?.time()
    }

    pub(super) fn optional_time(&self, name: &str) -> Result<Option<UnixMillis>, Complaint> {
        self.get(name).map(|node| node.time()).transpose()
    }

    /// A whole number of at least 0, also where it is written as a text.
    pub(super) fn whole(&self) -> Result<u64, Complaint> {
        let number = match self.value {
            Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(whole)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.complain("out_of_range", "a whole number of at least 0 is expected here"))
    }
}

/// Whole numbers that some encoders write with a fraction or an exponent, as far as they are exact.
fn whole(number: f64) -> Option<u64> {
    ((0.0..=9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_complaint_points_at_its_place() {
        let document = json!({"a/b": [{"t": "yesterday", "n": -1, "big": 1e15, "told": "17", "none": null}]});
        let top = Node::top(&document);
        let list = top.require("a/b").expect("there");
        let elements = list.elements().expect("a list");
        let row = elements[0];
        assert_eq!(row.required_time("t").expect_err("no time").pointer, "/a~1b/0/t");
        assert_eq!(row.require("n").expect("there").whole().expect_err("negative").pointer, "/a~1b/0/n");
        assert_eq!(row.require("big").expect("there").whole(), Ok(1_000_000_000_000_000));
        assert_eq!(row.require("told").expect("there").whole(), Ok(17));
        assert_eq!(row.required_text("none").expect_err("null").code, "required");
        assert_eq!(top.required_text("a/b").expect_err("a list").code, "wrong_type");
        assert_eq!(row.optional_time("none"), Ok(None));
    }
}
