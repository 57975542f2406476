//! Protobuf ⇄ engine types. What the embedded server does not support is refused here, by the name of its field.

pub(crate) mod filter;
pub(crate) mod payload;
pub(crate) mod points;
pub(crate) mod query;
pub(crate) mod schema;
pub(crate) mod vectors;

use qdrant_client::qdrant::ShardKeySelector;

use crate::Error;

/// Refuses a field that is set, for a feature that is not there.
pub(crate) fn refuse<T>(value: &Option<T>, field: &'static str, feature: &'static str) -> Result<(), Error> {
    match value {
        None => Ok(()),
        Some(_) => Err(Error::unsupported(field, feature)),
    }
}

/// Refuses routing by shard key: a collection here is one shard.
pub(crate) fn refuse_shard_key(selector: &Option<ShardKeySelector>) -> Result<(), Error> {
    refuse(selector, "shard_key_selector", "routing by shard key")
}
