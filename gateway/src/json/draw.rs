//! Draws documents for messages of the contract: the same for the same seed.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor};
use serde_json::{Value as JsonValue, json};

use super::plan::Plans;
use super::{DURATION, TIMESTAMP, WELL_KNOWN};

/// Messages within messages.
pub(super) const DEPTH_MAX: usize = 4;

pub(super) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("valid"));
pub(super) static PLANS: LazyLock<Plans> = LazyLock::new(|| Plans::compile(&POOL));
/// Every message of the contract.
pub(super) static MESSAGES: LazyLock<Vec<MessageDescriptor>> = LazyLock::new(|| {
    POOL.all_messages().filter(|known| known.package_name().starts_with("attain.") && !known.is_map_entry()).collect()
});

/// A state that documents are drawn from.
pub(super) struct Draw {
    pub(super) state: u64,
    /// Of a hundred values, how many are of a type, a range or a name that does not fit.
    pub(super) odd_percent: u64,
}

impl Draw {
    /// A number below `below`. Source: Knuth's MMIX generator, its high bits.
    fn below(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    /// A document for a message.
    pub(super) fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> JsonValue {
        let mut members = serde_json::Map::new();
        let mut chosen = Vec::new();
        for field in descriptor.fields() {
            let group = field.containing_oneof();
            let taken = group.is_some() && chosen.contains(&group) && self.below(100) >= self.odd_percent;
            if taken || self.below(3) == 0 || !is_read(&field) || depth == 0 {
                continue;
            }
            chosen.push(group);
            members.insert(field.name().to_owned(), self.field(&field, depth - 1));
        }
        if self.below(100) < self.odd_percent {
            members.insert("no_such/field".into(), JsonValue::Null);
        }
        members.into()
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> JsonValue {
        if self.below(20) == 0 {
            return JsonValue::Null;
        }
        match field.kind() {
            prost_reflect::Kind::Message(entry) if field.is_map() => {
                let count = self.below(4);
                let names = ["a", "b", "β \"c\"", ""];
                let entries = (0..count)
                    .map(|_| (self.pick(&names).to_owned(), self.value(&entry.map_entry_value_field().kind(), depth)));
                JsonValue::Object(entries.collect())
            }
            kind if field.is_list() => (0..self.below(5)).map(|_| self.value(&kind, depth)).collect(),
            kind => self.value(&kind, depth),
        }
    }

    fn value(&mut self, kind: &prost_reflect::Kind, depth: usize) -> JsonValue {
        use prost_reflect::Kind as Described;
        if self.below(100) < self.odd_percent {
            return self.odd();
        }
        match kind {
            Described::Double => self.pick(&[json!(0.0), json!(-0.0), json!(0.1), json!(7), json!(-3), json!(5e-324)]),
            Described::Float => self.pick(&[json!(0), json!(0.5), json!(3.0e38)]),
            Described::Int32 | Described::Sint32 | Described::Sfixed32 => {
                self.pick(&[json!(0), json!(-1), json!(i32::MIN), json!(i32::MAX), json!(5.0)])
            }
            Described::Int64 | Described::Sint64 | Described::Sfixed64 => {
                self.pick(&[json!(0), json!(-1), json!(i64::MIN), json!(i64::MAX), json!(5)])
            }
            Described::Uint32 | Described::Fixed32 => self.pick(&[json!(0), json!(1), json!(u32::MAX), json!(7.0)]),
            Described::Uint64 | Described::Fixed64 => self.pick(&[json!(0), json!(300), json!(u64::MAX)]),
            Described::Bool => self.pick(&[json!(true), json!(false)]),
            Described::String => self.pick(&["", "checkout", "β \" \\ \n", &"long ".repeat(50)]).into(),
            Described::Bytes => self.pick(&["", "AAEC/w=="]).into(),
            Described::Enum(described) => {
                self.pick(&described.values().map(|value| value.name().to_owned()).collect::<Vec<_>>()).into()
            }
            Described::Message(described) if described.full_name() == TIMESTAMP => self
                .pick(&[
                    "2026-11-01T00:00:00Z",
                    "1969-12-31T23:59:59.5Z",
                    "1970-01-01T00:00:00Z",
                    "2026-11-01T00:00:00.25+02:00",
                ])
                .into(),
            Described::Message(described) if described.full_name() == DURATION => {
                // Of one sign: parts of two spans of either sign, joined, are none.
                self.pick(&["3.5s", "0.000000001s", "0s", "604800s"]).into()
            }
            Described::Message(described) => self.message(described, depth),
        }
    }

    fn odd(&mut self) -> JsonValue {
        self.pick(&[
            json!(null),
            json!(true),
            json!(-1),
            json!(2.5),
            json!(1e300),
            json!(u64::MAX),
            json!("NaN"),
            json!("-Infinity"),
            json!("hard"),
            json!("tier-1"),
            json!("noon"),
            json!([]),
            json!([1, "x"]),
            json!({}),
            json!({"id": 1}),
        ])
    }
}

/// Whether a field has JSON here: what a body is passed on in has fields that have none.
fn is_read(field: &FieldDescriptor) -> bool {
    field.kind().as_message().is_none_or(|message| {
        message.package_name() != WELL_KNOWN || [TIMESTAMP, DURATION].contains(&message.full_name())
    })
}

/// What Protocol Buffers' own reader makes of bytes.
pub(super) fn decoded(descriptor: &MessageDescriptor, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(descriptor.clone(), bytes).expect("a message")
}
