//! Lists of a whole graph, row by row: each row stays the bytes that it travels as until somebody asks for it. Twenty thousand
//! rows as structures are several megabytes that are written once and read once; as bytes they share the memory that they came
//! in, and a request of too many is told from their number before any is read.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, bytes as field, skip_field, string, uint64};
use prost::{DecodeError, Message};

use crate::ingestion::v1::ServiceDeclaration;
use crate::vocabulary::v1::{Dependency, Entity};

/// Rows that are pushed share pieces of memory of this size.
const ROOM_BYTES: usize = 64 * 1024;

/// A repeated field of messages `M`, each as its bytes.
pub struct Rows<M> {
    rows: Vec<Bytes>,
    /// Where the next rows that are pushed go.
    room: BytesMut,
    of: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Rows<M> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Appends a row.
    pub fn push(&mut self, row: &M) {
        let length = row.encoded_len();
        if self.room.capacity() < length {
            self.room = BytesMut::with_capacity(ROOM_BYTES.max(length));
        }
        row.encode_raw(&mut self.room);
        self.rows.push(self.room.split().freeze());
    }

    /// Reads the row at a position.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Result<M, DecodeError>> {
        self.rows.get(index).map(|row| M::decode(&row[..]))
    }

    /// Reads one row after the other.
    pub fn iter(&self) -> impl Iterator<Item = Result<M, DecodeError>> + '_ {
        self.rows.iter().map(|row| M::decode(&row[..]))
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// Where one is no `M`.
    pub fn to_vec(&self) -> Result<Vec<M>, DecodeError> {
        let mut rows = Vec::with_capacity(self.len());
        for row in self.iter() {
            rows.push(row?);
        }
        Ok(rows)
    }

    /// Whether a row is, byte by byte, a row of other rows. Told at once where they share its memory.
    #[must_use]
    pub fn is_same(&self, index: usize, others: &Self, other: usize) -> bool {
        let rows = self.rows.get(index).zip(others.rows.get(other));
        rows.is_some_and(|(row, other)| std::ptr::eq(&row[..], &other[..]) || row == other)
    }

    /// Appends rows of others, which share their memory from then on.
    ///
    /// # Panics
    /// When there are no such others.
    pub fn share(&mut self, others: &Self, range: Range<usize>) {
        self.rows.extend_from_slice(&others.rows[range]);
    }

    /// Length of all rows together.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.rows.iter().map(Bytes::len).sum()
    }

    /// The same rows in memory of their own. A row keeps everything in memory that came with it; where few are left of much,
    /// a copy takes less.
    #[must_use]
    pub fn apart(&self) -> Self {
        let mut room = BytesMut::with_capacity(self.byte_count());
        let copied = self.rows.iter().map(|row| {
            room.extend_from_slice(row);
            room.split().freeze()
        });
        Self { rows: copied.collect(), ..Self::default() }
    }

    /// Makes a value of each row, or of why it is no `M`. All are read into the same memory, one after the other.
    pub fn map<T>(&self, mut value: impl FnMut(Result<&mut M, DecodeError>) -> T) -> impl Iterator<Item = T> {
        let mut message = M::default();
        self.rows.iter().map(move |row| {
            message.clear();
            let read = message.merge(&row[..]);
            value(read.map(|()| &mut message))
        })
    }
}

impl<M: Message + Default> FromIterator<M> for Rows<M> {
    fn from_iter<I: IntoIterator<Item = M>>(messages: I) -> Self {
        let mut rows = Self::default();
        messages.into_iter().for_each(|message| rows.push(&message));
        rows
    }
}

impl<M: Message + Default> From<Vec<M>> for Rows<M> {
    fn from(messages: Vec<M>) -> Self {
        messages.into_iter().collect()
    }
}

impl<M> Default for Rows<M> {
    fn default() -> Self {
        Self { rows: Vec::new(), room: BytesMut::new(), of: PhantomData }
    }
}

impl<M> Clone for Rows<M> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), ..Self::default() }
    }
}

impl<M> PartialEq for Rows<M> {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

impl<M: Message + Default + fmt::Debug> fmt::Debug for Rows<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A message whose large fields are lists of rows, with values and lists of names beside them.
macro_rules! message_of_rows {
    (
        $(#[$doc:meta])* $name:ident {
            $(values { $(#[$value_doc:meta] $value:ident: $value_type:ty = $value_kind:ident $value_tag:literal,)+ })?
            $(names { $(#[$names_doc:meta] $names:ident = $names_tag:literal,)+ })?
            rows { $(#[$rows_doc:meta] $rows:ident: $row:ty = $tag:literal,)+ }
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct $name {
            $($(#[$value_doc] pub $value: $value_type,)+)?
            $($(#[$names_doc] pub $names: Vec<String>,)+)?
            $(#[$rows_doc] pub $rows: Rows<$row>,)+
        }

        impl Message for $name {
            fn encode_raw(&self, buffer: &mut impl BufMut) {
                $($(if self.$value != <$value_type>::default() {
                    $value_kind::encode($value_tag, &self.$value, buffer);
                })+)?
                $($(string::encode_repeated($names_tag, &self.$names, buffer);)+)?
                $(field::encode_repeated($tag, &self.$rows.rows, buffer);)+
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buffer: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), DecodeError> {
                match tag {
                    $($($value_tag => $value_kind::merge(wire_type, &mut self.$value, buffer, context),)+)?
                    $($($names_tag => string::merge_repeated(wire_type, &mut self.$names, buffer, context),)+)?
                    $($tag => field::merge_repeated(wire_type, &mut self.$rows.rows, buffer, context),)+
                    _ => skip_field(wire_type, tag, buffer, context),
                }
            }

            fn encoded_len(&self) -> usize {
                let length = 0;
                $($(let length = length + if self.$value == <$value_type>::default() {
                    0
                } else {
                    $value_kind::encoded_len($value_tag, &self.$value)
                };)+)?
                $($(let length = length + string::encoded_len_repeated($names_tag, &self.$names);)+)?
                $(let length = length + field::encoded_len_repeated($tag, &self.$rows.rows);)+
                length
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
}

message_of_rows!(
    /// A graph as it is declared.
    IngestDependenciesRequest {
        rows {
            /// Services with their own dependency lists.
            services: ServiceDeclaration = 1,
            /// Edges with details.
            dependencies: Dependency = 2,
        }
    }
);

message_of_rows!(
    /// The topology of the tenant: the whole, or what changed since a version.
    GetTopologyResponse {
        values {
            /// Sequence number of the newest change that it holds.
            version: u64 = uint64 1,
            /// What the version has to be sent back with.
            epoch: String = string 4,
            /// The version that this is a part on top of; 0 for the whole.
            base_version: u64 = uint64 5,
        }
        names {
            /// Of a part: the services whose row or outgoing edges may differ from those of the base, in lexical order.
            changed_service_ids = 6,
        }
        rows {
            /// Nodes, in lexical order.
            entities: Entity = 2,
            /// Edges, in lexical order of caller and callee.
            dependencies: Dependency = 3,
        }
    }
);

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::field_descriptor_proto::Label;
    use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

    fn dependency(number: usize) -> Dependency {
        Dependency { caller_id: format!("caller-{number}"), callee_id: "callee".to_owned(), ..Dependency::default() }
    }

    #[test]
    fn a_graph_is_read_as_it_was_written() {
        let edges: Vec<Dependency> = (0..1_000).map(dependency).collect();
        let request = IngestDependenciesRequest {
            services: vec![ServiceDeclaration { id: "a".to_owned(), ..ServiceDeclaration::default() }; 3].into(),
            dependencies: edges.iter().cloned().collect(),
        };
        let bytes = request.encode_to_vec();
        assert_eq!(bytes.len(), request.encoded_len());
        let read = IngestDependenciesRequest::decode(&bytes[..]).expect("valid");
        assert_eq!((&read, read.services.len()), (&request, 3));
        assert_eq!(read.dependencies.to_vec().expect("valid"), edges);
        let answer = GetTopologyResponse {
            version: 7,
            epoch: "of this start".to_owned(),
            base_version: 5,
            changed_service_ids: vec!["a".to_owned(), "b".to_owned()],
            entities: vec![Entity::default(); 2].into(),
            dependencies: Rows::default(),
        };
        let bytes = answer.encode_to_vec();
        assert_eq!(bytes.len(), answer.encoded_len());
        let read = GetTopologyResponse::decode(Bytes::from(bytes)).expect("valid");
        assert_eq!((&read, read.entities.len(), read.dependencies.is_empty()), (&answer, 2, true));
        assert_eq!(GetTopologyResponse::decode(&b""[..]).expect("empty"), GetTopologyResponse::default());
    }

    #[test]
    fn a_row_that_is_no_message_is_told_and_leaves_nothing_behind() {
        let mut rows: Rows<Dependency> = (0..3).map(dependency).collect();
        rows.rows[1] = Bytes::from_static(&[0x0a, 0x04, b'n', b'a']);
        let callers = rows.map(|row| row.map(|row| std::mem::take(&mut row.caller_id)).ok());
        let (first, last) = (Some("caller-0".to_owned()), Some("caller-2".to_owned()));
        assert_eq!(callers.collect::<Vec<_>>(), [first, None, last]);
        assert!(rows.to_vec().is_err() && rows.get(1).is_some_and(|row| row.is_err()));
        assert_eq!(rows.get(2), Some(Ok(dependency(2))));
        assert_eq!(rows.get(3), None);
    }

    #[test]
    fn the_fields_are_those_of_the_contract() {
        let set = FileDescriptorSet::decode(crate::DESCRIPTORS).expect("valid");
        let files = || set.file.iter().filter(|file| file.package() == "attain.ingestion.v1");
        let fields = |name: &str| {
            let mut messages = files().flat_map(|file| &file.message_type);
            let message = messages.find(|message| message.name() == name).expect("there");
            let fields = message.field.iter().map(|field| {
                let (number, repeated) = (field.number(), field.label() == Label::Repeated);
                (field.name().to_owned(), number, repeated, field.type_name().to_owned(), field.r#type())
            });
            fields.collect::<Vec<_>>()
        };
        let rows = |name: &str, number: i32, of: &str| (name.to_owned(), number, true, of.to_owned(), Type::Message);
        let dependency = ".attain.vocabulary.v1.Dependency";
        assert_eq!(
            fields("IngestDependenciesRequest"),
            [rows("services", 1, ".attain.ingestion.v1.ServiceDeclaration"), rows("dependencies", 2, dependency)]
        );
        assert_eq!(
            fields("GetTopologyResponse"),
            [
                ("version".to_owned(), 1, false, String::new(), Type::Uint64),
                rows("entities", 2, ".attain.vocabulary.v1.Entity"),
                rows("dependencies", 3, dependency),
                ("epoch".to_owned(), 4, false, String::new(), Type::String),
                ("base_version".to_owned(), 5, false, String::new(), Type::Uint64),
                ("changed_service_ids".to_owned(), 6, true, String::new(), Type::String),
            ]
        );
    }

    #[test]
    fn rows_are_shared_until_they_are_set_apart() {
        let whole: Rows<Dependency> = (0..4).map(dependency).collect();
        let mut part = Rows::default();
        part.share(&whole, 1..3);
        assert_eq!(part.to_vec(), Ok(vec![dependency(1), dependency(2)]));
        assert!(part.is_same(0, &whole, 1) && !part.is_same(0, &whole, 2) && !part.is_same(2, &whole, 3));
        assert!(std::ptr::eq(&part.rows[0][..], &whole.rows[1][..]));
        let apart = part.apart();
        assert_eq!((&apart, apart.byte_count()), (&part, part.byte_count()));
        assert!(apart.is_same(1, &whole, 2) && !std::ptr::eq(&apart.rows[1][..], &whole.rows[2][..]));
    }
}
