//! What the crate promises of secured connections, against peers that play every trick of a server.

mod binding;
mod certificates;
mod duplex;
mod ends;
mod flood;
#[cfg(feature = "rustls-0_23")]
mod foreign;
mod handshake;
mod injection;
#[cfg(target_os = "linux")]
mod sessions;
mod starttls;
