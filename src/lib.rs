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
//! | `imap-3` | [`Socket`] has the trait `SetReadTimeout` of imap 3, which IDLE needs |
//! | `r2d2-0_8` | module `r2d2`: connection pools of r2d2 0.8 |
//! | `tungstenite-0_30` | [`Socket`] has the trait `NoDelay` of tungstenite 0.30, which its `client_tls` needs |
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
#[cfg(feature = "imap-3")]
mod imap;
mod info;
pub mod machine;
pub mod net;
mod options;
mod panic;
mod poll;
mod process;
mod proxy;
#[cfg(feature = "r2d2-0_8")]
pub mod r2d2;
mod resolver;
#[cfg(feature = "sim")]
pub mod sim;
mod socket;
mod timings;
mod tls;
#[cfg(feature = "tungstenite-0_30")]
mod tungstenite;
#[cfg_attr(
    any(not(unix), sockeye_shuttle),
    allow(
        dead_code,
        unreachable_pub,
        reason = "only Unix systems have public functions that use this"
    )
)]
mod unix;
#[cfg(feature = "ureq-3")]
pub mod ureq;

#[cfg(sockeye_shuttle)]
pub use driver::sys::shuttle as model;

pub use address::SocketAddress;
pub use driver::Descriptor;
pub use egress::{EgressRules, IngressRules};
pub use error::{Attempt, Error, ErrorKind, ProxyReply, Result, Step, TlsFailure};
pub use info::{ConnectorStats, Health, ListenerStats, Phase, SocketInfo, Stats, Timings};
pub use options::{
    AcceptWhen, BlockingReceive, Keepalive, SecureTransport, SocketOptions, TcpOptions,
};
pub use poll::{Event, Events, Interest};
pub use proxy::{NoProxy, Proxy, ProxyRules};
pub use resolver::Resolver;
pub use socket::{
    Connector, ConnectorBuilder, Incoming, ListenOptions, ListenScope, Listener, Pollable, Poller,
    Reader, Scope, Socket, TunnelError, TunnelSide, Writer, connect, connect_with, listen,
    listen_with, tunnel, wait_any,
};
pub use tls::{
    ClientAuth, EchStatus, Identities, Identity, PeerCertificates, RevocationPolicy, Roots,
    ServerTlsOptions, TlsInfo, TlsOptions, TlsVersion,
};

#[cfg(unix)]
pub use socket::{connect_unix, listen_unix};
#[cfg(unix)]
pub use unix::{PeerCredentials, UnixAddress};

/// The README, whose examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
