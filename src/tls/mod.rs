//! TLS settings, the rustls configuration made from them, and what a handshake negotiated or why it failed.
//!
//! [`TlsOptions`] and [`ServerTlsOptions`] hold the user's settings. [`TlsSetup`] holds the checked input of one
//! handshake: a rustls configuration, which sockets with equal settings share, and a client's name to verify.
//! [`TlsInfo`] describes a completed handshake, and [`Failure`] explains a failed one to people. This module holds data
//! only: the machine runs the TLS sessions.

mod alert;
mod bound_sessions;
mod calendar;
mod chain_limit;
mod channel_binding;
mod client_auth;
mod client_verifier;
mod config;
mod der;
mod error_message;
mod hello;
mod identities;
mod identity;
mod info;
mod leaf_details;
mod not_tls;
mod options;
mod parameters;
mod peer_certificates;
mod pem;
mod provider;
mod role;
mod server_config;
mod server_name;
mod server_options;
mod session_cache;
mod settings;
mod setup;
#[cfg(test)]
mod testing;
mod verify;

pub use client_auth::ClientAuth;
pub use identities::Identities;
pub use identity::Identity;
pub(crate) use info::ServerLeaf;
pub use info::{TlsInfo, TlsVersion};
pub use options::TlsOptions;
pub use peer_certificates::PeerCertificates;
pub use server_options::ServerTlsOptions;
pub(crate) use setup::Handshake;
pub use setup::TlsSetup;

#[cfg(test)]
pub(crate) use error_message::every_failure;
pub(crate) use error_message::{Failure, Stage};
pub(crate) use hello::{Hello, with_hello};
#[cfg(feature = "sim")]
pub(crate) use provider::provider;
pub(crate) use role::Role;
pub(crate) use session_cache::{size_of_certificates, with_certificates};
