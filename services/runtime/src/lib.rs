//! How every process of the mesh runs, so that a service's own start-up is a story on one screen:
//! [`config`] → [`telemetry`] → adapters ([`database`], [`channel`]) → [`serve`] → drain.
//!
//! Sockets, time and the end of the process are handed in: a [`serve::Member`] gets its listener, a [`clock::Clock`] and a
//! shutdown token, so tests own them. Readiness is a list of named conditions ([`readiness`]); the standard health
//! service says serving exactly while all required ones hold.
//!
//! What is taken out of everything that is stored or logged is chosen once a process ([`privacy`]); every line of the log and
//! every span of the process is looked through once more as it leaves (`log_lines`, `exported`).
//!
//! Overload is answered at once: [`admission`] bounds the calls in flight by class and refuses the rest with
//! RESOURCE_EXHAUSTED and a RetryInfo; its bounds give way where those let in take too long ([`gate`]). Connections have a bound
//! of their own ([`connections`]). Deadlines travel with the call ([`context`]).
//!
//! Deliberately unknown here: what any service does. This crate names no message of a service's own package.

pub mod admission;
pub mod channel;
pub mod clock;
pub mod config;
pub mod connections;
pub mod context;
pub mod count;
pub mod database;
mod error;
mod exported;
pub mod gate;
mod log_lines;
pub mod privacy;
pub mod readiness;
pub mod secret_file;
pub mod serve;
pub mod telemetry;

pub use error::Error;
pub use tokio_util::sync::CancellationToken as Shutdown;
