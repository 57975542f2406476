//! Between HTTP and the messages of the contract: [`request`] assembles the message that an RPC
//! takes, [`batch`] keeps account of elements that were set aside, [`answer`] writes what came back.

pub(crate) mod answer;
pub(crate) mod batch;
pub(crate) mod request;
