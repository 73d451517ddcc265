//! TLS settings, the rustls configuration that they produce, and the result of a handshake.
//!
//! [`TlsOptions`] holds the user's settings. [`TlsSetup`] holds the checked input of one handshake: a rustls
//! configuration, which sockets with equal settings share, and the name to verify. [`TlsInfo`] describes a
//! completed handshake, and [`Failure`] explains a failed one to people. This module holds data only: the
//! machine runs the TLS sessions.

mod binding;
mod config;
mod der;
mod explain;
mod info;
mod name;
mod options;
mod paths;
mod pem;
mod sessions;
mod setup;
#[cfg(test)]
mod testing;
mod verify;

pub use info::{TlsInfo, TlsVersion};
pub use options::TlsOptions;
pub use setup::TlsSetup;

#[cfg(feature = "sim")]
pub(crate) use config::provider;
#[cfg(test)]
pub(crate) use explain::every_failure;
pub(crate) use explain::{Failure, Stage};
pub(crate) use sessions::{size_of_certificates, with_certificates};
