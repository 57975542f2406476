//! What the descriptors say of every message, compiled once at the start to tables that a body is read by. Descriptors
//! themselves are walked by name and number through shared pointers, which took most of the time of a large body.

use std::collections::{BTreeSet, HashMap};

use prost::encoding::WireType;
use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor};

use super::words::Words;
use super::{DURATION, TIMESTAMP, WELL_KNOWN};

/// The tables of a contract.
#[derive(Debug)]
pub(crate) struct Plans {
    messages: Vec<Message>,
    enums: Vec<Words>,
    by_name: HashMap<String, MessageId>,
}

/// A message of [`Plans`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId(usize);

/// An enum of [`Plans`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EnumId(usize);

/// One message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) full_name: String,
    /// In the order of their numbers.
    pub(crate) fields: Vec<Field>,
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) number: u32,
    /// Of the value, of each element of a list, or of the values of a map.
    pub(crate) kind: Kind,
    pub(crate) label: Label,
    /// Which of the message's groups it is one of, where only one of them can be given.
    pub(crate) group: Option<usize>,
}

/// How often a field is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// Once, and left out where it has the default.
    Implicit,
    /// Once or not at all, which is told apart from the default.
    Optional,
    /// Any number, each by itself.
    List,
    /// Any number, in one piece.
    Packed,
    /// By key, which is of this kind.
    Map(Kind),
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    Text,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
    Timestamp,
    Duration,
    /// A type of Protocol Buffers' own, or a form of its earlier editions, that is not served.
    Unserved,
}

impl Plans {
    pub(crate) fn compile(pool: &DescriptorPool) -> Self {
        let messages: Vec<_> = pool.all_messages().collect();
        let by_name = messages.iter().enumerate().map(|(place, one)| (one.full_name().to_owned(), MessageId(place)));
        let enums: Vec<_> = pool.all_enums().collect();
        let mut plans =
            Self { messages: Vec::new(), enums: enums.iter().map(Words::of).collect(), by_name: by_name.collect() };
        plans.messages = messages.iter().map(|message| plans.compile_message(message, &enums)).collect();
        plans
    }

    pub(crate) fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.0]
    }

    pub(crate) fn words(&self, id: EnumId) -> &Words {
        &self.enums[id.0]
    }

    /// The message of that full name.
    pub(crate) fn find(&self, full_name: &str) -> Option<MessageId> {
        self.by_name.get(full_name).copied()
    }

    /// A field in `message`, or in a message within it, of a type that is not served. Messages of `except` are not looked
    /// into.
    pub(crate) fn unserved(&self, message: MessageId, except: &str) -> Option<String> {
        let (mut open, mut seen) = (vec![message], BTreeSet::new());
        while let Some(id) = open.pop() {
            let message = self.message(id);
            if message.full_name == except || !seen.insert(id) {
                continue;
            }
            for field in &message.fields {
                match field.kind {
                    Kind::Unserved => return Some(format!("{}.{}", message.full_name, field.name)),
                    Kind::Message(inner) => open.push(inner),
                    _ => {}
                }
            }
        }
        None
    }

    fn compile_message(&self, message: &MessageDescriptor, enums: &[EnumDescriptor]) -> Message {
        let groups: Vec<_> = message.oneofs().filter(|group| !group.is_synthetic()).collect();
        let fields = message.fields().map(|field| Field {
            name: field.name().into(),
            number: field.number(),
            kind: self.kind(&value_of(&field), enums),
            label: self.label(&field, enums),
            group: field.containing_oneof().and_then(|group| groups.iter().position(|known| *known == group)),
        });
        Message { full_name: message.full_name().to_owned(), fields: fields.collect() }
    }

    fn label(&self, field: &FieldDescriptor, enums: &[EnumDescriptor]) -> Label {
        match field.kind() {
            prost_reflect::Kind::Message(entry) if field.is_map() => {
                Label::Map(self.kind(&entry.map_entry_key_field(), enums))
            }
            _ if field.is_list() && field.is_packed() => Label::Packed,
            _ if field.is_list() => Label::List,
            _ if field.supports_presence() => Label::Optional,
            _ => Label::Implicit,
        }
    }

    fn kind(&self, field: &FieldDescriptor, enums: &[EnumDescriptor]) -> Kind {
        use prost_reflect::Kind as Described;
        match field.kind() {
            Described::Double => Kind::Double,
            Described::Float => Kind::Float,
            Described::Int32 => Kind::Int32,
            Described::Int64 => Kind::Int64,
            Described::Uint32 => Kind::Uint32,
            Described::Uint64 => Kind::Uint64,
            Described::Sint32 => Kind::Sint32,
            Described::Sint64 => Kind::Sint64,
            Described::Fixed32 => Kind::Fixed32,
            Described::Fixed64 => Kind::Fixed64,
            Described::Sfixed32 => Kind::Sfixed32,
            Described::Sfixed64 => Kind::Sfixed64,
            Described::Bool => Kind::Bool,
            Described::String => Kind::Text,
            Described::Bytes => Kind::Bytes,
            Described::Enum(described) => {
                let place = enums.iter().position(|known| *known == described);
                place.map_or(Kind::Unserved, |place| Kind::Enum(EnumId(place)))
            }
            Described::Message(described) if described.full_name() == TIMESTAMP => Kind::Timestamp,
            Described::Message(described) if described.full_name() == DURATION => Kind::Duration,
            Described::Message(described) if described.package_name() == WELL_KNOWN || field.is_group() => {
                Kind::Unserved
            }
            Described::Message(described) => self.find(described.full_name()).map_or(Kind::Unserved, Kind::Message),
        }
    }
}

/// The field that a value is described by: of a map, that of its entries' values.
fn value_of(field: &FieldDescriptor) -> FieldDescriptor {
    match field.kind() {
        prost_reflect::Kind::Message(entry) if field.is_map() => entry.map_entry_value_field(),
        _ => field.clone(),
    }
}

impl Message {
    /// The place of the field of that name. A message has a dozen fields, of names that mostly differ in length: looking
    /// at each is faster than hashing the name.
    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| *field.name == *name)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| *field.name == *name)
    }

    /// The names of its fields, for a person.
    pub(crate) fn names(&self) -> String {
        self.fields.iter().map(|field| &*field.name).collect::<Vec<_>>().join(", ")
    }
}

impl Field {
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.label, Label::List | Label::Packed)
    }
}

impl Kind {
    pub(crate) fn wire_type(self) -> WireType {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => WireType::SixtyFourBit,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => WireType::ThirtyTwoBit,
            Self::Int32
            | Self::Int64
            | Self::Uint32
            | Self::Uint64
            | Self::Sint32
            | Self::Sint64
            | Self::Bool
            | Self::Enum(_) => WireType::Varint,
            Self::Text | Self::Bytes | Self::Message(_) | Self::Timestamp | Self::Duration | Self::Unserved => {
                WireType::LengthDelimited
            }
        }
    }
}
