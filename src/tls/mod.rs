//! TLS settings, the rustls configuration made from them, and what a handshake negotiated or why it failed.
//!
//! [`TlsOptions`] and [`ServerTlsOptions`] hold the user's settings. [`TlsSetup`] holds the checked input of one
//! handshake: a rustls configuration, which sockets with equal settings share, and a client's name to verify.
//! [`TlsInfo`] describes a completed handshake, and [`Failure`] explains a failed one to people. This module holds data
//! only: the machine runs the TLS sessions.

mod alert;
mod bound_sessions;
mod calendar;
mod certificate_message;
mod chain_limit;
mod channel_binding;
mod client_auth;
mod client_verifier;
mod config;
mod der;
mod ech;
mod error_message;
mod failure_kind;
mod hello;
mod identities;
mod identity;
mod info;
mod leaf_details;
#[cfg(any(feature = "native-roots", feature = "platform-verifier"))]
mod native_roots;
mod not_tls;
mod options;
mod parameters;
mod peer_certificates;
mod pem;
#[cfg(feature = "platform-verifier")]
mod platform_verifier;
mod provider;
mod revocation;
mod role;
mod roots;
mod server_config;
mod server_name;
mod server_options;
mod session_cache;
mod settings;
mod setup;
mod subject_key;
#[cfg(test)]
mod testing;
mod untrusted;
mod verify;

pub use client_auth::ClientAuth;
pub use identities::Identities;
pub use identity::Identity;
pub use info::{EchStatus, TlsInfo, TlsVersion};
pub(crate) use info::{NegotiatedParts, ServerLeaf};
pub use options::TlsOptions;
pub use peer_certificates::PeerCertificates;
pub use roots::{RevocationPolicy, Roots};
pub use server_options::ServerTlsOptions;
pub(crate) use setup::Handshake;
pub use setup::TlsSetup;

pub(crate) use error_message::Failure;
#[cfg(test)]
pub(crate) use error_message::every_failure;
pub(crate) use failure_kind::Stage;
pub(crate) use hello::{Hello, with_hello};
#[cfg(feature = "sim")]
pub(crate) use provider::provider;
pub(crate) use role::Role;
pub(crate) use session_cache::{size_of_certificates, with_certificates};
