//! What the contract takes from Google's API packages.

/// An HTTP body as it came, for payloads that are no message of the contract.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct HttpBody {
    /// The content type as the header names it.
    #[prost(string, tag = "1")]
    pub content_type: String,
    /// The body as raw bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}
