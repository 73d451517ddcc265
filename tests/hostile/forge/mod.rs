//! A handmade server of TLS 1.2 and 1.3 that sends what a script orders, right or wrong.
//!
//! It knows one cipher suite per version, one group and one kind of key. Correct messages come ready-made, and a script
//! may change them before they are sent.

mod crypto;
mod hello;
pub mod identity;
pub mod records;
mod server;
pub mod tls12;
pub mod tls13;

pub use crypto::Sealer;
pub use hello::{SECP256R1, ServerHello};
pub use server::{Server, Version};
