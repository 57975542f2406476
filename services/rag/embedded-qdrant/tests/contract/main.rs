//! The embedded server through the ordinary client: the contract that a genuine server is held to as well, what only the
//! embedded one promises, and a process killed while it writes.
#![allow(clippy::unwrap_used)]

mod crash;
mod embedded_only;
mod example;
mod promises;
mod support;
