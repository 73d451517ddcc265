//! TLS settings, what rustls needs of them, and what was agreed.
//!
//! [`TlsOptions`] is what a user chooses; [`TlsSetup`] is what one handshake needs of it, checked and
//! made: a configuration of rustls, which sockets of equal settings share, and the name to verify.
//! [`TlsInfo`] is what the handshake agreed on, and [`Failure`] why it failed, in words for people.
//! This is data: the sessions themselves are in the machine.

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
pub(crate) use explain::{Failure, When};
pub(crate) use sessions::{size_of_certificates, with_certificates};
