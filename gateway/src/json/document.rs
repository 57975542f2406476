//! A JSON text as the flat list of its values. A body of a graph is a hundred thousand small values: a tree of them costs an
//! allocation each, the list costs none, and texts are borrowed from the body.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Bytes of text a value, to make room from: between a list of numbers and an object of words.
const BYTES_A_NODE: usize = 12;

/// A value; those of a list or an object follow it.
#[derive(Debug)]
enum Node<'t> {
    Null,
    Bool(bool),
    Natural(u64),
    Negative(i64),
    Float(f64),
    Text(Cow<'t, str>),
    /// How many nodes follow that belong to it.
    List(usize),
    /// The same; a name, as a text, before each value.
    Object(usize),
}

/// A JSON text that was read.
#[derive(Debug)]
pub(crate) struct Document<'t> {
    nodes: Vec<Node<'t>>,
    text_bytes: usize,
}

/// One value of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'d>(&'d [Node<'d>]);

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'d> {
    Null,
    Bool(bool),
    Natural(u64),
    /// Below 0.
    Negative(i64),
    Float(f64),
    Text(&'d str),
    List(Elements<'d>),
    Object(Members<'d>),
}

/// The values of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elements<'d>(&'d [Node<'d>]);

/// The names and values of an object, in the order of the text and as often as they are there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members<'d>(&'d [Node<'d>]);

impl<'t> Document<'t> {
    /// Reads a whole text.
    ///
    /// # Errors
    /// Where it is no JSON, or nested too deeply.
    pub(crate) fn parse(text: &'t str) -> Result<Self, serde_json::Error> {
        let mut nodes = Vec::with_capacity(text.len() / BYTES_A_NODE + 1);
        let mut reader = serde_json::Deserializer::from_str(text);
        Append(&mut nodes).deserialize(&mut reader)?;
        reader.end()?;
        Ok(Self { nodes, text_bytes: text.len() })
    }

    /// A document of one text.
    pub(crate) fn of_text(text: &'t str) -> Self {
        Self { nodes: vec![Node::Text(Cow::Borrowed(text))], text_bytes: text.len() }
    }

    /// The outermost value.
    pub(crate) fn top(&self) -> Item<'_> {
        Item(&self.nodes)
    }

    /// Bytes of the text that it was read from.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }
}

impl<'d> Item<'d> {
    pub(crate) fn shape(self) -> Shape<'d> {
        match self.0 {
            // A value is never without its node.
            [] | [Node::Null, ..] => Shape::Null,
            [Node::Bool(value), ..] => Shape::Bool(*value),
            [Node::Natural(value), ..] => Shape::Natural(*value),
            [Node::Negative(value), ..] => Shape::Negative(*value),
            [Node::Float(value), ..] => Shape::Float(*value),
            [Node::Text(value), ..] => Shape::Text(value),
            [Node::List(_), rest @ ..] => Shape::List(Elements(rest)),
            [Node::Object(_), rest @ ..] => Shape::Object(Members(rest)),
        }
    }

    pub(crate) fn is_null(self) -> bool {
        matches!(self.shape(), Shape::Null)
    }

    pub(crate) fn text(self) -> Option<&'d str> {
        match self.shape() {
            Shape::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Splits the first value off.
fn first<'d>(nodes: &'d [Node<'d>]) -> Option<(Item<'d>, &'d [Node<'d>])> {
    let (value, rest) = nodes.split_at_checked(match nodes.first()? {
        Node::List(count) | Node::Object(count) => 1 + count,
        _ => 1,
    })?;
    Some((Item(value), rest))
}

impl Elements<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'d> Iterator for Elements<'d> {
    type Item = Item<'d>;

    fn next(&mut self) -> Option<Item<'d>> {
        let (value, rest) = first(self.0)?;
        self.0 = rest;
        Some(value)
    }
}

impl<'d> Iterator for Members<'d> {
    type Item = (&'d str, Item<'d>);

    fn next(&mut self) -> Option<(&'d str, Item<'d>)> {
        let (Node::Text(name), rest) = self.0.split_first()? else { return None };
        let (value, rest) = first(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

/// Reads one value onto the end of the list.
struct Append<'n, 't>(&'n mut Vec<Node<'t>>);

impl<'n, 't> DeserializeSeed<'t> for Append<'n, 't> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'t> Append<'_, 't> {
    fn leaf<E>(self, node: Node<'t>) -> Result<(), E> {
        self.0.push(node);
        Ok(())
    }
}

impl<'n, 't> Visitor<'t> for Append<'n, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.leaf(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.leaf(Node::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.leaf(Node::Natural(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.leaf(u64::try_from(value).map_or(Node::Negative(value), Node::Natural))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.leaf(Node::Float(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'t str) -> Result<(), E> {
        self.leaf(Node::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.leaf(Node::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut elements: A) -> Result<(), A::Error> {
        let place = self.0.len();
        self.0.push(Node::List(0));
        while elements.next_element_seed(Append(self.0))?.is_some() {}
        self.0[place] = Node::List(self.0.len() - place - 1);
        Ok(())
    }

    fn visit_map<A: MapAccess<'t>>(self, mut members: A) -> Result<(), A::Error> {
        let place = self.0.len();
        self.0.push(Node::Object(0));
        while members.next_key_seed(Append(self.0))?.is_some() {
            members.next_value_seed(Append(self.0))?;
        }
        self.0[place] = Node::Object(self.0.len() - place - 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value as JsonValue, json};

    fn tree(item: Item<'_>) -> JsonValue {
        match item.shape() {
            Shape::Null => JsonValue::Null,
            Shape::Bool(value) => value.into(),
            Shape::Natural(value) => value.into(),
            Shape::Negative(value) => value.into(),
            Shape::Float(value) => value.into(),
            Shape::Text(value) => value.into(),
            Shape::List(elements) => elements.map(tree).collect(),
            Shape::Object(members) => members.map(|(name, value)| (name.to_owned(), tree(value))).collect(),
        }
    }

    #[test]
    fn values_come_in_the_order_of_the_text_and_as_often_as_they_are_there() {
        let document = Document::parse(r#"{"b": [1, [], {}], "a\u00df": null, "b": {"c": "x"}}"#).expect("JSON");
        let Shape::Object(members) = document.top().shape() else { panic!("no object") };
        let read: Vec<_> = members.map(|(name, value)| (name.to_owned(), tree(value))).collect();
        let expected = [("b", json!([1, [], {}])), ("aß", JsonValue::Null), ("b", json!({"c": "x"}))];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    proptest! {
        #[test]
        fn a_text_is_read_or_refused_as_by_serde_json(text in r#"[\[\]{}:," \\0-9a-fnultrse.+-]{0,40}"#) {
            match (Document::parse(&text), serde_json::from_str::<JsonValue>(&text)) {
                (Ok(document), Ok(value)) => prop_assert_eq!(tree(document.top()), value),
                (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
                (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
            }
        }
    }
}
