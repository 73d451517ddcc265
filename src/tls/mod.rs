//! TLS settings, the rustls configuration made from them, and what a handshake negotiated or why it failed.
//!
//! [`TlsOptions`] holds the user's settings. [`TlsSetup`] holds the checked input of one handshake: a rustls
//! configuration, which sockets with equal settings share, and the name to verify. [`TlsInfo`] describes a
//! completed handshake, and [`Failure`] explains a failed one to people. This module holds data only: the
//! machine runs the TLS sessions.

mod alert;
mod calendar;
mod chain_limit;
mod channel_binding;
mod config;
mod der;
mod error_message;
mod info;
mod options;
mod pem;
mod provider;
mod server_name;
mod session_cache;
mod settings;
mod setup;
#[cfg(test)]
mod testing;
mod verify;

pub use info::{TlsInfo, TlsVersion};
pub use options::TlsOptions;
pub use setup::TlsSetup;

#[cfg(test)]
pub(crate) use error_message::every_failure;
pub(crate) use error_message::{Failure, Stage};
#[cfg(feature = "sim")]
pub(crate) use provider::provider;
pub(crate) use session_cache::{size_of_certificates, with_certificates};
