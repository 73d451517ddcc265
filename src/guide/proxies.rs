//! Connections through HTTP and SOCKS proxies.
//!
//! A connector connects through a [`Proxy`] if [`ConnectorBuilder::proxy`] says so. Nothing is read from the
//! environment unless the program asks for it.
//!
//! ```
//! use sockeye::{Connector, Proxy};
//!
//! // All connections, with credentials.
//! let proxy = Proxy::http("proxy.corp.example:3128")?.credentials("alice", "secret")?;
//! let connector = Connector::builder().proxy(proxy).build()?;
//! # Ok::<(), sockeye::Error>(())
//! ```
//!
//! The socket is like any other: it half-closes, upgrades to TLS, and ends like a direct one. Three things differ.
//! [`SocketInfo::remote_address`] is `None`, because the proxy does not reveal it. [`SocketInfo::proxy_address`] is the
//! proxy's address, and [`Timings::proxy`] the time of the dialogue with it.
//!
//! | protocol | names | credentials |
//! |---|---|---|
//! | [`Proxy::http`]: HTTP CONNECT | resolved by the proxy | HTTP Basic, or a header |
//! | [`Proxy::https`]: the same over TLS | resolved by the proxy | HTTP Basic, or a header |
//! | [`Proxy::socks5`] | resolved by the proxy, as with `socks5h` in curl | username and password |
//! | [`Proxy::socks4a`] | resolved by the proxy; IPv4 only | a user ID |
//!
//! # TLS with the proxy
//!
//! [`Proxy::https`] secures the connection to the proxy, so that no party in between sees the target or the credentials.
//! It has TLS options of its own: they concern the proxy's certificate, and those of the socket the target's. With
//! [`On`](crate::SecureTransport::On) and [`StartTls`](crate::SecureTransport::StartTls), TLS with the target is inside
//! TLS with the proxy. A URL has the defaults: `https://proxy.corp.example` is port 443 and Mozilla's roots.
//! [`ProxyRules::https_options`] replaces them.
//!
//! ```
//! use sockeye::{Connector, Proxy, TlsOptions};
//!
//! # let pem = "";
//! // A proxy whose certificate is of the company's own authority.
//! # if !pem.is_empty() {
//! let tls = TlsOptions::new().only_added_roots().add_root_pem(pem)?;
//! let proxy = Proxy::https("proxy.corp.example:443", tls)?.credentials("alice", "secret")?;
//! let connector = Connector::builder().proxy(proxy).build()?;
//! # }
//! # Ok::<(), sockeye::Error>(())
//! ```
//!
//! If plaintext goes to the target, the session with the proxy decides how it ends. A FIN without its `close_notify` is
//! [`Truncated`](ErrorKind::Truncated). With TLS inside, only the session with the target counts. On this side, both
//! sessions end before the FIN. [`SocketInfo::tls`] is about the target alone. Such a socket cannot be
//! [detached](crate::Socket::detach), and a [tunnel](crate::tunnel) copies its data through this process.
//!
//! If TLS with the proxy fails, the error is [`ErrorKind::Tls`], and its message names the proxy.
//!
//! # Time, bytes and errors
//!
//! One [`connect_timeout`](crate::SocketOptions::connect_timeout) bounds everything: the lookup of the proxy's name, the
//! race of its addresses, the dialogue, and the TLS handshake with the target.
//!
//! Nothing is sent after the request until the proxy has accepted it. Exactly the proxy's answer is consumed. So the
//! greeting of a server that speaks first arrives complete, even in the same segment as the answer. If TLS begins there,
//! such bytes end the connection with [`UnreadPlaintext`](ErrorKind::UnreadPlaintext): an attacker may have added them.
//!
//! A refusal is [`ErrorKind::Proxy`], with the status or code in [`Error::proxy_reply`]. If the proxy itself cannot be
//! reached, or does not answer in time, the error is that of a direct connection, and its message names the proxy.
//!
//! ```no_run
//! use sockeye::{Connector, Proxy, ProxyReply};
//!
//! # fn main() -> sockeye::Result<()> {
//! let connector = Connector::builder().proxy(Proxy::http("proxy.corp.example:3128")?).build()?;
//! let error = connector.connect("db.example.com:5432")?.opened().unwrap_err();
//! match error.proxy_reply() {
//!     Some(ProxyReply::Http(407)) => eprintln!("log in first: {error}"),
//!     Some(_) => eprintln!("the proxy refuses: {error}"),
//!     None => eprintln!("{error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! No text of this crate contains a username, a password or the value of a header, even if the proxy sends them back.
//! Where an answer repeats four bytes of them in a row, the message leaves it out.
//!
//! # Names and egress rules
//!
//! A proxy that resolves names reveals them to the proxy alone. With [`Proxy::resolve_locally`] this side resolves them,
//! and passes an address. If the proxy cannot reach it, the next one follows, at most 4 in all.
//!
//! Egress rules for hosts and ports judge the target as ever. Rules for nets need an address:
//!
//! | target | rules for nets judge |
//! |---|---|
//! | an address | that address |
//! | a name, with [`resolve_locally`](Proxy::resolve_locally) | the addresses that are passed to the proxy |
//! | a name, resolved by the proxy | nothing, so [`build`](ConnectorBuilder::build) fails |
//!
//! [`Proxy::trust_proxy_filtering`] accepts the last case, for a proxy that filters by itself. The proxy's own address is
//! the program's choice: only own listeners are refused.
//!
//! # Several proxies, and none
//!
//! [`ProxyRules`] choose a proxy by the mode of a socket and by its target. [`NoProxy`] lists exceptions in the syntax of
//! the environment variable `NO_PROXY`. [`SocketOptions::bypass_proxy`](crate::SocketOptions::bypass_proxy) excepts one
//! socket.
//!
//! ```
//! use sockeye::{Connector, NoProxy, Proxy, ProxyRules, SocketOptions};
//!
//! let rules = ProxyRules::new()
//!     .all(Proxy::socks5("socks.corp.example:1080")?)
//!     .tls(Proxy::http("proxy.corp.example:3128")?)
//!     .except(NoProxy::parse(".corp.example, 10.0.0.0/8"));
//! let connector = Connector::builder().proxy(rules).build()?;
//!
//! // What the user of a command-line tool expects.
//! let connector = Connector::builder().proxy(ProxyRules::from_env()?).build()?;
//! # Ok::<(), sockeye::Error>(())
//! ```
//!
//! Adopted sockets and listeners use no proxy.
//!
//! ---
//! Previous: [egress and SSRF](super::egress_and_ssrf). Next: [serving](super::serving).

#[cfg(doc)]
use crate::{ConnectorBuilder, Error, ErrorKind, NoProxy, Proxy, ProxyRules, SocketInfo, Timings};
