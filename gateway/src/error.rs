use thiserror::Error as ThisError;

/// Why the gateway cannot start or go on. What goes wrong with one request is a problem document instead.
#[derive(Debug, ThisError)]
pub enum Error {
    /// A setting, an address or a port.
    #[error(transparent)]
    Runtime(#[from] attain_runtime::Error),
    /// The contract has an annotation that cannot be served as it stands.
    #[error("the contract cannot be served: {0}")]
    Contract(String),
    /// The listener's own address cannot be read, or the listener broke.
    #[error("the gateway's listener failed")]
    Listener(#[source] std::io::Error),
}
