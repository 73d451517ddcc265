//! What the crate promises of secured connections, against peers that play every trick of a server.

mod binding;
mod certificates;
mod duplex;
mod ends;
mod flood;
mod handshake;
mod injection;
#[cfg(target_os = "linux")]
mod sessions;
mod starttls;
