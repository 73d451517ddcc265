//! The crates of the table in `src/guide/other_crates.rs`, each over a socket of this crate.
//!
//! The servers are real where Debian has a light one, and start as in `tests/it/servers`. The others are in `peers`: they
//! speak the beginning of a protocol. A test whose server is not installed prints `skipped: reason`.
#![cfg(target_os = "linux")]

mod as_it_is;
#[path = "../it/servers/certificates.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod certificates;
mod detached;
mod forwarded;
#[path = "../it/servers/harness.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod harness;
mod in_front;
mod peers;
mod redis;
mod servers;
mod support;
