//! The members of the mesh, called by descriptor: an encoded message of any RPC goes in and its answer comes out.

use attain_runtime::channel::{self, MESSAGE_BYTES_MAX};
use attain_runtime::context::{CallContext, name_deadline};
use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::Error;
use crate::config::Config;
use crate::contract::{Contract, Endpoint};
use crate::forward::Forwarded;

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    package: &'static str,
    pub(crate) channel: Channel,
}

/// Every member.
#[derive(Debug)]
pub(crate) struct Mesh(Vec<Member>);

impl Mesh {
    /// Channels to the members of `config`; nobody is called yet.
    ///
    /// # Errors
    /// Names an address that cannot be understood, or an RPC whose package no member owns.
    pub(crate) fn connect(config: &Config, contract: &Contract) -> Result<Self, Error> {
        let member = |name, package, setting: &str, url: &str| -> Result<Member, Error> {
            Ok(Member { name, package, channel: channel::connect(setting, url)? })
        };
        let mesh = Self(vec![
            member("ingestion", "attain.ingestion.v1", "gateway.ingestion_url", &config.ingestion_url)?,
            member("graph", "attain.graph.v1", "gateway.graph_url", &config.graph_url)?,
            member(
                "recommendation",
                "attain.recommendation.v1",
                "gateway.recommendation_url",
                &config.recommendation_url,
            )?,
            member("rag", "attain.rag.v1", "gateway.rag_url", &config.rag_url)?,
        ]);
        match contract.endpoints().iter().find(|endpoint| mesh.owner(endpoint.package()).is_none()) {
            None => Ok(mesh),
            Some(orphan) => Err(Error::Contract(format!("no member owns {}", orphan.rpc.full_name()))),
        }
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.0
    }

    /// The member that owns a package.
    pub(crate) fn owner(&self, package: &str) -> Option<&Member> {
        self.0.iter().find(|member| member.package == package)
    }

    /// Calls the RPC of an endpoint, with further metadata.
    pub(crate) async fn call(
        &self,
        endpoint: &Endpoint,
        message: Vec<u8>,
        context: &CallContext,
        forwarded: Vec<Forwarded>,
    ) -> Result<Bytes, Status> {
        let owner = self.owner(endpoint.package()).ok_or_else(|| Status::unimplemented("no member owns this"))?;
        let mut client = Grpc::new(owner.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = context.request(message);
        for (key, value) in forwarded {
            request.metadata_mut().append(key, value);
        }
        let answer = client.unary(request, endpoint.grpc_path.clone(), Encoded).await;
        answer.map(tonic::Response::into_inner).map_err(|status| name_deadline(name_unreachable(status)))
    }
}

/// tonic reports a connection that cannot be made as UNKNOWN in some cases: tell it apart by its cause.
fn name_unreachable(status: Status) -> Status {
    use std::error::Error as _;
    let broken =
        status.code() == Code::Unknown && status.source().is_some_and(|source| source.is::<tonic::transport::Error>());
    if broken { Status::unavailable(status.message()) } else { status }
}

/// Messages as they are on the wire: whoever reads or writes them knows what they are.
#[derive(Debug, Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.len());
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
