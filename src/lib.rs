//! Blocking TCP and TLS sockets for programs without async, with what `std::net` lacks: a socket is there
//! at once and connects in the background, reads and writes can be ended from any thread, deadlines are
//! absolute and can be moved while a call is blocked, a half-close is a half-close, and an error is
//! never mistaken for an end. Over TLS one thread reads while another writes, and an upgrade from plaintext
//! ([`Socket::start_tls`]) takes nothing for secure that came before it.
//!
//! [`connect`] returns a [`Socket`] that is still connecting. [`Socket::opened`] and [`Socket::closed`]
//! wait; [`Socket::reader`] and [`Socket::writer`] are its two sides, which are [`Read`](std::io::Read)
//! and [`Write`](std::io::Write); [`Socket::close`] and [`Socket::abort`] end it from anywhere. The API
//! is that of the `connect()` of Cloudflare Workers and of the WinterTC Sockets API draft, made
//! blocking.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?.to_string();
//! # let peer = std::thread::spawn(move || -> std::io::Result<()> {
//! #     let (mut stream, _) = listener.accept()?;
//! #     stream.read(&mut [0; 64])?;
//! #     stream.write_all(b"iWelcome\r\n.\r\n")
//! # });
//! # let address = address.as_str();
//! let socket = sockeye::connect(address)?; // such as "gopher.floodgap.com:70"
//! socket.writer().write_all(b"/\r\n")?;
//! socket.writer().close()?;
//!
//! let mut menu = String::new();
//! socket.reader().read_to_string(&mut menu)?;
//! # assert_eq!(menu, "iWelcome\r\n.\r\n");
//! # peer.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `aws-lc-rs` (default) | cryptography by aws-lc-rs |
//! | `ring` | cryptography by ring, where `aws-lc-rs` is off |
//! | `rustls-0_23` | [`TlsOptions`] takes a whole configuration of rustls 0.23 |
//! | `ureq-3` | a module `ureq`: HTTP by ureq 3, under the egress rules of a [`Connector`] |
//! | `sim` | a module `sim`: the [`machine`] in a simulated world, for who wants to test or fuzz it |
//!
//! With neither of the first two the program installs a provider of its own, by
//! `rustls::crypto::CryptoProvider::install_default`, or gives whole configurations. One that is installed
//! goes before those of the features.
//!
//! What becomes of a socket is logged, by the crate `log`, at `debug`, the steps on the way at `trace`; reads and
//! writes are not, and never anything of what passes.
//!
//! The [`guide`] has a chapter for each question, from [connecting](guide::connecting) to [recipes](guide::recipes).
//! Two chapters are for readers who come [from Workers](guide::from_workers) and
//! [from Node, Go or `std`](guide::from_node_go_std). The [`machine`] is the pure state machine inside, which you can
//! drive or fuzz yourself.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs, missing_debug_implementations, unreachable_pub)]
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::wildcard_imports)]

#[macro_use]
#[cfg(not(sockeye_planted))]
mod failpoint;
#[macro_use]
#[cfg(sockeye_planted)]
pub mod failpoint;

mod address;
mod driver;
mod egress;
mod error;
pub mod guide;
mod info;
pub mod machine;
mod options;
mod process;
mod resolver;
#[cfg(feature = "sim")]
pub mod sim;
mod socket;
mod tls;
#[cfg(feature = "ureq-3")]
pub mod ureq;

#[cfg(sockeye_shuttle)]
pub use driver::model;

pub use address::SocketAddress;
pub use driver::Descriptor;
pub use egress::EgressRules;
pub use error::{Attempt, Error, ErrorKind, Result, Step};
pub use info::{ConnectorStats, Health, Phase, SocketInfo, Stats, Timings};
pub use options::{Keepalive, SecureTransport, SocketOptions, TcpOptions};
pub use resolver::Resolver;
pub use socket::{
    Connector, ConnectorBuilder, Reader, Scope, Socket, Writer, connect, connect_with,
};
pub use tls::{TlsInfo, TlsOptions, TlsVersion};

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
