//! Secured connections, against peers that use every trick of a hostile server.

mod binding;
mod certificates;
mod corpus;
mod duplex;
mod ends;
mod flood;
#[cfg(feature = "rustls-0_23")]
mod foreign;
mod handshake;
pub mod injection;
pub mod serving;
mod serving_hostile;
mod serving_starttls;
#[cfg(target_os = "linux")]
mod sessions;
mod starttls;
mod verifiers;
