//! Blocking TCP and TLS sockets for programs without async.
//!
//! They offer what `std::net` lacks:
//!
//! - A socket is returned at once and connects in the background.
//! - Any thread can end a blocked read or write.
//! - Deadlines are absolute instants, and can be moved while a call is blocked.
//! - Closing the write side leaves the read side open.
//! - An error is never mistaken for a clean end.
//! - Over TLS, one thread can read while another writes.
//! - An upgrade from plaintext ([`Socket::start_tls`]) never takes earlier bytes for secure ones.
//!
//! [`connect`] returns a [`Socket`] that is still connecting. [`Socket::opened`] and [`Socket::closed`] wait.
//! [`Socket::reader`] and [`Socket::writer`] return its two sides, which implement [`Read`](std::io::Read) and
//! [`Write`](std::io::Write). [`Socket::close`] and [`Socket::abort`] end it from any thread. The API is that of
//! `connect()` in Cloudflare Workers and the WinterTC Sockets API draft, made blocking.
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
//! | `aws-lc-rs` (default) | cryptography from aws-lc-rs |
//! | `ring` | cryptography from ring, unless `aws-lc-rs` is on too |
//! | `native-roots` | [`Roots`] has the roots of the system |
//! | `platform-verifier` | [`Roots`] has the certificate verifier of the system |
//! | `rustls-0_23` | [`TlsOptions`] accepts a complete configuration of rustls 0.23 |
//! | `ureq-3` | module `ureq`: HTTP with ureq 3, under the egress rules of a [`Connector`] |
//! | `sim` | module `sim`: the [`machine`] in a simulated world, for tests and fuzzing |
//!
//! Without the first two features, the program installs a provider with
//! `rustls::crypto::CryptoProvider::install_default`, or passes complete configurations. An installed provider takes
//! precedence over those of the features.
//!
//! The crate `log` receives changes of a socket's state at `debug`, and the steps in between at `trace`. Reads and
//! writes are not logged, and payloads never.
//!
//! The [`guide`] has a chapter for each question, from [connecting](guide::connecting) to [recipes](guide::recipes).
//! Two chapters are for readers who come [from Workers](guide::from_workers) and [from Node, Go or
//! `std`](guide::from_node_go_std). The [`machine`] is the pure state machine inside, which you can drive or fuzz
//! yourself.

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
mod panic;
mod process;
mod resolver;
#[cfg(feature = "sim")]
pub mod sim;
mod socket;
mod timings;
mod tls;
#[cfg(feature = "ureq-3")]
pub mod ureq;

#[cfg(sockeye_shuttle)]
pub use driver::sys::shuttle as model;

pub use address::SocketAddress;
pub use driver::Descriptor;
pub use egress::{EgressRules, IngressRules};
pub use error::{Attempt, Error, ErrorKind, Result, Step, TlsFailure};
pub use info::{ConnectorStats, Health, ListenerStats, Phase, SocketInfo, Stats, Timings};
pub use options::{AcceptWhen, Keepalive, SecureTransport, SocketOptions, TcpOptions};
pub use resolver::Resolver;
pub use socket::{
    Connector, ConnectorBuilder, Incoming, ListenOptions, ListenScope, Listener, Reader, Scope,
    Socket, Writer, connect, connect_with, listen, listen_with,
};
pub use tls::{
    ClientAuth, EchStatus, Identities, Identity, PeerCertificates, RevocationPolicy, Roots,
    ServerTlsOptions, TlsInfo, TlsOptions, TlsVersion,
};

/// The README, whose examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
