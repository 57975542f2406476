//! Messages as their bytes. The encoding is that of `tonic_prost`; room for a message and for its long lists is made once, not by
//! doubling, and it is read from one slice, not byte by byte through buffers of the transport: a graph has a hundred thousand
//! fields.

use std::any::Any;
use std::marker::PhantomData;

use bytes::Buf as _;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::ingestion::v1::{GetTopologyResponse, IngestDependenciesRequest};

/// Writes `T` and reads `U`.
#[derive(Debug, Clone)]
pub struct WholeCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for WholeCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for WholeCodec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Writer<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Writer<T> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<U> {
        Reader(PhantomData)
    }
}

/// Writes messages.
#[derive(Debug, Clone)]
pub struct Writer<T>(PhantomData<T>);

impl<T: Message> Encoder for Writer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode(buffer).map_err(|error| Status::internal(format!("a message cannot be written: {error}")))
    }
}

/// Reads messages.
#[derive(Debug, Clone)]
pub struct Reader<U>(PhantomData<U>);

impl<U: Message + Default + 'static> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        read(&bytes).map(Some).map_err(|error| Status::internal(format!("a message cannot be read: {error}")))
    }
}

fn read<U: Message + Default + 'static>(bytes: &[u8]) -> Result<U, DecodeError> {
    let mut message = U::default();
    make_room(&mut message, bytes)?;
    message.merge(bytes)?;
    Ok(message)
}

/// Makes room in the messages that hold a whole graph.
fn make_room(message: &mut dyn Any, bytes: &[u8]) -> Result<(), DecodeError> {
    if let Some(request) = message.downcast_mut::<IngestDependenciesRequest>() {
        let [services, dependencies] = field_counts(bytes, [1, 2])?;
        request.services.reserve_exact(services);
        request.dependencies.reserve_exact(dependencies);
    } else if let Some(answer) = message.downcast_mut::<GetTopologyResponse>() {
        let [entities, dependencies] = field_counts(bytes, [2, 3])?;
        answer.entities.reserve_exact(entities);
        answer.dependencies.reserve_exact(dependencies);
    }
    Ok(())
}

/// How often fields are in a message.
fn field_counts<const N: usize>(mut bytes: &[u8], fields: [u32; N]) -> Result<[usize; N], DecodeError> {
    let mut counts = [0; N];
    while !bytes.is_empty() {
        let (field, wire_type) = decode_key(&mut bytes)?;
        skip_field(wire_type, field, &mut bytes, DecodeContext::default())?;
        fields.iter().zip(&mut counts).filter(|(counted, _)| **counted == field).for_each(|(_, count)| *count += 1);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingestion::v1::ServiceDeclaration;
    use crate::vocabulary::v1::{Dependency, Entity};

    fn dependency(number: usize) -> Dependency {
        Dependency { caller_id: format!("caller-{number}"), callee_id: "callee".to_owned(), ..Dependency::default() }
    }

    #[test]
    fn a_graph_is_read_as_it_was_written_into_room_that_fits() {
        let request = IngestDependenciesRequest {
            services: vec![ServiceDeclaration { id: "a".to_owned(), ..ServiceDeclaration::default() }; 3],
            dependencies: (0..1_000).map(dependency).collect(),
        };
        let read_back: IngestDependenciesRequest = read(&request.encode_to_vec()).expect("valid");
        assert_eq!((&read_back, read_back.dependencies.capacity()), (&request, 1_000));
        let answer = GetTopologyResponse {
            version: 7,
            entities: vec![Entity::default(); 70],
            dependencies: (0..5).map(dependency).collect(),
        };
        let read_back: GetTopologyResponse = read(&answer.encode_to_vec()).expect("valid");
        assert_eq!((&read_back, read_back.entities.capacity()), (&answer, 70));
    }

    #[test]
    fn what_breaks_off_is_no_message() {
        let mut bytes =
            IngestDependenciesRequest { services: Vec::new(), dependencies: vec![dependency(1)] }.encode_to_vec();
        bytes.pop();
        assert!(read::<IngestDependenciesRequest>(&bytes).is_err());
        assert!(read::<Entity>(&[0xff]).is_err());
    }
}
