//! A server of TLS 1.2 and 1.3 made by hand, which says what it is told to, also what no TLS library would.
//!
//! It knows one suite of each version, one group and one sort of key. A script drives it message by message; what
//! is right can be had ready-made, and be changed before it is sent.

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
