//! Channels to other members: connected when first used, again when broken, never waited for without end.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::Error;
use crate::database::without_credentials;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest message that members send one another, in bytes: a topology of tens of thousands of edges.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A channel to a member at `http://host:port`. `name` is the setting that holds the address.
///
/// # Errors
/// Names the setting where the address cannot be understood. Whether anybody listens shows at the first call.
pub fn connect(name: &str, url: &str) -> Result<Channel, Error> {
    let malformed = || Error::Address { name: name.to_owned(), value: without_credentials(url) };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| malformed())?;
    if endpoint.uri().host().is_none() || endpoint.uri().scheme_str().is_none() {
        return Err(malformed());
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_lazy())
}
